//! Crashes at every operation on the disk, full disks, failing syncs, damaged files.

use std::path::PathBuf;

use protocol::ids::TenantId;
use protocol::logs::LogFilter;
use protocol::matcher::Matcher;

use super::super::*;
use super::harness::*;
use super::model::transfer;
use crate::error::StorageError;
use crate::fs::mem::{CrashMode, FaultOp, MemFs};
use crate::manifest::{MANIFEST_FILE, PARTITION_MS};

/// What a crash at operation `n` leaves: nothing unsynced, and one of the other possibilities in turn.
fn modes(n: u64) -> [CrashMode; 2] {
    [CrashMode::DropUnsynced, CrashMode::POWER[1 + n as usize % (CrashMode::POWER.len() - 1)]]
}

/// Applies a log and runs jobs as they come up; stops doing so when the disk fails.
fn live(fs: &MemFs, log: &[Bytes]) -> Result<(), StorageError> {
    let store = open(fs)?;
    for (i, command) in log.iter().enumerate() {
        apply_entry(&store, i as u64 + 1, command);
        while let Some(job) = store.next_job() {
            store.finish_job(job.run())?;
        }
    }
    Ok(())
}

/// Opens what a crash left, replays, and compares with a replica that never crashed.
fn recover(fs: &MemFs, reference: &Replica, what: &str) {
    let store = open(fs).unwrap_or_else(|e| panic!("{what}: {e}"));
    let applied = store.applied_index().0;
    for (i, command) in reference.log.iter().enumerate().skip(applied as usize) {
        apply_entry(&store, i as u64 + 1, command);
    }
    // Until jobs have run, a drop waits for its turn behind them.
    let kept = |all: Series| {
        let kept = all.into_iter().map(|(name, mut samples)| {
            samples.retain(|(time, _)| *time >= PARTITION_MS);
            (name, samples)
        });
        kept.filter(|(_, samples)| !samples.is_empty()).collect::<Series>()
    };
    assert_eq!(kept(read(&store.snapshot())), kept(reference.read()), "{what}, before jobs");
    let metrics = |store: &ShardStore<MemFs>| store.snapshot().span_metrics();
    assert!(metrics(&store) == metrics(&reference.store), "{what}, metrics of spans");
    let logs = |store: &ShardStore<MemFs>| read_rows(&store.snapshot(), PARTITION_MS);
    assert_eq!(logs(&store), logs(&reference.store), "{what}, logs before jobs");
    run_jobs(&store);
    assert_eq!(read(&store.snapshot()), reference.read(), "{what}");
    let logs = |store: &ShardStore<MemFs>| read_rows(&store.snapshot(), 0);
    assert_eq!(logs(&store), logs(&reference.store), "{what}, logs");
    assert_eq!(store.digest(), reference.store.digest(), "{what}");
    assert_eq!(
        store.snapshot().metadata(&TenantId::default(), None),
        reference.store.snapshot().metadata(&TenantId::default(), None)
    );
    let files = |fs: &MemFs| fs.list(&files::files_dir(Path::new(DIR))).expect("a listing");
    assert_eq!(files(fs), files(&reference.fs), "{what}");
}

#[test]
fn a_crash_at_any_operation_loses_nothing() {
    let reference = eventful();
    let stats = reference.store.stats();
    assert!(
        stats.merged_bytes > 0 && stats.segment_records > 0 && stats.segment_spans > 0,
        "all kinds of data are there"
    );
    let calm = MemFs::new(2).with_dir("/data");
    let before = calm.op_count();
    live(&calm, &reference.log).expect("no fault is planned");
    let operations = calm.op_count() - before;
    assert!(operations > 100, "only {operations} operations");
    for n in 1..=operations {
        let fs = MemFs::new(n).with_dir("/data");
        fs.power_off_after(n);
        assert!(live(&fs, &reference.log).is_err(), "the power fails at operation {n}");
        for mode in modes(n) {
            let fork = fs.fork(n * 31).crash(mode);
            recover(&fork, &reference, &format!("power off at operation {n}, {mode:?}"));
        }
    }
}

