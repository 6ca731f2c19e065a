//! The gateway's configuration: `gateway.toml` and the environment.
//!
//! What the file says (`raw`) and what the program uses ([`Config`]) are two
//! things; between them every fault is found, and all are reported at once.

mod effective;
mod environment;
mod front;
mod log;
mod origins;
pub mod raw;
mod resolve;
mod secrets;
mod tracking;
mod visitor;

use std::{fmt, net::SocketAddr, path::Path, path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use front::Certificates;
pub use log::{AccessFormat, Log, LogFormat, LogLevel};
pub use visitor::Visitor;

pub use tracking::{Route, Statistics};

pub use origins::{Origin, OriginCheck, OriginHealth, OriginHost, OriginPool, OriginTls};

pub use crate::room::decision::OnFailure;
pub use crate::room::faults::{Fault, Faults};
use crate::room::{
    event::EventSettings,
    schema::{Spelling, check},
    secret::{MASK, Secret},
    settings::RawEvent,
    units,
};
pub use crate::tls::{Files, Oldest};

/// Where the file is looked for, in this order, when none is named.
pub const FILES: [&str; 2] = ["gateway.toml", "/etc/sumun/gateway.toml"];

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// What the program uses. Serialises to the shape of the file, secrets masked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what the file says is or is not so"
)]
pub struct Config {
    /// The public door.
    pub listen: SocketAddr,
    /// Where requests go; at least one.
    #[serde(skip)]
    pub origins: Vec<Origin>,
    /// The `Host` that the origin sees.
    pub origin_host: OriginHost,
    /// Whether HTTP/2 may be spoken to origins.
    pub origin_http2: bool,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// A header with the client's address, believed from trusted proxies only.
    pub client_address_header: Option<String>,
    /// The header that carries each request's id; `None`: requests get none.
    pub request_id_header: Option<String>,
    /// Whether trusted proxies begin each connection with a PROXY header.
    pub proxy_protocol: bool,
    /// Hosts that pass without any event, in normal form.
    pub pass_hosts: Vec<String>,
    /// Whether the origin sees our cookies and `Sumun-Token`.
    pub forward_token: bool,
    /// Whether visitors may speak HTTP/2.
    pub http2: bool,
    /// Where state is kept over restarts; `None` keeps nothing.
    pub state_dir: Option<PathBuf>,
    /// From the signal to stop until no more connections are accepted.
    #[serde(with = "units::as_text")]
    pub drain_delay: Duration,
    /// After that, how long running requests may take.
    #[serde(with = "units::as_text")]
    pub drain_timeout: Duration,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// `[limits]`.
    pub limits: Limits,
    /// `[origin_pool]`.
    pub origin_pool: OriginPool,
    /// `[origin_health]`.
    pub origin_health: OriginHealth,
    /// `[origin_check]`.
    pub origin_check: OriginCheck,
    /// `[origin_tls]`.
    pub origin_tls: OriginTls,
    /// `[log]`.
    pub log: Log,
    /// `[visitor]`.
    pub visitor: Visitor,
    /// `[tls]`; without it the public door speaks plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// `[admin]`.
    pub admin: Admin,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[api]`.
    pub api: Api,
    /// `[store]`.
    pub store: Store,
    /// `[signing]`.
    pub signing: Signing,
    /// `[statistics]`.
    pub statistics: Statistics,
    /// Each `[[route]]`, in order.
    #[serde(rename = "route")]
    pub routes: Vec<Route>,
    /// Each `[[event]]`, resolved.
    #[serde(skip)]
    pub events: Vec<EventSettings>,
    /// Each `[[event]]` as written, in the same order: the base that
    /// overrides of the API are laid over.
    #[serde(skip)]
    pub written_events: Vec<RawEvent>,
    /// The origins of each `[[event]]`, in the same order; none: the gateway's.
    #[serde(skip)]
    pub event_origins: Vec<Vec<Origin>>,
}

/// `[tls]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// The first one is for those who ask for no name that another is for.
    pub certificates: Vec<Files>,
    /// The oldest version that is spoken.
    pub min_version: Oldest,
}

