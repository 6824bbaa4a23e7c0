//! Logs of a store: whatever is appended, flushed, merged and replayed, what is read is what was pushed, in order, and
//! every filter says what the plain evaluation says.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use protocol::command::{CommandBody, CommandHeader, CommandOutcome, encode_write};
use protocol::ids::{LogIndex, ShardId, TenantId};
use protocol::logs::batch::{BatchKey, LogBatchBuilder, LogBatchOutcome};
use protocol::logs::block::Want;
use protocol::logs::codec::{decode_record, decode_stream, encode_record, encode_stream};
use protocol::logs::filter::{Bound, LogRange};
use protocol::logs::matching::CompiledFilter;
use protocol::logs::{
    FieldValues, LogColumns, LogField, LogFilter, LogRecord, LogScan, LogSink, LogStream, LogTest, LogValue,
    RowSignal,
};
use protocol::retention::{Ages, Retention};

use super::scan::{LogCounting, LogReader};
use super::window::WINDOW_MS;
use crate::engine::{FlushPolicy, LogPosition, ShardOptions, ShardStore};
use crate::fs::mem::{CrashMode, MemFs};
use crate::manifest::PARTITION_MS;
use crate::scan::StoreSnapshot;

pub(crate) mod spans;

const DIR: &str = "/data/shards/1";
const DAY_NS: i64 = PARTITION_MS * 1_000_000;

fn open(fs: &MemFs) -> ShardStore<MemFs> {
    let options = ShardOptions::default();
    ShardStore::open(fs.clone(), Path::new(DIR), ShardId(1), options, LogIndex(0))
        .expect("a store that opens")
}

pub(crate) fn stream(service: &str) -> LogStream<'static> {
    let name = LogValue::String(service.to_owned().into());
    LogStream { resource: vec![("service.name".into(), name)], ..LogStream::default() }
}

fn text(text: impl Into<String>) -> LogValue<'static> {
    LogValue::String(text.into().into())
}

pub(crate) fn line(time_ns: i64, body: impl Into<String>) -> LogRecord<'static> {
    LogRecord { time_ns, body: text(body), ..LogRecord::default() }
}

pub(crate) fn batch_of(tenant: &TenantId, key: u64, records: &[(LogStream<'_>, LogRecord<'_>)]) -> Bytes {
    let mut builder = LogBatchBuilder::new();
    for (stream, record) in records {
        builder.stream(stream);
        builder.record(record);
    }
    let mut name = [0; 16];
    name[..8].copy_from_slice(&key.to_le_bytes());
    let parts = builder.finish(tenant, BatchKey(name)).expect("short records");
    assert_eq!(parts.len(), 1);
    parts.into_iter().next().expect("one part").1
}

/// A replica with a log of its own.
struct Replica {
    fs: MemFs,
    store: ShardStore<MemFs>,
    log: Vec<Bytes>,
    time_ms: i64,
}

impl Replica {
    fn new() -> Self {
        let fs = MemFs::new(1).with_dir("/data");
        Self { store: open(&fs), fs, log: Vec::new(), time_ms: 0 }
    }

    /// Old and new epochs by turns, so that segments of all layouts are read and merged beside each other.
    fn epoch(&self) -> u16 {
        if self.log.len().is_multiple_of(2) { protocol::epoch::OLDEST } else { protocol::epoch::NEWEST }
    }

    fn apply_at(store: &ShardStore<MemFs>, index: u64, command: &[u8]) -> CommandOutcome {
        let at = LogPosition { index: LogIndex(index), log_id: &index.to_le_bytes() };
        CommandOutcome::decode(&store.apply(at, command)).expect("an outcome")
    }

    fn apply(&mut self, command: Bytes) -> CommandOutcome {
        self.log.push(command.clone());
        Self::apply_at(&self.store, self.log.len() as u64, &command)
    }

    fn write_bytes(&mut self, batch: Bytes) -> LogBatchOutcome {
        let header = CommandHeader { encoder_epoch: 1, cluster_time_ms: self.time_ms };
        match self.apply(encode_write(header, &[batch])) {
            CommandOutcome::Write(outcomes) => LogBatchOutcome::decode(&outcomes[0]).expect("an outcome"),
            other => panic!("a write gave {other:?}"),
        }
    }

    fn write(&mut self, key: u64, records: &[(LogStream<'_>, LogRecord<'_>)]) -> LogBatchOutcome {
        self.write_bytes(batch_of(&TenantId::default(), key, records))
    }

    /// Writes and flushes in an old or the newest epoch.
    fn write_and_flush(&mut self, epoch: u16, records: &[(LogStream<'_>, LogRecord<'_>)]) {
        let (first, rest) = records.split_at(records.len() / 2);
        self.write(1, first);
        self.write(2, rest);
        if self.epoch() != epoch {
            self.write(1, first);
        }
        assert_eq!(self.epoch(), epoch);
        self.flush();
    }

    fn flush(&mut self) {
        let header = CommandHeader { encoder_epoch: self.epoch(), cluster_time_ms: self.time_ms };
        let body = CommandBody::BeginFlush { new_generation: false };
        self.apply(protocol::command::Command { header, body }.encode());
    }

    fn delete(&mut self, tenant: &TenantId, filter: LogFilter, (start_ns, end_ns): (i64, i64)) {
        let header = CommandHeader { encoder_epoch: 1, cluster_time_ms: self.time_ms };
        let body = CommandBody::DeleteLogs { tenant: tenant.clone(), filter, start_ns, end_ns };
        let outcome = self.apply(protocol::command::Command { header, body }.encode());
        assert_eq!(outcome, CommandOutcome::Done);
    }

    fn run_jobs(store: &ShardStore<MemFs>) {
        while let Some(job) = store.next_job() {
            store.finish_job(job.run()).expect("no faults are planned");
        }
    }

