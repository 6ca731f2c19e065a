//! What speaks for a program, and what follows from it.
//!
//! Signals are gathered elsewhere; here they become a score with named reasons,
//! and the score an action. Each signal belongs to a family of evidence, and one
//! family alone never names anybody: a person with one odd header stays a person.

pub mod bucket;
pub mod entry;
pub mod list;
pub mod written;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::list::List;
use super::units;

/// Whether bots are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BotMode {
    /// Nobody is looked at.
    Off,
    /// Verdicts are counted and told; nobody notices.
    #[default]
    Detect,
    /// What a verdict says is done.
    Enforce,
}

impl BotMode {
    /// The word of the file, the API and the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Detect => "detect",
            Self::Enforce => "enforce",
        }
    }
}

/// `[event.bots]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BotSettings {
    /// Whether bots are looked for.
    pub mode: BotMode,
    /// Who is never taken for one; beats `block`.
    pub allow: List,
    /// Who is turned away.
    pub block: List,
    /// From this score on a verdict is told; 0: never.
    pub log_at: u64,
    /// From this score on a ticket is exchanged for one at the end; 0: never.
    pub end_of_line_at: u64,
    /// From this score on it is turned away; 0: never.
    pub block_at: u64,
    /// For how long.
    #[serde(with = "units::as_text")]
    pub block_for: Duration,
    /// A path that no person sees.
    pub decoy: Option<String>,
    /// Most newcomers a minute from one address (IPv6: one /64).
    pub arrivals_per_address_per_minute: u64,
    /// The same from one network: a /24, of IPv6 a /48.
    pub arrivals_per_network_per_minute: u64,
    /// The same from one autonomous system; `None`: any number.
    pub arrivals_per_asn_per_minute: Option<u64>,
    /// The same of one user who is logged in.
    pub arrivals_per_user_per_minute: u64,
}

impl Default for BotSettings {
    fn default() -> Self {
        Self {
            mode: BotMode::Detect,
            allow: List::default(),
            block: List::default(),
            log_at: 50,
            end_of_line_at: 70,
            block_at: 90,
            block_for: Duration::from_secs(20 * 60),
            decoy: None,
            arrivals_per_address_per_minute: 1_200,
            arrivals_per_network_per_minute: 6_000,
            arrivals_per_asn_per_minute: None,
            arrivals_per_user_per_minute: 120,
        }
    }
}

/// Something that speaks for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Signal {
    /// Its User-Agent is that of a tool.
    Tool,
    /// Its User-Agent is that of a browser without a window.
    Headless,
    /// It has no User-Agent, or one that is no text.
    NoAgent,
    /// It names no language, as every browser does.
    NoLanguage,
    /// It sends no `Sec-Fetch-…` where browsers do.
    NoFetch,
    /// It says that it is a browser, and its headers say that it is not.
    Contradiction,
    /// Its Client Hints name a browser without a window.
    HeadlessHints,
    /// Its address draws place after place and never brought one back.
    CookiesDropped,
    /// Most places drawn by its address were never heard from again.
    TicketsForgotten,
    /// Its address draws very many places.
    ManyTickets,
    /// It fetched what no person sees.
    Decoy,
    /// It asks again and again before it was told to.
    EarlyPolls,
    /// Its pass is used from two networks in turn.
    TwoNetworks,
}

