//! Fresh seeds for as long as there is time, and an account of all that ever ran.
//!
//! The account is a small JSON file that outlives builds: which seeds are still fresh, and for each revision of the program
//! how many ran, how long in simulated time, and which failed. It is written after every seed, so that an end at any moment
//! loses the seeds that were under way, and nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::sim::run::{Report, SeedReport, SimOptions, run_while};

/// Seeds below are those that tests run.
const FIRST_SEED: u64 = 1_000_000;

/// What ran of one revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ran {
    /// Seeds.
    pub seeds: u64,
    /// Hours that they simulated.
    pub simulated_hours: f64,
    /// Batches that were acknowledged in them.
    pub acked_batches: u64,
    /// Those that broke an invariant, with the first violation.
    pub failed: BTreeMap<u64, String>,
}

impl Ran {
    fn add(&mut self, seed: &SeedReport) {
        self.seeds += 1;
        self.simulated_hours += seed.simulated.as_secs_f64() / 3600.0;
        self.acked_batches += seed.counts.acked_batches;
        if let Some(violation) = seed.violations.first() {
            self.failed.insert(seed.seed, violation.to_string());
        }
    }
}

/// All that ever ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The first seed that nobody ran yet.
    pub next_seed: u64,
    /// By revision of the program.
    pub revisions: BTreeMap<String, Ran>,
}

impl Default for Account {
    fn default() -> Self {
        Self { next_seed: FIRST_SEED, revisions: BTreeMap::new() }
    }
}

impl Account {
    /// Reads one; a new one where there is no file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let aside = path.with_extension("tmp");
        std::fs::write(&aside, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(&aside, path).with_context(|| path.display().to_string())
    }

    /// For people: each revision, and all together.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let mut all = Ran::default();
        let mut line = |name: &str, ran: &Ran| {
            let _ = writeln!(
                out,
                "{name:<12} {:>8} seeds {:>10.1} simulated hours {:>12} acknowledged batches, {} failed",
                ran.seeds,
                ran.simulated_hours,
                ran.acked_batches,
                ran.failed.len()
            );
        };
        for (revision, ran) in &self.revisions {
            line(revision, ran);
            all.seeds += ran.seeds;
            all.simulated_hours += ran.simulated_hours;
            all.acked_batches += ran.acked_batches;
            all.failed.extend(ran.failed.clone());
        }
        line("total", &all);
        out
    }
}

/// How long to soak, and where to note it.
#[derive(Clone, Debug)]
pub struct SoakOptions {
    /// For how long. Seeds that are under way then run to their end.
    pub lasts: Duration,
    /// The account.
    pub account: PathBuf,
    /// What is soaked.
    pub revision: String,
}

/// Runs fresh seeds. Gives the report of these and the account of all.
pub fn soak(
    options: &SoakOptions,
    progress: &(dyn Fn(&SeedReport) + Sync),
) -> anyhow::Result<(Report, Account)> {
    if let Some(dir) = options.account.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // Two at once would run the same seeds, and forget each other's.
    let lock = File::create(options.account.with_extension("lock"))?;
    if lock.try_lock().is_err() {
        bail!("{} is in use by another soak", options.account.display());
    }
    let deadline = Instant::now() + options.lasts;
    let account = Mutex::new((Account::read(&options.account)?, Ok(())));
    let locked = || account.lock().unwrap_or_else(PoisonError::into_inner);
    let next = || {
        let (account, written) = &mut *locked();
        // An account that can not be written is the end.
        if Instant::now() >= deadline || written.is_err() {
            return None;
        }
        let seed = account.next_seed;
        account.next_seed += 1;
        Some(seed)
    };
    let note = |seed: &SeedReport| {
        progress(seed);
        let (account, written) = &mut *locked();
        account.revisions.entry(options.revision.clone()).or_default().add(seed);
        if written.is_ok() {
            *written = account.write(&options.account);
        }
    };
    let report = run_while(&next, &SimOptions::default(), &note);
    let (account, written) = account.into_inner().unwrap_or_else(PoisonError::into_inner);
    written?;
    Ok((report, account))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_grows_and_its_seeds_are_fresh() {
        let dir = tempfile::tempdir().expect("a directory");
        let account = dir.path().join("state/soak.json");
        let options = |revision: &str| SoakOptions {
            lasts: Duration::from_millis(500),
            account: account.clone(),
            revision: revision.to_owned(),
        };
        let (first, _) = soak(&options("one"), &|_| ()).expect("it runs");
        assert!(first.seeds >= 1 && first.passed(), "{}", first.to_text());
        let (second, all) = soak(&options("two"), &|_| ()).expect("it runs");
        assert_eq!(all, Account::read(&account).expect("it was written"));
        assert_eq!(all.next_seed, FIRST_SEED + first.seeds + second.seeds);
        assert_eq!(all.revisions["one"].seeds, first.seeds);
        assert!(all.revisions["two"].simulated_hours * 60.0 >= second.seeds as f64, "a minute each");
        let text = all.to_text();
        assert!(text.contains("total") && text.lines().count() == 3, "{text}");
        std::fs::write(&account, "{}").expect("writable");
        soak(&options("three"), &|_| ()).expect_err("what is no account is not overwritten");
    }
}
