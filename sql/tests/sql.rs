//! Statements over a cluster in memory: the same answers whatever the number of shards, work done where the data is,
//! budgets kept, nothing that panics.

mod support {
    pub mod cases;
    pub mod memory;
}

use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Float64Type;
use futures_util::TryStreamExt;
use proptest::prelude::*;
use protocol::histogram::{Histogram, Span};
use protocol::ids::TenantId;
use protocol::labels::Labels;
use query::source::Exemplar;
use query::{CancelFlag, EngineOptions, Limits};
use sql::format::text_value;
use sql::{SqlEngine, SqlError, SqlOptions, SqlQuery};
use support::cases::{Subject, cases, run};
use support::memory::{MemoryCluster, engine, loaded};
use tokio::runtime::Runtime;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn fields(batch: &RecordBatch) -> Vec<String> {
    let field = |column: &datafusion::arrow::array::ArrayRef, row| {
        if column.is_null(row) { "NULL".to_owned() } else { text_value(column.as_ref(), row).expect("text") }
    };
    let row = |row| batch.columns().iter().map(|c| field(c, row)).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(row).collect()
}

async fn ask(engine: &SqlEngine, query: &SqlQuery) -> Result<Vec<String>, SqlError> {
    let rows = engine.execute(query).await?;
    let batches: Vec<RecordBatch> = rows.try_collect().await?;
    Ok(batches.iter().flat_map(fields).collect())
}

struct InProcess {
    engine: SqlEngine,
    runtime: Runtime,
}

impl InProcess {
    fn over(cluster: MemoryCluster) -> Self {
        Self { engine: engine(Arc::new(cluster), EngineOptions::default()), runtime: runtime() }
    }

