//! Range queries with and without a cache of results: the same answers, whatever is written, written late, or deleted in
//! between.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "support/memory.rs"]
mod memory;

use std::sync::Arc;

use futures_util::FutureExt;
use memory::{MemoryCluster, Value};
use proptest::prelude::*;
use protocol::ids::TenantId;
use protocol::labels::Labels;
use protocol::memory::MemoryLedger;
use protocol::sample::stale_nan;
use query::engine::{CacheOptions, ResultCache};
use query::{Engine, EngineOptions, Features, QueryRequest};

const SECOND: i64 = 1000;

/// What is asked. Some of it can not be cut at steps; that is never kept.
const EXPRESSIONS: [&str; 36] = [
    "m",
    "sum by (job) (m)",
    "rate(n_total[1m])",
    "sum by (job) (rate(n_total[2m]))",
    "increase(n_total[90s] anchored)",
    "rate(n_total[1m] smoothed)",
    "m offset 30s",
    "m offset -45s",
    "avg(m offset -1m) - avg(m offset 1m)",
    "max_over_time(m[3m:30s])",
    "avg_over_time(sum(m)[2m:15s] offset -30s)",
    "topk(2, m)",
    "bottomk by (job) (1, m)",
    "limitk(1, m)",
    "quantile(0.5, m)",
    "stddev(m)",
    "count_values(\"v\", m)",
    "m / on (job, n) n_total",
    "m * on (job) group_left sum by (job) (n_total)",
    "m * on (job) group_left n_total",
    "m unless on (job, n) n_total",
    "m > 3 or n_total",
    "absent(m)",
    "absent_over_time(m[1m])",
    "label_replace(m, \"o\", \"$1\", \"n\", \"(.)\")",
    "label_replace(m, \"n\", \"0\", \"job\", \"a\")",
    "changes(m[2m])",
    "timestamp(m)",
    "time() - m",
    "scalar(sum(m)) + m",
    "predict_linear(m[2m], 60)",
    "-{__name__=~\"m|n_total\"}",
    "rate({job=\"a\"}[1m])",
    "m @ 120",
    "m - m @ end()",
    "sort(m)",
];

#[derive(Clone, Debug)]
enum Op {
    /// Samples of some series at one time.
    Write {
        series: u8,
        time: i64,
        value: u8,
    },
    Delete {
        series: usize,
        start: i64,
        len: i64,
    },
    Ask {
        which: usize,
        step: usize,
        start: i64,
        len: i64,
        phase: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let time = 0i64..600;
    prop_oneof![
        6 => (1u8..64, time.clone(), any::<u8>()).prop_map(|(series, time, value)| Op::Write { series, time, value }),
        1 => (0usize..6, time.clone(), 0i64..300).prop_map(|(series, start, len)| Op::Delete { series, start, len }),
        8 => (0..EXPRESSIONS.len(), 0usize..2, 0i64..300, 0i64..400, any::<bool>())
            .prop_map(|(which, step, start, len, phase)| Op::Ask { which, step, start, len, phase }),
    ]
}

fn labels(series: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", ["m", "n_total"][series % 2]),
        ("job", ["a", "b", "a"][series % 3]),
        ("n", ["0", "1", "2", "3", "4", "5"][series]),
    ])
    .unwrap()
}

struct Pair {
    cluster: Arc<MemoryCluster>,
    plain: Engine,
    caching: Engine,
    cache: ResultCache,
}

impl Pair {
    fn new(shards: usize, features: Features) -> Self {
        let cluster = MemoryCluster::new(shards);
        let options = CacheOptions { max_bytes: 1 << 20, min_samples: 0 };
        let cache = ResultCache::new(options, &MemoryLedger::default());
        let plain = EngineOptions { features, ..EngineOptions::default() };
        let caching = EngineOptions { cache: Some(cache.clone()), ..plain.clone() };
        Self {
            plain: Engine::new(cluster.clone(), plain),
            caching: Engine::new(cluster.clone(), caching),
            cluster,
            cache,
        }
    }

    fn write(&self, series: usize, time: i64, value: u8) {
        let value = if value == 255 { stale_nan() } else { f64::from(value) };
        self.cluster.put(&labels(series), time, Value::Float(value), 0);
    }

