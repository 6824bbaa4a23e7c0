//! What a leader proposes, and what comes of it in the long run.

use std::sync::Arc;

use protocol::batch::SubBatchOutcome;
use protocol::command::TenantsOver;
use protocol::retention::{Ages, Retention, Rollups};

use super::super::*;
use super::harness::*;
use crate::fs::mem::MemFs;
use crate::manifest::{PARTITION_MS, Partition};

fn quiet() -> FlushPolicy {
    FlushPolicy { memtable_bytes: usize::MAX, max_age_ms: i64::MAX, ..FlushPolicy::default() }
}

fn metrics_kept(metrics: Option<i64>) -> Arc<Retention> {
    Arc::new(Retention::of_all(Ages { metrics, ..Ages::default() }))
}

#[test]
fn a_memtable_is_flushed_when_it_is_full_old_or_wanted() {
    let mut replica = Replica::new();
    let flush = |replica: &Replica, policy: &FlushPolicy, now| {
        replica.store.propose(policy, now).map(|c| c.body)
            == Some(CommandBody::BeginFlush { new_generation: false })
    };
    let wanted = FlushPolicy { force_flush: true, ..quiet() };
    assert!(!flush(&replica, &wanted, 0), "there is nothing to flush");
    replica.time_ms = 1000;
    replica.write(&[("a", 1, 1.0)]);
    assert!(!flush(&replica, &quiet(), 5000));
    assert!(flush(&replica, &wanted, 5000));
    assert!(flush(&replica, &FlushPolicy { memtable_bytes: 100, ..quiet() }, 5000));
    assert!(flush(&replica, &FlushPolicy { max_age_ms: 4000, ..quiet() }, 5000));
    assert!(!flush(&replica, &FlushPolicy { max_age_ms: 4001, ..quiet() }, 5000));
    for _ in 0..2 {
        replica.write(&[("a", 1, 1.0)]);
        replica.begin_flush(false);
    }
    replica.write(&[("a", 1, 1.0)]);
    assert!(!flush(&replica, &wanted, 5000), "the disk is behind by two memtables");
}

#[test]
fn merges_keep_segments_few_and_rewrites_rare() {
    let mut replica = Replica::new();
    let flushes = 200i64;
    let mut most = 0;
    for round in 0..flushes {
        let samples: Vec<(String, i64, f64)> = (0..40)
            .map(|i| (format!("s{i}"), round * 15_000 + i % 7, (round * i % 977) as f64 * 1.37))
            .collect();
        replica.write(&samples.iter().map(|(n, t, v)| (n.as_str(), *t, *v)).collect::<Vec<_>>());
        replica.begin_flush(false);
        replica.settle_with(&quiet());
        most = most.max(replica.store.stats().segments);
    }
    let stats = replica.store.stats();
    let rewrites = stats.merged_bytes as f64 / stats.flushed_bytes as f64;
    assert!(most <= 20, "{most} segments at a time");
    assert!(rewrites < 4.0, "each byte was rewritten {rewrites} times");
    assert_eq!(stats.segment_samples, 40 * flushes as u64);
    assert!(replica.store.snapshot().applied_index().0 > 0);
}

#[test]
fn a_damaged_input_holds_up_its_own_merge_only() {
    let mut replica = Replica::new();
    for round in 0..2 {
        replica.write(&[("a", round, 1.0), ("a", PARTITION_MS + round, 1.0)]);
        replica.begin_flush(false);
        replica.settle();
    }
    let merge_all = FlushPolicy { merge_all: true, ..quiet() };
    let merge = |replica: &Replica| match replica.store.propose(&merge_all, 0).map(|command| command.body) {
        Some(CommandBody::BeginMerge { inputs, .. }) => inputs,
        other => panic!("{other:?} instead of a merge"),
    };
    let first = merge(&replica);
    replica.apply(CommandBody::BeginMerge { inputs: first.clone(), over: TenantsOver::default() });
    assert_eq!(replica.store.propose(&merge_all, 0), None, "one merge at a time");
    let name = |hash: &ContentHash| format!("{}.seg", crate::manifest::hex(hash));
    replica.store.shared.lock().damage.add(name(&first[0]));
    let second = merge(&replica);
    assert!(second.iter().all(|input| !first.contains(input)));
    replica.store.shared.lock().damage.add(name(&second[0]));
    assert_eq!(replica.store.propose(&merge_all, 0), None, "what can not be read is not merged");
}

