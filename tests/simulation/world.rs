//! The world around the gateways: visitors with their habits, faults, and the
//! order in which everything happens. One queue of moments, one seed.

mod visits;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use sumun::room::census::Census;
use sumun::room::snapshot::Rules;
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::Timestamp;
use sumun::store::{BATCH_MAX, Batch, Entered, Entrant};

use super::dice::Dice;
use super::door::{Door, NoReply};
use super::figures::Figures;
use super::gateway::{Gateway, Newcomer};
use super::model::Model;
use super::scenario::{Fault, Scenario};

/// The world begins here, in Unix milliseconds.
const BEGIN: u64 = 1_790_000_000_000;

/// How long a run may take before those still waiting count as starved.
const LONGEST_MS: u64 = 4 * 3_600_000;

/// What a visitor is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    /// Polls until he is in.
    Patient,
    /// Never polls.
    Vanishes,
    /// Gives up after so many milliseconds.
    GivesUp(u64),
    /// Is gone when he is called.
    NoShow,
    /// Is away when he is called, for so many milliseconds.
    Sleeps(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Outside,
    AtDoor,
    Waiting,
    Inside,
    Done,
}

#[derive(Clone, Debug)]
struct Visitor {
    temper: Temper,
    stage: Stage,
    name: String,
    gateway: usize,
    arrived: u64,
    number: Option<Number>,
    generation: Generation,
    session: SessionKey,
    until: Timestamp,
    begun: Timestamp,
    leaves_at: u64,
    polls: u32,
    position: u64,
    estimate: Option<(u64, f64)>,
    slept: bool,
    voided: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    Send(usize),
    Poll(usize),
    Visit(usize),
    Pass(usize),
    Step(usize),
    Restart(usize),
    Fault(usize),
}

pub(crate) struct World {
    scenario: Scenario,
    dice: Dice,
    door: Door,
    gateways: Vec<Gateway>,
    visitors: Vec<Visitor>,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    ordered: u64,
    now: u64,
    rules: Rules,
    left: usize,
    figures: Figures,
}

/// Runs a scenario to its end.
pub(crate) fn run(seed: u64, scenario: Scenario) -> Figures {
    let mut world = World::new(seed, scenario);
    world.open();
    while let Some(Reverse((at, _, event))) = world.queue.pop() {
        if world.left == 0 {
            break;
        }
        world.now = at;
        world.door.at(at);
        world
            .door
            .model
            .note(|| format!("+{} {event:?}", at - BEGIN));
        if at > BEGIN + LONGEST_MS {
            world.starved();
        }
        world.happen(event);
    }
    let mut figures = world.figures;
    figures.finish(&world.door.model.counts);
    figures
}

impl World {
    fn new(seed: u64, scenario: Scenario) -> Self {
        let rules = scenario.rules.clone();
        Self {
            dice: Dice::new(seed),
            door: Door::new(Model::new(seed, rules.clone()), BEGIN),
            gateways: (0..scenario.gateways)
                .map(|index| Gateway::new(index, BEGIN))
                .collect(),
            visitors: Vec::new(),
            queue: BinaryHeap::new(),
            ordered: 0,
            now: BEGIN,
            rules,
            left: scenario.visitors,
            figures: Figures::new(seed, scenario.name, scenario.visitors),
            scenario,
        }
    }

    fn open(&mut self) {
        for gateway in 0..self.gateways.len() {
            let at = BEGIN + self.dice.between(0, 500);
            self.plan(at, Event::Pass(gateway));
        }
        let mut at = BEGIN + 2_000;
        for visitor in 0..self.scenario.visitors {
            at += self.dice.exponential(self.scenario.between_ms);
            let visitor_state = self.visitor(visitor, at);
            self.visitors.push(visitor_state);
            self.plan(at, Event::Arrive(visitor));
        }
        let faults: Vec<u64> = self.scenario.faults.iter().map(|(at, _)| *at).collect();
        for (index, at) in faults.into_iter().enumerate() {
            self.plan(BEGIN + at, Event::Fault(index));
        }
    }

    fn visitor(&mut self, index: usize, arrived: u64) -> Visitor {
        Visitor {
            temper: self.scenario.temper(&mut self.dice),
            stage: Stage::Outside,
            name: format!("visitor-{index}"),
            gateway: 0,
            arrived,
            number: None,
            generation: Generation(0),
            session: SessionKey([0; 16]),
            until: Timestamp(0),
            begun: Timestamp(0),
            leaves_at: 0,
            polls: 0,
            position: u64::MAX,
            estimate: None,
            slept: false,
            voided: false,
        }
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.ordered += 1;
        self.queue.push(Reverse((at, self.ordered, event)));
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.plan(self.now + ms, event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(visitor) => self.arrive(visitor),
            Event::Send(gateway) => self.send(gateway),
            Event::Poll(visitor) => self.poll(visitor),
            Event::Visit(visitor) => self.visit(visitor),
            Event::Pass(gateway) => self.pass(gateway),
            Event::Step(gateway) => self.gateways[gateway].step(&mut self.door),
            Event::Restart(gateway) => self.gateways[gateway].restart(self.now),
            Event::Fault(index) => self.fault(index),
        }
    }

