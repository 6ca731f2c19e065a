//! Lines of a sheet (RFC 4180) that no spreadsheet takes for a formula.

use serde_json::Value;

/// One line of these cells.
pub(super) fn line<'a>(cells: impl Iterator<Item = &'a Value>) -> String {
    let cells: Vec<String> = cells.map(cell).collect();
    cells.join(",") + "\r\n"
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A text that begins like a formula gets an apostrophe before it.
fn quoted(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let text = if is_formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains(['"', ',', '\r', '\n', '\'']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_quoted_and_formulas_defused() {
        let row = [
            json!("/a"),
            json!("a,\"b\""),
            json!("=cmd|' /C calc'!A0"),
            json!("+1"),
            json!("-1"),
            json!("@x"),
            json!("\t=1"),
            json!(-1.5),
            Value::Null,
        ];
        assert_eq!(
            line(row.iter()),
            "/a,\"a,\"\"b\"\"\",\"'=cmd|' /C calc'!A0\",\"'+1\",\"'-1\",\"'@x\",\"'\t=1\",-1.5,\r\n"
        );
    }
}
