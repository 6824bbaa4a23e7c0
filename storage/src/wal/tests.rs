//! Tests of the log. This file: the harness and plain behaviour; `crash`, `damage` and `model` are the long ones.

mod crash;
mod damage;
mod model;

use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::fs::OpenMode;
use crate::fs::mem::{CrashMode, FaultOp, MemFs};
use crate::fs::real::RealFs;

pub(super) const DIR: &str = "/node/wal";

pub(super) fn options() -> WalOptions {
    WalOptions {
        segment_bytes: 4096,
        cache_bytes: 1 << 20,
        batch_bytes: 1 << 20,
        rewrite_above_segments: usize::MAX,
        salt: 0x5a17,
    }
}

pub(super) fn open<F: Fs>(fs: &F) -> (Wal<F>, LogWriter<F>) {
    open_with(fs, options())
}

pub(super) fn open_with<F: Fs>(fs: &F, options: WalOptions) -> (Wal<F>, LogWriter<F>) {
    Wal::open(fs.clone(), Path::new(DIR), options).unwrap()
}

pub(super) fn flush<F: Fs>(writer: &mut LogWriter<F>) {
    while writer.write_pending().unwrap() > 0 {}
}

/// An entry whose bytes tell its index and a version.
pub(super) fn entry(index: u64, version: u64, body_len: usize) -> WalEntry {
    let mut body = vec![(index * 31 + version * 7) as u8; body_len];
    for (byte, i) in body.iter_mut().zip((0..=u8::MAX).cycle()) {
        *byte = byte.wrapping_add(i);
    }
    WalEntry { index, head: Bytes::from(format!("{version}:{index}")), body: body.into() }
}

pub(super) fn entries(range: Range<u64>, version: u64, body_len: usize) -> Vec<WalEntry> {
    range.map(|index| entry(index, version, body_len)).collect()
}

pub(super) fn all<F: Fs>(wal: &Wal<F>, group: ShardId) -> Vec<WalEntry> {
    wal.read(group, 0..u64::MAX, usize::MAX).unwrap()
}

const A: ShardId = ShardId(1);
const B: ShardId = ShardId(2);

#[test]
fn what_is_appended_is_readable_at_once_and_after_a_reopen() {
    let fs = MemFs::new(1);
    let (wal, mut writer) = open(&fs);
    let (first, second) = (entries(1..4, 1, 10), entries(4..6, 1, 0));
    wal.append(A, first.clone(), ignore());
    assert_eq!(all(&wal, A), first);
    wal.append(A, second.clone(), ignore());
    wal.append(B, entries(7..8, 1, 10), ignore());
    wal.save_vote(A, Bytes::from_static(b"vote"), ignore());
    wal.save_committed(B, Bytes::from_static(b"committed")).unwrap();
    flush(&mut writer);
    let expected = [first, second].concat();
    assert_eq!(all(&wal, A), expected);
    let (state_a, state_b) = (wal.state(A), wal.state(B));
    assert_eq!((state_a.first, state_a.last), (Some(1), Some(5)));
    drop((wal, writer));

    let (wal, _writer) = open(&fs);
    assert_eq!(all(&wal, A), expected);
    assert_eq!((wal.state(A), wal.state(B)), (state_a, state_b));
    assert_eq!(wal.state(B).committed.as_deref(), Some(&b"committed"[..]));
    assert_eq!(wal.groups(), [A, B]);
    assert_eq!(wal.state(ShardId(9)), GroupState::default());
}

