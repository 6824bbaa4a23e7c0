//! Scenarios against real processes: what a user runs to see what a cluster does when something breaks.
//!
//! `leader-kill`: retrying clients write numbered samples to all nodes, every request with series on most shards. Again
//! and again the node that leads the busiest shard is killed (SIGKILL) and started again. The time without service of a
//! kill is the longest that any client had to wait, from the kill until the first success of a request sent after it;
//! since a client's request spans most shards, that is the time until every one of them could be written again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::ledger::{Completion, Judgement, WriterOptions, Writers};
use crate::process::{ClusterOptions, LocalCluster, require_empty, wait_for};

/// A scenario that can be run by name.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Name on the command line.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
}

/// All scenarios.
pub const SCENARIOS: [Scenario; 1] = [Scenario {
    name: "leader-kill",
    summary: "kills the leader of the busiest shard again and again while retrying clients write, and measures failover",
}];

/// What to run.
#[derive(Clone, Debug)]
pub struct LeaderKillOptions {
    /// Nodes and directory.
    pub cluster: ClusterOptions,
    /// Number of kills.
    pub kills: usize,
    /// Goal for the 99th percentile of the time without service.
    pub goal_p99: Duration,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was lost or invented and the goals were met.
    Passed,
    /// An acknowledged sample is missing, or a sample was invented.
    InvariantBroken,
    /// The data is right, but the service was away for longer than the goal, or a write failed for good.
    GoalMissed,
}

impl Verdict {
    /// Exit code of the command. 3 is for a run that could not be judged.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::InvariantBroken => 1,
            Self::GoalMissed => 2,
        }
    }
}

/// What was seen.
#[derive(Clone, Debug, Serialize)]
pub struct LeaderKillReport {
    /// Version of this report's layout.
    pub schema: u32,
    /// How it ended.
    pub verdict: Verdict,
    /// The violation, where there is one.
    pub violation: Option<String>,
    /// Number of kills.
    pub kills: usize,
    /// Time without service of each kill, milliseconds.
    pub failover_ms: Vec<f64>,
    /// Median of the same.
    pub failover_p50_ms: f64,
    /// 99th percentile (of few kills: the longest).
    pub failover_p99_ms: f64,
    /// Requests that were never acknowledged although the client retried for 30 s.
    pub failed_writes: u64,
    /// Attempts that failed and were sent again.
    pub failed_attempts: u64,
    /// Samples acknowledged and found on every node.
    pub acknowledged_samples: u64,
    /// Seconds that the kills took in all.
    pub seconds: f64,
}

