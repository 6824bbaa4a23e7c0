//! Tests of the store as a whole, over the file system in memory.

mod crash;
mod harness;
mod memory;
mod model;
mod policies;
mod reads;
mod verify;

use harness::*;
use protocol::command::CommandOutcome;

#[test]
fn a_write_is_seen_by_the_next_snapshot_and_not_by_the_one_before() {
    let mut replica = Replica::new();
    let before = replica.store.snapshot();
    replica.write(&[("a", 10, 1.0), ("b", 10, 2.0), ("a", 5, 3.0)]);
    assert_eq!(read(&before), series(&[]));
    assert_eq!(replica.read(), series(&[("a", &[(5, 3.0), (10, 1.0)]), ("b", &[(10, 2.0)])]));
    assert_eq!(before.applied_index().0 + 1, replica.store.snapshot().applied_index().0);
}

#[test]
fn flushed_data_is_read_from_segments() {
    let mut replica = Replica::new();
    replica.write(&[("a", 10, 1.0), ("b", 10, 2.0)]);
    replica.begin_flush(false);
    replica.write(&[("a", 20, 4.0)]);
    let expected = series(&[("a", &[(10, 1.0), (20, 4.0)]), ("b", &[(10, 2.0)])]);
    assert_eq!(replica.read(), expected, "from the frozen memtable");
    replica.settle();
    assert_eq!(replica.store.stats().segments, 1);
    assert_eq!(replica.read(), expected, "from the segment");
    assert_eq!(replica.store.flushed().map(|p| p.index.0), Some(2));
}

#[test]
fn content_that_is_no_command_is_rejected() {
    let mut replica = Replica::new();
    assert!(matches!(replica.apply_bytes(b"nonsense"), CommandOutcome::Rejected(_)));
    assert_eq!(replica.store.applied_index().0, 1);
}

#[test]
fn files_of_a_manifest_that_is_being_written_stay() {
    let mut replica = Replica::new();
    for round in 0..2 {
        replica.write(&[("a", round, 1.0)]);
        replica.begin_flush(false);
    }
    let expected = replica.read();
    // The write of the manifest with two segments hangs, while they are merged into one and would be removed.
    let mut hanging = None;
    let policy = super::FlushPolicy { merge_all: true, max_age_ms: i64::MAX, ..Default::default() };
    for _ in 0..100 {
        while let Some(job) = replica.store.next_job() {
            if hanging.is_none() && job.name() == "persist" && replica.store.stats().segments == 2 {
                hanging = Some(job);
            } else {
                replica.store.finish_job(job.run()).expect("no faults are planned");
            }
        }
        if let Some(command) = replica.store.propose(&policy, 0) {
            replica.apply_bytes(&command.encode());
        }
    }
    assert_eq!(replica.store.stats().segments, 1);
    let written = hanging.expect("two segments were installed").run();
    replica.store.finish_job(written).expect("no faults are planned");

    let fs = replica.fs.crash(crate::fs::mem::CrashMode::DropUnsynced);
    let store = open(&fs).expect("what a crash leaves opens");
    let flushed = store.flushed().map_or(0, |position| position.index.0);
    for (index, command) in replica.log.iter().enumerate().skip(flushed as usize) {
        apply_entry(&store, index as u64 + 1, command);
    }
    assert_eq!(read(&store.snapshot()), expected);
}

#[test]
fn each_job_is_given_out_once() {
    let mut replica = Replica::new();
    for round in 0..2 {
        replica.write(&[("a", round, 1.0)]);
        replica.begin_flush(false);
        replica.settle();
    }
    let policy = super::FlushPolicy { merge_all: true, max_age_ms: i64::MAX, ..Default::default() };
    for _ in 0..20 {
        // All that are due, before any of them runs.
        let jobs: Vec<_> = std::iter::from_fn(|| replica.store.next_job()).take(10).collect();
        assert!(jobs.len() <= 2, "{jobs:?}");
        let names: std::collections::BTreeSet<_> = jobs.iter().map(|job| job.name()).collect();
        assert_eq!(names.len(), jobs.len(), "{jobs:?}");
        for job in jobs {
            replica.store.finish_job(job.run()).expect("no faults are planned");
        }
        if let Some(command) = replica.store.propose(&policy, 0) {
            replica.apply_bytes(&command.encode());
        }
    }
    assert_eq!(replica.store.stats().segments, 1);
    assert!(!replica.store.is_busy());
}
