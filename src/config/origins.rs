//! Where requests go, from what the file says to what is used: the gateway's
//! origins and those of events, how they are chosen, asked and believed.

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use serde::{Serialize, Serializer};

use super::front::Certificates;
use super::raw::{RawFile, RawOriginCheck, RawOriginHealth, RawOriginPool, RawOriginTls};
use crate::origin::Trust;
use crate::room::faults::Faults;
use crate::room::{host, units};

/// Most origins of one list.
const LIST_MAX: usize = 64;

/// A customer's server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whether to speak TLS to it.
    pub tls: bool,
    /// Host name or address; an IPv6 address in brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The `Host` that the origin sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OriginHost {
    /// The one that the visitor sent.
    #[default]
    Preserve,
    /// The one of the origin's URL.
    Origin,
    /// This one.
    Named(String),
}

/// `[origin_pool]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OriginPool {
    /// Most connections to one origin; 0: no limit.
    pub connections: usize,
    /// How long a request waits for one of them.
    #[serde(with = "units::as_text")]
    pub connection_wait: Duration,
    /// How long the addresses of a name are taken as they were told.
    #[serde(with = "units::as_text")]
    pub dns_ttl: Duration,
    /// The cookie that keeps a visitor at one origin; empty: there is none.
    pub affinity_cookie: String,
}

/// `[origin_health]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OriginHealth {
    /// Failures in a row that eject an origin; 0: never.
    pub eject_after: u32,
    /// Whether an answer of 500 to 599 is one.
    pub eject_5xx: bool,
    /// How long the first ejection lasts.
    #[serde(with = "units::as_text")]
    pub eject_time: Duration,
    /// The longest one.
    #[serde(with = "units::as_text")]
    pub eject_time_max: Duration,
    /// The largest share of a list that is ejected at once.
    pub eject_share: f64,
    /// Over how long the share of one that returns grows.
    #[serde(with = "units::as_text")]
    pub slow_start: Duration,
}

/// `[origin_check]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OriginCheck {
    /// What is asked for; `None`: origins are not asked.
    #[serde(serialize_with = "as_path")]
    pub path: Option<PathAndQuery>,
    /// The time between two questions.
    #[serde(with = "units::as_text")]
    pub interval: Duration,
    /// How long an answer may take.
    #[serde(with = "units::as_text")]
    pub timeout: Duration,
    /// The statuses of a good answer.
    #[serde(serialize_with = "as_ranges")]
    pub status: Vec<RangeInclusive<u16>>,
    /// Bad answers in a row until it is out.
    pub fall: u32,
    /// Good answers in a row until it is in again.
    pub rise: u32,
}

/// `[origin_tls]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OriginTls {
    /// A file of PEM certificates to trust instead of the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Whether the origin's certificate is looked at.
    pub verify: bool,
    /// The name that is asked for and checked; empty: the URL's host.
    pub server_name: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Serialize for OriginHost {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(match self {
            Self::Preserve => "preserve",
            Self::Origin => "origin",
            Self::Named(name) => name,
        })
    }
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn as_path<S: Serializer>(path: &Option<PathAndQuery>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(path.as_ref().map_or("", PathAndQuery::as_str))
}

fn as_ranges<S: Serializer>(ranges: &[RangeInclusive<u16>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(
        ranges
            .iter()
            .map(|range| match (range.start(), range.end()) {
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}-{last}"),
            }),
    )
}

/// Everything that the file says of origins.
pub(super) struct All {
    pub(super) gateways: Option<Vec<Origin>>,
    pub(super) events: Vec<Vec<Origin>>,
    pub(super) host: OriginHost,
    pub(super) pool: OriginPool,
    pub(super) health: OriginHealth,
    pub(super) check: OriginCheck,
    pub(super) tls: OriginTls,
}