#[test]
fn a_second_crash_during_recovery_loses_nothing_either() {
    let reference = eventful();
    for n in (5..120).step_by(23) {
        let first = MemFs::new(n).with_dir("/data");
        first.power_off_after(n);
        live(&first, &reference.log).expect_err("the power fails");
        let second = first.crash(CrashMode::Torn);
        second.power_off_after(n / 2 + 1);
        let _ = open(&second).map(|store| {
            for (i, command) in reference.log.iter().enumerate().skip(store.applied_index().0 as usize) {
                apply_entry(&store, i as u64 + 1, command);
                while let Some(job) = store.next_job() {
                    if store.finish_job(job.run()).is_err() {
                        return;
                    }
                }
            }
        });
        recover(&second.crash(CrashMode::Subset), &reference, &format!("twice, at operation {n}"));
    }
}

#[test]
fn a_crash_while_a_snapshot_is_received_leaves_the_old_state_or_the_new() {
    let reference = eventful();
    let receive = |fs: &MemFs| -> Result<(), StorageError> {
        let store = open(fs)?;
        // Something of its own first, which the snapshot replaces.
        for (i, command) in reference.log.iter().enumerate().take(9) {
            apply_entry(&store, i as u64 + 1, command);
            while let Some(job) = store.next_job() {
                store.finish_job(job.run())?;
            }
        }
        let snapshot = reference.store.manifest_for_snapshot();
        let snapshot = SnapshotManifest::decode(snapshot.bytes().clone())?;
        for file in store.missing(&snapshot) {
            let mut offset = 0;
            while offset < file.len_bytes {
                let chunk = reference.store.read_file_chunk(&file, offset, 1000)?;
                offset = store.receive_file(&file, offset, &chunk)?;
            }
        }
        store.install_snapshot(&snapshot)
    };
    let calm = MemFs::new(3).with_dir("/data");
    let before = calm.op_count();
    receive(&calm).expect("no fault is planned");
    for n in 1..=calm.op_count() - before {
        let fs = MemFs::new(n).with_dir("/data");
        fs.power_off_after(n);
        receive(&fs).expect_err("the power fails");
        for mode in modes(n) {
            recover(&fs.fork(n).crash(mode), &reference, &format!("receiving, operation {n}, {mode:?}"));
        }
    }
}

#[test]
fn a_job_that_the_disk_refuses_is_due_again() {
    let reference = eventful();
    for (op, part) in [
        (FaultOp::Write, ".tmp"),
        (FaultOp::Sync, ".tmp"),
        (FaultOp::Sync, "manifest"),
        (FaultOp::Write, "manifest"),
    ] {
        let fs = MemFs::new(4).with_dir("/data");
        let store = open(&fs).expect("an empty directory opens");
        let mut failures = 0;
        for (i, command) in reference.log.iter().enumerate() {
            apply_entry(&store, i as u64 + 1, command);
            if i % 3 == 0 {
                fs.fail_next(op, part);
            }
            while let Some(job) = store.next_job() {
                failures += u64::from(store.finish_job(job.run()).is_err());
            }
        }
        assert!(failures > 0, "{op:?} of {part} never failed");
        assert_eq!(store.stats().failed_jobs, failures);
        assert_eq!(read(&store.snapshot()), reference.read());
        assert_eq!(store.digest(), reference.store.digest());
        recover(&fs.crash(CrashMode::DropUnsynced), &reference, &format!("{op:?} of {part}"));
    }
}

#[test]
fn a_full_disk_stops_flushes_until_there_is_room() {
    let mut replica = Replica::new();
    replica.write(&[("a", 1, 1.0)]);
    replica.begin_flush(false);
    replica.fs.set_quota(Some(replica.fs.used_bytes() + 10));
    let job = replica.store.next_job().expect("a flush");
    let error = replica.store.finish_job(job.run()).expect_err("no room");
    assert_eq!(error.kind(), protocol::error::ErrorKind::ResourceExhausted, "{error:?}");
    replica.write(&[("a", 2, 2.0)]);
    assert_eq!(replica.read(), series(&[("a", &[(1, 1.0), (2, 2.0)])]));
    replica.fs.set_quota(None);
    replica.settle();
    assert_eq!(replica.read(), series(&[("a", &[(1, 1.0), (2, 2.0)])]));
    assert_eq!(replica.store.stats().segments, 1);
}

