//! `pharos restore`

mod fetch;
mod logs;
mod metrics;
mod spans;
mod windows;

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use cluster::meta::dashboards::DashboardVersion;
use protocol::ids::{ShardId, TenantId};
use serde_json::{Value, json};
use storage::archive::Archive;
use storage::fs::real::RealFs;
use storage::manifest::Manifest;
use storage::verify::{Findings, check_files};

use super::client::{Exchange, Target};
use super::place::{Location, S3Args};
use super::{CliError, complain, say};
use crate::backup::place::Place;
use crate::backup::{self, BackupError, List, State};
use crate::service::lock::DirLock;
use fetch::Scratch;

const AFTER_HELP: &str = "\
Examples:
  pharos restore --from /backups/pharos
  pharos restore --from /backups/pharos --url http://pharos-a:9600 --check
  pharos restore --from s3://backups/pharos --scratch /var/tmp/pharos

The cluster may be new or in use, and may have other nodes and another number of shards. What it holds already stays, what
it lacks is added: a restore that was cut short is run again. Give the cluster a retention that reaches back far enough
first: what is older is refused, counted and said.

A backup in a bucket is fetched into a directory first: --scratch, which stays and from which the next run takes what is there
already, or a new one among the system's temporary files, which is removed at the end. How much it takes is said before, and
that there is room for it is checked. Keys come from the same variables as for pharos backup.

Exit codes: 0 everything is there; 1 the backup is damaged (each file is named, nothing is written), or the cluster refused
a part (which, is said).

See also: pharos backup";

/// Arguments of `pharos restore`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct RestoreArgs {
    /// Directory of the backup, or its bucket and prefix: s3://BUCKET/PREFIX
    #[arg(long, value_name = "DIR|S3", value_parser = OsStringValueParser::new().try_map(Location::parse))]
    from: Location,
    #[command(flatten)]
    s3: S3Args,
    /// With s3://: the directory that the backup is fetched into, which stays [default: one that is removed at the end]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// A node of the cluster, any of them [default: the one on this machine, at port 9600 or, of `pharos dev`, 9601]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Checks every digest of the backup and writes nothing
    #[arg(long)]
    check: bool,
}

/// Rows of a signal.
#[derive(Debug, Default)]
struct Rows {
    /// Those that were written.
    written: u64,
    /// Those that the cluster had.
    there: u64,
}

/// What a restore did.
#[derive(Debug, Default)]
struct Tally {
    samples: u64,
    logs: Rows,
    spans: Rows,
    dashboards: u64,
    refused: u64,
    /// The first offence that the cluster named.
    offence: Option<String>,
}

impl Tally {
    fn refuse(&mut self, count: u64, offence: &str) {
        self.refused += count;
        if count > 0 {
            self.offence.get_or_insert_with(|| offence.trim().to_owned());
        }
    }
}

/// A backup as files of this machine, and what keeps it there.
struct Local {
    dir: PathBuf,
    list: List,
    _held: Held,
}

/// What keeps others out of a directory, or the directory itself.
enum Held {
    Locked { _lock: Option<DirLock> },
    Fetched { _scratch: Scratch },
}

/// The files of a backup.
fn local(from: Location, s3: S3Args, scratch: Option<PathBuf>) -> Result<Local, CliError> {
    match from {
        Location::Dir(dir) => {
            s3.expect_none()?;
            if scratch.is_some() {
                let reason = "--scratch goes with s3:// alone: what is in a directory is read there";
                return Err(CliError::Usage(reason.to_owned()));
            }
            let lock = DirLock::share(&dir).map_err(BackupError::Locked)?;
            let list = List::load(&RealFs, &dir)?;
            let list = list.ok_or_else(|| BackupError::None { place: dir.display().to_string() })?;
            Ok(Local { dir, list, _held: Held::Locked { _lock: lock } })
        }
        Location::S3(address) => {
            let mut place = s3.open(&address)?;
            let list = place.list()?.ok_or_else(|| BackupError::None { place: place.shown("") })?;
            let mut scratch = Scratch::open(scratch)?;
            let mut found = Findings::default();
            fetch::fetch(&mut place, &list, &mut scratch.place, &mut found)?;
            refuse_damage(&found)?;
            Ok(Local {
                dir: scratch.place.dir().to_owned(),
                list,
                _held: Held::Fetched { _scratch: scratch },
            })
        }
    }
}