    fn rows(&mut self, statement: &str) -> Vec<String> {
        self.ask(statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
    }
}

impl Subject for InProcess {
    fn ask(&mut self, statement: &str) -> Result<Vec<String>, String> {
        let query = SqlQuery::new(TenantId::default(), statement);
        self.runtime.block_on(ask(&self.engine, &query)).map_err(|error| error.to_string())
    }
}

#[test]
fn one_shard_answers_all_cases() {
    run(&mut InProcess::over(loaded(1)), &cases());
}

#[test]
fn two_shards_answer_all_cases() {
    run(&mut InProcess::over(loaded(2)), &cases());
}

#[test]
fn sixteen_shards_answer_all_cases() {
    run(&mut InProcess::over(loaded(16)), &cases());
}

/// What each shard sent, from `EXPLAIN ANALYZE`: rows, and the whole line.
fn sent(subject: &mut InProcess, statement: &str) -> (Vec<u64>, String) {
    let plan = subject.rows(&format!("explain analyze {statement}")).join("\n");
    let line = plan
        .lines()
        .find(|line| line.contains("ClusterScan:"))
        .unwrap_or_else(|| panic!("{plan}"))
        .to_owned();
    let rows = line
        .match_indices(": sent ")
        .filter_map(|(at, found)| line[at + found.len()..].split(' ').next()?.parse().ok());
    (rows.collect(), line)
}

#[test]
fn work_is_done_where_the_data_is() {
    let mut subject = InProcess::over(loaded(4));
    let mut check = |statement: &str, most: u64, words: &[&str]| {
        let (rows, line) = sent(&mut subject, statement);
        assert!(rows.len() == 4 && rows.iter().all(|rows| *rows <= most), "{statement}: {line}");
        for word in words {
            assert!(line.contains(word), "{statement}: {word:?} is not in {line}");
        }
    };
    // Filters on time, labels and values.
    check(
        "select value from cpu_seconds_total where time = '2026-01-01T00:00:30Z'",
        9,
        &["from_ms=1767225630000", "to_ms=1767225630000"],
    );
    check("select count(*) from up where instance = 'a:9100'", 1, &["instance=\"a:9100\""]);
    check("select value from cpu_seconds_total where value > 50", 9, &["filters=["]);
    check("select value from metrics where labels['room'] = 'attic'", 12, &["room=\"attic\""]);
    check("select value from up where instance ilike 'A%'", 20, &["filters=["]);
    // Projections: only what is asked for is sent.
    check("select upper(mode) from cpu_seconds_total", 180, &["columns=[upper(mode@"]);
    // Limits and first rows.
    check("select value from cpu_seconds_total limit 3", 3, &["limit=3"]);
    check("select value from cpu_seconds_total where value > 1 limit 3", 3, &["limit=3", "filters=["]);
    check(
        "select mode, value from cpu_seconds_total order by value desc limit 5",
        5,
        &["first_by=[", "limit=5"],
    );
    check("select mode, value from cpu_seconds_total order by value desc limit 5 offset 2", 7, &["limit=7"]);
    // Aggregates.
    check("select count(*) from cpu_seconds_total", 1, &["aggregates=[count("]);
    check(
        "select min(value), max(value), sum(value), avg(value) from cpu_seconds_total",
        1,
        &["min(", "max(", "sum(", "avg("],
    );
    check("select mode, sum(value) from cpu_seconds_total group by mode", 3, &["groups=[mode@"]);
    check("select labels['mode'], sum(value) from metrics group by labels['mode']", 4, &["groups=[mode@"]);
    check(
        "select mode, approx_percentile_cont(value, 0.99) from cpu_seconds_total group by mode",
        3,
        &["approx_percentile_cont("],
    );
    check(
        "select approx_percentile_cont(0.9) within group (order by value) from cpu_seconds_total",
        1,
        &["approx_percentile_cont("],
    );
    check(
        "select mode, count(*) filter (where value > 3) from cpu_seconds_total group by mode",
        3,
        &["FILTER ("],
    );
    check("select distinct mode from cpu_seconds_total", 3, &["groups=[mode@"]);
    check("select count(distinct mode) from cpu_seconds_total", 3, &["groups=["]);
    check("select approx_distinct(mode) from cpu_seconds_total", 1, &["approx_distinct("]);
    check(
        "select date_bin(interval '1 minute', time) t, count(*) from cpu_seconds_total group by t",
        5,
        &["groups=[date_bin("],
    );
    check(
        "select date_bin(interval '1 minute', time) t, mode, max(value) from cpu_seconds_total where value > 1 group by t, mode",
        15,
        &["groups=[date_bin("],
    );
}

#[test]
fn counting_reads_no_samples() {
    let mut subject = InProcess::over(loaded(4));
    let mut counted = |statement: &str| {
        let (_, line) = sent(&mut subject, statement);
        let sum = |word: &str| -> u64 {
            let numbers = line
                .match_indices(word)
                .filter_map(|(at, found)| line[at + found.len()..].split(' ').next()?.parse::<u64>().ok());
            numbers.sum()
        };
        (sum("counted "), sum("read "))
    };
    let all = counted("select count(*) from metrics");
    assert!(all.0 > 0 && all.1 == 0, "{all:?}");
    for unread in [
        "select count(*), count(value), count(time), count(name) from metrics",
        "select min(time), max(time) from metrics",
        "select name, count(*) from metrics group by name",
        "select mode, count(*) filter (where instance = 'a:9100') from cpu_seconds_total group by mode",
        "select upper(mode), max(time) from cpu_seconds_total where mode like '%s%' group by 1",
        "select distinct mode from cpu_seconds_total",
        "select count(*) from cpu_seconds_total where time > '2026-01-01T00:01:00Z' and mode <> 'idle'",
    ] {
        let (counted, read) = counted(unread);
        assert!(counted > 0 && read == 0, "{unread}: {counted} {read}");
    }
    for read in [
        "select count(*) from cpu_seconds_total where value > 1",
        "select count(distinct time) from cpu_seconds_total",
        "select date_bin(interval '1 minute', time), count(*) from cpu_seconds_total group by 1",
        "select max(value), count(*) from cpu_seconds_total",
        "select count(*) filter (where value > 1) from cpu_seconds_total",
        "select min(time + interval '1 second') from cpu_seconds_total",
    ] {
        let (counted, samples) = counted(read);
        assert!(counted == 0 && samples > 0, "{read}: {counted} {samples}");
    }
}

/// Aggregates that are counted, and the same in words for which samples are read.
fn counted_statement() -> impl Strategy<Value = (String, String)> {
    let keys = proptest::sample::subsequence(vec!["name", "labels['mode']", "upper(labels['job'])"], 0..3);
    let aggregates = proptest::sample::subsequence(
        vec![
            ("count(*)", "count(value + 0)"),
            ("count(time)", "count(time + interval '0 seconds')"),
            ("count(labels['mode'])", "count(case when value is null then null else labels['mode'] end)"),
            ("min(time)", "min(time + interval '0 seconds')"),
            ("max(time)", "max(time + interval '0 seconds')"),
            (
                "count(*) filter (where labels['mode'] = 'user')",
                "count(value + 0) filter (where labels['mode'] = 'user')",
            ),
            (
                "max(time) filter (where name <> 'up')",
                "max(time + interval '0 seconds') filter (where name <> 'up')",
            ),
        ],
        1..5,
    );
    let conditions = proptest::sample::subsequence(
        vec![
            "name like '%u%'",
            "labels['mode'] is null",
            "labels['job'] <> 'node'",
            "time >= '2026-01-01T00:00:30Z'",
            "time < '2026-01-01T00:01:45Z'",
            "length(name) > 2",
        ],
        0..4,
    );
    (keys, aggregates, conditions).prop_map(|(keys, aggregates, conditions)| {
        let text = |which: fn(&(&'static str, &'static str)) -> &'static str| {
            let columns = keys.iter().copied().chain(aggregates.iter().map(which));
            let mut text = format!("select {} from metrics", columns.collect::<Vec<_>>().join(", "));
            if !conditions.is_empty() {
                text += &format!(" where {}", conditions.join(" and "));
            }
            if !keys.is_empty() {
                text += &format!(" group by {}", keys.join(", "));
            }
            text
        };
        (text(|pair| pair.0), text(|pair| pair.1))
    })
}

