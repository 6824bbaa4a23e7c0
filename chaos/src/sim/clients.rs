//! Simulated clients: they write uniquely numbered samples and read them back, and believe what they are told.
//!
//! A client owns some series. It sends a batch to any node, as an exporter would; after a refusal, a silence or a death
//! it sends the same bytes again, often to another node, until it is acknowledged or gives up, and then the batch's
//! fate is unknown. Sometimes it repeats a batch that was acknowledged, or sends other values for samples that were:
//! neither may change anything. Log batches go the same way under keys of their own, with records that are there twice:
//! sent again they must not be doubled, and what is there twice must stay so. So do spans, batch by batch of the same
//! traces, each of which must be found whole on its shard. In half of the seeds clients delete what they have logged, here
//! and there, and what is deleted must not come back. Now and then it reads its series linearizably, through any node, and the oracle judges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cluster::node::delete::LogDelete;
use cluster::read::Consistency;
use cluster::router::shard_writer::{Proposed, ShardWriter, WriteError};
use cluster::router::spans::TraceSlots;
use openraft_rt::AsyncRuntime;
use protocol::batch::{SubBatchBuilder, SubBatchOutcome};
use protocol::ids::{ClusterSecret, SLOT_COUNT, ShardId, SlotId, TenantId};
use protocol::labels::Labels;
use protocol::logs::batch::{BatchKey, LogBatchBuilder, LogBatchOutcome};
use protocol::logs::{LogRecord, LogSink, LogStream, LogValue, RowSignal};
use protocol::spans::row;
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::sim::cluster::{
    CLIENT_LABEL, LOG_SERIES, METRIC, SERIES_LABEL, SPAN_SERIES, SampleRead, SimCluster, SimNode,
    decode_samples, log_body, log_copies, rows_of, span_of_value, span_trace,
};
use crate::sim::executor;
use crate::sim::machine::WALL_START_MS;
use crate::sim::oracle::{Sent, SeriesNumber, invariant};
use crate::sim::random::{Stream, chance, stream};
use crate::sim::runtime::SimRuntime;

/// Series of one client.
const SERIES_PER_CLIENT: u32 = 6;
/// Traces of one client.
const TRACES: u8 = 8;
/// Time of a client's first log record and of its first span.
const FIRST_ROW_MS: i64 = WALL_START_MS - 3_600_000;
/// Most samples of a batch.
const MAX_SAMPLES: usize = 12;
/// How long a client sends one batch again.
const GIVE_UP_AFTER: Duration = Duration::from_secs(20);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// One client.
pub struct Client {
    number: u32,
    cluster: SimCluster,
    rng: SmallRng,
    /// Decides about deletes, so that a seed without them is as it was.
    deletes: SmallRng,
    stop: Arc<AtomicBool>,
    series: Vec<OwnSeries>,
    /// Keys the ids of series; learnt with the first shard.
    secret: ClusterSecret,
    /// Time of the next log record.
    next_log_ms: i64,
    /// Time of the next span.
    next_span_ms: i64,
}

struct OwnSeries {
    number: SeriesNumber,
    labels: Labels,
    /// Known once a node has told the secret.
    shard: Option<ShardId>,
    next_ms: i64,
}

/// What became of sending a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged.
    Acknowledged,
    /// Given up.
    Unknown,
}

impl Client {
    /// A client; it stops at the flag.
    pub fn new(number: u32, cluster: &SimCluster, stop: Arc<AtomicBool>) -> Self {
        let mut rng = stream(cluster.plan().seed, Stream::Clients, u64::from(number));
        let series = (0..SERIES_PER_CLIENT)
            .map(|n| {
                let number = number * SERIES_PER_CLIENT + n;
                // Some series are backfilled: their samples lie in older partitions.
                let age_hours = if chance(&mut rng, 0.2) { rng.random_range(1..200) } else { 1 };
                let first_ms = WALL_START_MS - age_hours * 3_600_000;
                OwnSeries { number, labels: labels(number), shard: None, next_ms: first_ms }
            })
            .collect();
        let secret = ClusterSecret([0; 32]);
        Self {
            number,
            cluster: cluster.clone(),
            rng,
            deletes: stream(cluster.plan().seed, Stream::Deletes, u64::from(number)),
            stop,
            series,
            secret,
            next_log_ms: FIRST_ROW_MS,
            next_span_ms: FIRST_ROW_MS,
        }
    }

