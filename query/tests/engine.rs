//! The engine over shards in memory: limits, parameters, lists, what is asked of the shards, and hostile bytes.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "support/memory.rs"]
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use memory::{MemoryCluster, Shard, Value};
use proptest::prelude::*;
use protocol::error::ErrorKind;
use protocol::ids::{ShardId, TenantId};
use protocol::labels::Labels;
use protocol::matcher::Matcher;
use query::engine::ListRequest;
use query::result::{QueryResult, ResultValue};
use query::source::{Cluster, Exemplar, MetricMetadata, ReadContext, ShardAnswer, SourceError, TimeRange};
use query::{
    CancelFlag, Engine, EngineOptions, Features, Limits, QueryError, QueryKind, QueryRequest, run_fragment,
};

const MINUTE: i64 = 60_000;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).expect("valid labels")
}

/// `shards` shards with a hundred series of ten samples, a minute apart.
fn cluster(shards: usize) -> Arc<MemoryCluster> {
    let cluster = MemoryCluster::new(shards);
    for i in 0..50 {
        for (name, factor) in [("a_total", 1.0), ("b_total", 3.0)] {
            let instance = i.to_string();
            let job = if i % 2 == 0 { "even" } else { "odd" };
            let labels = labels(&[("__name__", name), ("instance", &instance), ("job", job)]);
            for step in 0..10 {
                let value = factor * f64::from(step) * f64::from(i);
                cluster.put(&labels, i64::from(step) * MINUTE, Value::Float(value), 0);
            }
        }
    }
    cluster
}

fn run(engine: &Engine, request: &QueryRequest) -> Result<QueryResult, QueryError> {
    engine.query(request).now_or_never().expect("a cluster in memory never waits")
}

fn instant(query: &str, time: i64) -> QueryRequest {
    QueryRequest::instant(TenantId::default(), query, time)
}

fn engine(shards: usize, options: EngineOptions) -> Engine {
    Engine::new(cluster(shards), options)
}

fn with_limits(change: impl FnOnce(&mut Limits)) -> EngineOptions {
    let mut options = EngineOptions::default();
    change(&mut options.limits);
    options
}

fn count(result: &QueryResult) -> usize {
    match &result.value {
        ResultValue::Vector(samples) => samples.len(),
        ResultValue::Matrix(series) => series.len(),
        _ => 1,
    }
}

#[test]
fn limits_are_named_when_they_stop_a_query() {
    for shards in [1, 7] {
        let engine = engine(shards, with_limits(|l| l.max_samples = 400));
        assert!(run(&engine, &instant("sum(a_total)", 9 * MINUTE)).is_ok());
        for query in ["sum_over_time(a_total[20m])", "max by (job) (rate({__name__=~\"a_.+\"}[20m]))"] {
            let error = run(&engine, &instant(query, 9 * MINUTE)).unwrap_err();
            assert!(matches!(error, QueryError::TooManySamples { limit: 400, .. }), "{error}");
            assert!(error.to_string().contains("query.max_samples"), "{error}");
            assert_eq!(error.error_type(), "execution");
        }

        let engine = self::engine(shards, with_limits(|l| l.max_bytes = 40_000));
        let request = QueryRequest::range(TenantId::default(), "a_total * 2", 0, 9 * MINUTE, 1000);
        let error = run(&engine, &request).unwrap_err();
        assert!(matches!(error, QueryError::TooMuchMemory { limit: 40_000, .. }), "{error}");

        let engine = self::engine(shards, EngineOptions::default());
        let points = |n: i64| QueryRequest::range(TenantId::default(), "vector(1)", 0, n * 1000, 1000);
        assert!(run(&engine, &points(11_000)).is_ok());
        let error = run(&engine, &points(11_001)).unwrap_err();
        assert!(error.to_string().starts_with("exceeded maximum resolution of 11,000 points per timeseries"));
        assert_eq!(error.error_type(), "bad_data");
    }
}

