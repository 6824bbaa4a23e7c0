//! Which files the store has on disk, which of them may go, and opening a store from them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use protocol::command::ContentHash;
use protocol::ids::{LogIndex, ShardId};
use protocol::memory::MemoryLedger;

use super::ShardOptions;
use super::changes::Changes;
use super::state::{Memory, State, ViewParts};
use crate::damage::Damage;
use crate::error::StorageError;
use crate::fs::Fs;
use crate::logs::PerSignal;
use crate::logs::window::{KeyWindow, decode_window_file};
use crate::manifest::{FileKind, FileRef, MANIFEST_FILE, Manifest};
use crate::memtable::Memtable;
use crate::metadata::{MetadataMap, decode_metadata_file};
use crate::mutant::{self, Mutant};
use crate::scan::View;
use crate::segment_file::SegmentFile;
use crate::series_index::{Registry, decode_registry_file};
use crate::span_metrics::SpanMetrics;

/// Longest registry or metadata file that is read.
const MAX_SMALL_FILE_BYTES: u64 = 4 << 30;

/// Files on disk beside the manifest.
#[derive(Debug, Default)]
pub(super) struct KnownFiles {
    files: BTreeMap<ContentHash, Known>,
    /// Files that nothing names any more; they go when nobody reads them.
    retired: BTreeMap<ContentHash, Fate>,
}

#[derive(Debug)]
struct Known {
    file: FileRef,
    reader: Weak<SegmentFile>,
    transfer: Weak<()>,
}

/// What happens to a retired file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Remove,
    /// Kept aside: it is the only trace of a replica that made other bytes than its leader.
    Quarantine,
}

impl Known {
    fn is_read(&self) -> bool {
        self.reader.strong_count() > 0 || self.transfer.strong_count() > 0
    }
}

impl KnownFiles {
    pub fn add(&mut self, file: FileRef) {
        self.retired.remove(&file.hash);
        self.files.entry(file.hash).or_insert(Known { file, reader: Weak::new(), transfer: Weak::new() });
    }

    pub fn add_segment(&mut self, segment: &Arc<SegmentFile>) {
        self.add(segment.file);
        if let Some(known) = self.files.get_mut(&segment.file.hash) {
            known.reader = Arc::downgrade(segment);
        }
    }

    pub fn contains(&self, hash: &ContentHash) -> bool {
        self.files.contains_key(hash)
    }

    /// Keeps a file on disk as long as the value lives.
    pub fn pin(&mut self, hash: &ContentHash) -> Option<Arc<()>> {
        let known = self.files.get_mut(hash)?;
        let pin = known.transfer.upgrade().unwrap_or_default();
        known.transfer = Arc::downgrade(&pin);
        Some(pin)
    }

    pub fn quarantine(&mut self, hash: &ContentHash) {
        if self.contains(hash) {
            self.retired.insert(*hash, Fate::Quarantine);
        }
    }

    /// Retires what is not in use, takes back what is.
    fn retain(&mut self, in_use: &BTreeSet<ContentHash>) {
        for hash in self.files.keys() {
            if in_use.contains(hash) {
                self.retired.remove(hash);
            } else {
                self.retired.entry(*hash).or_insert(Fate::Remove);
            }
        }
    }

    pub fn bytes(&self) -> u64 {
        self.files.values().map(|known| known.file.len_bytes).sum()
    }

    pub fn has_removable(&self) -> bool {
        self.removable().next().is_some()
    }

    /// Retired files that nobody reads.
    pub fn removable(&self) -> impl Iterator<Item = (FileRef, Fate)> {
        let unread = |hash| self.files.get(hash).filter(|known| !known.is_read());
        self.retired.iter().filter_map(move |(hash, fate)| Some((unread(hash)?.file, *fate)))
    }

    /// Takes over what a state before knew.
    pub fn inherit(&mut self, before: Self) {
        for (hash, known) in before.files {
            self.files.entry(hash).or_insert(known);
        }
        self.retired.extend(before.retired.into_iter().filter(|(_, fate)| *fate == Fate::Quarantine));
    }

    /// Forgets a file that was removed.
    pub fn forget(&mut self, hash: &ContentHash) {
        self.files.remove(hash);
        self.retired.remove(hash);
    }
}

impl State {
    /// Retires files that no manifest, job or transfer names any more: neither the newest nor the durable one, nor one
    /// in between that is being written or may have been.
    pub fn retire_files(&mut self) {
        let manifests =
            [&self.manifest, &self.durable].into_iter().flat_map(|m| m.files()).map(|file| file.hash);
        let jobs = self.jobs.values().flat_map(|slot| slot.files()).map(|file| file.hash);
        let received = self.received.keys().copied();
        let in_doubt = self.in_doubt.iter().copied();
        let in_use: BTreeSet<ContentHash> = manifests.chain(in_doubt).chain(jobs).chain(received).collect();
        self.files.retain(&in_use);
    }
}

