//! The store against a naive model: random operations, replicas of different pace, restarts, crashes, snapshots.
//!
//! One log is applied to a leader, which runs its jobs when the script says so and proposes what its policy says, to
//! a follower that lags, restarts and crashes, and at the end to a fresh replica and to one built from a snapshot.
//! All must read as the model says and agree on digest and files.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;
use protocol::batch::{SeriesRef, SubBatchBuilder, SubBatchOutcome};
use protocol::command::{CommandOutcome, RetentionCut, encode_write};
use protocol::histogram::{self, Histogram};
use protocol::ids::{Ordinal, TenantId};
use protocol::labels::Labels;
use protocol::matcher::{MatchOp, Matcher};
use protocol::retention::{Ages, Retention};
use protocol::sample::STALE_NAN_BITS;

use super::super::*;
use super::harness::*;
use crate::fs::mem::{CrashMode, MemFs};
use crate::manifest::PARTITION_MS;
use crate::scan::TallyBy;
use crate::tally::Tally;

const TENANTS: [&str; 2] = ["default", "other"];
const SERIES: usize = 7;
/// Fewer than two tenants' series, so that some are refused.
const OPTIONS: ShardOptions = ShardOptions { max_series: 9 };

#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Float(u64),
    Histogram(u8),
}

/// One sample of a script: tenant, series, time, value.
type Sample = (usize, usize, i64, Value);

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Sample>),
    /// As `Write`, by ordinals that may be of an old generation.
    WriteKnown(Vec<Sample>),
    Flush {
        new_generation: bool,
    },
    Delete {
        tenant: usize,
        pattern: &'static str,
        start: i64,
        len: i64,
    },
    Drop {
        before: i64,
    },
    /// From now on the leader leaves out what a tenant has before.
    Expire {
        tenant: usize,
        before: i64,
    },
    /// A begin or install that was in the log before is there again: two leaders proposed it.
    Repeat(usize),
    /// The leader runs so many jobs.
    Jobs(usize),
    /// The leader proposes, and applies, so many commands.
    Propose(usize),
    /// The follower applies so many entries of the log, then runs so many jobs.
    Follow(usize, usize),
    Restart,
    Crash(u8),
    /// The follower is replaced by one built from the leader's snapshot.
    Replace,
    /// The follower, as it is, installs the leader's snapshot.
    InstallSnapshot,
    /// The follower begins so many jobs whose results come later.
    HoldJobs(usize),
    /// The results come, the last one first.
    ReleaseJobs,
}

#[derive(Default)]
struct Model {
    samples: BTreeMap<(usize, Labels), BTreeMap<i64, Value>>,
    /// Nothing is said of samples before.
    dropped_before: i64,
    /// Nor of those of a tenant before.
    expired_before: [i64; TENANTS.len()],
}

fn labels_of(series: usize) -> Labels {
    // Two metrics, of the second two families, so that segment order and label order differ.
    let name = if series < 3 { "m" } else { "n" };
    let value = format!("v{series}");
    let pairs =
        [("__name__", name), (if series.is_multiple_of(2) { "a" } else { "b" }, &value), ("Zone", "z")];
    Labels::from_pairs(pairs).expect("valid labels")
}

fn tenant(number: usize) -> TenantId {
    TenantId::new(TENANTS[number]).expect("valid name")
}

fn blob(seed: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let histogram = Histogram { count: f64::from(seed), sum: 2.5, ..Histogram::default() };
    histogram::encode(&Histogram { zero_count: f64::from(seed), ..histogram }, &mut out)
        .expect("a valid histogram");
    out
}

impl Model {
    fn write(&mut self, samples: &[Sample]) {
        // In a batch the float column comes before the histogram column.
        let is_float = |s: &&Sample| matches!(s.3, Value::Float(_));
        let order = samples.iter().filter(is_float).chain(samples.iter().filter(|s| !is_float(s)));
        for &(tenant, series, time, value) in order {
            self.samples.entry((tenant, labels_of(series))).or_default().entry(time).or_insert(value);
        }
    }

    fn delete(&mut self, of: usize, matcher: &Matcher, range: (i64, i64)) {
        for ((tenant, labels), samples) in &mut self.samples {
            if *tenant == of && matcher.matches(labels.get(matcher.name()).unwrap_or("")) {
                samples.retain(|t, _| !(range.0..=range.1).contains(t));
            }
        }
    }