    /// Writes and reads until told to stop; then the client is idle.
    pub async fn run_and_return(mut self) -> Self {
        while !self.stop.load(Ordering::Relaxed) {
            if chance(&mut self.deletes, self.cluster.plan().deletes) {
                self.delete_logs().await;
            } else if chance(&mut self.rng, 0.15) {
                let recent = chance(&mut self.rng, 0.8);
                self.read(recent).await;
            } else if chance(&mut self.rng, 0.4) {
                if chance(&mut self.rng, 0.5) {
                    self.write_logs().await;
                } else {
                    self.write_spans().await;
                }
            } else {
                self.write().await;
            }
            let think = self.cluster.plan().think_max.mul_f64(self.rng.random::<f64>());
            SimRuntime::sleep(think).await;
        }
        self
    }

    /// Writes one batch with its samples, retries included.
    pub async fn write(&mut self) -> Option<Outcome> {
        let (shard, samples) = self.make_batch().await?;
        let bytes = self.encode(&samples);
        let outcome = self.send(shard, bytes.clone(), &samples).await;
        if outcome == Outcome::Acknowledged {
            self.cluster.oracle().acknowledge(&samples);
            if chance(&mut self.rng, self.cluster.plan().resend) {
                self.send(shard, bytes, &samples).await;
            }
            if chance(&mut self.rng, self.cluster.plan().resend / 4.0) {
                // Other values for the same places: the first ones stay.
                let lies: Vec<_> =
                    samples.iter().map(|s| Sent { value: s.value + 1_000_000_000, ..*s }).collect();
                let bytes = self.encode(&lies);
                self.send(shard, bytes, &lies).await;
            }
        } else {
            self.cluster.oracle().give_up();
        }
        Some(outcome)
    }

    /// Writes one batch of log records, retries included.
    async fn write_logs(&mut self) -> Option<Outcome> {
        let node = self.cluster.nodes().into_iter().next()?.1;
        let shard = node.shard_map().shard_of(SlotId(self.rng.random_range(0..SLOT_COUNT)));
        let mut batch = LogBatchBuilder::new();
        let client = LogValue::String(self.number.to_string().into());
        batch.stream(&LogStream { resource: vec![(CLIENT_LABEL.into(), client)], ..LogStream::default() });
        let mut sent = Vec::new();
        for _ in 0..self.rng.random_range(1..=MAX_SAMPLES) {
            let one = self.cluster.oracle().send(LOG_SERIES + self.number, self.next_log_ms);
            self.next_log_ms += self.rng.random_range(1..5_000);
            let record = LogRecord {
                time_ns: one.at_ms * 1_000_000,
                body: LogValue::String(log_body(one.value).into()),
                ..LogRecord::default()
            };
            (0..log_copies(one.value)).for_each(|_| batch.record(&record));
            sent.push(one);
        }
        self.deliver(shard, batch, &sent).await
    }

    /// Writes one batch of spans of a trace, of which earlier and later batches have more, retries included.
    async fn write_spans(&mut self) -> Option<Outcome> {
        let node = self.cluster.nodes().into_iter().next()?.1;
        let trace_id = span_trace(self.number, self.rng.random_range(0..TRACES));
        let slots = TraceSlots::new(&node.secret(), &TenantId::default());
        let shard = node.shard_map().shard_of(slots.slot_of(&trace_id));
        let mut batch = LogBatchBuilder::of(RowSignal::Spans);
        let client = LogValue::String(self.number.to_string().into());
        batch.stream(&LogStream { resource: vec![(CLIENT_LABEL.into(), client)], ..LogStream::default() });
        let mut sent = Vec::new();
        for _ in 0..self.rng.random_range(1..=MAX_SAMPLES) {
            let one = self.cluster.oracle().send(SPAN_SERIES + self.number, self.next_span_ms);
            self.next_span_ms += self.rng.random_range(1..5_000);
            batch.record(&row::row_of(&span_of_value(trace_id, one.value, one.at_ms)));
            sent.push(one);
        }
        self.deliver(shard, batch, &sent).await
    }

