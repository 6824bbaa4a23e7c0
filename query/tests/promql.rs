//! Prometheus' test scripts and our own, over 1, 2 and 16 shards in memory, through real fragments.
//!
//! Our scripts in `tests/cases/promql` always run. Prometheus' are found through `PHAROS_TESTDATA`; where it is unset
//! they are named as skipped.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocol::labels::Labels;
use query::promql::parser::parse;
use support::in_process::InProcess;
use support::script::{Found, Point, Report, run};

/// The scripts that are known, and how many of their cases pass at least.
const KNOWN: [(&str, usize); 10] = [
    ("aggregators.test", 160),
    ("at_modifier.test", 78),
    ("extended_vectors.test", 169),
    ("functions.test", 431),
    ("histograms.test", 185),
    ("info.test", 53),
    ("literals.test", 25),
    ("operators.test", 214),
    ("staleness.test", 17),
    ("subquery.test", 34),
];

const SHARDS: [usize; 3] = [1, 2, 16];

fn testdata(part: &str) -> Option<PathBuf> {
    std::env::var_os("PHAROS_TESTDATA").map(|dir| PathBuf::from(dir).join(part))
}

fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn scripts(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "test"));
    paths.sort();
    paths
}

/// Runs a script on each number of shards; results have to agree.
fn run_on_all(path: &Path) -> Report {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut reports: Vec<Report> = Vec::new();
    let mut differ = Vec::new();
    for shards in SHARDS {
        let report = run(&text, &mut InProcess::new(shards));
        say(&format!("{name} on {shards} shards: {}/{}", report.passed, report.total));
        if let Some(first) = reports.first() {
            assert_eq!(first.results.len(), report.results.len());
            for (one, many) in first.results.iter().zip(&report.results) {
                // Only what adds up in another order may differ in its last bits.
                let adds = ["sum", "avg", "std"].iter().any(|word| one.query.to_lowercase().contains(word));
                let tolerance = if adds { 1e-12 } else { 0.0 };
                let mut agreement = agree(&one.outcome, &many.outcome, tolerance);
                if agreement.is_ok() && one.notes != many.notes {
                    agreement = Err(format!("{:?} and {:?}", one.notes, many.notes));
                }
                if let Err(what) = agreement {
                    let query = &one.query;
                    differ.push(format!("{name}, {query}, 1 and {shards} shards: {what}\n{one:?}\n{many:?}"));
                }
            }
        }
        reports.push(report);
    }
    let mut least =
        reports.into_iter().min_by_key(|report| report.passed).expect("at least one number of shards");
    least.failures.extend(differ.clone());
    least.differing = differ;
    least
}

fn agree(one: &Result<Found, String>, many: &Result<Found, String>, tolerance: f64) -> Result<(), String> {
    let close = |a: f64, b: f64| {
        a.to_bits() == b.to_bits()
            || (a.is_nan() && b.is_nan())
            || (tolerance > 0.0 && (a - b).abs() <= (tolerance * a.abs().max(b.abs())).max(1e-300))
    };
    let same = |a: &Point, b: &Point| match (a, b) {
        (Point::Float(a), Point::Float(b)) => close(*a, *b),
        (Point::Histogram(a), Point::Histogram(b)) => close(a.count, b.count) && close(a.sum, b.sum),
        _ => false,
    };
    match (one, many) {
        (Err(a), Err(b)) if a == b => Ok(()),
        (Ok(Found::Scalar(a)), Ok(Found::Scalar(b))) if close(*a, *b) => Ok(()),
        (Ok(Found::String(a)), Ok(Found::String(b))) if a == b => Ok(()),
        (Ok(Found::Vector(a)), Ok(Found::Vector(b))) => {
            if a.len() != b.len() {
                return Err("different numbers of elements".to_owned());
            }
            match a.iter().zip(b).find(|(x, y)| x.0 != y.0 || !same(&x.1, &y.1)) {
                Some((x, y)) => Err(format!("{} and {}", x.0, y.0)),
                None => Ok(()),
            }
        }
        (Ok(Found::Matrix(a)), Ok(Found::Matrix(b))) => {
            if a.len() != b.len() {
                return Err("different numbers of series".to_owned());
            }
            let alike = |x: &(Labels, BTreeMap<i64, Point>), y: &(Labels, BTreeMap<i64, Point>)| {
                x.0 == y.0
                    && x.1.len() == y.1.len()
                    && x.1.iter().zip(&y.1).all(|(p, q)| p.0 == q.0 && same(p.1, q.1))
            };
            match a.iter().zip(b).find(|(x, y)| !alike(x, y)) {
                Some((x, y)) => Err(format!("{} and {}", x.0, y.0)),
                None => Ok(()),
            }
        }
        _ => Err("different kinds of outcome".to_owned()),
    }
}

fn show(report: &Report) {
    for failure in &report.failures {
        say(&format!("  {failure}"));
    }
}

#[test]
fn prometheus_scripts() {
    let Some(dir) = testdata("promql") else {
        let names: Vec<_> = KNOWN.iter().map(|(name, _)| *name).collect();
        say(&format!("PHAROS_TESTDATA is unset, skipped: {}", names.join(", ")));
        return;
    };
    let mut worse = Vec::new();
    let (mut passed, mut total, mut differ) = (0, 0, 0);
    for path in scripts(&dir) {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let report = run_on_all(&path);
        show(&report);
        differ += report.differing.len();
        passed += report.passed;
        total += report.total;
        let least = KNOWN.iter().find(|(known, _)| *known == name).map_or(0, |(_, least)| *least);
        if report.passed < least {
            worse.push(format!("{name}: {} of {}, expected at least {least}", report.passed, report.total));
        }
    }
    let there = scripts(&dir);
    for (name, _) in KNOWN {
        if !there.iter().any(|path| path.ends_with(name)) {
            worse.push(format!("{name} is not there"));
        }
    }
    say(&format!("all scripts: {passed}/{total}"));
    assert!(worse.is_empty(), "{worse:#?}");
    assert_eq!(differ, 0, "results that depend on the number of shards");
}

#[test]
fn own_scripts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/promql");
    let mut failed = 0;
    for path in scripts(&dir) {
        let report = run_on_all(&path);
        show(&report);
        failed += report.failures.len();
    }
    assert_eq!(failed, 0, "cases failed, see above");
}

#[test]
fn expressions_of_real_rules_and_dashboards_parse() {
    let Some(path) = testdata("expressions/expressions.jsonl") else {
        say("PHAROS_TESTDATA is unset, skipped: expressions.jsonl");
        return;
    };
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut count = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let value: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
        let expr = value["expr"].as_str().expect("an expression");
        let parsed = parse(expr).unwrap_or_else(|e| panic!("{expr}: {e}"));
        let printed = parsed.to_string();
        let again = parse(&printed).unwrap_or_else(|e| panic!("{printed}: {e}"));
        assert_eq!(again.to_string(), printed);
        let pretty = query::promql::printer::pretty(&parsed);
        assert_eq!(parse(&pretty).unwrap_or_else(|e| panic!("{pretty}: {e}")).to_string(), printed);
        count += 1;
    }
    say(&format!("{count} expressions parse"));
    assert!(count > 900, "only {count} expressions found");
}
