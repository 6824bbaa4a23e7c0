//! `pharos backup`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use protocol::ids::ShardId;
use storage::fs::real::RealFs;
use storage::fs::{Fs, FsFile, OpenMode};
use storage::manifest::{FileRef, Manifest};
use storage::verify::hash_file;

use super::client::{Exchange, Target};
use super::table::bytes;
use super::{CliError, complain, say};
use crate::backup::{self, List, Listed, State};
use crate::runtime::now_ms;
use crate::service::lock::DirLock;

const AFTER_HELP: &str = "\
Examples:
  pharos backup --to /backups/pharos
  pharos backup --to /backups/pharos --url http://pharos-a:9600

The cluster goes on serving; everything acknowledged before the command is in the backup. What is in the directory
already is not sent again, so repeat it into the same directory, and copy that wherever copies are kept. A backup that was cut
short leaves the one before as it was, and goes on where it stopped when it is run again.

See also: pharos restore";

/// How often a shard is captured anew because merges retired files before they were copied.
const CAPTURES: usize = 20;

/// Arguments of `pharos backup`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct BackupArgs {
    /// Directory of the backup; made if it is not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// A node of the cluster, any of them [default: the one on this machine, at port 9600 or, of `pharos dev`, 9601]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// What a backup moved.
#[derive(Debug, Default)]
struct Tally {
    files: u64,
    sent_bytes: u64,
    kept_bytes: u64,
}

struct Backup {
    fs: RealFs,
    dir: PathBuf,
    target: Target,
    tally: Tally,
}

/// What became of a file.
enum Copied {
    Whole,
    /// No replica has it any more.
    Gone,
}

impl BackupArgs {
    pub fn run(self) -> Result<(), CliError> {
        let _lock = DirLock::take(&self.to).map_err(|error| CliError::Failed(crate::error::chain(&error)))?;
        let target = Target::at(self.url);
        let mut backup = Backup { fs: RealFs, dir: self.to, target, tally: Tally::default() };
        let list = backup.run()?;
        let tally = &backup.tally;
        say(&format!(
            "cluster {}: {} shards in {}; {} files, {} sent, {} were there",
            list.cluster_id,
            list.shards.len(),
            backup.dir.display(),
            tally.files,
            bytes(tally.sent_bytes),
            bytes(tally.kept_bytes),
        ));
        Ok(())
    }
}

impl Backup {
    fn run(&mut self) -> Result<List, CliError> {
        let begun_ms = now_ms();
        let before = List::load(&self.fs, &self.dir)?;
        let state: State = self.target.state()?;
        if let Some(other) = before.filter(|before| before.cluster_id != state.cluster_id) {
            return Err(CliError::Failed(format!(
                "{} holds a backup of cluster {}, this is cluster {}: give each a directory of its own",
                self.dir.display(),
                other.cluster_id,
                state.cluster_id
            )));
        }
        let document =
            serde_json::to_vec_pretty(&state).map_err(|error| CliError::Failed(error.to_string()))?;
        let listed = Listed::of(&document);
        self.write(&backup::state_path(&self.dir, &listed), &document)?;
        let mut list = List::new(state.cluster_id, begun_ms, listed);
        let mut named = Vec::new();
        for shard in state.shards {
            let (manifest, files) = self.shard(shard)?;
            list.shards.insert(shard, manifest);
            named.push((shard, files));
        }
        list.clone().store(&self.fs, &self.dir)?;
        self.sweep(&list, &named)?;
        Ok(list)
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), CliError> {
        Ok(self.fs.write_atomic(path, content).map_err(backup::BackupError::io(path))?)
    }

