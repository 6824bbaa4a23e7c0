//! The router over shards that live in memory and misbehave on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use futures_util::future::join_all;
use openraft::impls::TokioRuntime;
use protocol::batch::{SeriesRef, SubBatchView};
use protocol::histogram;
use protocol::ids::SeriesId;
use protocol::labels::Labels;
use protocol::logs::batch::{BatchKey, LogBatch, LogBatchBuilder};
use protocol::logs::{LogRecord, LogSink, LogValue, RowSignal};
use protocol::remote_write::{Limits, Version, decode};
use protocol::varint::write_prefixed;

use super::*;
use crate::shard_map::ShardMap;

mod spans;

const NOW: i64 = 1_700_000_000_000;

/// A shard as `apply` makes it, as far as the router can tell.
#[derive(Default)]
struct Shard {
    generation: u64,
    ordinals: BTreeMap<SeriesId, Ordinal>,
    labels: Vec<Labels>,
    floats: BTreeSet<(String, i64, u64, i64)>,
    histograms: Vec<(String, i64, f64)>,
    exemplars: Vec<(String, i64, Labels)>,
    metadata: Vec<String>,
    index: u64,
    max_series: usize,
    /// Errors to give before anything is taken, last first; `true` = takes the batch and says that it does not know.
    errors: Vec<(WriteError, bool)>,
    seen: Vec<Bytes>,
    keys: BTreeSet<BatchKey>,
    max_keys: Option<usize>,
    lines: Vec<String>,
    /// Trace and name of each span.
    spans: Vec<([u8; 16], String)>,
}

impl Shard {
    fn apply(&mut self, bytes: &Bytes) -> SubBatchOutcome {
        let view = SubBatchView::parse(bytes).expect("the router writes valid batches");
        if view.uses_ordinals() && view.generation() != self.generation {
            return SubBatchOutcome::StaleRegistry { generation: self.generation };
        }
        let (mut new_ordinals, mut series_limit) = (Vec::new(), 0);
        for new in view.new_series() {
            let next = Ordinal(self.labels.len() as u32);
            if !self.ordinals.contains_key(&new.id) && self.labels.len() >= self.max_series {
                series_limit = self.max_series as u64;
                new_ordinals.push(None);
                continue;
            }
            let ordinal = *self.ordinals.entry(new.id).or_insert(next);
            if ordinal == next {
                self.labels.push(new.labels());
            }
            new_ordinals.push(Some(ordinal));
        }
        let name = |series| {
            let ordinal = match series {
                SeriesRef::Known(ordinal) => ordinal,
                SeriesRef::New(position) => new_ordinals[position as usize]?,
            };
            Some(self.labels[ordinal.0 as usize].to_string())
        };
        let [mut samples, mut histograms, mut exemplars] = [0; 3];
        for row in view.floats().iter() {
            let Some(name) = name(row.series) else { continue };
            self.floats.insert((name, row.timestamp_ms, row.value.to_bits(), row.start_ms));
            samples += 1;
        }
        for row in view.histograms().iter() {
            let sum = histogram::decode(row.blob).expect("checked").sum;
            let Some(name) = name(row.series) else { continue };
            self.histograms.push((name, row.timestamp_ms, sum));
            histograms += 1;
        }
        for row in view.exemplars().iter() {
            let Some(name) = name(row.series) else { continue };
            self.exemplars.push((name, row.timestamp_ms, row.labels()));
            exemplars += 1;
        }
        self.metadata.extend(view.metadata().map(|metadata| metadata.family.to_owned()));
        SubBatchOutcome::Applied {
            generation: self.generation,
            new_ordinals,
            series_limit,
            samples,
            histograms,
            exemplars,
        }
    }
}

