//! Verdicts over tables, and what is remembered between them.

use http::{HeaderMap, HeaderValue};

use super::*;
use crate::room::bots::written::RawBots;
use crate::room::event::{EventId, EventSettings};
use crate::room::settings::RawEvent;

const NOW: u64 = 6_000_000;

struct Door {
    watch: Watch,
    metrics: Metrics,
    settings: EventSettings,
    lists: Lists,
    now_ms: u64,
}

impl Door {
    fn with(bots: RawBots) -> Self {
        let raw = RawEvent {
            id: Some("main".to_owned()),
            paths: Some(vec!["/".to_owned()]),
            bots,
            ..RawEvent::default()
        };
        let mut faults = crate::room::faults::Faults::default();
        let settings = raw.resolve("", &mut faults);
        Self {
            watch: Watch::default(),
            metrics: Metrics::default(),
            settings: settings.unwrap_or_else(|| panic!("{faults}")),
            lists: Lists::default(),
            now_ms: NOW,
        }
    }

    fn at(&self) -> At<'_> {
        At {
            event: &self.settings.id,
            settings: &self.settings.bots,
            lists: &self.lists,
            now_ms: self.now_ms,
        }
    }

    fn judge(&self, headers: &HeaderMap, address: &str, wants: Wants) -> Verdict {
        let asker = asker(headers, address, wants);
        self.watch.judge(&self.at(), &asker, &self.metrics)
    }

    fn counted(&self, part: &str) -> bool {
        self.metrics.render().contains(part)
    }
}

fn asker<'a>(headers: &'a HeaderMap, address: &str, wants: Wants) -> Asker<'a> {
    Asker {
        address: address.parse().unwrap(),
        headers,
        is_secure: true,
        is_crawler: false,
        asn: Some(4766),
        country: Some("KR"),
        user: None,
        wants,
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
    pairs.collect::<HeaderMap<HeaderValue>>()
}

fn curl() -> HeaderMap {
    headers(&[("user-agent", "curl/8.5.0"), ("accept", "*/*")])
}

fn browser() -> HeaderMap {
    headers(&[
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
        ),
        ("accept-language", "ko"),
        ("sec-fetch-mode", "navigate"),
    ])
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

const HERE: &str = "203.0.113.7";

#[test]
fn a_tool_is_named_a_browser_is_not_and_nobody_is_where_nobody_looks() {
    let door = Door::with(RawBots::default());
    let verdict = door.judge(&curl(), HERE, Wants::Other);
    assert_eq!(verdict.action, Action::EndOfLine);
    assert_eq!(verdict.reason, Some(Reason::Signal(Signal::Tool)));
    assert_eq!(door.judge(&browser(), HERE, Wants::In), Verdict::CLEAN);
    assert!(door.counted("mode=\"detect\",action=\"end_of_line\",reason=\"tool\"} 1"));
    let off = Door::with(RawBots {
        mode: Some(BotMode::Off),
        block: Some(texts(&[HERE])),
        ..RawBots::default()
    });
    assert_eq!(off.judge(&curl(), HERE, Wants::In), Verdict::CLEAN);
    assert!(off.watch.is_empty());
}

#[test]
fn to_allow_beats_to_block_and_lists_beat_the_rest() {
    let door = Door::with(RawBots {
        allow: Some(texts(&["203.0.113.7"])),
        block: Some(texts(&["203.0.113.0/24", "agent:*firefox*"])),
        ..RawBots::default()
    });
    let allowed = door.judge(&curl(), HERE, Wants::In);
    assert_eq!(
        (allowed.action, allowed.reason),
        (Action::Allow, Some(Reason::AllowList))
    );
    let blocked = door.judge(&browser(), "203.0.113.8", Wants::In);
    assert_eq!(
        (blocked.action, blocked.reason),
        (Action::Block, Some(Reason::BlockList))
    );
    let blocked = door.judge(&browser(), "192.0.2.1", Wants::In);
    assert_eq!(blocked.reason, Some(Reason::BlockList));
    for entry in ["as:4766", "country:KR"] {
        let door = Door::with(RawBots {
            block: Some(texts(&[entry])),
            ..RawBots::default()
        });
        let blocked = door.judge(&browser(), "192.0.2.1", Wants::Other);
        assert_eq!(blocked.reason, Some(Reason::BlockList), "{entry}");
    }
}

#[test]
fn an_entry_of_the_api_holds_until_its_time() {
    let mut door = Door::with(RawBots::default());
    let place = (Side::Block, Entry::parse(HERE).unwrap());
    let kept = [(place, 1_000)].into();
    door.lists = Lists::new(kept, 999);
    assert!(!door.lists.is_over(999) && door.lists.is_over(1_000));
    assert_eq!(
        door.judge(&browser(), HERE, Wants::In).action,
        Action::Block
    );
    door.lists = Lists::new(door.lists.kept().clone(), 1_000);
    assert_eq!(door.judge(&browser(), HERE, Wants::In), Verdict::CLEAN);
}