    /// Sends what was gathered, retries included; sometimes again once it is acknowledged.
    async fn deliver(&mut self, shard: ShardId, batch: LogBatchBuilder, sent: &[Sent]) -> Option<Outcome> {
        let records = batch.len();
        let key = BatchKey(self.rng.random::<u128>().to_le_bytes());
        let bytes = batch.finish(&TenantId::default(), key).ok()?.pop()?.1;
        let outcome = self.send_logs(shard, bytes.clone(), records, false).await;
        if outcome == Outcome::Acknowledged {
            self.cluster.oracle().acknowledge(sent);
            if chance(&mut self.rng, self.cluster.plan().resend) {
                self.send_logs(shard, bytes, records, true).await;
            }
        } else {
            self.cluster.oracle().give_up();
        }
        Some(outcome)
    }

    /// Sends a batch of logs or spans until it is acknowledged; `again`, if it was before.
    async fn send_logs(&mut self, shard: ShardId, bytes: Bytes, records: u64, again: bool) -> Outcome {
        let deadline = executor::elapsed() + GIVE_UP_AFTER;
        let mut at = self.rng.random_range(0..self.cluster.len());
        loop {
            SimRuntime::sleep(Duration::from_micros(self.rng.random_range(50..1_500))).await;
            let batch = bytes.clone();
            let propose =
                |node: SimNode| async move { ShardWriter::propose_logs(&*node, shard, batch, ATTEMPT).await };
            match self.cluster.on_node(at, propose).await {
                Some(Ok((_, outcome))) => {
                    let is_right = match outcome {
                        LogBatchOutcome::Applied { records: taken } => taken == records && !again,
                        LogBatchOutcome::Duplicate { records: known } => known == records,
                        _ => false,
                    };
                    if is_right {
                        return Outcome::Acknowledged;
                    }
                    let what =
                        format!("{records} records, sent before: {again}, were answered with {outcome:?}");
                    self.cluster.oracle().violate(invariant::NOTHING_LOST, what);
                    return Outcome::Unknown;
                }
                Some(Err(error)) => executor::say(|| format!("client {}: {error}", self.number)),
                None => {}
            }
            if executor::elapsed() >= deadline {
                return Outcome::Unknown;
            }
            SimRuntime::sleep(Duration::from_millis(self.rng.random_range(20..250))).await;
            if chance(&mut self.rng, 0.7) {
                at = self.rng.random_range(0..self.cluster.len());
            }
        }
    }

    /// Deletes the client's log records of a range of time, which nothing is written to any more, retries included.
    async fn delete_logs(&mut self) {
        let written_ms = self.next_log_ms - FIRST_ROW_MS;
        let end_ms = self.next_log_ms - 1 - self.deletes.random_range(0..=written_ms / 2);
        let start_ms = end_ms - self.deletes.random_range(0..=written_ms / 2);
        let delete = self.cluster.oracle().begin_delete(LOG_SERIES + self.number, start_ms, end_ms);
        let request = LogDelete {
            tenant: TenantId::default(),
            filter: rows_of(self.number),
            start_ns: start_ms * 1_000_000,
            end_ns: end_ms * 1_000_000,
        };
        let deadline = executor::elapsed() + GIVE_UP_AFTER;
        while executor::elapsed() < deadline {
            let at = self.deletes.random_range(0..self.cluster.len());
            let request = request.clone();
            let delete_logs = |node: SimNode| async move { node.delete_logs(request, ATTEMPT).await };
            match self.cluster.on_node(at, delete_logs).await {
                Some(Ok(())) => return self.cluster.oracle().end_delete(&delete),
                Some(Err(error)) => executor::say(|| format!("client {}: {error}", self.number)),
                None => {}
            }
            SimRuntime::sleep(Duration::from_millis(self.deletes.random_range(20..250))).await;
        }
    }