    fn check(&self, store: &ShardStore<MemFs>, what: &str) {
        let snapshot = store.snapshot();
        for (number, name) in TENANTS.iter().enumerate() {
            let tenant = tenant(number);
            let first = self.dropped_before.max(self.expired_before[number]);
            for range in [(first, i64::MAX), (first + PARTITION_MS / 2, first + PARTITION_MS)] {
                let mut found = Vec::new();
                let visit = &mut |c: crate::scan::SeriesColumns<'_>| {
                    let floats = c.times.iter().zip(c.values).map(|(&t, v)| (t, Value::Float(v.to_bits())));
                    let histograms = c.histogram_times.iter().zip(c.histograms);
                    let histograms = histograms.map(|(&t, b)| {
                        let count = histogram::decode(b).expect("a stored histogram").count;
                        (t, Value::Histogram(count as u8))
                    });
                    let samples: BTreeMap<i64, Value> = floats.chain(histograms).collect();
                    assert_eq!(samples.len(), c.times.len() + c.histogram_times.len(), "no timestamp twice");
                    found.push((c.labels.clone(), samples));
                    ControlFlow::Continue(())
                };
                snapshot.select(&tenant, &[], range.0, range.1, visit).expect("readable");
                let expected: Vec<(Labels, BTreeMap<i64, Value>)> = self
                    .samples
                    .iter()
                    .filter(|((t, _), _)| *t == number)
                    .map(|((_, l), s)| {
                        (l.clone(), s.range(range.0..=range.1).map(|(t, v)| (*t, *v)).collect())
                    })
                    .filter(|(_, s): &(Labels, BTreeMap<i64, Value>)| !s.is_empty())
                    .collect();
                assert_eq!(found, expected, "{what}, tenant {name}, range {range:?}");
                check_tallies(&snapshot, &tenant, range, &expected, what);
            }
        }
    }
}

/// Counts without reading, and compares with the samples that were read.
fn check_tallies(
    snapshot: &StoreSnapshot,
    tenant: &TenantId,
    range: (i64, i64),
    read: &[(Labels, BTreeMap<i64, Value>)],
    what: &str,
) {
    let mut expected = BTreeMap::<Labels, (u64, i64, i64)>::new();
    for (labels, samples) in read {
        let is_counted = |value: &Value| matches!(value, Value::Float(bits) if *bits != STALE_NAN_BITS);
        for (&time, _) in samples.iter().filter(|(_, value)| is_counted(value)) {
            let counted = expected.entry(labels.clone()).or_insert((0, time, time));
            *counted = (counted.0 + 1, counted.1, time);
        }
    }
    let mut by_series = BTreeMap::<Labels, Tally>::new();
    let visit = &mut |labels: &Labels, tally: &Tally| {
        if tally.samples > 0 {
            by_series.entry(labels.clone()).or_default().add(tally);
        }
        ControlFlow::Continue(())
    };
    snapshot.tally(tenant, &[], range.0, range.1, TallyBy::Series, visit).expect("readable");
    let found: BTreeMap<Labels, (u64, i64, i64)> = by_series
        .into_iter()
        .map(|(labels, tally)| (labels, (tally.samples, tally.first_ms, tally.last_ms)))
        .collect();
    assert_eq!(found, expected, "{what}, tenant {tenant}, range {range:?}");

    let mut all = Tally::default();
    let visit = &mut |_: &Labels, tally: &Tally| {
        all.add(tally);
        ControlFlow::Continue(())
    };
    snapshot.tally(tenant, &[], range.0, range.1, TallyBy::Nothing, visit).expect("readable");
    let samples: u64 = expected.values().map(|(samples, ..)| samples).sum();
    let first = expected.values().map(|(_, first, _)| *first).min().unwrap_or(i64::MAX);
    let last = expected.values().map(|(.., last)| *last).max().unwrap_or(i64::MIN);
    assert_eq!((all.samples, all.first_ms, all.last_ms), (samples, first, last), "{what}, range {range:?}");
}

