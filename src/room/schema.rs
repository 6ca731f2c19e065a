//! The shape of what operators write: keys, kinds and ranges, as data.
//!
//! One description serves the file (`snake_case`), the environment, the API
//! (camelCase) and the tests that hold `gateway.toml` and the documentation
//! against it. [`check`] reports every fault and returns what is sound, so
//! that reading it into structs cannot fail.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    faults::{Faults, camel},
    units,
};

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// A second name that the API accepts.
    pub alias: Option<&'static str>,
    /// What may stand there.
    pub kind: Kind,
}

/// What may stand at a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text of at most so many characters.
    Text(usize),
    /// One line of text, of at most so many characters: people read it.
    Line(usize),
    /// Text that is never shown and never taken by the API.
    Secret,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number from, to.
    Count(u64, u64),
    /// One of these whole numbers.
    Status(&'static [u64]),
    /// A number above the first, at most the second.
    Number(f64, f64),
    /// `true` or `false`.
    Flag,
    /// A duration from, to, in milliseconds.
    Duration(u64, u64),
    /// A size from, to, in bytes.
    Size(u64, u64),
    /// A list of texts, at most 1000.
    Texts,
    /// A list of texts or of tables with these keys.
    Rules(&'static [Key]),
    /// A table with these keys.
    Table(&'static [Key]),
    /// A list of tables with these keys.
    Tables(&'static [Key]),
}

/// Whose spelling is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `snake_case`: the file and the environment.
    File,
    /// camelCase, aliases, no secrets: the API.
    Api,
}

/// Most entries of any list.
pub const LIST_MAX: usize = 1000;

/// A key without an alias.
#[must_use]
pub const fn key(name: &'static str, kind: Kind) -> Key {
    Key {
        name,
        alias: None,
        kind,
    }
}

/// Reports every unknown key, wrong kind and value out of range under `path`,
/// and returns the rest with keys spelt as in the file. `null` is kept.
#[must_use]
pub fn check(
    value: &Value,
    keys: &[Key],
    spelling: Spelling,
    path: &str,
    faults: &mut Faults,
) -> Map<String, Value> {
    let mut sound = Map::new();
    let Value::Object(map) = value else {
        // The value is not shown: it may be a secret in the wrong place.
        faults.add(path, "", "write a table of keys and values");
        return sound;
    };
    for (name, value) in map {
        let Some(key) = keys.iter().find(|key| key.is(name, spelling)) else {
            faults.add(&join(path, name), "", unknown(name, keys, spelling));
            continue;
        };
        let path = join(path, key.name);
        if sound.contains_key(key.name) {
            faults.add(&path, "", "given twice, under two names: keep one");
            continue;
        }
        if value.is_null() {
            sound.insert(key.name.to_owned(), Value::Null);
        } else if let Some(value) = key.kind.check(value, spelling, &path, faults) {
            sound.insert(key.name.to_owned(), value);
        }
    }
    sound
}

/// `a` and `b` → `a.b`.
#[must_use]
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

impl Key {
    /// Whether this is the key's name in that spelling.
    fn is(&self, name: &str, spelling: Spelling) -> bool {
        match spelling {
            Spelling::File => self.name == name,
            Spelling::Api => self.alias == Some(name) || camel(self.name) == name,
        }
    }

    /// The name to suggest in that spelling.
    fn shown(&self, spelling: Spelling) -> String {
        match (spelling, self.alias) {
            (Spelling::File, _) => self.name.to_owned(),
            (Spelling::Api, Some(alias)) => alias.to_owned(),
            (Spelling::Api, None) => camel(self.name),
        }
    }
}

impl Kind {
    /// The sound part of a value, or `None` after a fault.
    fn check(
        &self,
        value: &Value,
        spelling: Spelling,
        path: &str,
        faults: &mut Faults,
    ) -> Option<Value> {
        match self {
            Self::Table(keys) => {
                let sound = check(value, keys, spelling, path, faults);
                value.is_object().then_some(Value::Object(sound))
            }
            Self::Tables(keys) => list(value, path, faults, |entry, path, faults| {
                let sound = check(entry, keys, spelling, path, faults);
                entry.is_object().then_some(Value::Object(sound))
            }),
            Self::Rules(keys) => list(value, path, faults, |entry, path, faults| {
                if entry.is_string() {
                    return Some(entry.clone());
                }
                let sound = check(entry, keys, spelling, path, faults);
                entry.is_object().then_some(Value::Object(sound))
            }),
            Self::Texts => list(value, path, faults, |entry, path, faults| {
                Self::Text(2000).check(entry, spelling, path, faults)
            }),
            Self::Secret if spelling == Spelling::Api => {
                faults.add(
                    path,
                    "",
                    "secrets are given in the file or the environment, not through the API",
                );
                None
            }
            Self::Secret if value.is_string() => Some(value.clone()),
            Self::Secret => {
                faults.add(path, "", "write the secret as text, in quotes");
                None
            }
            _ => match self.scalar(value) {
                Ok(value) => Some(value),
                Err(remedy) => {
                    faults.add(path, &value.to_string(), remedy);
                    None
                }
            },
        }
    }

    /// A single value, or the remedy.
    fn scalar(&self, value: &Value) -> Result<Value, String> {
        let text = value.as_str();
        let sound = match self {
            Self::Text(most) => text.is_some_and(|text| text.chars().count() <= *most),
            Self::Line(most) => text.is_some_and(|text| {
                text.chars().count() <= *most && !text.chars().any(char::is_control)
            }),
            Self::Word(words) => {
                let word = text.map_or_else(|| value.to_string(), str::to_owned);
                if words.contains(&word.as_str()) {
                    return Ok(Value::String(word));
                }
                false
            }
            Self::Count(least, most) => value
                .as_u64()
                .is_some_and(|count| (*least..=*most).contains(&count)),
            Self::Status(known) => value.as_u64().is_some_and(|count| known.contains(&count)),
            Self::Number(above, most) => value
                .as_f64()
                .is_some_and(|number| number > *above && number <= *most),
            Self::Flag => value.is_boolean(),
            Self::Duration(least, most) => text
                .and_then(units::duration)
                .and_then(|duration| u64::try_from(duration.as_millis()).ok())
                .is_some_and(|millis| (*least..=*most).contains(&millis)),
            Self::Size(least, most) => text
                .and_then(units::size)
                .is_some_and(|size| (*least..=*most).contains(&size)),
            Self::Secret | Self::Texts | Self::Rules(_) | Self::Table(_) | Self::Tables(_) => false,
        };
        if sound {
            Ok(value.clone())
        } else {
            Err(self.remedy())
        }
    }

    /// What to write.
    #[must_use]
    pub fn remedy(&self) -> String {
        let time = |millis: &u64| units::duration_text(Duration::from_millis(*millis));
        match self {
            Self::Text(most) => format!("write text in quotes, at most {most} characters"),
            Self::Line(most) => format!(
                "write one line of text in quotes, at most {most} characters, \
                 without control characters"
            ),
            Self::Secret => "write the secret as text, in quotes".to_owned(),
            Self::Word(words) => format!("write one of \"{}\"", words.join("\", \"")),
            Self::Count(least, most) => format!("write a whole number from {least} to {most}"),
            Self::Status(known) => {
                let known: Vec<String> = known.iter().map(u64::to_string).collect();
                format!("write one of {}", known.join(", "))
            }
            Self::Number(above, most) => {
                format!("write a number above {above} and at most {most}")
            }
            Self::Flag => "write true or false".to_owned(),
            Self::Duration(least, most) => format!(
                "write a duration like \"30s\" (ms, s, m, h, d), from {} to {}",
                time(least),
                time(most)
            ),
            Self::Size(least, most) => format!(
                "write a size like \"32KB\" (B, KB, MB, GB), from {} to {}",
                units::size_text(*least),
                units::size_text(*most)
            ),
            Self::Texts => "write a list of texts, like [\"a\", \"b\"]".to_owned(),
            Self::Rules(_) | Self::Tables(_) => format!("write a list, at most {LIST_MAX} entries"),
            Self::Table(_) => "write a table of keys and values".to_owned(),
        }
    }
}

/// Each entry of a list.
fn list(
    value: &Value,
    path: &str,
    faults: &mut Faults,
    mut each: impl FnMut(&Value, &str, &mut Faults) -> Option<Value>,
) -> Option<Value> {
    let Some(entries) = value.as_array().filter(|list| list.len() <= LIST_MAX) else {
        // The value is not shown: it may be a secret in the wrong place.
        let remedy = format!("write a list in brackets, at most {LIST_MAX} entries");
        faults.add(path, "", remedy);
        return None;
    };
    // Each entry is looked at, also after a bad one; a list with a bad one is
    // left out whole, so that the others keep their index.
    let sound: Vec<Option<Value>> = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| each(entry, &format!("{path}[{index}]"), faults))
        .collect();
    sound
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .map(Value::Array)
}

/// The remedy for a key nobody knows.
fn unknown(name: &str, keys: &[Key], spelling: Spelling) -> String {
    let names: Vec<String> = keys.iter().map(|key| key.shown(spelling)).collect();
    match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("unknown key \"{name}\"; did you mean \"{near}\"?"),
        None => format!("unknown key \"{name}\"; known here: {}", names.join(", ")),
    }
}

/// The known name that differs least, when it differs by at most a third of
/// its letters.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 64 {
        return None;
    }
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(far, candidate)| *far <= (candidate.len() / 3).max(1))
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// How many letters to add, drop or change (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.to_lowercase().chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for ((b, above), above_left) in to.iter().zip(row.iter().skip(1)).zip(&row) {
            left = (left + 1)
                .min(above + 1)
                .min(above_left + usize::from(a != *b));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_key_is_suggested_and_a_far_one_is_not() {
        let known = ["session_idle", "session_max", "limit"];
        assert_eq!(
            nearest("sesion_idle", known.into_iter()),
            Some("session_idle")
        );
        assert_eq!(nearest("limits", known.into_iter()), Some("limit"));
        assert_eq!(nearest("colour", known.into_iter()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
