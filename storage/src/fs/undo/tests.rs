//! What a power cut leaves, by hand and against a model.

use proptest::prelude::*;

use super::*;

struct Place {
    dir: tempfile::TempDir,
    fs: UndoFs,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = UndoLog::create(&dir.path().join("undo")).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        Self { dir, fs: UndoFs::new(Some(log)) }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    fn sync_names(&self) {
        self.fs.sync_dir(&self.dir.path().join("data")).unwrap();
    }

    fn write(&self, name: &str, bytes: &[u8]) -> UndoFile {
        let file = self.fs.open(&self.at(name), OpenMode::CreateNew).unwrap();
        file.write_all_at(0, bytes).unwrap();
        file
    }

    /// Cuts the power; of each unit so much is left as `below` says.
    fn cut(&self, below: impl FnMut(u64) -> u64) -> Lost {
        cut_power(&self.dir.path().join("undo"), below).unwrap()
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.at(name)).ok()
    }
}

fn nothing_left(_: u64) -> u64 {
    0
}

#[test]
fn what_was_synced_stays_and_what_was_not_goes() {
    let place = Place::new();
    let file = place.write("log", b"durable");
    file.sync_data().unwrap();
    place.sync_names();
    file.write_all_at(3, b"ABLE and longer").unwrap();
    file.set_len(5).unwrap();
    file.allocate(4096).unwrap();
    assert_eq!(place.read("log").unwrap().len(), 4096);
    place.write("without a name", b"x").sync_data().unwrap();
    let lost = place.cut(nothing_left);
    assert_eq!(lost, Lost { writes: 3, bytes: 15, names: 1 });
    assert_eq!(place.read("log").unwrap(), b"durable");
    assert_eq!(place.read("without a name"), None);
}

#[test]
fn names_are_what_they_were_at_the_last_sync_of_their_directory() {
    let place = Place::new();
    for name in ["old", "replaced", "removed"] {
        place.write(name, name.as_bytes()).sync_data().unwrap();
    }
    let sub = place.at("sub");
    place.fs.create_dir_all(&sub).unwrap();
    place.fs.open(&sub.join("in"), OpenMode::CreateNew).unwrap().sync_data().unwrap();
    place.fs.sync_dir(&sub).unwrap();
    place.sync_names();
    place.fs.rename(&place.at("old"), &place.at("replaced")).unwrap();
    place.fs.remove_file(&place.at("removed")).unwrap();
    place.fs.remove_dir_all(&sub).unwrap();
    place.fs.hard_link(&place.at("replaced"), &place.at("linked")).unwrap();
    place.fs.create_dir_all(&place.at("new/deep")).unwrap();
    assert!(!sub.exists() && place.at("new/deep").exists());
    place.cut(nothing_left);
    for name in ["old", "replaced", "removed"] {
        assert_eq!(place.read(name).unwrap(), name.as_bytes(), "{name}");
    }
    assert!(sub.join("in").exists());
    assert!(!place.at("linked").exists() && !place.at("new").exists());
}

#[test]
fn names_and_bytes_that_are_durable_are_not_undone() {
    let place = Place::new();
    place.fs.write_atomic(&place.at("small"), b"one").unwrap();
    place.fs.write_atomic(&place.at("small"), b"two").unwrap();
    place.write("gone", b"x").sync_data().unwrap();
    place.fs.remove_file(&place.at("gone")).unwrap();
    place.sync_names();
    assert_eq!(place.cut(nothing_left), Lost::default());
    assert_eq!(place.read("small").unwrap(), b"two");
    assert_eq!(place.read("gone"), None);
}

