//! The shared store: Redis or Valkey, 7.0 and newer, one script per operation.
//!
//! The scripts (`lua/`) do what the embedded store does, in the same order;
//! here their keys are declared, their arguments spelt and their replies read.
//! A single server for now: everything of an event stands under one hash tag,
//! so that a cluster or a sentinel changes the connection and nothing else.

mod check;
mod connection;
mod dump;
mod keys;
mod reply;
mod scripts;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Client, IntoConnectionInfo, Script, TlsCertificates};

use super::{
    Answer, Ask, BATCH_MAX, Batch, Claim, Claimed, Entered, Found, IdHash, Leave, Put, Reply,
    Restored, Shadow, Step, Stepped, StoreError, StoredEvent, Touch, UNKNOWN,
};
use crate::room::event::EventId;
use crate::room::pages::{Bits, PAGES_PER_CALL};
use crate::room::snapshot::{Cause, GatewayRow, Report, Rules, Snapshot};
use crate::room::ticket::{Generation, Number, SessionKey};
use crate::room::time::Timestamp;
use connection::Connection;
use reply::{Fields, Outcome};
use scripts::{Call, Scripts, id_text};

pub use check::Checked;
#[doc(hidden)]
pub use scripts::TimeSource;

/// Where the shared store is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// `redis://[user[:password]@]host[:port][/database]`, or `rediss://` for TLS.
    pub url: String,
    /// What every key begins with: 1 to 64 of letters, digits and `_.:-`.
    pub prefix: String,
    /// The longest wait for an answer.
    pub timeout: Duration,
    /// A file of PEM certificates to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
}

/// Sessions in one call: no page is touched for them.
const SESSIONS_PER_CALL: usize = 1024;

/// How often a script may ask for other pages in a row: between two attempts
/// numbering must have moved on by a page or an id must have changed hands.
const MOVES: usize = 4;

/// The shared store. Clones share one connection.
#[derive(Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

struct Inner {
    prefix: String,
    connection: Connection,
    scripts: Scripts,
    /// The page of the next number, as last heard, by event.
    issued: Mutex<HashMap<EventId, u64>>,
}

impl RedisStore {
    /// A store that connects when it is first asked: the server need not be
    /// there yet. `check` asks at once.
    ///
    /// # Errors
    /// When the settings cannot be right: the address, the prefix, the
    /// certificates.
    pub fn connect(settings: &RedisSettings) -> Result<Self, StoreError> {
        Self::with_time(settings, TimeSource::Server)
    }

