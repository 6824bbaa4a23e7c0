//! `docs/promql.md` is made from the tables of functions and operators; this says when it is out of date.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use query::Features;
use query::plan::push::{Chain, Sharing, sharing};
use query::promql::ast::{AggregateOp, ExprKind, ValueType};
use query::promql::functions::{FUNCTIONS, Function};
use query::promql::parser::parse;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Our scripts, by name.
fn scripts() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(root().join("tests/cases/promql")).expect("the cases are there");
    let mut out: Vec<(String, String)> = entries
        .map(|entry| {
            let path = entry.expect("readable").path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("readable"))
        })
        .collect();
    out.sort();
    out
}

/// The scripts in which a word is called.
fn tested(word: &str, scripts: &[(String, String)]) -> String {
    let word =
        regex::Regex::new(&format!(r"(^|[^a-zA-Z_:]){word}\s*(by|without)?\s*\(")).expect("a plain word");
    let found: Vec<&str> =
        scripts.iter().filter(|(_, text)| word.is_match(text)).map(|(name, _)| name.as_str()).collect();
    assert!(!found.is_empty(), "no case in tests/cases/promql calls {}", word.as_str());
    found.join(", ")
}

fn example(function: &Function) -> String {
    let arg = |value: &ValueType| match value {
        ValueType::Vector => "m",
        ValueType::Matrix => "m[5m]",
        ValueType::Scalar => "1",
        ValueType::String => "\"a\"",
    };
    if function.name == "info" {
        return "info(m)".to_owned();
    }
    format!("{}({})", function.name, function.args.iter().map(arg).collect::<Vec<_>>().join(", "))
}

fn signature(function: &Function) -> String {
    let kind = |value: &ValueType| value.documented();
    let mut args: Vec<String> = function.args.iter().map(|a| kind(a).to_owned()).collect();
    match (function.variadic, args.last_mut()) {
        (0, _) | (_, None) => {}
        (_, Some(last)) => *last = format!("[{last}{}]", if function.variadic == 1 { "" } else { ", ..." }),
    }
    format!("{}({})", function.name, args.join(", "))
}

fn place(function: &Function) -> &'static str {
    let parsed = parse(&example(function)).unwrap_or_else(|e| panic!("{}: {e}", example(function)));
    match function.name {
        "absent" | "absent_over_time" => "shards: whether anything is there",
        _ if !function.args.iter().any(|a| matches!(a, ValueType::Vector | ValueType::Matrix)) => {
            "needs no data"
        }
        _ if Chain::of(&parsed, &Features::default()).is_some() => "shards",
        _ => "coordinator",
    }
}

fn aggregate_place(op: AggregateOp) -> &'static str {
    let text = match op {
        AggregateOp::CountValues => "count_values(\"v\", m)".to_owned(),
        op if op.has_parameter() => format!("{}(1, m)", op.as_str()),
        op => format!("{}(m)", op.as_str()),
    };
    let parsed = parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let ExprKind::Aggregate(aggregate) = &parsed.kind else { panic!("{text}") };
    match sharing(aggregate, &Features::default()) {
        Some((Sharing::Partial, _)) if op == AggregateOp::Quantile => "shards: columns of their series",
        Some((Sharing::Partial, _)) => "shards: partial states",
        Some((Sharing::Twice, _)) => "shards choose, the coordinator among their choices",
        None => "coordinator",
    }
}

const HEAD: &str = "# PromQL

<!-- Made from query/src/promql/functions.rs and query/tests/docs.rs; `make docs` writes it anew. -->

The whole language as of Prometheus 3.14, experimental parts included: UTF-8 names in quotes, `@`, negative offsets,
subqueries, computed durations (`[2 * step()]`, `offset min_of(range(), 1h)`), `anchored` and `smoothed` selectors,
`fill`, `fill_left` and `fill_right` on binary operators, `limitk`, `limit_ratio`, `info()`, native histograms with
exponential and custom buckets, trimming of histograms (`</`, `>/`). Ranges and the lookback are open on the left.

What would change the answers of queries that do not ask for it is off until it is named in `node.features`
(`--enable-feature`), by Prometheus' names:

| name | effect |
|---|---|
| `promql-delayed-name-removal` | metric names go when the query ends, not with each function |
| `use-start-timestamps` | `rate`, `increase`, `irate` and `resets` of floats look at start timestamps |
| `type-and-unit-labels` | `rate` judges by `__type__` whether it looks at a counter; series without it by their names |
| `all` | all of these |

Prometheus' other names are accepted; what they switch on is always on here.

## Answers

The same evaluator runs at the shards and at the coordinator. Shards evaluate what needs only their own series and
send rows, or partial states of aggregations: compensated sums with what their additions lost, counts, means and
spreads. Answers do not depend on the number of shards: labels and order are equal, values equal to the bit except
where sums are added in another order (`sum`, `avg`, `stddev`, `stdvar`), which agree to 1e-12. Equal parts of a query
are asked of the shards once. A query that can not reach all shards fails.

Known differences from Prometheus: `label_replace` and `label_join` refuse target names that start with ASCII
punctuation; start timestamps of native histograms are kept but not used by `rate`.

A query ends with an error that names the limit when it loads more samples than `query.max_samples`, holds more memory
than `query.max_memory`, asks for more than 11,000 points per series, or runs out of time.

## Roll-ups

With `storage.rollup_retention` an hour of a series whose samples are over leaves its first, last, least and greatest sample,
and how many there were, their sum and the growth of a counter. Ranges, steps and offsets that are full hours are answered from that as
from the samples: series at full hours, `rate`, `increase`, `delta`, `min_over_time`, `max_over_time`, `sum_over_time`,
`avg_over_time`, `count_over_time`, `first_over_time`, `last_over_time`, `present_over_time` and `absent_over_time`, sums to
rounding. What looks at a part of an hour goes by the samples that are left, and the answer carries a warning; so does one of another
function, which has no value where its range reaches into such an hour. Of native histograms the first and last of an
hour are left, and both sides of a reset: `sum_over_time` and `avg_over_time` of them have no value. Samples
that are written into such an hour later, after the retention was made longer, are not counted in it. SQL, remote read and federation
see the samples that are left.
";

fn page() -> String {
    let scripts = scripts();
    let mut out = HEAD.to_owned();
    out.push_str("\n## Aggregations\n\n| aggregation | evaluated at | cases |\n|---|---|---|\n");
    for op in AggregateOp::ALL {
        let cases = tested(op.as_str(), &scripts);
        let _ = writeln!(out, "| `{}` | {} | {cases} |", op.as_str(), aggregate_place(op));
    }
    out.push_str("\n## Functions\n\n| function | value | | evaluated at | cases |\n|---|---|---|---|---|\n");
    for function in FUNCTIONS {
        let cases = tested(function.name, &scripts);
        let doc = if function.experimental {
            format!("{} Experimental.", function.doc)
        } else {
            function.doc.into()
        };
        let (signature, returns) = (signature(function), function.returns.documented());
        let _ = writeln!(out, "| `{signature}` | {returns} | {doc} | {} | {cases} |", place(function));
    }
    out.push_str(
        "\nCases are the scripts in `tests/cases/promql` that call it; Prometheus' own run besides.\n",
    );
    out
}

#[test]
fn the_committed_page_is_current() {
    let path = root().join("docs/promql.md");
    let page = page();
    if std::env::var_os("PHAROS_BLESS").is_some() {
        std::fs::write(&path, page).expect("writable");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let line = found.lines().zip(page.lines()).position(|(a, b)| a != b);
    assert!(found == page, "docs/promql.md is out of date from line {line:?} on: run `make docs`");
}
