//! What an event is: its effective settings, as plain values.
//!
//! Everybody who decides about an event reads these; how they came about
//! (file, environment, API) is the business of `settings`, which requests
//! belong to it that of `routes`.

use std::{borrow::Borrow, fmt, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{bots::BotSettings, secret::Secret, units};

/// How long a new session may stay without a second request that carries its
/// pass (promise 5); not configurable, since the promise names it.
pub const UNPROVEN: Duration = Duration::from_secs(30);

/// An event's name in code, cookies, keys and URLs: `[a-z0-9-]{1,32}`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Arc<str>);

/// A text that is no event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write 1 to 32 of a-z, 0-9 and -")]
pub struct BadEventId;

/// What the operator orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The gate follows load and limit.
    #[default]
    Auto,
    /// The gate is held at queueing; people are called.
    Queue,
    /// Tickets are given, nobody is called.
    Pause,
    /// All pass, nothing is queued, the limit is not enforced.
    Off,
    /// Everything is decided, nobody is queued.
    Shadow,
    /// Everyone new is turned away.
    Closed,
}

/// What a crawler gets while the event is busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Crawlers {
    /// 503 with Retry-After, and no ticket.
    #[default]
    #[serde(rename = "503")]
    Refuse503,
    /// Forwarded.
    #[serde(rename = "allow")]
    Allow,
}

/// The cookie's `SameSite` attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// `None` over TLS (a bank returns by cross-site POST), `Lax` over http.
    #[default]
    Auto,
    /// Always `None`; needs `Secure`.
    None,
    /// Always `Lax`.
    Lax,
    /// Always `Strict`.
    Strict,
}

/// The cookie's `Secure` attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Secure {
    /// When the visitor came over TLS (ours, or a trusted proxy's).
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// One address may always have so many sessions: a family, however low the limit.
pub const SESSIONS_PER_ADDRESS_MIN: u64 = 5;

/// The effective settings of one event (`[[event]]` of the file).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventSettings {
    /// Who it is; `eventId` in the API.
    #[serde(rename = "eventId")]
    pub id: EventId,
    /// What visitors read; the id when not given.
    pub name: String,
    /// What the operator orders.
    pub mode: Mode,
    /// Hosts it covers, in normal form; empty: any.
    pub hosts: Vec<String>,
    /// Paths it covers, by segment; empty: none.
    pub paths: Vec<String>,
    /// Requests among these that it does not cover.
    pub exclude: Vec<Exclude>,
    /// Most sessions inside at once, at least 1; `None`: no limit. `limitCnt` in the API.
    #[serde(rename = "limitCnt")]
    pub limit: Option<u64>,
    /// Most admissions a second, above 0, fractions allowed; `None`: as fast as slots come free.
    pub admit_per_second: Option<f64>,
    /// A session without a request for so long ends; at least 30 s.
    #[serde(with = "units::as_text")]
    pub session_idle: Duration,
    /// No session is extended beyond this age while others wait.
    #[serde(with = "units::as_text")]
    pub session_max: Duration,
    /// A ticket not heard from for so long is skipped; 10 s to 1 h.
    #[serde(with = "units::as_text")]
    pub ticket_idle: Duration,
    /// A session that never comes back ends after this: [`UNPROVEN`].
    #[serde(skip)]
    pub unproven: Duration,
    /// Most living tickets; beyond them newcomers are turned away.
    pub waiting_max: u64,
    /// Most newcomers a minute from one address (IPv6: one /64).
    pub joins_per_address_per_minute: u64,
    /// What share of the limit one address (IPv6: one /64) may have inside while others
    /// wait; above 0, at most 1, and 1 means no such limit.
    pub sessions_per_address_ratio: f64,
    /// Addresses that many visitors share: no limit for one address holds for them.
    pub shared_addresses: Vec<IpNet>,
    /// Most requests a second of one session at one gateway, ten seconds' worth at once.
    pub session_requests_per_second: u64,
    /// Most requests of one session in flight at once at one gateway.
    pub session_requests_in_flight: u64,
    /// Where an admitted visitor is sent; `None`: where they wanted to go.
    pub success_url: Option<String>,
    /// HTTP status of the waiting page: 200, 202, 429 or 503.
    pub waiting_status: u16,
    /// What crawlers get while busy.
    pub crawlers: Crawlers,
    /// A line of the operator's on the waiting page, at most 500 characters.
    pub message: Option<String>,
    /// When the gate closes.
    pub queue_when: QueueWhen,
    /// Attributes of the cookie.
    pub cookie: CookieSettings,
    /// Who passes uncounted.
    pub bypass: Bypass,
    /// How programs are told from people.
    pub bots: BotSettings,
}

