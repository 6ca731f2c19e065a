//! Asking at a door, once for each connection: plain or under TLS.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// An address, and whom to trust there.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The cookies that it sets, as they are sent back.
    pub(crate) fn cookies(&self) -> Vec<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let set = lines.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        set.map(|(_, cookie)| cookie.split(';').next().unwrap().to_owned())
            .collect()
    }
}

impl Door {
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// A door that shows this certificate.
    pub(crate) fn under_tls(address: SocketAddr, certificate: CertificateDer<'static>) -> Self {
        let mut trusted = RootCertStore::empty();
        trusted.add(certificate).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted)
            .with_no_client_auth();
        Self {
            address,
            tls: Some(Arc::new(tls)),
        }
    }

    /// Asks for a path; `None` when there is no whole answer.
    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Option<Answer> {
        self.ask("GET", path, headers, "")
    }

    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        let mut request = format!(
            "{method} {path} HTTP/1.0\r\nhost: {}\r\ncontent-length: {}\r\n",
            self.address,
            body.len()
        );
        for (name, value) in headers {
            let _ = write!(request, "{name}: {value}\r\n");
        }
        request = request + "\r\n" + body;
        let text = self.exchange(&request).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some(Answer {
            status: head.split(' ').nth(1)?.parse().ok()?,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    /// Sends a text and reads what comes until the end.
    pub(crate) fn exchange(&self, request: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        if let Some(tls) = &self.tls {
            let name = ServerName::try_from("localhost").unwrap();
            let session = ClientConnection::new(Arc::clone(tls), name).unwrap();
            let mut stream = StreamOwned::new(session, stream);
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut text)?;
        } else {
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut text)?;
        }
        Ok(text)
    }
}
