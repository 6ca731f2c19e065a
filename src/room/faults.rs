//! Faults of a configuration, collected.
//!
//! An operator mends a file once, not once per mistake: every reader goes on
//! after a fault and reports it here with its place, its value and a remedy.

use std::fmt;

/// One thing wrong with what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: `event[0].queue_when.latency_p95`.
    pub path: String,
    /// What stands there, as JSON; empty when nothing does or when it is a secret.
    pub value: String,
    /// What to write instead.
    pub remedy: String,
}

/// All faults found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    all: Vec<Fault>,
    settled: usize,
}

impl Fault {
    /// The path as the API spells it: camelCase, `limitCnt` and `eventId`.
    #[must_use]
    pub fn field(&self) -> String {
        match self.path.as_str() {
            "id" => "eventId".to_owned(),
            "limit" => "limitCnt".to_owned(),
            path => camel(path),
        }
    }
}

impl Fault {
    /// Whether `path` is this fault's place or within it.
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(self.path.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            value,
            remedy,
        } = self;
        if value.is_empty() {
            write!(f, "{path}: {remedy}")
        } else {
            write!(f, "{path} = {value}: {remedy}")
        }
    }
}

impl Faults {
    /// Notes a fault. Of a long value only the beginning is kept.
    pub fn add(&mut self, path: &str, value: &str, remedy: impl Into<String>) {
        let settled = self.all.get(..self.settled).unwrap_or_default();
        if settled.iter().any(|fault| fault.covers(path)) {
            return;
        }
        let mut value: String = value.replace(['\n', '\r'], " ");
        if let Some((end, _)) = value.char_indices().nth(80) {
            value.truncate(end);
            value.push('…');
        }
        self.all.push(Fault {
            path: path.to_owned(),
            value,
            remedy: remedy.into(),
        });
    }

    /// From here on faults at or below the places that have one already are
    /// its consequences and are not noted: what is wrong was left out.
    pub fn settle(&mut self) {
        self.settled = self.all.len();
    }

    /// Notes a fault about a text.
    pub fn text(&mut self, path: &str, value: &str, remedy: impl Into<String>) {
        self.add(path, &format!("{value:?}"), remedy);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Each of them, in the order found.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.all.iter()
    }

    /// Names the environment variable beside each path that one has set.
    pub fn name_sources(&mut self, source: impl Fn(&str) -> Option<String>) {
        for fault in &mut self.all {
            if let Some(name) = source(&fault.path) {
                fault.path = format!("{} ({name})", fault.path);
            }
        }
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// `queue_when.latency_p95` → `queueWhen.latencyP95`.
#[must_use]
pub fn camel(snake: &str) -> String {
    let mut out = String::with_capacity(snake.len());
    let mut raise = false;
    for c in snake.chars() {
        if c == '_' {
            raise = true;
        } else if raise {
            out.extend(c.to_uppercase());
            raise = false;
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_with_path_value_and_remedy() {
        let mut faults = Faults::default();
        faults.text("event[0].limit", "a\nb", "write a whole number, at least 1");
        faults.add("origin", "", "say where requests go");
        assert_eq!(
            faults.to_string(),
            "event[0].limit = \"a\\nb\": write a whole number, at least 1\n\
             origin: say where requests go"
        );
    }

    #[test]
    fn consequences_of_what_was_left_out_are_not_noted() {
        let mut faults = Faults::default();
        faults.add("api.keys[0]", "", "");
        faults.add("api.keys[0].id", "", "two of one pass are two");
        faults.settle();
        faults.add("api.keys[0].secret", "", "");
        faults.add("api.keys[0]", "", "");
        assert_eq!(faults.len(), 2);
        faults.add("api.keys[01]", "", "");
        faults.add("api.keys", "", "");
        assert_eq!(faults.len(), 4);
    }

    #[test]
    fn the_api_reads_the_same_fault_in_its_own_spelling() {
        let field = |path: &str| {
            let mut faults = Faults::default();
            faults.add(path, "", "");
            faults.iter().next().unwrap().field()
        };
        assert_eq!(field("queue_when.latency_p95"), "queueWhen.latencyP95");
        assert_eq!(field("limit"), "limitCnt");
        assert_eq!(field("id"), "eventId");
    }
}
