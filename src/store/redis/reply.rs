//! What the scripts answer, read into the contract's words. A reply is never
//! trusted: what is missing or malformed is told with the key it came from.

use std::collections::HashMap;

use redis::Value;

use crate::room::event::Mode;
use crate::room::gate::Gate;
use crate::room::share::{Holder, Share};
use crate::room::snapshot::{Cause, Meta, Peak, Recovery, Rules, Tally};
use crate::room::ticket::{Generation, Number, SessionKey};
use crate::room::time::Timestamp;
use crate::store::{Claimed, Entered, Found, StoreError};

/// What became of a script.
pub(super) enum Outcome {
    Done(Fields),
    Recovering,
    Absent,
    /// The pages to declare.
    Moved(Vec<u64>),
}

/// The parts of a reply, in order, and the key they are told under.
pub(super) struct Fields {
    key: String,
    parts: std::vec::IntoIter<Value>,
}

impl Fields {
    /// Takes a reply apart.
    pub(super) fn new(key: &str, reply: Value) -> Result<Self, StoreError> {
        let fields = |parts: Vec<Value>| Self {
            key: key.to_owned(),
            parts: parts.into_iter(),
        };
        match reply {
            Value::Array(parts) | Value::Set(parts) => Ok(fields(parts)),
            Value::Map(pairs) => Ok(fields(
                pairs
                    .into_iter()
                    .flat_map(|(field, value)| [field, value])
                    .collect(),
            )),
            Value::ServerError(error) => Err(StoreError::Refused(error.to_string())),
            other => Err(fields(Vec::new()).damaged(&format!("no list but {other:?}"))),
        }
    }

    /// Reads the word that each script's reply begins with.
    pub(super) fn outcome(mut self) -> Result<Outcome, StoreError> {
        match self.text()?.as_str() {
            "done" => Ok(Outcome::Done(self)),
            "recovering" => Ok(Outcome::Recovering),
            "absent" => Ok(Outcome::Absent),
            "moved" => {
                let pages = self.list()?.all(Self::whole)?;
                Ok(Outcome::Moved(pages))
            }
            other => Err(self.damaged(&format!("{other:?} is no outcome"))),
        }
    }

    pub(super) fn damaged(&self, what: &str) -> StoreError {
        StoreError::Refused(format!("damaged data under key {}: {what}", self.key))
    }

    pub(super) fn is_over(&self) -> bool {
        self.parts.len() == 0
    }

