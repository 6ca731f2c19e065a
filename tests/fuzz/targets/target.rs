//! Paths and hosts, down to the event that they belong to, against readings that were
//! written apart from the house's: no spelling that some origin may take for a path of
//! an event leaves that event, and none that it may take for another is excluded.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use sumun::config::Config;
use sumun::room::host;
use sumun::room::routes::{Asked, Route, Routes};

const FILE: &str = r#"
origin = "http://127.0.0.1:1"
[[event]]
id = "all"
exclude = ["/open/", "/one"]
[[event]]
id = "sale"
paths = ["/sale", "/deep/er"]
exclude = []
"#;

static ROUTES: LazyLock<Routes> = LazyLock::new(|| {
    let config = Config::parse(FILE, std::iter::empty()).unwrap();
    let events: Vec<_> = config.events.into_iter().map(Arc::new).collect();
    Routes::new(&events, &[])
});

/// Percent signs decoded, once.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let pair = after
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let value = pair.and_then(|pair| {
            let plain = pair.bytes().all(|byte| byte.is_ascii_hexdigit());
            u8::from_str_radix(pair, 16).ok().filter(|_| plain)
        });
        match value {
            Some(value) if byte == b'%' => {
                read.push(value);
                rest = &after[2..];
            }
            _ => {
                read.push(byte);
                rest = after;
            }
        }
    }
    read
}

/// Dots and doubled slashes resolved, as a file server does.
fn resolved(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let folder = matches!(segments.last(), Some(&b"" | &b"." | &b".."));
    for segment in segments {
        match segment {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut read = Vec::from(*b"/");
    read.extend(kept.join(&b'/'));
    if folder && read.len() > 1 {
        read.push(b'/');
    }
    read
}

/// Parameters of segments left out, as a servlet container does.
fn bare(path: &[u8]) -> Vec<u8> {
    let segments: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .map(|segment| {
            segment
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default()
        })
        .collect();
    segments.join(&b'/')
}

/// What some origin takes a path for.
fn read_somewhere(path: &[u8]) -> Vec<Vec<u8>> {
    let once = decoded(path);
    let twice = decoded(&once);
    let slashed = |path: &[u8]| -> Vec<u8> {
        path.iter()
            .map(|byte| if *byte == b'\\' { b'/' } else { *byte })
            .collect()
    };
    vec![
        resolved(path),
        resolved(&once),
        resolved(&twice),
        resolved(&bare(path)),
        resolved(&bare(&once)),
        bare(&resolved(path)),
        bare(&resolved(&once)),
        decoded(&resolved(&bare(path))),
        resolved(&decoded(&bare(path))),
        resolved(&slashed(path)),
        resolved(&slashed(&once)),
        once,
    ]
}

fn is_below(prefix: &[u8], path: &[u8]) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (path, host) = text.split_once('\n').unwrap_or((text, "a.example"));
    let normal = host::normal(host);
    if let Some(normal) = &normal {
        assert_eq!(host::normal(normal).as_ref(), Some(normal), "{host:?}");
    }
    // The server lets nothing else come here.
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return;
    }
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let route = ROUTES.find(&Asked {
        host: normal.as_deref(),
        path,
        query,
        method: "GET",
        client: [203, 0, 113, 7].into(),
    });
    let Route::Matched { event, excluded } = route else {
        assert_eq!(route, Route::Ambiguous, "{path}");
        return;
    };
    for read in read_somewhere(path.as_bytes()) {
        let shown = String::from_utf8_lossy(&read).into_owned();
        if is_below(b"/sale", &read) || is_below(b"/deep/er", &read) {
            assert_eq!(event, 1, "{path} may be {shown}");
        }
        if excluded {
            let is_open = read.starts_with(b"/open/") || is_below(b"/one", &read);
            assert!(is_open, "{path} is excluded and may be {shown}");
        }
    }
});