    /// As `connect`, with the clock read from where a test writes it.
    ///
    /// # Errors
    /// As `connect`.
    #[doc(hidden)]
    pub fn with_time(settings: &RedisSettings, time: TimeSource) -> Result<Self, StoreError> {
        let prefix = &settings.prefix;
        let spelt = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(spelt) {
            return Err(StoreError::Refused(format!(
                "store.prefix {prefix:?} must be 1 to 64 letters, digits or _ . : -"
            )));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                prefix: prefix.clone(),
                connection: Connection::new(client(settings)?, settings.timeout),
                scripts: Scripts::new(prefix, time),
                issued: Mutex::default(),
            }),
        })
    }

    fn call(&self, event: &EventId) -> Call {
        Call::new(&self.inner.prefix, event)
    }

    fn scripts(&self) -> &Scripts {
        &self.inner.scripts
    }

    /// Runs a script; declares what it asks for and runs it again.
    async fn run(&self, script: &Script, mut call: Call) -> Result<Outcome, StoreError> {
        for _ in 0..MOVES {
            let reply = self.inner.connection.run(&call.of(script)).await?;
            match Fields::new(&call.meta(), reply)?.outcome()? {
                Outcome::Moved(pages) => call.declare(pages),
                outcome => return Ok(outcome),
            }
        }
        Err(StoreError::Refused(format!(
            "the script of key {} asked for other pages again and again",
            call.meta()
        )))
    }

    async fn ask<T>(
        &self,
        script: &Script,
        call: Call,
        read: impl FnOnce(Fields) -> Result<T, StoreError>,
    ) -> Answer<T> {
        match self.run(script, call).await? {
            Outcome::Done(fields) => read(fields).map(Reply::Done),
            Outcome::Recovering => Ok(Reply::Recovering),
            Outcome::Absent => Ok(Reply::Absent),
            Outcome::Moved(_) => Err(StoreError::Refused("a page was not declared".to_owned())),
        }
    }

    pub(super) async fn enter(&self, event: &EventId, batch: &Batch) -> Answer<Vec<Entered>> {
        let ids = batch
            .entrants
            .iter()
            .filter_map(|entrant| entrant.id.as_ref());
        let call = self
            .call(event)
            .pages(self.expected(event))
            .ids(ids)
            .arg(&batch.gateway)
            .arg(batch.batch)
            .each(batch.entrants.iter(), |call, entrant| {
                call.arg(entrant.session).arg(id_text(entrant.id.as_ref()))
            });
        let script = &self.scripts().enter;
        let reply: Reply<Vec<Entered>> = self
            .ask(script, call, |mut fields| {
                let lines = fields.text()?;
                lines.lines().map(|line| fields.entered(line)).collect()
            })
            .await?;
        if let Reply::Done(entered) = &reply {
            let numbers = entered.iter().filter_map(|entered| match entered {
                Entered::Ticket { number } => Some(number.page()),
                Entered::Session { .. } | Entered::Closed => None,
            });
            if let Some(page) = numbers.max() {
                self.expect(event, page);
            }
        }
        Ok(reply)
    }

    /// The pages that the next numbers are likely to stand on.
    fn expected(&self, event: &EventId) -> Vec<u64> {
        let issued = self
            .inner
            .issued
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        issued
            .get(event)
            .map_or_else(Vec::new, |page| vec![*page, page + 1])
    }

    fn expect(&self, event: &EventId, page: u64) {
        let mut issued = self
            .inner
            .issued
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = issued.entry(event.clone()).or_default();
        *known = page.max(*known);
    }

    pub(super) async fn claim(&self, event: &EventId, claims: &[Claim]) -> Answer<Vec<Claimed>> {
        let mut all = Vec::with_capacity(claims.len());
        for claims in parts(claims, BATCH_MAX) {
            let call = self
                .call(event)
                .pages(claims.iter().map(|claim| claim.number.page()))
                .ids(claims.iter().filter_map(|claim| claim.id.as_ref()))
                .each(claims.iter(), |call, claim| {
                    call.arg(claim.number)
                        .arg(claim.session)
                        .arg(id_text(claim.id.as_ref()))
                });
            let reply = self.ask(&self.scripts().claim, call, |mut fields| {
                fields.list()?.all(Fields::claimed)
            });
            match whole(reply.await?, claims.len())? {
                Reply::Done(part) => all.extend(part),
                Reply::Recovering => return Ok(Reply::Recovering),
                Reply::Absent => return Ok(Reply::Absent),
            }
        }
        Ok(Reply::Done(all))
    }

    pub(super) async fn beat(&self, event: &EventId, pages: &[(u64, Bits)]) -> Answer<()> {
        let heard = heard(pages);
        for pages in parts(&heard, PAGES_PER_CALL) {
            let call = self
                .call(event)
                .pages(pages.iter().map(|heard| heard.page))
                .each(pages.iter(), Heard::spell);
            match self.ask(&self.scripts().beat, call, |_| Ok(())).await? {
                Reply::Done(()) => {}
                other => return Ok(other),
            }
        }
        Ok(Reply::Done(()))
    }

    pub(super) async fn touch(
        &self,
        event: &EventId,
        touches: &[Touch],
    ) -> Answer<Vec<Option<Timestamp>>> {
        let mut all = Vec::with_capacity(touches.len());
        for touches in parts(touches, SESSIONS_PER_CALL) {
            let call = self.call(event).each(touches.iter(), |call, touch| {
                call.arg(touch.session)
                    .arg(touch.begun.0)
                    .arg(touch.until.0)
            });
            let reply = self.ask(&self.scripts().touch, call, |mut fields| {
                fields.list()?.all(Fields::expiry)
            });
            match whole(reply.await?, touches.len())? {
                Reply::Done(part) => all.extend(part),
                Reply::Recovering => return Ok(Reply::Recovering),
                Reply::Absent => return Ok(Reply::Absent),
            }
        }
        Ok(Reply::Done(all))
    }

    pub(super) async fn end(&self, event: &EventId, sessions: &[SessionKey]) -> Answer<Vec<bool>> {
        let mut all = Vec::with_capacity(sessions.len());
        for sessions in parts(sessions, SESSIONS_PER_CALL) {
            let call = self
                .call(event)
                .each(sessions.iter(), |call, session| call.arg(session));
            let reply = self.ask(&self.scripts().end, call, |mut fields| {
                fields.list()?.all(|fields| Ok(fields.whole()? != 0))
            });
            match whole(reply.await?, sessions.len())? {
                Reply::Done(part) => all.extend(part),
                Reply::Recovering => return Ok(Reply::Recovering),
                Reply::Absent => return Ok(Reply::Absent),
            }
        }
        Ok(Reply::Done(all))
    }

    pub(super) async fn leave(&self, event: &EventId, tickets: &[Leave]) -> Answer<()> {
        for tickets in parts(tickets, BATCH_MAX) {
            let call = self
                .call(event)
                .pages(tickets.iter().map(|ticket| ticket.number.page()))
                .ids(tickets.iter().filter_map(|ticket| ticket.id.as_ref()))
                .each(tickets.iter(), |call, ticket| {
                    call.arg(ticket.number).arg(id_text(ticket.id.as_ref()))
                });
            match self.ask(&self.scripts().leave, call, |_| Ok(())).await? {
                Reply::Done(()) => {}
                other => return Ok(other),
            }
        }
        Ok(Reply::Done(()))
    }

    pub(super) async fn find(&self, event: &EventId, id: IdHash) -> Answer<Found> {
        let call = self.call(event).ids([&id]).arg(id_text(Some(&id)));
        let script = &self.scripts().find;
        self.ask(script, call, |mut fields| fields.found()).await
    }

    pub(super) async fn snapshot(&self, event: &EventId, ask: &Ask) -> Answer<Snapshot> {
        let pages = ask.front.iter().chain(&ask.refresh).copied();
        let report = serde_json::to_string(&ask.report)
            .map_err(|error| StoreError::Refused(format!("the report cannot be spelt: {error}")))?;
        let call = self
            .call(event)
            .pages(pages)
            .arg(&ask.gateway)
            .arg(report)
            .arg(ask.ended_since.0)
            .each(ask.front.iter(), Call::arg)
            .each(ask.refresh.iter(), Call::arg);
        let read = |fields| read_snapshot(fields, ask);
        let reply = self.ask(&self.scripts().snapshot, call, read).await?;
        Ok(match reply {
            Reply::Done((snapshot, dropped)) => {
                self.expect(event, snapshot.meta.issued.page());
                if !dropped.is_empty() {
                    let call = self.call(event).pages(dropped);
                    // Only a tidying up: the next snapshot asks for it again.
                    let _ = self.run(&self.scripts().discard, call).await;
                }
                Reply::Done(snapshot)
            }
            Reply::Recovering => Reply::Recovering,
            Reply::Absent => Reply::Absent,
        })
    }

    pub(super) async fn step(&self, event: &EventId, step: &Step) -> Answer<Stepped> {
        let mut pages: Vec<u64> = step.offers.iter().map(|number| number.page()).collect();
        pages.dedup();
        let rest = PAGES_PER_CALL.saturating_sub(pages.len());
        let sweep = step.sweep.get(..rest).unwrap_or(&step.sweep);
        let call = self
            .call(event)
            .pages(pages)
            .pages(sweep.iter().copied())
            .arg(step.fence.born)
            .arg(&step.fence.run)
            .arg(step.fence.seq)
            .arg(step.gate.word())
            .option(step.calm_since.map(|since| since.0))
            .arg(step.to)
            .option(step.pace)
            .arg(step.show)
            .each(step.offers.iter(), Call::arg)
            .each(sweep.iter(), Call::arg);
        self.ask(&self.scripts().step, call, |mut fields| {
            let first = fields.text()?;
            if first == "lost" {
                return Ok(Stepped::LostRace);
            }
            Ok(Stepped::Done {
                lapsed: fields.parse_whole(&first)?,
                expired: fields.whole()?,
            })
        })
        .await
    }

    pub(super) async fn restore(
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
        let peers: &[String] = if part.last { &shadow.peers } else { &[] };
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
            .rules(rules)
            .arg(shadow.cfgver)
            .arg(shadow.sessions_known)
            .arg(u8::from(shadow.complete && part.last))
            .arg(u8::from(shadow.token))
            .each(part.sessions.iter(), spell_moment)
            .each(part.ended.iter(), spell_moment)
            .each(part.spent.iter(), |call, (page, bits)| {
                call.arg(page).bytes(bits.to_bytes())
            })
            .each(part.live.iter(), Heard::spell)
            .each(peers.iter(), Call::arg);
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

    pub(super) async fn reset(&self, event: &EventId) -> Answer<Generation> {
        let read = |mut fields: Fields| fields.whole().map(Generation);
        self.ask(&self.scripts().reset, self.call(event), read)
            .await
    }

    pub(super) async fn configure(&self, event: &EventId, seen: u64, rules: &Rules) -> Answer<u64> {
        let call = self.call(event).arg(seen).rules(rules);
        let script = &self.scripts().configure;
        self.ask(script, call, |mut fields| fields.whole()).await
    }

    pub(super) async fn events(&self) -> Result<Vec<(EventId, StoredEvent)>, StoreError> {
        let key = keys::events(&self.inner.prefix);
        let mut command = redis::cmd("HGETALL");
        command.arg(&key);
        let reply = self.inner.connection.send(&command).await?;
        let mut events = Fields::new(&key, reply)?.all(|fields| {
            let id = fields.text()?;
            let stored = fields.text()?;
            let event = EventId::parse(&id)
                .ok_or_else(|| fields.damaged(&format!("{id:?} is no event id")))?;
            Ok((event, stored_event(fields, &stored)?))
        })?;
        events.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(events)
    }

    pub(super) async fn put_event(
        &self,
        event: &EventId,
        seen: u64,
        stored: Option<&StoredEvent>,
    ) -> Result<Put, StoreError> {
        let key = keys::events(&self.inner.prefix);
        let json = stored.map(serde_json::to_string).transpose();
        let json = json
            .map_err(|error| StoreError::Refused(format!("the event cannot be spelt: {error}")))?;
        let mut run = self.scripts().put_event.prepare_invoke();
        run.key(&key)
            .arg(event.as_str())
            .arg(seen)
            .arg(json.unwrap_or_default());
        let reply = self.inner.connection.run(&run).await?;
        let mut fields = Fields::new(&key, reply)?;
        match fields.text()?.as_str() {
            "done" => Ok(Put::Done),
            "conflict" => {
                let present = fields.text()?;
                let present = (!present.is_empty()).then(|| stored_event(&fields, &present));
                present.transpose().map(Put::Conflict)
            }
            other => Err(fields.damaged(&format!("{other:?} is no outcome"))),
        }
    }
}