#[test]
fn counts_are_what_reading_comes_to() {
    let mut cluster = loaded(3);
    // Markers at the ends, in the middle, and nothing but markers.
    let stale = protocol::sample::stale_nan();
    for (mode, values) in
        [("user", vec![stale, 1.0, stale, 2.0, stale]), ("gone", vec![stale, stale]), ("late", vec![3.0])]
    {
        let labels = Labels::from_pairs([("__name__", "marked"), ("mode", mode)]).expect("labels");
        let series = cluster.series(TenantId::default().as_str(), &labels);
        series.times.extend((0..values.len() as i64).map(|i| 1_767_225_600_000 + i * 30_000));
        series.values.extend(values);
    }
    let mut subject = InProcess::over(cluster);
    assert_eq!(subject.rows("select count(*), min(time) from marked"), ["3|2026-01-01T00:00:00Z"]);
    assert_eq!(subject.rows("select count(*), min(time) from marked where mode = 'gone'"), ["0|NULL"]);
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let subject = std::cell::RefCell::new(subject);
    let outcome = runner.run(&counted_statement(), |(counted, read)| {
        let mut subject = subject.borrow_mut();
        let (mut a, mut b) = (subject.rows(&counted), subject.rows(&read));
        a.sort();
        b.sort();
        prop_assert_eq!(a, b, "{} is not {}", counted, read);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn long_answers_come_shard_by_shard() {
    const ROWS: i64 = 200_000;
    let mut cluster = MemoryCluster::new(8);
    let tenant = TenantId::default();
    let labels = |instance: usize| {
        let instance = format!("i{instance}");
        Labels::from_pairs([("__name__", "long"), ("instance", &instance)]).expect("labels")
    };
    // One series on each shard.
    for shard in 0..8 {
        let mut instances = (0..).map(labels);
        let of_shard = instances.find(|labels| cluster.shard_of(labels) == shard).expect("one of them");
        let series = cluster.series(tenant.as_str(), &of_shard);
        series.times.extend(0..ROWS);
        series.values.extend((0..ROWS).map(|i| i as f64));
    }
    // Ten of a kind that all shards answer at once.
    for instance in 0..10 {
        let instance = format!("i{instance}");
        let labels = Labels::from_pairs([("__name__", "short"), ("instance", &instance)]).expect("labels");
        let series = cluster.series(tenant.as_str(), &labels);
        series.times.push(1);
        series.values.push(1.0);
    }
    let cluster = Arc::new(cluster);
    // All answers together do not fit, those that are on their way at once do.
    let limits = Limits { max_bytes: 20 << 20, ..Limits::default() };
    let engine = engine(Arc::clone(&cluster), EngineOptions { limits, ..EngineOptions::default() });
    let runtime = runtime();
    let read = |statement: &str| {
        let before = cluster.asked.load(Ordering::Relaxed);
        let query = SqlQuery::new(TenantId::default(), statement);
        let counted = runtime.block_on(async {
            let mut rows = engine.execute(&query).await?;
            let (mut count, mut sum) = (0, 0.0);
            while let Some(batch) = rows.try_next().await? {
                let values = batch.column(0).as_primitive::<Float64Type>();
                assert!(values.len() <= 8192);
                count += values.len() as i64;
                sum += values.values().iter().sum::<f64>();
            }
            Ok::<_, SqlError>((count, sum))
        });
        // The columns of the table are asked for, too.
        (counted, cluster.asked.load(Ordering::Relaxed) - before - 1)
    };
    assert_eq!(read("select value from short"), (Ok((10, 10.0)), 1), "short answers come at once");
    let (whole, asked) = read("select value, time from long");
    assert_eq!(whole, Ok((8 * ROWS, 8.0 * (ROWS * (ROWS - 1) / 2) as f64)));
    assert_eq!(asked, 9, "each shard that has more is asked for it");
    // Who wants few has not asked for all.
    let (few, asked) = read("select value from long limit 5");
    assert_eq!((few.expect("an answer").0, asked), (5, 1));
    let (error, _) = read("select value, time from long order by value + 1");
    assert!(error.expect_err("a sort holds all").message.contains("query.max_memory"));
}

#[test]
fn joins_begin_with_the_shorter_table() {
    let mut cluster = loaded(3);
    for (name, count) in [("many", 2000), ("few", 3)] {
        for at in 0..count {
            let host = format!("h{at}");
            let labels = Labels::from_pairs([("__name__", name), ("host", &host)]).expect("labels");
            let series = cluster.series(TenantId::default().as_str(), &labels);
            series.times.extend([1, 2]);
            series.values.extend([1.0, 2.0]);
        }
    }
    let cluster = Arc::new(cluster);
    let engine = engine(Arc::clone(&cluster), EngineOptions::default());
    let runtime = runtime();
    let plan = |statement: &str| {
        let query = SqlQuery::new(TenantId::default(), format!("explain {statement}"));
        runtime
            .block_on(ask(&engine, &query))
            .unwrap_or_else(|error| panic!("{statement}: {error}"))
            .join("\n")
    };
    for (a, b) in [("many", "few"), ("few", "many")] {
        let shown = plan(&format!("select a.value, b.value from {a} a join {b} b on a.host = b.host"));
        let at = |name: &str| shown.find(&format!("ClusterScan: table={name}")).expect("a scan");
        assert!(shown.contains("HashJoinExec") && at("few") < at("many"), "{a} join {b}: {shown}");
        assert!(shown.contains("table_rows=6") && shown.contains("table_rows=4000"), "{shown}");
    }
    // What conditions leave of a table counts, not how long it is.
    let shown = plan("select 1 from few a join many b on a.host = b.host and b.host = 'h7'");
    assert!(shown.contains("table_rows=2"), "{shown}");
    // One table is not counted before it is read.
    let before = cluster.asked.load(Ordering::Relaxed);
    assert!(!plan("select value from many").contains("table_rows"));
    assert_eq!(cluster.asked.load(Ordering::Relaxed), before + 1, "the columns of a table are asked for");
}

#[test]
fn a_contradiction_asks_nobody() {
    let cluster = Arc::new(loaded(2));
    let engine = engine(Arc::clone(&cluster), EngineOptions::default());
    let query = SqlQuery::new(
        TenantId::default(),
        "select value from metrics where time > '2027-01-01' and time < '2026-01-01'",
    );
    assert_eq!(runtime().block_on(ask(&engine, &query)), Ok(Vec::new()));
    assert_eq!(cluster.asked.load(Ordering::Relaxed), 0);
}

#[test]
fn tenants_see_their_own() {
    let mut cluster = loaded(2);
    let labels = Labels::from_pairs([("__name__", "secret"), ("of", "other")]).expect("labels");
    let series = cluster.series("other", &labels);
    series.times.push(1);
    series.values.push(1.0);
    let engine = engine(Arc::new(cluster), EngineOptions::default());
    let runtime = runtime();
    let asked = |tenant: &str, statement: &str| {
        let query = SqlQuery::new(TenantId::new(tenant).expect("a tenant"), statement);
        runtime.block_on(ask(&engine, &query)).map_err(|error| error.to_string())
    };
    assert_eq!(asked("other", "select \"of\", value from secret"), Ok(vec!["other|1".to_owned()]));
    assert_eq!(asked("other", "select count(*) from metrics"), Ok(vec!["1".to_owned()]));
    assert!(asked("default", "select * from secret").expect_err("unknown").contains("there is no table"));
    assert_eq!(
        asked("default", "select count(*) from metrics where name = 'secret'"),
        Ok(vec!["0".to_owned()])
    );
    assert_eq!(
        asked(
            "other",
            "select table_name from information_schema.tables where table_schema = 'public' order by 1"
        ),
        Ok(["exemplars", "histograms", "logs", "metrics", "secret", "span_events", "spans", "traces"]
            .map(str::to_owned)
            .into())
    );
}

#[test]
fn histograms_exemplars_and_staleness() {
    let mut cluster = MemoryCluster::new(2);
    let labels = Labels::from_pairs([("__name__", "latency"), ("job", "a")]).expect("labels");
    let tenant = TenantId::default();
    let series = cluster.series(tenant.as_str(), &labels);
    series.histogram_times.push(1000);
    series.histograms.push(Histogram {
        schema: 0,
        count: 3.0,
        sum: 4.5,
        zero_threshold: 0.001,
        zero_count: 1.0,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![1.0, 1.0],
        ..Histogram::default()
    });
    let trace = Labels::from_pairs([("trace_id", "t1")]).expect("labels");
    series.exemplars.push(Exemplar { labels: trace, value: 0.5, timestamp: 900 });
    let gone = Labels::from_pairs([("__name__", "gone")]).expect("labels");
    let series = cluster.series(tenant.as_str(), &gone);
    series.times.extend([1, 2, 3]);
    series.values.extend([1.0, protocol::sample::stale_nan(), f64::NAN]);
    let mut subject = InProcess::over(cluster);
    assert_eq!(
        subject.rows("select name, labels['job'], time, count, sum, schema, zero_threshold, zero_count, buckets from histograms"),
        ["latency|a|1970-01-01T00:00:01Z|3|4.5|0|0.001|1|[{\"lower\":-0.001,\"upper\":0.001,\"count\":1},{\"lower\":0.5,\"upper\":1,\"count\":1},{\"lower\":1,\"upper\":2,\"count\":1}]"]
    );
    assert_eq!(subject.rows("select sum(count) from histograms where name = 'latency'"), ["3"]);
    assert_eq!(
        subject.rows("select name, time, value, exemplar_labels['trace_id'] from exemplars"),
        ["latency|1970-01-01T00:00:00.900Z|0.5|t1"]
    );
    // A staleness marker is no sample; a NaN that was written is one.
    assert_eq!(subject.rows("select count(*) from gone"), ["2"]);
    assert_eq!(subject.rows("select labels from metrics limit 1"), ["{}"]);
}

#[test]
fn budgets_are_kept() {
    let runtime = runtime();
    let asked = |engine: &SqlEngine, statement: &str| {
        runtime.block_on(ask(engine, &SqlQuery::new(TenantId::default(), statement)))
    };
    let limits = |limits: Limits| EngineOptions { limits, ..EngineOptions::default() };
    let mut small = loaded(2);
    small.limits.max_samples = 50;
    let few = engine(Arc::new(small), EngineOptions::default());
    let error = asked(&few, "select sum(value) from cpu_seconds_total").expect_err("too many samples");
    assert!(error.message.contains("query.max_samples"), "{error}");
    let tight = engine(Arc::new(loaded(2)), limits(Limits { max_bytes: 40_000, ..Limits::default() }));
    let error =
        asked(&tight, "select a.value from metrics a cross join metrics b order by 1").expect_err("too much");
    assert!(error.message.contains("query.max_memory"), "{error}");
    assert_eq!(asked(&tight, "select 1").expect("others go on"), ["1"]);
    let quick = engine(
        Arc::new(loaded(2)),
        limits(Limits { timeout: std::time::Duration::from_millis(200), ..Limits::default() }),
    );
    let endless =
        "with recursive n(i) as (select 1 union all select i + 1 from n where i > 0) select count(*) from n";
    for endless in [
        endless,
        "select count(*) from generate_series(1, 100000000000) a, generate_series(1, 100000000000) b",
        "select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b",
        "select count(*) from generate_series(1, 1000000) a join generate_series(1, 1000000) b \
         on a.value + b.value < 0",
        "select count(*) from generate_series(1, 1000000) a join generate_series(1, 1000000) b \
         on a.value / 1000000 = b.value / 1000000 and a.value + b.value < 0",
        "select count(*) from (select unnest(range(0, 1000)) from generate_series(1, 1000000))",
    ] {
        let error = asked(&quick, endless).expect_err("it never ends");
        assert!(
            error.message.contains("query.timeout") || error.message.contains("query.max_memory"),
            "{error}"
        );
    }
    let cluster = Arc::new(loaded(2));
    let engine = query::Engine::new(cluster, EngineOptions::default());
    let options = SqlOptions { max_rows: 10, ..SqlOptions::default() };
    let short = SqlEngine::new(engine, Arc::new(support::memory::OneSetting), options);
    let error = asked(&short, "select * from up").expect_err("too many rows");
    assert!(error.message.contains("more than 10 rows (query.max_rows)"), "{error}");
    let cancel = CancelFlag::default();
    cancel.cancel();
    let query = SqlQuery { cancel, ..SqlQuery::new(TenantId::default(), "select count(*) from up") };
    let error = runtime.block_on(ask(&short, &query)).expect_err("canceled");
    assert_eq!(error.kind, protocol::error::ErrorKind::Canceled);
}

#[test]
fn parameters_take_values() {
    use sql::{Parameter, Parameters};
    let engine = engine(Arc::new(loaded(2)), EngineOptions::default());
    let text = "select count(*) from up where instance = $1 and value >= $2 and time < $end";
    let parameters = Parameters::from([
        ("1".to_owned(), Parameter::Text("a:9100".to_owned())),
        ("2".to_owned(), Parameter::Number("1".to_owned())),
        ("end".to_owned(), Parameter::Text("2026-01-01T00:01:00Z".to_owned())),
    ]);
    let query = SqlQuery { parameters, ..SqlQuery::new(TenantId::default(), text) };
    assert_eq!(runtime().block_on(ask(&engine, &query)), Ok(vec!["3".to_owned()]));
    let schema =
        runtime().block_on(engine.describe(&SqlQuery::new(TenantId::default(), text))).expect("columns");
    assert_eq!(schema.fields().len(), 1);
}

/// Statements that are mostly sensible.
fn statement() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("value"),
        Just("time"),
        Just("mode"),
        Just("instance"),
        Just("job"),
        Just("zone"),
        Just("1"),
        Just("-7.5"),
        Just("'a'"),
        Just("null"),
        Just("true"),
        Just("now()"),
        Just("interval '1 minute'"),
        Just("labels['mode']"),
        Just("'2026-01-01T00:01:00Z'"),
        Just("count(*)"),
        Just("*"),
    ]
    .prop_map(str::to_owned);
    let expr = leaf.prop_recursive(3, 16, 3, |inner| {
        let op = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("/"),
            Just("%"),
            Just("="),
            Just("<>"),
            Just("<"),
            Just(">="),
            Just("and"),
            Just("or"),
            Just("||"),
            Just("like"),
            Just("~"),
            Just("is distinct from"),
        ];
        let function = prop_oneof![
            Just("sum"),
            Just("avg"),
            Just("min"),
            Just("max"),
            Just("count"),
            Just("upper"),
            Just("abs"),
            Just("length"),
            Just("coalesce"),
            Just("date_trunc"),
            Just("date_bin"),
            Just("approx_percentile_cont"),
            Just("repeat"),
            Just("array_agg"),
            Just("split_part"),
            Just("sqrt"),
            Just("lag"),
            Just("row_number"),
            Just("stddev"),
        ];
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (function, proptest::collection::vec(inner.clone(), 0..3))
                .prop_map(|(function, args)| format!("{function}({})", args.join(", "))),
            inner.clone().prop_map(|a| format!("(not {a})")),
            inner.clone().prop_map(|a| format!("({a} is null)")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("case when {a} then {b} end")),
            inner.clone().prop_map(|a| format!("cast({a} as double)")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} in ({b}, 'a'))")),
            inner.prop_map(|a| format!("sum({a}) over (order by time)")),
        ]
    });
    let table = prop_oneof![
        Just("metrics"),
        Just("up"),
        Just("cpu_seconds_total"),
        Just("histograms"),
        Just("nothing"),
        Just("system.settings"),
        Just("promql('up', '2026-01-01T00:01:00Z')"),
        Just("up join cpu_seconds_total using (instance)"),
        Just("(select * from up limit 5)"),
    ];
    (
        proptest::collection::vec(expr.clone(), 1..4),
        table,
        proptest::option::of(expr.clone()),
        proptest::option::of(expr.clone()),
        proptest::option::of(expr),
        proptest::option::of(0u32..20),
        any::<bool>(),
    )
        .prop_map(|(columns, table, filter, group, order, limit, analyze)| {
            let mut text = format!("select {} from {table}", columns.join(", "));
            for (word, part) in [("where", filter), ("group by", group), ("order by", order)] {
                if let Some(part) = part {
                    text += &format!(" {word} {part}");
                }
            }
            if let Some(limit) = limit {
                text += &format!(" limit {limit}");
            }
            if analyze { format!("explain analyze {text}") } else { text }
        })
}

