//! `sumun top`: its picture of real answers of a real gateway, and the program on
//! a terminal of its own.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;
use sumun::operator::Where;
use sumun::operator::top::{Looker, Press, Screen};

use crate::support::process::{Doors, Process, run};
use crate::support::{Plan, Site, until};

/// Whoever looks at a gateway, and where: its file is the test's.
fn looker(folder: &std::path::Path, event: Option<&str>) -> Looker {
    let at = Where {
        config: Some(folder.join("gateway.toml")),
        admin: None,
    };
    Looker::at(&at, event).unwrap()
}

/// A folder whose file names this admin door.
fn folder_of(site: &Site) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("[admin]\nlisten = \"{}\"\n", site.admin);
    std::fs::write(folder.path().join("gateway.toml"), text).unwrap();
    folder
}

fn picture(screen: &mut Screen, now_ms: u64, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(now_ms, frame)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width).max(1);
    let rows = buffer.content.chunks(width);
    let rows = rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect());
    rows.map(|row: String| row.trim_end().to_owned()).collect()
}

/// The line that begins so, its spaces made single.
fn line(lines: &[String], begins: &str) -> String {
    let found = lines
        .iter()
        .find(|line| line.trim_start().starts_with(begins));
    let found = found.unwrap_or_else(|| panic!("no {begins}: {lines:#?}"));
    found.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

const TWO_EVENTS: &str = "[event.queue_when]\nsessions = 4\n\
     [[event]]\nid = \"other\"\npaths = [\"/other\"]\nmode = \"pause\"";

#[tokio::test]
async fn the_picture_shows_how_the_gateway_stands() {
    let site = Plan::event("limit = 1").tables(TWO_EVENTS).open().await;
    let folder = folder_of(&site);
    let _inside = site.filled_by_one().await;
    for _ in 0..2 {
        site.visitor_in_line().await;
    }
    let mut looker = looker(folder.path(), None);
    let mut screen = Screen::new(looker.address(), true);
    let shown = until("two who wait", async || {
        screen.take(0, looker.look(Some("main")).await);
        let shown = lines(&picture(&mut screen, 0, 120, 60));
        let waits = line(&shown, "waiting");
        waits.starts_with("waiting 2").then_some(shown)
    })
    .await;
    let head = format!("by {}", site.admin);
    assert!(shown[0].starts_with("main  QUEUEING  mode auto, gate ") && shown[0].contains(&head));
    assert!(line(&shown, "inside").starts_with("inside 1 of 1 ████████████████████"));
    assert!(
        line(&shown, "waiting").ends_with('█'),
        "the past of the line"
    );
    assert!(line(&shown, "sessions").starts_with("sessions 1 of 4 █████░░░░░"));
    assert!(line(&shown, "sessions").ends_with("0.25"));
    line(&shown, "requestsPerSecond");
    assert_eq!(line(&shown, "gateways"), "gateways 1, store up");
    assert!(line(&shown, &site.origin.address.to_string()).contains("UP 0 in flight"));
    assert!(line(&shown, "▶ main").contains("1 inside 2 waiting"));
    assert!(line(&shown, "other").contains("PAUSED 0 inside 0 waiting"));
    assert_eq!(shown.last().unwrap(), "q ends  ←→ another event");

    // The keys go through the events, around the end, also faster than looks come.
    let choose = |event: &str| Press::Choose(event.to_owned());
    assert_eq!(screen.press(key(KeyCode::Right)), choose("other"));
    assert_eq!(screen.press(key(KeyCode::Tab)), choose("main"));
    assert_eq!(screen.press(key(KeyCode::Left)), choose("other"));
    screen.take(0, looker.look(Some("other")).await);
    let shown = lines(&picture(&mut screen, 0, 120, 60));
    assert!(
        shown[0].starts_with("other  PAUSED  mode pause"),
        "{}",
        shown[0]
    );
    assert_eq!(
        line(&shown, "waiting"),
        "waiting 0",
        "no other event's past"
    );

    // Who wants one event alone sees no other.
    let mut alone = self::looker(folder.path(), Some("other"));
    screen = Screen::new(alone.address(), true);
    screen.take(0, alone.look(None).await);
    assert_eq!(screen.press(key(KeyCode::Right)), Press::Nothing);
    let shown = lines(&picture(&mut screen, 0, 120, 60));
    assert!(shown[0].starts_with("other  PAUSED") && !shown.concat().contains("events"));
    let mut unknown = self::looker(folder.path(), Some("man"));
    let trouble = unknown.look(None).await.err().unwrap().to_string();
    assert!(trouble.contains("no event \"man\""), "{trouble}");
}

#[tokio::test]
async fn the_heaviest_routes_are_shown_once_they_are_told() {
    let site = Site::with("limit = 5").await;
    let folder = folder_of(&site);
    let mut visitor = site.visitor_inside().await;
    for number in 0..12 {
        visitor.open(&format!("/products/{number}")).await;
    }
    let shown = until("the routes of a slice", async || {
        // What it knows of routes holds for ten looks: each asks anew.
        let mut looker = looker(folder.path(), None);
        let mut screen = Screen::new(looker.address(), true);
        screen.take(0, looker.look(None).await);
        let shown = lines(&picture(&mut screen, 0, 120, 60));
        shown.concat().contains("12 requests").then_some(shown)
    })
    .await;
    assert_eq!(
        line(&shown, "routes"),
        "routes of the last 60 s, the heaviest first"
    );
    let products = line(&shown, "/products/{id}");
    assert!(
        products.starts_with("/products/{id} 12 requests 12 views 0 failed"),
        "{products}"
    );
}

#[tokio::test]
async fn any_size_of_a_terminal_is_drawn_and_the_rest_is_scrolled_to() {
    let site = Site::with("limit = 1").await;
    let folder = folder_of(&site);
    let mut looker = looker(folder.path(), None);
    let mut screen = Screen::new(looker.address(), true);
    for (width, height) in [(0, 0), (1, 1), (80, 1), (80, 2), (3, 200)] {
        picture(&mut screen, 0, width, height);
    }
    screen.take(0, looker.look(None).await);
    for (width, height) in [(0, 0), (1, 1), (80, 1), (80, 2), (3, 200), (300, 3)] {
        picture(&mut screen, 0, width, height);
    }
    let small = lines(&picture(&mut screen, 0, 40, 6));
    assert!(small[0].starts_with("main  OPEN"), "{small:?}");
    assert!(small[1].starts_with("inside"), "{small:?}");
    assert!(small[5].ends_with("lines more"), "{small:?}");
    screen.press(key(KeyCode::Down));
    let next = lines(&picture(&mut screen, 0, 40, 6));
    assert_eq!(next[1], small[2]);
    assert_eq!(next[0], small[0], "the first line stays");
    for _ in 0..100 {
        screen.press(key(KeyCode::PageDown));
        picture(&mut screen, 0, 40, 6);
    }
    let end = lines(&picture(&mut screen, 0, 40, 6));
    assert!(end[5].ends_with("↑↓ scroll"), "{end:?}");
    assert!(end[4].contains("UP"), "the origin is last: {end:?}");
    screen.press(key(KeyCode::Up));
    assert_eq!(
        lines(&picture(&mut screen, 0, 40, 6))[2],
        end[1],
        "one step back"
    );
    screen.press(key(KeyCode::Home));
    assert_eq!(lines(&picture(&mut screen, 0, 40, 6)), small);
}

#[tokio::test]
async fn without_colours_there_are_none() {
    let site = Site::with("limit = 1\nmode = \"queue\"").await;
    let folder = folder_of(&site);
    let coloured = async |colour| {
        let mut looker = looker(folder.path(), None);
        let mut screen = Screen::new(looker.address(), colour);
        screen.take(0, looker.look(None).await);
        let buffer = picture(&mut screen, 0, 120, 60);
        let is_plain =
            |cell: &&ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
        let plain = buffer.content.iter().filter(is_plain).count();
        buffer.content.len() - plain
    };
    assert!(coloured(true).await > 20);
    assert_eq!(coloured(false).await, 0);
}

#[test]
fn every_way_out_is_one() {
    let mut screen = Screen::new("127.0.0.1:9090".parse().unwrap(), true);
    let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    for out in [key(KeyCode::Char('q')), key(KeyCode::Esc), control] {
        assert_eq!(screen.press(out), Press::End);
        let up = KeyEventKind::Release;
        let released = KeyEvent::new_with_kind(out.code, out.modifiers, up);
        assert_eq!(screen.press(released), Press::Nothing);
    }
    assert_eq!(screen.press(key(KeyCode::Char('c'))), Press::Nothing);
}

/// A folder with a file for these doors, and the gateway that runs by it.
async fn gateway(folder: &std::path::Path, doors: Doors) -> Process {
    let text = doors.file("127.0.0.1:9".parse().unwrap(), "limit = 7");
    let text = text.replacen(
        "[admin]\n",
        "[admin]\ntoken = \"a token for operators\"\n",
        1,
    );
    std::fs::write(folder.join("gateway.toml"), text).unwrap();
    let gateway = Process::run(&folder.join("gateway.toml"), doors);
    until("it is ready", async || gateway.is_ready().then_some(())).await;
    gateway
}

#[tokio::test]
async fn a_gateway_that_goes_away_is_waited_for() {
    let (folder, doors) = (tempfile::tempdir().unwrap(), Doors::free());
    let first = gateway(folder.path(), doors).await;
    let mut looker = looker(folder.path(), None);
    let mut screen = Screen::new(looker.address(), true);
    until("the limit", async || {
        screen.take(1_000, looker.look(None).await);
        let shown = lines(&picture(&mut screen, 1_000, 60, 60));
        line(&shown, "inside").contains("0 of 7").then_some(())
    })
    .await;
    drop(first);
    screen.take(2_000, looker.look(None).await);
    screen.take(13_000, looker.look(None).await);
    let shown = lines(&picture(&mut screen, 13_000, 60, 60));
    assert!(line(&shown, "what follows is 12 s old").contains("no gateway"));
    assert!(
        shown.join(" ").contains(&doors.admin.to_string()),
        "{shown:#?}"
    );
    assert!(
        line(&shown, "inside").starts_with("inside 0 of 7"),
        "as it was"
    );

    let _again = gateway(folder.path(), doors).await;
    screen.take(14_000, looker.look(None).await);
    let shown = lines(&picture(&mut screen, 15_000, 60, 60));
    assert_eq!(
        line(&shown, "the gateway is back"),
        "the gateway is back, after 13 s"
    );
    let later = lines(&picture(&mut screen, 24_000, 60, 60));
    assert!(!later.concat().contains("back"), "{later:?}");
}

#[test]
fn without_a_terminal_it_names_what_needs_none() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = run(folder.path(), &["top"]);
    assert!(code == 1 && said.contains("sumun status"), "{code}: {said}");
}

