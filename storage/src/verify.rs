//! Looking through a shard's directory for damage without changing a byte of it, while no node runs on it.
//!
//! ```text
//! manifest ─► registry files, in order ─► metadata ─► window ─► metrics of spans ─► segments: every byte by pread against the name's hash
//!                                                       └─► every checksum, block by block, and what the blocks decode to
//! ```
//!
//! A store that opens minds what it needs at once; this minds everything, and goes on behind what it found: the point is
//! a list of all that is damaged. Files are read by pread before they are mapped, so that a bad sector is an error with
//! an offset and no signal. What no manifest names (a job that a crash cut short left it, the next start removes it) is
//! counted, not read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use protocol::command::ContentHash;
use protocol::ids::ShardId;

use crate::engine::files::{file_path, files_dir, read_small};
use crate::error::StorageError;
use crate::fs::{Fs, FsFile, OpenMode};
use crate::logs::window::decode_window_file;
use crate::manifest::{FileRef, MANIFEST_FILE, Manifest, Partition, SegmentMeta};
use crate::metadata::decode_metadata_file;
use crate::segment::{SegmentError, SegmentHeader};
use crate::segment_file::{Content, SegmentFile};
use crate::series_index::{Registry, decode_registry_file};
use crate::span_metrics::SpanMetrics;

/// Read at once.
const PIECE_BYTES: u64 = 1 << 20;

/// A place that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where in it; `None` when it is the file as a whole.
    pub offset: Option<u64>,
    /// The offence.
    pub reason: String,
    /// Whether somebody needs what was there. The disk forgot it all the same.
    pub is_needed: bool,
}

/// What a look through files found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that nothing names: the next start removes them.
    pub leftovers: u64,
    /// What is damaged.
    pub damage: Vec<Finding>,
}

impl Findings {
    /// Notes a damaged place.
    pub fn add(&mut self, path: impl Into<PathBuf>, offset: Option<u64>, reason: impl Into<String>) {
        let (path, reason) = (path.into(), reason.into());
        self.damage.push(Finding { path, offset, reason, is_needed: true });
    }

    /// Notes what an error about a file says.
    fn add_error(&mut self, path: &Path, error: &StorageError) {
        match error {
            StorageError::Segment(SegmentError::Corrupt { offset, reason, .. }) => {
                self.add(path, Some(*offset), reason.to_string());
            }
            StorageError::Segment(error) => self.add(path, None, error.to_string()),
            StorageError::Corrupt { reason, .. } => self.add(path, None, reason.clone()),
            StorageError::MissingFile { .. } => self.add(path, None, "the file is missing"),
            StorageError::Io { action, source, .. } => {
                self.add(path, None, format!("{action} failed: {source}"))
            }
            error => self.add(path, None, error.to_string()),
        }
    }
}