#[test]
fn the_steps_of_subqueries_are_bounded() {
    for shards in [1, 7] {
        let engine = engine(shards, EngineOptions::default());
        for query in [
            "sum_over_time(a_total[100y:1ms])",
            "a_total[100y:1ms]",
            "max_over_time(sum(a_total)[100y:1ms])",
            "max_over_time(max_over_time(a_total[100y:1s])[100y:1s])",
            "max_over_time(vector(time())[100y:1ms])",
            "max_over_time(max_over_time(vector(1)[1y:1m])[100y:1ms])",
            "absent_over_time(a_total[100y:1ms])",
            "absent(sum_over_time(a_total[100y:1ms]))",
            "quantile_over_time(scalar(max_over_time(sum(a_total)[100y:1ms])), a_total[5m])",
            "topk(scalar(max_over_time(vector(1)[100y:1ms])), a_total)",
            "a_total + on() group_left max_over_time(vector(1)[100y:1ms])",
        ] {
            let error = run(&engine, &instant(query, 9 * MINUTE)).unwrap_err();
            assert!(matches!(error, QueryError::TooManySamples { .. }), "{query}: {error}");
            assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{query}");
        }
        // More steps than a column may have, though a sparse series has few samples.
        let engine = self::engine(shards, with_limits(|l| l.max_bytes = 1 << 20));
        for query in ["sum_over_time(a_total[2d:1s])", "max_over_time(sum(a_total)[2d:1s])", "a_total[2d:1s]"]
        {
            let error = run(&engine, &instant(query, 9 * MINUTE)).unwrap_err();
            assert!(matches!(error, QueryError::TooMuchMemory { limit: 0x10_0000, .. }), "{query}: {error}");
        }
        // One column fits, the columns of everything that is needed at once do not.
        for query in [
            "sum_over_time(a_total[1d:1s])",
            "max_over_time(sum by (instance) (a_total)[1d:1s])",
            "max_over_time(avg by (instance) (a_total)[1d:1s])",
            "max_over_time((a_total > 1)[1d:1s])",
            "max_over_time((a_total * on(instance) b_total)[1d:1s])",
            "max_over_time((a_total @ 60)[1d:1s])",
            "max_over_time(topk(1, a_total)[1d:1s])",
            "max_over_time(count_values(\"value\", a_total)[1d:1s])",
            "max_over_time(vector(time() + time())[1d:1s])",
        ] {
            let error = run(&engine, &instant(query, 9 * MINUTE)).unwrap_err();
            assert!(matches!(error, QueryError::TooMuchMemory { limit: 0x10_0000, .. }), "{query}: {error}");
        }
        let result = run(&engine, &instant("max_over_time(sum(a_total)[2h:1s])", 9 * MINUTE)).unwrap();
        assert_eq!(count(&result), 1);
    }
    // Many steps of nothing cost nothing.
    let engine = engine(3, EngineOptions::default());
    let result = run(&engine, &instant("max_over_time(sum(nothing)[300d:1s])", 9 * MINUTE)).unwrap();
    assert_eq!(count(&result), 0);
}