/// `[timeouts]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// To connect to the origin.
    #[serde(with = "units::as_text")]
    pub connect: Duration,
    /// From the request sent to the first byte of the answer.
    #[serde(with = "units::as_text")]
    pub first_byte: Duration,
    /// Between bytes, and of a connection without a request.
    #[serde(with = "units::as_text")]
    pub idle: Duration,
    /// To receive a request's head.
    #[serde(with = "units::as_text")]
    pub head: Duration,
    /// Of a tunnel without bytes either way.
    #[serde(with = "units::as_text")]
    pub tunnel_idle: Duration,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Connections at the public door.
    pub connections: u64,
    /// Of these from one address.
    pub connections_per_address: u64,
    /// Bytes of a request's head.
    #[serde(serialize_with = "as_size")]
    pub header_bytes: usize,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Admin {
    /// The admin door.
    pub listen: SocketAddr,
    /// The bearer token; `None` only at a loopback address.
    pub token: Option<Secret>,
}

/// `[metrics]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// A door of its own; `None`: on the admin door.
    pub listen: Option<SocketAddr>,
}

/// `[api]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Api {
    /// Keys for calls by `id`, and from servers.
    pub keys: Vec<ApiKey>,
    /// Origins whose pages may read the answers.
    pub cors_origins: Vec<String>,
}

/// A key of the public API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiKey {
    /// Whose it is, for logs.
    pub id: String,
    /// What the caller sends.
    pub secret: Secret,
}

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Store {
    /// Where state is shared.
    pub url: StoreUrl,
    /// What every key begins with.
    pub prefix: String,
    /// What happens while it is away.
    pub on_failure: OnFailure,
    /// For one operation.
    #[serde(with = "units::as_text")]
    pub timeout: Duration,
    /// A file of PEM certificates to trust instead of the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// Where state is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// Nowhere: embedded.
    Memory,
    /// A Redis or Valkey server; the URL may hold a password.
    Redis(Secret),
}

/// `[signing]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Signing {
    /// The first signs, all verify. Empty: a key is made and kept in `state_dir`.
    pub keys: Vec<SigningKey>,
}

/// A key that signs tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// `kid` of the tokens.
    pub id: String,
    /// At least 32 bytes.
    pub secret: Vec<u8>,
}