/// Looks through a shard's directory. Gives the manifest, if there is a whole one.
pub fn check_shard(fs: &impl Fs, dir: &Path, shard: ShardId, found: &mut Findings) -> Option<Manifest> {
    let path = dir.join(MANIFEST_FILE);
    let manifest = match Manifest::load(fs, dir, shard) {
        Ok(manifest) => manifest,
        Err(error) => {
            found.add_error(&path, &error);
            return None;
        }
    };
    let named = match &manifest {
        Some(manifest) => {
            found.files += 1;
            found.bytes += manifest.encode().len() as u64;
            check_files(fs, dir, manifest, found);
            manifest.files().iter().map(FileRef::name).collect()
        }
        None => BTreeSet::new(),
    };
    let files = files_dir(dir);
    match fs.list(&files) {
        Ok(entries) => {
            found.leftovers += entries.iter().filter(|entry| !named.contains(&entry.name)).count() as u64;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => found.add(&files, None, format!("listing failed: {error}")),
    }
    manifest
}

/// Looks through the files that a manifest names, below a shard's directory.
pub fn check_files(fs: &impl Fs, dir: &Path, manifest: &Manifest, found: &mut Findings) {
    check_small_files(fs, dir, manifest, found);
    manifest.segments.iter().for_each(|meta| check_segment(fs, dir, meta, found));
}

/// Registry, metadata and window: whole files with a hash, small enough for memory.
fn check_small_files(fs: &impl Fs, dir: &Path, manifest: &Manifest, found: &mut Findings) {
    let mut registry = Some(Registry::new(manifest.generation));
    for part in &manifest.registry {
        let decoded = check_small(fs, dir, &part.file, found, |bytes| {
            let Some(registry) = &mut registry else { return Ok(()) };
            decode_registry_file(bytes, registry)?;
            if registry.len() == part.first as usize + part.count as usize {
                Ok(())
            } else {
                Err("holds another number of series than the manifest says".into())
            }
        });
        if !decoded {
            // What follows can not be read without it; its hash still can be checked.
            registry = None;
        }
    }
    if let Some(file) = &manifest.metadata {
        check_small(fs, dir, file, found, |bytes| decode_metadata_file(bytes).map(drop));
    }
    if let Some(file) = &manifest.window {
        check_small(fs, dir, file, found, |bytes| decode_window_file(bytes).map(drop));
    }
    if let Some(file) = &manifest.span_metrics {
        check_small(fs, dir, file, found, |bytes| SpanMetrics::decode(bytes).map(drop));
    }
}

fn check_small(
    fs: &impl Fs,
    dir: &Path,
    file: &FileRef,
    found: &mut Findings,
    decode: impl FnOnce(&[u8]) -> Result<(), crate::error::FormatError>,
) -> bool {
    let path = file_path(dir, file);
    let checked = read_small(fs, dir, file).and_then(|bytes| {
        found.files += 1;
        found.bytes += bytes.len() as u64;
        decode(&bytes).map_err(|error| error.of_file(&path))
    });
    checked.map_err(|error| found.add_error(&path, &error)).is_ok()
}

fn check_segment(fs: &impl Fs, dir: &Path, meta: &SegmentMeta, found: &mut Findings) {
    let path = file_path(dir, &meta.file);
    let hash = match hash_file(fs, &path) {
        Ok((len, hash)) => {
            found.files += 1;
            found.bytes += len;
            hash
        }
        Err((_, error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return found.add(&path, None, "the file is missing");
        }
        Err((offset, error)) => return found.add(&path, Some(offset), format!("reading failed: {error}")),
    };
    let before = found.damage.len();
    match SegmentFile::open(fs, &files_dir(dir), meta.file) {
        Err(error) => found.add_error(&path, &error),
        Ok(open) => {
            let (header, samples, damage) = match &open.content {
                Content::Metrics(reader) => (reader.header(), reader.summary().samples(), reader.damage()),
                Content::Logs(reader) => (reader.header(), reader.summary().rows, reader.damage()),
            };
            damage.into_iter().for_each(|error| found.add_error(&path, &error.into()));
            if !describes(meta, header, samples) {
                found.add(&path, Some(0), "holds something else than the manifest says");
            }
        }
    }
    if hash != meta.file.hash && found.damage.len() == before {
        found.add(&path, None, "the content is not what the name says");
    }
}

/// Whether a segment is the one that the manifest speaks of.
fn describes(meta: &SegmentMeta, header: &SegmentHeader, samples: u64) -> bool {
    let partition = Partition {
        signal: header.partition.signal as u8,
        class: meta.partition.class,
        bucket: match header.partition.duration_ms {
            0 => Partition::CATCH_ALL,
            _ => Partition::of_metric(header.partition.start_ms).bucket,
        },
    };
    partition == meta.partition
        && header.partition.retention_class == u16::from(meta.partition.class)
        && (header.first_log_index, header.last_log_index) == (meta.log_after + 1, meta.log_last)
        && samples == meta.samples
}

/// Length and hash of a file; an error says how far it could be read.
pub fn hash_file(fs: &impl Fs, path: &Path) -> Result<(u64, ContentHash), (u64, std::io::Error)> {
    let at_start = |error| (0, error);
    let file = fs.open(path, OpenMode::Read).map_err(at_start)?;
    let len = file.len().map_err(at_start)?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES.min(len) as usize];
    let mut at = 0;
    while at < len {
        let bytes = &mut piece[..PIECE_BYTES.min(len - at) as usize];
        file.read_exact_at(at, bytes).map_err(|error| (at, error))?;
        hasher.update(bytes);
        at += bytes.len() as u64;
    }
    Ok((len, *hasher.finalize().as_bytes()))
}
