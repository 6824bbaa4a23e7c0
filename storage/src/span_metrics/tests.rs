//! What is counted is what a count over all spans gives, whatever came twice, was flushed, crashed or copied.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use protocol::command::{Command, CommandBody, CommandHeader, CommandOutcome, encode_write};
use protocol::ids::{LogIndex, ShardId};
use protocol::logs::LogStream;
use protocol::spans::Span;

use super::*;
use crate::engine::{FlushPolicy, LogPosition, ShardOptions, ShardStore, SnapshotManifest};
use crate::fs::mem::{CrashMode, MemFs};
use crate::logs::tests::spans::span_batch_of;
use crate::logs::tests::stream;

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a valid name")
}

fn span(trace: u8, id: u64, kind: SpanKind, took_ns: i64) -> Span<'static> {
    Span {
        trace_id: [trace; 16],
        span_id: id.to_be_bytes(),
        name: "GET /item".into(),
        kind,
        start_ns: 1_000,
        end_ns: 1_000 + took_ns,
        ..Span::default()
    }
}

fn take(metrics: &mut SpanMetrics, index: u64, now_ms: i64, spans: &[(LogStream<'_>, Span<'_>)]) {
    let batch = LogBatch::decode(&span_batch_of(&tenant("a"), index, spans)).expect("own bytes");
    metrics.take(index, now_ms, &batch);
}

fn edges(metrics: &SpanMetrics) -> Vec<(String, u64, u64)> {
    let name = |key: &EdgeKey| format!("{} {} {:?}", key.client, key.server, key.connection);
    metrics.edges().map(|(key, edge)| (name(key), edge.client.count(), edge.failed)).collect()
}

#[test]
fn halves_of_a_call_meet_in_any_order_and_not_for_ever() {
    let mut metrics = SpanMetrics::default();
    let client = span(1, 1, SpanKind::Client, 300 * MS as i64);
    let server = Span { parent_id: client.span_id, ..span(1, 2, SpanKind::Server, 150 * MS as i64) };
    let failed = |span: &Span<'static>| Span { status: SpanStatus::Error, ..span.clone() };
    take(&mut metrics, 1, 0, &[(stream("shop"), client.clone())]);
    assert!(edges(&metrics).is_empty());
    take(&mut metrics, 2, WAIT_MS - 1, &[(stream("stock"), failed(&server))]);
    assert_eq!(edges(&metrics), [("shop stock Direct".to_owned(), 1, 1)]);
    let (_, edge) = metrics.edges().next().expect("one");
    assert_eq!((edge.client.sum_ns, edge.server.sum_ns), (300_000_000, 150_000_000));
    assert_eq!((edge.client.buckets[2], edge.server.buckets[1]), (1, 1), "up to 400 and 200 ms");
    // The other way round, but too late.
    take(&mut metrics, 3, WAIT_MS, &[(stream("stock"), server.clone())]);
    take(&mut metrics, 4, 2 * WAIT_MS, &[(stream("shop"), client.clone())]);
    assert_eq!((edges(&metrics)[0].1, metrics.unpaired()), (1, 1));
    // A queue, a database, a root and work inside.
    let put = span(2, 1, SpanKind::Producer, 1);
    let taken = Span { parent_id: put.span_id, ..span(2, 2, SpanKind::Consumer, 1) };
    let system = ("db.system".into(), LogValue::String("redis".into()));
    let asks = Span { attributes: vec![system], ..span(2, 3, SpanKind::Client, 1) };
    let root = span(2, 4, SpanKind::Server, 1);
    let inner = Span { parent_id: put.span_id, ..span(2, 5, SpanKind::Internal, 1) };
    let all = [taken, put, asks, root, inner].map(|span| (stream("shop"), span));
    take(&mut metrics, 5, 2 * WAIT_MS, &all);
    let expected =
        [("shop redis Database", 1, 0), ("shop shop Messaging", 1, 0), ("shop stock Direct", 1, 1)];
    assert_eq!(edges(&metrics), expected.map(|(name, count, failed)| (name.to_owned(), count, failed)));
    let calls: u64 = metrics.series().map(|(_, durations)| durations.count()).sum();
    assert_eq!((calls, metrics.left_out()), (9, 0));
}

