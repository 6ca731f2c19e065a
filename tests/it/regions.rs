//! Regions and networks, from databases that the owner supplies.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sumun::visitor::region::{Change, Content, Country, Files, Place, Regions};

use crate::support::mmdb::{Value, asn, city, database};
use crate::support::{Ask, Plan, Site, Visitor, until};

fn cities() -> Vec<u8> {
    let code = Value::Map(vec![("iso_code", Value::Text("JP"))]);
    let registered = Value::Map(vec![("registered_country", code)]);
    database(
        1_700_000_000,
        &[
            ("203.0.113.0/24", city("KR", "11")),
            ("198.51.100.0/25", city("US", "CA")),
            ("198.51.100.128/25", registered),
            ("192.0.2.0/24", city("<b>", "x")),
            ("2001:db8::/32", city("DE", "BE")),
        ],
    )
}

fn networks() -> Vec<u8> {
    let networks = [("203.0.113.0/24", asn(64_500, "Example Telecom"))];
    database(1_700_000_001, &networks)
}

struct Beside(tempfile::TempDir);

impl Beside {
    fn new() -> Self {
        let beside = Self(tempfile::tempdir().unwrap());
        beside.put("city.mmdb", &cities());
        beside.put("asn.mmdb", &networks());
        beside
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file there as careful programs do.
    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.at("new"), bytes).unwrap();
        std::fs::rename(self.at("new"), self.at(name)).unwrap();
    }

    fn files(&self) -> Files {
        Files {
            city: Some(self.at("city.mmdb")),
            asn: Some(self.at("asn.mmdb")),
        }
    }

    fn plan(&self) -> Plan {
        let line = |key: &str, file: &Path| format!("{key} = {:?}\n", file.display().to_string());
        let city = line("city_db", &self.at("city.mmdb"));
        let asn = line("asn_db", &self.at("asn.mmdb"));
        Plan::event("").tables(&format!("[visitor]\n{city}{asn}"))
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn country(regions: &Regions, text: &str) -> Option<&'static str> {
    regions.country(address(text)).map(Country::word)
}

#[test]
fn an_address_is_found_in_its_network_and_nowhere_else() {
    let beside = Beside::new();
    let regions = Regions::open(&beside.files()).unwrap();
    for (text, expected) in [
        ("203.0.113.7", "KR"),
        ("198.51.100.127", "US"),
        ("198.51.100.128", "JP"),
        ("2001:db8::1", "DE"),
        ("2001:db9::1", "unknown"),
        ("203.0.114.7", "unknown"),
        // What is in the file and in no list of countries is no word of ours.
        ("192.0.2.1", "unknown"),
    ] {
        assert_eq!(country(&regions, text), Some(expected), "{text}");
    }
    let place = regions.place(address("203.0.113.7"));
    let expected = Place {
        country: Some(Country::of(Some("KR"))),
        subdivision: Some("11".to_owned()),
        asn: Some(64_500),
        organization: Some("Example Telecom".to_owned()),
    };
    assert_eq!(place, expected);
    let made = [("city_db", 1_700_000_000), ("asn_db", 1_700_000_001)];
    assert_eq!(regions.made(), made);
}

#[test]
fn without_files_nothing_is_known_and_nothing_is_wrong() {
    let regions = Regions::open(&Files::default()).unwrap();
    assert_eq!(regions.place(address("203.0.113.7")), Place::default());
    assert_eq!(regions.refresh(), []);
}

#[test]
fn a_file_that_cannot_be_used_is_told_with_its_field_and_a_remedy() {
    let beside = Beside::new();
    let whole = cities();
    let mut damaged = whole.clone();
    // The first record's value becomes one of a type that there is not.
    let at = whole.windows(7).position(|part| part == b"country");
    damaged[at.unwrap() + 7] = 0;
    let mut endless = whole.clone();
    endless[..6].fill(0xff);
    let cases: [(&str, Option<&[u8]>, &str); 7] = [
        ("absent", None, "cannot be read"),
        ("empty", Some(b""), "is no whole MaxMind database"),
        (
            "text",
            Some(b"country,KR\n"),
            "is no whole MaxMind database",
        ),
        (
            "cut",
            Some(&whole[..whole.len() / 2]),
            "is no whole MaxMind database",
        ),
        ("damaged", Some(&damaged), "is damaged"),
        ("endless", Some(&endless), "is "),
        ("networks", Some(&networks()), "holds no countries"),
    ];
    for (name, bytes, expected) in cases {
        if let Some(bytes) = bytes {
            beside.put(name, bytes);
        }
        let files = Files {
            city: Some(beside.at(name)),
            asn: None,
        };
        let fault = Regions::open(&files).err().expect(name);
        assert_eq!(fault.content, Content::City);
        assert!(fault.remedy.contains(expected), "{fault}");
        assert!(fault.to_string().starts_with("city_db "), "{fault}");
        // As `sumun check` tells it.
        let text = format!(
            "origin = \"http://127.0.0.1:3000\"\n[visitor]\ncity_db = {:?}\n",
            beside.at(name)
        );
        let faults = sumun::config::Config::parse(&text, std::iter::empty()).unwrap_err();
        let faults = faults.to_string();
        assert!(faults.starts_with("visitor.city_db = "), "{faults}");
        assert!(faults.contains(expected), "{faults}");
        // A reload does not look: who watches the files tells of it.
        let file = beside.at("gateway.toml");
        std::fs::write(&file, text).unwrap();
        sumun::config::Config::load_again(&file, std::iter::empty()).unwrap();
    }
}

