//! Statements with their answers, from `tests/cases/sql`, and who is asked them.
//!
//! A case is a statement; a line `----` (rows in any order), `====` (rows in this order) or `!!!!` (refused, with this in
//! the message); the rows, fields between `|`; an empty line. Numbers may differ in the last digits: how a sum is put
//! together depends on where the parts of it are.

use std::path::{Path, PathBuf};

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    pub line: usize,
    pub statement: String,
    pub expected: Expected,
}

/// What comes of it.
#[derive(Clone, Debug)]
pub enum Expected {
    Rows { rows: Vec<String>, ordered: bool },
    Refused(String),
}

/// Samples of a series of the data that all cases are about.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub labels: Vec<(String, String)>,
    pub samples: Vec<(i64, f64)>,
}

/// Answers a statement: rows with fields between `|`, or why not.
pub trait Subject {
    fn ask(&mut self, statement: &str) -> Result<Vec<String>, String>;
}

pub fn directory() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    root.join("tests/cases/sql")
}

pub fn data() -> Vec<Loaded> {
    let text = std::fs::read_to_string(directory().join("data.jsonl")).expect("the data is there");
    let series = |line: &str| {
        let json: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
        let labels = json["labels"].as_object().expect("labels");
        let labels =
            labels.iter().map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()));
        let start = json["start"].as_i64().expect("a start");
        let step = json["step"].as_i64().expect("a step");
        let value = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.parse().expect("a float"),
            number => number.as_f64().expect("a float"),
        };
        let values = json["values"].as_array().expect("values").iter().map(value);
        let samples = values.enumerate().map(|(at, value)| (start + at as i64 * step, value)).collect();
        Loaded { labels: labels.collect(), samples }
    };
    text.lines().map(series).collect()
}

pub fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(directory().join("cases.txt")).expect("the cases are there");
    let lines: Vec<&str> = text.lines().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if lines[at].is_empty() || lines[at].starts_with('#') {
            at += 1;
            continue;
        }
        let line = at + 1;
        let is_mark = |line: &str| matches!(line, "----" | "====" | "!!!!");
        let mark = (at..lines.len()).find(|at| is_mark(lines[*at])).expect("a mark after the statement");
        let statement = lines[at..mark].join("\n");
        let end = (mark + 1..lines.len()).find(|at| lines[*at].is_empty()).unwrap_or(lines.len());
        let rows: Vec<String> = lines[mark + 1..end].iter().map(|row| (*row).to_owned()).collect();
        let expected = match lines[mark] {
            "!!!!" => Expected::Refused(rows.join("\n")),
            mark => Expected::Rows { rows, ordered: mark == "====" },
        };
        out.push(Case { line, statement, expected });
        at = end;
    }
    out
}

fn same_field(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
        _ => false,
    }
}

fn same_row(a: &str, b: &str) -> bool {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split('|').collect(), b.split('|').collect());
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same_field(a, b))
}

/// Whether the answer is the expected one; what is wrong otherwise.
pub fn judge(case: &Case, answer: Result<Vec<String>, String>) -> Result<(), String> {
    let told = |what: String| Err(format!("line {}: {}: {what}", case.line, case.statement));
    match (&case.expected, answer) {
        (Expected::Refused(part), Err(message)) if message.contains(part.as_str()) => Ok(()),
        (Expected::Refused(part), answer) => {
            told(format!("expected a refusal with {part:?}, got {answer:?}"))
        }
        (Expected::Rows { .. }, Err(message)) => told(message),
        (Expected::Rows { rows, ordered }, Ok(mut found)) => {
            let mut rows = rows.clone();
            if rows.len() != found.len() {
                return told(format!("expected {} rows, got {}: {found:?}", rows.len(), found.len()));
            }
            let mut left = found.clone();
            for (at, row) in rows.drain(..).enumerate() {
                let fitting = match ordered {
                    true => same_row(&row, &found[at]).then_some(0),
                    false => left.iter().position(|found| same_row(&row, found)),
                };
                match fitting {
                    Some(place) => drop(left.remove(place)),
                    None => {
                        found.truncate(20);
                        return told(format!("no row is {row}, got {found:?}"));
                    }
                }
            }
            Ok(())
        }
    }
}

/// Asks all cases, and fails with all that went wrong.
pub fn run(subject: &mut dyn Subject, cases: &[Case]) {
    let judged = cases.iter().map(|case| judge(case, subject.ask(&case.statement)));
    let failures: Vec<String> = judged.filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}