    /// The gateway that the load balancer picks: mostly the same as before.
    fn pick(&mut self, visitor: usize) -> Option<usize> {
        let before = self.visitors[visitor].gateway;
        if self.gateways[before].up && self.dice.chance(0.8) {
            return Some(before);
        }
        let up: Vec<usize> = self
            .gateways
            .iter()
            .filter(|g| g.up)
            .map(|g| g.index)
            .collect();
        let pick = up
            .get(self.dice.between(0, up.len() as u64) as usize)
            .copied()?;
        self.visitors[visitor].gateway = pick;
        Some(pick)
    }

    fn done(&mut self, visitor: usize) {
        if self.visitors[visitor].stage != Stage::Done {
            self.visitors[visitor].stage = Stage::Done;
            self.left -= 1;
        }
    }

    fn arrive(&mut self, visitor: usize) {
        let Some(gateway) = self.pick(visitor) else {
            return self.after(2_000, Event::Arrive(visitor));
        };
        let mut session = [0; 16];
        session[..8].copy_from_slice(&self.dice.next().to_be_bytes());
        session[8..].copy_from_slice(&self.dice.next().to_be_bytes());
        self.visitors[visitor].stage = Stage::AtDoor;
        let newcomer = Newcomer {
            visitor,
            session: SessionKey(session),
        };
        self.gateways[gateway].arrivals += 1;
        self.gateways[gateway].outbox.push(newcomer);
        self.send(gateway);
    }

    /// One batch is in flight per gateway; one whose reply was lost is sent
    /// again with the same number.
    fn send(&mut self, index: usize) {
        let gateway = &mut self.gateways[index];
        if !gateway.up {
            return;
        }
        let again = gateway.in_flight.is_some();
        if !again {
            if gateway.outbox.is_empty() {
                return;
            }
            let most = gateway.outbox.len().min(BATCH_MAX);
            let newcomers: Vec<Newcomer> = gateway.outbox.drain(..most).collect();
            gateway.batches += 1;
            let entrants = newcomers.iter().map(|n| Entrant {
                session: n.session,
                id: None,
            });
            let batch = Batch {
                gateway: gateway.name.clone(),
                batch: gateway.batches,
                above: gateway.own,
                entrants: entrants.collect(),
            };
            gateway.in_flight = Some((batch, newcomers));
        }
        let Some((batch, _)) = &gateway.in_flight else {
            return;
        };
        match self.door.enter(batch) {
            Ok(_) if self.dice.chance(self.scenario.lost_replies) => {
                self.after(250, Event::Send(index));
            }
            Ok(entered) => self.deliver(index, &entered),
            Err(NoReply::Away) => self.number_alone(index),
            Err(NoReply::Recovering | NoReply::Absent) => self.after(300, Event::Send(index)),
        }
    }

    fn deliver(&mut self, index: usize, entered: &[Entered]) {
        let Some((_, newcomers)) = self.gateways[index].in_flight.take() else {
            return;
        };
        for (newcomer, entered) in newcomers.iter().zip(entered) {
            match entered {
                Entered::Session { key, expires, .. } => {
                    self.inside(newcomer.visitor, index, *key, *expires);
                }
                Entered::Ticket { number } => {
                    self.door.model.delivered(*number);
                    self.ticket(newcomer.visitor, index, *number);
                }
                Entered::Closed => {}
            }
        }
        self.after(1, Event::Send(index));
    }

    /// The store is away: the gateway numbers by itself. What is in flight
    /// may have arrived; its visitors get another number, and keep that one.
    fn number_alone(&mut self, index: usize) {
        let everybody = !self.door.reaches("");
        let Some((_, newcomers)) = self.gateways[index].in_flight.take() else {
            return;
        };
        let mut left = newcomers.into_iter();
        while let Some(newcomer) = left.next() {
            let Some(number) = self.gateways[index].number(self.now) else {
                self.gateways[index].outbox.push(newcomer);
                self.gateways[index].outbox.extend(left);
                return self.after(500, Event::Send(index));
            };
            self.door.model.issued(number, Some(index), everybody);
            self.figures.numbered_alone += 1;
            self.ticket(newcomer.visitor, index, number);
        }
        self.after(1, Event::Send(index));
    }

    fn ticket(&mut self, index: usize, gateway: usize, number: Number) {
        self.gateways[gateway].remember_heard(number);
        let visitor = &mut self.visitors[index];
        visitor.stage = Stage::Waiting;
        visitor.number = Some(number);
        visitor.generation = self.gateways[gateway].generation().unwrap_or_default();
        visitor.position = u64::MAX;
        visitor.polls = 0;
        if visitor.temper == Temper::Vanishes {
            self.figures.abandoned += 1;
            return self.done(index);
        }
        let first = self.dice.jitter(3_000, 0.15);
        self.after(first, Event::Poll(index));
    }

