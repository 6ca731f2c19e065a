//! What was written about an event, and where it may be overridden.
//!
//! The file and the API say the same things in two spellings; both come
//! through [`RawEvent`] and are laid over each other as wanted. What they
//! amount to is the business of `resolve`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    bots::written::{BOT_KEYS, RawBots},
    event::{Crawlers, Mode, SameSite, Secure},
    faults::Faults,
    schema::{Key, Kind, Spelling, check, key},
    secret::Secret,
    units,
};

/// Longest `message`, in characters.
pub const MESSAGE_MAX: usize = 500;

const DAY: u64 = 86_400_000;
const MANY: u64 = 1_000_000_000;

/// The keys of `[[event]]`, their kinds and ranges.
pub const EVENT_KEYS: &[Key] = &[
    Key {
        name: "id",
        alias: Some("eventId"),
        kind: Kind::Text(100),
    },
    key("name", Kind::Text(100)),
    key(
        "mode",
        Kind::Word(&["auto", "queue", "pause", "off", "shadow", "closed"]),
    ),
    key("hosts", Kind::Texts),
    key("paths", Kind::Texts),
    key("exclude", Kind::Rules(EXCLUDE_KEYS)),
    Key {
        name: "limit",
        alias: Some("limitCnt"),
        kind: Kind::Count(1, MANY),
    },
    key("admit_per_second", Kind::Number(0.0, 1e6)),
    key("session_idle", Kind::Duration(30_000, DAY)),
    key("session_max", Kind::Duration(30_000, 30 * DAY)),
    key("ticket_idle", Kind::Duration(10_000, 3_600_000)),
    key("waiting_max", Kind::Count(1, MANY)),
    key("joins_per_address_per_minute", Kind::Count(1, 100_000_000)),
    key("sessions_per_address_ratio", Kind::Number(0.0, 1.0)),
    key("shared_addresses", Kind::Texts),
    key("session_requests_per_second", Kind::Count(1, 1_000_000)),
    key("session_requests_in_flight", Kind::Count(1, 1_000_000)),
    key("success_url", Kind::Text(2000)),
    key("waiting_status", Kind::Status(&[200, 202, 429, 503])),
    key("crawlers", Kind::Word(&["503", "allow"])),
    key("message", Kind::Line(MESSAGE_MAX)),
    key("queue_when", Kind::Table(QUEUE_WHEN_KEYS)),
    key("cookie", Kind::Table(COOKIE_KEYS)),
    key("bypass", Kind::Table(BYPASS_KEYS)),
    key("bots", Kind::Table(BOT_KEYS)),
];

/// The keys of `[event.queue_when]`.
const QUEUE_WHEN_KEYS: &[Key] = &[
    key("sessions", Kind::Count(1, MANY)),
    key("arrivals_per_second", Kind::Number(0.0, 1e6)),
    key("requests_per_second", Kind::Number(0.0, 1e9)),
    key("in_flight", Kind::Count(1, MANY)),
    key("latency_p95", Kind::Duration(1, 60_000)),
    key("failure_ratio", Kind::Number(0.0, 1.0)),
    key("window", Kind::Duration(1000, 300_000)),
    key("min_requests", Kind::Count(1, MANY)),
    key("release_ratio", Kind::Number(0.0, 0.99)),
    key("release_after", Kind::Duration(0, 3_600_000)),
];

/// The keys of `[event.cookie]`.
const COOKIE_KEYS: &[Key] = &[
    key("domain", Kind::Text(253)),
    key("same_site", Kind::Word(&["auto", "none", "lax", "strict"])),
    key("secure", Kind::Word(&["auto", "always", "never"])),
];

/// The keys of `[event.bypass]`.
const BYPASS_KEYS: &[Key] = &[
    key("addresses", Kind::Texts),
    key("header", Kind::Text(100)),
    key("secret", Kind::Secret),
    key("secret_file", Kind::Secret),
];

/// The keys of an `exclude` rule.
const EXCLUDE_KEYS: &[Key] = &[
    key("path", Kind::Text(2000)),
    key("query", Kind::Text(200)),
    key("methods", Kind::Texts),
    key("from", Kind::Texts),
];

