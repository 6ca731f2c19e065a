//! From what the file says to what the program uses.
//!
//! Each value is brought to its type, each missing one to its default, and
//! what contradicts another is refused. Nothing stops at the first fault.

use std::{collections::HashSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ipnet::IpNet;

use super::{
    Admin, Api, ApiKey, Config, Limits, Metrics, Signing, SigningKey, Store, StoreUrl, Timeouts,
    front::{self, Certificates},
    log, origins,
    raw::{
        RawAdmin, RawApi, RawFile, RawLimits, RawNamedSecret, RawSigning, RawStore, RawTimeouts,
    },
    secrets::secret,
    tracking, visitor,
};
use crate::room::{
    event::EventSettings, faults::Faults, host, resolve::networks, routes::clashes, secret::Secret,
    settings::RawEvent, units,
};
use crate::store::redis::Address;

/// Shortest admin token and API key, in bytes.
const TOKEN_MIN: usize = 16;

/// Shortest signing secret, in bytes: as long as the output of HMAC SHA-256
/// (RFC 7518 §3.2).
const SIGNING_MIN: usize = 32;

/// Resolves a whole file; `None` when a value without which there is no
/// configuration has a fault.
pub(super) fn config(
    (mut raw, event_origins): (RawFile, &[Vec<String>]),
    certificates: Certificates,
    faults: &mut Faults,
) -> Option<Config> {
    let to = origins::all(&mut raw, event_origins, certificates, faults);
    let tls = raw.tls.map(|raw| front::tls(raw, certificates, faults));
    let listen = address("listen", raw.listen.as_deref(), "0.0.0.0:8080", faults);
    let admin = admin(raw.admin, faults);
    let metrics = raw
        .metrics
        .listen
        .as_deref()
        .filter(|text| !text.is_empty());
    let metrics = Metrics {
        listen: metrics.and_then(|text| address("metrics.listen", Some(text), "", faults)),
    };
    doors(
        &[
            ("listen", listen),
            ("admin.listen", admin.as_ref().map(|admin| admin.listen)),
            ("metrics.listen", metrics.listen),
        ],
        faults,
    );
    let trusted_proxies = trusted(raw.trusted_proxies.as_deref(), faults);
    let client_address_header = header(
        raw.client_address_header.as_deref(),
        trusted_proxies.is_empty(),
        faults,
    );
    let request_id_header = request_id(raw.request_id_header.as_deref(), faults);
    proxy_protocol(raw.proxy_protocol, &trusted_proxies, faults);
    let pass_hosts = hosts("pass_hosts", &raw.pass_hosts, faults);
    let store = store(raw.store, faults);
    let signing = signing(raw.signing, &store, faults);
    let api = api(raw.api, faults);
    let has_proxies = !trusted_proxies.is_empty();
    let visitor = visitor::resolve(raw.visitor, certificates, has_proxies, faults);
    let (events, written_events) = events(raw.event, &pass_hosts, faults);
    Some(Config {
        listen: listen?,
        origins: to.gateways?,
        origin_host: to.host,
        origin_http2: raw.origin_http2,
        trusted_proxies,
        client_address_header,
        request_id_header,
        proxy_protocol: raw.proxy_protocol,
        pass_hosts,
        forward_token: raw.forward_token,
        http2: raw.http2.unwrap_or(true),
        state_dir: state_dir(raw.state_dir),
        drain_delay: raw.drain_delay.unwrap_or(Duration::from_secs(5)),
        drain_timeout: raw.drain_timeout.unwrap_or(Duration::from_secs(20)),
        timeouts: timeouts(&raw.timeouts),
        limits: limits(&raw.limits, faults),
        origin_pool: to.pool,
        origin_health: to.health,
        origin_check: to.check,
        origin_tls: to.tls,
        log: log::resolve(raw.log, faults),
        visitor,
        tls,
        admin: admin?,
        metrics,
        api,
        store,
        signing,
        statistics: tracking::statistics(&raw.statistics),
        routes: tracking::routes(raw.route, faults),
        events,
        written_events,
        event_origins: to.events,
    })
}

fn state_dir(written: Option<String>) -> Option<PathBuf> {
    let dir = written.unwrap_or_else(|| "sumun-state".to_owned());
    Some(PathBuf::from(dir)).filter(|dir| !dir.as_os_str().is_empty())
}

fn proxy_protocol(is_on: bool, trusted: &[IpNet], faults: &mut Faults) {
    if is_on && trusted.is_empty() {
        let remedy = "is read from trusted proxies only: name them in trusted_proxies";
        faults.add("proxy_protocol", "true", remedy);
    }
}

fn timeouts(raw: &RawTimeouts) -> Timeouts {
    let seconds = Duration::from_secs;
    Timeouts {
        connect: raw.connect.unwrap_or(seconds(3)),
        first_byte: raw.first_byte.unwrap_or(seconds(60)),
        idle: raw.idle.unwrap_or(seconds(60)),
        head: raw.head.unwrap_or(seconds(10)),
        tunnel_idle: raw.tunnel_idle.unwrap_or(seconds(3600)),
    }
}

fn limits(raw: &RawLimits, faults: &mut Faults) -> Limits {
    let bytes = raw.header_bytes.as_deref().and_then(units::size);
    let connections = raw.connections.unwrap_or(20_000);
    if let Some(most) = raw
        .connections_per_address
        .filter(|most| *most > connections)
    {
        let remedy = format!("write at most limits.connections, which is {connections}");
        faults.add("limits.connections_per_address", &most.to_string(), remedy);
    }
    Limits {
        connections,
        connections_per_address: raw.connections_per_address.unwrap_or(500).min(connections),
        header_bytes: bytes
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(32 << 10),
    }
}

fn address(
    path: &str,
    written: Option<&str>,
    default: &str,
    faults: &mut Faults,
) -> Option<SocketAddr> {
    let text = written.unwrap_or(default);
    let address = text.parse().ok();
    if address.is_none() {
        let remedy = "write address:port, like \"0.0.0.0:8080\" or \"[::]:8080\"";
        faults.text(path, text, remedy);
    }
    address
}

/// No two doors at one address. Port 0 is drawn by the system.
fn doors(doors: &[(&str, Option<SocketAddr>)], faults: &mut Faults) {
    let mut seen: Vec<(&str, SocketAddr)> = Vec::new();
    for (path, door) in doors {
        let Some(door) = door.filter(|door| door.port() != 0) else {
            continue;
        };
        let meets = |other: &SocketAddr| {
            let everywhere = door.ip().is_unspecified() || other.ip().is_unspecified();
            other.port() == door.port() && (everywhere || other.ip() == door.ip())
        };
        match seen.iter().find(|(_, other)| meets(other)) {
            Some((first, _)) => {
                let remedy = format!("{first} has this port already: choose another");
                faults.text(path, &door.to_string(), remedy);
            }
            None => seen.push((path, door)),
        }
    }
}

fn trusted(written: Option<&[String]>, faults: &mut Faults) -> Vec<IpNet> {
    let default = ["loopback".to_owned()];
    let mut sound = Vec::new();
    for (index, text) in written.unwrap_or(&default).iter().enumerate() {
        match networks(text) {
            Ok(networks) => sound.extend(networks),
            Err(remedy) => faults.text(&format!("trusted_proxies[{index}]"), text, remedy),
        }
    }
    if let Some(all) = sound.iter().find(|network| network.prefix_len() == 0) {
        let remedy = "this believes every visitor about its address: name your proxies only";
        faults.text("trusted_proxies", &all.to_string(), remedy);
    }
    sound
}

fn header(written: Option<&str>, nobody_trusted: bool, faults: &mut Faults) -> Option<String> {
    let path = "client_address_header";
    let text = written.filter(|text| !text.is_empty())?;
    if text.parse::<http::HeaderName>().is_err() {
        faults.text(path, text, "write the name of a header");
    } else if nobody_trusted {
        let remedy = "is believed from trusted proxies only: name them in trusted_proxies";
        faults.text(path, text, remedy);
    }
    Some(text.to_owned())
}

/// Headers that say something else already.
const SPOKEN_FOR: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

fn request_id(written: Option<&str>, faults: &mut Faults) -> Option<String> {
    let text = written.filter(|text| !text.is_empty())?;
    let name = text.to_ascii_lowercase();
    let ours = name.starts_with("x-forwarded-") || name.starts_with("sumun-");
    if text.parse::<http::HeaderName>().is_err() {
        faults.text("request_id_header", text, "write the name of a header");
    } else if ours || SPOKEN_FOR.contains(&name.as_str()) {
        let remedy = "says something else already: write a header of its own, like X-Request-Id";
        faults.text("request_id_header", text, remedy);
    }
    Some(name)
}

fn hosts(path: &str, written: &[String], faults: &mut Faults) -> Vec<String> {
    let mut sound = Vec::new();
    for (index, text) in written.iter().enumerate() {
        match host::configured(text) {
            Ok(name) => sound.push(name),
            Err(remedy) => faults.text(&format!("{path}[{index}]"), text, remedy),
        }
    }
    sound
}

pub(super) fn admin(raw: RawAdmin, faults: &mut Faults) -> Option<Admin> {
    let before = faults.len();
    let token = secret("admin.token", raw.token, raw.token_file.as_ref(), faults);
    let told = faults.len() > before;
    let listen = address(
        "admin.listen",
        raw.listen.as_deref(),
        "127.0.0.1:9090",
        faults,
    )?;
    match &token {
        Some(token) if token.reveal().len() < TOKEN_MIN => {
            let remedy = format!("write at least {TOKEN_MIN} characters");
            faults.add("admin.token", "", remedy);
        }
        None if !told && !listen.ip().is_loopback() => {
            let remedy = format!("required, because admin.listen {listen} is not loopback");
            faults.add("admin.token", "", remedy);
        }
        _ => {}
    }
    Some(Admin { listen, token })
}

fn api(raw: RawApi, faults: &mut Faults) -> Api {
    let mut keys = Vec::new();
    for (path, id, secret) in named_secrets("api.keys", raw.keys, faults) {
        if secret.reveal().len() < TOKEN_MIN {
            let remedy = format!("write at least {TOKEN_MIN} characters");
            faults.add(&format!("{path}.secret"), "", remedy);
        }
        keys.push(ApiKey { id, secret });
    }
    for (index, text) in raw.cors_origins.iter().enumerate() {
        let same = url::Url::parse(text).is_ok_and(|url| {
            url.origin().is_tuple() && url.origin().ascii_serialization() == *text
        });
        if !same {
            let path = format!("api.cors_origins[{index}]");
            let remedy = "write an origin like \"https://shop.example.com\": \
                          scheme and host in small letters, no path, no default port, no *";
            faults.text(&path, text, remedy);
        }
    }
    Api {
        keys,
        cors_origins: raw.cors_origins,
    }
}

fn store(raw: RawStore, faults: &mut Faults) -> Store {
    let on_failure = raw.on_failure.unwrap_or_default();
    let prefix = raw.prefix.unwrap_or_else(|| "sumun".to_owned());
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.:".contains(&b);
    if prefix.is_empty() || !prefix.bytes().all(plain) {
        let remedy = "write 1 to 64 letters, digits and _ - . :";
        faults.text("store.prefix", &prefix, remedy);
    }
    let url = secret("store.url", raw.url, raw.url_file.as_ref(), faults);
    if let Some(file) = raw.ca_file.as_deref().filter(|file| !file.is_file()) {
        let remedy = "there is no such file: name a file of PEM certificates";
        faults.text("store.ca_file", &file.display().to_string(), remedy);
    }
    Store {
        ca_file: raw.ca_file,
        url: url.map_or(StoreUrl::Memory, |url| store_url(url, faults)),
        prefix,
        on_failure,
        timeout: raw.timeout.unwrap_or(Duration::from_millis(250)),
    }
}

/// The URL is not shown in faults: it may hold a password.
fn store_url(written: Secret, faults: &mut Faults) -> StoreUrl {
    let text = written.reveal();
    if text == "memory:" {
        return StoreUrl::Memory;
    }
    if let Err(remedy) = Address::parse(text) {
        faults.add("store.url", "", remedy);
    }
    // Taken as shared, so that what a shared store needs is asked for once only.
    StoreUrl::Redis(written)
}

fn signing(raw: RawSigning, store: &Store, faults: &mut Faults) -> Signing {
    let written = !raw.keys.is_empty();
    let mut keys = Vec::new();
    for (path, id, secret) in named_secrets("signing.keys", raw.keys, faults) {
        let text = secret.reveal();
        let decoded = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .ok()
            .filter(|bytes| bytes.len() >= SIGNING_MIN);
        let secret = decoded.unwrap_or_else(|| text.as_bytes().to_vec());
        if secret.len() < SIGNING_MIN {
            let remedy = format!("write at least {SIGNING_MIN} bytes; `sumun key` makes one");
            faults.add(&format!("{path}.secret"), "", remedy);
        }
        keys.push(SigningKey { id, secret });
    }
    if !written && matches!(store.url, StoreUrl::Redis(_)) {
        let remedy = "gateways that share a store must share keys: \
                      write what `sumun key` prints into each gateway's file";
        faults.add("signing.keys", "", remedy);
    }
    Signing { keys }
}

/// `{ id, secret }` lists: the path of each sound entry, its id and secret.
fn named_secrets(
    path: &str,
    raw: Vec<RawNamedSecret>,
    faults: &mut Faults,
) -> Vec<(String, String, Secret)> {
    let mut sound = Vec::new();
    let mut ids = HashSet::new();
    for (index, entry) in raw.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        let id = entry.id.unwrap_or_default();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(1..=32).contains(&id.len()) || !id.bytes().all(plain) {
            faults.text(
                &format!("{path}.id"),
                &id,
                "write 1 to 32 of A-Z, a-z, 0-9, - and _",
            );
        } else if !ids.insert(id.clone()) {
            faults.text(&format!("{path}.id"), &id, "stands here twice: rename one");
        }
        let at = format!("{path}.secret");
        let before = faults.len();
        match secret(&at, entry.secret, entry.secret_file.as_ref(), faults) {
            Some(secret) => sound.push((path, id, secret)),
            None if faults.len() == before => {
                faults.add(&at, "", "give the secret, or a secret_file that holds it");
            }
            None => {}
        }
    }
    sound
}

