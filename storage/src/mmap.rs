//! Memory maps of sealed files: with [`crate::sys`] the only unsafe code of the workspace.
//!
//! A mapped file must not change while the map lives, or reads of it are undefined. The storage engine keeps that
//! promise by construction: only sealed files are mapped (written aside, synced, renamed, the directory synced), none is
//! opened for writing again, and an unlinked file's bytes stay until its last map is dropped.
//!
//! A bad sector under a map is a SIGBUS, not an error. Whoever must survive that (scrub, a start after such an exit)
//! reads through [`crate::fs::FsFile::read_exact_at`].

#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use crate::fs::Map;

/// Maps a sealed file for reading.
pub(crate) fn map_sealed(file: &File) -> io::Result<Map> {
    if file.metadata()?.len() == 0 {
        return Ok(Map::new(Vec::new()));
    }
    // SAFETY: the map is read-only, and the file is sealed: nothing in this process writes or cuts it after its
    // rename, and the data directory belongs to this process. See the module's documentation.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Map::new(map))
}