#[test]
fn an_explanation_names_places_and_shards() {
    let engine = engine(3, EngineOptions::default());
    let query = "sum by (job) (rate(a_total[5m])) / scalar(max(b_total)) + sum by (job) (rate(a_total[5m]))";
    assert_eq!(run(&engine, &instant(query, 9 * MINUTE)).unwrap().explanation, None);
    let request = QueryRequest { explain: true, ..instant(query, 9 * MINUTE) };
    let explanation = run(&engine, &request).unwrap().explanation.unwrap();
    let sum = &explanation.plan.parts[1];
    assert_eq!(sum.expression, "sum by (job) (rate(a_total[5m]))");
    assert!(sum.place.contains("merged here"), "{}", sum.place);
    assert!(explanation.plan.place.starts_with("here"), "{}", explanation.plan.place);
    // The sum is asked for once and used twice.
    let uses: Vec<usize> = explanation.fragments.iter().map(|f| f.uses).collect();
    assert_eq!(explanation.fragments.len(), 2, "{explanation:?}");
    assert!(uses.contains(&2) && uses.contains(&1), "{uses:?}");
    let rates = explanation.fragments.iter().find(|f| f.uses == 2).unwrap();
    assert_eq!(rates.shards.iter().map(|s| s.shard).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(rates.shards.iter().map(|s| s.series).sum::<u64>(), 50);
    assert_eq!(rates.shards.iter().map(|s| s.samples).sum::<u64>(), 50 * 5);
}

#[test]
fn queries_stop_when_told_to_or_out_of_time() {
    let engine = engine(3, EngineOptions::default());
    let request = instant("sum(rate(a_total[5m]))", 9 * MINUTE);
    request.cancel.cancel();
    let error = run(&engine, &request).unwrap_err();
    assert!(matches!(error, QueryError::Canceled(_)), "{error}");
    let request = QueryRequest { timeout: Some(Duration::ZERO), ..instant("sum(a_total)", 9 * MINUTE) };
    let error = run(&engine, &request).unwrap_err();
    assert!(matches!(error, QueryError::Timeout(_)), "{error}");
    assert_eq!(error.error_type(), "timeout");
}

#[test]
fn lookback_and_features_may_differ_per_request() {
    let engine = engine(3, EngineOptions::default());
    assert_eq!(count(&run(&engine, &instant("a_total", 13 * MINUTE)).unwrap()), 50);
    let short = QueryRequest { lookback: Some(Duration::from_secs(60)), ..instant("a_total", 13 * MINUTE) };
    assert_eq!(count(&run(&engine, &short).unwrap()), 0);
    let long = QueryRequest { lookback: Some(Duration::from_secs(3600)), ..instant("a_total", 60 * MINUTE) };
    assert_eq!(count(&run(&engine, &long).unwrap()), 50);

    let query = "label_replace(rate(a_total{instance=\"1\"}[5m]), \"was\", \"$1\", \"__name__\", \"(.*)\")";
    let name = |features| {
        let request = QueryRequest { features, ..instant(query, 9 * MINUTE) };
        match run(&engine, &request).unwrap().value {
            ResultValue::Vector(samples) => samples[0].labels.get("was").unwrap_or("").to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(name(None), "");
    assert_eq!(name(Some(Features::all())), "a_total");
}

#[test]
fn series_that_lose_their_names_meet_across_shards() {
    for shards in [1, 2, 16] {
        let engine = engine(shards, EngineOptions::default());
        let both = "rate({__name__=~\"[ab]_total\", instance=\"1\"}[5m])";
        let error = run(&engine, &instant(both, 9 * MINUTE)).unwrap_err();
        assert!(error.to_string().contains("same labelset"), "{error}");
        // Where the series do not overlap they are one.
        let query = "-(a_total{instance=\"1\"} @ 60) unless b_total or -b_total{instance=\"1\"}";
        let result = run(&engine, &instant(query, 9 * MINUTE)).unwrap();
        assert_eq!(count(&result), 1);
        let summed = format!("sum({both})");
        assert!(run(&engine, &instant(&summed, 9 * MINUTE)).is_err());
        let engine = self::engine(shards, EngineOptions { features: Features::all(), ..Default::default() });
        assert!(run(&engine, &instant(&summed, 9 * MINUTE)).is_ok());
    }
}

#[test]
fn shards_are_asked_for_as_little_as_possible() {
    let engine = engine(4, EngineOptions::default());
    let fragments = |query: &str| run(&engine, &instant(query, 9 * MINUTE)).unwrap().stats.fragments;
    assert_eq!(fragments("1 + 2"), 0);
    assert_eq!(fragments("sum by (job) (rate(a_total[5m]))"), 1);
    assert_eq!(fragments("rate(a_total[5m]) / rate(a_total[5m])"), 1);
    assert_eq!(fragments("sum(a_total) / on() group_right sum by (job) (a_total)"), 2);
    assert_eq!(fragments("max_over_time(sum(rate(a_total[1m]))[5m:1m])"), 1);
    assert_eq!(fragments("absent(nothing)"), 1);
    assert_eq!(fragments("topk(scalar(count(a_total)), a_total)"), 2);
    let result = run(&engine, &instant("sum(a_total)", 9 * MINUTE)).unwrap();
    assert_eq!((result.stats.series, result.stats.total_queryable_samples), (50, 50));
}

#[test]
fn errors_say_where() {
    let engine = engine(1, EngineOptions::default());
    let error = |query: &str| run(&engine, &instant(query, 0)).unwrap_err();
    assert_eq!(error("sum(a_total").error_type(), "bad_data");
    assert!(error("sum(a_total").to_string().starts_with("1:12: parse error:"), "{}", error("sum(a_total"));
    let mixed = error("a_total + on(instance) {__name__=~\"..total\"}");
    assert_eq!(mixed.error_type(), "execution");
    assert!(mixed.to_string().contains("found duplicate series for the match group"), "{mixed}");
    let request = QueryRequest { kind: QueryKind::Range { start: 0, end: 10, step: 0 }, ..instant("1", 0) };
    assert_eq!(run(&engine, &request).unwrap_err().error_type(), "bad_data");
    let request =
        QueryRequest { kind: QueryKind::Range { start: 0, end: 10, step: 1 }, ..instant("a[1m]", 0) };
    assert!(run(&engine, &request).unwrap_err().to_string().contains("must be Scalar or instant Vector"));
}

#[test]
fn lists_cover_all_shards() {
    let cluster = cluster(5);
    let series = labels(&[("__name__", "a_total"), ("instance", "1"), ("job", "odd")]);
    let exemplar =
        |timestamp, trace: &str| Exemplar { labels: labels(&[("trace_id", trace)]), value: 1.0, timestamp };
    cluster.put_exemplar(&series, exemplar(MINUTE, "abc"));
    cluster.put_exemplar(&series, exemplar(20 * MINUTE, "def"));
    for shard in 0..3 {
        cluster.put_metadata(
            shard,
            MetricMetadata {
                family: format!("m{}", shard % 2),
                kind: "counter".into(),
                help: "Help.".into(),
                unit: String::new(),
            },
        );
    }
    let engine = Engine::new(cluster, EngineOptions::default());
    let now = |future: BoxFuture<'_, ()>| future.now_or_never().expect("a cluster in memory never waits");
    now(async {
        let all = ListRequest::all(TenantId::default());
        let odd = ListRequest {
            selectors: vec![vec![Matcher::equal("job", "odd")], vec![Matcher::equal("instance", "2")]],
            ..all.clone()
        };
        let names = engine.label_names(&all).await.unwrap();
        assert_eq!(names, (vec!["__name__".into(), "instance".into(), "job".into()], false));
        let values = engine.label_values(&odd, "instance").await.unwrap().0;
        assert_eq!(values.len(), 26);
        assert!(values.is_sorted());
        let few = ListRequest { limit: 3, ..all.clone() };
        assert_eq!(
            engine.label_values(&few, "instance").await.unwrap(),
            (vec!["0".into(), "1".into(), "10".into()], true)
        );
        let found = engine.series(&odd).await.unwrap().0;
        assert_eq!(found.len(), 52);
        assert!(found.is_sorted());
        let late = ListRequest { range: TimeRange::new(20 * MINUTE, 30 * MINUTE), ..odd.clone() };
        assert!(engine.series(&late).await.unwrap().0.is_empty());
        let metadata = engine.metadata(&all, None).await.unwrap();
        assert_eq!(metadata.len(), 2);
        assert_eq!(engine.metadata(&all, Some("m1")).await.unwrap().len(), 1);
        let early = ListRequest { range: TimeRange::new(0, 10 * MINUTE), ..all.clone() };
        let exemplars = engine.exemplars(&early, "rate(a_total[5m]) + nothing").await.unwrap();
        assert_eq!(exemplars.len(), 1);
        assert_eq!(exemplars[0].exemplars.len(), 1);
        let newest = engine.samples(&odd, true).await.unwrap();
        assert_eq!(newest.len(), 52);
        assert!(newest.iter().all(|series| series.floats.len() == 1 && series.floats[0].0 == 9 * MINUTE));
    }
    .boxed());
}

/// Keeps what it is asked, and answers with given bytes.
struct Scripted {
    asked: std::sync::Mutex<Vec<Bytes>>,
    answer: Option<Bytes>,
    inner: Arc<MemoryCluster>,
}

impl Cluster for Scripted {
    fn execute<'a>(
        &'a self,
        context: &'a ReadContext,
        fragment: Bytes,
    ) -> BoxFuture<'a, Result<Vec<ShardAnswer>, SourceError>> {
        self.asked.lock().unwrap().push(fragment.clone());
        match &self.answer {
            Some(answer) => {
                ready(Ok(vec![ShardAnswer { shard: ShardId(1), answer: answer.clone() }])).boxed()
            }
            None => self.inner.execute(context, fragment),
        }
    }
}

const ASKED: [&str; 6] = [
    "sum by (job) (rate(a_total[5m]))",
    "quantile(0.5, a_total)",
    "topk(2, a_total)",
    "absent(a_total)",
    "stddev(avg_over_time(a_total[5m:1m])) + avg(a_total)",
    "a_total",
];

/// Requests and answers as they really are.
fn real_bytes() -> &'static (Vec<Bytes>, Vec<Bytes>) {
    static BYTES: std::sync::OnceLock<(Vec<Bytes>, Vec<Bytes>)> = std::sync::OnceLock::new();
    BYTES.get_or_init(collect_bytes)
}