/// Expressions over `cpu_seconds_total` that have a type: numbers, texts and conditions.
fn typed() -> impl Strategy<Value = (String, String, String)> {
    let number =
        prop_oneof![Just("value"), Just("2"), Just("-7.5"), Just("length(mode)")].prop_map(str::to_owned);
    let text = prop_oneof![Just("mode"), Just("instance"), Just("job"), Just("'user'"), Just("upper(mode)")];
    let text = text.prop_map(str::to_owned).boxed();
    let of_text = text.clone();
    let number = number.prop_recursive(3, 8, 2, move |inner| {
        let op = prop_oneof![Just("+"), Just("-"), Just("*")];
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            inner.clone().prop_map(|a| format!("abs({a})")),
            (of_text.clone(), inner.clone(), inner)
                .prop_map(|(t, a, b)| format!("(case when {t} > 'idle' then {a} else {b} end)")),
        ]
    });
    let condition =
        (number.clone(), text.clone(), number.clone(), 0..9).prop_map(|(a, t, b, which)| match which {
            0 => format!("{a} > {b}"),
            1 => format!("{t} = 'user' and {a} <= {b}"),
            2 => format!("{t} in ('user', 'idle', 'A') or {a} = {b}"),
            3 => format!("not ({t} like '%s%')"),
            4 => format!("{t} ~ '^[iu]' and {a} is not null"),
            5 => "time between '2026-01-01T00:00:30Z' and '2026-01-01T00:02:00Z'".to_owned(),
            6 => format!("{t} <> 'system'"),
            7 => format!("{t} is null or {a} <> {b}"),
            _ => format!("time > '2026-01-01T00:01:00Z' and {t} not in ('idle')"),
        });
    (number, text, condition)
}

