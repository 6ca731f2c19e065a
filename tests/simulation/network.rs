//! Between the gateways and the store: replies that get lost, calls that
//! arrive twice, and calls that arrive after later ones.

use std::collections::BTreeMap;

use sumun::room::pages::Bits;
use sumun::room::ticket::SessionKey;
use sumun::store::{Ask, Batch, Claim, Shadow, Step, Touch};

use super::dice::Dice;
use super::faults::{Sort, Struck};

/// A call under way, with the gateway that made it.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Enter(Batch),
    Claim(String, Claim),
    Beat(String, Vec<(u64, Bits)>),
    Touch(String, Touch),
    End(String, SessionKey),
    Snapshot(Box<Ask>),
    Step(String, Box<Step>),
    Restore(Box<Shadow>),
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives,
    ReplyLost,
    Twice,
    Late,
}

/// How bad it is, until when.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub until: u64,
    pub share: f64,
    pub late_ms: u64,
}

/// A call that is still to arrive.
#[derive(Clone, Debug)]
struct Sent {
    call: Call,
    /// How many calls had arrived when it was sent.
    arrived: u64,
    again: bool,
}

pub(crate) struct Network {
    dice: Dice,
    pub losing: Weather,
    pub repeating: Weather,
    pub delaying: Weather,
    late: BTreeMap<(u64, u64), Sent>,
    sent: u64,
    arrived: u64,
    pub struck: Struck,
}

impl Network {
    pub(crate) fn new(dice: Dice) -> Self {
        Self {
            dice,
            losing: Weather::default(),
            repeating: Weather::default(),
            delaying: Weather::default(),
            late: BTreeMap::new(),
            sent: 0,
            arrived: 0,
            struck: Struck::default(),
        }
    }

    fn strikes(&mut self, weather: Weather, now: u64) -> bool {
        now < weather.until && self.dice.chance(weather.share)
    }

    pub(crate) fn fate(&mut self, now: u64) -> Fate {
        if self.strikes(self.losing, now) {
            self.struck.count(Sort::LostReply);
            Fate::ReplyLost
        } else if self.strikes(self.delaying, now) {
            Fate::Late
        } else if self.strikes(self.repeating, now) {
            Fate::Twice
        } else {
            Fate::Arrives
        }
    }

    /// A call arrives; tells how many have.
    pub(crate) fn arrives(&mut self) {
        self.arrived += 1;
    }

    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// A call is to arrive later: again, or for the first time.
    pub(crate) fn later(&mut self, call: Call, now: u64, again: bool) {
        let weather = if again { self.repeating } else { self.delaying };
        let due = now + 1 + self.dice.between(0, weather.late_ms);
        self.sent += 1;
        let arrived = self.arrived;
        let sent = Sent {
            call,
            arrived,
            again,
        };
        self.late.insert((due, self.sent), sent);
    }

    /// When the next late call arrives.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.late.first_key_value().map(|((due, _), _)| *due)
    }

    /// The next late call, which arrives now; one that others have overtaken
    /// is out of order.
    pub(crate) fn take_late(&mut self) -> Option<Call> {
        let (_, sent) = self.late.pop_first()?;
        if sent.again {
            self.struck.count(Sort::RepeatedCall);
        } else if self.arrived > sent.arrived {
            self.struck.count(Sort::ReorderedCall);
        }
        Some(sent.call)
    }
}

impl Call {
    /// Who made it.
    pub(crate) fn gateway(&self) -> &str {
        match self {
            Self::Enter(batch) => &batch.gateway,
            Self::Snapshot(ask) => &ask.gateway,
            Self::Restore(shadow) => &shadow.gateway,
            Self::Claim(gateway, _)
            | Self::Beat(gateway, _)
            | Self::Touch(gateway, _)
            | Self::End(gateway, _)
            | Self::Step(gateway, _) => gateway,
        }
    }

    /// For the report of a broken promise.
    pub(crate) fn words(&self) -> String {
        let what = match self {
            Self::Enter(batch) => format!("enter, batch {}", batch.batch),
            Self::Claim(_, claim) => format!("claim of {}", claim.number),
            Self::Beat(..) => "beat".to_owned(),
            Self::Touch(_, touch) => format!("touch of {:?}", touch.session),
            Self::End(_, session) => format!("end of {session:?}"),
            Self::Snapshot(_) => "snapshot".to_owned(),
            Self::Step(_, step) => format!("step to {}", step.to),
            Self::Restore(_) => "restore".to_owned(),
        };
        format!("{what} by {}", self.gateway())
    }
}
