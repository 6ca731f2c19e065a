//! `SUMUN_…` variables laid over the file.
//!
//! A container is configured without a file of its own: every single value
//! and every list has a variable, made of its path in capitals.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::raw::{FILE_EVENT_KEYS, FILE_KEYS};
use crate::room::{
    faults::Faults,
    schema::{Key, Kind, nearest},
};

/// Which variable has set which path, so that a fault can name it.
pub(super) type Sources = BTreeMap<String, String>;

/// One value that a variable can set.
struct Leaf {
    /// Names of the tables and the key, outermost first.
    path: Vec<&'static str>,
    kind: &'static Kind,
}

/// Lays variables over `file`. Variables without `SUMUN_` are not looked at;
/// of the others every unknown one is a fault.
pub(super) fn lay_over(
    file: &mut Map<String, Value>,
    variables: impl Iterator<Item = (String, String)>,
    faults: &mut Faults,
) -> Sources {
    let mut sources = Sources::new();
    let leaves = leaves(FILE_KEYS);
    let event_leaves = self::leaves(FILE_EVENT_KEYS);
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix("SUMUN_") else {
            continue;
        };
        if let Some(leaf) = leaves.iter().find(|leaf| leaf.variable() == rest) {
            leaf.tell_of_halves(&text, faults);
            leaf.set(file, &text);
            sources.insert(leaf.path.join("."), name);
        } else if let Some(rest) = rest.strip_prefix("EVENT_") {
            for_event(
                file,
                &event_leaves,
                &name,
                rest,
                &text,
                faults,
                &mut sources,
            );
        } else if !is_service_link(rest, &text) {
            let known: Vec<String> = leaves.iter().map(Leaf::variable).collect();
            let near = nearest(rest, known.iter().map(String::as_str));
            let remedy = near.map_or_else(
                || "unknown variable: remove it, or see docs/configuration.md".to_owned(),
                |near| format!("unknown variable; did you mean SUMUN_{near}?"),
            );
            faults.add(&name, "", remedy);
        }
    }
    if sources.contains_key("origin") && sources.contains_key("origins") {
        let remedy = "SUMUN_ORIGIN is given too: keep one of them";
        faults.add("SUMUN_ORIGINS", "", remedy);
    }
    sources
}

/// What Kubernetes puts into every pod about a Service whose name begins with
/// `sumun` (`SUMUN_SERVICE_HOST`, `SUMUN_PORT_8080_TCP_ADDR`, …): not ours.
fn is_service_link(rest: &str, text: &str) -> bool {
    let is_url = text.starts_with("tcp://") || text.starts_with("udp://");
    let of_port = ["_TCP", "_UDP"].iter().any(|protocol| {
        let kind = rest.rsplit_once(protocol).map(|(_, kind)| kind);
        matches!(kind, Some("" | "_PROTO" | "_PORT" | "_ADDR")) && rest.contains("PORT_")
    });
    rest.ends_with("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || of_port
        || rest.ends_with("PORT") && is_url
}

/// `EVENT_<ID>_<KEY>`: the id is one of the file's, since both may hold dashes.
fn for_event(
    file: &mut Map<String, Value>,
    leaves: &[Leaf],
    name: &str,
    rest: &str,
    text: &str,
    faults: &mut Faults,
    sources: &mut Sources,
) {
    let Some(Value::Array(events)) = file.get_mut("event") else {
        faults.add(name, "", "the file has no [[event]]; write one first");
        return;
    };
    let mut meant = Vec::new();
    let mut ids = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let id = event.get("id").and_then(Value::as_str).unwrap_or_default();
        let prefix = format!("{}_", id.to_uppercase().replace('-', "_"));
        let found = rest
            .strip_prefix(&prefix)
            .and_then(|key| leaves.iter().find(|leaf| leaf.variable() == key));
        meant.extend(found.map(|leaf| (index, leaf)));
        ids.push(id.to_owned());
    }
    match meant.as_slice() {
        [(index, leaf)] if leaf.path != ["id"] => {
            if let Some(Value::Object(event)) = events.get_mut(*index) {
                leaf.set(event, text);
                let path = format!("event[{index}].{}", leaf.path.join("."));
                sources.insert(path, name.to_owned());
            }
        }
        [] | [_] => {
            let ids = ids.join(", ");
            let remedy = format!(
                "write SUMUN_EVENT_<ID>_<KEY>, with a key of [[event]] and one of the ids {ids}"
            );
            faults.add(name, "", remedy);
        }
        _ => faults.add(
            name,
            "",
            "means keys of two events; rename one of them, or set it in the file",
        ),
    }
}

