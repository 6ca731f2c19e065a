//! Every metric's name, unit and labels, in one place;
//! docs/metrics.md tells of them.
//!
//! Each server has a recorder of its own, so that two can live in one
//! process. Label values come from our own closed sets and from event ids,
//! never from a request; routes alone are told of paths, bounded in number and
//! length (`tracking`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// One metric: name, kind, unit and help.
pub struct Name {
    /// As exposed.
    pub name: &'static str,
    kind: Kind,
    unit: Option<Unit>,
    help: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

macro_rules! names {
    ($($constant:ident = $name:literal, $kind:expr, $unit:expr, $help:expr;)*) => {
        $(#[doc = $help] pub const $constant: Name = Name {
            name: concat!("sumun_", $name), kind: $kind, unit: $unit, help: $help,
        };)*
        /// All of them.
        pub const ALL: &[Name] = &[$($constant),*];
    };
}

const REQUEST_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
const WAIT_SECONDS: &[f64] = &[
    1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14_400.0,
];
const STORE_SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];
const RATIO: &[f64] = &[0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0];

names! {
    EVENT_GATE_STATE = "event_gate_state", Kind::Gauge, None, "1 for the state the gate is in, 0 for the others. Shared by all gateways: use max by (event, state).";
    EVENT_SESSIONS = "event_sessions", Kind::Gauge, None, "Sessions inside. Shared by all gateways: use max by (event).";
    EVENT_SESSIONS_LIMIT = "event_sessions_limit", Kind::Gauge, None, "Most sessions inside at once; +Inf without a limit. Shared by all gateways: use max by (event).";
    EVENT_WAITING_VISITORS = "event_waiting_visitors", Kind::Gauge, None, "Living tickets that are not called. Shared by all gateways: use max by (event).";
    EVENT_CALLED_NUMBER = "event_called_number", Kind::Gauge, None, "The watermark: every number below it may claim a slot. Shared by all gateways: use max by (event).";
    EVENT_PRESSURE = "event_pressure", Kind::Gauge, None, "A signal's value divided by its threshold; at 1 queueing begins. Shared by all gateways: use max by (event, signal).";
    EVENT_LOAD = "event_load", Kind::Gauge, None, "A signal's value, in its threshold's unit. Shared by all gateways: use max by (event, signal).";
    EVENT_THRESHOLD = "event_threshold", Kind::Gauge, None, "A signal's threshold. Shared by all gateways: use max by (event, signal).";
    EVENT_PACE = "event_pace", Kind::Gauge, None, "Calls a second while the pace is in force, else +Inf. Shared by all gateways: use max by (event).";
    EVENT_ESTIMATE_SECONDS = "event_estimate_seconds", Kind::Gauge, Some(Unit::Seconds), "How long somebody who came now would wait; NaN when unknown. Shared by all gateways: use max by (event).";
    SHARE = "share_slots", Kind::Gauge, None, "Slots that this gateway may fill by itself while the store is away, with on-failure policy `local`.";
    HTTP_REQUESTS = "http_requests_total", Kind::Counter, None, "Requests answered, by event, decision and status code; of calls under /__sumun/ the decision is `api`.";
    HTTP_REQUEST_SECONDS = "http_request_duration_seconds", Kind::Histogram(REQUEST_SECONDS), Some(Unit::Seconds), "From the request's head to the answer's head.";
    HTTP_IN_FLIGHT = "http_requests_in_flight", Kind::Gauge, None, "Requests being answered, polls not among them.";
    ORIGIN_FIRST_BYTE_SECONDS = "origin_first_byte_seconds", Kind::Histogram(REQUEST_SECONDS), Some(Unit::Seconds), "From sending a request to the origin to the head of its answer.";
    ORIGIN_FAILURES = "origin_failures_total", Kind::Counter, None, "Requests that the origin did not answer, by kind.";
    ORIGIN_UP = "origin_up", Kind::Gauge, None, "1 while an origin gets requests, 0 while it is ejected or its checks fail.";
    ORIGIN_IN_FLIGHT = "origin_requests_in_flight", Kind::Gauge, None, "Requests given to an origin and not ended, tunnels among them.";
    ORIGIN_CONNECTIONS = "origin_connections", Kind::Gauge, None, "Open connections to an origin, by state: used or idle.";
    ORIGIN_WAITING = "origin_connection_waiting", Kind::Gauge, None, "Requests that wait for a connection to an origin.";
    ORIGIN_WAITS = "origin_connection_waits_total", Kind::Counter, None, "Waits for a connection to an origin that have ended, by result.";
    ORIGIN_ATTEMPTS_FAILED = "origin_attempts_failed_total", Kind::Counter, None, "Attempts at an origin that failed by its own fault, by kind; what was then answered by another one and bodies that broke off are among them.";
    ORIGIN_EJECTIONS = "origin_ejections_total", Kind::Counter, None, "Times that an origin was ejected or taken out by its checks, by reason.";
    ROUTE_VIEWS = "route_views_total", Kind::Counter, None, "Navigations that the site answered with a page, of an event's heaviest routes.";
    ROUTE_ANSWERS = "route_answers_total", Kind::Counter, None, "Answers to requests that went to the origin, by route and class of status.";
    ROUTE_WAITING_PAGES = "route_waiting_pages_total", Kind::Counter, None, "Waiting pages shown, by the route that was asked for.";
    ROUTE_CONVERSIONS = "route_conversions_total", Kind::Counter, None, "Visitors who got in after they had waited, by the route where they waited.";
    ROUTE_SENT_BYTES = "route_sent_bytes_total", Kind::Counter, None, "Bytes of answers' bodies that were sent, by route.";
    ROUTE_IN_FLIGHT = "route_requests_in_flight", Kind::Gauge, None, "Requests under way, until the last byte of their answers, by route.";
    ROUTE_FIRST_BYTE = "route_first_byte_seconds", Kind::Histogram(&[]), Some(Unit::Seconds), "From sending a request to the origin to the head of its answer, by route.";
    ACCESS_LOG_DROPPED = "access_log_dropped_total", Kind::Counter, None, "Lines of the access log that were dropped, by reason: full or unwritable.";
    STATISTICS_LOST = "statistics_lost_total", Kind::Counter, None, "Slices of statistics that were given up because the store could not keep them.";
    REFUSALS = "refusals_total", Kind::Counter, None, "Connections and requests refused by a limit or a rule, by reason.";
    TICKETS_ISSUED = "tickets_issued_total", Kind::Counter, None, "Numbers given.";
    TICKETS_ABANDONED = "tickets_abandoned_total", Kind::Counter, None, "Offers that lapsed unclaimed.";
    SESSIONS_STARTED = "sessions_started_total", Kind::Counter, None, "Sessions begun, by way: `walk_in` or `claim`.";
    SESSIONS_ENDED = "sessions_ended_total", Kind::Counter, None, "Sessions ended, by reason: expired, completed or revoked.";
    ARRIVALS = "arrivals_total", Kind::Counter, None, "Visitors who got a session or a place, new ones and those who came back.";
    ARRIVALS_BY_ACCESS = "arrivals_by_access_total", Kind::Counter, None, "The same, by how they came in.";
    ARRIVALS_BY_SOURCE = "arrivals_by_source_total", Kind::Counter, None, "The same, by what led them here.";
    ARRIVALS_BY_DEVICE = "arrivals_by_device_total", Kind::Counter, None, "The same, by kind of device.";
    ARRIVALS_BY_OS = "arrivals_by_os_total", Kind::Counter, None, "The same, by family of operating system.";
    ARRIVALS_BY_BROWSER = "arrivals_by_browser_total", Kind::Counter, None, "The same, by family of browser.";
    ARRIVALS_BY_COUNTRY = "arrivals_by_country_total", Kind::Counter, None, "The same, by country, where a database of regions is supplied.";
    UNIQUE_VISITORS = "unique_visitors", Kind::Gauge, None, "About how many different visitors this gateway heard from: in the last whole minute, and so far in the hour and the day. Not to be summed: GET /v1/events/{eventId}/visitors unites all gateways.";
    UNIQUE_USERS = "unique_users", Kind::Gauge, None, "The same of users who are logged in, where the configuration names where that is written.";
    REGIONS_MADE = "region_database_timestamp_seconds", Kind::Gauge, Some(Unit::Seconds), "When the databases of regions and networks in use were made.";
    BOT_VERDICTS = "bot_verdicts_total", Kind::Counter, None, "Verdicts on those who ask without a pass and are not plainly visitors, by what is done (in the mode detect: what would be) and the heaviest reason.";
    BOT_RECORDS = "bot_records", Kind::Gauge, None, "Records of addresses, networks and askers that this gateway keeps to tell bots.";
    WAIT_SECONDS_TAKEN = "wait_duration_seconds", Kind::Histogram(WAIT_SECONDS), Some(Unit::Seconds), "From a number's issue to its claim.";
    ESTIMATE_ERROR = "estimate_error_ratio", Kind::Histogram(RATIO), None, "Time waited divided by the time first estimated.";
    POLLS = "polls_total", Kind::Counter, None, "Polls, by result: wait, enter, early, block or nothing.";
    ADDRESS_SHARE_HOLDS = "address_share_holds_total", Kind::Counter, None, "Times that a called visitor was told to wait, for its address has its share of the limit.";
    GATE_TRANSITIONS = "gate_transitions_total", Kind::Counter, None, "Moves of the gate made by this gateway, by target and signal.";
    STORE_OPERATION_SECONDS = "store_operation_duration_seconds", Kind::Histogram(STORE_SECONDS), Some(Unit::Seconds), "Store calls, by operation.";
    STORE_FAILURES = "store_failures_total", Kind::Counter, None, "Store calls that failed, by operation.";
    STORE_UP = "store_up", Kind::Gauge, None, "1 while the store answers.";
    STORE_RECOVERIES = "store_recoveries_total", Kind::Counter, None, "Recoveries seen, by cause.";
    RESTORED = "restored_total", Kind::Counter, None, "What this gateway brought back in recoveries, by what.";
    LOST_RACES = "controller_lost_races_total", Kind::Counter, None, "Steps that another gateway made first.";
    CONTROLLER_LAST_SUCCESS = "controller_last_success_timestamp_seconds", Kind::Gauge, Some(Unit::Seconds), "When the controller last read the store.";
    GATEWAYS = "gateways", Kind::Gauge, None, "Gateways that share the store.";
    CERTIFICATE_ENDS = "tls_certificate_expiry_timestamp_seconds", Kind::Gauge, Some(Unit::Seconds), "When a certificate of the public door ends, by its first name.";
    BUILD_INFO = "build_info", Kind::Gauge, None, "1, with the version.";
    CONFIG_INFO = "config_info", Kind::Gauge, None, "1, with the hash of the configuration.";
    CONFIG_RELOADED = "config_last_reload_successful", Kind::Gauge, None, "1 if the configuration file was good when last read.";
}