/// Runs `leader-kill`.
pub fn leader_kill(
    options: &LeaderKillOptions,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<LeaderKillReport> {
    require_empty(&options.cluster.dir)?;
    progress("starting nodes");
    let mut cluster = LocalCluster::start(options.cluster.clone())?;
    let writers = Writers::start(
        &cluster.urls(),
        &WriterOptions {
            writers: 6,
            series: 24,
            samples: 1,
            think: Duration::from_millis(20),
            give_up: Duration::from_secs(30),
        },
    );
    let started = Instant::now();
    let mut kills = Vec::new();
    for number in 1..=options.kills {
        settle(&cluster, &writers)?;
        let (shard, victim) = cluster.busiest_shard()?;
        let at = Instant::now();
        cluster.nodes[victim].kill()?;
        wait_for("every client writes again", || {
            longest_wait(&writers.ledger().completions(), at).context("a client still waits")
        })?;
        let waited =
            longest_wait(&writers.ledger().completions(), at).context("every client writes again")?;
        progress(&format!(
            "kill {number} of {}: shard {shard}, node {}: {} ms",
            options.kills,
            cluster.nodes[victim].number,
            waited.as_millis()
        ));
        kills.push(waited);
        cluster.nodes[victim].start()?;
        cluster.nodes[victim].wait_ready()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    progress("reading everything back from every node");
    let ledger = writers.stop();
    let mut judged = Ok(Judgement::default());
    for node in &cluster.nodes {
        judged = ledger.judge(&node.client());
        if judged.is_err() {
            break;
        }
    }
    if judged.is_ok()
        && let Err(different) = cluster.wait_equal_digests()
    {
        judged = Err(different);
    }

    let mut sorted = kills.clone();
    sorted.sort_unstable();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let p99 = sorted[((sorted.len() - 1) * 99).div_ceil(100)];
    let verdict = match &judged {
        Err(_) => Verdict::InvariantBroken,
        Ok(_) if p99 > options.goal_p99 || ledger.failed() > 0 => Verdict::GoalMissed,
        Ok(_) => Verdict::Passed,
    };
    Ok(LeaderKillReport {
        schema: 1,
        verdict,
        violation: judged.as_ref().err().map(|e| format!("{e:#}")),
        kills: kills.len(),
        failover_ms: kills.iter().map(|&d| ms(d)).collect(),
        failover_p50_ms: ms(sorted[sorted.len() / 2]),
        failover_p99_ms: ms(p99),
        failed_writes: ledger.failed(),
        failed_attempts: ledger.attempts_failed(),
        acknowledged_samples: judged.map(|j| j.acknowledged).unwrap_or_default(),
        seconds,
    })
}

/// Waits until all shards have their replicas and leaders again and every client has written a few times.
fn settle(cluster: &LocalCluster, writers: &Writers) -> anyhow::Result<()> {
    cluster.wait_replicated(cluster.nodes.len().min(3))?;
    let before: Vec<usize> = writers.ledger().completions().iter().map(Vec::len).collect();
    wait_for("every client writes", || {
        let now: Vec<usize> = writers.ledger().completions().iter().map(Vec::len).collect();
        anyhow::ensure!(now.iter().zip(&before).all(|(n, b)| *n >= b + 20), "{now:?}");
        Ok(())
    })
}

/// Longest time from `at` to a client's first success of a request that was sent after it; `None` while one has none.
fn longest_wait(completions: &[Vec<Completion>], at: Instant) -> Option<Duration> {
    let first =
        |of: &Vec<Completion>| of.iter().rev().take_while(|c| c.sent >= at).last().map(|c| c.done - at);
    completions.iter().map(first).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Writes `report.json` and `report.md` into a directory.
pub fn write_report(report: &LeaderKillReport, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("report.json"), serde_json::to_vec_pretty(report)?)?;
    Ok(std::fs::write(dir.join("report.md"), markdown(report))?)
}

/// The report for people.
pub fn markdown(report: &LeaderKillReport) -> String {
    let mut out = format!("# leader-kill: {:?}\n\n", report.verdict);
    if let Some(violation) = &report.violation {
        out.push_str(&format!("**{violation}**\n\n"));
    }
    out.push_str("| what | figure |\n| --- | --- |\n");
    for (what, figure) in [
        ("kills", report.kills.to_string()),
        ("time without service, p50", format!("{:.0} ms", report.failover_p50_ms)),
        ("time without service, p99", format!("{:.0} ms", report.failover_p99_ms)),
        ("writes that failed although the client retried", report.failed_writes.to_string()),
        ("attempts that failed and were retried", report.failed_attempts.to_string()),
        ("samples acknowledged and read back from every node", report.acknowledged_samples.to_string()),
    ] {
        out.push_str(&format!("| {what} | {figure} |\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_that_of_the_slowest_client() {
        let at = Instant::now();
        let ms = Duration::from_millis;
        let done = |sent: u64, done: u64| Completion { sent: at + ms(sent), done: at + ms(done) };
        let before = Completion { sent: at - ms(5), done: at + ms(900) };
        assert_eq!(
            longest_wait(&[vec![before, done(901, 905)], vec![done(3, 7), done(9, 12)]], at),
            Some(ms(905))
        );
        assert_eq!(longest_wait(&[vec![before], vec![done(3, 7)]], at), None);
    }
}
