//! The configuration as it is in force: printed as a file, and as a hash.
//!
//! What is printed can be used as a file, but for the secrets. The hash lets
//! gateways of one store notice that they were given different files.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Config, Origin};
use crate::room::{
    event::EventSettings,
    faults::Faults,
    schema::{Spelling, check},
    secret::MASK,
    settings::EVENT_KEYS,
};

/// What may well differ between gateways of one store.
const LOCAL: [&str; 8] = [
    "listen",
    "proxy_protocol",
    "tls",
    "admin",
    "metrics",
    "state_dir",
    "log",
    "visitor",
];

impl Config {
    /// The effective settings as TOML, secrets hidden.
    #[must_use]
    pub fn print_effective(&self) -> String {
        let table: toml::Table = self
            .shape()
            .into_iter()
            .filter_map(|(name, value)| Some((name, toml(value)?)))
            .collect();
        toml::to_string(&table).unwrap_or_default()
    }

    /// Sixteen hex digits that are the same wherever the settings that
    /// gateways share are the same. Secrets, the doors, state and log are of
    /// no account.
    #[must_use]
    pub fn hash(&self) -> String {
        use std::fmt::Write as _;
        let mut shape = self.shape();
        shape.retain(|name, _| !LOCAL.contains(&name.as_str()));
        let digest = Sha256::digest(Value::Object(shape).to_string());
        digest.iter().take(8).fold(String::new(), |mut hash, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hash, "{byte:02x}");
            hash
        })
    }

    /// The shape of the file.
    fn shape(&self) -> Map<String, Value> {
        let Ok(Value::Object(mut shape)) = serde_json::to_value(self) else {
            return Map::new();
        };
        let texts =
            |origins: &[Origin]| -> Value { origins.iter().map(ToString::to_string).collect() };
        match self.origins.as_slice() {
            [one] => shape.insert("origin".to_owned(), one.to_string().into()),
            several => shape.insert("origins".to_owned(), texts(several)),
        };
        let mut events: Vec<Value> = self.events.iter().map(event).collect();
        for (event, origins) in events.iter_mut().zip(&self.event_origins) {
            if let Some(event) = event.as_object_mut().filter(|_| !origins.is_empty()) {
                event.insert("origins".to_owned(), texts(origins));
            }
        }
        shape.insert("event".to_owned(), events.into());
        shape
    }
}

/// One event with the file's keys. The API's spelling has no secrets, so the
/// mask is put in afterwards.
fn event(settings: &EventSettings) -> Value {
    let shown = serde_json::to_value(settings).unwrap_or_default();
    let mut shape = check(
        &shown,
        EVENT_KEYS,
        Spelling::Api,
        "",
        &mut Faults::default(),
    );
    if let (Some(_), Some(Value::Object(bypass))) =
        (&settings.bypass.secret, shape.get_mut("bypass"))
    {
        bypass.insert("secret".to_owned(), MASK.into());
    }
    Value::Object(shape)
}

/// The same value in TOML, which has no null.
fn toml(value: Value) -> Option<toml::Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => flag.into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64()?.into(),
        },
        Value::String(text) => text.into(),
        Value::Array(list) => toml::Value::Array(list.into_iter().filter_map(toml).collect()),
        Value::Object(map) => toml::Value::Table(
            map.into_iter()
                .filter_map(|(name, value)| Some((name, toml(value)?)))
                .collect(),
        ),
    })
}