    fn settle(&mut self, policy: &FlushPolicy) {
        for _ in 0..1000 {
            Self::run_jobs(&self.store);
            match self.store.propose(policy, self.time_ms) {
                Some(command) => drop(self.apply(command.encode())),
                None => return,
            }
        }
        panic!("the leader never stops proposing");
    }

    /// Opens the store anew, after a crash if asked, and applies the log behind what was durable.
    fn restart(&mut self, crash: bool) {
        if crash {
            self.fs = self.fs.crash(CrashMode::DropUnsynced);
        }
        self.store = open(&self.fs);
        let flushed = self.store.flushed().map_or(0, |position| position.index.0);
        for (at, command) in self.log.iter().enumerate().skip(flushed as usize) {
            Self::apply_at(&self.store, at as u64 + 1, command);
        }
    }
}

/// No flush or merge unless asked for.
fn idle() -> FlushPolicy {
    FlushPolicy {
        memtable_bytes: usize::MAX,
        max_age_ms: i64::MAX,
        merge_factor: usize::MAX,
        ..Default::default()
    }
}

fn rows_kept(logs: Option<i64>, spans: Option<i64>) -> Arc<Retention> {
    Arc::new(Retention::of_all(Ages { logs, spans, ..Ages::default() }))
}

pub(crate) type Encoded = (Vec<u8>, Vec<u8>);

fn encoded(stream: &LogStream<'_>, record: &LogRecord<'_>) -> Encoded {
    let (mut of_stream, mut of_record) = (Vec::new(), Vec::new());
    encode_stream(stream, &mut of_stream);
    encode_record(record, &mut of_record);
    (of_stream, of_record)
}

pub(crate) fn scan_of(filter: LogFilter, newest_first: bool) -> LogScan {
    LogScan {
        start_ns: i64::MIN,
        end_ns: i64::MAX,
        filter,
        newest_first,
        columns: LogColumns::All,
        expected: usize::MAX,
    }
}

pub(crate) fn read(snapshot: &StoreSnapshot, tenant: &TenantId, scan: &LogScan) -> Vec<Encoded> {
    read_rows(snapshot, RowSignal::Logs, tenant, scan)
}

pub(crate) fn read_rows(
    snapshot: &StoreSnapshot,
    signal: RowSignal,
    tenant: &TenantId,
    scan: &LogScan,
) -> Vec<Encoded> {
    let mut out = Vec::new();
    let reader = LogReader { signal, tenant, should_stop: &|| false };
    let visit = &mut |stream: &LogStream<'_>, record: &LogRecord<'_>| {
        out.push(encoded(stream, record));
        ControlFlow::Continue(())
    };
    snapshot.log_records(reader, scan, visit).expect("readable logs");
    out
}

/// What was written, in the order of the log.
#[derive(Default)]
struct Model(Vec<(usize, Encoded, i64)>);

const TENANTS: [&str; 2] = ["default", "other"];

fn tenant(number: usize) -> TenantId {
    TenantId::new(TENANTS[number]).expect("a valid name")
}

impl Model {
    fn delete(&mut self, of: usize, filter: &LogFilter, range: std::ops::RangeInclusive<i64>) {
        let filter = CompiledFilter::new(filter).expect("a filter that compiles");
        self.0.retain(|(tenant, (stream, record), time)| {
            let stream = decode_stream(stream).expect("a stream");
            let record = decode_record(&mut &record[..]).expect("a record");
            *tenant != of || !range.contains(time) || !filter.matches(&stream, &record)
        });
    }

    fn expected(&self, tenant: usize, scan: &LogScan) -> Vec<Encoded> {
        let filter = CompiledFilter::new(&scan.filter).expect("a filter that compiles");
        let range = scan.start_ns..=scan.end_ns;
        let mut found: Vec<_> = self.0.iter().filter(|r| r.0 == tenant && range.contains(&r.2)).collect();
        found.sort_by_key(|record| record.2);
        let mut found: Vec<Encoded> = found
            .into_iter()
            .filter(|(_, (stream, record), _)| {
                let stream = decode_stream(stream).expect("a stream");
                filter.matches(&stream, &decode_record(&mut &record[..]).expect("a record"))
            })
            .map(|record| record.1.clone())
            .collect();
        if scan.newest_first {
            found.reverse();
        }
        found
    }

    fn check(&self, snapshot: &StoreSnapshot, scan: &LogScan, what: &str) {
        for number in 0..TENANTS.len() {
            let expected = self.expected(number, scan);
            // However many the reader says that it expects, it gets all that it takes.
            for few in [scan.expected, 1, 3] {
                let scan = LogScan { expected: few, ..scan.clone() };
                let found = read(snapshot, &tenant(number), &scan);
                assert!(found == expected, "{what}: {} of {} records, {scan:?}", found.len(), expected.len());
            }
        }
    }

    fn check_counts(&self, snapshot: &StoreSnapshot, scan: &LogScan, bucket_ns: i64, by: &[LogField]) {
        for number in 0..TENANTS.len() {
            let tenant = tenant(number);
            let counting = LogCounting {
                start_ns: scan.start_ns,
                end_ns: scan.end_ns,
                filter: &scan.filter,
                bucket_ns,
                by,
            };
            let mut found: BTreeMap<(u64, Vec<String>), u64> = BTreeMap::new();
            let visit = &mut |bucket: u64, labels: &[&str], count: u64| {
                let labels = labels.iter().map(|label| (*label).to_owned()).collect();
                *found.entry((bucket, labels)).or_default() += count;
                ControlFlow::Continue(())
            };
            let reader = LogReader { signal: RowSignal::Logs, tenant: &tenant, should_stop: &|| false };
            snapshot.log_counts(reader, &counting, visit).expect("readable logs");
            let mut expected: BTreeMap<(u64, Vec<String>), u64> = BTreeMap::new();
            for (stream, record) in self.expected(number, scan) {
                let stream = decode_stream(&stream).expect("a stream");
                let record = decode_record(&mut &record[..]).expect("a record");
                let passed = i128::from(record.effective_ns()) - i128::from(scan.start_ns);
                let bucket = if bucket_ns == 0 { 0 } else { (passed / i128::from(bucket_ns)) as u64 };
                let labels = by.iter().map(|field| field.first_text(&stream, &record).unwrap_or_default());
                *expected.entry((bucket, labels.collect())).or_default() += 1;
            }
            assert_eq!(found, expected, "{counting:?}");
        }
    }