/// A server's metrics.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: metrics_process::Collector,
    /// Events and origins that are gone, as their labels stand in a series: it is not shown.
    gone: Mutex<BTreeSet<String>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut builder = PrometheusBuilder::new();
        for name in ALL {
            // Without buckets here it is written by its owner (`Families`).
            if let Kind::Histogram(buckets) = name.kind
                && !buckets.is_empty()
            {
                let matcher = Matcher::Full(name.name.to_owned());
                builder = match builder.set_buckets_for_metric(matcher, buckets) {
                    Ok(builder) => builder,
                    // Only an empty list of buckets is refused.
                    Err(_) => PrometheusBuilder::new(),
                };
            }
        }
        let recorder = builder.build_recorder();
        for name in ALL {
            let key = KeyName::from(name.name);
            match name.kind {
                Kind::Counter => recorder.describe_counter(key, name.unit, name.help.into()),
                Kind::Gauge => recorder.describe_gauge(key, name.unit, name.help.into()),
                Kind::Histogram(_) => {
                    recorder.describe_histogram(key, name.unit, name.help.into());
                }
            }
        }
        let process = metrics_process::Collector::default();
        metrics::with_local_recorder(&recorder, || process.describe());
        Self {
            handle: recorder.handle(),
            process,
            recorder,
            gone: Mutex::default(),
        }
    }
}

