//! Looking through a node's data directory for damage, while no node runs on it, without changing a byte.
//!
//! ```text
//! identity.json ─► meta.export ─► wal/ (votes and positions included) ─► shards/<n>/: name, manifest, every file it names
//!        └────────────────────────────┴─► what one part says of another: a purged log needs a store that reaches so far
//! ```
//!
//! Replicas that were set aside (`<n>.<replica>.leaving`, `.lost`) are not looked at: they wait for their end, and some are
//! there because they are damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocol::ids::{META_GROUP, NodeId, ShardId};
use storage::fs::Fs;
use storage::verify::{Finding, Findings, check_shard};
use storage::wal::{self, Damage, GroupState, TornTail, WalError};

use crate::error::ClusterError;
use crate::meta::export::Export;
use crate::node::identity::{Identity, META_FILE, SHARDS_DIR, WAL_DIR};
use crate::node::shard_dirs::{Holds, ShardDirs};
use crate::types::codec;

/// What a look through a data directory found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The node whose directory it is, where that is known.
    pub node: Option<NodeId>,
    /// Shards with a directory.
    pub shards: u64,
    /// Files, bytes and damage.
    pub findings: Findings,
    /// What a crash left at the log's end. No damage: it was never acknowledged.
    pub torn: Option<TornTail>,
}

/// Looks through a data directory. `None` if it is none.
pub fn verify<F: Fs>(fs: &F, dir: &Path) -> Option<Report> {
    let mut report = Report::default();
    match Identity::load(fs, dir) {
        Ok(Some(identity)) => {
            report.node = identity.node;
            report.findings.files += 1;
        }
        Ok(None) => return None,
        Err(error) => add_cluster_error(&mut report.findings, &Identity::path(dir), &error),
    }
    let meta_path = dir.join(META_FILE);
    let meta_reaches = match Export::load(fs, &meta_path) {
        Ok(export) => {
            report.findings.files += 1;
            export.last.map_or(0, |id| id.index)
        }
        Err(error) => {
            add_cluster_error(&mut report.findings, &meta_path, &error);
            // It is named already; nothing more is to be said of how far it reaches.
            u64::MAX
        }
    };
    let groups = check_log(fs, &dir.join(WAL_DIR), &mut report);
    let reaches = check_shards(fs, &dir.join(SHARDS_DIR), &mut report);
    for (group, state) in groups {
        let Some((purged, _)) = state.purged else { continue };
        let (path, reaches) = match reaches.get(&group) {
            _ if group == META_GROUP => (meta_path.clone(), meta_reaches),
            Some((path, reaches)) => (path.clone(), *reaches),
            // The log of a replica that was given up goes after its directory.
            None => continue,
        };
        if reaches < purged {
            let reason = format!("covers entries up to {reaches}, the log was purged up to {purged}");
            report.findings.add(path, None, reason);
        }
    }
    report.findings.damage.sort();
    Some(report)
}

fn add_cluster_error(findings: &mut Findings, path: &Path, error: &ClusterError) {
    match error {
        ClusterError::Corrupt { reason, .. } => findings.add(path, None, reason.clone()),
        ClusterError::Io { source, .. } => findings.add(path, None, format!("reading failed: {source}")),
        ClusterError::NoIdentity { .. } => findings.add(path, None, "the file is missing"),
        error => findings.add(path, None, error.to_string()),
    }
}

fn check_log<F: Fs>(fs: &F, dir: &Path, report: &mut Report) -> BTreeMap<ShardId, GroupState> {
    let found = &mut report.findings;
    let checked = match wal::check(fs, dir) {
        Ok(checked) => checked,
        Err(WalError::Io { path, action, source }) => {
            found.add(path, None, format!("{action} failed: {source}"));
            return BTreeMap::new();
        }
        Err(WalError::Version { path, version }) => {
            found.add(path, Some(0), format!("has version {version}, which this release does not know"));
            return BTreeMap::new();
        }
        Err(error) => {
            found.add(dir, None, error.to_string());
            return BTreeMap::new();
        }
    };
    found.files += checked.files;
    found.bytes += checked.bytes;
    for damage in checked.damage {
        let Damage { path, offset, reason } = damage;
        let is_needed = !checked.unneeded.contains(&(path.clone(), offset));
        found.damage.push(Finding { path, offset: Some(offset), reason, is_needed });
    }
    report.torn = checked.torn;
    for (group, state) in &checked.groups {
        let GroupState { vote, committed, purged, .. } = state;
        let bad = [
            ("vote", vote.as_deref().is_some_and(|bytes| codec::decode_vote(bytes).is_err())),
            (
                "committed position",
                committed.as_deref().is_some_and(|bytes| codec::decode_log_id(bytes).is_err()),
            ),
            (
                "purged position",
                purged.as_ref().is_some_and(|(_, bytes)| codec::decode_log_id(bytes).is_err()),
            ),
        ];
        for (what, _) in bad.into_iter().filter(|(_, bad)| *bad) {
            found.add(dir, None, format!("the {what} of group {group} can not be decoded"));
        }
    }
    checked.groups
}

/// Looks through the shards; gives how far the data of each reaches, and the file that says so.
fn check_shards<F: Fs>(fs: &F, dir: &Path, report: &mut Report) -> BTreeMap<ShardId, (PathBuf, u64)> {
    let dirs = match ShardDirs::read(fs, dir) {
        Ok(dirs) => dirs,
        Err(error) => {
            report.findings.add(dir, None, format!("listing failed: {error}"));
            return BTreeMap::new();
        }
    };
    let mut reaches = BTreeMap::new();
    for (shard, holds) in dirs.here() {
        report.shards += 1;
        let (dir, found) = (dir.join(shard.to_string()), &mut report.findings);
        let damaged = found.damage.len();
        let manifest = check_shard(fs, &dir, shard, found);
        let wrong = match holds {
            Holds::Replica(replica) => report.node.is_some_and(|node| node != replica.node()),
            Holds::Nameless(_) => manifest.is_some(),
        };
        if wrong {
            found.add(ShardDirs::name_file(&dir), None, "names no replica of this node");
        }
        if manifest.is_some() || found.damage.len() == damaged {
            let flushed = manifest.map_or(0, |manifest| manifest.flushed_index());
            reaches.insert(shard, (dir.join(storage::manifest::MANIFEST_FILE), flushed));
        }
    }
    reaches
}
