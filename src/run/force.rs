//! What a configuration puts in force while the server runs: whole, or not at all.
//! What needs a restart stays as it was at the start and is named.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc};
use tracing::{error, info, warn};

use super::origins::Planner;
use super::threads::Steering;
use super::{Reload, RunError, base, certificates, keys, log, open};
use crate::api::admin::AdminDoor;
use crate::catalog::Catalog;
use crate::config::{Config, StoreUrl, Tls};
use crate::controller::Bench;
use crate::gateway::{AccessLog, Manner};
use crate::metrics::{self as names, Metrics};
use crate::origins::Fleet;
use crate::reception::{Reception, Users, Wanted};
use crate::tls::{Files, Front};
use crate::tracking::Tracking;
use crate::visitor::address::TrustedProxies;
use crate::visitor::region::Regions;
use crate::visitor::request_id::RequestIds;
use crate::visitor::user::UserHash;

/// Whether two configurations differ.
type Differs = fn(&Config, &Config) -> bool;

/// The keys of the file that are in force after a restart only, and whether two
/// configurations differ there. docs/configuration.md lists the same ones.
const AFTER_RESTART: &[(&str, Differs)] = &[
    ("listen", |a, b| a.listen != b.listen),
    ("state_dir", |a, b| a.state_dir != b.state_dir),
    ("log.format", |a, b| a.log.format != b.log.format),
    ("tls.cert_file", |a, b| {
        first(a).map(|files| &files.cert_file) != first(b).map(|files| &files.cert_file)
    }),
    ("tls.key_file", |a, b| {
        first(a).map(|files| &files.key_file) != first(b).map(|files| &files.key_file)
    }),
    ("tls.certificates", |a, b| {
        !pairs(a).iter().skip(1).eq(pairs(b).iter().skip(1))
    }),
    ("admin.listen", |a, b| a.admin.listen != b.admin.listen),
    ("metrics.listen", |a, b| {
        a.metrics.listen != b.metrics.listen
    }),
    ("store.url", |a, b| a.store.url != b.store.url),
    ("store.prefix", |a, b| a.store.prefix != b.store.prefix),
    ("store.on_failure", |a, b| {
        a.store.on_failure != b.store.on_failure
    }),
    ("store.timeout", |a, b| a.store.timeout != b.store.timeout),
    ("store.ca_file", |a, b| a.store.ca_file != b.store.ca_file),
];

fn pairs(config: &Config) -> &[Files] {
    let tls = config.tls.as_ref();
    tls.map_or(&[], |tls| tls.certificates.as_slice())
}

fn first(config: &Config) -> Option<&Files> {
    pairs(config).first()
}

/// The keys in which a file differs from what runs, and that need a restart.
fn after_restart(runs: &Config, fresh: &Config) -> Vec<&'static str> {
    let differing = AFTER_RESTART
        .iter()
        .filter(|(_, differ)| differ(runs, fresh));
    differing.map(|(key, _)| *key).collect()
}

/// What is to run after a reload: the fresh file, but for what needs a restart.
fn in_force(runs: &Config, fresh: &Config) -> Config {
    let mut next = Config {
        listen: runs.listen,
        state_dir: runs.state_dir.clone(),
        metrics: runs.metrics.clone(),
        store: runs.store.clone(),
        ..fresh.clone()
    };
    next.log.format = runs.log.format;
    // A token may be missing only where the door is, and keys where the store is.
    if runs.admin.listen != fresh.admin.listen {
        next.admin = runs.admin.clone();
    }
    if fresh.signing.keys.is_empty() && matches!(runs.store.url, StoreUrl::Redis(_)) {
        next.signing = runs.signing.clone();
    }
    next.tls = runs.tls.as_ref().map(|runs| Tls {
        certificates: runs.certificates.clone(),
        min_version: fresh
            .tls
            .as_ref()
            .map_or(runs.min_version, |tls| tls.min_version),
    });
    next
}

/// All that a reload turns.
pub(super) struct Helm {
    pub(super) runs: Config,
    pub(super) planner: Planner,
    pub(super) fleet: Arc<Fleet>,
    pub(super) bench: Arc<Bench>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) reception: Arc<Reception>,
    pub(super) front: Option<Arc<Front>>,
    pub(super) admin: Arc<AdminDoor>,
    pub(super) threads: Steering,
}

