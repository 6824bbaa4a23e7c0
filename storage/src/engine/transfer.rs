//! Snapshots: a manifest and the files that the receiver lacks.
//!
//! ```text
//! sender                                       receiver
//! manifest_for_snapshot() ── bytes ──────────► SnapshotManifest::decode, missing()
//! read_file_chunk(file, offset) ◄── file ───── receive_file(file, offset, bytes) until the file is whole
//!                                              install_snapshot(): manifest durable, state replaced at once
//! ```
//!
//! What is sent is the durable manifest: its position is what the sender's log is purged up to. The sender's files
//! stay on disk while the `SnapshotManifest` lives. Received files are checked against their names and synced before
//! they count; a transfer that broke off goes on at the offset that [`super::ShardStore::receive_file`] names, until
//! [`super::ShardStore::forget_transfers`] gives up what nobody asked for again. The same calls repair a replica whose
//! own result of a job differed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use protocol::command::ContentHash;

use super::files::{self, file_path, files_dir};
use super::state::State;
use super::{Position, ShardStore};
use crate::error::{FormatError, StorageError};
use crate::fs::{Fs, FsFile, OpenMode};
use crate::manifest::{FileKind, FileRef, Manifest, hex};
use crate::mutant::{self, Mutant};
use crate::segment_file::SegmentFile;

/// Bytes that one call of [`super::ShardStore::read_file_chunk`] gives at most.
pub const MAX_CHUNK_BYTES: usize = 4 << 20;

/// A snapshot of a shard: what its manifest says.
#[derive(Clone, Debug)]
pub struct SnapshotManifest {
    manifest: Arc<Manifest>,
    bytes: Bytes,
    /// On the sender: keeps the files on disk.
    _pins: Arc<Vec<Arc<()>>>,
}

impl SnapshotManifest {
    /// Takes bytes that [`SnapshotManifest::bytes`] gave on another node.
    pub fn decode(bytes: Bytes) -> Result<Self, StorageError> {
        let refused = |error| match error {
            FormatError::Malformed(reason) => {
                StorageError::Transfer { name: "a snapshot's manifest".into(), reason }
            }
            version => version.of_file(""),
        };
        let manifest = Manifest::decode(&bytes).map_err(refused)?;
        Ok(Self { manifest: Arc::new(manifest), bytes, _pins: Arc::default() })
    }

    /// The bytes to send.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The position that the snapshot covers; `None` for a shard that never flushed.
    pub fn position(&self) -> Option<&Position> {
        self.manifest.flushed.as_ref()
    }

    /// Files that belong to it.
    pub fn files(&self) -> Vec<FileRef> {
        self.manifest.files()
    }
}

/// A file of which a part has arrived.
#[derive(Debug)]
pub(super) struct Incoming {
    offset: u64,
    hasher: Box<blake3::Hasher>,
}

/// Name of the file in which a file's content gathers.
fn incoming_name(hash: &ContentHash) -> String {
    format!("incoming-{}.tmp", hex(hash))
}

fn incoming_path(dir: &Path, file: &FileRef) -> PathBuf {
    files_dir(dir).join(incoming_name(&file.hash))
}

impl<F: Fs> ShardStore<F> {
    /// The durable manifest, its files pinned as long as the value lives.
    pub fn manifest_for_snapshot(&self) -> SnapshotManifest {
        let mut state = self.shared.lock();
        let manifest = match mutant::is(Mutant::PurgedTooFar) {
            true => Arc::clone(&state.manifest),
            false => Arc::clone(&state.durable),
        };
        let pins = manifest.files().iter().filter_map(|file| state.files.pin(&file.hash)).collect();
        let bytes = Bytes::from(manifest.encode());
        SnapshotManifest { manifest, bytes, _pins: Arc::new(pins) }
    }

    /// Files of a snapshot that are not here.
    pub fn missing(&self, snapshot: &SnapshotManifest) -> Vec<FileRef> {
        let state = self.shared.lock();
        snapshot.files().into_iter().filter(|file| !state.has_file(file) || state.is_damaged(file)).collect()
    }