/// Takes it out of the file; `events` are the lists of its events.
pub(super) fn all(
    raw: &mut RawFile,
    events: &[Vec<String>],
    certificates: Certificates,
    faults: &mut Faults,
) -> All {
    let gateways = gateways(raw.origin.as_deref(), &raw.origins, faults);
    let own = events.iter().enumerate().map(|(index, written)| {
        let path = format!("event[{index}].origins");
        list(&path, written, faults).unwrap_or_default()
    });
    let events = own.collect();
    All {
        gateways,
        events,
        host: origin_host(raw.origin_host.as_deref(), faults),
        pool: pool(std::mem::take(&mut raw.origin_pool), faults),
        health: health(&raw.origin_health, faults),
        check: check(&raw.origin_check, faults),
        tls: tls(std::mem::take(&mut raw.origin_tls), certificates, faults),
    }
}

impl OriginTls {
    /// What is dangerous about it, if any origin speaks TLS.
    pub(super) fn warning(&self) -> Option<&'static str> {
        (!self.verify).then_some(
            "origin_tls.verify is false: whoever stands between this gateway and an origin can read and change everything",
        )
    }
}

/// The gateway's origins: `origin`, or `origins`.
fn gateways(one: Option<&str>, several: &[String], faults: &mut Faults) -> Option<Vec<Origin>> {
    let one = one.filter(|text| !text.is_empty());
    match (one, several) {
        (None, []) => {
            let remedy = "say where requests go, like \"http://127.0.0.1:3000\"";
            faults.add("origin", "", remedy);
            None
        }
        (Some(text), []) => Some(vec![origin("origin", text, faults)?]),
        (Some(_), _) => {
            let remedy = "origin is given too: keep one of them";
            faults.add("origins", "", remedy);
            None
        }
        (None, several) => list("origins", several, faults),
    }
}

/// A list of origins, none of which stands there twice.
fn list(path: &str, written: &[String], faults: &mut Faults) -> Option<Vec<Origin>> {
    if written.len() > LIST_MAX {
        let remedy = format!("write at most {LIST_MAX} origins");
        faults.add(path, &written.len().to_string(), remedy);
        return None;
    }
    let before = faults.len();
    let mut seen = HashSet::new();
    let mut sound = Vec::new();
    for (index, text) in written.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(origin) = origin(&path, text, faults) else {
            continue;
        };
        if seen.insert(origin.clone()) {
            sound.push(origin);
        } else {
            faults.text(&path, text, "stands here twice: write each origin once");
        }
    }
    (faults.len() == before).then_some(sound)
}

fn origin(path: &str, text: &str, faults: &mut Faults) -> Option<Origin> {
    if text.contains('@') {
        faults.add(path, "", "write no user or password into the URL");
        return None;
    }
    let url = url::Url::parse(text).ok();
    let sound = url.filter(|url| {
        matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|h| !h.is_empty())
    });
    let Some(url) = sound else {
        let remedy = "write http://host:port or https://host:port";
        faults.text(path, text, remedy);
        return None;
    };
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        let remedy = "write the URL without a path or query: requests keep their own";
        faults.text(path, text, remedy);
        return None;
    }
    let port = url.port_or_known_default().filter(|port| *port != 0);
    let Some(port) = port else {
        faults.text(path, text, "write a port from 1 to 65535");
        return None;
    };
    Some(Origin {
        tls: url.scheme() == "https",
        host: url.host_str()?.to_owned(),
        port,
    })
}

fn origin_host(written: Option<&str>, faults: &mut Faults) -> OriginHost {
    match written {
        None | Some("preserve") => OriginHost::Preserve,
        Some("origin") => OriginHost::Origin,
        Some(text) => host::configured(text).map_or_else(
            |_| {
                let remedy = "write \"preserve\", \"origin\" or a host name";
                faults.text("origin_host", text, remedy);
                OriginHost::Preserve
            },
            OriginHost::Named,
        ),
    }
}

fn pool(raw: RawOriginPool, faults: &mut Faults) -> OriginPool {
    let cookie = raw.affinity_cookie.unwrap_or_default();
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let path = "origin_pool.affinity_cookie";
    let lower = cookie.to_ascii_lowercase();
    if !cookie.bytes().all(is_token) {
        let remedy = "write letters, digits, - and _ only, like \"SUMUN_ORIGIN\"";
        faults.text(path, &cookie, remedy);
    } else if cookie.starts_with("sumun_")
        || ["__host-", "__secure-"]
            .iter()
            .any(|taken| lower.starts_with(taken))
    {
        let remedy = "names that begin so mean something else already: write another";
        faults.text(path, &cookie, remedy);
    }
    OriginPool {
        connections: raw.connections.unwrap_or(0),
        connection_wait: raw.connection_wait.unwrap_or(Duration::from_secs(1)),
        dns_ttl: raw.dns_ttl.unwrap_or(Duration::from_secs(10)),
        affinity_cookie: cookie,
    }
}

