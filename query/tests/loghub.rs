//! Patterns of the loghub samples against the templates that people gave their lines.
//!
//! A line is right when its pattern has exactly the lines of its template. One configuration serves all sets. Without
//! `PHAROS_TESTDATA`, there is nothing to compare with, and the test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use query::logs::patterns::{mask, members};

/// Fields of a line of CSV.
fn fields(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            '\r' if !quoted => {}
            c => field.push(c),
        }
    }
    rows
}

/// Share of lines that are right.
fn accuracy(file: &Path) -> f64 {
    let bytes = std::fs::read(file).expect("a sample is readable");
    let rows = fields(&String::from_utf8_lossy(&bytes));
    let column = |name: &str| rows[0].iter().position(|field| field == name).expect("the column is there");
    let (content, event) = (column("Content"), column("EventId"));
    let mut masked: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    let mut templates: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (line, row) in rows.iter().enumerate().skip(1) {
        let mut out = String::new();
        mask(&row[content], &mut out);
        masked.entry(out).or_default().insert(line);
        templates.entry(&row[event]).or_default().insert(line);
    }
    let counts = masked.iter().map(|(text, lines)| (text.clone(), BTreeMap::from([(0, lines.len() as u64)])));
    let counts: BTreeMap<String, BTreeMap<u64, u64>> = counts.collect();
    let expected: BTreeSet<&BTreeSet<usize>> = templates.values().collect();
    let mut right = 0;
    for group in members(&counts) {
        let lines: BTreeSet<usize> = group.iter().flat_map(|text| masked[*text].iter().copied()).collect();
        if expected.contains(&lines) {
            right += lines.len();
        }
    }
    right as f64 / (rows.len() - 1) as f64
}

#[test]
fn lines_are_grouped_as_people_group_them() {
    let Some(data) = std::env::var_os("PHAROS_TESTDATA") else {
        println!("skipped: PHAROS_TESTDATA is not set, so there are no loghub samples");
        return;
    };
    let mut found: BTreeMap<String, f64> = BTreeMap::new();
    for set in std::fs::read_dir(Path::new(&data).join("loghub")).expect("the samples are there") {
        let set = set.expect("a readable directory").path();
        let name = set.file_name().expect("a set has a name").to_string_lossy().into_owned();
        let file = set.join(format!("{name}_2k.log_structured.csv"));
        if file.exists() {
            found.insert(name, accuracy(&file));
        }
    }
    let mean = found.values().sum::<f64>() / found.len() as f64;
    println!("grouping accuracy: {found:.3?}, mean {mean:.3}");
    assert!(!found.is_empty() && mean >= 0.89, "grouping accuracy {found:.3?}, mean {mean:.3}");
}
