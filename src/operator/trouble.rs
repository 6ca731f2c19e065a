//! Why an order was not carried out, and what to do about it.

use std::net::SocketAddr;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The file does not say where the admin door is.
    #[error("{file}:\n{faults}")]
    File {
        /// Which file.
        file: String,
        /// Its faults, a line each.
        faults: String,
    },
    /// What was written on the command line cannot be meant.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers there.
    #[error(
        "no gateway answers at {address} ({why}): is it running? \
         The address is admin.listen of the file; --admin names another one"
    )]
    NoAnswer {
        /// The admin door.
        address: SocketAddr,
        /// What happened.
        why: String,
    },
    /// Somebody answers there who is no gateway.
    #[error("what answers at {address} is no admin door of a gateway ({why}): see admin.listen")]
    Stranger {
        /// The address.
        address: SocketAddr,
        /// What was strange.
        why: String,
    },
    /// The token is not the gateway's.
    #[error("the gateway at {address} does not take {whose}")]
    Token {
        /// The admin door.
        address: SocketAddr,
        /// Which token that was, and what to do.
        whose: String,
    },
    /// There is no such event.
    #[error("there is no event \"{event}\"; there {known}")]
    NoEvent {
        /// The one that was named.
        event: String,
        /// Those that there are.
        known: String,
    },
    /// The gateway refuses, in its own words.
    #[error("{0}")]
    Refused(String),
    /// The terminal cannot be drawn on.
    #[error("the terminal: {0}; `sumun status` needs none")]
    Terminal(#[source] std::io::Error),
    /// It was not confirmed.
    #[error("{0}")]
    Unconfirmed(String),
}
