//! Backups of an imitated cluster into both kinds of places.

use std::path::PathBuf;

use storage::fs::Fs;
use storage::fs::mem::MemFs;
use storage::manifest::{FileKind, RegistryFile};

use super::*;
use crate::backup::testing::Objects;
use crate::backup::{BackupError, LIST_FILE};

/// A cluster whose shards are manifests and bytes.
#[derive(Clone)]
struct Nodes {
    cluster_id: &'static str,
    shards: BTreeMap<ShardId, (Manifest, Vec<Vec<u8>>)>,
    /// How many more pieces have a wrong byte.
    spoilt: u32,
}

/// Bytes that are no others'.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

impl Nodes {
    /// Two shards. Each has a file that fits into a part, one of a whole part, and two of several.
    fn new(round: u64) -> Self {
        let shards = [1, 2].map(|shard| {
            let seed = u64::from(shard) * 1000;
            // One stays from round to round.
            let bytes = vec![
                content(seed, 300),
                content(seed + round + 1, 20),
                content(seed + round + 2, 64),
                content(seed + round + 3, 128),
            ];
            let mut manifest = Manifest::empty(ShardId(shard));
            let file = FileRef::of(&bytes[0], FileKind::Registry);
            manifest.registry.push(RegistryFile { file, first: 0, count: 1 });
            manifest.metadata = Some(FileRef::of(&bytes[1], FileKind::Metadata));
            manifest.window = Some(FileRef::of(&bytes[2], FileKind::Window));
            manifest.span_metrics = Some(FileRef::of(&bytes[3], FileKind::SpanMetrics));
            (ShardId(shard), (manifest, bytes))
        });
        Self { cluster_id: "c", shards: BTreeMap::from(shards), spoilt: 0 }
    }
}

impl Pieces for Nodes {
    type Error = CliError;

    fn piece(&mut self, shard: ShardId, file: &FileRef, offset: u64) -> Result<Option<Vec<u8>>, CliError> {
        let (_, files) = &self.shards[&shard];
        let Some(bytes) = files.iter().find(|bytes| *blake3::hash(bytes).as_bytes() == file.hash) else {
            return Ok(None);
        };
        let rest = &bytes[offset as usize..];
        let mut piece = rest[..rest.len().min(50)].to_vec();
        if self.spoilt > 0 {
            self.spoilt -= 1;
            piece[0] ^= 1;
        }
        Ok(Some(piece))
    }
}

impl Source for Nodes {
    fn state(&mut self) -> Result<State, CliError> {
        let shards = self.shards.keys().copied().collect();
        Ok(State { cluster_id: self.cluster_id.to_owned(), shards, ..State::default() })
    }

    fn capture(&mut self, shard: ShardId) -> Result<Vec<u8>, CliError> {
        Ok(self.shards[&shard].0.encode())
    }
}

fn run(nodes: &Nodes, place: impl Place + 'static) -> Result<Tally, CliError> {
    let mut backup = Backup { source: nodes.clone(), place: Box::new(place), tally: Tally::default() };
    backup.run().map(|_| backup.tally)
}

/// Bytes of the files of all shards.
fn all_bytes(nodes: &Nodes) -> u64 {
    nodes.shards.values().flat_map(|(_, files)| files).map(|bytes| bytes.len() as u64).sum()
}

/// Whether the list in a place is of these nodes, and all that it names is there, as it was written.
fn holds(objects: &Objects, nodes: &Nodes) -> bool {
    let Some(list) = objects.read(&format!("a/b/{LIST_FILE}")) else { return false };
    let list = List::decode(&list, "list").expect("a list that is there is whole");
    nodes.shards.iter().all(|(shard, (manifest, files))| {
        let named = list.shards[shard] == Listed::of(&manifest.encode());
        named
            && objects.read(&format!("a/b/{}", backup::manifest_name(*shard, &list.shards[shard]))).is_some()
            && manifest.files().iter().all(|file| {
                let bytes = objects.read(&format!("a/b/{}", backup::file_name(*shard, file)));
                bytes.is_some_and(|bytes| files.iter().any(|file| file[..] == bytes[..]))
            })
    })
}