/// Path of a segment of metrics or of logs that the manifest names.
fn some_segment(replica: &Replica, of_logs: bool) -> PathBuf {
    let state = replica.store.shared.lock();
    let meta = state.manifest.segments.iter().find(|meta| meta.partition.is_logs() == of_logs);
    files::file_path(Path::new(DIR), &meta.expect("a segment of the signal").file)
}

/// Path of a file of a kind among those that the manifest names.
fn some_file(replica: &Replica, extension: &str) -> PathBuf {
    let dir = files::files_dir(Path::new(DIR));
    let listing = replica.fs.list(&dir).expect("a listing");
    let entry = listing.iter().find(|e| e.name.ends_with(extension)).expect("a file of the kind");
    dir.join(&entry.name)
}

#[test]
fn a_damaged_manifest_registry_metadata_or_window_file_is_an_error() {
    let replica = eventful();
    let manifest = Path::new(DIR).join(MANIFEST_FILE);
    let extensions = [".reg", ".meta", ".win"].map(|extension| some_file(&replica, extension));
    for path in [manifest].into_iter().chain(extensions) {
        let len = replica.fs.read(&path, u64::MAX).expect("readable").len() as u64;
        for at in 0..len {
            let fs = replica.fs.fork(1);
            fs.flip_bit(&path, at, 3).expect("a bit");
            let error = open(&fs).expect_err("damage");
            assert_eq!(
                error.kind(),
                protocol::error::ErrorKind::Corruption,
                "byte {at} of {path:?}: {error}"
            );
        }
        let fs = replica.fs.fork(1);
        fs.damage(&path, |bytes| bytes.truncate(bytes.len() / 2)).expect("cut");
        assert_eq!(open(&fs).expect_err("cut").kind(), protocol::error::ErrorKind::Corruption);
        if path.file_name().is_some_and(|name| name != MANIFEST_FILE) {
            let fs = replica.fs.fork(1);
            fs.delete(&path).expect("gone");
            assert!(matches!(open(&fs), Err(StorageError::MissingFile { .. })));
        }
    }
}

#[test]
fn a_damaged_segment_fails_reads_until_a_peers_copy_takes_its_place() {
    let healthy = eventful();
    let expected = read(&open(&healthy.fs.fork(1)).expect("opens").snapshot());
    let path = some_segment(&healthy, false);
    let len = healthy.fs.read(&path, u64::MAX).expect("readable").len() as u64;
    let read_all = |store: &ShardStore<MemFs>| {
        let visit = &mut |_: crate::scan::SeriesColumns<'_>| std::ops::ControlFlow::Continue(());
        store.snapshot().select(&TenantId::default(), &[], i64::MIN, i64::MAX, visit)
    };
    let mut found_by_reading = 0;
    for at in (0..len + 5).step_by(5) {
        let fs = healthy.fs.fork(1);
        if at < len {
            fs.flip_bit(&path, at, 3).expect("a bit");
        } else {
            fs.delete(&path).expect("gone");
        }
        let store = open(&fs).expect("a damaged segment does not keep the store from opening");
        let found_on_open = !store.missing_files().is_empty();
        if read_all(&store).is_ok() {
            // Nothing that this read needs.
            assert_eq!(read(&store.snapshot()), expected, "byte {at}");
            continue;
        }
        found_by_reading += usize::from(!found_on_open);
        let missing = store.missing_files();
        assert_eq!(missing.len(), 1, "byte {at}");
        assert!(path.ends_with(missing[0].name()));
        transfer(&healthy.store, &store, &missing[0]);
        assert_eq!(read(&store.snapshot()), expected);
        assert_eq!(store.missing_files(), []);
        assert_eq!(store.digest(), healthy.store.digest());
        let again = open(&fs).expect("the copy is durable");
        assert_eq!(read(&again.snapshot()), expected);
    }
    assert!(found_by_reading > 0, "some damage shows only when it is read");
}

