//! Who asks: the client's address behind trusted proxies, its kind, the request's name;
//! of a newcomer also what it says of itself, and where its address is.

pub mod address;
pub mod kind;
pub mod profile;
pub mod region;
pub mod request_id;
pub mod user;