/// What was written about one event; everything may be missing. Serialises
/// as the API spells it, without what is missing and without secrets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"), deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the EventSettings field of its name")]
pub struct RawEvent {
    #[serde(rename(serialize = "eventId"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<RawExclude>>,
    #[serde(rename(serialize = "limitCnt"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admit_per_second: Option<f64>,
    #[serde(with = "units::as_optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_idle: Option<Duration>,
    #[serde(with = "units::as_optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_max: Option<Duration>,
    #[serde(with = "units::as_optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket_idle: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joins_per_address_per_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions_per_address_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_addresses: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_requests_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_requests_in_flight: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crawlers: Option<Crawlers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "RawQueueWhen::is_empty")]
    pub queue_when: RawQueueWhen,
    #[serde(skip_serializing_if = "RawCookie::is_empty")]
    pub cookie: RawCookie,
    #[serde(skip_serializing_if = "RawBypass::is_empty")]
    pub bypass: RawBypass,
    #[serde(skip_serializing_if = "RawBots::is_empty")]
    pub bots: RawBots,
}

/// What was written in `[event.queue_when]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"), deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the QueueWhen field of its name")]
pub struct RawQueueWhen {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    #[serde(with = "units::as_optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p95: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<f64>,
    #[serde(with = "units::as_optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_ratio: Option<f64>,
    #[serde(with = "units::as_optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_after: Option<Duration>,
}

/// What was written in `[event.cookie]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"), deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the CookieSettings field of its name")]
pub struct RawCookie {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_site: Option<SameSite>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure: Option<Secure>,
}

/// What was written in `[event.bypass]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"), deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the Bypass field of its name")]
pub struct RawBypass {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    #[serde(skip_serializing)]
    pub secret: Option<Secret>,
    /// A file that holds the secret; whoever reads the file puts its content
    /// into `secret` and leaves this empty.
    #[serde(skip_serializing)]
    pub secret_file: Option<String>,
}

/// What was written as one `exclude` rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RawExclude {
    /// A path alone.
    Path(String),
    /// Conditions, all of which must hold.
    Rule(RawRule),
}

/// The conditions of an `exclude` rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the Exclude field of its name")]
pub struct RawRule {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
}

impl RawQueueWhen {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl RawCookie {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl RawBypass {
    fn is_empty(&self) -> bool {
        self.addresses.is_none() && self.header.is_none()
    }
}

/// `over` where it says something, else `base`, field by field.
macro_rules! laid_over {
    ($base:expr, $over:expr, $type:ident { $($field:ident),* $(,)? } $($rest:tt)*) => {
        $type {
            $($field: $over.$field.clone().or_else(|| $base.$field.clone()),)*
            $($rest)*
        }
    };
}

impl RawEvent {
    /// Reads what stands under `path`, in the spelling of the file or of the
    /// API. Every fault is noted; what is sound is returned.
    pub fn read(value: &Value, spelling: Spelling, path: &str, faults: &mut Faults) -> Self {
        let sound = check(value, EVENT_KEYS, spelling, path, faults);
        Self::from_sound(sound, path, faults)
    }

    /// `over` where it says something, else `base`. Lists are replaced, not joined.
    #[must_use]
    pub fn merge(base: &Self, over: &Self) -> Self {
        laid_over!(base, over, Self {
            id, name, mode, hosts, paths, exclude, limit, admit_per_second, session_idle,
            session_max, ticket_idle, waiting_max, joins_per_address_per_minute,
            sessions_per_address_ratio, shared_addresses, session_requests_per_second,
            session_requests_in_flight, success_url,
            waiting_status, crawlers, message,
        }
            queue_when: laid_over!(base.queue_when, over.queue_when, RawQueueWhen {
                sessions, arrivals_per_second, requests_per_second, in_flight, latency_p95,
                failure_ratio, window, min_requests, release_ratio, release_after,
            }),
            cookie: laid_over!(base.cookie, over.cookie, RawCookie { domain, same_site, secure }),
            bypass: laid_over!(base.bypass, over.bypass, RawBypass {
                addresses, header, secret, secret_file,
            }),
            bots: laid_over!(base.bots, over.bots, RawBots {
                mode, allow, block, log_at, end_of_line_at, block_at, block_for, decoy,
                arrivals_per_address_per_minute, arrivals_per_network_per_minute,
                arrivals_per_asn_per_minute, arrivals_per_user_per_minute,
            }),
        )
    }

