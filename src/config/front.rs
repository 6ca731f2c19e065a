//! TLS at the front, from what the file says to what is used.

use std::path::PathBuf;

use super::Tls;
use super::raw::{RawCertificate, RawTls};
use crate::room::faults::Faults;
use crate::tls::{Certificate, Files};

/// Certificates and keys are read and looked at, so that a bad one is told of
/// before it is needed.
pub(super) fn tls(raw: RawTls, faults: &mut Faults) -> Tls {
    let RawTls {
        cert_file,
        key_file,
        certificates,
        min_version,
    } = raw;
    let one = RawCertificate {
        cert_file,
        key_file,
    };
    let mut written = Vec::new();
    if one.cert_file.is_some() || one.key_file.is_some() || certificates.is_empty() {
        written.push(("tls".to_owned(), one));
    }
    for (index, files) in certificates.into_iter().enumerate() {
        written.push((format!("tls.certificates[{index}]"), files));
    }
    let mut sound = Vec::new();
    for (path, files) in written {
        let missing = "name a file: cert_file and key_file belong together";
        let mut file = |written: Option<String>, key: &str| {
            let file = written.filter(|file| !file.is_empty());
            if file.is_none() {
                faults.add(&format!("{path}.{key}"), "", missing);
            }
            file.map(PathBuf::from)
        };
        let (cert_file, key_file) = (
            file(files.cert_file, "cert_file"),
            file(files.key_file, "key_file"),
        );
        let (Some(cert_file), Some(key_file)) = (cert_file, key_file) else {
            continue;
        };
        let files = Files {
            cert_file,
            key_file,
        };
        if let Err(fault) = Certificate::read(&files) {
            let path = format!("{path}.{}", fault.part.key());
            faults.text(&path, &fault.file.display().to_string(), fault.remedy);
        }
        sound.push(files);
    }
    Tls {
        certificates: sound,
        min_version: min_version.unwrap_or_default(),
    }
}