fn typed_statement() -> impl Strategy<Value = String> {
    (typed(), 0..7, 1u32..30).prop_map(|((number, text, condition), which, limit)| {
        let from = format!("from cpu_seconds_total where {condition}");
        let bin = "date_bin(interval '1 minute', time)";
        match which {
            0 => format!("select {text}, {number}, time {from}"),
            1 => format!("select count(*), min({number}), max({number}), sum({number}) {from}"),
            2 => format!("select {text} as k, count(*), avg({number}) {from} group by k"),
            3 => format!("select {bin} as t, {text} as k, max({number}), min(time) {from} group by t, k"),
            4 => format!("select {number} as n {from} order by n desc limit {limit}"),
            5 => format!("select distinct {text}, value > 10 {from}"),
            _ => format!("select count(*) from (select {number} as n {from}) where n > {limit}"),
        }
    })
}

/// Rows in one order, with numbers as short as sums over other shards agree in. What is half way between two of those is moved up
/// first, or the last bit of a sum would decide which of them it is; and what is left of numbers that cancel out is nothing.
fn comparable(rows: &[String]) -> Vec<String> {
    let field = |field: &str| match field.parse::<f64>() {
        Ok(number) if number.abs() < 1e-9 => "0".to_owned(),
        Ok(number) => format!("{:.6e}", number * (1.0 + 1e-10)),
        Err(_) => field.to_owned(),
    };
    let mut rows: Vec<String> =
        rows.iter().map(|row| row.split('|').map(field).collect::<Vec<_>>().join("|")).collect();
    rows.sort();
    rows
}

