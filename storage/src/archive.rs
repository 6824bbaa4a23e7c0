//! A shard outside of a node: its manifest and the files that it names, in a directory that nobody writes to. That is
//! how a backup holds a shard, and how it is read.
//!
//! Everything that a segment holds is read by the code that serves queries, so deletes, duplicates and the order of
//! writes mean the same as in the running shard. The registry is not needed: segments carry their labels.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use protocol::ids::TenantId;

use crate::engine::files::archived_view;
use crate::error::StorageError;
use crate::fs::Fs;
use crate::manifest::Manifest;
use crate::scan::StoreSnapshot;
use crate::segment_file::{Content, SegmentFile};

/// An open archive.
#[derive(Debug)]
pub struct Archive {
    snapshot: StoreSnapshot,
    tenants: BTreeSet<TenantId>,
}

impl Archive {
    /// Opens the files of a manifest below `dir`. Nothing is changed; a file that is missing or damaged is an error.
    pub fn open(fs: &impl Fs, dir: &Path, manifest: Manifest) -> Result<Self, StorageError> {
        let (view, segments) = archived_view(fs, dir, manifest)?;
        let mut tenants: BTreeSet<TenantId> = view.metadata.keys().cloned().collect();
        for segment in &segments {
            tenants.extend(tenants_of(segment));
        }
        Ok(Self { snapshot: StoreSnapshot::new(Arc::new(view)), tenants })
    }

    /// What the shard held.
    pub fn snapshot(&self) -> &StoreSnapshot {
        &self.snapshot
    }

    /// Whose data is in it.
    pub fn tenants(&self) -> &BTreeSet<TenantId> {
        &self.tenants
    }
}

fn tenants_of(segment: &SegmentFile) -> Vec<TenantId> {
    // Whatever is no tenant's name was never written under one.
    let named = |name: &str| TenantId::new(name).ok();
    match &segment.content {
        Content::Metrics(reader) => reader.tenants().filter_map(named).collect(),
        Content::Logs(reader) => reader.tenants().iter().filter_map(|name| named(name)).collect(),
    }
}