fn events(
    raw: Vec<RawEvent>,
    pass_hosts: &[String],
    faults: &mut Faults,
) -> (Vec<EventSettings>, Vec<RawEvent>) {
    let mut sound = Vec::new();
    let mut written = Vec::new();
    let mut places = Vec::new();
    let mut ids = HashSet::new();
    for (index, mut event) in raw.into_iter().enumerate() {
        let path = format!("event[{index}]");
        event.paths.get_or_insert_with(|| vec!["/".to_owned()]);
        let bypass = &mut event.bypass;
        bypass.secret = secret(
            &format!("{path}.bypass.secret"),
            bypass.secret.take(),
            bypass.secret_file.take().as_ref(),
            faults,
        );
        let settings = event.resolve(&path, faults);
        if let Some(id) = event.id.clone().filter(|id| !ids.insert(id.clone())) {
            let remedy = "another event has this id: rename one";
            faults.text(&format!("{path}.id"), &id, remedy);
        }
        let Some(settings) = settings else {
            continue;
        };
        for (at, host) in settings.hosts.iter().enumerate() {
            if pass_hosts.contains(host) {
                let remedy = "pass_hosts lets this host pass without an event: keep one of them";
                faults.text(&format!("{path}.hosts[{at}]"), host, remedy);
            }
        }
        places.push(path);
        sound.push(Arc::new(settings));
        written.push(event);
    }
    for clash in clashes(&sound) {
        let (Some(first), Some(second)) = (places.get(clash.first), places.get(clash.second))
        else {
            continue;
        };
        let host = clash.host.as_deref().unwrap_or("any host");
        let remedy = format!("{first} covers this path at {host} already: give it to one of them");
        faults.text(&format!("{second}.paths"), &clash.path, remedy);
    }
    let sound = sound.into_iter().map(Arc::unwrap_or_clone).collect();
    (sound, written)
}
