//! Files of a node that can be damaged, and the damage.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::scenario::Damaged;

/// Files of a kind below a directory. A log's last file only where it has no other: it is written to.
pub(super) fn files_of(dir: &Path, what: Damaged, out: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            files_of(&path, what, out)?;
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_it = match what {
            Damaged::Segment => name.ends_with(".seg"),
            Damaged::Log => name.starts_with("wal-") && name.ends_with(".log"),
            Damaged::Manifest => name == "manifest",
        };
        if is_it {
            out.push(path);
        }
    }
    Ok(())
}

/// Flips one bit of a byte where it matters. Returns its place.
pub(super) fn flip(path: &Path, what: Damaged, random: &mut SmallRng) -> anyhow::Result<u64> {
    let mut file = std::fs::File::options().read(true).write(true).open(path)?;
    let len = file.metadata()?.len();
    let offset = match what {
        // Data is at the front of a segment, the index behind it.
        Damaged::Segment => random.random_range(len / 8..(len / 2).max(len / 8 + 1)),
        // Its file is mostly empty yet. What is far from the end of what was written was promised long ago.
        Damaged::Log => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or_default() as u64;
            random.random_range(written / 4..written / 2 + 1)
        }
        Damaged::Manifest => len / 2,
    };
    ensure!(offset < len, "{} has {len} bytes only", path.display());
    let mut byte = [0; 1];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut byte)?;
    byte[0] ^= 1 << random.random_range(0..8);
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(&byte)?;
    file.sync_all()?;
    Ok(offset)
}
