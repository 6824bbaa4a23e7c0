//! `pharos backup`

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use protocol::ids::ShardId;
use storage::manifest::{FileRef, Manifest};

use super::client::{Exchange, Target};
use super::place::{Location, S3Args};
use super::table::bytes;
use super::{CliError, complain, say};
use crate::backup::dir::DirPlace;
use crate::backup::place::{Moved, Pieces, Place, transfer};
use crate::backup::{self, List, Listed, State};
use crate::runtime::now_ms;

const AFTER_HELP: &str = "\
Examples:
  pharos backup --to /backups/pharos
  pharos backup --to /backups/pharos --url http://pharos-a:9600
  pharos backup --to s3://backups/pharos
  pharos backup --to s3://backups/pharos --s3-endpoint http://minio:9000

The cluster goes on serving; everything acknowledged before the command is in the backup. What is in the place already is not
sent again, so repeat it into the same one, and copy a directory wherever copies are kept. A backup that was cut short leaves
the one before as it was, and goes on where it stopped when it is run again.

Keys of a bucket come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or from the role of the machine.

See also: pharos restore";

/// How often a shard is captured anew because merges retired files before they were copied.
const CAPTURES: usize = 20;

/// Arguments of `pharos backup`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct BackupArgs {
    /// Directory of the backup, made if it is not there, or a bucket and prefix: s3://BUCKET/PREFIX
    #[arg(long, value_name = "DIR|S3", value_parser = OsStringValueParser::new().try_map(Location::parse))]
    to: Location,
    #[command(flatten)]
    s3: S3Args,
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

/// The cluster, as a backup sees it.
trait Source: Pieces<Error = CliError> {
    /// What of the meta state belongs to a backup.
    fn state(&mut self) -> Result<State, CliError>;
    /// Flushes a shard; its manifest.
    fn capture(&mut self, shard: ShardId) -> Result<Vec<u8>, CliError>;
}

impl Pieces for Target {
    type Error = CliError;

    fn piece(&mut self, shard: ShardId, file: &FileRef, offset: u64) -> Result<Option<Vec<u8>>, CliError> {
        let query = [
            ("shard", shard.to_string()),
            ("file", file.name()),
            ("bytes", file.len_bytes.to_string()),
            ("offset", offset.to_string()),
        ];
        let (status, piece) = self.exchange(&Exchange::get("/api/v1/admin/backup/file", &query))?;
        if status == 404 { Ok(None) } else { Self::expect(status, piece).map(Some) }
    }
}

impl Source for Target {
    fn state(&mut self) -> Result<State, CliError> {
        Target::state(self)
    }

    fn capture(&mut self, shard: ShardId) -> Result<Vec<u8>, CliError> {
        let query = [("shard", shard.to_string())];
        self.ask(&Exchange::post("/api/v1/admin/backup/shard", &query, b""))
    }
}

struct Backup<S> {
    source: S,
    place: Box<dyn Place>,
    tally: Tally,
}

impl BackupArgs {
    pub fn run(self) -> Result<(), CliError> {
        let place: Box<dyn Place> = match self.to {
            Location::Dir(dir) => {
                self.s3.expect_none()?;
                Box::new(DirPlace::open(dir)?)
            }
            Location::S3(address) => Box::new(self.s3.open(&address)?),
        };
        let mut backup = Backup { source: Target::at(self.url), place, tally: Tally::default() };
        let list = backup.run()?;
        let tally = &backup.tally;
        say(&format!(
            "cluster {}: {} shards in {}; {} files, {} sent, {} were there",
            list.cluster_id,
            list.shards.len(),
            backup.place.shown(""),
            tally.files,
            bytes(tally.sent_bytes),
            bytes(tally.kept_bytes),
        ));
        Ok(())
    }
}