    fn next(&mut self) -> Result<Value, StoreError> {
        self.parts
            .next()
            .ok_or_else(|| self.damaged("it ends too early"))
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(bytes),
            Value::Nil => Ok(Vec::new()),
            Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text.into_bytes()),
            Value::Int(number) => Ok(number.to_string().into_bytes()),
            Value::Double(number) => Ok(number.to_string().into_bytes()),
            other => Err(self.damaged(&format!("no text but {other:?}"))),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes).map_err(|_| self.damaged("text that is not UTF-8"))
    }

    /// A whole number from 0 on.
    pub(super) fn whole(&mut self) -> Result<u64, StoreError> {
        let text = self.text()?;
        self.parse_whole(&text)
    }

    pub(super) fn parse_whole(&self, text: &str) -> Result<u64, StoreError> {
        text.parse()
            .map_err(|_| self.damaged(&format!("{text:?} is no whole number")))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.whole().map(Timestamp)
    }

    pub(super) fn number(&mut self) -> Result<Number, StoreError> {
        self.whole().map(Number)
    }

    pub(super) fn session(&mut self) -> Result<SessionKey, StoreError> {
        let text = self.text()?;
        self.parse_session(&text)
    }

    fn parse_session(&self, text: &str) -> Result<SessionKey, StoreError> {
        SessionKey::parse(text).ok_or_else(|| self.damaged(&format!("{text:?} is no session")))
    }

    /// A list inside the list.
    pub(super) fn list(&mut self) -> Result<Self, StoreError> {
        let inner = self.next()?;
        Self::new(&self.key, inner)
    }

    /// Reads all that is left, part by part.
    pub(super) fn all<T>(
        mut self,
        read: impl Fn(&mut Self) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut all = Vec::new();
        while !self.is_over() {
            all.push(read(&mut self)?);
        }
        Ok(all)
    }

    /// What an id stands for or an entrant got: a line of `enter` and `find`.
    pub(super) fn entered(&self, line: &str) -> Result<Entered, StoreError> {
        let mut words = line.split(' ');
        let four = [words.next(), words.next(), words.next(), words.next()];
        match four {
            [Some("s"), Some(session), Some(begun), Some(expires)] => Ok(Entered::Session {
                key: self.parse_session(session)?,
                begun: Timestamp(self.parse_whole(begun)?),
                expires: Timestamp(self.parse_whole(expires)?),
            }),
            [Some("t"), Some(number), None, None] => Ok(Entered::Ticket {
                number: Number(self.parse_whole(number)?),
            }),
            [Some("c"), None, None, None] => Ok(Entered::Closed),
            _ => Err(self.damaged(&format!("{line:?} is no place"))),
        }
    }

    pub(super) fn found(&mut self) -> Result<Found, StoreError> {
        let line = self.text()?;
        if line.is_empty() {
            return Ok(Found::Nothing);
        }
        Ok(match self.entered(&line)? {
            Entered::Session {
                key,
                begun,
                expires,
            } => Found::Session {
                key,
                begun,
                expires,
            },
            Entered::Ticket { number } => Found::Ticket(number),
            Entered::Closed => Found::Nothing,
        })
    }

    pub(super) fn claimed(&mut self) -> Result<Claimed, StoreError> {
        let line = self.text()?;
        Ok(match line.as_str() {
            "held" => Claimed::Held,
            "not yet" => Claimed::NotYet,
            "too late" => Claimed::TooLate,
            "spent" => Claimed::Spent,
            _ => match line.split_once(' ') {
                Some((word @ ("new" | "old"), expires)) => Claimed::Admitted {
                    expires: Timestamp(self.parse_whole(expires)?),
                    fresh: word == "new",
                },
                _ => return Err(self.damaged(&format!("{line:?} is no answer to a claim"))),
            },
        })
    }

    /// An expiry, or an empty text for a session that is gone.
    pub(super) fn expiry(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        self.parse_whole(&text).map(|ms| Some(Timestamp(ms)))
    }

    /// A row of the density table: eight counts.
    pub(super) fn density(&mut self) -> Result<[u16; 8], StoreError> {
        let text = self.text()?;
        let counts: Option<Vec<u16>> = text.split(',').map(|count| count.parse().ok()).collect();
        counts
            .and_then(|counts| counts.try_into().ok())
            .ok_or_else(|| self.damaged(&format!("{text:?} is no row of eight counts")))
    }

    /// What was counted; a field that was never written is 0.
    pub(super) fn tally(self) -> Result<Tally, StoreError> {
        let pairs = self.all(|fields| Ok((fields.text()?, fields.whole()?)))?;
        let fields: HashMap<String, u64> = pairs.into_iter().collect();
        let whole = |field: &str| fields.get(field).copied().unwrap_or_default();
        let peak = |most: &str, at: &str| Peak {
            most: whole(most),
            at: Timestamp(whole(at)),
        };
        Ok(Tally {
            since: Timestamp(whole("since")),
            begun: whole("begun"),
            closed: whole("closed"),
            issued: whole("issued"),
            abandoned: whole("abandoned"),
            sessions: peak("sessions", "sessions_at"),
            waiting: peak("waiting", "waiting_at"),
        })
    }

    /// The state of an event.
    pub(super) fn meta(self) -> Result<Meta, StoreError> {
        let key = self.key.clone();
        let pairs = self.all(|fields| Ok((fields.text()?, fields.text()?)))?;
        MetaFields {
            key,
            fields: pairs.into_iter().collect(),
        }
        .read()
    }
}

/// The fields of the meta hash, by name.
struct MetaFields {
    key: String,
    fields: HashMap<String, String>,
}

impl MetaFields {
    fn damaged(&self, field: &str) -> StoreError {
        let value = self.fields.get(field);
        StoreError::Refused(format!(
            "damaged data under key {}: field {field} is {value:?}",
            self.key
        ))
    }

