//! What a replica keeps in memory, and what it tells the node's ledger of it.

use protocol::memory::{MemoryLedger, MemoryUse};

use super::super::*;
use super::harness::*;
use crate::fs::mem::MemFs;

/// A log of five cuts that nobody installs. Each writes the same timestamps again, with other values.
fn cuts_without_installs() -> Replica {
    let mut leader = Replica::new();
    for round in 0..5 {
        let value = f64::from(round);
        leader.write(&[("a", 1, value), ("a", i64::from(round) * 10, value), ("b", 7, value)]);
        leader.begin_flush(round == 3);
    }
    leader.write(&[("a", 1, 9.0), ("c", 2, 9.0)]);
    leader
}

fn follower(leader: &Replica, ledger: &MemoryLedger) -> ShardStore<MemFs> {
    let options = ShardOptions::default();
    let store = ShardStore::open_within(
        MemFs::new(2).with_dir("/data"),
        Path::new(DIR),
        ShardId(1),
        options,
        LogIndex(0),
        ledger.clone(),
    )
    .expect("an empty directory opens");
    for (index, command) in leader.log.iter().enumerate() {
        apply_entry(&store, index as u64 + 1, command);
    }
    store
}

#[test]
fn a_memtable_leaves_memory_when_its_flush_is_done_whenever_the_install_comes() {
    let leader = cuts_without_installs();
    let ledger = MemoryLedger::default();
    let store = follower(&leader, &ledger);
    let (before, active) = (ledger.used_for(MemoryUse::Memtables), store.stats().memtable_bytes);
    assert_eq!(before, active + store.stats().frozen_bytes);
    assert!(store.is_flushing());

    // The last flush ends first: what is older must be read before it, so nothing goes until the first one ends.
    let jobs: Vec<_> = std::iter::from_fn(|| store.next_job()).collect();
    assert_eq!(jobs.len(), 5);
    for (done, job) in jobs.into_iter().rev().enumerate() {
        assert_eq!(store.stats().frozen_bytes > 0, done < 5);
        store.finish_job(job.run()).expect("no faults are planned");
        assert_eq!(read(&store.snapshot()), leader.read(), "{done} flushes done");
    }
    let stats = store.stats();
    assert_eq!((stats.frozen_memtables, stats.frozen_bytes, stats.segments), (5, 0, 0));
    assert_eq!(ledger.used_for(MemoryUse::Memtables), active);
    assert!(!store.is_flushing());
}

#[test]
fn installs_that_come_late_find_their_flushes() {
    let mut leader = cuts_without_installs();
    let store = follower(&leader, &MemoryLedger::default());
    run_jobs(&store);
    let known = leader.log.len();
    leader.settle();
    for (index, command) in leader.log.iter().enumerate().skip(known) {
        apply_entry(&store, index as u64 + 1, command);
        assert_eq!(read(&store.snapshot()), leader.read());
    }
    run_jobs(&store);
    assert_eq!(store.digest(), leader.store.digest());
    assert_eq!((store.stats().frozen_memtables, store.stats().digest_mismatches), (0, 0));
}

#[test]
fn a_reader_is_charged_for_what_it_keeps_and_a_store_gives_all_back() {
    let leader = cuts_without_installs();
    let ledger = MemoryLedger::default();
    let store = follower(&leader, &ledger);
    // An index that nobody has asked yet counts from the first series on: it does not come as a surprise.
    let registry = store.shared.lock().registry.bytes() as u64;
    assert!(ledger.used_for(MemoryUse::Series) > registry * 5 / 4, "{registry}");
    let held = ledger.used_for(MemoryUse::Memtables);
    let snapshot = store.snapshot();
    run_jobs(&store);
    assert_eq!(ledger.used_for(MemoryUse::Memtables), held, "the snapshot holds the memtables");
    drop(snapshot);
    assert!(ledger.used_for(MemoryUse::Memtables) < held);
    drop(store);
    assert_eq!(ledger.used(), 0);
}
