//! Looking through a shard's directory: whatever is damaged is named, and nothing is changed.

use std::path::PathBuf;

use proptest::prelude::*;

use super::super::*;
use super::harness::*;
use crate::fs::mem::MemFs;
use crate::manifest::{FileKind, MANIFEST_FILE, PARTITION_MS};
use crate::verify::{Findings, check_shard};

fn look(fs: &MemFs) -> Findings {
    let mut found = Findings::default();
    let operations = fs.op_count();
    check_shard(fs, Path::new(DIR), ShardId(1), &mut found);
    assert_eq!(fs.op_count(), operations, "it writes nothing");
    found
}

/// The manifest and a file of each kind that it names, segments of each signal.
fn kinds(replica: &Replica) -> Vec<PathBuf> {
    let state = replica.store.shared.lock();
    let files = state.manifest.files();
    let small = [FileKind::Registry, FileKind::Metadata, FileKind::Window, FileKind::SpanMetrics]
        .map(|kind| *files.iter().find(|file| file.kind == kind).expect("a file of each kind"));
    let segments = [0, 1, 2].map(|signal| {
        let of_signal = state.manifest.segments.iter().find(|meta| meta.partition.signal == signal);
        of_signal.expect("a segment of each signal").file
    });
    let named = small.into_iter().chain(segments).map(|file| files::file_path(Path::new(DIR), &file));
    std::iter::once(Path::new(DIR).join(MANIFEST_FILE)).chain(named).collect()
}

#[test]
fn nothing_is_found_in_an_intact_directory() {
    let replica = eventful();
    let found = look(&replica.fs);
    assert_eq!(found.damage, []);
    let files = replica.store.shared.lock().durable.files();
    assert_eq!(found.files, files.len() as u64 + 1, "the manifest and what it names");
    assert!(found.bytes > files.iter().map(|file| file.len_bytes).sum());
    assert_eq!(found.leftovers, 0);
    replica.fs.write_atomic(&files::files_dir(Path::new(DIR)).join("1-flush.tmp"), b"x").expect("a file");
    let found = look(&replica.fs);
    assert_eq!((found.damage, found.leftovers), (vec![], 1), "what a crash left is no damage");
}

#[test]
fn every_damaged_file_is_named_not_only_the_first() {
    let replica = eventful();
    let paths = kinds(&replica);
    for path in &paths[1..] {
        replica.fs.damage(path, |bytes| bytes[20] ^= 1).expect("a byte");
    }
    let damage = look(&replica.fs).damage;
    for path in &paths[1..] {
        assert!(damage.iter().any(|finding| finding.path == *path), "{}: {damage:?}", path.display());
    }
    for path in &paths[1..] {
        replica.fs.delete(path).expect("gone");
    }
    assert_eq!(look(&replica.fs).damage.len(), paths.len() - 1);
}

#[test]
fn each_damaged_block_of_a_segment_is_named_with_its_place() {
    let mut replica = Replica::new();
    for round in 0..20_i64 {
        let names: Vec<String> = (0..500).map(|n| format!("{n}")).collect();
        let samples: Vec<_> =
            names.iter().map(|name| (name.as_str(), round, f64::from(round as i32) / 3.0)).collect();
        replica.write(&samples);
    }
    replica.begin_flush(false);
    replica.settle();
    let path = files::file_path(Path::new(DIR), &replica.store.shared.lock().manifest.segments[0].file);
    // The first bytes behind the header belong to one block, the middle of the file to another.
    let len = replica.fs.read(&path, u64::MAX).expect("readable").len();
    replica.fs.damage(&path, |bytes| [60, len / 2].iter().for_each(|at| bytes[*at] ^= 0x10)).expect("bytes");
    let damage = look(&replica.fs).damage;
    assert!(damage.len() >= 2, "{damage:?}");
    assert!(damage.iter().all(|finding| finding.path == path && finding.offset.is_some()), "{damage:?}");
}

proptest! {
    #[test]
    fn any_damage_is_named(kind in 0usize..6, at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        thread_local!(static LIFE: (MemFs, Vec<PathBuf>) = {
            let replica = eventful();
            let kinds = kinds(&replica);
            (replica.fs.fork(1), kinds)
        });
        LIFE.with(|(fs, kinds)| {
            let (fs, path) = (fs.fork(2), &kinds[kind]);
            let len = fs.read(path, u64::MAX).expect("readable").len();
            let at = at.index(len);
            if cut {
                fs.damage(path, |bytes| bytes.truncate(at)).expect("cut");
            } else {
                fs.flip_bit(path, at as u64, bit).expect("a bit");
            }
            let found = look(&fs);
            prop_assert!(!found.damage.is_empty(), "byte {at} of {}, cut: {cut}", path.display());
            for finding in found.damage {
                prop_assert_eq!(&finding.path, path);
                prop_assert!(finding.offset.is_none_or(|offset| offset <= len as u64));
            }
            Ok(())
        })?;
    }
}

#[test]
fn an_archive_reads_as_the_shard_did_and_changes_nothing() {
    let mut replica = eventful();
    let all = read_rows(&replica.store.snapshot(), 0).len();
    replica.delete("a", 0, i64::MAX);
    replica.delete_logs(PARTITION_MS + 50, PARTITION_MS + 50);
    replica.begin_flush(false);
    replica.settle();
    let manifest = (*replica.store.shared.lock().durable).clone();
    assert!(!manifest.tombstones.is_empty() && !manifest.log_tombstones.is_empty(), "not merged away yet");
    let operations = replica.fs.op_count();
    let archive =
        crate::archive::Archive::open(&replica.fs, Path::new(DIR), manifest.clone()).expect("whole files");
    assert_eq!(read(archive.snapshot()), replica.read());
    let logs = read_rows(&replica.store.snapshot(), 0);
    assert!(!logs.is_empty() && logs.len() < all && read_rows(archive.snapshot(), 0) == logs);
    let tenant = protocol::ids::TenantId::default();
    assert_eq!(archive.tenants().iter().collect::<Vec<_>>(), [&tenant]);
    assert_eq!(archive.snapshot().metadata(&tenant, None), replica.store.snapshot().metadata(&tenant, None));
    assert_eq!(replica.fs.op_count(), operations);
    replica.fs.delete(&kinds(&replica)[5]).expect("there");
    assert!(crate::archive::Archive::open(&replica.fs, Path::new(DIR), manifest).is_err());
}