    fn text(&self, field: &str) -> Result<&str, StoreError> {
        self.fields
            .get(field)
            .map(String::as_str)
            .ok_or_else(|| self.damaged(field))
    }

    fn parsed<T: std::str::FromStr>(&self, field: &str) -> Result<T, StoreError> {
        self.text(field)?.parse().map_err(|_| self.damaged(field))
    }

    fn option<T: std::str::FromStr>(&self, field: &str) -> Result<Option<T>, StoreError> {
        if self.text(field)?.is_empty() {
            return Ok(None);
        }
        self.parsed(field).map(Some)
    }

    fn time(&self, field: &str) -> Result<Timestamp, StoreError> {
        self.parsed(field).map(Timestamp)
    }

    fn number(&self, field: &str) -> Result<Number, StoreError> {
        self.parsed(field).map(Number)
    }

    fn read(&self) -> Result<Meta, StoreError> {
        Ok(Meta {
            born: self.parsed("born")?,
            born_at: self.time("born_at")?,
            generation: Generation(self.parsed("generation")?),
            issued: self.number("issued")?,
            called: self.number("called")?,
            seq: self.parsed("seq")?,
            run: self.text("run")?.to_owned(),
            raw: self.parsed("raw")?,
            time: self.time("time")?,
            stepped: self.time("stepped")?,
            window: self.parsed("window")?,
            window_since: self.time("window_since")?,
            fresh_window: self.parsed("fresh_window")?,
            fresh_since: self.time("fresh_since")?,
            gate: self.gate()?,
            since: self.time("since")?,
            calm_since: self.option("calm_since")?.map(Timestamp),
            pace: self.option("pace")?,
            called_at: self.time("called_at")?,
            tokens: self.parsed("tokens")?,
            tokens_at: self.time("tokens_at")?,
            show: self.parsed("show")?,
            settled: self.parsed("settled")?,
            shown: self.parsed("shown")?,
            begun: self.parsed("begun")?,
            closed: self.parsed("closed")?,
            rules: self.rules()?,
            cfgver: self.parsed("cfgver")?,
            recoveries: self.parsed("recoveries")?,
            recovery: self.recovery()?,
            ghosts: self.parsed("ghosts")?,
            ghosts_until: self.time("ghosts_until")?,
            marks: self.marks()?,
            shares: self.shares()?,
        })
    }

    fn gate(&self) -> Result<Gate, StoreError> {
        let word = self.text("gate")?;
        Gate::ALL
            .into_iter()
            .find(|gate| gate.word() == word)
            .ok_or_else(|| self.damaged("gate"))
    }

    fn rules(&self) -> Result<Rules, StoreError> {
        let word = self.text("mode")?;
        Ok(Rules {
            mode: MODES
                .into_iter()
                .find(|mode| mode_word(*mode) == word)
                .ok_or_else(|| self.damaged("mode"))?,
            limit: self.option("limit")?,
            admit_per_second: self.option("admit")?,
            session_idle_ms: self.parsed("session_idle_ms")?,
            session_max_ms: self.parsed("session_max_ms")?,
            window_ms: self.parsed("window_ms")?,
        })
    }

    fn recovery(&self) -> Result<Option<Recovery>, StoreError> {
        let Some(id) = self.option("recovery")? else {
            return Ok(None);
        };
        Ok(Some(Recovery {
            id,
            cause: Cause::parse(self.text("cause")?).ok_or_else(|| self.damaged("cause"))?,
            until: self.time("recovery_until")?,
            deadline: self.time("recovery_deadline")?,
            remembered: self.parsed::<u8>("remembered")? != 0,
            unheard: self
                .option::<u8>("unheard")?
                .is_some_and(|unheard| unheard != 0),
        }))
    }

