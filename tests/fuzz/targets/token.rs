//! The reader of tokens and of cookies: nothing is good but what was signed, byte for
//! byte, and no cookie of ours is left to the origin.
#![no_main]

use std::sync::LazyLock;

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use sumun::room::event::EventId;
use sumun::room::ticket::{Generation, Number, SessionKey};
use sumun::token::{Key, Keyring, Pass, Success, Ticket, Token, Verdict, cookie};

struct Signed {
    ring: Keyring,
    texts: Vec<String>,
}

static SIGNED: LazyLock<Signed> = LazyLock::new(|| {
    let key = |id| Key::new(id, b"0123456789abcdef0123456789abcdef").unwrap();
    let ring = Keyring::new(vec![key("a"), key("b")]);
    let event = EventId::new("main").unwrap();
    let (visitor, session) = (
        "0123456789abcdef0123456789abcdef".to_owned(),
        SessionKey([7; 16]),
    );
    let ticket = Ticket {
        event: event.clone(),
        scope: Some("shop.example".to_owned()),
        visitor: visitor.clone(),
        issued_at: 1_800_000_000,
        expires: 1_800_000_180,
        number: Number(4_711),
        generation: Generation(0),
        position: Some(12),
        called: false,
        next_poll: 1_800_000_003,
        since: 1_800_000_000,
        estimate: None,
    };
    let pass = Pass {
        event: event.clone(),
        scope: None,
        visitor: visitor.clone(),
        issued_at: 1_800_000_000,
        expires: 1_800_000_600,
        session,
        begun: 1_800_000_000,
    };
    let success = Success {
        event,
        visitor,
        issued_at: 1_800_000_000,
        expires: 1_800_000_300,
        session,
        begun: 1_800_000_000,
    };
    let tokens = [
        Token::Ticket(ticket),
        Token::Pass(pass),
        Token::Success(success),
    ];
    let texts = tokens
        .iter()
        .map(|token| ring.sign(token, &[]).unwrap())
        .collect();
    Signed { ring, texts }
});

/// A signed token, changed in places: each three bytes say where and to what.
fn changed(token: &str, edits: &[u8]) -> String {
    let mut bytes = token.as_bytes().to_vec();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (bytes.len() + 1);
        match edit[2] {
            0 => {
                bytes.truncate(at.max(1));
            }
            value if value < 128 && at < bytes.len() => bytes[at] = value,
            value => bytes.insert(at, value % 128),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read(text: &str) {
    if let Verdict::Good(token) = SIGNED.ring.verify(text) {
        assert!(
            SIGNED.texts.iter().any(|signed| signed == text),
            "{text} is {token:?}"
        );
    }
}

fn cookies(bytes: &[u8]) {
    let Ok(header) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    for found in cookie::ours(std::iter::once(&header)) {
        read(found.value);
    }
    match cookie::without_ours(&header) {
        Some(Some(rest)) => {
            assert_eq!(cookie::ours(std::iter::once(&rest)).count(), 0, "{rest:?}");
            assert_eq!(cookie::without_ours(&rest), None, "{rest:?}");
        }
        // What is left to the origin as it was has none of ours.
        None => assert_eq!(
            cookie::ours(std::iter::once(&header)).count(),
            0,
            "{header:?}"
        ),
        Some(None) => {}
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    match choice % 5 {
        which @ 0..3 => read(&changed(&SIGNED.texts[usize::from(which)], rest)),
        3 => read(&String::from_utf8_lossy(rest)),
        _ => cookies(rest),
    }
});