#[test]
fn callbacks_come_in_order_and_only_after_the_sync() {
    let fs = MemFs::new(1);
    let (wal, mut writer) = open(&fs);
    let (tx, rx) = mpsc::channel();
    let note = |name: &'static str| -> Done {
        let tx = tx.clone();
        Box::new(move |result| tx.send((name, result.is_ok())).unwrap())
    };
    wal.append(A, entries(1..3, 1, 5), note("append"));
    wal.save_vote(B, Bytes::from_static(b"v"), note("vote"));
    wal.truncate_after(A, Some(1), note("truncate"));
    wal.purge(A, 1, Bytes::new(), note("purge"));
    wal.append(A, Vec::new(), note("nothing"));
    wal.remove_group(B, note("remove"));
    assert!(rx.try_recv().is_err(), "nothing is durable yet");
    let ops = fs.op_count();
    assert_eq!(writer.write_pending().unwrap(), 6);
    assert_eq!(fs.op_count() - ops, 2, "one write and one sync for all of them");
    let order: Vec<_> = rx.try_iter().collect();
    let names = ["append", "vote", "truncate", "purge", "nothing", "remove"];
    assert_eq!(order, names.map(|name| (name, true)));
    assert_eq!(writer.write_pending().unwrap(), 0);
}

#[test]
fn truncated_and_purged_entries_are_gone_and_overwritten_ones_new() {
    let fs = MemFs::new(1);
    let (wal, mut writer) = open(&fs);
    wal.append(A, entries(1..11, 1, 20), ignore());
    flush(&mut writer);
    wal.append(A, entries(11..13, 1, 20), ignore());
    wal.truncate_after(A, Some(6), ignore());
    wal.append(A, entries(7..9, 2, 20), ignore());
    wal.purge(A, 3, Bytes::from_static(b"id3"), ignore());
    let expected = [entries(4..7, 1, 20), entries(7..9, 2, 20)].concat();
    assert_eq!(all(&wal, A), expected);
    flush(&mut writer);
    assert_eq!(all(&wal, A), expected);
    let state = wal.state(A);
    drop((wal, writer));
    let (wal, mut writer) = open(&fs);
    assert_eq!(all(&wal, A), expected);
    assert_eq!(wal.state(A), state);
    assert_eq!(state.purged, Some((3, Bytes::from_static(b"id3"))));

    // Beyond the end, as after a snapshot from the leader.
    wal.purge(A, 100, Bytes::from_static(b"id100"), ignore());
    wal.append(A, entries(101..102, 3, 1), ignore());
    flush(&mut writer);
    drop((wal, writer));
    let (wal, _writer) = open(&fs);
    assert_eq!(all(&wal, A), entries(101..102, 3, 1));
    wal.truncate_after(A, None, ignore());
    assert_eq!(all(&wal, A), []);
}

#[test]
fn a_gap_is_refused_and_changes_nothing() {
    let (wal, mut writer) = open(&MemFs::new(1));
    wal.append(A, entries(5..7, 1, 1), ignore());
    for bad in
        [entries(8..9, 1, 1), entries(6..7, 1, 1), [entries(7..8, 1, 1), entries(9..10, 1, 1)].concat()]
    {
        let (tx, rx) = mpsc::channel();
        wal.append(A, bad, Box::new(move |result| tx.send(result).unwrap()));
        assert!(matches!(rx.recv().unwrap(), Err(WalError::Gap { .. })));
    }
    wal.purge(A, 6, Bytes::new(), ignore());
    let (tx, rx) = mpsc::channel();
    wal.append(A, entries(9..10, 1, 1), Box::new(move |result| tx.send(result).unwrap()));
    assert!(matches!(rx.recv().unwrap(), Err(WalError::Gap { expected: 7, .. })));
    wal.append(A, entries(7..8, 1, 1), ignore());
    flush(&mut writer);
    assert_eq!(all(&wal, A), entries(7..8, 1, 1));
}

