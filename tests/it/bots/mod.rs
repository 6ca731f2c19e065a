//! Who is no visitor: what is counted, and what is done where it is enforced.

mod clients;

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Answer, Ask, ByHand, Plan, Site, Visitor, bounded};
use clients::{BROWSERS, Client, SCRIPTS};

const ENFORCED: &str = "[event.bots]\nmode = \"enforce\"\n";

/// How many verdicts there were with these labels in their series.
fn verdicts(site: &Site, labels: &[&str]) -> u64 {
    let text = site.server.running.reception.metrics.render();
    let series = text.lines().filter(|line| {
        line.starts_with("sumun_bot_verdicts_total{") && labels.iter().all(|l| line.contains(l))
    });
    let counts = series.map(|line| line.rsplit_once(' ').unwrap().1);
    counts.map(|count| count.parse::<u64>().unwrap()).sum()
}

/// Somebody at an address of its own, by TLS at a proxy in front.
fn at(site: &Site, address: &str) -> Visitor {
    site.visitor()
        .always("x-forwarded-for", address)
        .always("x-forwarded-proto", "https")
}

fn dressed(mut visitor: Visitor, (_, headers): &Client) -> Visitor {
    for (name, value) in *headers {
        visitor = visitor.always(name, value);
    }
    visitor
}

/// Asks for a page as somebody does who adds nothing to its headers.
fn bare(path: &str) -> Ask {
    Ask::image(path).bare()
}

/// Somebody whose headers say nothing against it.
fn person(site: &Site, address: &str) -> Visitor {
    dressed(at(site, address), &BROWSERS[0])
}

/// Somebody with one thing against it: it names no language.
fn silent(visitor: Visitor) -> Visitor {
    visitor
        .always("user-agent", "MyScript/1")
        .always("sec-fetch-mode", "navigate")
}

fn blocked(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status, answer.header("sumun-status"))
}

#[tokio::test]
async fn no_browser_is_named_and_every_script_is_in_calm_and_in_a_line() {
    for mode in ["auto", "queue"] {
        let site = Site::with(&format!("mode = {mode:?}")).await;
        for (index, client) in BROWSERS.iter().enumerate() {
            let mut visitor = dressed(at(&site, &format!("198.51.100.{index}")), client);
            for path in ["/", "/next", "/"] {
                visitor.send(bare(path)).await;
            }
            assert_eq!(verdicts(&site, &[]), 0, "{mode}: {}", client.0);
        }
        for (index, client) in SCRIPTS.iter().enumerate() {
            let before = verdicts(&site, &["mode=\"detect\""]);
            let mut script = dressed(at(&site, &format!("203.0.113.{index}")), client);
            let answer = script.send(bare("/")).await;
            assert_ne!(blocked(&answer).1, Some("block"), "{mode}: {}", client.0);
            let named = verdicts(&site, &["mode=\"detect\""]) - before;
            assert_eq!(named, 1, "{mode}: {}", client.0);
        }
    }
}

#[tokio::test]
async fn a_list_turns_away_by_page_by_problem_and_in_a_few_words_and_those_inside_too() {
    let lists = "block = [\"203.0.113.0/24\", \"agent:*evil*\"]\nallow = [\"203.0.113.9\"]";
    let mut site = Site::with(&format!("{ENFORCED}allow = []")).await;
    let mut inside = person(&site, "203.0.113.7");
    inside.open("/").await.must_come_from_the_origin();
    site.change(&format!("{ENFORCED}{lists}")).await;
    assert_eq!(blocked(&inside.open("/").await), (403, Some("block")));
    let page = person(&site, "203.0.113.8")
        .send(Ask::page("/").with("accept-language", "en"))
        .await;
    assert_eq!(blocked(&page), (403, Some("block")));
    assert!(
        page.text().contains("Not let in") || page.text().contains("입장"),
        "{page:?}"
    );
    assert!(!page.text().contains("http-equiv=\"refresh\""));
    let script = at(&site, "203.0.113.8").send(Ask::fetch("/api")).await;
    assert_eq!(
        script.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(script.json()["type"], "urn:sumun:bot");
    assert_eq!(script.json()["reason"], "BOT");
    let image = at(&site, "203.0.113.8").send(Ask::image("/x")).await;
    assert_eq!(
        (image.status, image.text()),
        (403, "Not let in.\n".to_owned())
    );
    let named = silent(at(&site, "192.0.2.1"));
    let named = named.always("user-agent", "an EVIL thing").open("/").await;
    assert_eq!(named.status, 403);
    // To allow beats to block.
    let mut allowed = person(&site, "203.0.113.9");
    allowed.open("/").await.must_come_from_the_origin();
    // What the operator lets by is not looked at.
    let robots = at(&site, "203.0.113.8")
        .send(Ask::image("/robots.txt"))
        .await;
    robots.must_come_from_the_origin();
    assert!(
        verdicts(
            &site,
            &[
                "mode=\"enforce\"",
                "action=\"block\"",
                "reason=\"block_list\""
            ]
        ) >= 4
    );
}

#[tokio::test]
async fn the_api_says_block_and_why_and_a_key_is_a_server() {
    let bots = format!(
        "{ENFORCED}block = [\"203.0.113.0/24\"]\n[api]\nkeys = [{{ id = \"shop\", secret = \"0123456789abcdef0123456789abcdef\" }}]"
    );
    let site = Plan::event("mode = \"queue\"").tables(&bots).open().await;
    let enter = || {
        Ask::fetch("/__sumun/v1/enter")
            .method(http::Method::POST)
            .with("content-type", "application/json")
            .body(&json!({ "eventId": "main" }).to_string())
    };
    let answer = at(&site, "203.0.113.7").send(enter()).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["status"], "BLOCK");
    assert_eq!(answer.json()["reason"], "BOT");
    let key = "Bearer 0123456789abcdef0123456789abcdef";
    let server = at(&site, "203.0.113.7")
        .send(enter().with("authorization", key))
        .await;
    assert_eq!(server.json()["status"], "WAIT", "{server:?}");
}

