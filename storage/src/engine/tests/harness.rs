//! A replica with a log of its own, driven by hand, and the shortest way to say what it should hold.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use protocol::batch::{Metadata, MetricType, SeriesRef, SubBatchBuilder, SubBatchOutcome};
use protocol::command::{CommandOutcome, encode_write};
use protocol::ids::{ClusterSecret, TenantId};

use super::super::*;
use crate::fs::mem::MemFs;
use crate::logs::tests::spans::span_batch_of;
use crate::logs::tests::{Encoded, batch_of, line, scan_of, stream};
use crate::manifest::PARTITION_MS;
use protocol::command::RetentionCut;
use protocol::labels::Labels;
use protocol::logs::{LogFilter, LogScan, RowSignal};
use protocol::spans::{Span, SpanEvent};

pub const SECRET: ClusterSecret = ClusterSecret([9; 32]);
pub const DIR: &str = "/data/shards/1";

pub type Series = BTreeMap<String, Vec<(i64, f64)>>;

pub struct Replica {
    pub fs: MemFs,
    pub store: ShardStore<MemFs>,
    /// Every command applied, in order: entry i is at index i + 1.
    pub log: Vec<Bytes>,
    pub time_ms: i64,
}

pub fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("s", name)]).expect("valid labels")
}

pub fn series(expected: &[(&str, &[(i64, f64)])]) -> Series {
    expected.iter().map(|(name, samples)| (labels(name).to_string(), samples.to_vec())).collect()
}

/// All samples of the default tenant.
pub fn read(snapshot: &StoreSnapshot) -> Series {
    let mut out = Series::new();
    let mut previous: Option<Labels> = None;
    snapshot
        .select(&TenantId::default(), &[], i64::MIN, i64::MAX, &mut |columns| {
            assert!(previous.as_ref().is_none_or(|p| p < columns.labels), "series come in label order");
            previous = Some(columns.labels.clone());
            assert!(columns.times.is_sorted_by(|a, b| a < b));
            let samples = columns.times.iter().copied().zip(columns.values.iter().copied()).collect();
            out.insert(columns.labels.to_string(), samples);
            ControlFlow::Continue(())
        })
        .expect("readable segments");
    out
}

/// All log records of the default tenant from a time on, then all its spans.
pub fn read_rows(snapshot: &StoreSnapshot, from_ms: i64) -> Vec<Encoded> {
    let scan = LogScan { start_ns: from_ms * 1_000_000, ..scan_of(LogFilter::All, false) };
    let of_signal = |signal| crate::logs::tests::read_rows(snapshot, signal, &TenantId::default(), &scan);
    RowSignal::ALL.into_iter().flat_map(of_signal).collect()
}

pub fn sub_batch(samples: &[(&str, i64, f64)]) -> Bytes {
    let tenant = TenantId::default();
    let mut builder = SubBatchBuilder::new(tenant.clone(), 0);
    let mut known = BTreeMap::<&str, SeriesRef>::new();
    for (name, time, value) in samples {
        let series = *known.entry(name).or_insert_with(|| {
            let labels = labels(name);
            builder.push_new_series(labels.series_id(&SECRET, &tenant), &labels)
        });
        builder.push_float(series, *time, *value, 0);
    }
    builder.finish()
}

impl Replica {
    pub fn new() -> Self {
        Self::with_options(ShardOptions::default())
    }

    pub fn with_options(options: ShardOptions) -> Self {
        let fs = MemFs::new(1).with_dir("/data");
        let store = open_with(&fs, options).expect("an empty directory opens");
        Self { fs, store, log: Vec::new(), time_ms: 0 }
    }

    fn header(&self) -> CommandHeader {
        CommandHeader { encoder_epoch: 1, cluster_time_ms: self.time_ms }
    }

    pub fn apply_bytes(&mut self, command: &[u8]) -> CommandOutcome {
        self.log.push(Bytes::copy_from_slice(command));
        apply_entry(&self.store, self.log.len() as u64, command)
    }

    pub fn apply(&mut self, body: CommandBody<'_>) -> CommandOutcome {
        let bytes = Command { header: self.header(), body }.encode();
        self.apply_bytes(&bytes)
    }

    pub fn write(&mut self, samples: &[(&str, i64, f64)]) -> SubBatchOutcome {
        let bytes = encode_write(self.header(), &[sub_batch(samples)]);
        match self.apply_bytes(&bytes) {
            CommandOutcome::Write(outcomes) => {
                SubBatchOutcome::decode(&mut &outcomes[0][..]).expect("an outcome")
            }
            other => panic!("a write gave {other:?}"),
        }
    }

    pub fn write_metadata(&mut self, family: &str, help: &str) {
        let mut builder = SubBatchBuilder::new(TenantId::default(), 0);
        builder.push_metadata(&Metadata { family, metric_type: MetricType::Counter, help, unit: "" });
        let bytes = encode_write(self.header(), &[builder.finish()]);
        self.apply_bytes(&bytes);
    }