/// When the gate closes (`[event.queue_when]`): each threshold is optional.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueWhen {
    /// Sessions inside.
    pub sessions: Option<u64>,
    /// Newcomers a second.
    pub arrivals_per_second: Option<f64>,
    /// Requests a second.
    pub requests_per_second: Option<f64>,
    /// Requests at the origin at once.
    pub in_flight: Option<u64>,
    /// The 95th percentile of the time to first byte.
    #[serde(with = "units::as_optional_text")]
    pub latency_p95: Option<Duration>,
    /// Failures ÷ answers, above 0, at most 1.
    pub failure_ratio: Option<f64>,
    /// The sliding window that all of them are measured over; 1 s to 5 min.
    #[serde(with = "units::as_text")]
    pub window: Duration,
    /// Latency and failures need so many answers in the window.
    pub min_requests: u64,
    /// Below this share of every threshold the origin counts as well; above 0, below 1.
    pub release_ratio: f64,
    /// For this long, before the gate opens.
    #[serde(with = "units::as_text")]
    pub release_after: Duration,
}

/// Attributes of the cookie (`[event.cookie]`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CookieSettings {
    /// A domain shared by several hosts, in normal form; `None`: this host only.
    pub domain: Option<String>,
    /// `SameSite`.
    pub same_site: SameSite,
    /// `Secure`.
    pub secure: Secure,
}

/// Staff who pass uncounted (`[event.bypass]`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bypass {
    /// Client addresses.
    pub addresses: Vec<IpNet>,
    /// The header that carries the secret.
    pub header: String,
    /// The secret; `None`: no header opens the way.
    pub secret: Option<Secret>,
}

/// One `exclude` rule: all of its conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclude {
    /// By segment; with a trailing slash only what lies below it.
    pub path: Option<String>,
    /// A parameter of this name is in the query.
    pub query: Option<String>,
    /// One of these methods, upper case; empty: any.
    pub methods: Vec<String>,
    /// A client address among these; empty: any.
    pub from: Vec<IpNet>,
}

impl EventId {
    /// Takes a text of 1 to 32 of `a-z`, `0-9` and `-`.
    ///
    /// # Errors
    /// [`BadEventId`] for any other text.
    pub fn new(text: &str) -> Result<Self, BadEventId> {
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if plain && (1..=32).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(BadEventId)
        }
    }

    /// Stands in while the faults of an event without a sound id are collected.
    pub(super) fn unnamed() -> Self {
        Self("unnamed".into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for EventId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for EventId {
    type Err = BadEventId;

    fn from_str(text: &str) -> Result<Self, BadEventId> {
        Self::new(text)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 6] = [
        Self::Auto,
        Self::Queue,
        Self::Pause,
        Self::Off,
        Self::Shadow,
        Self::Closed,
    ];

    /// The word of the file, the API, the store and the logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Queue => "queue",
            Self::Pause => "pause",
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::Closed => "closed",
        }
    }

    /// The mode of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl EventSettings {
    /// An event of this id with every setting at its default: it covers no
    /// request, has no limit and no thresholds.
    #[must_use]
    pub fn new(id: EventId) -> Self {
        Self {
            name: id.as_str().to_owned(),
            id,
            mode: Mode::Auto,
            hosts: Vec::new(),
            paths: Vec::new(),
            exclude: ["/robots.txt", "/.well-known/", "/favicon.ico"]
                .into_iter()
                .map(Exclude::path)
                .collect(),
            limit: None,
            admit_per_second: None,
            session_idle: Duration::from_secs(600),
            session_max: Duration::from_secs(3600),
            ticket_idle: Duration::from_secs(180),
            unproven: UNPROVEN,
            waiting_max: 1_000_000,
            joins_per_address_per_minute: 600,
            sessions_per_address_ratio: 0.05,
            shared_addresses: Vec::new(),
            session_requests_per_second: 100,
            session_requests_in_flight: 200,
            success_url: None,
            waiting_status: 503,
            crawlers: Crawlers::Refuse503,
            message: None,
            queue_when: QueueWhen::default(),
            cookie: CookieSettings::default(),
            bypass: Bypass::default(),
            bots: BotSettings::default(),
        }
    }

    /// How many sessions `address` may have while others wait; `None`: any number.
    #[must_use]
    pub fn sessions_of(&self, address: IpAddr) -> Option<u64> {
        let limit = self.limit?;
        if self.sessions_per_address_ratio >= 1.0 || self.is_shared(address) {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "limits are far below 2^52"
        )]
        let share = (limit as f64 * self.sessions_per_address_ratio) as u64;
        Some(share.max(SESSIONS_PER_ADDRESS_MIN))
    }

    /// Whether many visitors share an address.
    #[must_use]
    pub fn is_shared(&self, address: IpAddr) -> bool {
        let mut networks = self.shared_addresses.iter();
        networks.any(|network| network.contains(&address.to_canonical()))
    }
}