    async fn make_batch(&mut self) -> Option<(ShardId, Vec<Sent>)> {
        self.learn_shards();
        let known: Vec<usize> =
            (0..self.series.len()).filter(|&at| self.series[at].shard.is_some()).collect();
        let lead = *known.get(self.rng.random_range(0..known.len().max(1)))?;
        let shard = self.series[lead].shard?;
        let count = self.rng.random_range(1..=MAX_SAMPLES);
        let mut samples = Vec::with_capacity(count);
        let same: Vec<usize> = known.into_iter().filter(|&at| self.series[at].shard == Some(shard)).collect();
        for _ in 0..count {
            let at = same[self.rng.random_range(0..same.len())];
            let series = &mut self.series[at];
            samples.push(self.cluster.oracle().send(series.number, series.next_ms));
            series.next_ms += self.rng.random_range(1..5_000);
        }
        Some((shard, samples))
    }

    fn learn_shards(&mut self) {
        if self.series.iter().all(|series| series.shard.is_some()) {
            return;
        }
        let Some((_, node)) = self.cluster.nodes().into_iter().next() else { return };
        let (secret, map) = (node.secret(), node.shard_map());
        self.secret = secret;
        for series in &mut self.series {
            series.shard = Some(map.shard_of(series.labels.slot(&secret, &TenantId::default())));
        }
    }

    /// A sub-batch that brings its series along, as a router with an empty cache would send it.
    fn encode(&self, samples: &[Sent]) -> Bytes {
        let tenant = TenantId::default();
        let mut builder = SubBatchBuilder::new(tenant.clone(), 0);
        let mut refs = Vec::new();
        for sent in samples {
            let reference = match refs.iter().find(|(number, _)| *number == sent.series) {
                Some((_, reference)) => *reference,
                None => {
                    let labels = labels(sent.series);
                    let reference = builder.push_new_series(labels.series_id(&self.secret, &tenant), &labels);
                    refs.push((sent.series, reference));
                    reference
                }
            };
            builder.push_float(reference, sent.at_ms, sent.value as f64, 0);
        }
        builder.finish()
    }

    async fn send(&mut self, shard: ShardId, bytes: Bytes, samples: &[Sent]) -> Outcome {
        let deadline = executor::elapsed() + GIVE_UP_AFTER;
        let mut at = self.rng.random_range(0..self.cluster.len());
        loop {
            // From client to node: a little time in which anything may happen to the node.
            SimRuntime::sleep(Duration::from_micros(self.rng.random_range(50..1_500))).await;
            let batch = bytes.clone();
            let attempt = self.cluster.on_node(at, |node| propose(node, shard, batch)).await;
            match attempt {
                Some(Ok(proposed)) => match self.judge_outcome(&proposed, samples) {
                    Some(outcome) => return outcome,
                    None => return Outcome::Unknown,
                },
                Some(Err(error)) => executor::say(|| format!("client {}: {error}", self.number)),
                None => {}
            }
            if executor::elapsed() >= deadline {
                return Outcome::Unknown;
            }
            SimRuntime::sleep(Duration::from_millis(self.rng.random_range(20..250))).await;
            if chance(&mut self.rng, 0.7) {
                at = self.rng.random_range(0..self.cluster.len());
            }
        }
    }

    fn judge_outcome(&self, proposed: &Proposed, samples: &[Sent]) -> Option<Outcome> {
        match &proposed.outcome {
            SubBatchOutcome::Applied { samples: taken, .. } if *taken == samples.len() as u64 => {
                Some(Outcome::Acknowledged)
            }
            other => {
                let what =
                    format!("{} samples with their labels were answered with {other:?}", samples.len());
                self.cluster.oracle().violate(invariant::NOTHING_LOST, what);
                None
            }
        }
    }