#[test]
fn a_merge_with_a_damaged_input_takes_the_others_result() {
    let mut healthy = Replica::new();
    for round in 0..2 {
        healthy.write(&[("a", round, round as f64)]);
        healthy.begin_flush(false);
        healthy.settle();
    }
    let fs = healthy.fs.fork(2);
    fs.delete(&some_file(&healthy, ".seg")).expect("gone");
    healthy.settle_with(&FlushPolicy { merge_all: true, max_age_ms: i64::MAX, ..FlushPolicy::default() });
    assert_eq!(healthy.store.stats().segments, 1);

    let store = open(&fs).expect("opens");
    for (i, command) in healthy.log.iter().enumerate().skip(store.applied_index().0 as usize) {
        apply_entry(&store, i as u64 + 1, command);
    }
    run_jobs(&store);
    // The input is asked for too, but nobody has it any more.
    let missing = store.missing_files();
    assert_eq!((missing.len(), store.stats().pending_ops), (2, 1));
    assert!(healthy.store.read_file_chunk(&missing[1], 0, 10).is_err(), "the others removed it");
    transfer(&healthy.store, &store, &missing[0]);
    run_jobs(&store);
    assert_eq!(store.missing_files(), []);
    assert_eq!(store.digest(), healthy.store.digest());
    assert_eq!(read(&store.snapshot()), healthy.read());
    assert_eq!(read(&open(&fs).expect("opens again").snapshot()), healthy.read());
}

#[test]
fn a_store_behind_the_purged_log_is_damaged_and_keeps_its_files() {
    let replica = eventful();
    let flushed = replica.store.flushed().expect("it flushed").index;
    let listing = |fs: &MemFs| fs.list(&files::files_dir(Path::new(DIR))).expect("a listing");
    let open_behind = |fs: &MemFs, covered| {
        ShardStore::open(fs.clone(), Path::new(DIR), ShardId(1), ShardOptions::default(), covered)
    };
    assert!(open_behind(&replica.fs, flushed).is_ok());
    let older = open_behind(&replica.fs, LogIndex(flushed.0 + 1));
    assert!(matches!(older, Err(StorageError::Corrupt { .. })));
    replica.fs.delete(&Path::new(DIR).join(MANIFEST_FILE)).expect("gone");
    let before = listing(&replica.fs);
    let gone = open_behind(&replica.fs, LogIndex(1));
    assert!(matches!(gone, Err(StorageError::MissingFile { .. })), "{gone:?}");
    assert_eq!(listing(&replica.fs), before);
    assert!(before.len() > 2);
}

#[test]
fn another_shards_manifest_is_refused() {
    let replica = eventful();
    let other = ShardStore::open(
        replica.fs.clone(),
        Path::new(DIR),
        ShardId(2),
        ShardOptions::default(),
        LogIndex(0),
    );
    assert!(matches!(other, Err(StorageError::Corrupt { .. })));
}

#[test]
fn a_replica_that_made_other_files_takes_the_leaders() {
    let mut leader = Replica::new();
    leader.write(&[("a", 1, 1.0)]);
    leader.write_metadata("m", "help");
    leader.begin_flush(false);
    leader.settle();

    // The same log but for one value: as if an encoder or the memory of this replica were wrong. Registry and metadata
    // are the same.
    let mut wrong = Replica::new();
    wrong.write(&[("a", 1, 1.5)]);
    for (i, command) in leader.log.iter().enumerate().skip(1) {
        apply_entry(&wrong.store, i as u64 + 1, command);
    }
    run_jobs(&wrong.store);
    assert_eq!(wrong.store.stats().digest_mismatches, 1);
    assert_eq!(wrong.store.stats().pending_ops, 1, "the install waits for the file");
    assert_eq!(wrong.read(), series(&[("a", &[(1, 1.5)])]), "its own data meanwhile");
    let missing = wrong.store.missing_files();
    assert_eq!(missing.len(), 1);

    // Bytes that are not what the name says do not pass.
    let refused = wrong.store.receive_file(&missing[0], 0, &vec![0; missing[0].len_bytes as usize]);
    assert!(matches!(refused, Err(StorageError::Transfer { .. })));
    for file in missing {
        transfer(&leader.store, &wrong.store, &file);
    }
    run_jobs(&wrong.store);
    assert_eq!(wrong.store.missing_files(), []);
    assert_eq!(wrong.read(), leader.read());
    assert_eq!(wrong.store.digest(), leader.store.digest());
    let kept = wrong.fs.list(&files::quarantine_dir(Path::new(DIR))).expect("a listing");
    assert_eq!(kept.len(), 1, "the other result is kept aside");
    let again = open(&wrong.fs).expect("all files of the manifest are there");
    assert_eq!(again.digest(), leader.store.digest());
    assert_eq!(read(&again.snapshot()), leader.read());
}

