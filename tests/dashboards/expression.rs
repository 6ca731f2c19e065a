//! What an expression of Prometheus names: series, their labels, and the labels
//! that it groups by. It is read word by word; whether it is one, Prometheus says.

/// Words that name neither a series nor a function.
const WORDS: [&str; 20] = [
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "topk",
    "bottomk",
    "inf",
    "nan",
];

/// Words whose parentheses hold labels.
const GROUPS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];

/// What an expression names.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Expression {
    /// Series, each with what their labels are compared with.
    pub(crate) series: Vec<(String, Vec<(String, String)>)>,
    /// Labels that it groups or matches by.
    pub(crate) groups: Vec<String>,
    /// Texts outside of braces: `label_replace` makes labels of them.
    pub(crate) texts: Vec<String>,
}

impl Expression {
    pub(crate) fn read(text: &str) -> Self {
        let mut found = Self::default();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            rest = if first.is_ascii_alphabetic() || matches!(first, '_' | ':') {
                found.word(rest)
            } else if first.is_ascii_digit() || matches!(first, '$' | '.') {
                word(&rest[1..]).1
            } else if first == '"' {
                let (said, after) = quoted(rest);
                found.texts.push(said);
                after
            } else if first == '[' {
                rest.split_once(']').unwrap().1
            } else {
                assert!(first != '{', "series without a name: {text}");
                &rest[first.len_utf8()..]
            }
            .trim_start();
        }
        found
    }

    /// Reads what begins with a word, and gives what follows.
    fn word<'a>(&mut self, text: &'a str) -> &'a str {
        let (name, after) = word(text);
        let lower = name.to_ascii_lowercase();
        let next = after.trim_start();
        if GROUPS.contains(&lower.as_str())
            && let Some(labels) = next.strip_prefix('(')
        {
            let (labels, after) = labels.split_once(')').unwrap();
            let labels = labels.split(',').map(str::trim).filter(|l| !l.is_empty());
            self.groups.extend(labels.map(str::to_owned));
            return after;
        }
        if WORDS.contains(&lower.as_str()) || next.starts_with('(') {
            return after;
        }
        let mut compared = Vec::new();
        let mut rest = after;
        if let Some(mut within) = next.strip_prefix('{') {
            loop {
                within = within.trim_start_matches([' ', ',', '\n']);
                if let Some(after) = within.strip_prefix('}') {
                    rest = after;
                    break;
                }
                let (label, after) = word(within);
                let (value, after) = quoted(after.trim_start_matches([' ', '=', '~', '!']));
                compared.push((label.to_owned(), value));
                within = after;
            }
        }
        self.series.push((name.to_owned(), compared));
        rest
    }
}

/// A word, and what follows.
fn word(text: &str) -> (&str, &str) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()))
}

/// A text in quotation marks, and what follows.
fn quoted(text: &str) -> (String, &str) {
    let within = text.strip_prefix('"');
    let within = within.unwrap_or_else(|| panic!("no text: {text}"));
    let (said, after) = within.split_once('"').unwrap();
    (said.to_owned(), after)
}

#[test]
fn an_expression_is_read() {
    let text = r#"sum by (job, kind) (rate(a_total{kind=~"x|y", b!="c"}[5m] offset 1d))
        / on (job) group_left () label_replace(up, "to", "$1", "from", "(.*)") > 1e3"#;
    let series = |name: &str, compared: &[(&str, &str)]| {
        let compared = compared.iter().map(|(l, v)| ((*l).into(), (*v).into()));
        (name.to_owned(), compared.collect())
    };
    let expected = Expression {
        series: vec![
            series("a_total", &[("kind", "x|y"), ("b", "c")]),
            series("up", &[]),
        ],
        groups: ["job", "kind", "job"].map(str::to_owned).into(),
        texts: ["to", "$1", "from", "(.*)"].map(str::to_owned).into(),
    };
    assert_eq!(Expression::read(text), expected);
}
