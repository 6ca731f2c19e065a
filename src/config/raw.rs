//! What the file says: its keys, their kinds and ranges, and nothing else.
//!
//! Every key may be missing here; what that means is decided in `resolve`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::room::{
    schema::{Key, Kind, key},
    secret::Secret,
    settings::{EVENT_KEYS, RawEvent},
    units,
};
use crate::tls::Oldest;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// The keys of `gateway.toml`.
pub const FILE_KEYS: &[Key] = &[
    key("listen", Kind::Text(100)),
    key("origin", Kind::Text(500)),
    key("origins", Kind::Texts),
    key("origin_host", Kind::Text(253)),
    key("origin_http2", Kind::Flag),
    key("trusted_proxies", Kind::Texts),
    key("client_address_header", Kind::Text(100)),
    key("request_id_header", Kind::Text(100)),
    key("proxy_protocol", Kind::Flag),
    key("pass_hosts", Kind::Texts),
    key("forward_token", Kind::Flag),
    key("http2", Kind::Flag),
    key("state_dir", Kind::Text(4000)),
    key("drain_delay", Kind::Duration(0, 5 * MINUTE)),
    key("drain_timeout", Kind::Duration(0, HOUR)),
    key("timeouts", Kind::Table(TIMEOUT_KEYS)),
    key("limits", Kind::Table(LIMIT_KEYS)),
    key("log", Kind::Table(LOG_KEYS)),
    key("visitor", Kind::Table(VISITOR_KEYS)),
    key("tls", Kind::Table(TLS_KEYS)),
    key("admin", Kind::Table(ADMIN_KEYS)),
    key("metrics", Kind::Table(&[key("listen", Kind::Text(100))])),
    key("api", Kind::Table(API_KEYS)),
    key("store", Kind::Table(STORE_KEYS)),
    key(
        "signing",
        Kind::Table(&[key("keys", Kind::Tables(NAMED_SECRET_KEYS))]),
    ),
    key("origin_pool", Kind::Table(ORIGIN_POOL_KEYS)),
    key("origin_health", Kind::Table(ORIGIN_HEALTH_KEYS)),
    key("origin_check", Kind::Table(ORIGIN_CHECK_KEYS)),
    key("origin_tls", Kind::Table(ORIGIN_TLS_KEYS)),
    key("statistics", Kind::Table(STATISTICS_KEYS)),
    key("route", Kind::Tables(ROUTE_KEYS)),
    key("event", Kind::Tables(FILE_EVENT_KEYS)),
];

/// The keys of `[[event]]` in the file: those of the API, and what it may not
/// change, since it says where visitors are sent on.
pub(super) const FILE_EVENT_KEYS: &[Key] = &file_event_keys();

const fn file_event_keys() -> [Key; EVENT_KEYS.len() + 1] {
    let mut keys = [key("origins", Kind::Texts); EVENT_KEYS.len() + 1];
    let (rest, _) = keys.split_at_mut(EVENT_KEYS.len());
    rest.copy_from_slice(EVENT_KEYS);
    keys
}

const TIMEOUT_KEYS: &[Key] = &[
    key("connect", Kind::Duration(10, 5 * MINUTE)),
    key("first_byte", Kind::Duration(10, HOUR)),
    key("idle", Kind::Duration(10, HOUR)),
    key("head", Kind::Duration(10, 5 * MINUTE)),
    key("tunnel_idle", Kind::Duration(1000, 24 * HOUR)),
];

const LIMIT_KEYS: &[Key] = &[
    key("connections", Kind::Count(1, 10_000_000)),
    key("connections_per_address", Kind::Count(1, 10_000_000)),
    key("header_bytes", Kind::Size(1 << 10, 1 << 20)),
];

const ORIGIN_POOL_KEYS: &[Key] = &[
    key("connections", Kind::Count(0, 1_000_000)),
    key("connection_wait", Kind::Duration(0, 5 * MINUTE)),
    key("dns_ttl", Kind::Duration(1000, HOUR)),
    key("affinity_cookie", Kind::Text(64)),
];

const ORIGIN_HEALTH_KEYS: &[Key] = &[
    key("eject_after", Kind::Count(0, 1000)),
    key("eject_5xx", Kind::Flag),
    key("eject_time", Kind::Duration(100, HOUR)),
    key("eject_time_max", Kind::Duration(100, 24 * HOUR)),
    key("eject_share", Kind::Number(0.0, 1.0)),
    key("slow_start", Kind::Duration(0, HOUR)),
];

const ORIGIN_CHECK_KEYS: &[Key] = &[
    key("path", Kind::Text(2000)),
    key("interval", Kind::Duration(100, HOUR)),
    key("timeout", Kind::Duration(10, MINUTE)),
    key("status", Kind::Texts),
    key("fall", Kind::Count(1, 100)),
    key("rise", Kind::Count(1, 100)),
];

