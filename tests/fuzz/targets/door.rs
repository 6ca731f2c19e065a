//! Raw bytes to the public door, over real sockets: HTTP/1.1, HTTP/2 and neither.
//! Whatever comes, a connection whose client has said its last word ends, what gets
//! through the guard has one reading, and the next client is served.
#![no_main]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, TRANSFER_ENCODING};
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::fuzz_target;
use sumun::incoming::ClientBody;
use sumun::room::host;
use sumun::server::{self, ConnectionInfo, Places, Settings};
use sumun::visitor::address::TrustedProxies;
use sumun::visitor::kind::kind;

/// Longer than anything here takes, even on a busy machine.
const BOUND: Duration = Duration::from_secs(20);

fn door() -> SocketAddr {
    static DOOR: OnceLock<SocketAddr> = OnceLock::new();
    *DOOR.get_or_init(|| {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = server::listen(address, 1).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let settings = Settings {
                http2: true,
                ..Settings::default()
            };
            let places = Places::new(10_000, 10_000, TrustedProxies::default());
            let (_open, drain) = tokio::sync::watch::channel(false);
            let settings = tokio::sync::watch::channel(Arc::new(settings)).1;
            let served = server::serve(listener, settings, places, serve, drain);
            tokio::task::LocalSet::new().block_on(&runtime, served)
        });
        address
    })
}

async fn serve(request: Request<ClientBody>, info: ConnectionInfo) -> Response<Full<Bytes>> {
    has_one_reading(&request);
    let proxies = TrustedProxies::new(&["loopback"], "x-address").unwrap();
    let visitor = proxies.visitor(info.peer, info.tls, request.headers());
    let _decided = (kind(request.method(), request.headers()), visitor.host);
    let took = request.into_body().collect().await.is_ok();
    Response::new(Full::new(Bytes::from(format!("{took}"))))
}

/// What the guard promises of everything that it lets through.
fn has_one_reading(request: &Request<ClientBody>) {
    let (method, headers) = (request.method(), request.headers());
    assert!(
        *method != Method::CONNECT && *method != Method::TRACE,
        "{method}"
    );
    let target = request.uri().to_string();
    assert!(request.uri().authority().is_none(), "{target}");
    assert!(
        target.bytes().all(|byte| byte.is_ascii_graphic()),
        "{target}"
    );
    let all = target == "*" && *method == Method::OPTIONS;
    assert!(target.starts_with('/') || all, "{target}");
    let hosts: Vec<_> = headers.get_all(HOST).iter().collect();
    let old = request.version() == Version::HTTP_10;
    assert!(hosts.len() == 1 || old && hosts.is_empty(), "{hosts:?}");
    for host in hosts {
        let host = host.to_str().expect("a host of ASCII");
        assert!(!host.contains(['/', '@', ' ', ',', '#', '?']), "{host}");
        let _normal = host::normal(host);
    }
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    assert!(
        codings.len() <= 1 && (codings.is_empty() || !old),
        "{codings:?}"
    );
    for coding in codings {
        assert!(
            coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
            "{coding:?}"
        );
        assert!(!headers.contains_key("content-length"), "two lengths");
    }
    for name in headers.keys() {
        assert!(name.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

/// Sends these bytes, ends its half, and reads to the end.
fn tell(bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(door()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let mut answer = Vec::new();
    // A connection that the door has reset is as good as one that it has closed.
    if stream.write_all(bytes).is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
        let read = stream.read_to_end(&mut answer);
        let late = read.is_err_and(|fault| {
            matches!(
                fault.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            )
        });
        assert!(!late, "the connection does not end");
    }
    // Nothing is left in the kernel of it, or its ports would run out.
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    answer
}

fuzz_target!(|bytes: &[u8]| {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    tell(bytes);
    if ASKED.fetch_add(1, Ordering::Relaxed) % 256 == 0 {
        let answer = tell(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n");
        assert!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "the next one is not served"
        );
    }
});
