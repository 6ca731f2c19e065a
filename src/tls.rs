//! TLS at the front (RFC 8446, RFC 5246): certificates and keys from files,
//! chosen by the name that the client asks for (SNI, RFC 6066 §3), and exchanged
//! while the server runs: connections that stand keep theirs.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig, SupportedProtocolVersion};
use serde::{Deserialize, Serialize};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::x509::X509Version;

/// The two files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Files {
    /// The certificate, then those that signed it: PEM.
    pub cert_file: PathBuf,
    /// Its private key: PEM, of PKCS#8, PKCS#1 or SEC 1.
    pub key_file: PathBuf,
}

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Oldest {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Which of the two files has a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `cert_file`.
    Certificate,
    /// `key_file`.
    Key,
}

impl Part {
    /// The setting's name.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Certificate => "cert_file",
            Self::Key => "key_file",
        }
    }
}

/// Files that cannot be used: which, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which file.
    pub part: Part,
    /// Its name.
    pub file: PathBuf,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, file) = (self.part.key(), self.file.display());
        write!(to, "{key} {file}: {}", self.remedy)
    }
}

impl std::error::Error for Fault {}

/// What stands in the two files. It is read once, so that what is judged is
/// what was compared with the last time.
struct Written {
    certificate: io::Result<Vec<u8>>,
    key: io::Result<Vec<u8>>,
}

impl Written {
    fn read(files: &Files) -> Self {
        Self {
            certificate: std::fs::read(&files.cert_file),
            key: std::fs::read(&files.key_file),
        }
    }

    /// Another one when anything else is written there; a key that is kept to
    /// compare with would be a second place that it could leak from.
    fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for file in [&self.certificate, &self.key] {
            file.as_ref().map_err(io::Error::kind).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// A certificate with its key, ready to be shown.
#[derive(Clone, Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    /// When it ends, Unix seconds.
    pub ends: i64,
}

impl Certificate {
    /// Reads a certificate and its key, and checks that they belong together.
    ///
    /// # Errors
    /// The file that cannot be used, and what to do.
    pub fn read(files: &Files) -> Result<Self, Fault> {
        Self::of(files, &Written::read(files))
    }

    fn of(files: &Files, written: &Written) -> Result<Self, Fault> {
        let Files {
            cert_file,
            key_file,
        } = files;
        let in_certificate = |remedy: String| Fault {
            part: Part::Certificate,
            file: cert_file.clone(),
            remedy,
        };
        let in_key = |remedy: String| Fault {
            part: Part::Key,
            file: key_file.clone(),
            remedy,
        };
        let text = written.certificate.as_ref();
        let text = text.map_err(|fault| in_certificate(unread(fault)))?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(|fault| in_certificate(no_pem(&fault, "certificates")))?;
        let Some(first) = chain.first() else {
            let remedy = "holds no certificate: name a file of PEM certificates, yours first";
            return Err(in_certificate(remedy.to_owned()));
        };
        let (names, ends) = names_and_end(first).map_err(in_certificate)?;
        let text = written.key.as_ref();
        let text = text.map_err(|fault| in_key(unread(fault)))?;
        let key = PrivateKeyDer::from_pem_slice(text)
            .map_err(|fault| in_key(no_pem(&fault, "a private key")))?;
        let key = aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|fault| in_key(format!("the key cannot be used: {fault}")))?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|fault| match fault {
            Error::InconsistentKeys(_) => in_key(format!(
                "is not the key of the certificate in {}: name the key that it was made with",
                cert_file.display()
            )),
            // Before keys are compared the certificate is read, more strictly than above.
            Error::InvalidCertificate(why) => in_certificate(unusable(&why)),
            other => in_certificate(unusable(&other)),
        })?;
        Ok(Self {
            key: Arc::new(key),
            names,
            ends,
        })
    }

    /// Its first name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().map_or("-", String::as_str)
    }
}

fn unread(fault: &io::Error) -> String {
    format!("cannot be read: {fault}")
}

fn no_pem(fault: &pem::Error, what: &str) -> String {
    match fault {
        pem::Error::NoItemsFound => format!("holds no PEM of {what}"),
        other => format!("is no PEM of {what}: {other}"),
    }
}

fn unusable(why: &impl fmt::Display) -> String {
    format!("the first certificate cannot be used ({why}): have it issued anew")
}

/// The names that a certificate is for, in lower case, and when it ends.
fn names_and_end(certificate: &CertificateDer<'_>) -> Result<(Vec<String>, i64), String> {
    let (_, parsed) = parse_x509_certificate(certificate)
        .map_err(|fault| format!("the first certificate is malformed: {fault}"))?;
    if parsed.version() != X509Version::V3 {
        return Err(format!(
            "the first certificate is of X.509 version {}, and TLS needs version 3: \
             have it issued anew, with its names in it (subjectAltName)",
            u64::from(parsed.version().0) + 1
        ));
    }
    let alternatives = parsed
        .subject_alternative_name()
        .map_err(|fault| format!("the first certificate's names are malformed: {fault}"))?;
    let names = alternatives.map_or_else(Vec::new, |alternatives| {
        let names = alternatives.value.general_names.iter();
        let dns = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        dns.collect()
    });
    Ok((names, parsed.validity().not_after.timestamp()))
}