fn health(raw: &RawOriginHealth, faults: &mut Faults) -> OriginHealth {
    let eject_time = raw.eject_time.unwrap_or(Duration::from_secs(10));
    if let Some(most) = raw.eject_time_max.filter(|most| *most < eject_time) {
        let least = units::duration_text(eject_time);
        let remedy = format!("write at least origin_health.eject_time, which is {least}");
        let most = units::duration_text(most);
        faults.text("origin_health.eject_time_max", &most, remedy);
    }
    OriginHealth {
        eject_after: raw.eject_after.unwrap_or(5),
        eject_5xx: raw.eject_5xx,
        eject_time,
        eject_time_max: (raw.eject_time_max.unwrap_or(Duration::from_secs(300))).max(eject_time),
        eject_share: raw.eject_share.unwrap_or(0.5),
        slow_start: raw.slow_start.unwrap_or(Duration::from_secs(30)),
    }
}

fn check(raw: &RawOriginCheck, faults: &mut Faults) -> OriginCheck {
    let path = raw.path.as_deref().filter(|path| !path.is_empty());
    let sound = path.filter(|path| path.starts_with('/') && !path.contains('#'));
    let sound = sound.and_then(|path| path.parse::<PathAndQuery>().ok());
    if let (Some(path), None) = (path, &sound) {
        let remedy = "write a path like \"/health\"";
        faults.text("origin_check.path", path, remedy);
    }
    let default = ["200-399".to_owned()];
    let written = raw.status.as_deref().unwrap_or(&default);
    let mut status = Vec::new();
    for (index, text) in written.iter().enumerate() {
        match range(text) {
            Some(range) => status.push(range),
            None => faults.text(
                &format!("origin_check.status[{index}]"),
                text,
                "write statuses from 100 to 599, like \"200\" or \"200-299\"",
            ),
        }
    }
    if written.is_empty() {
        let remedy = "write at least one status, like \"200-299\"";
        faults.add("origin_check.status", "[]", remedy);
    }
    OriginCheck {
        path: sound,
        interval: raw.interval.unwrap_or(Duration::from_secs(5)),
        timeout: raw.timeout.unwrap_or(Duration::from_secs(2)),
        status,
        fall: raw.fall.unwrap_or(3),
        rise: raw.rise.unwrap_or(2),
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        let text = text.trim();
        let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        let status = text.parse().ok().filter(|_| digits)?;
        (100..=599_u16).contains(&status).then_some(status)
    };
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some(first..=last)
}

fn tls(raw: RawOriginTls, certificates: Certificates, faults: &mut Faults) -> OriginTls {
    let verify = raw.verify.unwrap_or(true);
    let ca_file = raw.ca_file.filter(|file| !file.as_os_str().is_empty());
    if let Some(file) = &ca_file {
        let path = "origin_tls.ca_file";
        let shown = file.display().to_string();
        if !verify {
            let remedy =
                "is without effect while origin_tls.verify is false: leave one of them out";
            faults.text(path, &shown, remedy);
        } else if certificates == Certificates::Sound
            && let Err(remedy) = Trust::own(file)
        {
            faults.text(path, &shown, remedy);
        }
    }
    let server_name = raw.server_name.unwrap_or_default();
    let is_name = || {
        server_name.parse::<std::net::IpAddr>().is_ok() || host::configured(&server_name).is_ok()
    };
    if !server_name.is_empty() && !is_name() {
        let remedy = "write the name in the origins' certificates, like \"shop.internal\"";
        faults.text("origin_tls.server_name", &server_name, remedy);
    }
    OriginTls {
        ca_file,
        verify,
        server_name,
    }
}