/// What is one piece of evidence, however many signals tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// What it calls itself.
    Name,
    /// What it leaves out.
    Left,
    /// What contradicts itself.
    Contradiction,
    /// What its Client Hints call it.
    Hints,
    /// What becomes of its places.
    Places,
    /// How many it wants.
    Number,
    /// The decoy.
    Decoy,
    /// When it asks.
    Polls,
    /// From where it uses a pass.
    Networks,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Tool,
        Self::Headless,
        Self::NoAgent,
        Self::NoLanguage,
        Self::NoFetch,
        Self::Contradiction,
        Self::HeadlessHints,
        Self::CookiesDropped,
        Self::TicketsForgotten,
        Self::ManyTickets,
        Self::Decoy,
        Self::EarlyPolls,
        Self::TwoNetworks,
    ];

    /// The word of the metrics and the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Headless => "headless",
            Self::NoAgent => "no_agent",
            Self::NoLanguage => "no_language",
            Self::NoFetch => "no_fetch",
            Self::Contradiction => "contradiction",
            Self::HeadlessHints => "headless_hints",
            Self::CookiesDropped => "cookies_dropped",
            Self::TicketsForgotten => "tickets_forgotten",
            Self::ManyTickets => "many_tickets",
            Self::Decoy => "decoy",
            Self::EarlyPolls => "early_polls",
            Self::TwoNetworks => "two_networks",
        }
    }

    /// How much it weighs, of 100.
    #[must_use]
    pub fn points(self) -> u64 {
        match self {
            Self::Tool | Self::Headless | Self::Decoy => 45,
            Self::CookiesDropped => 35,
            Self::NoAgent
            | Self::NoLanguage
            | Self::Contradiction
            | Self::HeadlessHints
            | Self::TicketsForgotten => 30,
            Self::TwoNetworks => 25,
            Self::NoFetch | Self::ManyTickets | Self::EarlyPolls => 20,
        }
    }

    /// What it is evidence of.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Tool | Self::Headless | Self::NoAgent => Family::Name,
            Self::NoLanguage | Self::NoFetch => Family::Left,
            Self::Contradiction => Family::Contradiction,
            Self::HeadlessHints => Family::Hints,
            Self::CookiesDropped | Self::TicketsForgotten => Family::Places,
            Self::ManyTickets => Family::Number,
            Self::Decoy => Family::Decoy,
            Self::EarlyPolls => Family::Polls,
            Self::TwoNetworks => Family::Networks,
        }
    }
}

/// The signals that there are of somebody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals(u16);

impl Signals {
    /// None.
    pub const NONE: Self = Self(0);

    /// Adds one, if it is there.
    pub fn add(&mut self, signal: Signal, is_there: bool) {
        self.0 |= u16::from(is_there) << signal as u8;
    }

    /// These and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it is there.
    #[must_use]
    pub fn has(self, signal: Signal) -> bool {
        self.0 & (1 << signal as u8) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        Signal::ALL.into_iter().filter(move |one| self.has(*one))
    }

    /// Those that count: of each family the heaviest.
    pub fn counting(self) -> impl Iterator<Item = Signal> {
        self.iter().filter(move |one| {
            let heavier = |other: Signal| {
                let order = |signal: Signal| (signal.points(), std::cmp::Reverse(signal as u8));
                other.family() == one.family() && order(other) > order(*one)
            };
            !self.iter().any(heavier)
        })
    }

    /// The score, of 100; 0 where there is no more than one family.
    #[must_use]
    pub fn score(self) -> u64 {
        if self.counting().nth(1).is_none() {
            return 0;
        }
        self.counting().map(Signal::points).sum::<u64>().min(100)
    }

    /// The one that weighs most.
    #[must_use]
    pub fn heaviest(self) -> Option<Signal> {
        let heavier = |signal: &Signal| (signal.points(), std::cmp::Reverse(*signal as u8));
        self.iter().max_by_key(heavier)
    }
}

/// What is done, or would be. A challenge has its place before the end of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Nothing.
    Allow,
    /// It is told of.
    Log,
    /// A place in line is exchanged for one at its end.
    EndOfLine,
    /// It is turned away.
    Block,
}

impl Action {
    /// The word of the metrics and the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Log => "log",
            Self::EndOfLine => "end_of_line",
            Self::Block => "block",
        }
    }
}

/// Why a verdict is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A list says that it is none.
    AllowList,
    /// It is the crawler that it says it is.
    VerifiedCrawler,
    /// A list says that it is one.
    BlockList,
    /// It was turned away by its score, and its time is not over.
    Blocked,
    /// More newcomers from its address than may come.
    RateAddress,
    /// The same from its network.
    RateNetwork,
    /// The same from its autonomous system.
    RateAsn,
    /// The same of one user.
    RateUser,
    /// Its score, of which this is the heaviest part.
    Signal(Signal),
}