impl Helm {
    /// Puts a fresh configuration in force, as far as that needs no restart.
    ///
    /// # Errors
    /// What of it cannot be used; then nothing has changed.
    pub(super) fn turn(&mut self, fresh: &Config) -> Result<(), RunError> {
        let waiting = after_restart(&self.runs, fresh);
        let next = in_force(&self.runs, fresh);
        // All that may fail comes first.
        let secrets = keys::secrets(&next)?;
        let signing = keys::signing(&secrets)?;
        let ids = secrets.iter().map(|(id, _)| id.clone()).collect();
        let wanted = wanted(&next, self.regions(&next)?, &secrets);
        let secrets = secrets.into_iter().map(|(_, secret)| secret).collect();
        let trusted = trusted(&next)?;
        let tls = match (&self.front, &next.tls) {
            (Some(front), Some(tls)) => Some(front.speaking(tls.min_version, next.http2)?),
            _ => None,
        };
        let plan = self.planner.replan(secrets, &next)?;
        // From here on nothing does.
        self.reception.keyring.exchange(signing);
        self.bench.keys.store(Arc::new(ids));
        self.fleet.change(plan);
        self.catalog.rebase(base(&next));
        self.admin.change_token(next.admin.token.clone());
        open::files(next.limits.connections);
        log::change(next.log.level);
        let before = self.threads.manner();
        let access_log = if kept_log(&self.runs, &next) {
            before.access_log.clone()
        } else {
            AccessLog::open(&next.log, &self.reception.metrics, &self.reception.clock)
        };
        let manner = manner(&next, trusted.clone(), access_log);
        // Handshakes that agree are made as before, so that sessions can be resumed.
        let same_tls = self.runs.http2 == next.http2 && self.runs.tls == next.tls;
        let tls = if same_tls { self.threads.tls() } else { tls };
        self.threads.change(&next, manner, trusted, tls);
        self.reception.tracker.change(tracking(&next));
        self.reception.wanted.store(Arc::new(wanted));
        self.runs = next;
        tell_hash(
            &self.reception.metrics,
            &self.bench.config,
            self.runs.hash(),
        );
        info!(events = self.runs.events.len(), "the file was read again");
        if !waiting.is_empty() {
            warn!(keys = %waiting.join(", "), "these keys differ from what runs and are in force after a restart");
            certificates::tell_of_unwatched(&self.runs, fresh);
        }
        Ok(())
    }

    /// The files of regions, read anew only where others are named.
    fn regions(&self, next: &Config) -> Result<Arc<Regions>, RunError> {
        let files = next.visitor.files();
        let before = Arc::clone(&self.reception.wanted.load().regions);
        Ok(if before.files() == files {
            before
        } else {
            Arc::new(Regions::open(&files)?)
        })
    }

    /// From now on each answer of HTTP/1.1 ends its connection, and nobody waits longer
    /// for a handshake than `drain_delay` lets it.
    pub(super) fn part(&self) {
        self.threads.part();
    }
}

/// What a configuration wants counted of visitors.
pub(super) fn wanted(
    config: &Config,
    regions: Arc<Regions>,
    secrets: &[(String, Vec<u8>)],
) -> Wanted {
    let from = config.visitor.user_from.clone();
    let users = from.zip(secrets.first()).map(|(from, (_, secret))| {
        let hash = UserHash::new(secret);
        Arc::new(Users { from, hash })
    });
    Wanted {
        regions,
        users,
        statistics: config.visitor.statistics,
    }
}

/// Puts each new configuration in force, whole or not at all.
pub(super) async fn reloads(
    mut reload: mpsc::Receiver<Reload>,
    helm: Arc<Mutex<Helm>>,
    looks: [Arc<Notify>; 2],
) {
    while let Some(read) = reload.recv().await {
        for look in &looks {
            look.notify_one();
        }
        let mut helm = helm.lock().unwrap_or_else(PoisonError::into_inner);
        let good = match read {
            Reload::Fresh(fresh) => is_turned(|| helm.turn(&fresh)),
            // The faults were told where it was read.
            Reload::Faulty => false,
        };
        let metrics = &helm.reception.metrics;
        metrics
            .gauge(&names::CONFIG_RELOADED, &[])
            .set(f64::from(u8::from(good)));
    }
}