/// A batch per tenant.
fn batches(samples: &[Sample], generation: u64, known: &BTreeMap<(usize, usize), Ordinal>) -> Vec<Bytes> {
    (0..TENANTS.len())
        .filter(|number| samples.iter().any(|s| s.0 == *number))
        .map(|number| {
            let tenant = tenant(number);
            let mut builder = SubBatchBuilder::new(tenant.clone(), generation);
            let mut new = BTreeMap::new();
            for &(_, series, time, value) in samples.iter().filter(|s| s.0 == number) {
                let reference = match known.get(&(number, series)) {
                    Some(ordinal) => SeriesRef::Known(*ordinal),
                    None => *new.entry(series).or_insert_with(|| {
                        let labels = labels_of(series);
                        builder.push_new_series(labels.series_id(&SECRET, &tenant), &labels)
                    }),
                };
                match value {
                    Value::Float(bits) => builder.push_float(reference, time, f64::from_bits(bits), 0),
                    Value::Histogram(seed) => builder.push_histogram(reference, time, &blob(seed), 0),
                }
            }
            builder.finish()
        })
        .collect()
}

/// A replica and how much of the log it has applied.
struct Follower {
    fs: MemFs,
    store: ShardStore<MemFs>,
    applied: usize,
    held: Vec<JobResult>,
}

impl Follower {
    fn new(seed: u64) -> Self {
        let fs = MemFs::new(seed).with_dir("/data");
        let store = open_with(&fs, OPTIONS).expect("an empty directory opens");
        Self { fs, store, applied: 0, held: Vec::new() }
    }

    fn apply(&mut self, log: &[Bytes], up_to: usize) {
        for (i, command) in log.iter().enumerate().take(up_to).skip(self.applied) {
            apply_entry(&self.store, i as u64 + 1, command);
            self.applied = i + 1;
        }
    }

    fn run_jobs(&self, count: usize) {
        for _ in 0..count {
            let Some(job) = self.store.next_job() else { break };
            self.store.finish_job(job.run()).expect("no faults are planned");
        }
    }

    fn hold_jobs(&mut self, count: usize) {
        for _ in 0..count {
            self.held.extend(self.store.next_job().map(Job::run));
        }
    }

    fn release_jobs(&mut self) {
        while let Some(result) = self.held.pop() {
            self.store.finish_job(result).expect("no faults are planned");
        }
    }

    /// Opens the store again, after a crash of the disk if a mode is given, and replays to where it was.
    fn restart(&mut self, mode: Option<CrashMode>, log: &[Bytes]) {
        if let Some(mode) = mode {
            self.fs = self.fs.crash(mode);
        }
        self.held.clear();
        self.store = open_with(&self.fs, OPTIONS).expect("what was durable opens");
        let was = std::mem::replace(&mut self.applied, self.store.applied_index().0 as usize);
        self.apply(log, was);
    }

    /// Becomes a copy of another replica by way of its snapshot.
    fn build_from(&mut self, other: &ShardStore<MemFs>) {
        let snapshot = other.manifest_for_snapshot();
        let snapshot = SnapshotManifest::decode(snapshot.bytes().clone()).expect("a sent manifest");
        for file in self.store.missing(&snapshot) {
            transfer(other, &self.store, &file);
        }
        self.store.install_snapshot(&snapshot).expect("all files are here");
        self.applied = self.applied.max(self.store.applied_index().0 as usize);
    }
}

pub fn transfer(from: &ShardStore<MemFs>, to: &ShardStore<MemFs>, file: &crate::manifest::FileRef) {
    let mut offset = 0;
    while offset < file.len_bytes {
        let chunk = from.read_file_chunk(file, offset, 700).expect("a pinned file");
        offset = to.receive_file(file, offset, &chunk).expect("right bytes");
    }
}

struct World {
    leader: Replica,
    follower: Follower,
    model: Model,
    generation: u64,
    known: BTreeMap<(usize, usize), Ordinal>,
}

impl World {
    fn policy(&self) -> FlushPolicy {
        let mut retention = Retention::default();
        for (number, before) in self.model.expired_before.into_iter().enumerate().filter(|(_, b)| *b > 0) {
            let metrics = Some(self.leader.time_ms - before);
            retention.own.insert(tenant(number), Ages { metrics, ..Ages::default() });
        }
        FlushPolicy {
            encoder_epoch: protocol::epoch::NEWEST,
            retention: Arc::new(retention),
            memtable_bytes: 20_000,
            merge_factor: 2,
            max_merges: 2,
            max_age_ms: i64::MAX,
            ..FlushPolicy::default()
        }
    }

