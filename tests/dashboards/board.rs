//! A Grafana dashboard, as far as a test can judge it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::file;

/// A dashboard of `dashboards/`.
pub(crate) struct Board {
    name: String,
    content: Value,
}

/// One query of a panel.
pub(crate) struct Target {
    /// Where it stands.
    pub(crate) of: String,
    pub(crate) expression: String,
    pub(crate) legend: String,
}

/// The variables of Grafana's that queries may hold, with what a test says for them.
const VARIABLES: [(&str, &str); 4] = [
    ("$__rate_interval", "10s"),
    ("$job", ".*"),
    ("$instance", ".*"),
    ("$event", ".*"),
];

/// A query with its variables replaced.
pub(crate) fn filled(query: &str) -> String {
    let mut query = query.to_owned();
    for (variable, value) in VARIABLES {
        query = query.replace(variable, value);
    }
    assert!(
        !query.contains('$'),
        "a variable that nobody knows: {query}"
    );
    query
}

impl Board {
    /// All that there are.
    pub(crate) fn all() -> Vec<Self> {
        let entries = std::fs::read_dir(file("dashboards")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let boards: Vec<Self> = paths
            .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
            .map(|path| Self {
                name: path.file_name().unwrap().display().to_string(),
                content: serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap(),
            })
            .collect();
        assert!(!boards.is_empty(), "no dashboards");
        boards
    }

    fn panels(&self) -> impl Iterator<Item = &Value> {
        let all = self.content["panels"].as_array().unwrap().iter();
        // A row that is folded holds its panels.
        all.flat_map(|panel| {
            let within = panel["panels"].as_array().into_iter().flatten();
            std::iter::once(panel).chain(within)
        })
    }

    fn variables(&self) -> &Vec<Value> {
        self.content["templating"]["list"].as_array().unwrap()
    }

    /// Every query of every panel, and those that fill the variables.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for panel in self.panels() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                targets.push(Target {
                    of: format!("{}, {}", self.name, panel["title"]),
                    expression: text(target, "expr"),
                    legend: text(target, "legendFormat"),
                });
            }
        }
        for variable in self.variables() {
            let query = text(&variable["query"], "query");
            let Some(asked) = query.strip_prefix("label_values(") else {
                continue;
            };
            let (series, label) = asked.strip_suffix(')').unwrap().rsplit_once(", ").unwrap();
            targets.push(Target {
                of: format!("{}, variable {}", self.name, variable["name"]),
                expression: series.to_owned(),
                legend: format!("{{{{{label}}}}}"),
            });
        }
        targets
    }

    /// What Grafana would not show, or an operator not understand.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let source = self.variables().iter().find(|v| v["type"] == "datasource");
        if source.is_none_or(|v| v["query"] != "prometheus" || v["name"] != "datasource") {
            faults.push("no variable for the data source".to_owned());
        }
        if !self.content["id"].is_null() || text(&self.content, "uid").is_empty() {
            faults.push("a board to import has a uid and no id".to_owned());
        }
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in self.panels() {
            let title = text(panel, "title");
            if !ids.insert(panel["id"].as_u64().unwrap()) {
                faults.push(format!("{title}: its id is taken"));
            }
            let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            if at("x") + at("w") > 24 {
                faults.push(format!("{title}: beyond the edge"));
            }
            let mut own = (at("x")..at("x") + at("w"))
                .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)));
            if !own.all(|cell| cells.insert(cell)) {
                faults.push(format!("{title}: upon another panel"));
            }
            if panel["type"] != "row" {
                faults.extend(Self::faults_of(panel).map(|fault| format!("{title}: {fault}")));
            }
        }
        faults
            .iter()
            .map(|fault| format!("{}: {fault}", self.name))
            .collect()
    }

    fn faults_of(panel: &Value) -> impl Iterator<Item = &'static str> {
        let targets = panel["targets"].as_array().unwrap();
        let is_ours = |of: &Value| of["datasource"]["uid"] == "${datasource}";
        let marks: BTreeSet<String> = targets.iter().map(|t| text(t, "refId")).collect();
        let checks = [
            (text(panel, "description").len() > 20, "no description"),
            (
                panel["fieldConfig"]["defaults"]["unit"].is_string(),
                "no unit",
            ),
            (!targets.is_empty(), "no query"),
            (marks.len() == targets.len(), "two queries of one name"),
            (
                is_ours(panel) && targets.iter().all(is_ours),
                "another data source",
            ),
        ];
        checks
            .into_iter()
            .filter_map(|(holds, fault)| (!holds).then_some(fault))
    }
}

fn text(of: &Value, name: &str) -> String {
    of[name].as_str().unwrap_or_default().to_owned()
}
