//! Who asks: the client's address behind trusted proxies, its kind, the request's name.

pub mod address;
pub mod kind;
pub mod request_id;