#[test]
fn what_there_is_no_room_for_counts_together() {
    let mut metrics = SpanMetrics::default();
    let long = "é".repeat(MAX_TEXT);
    for number in 0..MAX_SERIES as u64 + 50 {
        let name = format!("{number} {long}");
        take(
            &mut metrics,
            number + 1,
            0,
            &[(stream("a"), Span { name: name.into(), ..span(1, 1, SpanKind::Internal, 5) })],
        );
    }
    assert_eq!(metrics.series().count(), MAX_SERIES + 1);
    assert!(metrics.series().all(|(key, _)| key.name.len() <= MAX_TEXT));
    let overflow: Vec<_> = metrics.series().filter(|(key, _)| key.kind == OVERFLOW).collect();
    assert_eq!((overflow.len(), overflow[0].1.count()), (1, 50));
    let again = SpanMetrics::decode(&metrics.encode()).expect("own bytes");
    assert_eq!(again.encode(), metrics.encode());
}

#[test]
fn a_file_is_read_as_it_was_and_damage_is_found() {
    let mut metrics = SpanMetrics::default();
    let waiting =
        [span(1, 1, SpanKind::Client, 5), span(2, 1, SpanKind::Producer, 7)].map(|s| (stream("a"), s));
    take(&mut metrics, 7, 10, &waiting);
    let bytes = metrics.encode();
    let mut read = SpanMetrics::decode(&bytes).expect("own bytes");
    assert_eq!((read.encode(), read.applied()), (bytes.clone(), 7));
    let answer = Span { parent_id: 1u64.to_be_bytes(), ..span(1, 2, SpanKind::Server, 5) };
    for metrics in [&mut metrics, &mut read] {
        take(metrics, 8, 20, &[(stream("b"), answer.clone())]);
        assert_eq!(edges(metrics), [("a b Direct".to_owned(), 1, 0)]);
    }
    assert_eq!(read.encode(), metrics.encode(), "halves that waited are taken in the same way");
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(SpanMetrics::decode(&damaged).is_err(), "byte {at}");
        assert!(SpanMetrics::decode(&bytes[..at]).is_err());
    }
    let counters = SpanMetrics::decode(&metrics.encode_counters()).expect("own bytes");
    let mut sum = SpanMetrics::default();
    sum.merge(&counters);
    sum.merge(&counters);
    assert_eq!(edges(&sum), [("a b Direct".to_owned(), 2, 0)]);
}

#[test]
fn the_slowest_span_of_the_latest_window_stands_for_its_series() {
    let mut metrics = SpanMetrics::default();
    let took = |trace: u8, ns: i64| (stream("a"), span(trace, u64::from(trace), SpanKind::Server, ns));
    let shown = |metrics: &SpanMetrics| {
        let (key, _) = metrics.series().next().expect("one");
        metrics.exemplar(key).map(|shown| (shown.trace_id[0], shown.took_ns, shown.end_ns))
    };
    take(&mut metrics, 1, 0, &[took(1, 5), took(2, 9), took(3, 7)]);
    assert_eq!(shown(&metrics), Some((2, 9, 1_009)));
    take(&mut metrics, 2, EXEMPLAR_MS - 1, &[took(4, 9)]);
    assert_eq!(shown(&metrics), Some((2, 9, 1_009)), "the first of equals stays");
    let first = metrics.clone();
    take(&mut metrics, 3, EXEMPLAR_MS, &[took(5, 1)]);
    assert_eq!(shown(&metrics), Some((5, 1, 1_001)), "another window, another exemplar");
    let again = SpanMetrics::decode(&metrics.encode()).expect("own bytes");
    assert_eq!((shown(&again), again.encode()), (shown(&metrics), metrics.encode()));
    for (mut one, other) in [(first.clone(), metrics.clone()), (metrics, first)] {
        one.merge(&other);
        assert_eq!(shown(&one), Some((5, 1, 1_001)));
    }
}