/// Two files, and what is shown of them.
#[derive(Debug)]
struct Pair {
    files: Files,
    certificate: Certificate,
    /// Of what stood there when it was last looked at, good or bad.
    print: u64,
    is_bad: bool,
}

/// What was found when two files were looked at again and held something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another certificate, of this file, is shown from now on.
    Renewed(PathBuf),
    /// They cannot be used; what was shown before is shown on.
    Bad(Fault),
    /// They were bad, and hold again what is shown.
    Restored(PathBuf),
}

impl Pair {
    fn read(files: &Files) -> Result<Self, Fault> {
        let written = Written::read(files);
        Ok(Self {
            certificate: Certificate::of(files, &written)?,
            files: files.clone(),
            print: written.print(),
            is_bad: false,
        })
    }

    fn look_again(&mut self) -> Option<Change> {
        let written = Written::read(&self.files);
        let print = written.print();
        if std::mem::replace(&mut self.print, print) == print {
            return None;
        }
        let file = || self.files.cert_file.clone();
        match Certificate::of(&self.files, &written) {
            Err(fault) => {
                self.is_bad = true;
                Some(Change::Bad(fault))
            }
            Ok(fresh) if fresh.key.cert == self.certificate.key.cert => {
                std::mem::take(&mut self.is_bad).then(|| Change::Restored(file()))
            }
            Ok(fresh) => {
                let file = file();
                (self.certificate, self.is_bad) = (fresh, false);
                Some(Change::Renewed(file))
            }
        }
    }
}

/// Certificates by the name asked for.
#[derive(Debug)]
struct Choice {
    /// Whole names, and `*.`-names by what follows the star.
    exact: HashMap<String, Arc<CertifiedKey>>,
    below: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that ask for no name, or for one that nothing is for.
    first: Option<Arc<CertifiedKey>>,
}

impl Choice {
    fn of(pairs: &[Pair]) -> Self {
        let (mut exact, mut below) = (HashMap::new(), HashMap::new());
        for Pair { certificate, .. } in pairs {
            for name in &certificate.names {
                // Of two for one name the first one written counts.
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut below, rest),
                    None => (&mut exact, name.as_str()),
                };
                map.entry(name.to_owned())
                    .or_insert_with(|| Arc::clone(&certificate.key));
            }
        }
        Self {
            exact,
            below,
            first: pairs
                .first()
                .map(|first| Arc::clone(&first.certificate.key)),
        }
    }

    /// A star stands for exactly one label (RFC 9525 §6.3).
    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let starred = || self.below.get(name.split_once('.')?.1);
            self.exact.get(&name).or_else(starred)
        });
        named.or(self.first.as_ref()).map(Arc::clone)
    }
}

/// What the handshake chooses from; exchanged whole.
#[derive(Debug)]
struct Shown(ArcSwap<Choice>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().choose(hello.server_name())
    }
}

/// TLS at the public door.
#[derive(Debug)]
pub struct Front {
    shown: Arc<Shown>,
    pairs: Mutex<Vec<Pair>>,
    server: Arc<ServerConfig>,
}