#[test]
fn reads_are_bounded_by_bytes_and_never_empty() {
    let fs = MemFs::new(1);
    let small = WalOptions { cache_bytes: 0, ..options() };
    let (wal, mut writer) = open_with(&fs, small);
    let expected = entries(1..50, 1, 100);
    for chunk in expected.chunks(7) {
        wal.append(A, chunk.to_vec(), ignore());
        flush(&mut writer);
    }
    wal.append(A, entries(50..52, 1, 100), ignore());
    for (start, max) in [(1, 0), (3, 1), (10, 250), (48, 1000), (51, 10)] {
        let read = wal.read(A, start..52, max).unwrap();
        assert!(!read.is_empty());
        let bytes: usize = read.iter().map(|e| e.head.len() + e.body.len()).sum();
        assert!(bytes <= max || read.len() == 1);
        assert_eq!(read, entries(start..start + read.len() as u64, 1, 100));
    }
    assert_eq!(wal.read(A, 0..10, usize::MAX).unwrap(), entries(1..10, 1, 100));
    assert_eq!(wal.read(A, 52..60, usize::MAX).unwrap(), []);
    assert_eq!(wal.read(B, 0..60, usize::MAX).unwrap(), []);
    let stats = wal.stats();
    assert!(stats.cold_read_bytes > 0);
}

#[test]
fn the_cache_keeps_to_its_bound_and_to_what_is_not_on_disk() {
    let fs = MemFs::new(1);
    let (wal, mut writer) =
        open_with(&fs, WalOptions { cache_bytes: 10_000, segment_bytes: 1 << 20, ..options() });
    for round in 0..20 {
        wal.append(A, entries(round * 10..round * 10 + 10, 1, 200), ignore());
        wal.append(B, entries(round..round + 1, 1, 100), ignore());
        flush(&mut writer);
        assert!(wal.stats().cached_bytes <= 10_000);
    }
    let cold = wal.stats().cold_read_bytes;
    assert_eq!(wal.read(A, 195..200, usize::MAX).unwrap(), entries(195..200, 1, 200));
    assert_eq!(wal.stats().cold_read_bytes, cold, "recent entries are in memory");
    assert_eq!(wal.read(A, 0..200, usize::MAX).unwrap(), entries(0..200, 1, 200));
    wal.append(A, entries(200..300, 1, 200), ignore());
    assert!(wal.stats().cached_bytes > 10_000, "nothing may leave memory that no disk holds");
    assert_eq!(all(&wal, A), entries(0..300, 1, 200));
    flush(&mut writer);
    assert!(wal.stats().cached_bytes <= 10_000);
    wal.remove_group(A, ignore());
    wal.purge(B, 100, Bytes::new(), ignore());
    assert_eq!(wal.stats().cached_bytes, 0);
}

#[test]
fn segments_go_when_no_group_needs_them_and_state_stays() {
    let fs = MemFs::new(1);
    let (wal, mut writer) = open(&fs);
    wal.save_vote(B, Bytes::from_static(b"old vote"), ignore());
    wal.append(B, entries(1..2, 1, 10), ignore());
    for round in 0..30 {
        wal.append(A, entries(round * 5..round * 5 + 5, 1, 200), ignore());
        flush(&mut writer);
    }
    let before = wal.stats();
    assert!(before.segments > 5);
    assert_eq!(before.pinning, Some(A));
    wal.purge(A, 148, Bytes::from_static(b"a"), ignore());
    flush(&mut writer);
    let pinned = wal.stats();
    assert_eq!((pinned.segments, pinned.pinning), (before.segments, Some(B)), "B's one entry keeps all");
    let of_b = pinned.groups.iter().find(|group| group.group == B).unwrap();
    assert!(of_b.pinned_bytes > pinned.disk_bytes - 4096 && of_b.bytes < 100);
    wal.purge(B, 1, Bytes::from_static(b"b"), ignore());
    flush(&mut writer);
    let after = wal.stats();
    assert!(after.segments <= 2, "{after:?}");
    assert_eq!(fs.list(Path::new(DIR)).unwrap().len(), after.segments);
    drop((wal, writer));
    let (wal, _writer) = open(&fs);
    assert_eq!(wal.state(B).vote.as_deref(), Some(&b"old vote"[..]));
    assert_eq!(wal.state(B).purged, Some((1, Bytes::from_static(b"b"))));
    assert_eq!(all(&wal, A), entries(149..150, 1, 200));
}