    /// These overrides after a PATCH of the API (RFC 7396): what it names is
    /// replaced, what it sets to `null` is an override no more.
    #[must_use]
    pub fn patched(&self, patch: &Value, faults: &mut Faults) -> Self {
        let wanted = check(patch, EVENT_KEYS, Spelling::Api, "", faults);
        let held = serde_json::to_value(self).unwrap_or_default();
        let mut held = check(&held, EVENT_KEYS, Spelling::Api, "", faults);
        overlay(&mut held, wanted);
        Self::from_sound(held, "", faults)
    }

    /// Reads what [`check`] has passed.
    fn from_sound(sound: Map<String, Value>, path: &str, faults: &mut Faults) -> Self {
        serde_json::from_value(without_nulls(Value::Object(sound))).unwrap_or_else(|error| {
            faults.add(path, "", error.to_string());
            Self::default()
        })
    }
}

/// RFC 7396, on what [`check`] has passed.
fn overlay(held: &mut Map<String, Value>, wanted: Map<String, Value>) {
    for (name, value) in wanted {
        match (held.get_mut(&name), value) {
            (_, Value::Null) => {
                held.remove(&name);
            }
            (Some(Value::Object(held)), Value::Object(wanted)) => overlay(held, wanted),
            (_, value) => {
                held.insert(name, value);
            }
        }
    }
}

/// `null` says the same as nothing.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_nulls(value)))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{
        event::{EventId, EventSettings},
        resolve::networks,
    };
    use super::*;

    fn api(value: &Value) -> (RawEvent, Faults) {
        let mut faults = Faults::default();
        let raw = RawEvent::read(value, Spelling::Api, "", &mut faults);
        (raw, faults)
    }

    fn sound(value: &Value) -> RawEvent {
        let (raw, faults) = api(value);
        assert!(faults.is_empty(), "{faults}");
        raw
    }

    fn resolved(raw: &RawEvent) -> EventSettings {
        let mut faults = Faults::default();
        let settings = raw.resolve("", &mut faults);
        settings.unwrap_or_else(|| panic!("{faults}"))
    }

    /// Every key that the API takes.
    fn filled() -> Value {
        json!({
            "eventId": "main", "name": "Main", "mode": "queue",
            "hosts": ["shop.example.com"], "paths": ["/", "/sale"],
            "exclude": ["/assets/", {"path": "/pay", "methods": ["POST"], "from": ["10.0.0.0/8"]}, {"query": "wc-api"}],
            "limitCnt": 500, "admitPerSecond": 0.5, "sessionIdle": "5m", "sessionMax": "2h",
            "ticketIdle": "1m", "waitingMax": 5000, "joinsPerAddressPerMinute": 60,
            "sessionsPerAddressRatio": 0.1, "sharedAddresses": ["203.0.113.0/24"],
            "sessionRequestsPerSecond": 50, "sessionRequestsInFlight": 20,
            "successUrl": "https://shop.example.com/done", "waitingStatus": 200,
            "crawlers": "allow", "message": "곧 시작합니다",
            "queueWhen": {"sessions": 400, "arrivalsPerSecond": 40.5, "requestsPerSecond": 2000.0,
                "inFlight": 300, "latencyP95": "800ms", "failureRatio": 0.05, "window": "20s",
                "minRequests": 10, "releaseRatio": 0.5, "releaseAfter": "1m"},
            "cookie": {"domain": "example.com", "sameSite": "lax", "secure": "always"},
            "bypass": {"addresses": ["203.0.113.7"], "header": "X-Staff"},
            "bots": {"mode": "enforce", "allow": ["as:4766"], "block": ["country:KP", "agent:*scan*"],
                "logAt": 40, "endOfLineAt": 60, "blockAt": 80, "blockFor": "1h", "decoy": "/sale/list-2",
                "arrivalsPerAddressPerMinute": 10, "arrivalsPerNetworkPerMinute": 20,
                "arrivalsPerAsnPerMinute": 30, "arrivalsPerUserPerMinute": 5},
        })
    }