    fn check_values(&self, snapshot: &StoreSnapshot, scan: &LogScan, field: &LogField) {
        for number in 0..TENANTS.len() {
            let tenant = tenant(number);
            let mut found: BTreeMap<String, u64> = BTreeMap::new();
            let mut add = |text: &str, count: u64| *found.entry(text.to_owned()).or_default() += count;
            let visit = &mut |values: FieldValues<'_>| {
                match values {
                    FieldValues::Ints(ints) => {
                        ints.iter().for_each(|int| add(&LogValue::Int(*int).text(), 1))
                    }
                    FieldValues::Floats(floats) => {
                        floats.iter().for_each(|float| add(&LogValue::Float(*float).text(), 1));
                    }
                    FieldValues::Text(text, count) => add(text, count),
                    FieldValues::Missing(count) => add("", count),
                }
                ControlFlow::Continue(())
            };
            let reader = LogReader { signal: RowSignal::Logs, tenant: &tenant, should_stop: &|| false };
            let range = (scan.start_ns, scan.end_ns);
            snapshot.log_values(reader, range, &scan.filter, field, visit).expect("readable logs");
            let mut expected: BTreeMap<String, u64> = BTreeMap::new();
            for (stream, record) in self.expected(number, scan) {
                let stream = decode_stream(&stream).expect("a stream");
                let record = decode_record(&mut &record[..]).expect("a record");
                *expected.entry(field.first_text(&stream, &record).unwrap_or_default()).or_default() += 1;
            }
            assert_eq!(found, expected, "values of {field:?}, {scan:?}");
        }
    }
}

#[test]
fn records_are_there_at_once_and_after_each_step() {
    let mut replica = Replica::new();
    let records: Vec<_> =
        (0..50).map(|i| (stream("a"), line(i * 7 % 11, format!("user {i} came")))).collect();
    assert_eq!(replica.write(1, &records), LogBatchOutcome::Applied { records: 50 });
    let mut model = Model::default();
    model.0.extend(records.iter().map(|(s, r)| (0, encoded(s, r), r.effective_ns())));
    let scans = [scan_of(LogFilter::All, false), scan_of(LogFilter::All, true)];
    let check = |replica: &Replica, what: &str| {
        scans.iter().for_each(|scan| model.check(&replica.store.snapshot(), scan, what));
    };
    check(&replica, "memtable");
    replica.flush();
    check(&replica, "frozen");
    Replica::run_jobs(&replica.store);
    check(&replica, "flushed, not installed");
    replica.settle(&idle());
    check(&replica, "segment");
    assert_eq!(replica.store.stats().segment_records, 50);
    replica.restart(false);
    check(&replica, "restarted");
}

#[test]
fn a_batch_that_comes_again_changes_nothing_and_repeats_inside_of_one_stay() {
    let mut replica = Replica::new();
    let twice = [(stream("a"), line(1, "same")), (stream("a"), line(1, "same"))];
    assert_eq!(replica.write(1, &twice), LogBatchOutcome::Applied { records: 2 });
    assert_eq!(replica.write(1, &twice), LogBatchOutcome::Duplicate { records: 2 });
    assert_eq!(replica.write(2, &twice), LogBatchOutcome::Applied { records: 2 }, "another request");
    replica.flush();
    replica.settle(&idle());
    assert_eq!(
        replica.write(1, &twice),
        LogBatchOutcome::Duplicate { records: 2 },
        "the window outlives the memtable"
    );
    replica.restart(true);
    assert_eq!(replica.write(2, &twice), LogBatchOutcome::Duplicate { records: 2 }, "and the process");
    let scan = scan_of(LogFilter::All, false);
    assert_eq!(read(&replica.store.snapshot(), &TenantId::default(), &scan).len(), 4);
    replica.time_ms = 10 * WINDOW_MS;
    assert_eq!(
        replica.write(1, &twice),
        LogBatchOutcome::Duplicate { records: 2 },
        "a clock alone ends nothing"
    );
}

#[test]
fn deletes_hide_what_was_there_and_travel_with_a_snapshot() {
    let mut replica = Replica::new();
    let refused = LogFilter::Field(LogField::Body, LogTest::Regex("(".to_owned()));
    let header = CommandHeader { encoder_epoch: 1, cluster_time_ms: 0 };
    let (tenant, end_ns) = (TenantId::default(), i64::MAX);
    let body = CommandBody::DeleteLogs { tenant: tenant.clone(), filter: refused, start_ns: 0, end_ns };
    let outcome = replica.apply(protocol::command::Command { header, body }.encode());
    assert!(matches!(outcome, CommandOutcome::Rejected(_)), "{outcome:?}");

    let records: Vec<_> = (0..100).map(|i| (stream("a"), line(i, format!("user {} came", i % 10)))).collect();
    replica.write(1, &records);
    let phrase = LogTest::Phrase { text: "user 3".to_owned(), ignore_case: false };
    replica.delete(&tenant, LogFilter::Field(LogField::Body, phrase), (0, 49));
    replica.write(2, &records);
    let count =
        |store: &ShardStore<MemFs>| read(&store.snapshot(), &tenant, &scan_of(LogFilter::All, true)).len();
    assert_eq!(count(&replica.store), 195, "of the first batch, up to 49");
    replica.settle(&FlushPolicy { force_flush: true, ..idle() });
    assert_eq!((count(&replica.store), replica.store.stats().tombstones), (195, 1));

    let snapshot = replica.store.manifest_for_snapshot();
    let other = open(&MemFs::new(2).with_dir("/data"));
    let received = crate::engine::SnapshotManifest::decode(snapshot.bytes().clone()).expect("own bytes");
    for file in other.missing(&received) {
        let bytes = replica.store.read_file_chunk(&file, 0, usize::MAX).expect("a file of the snapshot");
        other.receive_file(&file, 0, &bytes).expect("room");
    }
    other.install_snapshot(&received).expect("all files are here");
    assert_eq!((other.digest(), count(&other)), (replica.store.digest(), 195));

    // All of a segment may go.
    replica.delete(&tenant, LogFilter::All, (0, 1000));
    assert_eq!(count(&replica.store), 0);
    replica.settle(&FlushPolicy { clean_tombstones: true, ..idle() });
    assert_eq!((replica.store.stats().tombstones, replica.store.stats().segment_records), (0, 0));
    replica.restart(true);
    assert_eq!(count(&replica.store), 0);
}

