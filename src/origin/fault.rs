//! Why there is no answer from the origin: whose fault it is, and what the
//! client gets for it.

use http::StatusCode;

/// Why there is no answer from the origin, or why it broke off.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// No connection could be opened.
    #[error("the origin cannot be reached: {0}")]
    Connect(std::io::Error),
    /// No connection was opened in time.
    #[error("the origin did not accept a connection in time")]
    ConnectTimeout,
    /// All connections that the origin may have are in use, and none came free in time.
    #[error("all connections to the origin are in use")]
    NoConnectionFree,
    /// The connection ended before the head of the answer.
    #[error("the origin closed the connection before answering: {0}")]
    Reset(Broken),
    /// The head of the answer did not come in time.
    #[error("the origin did not begin to answer in time")]
    FirstByteTimeout,
    /// The origin stopped taking the request, or stopped sending its answer.
    #[error("the origin stopped in the middle")]
    IdleTimeout,
    /// The answer is not HTTP.
    #[error("the origin's answer is malformed: {0}")]
    Malformed(hyper::Error),
    /// The answer breaks a rule whose breach has more than one reading.
    #[error("the origin's answer is malformed: {0}")]
    Protocol(&'static str),
    /// A 101 that nobody asked for, or to another protocol.
    #[error("the origin switched protocols unasked")]
    UnsolicitedUpgrade,
    /// A page where an Extended CONNECT asked for a WebSocket, as an origin may answer.
    #[error("the origin has a page there, no WebSocket")]
    NoWebSocket,
    /// The answer's body broke off.
    #[error("the origin's answer broke off: {0}")]
    BodyCut(Broken),
    /// The client's body is malformed: the client's fault.
    #[error("the request's body is malformed")]
    RequestBody,
    /// The client went away before its request was whole.
    #[error("the client left before its request was whole")]
    ClientGone,
}

/// What broke off, by the version that was spoken.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// HTTP/1.1.
    #[error(transparent)]
    One(#[from] hyper::Error),
    /// HTTP/2.
    #[error(transparent)]
    Two(#[from] h2::Error),
}

impl OriginError {
    /// What the client should get.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::ConnectTimeout | Self::FirstByteTimeout | Self::IdleTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::NoConnectionFree => StatusCode::SERVICE_UNAVAILABLE,
            Self::RequestBody | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::Connect(_)
            | Self::Reset(_)
            | Self::Malformed(_)
            | Self::Protocol(_)
            | Self::UnsolicitedUpgrade
            | Self::NoWebSocket
            | Self::BodyCut(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// A short name for metrics and logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::NoConnectionFree => "no_connection_free",
            Self::Reset(_) => "reset",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::Malformed(_) | Self::Protocol(_) => "protocol",
            Self::UnsolicitedUpgrade => "unsolicited_upgrade",
            Self::NoWebSocket => "no_websocket",
            Self::BodyCut(_) => "body_cut",
            Self::RequestBody => "request_body",
            Self::ClientGone => "client_gone",
        }
    }

    /// Whether it is the client's doing; the origin is not to be blamed or counted.
    #[must_use]
    pub fn is_clients_fault(&self) -> bool {
        matches!(
            self,
            Self::RequestBody | Self::ClientGone | Self::NoWebSocket
        )
    }

    /// Whether it tells of the origin's health: not what the client did, and not what
    /// this machine has no more of (descriptors, ports, memory).
    #[must_use]
    pub fn is_origins_fault(&self) -> bool {
        match self {
            Self::NoConnectionFree => false,
            Self::Connect(fault) => !is_ours(fault),
            fault => !fault.is_clients_fault(),
        }
    }
}

/// Linux's numbers for: no file descriptor left (EMFILE, ENFILE), no memory (ENOMEM),
/// no port left (EADDRNOTAVAIL), no room in the network stack (ENOBUFS).
fn is_ours(fault: &std::io::Error) -> bool {
    matches!(fault.raw_os_error(), Some(24 | 23 | 12 | 99 | 105))
}
