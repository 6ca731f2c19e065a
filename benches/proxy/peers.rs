//! The origin, and those who stand before it: nginx, haproxy, Sumun with a pass on
//! each request, Sumun without any event, and bare hyper. All on one core, the
//! origin and the load on the other.

use std::fs;
use std::path::PathBuf;

use crate::side::{self, Running, ask_by, free_port, nginx, sumun};
use crate::{Case, bare};

/// One who forwards.
pub struct Peer {
    pub name: &'static str,
    pub running: Running,
    /// A header line that each request has.
    pub header: String,
}

/// All of them, nginx first.
pub struct Peers {
    all: Vec<Peer>,
    _origin: Running,
}

/// A certificate for 127.0.0.1 and its key, each in a file, and both in one.
struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    both: PathBuf,
}

const NO_COOKIE: &str = "Cookie: a=1";

impl Peers {
    pub fn start(case: &Case) -> Self {
        let origin = nginx("1", "origin", |port| {
            let page = side::folder("pages");
            fs::write(page.join("page.txt"), "x".repeat(case.body)).expect("a page");
            format!(
                "sendfile on; tcp_nopush on; open_file_cache max=10; server {{ listen 127.0.0.1:{port} reuseport; \
                 location / {{ root {}; try_files /page.txt =404; }} }}",
                page.display()
            )
        });
        let certificate = certificate();
        let mut all = vec![
            own_nginx(case, origin.port, &certificate),
            haproxy(case, origin.port, &certificate),
        ];
        let sumun = gateway(case, "sumun", true, origin.port, &certificate);
        // The same request, byte for byte, without any event.
        let no_event = Peer {
            header: sumun.header.clone(),
            ..gateway(case, "no event", false, origin.port, &certificate)
        };
        all.extend([sumun, no_event]);
        if !case.tls {
            all.push(bare_hyper(origin.port));
        }
        Self {
            all,
            _origin: origin,
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Peer> {
        self.all.iter()
    }
}

fn own_nginx(case: &Case, origin: u16, certificate: &Certificate) -> Peer {
    let running = nginx("0", "nginx", |port| {
        let listen = match (case.tls, case.two) {
            (false, _) => format!("listen 127.0.0.1:{port};"),
            (true, two) => format!(
                "listen 127.0.0.1:{port} ssl{}; ssl_certificate {}; ssl_certificate_key {}; \
                 ssl_protocols TLSv1.3;",
                if two { " http2" } else { "" },
                certificate.cert.display(),
                certificate.key.display()
            ),
        };
        format!(
            "upstream origin {{ server 127.0.0.1:{origin}; keepalive 1024; keepalive_requests 100000000; }}\n\
             server {{ {listen} location / {{ proxy_pass http://origin; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; proxy_set_header Host $host; \
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
             proxy_set_header X-Forwarded-Proto $scheme; proxy_buffers 16 16k; }} }}"
        )
    });
    Peer {
        name: "nginx",
        running,
        header: NO_COOKIE.to_owned(),
    }
}

fn haproxy(case: &Case, origin: u16, certificate: &Certificate) -> Peer {
    let port = free_port();
    let tls = match (case.tls, case.two) {
        (false, _) => String::new(),
        (true, two) => format!(
            " ssl crt {} alpn {} ssl-min-ver TLSv1.3",
            certificate.both.display(),
            if two { "h2,http/1.1" } else { "http/1.1" }
        ),
    };
    let file = side::folder("haproxy").join("haproxy.cfg");
    let text = format!(
        "global\n nbthread 1\n maxconn 16000\n no strict-limits\n\
         defaults\n mode http\n timeout connect 3s\n timeout client 60s\n timeout server 60s\n \
         timeout http-keep-alive 60s\n option forwardfor\n http-reuse always\n\
         frontend front\n bind 127.0.0.1:{port}{tls}\n default_backend origin\n\
         backend origin\n http-request set-header X-Forwarded-Proto http\n server one 127.0.0.1:{origin} pool-max-conn 1024\n"
    );
    fs::write(&file, text).expect("a configuration");
    let file = file.display().to_string();
    Peer {
        name: "haproxy",
        running: side::start("0", "haproxy", &["-db", "-f", &file], port),
        header: NO_COOKIE.to_owned(),
    }
}

fn gateway(
    case: &Case,
    name: &'static str,
    with_event: bool,
    origin: u16,
    certificate: &Certificate,
) -> Peer {
    let tls = format!(
        "[tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        certificate.cert.display(),
        certificate.key.display()
    );
    let event = "[[event]]\nid = \"main\"\nlimit = 100000\nsession_requests_per_second = 1000000\n\
         session_requests_in_flight = 1000000\n[event.queue_when]\nin_flight = 100000\n";
    let (running, _) = sumun(
        "0",
        name,
        &format!(
            "origin = \"http://127.0.0.1:{origin}\"\nstate_dir = \"\"\n[log]\naccess = false\n\
             [limits]\nconnections_per_address = 20000\n{}{}",
            if case.tls { tls.as_str() } else { "" },
            if with_event { event } else { "" },
        ),
    );
    let header = if with_event {
        format!("Cookie: {}", pass(case, running.port))
    } else {
        NO_COOKIE.to_owned()
    };
    Peer {
        name,
        running,
        header,
    }
}

fn bare_hyper(origin: u16) -> Peer {
    let port = free_port();
    let own = std::env::current_exe().expect("this program");
    let arguments = [bare::WORD, &port.to_string(), &origin.to_string()];
    Peer {
        name: "bare hyper",
        running: side::start("0", &own.display().to_string(), &arguments, port),
        header: NO_COOKIE.to_owned(),
    }
}

/// Enters as a visitor and brings the pass home.
fn pass(case: &Case, port: u16) -> String {
    let answer = ask_by(case.tls, port, "Accept: text/html");
    let line = answer
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("set-cookie:"))
        .unwrap_or_else(|| panic!("a pass: {answer}"));
    let value = line.split_once(':').expect("a header").1.trim();
    value.split(';').next().expect("a pair").to_owned()
}

fn certificate() -> Certificate {
    let folder = side::folder("certificate");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let certificate = Certificate {
        cert: folder.join("cert.pem"),
        key: folder.join("key.pem"),
        both: folder.join("both.pem"),
    };
    fs::write(&certificate.cert, &cert).expect("a file");
    fs::write(&certificate.key, &key).expect("a file");
    fs::write(&certificate.both, cert + &key).expect("a file");
    certificate
}
