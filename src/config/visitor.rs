//! What is told of visitors: from what the file says to what is used.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::front::Certificates;
use super::raw::RawVisitor;
use crate::room::faults::Faults;
use crate::visitor::region::{Files, Regions};
use crate::visitor::user::UserFrom;

/// `[visitor]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Visitor {
    /// Whether those who arrive are counted by what they are.
    pub statistics: bool,
    /// Countries and subdivisions of addresses.
    pub city_db: Option<PathBuf>,
    /// Networks of addresses.
    pub asn_db: Option<PathBuf>,
    /// Where it is written who is logged in.
    #[serde(serialize_with = "as_text")]
    pub user_from: Option<UserFrom>,
}

impl Visitor {
    /// The files that tell of addresses.
    #[must_use]
    pub fn files(&self) -> Files {
        Files {
            city: self.city_db.clone(),
            asn: self.asn_db.clone(),
        }
    }
}

/// `[visitor]`.
///
/// Before a start its files are read and have to be good; while the gateway runs
/// they are watched by themselves, and one that is bad at the moment says nothing
/// against the settings.
pub(super) fn resolve(
    raw: RawVisitor,
    files: Certificates,
    has_proxies: bool,
    faults: &mut Faults,
) -> Visitor {
    let named = |file: Option<PathBuf>| file.filter(|file| !file.as_os_str().is_empty());
    let visitor = Visitor {
        statistics: raw.statistics.unwrap_or(true),
        city_db: named(raw.city_db),
        asn_db: named(raw.asn_db),
        user_from: user_from(raw.user_from.as_deref(), has_proxies, faults),
    };
    if files == Certificates::Sound {
        let Files { city, asn } = visitor.files();
        let alone = [Files { city, asn: None }, Files { city: None, asn }];
        for fault in alone.iter().filter_map(|files| Regions::open(files).err()) {
            let path = format!("visitor.{}", fault.content.key());
            faults.text(&path, &fault.file.display().to_string(), fault.remedy);
        }
    }
    visitor
}

fn user_from(written: Option<&str>, has_proxies: bool, faults: &mut Faults) -> Option<UserFrom> {
    let text = written.filter(|text| !text.is_empty())?;
    let parsed = match UserFrom::parse(text) {
        Ok(UserFrom::Header(_)) if !has_proxies => {
            Err("a header is believed from trusted proxies only: name them in trusted_proxies")
        }
        parsed => parsed,
    };
    parsed
        .map_err(|remedy| faults.text("visitor.user_from", text, remedy))
        .ok()
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn as_text<S: Serializer>(from: &Option<UserFrom>, to: S) -> Result<S::Ok, S::Error> {
    let text = from.as_ref().map(ToString::to_string);
    text.serialize(to)
}
