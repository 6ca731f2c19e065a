//! Who asks: the client's address behind trusted proxies, and its kind.

pub mod address;
pub mod kind;
