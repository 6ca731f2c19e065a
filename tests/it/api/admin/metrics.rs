//! Health and metrics, which need no token.

use std::collections::{BTreeMap, BTreeSet};

use sumun::metrics;

use super::{EVENT, Operator};
use crate::support::Call;

#[test]
fn health_and_metrics_need_no_token() {
    let mut operator = Operator::with(&format!(
        "{EVENT}[admin]\ntoken = \"a token of some length\"\n"
    ));
    for (path, body) in [("/healthz", "alive\n"), ("/readyz", "ready\n")] {
        let answer = operator.get(path);
        assert_eq!((answer.status, &*answer.text()), (200, body));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(operator.get("/metrics").status, 200);
    operator.get("/v1/events").refused(401);
    operator.get("/v1/origins").refused(401);
    operator.token = Some("a token of some length");
    operator.get("/v1/events").ok();
    operator.server.running.reception.set_draining();
    assert_eq!(operator.get("/healthz").status, 200);
    operator.get("/readyz").refused(503);
}

#[test]
fn metrics_are_in_the_text_format_and_every_family_is_described() {
    let operator = Operator::with("[[event]]\nid = \"main\"\nlimit = 1\n");
    assert_eq!(operator.visit(None).status, 200);
    operator.until("main", |status| status["counts"]["sessions"] == 1);
    let answer = operator.get("/metrics");
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let families = families(&answer.text());
    let known: BTreeSet<&str> = metrics::ALL.iter().map(|name| name.name).collect();
    // The process's own families are the library's.
    let ours = families
        .iter()
        .filter(|(family, _)| !family.starts_with("process_"));
    for (family, described) in ours {
        assert!(known.contains(family.as_str()), "{family}");
        assert!(described, "{family} has no HELP");
    }
    // What is counted by kind, result or cause appears with the first of it.
    let at_once: BTreeSet<&str> = known
        .iter()
        .copied()
        .filter(|name| !families.contains_key(*name))
        .collect();
    for name in &at_once {
        assert!(APPEAR_LATER.contains(name), "{name} is missing");
    }
}

/// Families without a series until something has happened.
const APPEAR_LATER: [&str; 37] = [
    "sumun_statistics_lost_total",
    "sumun_route_answers_total",
    "sumun_route_conversions_total",
    "sumun_route_first_byte_seconds",
    "sumun_route_requests_in_flight",
    "sumun_route_sent_bytes_total",
    "sumun_route_views_total",
    "sumun_route_waiting_pages_total",
    "sumun_arrivals_total",
    "sumun_arrivals_by_access_total",
    "sumun_arrivals_by_source_total",
    "sumun_arrivals_by_device_total",
    "sumun_arrivals_by_os_total",
    "sumun_arrivals_by_browser_total",
    "sumun_arrivals_by_country_total",
    "sumun_unique_users",
    "sumun_unique_visitors",
    "sumun_region_database_timestamp_seconds",
    "sumun_access_log_dropped_total",
    "sumun_origin_attempts_failed_total",
    "sumun_origin_connection_waits_total",
    "sumun_origin_ejections_total",
    "sumun_tls_certificate_expiry_timestamp_seconds",
    "sumun_http_requests_total",
    "sumun_http_request_duration_seconds",
    "sumun_http_requests_in_flight",
    "sumun_origin_first_byte_seconds",
    "sumun_origin_failures_total",
    "sumun_refusals_total",
    "sumun_wait_duration_seconds",
    "sumun_estimate_error_ratio",
    "sumun_polls_total",
    "sumun_gate_transitions_total",
    "sumun_store_operation_duration_seconds",
    "sumun_store_failures_total",
    "sumun_store_recoveries_total",
    "sumun_restored_total",
];

/// Each family of a text, and whether it has HELP. Every line must be one of
/// the format's.
fn families(text: &str) -> BTreeMap<String, bool> {
    let mut families = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut family = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(!text.is_empty());
            helped.insert(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            name.clone_into(&mut family);
            families.insert(family.clone(), helped.contains(name));
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let number = value.parse::<f64>();
            assert!(
                number.is_ok() || ["+Inf", "-Inf"].contains(&value),
                "{line}"
            );
            let name = series.split('{').next().unwrap();
            let rest = name.strip_prefix(family.as_str());
            let suffixes = ["", "_bucket", "_sum", "_count"];
            assert!(rest.is_some_and(|rest| suffixes.contains(&rest)), "{line}");
        }
    }
    families
}

#[test]
fn a_door_of_their_own_shows_metrics_and_health_and_nothing_else() {
    let operator = Operator::with(&format!("{EVENT}[metrics]\nlisten = \"127.0.0.1:9191\"\n"));
    let metrics = operator.server.metrics.unwrap();
    let get = |path: &str| {
        Call::new(metrics, "GET", path)
            .header("Host", "sumun.monitoring.svc:9091")
            .send()
    };
    let answer = get("/metrics");
    assert_eq!(
        (answer.status, answer.header("cache-control")),
        (200, Some("no-store"))
    );
    assert_eq!(get("/healthz").status, 200);
    assert_eq!(get("/readyz").status, 200);
    get("/v1/events").refused(404);
    let post = Call::new(metrics, "POST", "/metrics").send();
    post.refused(405);
}