impl Shard {
    fn apply_logs(&mut self, bytes: &[u8]) -> LogBatchOutcome {
        let batch = LogBatch::decode(bytes).expect("the router writes valid batches");
        let records = batch.rows.len() as u64;
        if self.max_keys == Some(self.keys.len()) {
            return LogBatchOutcome::WindowFull { keys: self.keys.len() as u64 };
        }
        if !self.keys.insert(batch.key) {
            return LogBatchOutcome::Duplicate { records };
        }
        for row in 0..batch.rows.len() {
            let text = batch.rows.record(row, &batch.dict).body.text().into_owned();
            match batch.signal {
                RowSignal::Logs => self.lines.push(text),
                RowSignal::Spans => self.spans.push((batch.rows.traces()[row], text)),
            }
        }
        LogBatchOutcome::Applied { records }
    }
}

struct Shards {
    map: Arc<ShardMap>,
    shards: Vec<Mutex<Shard>>,
    time: Mutex<Option<i64>>,
}

impl Shards {
    fn shard(&self, shard: ShardId) -> std::sync::MutexGuard<'_, Shard> {
        self.shards[usize::from(shard.0) - 1].lock().expect("no test panics inside")
    }

    fn all<T>(&self, of: impl Fn(&Shard) -> Vec<T>) -> Vec<T> {
        self.map.shards().flat_map(|shard| of(&self.shard(shard))).collect()
    }

    fn each(&self, mut change: impl FnMut(&mut Shard)) {
        self.map.shards().for_each(|shard| change(&mut self.shard(shard)));
    }

    fn floats(&self) -> BTreeSet<(String, i64, u64, i64)> {
        self.all(|shard| shard.floats.iter().cloned().collect()).into_iter().collect()
    }

    fn labels_seen(&self) -> usize {
        let count = |bytes: &Bytes| SubBatchView::parse(bytes).expect("valid").new_series_len();
        self.all(|shard| shard.seen.iter().map(count).collect()).into_iter().sum()
    }
}

impl ShardWriter for Shards {
    type Runtime = TokioRuntime;

    async fn propose(&self, shard: ShardId, sub_batch: Bytes, _: Duration) -> Result<Proposed, WriteError> {
        tokio::task::yield_now().await;
        let mut state = self.shard(shard);
        state.seen.push(sub_batch.clone());
        let error = state.errors.pop();
        if let Some((error, false)) = error {
            return Err(error);
        }
        let outcome = state.apply(&sub_batch);
        state.index += 1;
        match error {
            Some((error, _)) => Err(error),
            None => Ok(Proposed { index: LogIndex(state.index), outcome }),
        }
    }

    async fn propose_logs(
        &self,
        shard: ShardId,
        sub_batch: Bytes,
        _: Duration,
    ) -> Result<(LogIndex, LogBatchOutcome), WriteError> {
        tokio::task::yield_now().await;
        let mut state = self.shard(shard);
        let error = state.errors.pop();
        if let Some((error, false)) = error {
            return Err(error);
        }
        let outcome = state.apply_logs(&sub_batch);
        state.index += 1;
        match error {
            Some((error, _)) => Err(error),
            None => Ok((LogIndex(state.index), outcome)),
        }
    }

    fn nonce(&self) -> u64 {
        7
    }

    fn shard_map(&self) -> Arc<ShardMap> {
        Arc::clone(&self.map)
    }

    fn cluster_time_ms(&self) -> Option<i64> {
        *self.time.lock().expect("no test panics inside")
    }

    fn secret(&self) -> ClusterSecret {
        ClusterSecret([5; 32])
    }
}

struct Setup {
    shards: Arc<Shards>,
    router: Router<Shards>,
    tenant: TenantId,
}

fn setup_with(config: RouterConfig) -> Setup {
    let map = Arc::new(ShardMap::even(4).expect("4 is allowed"));
    let new = || Mutex::new(Shard { generation: 1, max_series: 1000, ..Shard::default() });
    let shards = Shards { shards: map.shards().map(|_| new()).collect(), map, time: Mutex::new(Some(NOW)) };
    let shards = Arc::new(shards);
    Setup { router: Router::new(Arc::clone(&shards), config), shards, tenant: TenantId::default() }
}