impl<S: Source> Backup<S> {
    fn run(&mut self) -> Result<List, CliError> {
        let begun_ms = now_ms();
        let before = self.place.list()?;
        let state = self.source.state()?;
        if let Some(other) = before.filter(|before| before.cluster_id != state.cluster_id) {
            return Err(CliError::Failed(format!(
                "{} holds a backup of cluster {}, this is cluster {}: give each a place of its own",
                self.place.shown(""),
                other.cluster_id,
                state.cluster_id
            )));
        }
        let document =
            serde_json::to_vec_pretty(&state).map_err(|error| CliError::Failed(error.to_string()))?;
        let listed = Listed::of(&document);
        let mut named = BTreeMap::new();
        self.put(backup::state_name(&listed), &document, &mut named)?;
        let mut list = List::new(state.cluster_id, begun_ms, listed);
        for shard in state.shards {
            list.shards.insert(shard, self.shard(shard, &mut named)?);
        }
        // What goes is settled before the list is to be seen: a run that begins after it loses nothing that it brings.
        let there = self.place.names()?;
        if let Some((name, _)) = named.iter().find(|(name, len)| there.get(*name) != Some(*len)) {
            return Err(CliError::Failed(format!(
                "{} was there and is not any more, another run must have removed it: run this one again, alone",
                self.place.shown(name)
            )));
        }
        self.place.publish(&list)?;
        let unnamed = there.into_keys().filter(|name| !named.contains_key(name)).collect();
        if let Err(error) = self.place.remove(unnamed) {
            return Err(CliError::Failed(format!(
                "the backup is whole, but what it does not name any more could not be removed: {error}"
            )));
        }
        Ok(list)
    }

    /// Makes a document durable and notes its name.
    fn put(
        &mut self,
        name: String,
        content: &[u8],
        named: &mut BTreeMap<String, u64>,
    ) -> Result<(), CliError> {
        self.place.put(&name, content)?;
        named.insert(name, content.len() as u64);
        Ok(())
    }

    /// Copies a shard and notes the names of its files; its manifest's entry in the list.
    fn shard(&mut self, shard: ShardId, named: &mut BTreeMap<String, u64>) -> Result<Listed, CliError> {
        'captures: for _ in 0..CAPTURES {
            let document = self.source.capture(shard)?;
            let manifest = Manifest::decode(&document)
                .ok()
                .filter(|manifest| manifest.shard == shard)
                .ok_or_else(|| CliError::Failed(format!("the node sent no manifest of shard {shard}")))?;
            let mut files = manifest.files();
            // Small files are the next to be merged away.
            files.sort_unstable_by_key(|file| file.len_bytes);
            let before = (self.tally.sent_bytes, self.tally.kept_bytes);
            for file in &files {
                if let Moved::Gone = self.file(shard, file)? {
                    complain(&format!("shard {shard}: {} was merged away, beginning anew", file.name()));
                    continue 'captures;
                }
            }
            self.tally.files += files.len() as u64;
            let listed = Listed::of(&document);
            self.put(backup::manifest_name(shard, &listed), &document, named)?;
            named.extend(files.iter().map(|file| (backup::file_name(shard, file), file.len_bytes)));
            complain(&format!(
                "shard {shard}: {} files, {} sent, {} were there",
                files.len(),
                bytes(self.tally.sent_bytes - before.0),
                bytes(self.tally.kept_bytes - before.1)
            ));
            return Ok(listed);
        }
        Err(CliError::Failed(format!("the files of shard {shard} are merged faster than they can be copied")))
    }

    fn file(&mut self, shard: ShardId, file: &FileRef) -> Result<Moved, CliError> {
        let moved = transfer(&mut self.source, &mut *self.place, shard, file, &mut self.tally.sent_bytes)?;
        match moved {
            Moved::There => self.tally.kept_bytes += file.len_bytes,
            Moved::Replaced => {
                let shown = self.place.shown(&backup::file_name(shard, file));
                complain(&format!("{shown} was damaged and is copied anew"));
            }
            Moved::Damaged => {
                return Err(CliError::Failed(format!("{} of shard {shard} arrives damaged", file.name())));
            }
            Moved::Sent | Moved::Gone => {}
        }
        Ok(moved)
    }
}
