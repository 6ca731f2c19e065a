//! What there is to name: series and labels by docs/metrics.md, which another test
//! keeps true to the sources, and what the rules record.

use std::collections::{BTreeMap, BTreeSet};

use super::expression::Expression;
use super::file;

/// Labels that Prometheus gives to all that it reads.
const OF_TARGETS: [&str; 2] = ["job", "instance"];

/// Labels with any value: ids, names and numbers.
const FREE: [&str; 10] = [
    "event", "origin", "route", "name", "version", "hash", "code", "le", "job", "instance",
];

/// The names that there are.
pub(crate) struct Paper {
    /// Series and their labels.
    series: BTreeMap<String, BTreeSet<String>>,
    /// The values of labels that have a list of them.
    values: BTreeMap<String, BTreeSet<String>>,
}

impl Paper {
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(file("docs/metrics.md")).unwrap();
        let mut paper = Self {
            series: BTreeMap::new(),
            values: BTreeMap::new(),
        };
        let mut head = Vec::new();
        for line in text.lines() {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
            if !line.starts_with('|') {
                head.clear();
            } else if head.is_empty() {
                head = cells.iter().map(|cell| cell.trim()).collect();
            } else if !line.starts_with("|---") {
                paper.note(&head, &cells);
            }
        }
        paper.note_words();
        paper.note_others();
        assert!(paper.series.len() > 40, "{:?}", paper.series);
        assert!(paper.values.len() > 8, "{:?}", paper.values);
        paper
    }

    /// A row of a table.
    fn note(&mut self, head: &[&str], cells: &[&str]) {
        let column = |name: &str| {
            let at = head.iter().position(|title| *title == name)?;
            Some(named(cells[at]))
        };
        let first = named(cells[0]);
        match head[0] {
            "name" => {
                let labels: BTreeSet<String> = column("labels").unwrap().into_iter().collect();
                let is_histogram = head.contains(&"type") && cells[1] == "histogram";
                if is_histogram {
                    let mut of_buckets = labels.clone();
                    of_buckets.insert("le".to_owned());
                    self.series
                        .insert(format!("{}_bucket", first[0]), of_buckets);
                    for end in ["sum", "count"] {
                        self.series
                            .insert(format!("{}_{end}", first[0]), labels.clone());
                    }
                } else {
                    self.series.insert(first[0].clone(), labels);
                }
            }
            "label" => {
                for label in first {
                    self.values
                        .entry(label)
                        .or_default()
                        .extend(named(cells[1]));
                }
            }
            "`decision`" => {
                self.values
                    .entry("decision".to_owned())
                    .or_default()
                    .extend(first);
            }
            other => panic!("a table of {other:?}"),
        }
    }

    /// A value that is itself a label stands for all of its values (a reason may be
    /// a `kind`).
    fn note_words(&mut self) {
        let known = self.values.clone();
        for values in self.values.values_mut() {
            let meant = known.iter().filter(|(label, _)| values.contains(*label));
            let meant: Vec<String> = meant.flat_map(|(_, all)| all.clone()).collect();
            values.extend(meant);
        }
    }

    /// What the paper does not list one by one: of the process, of Prometheus
    /// itself, and what the rules record, whose names begin with their labels.
    fn note_others(&mut self) {
        let shown = sumun::metrics::Metrics::default().render();
        let of_process = shown.lines().filter(|line| line.starts_with("process_"));
        for line in of_process {
            let name = line.split([' ', '{']).next().unwrap();
            self.series.insert(name.to_owned(), BTreeSet::new());
        }
        self.series.insert("up".to_owned(), BTreeSet::new());
        let rules = std::fs::read_to_string(file("dashboards/rules.yml")).unwrap();
        let recorded = rules
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- record: "));
        for name in recorded {
            let labels = name.split(':').next().unwrap().split('_');
            self.series
                .insert(name.to_owned(), labels.map(str::to_owned).collect());
        }
    }

    /// What an expression names that there is not.
    pub(crate) fn faults(&self, expression: &Expression) -> Vec<String> {
        let mut faults = Vec::new();
        let mut labels: BTreeSet<&str> = OF_TARGETS.into();
        labels.extend(expression.texts.iter().map(String::as_str));
        for (name, compared) in &expression.series {
            let Some(own) = self.series.get(name) else {
                faults.push(format!("there is no {name}"));
                continue;
            };
            labels.extend(own.iter().map(String::as_str));
            for (label, values) in compared {
                if !own.contains(label) && !OF_TARGETS.contains(&label.as_str()) {
                    faults.push(format!("{name} has no label {label}"));
                }
                if FREE.contains(&label.as_str()) {
                    continue;
                }
                for value in values.split('|') {
                    if !self
                        .values
                        .get(label)
                        .is_some_and(|all| all.contains(value))
                    {
                        faults.push(format!("{label} of {name} is never {value:?}"));
                    }
                }
            }
        }
        for label in &expression.groups {
            if !labels.contains(label.as_str()) {
                faults.push(format!("nothing has the label {label} to group by"));
            }
        }
        faults
    }

    /// The labels that a text shows and the expression's series do not have: those
    /// that are grouped by, or all where nothing is grouped.
    pub(crate) fn without(&self, expression: &Expression, text: &str) -> Vec<String> {
        let mut labels: BTreeSet<&str> = BTreeSet::new();
        labels.extend(expression.groups.iter().map(String::as_str));
        if expression.groups.is_empty() || expression.series[0].0 == "up" {
            labels.extend(OF_TARGETS);
        }
        let is_whole = |name: &&String| expression.groups.is_empty() || name.contains(':');
        for name in expression.series.iter().map(|(name, _)| name) {
            if let Some(own) = self.series.get(name).filter(|_| is_whole(&name)) {
                labels.extend(own.iter().map(String::as_str));
            }
        }
        let shown = text.split("{{").skip(1).map(|after| {
            let (label, _) = after.split_once("}}").unwrap();
            label.trim()
        });
        shown
            .filter(|label| !label.starts_with("$value") && !labels.contains(label))
            .map(|label| format!("shows the label {label}, which is not there"))
            .collect()
    }

    /// What a gateway shows and the paper does not have: series, labels, values.
    pub(crate) fn strangers(&self, shown: &str) -> Vec<String> {
        let mut strange = Vec::new();
        for line in shown.lines().filter(|line| line.starts_with("sumun_")) {
            let (series, _value) = line.rsplit_once(' ').unwrap();
            strange.extend(self.faults(&Expression::read(series)));
        }
        strange.sort();
        strange.dedup();
        strange
    }
}

/// What stands in backticks.
fn named(cell: &str) -> Vec<String> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}