/// The directory of content-named files.
pub(crate) fn files_dir(dir: &Path) -> PathBuf {
    dir.join("files")
}

/// The directory of results that differed from the leader's.
pub(super) fn quarantine_dir(dir: &Path) -> PathBuf {
    dir.join("quarantine")
}

/// Where a content-named file lies.
pub(crate) fn file_path(dir: &Path, file: &FileRef) -> PathBuf {
    files_dir(dir).join(file.name())
}

/// A name for a file that is being written.
pub(crate) fn aside_path(dir: &Path, name: &str) -> PathBuf {
    files_dir(dir).join(format!("{name}.tmp"))
}

/// Writes a small file under its content's name. Durable on return, the directory's names after
/// [`Fs::sync_dir`].
pub(crate) fn write_file(
    fs: &impl Fs,
    dir: &Path,
    aside: &str,
    bytes: &[u8],
    kind: FileKind,
) -> Result<FileRef, StorageError> {
    use crate::fs::{FsFile, OpenMode};
    let file = FileRef::of(bytes, kind);
    let path = aside_path(dir, aside);
    let write = || {
        if fs.exists(&path)? {
            fs.remove_file(&path)?;
        }
        let handle = fs.open(&path, OpenMode::CreateNew)?;
        handle.write_all_at(0, bytes)?;
        if !mutant::is(Mutant::FilesNotSynced) {
            handle.sync_data()?;
        }
        fs.rename(&path, &file_path(dir, &file))
    };
    write().map_err(StorageError::io("write", &path))?;
    Ok(file)
}

/// Reads a registry or metadata file and checks it against its name.
pub(crate) fn read_small(fs: &impl Fs, dir: &Path, file: &FileRef) -> Result<Vec<u8>, StorageError> {
    let path = file_path(dir, file);
    let bytes = fs.read(&path, MAX_SMALL_FILE_BYTES).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StorageError::MissingFile { name: file.name() },
        _ => StorageError::io("read", &path)(error),
    })?;
    if FileRef::of(&bytes, file.kind) != *file {
        return Err(StorageError::corrupt(&path, "the content is not what the name says"));
    }
    Ok(bytes)
}

/// What a manifest's files hold, brought into memory.
pub(super) struct Loaded {
    pub registry: Registry,
    pub metadata: MetadataMap,
    pub window: KeyWindow,
    pub span_metrics: SpanMetrics,
    pub segments: BTreeMap<ContentHash, Arc<SegmentFile>>,
    /// Segments that could not be opened.
    pub damage: Damage,
}

