//! `pharos verify`

use std::path::PathBuf;

use clap::Args;
use cluster::verify::{Report, verify};
use serde_json::{Value, json};
use storage::fs::real::RealFs;
use storage::verify::Finding;

use super::table::bytes;
use super::{CliError, say};
use crate::service::lock::DirLock;

const AFTER_HELP: &str = "\
Reads every file that the node's manifests name: manifests, segments of metrics and logs block by block, registry,
metadata and window files, the Raft log with its votes, the meta state. Changes nothing. Refuses a directory that a
running node uses.

Exit codes: 0 all is as it was written; 1 something is damaged, each place is named with file and offset; 2 the
directory can not be checked.

What to do about damage: a damaged segment is fetched from another replica by the node itself, once it runs. A damaged
manifest, registry or log makes the node give that replica up and build it anew from the others.";

/// Arguments of `pharos verify`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct VerifyArgs {
    /// Data directory of one node
    dir: PathBuf,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

impl VerifyArgs {
    pub fn run(self) -> Result<(), CliError> {
        let refused = |reason: String| CliError::Usage(reason);
        let _lock = DirLock::share(&self.dir).map_err(|error| refused(crate::error::chain(&error)))?;
        let report = verify(&RealFs, &self.dir)
            .ok_or_else(|| refused(format!("{} is no node's data directory", self.dir.display())))?;
        if self.json {
            say(&to_json(&report).to_string());
        } else {
            for finding in &report.findings.damage {
                say(&line(finding));
            }
            say(&summary(&report));
        }
        if report.findings.damage.is_empty() { Ok(()) } else { Err(CliError::Code(1)) }
    }
}

pub(super) fn line(finding: &Finding) -> String {
    let path = finding.path.display();
    let unneeded = if finding.is_needed { "" } else { "; nobody needs it any more" };
    match finding.offset {
        Some(offset) => format!("{path} at offset {offset}: {}{unneeded}", finding.reason),
        None => format!("{path}: {}{unneeded}", finding.reason),
    }
}

fn summary(report: &Report) -> String {
    let found = &report.findings;
    let node = report.node.map_or_else(|| "unknown node".to_owned(), |node| format!("node {node}"));
    let verdict = match found.damage.len() {
        0 => "nothing is damaged".to_owned(),
        1 => "1 place is damaged".to_owned(),
        places => format!("{places} places are damaged"),
    };
    let mut text = format!(
        "{node}: {} files of {} shards and the log checked, {}: {verdict}",
        found.files,
        report.shards,
        bytes(found.bytes)
    );
    if let Some(torn) = &report.torn {
        text.push_str(&format!(
            "\n{} bytes at the end of {} were never acknowledged; the next start cuts them",
            torn.bytes,
            torn.path.display()
        ));
    }
    if found.leftovers > 0 {
        text.push_str(&format!(
            "\n{} files that nothing names; the next start removes them",
            found.leftovers
        ));
    }
    text
}

fn to_json(report: &Report) -> Value {
    let found = &report.findings;
    let damage = found.damage.iter().map(|finding| {
        json!({
            "path": finding.path.display().to_string(),
            "offset": finding.offset,
            "reason": finding.reason,
            "needed": finding.is_needed,
        })
    });
    json!({
        "node": report.node.map(|node| node.0),
        "shards": report.shards,
        "files": found.files,
        "bytes": found.bytes,
        "leftovers": found.leftovers,
        "torn_bytes": report.torn.as_ref().map_or(0, |torn| torn.bytes),
        "damage": damage.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_told_with_its_place() {
        let mut report = Report::default();
        assert!(summary(&report).ends_with("nothing is damaged"), "{}", summary(&report));
        report.findings.add("/d/a.seg", Some(70), "checksum mismatch in floats");
        report.findings.add("/d/manifest", None, "not a manifest");
        report.findings.add("/d/wal", Some(7), "a record is bad");
        report.findings.damage[2].is_needed = false;
        let lines: Vec<_> = report.findings.damage.iter().map(line).collect();
        assert_eq!(
            lines,
            [
                "/d/a.seg at offset 70: checksum mismatch in floats",
                "/d/manifest: not a manifest",
                "/d/wal at offset 7: a record is bad; nobody needs it any more"
            ]
        );
        assert!(summary(&report).ends_with("3 places are damaged"));
        let json = to_json(&report);
        assert_eq!(json["damage"][0]["offset"], 70);
        assert_eq!(json["damage"][1]["offset"], Value::Null);
        assert_eq!(
            (&json["damage"][1]["needed"], &json["damage"][2]["needed"]),
            (&json!(true), &json!(false))
        );
    }
}