/// A label: its name and its value.
pub type Labelled<'a> = (&'static str, &'a str);

impl Metrics {
    fn key(name: &Name, labels: &[Labelled<'_>]) -> Key {
        let labels: Vec<Label> = labels
            .iter()
            .map(|(label, value)| Label::new(*label, (*value).to_owned()))
            .collect();
        Key::from_parts(name.name, labels)
    }

    /// A counter, to keep and count with.
    pub fn counter(&self, name: &Name, labels: &[Labelled<'_>]) -> Counter {
        self.recorder
            .register_counter(&Self::key(name, labels), &METADATA)
    }

    /// A gauge, to keep and set.
    pub fn gauge(&self, name: &Name, labels: &[Labelled<'_>]) -> Gauge {
        self.recorder
            .register_gauge(&Self::key(name, labels), &METADATA)
    }

    /// A histogram, to keep and record with.
    pub fn histogram(&self, name: &Name, labels: &[Labelled<'_>]) -> Histogram {
        self.recorder
            .register_histogram(&Self::key(name, labels), &METADATA)
    }

    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn render(&self) -> String {
        metrics::with_local_recorder(&self.recorder, || self.process.collect());
        let text = self.handle.render();
        let gone = self.gone();
        if gone.is_empty() {
            return text;
        }
        let shown = text.split_inclusive('\n').filter(|line| {
            let is_gone = |label| label_of(line, label).is_some_and(|named| gone.contains(named));
            !is_gone("event") && !is_gone("origin")
        });
        shown.collect()
    }

    /// An event is gone: no series of it is shown any more. The exporter can
    /// drop none of them, and a gauge that nobody sets would stand for ever.
    pub fn hide_event(&self, event: &str) {
        // What belongs to no event is shown under this name.
        if event == "none" {
            return;
        }
        self.gone().insert(labelled("event", event));
    }

    /// An origin is gone: the same.
    pub fn hide_origin(&self, origin: &str) {
        self.gone().insert(labelled("origin", origin));
    }

    /// An origin is there, perhaps again: its counters go on.
    pub fn show_origin(&self, origin: &str) {
        self.gone().remove(&labelled("origin", origin));
    }

    /// An event is there, perhaps again: its counters go on.
    pub fn show_event(&self, event: &str) {
        self.gone().remove(&labelled("event", event));
    }

    fn gone(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what histograms have collected; call it every few seconds.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// A label as it stands in a series. Neither ids of events nor `host:port` need escaping.
fn labelled(label: &str, value: &str) -> String {
    format!("{label}=\"{value}\"")
}

/// The label of this name in a line of the text, with its value.
fn label_of<'a>(line: &'a str, label: &str) -> Option<&'a str> {
    if line.starts_with('#') {
        return None;
    }
    let (_, labels) = line.split_once('{')?;
    let mut rest = labels;
    loop {
        let value = rest.strip_prefix(label).and_then(|v| v.strip_prefix("=\""));
        if let Some(value) = value {
            let end = value.find('"')?;
            return rest.get(..label.len() + 2 + end + 1);
        }
        (_, rest) = rest.split_once("\",")?;
    }
}

/// Longest value of a label, in characters.
const LABEL_MAX: usize = 200;

/// Series that come and go, which the exporter cannot forget: written anew
/// each time, family by family.
#[derive(Default)]
pub struct Families(BTreeMap<&'static str, String>);

impl Families {
    fn lines(&mut self, name: &Name) -> &mut String {
        self.0.entry(name.name).or_insert_with(|| {
            let (family, help) = (name.name, name.help);
            let kind = match name.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            format!("# HELP {family} {help}\n# TYPE {family} {kind}\n")
        })
    }

    /// A series of a counter or of a gauge.
    pub fn count(&mut self, name: &Name, labels: &[Labelled<'_>], value: u64) {
        let series = format!("{}{} {value}\n", name.name, braced(labels, None));
        self.lines(name).push_str(&series);
    }

    /// A series of a histogram: how many are at most each bound, how many
    /// there are, and their sum.
    pub fn histogram(
        &mut self,
        name: &Name,
        labels: &[Labelled<'_>],
        buckets: &[(f64, u64)],
        (count, sum): (u64, f64),
    ) {
        let family = name.name;
        let lines = self.lines(name);
        let bounds = buckets
            .iter()
            .map(|(bound, below)| (bound.to_string(), *below));
        for (bound, below) in bounds.chain([("+Inf".to_owned(), count)]) {
            let labels = braced(labels, Some(&bound));
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{family}_bucket{labels} {below}");
        }
        let labels = braced(labels, None);
        let _ = writeln!(lines, "{family}_sum{labels} {sum}");
        let _ = writeln!(lines, "{family}_count{labels} {count}");
    }

    /// The text of all.
    #[must_use]
    pub fn finish(self) -> String {
        self.0.into_values().collect()
    }
}

/// Labels as they stand in a series, values escaped and bounded.
fn braced(labels: &[Labelled<'_>], bound: Option<&str>) -> String {
    let bound = bound.map(|bound| ("le", bound));
    let each = labels.iter().copied().chain(bound).map(|(label, value)| {
        let value: String = value.chars().take(LABEL_MAX).collect();
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{label}=\"{}\"", value.replace('\n', "\\n"))
    });
    format!("{{{}}}", each.collect::<Vec<_>>().join(","))
}

const METADATA: Metadata<'static> = Metadata::new("sumun", Level::INFO, None);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_of_a_line_is_found_wherever_it_stands() {
        let of = |line| label_of(line, "event");
        let main = Some("event=\"main\"");
        assert_eq!(of("sumun_event_sessions{event=\"main\"} 3\n"), main);
        assert_eq!(of("x_bucket{a=\"b\",event=\"main\",le=\"1\"} 3"), main);
        assert_eq!(
            label_of("x{origin=\"[::1]:80\",kind=\"a\"} 1", "origin"),
            Some("origin=\"[::1]:80\"")
        );
        for line in [
            "# HELP x by event",
            "sumun_gateways 1",
            "x{wrong_event=\"a\"} 1",
        ] {
            assert_eq!(of(line), None, "{line}");
        }
    }

    #[test]
    fn series_that_come_and_go_stand_by_family_with_their_values_escaped() {
        let mut text = Families::default();
        let bad = [("event", "main"), ("route", "/a\"b\\c\nd")];
        let long = "/".repeat(500);
        text.count(&ROUTE_VIEWS, &bad, 3);
        text.histogram(&ROUTE_FIRST_BYTE, &bad, &[(0.5, 1)], (2, 7.5));
        text.count(&ROUTE_VIEWS, &[("event", "main"), ("route", &long)], 4);
        let text = text.finish();
        let lines: Vec<&str> = text.lines().collect();
        let route = r#"event="main",route="/a\"b\\c\nd""#;
        assert_eq!(lines[1], "# TYPE sumun_route_first_byte_seconds histogram");
        assert_eq!(
            lines[2],
            format!("sumun_route_first_byte_seconds_bucket{{{route},le=\"0.5\"}} 1")
        );
        assert_eq!(
            lines[4],
            format!("sumun_route_first_byte_seconds_sum{{{route}}} 7.5")
        );
        assert_eq!(lines[7], "# TYPE sumun_route_views_total counter");
        assert_eq!(lines[8], format!("sumun_route_views_total{{{route}}} 3"));
        assert!(lines[9].len() < 300, "{}", lines[9]);
    }

    #[test]
    fn an_event_that_is_gone_has_no_series_until_it_is_there_again() {
        let metrics = Metrics::default();
        for event in ["main", "sale"] {
            metrics.gauge(&EVENT_SESSIONS, &[("event", event)]).set(5.0);
            let labels = [("event", event), ("way", "claim")];
            metrics.counter(&SESSIONS_STARTED, &labels).increment(2);
        }
        metrics.hide_event("sale");
        let text = metrics.render();
        assert!(
            text.contains("sumun_event_sessions{event=\"main\"} 5\n"),
            "{text}"
        );
        assert!(!text.contains("sale"), "{text}");
        metrics.show_event("sale");
        let text = metrics.render();
        let counter = "sumun_sessions_started_total{event=\"sale\",way=\"claim\"} 2\n";
        assert!(text.contains(counter), "{text}");
    }
}