const ORIGIN_TLS_KEYS: &[Key] = &[
    key("ca_file", Kind::Text(4000)),
    key("verify", Kind::Flag),
    key("server_name", Kind::Text(253)),
];

const LOG_KEYS: &[Key] = &[
    key("format", Kind::Word(&["auto", "human", "json"])),
    key(
        "level",
        Kind::Word(&["error", "warn", "info", "debug", "trace"]),
    ),
    key("access", Kind::Flag),
    key("access_file", Kind::Text(4000)),
    key("access_format", Kind::Word(&["auto", "json", "combined"])),
    key("access_sample", Kind::Number(0.0, 1.0)),
];

const VISITOR_KEYS: &[Key] = &[
    key("statistics", Kind::Flag),
    key("city_db", Kind::Text(4000)),
    key("asn_db", Kind::Text(4000)),
    key("user_from", Kind::Text(200)),
];

const TLS_KEYS: &[Key] = &[
    key("cert_file", Kind::Text(4000)),
    key("key_file", Kind::Text(4000)),
    key("certificates", Kind::Tables(CERTIFICATE_KEYS)),
    key("min_version", Kind::Word(&["1.2", "1.3"])),
];

const CERTIFICATE_KEYS: &[Key] = &[
    key("cert_file", Kind::Text(4000)),
    key("key_file", Kind::Text(4000)),
];

const ADMIN_KEYS: &[Key] = &[
    key("listen", Kind::Text(100)),
    key("token", Kind::Secret),
    key("token_file", Kind::Secret),
];

const API_KEYS: &[Key] = &[
    key("keys", Kind::Tables(NAMED_SECRET_KEYS)),
    key("cors_origins", Kind::Texts),
];

const STORE_KEYS: &[Key] = &[
    key("url", Kind::Secret),
    key("url_file", Kind::Secret),
    key("prefix", Kind::Text(64)),
    key("on_failure", Kind::Word(&["hold", "local", "open"])),
    key("timeout", Kind::Duration(10, 10_000)),
    key("ca_file", Kind::Text(4000)),
];

const DAY: u64 = 24 * HOUR;

const STATISTICS_KEYS: &[Key] = &[
    key("enabled", Kind::Flag),
    key("seconds", Kind::Duration(10 * MINUTE, DAY)),
    key("minutes", Kind::Duration(HOUR, 14 * DAY)),
    key("hours", Kind::Duration(DAY, 400 * DAY)),
];

const ROUTE_KEYS: &[Key] = &[
    key("pattern", Kind::Text(500)),
    key("event", Kind::Text(100)),
];

const NAMED_SECRET_KEYS: &[Key] = &[
    key("id", Kind::Text(100)),
    key("secret", Kind::Secret),
    key("secret_file", Kind::Secret),
];

/// Takes the origins out of each event of what was found sound: the rest is
/// what the API knows too.
pub(super) fn take_origins(file: &mut Map<String, Value>) -> Vec<Vec<String>> {
    let Some(Value::Array(events)) = file.get_mut("event") else {
        return Vec::new();
    };
    let taken = events.iter_mut().map(|event| {
        let origins = event
            .as_object_mut()
            .and_then(|keys| keys.remove("origins"));
        let Some(Value::Array(origins)) = origins else {
            return Vec::new();
        };
        let text = |origin: &Value| origin.as_str().map(str::to_owned);
        origins.iter().filter_map(text).collect()
    });
    taken.collect()
}

/// `gateway.toml` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFile {
    pub(super) listen: Option<String>,
    pub(super) origin: Option<String>,
    pub(super) origins: Vec<String>,
    pub(super) origin_host: Option<String>,
    pub(super) origin_http2: bool,
    pub(super) trusted_proxies: Option<Vec<String>>,
    pub(super) client_address_header: Option<String>,
    pub(super) request_id_header: Option<String>,
    pub(super) proxy_protocol: bool,
    pub(super) pass_hosts: Vec<String>,
    pub(super) forward_token: bool,
    pub(super) http2: Option<bool>,
    pub(super) state_dir: Option<String>,
    #[serde(with = "units::as_optional_text")]
    pub(super) drain_delay: Option<Duration>,
    #[serde(with = "units::as_optional_text")]
    pub(super) drain_timeout: Option<Duration>,
    pub(super) timeouts: RawTimeouts,
    pub(super) limits: RawLimits,
    pub(super) log: RawLog,
    pub(super) visitor: RawVisitor,
    pub(super) tls: Option<RawTls>,
    pub(super) admin: RawAdmin,
    pub(super) metrics: RawMetrics,
    pub(super) api: RawApi,
    pub(super) store: RawStore,
    pub(super) signing: RawSigning,
    pub(super) origin_pool: RawOriginPool,
    pub(super) origin_health: RawOriginHealth,
    pub(super) origin_check: RawOriginCheck,
    pub(super) origin_tls: RawOriginTls,
    pub(super) statistics: RawStatistics,
    pub(super) route: Vec<RawRoute>,
    pub(super) event: Vec<RawEvent>,
}