fn setup() -> Setup {
    setup_with(RouterConfig::default())
}

impl Setup {
    fn decode(&self, series: &[Vec<u8>]) -> WriteBatch {
        let mut body = Vec::new();
        for (field, message) in series.iter().map(|message| (message[0], &message[1..])) {
            body.push(field);
            write_prefixed(&mut body, message);
        }
        decode(Version::V1, body, self.router.fingerprint_key(), &Limits::default()).expect("a valid message")
    }

    async fn write(&self, series: &[Vec<u8>]) -> Result<WriteReceipt, RouteError> {
        self.router.write(&self.tenant, self.decode(series)).await
    }
}

/// A series message behind the tag of its field.
fn labels(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut series = vec![0x0a];
    for (name, value) in pairs {
        let mut label = vec![0x0a];
        write_prefixed(&mut label, name.as_bytes());
        label.push(0x12);
        write_prefixed(&mut label, value.as_bytes());
        series.push(0x0a);
        write_prefixed(&mut series, &label);
    }
    series
}

fn with_row(mut series: Vec<u8>, field: u8, row: &[u8]) -> Vec<u8> {
    series.push(field);
    write_prefixed(&mut series, row);
    series
}

fn with_sample(series: Vec<u8>, timestamp: i64, value: f64) -> Vec<u8> {
    let mut sample = vec![0x09];
    sample.extend_from_slice(&value.to_le_bytes());
    sample.push(0x10);
    protocol::varint::write_u64(&mut sample, timestamp as u64);
    with_row(series, 0x12, &sample)
}

fn up(instance: usize, timestamp: i64, value: f64) -> Vec<u8> {
    let instance = instance.to_string();
    with_sample(labels(&[("__name__", "up"), ("instance", &instance)]), timestamp, value)
}

fn ups(range: std::ops::Range<usize>, timestamp: i64) -> Vec<Vec<u8>> {
    range.map(|instance| up(instance, timestamp, instance as f64)).collect()
}

fn expected(range: std::ops::Range<usize>, timestamp: i64) -> BTreeSet<(String, i64, u64, i64)> {
    let row = |i: usize| (format!("up{{instance=\"{i}\"}}"), timestamp, (i as f64).to_bits(), 0);
    range.map(row).collect()
}

fn no_leader(shard: u16) -> WriteError {
    WriteError::NoLeader { shard: ShardId(shard), reason: "election".into() }
}

fn uncertain(shard: u16) -> WriteError {
    WriteError::Uncertain { shard: ShardId(shard), reason: "no answer".into() }
}

#[tokio::test]
async fn labels_travel_once() {
    let t = setup();
    let receipt = t.write(&ups(0..100, NOW)).await.expect("all shards are up");
    assert_eq!((receipt.samples, receipt.rejections.is_empty()), (100, true));
    assert_eq!(receipt.token.positions().len(), 4);
    assert_eq!(t.shards.floats(), expected(0..100, NOW));
    assert_eq!(t.shards.labels_seen(), 100);

    // The same series later, and a few more, in another order.
    let mut later = ups(0..110, NOW + 1);
    later.reverse();
    assert_eq!(t.write(&later).await.expect("all shards are up").samples, 110);
    assert_eq!(t.shards.labels_seen(), 110);
    let mut all = expected(0..100, NOW);
    all.extend(expected(0..110, NOW + 1));
    assert_eq!(t.shards.floats(), all);
    let stats = t.router.stats();
    assert_eq!((stats.cache_hits, stats.cache_misses, stats.cached_series), (100, 110, 110));
}

#[tokio::test]
async fn a_series_that_comes_twice_is_brought_once() {
    let t = setup();
    let receipt = t.write(&[up(1, NOW, 1.0), up(1, NOW + 1, 2.0)]).await.expect("all shards are up");
    assert_eq!((receipt.samples, t.shards.labels_seen()), (2, 1));
}

