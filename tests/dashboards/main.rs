//! What `dashboards/` shows and warns of is what gateways tell: every name is
//! compared with the papers, every panel is asked for by a real Prometheus that
//! reads two real gateways, and alerts fire.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking and says why"
)]

mod board;
mod door;
mod expression;
mod gateway;
mod paper;
mod prometheus;
mod shop;
mod town;

#[path = "../parts/ports.rs"]
mod ports;
#[path = "../parts/redis.rs"]
mod redis_process;

use std::path::PathBuf;
use std::time::Duration;

use board::Board;
use expression::Expression;
use paper::Paper;
use prometheus::{Prometheus, Rule, promtool};
use town::Town;

/// A file of the project.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Waits until `look` finds something; fails with what it says after `most`.
fn until<T>(most: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let step = Duration::from_millis(100);
    let mut waited = Duration::ZERO;
    loop {
        match look() {
            Ok(found) => return found,
            Err(missing) => assert!(waited < most, "not within {most:?}: {missing}"),
        }
        std::thread::sleep(step);
        waited += step;
    }
}

#[test]
fn a_board_names_only_what_there_is() {
    let paper = Paper::read();
    let mut wrong = Vec::new();
    for board in Board::all() {
        for target in board.targets() {
            let expression = Expression::read(&target.expression);
            let mut faults = paper.faults(&expression);
            faults.extend(paper.without(&expression, &target.legend));
            wrong.extend(faults.iter().map(|fault| format!("{}: {fault}", target.of)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_board_can_be_read() {
    let mut wrong = Vec::new();
    for board in Board::all() {
        wrong.extend(board.faults());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_alert_fires_in_its_time_and_not_before() {
    promtool(
        &[
            "check",
            "rules",
            file("dashboards/rules.yml").to_str().unwrap(),
        ],
        "",
    );
    let cases = file("tests/dashboards/rules_test.yml");
    let text = std::fs::read_to_string(&cases).unwrap();
    let rules = std::fs::read_to_string(file("dashboards/rules.yml")).unwrap();
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut seen = 0;
    for alert in alerts {
        let fires = format!("labels: 'ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"");
        assert!(text.contains(&fires), "no case in which {alert} fires");
        seen += 1;
    }
    assert!(seen > 0, "no alerts");
    promtool(&["test", "rules", cases.to_str().unwrap()], "");
}

/// One town for all of it: it takes a minute.
#[test]
fn a_real_prometheus_has_data_for_every_panel_and_its_alerts_fire() {
    let paper = Paper::read();
    let mut town = Town::start();
    let prometheus = Prometheus::start(&town.admin_doors(), &file("dashboards/rules.yml"));
    town.lose_what_the_store_knew();

    every_panel_has_data(&prometheus);
    for text in town.metrics() {
        promtool(&["check", "metrics"], &text);
        let strange = paper.strangers(&text);
        assert!(strange.is_empty(), "{}", strange.join("\n"));
    }
    every_rule_is_whole(&prometheus.rules(), &paper);

    let (lost, left) = town.lose_the_store_and_a_gateway();
    let waited = until(Duration::from_secs(150), || {
        let firing = prometheus.firing();
        let fires = |name: &str, at: &str| {
            firing
                .iter()
                .find(|alert| alert.name == name && alert.instance == at)
                .cloned()
        };
        let both = fires("SumunStoreDown", &left).zip(fires("SumunGatewayLost", &lost));
        both.ok_or_else(|| format!("two alerts; firing: {firing:?}"))
    });
    assert_eq!(
        waited.0.summary,
        format!("{left} does not reach the store"),
        "{waited:?}"
    );
    assert_eq!(
        waited.1.summary,
        format!("{lost} cannot be read by Prometheus"),
        "{waited:?}"
    );
}

/// No expression is left out: what is rare happens in the town.
fn every_panel_has_data(prometheus: &Prometheus) {
    let mut empty: Vec<board::Target> = Board::all().iter().flat_map(Board::targets).collect();
    assert!(empty.len() > 50, "{} expressions", empty.len());
    until(Duration::from_secs(120), || {
        empty.retain(|target| {
            let values = prometheus.ask(&board::filled(&target.expression));
            !values.iter().any(|value| !value.is_nan())
        });
        if empty.is_empty() {
            return Ok(());
        }
        let left = empty
            .iter()
            .map(|target| format!("{}: {}", target.of, target.expression));
        Err(format!("data for\n{}", left.collect::<Vec<_>>().join("\n")))
    });
}

/// Rules evaluate without a fault, name only what there is, and say what to do.
fn every_rule_is_whole(rules: &[Rule], paper: &Paper) {
    assert!(rules.len() > 20, "{} rules", rules.len());
    let mut wrong = Vec::new();
    for rule in rules {
        let name = &rule.name;
        if rule.health != "ok" {
            wrong.push(format!("{name}: {} {}", rule.health, rule.fault));
        }
        let expression = Expression::read(&rule.expression);
        let faults = paper.faults(&expression);
        wrong.extend(faults.iter().map(|fault| format!("{name}: {fault}")));
        if !rule.is_alert {
            continue;
        }
        if !["critical", "warning", "info"].contains(&rule.severity.as_str()) {
            wrong.push(format!("{name}: severity {:?}", rule.severity));
        }
        for (what, text) in [
            ("summary", &rule.summary),
            ("description", &rule.description),
        ] {
            if text.len() < 20 {
                wrong.push(format!("{name}: its {what} says nothing: {text:?}"));
            }
            let faults = paper.without(&expression, &text.replace("$labels.", ""));
            wrong.extend(faults.iter().map(|fault| format!("{name}: {fault}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