    fn marks(&self) -> Result<Vec<(u64, Number)>, StoreError> {
        let text = self.text("marks")?;
        text.split(',')
            .filter(|mark| !mark.is_empty())
            .map(|mark| {
                let (minute, called) = mark.split_once(':')?;
                Some((minute.parse().ok()?, Number(called.parse().ok()?)))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| self.damaged("marks"))
    }

    fn shares(&self) -> Result<Vec<Share>, StoreError> {
        let text = self.text("shares")?;
        text.split(',')
            .filter(|share| !share.is_empty())
            .map(|share| {
                let mut parts = share.split(':').map(str::parse);
                let mut next = || parts.next()?.ok();
                Some(Share {
                    holder: Holder(next()?),
                    slots: next()?,
                    turn: next()?,
                    until: Timestamp(next()?),
                })
            })
            .collect::<Option<_>>()
            .ok_or_else(|| self.damaged("shares"))
    }
}

/// Shares, as the scripts read and write them.
pub(super) fn shares_text(shares: &[Share]) -> String {
    let shares: Vec<String> = shares
        .iter()
        .map(|share| {
            let Share {
                holder,
                slots,
                turn,
                until,
            } = share;
            format!("{}:{slots}:{turn}:{}", holder.0, until.0)
        })
        .collect();
    shares.join(",")
}

/// Watermarks by minute, as the scripts read and write them.
pub(super) fn marks_text(marks: &[(u64, Number)]) -> String {
    let marks: Vec<String> = marks
        .iter()
        .map(|(minute, called)| format!("{minute}:{called}"))
        .collect();
    marks.join(",")
}

const MODES: [Mode; 6] = [
    Mode::Auto,
    Mode::Queue,
    Mode::Pause,
    Mode::Off,
    Mode::Shadow,
    Mode::Closed,
];

/// The word for a mode in the store.
pub(super) fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "auto",
        Mode::Queue => "queue",
        Mode::Pause => "pause",
        Mode::Off => "off",
        Mode::Shadow => "shadow",
        Mode::Closed => "closed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn fields(parts: Vec<Value>) -> Fields {
        Fields::new("sumun:{main}:meta", Value::Array(parts)).unwrap()
    }

    #[test]
    fn a_reply_of_another_shape_is_refused_with_the_key_named() {
        let shapes = [
            Value::Nil,
            Value::Int(-1),
            Value::Okay,
            text("done"),
            Value::Array(vec![]),
            Value::Array(vec![Value::Array(vec![])]),
            Value::Array(vec![text("perhaps")]),
            Value::Array(vec![text("moved")]),
            Value::Array(vec![text("moved"), Value::Array(vec![text("-1")])]),
            Value::Array(vec![Value::BulkString(vec![0xff])]),
        ];
        for shape in shapes {
            let told = format!("{shape:?}");
            let read = Fields::new("sumun:{main}:meta", shape).and_then(Fields::outcome);
            let fault = read.err().unwrap_or_else(|| panic!("{told} was taken"));
            assert!(fault.to_string().contains("sumun:{main}:meta"), "{fault}");
        }
    }

    #[test]
    fn lines_that_no_script_writes_are_refused() {
        for line in ["", "s", "s x 1", "t", "t -1", "t 1 2", "c c", "s 00 1"] {
            assert!(fields(vec![]).entered(line).is_err(), "{line:?}");
        }
        for line in ["", "new", "new x", "later", "old -5", "new 1 2"] {
            assert!(fields(vec![text(line)]).claimed().is_err(), "{line:?}");
        }
        for row in ["", "1,2", "1,2,3,4,5,6,7,99999", "a,b,c,d,e,f,g,h"] {
            assert!(fields(vec![text(row)]).density().is_err(), "{row:?}");
        }
    }

    #[test]
    fn a_state_without_a_field_is_refused_with_the_field_named() {
        let fault = fields(vec![text("issued"), text("5")]).meta().unwrap_err();
        assert!(fault.to_string().contains("field born"), "{fault}");
        assert!(fields(vec![text("issued")]).meta().is_err());
    }

    #[test]
    fn marks_are_written_as_the_scripts_read_them() {
        let marks = [(30_000_000, Number(5)), (30_000_001, Number(1 << 52))];
        assert_eq!(marks_text(&marks), "30000000:5,30000001:4503599627370496");
        assert_eq!(marks_text(&[]), "");
    }
}