    /// Asks both, and compares.
    fn ask(&self, query: &str, start: i64, end: i64, step: i64) -> String {
        let request = QueryRequest::range(TenantId::default(), query, start, end, step);
        let answer = |engine: &Engine| {
            let result = engine.query(&request).now_or_never().expect("a cluster in memory never waits");
            // As text: NaN is to equal NaN.
            match result {
                Ok(result) => format!("{:?} {:?} {:?}", result.value, result.warnings, result.infos),
                Err(error) => error.to_string(),
            }
        };
        let (cached, plain) = (answer(&self.caching), answer(&self.plain));
        assert_eq!(cached, plain, "{query} from {start} to {end} every {step}");
        plain
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn answers_are_what_they_are_without(
        shards in 1usize..4,
        every in any::<bool>(),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let pair = Pair::new(shards, if every { Features::all() } else { Features::default() });
        for op in ops {
            match op {
                Op::Write { series, time, value } => {
                    for n in (0..6).filter(|n| series >> n & 1 == 1) {
                        pair.write(n, time * SECOND, value);
                    }
                }
                Op::Delete { series, start, len } => {
                    pair.cluster.delete(&labels(series), start * SECOND, (start + len) * SECOND);
                }
                Op::Ask { which, step, start, len, phase } => {
                    let step = [15, 30][step];
                    // Mostly the same steps, as dashboards ask.
                    let start = start / step * step + i64::from(phase) * 7;
                    pair.ask(EXPRESSIONS[which], start * SECOND, (start + len) * SECOND, step * SECOND);
                }
            }
        }
    }
}

#[test]
fn a_dashboard_that_moves_on_evaluates_what_is_new() {
    let pair = Pair::new(3, Features::default());
    let query = "sum by (job) (rate(n_total[1m]))";
    let write = |from: i64, to: i64| {
        for time in (from..to).step_by(15) {
            (0..6).for_each(|n| pair.write(n, time * SECOND, (time / 15 % 200) as u8));
        }
    };
    write(0, 600);
    let stats = |engine: &Engine, start: i64, end: i64| {
        let request =
            QueryRequest::range(TenantId::default(), query, start * SECOND, end * SECOND, 15 * SECOND);
        engine.query(&request).now_or_never().unwrap().unwrap().stats
    };
    assert_eq!(stats(&pair.caching, 0, 600).cached_steps, 0);
    let again = stats(&pair.caching, 0, 600);
    assert_eq!((again.cached_steps, again.total_queryable_samples), (41, 0), "nothing has changed");
    write(600, 660);
    pair.ask(query, 60 * SECOND, 660 * SECOND, 15 * SECOND);
    // Steps up to the first new sample's are kept: that at 600 s is new.
    assert_eq!(pair.cache.stats().steps, 41 + 36);
    // Late data at 300 s: what is before stays.
    pair.cluster.put(&labels(1), 301 * SECOND, Value::Float(0.0), 0);
    pair.ask(query, 60 * SECOND, 660 * SECOND, 15 * SECOND);
    assert_eq!(pair.cache.stats().steps, 41 + 36 + 17);
    // A shorter range does not cost the longer one its steps, and explanations and requests without the cache evaluate all.
    pair.ask(query, 300 * SECOND, 660 * SECOND, 15 * SECOND);
    assert_eq!(stats(&pair.caching, 60, 660).cached_steps, 41);
    let request = QueryRequest {
        use_cache: false,
        ..QueryRequest::range(TenantId::default(), query, 60 * SECOND, 660 * SECOND, 15 * SECOND)
    };
    let result = pair.caching.query(&request).now_or_never().unwrap().unwrap();
    assert_eq!(result.stats.cached_steps, 0);
    let other = QueryRequest { tenant: TenantId::new("other").unwrap(), use_cache: true, ..request };
    let result = pair.caching.query(&other).now_or_never().unwrap().unwrap();
    assert_eq!(result.stats.cached_steps, 0, "results are a tenant's own");
    // A delete that begins before everything leaves nothing.
    pair.cluster.delete(&labels(1), i64::MIN, 0);
    pair.ask(query, 60 * SECOND, 660 * SECOND, 15 * SECOND);
    let stats = pair.cache.stats();
    assert!(stats.hits == 5 && stats.misses >= 2 && stats.results == 2 && stats.bytes > 0, "{stats:?}");
}