#[tokio::test]
async fn tenants_do_not_share_what_is_cached() {
    let t = setup();
    t.write(&ups(0..10, NOW)).await.expect("all shards are up");
    let other = TenantId::new("other").expect("a valid name");
    t.router.write(&other, t.decode(&ups(0..10, NOW))).await.expect("all shards are up");
    assert_eq!(t.shards.labels_seen(), 20);
    let ids: BTreeSet<SeriesId> =
        t.shards.all(|s| s.ordinals.keys().copied().collect()).into_iter().collect();
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn a_new_generation_costs_one_resend() {
    let t = setup();
    t.write(&ups(0..50, NOW)).await.expect("all shards are up");
    t.shards.each(|shard| {
        shard.generation += 1;
        shard.ordinals.clear();
        shard.labels.clear();
    });
    // Half of them known, half new to the router.
    let receipt = t.write(&ups(0..100, NOW + 1)).await.expect("all shards are up");
    assert_eq!(receipt.samples, 100);
    let mut all = expected(0..50, NOW);
    all.extend(expected(0..100, NOW + 1));
    assert_eq!(t.shards.floats(), all);
    assert_eq!(t.router.stats().stale, 4);

    let labels_seen = t.shards.labels_seen();
    t.write(&ups(0..100, NOW + 2)).await.expect("all shards are up");
    assert_eq!((t.router.stats().stale, t.shards.labels_seen()), (4, labels_seen));
}

#[tokio::test]
async fn a_moved_leader_gets_the_same_bytes() {
    let t = setup();
    t.shards.shard(ShardId(2)).errors =
        vec![(no_leader(2), false), (uncertain(2), true), (no_leader(2), false)];
    let receipt = t.write(&ups(0..100, NOW)).await.expect("a leader is found");
    assert_eq!(receipt.samples, 100);
    assert_eq!(t.shards.floats(), expected(0..100, NOW));
    let seen = t.shards.shard(ShardId(2)).seen.clone();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|bytes| *bytes == seen[0]));
    assert_eq!(t.router.stats().retries, 3);
}

#[tokio::test]
async fn a_shard_that_stays_uncertain_fails_the_request() {
    let t = setup_with(RouterConfig { deadline: Duration::from_millis(50), ..RouterConfig::default() });
    t.shards.shard(ShardId(3)).errors = vec![(uncertain(3), false); 1000];
    let error = t.write(&ups(0..100, NOW)).await.expect_err("shard 3 never answers");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        "the write to shard 3 is not confirmed: the outcome on shard 3 is unknown: no answer"
    );
    // The others have their share, and the router has learned from them.
    assert!(t.router.stats().cached_series > 50);
    t.shards.shard(ShardId(3)).errors.clear();
    t.write(&ups(0..100, NOW)).await.expect("sent again");
    assert_eq!(t.shards.floats(), expected(0..100, NOW));
}

#[tokio::test]
async fn a_full_shard_is_not_pressed() {
    let t = setup();
    let full = WriteError::Overloaded { shard: ShardId(1), reason: "queue".into() };
    t.shards.shard(ShardId(1)).errors = vec![(full, false)];
    let error = t.write(&ups(0..100, NOW)).await.expect_err("shard 1 is full");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert_eq!(t.router.stats().retries, 0);
}