#[test]
fn a_bad_file_is_told_of_once_and_the_one_before_it_is_used_on() {
    let beside = Beside::new();
    let regions = Regions::open(&beside.files()).unwrap();
    assert_eq!(regions.refresh(), []);
    beside.put("city.mmdb", &cities()[..200]);
    let [Change::Bad(fault)] = &regions.refresh()[..] else {
        panic!("a broken file was not told of");
    };
    assert_eq!(fault.file, beside.at("city.mmdb"));
    assert_eq!(regions.refresh(), []);
    assert_eq!(country(&regions, "203.0.113.7"), Some("KR"));
    std::fs::remove_file(beside.at("city.mmdb")).unwrap();
    assert!(matches!(regions.refresh()[..], [Change::Bad(_)]));
    assert_eq!(country(&regions, "203.0.113.7"), Some("KR"));
    let moved = [("203.0.113.0/24", city("FR", "IDF"))];
    beside.put("city.mmdb", &database(1_800_000_000, &moved));
    let renewed = Change::Renewed(beside.at("city.mmdb"));
    assert_eq!(regions.refresh(), [renewed]);
    assert_eq!(country(&regions, "203.0.113.7"), Some("FR"));
}

async fn metrics(site: &Site) -> String {
    let ask = Ask::fetch("/metrics").with("host", "localhost");
    Visitor::at(site.admin).send(ask).await.text()
}

async fn arrive(site: &Site, from: &str) {
    let ask = Ask::page("/").with("x-forwarded-for", from);
    assert!(site.visitor().send(ask).await.is_from_origin());
}

fn arrivals(country: &str, count: u64) -> String {
    format!("sumun_arrivals_by_country_total{{event=\"main\",country={country:?}}} {count}\n")
}

#[tokio::test]
async fn visitors_are_counted_by_country_and_a_fresh_file_is_read_while_it_runs() {
    let beside = Beside::new();
    let mut site = beside.plan().open().await;
    for from in ["203.0.113.1", "203.0.113.2", "2001:db8::7", "192.0.2.1"] {
        arrive(&site, from).await;
    }
    let text = metrics(&site).await;
    for (country, count) in [("KR", 2), ("DE", 1), ("unknown", 1)] {
        assert!(
            text.contains(&arrivals(country, count)),
            "{country}: {text}"
        );
    }
    let made = "sumun_region_database_timestamp_seconds{database=\"city_db\"} 1700000000\n";
    assert!(text.contains(made), "{text}");
    let moved = [("203.0.113.0/24", city("FR", "IDF"))];
    beside.put("city.mmdb", &database(1_800_000_000, &moved));
    // A reload has the files looked at, as SIGHUP does.
    site.rewrite(beside.plan()).await;
    let regions = std::sync::Arc::clone(&site.server.running.reception.wanted.load().regions);
    until("the fresh file", async || {
        (country(&regions, "203.0.113.1") == Some("FR")).then_some(())
    })
    .await;
    arrive(&site, "203.0.113.1").await;
    assert!(metrics(&site).await.contains(&arrivals("FR", 1)));
    // Other files, or none, are in force by a reload too.
    site.rewrite(Plan::event("")).await;
    let reception = &site.server.running.reception;
    until("no files", async || {
        let files = reception.wanted.load().regions.files();
        (files == Files::default()).then_some(())
    })
    .await;
    arrive(&site, "203.0.113.1").await;
    assert!(metrics(&site).await.contains(&arrivals("FR", 1)));
}

#[tokio::test]
async fn the_operator_may_ask_what_the_files_tell_of_an_address() {
    let beside = Beside::new();
    let site = beside.plan().open().await;
    let ask = async |query: &str| {
        let ask = Ask::fetch(&format!("/v1/region{query}")).with("host", "localhost");
        Visitor::at(site.admin).send(ask).await
    };
    let told = ask("?address=203.0.113.9").await.json();
    let expected = serde_json::json!({
        "address": "203.0.113.9", "country": "KR", "subdivision": "11",
        "asn": 64500, "network": "Example Telecom",
    });
    assert_eq!(told, expected);
    let told = ask("?address=%3A%3A1").await.json();
    assert_eq!(told["country"], serde_json::Value::Null);
    for query in ["", "?address=", "?address=localhost"] {
        let answer = ask(query).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.json()["field"], "address", "{query}");
    }
}
