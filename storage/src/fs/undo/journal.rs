//! The journal's records, and which of them are not durable yet.
//!
//! ```text
//! u32    length of what follows, little-endian
//! varint number of the record
//! u8     kind, then its fields: varints, strings with their length before them
//! ```
//!
//! Records of what became durable are dropped by rewriting the file once they are most of it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use protocol::varint;

const NAME: &str = "journal";
/// The file is rewritten where it is larger and less than half of it is needed.
const REWRITE_BYTES: u64 = 8 << 20;

/// How to undo something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Of a file: `written` bytes from `offset` on, or where those are none its length. Before, it had `old_len` bytes, among
    /// them `old` from `offset` on.
    Bytes { file: u64, offset: u64, written: u64, old_len: u64, old: Vec<u8> },
    /// A name that was not there.
    Made { path: PathBuf },
    /// A name that was another one, and what had it before.
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<u64> },
    /// A name that is gone; what had it is kept.
    Removed { path: PathBuf, kept: u64 },
}

/// A record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Change(Change),
    /// What was noted of a file before a number is durable.
    FileSynced {
        file: u64,
        before: u64,
    },
    /// What was noted of names in a directory before a number is durable.
    DirSynced {
        dir: PathBuf,
        before: u64,
    },
}

/// What becomes durable by one sync.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Unit {
    /// A file's bytes.
    File(u64),
    /// A directory's names.
    Dir(PathBuf),
}

impl Change {
    /// By what it becomes durable. A name that moves from one directory to another does so with the one that it is in then.
    pub fn unit(&self) -> Unit {
        let parent = |path: &Path| Unit::Dir(path.parent().unwrap_or(Path::new("")).to_owned());
        match self {
            Self::Bytes { file, .. } => Unit::File(*file),
            Self::Made { path } | Self::Removed { path, .. } => parent(path),
            Self::Renamed { to, .. } => parent(to),
        }
    }

    /// What is kept for it alone.
    fn kept(&self) -> Option<u64> {
        match self {
            Self::Renamed { replaced, .. } => *replaced,
            Self::Removed { kept, .. } => Some(*kept),
            Self::Bytes { .. } | Self::Made { .. } => None,
        }
    }
}

fn write_path(out: &mut Vec<u8>, path: &Path) {
    varint::write_prefixed(out, path.as_os_str().as_bytes());
}

fn read_path(input: &mut &[u8]) -> Option<PathBuf> {
    Some(OsStr::from_bytes(varint::read_prefixed(input)?).into())
}

impl Record {
    fn encode(&self, number: u64) -> Vec<u8> {
        let mut out = vec![0; 4];
        varint::write_u64(&mut out, number);
        let mut put = |kind: u8, numbers: &[u64]| {
            out.push(kind);
            numbers.iter().for_each(|number| varint::write_u64(&mut out, *number));
        };
        match self {
            Self::Change(Change::Bytes { file, offset, written, old_len, old }) => {
                put(0, &[*file, *offset, *written, *old_len]);
                varint::write_prefixed(&mut out, old);
            }
            Self::Change(Change::Made { path }) => {
                put(1, &[]);
                write_path(&mut out, path);
            }
            Self::Change(Change::Renamed { from, to, replaced }) => {
                // Ids begin with 1.
                put(2, &[replaced.unwrap_or(0)]);
                write_path(&mut out, from);
                write_path(&mut out, to);
            }
            Self::Change(Change::Removed { path, kept }) => {
                put(3, &[*kept]);
                write_path(&mut out, path);
            }
            Self::FileSynced { file, before } => put(4, &[*file, *before]),
            Self::DirSynced { dir, before } => {
                put(5, &[*before]);
                write_path(&mut out, dir);
            }
        }
        let len = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&len.to_le_bytes());
        out
    }

    fn decode(mut input: &[u8]) -> Option<(u64, Self)> {
        let input = &mut input;
        let number = varint::read_u64(input)?;
        let kind = varint::read_bytes(input, 1)?[0];
        let record = match kind {
            0 => Self::Change(Change::Bytes {
                file: varint::read_u64(input)?,
                offset: varint::read_u64(input)?,
                written: varint::read_u64(input)?,
                old_len: varint::read_u64(input)?,
                old: varint::read_prefixed(input)?.to_vec(),
            }),
            1 => Self::Change(Change::Made { path: read_path(input)? }),
            2 => {
                let replaced = Some(varint::read_u64(input)?).filter(|id| *id != 0);
                Self::Change(Change::Renamed { from: read_path(input)?, to: read_path(input)?, replaced })
            }
            3 => {
                let kept = varint::read_u64(input)?;
                Self::Change(Change::Removed { path: read_path(input)?, kept })
            }
            4 => Self::FileSynced { file: varint::read_u64(input)?, before: varint::read_u64(input)? },
            5 => {
                let before = varint::read_u64(input)?;
                Self::DirSynced { dir: read_path(input)?, before }
            }
            _ => return None,
        };
        input.is_empty().then_some((number, record))
    }
}

