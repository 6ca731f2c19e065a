//! The scripts, and one call of a script: its keys, its arguments, its reply.

use redis::{Script, ScriptInvocation};

use super::keys::{self, Keys};
use crate::room::event::EventId;
use crate::room::share::ShareAsk;
use crate::room::snapshot::{Rules, Tally};
use crate::store::IdHash;

const PRELUDE: &str = concat!(
    include_str!("lua/prelude.lua"),
    "\n",
    include_str!("lua/line.lua")
);

/// A script that makes the state grow is refused, whole, by a full server.
const GROWS: &str = "#!lua";

/// One that does not may still run there: whoever is inside stays inside.
const STAYS: &str = "#!lua flags=allow-oom";

/// The lines of the prelude that read the server's clock and process.
const SERVER: [&str; 3] = [
    "  local time, info = call('TIME'), call('INFO', 'server')\n",
    "  raw = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)\n",
    "  run = string.match(info, 'run_id:(%x+)')\n",
];

/// Where the scripts read the clock.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeSource {
    /// The server's own.
    #[default]
    Server,
    /// Two keys that a test writes.
    Key,
}

/// One script for each operation.
pub(super) struct Scripts {
    pub(super) enter: Script,
    pub(super) claim: Script,
    pub(super) beat: Script,
    pub(super) let_in: Script,
    pub(super) touch: Script,
    pub(super) inside: Script,
    pub(super) end: Script,
    pub(super) leave: Script,
    pub(super) find: Script,
    pub(super) snapshot: Script,
    pub(super) step: Script,
    pub(super) restore: Script,
    pub(super) reset: Script,
    pub(super) discard: Script,
    pub(super) configure: Script,
    pub(super) forget: Script,
    pub(super) put_event: Script,
}

impl Scripts {
    pub(super) fn new(prefix: &str, time: TimeSource) -> Self {
        let prelude = match time {
            TimeSource::Server => PRELUDE.to_owned(),
            TimeSource::Key => {
                let [clock, run] = keys::test_clock(prefix);
                PRELUDE.replace(
                    &SERVER.concat(),
                    &format!("raw, run = tonumber(call('GET', '{clock}')), call('GET', '{run}')\n"),
                )
            }
        };
        let script = |kind: &str, text: &str| Script::new(&format!("{kind}\n{prelude}\n{text}"));
        Self {
            enter: script(GROWS, include_str!("lua/enter.lua")),
            claim: script(STAYS, include_str!("lua/claim.lua")),
            beat: script(GROWS, include_str!("lua/beat.lua")),
            let_in: script(STAYS, include_str!("lua/let_in.lua")),
            touch: script(STAYS, include_str!("lua/touch.lua")),
            inside: script(STAYS, include_str!("lua/inside.lua")),
            end: script(STAYS, include_str!("lua/end.lua")),
            leave: script(STAYS, include_str!("lua/leave.lua")),
            find: script(STAYS, include_str!("lua/find.lua")),
            snapshot: script(STAYS, include_str!("lua/snapshot.lua")),
            step: script(STAYS, include_str!("lua/step.lua")),
            restore: script(GROWS, include_str!("lua/restore.lua")),
            reset: script(STAYS, include_str!("lua/reset.lua")),
            discard: script(STAYS, include_str!("lua/discard.lua")),
            configure: script(STAYS, include_str!("lua/configure.lua")),
            forget: script(STAYS, include_str!("lua/forget.lua")),
            put_event: Script::new(&format!("{GROWS}\n{}", include_str!("lua/put_event.lua"))),
        }
    }
}

/// The keys and arguments of one call on an event.
pub(super) struct Call {
    keys: Keys,
    pages: Vec<u64>,
    buckets: Vec<u16>,
    args: Vec<Vec<u8>>,
}

impl Call {
    pub(super) fn new(prefix: &str, event: &EventId) -> Self {
        Self {
            keys: Keys::new(prefix, event),
            pages: Vec::new(),
            buckets: Vec::new(),
            args: Vec::new(),
        }
    }

    /// Declares the keys of pages; one that is declared already is not again.
    pub(super) fn pages(mut self, pages: impl IntoIterator<Item = u64>) -> Self {
        self.declare(pages);
        self
    }