impl Front {
    /// Reads all certificates. `http2` is offered by ALPN (RFC 7301) beside HTTP/1.1.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn open(files: &[Files], oldest: Oldest, http2: bool) -> Result<Self, Fault> {
        let pairs: Vec<Pair> = files.iter().map(Pair::read).collect::<Result<_, _>>()?;
        let shown = Arc::new(Shown(ArcSwap::from_pointee(Choice::of(&pairs))));
        let server = server(oldest, http2, Arc::clone(&shown)).map_err(|fault| Fault {
            part: Part::Certificate,
            file: files
                .first()
                .map_or_else(PathBuf::new, |first| first.cert_file.clone()),
            remedy: format!("TLS cannot be set up: {fault}"),
        })?;
        Ok(Self {
            shown,
            pairs: Mutex::new(pairs),
            server: Arc::new(server),
        })
    }

    /// What handshakes are made with.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// What handshakes are made with where other versions are spoken, with the same
    /// certificates.
    ///
    /// # Errors
    /// When TLS cannot be set up so.
    pub fn speaking(&self, oldest: Oldest, http2: bool) -> Result<Arc<ServerConfig>, Error> {
        server(oldest, http2, Arc::clone(&self.shown)).map(Arc::new)
    }

    /// Reads the files again; new connections see what is new. A pair that is
    /// bad keeps what it showed and stops no other. Tells what has changed
    /// since the last time, so that a fault is told once.
    pub fn refresh(&self) -> Vec<Change> {
        let mut pairs = self.pairs();
        let changes: Vec<_> = pairs.iter_mut().filter_map(Pair::look_again).collect();
        let is_new = |change: &Change| matches!(change, Change::Renewed(_));
        if changes.iter().any(is_new) {
            self.shown.0.store(Arc::new(Choice::of(&pairs)));
        }
        changes
    }

    /// The name of each certificate, and when it ends (Unix seconds).
    #[must_use]
    pub fn ends(&self) -> Vec<(String, i64)> {
        let pairs = self.pairs();
        let each = pairs.iter().map(|pair| &pair.certificate);
        each.map(|certificate| (certificate.name().to_owned(), certificate.ends))
            .collect()
    }

    fn pairs(&self) -> MutexGuard<'_, Vec<Pair>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn server(oldest: Oldest, http2: bool, shown: Arc<Shown>) -> Result<ServerConfig, Error> {
    let versions: &[&SupportedProtocolVersion] = match oldest {
        Oldest::Tls12 => &[&TLS13, &TLS12],
        Oldest::Tls13 => &[&TLS13],
    };
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    // Resumption without state: tickets, whose keys change by themselves.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    if http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    // Who offers no other than the oldest is served too, as it would be without TLS.
    let one = [&b"http/1.1"[..], b"http/1.0"];
    config.alpn_protocols.extend(one.map(<[u8]>::to_vec));
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{CertificateParams, CustomExtension, KeyPair};

    use super::*;

    /// Writes a certificate for a name, and its key, over what stands there.
    fn write(folder: &Path, name: &str, extensions: Vec<CustomExtension>) -> Files {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.custom_extensions = extensions;
        let files = Files {
            cert_file: folder.join(format!("{name}.crt")),
            key_file: folder.join(format!("{name}.key")),
        };
        std::fs::write(&files.key_file, key.serialize_pem()).unwrap();
        std::fs::write(&files.cert_file, params.self_signed(&key).unwrap().pem()).unwrap();
        files
    }

    #[test]
    fn a_certificate_that_tls_refuses_is_blamed_itself_and_not_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        unknown.set_criticality(true);
        let files = write(folder.path(), "a.example", vec![unknown]);
        let fault = Certificate::read(&files).unwrap_err();
        assert_eq!(
            (fault.part, &fault.file),
            (Part::Certificate, &files.cert_file)
        );
        assert!(
            fault.remedy.contains("UnsupportedCriticalExtension"),
            "{fault}"
        );

        let files = write(folder.path(), "a.example", Vec::new());
        let other = write(folder.path(), "b.example", Vec::new());
        let mixed = Files {
            key_file: other.key_file,
            ..files
        };
        assert_eq!(Certificate::read(&mixed).unwrap_err().part, Part::Key);
    }

    #[test]
    fn a_bad_pair_shows_on_what_it_showed_stops_no_other_and_is_told_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let fresh = |name| write(folder.path(), name, Vec::new());
        let (one, two) = (fresh("a.example"), fresh("b.example"));
        let front = Front::open(&[one.clone(), two.clone()], Oldest::Tls12, false).unwrap();
        let shown = |name| {
            front
                .shown
                .0
                .load()
                .choose(Some(name))
                .unwrap()
                .cert
                .clone()
        };
        let on_disk = |files: &Files| Certificate::read(files).unwrap().key.cert.clone();
        assert_eq!(front.refresh(), []);

        let (before, good) = (shown("a.example"), std::fs::read(&one.key_file).unwrap());
        std::fs::write(&one.key_file, "no key").unwrap();
        fresh("b.example");
        let changes = front.refresh();
        let [Change::Bad(fault), Change::Renewed(file)] = changes.as_slice() else {
            panic!("{changes:?}");
        };
        assert_eq!((&fault.file, file), (&one.key_file, &two.cert_file));
        assert_eq!(shown("a.example"), before);
        assert_eq!(shown("b.example"), on_disk(&two));

        // Told once; again when something else is bad, in the same way or not.
        assert_eq!(front.refresh(), []);
        for bad in ["no key either", "-----BEGIN PRIVATE KEY-----"] {
            std::fs::write(&one.key_file, bad).unwrap();
            assert!(
                matches!(front.refresh().as_slice(), [Change::Bad(_)]),
                "{bad}"
            );
            assert_eq!(front.refresh(), []);
        }
        std::fs::remove_file(&one.key_file).unwrap();
        assert!(matches!(front.refresh().as_slice(), [Change::Bad(_)]));
        std::fs::write(&one.key_file, good).unwrap();
        assert_eq!(front.refresh(), [Change::Restored(one.cert_file.clone())]);
        fresh("a.example");
        assert_eq!(front.refresh(), [Change::Renewed(one.cert_file.clone())]);
        assert_eq!(shown("a.example"), on_disk(&one));
    }
}
