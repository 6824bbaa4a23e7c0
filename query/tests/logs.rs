//! Questions about logs on 1, 2 and 16 shards in memory, held against a naive evaluation over all records.

mod log_support;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use log_support::{LogCluster, Record};
use proptest::prelude::*;
use protocol::error::ErrorKind;
use protocol::ids::TenantId;
use protocol::logs::matching::CompiledFilter;
use protocol::logs::{LogField, LogFilter, LogRecord, LogStream, LogValue};
use query::logs::engine::{Counted, LogQuery};
use query::logs::logql::engine::{LogqlAnswer, LogqlRequest, When};
use query::logs::search::{named_field, parse};
use query::{CancelFlag, Engine, EngineOptions, Limits, QueryError};

const SHARDS: [u16; 3] = [1, 2, 16];

fn text(text: impl Into<String>) -> LogValue<'static> {
    LogValue::String(text.into().into())
}

fn record(service: &str, time_ns: i64, severity: u8, body: &str, status: Option<i64>) -> Record {
    let stream = LogStream {
        resource: vec![
            ("service.name".into(), text(service)),
            ("host".into(), text(format!("h{}", service.len()))),
        ],
        ..LogStream::default()
    };
    let mut attributes = vec![("user".into(), text(format!("u{}", time_ns % 3)))];
    attributes.extend(status.map(|status| ("status".into(), LogValue::Int(status))));
    let record = LogRecord { time_ns, severity, body: text(body), attributes, ..LogRecord::default() };
    (stream, record)
}

fn records(most: usize) -> impl Strategy<Value = Vec<Record>> {
    let words = prop_oneof![Just("alpha"), Just("beta"), Just("gamma"), Just("connection refused")];
    let one = (
        0..3usize,
        0..20i64,
        0..25u8,
        words,
        0..5i64,
        proptest::option::of(prop_oneof![Just(200i64), Just(503)]),
    );
    let one = one.prop_map(|(service, time, severity, word, number, status)| {
        let service = ["checkout", "cart", "web"][service];
        record(service, time, severity, &format!("{word} took={number} {{}}"), status)
    });
    proptest::collection::vec(one, 0..most)
}

fn engine(shards: u16, records: &[Record]) -> (Engine, Arc<LogCluster>) {
    let cluster = LogCluster::new(shards);
    records.iter().for_each(|record| cluster.put(record));
    (Engine::new(cluster.clone(), EngineOptions::default()), cluster)
}

fn now<T>(answer: impl Future<Output = Result<T, QueryError>> + Send) -> Result<T, QueryError> {
    answer.now_or_never().expect("a cluster in memory never waits")
}

fn filter(search: &str) -> LogFilter {
    parse(search).and_then(|parsed| parsed.filter(search)).unwrap_or_else(|error| panic!("{search}: {error}"))
}

fn query(start: i64, end: i64) -> LogQuery {
    LogQuery::new(TenantId::default(), "test", start, end)
}

fn matching<'a>(records: &'a [Record], search: &str, (start, end): (i64, i64)) -> Vec<&'a Record> {
    let compiled = CompiledFilter::new(&filter(search)).expect("it compiles");
    let inside = |record: &LogRecord<'_>| (start..=end).contains(&record.effective_ns());
    records.iter().filter(|(stream, record)| inside(record) && compiled.matches(stream, record)).collect()
}

const SEARCHES: [&str; 6] = [
    "*",
    "service.name:checkout",
    "level>=warn \"connection refused\"",
    "-beta status:[500 TO 599]",
    "/took=[0-2]/ OR user:u1",
    "nothing",
];