#[test]
fn what_is_left_in_partitions_of_the_past_is_merged() {
    let mut replica = Replica::new();
    for round in 0..3 {
        replica.write(&[("a", round, round as f64)]);
        replica.begin_flush(false);
        replica.settle_with(&quiet());
    }
    assert_eq!(replica.store.stats().segments, 3, "too few for a tier");
    replica.time_ms = 2 * PARTITION_MS;
    replica.settle_with(&quiet());
    assert_eq!(replica.store.stats().segments, 1);
}

#[test]
fn a_flush_of_many_days_writes_few_segments_and_the_rest_is_split_later() {
    let mut replica = Replica::new();
    let samples: Vec<(&str, i64, f64)> = (0..100).map(|day| ("a", day * PARTITION_MS, day as f64)).collect();
    replica.write(&samples);
    replica.begin_flush(false);
    run_jobs(&replica.store);
    let install = replica.store.propose(&quiet(), 0).expect("the flush is done");
    replica.apply_bytes(&install.encode());
    assert_eq!(replica.store.stats().segments, 32);
    let before = replica.read();
    replica.settle_with(&quiet());
    assert_eq!(replica.store.stats().segments, 100);
    assert_eq!(replica.read(), before);
}

#[test]
fn old_partitions_go_by_the_clusters_clock() {
    let mut replica = Replica::new();
    replica.write(&[("a", 1, 1.0), ("a", 3 * PARTITION_MS, 2.0)]);
    replica.begin_flush(false);
    replica.settle();
    let policy = FlushPolicy { retention: metrics_kept(Some(2 * PARTITION_MS)), ..quiet() };
    replica.time_ms = 3 * PARTITION_MS - 1;
    replica.settle_with(&policy);
    assert_eq!(replica.store.stats().segments, 2, "the last millisecond of the day is not old enough");
    replica.time_ms = 3 * PARTITION_MS;
    replica.settle_with(&policy);
    assert_eq!(replica.read(), series(&[("a", &[(3 * PARTITION_MS, 2.0)])]));
}

#[test]
fn what_has_no_room_goes_before_its_time() {
    let mut replica = Replica::new();
    replica.write(&[("a", 1, 1.0), ("a", PARTITION_MS, 2.0), ("a", 3 * PARTITION_MS, 3.0)]);
    replica.begin_flush(false);
    replica.settle();
    let on_disk = replica.store.file_bytes();
    assert!(on_disk >= replica.store.segment_bytes());
    for age in [None, Some(100 * PARTITION_MS)] {
        let evict_before_ms = Some(PARTITION_MS + 1);
        let policy = FlushPolicy { evict_before_ms, retention: metrics_kept(age), ..quiet() };
        replica.settle_with(&policy);
        assert_eq!(replica.store.stats().segments, 2, "what ends behind the moment stays");
    }
    let policy = FlushPolicy { evict_before_ms: Some(2 * PARTITION_MS), ..quiet() };
    replica.settle_with(&policy);
    assert_eq!(replica.read(), series(&[("a", &[(3 * PARTITION_MS, 3.0)])]));
    assert!(replica.store.file_bytes() < on_disk);
}

