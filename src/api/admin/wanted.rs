//! What a caller wants an event to be: which version it was changed from, and
//! the overrides that its words amount to.
//!
//! Overrides hold only what differs from the file, so that what an operator
//! reads, edits and writes back does not nail down everything else.

use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::Door;
use super::problem::Problem;
use crate::room::event::{EventId, EventSettings};
use crate::room::faults::Faults;
use crate::room::routes::{Clash, clashes};
use crate::room::schema::Spelling;
use crate::room::secret::MASK;
use crate::room::settings::RawEvent;
use crate::store::StoredEvent;

/// What an event's document shows and nobody sets: passed over in a body, so
/// that an event can be read, edited and written back.
const SHOWN_ONLY: [&str; 7] = [
    "status",
    "source",
    "overrides",
    "version",
    "createdAt",
    "updatedAt",
    "generation",
];

/// The versions that a change may be made from (`If-Match`, RFC 9110 §13.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    /// Any: nothing was asked.
    Any,
    /// Only these.
    Only(Vec<u64>),
}

impl Versions {
    /// Reads `If-Match`. `*` asks for an event that exists, as every change
    /// of one does anyway.
    ///
    /// # Errors
    /// When it is no list of entity tags.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut versions = Vec::new();
        let mut asked = false;
        for value in headers.get_all(header::IF_MATCH) {
            asked = true;
            for tag in value.to_str().unwrap_or_default().split(',') {
                match tag.trim() {
                    "*" => return Ok(Self::Any),
                    tag => versions.extend(version(tag)?),
                }
            }
        }
        Ok(if asked {
            Self::Only(versions)
        } else {
            Self::Any
        })
    }

    /// Whether a change may be made from this version.
    ///
    /// # Errors
    /// When somebody else changed the event.
    pub(super) fn allow(&self, present: u64) -> Result<(), Problem> {
        match self {
            Self::Only(versions) if !versions.contains(&present) => {
                let (status, title) = (StatusCode::PRECONDITION_FAILED, "The event has changed");
                let detail = format!("its version is {present}: read it again before changing it");
                Err(Problem::new(status, "version", title, detail)
                    .header(header::ETAG, super::events::etag(present)))
            }
            _ => Ok(()),
        }
    }
}

/// The version of an entity tag; `None` for one that was never ours.
fn version(tag: &str) -> Result<Option<u64>, Problem> {
    let (weak, opaque) = match tag.strip_prefix("W/") {
        Some(rest) => (true, rest),
        None => (false, tag),
    };
    let inner = opaque.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    let Some(inner) = inner else {
        let detail = "If-Match takes what ETag gave: a version in quotes, like \"3\"";
        return Err(Problem::malformed(detail));
    };
    // A weak tag matches nothing here (RFC 9110 §13.1.1: strong comparison).
    Ok(inner.parse().ok().filter(|_| !weak))
}

/// A whole event, as a body gives it: its id, if given, and its settings.
pub(super) struct Words {
    raw: RawEvent,
    faults: Faults,
}

impl Words {
    /// Reads a body that says everything about an event.
    pub(super) fn whole(body: &Map<String, Value>) -> Self {
        let mut faults = Faults::default();
        let body = Value::Object(settable(body.clone()));
        let raw = RawEvent::read(&body, Spelling::Api, "", &mut faults);
        Self { raw, faults }
    }

    /// Reads a body that changes what is there (RFC 7396).
    pub(super) fn patch(stored: Option<&StoredEvent>, body: &Map<String, Value>) -> Self {
        // What an earlier version kept and this one cannot use is dropped.
        let held = match stored {
            Some(stored) => {
                let mut unusable = Faults::default();
                RawEvent::read(&stored.overrides, Spelling::Api, "", &mut unusable)
            }
            None => RawEvent::default(),
        };
        let mut faults = Faults::default();
        let body = Value::Object(settable(body.clone()));
        let raw = held.patched(&body, &mut faults);
        Self { raw, faults }
    }

    /// The id of an event to be made.
    ///
    /// # Errors
    /// Everything that is wrong, when the id is.
    pub(super) fn id(&self) -> Result<EventId, Problem> {
        let mut faults = self.faults.clone();
        faults.settle();
        let text = self.raw.id.as_deref().unwrap_or_default();
        match EventId::new(text) {
            Ok(id) => Ok(id),
            Err(error) if self.raw.id.is_some() => {
                faults.text("id", text, error.to_string());
                Err(Problem::faults(&faults))
            }
            Err(error) => {
                faults.add("id", "", error.to_string());
                Err(Problem::faults(&faults))
            }
        }
    }