/// A change that is not durable, and where its record is.
struct Unsynced {
    number: u64,
    unit: Unit,
    kept: Option<u64>,
    at: u64,
    len: usize,
}

/// The journal of a process that runs.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    len: u64,
    next: u64,
    unsynced: VecDeque<Unsynced>,
}

impl Journal {
    pub fn create(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        Ok(Self { file: create(&path)?, path, len: 0, next: 0, unsynced: VecDeque::new() })
    }

    /// Number of the next record.
    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn append(&mut self, change: Change) -> io::Result<()> {
        let (unit, kept, number, at) = (change.unit(), change.kept(), self.next, self.len);
        let len = self.write(&Record::Change(change))?;
        self.unsynced.push_back(Unsynced { number, unit, kept, at, len });
        Ok(())
    }

    /// Whether bytes of a file are not durable.
    pub fn has_unsynced(&self, file: u64) -> bool {
        self.unsynced.iter().any(|change| change.unit == Unit::File(file))
    }

    /// A file's bytes that were noted before a number are durable.
    pub fn file_synced(&mut self, file: u64, before: u64) -> io::Result<()> {
        self.write(&Record::FileSynced { file, before })?;
        self.drop_synced(&Unit::File(file), before);
        self.rewrite()
    }

    /// The same of a directory's names. Gives what need not be kept any more.
    pub fn dir_synced(&mut self, dir: &Path, before: u64) -> io::Result<Vec<u64>> {
        self.write(&Record::DirSynced { dir: dir.to_owned(), before })?;
        let dropped = self.drop_synced(&Unit::Dir(dir.to_owned()), before);
        self.rewrite()?;
        Ok(dropped)
    }

    fn drop_synced(&mut self, unit: &Unit, before: u64) -> Vec<u64> {
        let mut kept = Vec::new();
        self.unsynced.retain(|change| {
            let is_durable = change.unit == *unit && change.number < before;
            if is_durable {
                kept.extend(change.kept);
            }
            !is_durable
        });
        kept
    }