impl Config {
    /// Reads a file and lays the variables over it.
    ///
    /// # Errors
    /// All faults, when there is any.
    pub fn load(
        file: &Path,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Faults> {
        Self::parse(&text(file)?, variables)
    }

    /// The same while the gateway runs. The files of `[tls]` are not looked at:
    /// one that is bad at the moment says nothing against the settings, and who
    /// watches the certificates tells of it.
    ///
    /// # Errors
    /// All faults, when there is any.
    pub fn load_again(
        file: &Path,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Faults> {
        Self::resolve(&text(file)?, variables, Certificates::Named)
    }

    /// Reads the text of a file and lays the variables over it.
    ///
    /// # Errors
    /// All faults, when there is any.
    pub fn parse(
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Faults> {
        Self::resolve(text, variables, Certificates::Sound)
    }

    /// What is no fault and yet dangerous: to be said wherever the file is read.
    pub fn warnings(&self) -> impl Iterator<Item = &'static str> {
        let mut all = self
            .origins
            .iter()
            .chain(self.event_origins.iter().flatten());
        let warning = self.origin_tls.warning();
        warning.filter(|_| all.any(|origin| origin.tls)).into_iter()
    }

    fn resolve(
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
        certificates: Certificates,
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut file = written(text)?;
        let sources = environment::lay_over(&mut file, variables, &mut faults);
        let mut sound = check(
            &Value::Object(file),
            raw::FILE_KEYS,
            Spelling::File,
            "",
            &mut faults,
        );
        faults.settle();
        let origins = raw::take_origins(&mut sound);
        let raw = serde_json::from_value(Value::Object(sound)).unwrap_or_else(|error| {
            faults.add("gateway.toml", "", error.to_string());
            raw::RawFile::default()
        });
        let config = resolve::config((raw, &origins), certificates, &mut faults);
        faults.name_sources(|path| {
            sources.iter().find_map(|(set, name)| {
                let below = path.strip_prefix(set.as_str())?;
                (below.is_empty() || below.starts_with(['[', '.'])).then(|| name.clone())
            })
        });
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(faults),
        }
    }

    /// Where the admin door is, and nothing else of a file: whoever has to give an
    /// order is not to be held up by a fault elsewhere in it.
    ///
    /// # Errors
    /// All faults of `[admin]`, or the one of a text that is no TOML.
    pub fn admin_of(
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Admin, Faults> {
        let mut faults = Faults::default();
        let mut file = written(text)?;
        file.retain(|name, _| name == "admin");
        let of_admin = variables.filter(|(name, _)| name.starts_with("SUMUN_ADMIN_"));
        environment::lay_over(&mut file, of_admin, &mut faults);
        let (file, spelling) = (Value::Object(file), Spelling::File);
        let mut sound = check(&file, raw::FILE_KEYS, spelling, "", &mut faults);
        let admin = sound.remove("admin").unwrap_or_else(|| Map::new().into());
        let admin = serde_json::from_value(admin).unwrap_or_else(|error| {
            faults.add("admin", "", error.to_string());
            raw::RawAdmin::default()
        });
        let admin = resolve::admin(admin, &mut faults);
        match admin {
            Some(admin) if faults.is_empty() => Ok(admin),
            _ => Err(faults),
        }
    }

    /// Without a file: one event, `main`, for the whole site. Without a limit
    /// it measures and queues nobody. What is `None` has its default.
    ///
    /// # Errors
    /// All faults of the arguments and of the variables.
    pub fn from_origin_only(
        origin: &str,
        listen: Option<&str>,
        limit: Option<u64>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Faults> {
        let mut event = toml::Table::new();
        event.insert("id".to_owned(), "main".into());
        if let Some(limit) = limit {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            event.insert("limit".to_owned(), limit.into());
        }
        let mut file = toml::Table::new();
        file.insert("origin".to_owned(), origin.into());
        if let Some(listen) = listen {
            file.insert("listen".to_owned(), listen.into());
        }
        let events = toml::Value::Array(vec![toml::Value::Table(event)]);
        file.insert("event".to_owned(), events);
        Self::parse(&file.to_string(), variables)
    }
}

/// What a file says, key by key.
fn written(text: &str) -> Result<Map<String, Value>, Faults> {
    match text.parse::<toml::Table>() {
        Ok(table) => Ok(table
            .into_iter()
            .map(|(name, value)| (name, json(value)))
            .collect()),
        Err(error) => {
            let (line, column) = place(text, error.span().map_or(0, |span| span.start));
            let remedy = format!("no TOML: {}", error.message().replace('\n', ", "));
            let mut faults = Faults::default();
            faults.add(&format!("line {line}, column {column}"), "", remedy);
            Err(faults)
        }
    }
}

/// Whether nothing on a terminal shall be coloured (<https://no-color.org>).
#[must_use]
pub fn is_colour_unwanted() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|said| !said.is_empty())
}

/// The file named, or the first of [`FILES`] that is there.
#[must_use]
pub fn found(named: Option<&Path>) -> Option<PathBuf> {
    let usual = || FILES.into_iter().map(Path::new).find(|file| file.exists());
    named.or_else(usual).map(Path::to_owned)
}

/// What the file says, to be parsed.
///
/// # Errors
/// When it cannot be read.
pub fn text(file: &Path) -> Result<String, Faults> {
    secrets::read(file, FILE_MAX).map_err(|error| {
        let mut faults = Faults::default();
        faults.add(&file.display().to_string(), "", error);
        faults
    })
}

/// The process's own `SUMUN_…` variables. What is not UTF-8 is replaced, and
/// then refused where it stands.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        name.starts_with("SUMUN_")
            .then(|| (name, value.to_string_lossy().into_owned()))
    })
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(match self {
            Self::Memory => "memory:",
            Self::Redis(_) => MASK,
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, {MASK})", self.id)
    }
}

impl Serialize for SigningKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = to.serialize_map(Some(2))?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("secret", MASK)?;
        map.end()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn as_size<S: Serializer>(bytes: &usize, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&units::size_text(u64::try_from(*bytes).unwrap_or(u64::MAX)))
}

/// Line and column of a byte, both from 1; the column in characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

/// The same value in JSON; what JSON cannot hold (`nan`, dates) as text, to
/// be refused where it stands.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .map_or_else(|| number.to_string().into(), Value::Number),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(list) => list.into_iter().map(json).collect(),
        toml::Value::Table(table) => table
            .into_iter()
            .map(|(name, value)| (name, json(value)))
            .collect(),
    }
}
