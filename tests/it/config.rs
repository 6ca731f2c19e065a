//! The configuration as an operator meets it: files that are good, files that
//! are bad in every way known, the environment, and the promise that
//! `gateway.toml` and the documentation know every key.

use std::{fs, net::IpAddr, path::PathBuf};

use sumun::{
    config::{Config, Faults, StoreUrl, raw::FILE_KEYS},
    room::{
        schema::{Key, Kind},
        secret::MASK,
    },
};

const ORIGIN: &str = "origin = \"http://127.0.0.1:3000\"\n";

fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files(folder: &str) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(here(folder))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

fn parse(text: &str) -> Result<Config, Faults> {
    Config::parse(text, std::iter::empty())
}

fn with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Faults> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(text, variables)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn every_good_file_is_read() {
    let files = files("tests/config/good");
    assert!(!files.is_empty());
    for (name, text) in files {
        parse(&text).unwrap_or_else(|faults| panic!("{name}:\n{faults}"));
    }
}

#[test]
fn every_fault_of_a_bad_file_is_reported_and_no_other() {
    let files = files("tests/config/bad");
    assert!(files.len() >= 25, "{} files", files.len());
    for (name, text) in files {
        let faults = parse(&text).expect_err(&name).to_string();
        assert!(!faults.contains("hidden-secret"), "{name}:\n{faults}");
        let expected: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# expect: "))
            .collect();
        for expect in &expected {
            assert!(
                faults.lines().any(|line| line.contains(expect)),
                "{name}: no line has {expect:?} in\n{faults}"
            );
        }
        assert_eq!(faults.lines().count(), expected.len(), "{name}:\n{faults}");
    }
}

#[test]
fn the_example_is_the_default_where_it_is_commented() {
    let text = fs::read_to_string(here("gateway.toml")).unwrap();
    let mut defaults_written = 0;
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if is_setting(rest) && !rest.contains("# example") => {
                defaults_written += 1;
                rest
            }
            _ => line,
        })
        .collect();
    assert!(defaults_written > 45, "{defaults_written}");
    assert_eq!(good(&uncommented.join("\n")), {
        let mut plain = good(&text);
        // As written differs, of course; what it amounts to must not.
        plain.written_events = good(&uncommented.join("\n")).written_events;
        plain
    });
}

/// `key = value`, as opposed to a sentence.
fn is_setting(line: &str) -> bool {
    line.split_once(" = ")
        .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

/// Each table of the file with the names of its keys.
fn tables(name: &str, keys: &'static [Key], out: &mut Vec<(String, Vec<&'static str>)>) {
    let mut plain = Vec::new();
    for key in keys {
        let inner_name = if name.is_empty() {
            key.name.to_owned()
        } else {
            format!("{name}.{}", key.name)
        };
        match &key.kind {
            Kind::Table(inner) => tables(&inner_name, inner, out),
            Kind::Tables(inner) if key.name == "event" => tables(&inner_name, inner, out),
            _ => plain.push(key.name),
        }
    }
    out.push((name.to_owned(), plain));
}

/// The lines that stand under each `[table]`, commented or not.
fn sections(text: &str) -> Vec<(String, String)> {
    let mut sections = vec![(String::new(), String::new())];
    for line in text.lines() {
        let bare = line.trim_start_matches("# ");
        if bare.starts_with('[') && bare.ends_with(']') && !bare.contains(' ') {
            let name = bare.trim_matches(['[', ']']).to_owned();
            sections.push((name, String::new()));
        } else if let Some((_, body)) = sections.last_mut() {
            body.push_str(bare);
            body.push('\n');
        }
    }
    sections
}

#[test]
fn the_example_and_the_documentation_know_every_key() {
    let example = sections(&fs::read_to_string(here("gateway.toml")).unwrap());
    let docs = fs::read_to_string(here("docs/configuration.md")).unwrap();
    let mut all = Vec::new();
    tables("", FILE_KEYS, &mut all);
    assert!(all.iter().map(|(_, keys)| keys.len()).sum::<usize>() > 60);
    for (table, keys) in all {
        let body = example.iter().find(|(name, _)| *name == table);
        let (_, body) = body.unwrap_or_else(|| panic!("gateway.toml has no [{table}]"));
        for key in keys {
            assert!(
                body.lines()
                    .any(|line| line.starts_with(&format!("{key} = "))),
                "gateway.toml: {key} is missing in [{table}]"
            );
            let path = if table.is_empty() {
                key.to_owned()
            } else {
                format!("{table}.{key}")
            };
            assert!(
                docs.lines()
                    .any(|line| line.starts_with(&format!("| `{path}` |"))),
                "docs/configuration.md: no row begins with | `{path}` |"
            );
        }
    }
}