    fn write(&mut self, record: &Record) -> io::Result<usize> {
        let bytes = record.encode(self.next);
        self.file.write_all(&bytes)?;
        self.next += 1;
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    /// Leaves only records of what is not durable, in one step: a process killed meanwhile leaves the old file or the new one.
    fn rewrite(&mut self) -> io::Result<()> {
        let needed: u64 = self.unsynced.iter().map(|change| change.len as u64).sum();
        if self.len < REWRITE_BYTES || needed > self.len / 2 {
            return Ok(());
        }
        let old = File::open(&self.path)?;
        let aside = self.path.with_extension("new");
        // A process that was killed here before has left one.
        let _ = fs::remove_file(&aside);
        let (mut file, mut len) = (create(&aside)?, 0);
        for change in &mut self.unsynced {
            let mut bytes = vec![0; change.len];
            old.read_exact_at(&mut bytes, change.at)?;
            file.write_all(&bytes)?;
            change.at = len;
            len += bytes.len() as u64;
        }
        fs::rename(aside, &self.path)?;
        (self.file, self.len) = (file, len);
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<File> {
    File::options().append(true).create_new(true).open(path)
}

/// Changes that were not durable when a process ended, the oldest first.
pub(super) fn unsynced(dir: &Path) -> io::Result<Vec<Change>> {
    let bytes = fs::read(dir.join(NAME))?;
    let mut input = bytes.as_slice();
    let mut changes: Vec<(u64, Change)> = Vec::new();
    while let Some((head, rest)) = input.split_first_chunk::<4>() {
        // A torn record is the last one, and what it is about has not begun.
        let Some(body) = rest.get(..u32::from_le_bytes(*head) as usize) else { break };
        input = &rest[body.len()..];
        let (number, record) = Record::decode(body)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a record of the undo journal"))?;
        match record {
            Record::Change(change) => changes.push((number, change)),
            Record::FileSynced { file, before } => {
                changes.retain(|(number, change)| *number >= before || change.unit() != Unit::File(file));
            }
            Record::DirSynced { dir, before } => {
                let unit = Unit::Dir(dir);
                changes.retain(|(number, change)| *number >= before || change.unit() != unit);
            }
        }
    }
    Ok(changes.into_iter().map(|(_, change)| change).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written() {
        let path = || PathBuf::from("/data/a");
        let records = [
            Record::Change(Change::Bytes {
                file: 7,
                offset: 1 << 40,
                written: 3,
                old_len: 5,
                old: vec![1, 2],
            }),
            Record::Change(Change::Made { path: path() }),
            Record::Change(Change::Renamed { from: path(), to: "/data/b".into(), replaced: None }),
            Record::Change(Change::Renamed { from: path(), to: "/data/b".into(), replaced: Some(9) }),
            Record::Change(Change::Removed { path: path(), kept: 300 }),
            Record::FileSynced { file: 7, before: 12 },
            Record::DirSynced { dir: "/data".into(), before: 12 },
        ];
        for (number, record) in records.iter().enumerate() {
            let bytes = record.encode(number as u64);
            assert_eq!(Record::decode(&bytes[4..]), Some((number as u64, record.clone())));
            assert_eq!(Record::decode(&bytes[4..bytes.len() - 1]), None, "{record:?}");
        }
    }

    #[test]
    fn what_is_durable_is_dropped_also_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path()).unwrap();
        let bytes = |file, offset| Change::Bytes {
            file,
            offset,
            written: 1 << 20,
            old_len: 0,
            old: vec![0; 1 << 20],
        };
        journal.append(bytes(1, 5)).unwrap();
        for offset in 0..20 {
            journal.append(bytes(2, offset)).unwrap();
            let before = journal.next();
            journal.append(bytes(2, 100)).unwrap();
            journal.file_synced(2, before).unwrap();
            let (last, all) = (journal.next(), unsynced(dir.path()).unwrap());
            assert_eq!(all, [bytes(1, 5), bytes(2, 100)]);
            journal.file_synced(2, last).unwrap();
        }
        assert_eq!(unsynced(dir.path()).unwrap(), [bytes(1, 5)]);
        assert!(journal.has_unsynced(1) && !journal.has_unsynced(2));
        assert!(fs::metadata(dir.path().join(NAME)).unwrap().len() < 3 * REWRITE_BYTES);
        // A process that is killed leaves a part of a record.
        let torn = Record::Change(Change::Made { path: "/a".into() }).encode(99);
        journal.file.write_all(&torn[..torn.len() - 1]).unwrap();
        assert_eq!(unsynced(dir.path()).unwrap(), [bytes(1, 5)]);
    }
}