/// Texts that tell records apart, sorted.
fn texts<'a>(
    records: impl IntoIterator<Item = (&'a LogStream<'static>, &'a LogRecord<'static>)>,
) -> Vec<String> {
    let mut texts: Vec<String> = records.into_iter().map(|(s, r)| format!("{s:?} {r:?}")).collect();
    texts.sort();
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn pages_hold_every_record_once_whatever_is_written_meanwhile(
        first in records(40), later in records(20), search in 0..SEARCHES.len(), limit in 1usize..7, newest_first: bool,
    ) {
        let search = SEARCHES[search];
        for shards in SHARDS {
            let (engine, cluster) = engine(shards, &first);
            let mut later = later.iter();
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = now(engine.log_rows(&query(2, 18), &filter(search), newest_first, limit, after));
                let page = page.expect("the rows");
                let ordered = page.windows(2).all(|w| if newest_first { w[0].place > w[1].place } else { w[0].place < w[1].place });
                prop_assert!(ordered);
                prop_assert!(page.len() <= limit);
                let is_last = page.len() < limit;
                after = page.last().map(|row| row.place);
                seen.extend(page);
                if is_last {
                    break;
                }
                later.by_ref().take(2).for_each(|record| cluster.put(record));
            }
            let ordered = seen.windows(2).all(|w| if newest_first { w[0].place > w[1].place } else { w[0].place < w[1].place });
            prop_assert!(ordered, "places repeat or go back");
            // Each of the first records once; of the later ones, those behind the cursor may be among them.
            let found = texts(seen.iter().map(|row| (row.stream.as_ref(), &row.record)));
            let mut rest = found.clone();
            for expected in texts(matching(&first, search, (2, 18)).iter().map(|r| (&r.0, &r.1))) {
                let at = rest.iter().position(|text| *text == expected);
                prop_assert!(at.is_some(), "{expected} is missing on {shards} shards");
                rest.swap_remove(at.unwrap_or(0));
            }
        }
    }

    #[test]
    fn counts_are_those_of_a_naive_count(records in records(60), search in 0..SEARCHES.len(), bucket in 1i64..9) {
        let search = SEARCHES[search];
        for by in [vec![], vec!["service.name"], vec!["level", "status"], vec!["user"]] {
            let fields: Vec<LogField> = by.iter().map(|name| named_field(name)).collect();
            let mut expected: BTreeMap<Vec<String>, BTreeMap<u64, u64>> = BTreeMap::new();
            for (stream, record) in matching(&records, search, (1, 19)) {
                let values = fields.iter().map(|field| field.first_text(stream, record).unwrap_or_default()).collect();
                let bucket = ((record.time_ns - 1) / bucket) as u64;
                *expected.entry(values).or_default().entry(bucket).or_default() += 1;
            }
            let expected: Vec<Counted> = expected
                .into_iter()
                .map(|(values, buckets)| Counted { values, count: buckets.values().sum(), buckets })
                .collect();
            for shards in SHARDS {
                let (engine, _) = engine(shards, &records);
                let found = now(engine.log_histogram(&query(1, 19), &filter(search), bucket, &fields));
                prop_assert_eq!(&found.expect("counts"), &expected);
                // By all fields, and by each alone.
                let alone = fields.iter().map(std::slice::from_ref);
                for by in alone.chain([&fields[..]]) {
                    let mut counts: BTreeMap<Vec<&str>, u64> = BTreeMap::new();
                    for counted in &expected {
                        let all = fields.iter().zip(&counted.values);
                        let values = all.filter(|(field, _)| by.contains(field)).map(|(_, value)| value.as_str());
                        *counts.entry(values.collect()).or_default() += counted.count;
                    }
                    let mut counts: Vec<(Vec<&str>, u64)> = counts.into_iter().collect();
                    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
                    let total: u64 = counts.iter().map(|(_, count)| *count).sum();
                    for limit in [0, 2, 100] {
                        let top = now(engine.log_top(&query(1, 19), &filter(search), by, limit)).expect("the top");
                        prop_assert_eq!((top.distinct, top.total), (counts.len(), total));
                        let found = top.commonest.iter().map(|c| (c.values.iter().map(String::as_str).collect(), c.count));
                        let expected: Vec<_> = counts.iter().take(limit).cloned().collect();
                        prop_assert_eq!(found.collect::<Vec<(Vec<&str>, u64)>>(), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_depends_on_the_number_of_shards(records in records(60), search in 0..SEARCHES.len()) {
        let search = SEARCHES[search];
        let ask = |shards: u16| {
            let (engine, _) = engine(shards, &records);
            let fields = now(engine.log_fields(&query(0, 20), &filter(search))).expect("fields");
            let patterns = now(engine.log_patterns(&query(0, 20), &filter(search), 5, 10)).expect("patterns");
            let stats = now(engine.log_stats(&query(0, 20), &filter(search), &named_field("status"), &[0.5, 0.9]));
            (fields, patterns, stats.expect("figures"))
        };
        let one = ask(1);
        let total: u64 = one.1.patterns.iter().map(|pattern| pattern.count).sum();
        prop_assert_eq!(total, matching(&records, search, (0, 20)).len() as u64);
        for shards in SHARDS {
            prop_assert_eq!(&ask(shards), &one);
        }
    }

    #[test]
    fn the_surroundings_of_a_record(records in records(50), search in 0..3usize, before in 0usize..4, after in 0usize..4) {
        let search = SEARCHES[search];
        for shards in SHARDS {
            let (engine, _) = engine(shards, &records);
            let rows = now(engine.log_rows(&query(0, 20), &filter(search), true, 3, None)).expect("rows");
            for row in rows {
                let around = now(engine.log_context(&query(0, 20), &filter(search), row.place, before, after));
                let around = around.expect("surroundings");
                prop_assert_eq!(&around.rows[around.at].record, &row.record);
                prop_assert!(around.rows.iter().all(|near| near.stream == row.stream));
                prop_assert!(around.rows.is_sorted_by_key(|near| near.record.time_ns));
                let of_stream = records.iter().filter(|(stream, _)| *stream == *row.stream);
                let older = of_stream.clone().filter(|(_, near)| near.time_ns < row.record.time_ns).count();
                let newer = of_stream.filter(|(_, near)| near.time_ns > row.record.time_ns).count();
                prop_assert!(around.at >= before.min(older) && around.at <= before);
                let behind = around.rows.len() - around.at - 1;
                prop_assert!(behind >= after.min(newer) && behind <= after);
            }
        }
    }
}

fn logql(
    engine: &Engine,
    text: &str,
    (start, end): (i64, i64),
    when: When,
) -> Result<LogqlAnswer, QueryError> {
    let query = LogQuery::new(TenantId::default(), text, start, end);
    now(engine.logql(&LogqlRequest { query, when, limit: 1000, newest_first: true }))
}

/// Label sets and values at each step.
type Table = BTreeMap<String, Vec<Option<f64>>>;

fn table(answer: LogqlAnswer) -> Table {
    match answer {
        LogqlAnswer::Matrix(_, series) | LogqlAnswer::Vector(_, series) => {
            series.into_iter().map(|series| (series.labels.to_string(), series.values)).collect()
        }
        LogqlAnswer::Scalar(_, value) => BTreeMap::from([("scalar".to_owned(), vec![Some(value)])]),
        LogqlAnswer::Lines(_) => panic!("numbers were asked for"),
    }
}

fn close(a: &Table, b: &Table) -> bool {
    let near = |a: &Option<f64>, b: &Option<f64>| match (a, b) {
        (Some(a), Some(b)) => {
            (a - b).abs() <= 1e-9 * a.abs().max(1.0) || (a.is_nan() && b.is_nan()) || a == b
        }
        (a, b) => a.is_none() && b.is_none(),
    };
    a.len() == b.len()
        && a.iter().zip(b).all(|((la, va), (lb, vb))| {
            la == lb && va.len() == vb.len() && va.iter().zip(vb).all(|(a, b)| near(a, b))
        })
}

const SECOND: i64 = 1_000_000_000;

fn in_seconds(records: &[Record]) -> Vec<Record> {
    let mut records = records.to_vec();
    for (_, record) in &mut records {
        record.time_ns *= SECOND;
    }
    records
}

/// Counts lines in windows, by labels that a function gives.
fn naive(
    records: &[Record],
    (start, end, step, range): (i64, i64, i64, i64),
    value: impl Fn(&Record) -> Option<(String, f64)>,
) -> Table {
    let steps: Vec<i64> = (start..=end).step_by(step as usize).collect();
    let mut table = Table::new();
    for (at, step) in steps.iter().enumerate() {
        for record in records {
            let time = record.1.time_ns / SECOND;
            let is_inside = time > step - range && time <= *step;
            if let Some((labels, value)) = value(record).filter(|_| is_inside) {
                let cell = &mut table.entry(labels).or_insert_with(|| vec![None; steps.len()])[at];
                *cell = Some(cell.unwrap_or(0.0) + value);
            }
        }
    }
    table
}

fn service(record: &Record) -> String {
    record.0.resource[0].1.text().into_owned()
}

fn level(record: &Record) -> &'static str {
    match record.1.severity {
        0 => "unknown",
        1..=4 => "trace",
        5..=8 => "debug",
        9..=12 => "info",
        13..=16 => "warn",
        17..=20 => "error",
        _ => "fatal",
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn logql_counts_like_a_naive_count(records in records(60), step in 1i64..7, range in 1i64..9) {
        let grid = (3, 21, step, range);
        let records = in_seconds(&records);
        let cases: [(String, Table); 5] = [
            (
                format!("sum by (service_name) (count_over_time({{service_name=~\".+\"}}[{range}s]))"),
                naive(&records, grid, |r| Some((format!("{{service_name={:?}}}", service(r)), 1.0))),
            ),
            (
                format!("sum by (detected_level) (count_over_time({{service_name=\"cart\"}}[{range}s]))"),
                naive(&records, grid, |r| {
                    (service(r) == "cart").then(|| (format!("{{detected_level={:?}}}", level(r)), 1.0))
                }),
            ),
            (
                format!("sum(bytes_over_time({{service_name!=\"cart\", host=~\"h.*\"}} |= \"alpha\" [{range}s]))"),
                naive(&records, grid, |r| {
                    let body = r.1.body.text();
                    (service(r) != "cart" && body.contains("alpha")).then(|| ("{}".to_owned(), body.len() as f64))
                }),
            ),
            (
                format!("sum by (user) (count_over_time({{service_name=~\".+\"}} != \"beta\" [{range}s]))"),
                naive(&records, grid, |r| {
                    let user = r.1.attributes[0].1.text();
                    (!r.1.body.text().contains("beta")).then(|| (format!("{{user={user:?}}}"), 1.0))
                }),
            ),
            (
                format!("sum(sum_over_time({{service_name=~\".+\"}} | regexp \"took=(?P<took>\\\\d+)\" | unwrap took [{range}s]))"),
                naive(&records, grid, |r| {
                    let took = r.1.body.text().split("took=").nth(1)?.chars().next()?.to_digit(10)?;
                    Some(("{}".to_owned(), f64::from(took)))
                }),
            ),
        ];
        for (text, expected) in cases {
            for shards in SHARDS {
                let (engine, _) = engine(shards, &records);
                let when = When::Every { step_ns: step * SECOND };
                let found = logql(&engine, &text, (3 * SECOND, 21 * SECOND), when);
                let found = table(found.unwrap_or_else(|error| panic!("{text}: {error}")));
                prop_assert!(close(&found, &expected), "{text} on {shards} shards: {found:?}, not {expected:?}");
            }
        }
    }

    #[test]
    fn lines_come_in_order_and_only_so_many(records in records(60), limit in 1usize..20, newest_first: bool) {
        let records = in_seconds(&records);
        let text = "{service_name=~\"c.*\"} |= \"a\" | logfmt | took > 1";
        for shards in SHARDS {
            let (engine, _) = engine(shards, &records);
            let query = LogQuery::new(TenantId::default(), text, 0, 19 * SECOND);
            let request = LogqlRequest { query, when: When::Every { step_ns: SECOND }, limit, newest_first };
            let LogqlAnswer::Lines(lines) = now(engine.logql(&request)).expect("lines") else { panic!("lines are due") };
            let took = |r: &Record| r.1.body.text().split("took=").nth(1).and_then(|t| t.chars().next()?.to_digit(10));
            let all: Vec<i64> = records
                .iter()
                .filter(|r| service(r).starts_with('c') && r.1.body.text().contains('a') && took(r) > Some(1))
                .map(|r| r.1.time_ns)
                .collect();
            prop_assert_eq!(lines.len(), limit.min(all.len()));
            let mut times = all;
            times.sort_unstable();
            if newest_first {
                times.reverse();
            }
            times.truncate(limit);
            prop_assert_eq!(lines.iter().map(|line| line.time_ns).collect::<Vec<_>>(), times);
        }
    }
}

proptest! {
    // Many queries a case.
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn logql_does_not_depend_on_the_number_of_shards(records in records(60), step in 1i64..7) {
        let records = in_seconds(&records);
        let queries = [
            "count_over_time({service_name=~\".+\"}[5s])",
            "sum without (user) (rate({service_name=\"web\"} |~ \"alpha|beta\" [4s] offset 2s))",
            "avg_over_time({service_name=~\".+\"} | logfmt | unwrap took [6s]) by (service_name)",
            "quantile_over_time(0.9, {service_name=~\".+\"} | logfmt | unwrap took [6s]) by (host)",
            "stddev_over_time({service_name=~\".+\"} | pattern \"<_>took=<took> <_>\" | unwrap took [10s]) by (host)",
            "max by (host) (max_over_time({service_name=~\".+\"} | logfmt | unwrap took [3s]))",
            "min_over_time({service_name=~\".+\"} | logfmt | unwrap took [3s]) by ()",
            "absent_over_time({service_name=\"cart\"}[2s])",
            "topk(1, sum by (service_name) (rate({service_name=~\".+\"}[5s])))",
            "sum(rate({service_name=\"web\"}[5s])) / sum(rate({service_name=~\".+\"}[5s])) * 100 > bool 10",
            "sum by (status) (count_over_time({service_name=~\".+\"} | status>=500 [5s])) or vector(0)",
            "label_replace(sum by (host) (count_over_time({service_name=~\".+\"}[5s])), \"h\", \"x$1\", \"host\", \"h(.*)\")",
            "count(sum by (user, service_name) (bytes_rate({service_name=~\".+\"}[5s]))) by (user)",
        ];
        for text in queries {
            let ask = |shards: u16| {
                let (engine, _) = engine(shards, &records);
                let found = logql(&engine, text, (2 * SECOND, 22 * SECOND), When::Every { step_ns: step * SECOND });
                table(found.unwrap_or_else(|error| panic!("{text}: {error}")))
            };
            let one = ask(1);
            for shards in SHARDS {
                let found = ask(shards);
                prop_assert!(close(&found, &one), "{text} on {shards} shards: {found:?}, not {one:?}");
            }
        }
    }
}

fn some() -> Vec<Record> {
    let mut records = vec![
        record("web", SECOND, 9, r#"{"status":200,"took":"15ms","nested":{"a":1}}"#, None),
        record("web", 2 * SECOND, 17, r#"{"status":500,"took":"1.5s"}"#, None),
        record("web", 3 * SECOND, 17, "not json", None),
        record("cart", 3 * SECOND, 13, "level=warn msg=\"slow down\" size=2KB", None),
    ];
    records[1].1.trace_id = [0xab; 16];
    records
}

fn lines(text: &str) -> Vec<String> {
    let (engine, _) = engine(2, &some());
    match logql(&engine, text, (0, 10 * SECOND), When::Every { step_ns: SECOND }) {
        Ok(LogqlAnswer::Lines(lines)) => {
            lines.into_iter().map(|line| format!("{} {}", line.line, line.labels.parsed)).collect()
        }
        Ok(other) => panic!("{text}: {other:?}"),
        Err(error) => vec![error.to_string()],
    }
}

#[test]
fn pipelines() {
    let check = |text: &str, expected: &[&str]| assert_eq!(lines(text), expected, "{text}");
    let web = |stages: &str| format!("{{service_name=\"web\"}} {stages}");
    check(
        &web("| json | line_format \"{{.status}}\" | status=\"500\""),
        &["500 {status=\"500\", took=\"1.5s\"}"],
    );
    check(
        &web("| json | __error__!=\"\" | drop __error_details__"),
        &["not json {__error__=\"JSONParserErr\"}"],
    );
    check(
        &web("| json | took > 1s | __error__=\"\" | line_format \"x\""),
        &["x {status=\"500\", took=\"1.5s\"}"],
    );
    check(&web("| json a=\"nested.a\" | a=1 | __error__=\"\" | line_format \"y\""), &["y {a=\"1\"}"]);
    check(&web("|= \"not\" or \"nothing\""), &["not json {}"]);
    check(&web("|> \"<_>status\\\":<_>,\\\"took\\\":\\\"1<_>ms<_>\" | line_format \"z\""), &["z {}"]);
    check(&web("| trace_id=\"abababababababababababababababab\" | line_format \"t\""), &["t {}"]);
    check(&web("| detected_level=\"info\" | line_format \"i\""), &["i {}"]);
    check(
        "{service_name=\"cart\"} | logfmt | label_format text=msg, big=\"{{.size}}!\" | size >= 2KB | line_format \"{{.text}}\" | keep big",
        &["slow down {big=\"2KB!\"}"],
    );
    check(
        "{service_name=\"cart\"} | pattern \"level=<lvl> <_>\" | line_format \"{{.lvl}}\"",
        &["warn {lvl=\"warn\"}"],
    );
    check("{service_name=\"none\"}", &[]);
    check("{nothing=\"\", service_name=\"cart\"} | line_format \"c\"", &["c {}"]);
    check("{service_name!=\"web\", host=\"h4\"} | line_format \"d\"", &["d {}"]);
}

#[test]
fn numbers_of_lines() {
    let ask = |text: &str| {
        let (engine, _) = engine(2, &some());
        let answer = logql(&engine, text, (0, 10 * SECOND), When::Once);
        answer.map(table).map_err(|error| error.to_string())
    };
    let check = |text: &str, expected: &[(&str, f64)]| {
        let expected: Table =
            expected.iter().map(|(labels, v)| ((*labels).to_owned(), vec![Some(*v)])).collect();
        let found = ask(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(close(&found, &expected), "{text}: {found:?}");
    };
    check("vector(1)+vector(1)", &[("{}", 2.0)]);
    check("1+1", &[("scalar", 2.0)]);
    check("sum(count_over_time({service_name=\"web\"}[1m]))", &[("{}", 3.0)]);
    check(
        "sum by (host) (count_over_time({service_name=~\".+\"}[1m]))",
        &[("{host=\"h3\"}", 3.0), ("{host=\"h4\"}", 1.0)],
    );
    check("sum(count_over_time({service_name=\"web\"} | json [1m]))", &[("{}", 3.0)]);
    check("sum(count_over_time({service_name=\"web\"} | json | __error__=\"\" [1m]))", &[("{}", 2.0)]);
    check(
        "max_over_time({service_name=\"web\"} | json | unwrap duration(took) | __error__=\"\" [1m]) by (service_name)",
        &[("{service_name=\"web\"}", 1.5)],
    );
    check(
        "sum(sum_over_time({service_name=\"cart\"} | logfmt | unwrap bytes(size) [1m]))",
        &[("{}", 2000.0)],
    );
    check("absent_over_time({service_name=\"none\", host=~\"x\"}[1m])", &[("{service_name=\"none\"}", 1.0)]);
    check("absent_over_time({service_name=\"web\"}[1m])", &[]);
    check("vector(5) > 10", &[]);
    check("vector(1) / 0", &[("{}", f64::NAN)]);
    let error = ask("sum by (status) (count_over_time({service_name=\"web\"} | json [1m]))")
        .expect_err("a line is no JSON");
    assert!(error.contains("pipeline error: 'JSONParserErr' for series"), "{error}");
    let error = ask("{service_name=\"web\"}").expect_err("lines have no instant");
    assert!(error.contains("log queries are not supported as an instant query type"), "{error}");
    let error =
        ask("sum by (a) (vector(1)) + on (a) vector(1) and on () vector(1) + x").expect_err("no query");
    assert!(error.contains("parse error at line 1"), "{error}");
}

#[test]
fn a_shard_that_is_missing_fails_the_query() {
    let (engine, cluster) = engine(2, &some());
    *cluster.missing.lock().expect("nobody panicked") = Some(2);
    let error =
        now(engine.log_rows(&query(0, 10), &LogFilter::All, true, 10, None)).expect_err("a shard is missing");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error =
        logql(&engine, "{service_name=\"web\"}", (0, 10), When::Every { step_ns: 1 }).expect_err("missing");
    assert!(error.to_string().contains("shard 2"), "{error}");
}

#[test]
fn limits_end_a_query() {
    let many: Vec<Record> = (0..200).map(|at| record("web", at, 9, &"x".repeat(1000), None)).collect();
    let (engine, cluster) = engine(2, &many);
    let limits = Limits { max_samples: 50, ..Limits::default() };
    *cluster.limits.lock().expect("nobody panicked") = limits;
    let error =
        now(engine.log_rows(&query(0, 300), &LogFilter::All, true, 1000, None)).expect_err("too many");
    assert!(matches!(error, QueryError::TooManySamples { .. }), "{error}");
    *cluster.limits.lock().expect("nobody panicked") = Limits { max_bytes: 20_000, ..Limits::default() };
    let error =
        now(engine.log_rows(&query(0, 300), &LogFilter::All, true, 1000, None)).expect_err("too large");
    assert!(matches!(error, QueryError::TooMuchMemory { .. }), "{error}");
    assert_eq!(now(engine.log_rows(&query(0, 300), &LogFilter::All, true, 5, None)).expect("few").len(), 5);
    let cancel = CancelFlag::default();
    cancel.cancel();
    let stopped = LogQuery { cancel, ..query(0, 300) };
    let error = now(engine.log_rows(&stopped, &LogFilter::All, true, 5, None)).expect_err("it was stopped");
    assert_eq!(error.kind(), ErrorKind::Canceled);
    let error =
        now(engine.log_histogram(&query(0, i64::MAX), &LogFilter::All, 1, &[])).expect_err("too many");
    assert!(matches!(error, QueryError::TooManyPoints { .. }), "{error}");
    assert!(now(engine.log_top(&query(0, 1), &LogFilter::All, &[LogField::Any], 1)).is_err());
}

#[test]
fn streams_and_their_sizes() {
    let (engine, _) = engine(2, &some());
    let streams = now(engine.logql_streams(&query(0, 10 * SECOND), &[])).expect("streams");
    let texts: Vec<String> = streams.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["{host=\"h3\", service_name=\"web\"}", "{host=\"h4\", service_name=\"cart\"}"]);
    let selected =
        now(engine.logql_streams(&query(0, 10 * SECOND), &["{host=\"h4\"}".to_owned()])).expect("streams");
    assert_eq!(selected.len(), 1);
    let volume =
        now(engine.logql_volume(&query(0, 10 * SECOND), "{service_name=\"web\"}", 0)).expect("sizes");
    let bytes: usize = some()[..3].iter().map(|r| r.1.body.text().len()).sum();
    assert_eq!(volume[0].buckets, BTreeMap::from([(0, (3, bytes as u64))]));
    let by_step = now(engine.logql_volume(&query(0, 10 * SECOND), "{}", SECOND)).expect("sizes");
    assert_eq!(by_step.iter().map(|v| v.buckets.len()).sum::<usize>(), 4);
    let patterns = now(engine.logql_patterns(
        &LogQuery::new(
            TenantId::default(),
            "{service_name=\"cart\"} | logfmt | line_format \"{{.msg}} 7\"",
            0,
            10 * SECOND,
        ),
        SECOND,
        10,
    ));
    let patterns = patterns.expect("patterns").patterns;
    assert_eq!((patterns[0].template.as_str(), patterns[0].count), ("slow down <_>", 1));
}