impl Default for QueueWhen {
    fn default() -> Self {
        Self {
            sessions: None,
            arrivals_per_second: None,
            requests_per_second: None,
            in_flight: None,
            latency_p95: None,
            failure_ratio: None,
            window: Duration::from_secs(10),
            min_requests: 20,
            release_ratio: 0.8,
            release_after: Duration::from_secs(30),
        }
    }
}

impl Default for Bypass {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            header: "Sumun-Bypass".to_owned(),
            secret: None,
        }
    }
}

impl Bypass {
    /// Whether this client passes uncounted: by its address, or by the value
    /// of the header named [`Bypass::header`].
    #[must_use]
    pub fn admits(&self, client: IpAddr, header: Option<&[u8]>) -> bool {
        if contains(&self.addresses, client) {
            return true;
        }
        match (&self.secret, header) {
            (Some(secret), Some(value)) => secret.is(value),
            _ => false,
        }
    }
}

impl Exclude {
    /// The plain form: a path alone.
    #[must_use]
    pub fn path(path: &str) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..Self::default()
        }
    }
}

/// The plain form is a string, as in the file; any other a table.
impl Serialize for Exclude {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if let (Some(path), None, true, true) = (
            &self.path,
            &self.query,
            self.methods.is_empty(),
            self.from.is_empty(),
        ) {
            return to.serialize_str(path);
        }
        let mut map = to.serialize_map(None)?;
        if let Some(path) = &self.path {
            map.serialize_entry("path", path)?;
        }
        if let Some(query) = &self.query {
            map.serialize_entry("query", query)?;
        }
        if !self.methods.is_empty() {
            map.serialize_entry("methods", &self.methods)?;
        }
        if !self.from.is_empty() {
            map.serialize_entry("from", &self.from)?;
        }
        map.end()
    }
}

/// Whether one of the networks holds the address; an IPv4 address inside
/// IPv6 (`::ffff:1.2.3.4`) counts as IPv4.
#[must_use]
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_up_to_32_small_letters_digits_and_dashes() {
        for good in ["a", "main", "concert-2026", &"x".repeat(32)] {
            assert!(EventId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "Main", "a_b", "a b", "가", &"x".repeat(33)] {
            assert_eq!(EventId::new(bad), Err(BadEventId), "{bad}");
        }
    }

    #[test]
    fn staff_pass_by_address_or_by_secret_and_nobody_else_does() {
        let office: IpAddr = "203.0.113.7".parse().unwrap();
        let mapped: IpAddr = "::ffff:203.0.113.7".parse().unwrap();
        let home: IpAddr = "198.51.100.1".parse().unwrap();
        let bypass = Bypass {
            addresses: vec!["203.0.113.0/24".parse().unwrap()],
            secret: Some(Secret::new("open sesame")),
            ..Bypass::default()
        };
        assert!(bypass.admits(office, None));
        assert!(bypass.admits(mapped, None));
        assert!(bypass.admits(home, Some(b"open sesame")));
        assert!(!bypass.admits(home, Some(b"open")));
        assert!(!bypass.admits(home, None));
        assert!(!Bypass::default().admits(home, Some(b"")));
    }

    #[test]
    fn settings_read_as_the_api_shows_them() {
        let mut settings = EventSettings::new(EventId::new("main").unwrap());
        settings.limit = Some(500);
        settings.queue_when.latency_p95 = Some(Duration::from_millis(800));
        let json = serde_json::to_value(&settings).unwrap();
        assert_eq!(json["eventId"], "main");
        assert_eq!(json["limitCnt"], 500);
        assert_eq!(json["sessionIdle"], "10m");
        assert_eq!(json["queueWhen"]["latencyP95"], "800ms");
        assert_eq!(json["admitPerSecond"], serde_json::Value::Null);
        assert_eq!(json["crawlers"], "503");
        assert_eq!(json["exclude"][1], "/.well-known/");
    }
}