#[test]
fn readers_keep_files_that_merges_and_drops_took_away() {
    let mut replica = Replica::new();
    for round in 0..2 {
        replica.write(&[("a", round, round as f64)]);
        replica.begin_flush(false);
        replica.settle();
    }
    let snapshot = replica.store.snapshot();
    let before = read(&snapshot);
    let policy = FlushPolicy { merge_all: true, max_age_ms: i64::MAX, ..FlushPolicy::default() };
    replica.settle_with(&policy);
    let count = || replica.fs.list(&files::files_dir(Path::new(DIR))).expect("a listing").len();
    let with_reader = count();
    assert_eq!(read(&snapshot), before);
    drop(snapshot);
    run_jobs(&replica.store);
    assert_eq!(count(), with_reader - 2, "the merged segments go with their last reader");
}

#[test]
fn a_transfer_goes_on_where_it_broke_off() {
    let mut leader = Replica::new();
    leader.write(&[("a", 1, 1.0), ("b", 2, 2.0)]);
    leader.begin_flush(false);
    leader.settle();
    let snapshot = leader.store.manifest_for_snapshot();
    let receiver = Replica::new();
    let file = receiver.store.missing(&snapshot)[0];
    let chunk = leader.store.read_file_chunk(&file, 0, 50).expect("a chunk");
    assert_eq!(receiver.store.receive_file(&file, 0, &chunk).expect("taken"), 50);
    assert_eq!(receiver.store.receive_file(&file, 0, &chunk).expect("told where to go on"), 50);
    assert_eq!(receiver.store.receive_file(&file, 400, &chunk).expect("told where to go on"), 50);
    let error = receiver.store.install_snapshot(&snapshot).expect_err("files are missing");
    assert!(matches!(error, StorageError::MissingFile { .. }));
    let mut offset = 50;
    while offset < file.len_bytes {
        let chunk = leader.store.read_file_chunk(&file, offset, 70).expect("a chunk");
        offset = receiver.store.receive_file(&file, offset, &chunk).expect("taken");
    }
    assert!(!receiver.store.missing(&snapshot).contains(&file));
}

#[test]
fn two_transfers_of_one_file_do_not_mix() {
    let mut leader = Replica::new();
    leader.write(&[("a", 1, 1.0), ("b", 2, 2.0)]);
    leader.begin_flush(false);
    leader.settle();
    let snapshot = leader.store.manifest_for_snapshot();
    let receiver = Replica::new();
    let file = receiver.store.missing(&snapshot)[0];
    let whole = leader.store.read_file_chunk(&file, 0, usize::MAX).expect("the file");
    receiver.store.receive_file(&file, 0, &whole[..50]).expect("taken");
    // While the first writes its next piece, the second begins.
    let second = receiver.store.clone();
    let incoming = receiver.store.shared.lock().incoming.insert(file.hash, None).flatten();
    assert!(second.receive_file(&file, 0, &whole[..20]).is_err(), "the file is being written");
    second.forget_transfers().expect("what is being written is left alone");
    receiver.store.shared.lock().incoming.insert(file.hash, incoming);
    assert_eq!(second.receive_file(&file, 0, &whole[..20]).expect("told where to go on"), 50);
    assert_eq!(receiver.store.receive_file(&file, 50, &whole[50..]).expect("whole"), file.len_bytes);
    let path = files::file_path(Path::new(DIR), &file);
    assert_eq!(receiver.fs.read(&path, u64::MAX).expect("sealed"), whole);
}