impl RestoreArgs {
    pub fn run(self) -> Result<(), CliError> {
        let Local { dir, list, _held } = local(self.from, self.s3, self.scratch)?;
        let (state, manifests) = read_whole(&dir, &list)?;
        if self.check {
            say(&format!("backup of cluster {}: {} shards, whole", list.cluster_id, manifests.len()));
            return Ok(());
        }
        let mut archives = Vec::with_capacity(manifests.len());
        for (shard, manifest) in manifests {
            let open = Archive::open(&RealFs, &backup::shard_dir(&dir, shard), manifest);
            archives.push((shard, open.map_err(|error| CliError::Failed(crate::error::chain(&error)))?));
        }
        let target = Target::at(self.url);
        let mut tally = Tally::default();
        restore_state(&target, &state, &mut tally)?;
        for (shard, archive) in &archives {
            metrics::restore(&target, *shard, archive, &mut tally)?;
        }
        logs::restore(&target, &archives, &mut tally)?;
        spans::restore(&target, &archives, &mut tally)?;
        let (logs, spans) = (&tally.logs, &tally.spans);
        say(&format!(
            "restored {} samples, {} log records ({} were there), {} spans ({} were there), {} dashboards of cluster {}",
            tally.samples,
            logs.written,
            logs.there,
            spans.written,
            spans.there,
            tally.dashboards,
            list.cluster_id
        ));
        match tally.offence {
            None => Ok(()),
            Some(offence) => {
                Err(CliError::Failed(format!("the cluster refused {}, the first: {offence}", tally.refused)))
            }
        }
    }
}

/// Reads state and manifests and checks every digest of the backup. What is damaged is named, all of it.
fn read_whole(dir: &Path, list: &List) -> Result<(State, Vec<(ShardId, Manifest)>), CliError> {
    let (mut found, mut manifests) = (Findings::default(), Vec::new());
    let path = backup::state_path(dir, &list.state);
    let state = match backup::read_listed(&RealFs, &path, &list.state) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| found.add(&path, None, error.to_string()))
            .unwrap_or_default(),
        Err(error) => {
            found.add(&path, None, error.to_string());
            State::default()
        }
    };
    for (shard, listed) in &list.shards {
        let path = backup::manifest_path(dir, *shard, listed);
        let decoded = backup::read_listed(&RealFs, &path, listed)
            .map_err(|error| error.to_string())
            .and_then(|bytes| Manifest::decode(&bytes).map_err(|error| error.to_string()));
        match decoded {
            Ok(manifest) => {
                check_files(&RealFs, &backup::shard_dir(dir, *shard), &manifest, &mut found);
                manifests.push((*shard, manifest));
            }
            Err(reason) => found.add(&path, None, reason),
        }
    }
    refuse_damage(&found)?;
    Ok((state, manifests))
}

/// Names all that is damaged.
fn refuse_damage(found: &Findings) -> Result<(), CliError> {
    if found.damage.is_empty() {
        return Ok(());
    }
    for finding in &found.damage {
        complain(&super::verify::line(finding));
    }
    Err(CliError::Failed(format!(
        "the backup is damaged in {} places; nothing was restored",
        found.damage.len()
    )))
}

/// Restores settings and dashboards that the cluster lacks.
fn restore_state(target: &Target, state: &State, tally: &mut Tally) -> Result<(), CliError> {
    let there = target.state()?.dashboards;
    if !state.settings.is_empty() {
        let document = serde_json::to_vec(&state.settings).map_err(|e| CliError::Failed(e.to_string()))?;
        target.ask(&Exchange::post("/api/v1/admin/restore/settings", &[], &document))?;
    }
    for (tenant, uid, versions) in state.dashboards.all() {
        let have = there.versions(tenant, uid).map_or(&[][..], |versions| versions);
        // Versions are written in their order, so what is there of ours is their beginning.
        let ours = have.iter().zip(versions.iter()).all(|(a, b)| a.document == b.document);
        if have.len() > versions.len() || !ours {
            complain(&format!("dashboard {uid} of tenant {tenant} is another one in the cluster and stays"));
            continue;
        }
        let mut expected = have.last().map_or(0, |version| version.version);
        for version in &versions[have.len()..] {
            save(target, tenant, uid, expected, version)?;
            expected += 1;
        }
        tally.dashboards += 1;
    }
    Ok(())
}

fn save(
    target: &Target,
    tenant: &TenantId,
    uid: &str,
    expected: u64,
    version: &DashboardVersion,
) -> Result<(), CliError> {
    let document: Value =
        serde_json::from_str(&version.document).map_err(|e| CliError::Failed(e.to_string()))?;
    let body = json!({"expected": expected, "message": version.message, "dashboard": document}).to_string();
    let path = format!("/api/v1/dashboards/{uid}");
    let headers = [("content-type", "application/json")];
    let exchange = Exchange::put(&path, body.as_bytes()).of(tenant).with(&headers);
    target.ask(&exchange).map(drop)
}
