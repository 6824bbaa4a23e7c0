//! Undoing what no sync has reached.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::journal::{Change, Unit, unsynced};
use super::kept_path;

/// What a disk writes whole.
const SECTOR: u64 = 512;

/// What a power cut undid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Writes and changes of a length that are gone, or are there in part.
    pub writes: u64,
    /// Bytes of those writes.
    pub bytes: u64,
    /// Names that are gone, are back, or are what they were.
    pub names: u64,
}

/// Makes the files that the journal in a directory is about what a power cut could have left of them. The process must have
/// been killed. `below` draws a number below another.
pub fn cut_power(dir: &Path, mut below: impl FnMut(u64) -> u64) -> io::Result<Lost> {
    let changes = unsynced(dir)?;
    let mut counts: BTreeMap<Unit, u64> = BTreeMap::new();
    for change in &changes {
        *counts.entry(change.unit()).or_default() += 1;
    }
    // Of how many changes something is left, unit by unit: disks write them in order often enough.
    let left: BTreeMap<&Unit, u64> = counts.iter().map(|(unit, count)| (unit, below(count + 1))).collect();
    let mut lost = Lost::default();
    let mut position = counts.clone();
    for change in changes.iter().rev() {
        let unit = change.unit();
        let at = position.entry(unit.clone()).or_default();
        *at -= 1;
        let left = left[&unit];
        match change {
            Change::Bytes { file, offset, written, old_len, old } => {
                let path = kept_path(dir, *file);
                if *at >= left {
                    undo_bytes(&path, *offset, *old_len, old)?;
                } else if *at + 1 == left && *written > SECTOR && below(2) == 0 {
                    tear(&path, *offset, *written, old, &mut below)?;
                } else {
                    continue;
                }
                lost.writes += 1;
                lost.bytes += written;
            }
            name if *at >= left => {
                undo_name(dir, name)?;
                lost.names += 1;
            }
            _ => {}
        }
    }
    fs::remove_dir_all(dir)?;
    Ok(lost)
}

fn undo_bytes(path: &Path, offset: u64, old_len: u64, old: &[u8]) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(old, offset)?;
    file.set_len(old_len)
}

/// Undoes some of a write's sectors. What it appended there is zeros then, as where a length reached the disk before the bytes.
fn tear(
    path: &Path,
    offset: u64,
    written: u64,
    old: &[u8],
    below: &mut impl FnMut(u64) -> u64,
) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    // A write that was cut short by a full disk, or by the kill, has no more than this.
    let end = (offset + written).min(file.metadata()?.len());
    let mut from = offset;
    while from < end {
        let to = ((from / SECTOR + 1) * SECTOR).min(end);
        if below(2) == 0 {
            let before: Vec<u8> =
                (from..to).map(|at| old.get((at - offset) as usize).copied().unwrap_or(0)).collect();
            file.write_all_at(&before, from)?;
        }
        from = to;
    }
    Ok(())
}

/// Undoes a change of names, if it was made: the process may have been killed before.
fn undo_name(dir: &Path, change: &Change) -> io::Result<()> {
    match change {
        Change::Bytes { .. } => {}
        Change::Made { path } if path.is_dir() => fs::remove_dir_all(path)?,
        Change::Made { path } => {
            if path.exists() {
                fs::remove_file(path)?;
            }
        }
        Change::Renamed { from, to, replaced } => {
            if !from.exists() && to.exists() {
                fs::rename(to, from)?;
                if let Some(kept) = replaced {
                    fs::hard_link(kept_path(dir, *kept), to)?;
                }
            }
        }
        Change::Removed { path, kept } => {
            let kept = kept_path(dir, *kept);
            if !path.exists() && kept.exists() {
                fs::rename(kept, path)?;
            }
        }
    }
    Ok(())
}