    fn step(&mut self, step: &Step) {
        self.leader.time_ms += 1000;
        match step {
            Step::Write(samples) => self.write(samples, &BTreeMap::new()),
            Step::WriteKnown(samples) => self.write(samples, &self.known.clone()),
            Step::Flush { new_generation } => self.leader.begin_flush(*new_generation),
            Step::Delete { tenant: of, pattern, start, len } => {
                let matcher = Matcher::new("a", MatchOp::Regex, *pattern).expect("valid pattern");
                let end_ms = start.saturating_add(*len);
                self.model.delete(*of, &matcher, (*start, end_ms));
                let matchers = vec![matcher];
                let body =
                    CommandBody::DeleteSeries { tenant: tenant(*of), matchers, start_ms: *start, end_ms };
                self.leader.apply(body);
            }
            Step::Drop { before } => {
                self.model.dropped_before = self.model.dropped_before.max(*before);
                let cut = RetentionCut { signal: 0, class: 0, before_ms: *before };
                self.leader.apply(CommandBody::DropPartitions(vec![cut]));
            }
            Step::Expire { tenant, before } => {
                let expired = &mut self.model.expired_before[*tenant];
                *expired = (*before).max(*expired);
            }
            Step::Repeat(which) => {
                let of_leader = |bytes: &&Bytes| {
                    let command = Command::decode(bytes).expect("a command");
                    !matches!(
                        command.body,
                        CommandBody::Write(_)
                            | CommandBody::DeleteSeries { .. }
                            | CommandBody::DropPartitions(_)
                    )
                };
                let commands: Vec<Bytes> = self.leader.log.iter().filter(of_leader).cloned().collect();
                if !commands.is_empty() {
                    self.leader.apply_bytes(&commands[which % commands.len()]);
                }
            }
            Step::Jobs(count) => {
                for _ in 0..*count {
                    let Some(job) = self.leader.store.next_job() else { break };
                    self.leader.store.finish_job(job.run()).expect("no faults are planned");
                }
            }
            Step::Propose(count) => {
                for _ in 0..*count {
                    let Some(command) = self.leader.store.propose(&self.policy(), self.leader.time_ms) else {
                        break;
                    };
                    self.leader.apply_bytes(&command.encode());
                }
            }
            Step::Follow(entries, jobs) => {
                let up_to = self.follower.applied + entries;
                self.follower.apply(&self.leader.log, up_to);
                self.follower.run_jobs(*jobs);
            }
            Step::Restart => self.follower.restart(None, &self.leader.log),
            Step::Crash(mode) => {
                let mode = CrashMode::POWER[*mode as usize % CrashMode::POWER.len()];
                self.follower.restart(Some(mode), &self.leader.log);
            }
            Step::Replace => {
                self.follower = Follower::new(self.leader.log.len() as u64);
                self.follower.build_from(&self.leader.store);
            }
            Step::InstallSnapshot => self.follower.build_from(&self.leader.store),
            Step::HoldJobs(count) => self.follower.hold_jobs(*count),
            Step::ReleaseJobs => self.follower.release_jobs(),
        }
    }