#[test]
fn each_rate_bounds_newcomers_alone() {
    let door = Door::with(RawBots {
        arrivals_per_address_per_minute: Some(3),
        arrivals_per_network_per_minute: Some(5),
        arrivals_per_asn_per_minute: Some(7),
        arrivals_per_user_per_minute: Some(2),
        ..RawBots::default()
    });
    let newcomer = |address: &str| door.judge(&browser(), address, Wants::In).reason;
    for _ in 0..9 {
        assert_eq!(door.judge(&browser(), HERE, Wants::On).reason, None);
    }
    let first: Vec<_> = (0..4).map(|_| newcomer(HERE)).collect();
    assert_eq!(first, [None, None, None, Some(Reason::RateAddress)]);
    let neighbours: Vec<_> = (0..3).map(|_| newcomer("203.0.113.8")).collect();
    assert_eq!(neighbours, [None, None, Some(Reason::RateNetwork)]);
    let others: Vec<_> = (0..3).map(|_| newcomer("198.51.100.1")).collect();
    assert_eq!(others, [None, None, Some(Reason::RateAsn)]);
    let headers = browser();
    let user = |address: &str| {
        let asker = Asker {
            user: Some(9),
            asn: None,
            ..asker(&headers, address, Wants::In)
        };
        door.watch.judge(&door.at(), &asker, &door.metrics).reason
    };
    let of_user = ["192.0.2.1", "192.0.3.1", "192.0.4.1"].map(user);
    assert_eq!(of_user, [None, None, Some(Reason::RateUser)]);
}

#[test]
fn who_is_turned_away_stays_so_for_a_while_and_its_neighbours_are_not_to_blame() {
    let mut door = Door::with(RawBots::default());
    for _ in 0..10 {
        door.watch.drew(&door.at(), HERE.parse().unwrap(), None);
    }
    door.now_ms += 90_000;
    let verdict = door.judge(&curl(), HERE, Wants::In);
    assert_eq!((verdict.action, verdict.score), (Action::Block, 100));
    let again = door.judge(&curl(), HERE, Wants::Other);
    assert_eq!(again.reason, Some(Reason::Blocked));
    // A browser behind the same address has one thing against it only.
    assert_eq!(
        door.judge(&browser(), HERE, Wants::In).action,
        Action::Allow
    );
    door.now_ms += 20 * 60_000;
    let later = door.judge(&curl(), HERE, Wants::Other);
    assert_eq!(later.action, Action::EndOfLine, "{later:?}");
}

#[test]
fn an_address_is_released_at_once_and_alone() {
    let door = Door::with(RawBots {
        end_of_line_at: Some(60),
        block_at: Some(60),
        ..RawBots::default()
    });
    let address = HERE.parse().unwrap();
    let event = EventId::new("main").unwrap();
    assert_eq!(
        door.judge(&curl(), HERE, Wants::Other).action,
        Action::Block
    );
    let elsewhere = "203.0.113.8";
    assert_eq!(
        door.judge(&curl(), elsewhere, Wants::Other).action,
        Action::Block
    );
    let known = door.watch.remembered(&event, address);
    assert!(
        known
            .iter()
            .any(|(_, record)| record.blocked_ms > door.now_ms)
    );
    assert!(door.watch.release(&event, address));
    assert!(!door.watch.release(&event, address));
    let fresh = door.judge(&curl(), HERE, Wants::Other);
    assert_eq!(fresh.reason, Some(Reason::Signal(Signal::Tool)));
    let neighbour = door.judge(&curl(), elsewhere, Wants::Other);
    assert_eq!(neighbour.reason, Some(Reason::Blocked));
}

#[test]
fn what_was_seen_of_an_asker_is_held_against_it_alone() {
    let mut door = Door::with(RawBots {
        decoy: Some("/__sumun-list".to_owned()),
        ..RawBots::default()
    });
    let silent = headers(&[("user-agent", "MyScript/1"), ("sec-fetch-mode", "navigate")]);
    assert_eq!(door.judge(&silent, HERE, Wants::In).action, Action::Allow);
    door.watch
        .fetched_decoy(&door.at(), &asker(&silent, HERE, Wants::Other));
    let verdict = door.judge(&silent, HERE, Wants::In);
    assert_eq!(verdict.reason, Some(Reason::Signal(Signal::Decoy)));
    assert_eq!(verdict.action, Action::EndOfLine);
    assert_eq!(door.judge(&browser(), HERE, Wants::In), Verdict::CLEAN);
    door.now_ms += 20 * 60_000;
    assert_eq!(door.judge(&silent, HERE, Wants::In).action, Action::Allow);
    for _ in 0..20 {
        door.watch
            .asked_early(&door.at(), &asker(&silent, HERE, Wants::On));
    }
    let early = door.judge(&silent, HERE, Wants::On);
    assert_eq!((early.score, early.action), (50, Action::Log));
}

#[test]
fn a_place_is_sent_back_once_in_a_while() {
    let mut door = Door::with(RawBots::default());
    let (one, other) = (curl(), browser());
    let one = asker(&one, HERE, Wants::On);
    assert!(door.watch.sends_back(&door.at(), &one));
    assert!(!door.watch.sends_back(&door.at(), &one));
    assert!(
        door.watch
            .sends_back(&door.at(), &asker(&other, HERE, Wants::On))
    );
    door.now_ms += 20 * 60_000;
    assert!(door.watch.sends_back(&door.at(), &one));
}
