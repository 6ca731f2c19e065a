//! The house keeps its own rules: rings, sizes, words at the head of files,
//! papers that know what there is.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the sources has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

use sumun::metrics;

/// The rings, from the inside. A room uses only rings inside its own, and
/// itself; neighbours do not know each other.
const RINGS: &[&[&str]] = &[
    &["room", "metrics"],
    &["clock", "alarm", "incoming"],
    &[
        "tls", "token", "store", "visitor", "origin", "load", "pages", "tracking", "bots",
    ],
    &["server", "config", "ledger", "origins"],
    &["reception", "controller"],
    &["gateway", "catalog"],
    &["api"],
    &["run"],
    &["demo", "operator"],
];

/// The longest file; what is tested and its tests are counted apart.
const LINES_MAX: usize = 500;

/// Longer ones that are still to be divided.
const TOO_LONG: &[&str] = &[];

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path
            .extension()
            .is_some_and(|extension| extension == ending)
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    texts("src")
}

/// The Rust files below a folder of the crate, by their names there.
fn texts(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    files(&root, "rs")
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn room_of(name: &str) -> &str {
    let first = name.split('/').next().unwrap();
    first.strip_suffix(".rs").unwrap_or(first)
}

fn ring_of(room: &str) -> Option<usize> {
    RINGS.iter().position(|ring| ring.contains(&room))
}

/// The part of a file before its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

#[test]
fn a_room_uses_only_rings_inside_its_own() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        let room = room_of(&name);
        if matches!(room, "lib" | "main") {
            continue;
        }
        let own = ring_of(room).unwrap_or_else(|| panic!("{room} is in no ring"));
        for (line, words) in without_tests(&text).lines().enumerate() {
            if words.trim_start().starts_with("//") {
                continue;
            }
            for used in words.split("crate::").skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let Some(ring) = ring_of(&used) else { continue };
                if used != room && ring >= own {
                    broken.push(format!("{name}:{}: {room} uses {used}", line + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_rules_do_no_io_read_no_clock_and_draw_nothing() {
    for (name, text) in sources() {
        if room_of(&name) != "room" {
            continue;
        }
        for word in [
            "tokio::",
            "std::fs",
            "std::net::Tcp",
            "Instant::now",
            "SystemTime",
            "rand::",
            ".await",
        ] {
            assert!(!without_tests(&text).contains(word), "{name} uses {word}");
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (name, text) in sources() {
        assert!(text.starts_with("//!"), "{name} begins without `//!`");
    }
}

#[test]
fn no_file_is_longer_than_a_sitting() {
    let mut long = Vec::new();
    for (name, text) in sources() {
        let lines = without_tests(&text).lines().count();
        if lines > LINES_MAX && !TOO_LONG.contains(&name.as_str()) {
            long.push(format!("{name}: {lines} lines"));
        }
    }
    for (name, text) in texts("tests") {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            long.push(format!("tests/{name}: {lines} lines"));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn no_room_is_called_after_nothing() {
    for (name, _) in sources() {
        for word in ["util", "helper", "common", "manager", "service", "types"] {
            assert!(!name.contains(word), "{name} says nothing about its trade");
        }
    }
}

#[test]
fn every_metric_is_named_in_one_place() {
    for (name, text) in sources() {
        if name != "metrics.rs" {
            let spelt = without_tests(&text).contains("\"sumun_event_")
                || without_tests(&text).contains("\"sumun_http_");
            assert!(!spelt, "{name} spells a metric's name");
        }
    }
}

#[test]
fn the_paper_on_metrics_has_a_row_for_each_and_names_no_other() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let paper = fs::read_to_string(file).unwrap();
    let mut wrong = Vec::new();
    for metric in metrics::ALL {
        let row = format!("| `{}` |", metric.name);
        let rows = paper.lines().filter(|line| line.starts_with(&row)).count();
        if rows != 1 {
            wrong.push(format!("{} has {rows} rows", metric.name));
        }
    }
    let words = paper.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    // `sumun_event_` alone is the beginning of many.
    for word in words.filter(|word| word.starts_with("sumun_") && !word.ends_with('_')) {
        if !metrics::ALL.iter().any(|metric| metric.name == word) {
            wrong.push(format!("there is no {word}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