/// Whether a turn came to its end. One that breaks off is told of, and the next file
/// is noticed all the same.
fn is_turned(turn: impl FnOnce() -> Result<(), RunError>) -> bool {
    match catch_unwind(AssertUnwindSafe(turn)) {
        Ok(Ok(())) => true,
        Ok(Err(fault)) => {
            error!(%fault, "the file has a fault; the old configuration stays");
            false
        }
        Err(_) => {
            error!(
                "the file was put in force in part only: a fault of the program, please report it; reload again, or restart"
            );
            false
        }
    }
}

/// Whether lines go on where they go.
fn kept_log(runs: &Config, next: &Config) -> bool {
    let mut same = next.log.clone();
    same.level = runs.log.level;
    same == runs.log
}

/// What is counted of routes.
pub(super) fn tracking(config: &Config) -> Tracking {
    let named = config.routes.iter().map(|route| route.0.clone());
    Tracking {
        enabled: config.statistics.enabled,
        named: named.collect(),
        keep: [
            config.statistics.seconds,
            config.statistics.minutes,
            config.statistics.hours,
        ],
    }
}

/// How requests are met.
pub(super) fn manner(
    config: &Config,
    trusted: TrustedProxies,
    access_log: Option<Arc<AccessLog>>,
) -> Manner {
    // The name of the header was checked with the file.
    let header = config.request_id_header.as_ref();
    Manner {
        trusted,
        forward_token: config.forward_token,
        cors_origins: config.api.cors_origins.clone(),
        access_log,
        request_ids: header
            .and_then(|header| header.parse().ok())
            .map(RequestIds::new),
    }
}

/// Whose word about visitors is believed.
pub(super) fn trusted(config: &Config) -> Result<TrustedProxies, RunError> {
    let networks = config.trusted_proxies.iter();
    let networks: Vec<String> = networks.map(ToString::to_string).collect();
    let header = config.client_address_header.as_deref().unwrap_or_default();
    Ok(TrustedProxies::new(&networks, header)?)
}

fn tell_hash(metrics: &Metrics, kept: &ArcSwap<String>, hash: String) {
    let hash = Arc::new(hash);
    let before = kept.swap(Arc::clone(&hash));
    for (hash, shown) in [(before, 0.0), (hash, 1.0)] {
        metrics
            .gauge(&names::CONFIG_INFO, &[("hash", &hash)])
            .set(shown);
    }
}

