//! Segments found to be damaged, until a peer's copy takes their place.
//!
//! Readers hold no lock of the store, so they leave a note here; the store names the file among those to fetch. Until
//! then reads that meet the damage fail: an answer without that segment's samples would be wrong.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::StorageError;
use crate::manifest::FileRef;
use crate::segment::SegmentError;

/// Names of damaged files, shared by a store and the views of it.
#[derive(Debug, Default)]
pub struct Damage {
    names: Mutex<BTreeSet<String>>,
}

impl Damage {
    /// Notes the file that an error speaks of, if it says that stored bytes are wrong.
    pub fn note(&self, error: &StorageError) {
        let path: Option<&Path> = match error {
            StorageError::Segment(SegmentError::Corrupt { path, .. })
            | StorageError::Corrupt { path, .. } => Some(path),
            _ => None,
        };
        if let Some(name) = path.and_then(Path::file_name).and_then(|name| name.to_str()) {
            self.add(name.to_owned());
        }
    }

    pub(crate) fn add(&self, name: String) {
        if self.names().insert(name.clone()) {
            tracing::error!(file = name, "a segment is damaged: it is to be fetched from a peer");
        }
    }

    pub(crate) fn remove(&self, name: &str) {
        self.names().remove(name);
    }

    pub(crate) fn contains(&self, file: &FileRef) -> bool {
        let names = self.names();
        // Asked for every file, again and again, and mostly there is no damage: names cost something to make up.
        !names.is_empty() && names.contains(&file.name())
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // Each call leaves the set whole.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