fn collect_bytes() -> (Vec<Bytes>, Vec<Bytes>) {
    let inner = cluster(1);
    let scripted = Arc::new(Scripted { asked: Default::default(), answer: None, inner: Arc::clone(&inner) });
    let engine = Engine::new(Arc::clone(&scripted) as Arc<dyn Cluster>, EngineOptions::default());
    for query in ASKED {
        let request = QueryRequest::range(TenantId::default(), query, 5 * MINUTE, 9 * MINUTE, MINUTE);
        run(&engine, &request).unwrap();
    }
    let asked = scripted.asked.lock().unwrap().clone();
    let context = ReadContext {
        query: 1,
        max_answer_bytes: u64::MAX,
        tenant: TenantId::default(),
        consistency: Default::default(),
        timeout: Duration::from_secs(5),
    };
    let answers = asked.iter().map(|fragment| {
        let answers = inner.execute(&context, fragment.clone()).now_or_never().expect("never waits");
        answers.unwrap().remove(0).answer
    });
    let answers = answers.collect();
    (asked, answers)
}

fn damaged(bytes: &Bytes, damage: &[(usize, u8)], cut: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    for (at, value) in damage {
        let len = bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at % len) {
            *byte = *value;
        }
    }
    let len = bytes.len();
    bytes.truncate(len - cut.min(len));
    Bytes::from(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_fragment_makes_a_shard_panic(
        which in 0usize..6,
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        cut in 0usize..8,
    ) {
        let (asked, _) = real_bytes();
        let fragment = damaged(&asked[which], &damage, cut);
        let limits = Limits { timeout: Duration::from_secs(2), max_bytes: 64 << 20, ..Limits::default() };
        let _ = run_fragment(&Shard::default(), &fragment, limits, CancelFlag::default());
    }

    #[test]
    fn no_answer_makes_the_engine_panic(
        which in 0usize..6,
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        cut in 0usize..8,
    ) {
        let (_, answers) = real_bytes();
        let answer = Some(damaged(&answers[which], &damage, cut));
        let scripted = Scripted { asked: Default::default(), answer, inner: MemoryCluster::new(1) };
        let engine = Engine::new(Arc::new(scripted), EngineOptions::default());
        for query in ASKED {
            let request = QueryRequest::range(TenantId::default(), query, 5 * MINUTE, 9 * MINUTE, MINUTE);
            let _ = run(&engine, &request);
        }
    }
}