#[test]
fn every_documented_key_exists() {
    let docs = fs::read_to_string(here("docs/configuration.md")).unwrap();
    let mut all = Vec::new();
    tables("", FILE_KEYS, &mut all);
    let known: Vec<String> = all
        .iter()
        .flat_map(|(table, keys)| {
            keys.iter().map(move |key| {
                if table.is_empty() {
                    (*key).to_owned()
                } else {
                    format!("{table}.{key}")
                }
            })
        })
        .collect();
    let rows = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    for (path, _) in rows.filter(|(path, _)| !path.contains(['"', ' ', '='])) {
        assert!(
            known.iter().any(|key| key == path),
            "docs/configuration.md: {path} is unknown"
        );
    }
}

#[test]
fn variables_win_over_the_file() {
    let text = format!("{ORIGIN}[[event]]\nid = \"fan-meeting\"\nlimit = 5\n");
    let config = with(
        &text,
        &[
            ("HOME", "/root"),
            // Kubernetes tells of a Service named `sumun`.
            ("SUMUN_SERVICE_HOST", "10.0.0.7"),
            ("SUMUN_SERVICE_PORT_HTTP", "8080"),
            ("SUMUN_PORT", "tcp://10.0.0.7:8080"),
            ("SUMUN_PORT_8080_TCP_ADDR", "10.0.0.7"),
            ("SUMUN_LISTEN", "127.0.0.1:1234"),
            ("SUMUN_STORE_URL", "redis://cache"),
            ("SUMUN_STORE_ON_FAILURE", "hold"),
            ("SUMUN_LIMITS_CONNECTIONS", "777"),
            ("SUMUN_LOG_ACCESS", "false"),
            ("SUMUN_TRUSTED_PROXIES", "loopback, 10.0.0.0/8"),
            ("SUMUN_TIMEOUTS_FIRST_BYTE", "2m"),
            (
                "SUMUN_SIGNING_KEYS",
                "a:0123456789abcdef0123456789abcdef,b:0123456789abcdef0123456789abcdeg",
            ),
            ("SUMUN_EVENT_FAN_MEETING_LIMIT", "9"),
            ("SUMUN_EVENT_FAN_MEETING_QUEUE_WHEN_IN_FLIGHT", "30"),
            ("SUMUN_EVENT_FAN_MEETING_QUEUE_WHEN_FAILURE_RATIO", "0.25"),
            (
                "SUMUN_EVENT_FAN_MEETING_HOSTS",
                "a.example.com,b.example.com",
            ),
            ("SUMUN_EVENT_FAN_MEETING_EXCLUDE", "/assets/"),
            ("SUMUN_EVENT_FAN_MEETING_COOKIE_SAME_SITE", "lax"),
        ],
    )
    .unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.listen.port(), 1234);
    assert!(matches!(&config.store.url, StoreUrl::Redis(url) if url.reveal() == "redis://cache"));
    assert_eq!(config.limits.connections, 777);
    assert_eq!(config.limits.connections_per_address, 500);
    assert!(!config.log.access);
    assert_eq!(config.trusted_proxies.len(), 3);
    assert_eq!(config.timeouts.first_byte.as_secs(), 120);
    assert_eq!(config.signing.keys.len(), 2);
    let event = &config.events[0];
    assert_eq!(event.limit, Some(9));
    assert_eq!(event.queue_when.in_flight, Some(30));
    assert_eq!(event.queue_when.failure_ratio, Some(0.25));
    assert_eq!(event.hosts, ["a.example.com", "b.example.com"]);
    assert_eq!(event.exclude.len(), 1);
    assert_eq!(event.paths, ["/"]);
}

