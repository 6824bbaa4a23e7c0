//! The simulated disk keeps what was synced and nothing else for sure, on both the real contract's sides.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::fs::real::RealFs;

fn path(name: &str) -> PathBuf {
    Path::new("/data").join(name)
}

fn disk(seed: u64) -> MemFs {
    let fs = MemFs::new(seed);
    fs.create_dir_durable(Path::new("/data")).unwrap();
    fs
}

/// Runs the same steps on a file system and describes what they answered.
fn contract<F: Fs>(fs: &F, root: &Path) -> Vec<String> {
    let mut log = Vec::new();
    let mut note = |what: &str, result: io::Result<String>| {
        log.push(format!("{what}: {}", result.unwrap_or_else(|e| format!("{:?}", e.kind()))));
    };
    let at = |name: &str| root.join(name);
    note("mkdir", fs.create_dir_all(&at("a/b")).map(|()| "ok".into()));
    note("mkdir again", fs.create_dir_all(&at("a/b")).map(|()| "ok".into()));
    note("open absent", fs.open(&at("a/x"), OpenMode::ReadWrite).map(|_| "ok".into()));
    let file = fs.open(&at("a/x"), OpenMode::CreateNew).unwrap();
    note("create twice", fs.open(&at("a/x"), OpenMode::CreateNew).map(|_| "ok".into()));
    note("write", file.write_all_at(3, b"abc").map(|()| "ok".into()));
    note("len", file.len().map(|n| n.to_string()));
    let mut bytes = [9; 6];
    note("read", file.read_exact_at(0, &mut bytes).map(|()| format!("{bytes:?}")));
    note("read past the end", file.read_exact_at(1, &mut bytes).map(|()| "ok".into()));
    note("cut", file.set_len(4).map(|()| "ok".into()));
    note("extend", file.set_len(6).map(|()| "ok".into()));
    note("allocate", file.allocate(5).and_then(|()| file.len()).map(|n| n.to_string()));
    note("sync", file.sync_data().map(|()| "ok".into()));
    note("read back", fs.read(&at("a/x"), 100).map(|bytes| format!("{bytes:?}")));
    note("read limit", fs.read(&at("a/x"), 5).map(|_| "ok".into()));
    note("write atomic", fs.write_atomic(&at("a/y"), b"new").map(|()| "ok".into()));
    note("link", fs.hard_link(&at("a/y"), &at("a/z")).map(|()| "ok".into()));
    note("link over", fs.hard_link(&at("a/y"), &at("a/x")).map(|()| "ok".into()));
    let map = fs.map(&at("a/y")).unwrap();
    note("remove", fs.remove_file(&at("a/y")).map(|()| "ok".into()));
    note("map of the removed", Ok(format!("{:?}", &*map)));
    note("link's bytes", fs.read(&at("a/z"), 100).map(|bytes| format!("{bytes:?}")));
    note("rename over", fs.rename(&at("a/z"), &at("a/x")).map(|()| "ok".into()));
    note("list", fs.list(&at("a")).map(|entries| format!("{entries:?}")));
    note("old handle", file.read_exact_at(0, &mut bytes).map(|()| format!("{bytes:?}")));
    note("exists", fs.exists(&at("a/z")).map(|b| b.to_string()));
    note("sync dir", fs.sync_dir(&at("a")).map(|()| "ok".into()));
    note("sync dir of a file", fs.sync_dir(&at("a/x")).map(|()| "ok".into()));
    note("remove all", fs.remove_dir_all(&at("a")).map(|()| "ok".into()));
    note("remove all again", fs.remove_dir_all(&at("a")).map(|()| "ok".into()));
    note("list absent", fs.list(&at("a")).map(|_| "ok".into()));
    note("remove absent", fs.remove_file(&at("q")).map(|_| "ok".into()));
    let empty = fs.open(&at("empty"), OpenMode::CreateNew).unwrap();
    note("map empty", fs.map(&at("empty")).map(|map| map.len().to_string()));
    note("is empty", empty.is_empty().map(|b| b.to_string()));
    let space = fs.space(root).unwrap();
    note("space", Ok((space.free_bytes > 0 && space.total_bytes >= space.free_bytes).to_string()));
    log
}