#[test]
fn the_window_travels_with_a_snapshot() {
    let mut replica = Replica::new();
    replica.write(7, &[(stream("a"), line(1, "x"))]);
    replica.flush();
    replica.settle(&idle());
    let snapshot = replica.store.manifest_for_snapshot();
    let other_fs = MemFs::new(2).with_dir("/data");
    let other = open(&other_fs);
    let received = crate::engine::SnapshotManifest::decode(snapshot.bytes().clone()).expect("own bytes");
    for file in other.missing(&received) {
        let bytes = replica.store.read_file_chunk(&file, 0, usize::MAX).expect("a file of the snapshot");
        assert_eq!(other.receive_file(&file, 0, &bytes).expect("room"), file.len_bytes);
    }
    other.install_snapshot(&received).expect("all files are here");
    assert_eq!(other.digest(), replica.store.digest());
    let index = other.applied_index().0 + 1;
    let header = CommandHeader { encoder_epoch: 1, cluster_time_ms: 1 };
    let again = batch_of(&TenantId::default(), 7, &[(stream("a"), line(1, "x"))]);
    let outcome = Replica::apply_at(&other, index, &encode_write(header, &[again]));
    let CommandOutcome::Write(outcomes) = outcome else { panic!("a write's outcome") };
    assert_eq!(LogBatchOutcome::decode(&outcomes[0]), Ok(LogBatchOutcome::Duplicate { records: 1 }));
    let scan = scan_of(LogFilter::All, false);
    assert_eq!(read(&other.snapshot(), &TenantId::default(), &scan).len(), 1);
}

#[test]
fn bytes_that_are_no_batch_are_refused_the_same_everywhere() {
    let mut replica = Replica::new();
    let outcome = replica.write_bytes(Bytes::from_static(&[protocol::logs::batch::VERSION, 9]));
    assert!(matches!(outcome, LogBatchOutcome::Rejected { .. }));
    assert_eq!(replica.store.stats().window_keys, 0);
}

#[test]
fn each_day_has_its_segment_and_retention_drops_it() {
    let mut replica = Replica::new();
    let records: Vec<_> = (0..40).map(|day| (stream("a"), line(day * DAY_NS + 5, "a day"))).collect();
    replica.write(1, &records);
    replica.flush();
    replica.settle(&idle());
    let partitions = replica.store.stats().segments;
    assert_eq!(partitions, 40, "what a flush put into one segment for all others, a merge has split");
    replica.time_ms = 40 * PARTITION_MS;
    let retention = rows_kept(Some(3 * PARTITION_MS + 1), None);
    replica.settle(&FlushPolicy { retention, ..FlushPolicy::default() });
    let left = read(&replica.store.snapshot(), &TenantId::default(), &scan_of(LogFilter::All, false));
    assert_eq!(left.len(), 4);
}