impl Reason {
    /// The word of the metrics and the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::AllowList => "allow_list",
            Self::VerifiedCrawler => "verified_crawler",
            Self::BlockList => "block_list",
            Self::Blocked => "blocked_before",
            Self::RateAddress => "rate_address",
            Self::RateNetwork => "rate_network",
            Self::RateAsn => "rate_asn",
            Self::RateUser => "rate_user",
            Self::Signal(signal) => signal.word(),
        }
    }

    /// Whether it is a rate: over as soon as fewer come.
    #[must_use]
    pub fn is_rate(self) -> bool {
        matches!(
            self,
            Self::RateAddress | Self::RateNetwork | Self::RateAsn | Self::RateUser
        )
    }
}

impl BotSettings {
    /// The path that no person sees, where somebody looks who asks for it.
    #[must_use]
    pub fn decoy(&self) -> Option<&str> {
        self.decoy.as_deref().filter(|_| self.mode != BotMode::Off)
    }

    /// What a score leads to.
    #[must_use]
    pub fn action(&self, score: u64) -> Action {
        let reaches = |threshold: u64| threshold > 0 && score >= threshold;
        if reaches(self.block_at) {
            Action::Block
        } else if reaches(self.end_of_line_at) {
            Action::EndOfLine
        } else if reaches(self.log_at) {
            Action::Log
        } else {
            Action::Allow
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(signals: &[Signal]) -> Signals {
        let mut all = Signals::default();
        for signal in signals {
            all.add(*signal, true);
        }
        all
    }

    #[test]
    fn one_signal_alone_never_names_anybody_whatever_the_thresholds() {
        let strictest = BotSettings {
            log_at: 1,
            end_of_line_at: 1,
            block_at: 1,
            ..BotSettings::default()
        };
        for signal in Signal::ALL {
            let alone = of(&[signal]);
            assert_eq!(strictest.action(alone.score()), Action::Allow, "{signal:?}");
            // Nor do two that tell the same.
            for other in Signal::ALL {
                let both = of(&[signal, other]).score();
                let same = signal.family() == other.family();
                assert_eq!(both == 0, same, "{signal:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_family_counts_once_by_its_heaviest() {
        let named = of(&[Signal::NoAgent, Signal::Tool, Signal::NoLanguage]);
        assert_eq!(named.score(), 75);
        assert_eq!(named.heaviest(), Some(Signal::Tool));
        let places = of(&[
            Signal::CookiesDropped,
            Signal::TicketsForgotten,
            Signal::Tool,
        ]);
        assert_eq!(places.score(), 80);
        let all = of(&Signal::ALL);
        assert_eq!(all.score(), 100);
        assert_eq!(all.iter().count(), Signal::ALL.len());
        // Of two that weigh the same, one counts.
        let twice = of(&[Signal::Tool, Signal::Headless, Signal::Decoy]);
        assert_eq!(twice.score(), 90);
    }

    #[test]
    fn a_score_leads_to_an_action_by_the_thresholds() {
        use Signal::{CookiesDropped, Decoy, EarlyPolls, ManyTickets, NoAgent, NoLanguage, Tool};
        let settings = BotSettings::default();
        let table: &[(&[Signal], Action)] = &[
            (&[], Action::Allow),
            // Many people behind one address, some of them impatient.
            (&[ManyTickets, EarlyPolls], Action::Allow),
            (&[ManyTickets, CookiesDropped], Action::Log),
            (&[NoAgent, NoLanguage], Action::Log),
            (&[Tool, NoLanguage], Action::EndOfLine),
            (&[Decoy, CookiesDropped], Action::EndOfLine),
            (&[Tool, NoLanguage, CookiesDropped], Action::Block),
        ];
        for (signals, action) in table {
            let score = of(signals).score();
            assert_eq!(settings.action(score), *action, "{signals:?}: {score}");
        }
        let never = BotSettings {
            block_at: 0,
            end_of_line_at: 0,
            ..settings
        };
        assert_eq!(never.action(100), Action::Log);
    }

    #[test]
    fn each_reason_has_a_word_of_its_own() {
        let mut words: Vec<&str> = Signal::ALL.iter().map(|signal| signal.word()).collect();
        words.extend(
            [
                Reason::AllowList,
                Reason::VerifiedCrawler,
                Reason::BlockList,
                Reason::Blocked,
                Reason::RateAddress,
                Reason::RateNetwork,
                Reason::RateAsn,
                Reason::RateUser,
            ]
            .map(Reason::word),
        );
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all);
    }
}