    /// Copies a shard; its manifest's entry in the list, and the files that belong to it.
    fn shard(&mut self, shard: ShardId) -> Result<(Listed, BTreeSet<String>), CliError> {
        let dir = backup::shard_dir(&self.dir, shard);
        let files_dir = dir.join("files");
        self.fs.create_dir_durable(&files_dir).map_err(backup::BackupError::io(&files_dir))?;
        'captures: for _ in 0..CAPTURES {
            let query = [("shard", shard.to_string())];
            let exchange = Exchange::post("/api/v1/admin/backup/shard", &query, b"");
            let document = self.target.ask(&exchange)?;
            let manifest = Manifest::decode(&document)
                .ok()
                .filter(|manifest| manifest.shard == shard)
                .ok_or_else(|| CliError::Failed(format!("the node sent no manifest of shard {shard}")))?;
            let mut files = manifest.files();
            // Small files are the next to be merged away.
            files.sort_unstable_by_key(|file| file.len_bytes);
            let before = (self.tally.sent_bytes, self.tally.kept_bytes);
            for file in &files {
                if let Copied::Gone = self.file(shard, &files_dir, file)? {
                    complain(&format!("shard {shard}: {} was merged away, beginning anew", file.name()));
                    continue 'captures;
                }
            }
            self.tally.files += files.len() as u64;
            let listed = Listed::of(&document);
            self.write(&backup::manifest_path(&self.dir, shard, &listed), &document)?;
            complain(&format!(
                "shard {shard}: {} files, {} sent, {} were there",
                files.len(),
                bytes(self.tally.sent_bytes - before.0),
                bytes(self.tally.kept_bytes - before.1)
            ));
            return Ok((listed, files.iter().map(FileRef::name).collect()));
        }
        Err(CliError::Failed(format!("the files of shard {shard} are merged faster than they can be copied")))
    }

    fn file(&mut self, shard: ShardId, dir: &Path, file: &FileRef) -> Result<Copied, CliError> {
        let path = dir.join(file.name());
        let failed = || backup::BackupError::io(&path);
        if self.fs.exists(&path).map_err(failed())? {
            if hash_file(&self.fs, &path).is_ok_and(|(_, hash)| hash == file.hash) {
                self.tally.kept_bytes += file.len_bytes;
                return Ok(Copied::Whole);
            }
            complain(&format!("{} is damaged and is copied anew", path.display()));
            self.fs.remove_file(&path).map_err(failed())?;
        }
        let part = dir.join(format!("{}.part", file.name()));
        // What arrived before is checked with the rest; if it is bad, once more from the beginning.
        for _ in 0..2 {
            if let Copied::Gone = self.receive(shard, file, &part)? {
                return Ok(Copied::Gone);
            }
            if hash_file(&self.fs, &part).is_ok_and(|(_, hash)| hash == file.hash) {
                self.fs.rename(&part, &path).map_err(failed())?;
                self.fs.sync_dir(dir).map_err(backup::BackupError::io(dir))?;
                return Ok(Copied::Whole);
            }
            self.fs.remove_file(&part).map_err(backup::BackupError::io(&part))?;
        }
        Err(CliError::Failed(format!("{} of shard {shard} arrives damaged", file.name())))
    }

    /// Appends to what has arrived of a file until it is whole and durable.
    fn receive(&mut self, shard: ShardId, file: &FileRef, part: &Path) -> Result<Copied, CliError> {
        let failed = || backup::BackupError::io(part);
        let there = self.fs.exists(part).map_err(failed())?;
        let mode = if there { OpenMode::ReadWrite } else { OpenMode::CreateNew };
        let handle = self.fs.open(part, mode).map_err(failed())?;
        let mut offset = handle.len().map_err(failed())?;
        if offset > file.len_bytes {
            handle.set_len(0).map_err(failed())?;
            offset = 0;
        }
        while offset < file.len_bytes {
            let query = [
                ("shard", shard.to_string()),
                ("file", file.name()),
                ("bytes", file.len_bytes.to_string()),
                ("offset", offset.to_string()),
            ];
            let (status, piece) =
                self.target.exchange(&Exchange::get("/api/v1/admin/backup/file", &query))?;
            if status == 404 {
                return Ok(Copied::Gone);
            }
            let piece = Target::expect(status, piece)?;
            if piece.is_empty() || offset + piece.len() as u64 > file.len_bytes {
                return Err(CliError::Failed(format!("the node sent no piece of {}", file.name())));
            }
            handle.write_all_at(offset, &piece).map_err(failed())?;
            offset += piece.len() as u64;
            self.tally.sent_bytes += piece.len() as u64;
        }
        handle.sync_data().map_err(failed())?;
        Ok(Copied::Whole)
    }

    /// Removes what the new list does not name.
    fn sweep(&self, list: &List, named: &[(ShardId, BTreeSet<String>)]) -> Result<(), CliError> {
        let state = backup::state_path(&self.dir, &list.state);
        self.remove_but(&self.dir, |name| !name.starts_with("state-") || state.ends_with(name))?;
        for (shard, files) in named {
            let dir = backup::shard_dir(&self.dir, *shard);
            let manifest = list.shards.get(shard).map(|listed| format!("manifest-{}", listed.digest));
            self.remove_but(&dir, |name| manifest.as_deref() == Some(name))?;
            self.remove_but(&dir.join("files"), |name| files.contains(name))?;
        }
        Ok(())
    }

    fn remove_but(&self, dir: &Path, keep: impl Fn(&str) -> bool) -> Result<(), CliError> {
        let entries = self.fs.list(dir).map_err(backup::BackupError::io(dir))?;
        for entry in entries.into_iter().filter(|entry| !entry.is_dir && !keep(&entry.name)) {
            let path = dir.join(&entry.name);
            self.fs.remove_file(&path).map_err(backup::BackupError::io(&path))?;
        }
        Ok(())
    }
}