/// Every value and list below these keys, without lists of events.
fn leaves(keys: &'static [Key]) -> Vec<Leaf> {
    let mut all = Vec::new();
    for key in keys {
        match &key.kind {
            Kind::Table(inner) => all.extend(leaves(inner).into_iter().map(|mut leaf| {
                leaf.path.insert(0, key.name);
                leaf
            })),
            _ if key.name == "event" => {}
            kind => all.push(Leaf {
                path: vec![key.name],
                kind,
            }),
        }
    }
    all
}

impl Leaf {
    /// The variable's name without `SUMUN_`.
    fn variable(&self) -> String {
        self.path.join("_").to_uppercase()
    }

    /// Puts the text where it belongs. A secret and its `…_file` replace each other.
    fn set(&self, root: &mut Map<String, Value>, text: &str) {
        let Some((last, tables)) = self.path.split_last() else {
            return;
        };
        let mut table = root;
        for name in tables {
            let inner = table.entry(*name).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            let Value::Object(inner) = inner else { return };
            table = inner;
        }
        if matches!(self.kind, Kind::Secret) {
            match last.strip_suffix("_file") {
                Some(direct) => table.remove(direct),
                None => table.remove(&format!("{last}_file")),
            };
        }
        // One origin and several replace each other too.
        match (tables, *last) {
            ([], "origin") if !text.is_empty() => table.remove("origins"),
            ([], "origins") if !text.is_empty() => table.remove("origin"),
            _ => None,
        };
        table.insert((*last).to_owned(), self.value(text));
    }

    /// A pair of which a half is missing is told of as it was written: the
    /// fault of the half alone would not say what the variable wants. One with
    /// a secret is not shown, and has its fault at the half.
    fn tell_of_halves(&self, text: &str, faults: &mut Faults) {
        let Kind::Tables([first, second, ..]) = self.kind else {
            return;
        };
        if is_secret(second) {
            return;
        }
        for (index, item) in items(text).enumerate() {
            let (one, other) = halves(item, second);
            if one.is_empty() || other.is_empty() {
                let path = format!("{}[{index}]", self.path.join("."));
                let remedy = format!(
                    "write {}:{}, with a colon between; a comma parts one pair from the next",
                    first.name, second.name
                );
                faults.text(&path, item, remedy);
            }
        }
    }

    /// The text as the file would say it; what does not fit stays text, and
    /// is refused as such.
    fn value(&self, text: &str) -> Value {
        let verbatim = Value::String(text.to_owned());
        match self.kind {
            Kind::Count(..) | Kind::Status(_) => text.parse::<u64>().map_or(verbatim, Value::from),
            Kind::Number(..) => text.parse::<f64>().map_or(verbatim, Value::from),
            Kind::Flag => text.parse::<bool>().map_or(verbatim, Value::from),
            Kind::Texts | Kind::Rules(_) => items(text).map(Value::from).collect(),
            // Pairs, of the table's first two keys: `id:secret,id:secret`.
            Kind::Tables([first, second, ..]) => {
                let pair = |item: &str| {
                    let (one, other) = halves(item, second);
                    json!({ first.name: one, second.name: other })
                };
                items(text).map(pair).collect()
            }
            Kind::Text(_)
            | Kind::Line(_)
            | Kind::Secret
            | Kind::Word(_)
            | Kind::Duration(..)
            | Kind::Size(..)
            | Kind::Table(_)
            | Kind::Tables(_) => verbatim,
        }
    }
}

/// The entries of a list, as a variable has them.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// The halves of a pair. What has no id is a secret all the same, and must not
/// be shown as an id; spaces around it may be its own.
fn halves<'a>(item: &'a str, second: &Key) -> (&'a str, &'a str) {
    match item.split_once(':') {
        Some(halves) if is_secret(second) => halves,
        Some((one, other)) => (one.trim(), other.trim()),
        None if is_secret(second) => ("", item),
        None => (item, ""),
    }
}

fn is_secret(key: &Key) -> bool {
    matches!(key.kind, Kind::Secret)
}
