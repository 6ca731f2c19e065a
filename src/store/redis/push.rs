//! What a gateway remembers, pushed in parts that one call may carry.

use super::reply::{self, Outcome};
use super::scripts::Call;
use super::{RedisStore, SESSIONS_PER_CALL};
use crate::room::event::EventId;
use crate::room::pages::{Bits, PAGES_PER_CALL};
use crate::room::snapshot::Cause;
use crate::room::ticket::{Number, SessionKey};
use crate::room::time::Timestamp;
use crate::store::{Restored, Shadow, StoreError, UNKNOWN};

impl RedisStore {
    pub(in crate::store) async fn restore(
        &self,
        event: &EventId,
        shadow: &Shadow,
    ) -> Result<Restored, StoreError> {
        let mut restored: Option<Restored> = None;
        for part in split(shadow) {
            let made = self.restore_part(event, shadow, &part).await?;
            restored = Some(Restored {
                born: made.born,
                began: restored.and_then(|before| before.began).or(made.began),
                sessions: restored.map_or(0, |before| before.sessions) + made.sessions,
            });
        }
        restored.ok_or_else(|| StoreError::Refused("nothing to push".to_owned()))
    }

    async fn restore_part(
        &self,
        event: &EventId,
        shadow: &Shadow,
        part: &Part<'_>,
    ) -> Result<Restored, StoreError> {
        let rules = shadow.rules.as_ref().unwrap_or(&UNKNOWN);
        let spent = part.spent.iter().map(|(page, _)| *page);
        let live = part.live.iter().map(|heard| heard.page);
        let peers: &[(String, Timestamp)] = if part.last { &shadow.peers } else { &[] };
        let call = self
            .call(event)
            .pages(spent.chain(live))
            .arg(&shadow.gateway)
            .option(shadow.born)
            .arg(shadow.seq)
            .arg(shadow.newborn)
            .arg(shadow.time.0)
            .arg(shadow.generation.0)
            .arg(shadow.issued)
            .arg(shadow.called)
            .arg(shadow.gate.map_or("open", |gate| gate.word()))
            .arg(reply::marks_text(&shadow.marks))
            .arg(reply::shares_text(&shadow.shares))
            .arg(u8::from(shadow.young))
            .rules(rules)
            .arg(shadow.cfgver)
            .arg(shadow.sessions_known)
            .arg(u8::from(shadow.complete && part.last))
            .arg(u8::from(shadow.token))
            .tally(&shadow.tally)
            .each(part.sessions.iter(), spell_moment)
            .each(part.ended.iter(), spell_moment)
            .each(part.spent.iter(), |call, (page, bits)| {
                call.arg(page).bytes(bits.to_bytes())
            })
            .each(part.live.iter(), Heard::spell)
            .each(peers.iter(), |call, (peer, seen)| {
                call.arg(peer).arg(seen.0)
            });
        let key = call.meta();
        let Outcome::Done(mut fields) = self.run(&self.scripts().restore, call).await? else {
            return Err(StoreError::Refused(format!(
                "no reply to a push under key {key}"
            )));
        };
        let born = fields.whole()?;
        let word = fields.text()?;
        Ok(Restored {
            born,
            began: match word.as_str() {
                "" => None,
                word => Some(Cause::parse(word).ok_or_else(|| fields.damaged("an unknown cause"))?),
            },
            sessions: fields.whole()?,
        })
    }
}

/// Living tickets of a page, with the highest of them.
pub(super) struct Heard<'a> {
    pub(super) page: u64,
    highest: Number,
    bits: &'a Bits,
}

impl Heard<'_> {
    pub(super) fn spell(call: Call, heard: &Self) -> Call {
        call.arg(heard.page)
            .arg(heard.highest)
            .bytes(heard.bits.to_bytes())
    }
}

/// The pages on which anybody lives.
pub(super) fn heard(pages: &[(u64, Bits)]) -> Vec<Heard<'_>> {
    pages
        .iter()
        .filter_map(|(page, bits)| {
            Some(Heard {
                page: *page,
                highest: Number::at(*page, bits.ones(0).last()?),
                bits,
            })
        })
        .collect()
}

fn spell_moment(call: Call, (session, at): &(SessionKey, Timestamp)) -> Call {
    call.arg(session).arg(at.0)
}

/// What one call of a push carries.
#[derive(Default)]
struct Part<'a> {
    sessions: &'a [(SessionKey, Timestamp)],
    ended: &'a [(SessionKey, Timestamp)],
    spent: &'a [(u64, Bits)],
    live: Vec<Heard<'a>>,
    last: bool,
}

/// A push in parts. What has ended goes before what lives, as in one call.
fn split(shadow: &Shadow) -> Vec<Part<'_>> {
    let pages = shadow.spent.len() + shadow.live.len();
    let sessions = shadow.sessions.len() + shadow.ended.len();
    if pages <= PAGES_PER_CALL && sessions <= SESSIONS_PER_CALL {
        return vec![Part {
            sessions: &shadow.sessions,
            ended: &shadow.ended,
            spent: &shadow.spent,
            live: heard(&shadow.live),
            last: true,
        }];
    }
    let mut parts = Vec::new();
    for ended in shadow.ended.chunks(SESSIONS_PER_CALL) {
        parts.push(Part {
            ended,
            ..Part::default()
        });
    }
    for sessions in shadow.sessions.chunks(SESSIONS_PER_CALL) {
        parts.push(Part {
            sessions,
            ..Part::default()
        });
    }
    for spent in shadow.spent.chunks(PAGES_PER_CALL) {
        parts.push(Part {
            spent,
            ..Part::default()
        });
    }
    for live in shadow.live.chunks(PAGES_PER_CALL) {
        parts.push(Part {
            live: heard(live),
            ..Part::default()
        });
    }
    if let Some(last) = parts.last_mut() {
        last.last = true;
    }
    parts
}