fn client(settings: &RedisSettings) -> Result<Client, StoreError> {
    let wrong = |what: &dyn std::fmt::Display| StoreError::Refused(format!("store.url: {what}"));
    let address = settings.url.as_str().into_connection_info();
    let address = address.map_err(|error| wrong(&error))?;
    let Some(file) = &settings.ca_file else {
        return Client::open(address).map_err(|error| wrong(&error));
    };
    let certificates = std::fs::read(file).map_err(|error| {
        StoreError::Refused(format!("store.ca_file {}: {error}", file.display()))
    })?;
    let tls = TlsCertificates {
        client_tls: None,
        root_cert: Some(certificates),
    };
    Client::build_with_tls(address, tls)
        .map_err(|error| StoreError::Refused(format!("store.ca_file {}: {error}", file.display())))
}

/// The parts of a list for one call each; an empty list is one empty part,
/// because a call without anything still moves the time.
fn parts<T>(list: &[T], most: usize) -> impl Iterator<Item = &[T]> {
    list.chunks(most).chain(list.is_empty().then_some(list))
}

/// A reply must have an answer for each one asked about.
fn whole<T>(reply: Reply<Vec<T>>, asked: usize) -> Answer<Vec<T>> {
    match &reply {
        Reply::Done(answers) if answers.len() != asked => Err(StoreError::Refused(format!(
            "{} answers for {asked} asked",
            answers.len()
        ))),
        _ => Ok(reply),
    }
}

