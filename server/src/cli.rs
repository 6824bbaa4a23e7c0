//! The commands of the `pharos` binary.
//!
//! Exit codes: 0 done; 1 it did not work, the reason is on standard error; 2 the command line is wrong; 69 no node
//! answers; 70 a node stopped itself because its log or an invariant failed; 78 the settings are wrong. `pharos chaos`
//! has codes of its own, listed in its help.

mod backup;
mod bench;
mod chaos;
mod check;
mod client;
mod cluster;
mod dev;
mod logs;
mod place;
mod query;
mod restore;
mod server;
mod sql;
mod table;
mod verify;

use std::io::Write;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};

use crate::backup::BackupError;
use crate::config::ConfigError;

const AFTER_HELP: &str = "\
Start here:
  pharos dev                                  three nodes on this machine, with live data
  pharos query 'up'                           ask it something
  pharos cluster status                       see its shards

Exit codes: 0 done, 1 failed, 2 wrong command line, 69 no node answers, 70 a node stopped itself, 78 wrong settings.";

/// With the newest epoch of formats that the build knows.
static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{}\nformat epoch {}", env!("CARGO_PKG_VERSION"), protocol::epoch::NEWEST));

/// A distributed observability database that does not lose what it acknowledged.
#[derive(Debug, Parser)]
#[command(
    name = "pharos",
    version,
    long_version = VERSION.as_str(),
    about,
    after_help = AFTER_HELP,
    max_term_width = 110
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one node.
    Server(Box<server::ServerArgs>),
    /// Runs a cluster of real node processes on this machine.
    Dev(dev::DevArgs),
    /// Shows and changes a running cluster.
    Cluster(cluster::ClusterArgs),
    /// Evaluates a PromQL expression on a running cluster.
    Query(query::QueryArgs),
    /// Answers SQL on a running cluster; a prompt without arguments.
    Sql(sql::SqlArgs),
    /// Searches logs on a running cluster, or shows them as they come.
    Logs(logs::LogsArgs),
    /// Checks files without starting anything.
    Check(check::CheckArgs),
    /// Copies a running cluster's data into a directory or an S3 bucket; again into the same one only what is new.
    Backup(backup::BackupArgs),
    /// Writes a backup back into a running cluster, of any number of nodes and shards.
    Restore(restore::RestoreArgs),
    /// Checks the data directory of a node that does not run, every byte of it, and names what is damaged.
    Verify(verify::VerifyArgs),
    /// Breaks clusters on purpose, and judges what they answer.
    Chaos(chaos::ChaosArgs),
    /// Measures.
    Bench(bench::BenchArgs),
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The settings are wrong.
    #[error("{}", crate::error::chain(.0))]
    Config(#[from] ConfigError),
    /// The command line is wrong in a way that its parser does not see.
    #[error("{0}")]
    Usage(String),
    /// No node answers.
    #[error("no node answers at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    /// The node refused, or what it said is not understood.
    #[error("{0}")]
    Failed(String),
    /// A command that has an exit code of its own has said everything already.
    #[error("exit code {0}")]
    Code(u8),
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 69,
            Self::Failed(_) => 1,
            Self::Code(code) => *code,
        }
    }
}

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs the command of this process.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Server(args) => args.run(),
        Command::Dev(args) => args.run(),
        Command::Cluster(args) => args.run(),
        Command::Query(args) => args.run(),
        Command::Sql(args) => args.run(),
        Command::Logs(args) => args.run(),
        Command::Check(args) => args.run(),
        Command::Verify(args) => args.run(),
        Command::Backup(args) => args.run(),
        Command::Restore(args) => args.run(),
        Command::Chaos(args) => args.run(),
        Command::Bench(args) => args.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, CliError::Code(_)) {
                complain(&format!("pharos: {error}"));
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Says a line on standard output. A reader that went away (`| head`) is no error.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Says a line on standard error.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_says_what_it_is_for() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path} {}", argument.get_id());
            }
            for sub in command.get_subcommands() {
                walk(sub, &path);
            }
        }
        walk(&Cli::command(), "");
    }
}