/// Both kinds of places, twice: for another run into the same.
fn places() -> [Box<dyn Fn() -> Box<dyn Place>>; 2] {
    let (fs, objects) = (MemFs::new(1), Objects::new());
    fs.create_dir_durable(&PathBuf::from("/backup")).expect("a directory");
    [
        Box::new(move || -> Box<dyn Place> { Box::new(DirPlace::on(fs.clone(), PathBuf::from("/backup"))) }),
        Box::new(move || -> Box<dyn Place> { Box::new(objects.place()) }),
    ]
}

#[test]
fn only_what_is_new_is_sent_and_what_is_old_goes() {
    for place in places() {
        let run = |nodes: &Nodes| {
            let mut backup = Backup { source: nodes.clone(), place: place(), tally: Tally::default() };
            backup.run().map(|_| backup.tally).expect("a backup")
        };
        let (one, two) = (Nodes::new(0), Nodes::new(10));
        let first = run(&one);
        assert_eq!((first.files, first.sent_bytes, first.kept_bytes), (8, all_bytes(&one), 0));
        let again = run(&one);
        assert_eq!((again.files, again.sent_bytes, again.kept_bytes), (8, 0, all_bytes(&one)));
        let names = place().names().expect("names");
        let next = run(&two);
        assert_eq!((next.sent_bytes, next.kept_bytes), (all_bytes(&two) - 600, 600));
        let after = place().names().expect("names");
        assert_eq!(after.len(), names.len(), "as many as before: {after:?}");
        assert_eq!(
            after.keys().filter(|name| names.contains_key(*name)).count(),
            3,
            "two files and the state"
        );
    }
}

#[test]
fn a_backup_of_another_cluster_is_refused() {
    for place in places() {
        let mut backup = Backup { source: Nodes::new(0), place: place(), tally: Tally::default() };
        backup.run().expect("a backup");
        backup.source = Nodes { cluster_id: "other", ..Nodes::new(5) };
        let before = place().names().expect("names");
        let error = backup.run().expect_err("it is another's").to_string();
        assert!(error.contains("holds a backup of cluster c, this is cluster other"), "{error}");
        assert_eq!(place().names().expect("names"), before);
    }
}

#[test]
fn what_arrives_damaged_is_not_kept() {
    for place in places() {
        let spoilt = |spoilt| Nodes { spoilt, ..Nodes::new(0) };
        let run = |source| Backup { source, place: place(), tally: Tally::default() }.run();
        let error = run(spoilt(u32::MAX)).expect_err("nothing is right").to_string();
        assert!(error.contains("arrives damaged"), "{error}");
        assert!(place().names().expect("names").keys().all(|name| !name.contains("/files/")));
        assert!(place().list().expect("readable").is_none());
        run(spoilt(1)).expect("once more is enough");
    }
}

#[test]
fn the_list_is_written_last_and_what_it_replaces_goes_after_it() {
    let objects = Objects::new();
    run(&Nodes::new(0), objects.place()).expect("a backup");
    let first = objects.changes();
    assert_eq!(first.last().map(String::as_str), Some("put a/b/backup.json"));
    // Of 300 and 128 bytes in parts of 64.
    assert_eq!(first.iter().filter(|change| change.starts_with("part ")).count(), 2 * (5 + 2));
    assert_eq!(first.iter().filter(|change| change.starts_with("complete ")).count(), 4);
    // What others keep there stays.
    let others = ["a/notes", "a/b/notes", "a/b/shards/1/notes", "a/b2/state-1.json"];
    others.iter().for_each(|name| objects.write(name, b"x"));
    run(&Nodes::new(10), objects.place()).expect("a backup");
    let second = objects.changes();
    let list = second.iter().position(|change| change == "put a/b/backup.json").expect("a list");
    let deleted = second.iter().position(|change| change.starts_with("delete ")).expect("something goes");
    assert!(list < deleted, "{second:?}");
    assert!(second[deleted..].iter().all(|change| change.starts_with("delete ")), "{second:?}");
    let names = objects.names();
    assert!(others.iter().all(|other| names.iter().any(|name| name == other)), "{names:?}");
}

