//! TLS at the front, from what the file says to what is used.

use std::path::PathBuf;

use super::Tls;
use super::raw::{RawCertificate, RawTls};
use crate::room::faults::Faults;
use crate::tls::{Certificate, Files};

/// What is asked of the files that hold certificates and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certificates {
    /// They are read and have to be good: before a start, so that a bad one is
    /// told of before it is needed.
    Sound,
    /// They have a name; what stands in them is not looked at.
    Named,
}

/// `[tls]`, with the fault of each pair at the field that names the file.
pub(super) fn tls(raw: RawTls, certificates: Certificates, faults: &mut Faults) -> Tls {
    let RawTls {
        cert_file,
        key_file,
        certificates: more,
        min_version,
    } = raw;
    let one = RawCertificate {
        cert_file,
        key_file,
    };
    let mut written = Vec::new();
    if one.cert_file.is_some() || one.key_file.is_some() || more.is_empty() {
        written.push(("tls".to_owned(), one));
    }
    for (index, files) in more.into_iter().enumerate() {
        written.push((format!("tls.certificates[{index}]"), files));
    }
    let mut named = Vec::new();
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
        if certificates == Certificates::Sound
            && let Err(fault) = Certificate::read(&files)
        {
            let path = format!("{path}.{}", fault.part.key());
            faults.text(&path, &fault.file.display().to_string(), fault.remedy);
        }
        named.push(files);
    }
    Tls {
        certificates: named,
        min_version: min_version.unwrap_or_default(),
    }
}
