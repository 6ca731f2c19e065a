//! TLS towards origins: whose certificates are believed, what is offered by ALPN. One
//! configuration serves all origins, so that their sessions are resumed by
//! whichever thread connects next.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Whose certificates an origin may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that the machine trusts, and these.
    Machine {
        /// Root certificates besides the machine's.
        extra: Vec<CertificateDer<'static>>,
    },
    /// These alone: an authority of the operator's own.
    Own(Vec<CertificateDer<'static>>),
    /// Anybody's: who stands between us and the origin reads and changes everything.
    Anybody,
}

/// TLS towards origins, ready to connect. Cloning is cheap; two are equal when
/// they believe the same.
#[derive(Clone, Debug)]
pub struct OriginTls {
    /// Offers HTTP/1.1 alone.
    pub(super) config: Arc<ClientConfig>,
    /// Offers HTTP/2 too.
    pub(super) two: Arc<ClientConfig>,
    print: u64,
}

impl PartialEq for OriginTls {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Trust {
    /// The certificates of a PEM file.
    ///
    /// # Errors
    /// What is wrong with the file, for the operator.
    pub fn own(file: &Path) -> Result<Self, String> {
        let read = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|fault| format!("no file of PEM certificates: {fault}"))?;
        if read.is_empty() {
            return Err("there is no certificate in it: write PEM certificates".to_owned());
        }
        let mut roots = RootCertStore::empty();
        for certificate in &read {
            let added = roots.add(certificate.clone());
            added.map_err(|fault| format!("a certificate in it cannot be trusted: {fault}"))?;
        }
        Ok(Self::Own(read))
    }
}

impl OriginTls {
    /// TLS that believes whom it is told to.
    ///
    /// # Errors
    /// When no root certificate at all can be loaded, or one of ours is malformed.
    pub fn new(trust: Trust) -> Result<Self, String> {
        let roots = roots(trust)?;
        let print = print(roots.as_ref());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|fault| fault.to_string())?;
        let mut config = match roots {
            Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut two = config.clone();
        two.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Self {
            config: Arc::new(config),
            two: Arc::new(two),
            print,
        })
    }
}

/// Tells sets of roots apart, in whatever order they were read.
fn print(roots: Option<&RootCertStore>) -> u64 {
    let all = roots.map(|roots| {
        let roots = roots.roots.iter();
        let mut all: Vec<[&[u8]; 3]> = roots
            .map(|root| {
                let limits = root.name_constraints.as_deref().unwrap_or_default();
                [&root.subject, &root.subject_public_key_info, limits]
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    });
    let mut hasher = DefaultHasher::new();
    all.hash(&mut hasher);
    hasher.finish()
}

/// The roots to believe; `None`: none is asked for.
fn roots(trust: Trust) -> Result<Option<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    let mut faults = Vec::new();
    let written = match trust {
        Trust::Anybody => return Ok(None),
        Trust::Own(own) => own,
        Trust::Machine { extra } => {
            let native = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(native.certs);
            faults = native.errors;
            extra
        }
    };
    for root in written {
        roots
            .add(root)
            .map_err(|fault| format!("a root certificate for the origin is malformed: {fault}"))?;
    }
    if roots.is_empty() {
        return Err(format!(
            "no trusted root certificates were found on this machine (install ca-certificates): {faults:?}"
        ));
    }
    Ok(Some(roots))
}

/// Believes every certificate; that its bearer has the key is still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