    #[test]
    fn what_the_api_says_comes_back_as_it_was_said() {
        let raw = sound(&filled());
        assert_eq!(serde_json::to_value(&raw).unwrap(), filled());
        let settings = resolved(&raw);
        assert_eq!(settings.limit, Some(500));
        assert_eq!(
            settings.queue_when.latency_p95,
            Some(Duration::from_millis(800))
        );
        assert_eq!(settings.exclude.len(), 3);
        assert_eq!(settings.cookie.domain.as_deref(), Some("example.com"));
    }

    #[test]
    fn every_key_is_in_the_schema_under_the_same_name() {
        let shown = serde_json::to_value(resolved(&sound(&filled()))).unwrap();
        let names: Vec<String> = EVENT_KEYS
            .iter()
            .map(|key| {
                key.alias
                    .map_or_else(|| super::super::faults::camel(key.name), str::to_owned)
            })
            .collect();
        let mut shown: Vec<&String> = shown.as_object().unwrap().keys().collect();
        let mut names: Vec<&String> = names.iter().collect();
        shown.sort();
        names.sort();
        assert_eq!(shown, names);
    }

    #[test]
    fn nothing_written_means_the_defaults() {
        let settings = resolved(&sound(&json!({ "eventId": "main" })));
        assert_eq!(settings, EventSettings::new(EventId::new("main").unwrap()));
        assert!(settings.paths.is_empty());
    }

    #[test]
    fn an_override_wins_field_by_field() {
        let base = sound(&filled());
        let over = sound(&json!({ "limit": 9, "queueWhen": { "inFlight": 7 } }));
        let both = RawEvent::merge(&base, &over);
        assert_eq!(both.limit, Some(9));
        assert_eq!(both.queue_when.in_flight, Some(7));
        assert_eq!(both.queue_when.sessions, Some(400));
        assert_eq!(both.mode, Some(Mode::Queue));
        assert_eq!(RawEvent::merge(&base, &RawEvent::default()), base);
    }

    #[test]
    fn null_in_a_patch_takes_an_override_back() {
        let mut faults = Faults::default();
        let held = sound(&filled());
        let patch = json!({ "limitCnt": null, "mode": "off", "queueWhen": { "inFlight": null }, "cookie": null });
        let raw = held.patched(&patch, &mut faults);
        assert!(faults.is_empty(), "{faults}");
        assert_eq!(raw.limit, None);
        assert_eq!(raw.mode, Some(Mode::Off));
        assert_eq!(raw.queue_when.in_flight, None);
        assert_eq!(raw.queue_when.sessions, Some(400));
        assert_eq!(raw.cookie, RawCookie::default());
        assert_eq!(raw.name, held.name);
    }

    #[test]
    fn bad_input_names_each_field_in_the_apis_spelling() {
        let (_, faults) = api(&json!({
            "limitCnt": 0, "queueWhen": { "latencyP95": "fast", "inflight": 1 },
            "sesionIdle": "5m", "session_idle": "5m", "bypass": { "secret": "x" }, "mode": "on",
        }));
        let mut fields: Vec<String> = faults
            .iter()
            .map(super::super::faults::Fault::field)
            .collect();
        fields.sort();
        assert_eq!(
            fields,
            [
                "bypass.secret",
                "limitCnt",
                "mode",
                "queueWhen.inflight",
                "queueWhen.latencyP95",
                "sesionIdle",
                "sessionIdle"
            ]
        );
        assert!(
            faults.to_string().contains("did you mean \"inFlight\"?"),
            "{faults}"
        );
    }

    #[test]
    fn one_limit_under_two_names_is_refused() {
        let (_, faults) = api(&json!({ "limit": 5, "limitCnt": 6 }));
        assert_eq!(faults.len(), 1);
    }