#[tokio::test]
async fn without_cluster_time_nothing_is_judged() {
    let t = setup();
    *t.shards.time.lock().expect("no test panics inside") = None;
    assert_eq!(t.write(&ups(0..1, NOW)).await, Err(RouteError::NoClusterTime));
    assert_eq!(RouteError::NoClusterTime.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn bad_rows_are_named_and_the_rest_is_written() {
    let t = setup();
    let day = 86_400_000;
    let doubled = with_sample(labels(&[("__name__", "bad"), ("a", "1"), ("a", "2")]), NOW, 1.0);
    let rows = [
        up(1, NOW, 1.0),
        up(2, NOW + 600_000, 2.0),
        up(3, NOW + 600_001, 3.0),
        up(4, NOW - 30 * day, 4.0),
        up(5, NOW - 30 * day - 1, 5.0),
        up(6, -1, 5.0),
        doubled.clone(),
        doubled,
    ];
    let receipt = t.write(&rows).await.expect("all shards are up");
    assert_eq!(receipt.samples, 3);
    assert_eq!(
        receipt.rejections.to_string(),
        "1 series, 5 samples rejected: \
         series {__name__=\"bad\", a=\"1\", a=\"2\"}: label name \"a\" appears twice; \
         series {__name__=\"up\", instance=\"3\"}: timestamp 1700000600001 is 600001 ms in the future of the \
         cluster's time; \
         series {__name__=\"up\", instance=\"5\"}: timestamp 1697407999999 is older than the retention, which \
         reaches back to 1697408000000; \
         series {__name__=\"up\", instance=\"6\"}: timestamp -1 is before 1970"
    );
    let times: Vec<i64> = t.shards.floats().into_iter().map(|row| row.1).collect();
    assert_eq!(times, [NOW, NOW + 600_000, NOW - 30 * day]);
}

#[tokio::test]
async fn unlimited_retention_reaches_back_to_1970() {
    let t = setup_with(RouterConfig { retention: Arc::default(), ..RouterConfig::default() });
    let receipt = t.write(&[up(1, 0, 1.0), up(2, -1, 1.0)]).await.expect("all shards are up");
    assert_eq!(receipt.samples, 1);
    assert!(receipt.rejections.to_string().contains("timestamp -1 is before 1970"));
}

#[tokio::test]
async fn buckets_of_a_classic_histogram_meet_on_one_shard() {
    let t = setup();
    let bucket = |le: &str| with_sample(labels(&[("__name__", "h_bucket"), ("le", le)]), NOW, 1.0);
    let receipt = t.write(&["0.1", "1", "10", "+Inf"].map(bucket)).await.expect("all shards are up");
    assert_eq!((receipt.samples, receipt.token.positions().len()), (4, 1));
}

#[tokio::test]
async fn histograms_exemplars_and_metadata_go_to_their_columns() {
    let t = setup();
    // A histogram message with count 0, sum 2.5 and a timestamp; an exemplar with a trace id.
    let mut histogram = vec![0x08, 0, 0x19];
    histogram.extend_from_slice(&2.5f64.to_le_bytes());
    histogram.push(0x78);
    protocol::varint::write_u64(&mut histogram, NOW as u64);
    let mut exemplar = labels(&[("trace_id", "abc")])[1..].to_vec();
    exemplar.push(0x18);
    protocol::varint::write_u64(&mut exemplar, NOW as u64);
    let series = with_row(labels(&[("__name__", "h")]), 0x22, &histogram);
    let series = with_row(series, 0x1a, &exemplar);
    let metadata = [&[0x1a, 0x12, 1, b'h', 0x22, 1, b'?'][..]].map(<[u8]>::to_vec);
    let request = [vec![series], metadata.to_vec()].concat();

    let receipt = t.write(&request).await.expect("all shards are up");
    assert_eq!((receipt.samples, receipt.histograms, receipt.exemplars), (0, 1, 1));
    assert!(receipt.rejections.is_empty(), "{}", receipt.rejections);
    let trace = Labels::from_pairs([("trace_id", "abc")]).expect("one label");
    assert_eq!(t.shards.all(|s| s.histograms.clone()), [("h".to_owned(), NOW, 2.5)]);
    assert_eq!(t.shards.all(|s| s.exemplars.clone()), [("h".to_owned(), NOW, trace)]);
    assert_eq!(t.shards.all(|s| s.metadata.clone()), ["h"]);

    // Metadata that is known goes to the log again only after an hour.
    t.write(&metadata).await.expect("all shards are up");
    assert_eq!(t.shards.all(|s| s.metadata.clone()), ["h"]);
    *t.shards.time.lock().expect("no test panics inside") = Some(NOW + 3_600_000);
    t.write(&metadata).await.expect("all shards are up");
    assert_eq!(t.shards.all(|s| s.metadata.clone()), ["h", "h"]);
}

#[tokio::test]
async fn metadata_that_was_not_confirmed_is_sent_again() {
    let t = setup();
    let metadata = [vec![0x1a, 0x12, 1, b'h']];
    t.shards.each(|shard| shard.errors = vec![(WriteError::Stopping, false)]);
    t.write(&metadata).await.expect_err("no shard takes it");
    t.shards.each(|shard| shard.errors.clear());
    t.write(&metadata).await.expect("all shards are up");
    assert_eq!(t.shards.all(|s| s.metadata.clone()), ["h"]);
}

#[tokio::test]
async fn a_large_share_is_cut_and_arrives_whole() {
    let t = setup_with(RouterConfig { max_part_bytes: 4 << 10, ..RouterConfig::default() });
    t.write(&ups(0..1000, NOW)).await.expect("all shards are up");
    let parts: usize = t.shards.all(|s| vec![s.seen.len()]).into_iter().sum();
    assert!(parts > 8, "{parts}");
    assert_eq!(t.shards.floats(), expected(0..1000, NOW));
    // Also when it must go again with labels, which make it longer.
    t.shards.each(|shard| shard.generation += 1);
    assert_eq!(t.write(&ups(0..1000, NOW + 1)).await.expect("all shards are up").samples, 1000);
    let mut all = expected(0..1000, NOW);
    all.extend(expected(0..1000, NOW + 1));
    assert_eq!(t.shards.floats(), all);

    // One series with more samples than fit a part.
    let many = (0..10_000).fold(labels(&[("__name__", "up"), ("instance", "long")]), |series, i| {
        with_sample(series, NOW - i, 1.0)
    });
    assert_eq!(t.write(&[many]).await.expect("all shards are up").samples, 10_000);
    let largest = t.shards.all(|s| s.seen.iter().map(Bytes::len).collect()).into_iter().max();
    assert!(largest < Some(64 << 10), "{largest:?}");
}

#[tokio::test]
async fn a_shard_that_takes_no_more_series_still_takes_samples() {
    let t = setup();
    t.write(&ups(0..40, NOW)).await.expect("all shards are up");
    t.shards.each(|shard| shard.max_series = shard.labels.len());
    // A router that starts knows no series: it brings the labels of those that the shard has, too.
    let cold = Router::new(Arc::clone(&t.shards), RouterConfig::default());
    let receipt = cold.write(&t.tenant, t.decode(&ups(0..100, NOW + 1))).await.expect("all shards are up");
    assert_eq!((receipt.samples, receipt.rejections.samples, receipt.rejections.series), (40, 60, 60));
    let text = receipt.rejections.to_string();
    assert!(text.contains("series {__name__=\"up\", instance=") && text.contains("its limit"), "{text}");
    let mut all = expected(0..40, NOW);
    all.extend(expected(0..40, NOW + 1));
    assert_eq!(t.shards.floats(), all);
    // It has learned the ordinals of the others.
    let labels_seen = t.shards.labels_seen();
    let receipt = cold.write(&t.tenant, t.decode(&ups(0..41, NOW + 2))).await.expect("all shards are up");
    assert_eq!((receipt.samples, receipt.rejections.series), (40, 1));
    assert_eq!(t.shards.labels_seen(), labels_seen + 1);
}

#[tokio::test]
async fn labels_of_one_request_are_bounded() {
    let t = setup_with(RouterConfig { max_label_bytes: 1000, ..RouterConfig::default() });
    let error = t.write(&ups(0..100, NOW)).await.expect_err("too many at once");
    assert_eq!(error, RouteError::TooManyLabelBytes { limit: 1000 });
    assert_eq!(t.shards.labels_seen(), 0, "nothing is written");
}

#[tokio::test]
async fn many_connections_share_one_router() {
    let t = setup();
    let writes = (0..20).map(|i| t.router.write(&t.tenant, t.decode(&ups(0..200, NOW + i))));
    for receipt in join_all(writes.collect::<Vec<_>>()).await {
        assert_eq!(receipt.expect("all shards are up").samples, 200);
    }
    let all: BTreeSet<_> = (0..20).flat_map(|i| expected(0..200, NOW + i)).collect();
    assert_eq!(t.shards.floats(), all);
}

fn batch_of(t: &Setup, lines: &[&str]) -> LogBatchBuilder {
    let mut batch = t.router.log_batch(&TenantId::default()).expect("cluster time is known");
    for line in lines {
        let body = LogValue::String((*line).to_owned().into());
        batch.record(&LogRecord { time_ns: NOW * 1_000_000, body, ..LogRecord::default() });
    }
    batch
}

fn lines(t: &Setup) -> Vec<String> {
    let mut lines = t.shards.all(|shard| shard.lines.clone());
    lines.sort();
    lines
}

#[tokio::test]
async fn a_log_request_is_one_batch_on_one_shard_and_a_repeat_changes_nothing() {
    let t = setup();
    let key = Some(t.router.body_key(&t.tenant, b"body"));
    let receipt = t.router.write_logs(&t.tenant, batch_of(&t, &["a", "a", "b"]), key).await.expect("written");
    assert_eq!((receipt.records, receipt.repeated), (3, false));
    let again = t.router.write_logs(&t.tenant, batch_of(&t, &["a", "a", "b"]), key).await.expect("known");
    assert_eq!((again.records, again.repeated), (3, true));
    assert_eq!(lines(&t), ["a", "a", "b"]);
    assert_eq!(t.shards.all(|shard| shard.keys.iter().copied().collect()).len(), 1);
    // Without a key each request is new, though its content is the same.
    for _ in 0..2 {
        t.router.write_logs(&t.tenant, batch_of(&t, &["c"]), None).await.expect("written");
    }
    assert_eq!(lines(&t), ["a", "a", "b", "c", "c"]);
    let empty = t.router.write_logs(&t.tenant, batch_of(&t, &[]), None).await.expect("nothing to do");
    assert_eq!(empty, logs::LogReceipt::default());
}

#[tokio::test]
async fn an_attempt_of_unknown_outcome_is_not_written_twice() {
    let t = setup();
    let uncertain = |shard: ShardId| (WriteError::Uncertain { shard, reason: "no answer".to_owned() }, true);
    t.shards.map.shards().for_each(|shard| t.shards.shard(shard).errors.push(uncertain(shard)));
    let receipt = t.router.write_logs(&t.tenant, batch_of(&t, &["a"]), None).await.expect("written");
    assert_eq!(receipt.records, 1);
    assert_eq!(lines(&t), ["a"]);
}

#[tokio::test]
async fn a_full_window_is_no_success() {
    let t = setup();
    t.shards.each(|shard| shard.max_keys = Some(0));
    let error = t.router.write_logs(&t.tenant, batch_of(&t, &["a"]), None).await.expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(lines(&t).is_empty());
}

#[tokio::test]
async fn records_outside_of_what_is_kept_are_left_out() {
    let t = setup();
    let mut batch = batch_of(&t, &["a"]);
    for time_ms in [0, NOW - 15 * 86_400_000, NOW + 700_000] {
        batch.record(&LogRecord { time_ns: time_ms * 1_000_000, ..LogRecord::default() });
    }
    assert_eq!((batch.len(), batch.outside().too_old, batch.outside().too_new), (1, 2, 1));
    *t.shards.time.lock().expect("no test panics inside") = None;
    assert_eq!(t.router.log_batch(&TenantId::default()).err(), Some(RouteError::NoClusterTime));
}