    fn write(&mut self, samples: &[Sample], known: &BTreeMap<(usize, usize), Ordinal>) {
        let sent = self.generation;
        let batches = batches(samples, sent, known);
        let header = CommandHeader { encoder_epoch: 1, cluster_time_ms: self.leader.time_ms };
        let outcome = self.leader.apply_bytes(&encode_write(header, &batches));
        let CommandOutcome::Write(outcomes) = outcome else { panic!("a write gave {outcome:?}") };
        let tenants = (0..TENANTS.len()).filter(|number| samples.iter().any(|s| s.0 == *number));
        for (number, outcome) in tenants.zip(&outcomes) {
            let of_tenant: Vec<Sample> = samples.iter().filter(|s| s.0 == number).copied().collect();
            match SubBatchOutcome::decode(&mut &outcome[..]).expect("an outcome") {
                SubBatchOutcome::Applied {
                    generation,
                    new_ordinals,
                    series_limit,
                    samples,
                    histograms,
                    ..
                } => {
                    if generation != self.generation {
                        self.known.clear();
                        self.generation = generation;
                    }
                    let mut new = Vec::new();
                    for sample in of_tenant.iter().filter(|s| !known.contains_key(&(s.0, s.1))) {
                        if !new.contains(&sample.1) {
                            new.push(sample.1);
                        }
                    }
                    assert_eq!(new.len(), new_ordinals.len());
                    let mut refused = Vec::new();
                    for (series, ordinal) in new.into_iter().zip(new_ordinals) {
                        let known = self.known.get(&(number, series)).copied();
                        match ordinal {
                            Some(ordinal) => {
                                assert_eq!(known.unwrap_or(ordinal), ordinal);
                                self.known.insert((number, series), ordinal);
                            }
                            None => {
                                assert_eq!((known, self.known.len()), (None, OPTIONS.max_series));
                                refused.push(series);
                            }
                        }
                    }
                    assert!(self.known.len() <= OPTIONS.max_series);
                    assert_eq!(series_limit > 0, !refused.is_empty());
                    let taken: Vec<Sample> =
                        of_tenant.into_iter().filter(|s| !refused.contains(&s.1)).collect();
                    assert_eq!(samples + histograms, taken.len() as u64);
                    self.model.write(&taken);
                }
                SubBatchOutcome::StaleRegistry { generation } => {
                    assert_ne!(generation, sent, "the batch named the registry's generation");
                }
                SubBatchOutcome::Rejected { reason } => panic!("rejected: {reason}"),
            }
        }
    }

    /// Compares the counts that are kept with those of the series known to be registered.
    fn check_head(&self, store: &ShardStore<MemFs>, what: &str) {
        if store.stats().generation != self.generation {
            // Nobody wrote since the generation began: what is known is of the one before.
            return;
        }
        for (number, name) in TENANTS.iter().enumerate() {
            let mut expected = BTreeMap::<(String, String), u64>::new();
            let of_tenant = self.known.keys().filter(|(tenant, _)| *tenant == number);
            for (_, series) in of_tenant.clone() {
                for (name, value) in &labels_of(*series) {
                    *expected.entry((name.to_owned(), value.to_owned())).or_default() += 1;
                }
            }
            let mut found = BTreeMap::new();
            let head = store.snapshot().head(&tenant(number), &mut |name, value, series| {
                assert!(found.insert((name.to_owned(), value.to_owned()), series).is_none());
            });
            assert_eq!((head.series, found), (of_tenant.count() as u64, expected), "{what}, tenant {name}");
        }
    }

    /// Nothing is left of days that are over for a tenant, and nothing of it was flushed since.
    fn check_expired(&self) {
        let snapshot = self.leader.store.snapshot();
        for (number, before) in self.model.expired_before.into_iter().enumerate() {
            let last_ms = before.div_euclid(PARTITION_MS) * PARTITION_MS - 1;
            let visit = &mut |c: crate::scan::SeriesColumns<'_>| -> ControlFlow<()> {
                panic!("{} of {} is there at {:?}", c.labels, TENANTS[number], c.times)
            };
            snapshot.select(&tenant(number), &[], 0, last_ms, visit).expect("readable");
        }
    }

    fn finish(mut self) {
        self.leader.settle_with(&FlushPolicy { force_flush: true, ..self.policy() });
        self.model.check(&self.leader.store, "leader");
        self.check_expired();
        self.check_head(&self.leader.store, "leader");

        let log = std::mem::take(&mut self.leader.log);
        self.follower.apply(&log, log.len());
        self.model.check(&self.follower.store, "follower, jobs outstanding");
        self.follower.release_jobs();
        self.follower.run_jobs(usize::MAX);
        self.model.check(&self.follower.store, "follower");

        let mut fresh = Follower::new(77);
        fresh.apply(&log, log.len());
        self.model.check(&fresh.store, "fresh replica, no job run");
        fresh.run_jobs(usize::MAX);
        self.model.check(&fresh.store, "fresh replica");

        let mut built = Follower::new(78);
        built.build_from(&self.leader.store);
        built.apply(&log, log.len());
        built.run_jobs(usize::MAX);
        self.model.check(&built.store, "built from a snapshot");

        let files = |fs: &MemFs| fs.list(&files::files_dir(Path::new(DIR))).expect("a listing");
        for (what, other) in [("follower", &self.follower), ("fresh", &fresh), ("built", &built)] {
            assert_eq!(other.store.digest(), self.leader.store.digest(), "digest of {what}");
            self.check_head(&other.store, what);
            assert_eq!(files(&other.fs), files(&self.leader.fs), "files of {what}");
            assert_eq!(other.store.stats().digest_mismatches, 0);
        }
        fresh.restart(Some(CrashMode::DropUnsynced), &log);
        self.model.check(&fresh.store, "fresh replica after a crash");
        self.check_head(&fresh.store, "fresh replica after a crash");

        self.leader.log = log;
        self.leader.settle_with(&FlushPolicy { force_flush: true, clean_tombstones: true, ..self.policy() });
        assert_eq!(self.leader.store.stats().tombstones, 0);
        self.model.check(&self.leader.store, "leader, cleaned");
        self.leader.settle_with(&FlushPolicy { force_flush: true, merge_all: true, ..self.policy() });
        self.model.check(&self.leader.store, "leader, all merged");
    }
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let times = prop_oneof![
        8 => (0i64..60).prop_map(|i| 2 * PARTITION_MS + i * 1000),
        2 => (0i64..8).prop_map(|i| i * PARTITION_MS / 2),
        // Enough days to need the catch-all.
        1 => (0i64..80).prop_map(|day| day * PARTITION_MS + 5),
    ];
    let value = prop_oneof![
        8 => (0u64..1000).prop_map(|v| Value::Float((v as f64 / 8.0).to_bits())),
        2 => (1u64..1000).prop_map(|v| Value::Float((v as f64).sqrt().to_bits())),
        1 => Just(Value::Float(STALE_NAN_BITS)),
        1 => any::<u8>().prop_map(Value::Histogram),
    ];
    let tenant = prop_oneof![4 => Just(0usize), 1 => Just(1usize)];
    proptest::collection::vec((tenant, 0..SERIES, times, value), 1..40)
}