#[test]
fn a_reader_stops_when_it_likes_and_reads_no_more_than_it_needs() {
    let mut replica = Replica::new();
    for batch in 0..10 {
        let records: Vec<_> =
            (0..100).map(|i| (stream("a"), line(batch * 1000 + i, format!("n {i}")))).collect();
        replica.write(batch as u64, &records);
        replica.flush();
        replica.settle(&idle());
    }
    let tenant = TenantId::default();
    let snapshot = replica.store.snapshot();
    let asked = std::cell::Cell::new(0);
    let reader = LogReader {
        signal: RowSignal::Logs,
        tenant: &tenant,
        should_stop: &|| {
            asked.set(asked.get() + 1);
            false
        },
    };
    let mut seen = 0;
    let visit = &mut |_: &LogStream<'_>, record: &LogRecord<'_>| {
        assert!(record.time_ns >= 9090);
        seen += 1;
        if seen == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    snapshot.log_records(reader, &scan_of(LogFilter::All, true), visit).expect("readable logs");
    assert_eq!((seen, asked.get()), (10, 1), "one segment was opened");
    let stopped = LogReader { signal: RowSignal::Logs, tenant: &tenant, should_stop: &|| true };
    let never = &mut |_: &LogStream<'_>, _: &LogRecord<'_>| panic!("nothing is visited");
    snapshot.log_records(stopped, &scan_of(LogFilter::All, true), never).expect("no error");
}

#[test]
fn a_flush_packs_quickly_and_a_merge_small() {
    let sizes = |epoch| {
        let mut replica = Replica::new();
        for part in 0..2 {
            // Numbers that are small mostly: blocks of equal widths do badly.
            let lines = (part * 4000..(part + 1) * 4000).map(|n: i64| {
                let took = if n % 50 == 0 { n * n * 977 } else { n * n % 7 };
                (stream("a"), line(n, format!("took {took} ms")))
            });
            replica.write(part as u64, &lines.collect::<Vec<_>>());
            let header = CommandHeader { encoder_epoch: epoch, cluster_time_ms: 0 };
            let body = CommandBody::BeginFlush { new_generation: false };
            replica.apply(protocol::command::Command { header, body }.encode());
            replica.settle(&idle());
        }
        let flushed = replica.store.segment_bytes();
        replica.settle(&FlushPolicy { merge_all: true, encoder_epoch: epoch, ..idle() });
        assert_eq!(replica.store.stats().segments, 1);
        (flushed, replica.store.segment_bytes())
    };
    let small = sizes(protocol::epoch::QUICK_FLUSHES - 1);
    let quick = sizes(protocol::epoch::QUICK_FLUSHES);
    assert!(quick.0 > small.0 + small.0 / 10, "flushed: {quick:?} and {small:?}");
    assert_eq!(quick.1, small.1, "merged");
}

const EPOCHS: [u16; 2] = [protocol::epoch::OLDEST, protocol::epoch::NEWEST];

#[test]
fn a_damaged_segment_is_named_and_a_copy_repairs_it() {
    EPOCHS.into_iter().for_each(damage_a_segment);
}

fn damage_a_segment(epoch: u16) {
    let mut replica = Replica::new();
    let records: Vec<_> = (0..300).map(|i| (stream("a"), line(i, format!("n {i}")))).collect();
    replica.write_and_flush(epoch, &records);
    replica.settle(&idle());
    let snapshot = replica.store.manifest_for_snapshot();
    let file = snapshot.files().into_iter().find(|f| f.name().ends_with(".seg")).expect("a segment");
    let bytes = replica.store.read_file_chunk(&file, 0, usize::MAX).expect("a file");
    let path = Path::new(DIR).join("files").join(file.name());
    for at in (0..bytes.len()).step_by(97) {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x40;
        {
            use crate::fs::{Fs, FsFile, OpenMode};
            let handle = replica.fs.open(&path, OpenMode::ReadWrite).expect("the file is there");
            handle.write_all_at(0, &damaged).expect("room");
            handle.sync_data().expect("no faults");
        }
        let store = open(&replica.fs);
        let tenant = TenantId::default();
        let reader = LogReader { signal: RowSignal::Logs, tenant: &tenant, should_stop: &|| false };
        let mut seen = 0;
        let visit = &mut |_: &LogStream<'_>, _: &LogRecord<'_>| {
            seen += 1;
            ControlFlow::Continue(())
        };
        let result = store.snapshot().log_records(reader, &scan_of(LogFilter::All, false), visit);
        match result {
            Err(_) => {
                assert_eq!(store.missing_files(), [file], "byte {at}");
                store.receive_file(&file, 0, &bytes).expect("a copy");
                assert!(store.missing_files().is_empty());
                let scan = scan_of(LogFilter::All, false);
                assert_eq!(read(&store.snapshot(), &tenant, &scan).len(), 300);
            }
            // The filter is not asked by this scan.
            Ok(()) => assert_eq!(seen, 300),
        }
    }
}

#[test]
fn damage_under_an_open_reader_is_noticed() {
    EPOCHS.into_iter().for_each(damage_an_open_segment);
}

fn damage_an_open_segment(epoch: u16) {
    use super::segment::LogSegmentReader;
    let mut replica = Replica::new();
    let records: Vec<_> = (0..300).map(|i| (stream("a"), line(i, format!("n {i}")))).collect();
    replica.write_and_flush(epoch, &records);
    replica.settle(&idle());
    let snapshot = replica.store.manifest_for_snapshot();
    let sealed = snapshot.files().into_iter().find(|f| f.name().ends_with(".seg")).expect("a segment");
    let bytes = replica.store.read_file_chunk(&sealed, 0, usize::MAX).expect("a file");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.seg");
    std::fs::write(&path, &bytes).expect("writable");
    let map = crate::fs::Fs::map(&crate::fs::real::RealFs, &path).expect("a file");
    let reader = LogSegmentReader::open(map, &path).expect("it is whole");
    let read = || -> Result<String, crate::segment::SegmentError> {
        let rows = (0..reader.blocks().len()).map(|block| reader.rows(block, &Want::ALL));
        Ok(format!("{:?}", rows.collect::<Result<Vec<_>, _>>()?))
    };
    let whole = read().expect("it is whole");
    let file = std::fs::File::options().write(true).open(&path).expect("writable");
    let put = |at: usize, byte: u8| {
        std::os::unix::fs::FileExt::write_all_at(&file, &[byte], at as u64).expect("writable");
    };
    let mut noticed = 0;
    for at in (0..bytes.len()).step_by(7) {
        put(at, bytes[at] ^ 0x10);
        match read() {
            // What was read when the file was opened is in memory.
            Ok(text) => assert!(text == whole, "byte {at}"),
            Err(_) => noticed += 1,
        }
        put(at, bytes[at]);
    }
    assert!(noticed > 0);
    assert!(read().expect("it is whole again") == whole);
}

/// Kinds of lines with words, streams, levels and attributes of their own; some without a template, some that are no text.
fn mixed(number: i64) -> (LogStream<'static>, LogRecord<'static>) {
    let kind = number * number % 11 % 7;
    let mut record = match kind {
        0 | 1 => line(0, format!("GET /v1/carts/{} answered in {}ms", number % 997, number % 53)),
        2 => line(0, format!("user {number} failed: deadline exceeded after {}ms", number % 31)),
        3 => line(0, format!("retry {} refused by 10.0.0.{}", number % 5, number % 200)),
        4 => line(0, "cache is warm"),
        5 if number % 10 == 0 => LogRecord { body: LogValue::Int(number), ..line(0, "") },
        5 => line(0, "x".repeat((number % 300) as usize + 2100)),
        _ => line(0, format!("message {number} taken by worker {}", number % 16)),
    };
    record.time_ns = number * 1_000_003;
    record.severity = if kind == 2 || number % 17 == 0 { 17 } else { 9 };
    record.flags = u32::from(number % 19 == 0);
    record.event_name = if kind == 3 { "retry" } else { "" }.into();
    record.trace_id = if number % 3 == 0 { u128::from(number as u64 / 9 + 1).to_be_bytes() } else { [0; 16] };
    if kind < 2 {
        record.attributes.push(("status".into(), LogValue::Int(200 + number % 4)));
        record.attributes.push(("path".into(), text(format!("/v1/carts/{}", number % 997))));
    } else if kind == 3 {
        record.attributes.push(("why".into(), text(if number % 2 == 0 { "it failed before" } else { "-" })));
    }
    (stream(["a", "b", "c", "d"][number as usize % 4]), record)
}

#[test]
fn of_large_blocks_what_a_question_needs_is_read_and_the_answers_are_the_same() {
    let records: Vec<_> = (1..6000).map(mixed).collect();
    let mut model = Model::default();
    model.0.extend(records.iter().map(|(s, r)| (0, encoded(s, r), r.effective_ns())));
    let field = |field: LogField, test: LogTest| LogFilter::Field(field, test);
    let phrase = |text: &str| LogTest::Phrase { text: text.to_owned(), ignore_case: false };
    let any = |text: &str| field(LogField::Any, phrase(text));
    let body = |text: &str| field(LogField::Body, phrase(text));
    let service =
        |name: &str| field(LogField::Attribute("service.name".into()), LogTest::Equals(name.to_owned()));
    let at_least =
        |value| LogTest::Range(LogRange { from: Some(Bound { value, inclusive: true }), to: None });
    let level = field(LogField::Severity, at_least(17.0));
    let not = |filter: LogFilter| LogFilter::Not(Box::new(filter));
    let filters = [
        LogFilter::And(vec![any("failed"), service("b"), level.clone()]),
        LogFilter::And(vec![body("failed"), service("b"), level.clone()]),
        LogFilter::And(vec![not(body("failed")), level.clone()]),
        LogFilter::And(vec![not(any("answered")), service("c")]),
        LogFilter::And(vec![LogFilter::Or(vec![body("refused"), body("warm")]), service("d")]),
        LogFilter::And(vec![body("nobody says this"), service("a")]),
        LogFilter::And(vec![body("31ms"), service("a"), level.clone()]),
        LogFilter::And(vec![any("30"), level.clone()]),
        LogFilter::And(vec![field(LogField::EventName, LogTest::Exists), any("before")]),
        LogFilter::And(vec![field(LogField::Attribute("status".into()), LogTest::Exists), service("a")]),
        field(LogField::TraceId, LogTest::Equals(format!("{:032x}", 77))),
        field(LogField::Flags, at_least(1.0)),
        body("deadline exceeded"),
        LogFilter::All,
    ];
    for epoch in EPOCHS {
        let mut replica = Replica::new();
        replica.write_and_flush(epoch, &records);
        replica.settle(&idle());
        let snapshot = replica.store.snapshot();
        assert_eq!(replica.store.stats().segment_records, records.len() as u64);
        for filter in &filters {
            for range in [(i64::MIN, i64::MAX), (1_000_000_000, 4_000_000_000)] {
                let mut scan =
                    LogScan { start_ns: range.0, end_ns: range.1, ..scan_of(filter.clone(), true) };
                model.check(&snapshot, &scan, "all columns");
                scan.newest_first = false;
                model.check(&snapshot, &scan, "oldest first");
                let status = LogField::Attribute("status".into());
                let known = LogScan { filter: field(status.clone(), LogTest::Exists), ..scan.clone() };
                model.check_values(&snapshot, &known, &status);
                let start_ns = range.0.max(0);
                let scan = LogScan { start_ns, end_ns: range.1.min(1 << 40), ..scan };
                for by in [
                    &[][..],
                    &[LogField::Severity],
                    &[LogField::Attribute("service.name".into()), LogField::EventName],
                    &[LogField::Attribute("why".into()), LogField::Flags],
                ] {
                    model.check_counts(&snapshot, &scan, 0, by);
                    model.check_counts(&snapshot, &scan, 500_000_000, by);
                }
                for field in [LogField::Attribute("status".into()), LogField::Body] {
                    model.check_values(&snapshot, &scan, &field);
                }
            }
        }
    }
}

/// Texts that no template fits, or hardly any.
fn hostile() -> Vec<(&'static str, Vec<String>)> {
    let mut state = 1u64;
    let mut next = move |bound: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % bound
    };
    let words =
        ["quick", "lazy", "fox", "over", "river", "stone", "morning", "paper", "cloud", "seven", "green"];
    let mut prose = |n: u64| (0..n).map(|_| words[next(11) as usize]).collect::<Vec<_>>().join(" ");
    let sentences: Vec<String> = (0..3000).map(|i| prose(5 + i % 20)).collect();
    let mut state = 7u64;
    let mut next = move |bound: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % bound
    };
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = |len: u64| (0..len).map(|_| char::from(alphabet[next(64) as usize])).collect::<String>();
    let noise: Vec<String> = (0..1000).map(|_| base64(200)).collect();
    let long: Vec<String> = (0..4).map(|_| base64(1 << 20)).collect();
    let mut state = 9u64;
    let mut next = move |bound: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % bound
    };
    let json = (0..3000)
        .map(|i| {
            let (user, name) = (next(100_000), words[next(11) as usize]);
            format!(
                r#"{{"user":{user},"name":"{name}","nested":{{"a":[{i},{}],"b":"x{}"}},"ok":true}}"#,
                next(9),
                next(99)
            )
        })
        .collect();
    let stacks = (0..1500)
        .map(|_| {
            let mut stack = format!("java.lang.Error: {}", words[next(11) as usize]);
            for _ in 0..4 + next(8) {
                let (class, method) = (words[next(11) as usize], words[next(11) as usize]);
                let line = next(900);
                stack += &format!("\n\tat com.example.{class}.{method}Service.{class}({class}.java:{line})");
            }
            stack
        })
        .collect();
    let marks = (0..2000)
        .map(|i| format!("\u{f8}{i}\u{0}\u{7f} \u{fe} <int> {:05} {:X}", i % 70, 0xABC0_0000u64 + i))
        .collect();
    let mut of = |from: &[u8]| -> String {
        from.iter().map(|_| char::from_u32(next(0x500) as u32).unwrap_or('x')).collect()
    };
    let binary = (0..1500).map(|_| of(&[0; 120])).collect();
    vec![
        ("prose", sentences),
        ("base64", noise),
        ("long lines", long),
        ("json", json),
        ("stacks", stacks),
        ("marks", marks),
        ("binary", binary),
    ]
}