#[test]
fn files_of_before_there_were_exemplars_are_read() {
    let mut metrics = SpanMetrics::default();
    take(&mut metrics, 1, 0, &[(stream("a"), span(1, 1, SpanKind::Server, 5))]);
    metrics.series.values_mut().for_each(|series| series.exemplar = None);
    let mut bytes = metrics.encode();
    // Without the number of exemplars, which is none.
    bytes.truncate(bytes.len() - 5);
    bytes[7] = 1;
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    let read = SpanMetrics::decode(&bytes).expect("the first version");
    assert_eq!(read.encode(), metrics.encode());
}

const DIR: &str = "/data/shards/1";

fn open(fs: &MemFs) -> ShardStore<MemFs> {
    ShardStore::open(fs.clone(), Path::new(DIR), ShardId(1), ShardOptions::default(), LogIndex(0))
        .expect("a store that opens")
}

fn apply(store: &ShardStore<MemFs>, index: u64, command: &[u8]) -> CommandOutcome {
    let at = LogPosition { index: LogIndex(index), log_id: &index.to_le_bytes() };
    CommandOutcome::decode(&store.apply(at, command)).expect("an outcome")
}

fn counted(store: &ShardStore<MemFs>) -> SpanMetrics {
    SpanMetrics::decode(&store.snapshot().span_metrics()).expect("own bytes")
}

#[derive(Clone, Debug)]
enum Step {
    /// Spans of a batch; a batch that was sent before by its number.
    Write(Vec<(u8, SpanKind, u8, i64, bool)>),
    Again(usize),
    Flush,
    Jobs,
    Restart(bool),
    Copy,
}

fn any_step() -> impl Strategy<Value = Step> {
    let kind = (0u8..6).prop_map(|kind| SpanKind::of_number(kind).expect("one of six"));
    let spans = prop::collection::vec((1u8..5, kind, 0u8..3, 0i64..9_000_000_000, any::<bool>()), 1..12);
    prop_oneof![
        5 => spans.prop_map(Step::Write),
        3 => any::<prop::sample::Index>().prop_map(|at| Step::Again(at.index(1000))),
        2 => Just(Step::Flush),
        3 => Just(Step::Jobs),
        2 => any::<bool>().prop_map(Step::Restart),
        1 => Just(Step::Copy),
    ]
}