#[tokio::test]
async fn a_decoy_and_one_thing_more_are_turned_away_for_their_time_and_no_longer() {
    let bots = "end_of_line_at = 70\nblock_at = 70\nblock_for = \"1m\"\ndecoy = \"/__sumun-list\"";
    let mut hand = ByHand::with(&format!("{ENFORCED}{bots}")).await;
    let mut script = silent(hand.visitor());
    script.open("/a").await.must_come_from_the_origin();
    script.cookies.clear();
    let decoy = script.send(bare("/__sumun-list")).await;
    assert_eq!((decoy.status, decoy.is_from_origin()), (404, false));
    assert_eq!(blocked(&script.open("/").await), (403, Some("block")));
    // Somebody else behind the same address.
    let mut person = dressed(hand.visitor(), &BROWSERS[5]);
    person.open("/").await.must_come_from_the_origin();
    hand.pass(Duration::from_secs(59)).await;
    assert_eq!(script.open("/").await.status, 403);
    hand.pass(Duration::from_secs(2)).await;
    script.open("/").await.must_come_from_the_origin();
}

#[tokio::test]
async fn detect_changes_no_answer() {
    let bots = "[event.bots]\nlog_at = 1\nend_of_line_at = 1\nblock_at = 1\nblock = [\"127.0.0.1\"]\ndecoy = \"/__sumun-list\"";
    let site = Site::with(bots).await;
    let mut script = site.visitor();
    script.send(bare("/__sumun-list")).await;
    script.open("/").await.must_come_from_the_origin();
    script
        .send(Ask::fetch("/api"))
        .await
        .must_come_from_the_origin();
    assert!(verdicts(&site, &["mode=\"detect\"", "action=\"block\""]) >= 1);
    let off = Site::with("[event.bots]\nmode = \"off\"\nblock = [\"127.0.0.1\"]").await;
    off.visitor().open("/").await.must_come_from_the_origin();
    assert_eq!(verdicts(&off, &[]), 0);
}

#[tokio::test]
async fn a_bots_place_is_exchanged_for_one_at_the_end_once() {
    let bots = "end_of_line_at = 70\nblock_at = 0\ndecoy = \"/__sumun-list\"";
    let site = Site::with(&format!("mode = \"pause\"\n{ENFORCED}{bots}")).await;
    let mut script = silent(at(&site, "203.0.113.7"));
    script.open("/").await.must_be_a_waiting_page();
    let first = script.ticket().number;
    let mut person = person(&site, "198.51.100.1");
    person.open("/").await.must_be_a_waiting_page();
    let persons = person.ticket().number;
    assert!(first < persons);
    script.send(bare("/__sumun-list")).await;
    script.open("/").await.must_be_a_waiting_page();
    let second = script.ticket().number;
    assert!(second > persons, "{second:?} is not behind {persons:?}");
    script.open("/").await.must_be_a_waiting_page();
    assert_eq!(script.ticket().number, second, "once, not with each look");
    person.open("/").await.must_be_a_waiting_page();
    assert_eq!(person.ticket().number, persons);
}

#[tokio::test]
async fn newcomers_of_one_address_are_bounded_and_its_visitors_are_not() {
    let bots = "arrivals_per_address_per_minute = 3";
    let hand = ByHand::with(&format!("{ENFORCED}{bots}")).await;
    let mut first = hand.visitor_inside().await;
    for _ in 0..2 {
        hand.visitor_inside().await;
    }
    let answer = hand.visitor().open("/").await;
    assert_eq!(blocked(&answer), (429, Some("block")));
    first.open("/").await.must_come_from_the_origin();
}

#[tokio::test]
async fn hostile_agents_get_an_answer_and_no_word_of_theirs_is_a_label() {
    let site = Site::with("").await;
    let agents: [Vec<u8>; 4] = [
        vec![b'x'; 8_192],
        vec![0xff, 0xfe, 0x80, b'"', b'}'],
        b"\"} 1\\n sumun_evil{a=\"".to_vec(),
        [b"curl/8 ".to_vec(), vec![b'*'; 8_000]].concat(),
    ];
    for agent in agents {
        let mut bytes =
            b"GET / HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\nuser-agent: ".to_vec();
        bytes.extend_from_slice(&agent);
        bytes.extend_from_slice(b"\r\n\r\n");
        let talk = async {
            let mut stream = TcpStream::connect(site.door).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answer = bounded("an answer", talk).await;
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{agent:?}");
    }
    let text = site.server.running.reception.metrics.render();
    assert!(!text.contains("evil"));
    assert!(verdicts(&site, &["reason=\"tool\""]) >= 1);
}