    fn inside(&mut self, index: usize, gateway: usize, key: SessionKey, expires: Timestamp) {
        self.gateways[gateway].memory.sessions.insert(key, expires);
        self.door.model.acknowledged(key, expires);
        let stay = self.dice.exponential(self.scenario.stay_ms);
        let visitor = &mut self.visitors[index];
        visitor.stage = Stage::Inside;
        visitor.session = key;
        visitor.until = expires;
        visitor.begun = self.door.model.time;
        visitor.leaves_at = self.now + 1_000 + stay;
        let prompt = visitor.number.filter(|_| !visitor.slept);
        self.figures.admitted(prompt, self.now, visitor.estimate);
        if self.dice.chance(0.03) {
            self.figures.unproven += 1;
            return self.done(index);
        }
        let first = self.dice.between(500, 5_000);
        self.after(first, Event::Visit(index));
    }

    fn pass(&mut self, index: usize) {
        let next = self.dice.jitter(500, 0.1);
        self.after(next, Event::Pass(index));
        if !self.gateways[index].up {
            return;
        }
        let fresh = self.dice.next() >> 12;
        let gateway = &mut self.gateways[index];
        gateway.pass(
            &mut self.door,
            &self.rules,
            &self.scenario.queue_when,
            fresh,
        );
        if gateway.planned.is_none() {
            return;
        }
        self.look(index);
        let latency = self.dice.between(0, 30);
        self.after(latency, Event::Step(index));
    }

    /// Looks at what this pass saw: use of the slots, one place in line.
    fn look(&mut self, index: usize) {
        let Some(seen) = &self.gateways[index].seen else {
            return;
        };
        if seen.meta.recovery.is_some() {
            return;
        }
        let model = &mut self.door.model;
        let waiting = model.uncalled.len() as u64;
        if let Some(limit) = seen.meta.rules.limit
            && waiting > limit
            && seen.meta.pace.is_none()
        {
            self.figures.slots(seen.sessions + seen.meta.ghosts, limit);
        }
        if !self.dice.chance(0.1) {
            return;
        }
        let behind = model.uncalled.range(seen.meta.called..seen.meta.issued);
        let pick = self.dice.between(0, waiting.clamp(1, 2_000)) as usize;
        let picked = behind.copied().nth(pick);
        if let Some(number) = picked {
            let place = Census::of(seen).place(number);
            if !place.about && self.scenario.positions_known {
                model.position(number, place.position);
            }
        }
    }

    fn fault(&mut self, index: usize) {
        let fault = self.scenario.faults[index].1;
        self.door.model.note(|| format!("{fault:?}"));
        match fault {
            Fault::Crash { gateway, down_ms } => {
                let gateway = gateway % self.gateways.len();
                if self.gateways[gateway].up {
                    self.crash(gateway, down_ms);
                }
            }
            Fault::Lose { away_ms } => {
                self.door.lose();
                self.door.away_until = self.door.away_until.max(self.now + away_ms);
            }
            Fault::Silence { ms } => self.door.away_until = self.now + ms,
            Fault::Cut { gateway, ms } => {
                let gateway = gateway % self.gateways.len();
                let name = self.gateways[gateway].name.clone();
                self.door.cut_off.insert(name, self.now + ms);
                self.door.model.forgot(gateway);
            }
            Fault::Clock { step_ms } => {
                self.door.skew += step_ms;
                self.door.at(self.now);
            }
            Fault::Limit { limit } => self.change_limit(index, limit),
            Fault::Reset => {
                if self.door.reset("operator").is_err() {
                    self.after(700, Event::Fault(index));
                }
            }
        }
    }

    fn change_limit(&mut self, index: usize, limit: u64) {
        let version = self
            .gateways
            .iter()
            .find_map(|gateway| Some(gateway.seen.as_ref()?.meta.cfgver));
        let rules = Rules {
            limit: Some(limit),
            ..self.rules.clone()
        };
        let answer = version.map(|seen| self.door.configure("operator", seen, &rules));
        match answer {
            Some(Ok(_)) if self.door.model.rules == rules => self.rules = rules,
            _ => self.after(700, Event::Fault(index)),
        }
    }

    fn crash(&mut self, index: usize, down_ms: u64) {
        let gateway = &mut self.gateways[index];
        let mut stranded: Vec<usize> = gateway.outbox.iter().map(|n| n.visitor).collect();
        if let Some((_, newcomers)) = &gateway.in_flight {
            stranded.extend(newcomers.iter().map(|n| n.visitor));
        }
        gateway.crash();
        self.door.model.forgot(index);
        for visitor in stranded {
            let next = self.dice.between(1_000, 4_000);
            self.after(next, Event::Arrive(visitor));
        }
        self.after(down_ms.max(2_000), Event::Restart(index));
    }

    /// Somebody never got in (promise 3).
    fn starved(&self) -> ! {
        let who: Vec<_> = self
            .visitors
            .iter()
            .filter(|v| v.stage != Stage::Done)
            .take(5)
            .collect();
        let text = format!("{} never got in, of them {who:#?}", self.left);
        self.door.model.violated("3", &text);
    }
}