    pub(super) fn declare(&mut self, pages: impl IntoIterator<Item = u64>) {
        self.pages.extend(pages);
        self.pages.sort_unstable();
        self.pages.dedup();
    }

    /// Declares the buckets of ids.
    pub(super) fn ids<'a>(mut self, ids: impl IntoIterator<Item = &'a IdHash>) -> Self {
        self.buckets.extend(ids.into_iter().map(keys::bucket));
        self.buckets.sort_unstable();
        self.buckets.dedup();
        self
    }

    /// Declares these buckets of ids.
    pub(super) fn buckets(mut self, buckets: impl IntoIterator<Item = u16>) -> Self {
        self.buckets.extend(buckets);
        self
    }

    /// Adds an argument.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "numbers and references alike are handed over as they are"
    )]
    pub(super) fn arg(mut self, value: impl ToString) -> Self {
        self.args.push(value.to_string().into_bytes());
        self
    }

    /// Adds an argument that may be missing: then it is empty.
    pub(super) fn option(self, value: Option<impl ToString>) -> Self {
        self.arg(value.map_or_else(String::new, |value| value.to_string()))
    }

    /// Adds an argument of bytes.
    pub(super) fn bytes(mut self, value: Vec<u8>) -> Self {
        self.args.push(value);
        self
    }

    /// Adds the count of a list; its parts follow.
    pub(super) fn each<T>(
        self,
        list: impl ExactSizeIterator<Item = T>,
        add: impl Fn(Self, T) -> Self,
    ) -> Self {
        let call = self.arg(list.len());
        list.fold(call, add)
    }

    /// Adds what the store guards.
    pub(super) fn rules(self, rules: &Rules) -> Self {
        self.arg(super::reply::mode_word(rules.mode))
            .option(rules.limit)
            .option(rules.admit_per_second)
            .arg(rules.session_idle_ms)
            .arg(rules.session_max_ms)
            .arg(rules.window_ms)
    }

    /// Adds what was counted, in the order of `TALLY` in the prelude.
    pub(super) fn tally(self, tally: &Tally) -> Self {
        self.arg(tally.since.0)
            .arg(tally.begun)
            .arg(tally.closed)
            .arg(tally.issued)
            .arg(tally.abandoned)
            .arg(tally.sessions.most)
            .arg(tally.sessions.at.0)
            .arg(tally.waiting.most)
            .arg(tally.waiting.at.0)
    }

    /// Adds what a gateway says of its share; without one, a holder left empty.
    pub(super) fn share(self, share: Option<&ShareAsk>) -> Self {
        let Some(share) = share else {
            return self.arg("").arg(0).arg(0).arg(0);
        };
        self.arg(share.holder.0)
            .arg(share.turn)
            .arg(share.held)
            .arg(share.wanted)
    }

    /// A script with these keys and arguments.
    pub(super) fn of<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut run = script.prepare_invoke();
        for key in self.keys.fixed() {
            run.key(key);
        }
        for key in self.pages.iter().flat_map(|page| self.keys.page(*page)) {
            run.key(key);
        }
        for bucket in &self.buckets {
            run.key(self.keys.ids(*bucket));
        }
        run.arg(self.pages.len()).arg(&self.pages);
        run.arg(self.buckets.len()).arg(&self.buckets);
        for value in &self.args {
            run.arg(value.as_slice());
        }
        run
    }

    /// The key that a damaged reply is told under.
    pub(super) fn meta(&self) -> String {
        self.keys.key("meta")
    }
}

/// An id as the scripts write it: 32 hexadecimal digits.
pub(super) fn id_text(id: Option<&IdHash>) -> String {
    id.map_or_else(String::new, |id| {
        format!("{:032x}", u128::from_be_bytes(*id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_a_test_replaces_stand_in_the_prelude() {
        assert!(PRELUDE.contains(&SERVER.concat()));
    }

    #[test]
    fn the_prelude_takes_the_fixed_keys_in_their_order() {
        let (_, list) = PRELUDE.split_once("local FIXED = {").unwrap();
        let (list, _) = list.split_once('}').unwrap();
        let names: Vec<&str> = list
            .split(',')
            .map(|name| name.trim().trim_matches('\''))
            .collect();
        assert_eq!(names, keys::FIXED);
    }
}