/// Living tickets of a page, with the highest of them.
struct Heard<'a> {
    page: u64,
    highest: Number,
    bits: &'a Bits,
}

impl Heard<'_> {
    fn spell(call: Call, heard: &Self) -> Call {
        call.arg(heard.page)
            .arg(heard.highest)
            .bytes(heard.bits.to_bytes())
    }
}

/// The pages on which anybody lives.
fn heard(pages: &[(u64, Bits)]) -> Vec<Heard<'_>> {
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

/// Reads a snapshot, and the pages that a reset dropped.
fn read_snapshot(mut fields: Fields, ask: &Ask) -> Result<(Snapshot, Vec<u64>), StoreError> {
    let meta = fields.list()?.meta()?;
    let clock = fields.whole()?;
    let sessions = fields.whole()?;
    let expired = fields.whole()?;
    let slot = fields.text()?;
    let slot = slot
        .parse()
        .map_err(|_| fields.damaged("a slot above 255"))?;
    let mut offers = fields
        .list()?
        .all(|fields| Ok((fields.number()?, fields.time()?)))?;
    offers.sort_unstable();
    let mut pages = fields.list()?.all(Fields::whole)?;
    pages.extend(fields.list()?.all(Fields::whole)?);
    pages.sort_unstable();
    pages.dedup();
    let bitmaps = fields.list()?.all(Fields::bytes)?;
    if bitmaps.len() != ask.front.len() {
        return Err(fields.damaged("not the pages that were asked for"));
    }
    let front = ask.front.iter().zip(&bitmaps);
    let front = front.map(|(page, bytes)| (*page, Bits::from_bytes(bytes)));
    let front = front.collect();
    let density = fields
        .list()?
        .all(|fields| Ok((fields.whole()?, fields.density()?)))?;
    let ended = fields
        .list()?
        .all(|fields| Ok((fields.session()?, fields.time()?)))?;
    let mut gateways = fields.list()?.all(gateway_row)?;
    gateways.sort_by(|a, b| a.gateway.cmp(&b.gateway));
    let dropped = fields.list()?.all(Fields::whole)?;
    let snapshot = Snapshot {
        meta,
        unix_seconds: clock / 1000,
        sessions,
        offers,
        pages,
        front,
        density: density.into_iter().collect(),
        ended,
        gateways,
        slot,
        expired,
    };
    Ok((snapshot, dropped))
}

fn gateway_row(fields: &mut Fields) -> Result<GatewayRow, StoreError> {
    let gateway = fields.text()?;
    let slot = fields.text()?;
    let slot = slot
        .parse()
        .map_err(|_| fields.damaged("a slot above 255"))?;
    let seen = fields.time()?;
    let report = fields.text()?;
    Ok(GatewayRow {
        gateway,
        slot,
        seen,
        // A gateway of another version may report in other words: it is there
        // all the same, only its load is not known.
        report: serde_json::from_str::<Report>(&report).unwrap_or_default(),
    })
}

fn stored_event(fields: &Fields, json: &str) -> Result<StoredEvent, StoreError> {
    serde_json::from_str(json).map_err(|error| fields.damaged(&error.to_string()))
}
