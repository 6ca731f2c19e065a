//! placeholder
use bytes::Bytes;
use std::sync::Arc;
/// Public door.
pub struct PublicDoor(Arc<crate::reception::Reception>);
impl PublicDoor {
    /// New.
    #[must_use]
    pub fn new(r: Arc<crate::reception::Reception>, _api: &crate::config::Api) -> Self {
        Self(r)
    }
    /// Answer.
    pub async fn answer(
        &self,
        _r: http::Request<hyper::body::Incoming>,
        _v: crate::visitor::address::Visitor,
    ) -> http::Response<Bytes> {
        let _ = &self.0;
        http::Response::new(Bytes::new())
    }
}
