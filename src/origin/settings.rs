//! Where an origin is, and what is asked of the way to it.

use std::time::Duration;

use http::header::HeaderValue;
use rustls::pki_types::{CertificateDer, ServerName};

use super::secure::{OriginTls, Trust};

/// Where the origin is and how long it may take. Shared by all data threads.
#[derive(Clone)]
pub struct OriginSettings {
    /// The longest that resolving, connecting and TLS may take together.
    pub connect: Duration,
    /// The longest from the end of the request to the head of the answer.
    pub first_byte: Duration,
    /// The longest between two pieces of a body.
    pub idle: Duration,
    /// The longest that a tunnel may move nothing.
    pub tunnel_idle: Duration,
    /// How long an unused connection is kept; shorter than the origin's own limit.
    pub pool_idle: Duration,
    /// How many unused connections a data thread keeps.
    pub pool_max_idle: usize,
    /// Most connections of the process, tunnels included; 0: no limit.
    pub connections: usize,
    /// How long a request waits for one of them.
    pub connection_wait: Duration,
    /// How long the addresses of a name are taken as they were last told.
    pub names_kept: Duration,
    /// What the origin gets as `Host`.
    pub host_header: HostHeader,
    /// Whether HTTP/2 may be spoken: over TLS if the origin chooses it, else by prior
    /// knowledge.
    pub http2: bool,
    /// Write header names as `Content-Length`, for old origins that mind.
    pub title_case_headers: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) authority: HeaderValue,
    pub(super) tls: Option<(OriginTls, ServerName<'static>)>,
}

/// The `Host` that the origin gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The one that the client sent.
    Preserve,
    /// The origin's own, from its URL.
    Origin,
    /// This one.
    Name(HeaderValue),
}

/// An origin's URL that cannot be used; says why and what to write instead.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidOrigin(String);

impl InvalidOrigin {
    fn url(why: &str) -> Self {
        Self(format!("{why}; write http://host:port or https://host"))
    }
}

impl OriginSettings {
    /// The settings for `url` (`http://host[:port]` or `https://host[:port]`) with the
    /// default limits. For https the machine's root certificates are loaded, and
    /// `extra_roots` are trusted as well.
    ///
    /// # Errors
    /// When the URL is of another scheme, has no host, or has a path, query or user.
    pub fn new(url: &str, extra_roots: &[CertificateDer<'static>]) -> Result<Self, InvalidOrigin> {
        let (mut settings, https) = Self::plain(url)?;
        if https {
            let trust = Trust::Machine {
                extra: extra_roots.to_vec(),
            };
            let tls = OriginTls::new(trust).map_err(InvalidOrigin)?;
            settings.secured(tls, None)?;
        }
        Ok(settings)
    }

    /// The same, with TLS that was made ready before, for all origins at once.
    /// `server_name` is asked for and checked instead of the URL's host.
    ///
    /// # Errors
    /// The same; also when a name cannot stand in a certificate.
    pub fn with_tls(
        url: &str,
        tls: Option<&OriginTls>,
        server_name: Option<&str>,
    ) -> Result<Self, InvalidOrigin> {
        let (mut settings, https) = Self::plain(url)?;
        match tls {
            Some(tls) if https => settings.secured(tls.clone(), server_name)?,
            None if https => return Err(InvalidOrigin::url("TLS was not made ready")),
            Some(_) | None => {}
        }
        Ok(settings)
    }

    /// The settings without TLS, and whether it is wanted.
    fn plain(url: &str) -> Result<(Self, bool), InvalidOrigin> {
        let invalid = InvalidOrigin::url;
        let parsed = url::Url::parse(url).map_err(|fault| invalid(&fault.to_string()))?;
        let https = match parsed.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(invalid(&format!("scheme {other} is unknown"))),
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(invalid("a user name or password is not supported"));
        }
        if !matches!(parsed.path(), "" | "/")
            || parsed.query().is_some()
            || parsed.fragment().is_some()
        {
            return Err(invalid("a path, query or fragment is not supported"));
        }
        let shown = parsed.host_str().ok_or_else(|| invalid("no host"))?;
        let authority = match parsed.port() {
            Some(port) => format!("{shown}:{port}"),
            None => shown.to_owned(),
        };
        let settings = Self {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            tunnel_idle: Duration::from_secs(3600),
            pool_idle: Duration::from_secs(4),
            pool_max_idle: 256,
            connections: 0,
            connection_wait: Duration::from_secs(1),
            names_kept: Duration::from_secs(10),
            host_header: HostHeader::Preserve,
            http2: false,
            title_case_headers: false,
            host: shown.trim_matches(['[', ']']).to_owned(),
            port: parsed.port_or_known_default().unwrap_or(80),
            authority: HeaderValue::try_from(authority)
                .map_err(|_| invalid("the host is malformed"))?,
            tls: None,
        };
        Ok((settings, https))
    }

    fn secured(&mut self, tls: OriginTls, name: Option<&str>) -> Result<(), InvalidOrigin> {
        let name = name.unwrap_or(&self.host).to_owned();
        let name = ServerName::try_from(name)
            .map_err(|_| InvalidOrigin::url("the host cannot stand in a certificate"))?;
        self.tls = Some((tls, name));
        Ok(())
    }

    /// Whether connections made by the other's rules are as good as ours.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let durations = |one: &Self| {
            [
                one.connect,
                one.first_byte,
                one.idle,
                one.tunnel_idle,
                one.pool_idle,
                one.connection_wait,
                one.names_kept,
            ]
        };
        durations(self) == durations(other)
            && (self.connections, self.pool_max_idle) == (other.connections, other.pool_max_idle)
            && self.host_header == other.host_header
            && (self.http2, self.title_case_headers) == (other.http2, other.title_case_headers)
            && (&self.host, self.port, &self.tls) == (&other.host, other.port, &other.tls)
    }
}