fn generated(strategy: impl Strategy<Value = String>, count: u32, compare: bool) -> u32 {
    let runtime = runtime();
    let (one, many) = (
        engine(Arc::new(loaded(1)), EngineOptions::default()),
        engine(Arc::new(loaded(5)), EngineOptions::default()),
    );
    let config = ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let answered = std::cell::Cell::new(0);
    let outcome = runner.run(&strategy, |text| {
        let query = SqlQuery::new(TenantId::default(), text.clone());
        let (a, b) = (runtime.block_on(ask(&one, &query)), runtime.block_on(ask(&many, &query)));
        for error in [&a, &b].into_iter().filter_map(|outcome| outcome.as_ref().err()) {
            prop_assert!(!error.message.contains("panic"), "{}: {}", text, error);
        }
        if let (Ok(a), Ok(b)) = (&a, &b) {
            answered.set(answered.get() + 1);
            if compare {
                prop_assert_eq!(comparable(a), comparable(b), "{}", text);
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    answered.get()
}

#[test]
fn generated_statements_agree_over_shards() {
    let answered = generated(typed_statement(), 120, true);
    assert!(answered > 115, "only {answered} statements had an answer");
}

#[test]
fn senseless_statements_never_panic() {
    assert!(generated(statement(), 200, false) > 0);
}