#[test]
fn a_fault_that_a_variable_brought_names_the_variable() {
    let text =
        format!("{ORIGIN}[[event]]\nid = \"a\"\n[[event]]\nid = \"a-limit\"\npaths = [\"/b\"]\n");
    for (name, value, expect) in [
        (
            "SUMUN_LIMITS_CONNECTIONS",
            "many",
            "limits.connections (SUMUN_LIMITS_CONNECTIONS) = \"many\": write a whole number",
        ),
        (
            "SUMUN_EVENT_A_MODE",
            "on",
            "event[0].mode (SUMUN_EVENT_A_MODE) = \"on\": write one of",
        ),
        (
            "SUMUN_PASS_HOSTS",
            "*.x.kr",
            "pass_hosts[0] (SUMUN_PASS_HOSTS) = \"*.x.kr\": wildcards",
        ),
        (
            "SUMUN_LISTN",
            "x",
            "SUMUN_LISTN: unknown variable; did you mean SUMUN_LISTEN?",
        ),
        (
            "SUMUN_WHATEVER_ELSE",
            "x",
            "SUMUN_WHATEVER_ELSE: unknown variable: remove it",
        ),
        (
            "SUMUN_EVENT_B_LIMIT",
            "5",
            "SUMUN_EVENT_B_LIMIT: write SUMUN_EVENT_<ID>_<KEY>",
        ),
        (
            "SUMUN_EVENT_A_ID",
            "b",
            "SUMUN_EVENT_A_ID: write SUMUN_EVENT_<ID>_<KEY>",
        ),
        (
            "SUMUN_SIGNING_KEYS",
            "hidden-secret-hidden-secret-hidden-secret",
            "signing.keys[0].id (SUMUN_SIGNING_KEYS) = \"\": write 1 to 32",
        ),
        (
            "SUMUN_TLS_CERTIFICATES",
            "site.crt",
            "tls.certificates[0] (SUMUN_TLS_CERTIFICATES) = \"site.crt\": write cert_file:key_file",
        ),
        (
            "SUMUN_TLS_CERTIFICATES",
            ":site.key",
            "tls.certificates[0] (SUMUN_TLS_CERTIFICATES) = \":site.key\": write cert_file:key_file",
        ),
        (
            "SUMUN_TLS_CERTIFICATES",
            "tests/config/version_1.pem : tests/config/version_1.pem",
            "tls.certificates[0].cert_file (SUMUN_TLS_CERTIFICATES) = \"tests/config/version_1.pem\": the first",
        ),
    ] {
        let faults = with(&text, &[(name, value)]).expect_err(name).to_string();
        assert!(faults.starts_with(expect), "{faults}");
        assert_eq!(faults.lines().count(), 1, "{faults}");
    }
}

#[test]
fn a_secret_may_stand_in_a_file_of_its_own_and_either_form_replaces_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "the-token-of-the-file\n").unwrap();
    let name = file.to_str().unwrap();
    let text =
        format!("{ORIGIN}[admin]\ntoken = \"the-token-of-the-toml\"\n[[event]]\nid = \"main\"\n");
    let token = |variables: &[(&str, &str)]| {
        let config = with(&text, variables).unwrap_or_else(|faults| panic!("{faults}"));
        config.admin.token.unwrap().reveal().to_owned()
    };
    assert_eq!(token(&[]), "the-token-of-the-toml");
    assert_eq!(
        token(&[("SUMUN_ADMIN_TOKEN_FILE", name)]),
        "the-token-of-the-file"
    );
    assert_eq!(
        token(&[("SUMUN_ADMIN_TOKEN", "the-token-given-here")]),
        "the-token-given-here"
    );
    let config = with(&text, &[("SUMUN_EVENT_MAIN_BYPASS_SECRET_FILE", name)]).unwrap();
    let nobody = IpAddr::from([198, 51, 100, 1]);
    assert!(
        config.events[0]
            .bypass
            .admits(nobody, Some(b"the-token-of-the-file"))
    );
    fs::write(&file, "\n").unwrap();
    let faults = with(ORIGIN, &[("SUMUN_ADMIN_TOKEN_FILE", name)]).unwrap_err();
    assert!(
        faults.to_string().ends_with("the file is empty"),
        "{faults}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let load = || Config::load(&file, std::iter::empty());
    assert!(load().unwrap_err().to_string().contains("cannot be opened"));
    fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(load().unwrap_err().to_string().contains("cannot be read"));
    fs::write(&file, ORIGIN).unwrap();
    assert!(load().is_ok());
}

#[test]
fn what_is_printed_is_a_file_of_the_same_meaning() {
    for (name, text) in files("tests/config/good") {
        let config = good(&text);
        if config.admin.token.is_some() {
            continue; // Masked secrets cannot be read back.
        }
        let printed = config.print_effective();
        let again = parse(&printed).unwrap_or_else(|faults| panic!("{name}:\n{printed}\n{faults}"));
        assert_eq!(again.print_effective(), printed, "{name}");
        assert_eq!(again.events, config.events, "{name}");
        assert_eq!(again.hash(), config.hash(), "{name}");
    }
}