fn wide_samples() -> impl Strategy<Value = Vec<Sample>> {
    (0..SERIES, 0i64..20).prop_map(|(series, shift)| {
        (0..50).map(|day| (0, series, (day + shift) * PARTITION_MS + 7, Value::Float(day as u64))).collect()
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let patterns = prop::sample::select(vec!["v0|v2", ".*", "v[4-6]", ""]);
    let step = prop_oneof![
        8 => samples().prop_map(Step::Write),
        4 => samples().prop_map(Step::WriteKnown),
        1 => wide_samples().prop_map(Step::Write),
        4 => prop::bool::weighted(0.2).prop_map(|new_generation| Step::Flush { new_generation }),
        2 => (0usize..2, patterns, 0i64..5, 0i64..4).prop_map(|(tenant, pattern, start, len)| Step::Delete {
            tenant, pattern, start: start * PARTITION_MS / 2, len: len * PARTITION_MS / 2 + 20_000,
        }),
        1 => (0i64..6).prop_map(|days| Step::Drop { before: days * PARTITION_MS / 2 }),
        1 => (0usize..2, 1i64..8).prop_map(|(tenant, days)| Step::Expire {
            tenant, before: days * PARTITION_MS / 2,
        }),
        2 => any::<usize>().prop_map(Step::Repeat),
        6 => (1usize..4).prop_map(Step::Jobs),
        6 => (1usize..4).prop_map(Step::Propose),
        4 => (0usize..12, 0usize..4).prop_map(|(entries, jobs)| Step::Follow(entries, jobs)),
        1 => Just(Step::Restart),
        1 => any::<u8>().prop_map(Step::Crash),
        1 => Just(Step::Replace),
        1 => Just(Step::InstallSnapshot),
        2 => (1usize..4).prop_map(Step::HoldJobs),
        2 => Just(Step::ReleaseJobs),
    ];
    proptest::collection::vec(step, 1..50)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replicas_read_as_the_model_says_and_agree(steps in steps()) {
        let mut world = World {
            leader: Replica::with_options(OPTIONS),
            follower: Follower::new(5),
            model: Model::default(),
            generation: 1,
            known: BTreeMap::new(),
        };
        for (i, step) in steps.iter().enumerate() {
            world.step(step);
            if i % 3 == 0 {
                world.check_head(&world.leader.store, "leader on the way");
                world.model.check(&world.leader.store, "leader on the way");
            }
        }
        world.finish();
    }
}

/// A quarter of the usual, or of what `PROPTEST_CASES` asks for: each case is a small life of a shard.
fn cases() -> u32 {
    ProptestConfig::default().cases / 4
}