    /// A piece of a file that a peer asks for, at most [`MAX_CHUNK_BYTES`] long; empty at its end.
    pub fn read_file_chunk(
        &self,
        file: &FileRef,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Bytes, StorageError> {
        let pin = self.shared.lock().files.pin(&file.hash);
        let Some(_pin) = pin else { return Err(StorageError::MissingFile { name: file.name() }) };
        let path = file_path(&self.shared.dir, file);
        let len = file.len_bytes.saturating_sub(offset).min(max_bytes.min(MAX_CHUNK_BYTES) as u64);
        let mut bytes = vec![0; len as usize];
        let handle =
            self.shared.fs.open(&path, OpenMode::Read).map_err(StorageError::io("opening", &path))?;
        handle.read_exact_at(offset, &mut bytes).map_err(StorageError::io("read", &path))?;
        Ok(bytes.into())
    }

    /// Takes the next piece of a file and returns the offset of the piece after it; the file is whole and durable
    /// when that is its length. A piece that does not start where the last one ended is not taken: the returned
    /// offset says where to go on. Bytes that do not hash to the file's name are thrown away with an error.
    ///
    /// Several transfers may want one file: while a piece of it is written, others are refused.
    pub fn receive_file(&self, file: &FileRef, offset: u64, bytes: &[u8]) -> Result<u64, StorageError> {
        let refused = |reason: String| StorageError::Transfer { name: file.name(), reason };
        let mut incoming = {
            let mut state = self.shared.lock();
            if state.has_file(file) && !state.missing_files().contains(file) {
                return Ok(file.len_bytes);
            }
            let begin = || Incoming { offset: 0, hasher: Box::default() };
            match state.incoming.insert(file.hash, None) {
                Some(None) => return Err(refused("another transfer is writing it".into())),
                Some(Some(incoming)) => incoming,
                None => begin(),
            }
        };
        let result = self.receive_piece(file, &mut incoming, offset, bytes);
        let mut state = self.shared.lock();
        match result {
            Ok(next) if next < file.len_bytes => {
                state.incoming.insert(file.hash, Some(incoming));
            }
            // On failure the pieces before are forgotten too: the file starts again at 0.
            _ => {
                state.incoming.remove(&file.hash);
            }
        }
        result
    }

    /// Takes a piece of a file whose entry in `incoming` says that this call is at it.
    fn receive_piece(
        &self,
        file: &FileRef,
        incoming: &mut Incoming,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, StorageError> {
        let refused = |reason: String| StorageError::Transfer { name: file.name(), reason };
        if offset != incoming.offset {
            return Ok(incoming.offset);
        }
        let end = offset + bytes.len() as u64;
        if end > file.len_bytes {
            return Err(refused(format!("{end} bytes of {}", file.len_bytes)));
        }
        let aside = incoming_path(&self.shared.dir, file);
        self.write_piece(&aside, offset, bytes).map_err(StorageError::io("write", &aside))?;
        incoming.hasher.update(bytes);
        incoming.offset = end;
        if end < file.len_bytes {
            return Ok(end);
        }
        if *incoming.hasher.finalize().as_bytes() != file.hash {
            return Err(refused("the content is not what the name says".into()));
        }
        self.seal_received(file, &aside)?;
        Ok(end)
    }

    /// Gives up what arrived for transfers that ended: parts of files, and whole ones that no manifest and no job names.
    /// To be called when none is under way; one that is loses nothing but has to begin again.
    pub fn forget_transfers(&self) -> Result<(), StorageError> {
        let parts: Vec<(ContentHash, u64)> = {
            let mut state = self.shared.lock();
            let awaited: BTreeSet<ContentHash> =
                state.jobs.values().flat_map(|slot| slot.files()).map(|file| file.hash).collect();
            state.received.retain(|hash, _| awaited.contains(hash));
            state.received_segments.retain(|hash, _| awaited.contains(hash));
            state.retire_files();
            // As if they were being written: nobody begins anew before the old part is gone.
            let idle = state.incoming.iter_mut().filter(|(_, incoming)| incoming.is_some());
            idle.map(|(hash, incoming)| (*hash, incoming.take().map_or(0, |i| i.offset))).collect()
        };
        let mut result = Ok(());
        for (hash, offset) in parts {
            let path = files_dir(&self.shared.dir).join(incoming_name(&hash));
            // Nothing was written yet for a file of which no byte arrived.
            if offset > 0 {
                result =
                    result.and(self.shared.fs.remove_file(&path).map_err(StorageError::io("removal", path)));
            }
            self.shared.lock().incoming.remove(&hash);
        }
        result
    }

    fn write_piece(&self, aside: &Path, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let fs = &self.shared.fs;
        if offset == 0 && fs.exists(aside)? {
            fs.remove_file(aside)?;
        }
        let mode = if offset == 0 { OpenMode::CreateNew } else { OpenMode::ReadWrite };
        fs.open(aside, mode)?.write_all_at(offset, bytes)
    }

    fn seal_received(&self, file: &FileRef, aside: &Path) -> Result<(), StorageError> {
        let (fs, dir) = (&self.shared.fs, &self.shared.dir);
        let path = file_path(dir, file);
        let seal = || {
            fs.open(aside, OpenMode::ReadWrite)?.sync_data()?;
            fs.rename(aside, &path)?;
            fs.sync_dir(&files_dir(dir))
        };
        seal().map_err(StorageError::io("sealing", aside))?;
        let segment = match file.kind {
            FileKind::Segment => Some(SegmentFile::open(fs, &files_dir(dir), *file)?),
            FileKind::Registry | FileKind::Metadata | FileKind::Window | FileKind::SpanMetrics => None,
        };
        let mut state = self.shared.lock();
        state.files.add(*file);
        match segment {
            // A copy in the place of a damaged one. Readers of the damaged one keep what they have mapped.
            Some(segment) if state.is_damaged(file) => {
                state.damage.remove(&file.name());
                state.files.add_segment(&segment);
                state.segments.insert(file.hash, segment);
            }
            Some(segment) => {
                state.received.insert(file.hash, *file);
                state.files.add_segment(&segment);
                state.received_segments.insert(file.hash, segment);
            }
            None => {
                state.received.insert(file.hash, *file);
            }
        }
        state.process_ops();
        self.shared.publish(&mut state);
        Ok(())
    }

    /// Puts a snapshot in the place of all that is here: its manifest becomes the durable one, memtables, queue and
    /// jobs go, and the entries behind its position are to be applied. A snapshot that does not reach beyond what is
    /// applied changes nothing. All its files must be here.
    pub fn install_snapshot(&self, snapshot: &SnapshotManifest) -> Result<(), StorageError> {
        let shared = &self.shared;
        let manifest = &*snapshot.manifest;
        if manifest.shard != shared.shard {
            let reason = format!("it is of shard {}", manifest.shard);
            return Err(StorageError::Transfer { name: "a snapshot's manifest".into(), reason });
        }
        // Nobody else writes a manifest from here on, and jobs that ran for the old state find it gone.
        let _writing = shared.lock_manifest();
        let opened: BTreeMap<_, _> = {
            let mut state = shared.lock();
            if manifest.flushed_index() <= state.applied.index.0 {
                state.forget_received(snapshot);
                return Ok(());
            }
            if let Some(file) = snapshot.files().into_iter().find(|file| !state.has_file(file)) {
                return Err(StorageError::MissingFile { name: file.name() });
            }
            let segments = state.segments.iter().chain(&state.received_segments);
            let segments = segments.filter(|(_, segment)| !state.is_damaged(&segment.file));
            segments.map(|(hash, segment)| (*hash, Arc::clone(segment))).collect()
        };
        let loaded = files::load(&shared.fs, &shared.dir, manifest, &opened)?;
        let mut state = shared.lock();
        if manifest.flushed_index() <= state.applied.index.0 {
            state.forget_received(snapshot);
            return Ok(());
        }
        // Under the lock: no file that the snapshot needs can be removed between the check and the new state.
        if let Some(file) = snapshot.files().into_iter().find(|file| !state.has_file(file)) {
            return Err(StorageError::MissingFile { name: file.name() });
        }
        manifest.store(&shared.fs, &shared.dir)?;
        let ledger = state.memory.ledger.clone();
        let new = State::of_manifest(shared.options.clone(), ledger, manifest.clone(), loaded);
        state.replace(new);
        shared.publish(&mut state);
        Ok(())
    }
}

impl State {
    fn has_file(&self, file: &FileRef) -> bool {
        self.files.contains(&file.hash)
    }

    /// Lets go of files that came for a snapshot which is not needed any more.
    fn forget_received(&mut self, snapshot: &SnapshotManifest) {
        let awaited: BTreeSet<ContentHash> =
            self.jobs.values().flat_map(|slot| slot.files()).map(|file| file.hash).collect();
        for file in snapshot.files() {
            if !awaited.contains(&file.hash) {
                self.received.remove(&file.hash);
                self.received_segments.remove(&file.hash);
            }
        }
        self.retire_files();
    }

    /// Takes the place of a state after a snapshot; files that only the old one named are retired.
    fn replace(&mut self, mut new: State) {
        new.incarnation = self.incarnation + 1;
        new.removing = self.removing;
        new.digest_mismatches = self.digest_mismatches;
        new.failed_jobs = self.failed_jobs;
        new.incoming = std::mem::take(&mut self.incoming);
        // Another transfer may count on what it has fetched so far.
        new.received = std::mem::take(&mut self.received);
        new.received_segments = std::mem::take(&mut self.received_segments);
        for file in new.manifest.files() {
            new.received.remove(&file.hash);
            new.received_segments.remove(&file.hash);
        }
        new.files.inherit(std::mem::take(&mut self.files));
        *self = new;
        self.retire_files();
    }
}
