//! `pharos check`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CliError, say};
use crate::config::Sources;

/// Arguments of `pharos check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Checks a settings file: unknown keys, values, and whether they go together.
    Config {
        /// A YAML or TOML file
        file: PathBuf,
        /// Takes the `PHAROS_*` variables of this environment into account, too
        #[arg(long)]
        with_environment: bool,
    },
}

impl CheckArgs {
    pub fn run(self) -> Result<(), CliError> {
        let What::Config { file, with_environment } = self.what;
        let mut sources = Sources { file: Some(file.clone()), ..Sources::default() };
        if with_environment {
            sources = sources.with_process_environment();
        }
        let ignored = sources.ignored_variables();
        sources.load()?;
        for name in ignored {
            say(&format!("{name}: no setting, ignored"));
        }
        say(&format!("{}: fine", file.display()));
        Ok(())
    }
}