#[test]
fn memory_answers_as_the_operating_system_does() {
    let dir = tempfile::tempdir().unwrap();
    let real = contract(&RealFs, dir.path());
    let mem = contract(&disk(1), Path::new("/data"));
    assert_eq!(mem, real);
}

#[test]
fn unsynced_bytes_and_names_are_lost_synced_ones_are_kept() {
    let fs = disk(1);
    let file = fs.open(&path("x"), OpenMode::CreateNew).unwrap();
    file.write_all_at(0, b"one").unwrap();
    file.sync_data().unwrap();
    // The bytes are durable, the name is not.
    assert!(!fs.fork(1).crash(CrashMode::DropUnsynced).exists(&path("x")).unwrap());
    fs.sync_dir(Path::new("/data")).unwrap();
    file.write_all_at(0, b"two").unwrap();
    let left = fs.fork(1).crash(CrashMode::DropUnsynced);
    assert_eq!(left.read(&path("x"), 100).unwrap(), b"one");
    let left = fs.crash(CrashMode::KeepAll);
    assert_eq!(left.read(&path("x"), 100).unwrap(), b"two");
}

#[test]
fn a_rename_is_all_or_nothing_and_durable_after_its_directory() {
    for mode in CrashMode::POWER {
        for seed in 0..50 {
            let fs = disk(seed);
            fs.write_atomic(&path("x"), b"old").unwrap();
            let aside = fs.open(&path("y"), OpenMode::CreateNew).unwrap();
            aside.write_all_at(0, b"new").unwrap();
            aside.sync_data().unwrap();
            fs.rename(&path("y"), &path("x")).unwrap();
            let left = fs.fork(seed).crash(mode);
            let bytes = left.read(&path("x"), 100).unwrap();
            assert!(bytes == b"old" || bytes == b"new", "{mode:?} {seed}");
            fs.sync_dir(Path::new("/data")).unwrap();
            assert_eq!(fs.crash(mode).read(&path("x"), 100).unwrap(), b"new");
        }
    }
}

#[test]
fn crashes_tear_at_sectors_and_reach_many_states() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let fs = disk(seed);
        let file = fs.open(&path("x"), OpenMode::CreateNew).unwrap();
        file.set_len(4096).unwrap();
        file.sync_data().unwrap();
        fs.sync_dir(Path::new("/data")).unwrap();
        file.write_all_at(100, &[7; 2000]).unwrap();
        let bytes = fs.crash(CrashMode::Torn).read(&path("x"), 1 << 20).unwrap();
        for (sector, chunk) in bytes.chunks(512).enumerate() {
            let start = if sector == 0 { 100 } else { 0 };
            let end = if sector == 4 { 2100 - 2048 } else { 512 };
            let inside = &chunk[start..end.min(chunk.len())];
            assert!(inside.iter().all(|b| *b == inside[0]), "a sector is torn inside");
        }
        seen.insert(bytes);
    }
    assert!(seen.len() > 20, "only {} states of 32 were reached", seen.len());
}

#[test]
fn a_failed_sync_loses_for_good_what_a_later_sync_pretends_to_save() {
    let lost = (0..20).filter(|&seed| {
        let fs = disk(seed);
        let file = fs.open(&path("x"), OpenMode::CreateNew).unwrap();
        file.write_all_at(0, b"aaaa").unwrap();
        fs.sync_dir(Path::new("/data")).unwrap();
        fs.fail_next(FaultOp::Sync, "x");
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"aaaa", "the process still sees it");
        fs.crash(CrashMode::KeepAll).read(&path("x"), 100).unwrap() != b"aaaa"
    });
    assert!((1..20).contains(&lost.count()));
}