proptest! {
    #[test]
    fn the_largest_counts_are_exact_over_any_number_of_shards(
        series in proptest::collection::btree_set((0u32..4, 0u32..12, 0u32..40), 0..120),
        shards in 1usize..9,
        limit in 1usize..8,
    ) {
        let cluster = MemoryCluster::new(shards);
        let mut by = [BTreeMap::<String, u64>::new(), BTreeMap::new(), BTreeMap::new()];
        let mut values = BTreeMap::<String, BTreeSet<String>>::new();
        for (metric, job, instance) in &series {
            // Skewed, so that what is large on one shard is not on the next.
            let pairs = [
                ("__name__", format!("m{metric}")),
                ("job", format!("job{}", job / 3)),
                ("instance", format!("{}", instance * job)),
            ];
            let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (*n, v.as_str()))).unwrap();
            if !cluster.put_new(&labels) {
                continue;
            }
            *by[0].entry(pairs[0].1.clone()).or_default() += 1;
            for (name, value) in pairs {
                *by[1].entry(name.to_owned()).or_default() += value.len() as u64;
                *by[2].entry(format!("{name}={value}")).or_default() += 1;
                values.entry(name.to_owned()).or_default().insert(value);
            }
        }
        let total: u64 = by[0].values().sum();
        let largest = |counts: &BTreeMap<String, u64>| {
            let mut all: Vec<(String, u64)> = counts.iter().map(|(k, v)| (k.clone(), *v)).collect();
            all.sort_by(|(a, x), (b, y)| y.cmp(x).then(a.cmp(b)));
            all.truncate(limit);
            all
        };
        let counts = values.iter().map(|(name, values)| (name.clone(), values.len() as u64)).collect();
        let request = ListRequest { limit, ..ListRequest::all(TenantId::default()) };
        let engine = Engine::new(cluster, EngineOptions::default());
        let found = engine.cardinality(&request).now_or_never();
        let found = found.expect("a cluster in memory never waits").unwrap();
        prop_assert_eq!(found.series, total);
        prop_assert_eq!(found.label_pairs, values.values().map(|v| v.len() as u64).sum::<u64>());
        prop_assert_eq!(found.series_by_metric, largest(&by[0]));
        prop_assert_eq!(found.bytes_by_label, largest(&by[1]));
        prop_assert_eq!(found.values_by_label, largest(&counts));
        let pairs: Vec<(u64, String)> = found
            .series_by_pair
            .iter()
            .map(|(pair, n)| (*n, format!("{}={}", pair.name, pair.value)))
            .collect();
        // Among equals the order is that of (name, value), not of the text with the sign between.
        let expected: Vec<u64> = largest(&by[2]).into_iter().map(|(_, n)| n).collect();
        prop_assert_eq!(pairs.iter().map(|(n, _)| *n).collect::<Vec<_>>(), expected);
        prop_assert!(pairs.iter().all(|(n, pair)| by[2].get(pair) == Some(n)));
    }
}