type Counts = BTreeMap<(String, String, u8, u8), (u64, u128)>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_history_counts_as_its_spans_do(steps in prop::collection::vec(any_step(), 1..30)) {
        let header = CommandHeader { encoder_epoch: 1, cluster_time_ms: 5 };
        let (mut fs, mut log, mut batches) = (MemFs::new(1), Vec::<Bytes>::new(), Vec::<Bytes>::new());
        let mut store = open(&fs);
        let mut all: Vec<(String, Span<'static>)> = Vec::new();
        for step in steps {
            match step {
                Step::Write(spans) => {
                    let mut own = Vec::new();
                    for (trace, kind, service, took, failed) in spans {
                        let id = all.len() as u64 + 1;
                        // Servers answer the client's span of a lower id, if there is one and nobody has yet.
                        let is_client = |kind| matches!(kind, SpanKind::Client | SpanKind::Producer);
                        let asked = all.iter().map(|(_, span)| span).find(|span| {
                            span.trace_id == [trace; 16]
                                && is_client(span.kind)
                                && !all.iter().any(|(_, other)| other.parent_id == span.span_id)
                        });
                        let parent_id = match kind {
                            SpanKind::Server | SpanKind::Consumer => asked.map_or([0; 8], |span| span.span_id),
                            _ => [0; 8],
                        };
                        let status = if failed { SpanStatus::Error } else { SpanStatus::Unset };
                        let span = Span {
                            parent_id,
                            status,
                            name: format!("op {}", id % 3).into(),
                            ..span(trace, id, kind, took)
                        };
                        own.push((stream(&service.to_string()), span.clone()));
                        all.push((service.to_string(), span));
                    }
                    // Of a batch the later ones come first: a server's half waits for its client's.
                    own.reverse();
                    let batch = span_batch_of(&tenant("a"), batches.len() as u64, &own);
                    batches.push(batch.clone());
                    log.push(encode_write(header, &[batch]));
                    apply(&store, log.len() as u64, log.last().expect("just pushed"));
                }
                Step::Again(_) if batches.is_empty() => {}
                Step::Again(at) => {
                    log.push(encode_write(header, &[batches[at % batches.len()].clone()]));
                    apply(&store, log.len() as u64, log.last().expect("just pushed"));
                }
                Step::Flush => {
                    let body = CommandBody::BeginFlush { new_generation: false };
                    log.push(Command { header, body }.encode());
                    apply(&store, log.len() as u64, log.last().expect("just pushed"));
                }
                Step::Jobs => loop {
                    while let Some(job) = store.next_job() {
                        store.finish_job(job.run()).expect("no faults are planned");
                    }
                    let policy = FlushPolicy { memtable_bytes: usize::MAX, max_age_ms: i64::MAX, ..FlushPolicy::default() };
                    let Some(command) = store.propose(&policy, 5) else { break };
                    log.push(command.encode());
                    apply(&store, log.len() as u64, log.last().expect("just pushed"));
                },
                Step::Restart(crash) => {
                    if crash {
                        fs = fs.crash(CrashMode::DropUnsynced);
                    }
                    store = open(&fs);
                    let flushed = store.flushed().map_or(0, |position| position.index.0);
                    for (at, command) in log.iter().enumerate().skip(flushed as usize) {
                        apply(&store, at as u64 + 1, command);
                    }
                }
                Step::Copy => {
                    let other_fs = MemFs::new(2);
                    let other = open(&other_fs);
                    let snapshot = store.manifest_for_snapshot();
                    let snapshot = SnapshotManifest::decode(snapshot.bytes().clone()).expect("own bytes");
                    for file in other.missing(&snapshot) {
                        let bytes = store.read_file_chunk(&file, 0, usize::MAX).expect("a pinned file");
                        other.receive_file(&file, 0, &bytes).expect("right bytes");
                    }
                    other.install_snapshot(&snapshot).expect("all files are here");
                    for (at, command) in log.iter().enumerate().skip(other.applied_index().0 as usize) {
                        apply(&other, at as u64 + 1, command);
                    }
                    (fs, store) = (other_fs, other);
                }
            }
        }
        let mut calls = Counts::new();
        let mut pairs: BTreeMap<(String, String), (u64, u128)> = BTreeMap::new();
        for (service, span) in &all {
            let key = (service.clone(), span.name.to_string(), span.kind as u8, span.status as u8);
            let sum = calls.entry(key).or_default();
            *sum = (sum.0 + 1, sum.1 + u128::from(span.duration_ns()));
            let parent = all.iter().find(|(_, other)| other.span_id == span.parent_id);
            if let Some((client, parent)) = parent {
                let sum = pairs.entry((client.clone(), service.clone())).or_default();
                *sum = (sum.0 + 1, sum.1 + u128::from(parent.duration_ns()));
            }
        }
        let metrics = counted(&store);
        let mut found = Counts::new();
        for (key, durations) in metrics.series() {
            let key = (key.service.to_string(), key.name.to_string(), key.kind, key.status);
            found.insert(key, (durations.count(), durations.sum_ns));
        }
        prop_assert_eq!(found, calls);
        let mut found: BTreeMap<(String, String), (u64, u128)> = BTreeMap::new();
        for (key, edge) in metrics.edges() {
            let sum = found.entry((key.client.to_string(), key.server.to_string())).or_default();
            *sum = (sum.0 + edge.client.count(), sum.1 + edge.client.sum_ns);
        }
        prop_assert_eq!(found, pairs);
    }
}