#[test]
fn a_write_may_be_torn_at_sectors() {
    let place = Place::new();
    let file = place.write("log", &[1; 2048]);
    file.sync_data().unwrap();
    place.sync_names();
    file.write_all_at(100, &[2; 3000]).unwrap();
    // The one write is left, it is torn, and of its sectors each second is.
    let mut draws = [1, 0].into_iter().chain([0, 1].into_iter().cycle());
    let lost = place.cut(|_| draws.next().unwrap());
    assert_eq!(lost, Lost { writes: 1, bytes: 3000, names: 0 });
    let bytes = place.read("log").unwrap();
    let expected = |at: usize| match (at, at / 512 % 2) {
        (..100, _) => 1,
        (_, 1) => 2,
        (..2048, _) => 1,
        _ => 0,
    };
    assert_eq!(bytes, (0..3100).map(expected).collect::<Vec<u8>>());
}

#[test]
fn second_names_are_kept_only_while_they_are_needed() {
    let place = Place::new();
    let kept = || fs::read_dir(place.dir.path().join("undo").join(KEPT)).unwrap().count();
    let file = place.write("a", b"x");
    assert_eq!(kept(), 1);
    file.sync_data().unwrap();
    drop(file);
    assert_eq!(kept(), 0);
    place.fs.remove_file(&place.at("a")).unwrap();
    assert_eq!(kept(), 1);
    place.sync_names();
    assert_eq!(kept(), 0);
    // Closed, and not synced: it may have to be undone.
    drop(place.write("b", b"x"));
    assert_eq!(kept(), 1);
    place.fs.open(&place.at("b"), OpenMode::ReadWrite).unwrap().sync_data().unwrap();
    assert_eq!(kept(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Write { file: usize, offset: u64, bytes: Vec<u8> },
    SetLen { file: usize, len: u64 },
    Sync { file: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let file = 0..3_usize;
    let step = prop_oneof![
        4 => (file.clone(), 0..3000_u64, prop::collection::vec(any::<u8>(), 1..1500))
            .prop_map(|(file, offset, bytes)| Step::Write { file, offset, bytes }),
        1 => (file.clone(), 0..3000_u64).prop_map(|(file, len)| Step::SetLen { file, len }),
        1 => file.prop_map(|file| Step::Sync { file }),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    /// Of each file there is what its last sync saw, changed by some of the oldest writes since; each byte is one that its
    /// place has had since then.
    #[test]
    fn bytes_are_those_of_the_last_sync_or_newer(steps in steps(), seed in any::<u64>()) {
        let place = Place::new();
        let files: Vec<UndoFile> = (0..3).map(|n| place.write(&n.to_string(), b"")).collect();
        place.sync_names();
        // What each place of a file may hold; `None` is beyond the end.
        let mut allowed: Vec<Vec<Vec<Option<u8>>>> = vec![vec![vec![None]; 5000]; 3];
        for step in steps {
            let (Step::Write { file, .. } | Step::SetLen { file, .. } | Step::Sync { file }) = step;
            match &step {
                Step::Write { offset, bytes, .. } => files[file].write_all_at(*offset, bytes).unwrap(),
                Step::SetLen { len, .. } => files[file].set_len(*len).unwrap(),
                Step::Sync { .. } => {
                    files[file].sync_data().unwrap();
                    allowed[file].iter_mut().for_each(Vec::clear);
                }
            }
            let now = place.read(&file.to_string()).unwrap();
            for (at, holds) in allowed[file].iter_mut().enumerate() {
                let byte = now.get(at).copied();
                if !holds.contains(&byte) {
                    holds.push(byte);
                }
            }
        }
        let mut state = seed | 1;
        place.cut(|bound| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        });
        for (file, allowed) in allowed.iter().enumerate() {
            let found = place.read(&file.to_string()).unwrap();
            for (at, holds) in allowed.iter().enumerate() {
                let byte = found.get(at).copied();
                // Where a length reached the disk before the bytes, there are zeros.
                let is_hole = byte == Some(0) && holds.contains(&None);
                prop_assert!(is_hole || holds.contains(&byte), "{file}: {at} holds {byte:?}, not {holds:?}");
            }
        }
    }
}