#[tokio::test]
async fn on_a_terminal_it_draws_takes_keys_and_leaves_it_as_it_was() {
    let (folder, doors) = (tempfile::tempdir().unwrap(), Doors::free());
    let gateway = gateway(folder.path(), doors).await;
    // util-linux's `script` makes the terminal.
    let program = env!("CARGO_BIN_EXE_sumun");
    let mut child = Command::new("script")
        .args([
            "-qec",
            &format!("stty rows 40 cols 120; {program} top"),
            "/dev/null",
        ])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keys, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let drawn = Arc::new(Mutex::new(Vec::new()));
    let reads = std::thread::spawn({
        let drawn = Arc::clone(&drawn);
        move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut piece) {
                drawn.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        }
    });
    let shown = || String::from_utf8_lossy(&drawn.lock().unwrap()).into_owned();
    until("the picture", async || {
        shown().contains("store up").then_some(())
    })
    .await;
    assert!(shown().contains("\u{1b}[?1049h") && !shown().contains("\u{1b}[?1049l"));
    // A gateway that goes away ends nothing; only an alarm is drawn reversed.
    assert!(!shown().contains("\u{1b}[7m"), "{}", shown());
    drop(gateway);
    until("the alarm", async || {
        shown().contains("\u{1b}[7m").then_some(())
    })
    .await;
    assert!(child.try_wait().unwrap().is_none());
    keys.write_all(b"q").unwrap();
    keys.flush().unwrap();
    let ended = until("its end", async || child.try_wait().unwrap()).await;
    reads.join().unwrap();
    assert!(ended.success(), "{}", shown());
    assert!(shown().contains("\u{1b}[?1049l") && shown().contains("\u{1b}[?25h"));
}