/// `[statistics]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStatistics {
    pub(super) enabled: Option<bool>,
    #[serde(with = "units::as_optional_text")]
    pub(super) seconds: Option<Duration>,
    #[serde(with = "units::as_optional_text")]
    pub(super) minutes: Option<Duration>,
    #[serde(with = "units::as_optional_text")]
    pub(super) hours: Option<Duration>,
}

/// `[[route]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRoute {
    pub(super) pattern: Option<String>,
    pub(super) event: Option<String>,
}

/// `[timeouts]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTimeouts {
    #[serde(with = "units::as_optional_text")]
    pub(super) connect: Option<Duration>,
    #[serde(with = "units::as_optional_text")]
    pub(super) first_byte: Option<Duration>,
    #[serde(with = "units::as_optional_text")]
    pub(super) idle: Option<Duration>,
    #[serde(with = "units::as_optional_text")]
    pub(super) head: Option<Duration>,
    #[serde(with = "units::as_optional_text")]
    pub(super) tunnel_idle: Option<Duration>,
}

/// `[limits]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) connections: Option<u64>,
    pub(super) connections_per_address: Option<u64>,
    pub(super) header_bytes: Option<String>,
}

/// `[origin_pool]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOriginPool {
    pub(super) connections: Option<usize>,
    #[serde(with = "units::as_optional_text")]
    pub(super) connection_wait: Option<Duration>,
    #[serde(with = "units::as_optional_text")]
    pub(super) dns_ttl: Option<Duration>,
    pub(super) affinity_cookie: Option<String>,
}

/// `[origin_health]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOriginHealth {
    pub(super) eject_after: Option<u32>,
    pub(super) eject_5xx: bool,
    #[serde(with = "units::as_optional_text")]
    pub(super) eject_time: Option<Duration>,
    #[serde(with = "units::as_optional_text")]
    pub(super) eject_time_max: Option<Duration>,
    pub(super) eject_share: Option<f64>,
    #[serde(with = "units::as_optional_text")]
    pub(super) slow_start: Option<Duration>,
}

/// `[origin_check]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOriginCheck {
    pub(super) path: Option<String>,
    #[serde(with = "units::as_optional_text")]
    pub(super) interval: Option<Duration>,
    #[serde(with = "units::as_optional_text")]
    pub(super) timeout: Option<Duration>,
    pub(super) status: Option<Vec<String>>,
    pub(super) fall: Option<u32>,
    pub(super) rise: Option<u32>,
}

/// `[origin_tls]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOriginTls {
    pub(super) ca_file: Option<PathBuf>,
    pub(super) verify: Option<bool>,
    pub(super) server_name: Option<String>,
}

/// `[log]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub(super) format: Option<super::LogFormat>,
    pub(super) level: Option<super::LogLevel>,
    pub(super) access: Option<bool>,
    pub(super) access_file: Option<PathBuf>,
    pub(super) access_format: Option<super::AccessFormat>,
    pub(super) access_sample: Option<f64>,
}

/// `[visitor]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawVisitor {
    pub(super) statistics: Option<bool>,
    pub(super) city_db: Option<PathBuf>,
    pub(super) asn_db: Option<PathBuf>,
    pub(super) user_from: Option<String>,
}

/// `[tls]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) certificates: Vec<RawCertificate>,
    pub(super) min_version: Option<Oldest>,
}

/// `{ cert_file, key_file }`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCertificate {
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
}

/// `[admin]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAdmin {
    pub(super) listen: Option<String>,
    pub(super) token: Option<Secret>,
    pub(super) token_file: Option<String>,
}

/// `[metrics]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawMetrics {
    pub(super) listen: Option<String>,
}

/// `[api]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawApi {
    pub(super) keys: Vec<RawNamedSecret>,
    pub(super) cors_origins: Vec<String>,
}

/// `[store]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStore {
    pub(super) url: Option<Secret>,
    pub(super) url_file: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) on_failure: Option<super::OnFailure>,
    #[serde(with = "units::as_optional_text")]
    pub(super) timeout: Option<Duration>,
    pub(super) ca_file: Option<PathBuf>,
}

/// `[signing]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSigning {
    pub(super) keys: Vec<RawNamedSecret>,
}

/// `{ id, secret }` or `{ id, secret_file }`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNamedSecret {
    pub(super) id: Option<String>,
    pub(super) secret: Option<Secret>,
    pub(super) secret_file: Option<String>,
}