#[test]
fn the_power_fails_at_the_chosen_operation_and_old_handles_die() {
    let fs = disk(3);
    let file = fs.open(&path("x"), OpenMode::CreateNew).unwrap();
    fs.power_off_after(2);
    file.write_all_at(0, b"a").unwrap();
    file.sync_data().unwrap_err();
    assert!(file.len().is_err() && fs.exists(&path("x")).is_err() && !fs.is_alive());
    let next = fs.crash(CrashMode::KeepAll);
    assert_eq!(next.read(&path("x"), 10).unwrap(), b"a");
    assert!(file.read_exact_at(0, &mut [0]).is_err(), "a dead process' handle");
    assert!(fs.list(Path::new("/data")).is_err());
    drop(file);
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let fs = disk(4);
    fs.set_quota(Some(1000));
    let file = fs.open(&path("x"), OpenMode::CreateNew).unwrap();
    file.allocate(900).unwrap();
    file.write_all_at(0, &[1; 900]).unwrap();
    let full = file.write_all_at(850, &[1; 200]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.allocate(1001).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(fs.space(Path::new("/")).unwrap().free_bytes <= 100);
    fs.set_quota(None);
    file.write_all_at(850, &[1; 200]).unwrap();
}

#[test]
fn armed_faults_hit_once_and_only_their_path() {
    let fs = disk(5);
    let (x, y) = (
        fs.open(&path("x"), OpenMode::CreateNew).unwrap(),
        fs.open(&path("y"), OpenMode::CreateNew).unwrap(),
    );
    fs.fail_next(FaultOp::Write, "y");
    fs.fail_next(FaultOp::Read, "x");
    x.write_all_at(0, b"a").unwrap();
    y.write_all_at(0, b"a").unwrap_err();
    y.write_all_at(0, b"a").unwrap();
    x.read_exact_at(0, &mut [0]).unwrap_err();
    x.read_exact_at(0, &mut [0]).unwrap();
    assert!(fs.open(&path("x"), OpenMode::Read).unwrap().write_all_at(0, b"b").is_err(), "open for reading");
}

#[test]
fn damage_survives_crashes() {
    let fs = disk(6);
    fs.write_atomic(&path("x"), b"\0\0").unwrap();
    fs.flip_bit(&path("x"), 1, 3).unwrap();
    let fs = fs.crash(CrashMode::DropUnsynced);
    assert_eq!(fs.read(&path("x"), 10).unwrap(), [0, 8]);
    fs.damage(&path("x"), |bytes| bytes.truncate(1)).unwrap();
    assert_eq!(fs.crash(CrashMode::DropUnsynced).read(&path("x"), 10).unwrap(), [0]);
    let fs = fs.crash(CrashMode::Process);
    fs.delete(&path("x")).unwrap();
    assert!(!fs.crash(CrashMode::KeepAll).exists(&path("x")).unwrap());
}

#[test]
fn a_killed_process_leaves_the_kernel_its_unsynced_bytes() {
    let fs = disk(7);
    let file = fs.open(&path("x"), OpenMode::CreateNew).unwrap();
    file.write_all_at(0, b"a").unwrap();
    let fs = fs.crash(CrashMode::Process);
    assert_eq!(fs.read(&path("x"), 10).unwrap(), b"a");
    let fs = fs.crash(CrashMode::DropUnsynced);
    assert!(!fs.exists(&path("x")).unwrap(), "a power cut afterwards still takes them");
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let fs = disk(seed);
        let file = fs.open(&path("x"), OpenMode::CreateNew).unwrap();
        fs.sync_dir(Path::new("/data")).unwrap();
        for i in 0..20u8 {
            file.write_all_at(u64::from(i) * 300, &[i + 1; 700]).unwrap();
        }
        fs.crash(CrashMode::Torn).read(&path("x"), 1 << 20).unwrap()
    };
    assert_eq!(run(9), run(9));
    assert_ne!(run(9), run(10));
}

proptest! {
    #[test]
    fn what_a_sync_covered_survives_exactly(ops in proptest::collection::vec((0u8..8, 0u64..9000, 0usize..6000), 1..25)) {
        let fs = disk(8);
        let file = fs.open(&path("x"), OpenMode::CreateNew).unwrap();
        fs.sync_dir(Path::new("/data")).unwrap();
        let mut synced = Vec::new();
        for (i, (kind, at, count)) in ops.into_iter().enumerate() {
            match kind {
                0 => file.set_len(at).unwrap(),
                1 => {
                    file.sync_data().unwrap();
                    synced = fs.read(&path("x"), 1 << 20).unwrap();
                }
                _ => file.write_all_at(at, &vec![i as u8 + 1; count]).unwrap(),
            }
        }
        let live = fs.read(&path("x"), 1 << 20).unwrap();
        prop_assert_eq!(fs.fork(1).crash(CrashMode::DropUnsynced).read(&path("x"), 1 << 20).unwrap(), synced);
        prop_assert_eq!(fs.crash(CrashMode::KeepAll).read(&path("x"), 1 << 20).unwrap(), live);
    }
}