    /// Reads the client's series linearizably through any node; `recent` reads only the latest part.
    pub async fn read(&mut self, recent: bool) -> bool {
        let at = self.rng.random_range(0..self.cluster.len());
        self.read_through(at, recent).await
    }

    /// Reads the client's series through one node; whether it answered.
    pub async fn read_through(&mut self, at: usize, recent: bool) -> bool {
        let oracle = self.cluster.oracle().clone();
        let back_ms = if recent { 60_000 } else { i64::MAX / 4 };
        let newest = self.series.iter().map(|s| s.next_ms).chain([self.next_log_ms, self.next_span_ms]);
        let from_ms = newest.map(|ms| ms.saturating_sub(back_ms)).min().unwrap_or(0);
        let request = SampleRead { client: self.number, from_ms, to_ms: i64::MAX / 2 };
        let begun = oracle.begin_read();
        let fragment = request.encode();
        let answer = self
            .cluster
            .on_node(at, |node| async move {
                node.run_fragment(fragment, Consistency::Linearizable, ATTEMPT).await
            })
            .await;
        let Some(Ok(answers)) = answer else {
            if let Some(Err(error)) = answer {
                executor::say(|| format!("client {} reads: {error}", self.number));
            }
            oracle.fail_read();
            return false;
        };
        let by = format!("client {} through machine {}", self.number, at + 1);
        let mut found = std::collections::BTreeMap::new();
        let (logs, spans) = (LOG_SERIES + self.number, SPAN_SERIES + self.number);
        for (shard, bytes) in answers {
            let Some(rows) = decode_samples(&bytes) else {
                oracle.violate(invariant::NOTHING_INVENTED, format!("{by}: shard {shard} answered nonsense"));
                return false;
            };
            for (series, samples) in rows {
                // Batches of logs and of spans of a client lie on many shards.
                if series == logs || series == spans {
                    found.entry(series).or_insert_with(Vec::new).extend(samples);
                } else if found.insert(series, samples).is_some() {
                    oracle.violate(invariant::NOTHING_LOST, format!("{by}: series {series} came twice"));
                }
            }
        }
        for series in &self.series {
            let samples = found.remove(&series.number).unwrap_or_default();
            oracle.judge(begun, series.number, from_ms, request.to_ms, &samples, &by);
        }
        let mut records = found.remove(&logs).unwrap_or_default();
        records.sort_by_key(|(at_ms, _)| *at_ms);
        for equal in records.chunk_by(|a, b| a == b) {
            let (at_ms, value) = equal[0];
            let expected = log_copies(value as u64);
            if equal.len() != expected {
                let what =
                    format!("{by}: {} records of {value} at {at_ms}, written were {expected}", equal.len());
                oracle.violate(invariant::NOTHING_LOST, what);
            }
        }
        records.dedup();
        oracle.judge(begun, logs, from_ms, request.to_ms, &records, &by);
        let mut own = found.remove(&spans).unwrap_or_default();
        own.sort_by_key(|(at_ms, _)| *at_ms);
        oracle.judge(begun, spans, from_ms, request.to_ms, &own, &by);
        if let Some(series) = found.keys().next() {
            oracle.violate(invariant::NOTHING_INVENTED, format!("{by}: series {series} is not the client's"));
        }
        true
    }
}

async fn propose(node: SimNode, shard: ShardId, batch: Bytes) -> Result<Proposed, WriteError> {
    ShardWriter::propose(&*node, shard, batch, ATTEMPT).await
}

fn labels(number: SeriesNumber) -> Labels {
    let (client, series) = ((number / SERIES_PER_CLIENT).to_string(), number.to_string());
    Labels::from_pairs([("__name__", METRIC), (CLIENT_LABEL, &client), (SERIES_LABEL, &series)])
        .expect("names and values are short and distinct")
}
