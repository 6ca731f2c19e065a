//! What a gateway remembers, brought to a store that asks for it.

use sumun::room::pages::{Bits, PAGES_PER_CALL};
use sumun::room::snapshot::Rules;
use sumun::store::{Restored, Shadow};

use super::Gateway;
use crate::door::Door;

impl Gateway {
    /// Pushes the memory, in parts, as the contract of `restore` has it.
    pub(super) fn push(&mut self, door: &mut Door, rules: &Rules, fresh: u64) -> Option<Restored> {
        let live = self.living();
        let mut parts = live.chunks(PAGES_PER_CALL).peekable();
        let mut began = None;
        let restored = loop {
            let live = parts.next().unwrap_or_default().to_vec();
            let complete = parts.peek().is_none();
            let shadow = self.shadow(rules, fresh, live, complete);
            let restored = door.restore(&shadow).ok()?;
            began = began.or(restored.began);
            if complete {
                break Restored { began, ..restored };
            }
        };
        if let Some(meta) = &mut self.memory.meta
            && meta.born != restored.born
        {
            (meta.born, meta.seq) = (restored.born, 0);
        }
        self.seen = None;
        self.census = None;
        self.unflushed.clear();
        self.flushed_at = door.now;
        Some(restored)
    }

    fn shadow(&self, rules: &Rules, fresh: u64, live: Vec<(u64, Bits)>, complete: bool) -> Shadow {
        let memory = &self.memory;
        let mut shadow = Shadow {
            gateway: self.name.clone(),
            newborn: fresh,
            rules: Some(rules.clone()),
            live,
            complete,
            ..Shadow::default()
        };
        let Some(meta) = &memory.meta else {
            return shadow;
        };
        shadow.born = Some(meta.born);
        shadow.seq = meta.seq;
        shadow.time = meta.time;
        shadow.generation = meta.generation;
        shadow.issued = meta.issued;
        shadow.called = meta.called;
        shadow.gate = Some(meta.gate);
        shadow.marks.clone_from(&meta.marks);
        shadow.cfgver = meta.cfgver;
        shadow.sessions_known = memory.sessions_known;
        shadow.sessions = memory.sessions.iter().map(|(k, at)| (*k, *at)).collect();
        shadow.ended = memory.ended.iter().map(|(k, at)| (*k, *at)).collect();
        shadow.spent = memory.spent.iter().map(|(p, b)| (*p, b.clone())).collect();
        shadow.peers.clone_from(&memory.peers);
        let idle = meta.rules.session_idle_ms;
        shadow.young = self
            .begun
            .is_some_and(|begun| meta.time.0 < begun.0 + idle + 2_000);
        shadow
    }
}