#[test]
fn an_idle_groups_few_entries_are_written_again_so_that_the_log_stays_short() {
    let fs = MemFs::new(1);
    let few = WalOptions { rewrite_above_segments: 3, cache_bytes: 0, ..options() };
    let (wal, mut writer) = open_with(&fs, few.clone());
    wal.append(B, entries(1..4, 2, 10), ignore());
    for round in 0..60 {
        wal.append(A, entries(round * 5..round * 5 + 5, 1, 200), ignore());
        flush(&mut writer);
        if round > 1 {
            wal.purge(A, round * 5 - 5, Bytes::new(), ignore());
        }
        assert_eq!(all(&wal, B), entries(1..4, 2, 10));
        assert!(wal.stats().segments <= 5, "{:?}", wal.stats());
    }
    let stats = wal.stats();
    assert!(stats.rewritten_bytes > 0 && stats.rewritten_bytes < stats.written_bytes / 20, "{stats:?}");
    wal.append(B, entries(4..6, 3, 10), ignore());
    flush(&mut writer);
    drop((wal, writer));
    let (wal, mut writer) = open_with(&fs, few);
    assert_eq!(all(&wal, B), [entries(1..4, 2, 10), entries(4..6, 3, 10)].concat());
    wal.truncate_after(B, Some(2), ignore());
    wal.append(B, entries(3..4, 4, 10), ignore());
    wal.purge(B, 1, Bytes::new(), ignore());
    flush(&mut writer);
    assert_eq!(all(&wal, B), [entries(2..3, 2, 10), entries(3..4, 4, 10)].concat());
}

