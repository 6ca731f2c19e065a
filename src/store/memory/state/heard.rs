//! Who was heard from: living tickets, living sessions, and sessions that end.

use std::time::Duration;

use super::EventState;
use crate::room::pages::Bits;
use crate::room::ticket::{Number, RESTART_AHEAD_SECONDS, SessionKey};
use crate::room::time::Timestamp;
use crate::store::Touch;

impl EventState {
    pub(crate) fn beat(&mut self, pages: &[(u64, Bits)], raw: u64) {
        for (page, bits) in pages {
            self.hear(*page, bits, raw);
        }
    }

    /// Numbering goes on above what a gateway numbered by itself, or a store
    /// that has forgotten it: in the second after, for others of that second
    /// may still be unheard. False for an absurd number: one far beyond the
    /// clock and beyond what was issued, for the clock may have been set back.
    pub(super) fn rise(&mut self, highest: Number, raw: u64) -> bool {
        let (clock, issued) = (
            self.meta.time.second_by(raw),
            self.meta.issued.unix_second(),
        );
        let was_set_back = issued > clock + RESTART_AHEAD_SECONDS;
        if !highest.is_plausible(if was_set_back { issued } else { clock }) {
            return false;
        }
        if highest >= self.meta.issued {
            self.meta.issued = highest.next_second();
        }
        true
    }

    /// Living tickets of a page.
    pub(super) fn hear(&mut self, page: u64, bits: &Bits, raw: u64) {
        let Some(highest) = bits.ones(0).last() else {
            return;
        };
        let highest = Number::at(page, highest);
        if !self.rise(highest, raw) || self.is_gone(page) {
            return;
        }
        self.live.or(page, bits, self.meta.window);
    }

    /// Whether a page was dropped, and with it which of its numbers were spent.
    fn is_gone(&self, page: u64) -> bool {
        let lives = self.live.page(page).is_some() || self.fresh.page(page).is_some();
        !lives && page < self.meta.floor().page()
    }

    pub(crate) fn touch(&mut self, touches: &[Touch]) -> Vec<Option<Timestamp>> {
        self.purge();
        let answers = touches.iter().map(|touch| self.touch_one(*touch)).collect();
        self.note_sessions();
        answers
    }

    pub(super) fn touch_one(&mut self, touch: Touch) -> Option<Timestamp> {
        let meta = &self.meta;
        let longest = Duration::from_millis(meta.rules.session_max_ms);
        let is_old = meta.time.since(touch.begun) >= longest;
        let others_wait = meta.called < meta.issued;
        let idle = Timestamp(meta.time.0 + meta.rules.session_idle_ms);
        // What the pass says was acknowledged, if only by a store that has forgotten
        // it; an old session gets no more where others wait.
        let until = if is_old && others_wait {
            touch.until
        } else {
            touch.until.max(touch.keep).max(idle)
        };
        let expires = match self.active.get(&touch.session) {
            Some(known) => until.max(*known),
            None if self.ended.contains_key(&touch.session) => return None,
            None if touch.until > meta.time && (meta.recovery.is_some() || meta.ghosts > 0) => {
                self.meta.ghosts = self.meta.ghosts.saturating_sub(1);
                until
            }
            None => return None,
        };
        self.unproven.remove(&touch.session);
        self.insert(touch.session, expires);
        Some(expires)
    }

    /// Until when sessions live; nothing expires during a recovery.
    pub(crate) fn inside(&self, sessions: &[SessionKey]) -> Vec<Option<Timestamp>> {
        let (now, recovers) = (self.meta.time, self.meta.recovery.is_some());
        let expires = sessions.iter().map(|session| self.active.get(session));
        expires
            .map(|expires| expires.copied().filter(|at| recovers || *at > now))
            .collect()
    }

    pub(crate) fn end(&mut self, sessions: &[SessionKey]) -> Vec<bool> {
        let now = self.meta.time;
        sessions
            .iter()
            .map(|session| {
                let was_there = self.remove(*session);
                if was_there {
                    self.count_closed(1);
                }
                self.ended.entry(*session).or_insert(now);
                self.unproven.remove(session);
                was_there
            })
            .collect()
    }
}