#[test]
fn transfers_of_one_file_side_by_side_seal_it_whole() {
    let mut leader = Replica::new();
    leader.write(&[("a", 1, 1.0), ("b", 2, 2.0)]);
    leader.begin_flush(false);
    leader.settle();
    let snapshot = leader.store.manifest_for_snapshot();
    for _ in 0..50 {
        let receiver = Replica::new();
        let file = receiver.store.missing(&snapshot)[0];
        let whole = leader.store.read_file_chunk(&file, 0, usize::MAX).expect("the file");
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut offset = 0;
                    while offset < file.len_bytes {
                        let piece = &whole[offset as usize..(offset as usize + 5).min(whole.len())];
                        // A transfer that is refused begins again.
                        offset = receiver.store.receive_file(&file, offset, piece).unwrap_or(0);
                    }
                });
            }
        });
        let path = files::file_path(Path::new(DIR), &file);
        assert_eq!(receiver.fs.read(&path, u64::MAX).expect("sealed"), whole);
    }
}

#[test]
fn what_arrived_for_transfers_that_ended_goes() {
    let mut leader = Replica::new();
    leader.write(&[("a", 1, 1.0), ("b", 2, 2.0)]);
    leader.begin_flush(false);
    leader.settle();
    let snapshot = leader.store.manifest_for_snapshot();
    let receiver = Replica::new();
    let missing = receiver.store.missing(&snapshot);
    assert!(missing.len() >= 2);
    transfer(&leader.store, &receiver.store, &missing[0]);
    let chunk = leader.store.read_file_chunk(&missing[1], 0, 50).expect("a chunk");
    assert_eq!(receiver.store.receive_file(&missing[1], 0, &chunk).expect("taken"), 50);
    let count = || receiver.fs.list(&files::files_dir(Path::new(DIR))).expect("a listing").len();
    assert_eq!(count(), 2);
    receiver.store.forget_transfers().expect("no fault is planned");
    receiver.run_jobs();
    assert_eq!(count(), 0);
    // It can begin again.
    for file in receiver.store.missing(&snapshot) {
        transfer(&leader.store, &receiver.store, &file);
    }
    receiver.store.install_snapshot(&snapshot).expect("all is here");
    assert_eq!(receiver.store.digest(), leader.store.digest());
}

#[test]
fn a_snapshot_leaves_what_another_transfer_fetched() {
    let mut leader = Replica::new();
    leader.write(&[("a", 1, 1.0)]);
    leader.begin_flush(false);
    leader.settle();
    let older =
        SnapshotManifest::decode(leader.store.manifest_for_snapshot().bytes().clone()).expect("whole");
    let copies = leader.fs.fork(1);
    leader.write(&[("b", 2, 2.0)]);
    leader.begin_flush(false);
    leader.settle();
    let newer = leader.store.manifest_for_snapshot();
    let receiver = Replica::new();
    for file in receiver.store.missing(&newer) {
        transfer(&leader.store, &receiver.store, &file);
    }
    // Meanwhile an older offer comes to its end.
    for file in receiver.store.missing(&older) {
        transfer(&open(&copies).expect("opens"), &receiver.store, &file);
    }
    receiver.store.install_snapshot(&older).expect("all is here");
    receiver.run_jobs();
    assert_eq!(receiver.store.missing(&newer), [], "what was fetched for the newer one is still here");
    receiver.store.install_snapshot(&newer).expect("all is here");
    assert_eq!(receiver.store.digest(), leader.store.digest());
}

impl Replica {
    pub fn delete(&mut self, name: &str, start_ms: i64, end_ms: i64) {
        let (tenant, matchers) = (TenantId::default(), vec![Matcher::equal("s", name)]);
        self.apply(CommandBody::DeleteSeries { tenant, matchers, start_ms, end_ms });
    }

    pub fn delete_logs(&mut self, start_ms: i64, end_ms: i64) {
        let (start_ns, end_ns) = (start_ms * 1_000_000, end_ms * 1_000_000);
        let (tenant, filter) = (TenantId::default(), LogFilter::All);
        self.apply(CommandBody::DeleteLogs { tenant, filter, start_ns, end_ns });
    }
}
