//! Tests of the store as a whole, over the file system in memory.

mod crash;
mod harness;
mod model;

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
