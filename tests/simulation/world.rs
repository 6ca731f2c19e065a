//! The world around the gateways: visitors with their habits, faults, and the
//! order in which everything happens. One queue of moments, one seed.

mod line;
mod strikes;
mod visits;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sumun::room::snapshot::Rules;
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::room::time::Timestamp;

use super::dice::Dice;
use super::door::Door;
use super::figures::Figures;
use super::gateway::Gateway;
use super::model::{Broken, Model, Promise};
use super::network::Network;
use super::scenario::Scenario;

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
    dice: Dice,
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
    /// How often the store had forgotten when he was let in.
    losses: u64,
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
    Keep,
    Fault(usize),
    Again(usize),
}

pub(crate) struct World {
    seed: u64,
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
    losses: u64,
    /// A silence that the store's clock hides lasts until then.
    hidden_until: u64,
    figures: Figures,
}

/// Where a promise was broken.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub broken: Broken,
    pub step: u64,
    /// Milliseconds since the world began.
    pub at: u64,
    pub actions: String,
}

/// How a run ended, and how many moments it took.
pub(crate) struct Outcome {
    pub result: Result<Figures, Box<Failure>>,
    pub moments: u64,
}

/// Runs a scenario to its end, or until a promise is broken. A panic of the
/// code under test is a broken promise as well.
pub(crate) fn run(seed: u64, scenario: Scenario) -> Outcome {
    let mut world = World::new(seed, scenario);
    let ended = catch_unwind(AssertUnwindSafe(|| world.live()));
    let moments = world.ordered;
    let result = match ended {
        Ok(()) => Ok(world.into_figures()),
        Err(panic) => Err(Box::new(Failure {
            broken: broken(panic.as_ref()),
            step: world.door.model.witness.step,
            at: world.now - BEGIN,
            actions: world.door.model.witness.actions(),
        })),
    };
    Outcome { result, moments }
}

fn broken(panic: &(dyn std::any::Any + Send)) -> Broken {
    if let Some(broken) = panic.downcast_ref::<Broken>() {
        return broken.clone();
    }
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Broken {
        promise: "no panic",
        what: text.unwrap_or_default(),
    }
}

impl World {
    fn new(seed: u64, scenario: Scenario) -> Self {
        let rules = scenario.rules.clone();
        let network = Network::new(Dice::apart(seed, 1));
        let mut door = Door::new(Model::new(rules.clone()), network, BEGIN);
        door.defect = scenario.defect;
        Self {
            seed,
            dice: Dice::apart(seed, 2),
            door,
            gateways: (0..scenario.gateways)
                .map(|index| Gateway::new(index, BEGIN))
                .collect(),
            visitors: Vec::new(),
            queue: BinaryHeap::new(),
            ordered: 0,
            now: BEGIN,
            rules,
            left: scenario.visitors.len(),
            losses: 0,
            hidden_until: 0,
            figures: Figures::new(seed, scenario.name, scenario.visitors.len()),
            scenario,
        }
    }

    /// Everything happens in its order: moments, and calls that are late.
    fn live(&mut self) {
        self.open();
        while let Some(Reverse((at, _, event))) = self.queue.pop() {
            if self.left == 0 {
                return;
            }
            while let Some(due) = self.door.network.next_due()
                && due <= at
            {
                self.now = due;
                self.door.at(due);
                self.door.late();
            }
            self.now = at;
            self.door.at(at);
            let moment = format!("+{} {event:?}", at - BEGIN);
            self.door.model.note(&moment);
            self.starves_nobody();
            self.happen(event);
        }
    }

    fn into_figures(mut self) -> Figures {
        self.figures.counts = self.door.model.counts.clone();
        self.figures.struck.add(&self.door.network.struck);
        self.figures.tried = self.door.model.witness.tried();
        self.figures
    }

    fn open(&mut self) {
        for gateway in 0..self.gateways.len() {
            self.door.model.began(gateway, Timestamp(BEGIN));
            let at = BEGIN + self.dice.between(0, 500);
            self.plan(at, Event::Pass(gateway));
        }
        let mut arrivals = Dice::apart(self.seed, 3);
        let mut at = BEGIN + 2_000;
        for visitor in 0..self.scenario.visitors.end {
            at += arrivals.exponential(self.scenario.between_ms);
            let visitor_state = self.visitor(visitor, at);
            self.visitors.push(visitor_state);
            if self.scenario.visitors.contains(&visitor) {
                self.plan(at, Event::Arrive(visitor));
            }
        }
        self.plan_faults();
    }

    /// Each visitor has a stream of chance to himself: what others do, or
    /// whether they are there at all, changes nothing in him.
    fn visitor(&self, index: usize, arrived: u64) -> Visitor {
        let mut dice = Dice::apart(self.seed, 1_000 + index as u64);
        Visitor {
            temper: self.scenario.temper(&mut dice),
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
            losses: 0,
            dice,
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
            Event::Restart(gateway) => {
                self.gateways[gateway].restart(self.now);
                let model = &mut self.door.model;
                model.began(gateway, model.time);
            }
            Event::Keep => self.door.keep(),
            Event::Fault(index) => self.fault(index),
            Event::Again(visitor) => self.use_again(visitor),
        }
    }

    /// The gateway that the load balancer picks: mostly the same as before.
    fn pick(&mut self, visitor: usize) -> Option<usize> {
        let before = self.visitors[visitor].gateway;
        let dice = &mut self.visitors[visitor].dice;
        if self.gateways[before].up && dice.chance(0.8) {
            return Some(before);
        }
        let up: Vec<usize> = self
            .gateways
            .iter()
            .filter(|g| g.up)
            .map(|g| g.index)
            .collect();
        let pick = up.get(dice.between(0, up.len() as u64) as usize).copied()?;
        self.visitors[visitor].gateway = pick;
        Some(pick)
    }

    fn done(&mut self, visitor: usize) {
        if self.visitors[visitor].stage != Stage::Done {
            self.visitors[visitor].stage = Stage::Done;
            self.left -= 1;
        }
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
        if let Some(number) = picked
            && let Some(census) = &self.gateways[index].census
        {
            let place = census.place(number);
            if !place.about && self.scenario.positions_known {
                model.position(number, place.position);
            }
        }
    }

    /// Everybody gets in within hours (promise 3).
    fn starves_nobody(&self) {
        if self.now <= BEGIN + LONGEST_MS {
            return;
        }
        self.door.model.demand(Promise::Place, false, || {
            let out = self.visitors.iter().filter(|v| v.stage != Stage::Done);
            let who: Vec<_> = out.take(3).collect();
            format!("{} never got in, of them {who:#?}", self.left)
        });
    }
}