    /// The overrides of this event, checked with the file beneath them.
    ///
    /// # Errors
    /// All faults, by field.
    pub(super) fn overrides(self, door: &Door, id: &EventId) -> Result<Value, Problem> {
        let Self {
            mut raw,
            mut faults,
        } = self;
        faults.settle();
        if let Some(other) = raw.id.take().filter(|other| other != id.as_str()) {
            faults.text(
                "id",
                &other,
                format!("this is the event {id}; an id cannot be changed"),
            );
        }
        let wanted = serde_json::to_value(raw).unwrap_or_default();
        let overrides = match (wanted, door.catalog.written(id)) {
            (Value::Object(wanted), Some(written)) => {
                let file = door.catalog.preview(id, &Value::Object(Map::new()));
                let file = file.ok().and_then(|file| serde_json::to_value(file).ok());
                let written = serde_json::to_value(written).unwrap_or_default();
                Value::Object(differing(wanted, &file.unwrap_or_default(), &written))
            }
            (wanted, _) => wanted,
        };
        match door.catalog.preview(id, &overrides) {
            Ok(settings) => clash(door, settings, &mut faults),
            Err(more) => {
                for fault in &more {
                    faults.add(&fault.path, &fault.value, fault.remedy.clone());
                }
            }
        }
        if faults.is_empty() {
            Ok(overrides)
        } else {
            Err(Problem::faults(&faults))
        }
    }
}

/// A body without what is only shown.
fn settable(mut body: Map<String, Value>) -> Map<String, Value> {
    body.retain(|name, _| !SHOWN_ONLY.contains(&name.as_str()));
    if let Some(Value::Object(bypass)) = body.get_mut("bypass")
        && bypass.get("secret").is_some_and(|shown| shown == MASK)
    {
        bypass.remove("secret");
    }
    body
}

/// What of `wanted` is not so in the file, neither as written nor as read.
fn differing(wanted: Map<String, Value>, file: &Value, written: &Value) -> Map<String, Value> {
    let (mut kept, nothing) = (Map::new(), Value::Null);
    for (name, value) in wanted {
        let file = file.get(&name).unwrap_or(&nothing);
        let written = written.get(&name).unwrap_or(&nothing);
        match value {
            Value::Object(table) => {
                let table = differing(table, file, written);
                if !table.is_empty() {
                    kept.insert(name, Value::Object(table));
                }
            }
            value if value == *file || value == *written => {}
            value => {
                kept.insert(name, value);
            }
        }
    }
    kept
}

/// Notes each path that this change would take from another event. What
/// clashes already is no reason to refuse another change.
fn clash(door: &Door, settings: EventSettings, faults: &mut Faults) {
    let mut events = Vec::new();
    let mut before = Vec::new();
    for record in door.catalog.records() {
        if record.settings.id == settings.id {
            before.push(Arc::new(record.settings));
        } else {
            events.push(Arc::new(record.settings));
        }
    }
    let last = events.len();
    let of_last = |changed: Option<Arc<EventSettings>>| -> Vec<Clash> {
        let all: Vec<_> = events.iter().cloned().chain(changed).collect();
        let mut found = clashes(&all);
        found.retain(|clash| clash.second == last);
        found
    };
    let before = of_last(before.pop());
    for clash in of_last(Some(Arc::new(settings))) {
        let Some(first) = events.get(clash.first).filter(|_| !before.contains(&clash)) else {
            continue;
        };
        let host = clash.host.as_deref().unwrap_or("any host");
        let remedy = format!(
            "the event {} covers this path at {host} already: give it to one of them",
            first.id
        );
        faults.text("paths", &clash.path, remedy);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(if_match: &'static str) -> Result<Versions, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, if_match.parse().unwrap());
        Versions::read(&headers)
    }

    #[test]
    fn if_match_takes_versions_in_quotes_and_nothing_else() {
        assert_eq!(asked("\"3\"").unwrap(), Versions::Only(vec![3]));
        assert_eq!(asked("\"3\", \"4\"").unwrap(), Versions::Only(vec![3, 4]));
        assert_eq!(asked("*").unwrap(), Versions::Any);
        assert_eq!(asked("W/\"3\"").unwrap(), Versions::Only(vec![]));
        assert_eq!(asked("\"abc\"").unwrap(), Versions::Only(vec![]));
        assert!(asked("3").is_err());
        assert!(asked("").is_err());
        assert_eq!(Versions::read(&HeaderMap::new()).unwrap(), Versions::Any);
        assert!(Versions::Only(vec![3]).allow(4).is_err());
        assert!(Versions::Only(vec![3]).allow(3).is_ok());
    }

    #[test]
    fn only_what_differs_from_the_file_is_kept() {
        let file = json!({ "limitCnt": 5, "hosts": ["a.kr"], "queueWhen": { "inFlight": 3, "sessions": null } });
        let written = json!({ "limitCnt": 5, "hosts": ["A.kr"] });
        let wanted = json!({
            "limitCnt": 5, "hosts": ["A.kr"], "mode": "off",
            "queueWhen": { "inFlight": 3, "sessions": 9 }, "cookie": {},
        });
        let Value::Object(wanted) = wanted else {
            panic!()
        };
        assert_eq!(
            Value::Object(differing(wanted, &file, &written)),
            json!({ "mode": "off", "queueWhen": { "sessions": 9 } })
        );
    }

    #[test]
    fn what_is_only_shown_is_passed_over() {
        let Value::Object(body) =
            json!({ "version": 3, "limitCnt": 5, "bypass": { "secret": MASK, "header": "X" } })
        else {
            panic!()
        };
        assert_eq!(
            Value::Object(settable(body)),
            json!({ "limitCnt": 5, "bypass": { "header": "X" } })
        );
    }
}