#[test]
fn a_new_generation_forgets_series_and_is_told_to_writers() {
    let mut replica = Replica::new();
    let policy = FlushPolicy { force_flush: true, min_forgotten_series: 3, ..quiet() };
    for i in 0..10 {
        replica.write(&[(format!("gone{i}").as_str(), 1, 1.0)]);
    }
    replica.settle_with(&policy);
    // From here on only one series is alive. The window that saw the others ends, and then one that did not.
    for round in 0..6 {
        assert!(round > 3 || replica.store.stats().generation == 1, "too early in round {round}");
        replica.time_ms += 40 * 60 * 1000;
        replica.write(&[("alive", 10 + round, 1.0)]);
        replica.settle_with(&policy);
    }
    let stats = replica.store.stats();
    assert_eq!(stats.generation, 2);
    assert!(stats.series <= 1, "{} series", stats.series);
    assert_eq!(replica.read().len(), 11, "their samples stay");
    match replica.write(&[("alive", 100, 1.0)]) {
        SubBatchOutcome::Applied { generation, new_ordinals, .. } => {
            assert_eq!((generation, new_ordinals.len()), (2, 1));
        }
        other => panic!("{other:?}"),
    }
    replica.settle_with(&policy);
    let reopened = open(&replica.fs).expect("opens");
    assert_eq!(reopened.stats().generation, 2);
    assert_eq!(reopened.stats().series, 1);
}

#[test]
fn cleaning_takes_out_what_is_deleted_and_merges_nothing_else() {
    let mut replica = Replica::new();
    for round in 0..3 {
        let rows: Vec<_> = (0..500).map(|i| ("a", round * 1000 + i, 0.1 + i as f64)).collect();
        replica.write(&rows);
        replica.write(&[("b", round, 1.0)]);
        replica.begin_flush(false);
        replica.settle();
    }
    let before = replica.store.stats();
    let matchers = vec![protocol::matcher::Matcher::equal("s", "a")];
    let body = |start_ms, end_ms| CommandBody::DeleteSeries {
        tenant: protocol::ids::TenantId::default(),
        matchers: matchers.clone(),
        start_ms,
        end_ms,
    };
    // All of it of the first two segments, and of the third from its middle on.
    replica.apply(body(i64::MIN, 1999));
    replica.apply(body(2250, i64::MAX));
    assert_eq!(replica.store.stats().tombstones, 2);
    let left: Vec<(i64, f64)> = (0..250).map(|i| (2000 + i, 0.1 + i as f64)).collect();
    let expected = series(&[("a", &left), ("b", &[(0, 1.0), (1, 1.0), (2, 1.0)])]);
    assert_eq!(replica.read(), expected, "hidden at once");
    replica.settle();
    assert_eq!((replica.store.stats().tombstones, replica.store.stats().segment_samples), (2, 1503));

    let quiet = FlushPolicy { max_age_ms: i64::MAX, merge_factor: usize::MAX, ..FlushPolicy::default() };
    replica.settle_with(&FlushPolicy { clean_tombstones: true, ..quiet });
    let after = replica.store.stats();
    assert_eq!((after.tombstones, after.segments, after.segment_samples), (0, 3, 253));
    assert!(after.segment_bytes < before.segment_bytes);
    assert_eq!(replica.read(), expected);
    let reopened = open(&replica.fs).expect("opens");
    assert_eq!((read(&reopened.snapshot()), reopened.stats().tombstones), (expected, 0));
}

#[test]
fn a_shard_holds_as_many_series_as_it_may() {
    let fs = crate::fs::mem::MemFs::new(1).with_dir("/data");
    let store = ShardStore::open(fs, Path::new(DIR), ShardId(1), ShardOptions { max_series: 2 }, LogIndex(0))
        .expect("opens");
    let header = CommandHeader::default();
    let write = |index: u64, samples: &[(&str, i64, f64)]| {
        let bytes = protocol::command::encode_write(header, &[sub_batch(samples)]);
        match apply_entry(&store, index, &bytes) {
            protocol::command::CommandOutcome::Write(outcomes) => {
                SubBatchOutcome::decode(&mut &outcomes[0][..]).expect("an outcome")
            }
            other => panic!("{other:?}"),
        }
    };
    let ordinal = |n| Some(protocol::ids::Ordinal(n));
    let applied = |new_ordinals, series_limit, samples| SubBatchOutcome::Applied {
        generation: 1,
        new_ordinals,
        series_limit,
        samples,
        histograms: 0,
        exemplars: 0,
    };
    assert_eq!(write(1, &[("a", 1, 1.0)]), applied(vec![ordinal(0)], 0, 1));
    // A router that does not know the shard brings all labels: only those for which there is no room are refused.
    let outcome = write(2, &[("a", 2, 1.0), ("b", 2, 1.0), ("c", 2, 1.0), ("a", 3, 1.0), ("c", 3, 1.0)]);
    assert_eq!(outcome, applied(vec![ordinal(0), ordinal(1), None], 2, 3));
    assert_eq!(write(3, &[("b", 4, 1.0), ("a", 4, 1.0)]), applied(vec![ordinal(1), ordinal(0)], 0, 2));
    let a: &[(i64, f64)] = &[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)];
    assert_eq!(read(&store.snapshot()), series(&[("a", a), ("b", &[(2, 1.0), (4, 1.0)])]));
}