#[test]
fn hostile_texts_come_back_and_cost_little_more_than_zstd() {
    for (what, lines) in hostile() {
        let mut replica = Replica::new();
        let mut model = Model::default();
        for (number, chunk) in lines.chunks(500).enumerate() {
            let records: Vec<_> = chunk
                .iter()
                .enumerate()
                .map(|(at, body)| (stream("a"), line((number * 500 + at) as i64 * 1_000_000, body.clone())))
                .collect();
            replica.write(number as u64, &records);
            model.0.extend(records.iter().map(|(s, r)| (0, encoded(s, r), r.effective_ns())));
            if number % 2 == 1 {
                replica.flush();
            }
        }
        replica.flush();
        replica.settle(&FlushPolicy { merge_all: true, ..idle() });
        model.check(&replica.store.snapshot(), &scan_of(LogFilter::All, false), what);
        let packed = zstd::bulk::compress(lines.join("\n").as_bytes(), 3).expect("zstd packs").len();
        let kept = replica.store.segment_bytes() as usize;
        assert!(kept <= packed * 11 / 10 + 1500, "{what}: {kept} bytes, zstd takes {packed}");
    }
}

fn any_body() -> impl Strategy<Value = LogValue<'static>> {
    prop_oneof![
        3 => (0u32..200).prop_map(|n| text(format!("user {n} logged in from 10.0.0.{}", n % 250))),
        2 => (0u32..9).prop_map(|n| text(format!("took {n}.{}5ms", n % 4))),
        2 => any::<u64>().prop_map(|id| text(format!("request {id:016x} done"))),
        1 => any::<u64>().prop_map(|id| text(format!("{id:016x}"))),
        1 => "[a-c ]{0,8}".prop_map(text),
        1 => Just(text("connection refused: no route")),
        1 => (0i64..5).prop_map(LogValue::Int),
        1 => Just(LogValue::Empty),
        1 => any::<[u8; 3]>().prop_map(|bytes| LogValue::Bytes(bytes.to_vec().into())),
    ]
}