    #[test]
    fn an_event_is_checked_as_a_whole() {
        for (bad, field) in [
            (json!({}), "eventId"),
            (json!({ "eventId": "A" }), "eventId"),
            (json!({ "eventId": "a", "hosts": ["*.x.kr"] }), "hosts[0]"),
            (
                json!({ "eventId": "a", "hosts": ["x.kr", "X.kr"] }),
                "hosts[1]",
            ),
            (json!({ "eventId": "a", "paths": ["/a/../b"] }), "paths[0]"),
            (json!({ "eventId": "a", "exclude": ["/"] }), "exclude[0]"),
            (json!({ "eventId": "a", "exclude": [{}] }), "exclude[0]"),
            (
                json!({ "eventId": "a", "exclude": [{ "methods": ["POST"] }] }),
                "exclude[0]",
            ),
            (
                json!({ "eventId": "a", "exclude": [{ "path": "/a", "methods": ["post"] }] }),
                "exclude[0].methods[0]",
            ),
            (
                json!({ "eventId": "a", "exclude": [{ "query": "a=b" }] }),
                "exclude[0].query",
            ),
            (
                json!({ "eventId": "a", "sessionIdle": "2h" }),
                "sessionIdle",
            ),
            (
                json!({ "eventId": "a", "successUrl": "//evil" }),
                "successUrl",
            ),
            (
                json!({ "eventId": "a", "successUrl": "javascript:x" }),
                "successUrl",
            ),
            (
                json!({ "eventId": "a", "cookie": { "sameSite": "none", "secure": "never" } }),
                "cookie.sameSite",
            ),
            (
                json!({ "eventId": "a", "cookie": { "domain": "kr" } }),
                "cookie.domain",
            ),
            (
                json!({ "eventId": "a", "hosts": ["badexample.com"], "cookie": { "domain": "example.com" } }),
                "cookie.domain",
            ),
            (
                json!({ "eventId": "a", "bypass": { "addresses": ["office"] } }),
                "bypass.addresses[0]",
            ),
            (
                json!({ "eventId": "a", "bypass": { "header": "Cookie" } }),
                "bypass.header",
            ),
        ] {
            let mut faults = Faults::default();
            assert_eq!(sound(&bad).resolve("", &mut faults), None, "{bad}");
            let fields: Vec<String> = faults
                .iter()
                .map(super::super::faults::Fault::field)
                .collect();
            assert_eq!(fields, [field], "{bad}");
        }
    }

    #[test]
    fn what_tells_bots_is_checked_as_a_whole() {
        for (bad, field) in [
            (
                json!({ "eventId": "a", "bots": { "allow": ["as:1", "home"] } }),
                "bots.allow[1]",
            ),
            (
                json!({ "eventId": "a", "bots": { "block": ["as:1", "as:1"] } }),
                "bots.block[1]",
            ),
            (
                json!({ "eventId": "a", "paths": ["/"], "bots": { "decoy": "/a/../b" } }),
                "bots.decoy",
            ),
            (
                json!({ "eventId": "a", "paths": ["/sale"], "bots": { "decoy": "/sales" } }),
                "bots.decoy",
            ),
            (
                json!({ "eventId": "a", "bots": { "blockAt": 60 } }),
                "bots.blockAt",
            ),
        ] {
            let mut faults = Faults::default();
            assert_eq!(sound(&bad).resolve("", &mut faults), None, "{bad}");
            let fields: Vec<String> = faults
                .iter()
                .map(super::super::faults::Fault::field)
                .collect();
            assert_eq!(fields, [field], "{bad}");
        }
    }

    #[test]
    fn networks_have_names() {
        assert_eq!(
            networks("10.1.2.3/8").unwrap(),
            ["10.0.0.0/8".parse().unwrap()]
        );
        assert_eq!(networks("::1").unwrap(), ["::1/128".parse().unwrap()]);
        assert_eq!(networks("loopback").unwrap().len(), 2);
        assert_eq!(networks("private").unwrap().len(), 6);
        assert!(networks("10.0.0.0/33").is_err());
    }
}