#[test]
fn a_day_is_rolled_up_once_all_of_it_is_in_segments() {
    let mut replica = Replica::new();
    let minutes = |day: i64, every: i64| {
        let at = move |i: i64| day * PARTITION_MS + i * 60_000;
        (0..1440).filter(move |i| i % 2 == every).map(move |i| ("a", at(i), (i % 60) as f64))
    };
    for every in 0..2 {
        for day in 0..2 {
            replica.write(&minutes(day, every).collect::<Vec<_>>());
        }
        replica.begin_flush(false);
        replica.settle_with(&quiet());
    }
    let before = replica.read();
    let ages = |metrics, rollups| Ages { metrics: Some(metrics), rollups, ..Ages::default() };
    let policy = |ages| {
        let retention = Arc::new(Retention::of_all(ages));
        FlushPolicy { encoder_epoch: protocol::epoch::NEWEST, retention, ..quiet() }
    };
    let kept = policy(ages(PARTITION_MS, Rollups::Until(Some(5 * PARTITION_MS))));
    replica.time_ms = 2 * PARTITION_MS + 1000;
    replica.settle_with(&kept);
    assert_eq!(replica.read(), before, "the day has an hour more");
    replica.write(&[("b", PARTITION_MS - 1, 1.0)]);
    replica.time_ms += 2 * 3_600_000;
    replica.settle_with(&kept);
    assert_eq!(replica.read()[&labels("a").to_string()], before[&labels("a").to_string()], "a late sample");
    replica.begin_flush(false);
    replica.settle_with(&FlushPolicy { encoder_epoch: 2, ..kept.clone() });
    assert_eq!(replica.read()[&labels("a").to_string()].len(), 2880, "an older build is in the cluster");
    replica.settle_with(&kept);
    let left = &replica.read()[&labels("a").to_string()];
    let of_first_day = left.iter().filter(|(time, _)| *time < PARTITION_MS).count();
    // The hour that ends at midnight has one sample at its end, the others begin with 1 and end with 0.
    assert_eq!((of_first_day, left.len()), (1 + 23 * 3 + 2, 1 + 23 * 3 + 2 + 1440));
    let rolled = |replica: &Replica| {
        let state = replica.store.shared.lock();
        let rolled = state.manifest.segments.iter().filter(|s| s.partition.class == Partition::ROLLED_UP);
        rolled.map(|s| s.partition.bucket).collect::<Vec<_>>()
    };
    assert_eq!(rolled(&replica), [0]);
    let digest = replica.store.digest();
    let replayed = open_with(&MemFs::new(9).with_dir("/data"), ShardOptions::default())
        .expect("an empty directory opens");
    for (at, command) in (1..).zip(&replica.log) {
        apply_entry(&replayed, at, command);
    }
    run_jobs(&replayed);
    assert_eq!((replayed.digest(), read(&replayed.snapshot())), (digest, replica.read()), "replicas agree");
    replica.time_ms = 6 * PARTITION_MS;
    replica.settle_with(&kept);
    assert_eq!(rolled(&replica), [1], "roll-ups go when their own time is over");
    replica.settle_with(&policy(ages(PARTITION_MS, Rollups::None)));
    assert_eq!(
        (rolled(&replica), replica.store.stats().segments),
        (vec![], 0),
        "or when nobody wants them any more"
    );
}