fn any_record() -> impl Strategy<Value = LogRecord<'static>> {
    let time = (0i64..4, 0i64..20).prop_map(|(day, ms)| day * DAY_NS + ms * 1_000_000);
    let value = prop_oneof![
        any_body(),
        (0i64..4).prop_map(LogValue::Int),
        Just(LogValue::Float(1.5)),
        Just(text("warm")),
        any::<bool>().prop_map(LogValue::Bool),
    ];
    let name = prop_oneof![Just("status"), Just("id"), Just("service.name")];
    let number = prop_oneof![(0i64..9).prop_map(LogValue::Int), Just(LogValue::Float(2.5))];
    let attribute = prop_oneof![3 => (name, value), 1 => (Just("took"), number)];
    let attribute = attribute.prop_map(|(name, value)| (name.into(), value));
    let attributes = prop::collection::vec(attribute, 0..4);
    (time, 0u8..3, any_body(), 0u8..4, attributes).prop_map(|(time_ns, severity, body, trace, attributes)| {
        LogRecord {
            time_ns,
            severity: severity * 8 + 1,
            severity_text: ["", "warn", "error"][usize::from(severity)].into(),
            body,
            trace_id: [trace; 16],
            span_id: [trace; 8],
            attributes,
            ..LogRecord::default()
        }
    })
}

fn any_test() -> impl Strategy<Value = LogTest> {
    let words = prop_oneof![
        Just("user"),
        Just("user 7"),
        Just("7"),
        Just(""),
        Just("connection refused"),
        Just("warm"),
        Just("ser"),
        Just("5ms"),
        Just("took 1.1"),
        Just("10.0.0.1"),
        Just("0.0"),
        Just("a b"),
        Just("true"),
        Just("1.5"),
        Just("01010101010101010101010101010101"),
        Just("0202020202020202"),
        Just("logged"),
        Just("request 0"),
    ]
    .prop_map(str::to_owned);
    let range = (-1i64..9, any::<bool>()).prop_map(|(value, inclusive)| {
        LogTest::Range(LogRange { from: Some(Bound { value: value as f64, inclusive }), to: None })
    });
    prop_oneof![
        Just(LogTest::Exists),
        words.clone().prop_map(LogTest::Equals),
        prop::collection::vec(words.clone(), 0..3).prop_map(LogTest::OneOf),
        (words.clone(), any::<bool>())
            .prop_map(|(text, ignore_case)| LogTest::Contains { text, ignore_case }),
        (words.clone(), any::<bool>()).prop_map(|(text, ignore_case)| LogTest::Phrase { text, ignore_case }),
        words.prop_map(LogTest::Prefix),
        prop_oneof![Just("us.r [0-9]+ "), Just("^took"), Just("x|refused")]
            .prop_map(|r| LogTest::Regex(r.to_owned())),
        range,
    ]
}

fn any_field() -> impl Strategy<Value = LogField> {
    let name = prop_oneof![
        Just("status"),
        Just("id"),
        Just("service.name"),
        Just("took"),
        Just("took"),
        Just("absent")
    ]
    .prop_map(str::to_owned);
    prop_oneof![
        4 => Just(LogField::Body),
        1 => Just(LogField::Any),
        1 => Just(LogField::Time),
        1 => Just(LogField::Severity),
        1 => Just(LogField::SeverityText),
        1 => Just(LogField::TraceId),
        1 => Just(LogField::SpanId),
        1 => Just(LogField::Flags),
        1 => Just(LogField::EventName),
        1 => Just(LogField::ScopeName),
        2 => name.clone().prop_map(LogField::Attribute),
        1 => name.clone().prop_map(LogField::RecordAttribute),
        1 => name.prop_map(LogField::ResourceAttribute),
    ]
}

