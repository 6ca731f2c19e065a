//! `sumun demo` with few visitors and a short wave, in a process of its own:
//! its shop is so frail that other tests beside it would count as its crowd.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "parts/ports.rs"]
mod ports;

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use sumun::demo::{self, DemoError, Options, Show};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Port 0 is any: tests run side by side.
const SMALL: Options = Options {
    visitors: 48,
    wave: Duration::from_secs(5),
    port: Some(0),
    show: Show::Nothing,
};

#[tokio::test(flavor = "multi_thread")]
async fn behind_the_gateway_everybody_gets_in_and_the_shop_holds() {
    let summary = demo::run(SMALL, pending()).await.unwrap();
    let (behind, alone) = (&summary.behind, &summary.alone);
    assert!(!summary.interrupted, "{summary}");
    assert_eq!(behind.arrived, u64::from(SMALL.visitors), "{summary}");
    assert_eq!(behind.entered, behind.arrived, "{summary}");
    assert_eq!(behind.ordered, behind.arrived, "{summary}");
    assert_eq!(behind.waiting, 0, "{summary}");
    assert!(summary.inside_most > 0, "{summary}");
    assert!(summary.inside_most <= u64::from(summary.limit), "{summary}");
    assert!(alone.failures > behind.failures, "{summary}");
    // Who is called may come a poll later than the next one, not a line later.
    assert!(behind.order.is_some_and(|tau| tau > 0.5), "{summary}");
}

/// Resolves once the gateway at this door is ready.
async fn ready(door: SocketAddr) {
    let answer = async || {
        let mut stream = TcpStream::connect(door).await.ok()?;
        let ask = format!("GET /__sumun/readyz HTTP/1.0\r\nhost: {door}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    };
    let looking = async {
        while !answer()
            .await
            .is_some_and(|answer| answer.contains(" 200 "))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let looked = tokio::time::timeout(Duration::from_secs(60), looking).await;
    looked.expect("the gateway is never ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_it_with_a_summary() {
    let door = ports::free_address();
    let options = Options {
        port: Some(door.port()),
        ..SMALL
    };
    let summary = demo::run(options, ready(door)).await.unwrap();
    assert!(summary.interrupted);
    let text = summary.to_string();
    assert!(text.contains("The demo was ended"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_shown_is_refused_with_the_option_named() {
    let cases = [
        (
            Options {
                visitors: 9,
                ..SMALL
            },
            "--visitors",
        ),
        (
            Options {
                visitors: 3_001,
                ..SMALL
            },
            "--visitors",
        ),
        (
            Options {
                wave: Duration::from_secs(601),
                ..SMALL
            },
            "--seconds",
        ),
    ];
    for (options, named) in cases {
        let fault = demo::run(options, pending()).await.unwrap_err();
        assert!(fault.to_string().contains(named), "{fault}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().port();
    let options = Options {
        port: Some(taken),
        ..SMALL
    };
    let fault = demo::run(options, pending()).await.unwrap_err();
    assert!(matches!(fault, DemoError::Port(port, _) if port == taken));
}
