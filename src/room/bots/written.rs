//! What was written in `[event.bots]`, and what it amounts to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::list::List;
use super::{BotMode, BotSettings};
use crate::room::faults::Faults;
use crate::room::paths;
use crate::room::schema::{Key, Kind, join, key};
use crate::room::units;

/// The keys of `[event.bots]`.
pub const BOT_KEYS: &[Key] = &[
    key("mode", Kind::Word(&["off", "detect", "enforce"])),
    key("allow", Kind::Texts),
    key("block", Kind::Texts),
    key("log_at", Kind::Count(0, 100)),
    key("end_of_line_at", Kind::Count(0, 100)),
    key("block_at", Kind::Count(0, 100)),
    key("block_for", Kind::Duration(1_000, 7 * 86_400_000)),
    key("decoy", Kind::Text(200)),
    key("arrivals_per_address_per_minute", Kind::Count(1, 1_000_000)),
    key("arrivals_per_network_per_minute", Kind::Count(1, 1_000_000)),
    key("arrivals_per_asn_per_minute", Kind::Count(1, 1_000_000)),
    key("arrivals_per_user_per_minute", Kind::Count(1, 1_000_000)),
];

/// What was written; everything may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"), deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the BotSettings field of its name")]
pub struct RawBots {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<BotMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_of_line_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_at: Option<u64>,
    #[serde(with = "units::as_optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_for: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals_per_address_per_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals_per_network_per_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals_per_asn_per_minute: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals_per_user_per_minute: Option<u64>,
}

impl RawBots {
    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The settings below `path`, of an event that covers `covered`.
    pub(in crate::room) fn resolve(
        &self,
        path: &str,
        covered: &[String],
        faults: &mut Faults,
    ) -> BotSettings {
        let default = BotSettings::default();
        let mut list = |name, written: Option<&Vec<String>>| {
            let at = join(path, name);
            List::new(entries(&at, written.map_or(&[][..], Vec::as_slice), faults))
        };
        let (allow, block) = (
            list("bots.allow", self.allow.as_ref()),
            list("bots.block", self.block.as_ref()),
        );
        let settings = BotSettings {
            mode: self.mode.unwrap_or_default(),
            allow,
            block,
            log_at: self.log_at.unwrap_or(default.log_at),
            end_of_line_at: self.end_of_line_at.unwrap_or(default.end_of_line_at),
            block_at: self.block_at.unwrap_or(default.block_at),
            block_for: self.block_for.unwrap_or(default.block_for),
            decoy: self.decoy(path, covered, faults),
            arrivals_per_address_per_minute: self
                .arrivals_per_address_per_minute
                .unwrap_or(default.arrivals_per_address_per_minute),
            arrivals_per_network_per_minute: self
                .arrivals_per_network_per_minute
                .unwrap_or(default.arrivals_per_network_per_minute),
            arrivals_per_asn_per_minute: self.arrivals_per_asn_per_minute,
            arrivals_per_user_per_minute: self
                .arrivals_per_user_per_minute
                .unwrap_or(default.arrivals_per_user_per_minute),
        };
        settings.in_order(path, faults);
        settings
    }

    fn decoy(&self, path: &str, covered: &[String], faults: &mut Faults) -> Option<String> {
        let text = self.decoy.as_deref().filter(|text| !text.is_empty())?;
        let at = join(path, "bots.decoy");
        // It is compared as it is asked for, and stands in a page as it is.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
        let remedy = "write a path of letters, digits and - _ . ~ that nothing links to, \
                      like \"/__sumun-list\"";
        let known = paths::configured(text).ok().filter(|known| known == text);
        let is_sound = text.bytes().all(is_plain)
            && text.len() > 1
            && !text.ends_with('/')
            && !text.starts_with("/__sumun/");
        if !is_sound || known.is_none() {
            faults.text(&at, text, remedy);
            return None;
        }
        let covers = |path: &String| {
            let rest = text.strip_prefix(path.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !covered.iter().any(covers) {
            let remedy = "no path of the event covers it: write one below paths";
            faults.text(&at, text, remedy);
            return None;
        }
        known
    }
}

impl BotSettings {
    /// What is harder needs more evidence.
    fn in_order(&self, path: &str, faults: &mut Faults) {
        let steps = [
            ("log_at", self.log_at),
            ("end_of_line_at", self.end_of_line_at),
            ("block_at", self.block_at),
        ];
        let mut before = ("", 0);
        for (name, at) in steps.into_iter().filter(|(_, at)| *at > 0) {
            if at < before.1 {
                let at_path = join(path, &format!("bots.{name}"));
                let remedy = format!("write at least {}, which is {}", before.0, before.1);
                faults.add(&at_path, &at.to_string(), remedy);
            }
            before = (name, at);
        }
    }
}

/// The entries of a list, each fault noted.
fn entries(path: &str, written: &[String], faults: &mut Faults) -> Vec<Entry> {
    let mut sound: Vec<Entry> = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        let at = format!("{path}[{index}]");
        match Entry::parse(text) {
            Ok(entry) if sound.contains(&entry) => {
                faults.text(&at, text, "stands here twice: remove one");
            }
            Ok(entry) => sound.push(entry),
            Err(remedy) => faults.text(&at, text, remedy),
        }
    }
    sound
}