fn any_filter() -> impl Strategy<Value = LogFilter> {
    let leaf = prop_oneof![1 => Just(LogFilter::All), 6 => (any_field(), any_test()).prop_map(|(f, t)| LogFilter::Field(f, t))];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(LogFilter::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(LogFilter::Or),
            inner.prop_map(|part| LogFilter::Not(Box::new(part))),
        ]
    })
}

#[derive(Clone, Debug)]
enum Step {
    Write { tenant: usize, key: u64, records: Vec<(bool, LogRecord<'static>)> },
    Flush,
    Settle,
    Merge,
    Restart { crash: bool },
    Delete { tenant: usize, filter: LogFilter, day: i64, days: i64 },
    Wait,
}

fn any_step() -> impl Strategy<Value = Step> {
    let records = prop::collection::vec((any::<bool>(), any_record()), 0..30);
    prop_oneof![
        6 => (0..2usize, 0u64..12, records).prop_map(|(tenant, key, records)| Step::Write { tenant, key, records }),
        3 => Just(Step::Flush),
        2 => Just(Step::Settle),
        1 => Just(Step::Merge),
        1 => any::<bool>().prop_map(|crash| Step::Restart { crash }),
        1 => Just(Step::Wait),
        2 => (0..2usize, any_filter(), 0i64..4, 0i64..3)
            .prop_map(|(tenant, filter, day, days)| Step::Delete { tenant, filter, day, days }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_history_reads_as_the_model(
        steps in prop::collection::vec(any_step(), 1..24),
        filters in prop::collection::vec(any_filter(), 1..8),
        range in (0i64..4, 0i64..20, 0i64..4),
        by in prop::collection::vec(any_field(), 0..3),
    ) {
        let mut replica = Replica::new();
        let mut model = Model::default();
        let mut keys: BTreeMap<(usize, u64), i64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Write { tenant: number, key, records } => {
                    let records: Vec<_> =
                        records.into_iter().map(|(a, record)| (stream(if a { "a" } else { "b" }), record)).collect();
                    if records.is_empty() {
                        continue;
                    }
                    // Keys are of a tenant: tests give both the same numbers.
                    let key = key * 2 + number as u64;
                    let outcome = replica.write_bytes(batch_of(&tenant(number), key, &records));
                    // Fewer come than are known whatever the time.
                    let known = keys.contains_key(&(number, key));
                    if known {
                        prop_assert_eq!(outcome, LogBatchOutcome::Duplicate { records: records.len() as u64 });
                        continue;
                    }
                    prop_assert_eq!(outcome, LogBatchOutcome::Applied { records: records.len() as u64 });
                    keys.insert((number, key), replica.time_ms);
                    // Inside of a batch records go by time.
                    model.0.extend(records.iter().map(|(s, r)| (number, encoded(s, r), r.effective_ns())));
                }
                Step::Flush => replica.flush(),
                Step::Settle => replica.settle(&idle()),
                Step::Merge => {
                    let encoder_epoch = replica.epoch();
                    replica.settle(&FlushPolicy { merge_all: true, encoder_epoch, ..idle() });
                }
                Step::Restart { crash } => replica.restart(crash),
                Step::Wait => replica.time_ms += WINDOW_MS / 2,
                Step::Delete { tenant: number, filter, day, days } => {
                    let (start_ns, end_ns) = (day * DAY_NS, (day + days) * DAY_NS + 7_000_000);
                    model.delete(number, &filter, start_ns..=end_ns);
                    replica.delete(&tenant(number), filter, (start_ns, end_ns));
                    // Hidden at once, wherever it lies.
                    model.check(&replica.store.snapshot(), &scan_of(LogFilter::All, false), "after a delete");
                }
            }
        }
        let start_ns = range.0 * DAY_NS + range.1 * 1_000_000;
        let end_ns = start_ns + range.2 * DAY_NS;
        let snapshot = replica.store.snapshot();
        for filter in filters {
            for (newest_first, (start_ns, end_ns)) in
                [(false, (i64::MIN, i64::MAX)), (true, (start_ns, end_ns)), (false, (start_ns, end_ns))]
            {
                let scan = LogScan { start_ns, end_ns, ..scan_of(filter.clone(), newest_first) };
                model.check(&snapshot, &scan, "a history");
            }
            let all = LogScan { start_ns: i64::MIN, end_ns: i64::MAX, ..scan_of(filter.clone(), false) };
            let scan = LogScan { start_ns, end_ns, ..scan_of(filter, false) };
            let by: Vec<LogField> = by.iter().filter(|field| **field != LogField::Any).cloned().collect();
            model.check_counts(&snapshot, &scan, 5_000_000, &by);
            for scan in [&scan, &all] {
                model.check_counts(&snapshot, scan, 0, &[]);
                model.check_counts(&snapshot, scan, 0, &by);
                for field in &by {
                    model.check_counts(&snapshot, scan, 0, std::slice::from_ref(field));
                    model.check_values(&snapshot, scan, field);
                    let known = LogFilter::Field(field.clone(), LogTest::Exists);
                    model.check_values(&snapshot, &LogScan { filter: known, ..scan.clone() }, field);
                }
            }
        }
        // What is deleted goes for good.
        replica.settle(&FlushPolicy { force_flush: true, clean_tombstones: true, ..idle() });
        prop_assert_eq!(replica.store.stats().tombstones, 0);
        model.check(&replica.store.snapshot(), &scan_of(LogFilter::All, true), "without tombstones");
        // A replica that replays all of the log comes to the same state.
        replica.settle(&idle());
        let fresh_fs = MemFs::new(3).with_dir("/data");
        let fresh = open(&fresh_fs);
        for (at, command) in replica.log.iter().enumerate() {
            Replica::apply_at(&fresh, at as u64 + 1, command);
            Replica::run_jobs(&fresh);
        }
        prop_assert_eq!(fresh.digest(), replica.store.digest());
        model.check(&fresh.snapshot(), &scan_of(LogFilter::All, true), "a fresh replica");
    }
}