    pub fn write_logs(&mut self, key: u64, records: &[(i64, &str)]) {
        let records: Vec<_> =
            records.iter().map(|(time, body)| (stream("a"), line(time * 1_000_000, *body))).collect();
        let bytes = encode_write(self.header(), &[batch_of(&TenantId::default(), key, &records)]);
        self.apply_bytes(&bytes);
    }

    /// Spans by trace, time and name.
    pub fn write_spans(&mut self, key: u64, spans: &[(u8, i64, &str)]) {
        let one = |(trace, time, name): &(u8, i64, &str)| Span {
            trace_id: [*trace; 16],
            span_id: (key + 1).to_be_bytes(),
            name: (*name).to_owned().into(),
            start_ns: time * 1_000_000,
            end_ns: time * 1_000_000 + 77,
            events: vec![SpanEvent { name: "event".into(), ..SpanEvent::default() }],
            ..Span::default()
        };
        let spans: Vec<_> = spans.iter().map(|span| (stream("a"), one(span))).collect();
        let bytes = encode_write(self.header(), &[span_batch_of(&TenantId::default(), key, &spans)]);
        self.apply_bytes(&bytes);
    }

    pub fn begin_flush(&mut self, new_generation: bool) {
        self.apply(CommandBody::BeginFlush { new_generation });
    }

    pub fn read(&self) -> Series {
        read(&self.store.snapshot())
    }

    /// Runs background jobs until none is due.
    pub fn run_jobs(&self) {
        run_jobs(&self.store);
    }

    /// Runs jobs and installs their results until nothing is outstanding.
    pub fn settle(&mut self) {
        let policy =
            FlushPolicy { memtable_bytes: usize::MAX, max_age_ms: i64::MAX, ..FlushPolicy::default() };
        self.settle_with(&FlushPolicy { merge_factor: usize::MAX, ..policy });
    }

    /// Does what the policy says until nothing is due.
    pub fn settle_with(&mut self, policy: &FlushPolicy) {
        for _ in 0..10_000 {
            self.run_jobs();
            match self.store.propose(policy, self.time_ms) {
                Some(command) => {
                    self.apply_bytes(&command.encode());
                }
                None => return assert!(!self.store.is_busy(), "nothing is due, yet the store is busy"),
            }
        }
        panic!("the leader never stops proposing");
    }
}

/// A life with every kind of operation in it, for metrics, logs and spans.
pub fn eventful() -> Replica {
    let mut replica = Replica::new();
    let policy = FlushPolicy {
        memtable_bytes: usize::MAX,
        merge_factor: 2,
        max_age_ms: i64::MAX,
        ..FlushPolicy::default()
    };
    for round in 0..4i64 {
        let day = PARTITION_MS * (round % 2);
        replica.write(&[
            ("a", day + round, 1.0),
            ("b", day + 10, round as f64),
            ("c", PARTITION_MS * round, 3.0),
        ]);
        replica.write_metadata("m", &format!("help of round {round}"));
        let key = round as u64 * 2;
        replica.write_logs(
            key,
            &[(day + round, "user 1 came"), (PARTITION_MS * round, &format!("round {round}"))],
        );
        replica.write_spans(100 + key, &[(1, day + round, "GET /"), (2, PARTITION_MS * round, "PUT /")]);
        replica.begin_flush(round == 2);
        replica.write(&[("a", day + 100 + round, 2.0), (&format!("new{round}"), day, 1.0)]);
        replica.write_logs(key + 1, &[(day + 50, &format!("user {round} left"))]);
        replica.write_spans(101 + key, &[(1, day + 60, &format!("late {round}"))]);
        if round == 1 {
            replica.delete("b", 0, 20);
            // What is written at this moment in a later round stays.
            replica.delete_logs(day + 50, day + 50);
        }
        replica.settle_with(&policy);
    }
    let cuts = [0, 1, 2].map(|signal| RetentionCut { signal, class: 0, before_ms: PARTITION_MS });
    replica.apply(CommandBody::DropPartitions(cuts.to_vec()));
    replica.write(&[("a", PARTITION_MS * 9, 9.0)]);
    replica.settle_with(&policy);
    replica
}

pub fn open(fs: &MemFs) -> Result<ShardStore<MemFs>, StorageError> {
    open_with(fs, ShardOptions::default())
}

pub fn open_with(fs: &MemFs, options: ShardOptions) -> Result<ShardStore<MemFs>, StorageError> {
    ShardStore::open(fs.clone(), Path::new(DIR), ShardId(1), options, LogIndex(0))
}

pub fn apply_entry(store: &ShardStore<MemFs>, index: u64, command: &[u8]) -> CommandOutcome {
    let at = LogPosition { index: LogIndex(index), log_id: &index.to_le_bytes() };
    CommandOutcome::decode(&store.apply(at, command)).expect("an outcome")
}

pub fn run_jobs(store: &ShardStore<MemFs>) {
    while let Some(job) = store.next_job() {
        store.finish_job(job.run()).expect("no faults are planned");
    }
}
