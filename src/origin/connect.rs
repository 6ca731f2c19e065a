//! The wire to the origin: TCP or TLS, opened within a time limit. It remembers
//! whether a byte of answer was heard, because only silence allows a retry.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{OriginError, OriginSettings};

/// Whether the origin said anything since the flag was last lowered.
/// Shared with a connection that must be `Send` for upgrades, hence atomic; only one thread uses it.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<AtomicBool>);

/// A connection to the origin.
pub(crate) struct Wire {
    stream: Stream,
    heard: Heard,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Heard {
    /// Forgets what was heard: a new request begins.
    pub(crate) fn lower(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether a byte came since.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Opens a connection, name resolution and TLS handshake included, within `settings.connect`.
pub(crate) async fn connect(settings: &OriginSettings) -> Result<(Wire, Heard), OriginError> {
    let stream = tokio::time::timeout(settings.connect, open(settings))
        .await
        .map_err(|_| OriginError::ConnectTimeout)?
        .map_err(OriginError::Connect)?;
    let heard = Heard::default();
    Ok((
        Wire {
            stream,
            heard: heard.clone(),
        },
        heard,
    ))
}

/// TLS towards origins: the machine's trusted roots and `extra_roots`, HTTP/1.1 by ALPN.
///
/// # Errors
/// When no root certificate at all can be loaded, or an extra one is malformed.
pub(crate) fn tls(extra_roots: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    for root in extra_roots {
        roots
            .add(root.clone())
            .map_err(|fault| format!("a root certificate for the origin is malformed: {fault}"))?;
    }
    if roots.is_empty() {
        return Err(format!(
            "no trusted root certificates were found on this machine (install ca-certificates): {:?}",
            native.errors
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|fault| fault.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

async fn open(settings: &OriginSettings) -> io::Result<Stream> {
    let tcp = TcpStream::connect((settings.host.as_str(), settings.port)).await?;
    tcp.set_nodelay(true)?;
    let Some(tls) = &settings.tls else {
        return Ok(Stream::Plain(tcp));
    };
    let name = ServerName::try_from(settings.host.clone())
        .map_err(|fault| io::Error::new(io::ErrorKind::InvalidInput, fault))?;
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(name, tcp)
        .await?;
    Ok(Stream::Tls(Box::new(stream)))
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        };
        if buffer.filled().len() > before {
            self.heard.0.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