#[cfg(test)]
#[path = "../../tests/parts/mmdb.rs"]
mod mmdb;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::FILE_KEYS;
    use crate::room::schema::Kind;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn config(top: &str, event: &str) -> Config {
        let text = format!("{top}\n[[event]]\nid = \"main\"\n{event}");
        let text = if text.starts_with("origin = ") || text.starts_with("origins = ") {
            text
        } else {
            format!("origin = \"http://127.0.0.1:3000\"\n{text}")
        };
        Config::parse(&text, std::iter::empty()).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
    }

    /// The keys that stand alone or in a table of the file.
    fn keys() -> Vec<String> {
        let mut keys = Vec::new();
        for key in FILE_KEYS {
            match key.kind {
                Kind::Table(below) => {
                    keys.extend(below.iter().map(|own| format!("{}.{}", key.name, own.name)));
                }
                _ => keys.push(key.name.to_owned()),
            }
        }
        keys
    }

    /// Files that some keys need.
    struct Beside(tempfile::TempDir);

    impl Beside {
        fn new() -> Self {
            let beside = Self(tempfile::tempdir().unwrap());
            let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
            for (file, text) in [
                ("crt", made.cert.pem()),
                ("key", made.signing_key.serialize_pem()),
                ("token", KEY.to_owned()),
                ("url", "redis://127.0.0.1:1".to_owned()),
            ] {
                std::fs::write(beside.at(file), text).unwrap();
            }
            for (file, value) in [
                ("visitor.city_db", mmdb::city("KR", "11")),
                ("visitor.asn_db", mmdb::asn(1, "one")),
            ] {
                let database = mmdb::database(1, &[("10.0.0.0/8", value)]);
                std::fs::write(beside.at(file), database).unwrap();
            }
            for ending in ["crt", "key"] {
                let other = beside.0.path().join(format!("other.{ending}"));
                std::fs::copy(beside.at(ending), other).unwrap();
            }
            beside
        }

        fn at(&self, file: &str) -> String {
            self.0.path().join(file).display().to_string()
        }

        fn tls(&self, lines: &str) -> String {
            let (cert, key) = (self.at("crt"), self.at("key"));
            let plain = format!("[tls]\ncert_file = {cert:?}\nkey_file = {key:?}\n");
            match lines.split_once(" = ").map(|(key, _)| key) {
                Some("cert_file") => plain.replace(&cert, &self.at("other.crt")),
                Some("key_file") => plain.replace(&key, &self.at("other.key")),
                _ => plain + lines,
            }
        }

        /// A file that lacks a key, and one that has it, otherwise alike.
        fn with(&self, key: &str) -> (Config, Config) {
            let redis = |lines: &str| {
                format!(
                    "[store]\nurl = \"redis://127.0.0.1:1\"\n{lines}\n[signing]\nkeys = [{{ id = \"a\", secret = {KEY:?} }}]"
                )
            };
            let (before, after) = match key {
                "tls.cert_file" | "tls.key_file" => {
                    let line = format!("{} = ", &key[4..]);
                    (self.tls(""), self.tls(&line))
                }
                "tls.certificates" => {
                    let (cert, key) = (self.at("other.crt"), self.at("other.key"));
                    let more =
                        format!("certificates = [{{ cert_file = {cert:?}, key_file = {key:?} }}]");
                    (self.tls(""), self.tls(&more))
                }
                "tls.min_version" => (self.tls(""), self.tls("min_version = \"1.3\"")),
                "admin.token_file" => (
                    String::new(),
                    format!("[admin]\ntoken_file = {:?}", self.at("token")),
                ),
                "store.url" => (
                    redis(""),
                    redis("").replace("127.0.0.1:1\"", "127.0.0.2:1\""),
                ),
                "store.url_file" => {
                    let keys = format!("[signing]\nkeys = [{{ id = \"a\", secret = {KEY:?} }}]");
                    (
                        keys.clone(),
                        format!("[store]\nurl_file = {:?}\n{keys}", self.at("url")),
                    )
                }
                "visitor.city_db" | "visitor.asn_db" => (
                    String::new(),
                    format!(
                        "[visitor]\n{} = {:?}",
                        key.trim_start_matches("visitor."),
                        self.at(key)
                    ),
                ),
                "store.ca_file" => (redis(""), redis(&format!("ca_file = {:?}", self.at("crt")))),
                "origin_tls.ca_file" => (
                    String::new(),
                    format!("[origin_tls]\nca_file = {:?}", self.at("crt")),
                ),
                "event" => (
                    String::new(),
                    "[[event]]\nid = \"other\"\npaths = [\"/other\"]".to_owned(),
                ),
                _ => (String::new(), line(key)),
            };
            (config(&before, ""), config(&after, ""))
        }
    }

    /// A line that says something else than the default.
    fn line(key: &str) -> String {
        let value = match key {
            "listen" | "metrics.listen" | "admin.listen" => "\"127.0.0.1:1\"",
            "origin" => "\"http://127.0.0.1:3001\"",
            "origins" => "[\"http://127.0.0.1:3001\"]",
            "origin_host" => "\"origin\"",
            "trusted_proxies" => "[\"10.0.0.0/8\"]",
            "client_address_header" | "request_id_header" => "\"X-Header\"",
            "origin_http2" | "proxy_protocol" | "forward_token" | "origin_health.eject_5xx" => {
                "true"
            }
            "http2" | "log.access" | "origin_tls.verify" | "statistics.enabled"
            | "visitor.statistics" => "false",
            "statistics.seconds" => "\"3h\"",
            "statistics.minutes" | "statistics.hours" => "\"3d\"",
            "visitor.user_from" => "\"cookie:uid\"",
            "pass_hosts" => "[\"b.example\"]",
            "route" => "[{ pattern = \"/products/{slug}\" }]",
            "state_dir" | "log.access_file" => "\"elsewhere\"",
            "limits.header_bytes" => "\"16KB\"",
            "origin_pool.affinity_cookie" => "\"STAYS\"",
            "origin_check.path" => "\"/health\"",
            "origin_check.status" => "[\"204\"]",
            "origin_tls.server_name" => "\"c.example\"",
            "origin_health.eject_share" | "log.access_sample" => "0.25",
            "limits.connections"
            | "limits.connections_per_address"
            | "origin_pool.connections"
            | "origin_health.eject_after"
            | "origin_check.fall"
            | "origin_check.rise" => "70",
            "log.format" | "log.access_format" => "\"json\"",
            "log.level" => "\"warn\"",
            "admin.token" => "\"a token of more than sixteen\"",
            "api.keys" | "signing.keys" => {
                "[{ id = \"b\", secret = \"0123456789abcdef0123456789abcdef\" }]"
            }
            "api.cors_origins" => "[\"https://a.example\"]",
            "store.prefix" => "\"other\"",
            "store.on_failure" => "\"open\"",
            "store.timeout" => "\"99ms\"",
            duration if duration.contains("timeout") || duration.contains("drain") => "\"1500ms\"",
            "origin_check.interval"
            | "origin_health.eject_time"
            | "origin_health.eject_time_max"
            | "origin_health.slow_start"
            | "origin_pool.connection_wait"
            | "origin_pool.dns_ttl" => "\"11s\"",
            other => panic!("no line for {other}: is it in force after a reload?"),
        };
        let value = if key == "limits.connections" {
            "9000"
        } else {
            value
        };
        match key.split_once('.') {
            Some((table, key)) => format!("[{table}]\n{key} = {value}"),
            None => format!("{key} = {value}"),
        }
    }

    #[test]
    fn each_key_is_in_force_after_a_reload_or_told_of_as_waiting_for_a_restart() {
        let beside = Beside::new();
        for key in keys() {
            let (runs, fresh) = beside.with(&key);
            assert_ne!(runs, fresh, "{key}: the line says nothing else");
            let waiting = after_restart(&runs, &fresh);
            let next = in_force(&runs, &fresh);
            if LISTED.contains(&key.as_str()) {
                let told = waiting.contains(&key.as_str());
                assert!(told || key == "store.url_file", "{key}: {waiting:?}");
                assert_eq!(next, runs, "{key}");
            } else {
                assert_eq!(waiting, [""; 0], "{key}");
                assert_eq!(next, fresh, "{key}");
            }
        }
    }

    /// The keys of `AFTER_RESTART`, and what is another form of one.
    const LISTED: &[&str] = &[
        "listen",
        "state_dir",
        "log.format",
        "tls.cert_file",
        "tls.key_file",
        "tls.certificates",
        "admin.listen",
        "metrics.listen",
        "store.url",
        "store.url_file",
        "store.prefix",
        "store.on_failure",
        "store.timeout",
        "store.ca_file",
    ];

    #[test]
    fn a_turn_that_breaks_off_is_not_the_last_one() {
        assert!(!is_turned(|| panic!("in the middle")));
        assert!(!is_turned(|| Err(RunError::Origin("no origin".to_owned()))));
        assert!(is_turned(|| Ok(())));
    }

    #[test]
    fn the_papers_list_what_waits_for_a_restart_and_nothing_else() {
        let papers = include_str!("../../docs/configuration.md");
        let (_, list) = papers
            .split_once("in force after a restart only: ")
            .unwrap();
        let (list, _) = list.split_once(". ").unwrap();
        let named: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
        assert_eq!(named, LISTED);
        let known = AFTER_RESTART.iter().map(|(key, _)| *key);
        let mut expected: Vec<&str> = known.collect();
        expected.insert(9, "store.url_file");
        assert_eq!(named, expected);
    }

    #[test]
    fn what_is_secret_because_of_a_door_or_a_store_stays_with_it() {
        let open = config(
            "[admin]\nlisten = \"0.0.0.0:9090\"\ntoken = \"a token of more than sixteen\"",
            "",
        );
        assert_eq!(in_force(&open, &config("", "")).admin, open.admin);
        let keys = format!("[signing]\nkeys = [{{ id = \"a\", secret = {KEY:?} }}]");
        let shared = config(
            &format!("[store]\nurl = \"redis://127.0.0.1:1\"\n{keys}"),
            "",
        );
        assert_eq!(in_force(&shared, &config("", "")).signing, shared.signing);
        let beside = Beside::new();
        let (plain, secure) = (config("", ""), config(&beside.tls(""), ""));
        assert_eq!(in_force(&plain, &secure).tls, None);
        assert_eq!(in_force(&secure, &plain).tls, secure.tls);
        let waiting = after_restart(&plain, &secure);
        assert_eq!(waiting, ["tls.cert_file", "tls.key_file"]);
    }
}
