//! placeholder
use std::sync::Arc;
/// Admin door.
pub struct AdminDoor(Arc<crate::reception::Reception>);
impl AdminDoor {
    /// New.
    #[must_use]
    pub fn new(
        _c: &crate::config::Config,
        r: Arc<crate::reception::Reception>,
        _k: Arc<crate::catalog::Catalog>,
    ) -> Self {
        Self(r)
    }
    /// Router.
    pub fn router(&self) -> axum::Router {
        let r = self.0.clone();
        axum::Router::new().route(
            "/metrics",
            axum::routing::get(move || async move { r.metrics.render() }),
        )
    }
    /// Router.
    pub fn metrics_router(&self) -> axum::Router {
        self.router()
    }
}
