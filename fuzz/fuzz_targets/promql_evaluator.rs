//! Words of the language on data from the same bytes: the answer is one, or an error, and does not depend on how many
//! shards gave it.

#![no_main]

use futures_util::FutureExt;
use libfuzzer_sys::fuzz_target;
use protocol::ids::TenantId;
use protocol::labels::Labels;
use protocol::sample::stale_nan;
use query::promql::parser::parse;
use query::{Engine, EngineOptions, Features, Limits, QueryRequest};

#[path = "../../query/tests/support/memory.rs"]
mod memory;

use memory::{MemoryCluster, Value};

const WORDS: [&str; 64] = [
    "m", "n_total", "{job=\"a\"}", "{job!=\"a\"}", "{__name__=~\"m|n_total\"}", "[1m]", "[5m]", "[4m:30s]", "[3m:]",
    " offset 1m", " offset -1m", " @ 60", " @ end()", "(", ")", "(", ")", ",", "1", "0.5", "-", "+", "*", "/", "%", "^",
    " == ", " > ", " >= bool ", " and ", " or ", " unless ", " on (job) ", " ignoring (n) ", " group_left ",
    " fill (0) ", "sum", "avg", "max", "count", "stddev", "topk", "bottomk", "quantile", "limitk", "count_values",
    " by (job) ", " without (n) ", "rate", "increase", "delta", "irate", "changes", "sum_over_time",
    "quantile_over_time", "histogram_quantile", "absent", "absent_over_time", "label_replace", "sort", "scalar",
    "vector", "timestamp", "\"job\"",
];

fn engine(shards: usize, samples: &[u8]) -> Engine {
    let cluster = MemoryCluster::new(shards);
    for (i, byte) in samples.iter().enumerate() {
        let (series, step) = (i % 5, (i / 5) as i64);
        let pairs = [
            ("__name__", ["m", "n_total"][series % 2]),
            ("job", ["a", "b", "a"][series % 3]),
            ("n", ["0", "1", "2", "3", "4"][series]),
        ];
        let labels = Labels::from_pairs(pairs).expect("valid labels");
        let value = if *byte == 255 { stale_nan() } else { f64::from(*byte) };
        cluster.put(&labels, step * 15_000, Value::Float(value), 0);
    }
    let limits = Limits { max_samples: 200_000, max_bytes: 32 << 20, ..Limits::default() };
    Engine::new(cluster, EngineOptions { features: Features::all(), limits, ..EngineOptions::default() })
}

fuzz_target!(|bytes: &[u8]| {
    let (words, samples) = bytes.split_at(bytes.len().min(24));
    let text: String = words.iter().map(|byte| WORDS[usize::from(*byte) % WORDS.len()]).collect();
    if parse(&text).is_err() {
        return;
    }
    let answers: Vec<String> = [1, 3]
        .into_iter()
        .map(|shards| {
            let engine = engine(shards, &samples[..samples.len().min(400)]);
            let request = QueryRequest::range(TenantId::default(), text.clone(), 0, 300_000, 60_000);
            match engine.query(&request).now_or_never().expect("a cluster in memory never waits") {
                // Sums may differ in their last bits: series and times may not.
                Ok(result) => match result.value {
                    query::result::ResultValue::Matrix(series) => series
                        .iter()
                        .map(|s| format!("{:?} {:?};", s.labels, s.floats.iter().map(|p| p.0).collect::<Vec<_>>()))
                        .collect(),
                    other => format!("{other:?}"),
                },
                Err(error) => error.error_type().to_owned(),
            }
        })
        .collect();
    assert_eq!(answers[0], answers[1], "{text}");
});
