//! HTTP/2 to the origin (RFC 9113), where the operator says that it may be spoken:
//! by ALPN under TLS, by prior knowledge without. Several requests share a
//! connection; each has a stream, and ends with no more than that.

mod answer;
mod exchange;
mod head;
mod line;
mod lines;
mod upload;

pub(super) use answer::Answer;
pub(super) use exchange::Tried;
pub(super) use head::head;
pub use head::is_grpc;
pub(super) use line::{Line, Seat, Way};
pub(super) use lines::{Leased, Lines};