/// Opens all files of a manifest. `opened` are segments that are open already.
///
/// A damaged segment is noted: a peer has its bytes, and nothing of the state depends on them. A damaged registry,
/// metadata, window or span metrics file is an error, because what is replayed would be applied wrongly.
pub(super) fn load(
    fs: &impl Fs,
    dir: &Path,
    manifest: &Manifest,
    opened: &BTreeMap<ContentHash, Arc<SegmentFile>>,
) -> Result<Loaded, StorageError> {
    let mut registry = Registry::new(manifest.generation);
    for part in &manifest.registry {
        let bytes = read_small(fs, dir, &part.file)?;
        let path = file_path(dir, &part.file);
        decode_registry_file(&bytes, &mut registry).map_err(|error| error.of_file(&path))?;
        if registry.len() != (part.first + part.count) as usize {
            let reason = "holds another number of series than the manifest says";
            return Err(StorageError::corrupt(path, reason));
        }
    }
    let metadata = load_metadata(fs, dir, manifest)?;
    let window = match &manifest.window {
        None => KeyWindow::default(),
        Some(file) => decode_window_file(&read_small(fs, dir, file)?)
            .map_err(|error| error.of_file(file_path(dir, file)))?,
    };
    let span_metrics = match &manifest.span_metrics {
        None => SpanMetrics::default(),
        Some(file) => SpanMetrics::decode(&read_small(fs, dir, file)?)
            .map_err(|error| error.of_file(file_path(dir, file)))?,
    };
    let (mut segments, damage) = (BTreeMap::new(), Damage::default());
    for meta in &manifest.segments {
        let open = match opened.get(&meta.file.hash) {
            Some(open) => Ok(Arc::clone(open)),
            None => SegmentFile::open(fs, &files_dir(dir), meta.file),
        };
        match open {
            Ok(open) => {
                segments.insert(meta.file.hash, open);
            }
            Err(error) if error.is_damage() => {
                tracing::error!(error = &error as &dyn std::error::Error, "a segment can not be opened");
                damage.add(meta.file.name());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Loaded { registry, metadata, window, span_metrics, segments, damage })
}

impl State {
    /// The state that a manifest describes, everything behind it to be replayed.
    pub fn of_manifest(
        options: ShardOptions,
        ledger: MemoryLedger,
        manifest: Manifest,
        loaded: Loaded,
    ) -> Self {
        let manifest = Arc::new(manifest);
        let mut files = KnownFiles::default();
        manifest.files().into_iter().for_each(|file| files.add(file));
        loaded.segments.values().for_each(|segment| files.add_segment(segment));
        let mut state = Self {
            options,
            applied: manifest.flushed.clone().unwrap_or_default(),
            cluster_time_ms: manifest.cluster_time_ms,
            registry_covered: loaded.registry.len() as u32,
            registry_files: manifest.registry.len(),
            registry: loaded.registry,
            metadata: Arc::new(loaded.metadata),
            metadata_changed: false,
            damage: Arc::new(loaded.damage),
            active: Memtable::new(ledger.clone()),
            rows: PerSignal::default(),
            window: loaded.window,
            span_metrics: Arc::new(Mutex::new(loaded.span_metrics)),
            active_after: manifest.flushed_index(),
            active_since_ms: None,
            frozen: VecDeque::new(),
            durable: Arc::clone(&manifest),
            dirty: false,
            persisting: false,
            in_doubt: BTreeSet::new(),
            removing: false,
            segments: loaded.segments,
            pending: VecDeque::new(),
            jobs: manifest.merges.iter().map(|m| (m.job.0, super::jobs::JobSlot::Waiting)).collect(),
            incarnation: 0,
            files,
            incoming: BTreeMap::new(),
            received: BTreeMap::new(),
            received_segments: BTreeMap::new(),
            activity: super::policy::Activity::default(),
            changes: Arc::new(Changes::new(manifest.flushed_index())),
            digest_mismatches: 0,
            failed_jobs: 0,
            view_parts: ViewParts::default(),
            memory: Memory::new(ledger),
            manifest,
        };
        state.refresh_view();
        state.account();
        state
    }
}

/// What a manifest's segments and metadata hold, for reading alone. Nothing is changed, and any damage is an error.
pub(crate) fn archived_view(
    fs: &impl Fs,
    dir: &Path,
    manifest: Manifest,
) -> Result<(View, Vec<Arc<SegmentFile>>), StorageError> {
    let opened = manifest.segments.iter().map(|meta| SegmentFile::open(fs, &files_dir(dir), meta.file));
    let opened: Vec<_> = opened.collect::<Result<_, _>>()?;
    let loaded = Loaded {
        registry: Registry::new(manifest.generation),
        metadata: load_metadata(fs, dir, &manifest)?,
        window: KeyWindow::default(),
        span_metrics: SpanMetrics::default(),
        segments: opened.iter().map(|segment| (segment.file.hash, Arc::clone(segment))).collect(),
        damage: Damage::default(),
    };
    let state = State::of_manifest(ShardOptions::default(), MemoryLedger::default(), manifest, loaded);
    Ok((state.view(), opened))
}

fn load_metadata(fs: &impl Fs, dir: &Path, manifest: &Manifest) -> Result<MetadataMap, StorageError> {
    match &manifest.metadata {
        None => Ok(MetadataMap::new()),
        Some(file) => decode_metadata_file(&read_small(fs, dir, file)?)
            .map_err(|error| error.of_file(file_path(dir, file))),
    }
}

/// Reads the manifest, opens its files, removes all others.
pub(super) fn open_state(
    fs: &impl Fs,
    dir: &Path,
    shard: ShardId,
    options: ShardOptions,
    covered: LogIndex,
    ledger: MemoryLedger,
) -> Result<State, StorageError> {
    let files = files_dir(dir);
    fs.create_dir_all(&files).map_err(StorageError::io("creation", &files))?;
    // The directory's own name is as durable as its parents' are, up to the node's data directory.
    for parent in dir.ancestors().take(3).filter(|parent| !parent.as_os_str().is_empty()) {
        fs.sync_dir(parent).map_err(StorageError::io("sync", parent))?;
    }
    let manifest = match Manifest::load(fs, dir, shard)? {
        Some(manifest) if manifest.flushed_index() < covered.0 => {
            let flushed = manifest.flushed_index();
            let reason = format!("covers entries up to {flushed}, the log was purged up to {covered}");
            return Err(StorageError::corrupt(dir.join(MANIFEST_FILE), reason));
        }
        None if covered.0 > 0 => return Err(StorageError::MissingFile { name: MANIFEST_FILE.into() }),
        manifest => manifest.unwrap_or_else(|| Manifest::empty(shard)),
    };
    let named: BTreeSet<String> = manifest.files().iter().map(FileRef::name).collect();
    for entry in fs.list(&files).map_err(StorageError::io("listing", &files))? {
        if !named.contains(&entry.name) {
            let path = files.join(&entry.name);
            fs.remove_file(&path).map_err(StorageError::io("removal", &path))?;
        }
    }
    let loaded = load(fs, dir, &manifest, &BTreeMap::new())?;
    Ok(State::of_manifest(options, ledger, manifest, loaded))
}