#[test]
fn no_secret_is_printed() {
    let (_, text) = files("tests/config/good")
        .into_iter()
        .find(|(name, _)| name == "shared_store.toml")
        .unwrap();
    let text =
        format!("{text}\n[[event]]\nid = \"a\"\n[event.bypass]\nsecret = \"open-sesame-please\"\n");
    let config = good(&text);
    let shown = format!("{config:?}{}", config.print_effective());
    for secret in [
        "long-enough",
        "p%40ss",
        "3q2-796",
        "thirty-two",
        "0123456789abcdef",
        "sesame",
    ] {
        assert!(!shown.contains(secret), "{secret}");
    }
    assert!(config.print_effective().contains(MASK));
    assert_eq!(
        config.signing.keys[0].secret.len(),
        32,
        "base64url is decoded"
    );
    assert_eq!(
        config.signing.keys[1].secret,
        b"any text of thirty-two bytes or more"
    );
}

#[test]
fn the_hash_follows_what_gateways_share_and_nothing_else() {
    let text = fs::read_to_string(here("gateway.toml")).unwrap();
    let hash = |variables: &[(&str, &str)]| with(&text, variables).unwrap().hash();
    let base = hash(&[]);
    assert_eq!(base.len(), 16);
    assert_eq!(
        base,
        hash(&[
            ("SUMUN_LISTEN", "127.0.0.1:1"),
            ("SUMUN_LOG_LEVEL", "debug")
        ])
    );
    assert_eq!(
        base,
        hash(&[("SUMUN_EVENT_MAIN_BYPASS_HEADER", "Sumun-Bypass")])
    );
    assert_ne!(base, hash(&[("SUMUN_EVENT_MAIN_LIMIT", "501")]));
    assert_ne!(base, hash(&[("SUMUN_ORIGIN", "http://127.0.0.1:3001")]));
}

#[test]
fn a_variable_for_one_origin_replaces_several_and_the_other_way_round() {
    let urls = |config: &Config| -> Vec<String> {
        config.origins.iter().map(ToString::to_string).collect()
    };
    let several = [("SUMUN_ORIGINS", "http://10.0.0.1:80, https://b.example")];
    let config = with(ORIGIN, &several).unwrap();
    assert_eq!(
        urls(&config),
        ["http://10.0.0.1:80", "https://b.example:443"]
    );
    let both = [several[0], ("SUMUN_ORIGIN", "http://10.0.0.3")];
    let faults = with(ORIGIN, &both).unwrap_err().to_string();
    assert_eq!(
        faults,
        "SUMUN_ORIGINS: SUMUN_ORIGIN is given too: keep one of them"
    );
    let text = "origins = [\"http://10.0.0.1\", \"http://10.0.0.2\"]\n[[event]]\nid = \"a\"\n";
    let variables = [
        ("SUMUN_ORIGIN", "http://10.0.0.3"),
        ("SUMUN_EVENT_A_ORIGINS", "http://10.0.1.1"),
        ("SUMUN_ORIGIN_POOL_CONNECTIONS", "7"),
        ("SUMUN_ORIGIN_CHECK_STATUS", "200,204"),
    ];
    let config = with(text, &variables).unwrap();
    assert_eq!(urls(&config), ["http://10.0.0.3:80"]);
    assert_eq!(config.event_origins[0][0].to_string(), "http://10.0.1.1:80");
    assert_eq!(config.origin_pool.connections, 7);
    assert_eq!(config.origin_check.status, [200..=200, 204..=204]);
}

#[test]
fn an_origin_alone_is_enough_to_run() {
    let run = |listen, limit| {
        Config::from_origin_only("http://127.0.0.1:3000", listen, limit, std::iter::empty())
    };
    let config = run(None, None).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.events[0].id.as_str(), "main");
    assert_eq!(config.events[0].paths, ["/"]);
    assert_eq!(config.events[0].limit, None);
    let config = run(Some("127.0.0.1:0"), Some(3)).unwrap();
    assert_eq!(config.events[0].limit, Some(3));
    assert!(run(Some("nowhere"), Some(0)).unwrap_err().len() == 2);
}