#[test]
fn an_old_entry_that_can_not_be_read_keeps_its_segment_and_ends_nothing() {
    let fs = MemFs::new(1);
    let few = WalOptions { rewrite_above_segments: 3, cache_bytes: 0, ..options() };
    let (wal, mut writer) = open_with(&fs, few.clone());
    wal.append(B, entries(1..4, 2, 10), ignore());
    flush(&mut writer);
    fs.fail_next(FaultOp::Read, "wal-");
    for round in 0..60 {
        wal.append(A, entries(round * 5..round * 5 + 5, 1, 200), ignore());
        flush(&mut writer);
        if round > 1 {
            wal.purge(A, round * 5 - 5, Bytes::new(), ignore());
        }
    }
    assert!(!wal.is_poisoned());
    let stats = wal.stats();
    assert!(stats.rewritten_bytes > 0, "it was tried again: {stats:?}");
    for group in &stats.groups {
        assert_eq!(wal.group_bytes(group.group), group.bytes);
    }
    drop((wal, writer));
    let (wal, _writer) = open_with(&fs, few);
    assert_eq!(all(&wal, B), entries(1..4, 2, 10));
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_of_its_own() {
    let fs = MemFs::new(1);
    let (wal, mut writer) = open(&fs);
    let large = entries(1..3, 1, 10_000);
    wal.append(A, large.clone(), ignore());
    wal.append(A, entries(3..4, 1, 10), ignore());
    flush(&mut writer);
    wal.append(A, entries(4..5, 1, 10), ignore());
    flush(&mut writer);
    drop((wal, writer));
    let (wal, _writer) = open_with(&fs, WalOptions { cache_bytes: 0, ..options() });
    assert_eq!(all(&wal, A), [large, entries(3..5, 1, 10)].concat());
}

#[test]
fn a_failed_sync_poisons_and_nobody_is_told_success() {
    for op in [FaultOp::Sync, FaultOp::Write] {
        let fs = MemFs::new(1);
        let (wal, mut writer) = open(&fs);
        wal.append(A, entries(1..2, 1, 5), ignore());
        flush(&mut writer);
        fs.fail_next(op, "wal-");
        let (tx, rx) = mpsc::channel();
        for index in 2..4 {
            let tx = tx.clone();
            wal.append(A, entries(index..index + 1, 1, 5), Box::new(move |r| tx.send(r).unwrap()));
        }
        assert!(matches!(writer.write_pending(), Err(WalError::Io { .. })));
        wal.save_vote(A, Bytes::new(), Box::new(move |r| tx.send(r).unwrap()));
        let results: Vec<_> = rx.try_iter().collect();
        assert_eq!(results.len(), 3);
        assert!(results.iter().all(|r| matches!(r, Err(WalError::Poisoned { .. }))));
        assert!(wal.is_poisoned() && !writer.wait() && writer.is_finished());
        assert!(matches!(writer.write_pending(), Err(WalError::Poisoned { .. })));
        assert!(wal.save_committed(A, Bytes::new()).is_err());
        drop((wal, writer));
        let fs = fs.crash(CrashMode::DropUnsynced);
        assert_eq!(all(&open(&fs).0, A)[..1], entries(1..2, 1, 5), "what was acknowledged before stays");
    }
}

#[test]
fn a_full_disk_keeps_everything_waiting_until_there_is_space() {
    let fs = MemFs::new(1);
    let (wal, mut writer) = open(&fs);
    fs.set_quota(Some(4096 + 100));
    let (tx, rx) = mpsc::channel();
    let mut refused = 0;
    for index in 1..40 {
        let tx = tx.clone();
        wal.append(
            A,
            entries(index..index + 1, 1, 300),
            Box::new(move |r| tx.send((index, r.is_ok())).unwrap()),
        );
        wal.save_committed(A, Bytes::from(index.to_string())).unwrap();
        match writer.write_pending() {
            Ok(_) => {}
            Err(WalError::NoSpace { .. }) => refused += 1,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(refused > 20);
    let told = rx.try_iter().count();
    assert!(told < 15 && !wal.is_poisoned());
    assert_eq!(fs.list(Path::new(DIR)).unwrap().len(), 1, "attempts leave nothing behind");
    fs.set_quota(None);
    flush(&mut writer);
    let rest: Vec<_> = rx.try_iter().collect();
    assert_eq!(rest, (told as u64 + 1..40).map(|index| (index, true)).collect::<Vec<_>>());
    drop((wal, writer));
    let (wal, _writer) = open(&fs.crash(CrashMode::DropUnsynced));
    assert_eq!(all(&wal, A), entries(1..40, 1, 300));
    assert_eq!(wal.state(A).committed.as_deref(), Some(&b"39"[..]));
}

#[test]
fn closing_writes_what_waits_and_refuses_the_rest() {
    let fs = MemFs::new(1);
    let (wal, mut writer) = open(&fs);
    wal.append(A, entries(1..2, 1, 5), ignore());
    wal.close();
    let (tx, rx) = mpsc::channel();
    wal.append(A, entries(2..3, 1, 5), Box::new(move |r| tx.send(r).unwrap()));
    assert!(matches!(rx.recv().unwrap(), Err(WalError::Closed)));
    assert!(writer.wait() && !writer.is_finished());
    flush(&mut writer);
    assert!(!writer.wait() && writer.is_finished());
    drop((wal, writer));
    assert_eq!(all(&open(&fs).0, A), entries(1..2, 1, 5));
}

#[test]
fn dropping_the_last_handle_ends_a_waiting_writer_and_dropping_the_writer_fails_what_waits() {
    let fs = MemFs::new(1);
    let (wal, writer) = open(&fs);
    let (other, thread) = (wal.clone(), std::thread::spawn(move || writer.wait()));
    drop(wal);
    drop(other);
    // A fresh log is marked, so that there is nothing left to write.
    assert!(!thread.join().unwrap());

    let (wal, writer) = open(&fs);
    let (tx, rx) = mpsc::channel();
    wal.append(A, entries(1..2, 1, 5), Box::new(move |r| tx.send(r).unwrap()));
    drop(writer);
    assert!(rx.recv().unwrap().is_err() && wal.is_poisoned());
}

#[test]
fn the_waker_fires_when_work_comes_to_an_empty_queue() {
    let (wal, mut writer) = open(&MemFs::new(1));
    let (tx, rx) = mpsc::channel();
    writer.set_waker(Box::new(move || {
        let _ = tx.send(());
    }));
    assert_eq!(rx.try_iter().count(), 1, "once at first");
    wal.save_committed(A, Bytes::new()).unwrap();
    assert_eq!(rx.try_iter().count(), 0, "committed positions wake nobody");
    wal.append(A, entries(1..2, 1, 5), ignore());
    wal.append(A, entries(2..3, 1, 5), ignore());
    assert_eq!(rx.try_iter().count(), 1);
    flush(&mut writer);
    wal.append(A, entries(3..4, 1, 5), ignore());
    assert_eq!(rx.try_iter().count(), 1);
}

#[test]
fn a_mark_is_written_once_after_quiet() {
    let fs = MemFs::new(1);
    let (wal, mut writer) = open(&fs);
    assert!(!wal.mark_if_idle(), "a new log has nothing to prove");
    wal.append(A, entries(1..2, 1, 5), ignore());
    flush(&mut writer);
    assert!(!wal.mark_if_idle(), "something was written since the last look");
    assert!(wal.mark_if_idle());
    assert!(!wal.mark_if_idle());
    flush(&mut writer);
    assert!(!wal.mark_if_idle() && !wal.mark_if_idle());
    drop((wal, writer));
    let (wal, _writer) = open(&fs);
    assert!(!wal.mark_if_idle() && !wal.mark_if_idle(), "the mark is found at open");
}

#[test]
fn it_works_on_the_operating_system_and_refuses_unknown_versions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node/wal");
    let (wal, mut writer) = Wal::open(RealFs, &path, options()).unwrap();
    let thread = std::thread::spawn(move || {
        while writer.wait() {
            writer.write_pending().unwrap();
        }
    });
    let (tx, rx) = mpsc::channel();
    for index in 0..100 {
        let tx = tx.clone();
        wal.append(
            A,
            entries(index..index + 1, 1, 300),
            Box::new(move |r| tx.send((index, r.is_ok())).unwrap()),
        );
        if index % 10 == 9 {
            wal.purge(A, index - 5, Bytes::new(), ignore());
        }
    }
    for index in 0..100 {
        assert_eq!(rx.recv().unwrap(), (index, true));
    }
    drop(wal);
    thread.join().unwrap();
    let (wal, writer) = Wal::open(RealFs, &path, options()).unwrap();
    assert_eq!(all(&wal, A), entries(95..100, 1, 300));
    drop((wal, writer));

    let newest = RealFs.list(&path).unwrap().pop().unwrap().name;
    let file = RealFs.open(&path.join(&newest), OpenMode::ReadWrite).unwrap();
    let mut header = [0; format::SEGMENT_HEADER_BYTES];
    file.read_exact_at(0, &mut header).unwrap();
    header[8] = 2;
    let crc = crc32c::crc32c(&header[..40]);
    header[40..44].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(0, &header).unwrap();
    let refused = Wal::open(RealFs, &path, options()).err().unwrap();
    assert!(matches!(refused, WalError::Version { version: 2, .. }), "{refused}");
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000), salted: bool) {
        let fs = MemFs::new(1);
        if salted {
            drop(open(&fs));
        }
        fs.create_dir_all(Path::new(DIR)).unwrap();
        fs.write_atomic(&Path::new(DIR).join("wal-00000002.log"), &bytes).unwrap();
        let (wal, mut writer) = open(&fs);
        // Nothing of it is ours: no group may be trusted until it is removed, then all works.
        prop_assert!(wal.state(A).damage.is_some());
        wal.remove_group(A, ignore());
        wal.append(A, entries(1..2, 1, 5), ignore());
        flush(&mut writer);
        drop((wal, writer));
        let (wal, _writer) = open(&fs);
        prop_assert_eq!(all(&wal, A), entries(1..2, 1, 5));
        prop_assert!(wal.state(B).damage.is_some());
    }
}