#[test]
fn a_run_that_is_cut_short_anywhere_is_run_again() {
    let before = Objects::new();
    let (one, two) = (Nodes::new(0), Nodes::new(10));
    run(&one, before.place()).expect("a backup");
    let mut steps = 0;
    loop {
        let cut = before.failing_after(steps);
        let outcome = run(&two, cut.place());
        if !cut.failed() {
            outcome.expect("nothing failed");
            break;
        }
        assert!(
            holds(&cut, &one) != holds(&cut, &two),
            "after {steps} requests the list is of a whole backup, one of the two"
        );
        let mended = cut.mended();
        run(&two, mended.place()).unwrap_or_else(|error| panic!("again after {steps} requests: {error}"));
        assert!(holds(&mended, &two), "after {steps} requests");
        let whole = Objects::new();
        run(&two, whole.place()).expect("a backup");
        assert_eq!(mended.names(), whole.names(), "after {steps} requests nothing is left over");
        steps += 1;
    }
    assert!(steps > 20, "{steps} requests");
}

#[test]
fn parts_of_what_will_not_be_are_dropped() {
    let objects = Objects::new();
    run(&Nodes { spoilt: u32::MAX, ..Nodes::new(0) }, objects.place()).expect_err("nothing is right");
    let changes = objects.changes();
    assert!(!changes.iter().any(|change| change.starts_with("complete ")), "{changes:?}");
    let mut nodes = Nodes::new(0);
    // The short ones come right; the first piece of the first long one is wrong, once.
    nodes.shards.values_mut().for_each(|(manifest, _)| {
        (manifest.metadata, manifest.window) = (None, None);
    });
    nodes.spoilt = 1;
    run(&nodes, objects.place()).expect("a backup");
    let changes = objects.changes();
    assert_eq!(changes.iter().filter(|change| change.starts_with("abort ")).count(), 1, "{changes:?}");
}

#[test]
fn of_two_runs_from_one_list_the_second_is_refused() {
    let objects = Objects::new();
    for conditions in [true, false] {
        let place = || if conditions { objects.place() } else { objects.without_conditions().place() };
        for nodes in [Nodes::new(0), Nodes::new(10)] {
            let mut late = place();
            late.list().expect("readable");
            run(&nodes, place()).expect("the first");
            let list = List::new("c".to_owned(), 7, Listed::of(b"late"));
            assert!(matches!(late.publish(&list), Err(BackupError::Overtaken { .. })));
            assert!(holds(&objects, &nodes));
            // What the late one would remove now may be the other's.
            let all = late.names().expect("names").into_keys().collect();
            late.remove(all).expect("it stops");
            assert!(holds(&objects, &nodes));
            // Whoever looks again goes on; and a second attempt that finds what the first wrote is content.
            let mut twin = place();
            late.list().expect("readable");
            twin.list().expect("readable");
            late.publish(&list).expect("the list is the one that was read");
            if conditions {
                twin.publish(&list).expect("it is the same");
            }
        }
    }
}

#[test]
fn a_file_that_another_run_removed_is_missed() {
    let objects = Objects::new();
    run(&Nodes::new(0), objects.place()).expect("a backup");
    let lost = objects.names().into_iter().find(|name| name.contains("/files/")).expect("a file");
    // Known to be there, and gone when the list is to be written.
    let mut place = objects.place();
    place.put("state-x", b"x").expect("a put");
    objects.delete(&lost);
    let error = run(&Nodes::new(0), place).expect_err("a file is gone").to_string();
    let name = lost.trim_start_matches("a/b/");
    assert!(error.contains(name) && error.contains("run this one again"), "{error}");
    run(&Nodes::new(0), objects.place()).expect("again");
    assert!(holds(&objects, &Nodes::new(0)));
}

#[test]
fn an_object_of_another_length_is_sent_again() {
    let objects = Objects::new();
    run(&Nodes::new(0), objects.place()).expect("a backup");
    let cut = objects.names().into_iter().find(|name| name.contains("/files/")).expect("a file");
    objects.write(&cut, b"short");
    let tally = run(&Nodes::new(0), objects.place()).expect("a backup");
    assert!(tally.sent_bytes > 0 && tally.kept_bytes > 0);
    assert!(holds(&objects, &Nodes::new(0)));
}
