//! Who asks: the client's address behind trusted proxies, and its kind.

pub mod kind;
