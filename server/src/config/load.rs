//! Lays file, environment and flags over the defaults.
//!
//! All three become the same thing, pairs of a key's path and a JSON value, and go through one function that knows
//! the tree by the serialised defaults: it refuses keys that are not there and turns text (all the environment and
//! most flags have) into the type that the default has.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Config;

/// Variables with our prefix that are no settings: tests find outside data and the binary by the first two,
/// documentation is rewritten by the third.
const FOREIGN_VARIABLES: [&str; 3] = ["PHAROS_TESTDATA", "PHAROS_BIN", "PHAROS_BLESS"];

/// Why the settings can not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can not be read.
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    /// The file is no YAML or TOML.
    #[error("{path}: {reason}")]
    Syntax { path: PathBuf, reason: String },
    /// The file's name says neither YAML nor TOML.
    #[error("{path}: the name must end in .yaml, .yml or .toml")]
    Extension { path: PathBuf },
    /// There is no such key.
    #[error("{origin}: there is no setting {key:?}{}", hint.as_ref().map(|h| format!("; did you mean {h:?}?")).unwrap_or_default())]
    Unknown { origin: String, key: String, hint: Option<String> },
    /// The value is not what the key takes.
    #[error("{origin}: {reason}")]
    Value { origin: String, reason: String },
    /// The value can not work.
    #[error("{key}: {reason}")]
    Invalid { key: String, reason: String },
    /// Peers would talk in plain text on a network.
    #[error(
        "peers would talk in plain text at {addr}: set peer.tls_cert, peer.tls_key and peer.tls_ca, or pass --insecure \
         if nobody else can reach that network"
    )]
    InsecurePeers { addr: String },
}

/// Where settings come from.
#[derive(Debug, Default)]
pub struct Sources {
    /// A YAML or TOML file.
    pub file: Option<PathBuf>,
    /// `PHAROS_*` variables.
    pub environment: Vec<(String, String)>,
    /// Path and value of keys given by flags.
    pub flags: Vec<(String, Value)>,
}

impl Sources {
    /// The process' own environment.
    pub fn with_process_environment(mut self) -> Self {
        self.environment = std::env::vars().filter(|(name, _)| name.starts_with("PHAROS_")).collect();
        self
    }

    /// Reads, merges and checks.
    pub fn load(self) -> Result<Config, ConfigError> {
        let mut tree = default_tree();
        let leaves = leaves(&tree);
        if let Some(path) = &self.file {
            let origin = path.display().to_string();
            overlay(&mut tree, &leaves, "", read_file(path)?, &origin)?;
        }
        for (name, text) in self.environment {
            if FOREIGN_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let Some(path) = leaves.iter().find(|path| variable(path) == name) else {
                let all: Vec<String> = leaves.iter().map(|p| variable(p)).collect();
                let hint = nearest(&name, all.iter().map(String::as_str));
                return Err(ConfigError::Unknown { origin: "environment".into(), key: name, hint });
            };
            set(&mut tree, path, Value::String(text), &name)?;
        }
        for (path, value) in self.flags {
            if !leaves.contains(&path) {
                let hint = nearest(&path, leaves.iter().map(String::as_str));
                return Err(ConfigError::Unknown { origin: "command line".into(), key: path, hint });
            }
            set(&mut tree, &path, value, "command line")?;
        }
        let origin = self.file.map_or_else(|| "settings".to_owned(), |path| path.display().to_string());
        let config: Config =
            serde_json::from_value(tree).map_err(|e| ConfigError::Value { origin, reason: e.to_string() })?;
        config.validate()?;
        Ok(config)
    }
}

/// The defaults as a tree of JSON.
pub(super) fn default_tree() -> Value {
    serde_json::to_value(Config::default()).expect("the defaults have string keys only")
}

/// Paths of all keys.
pub(super) fn leaves(tree: &Value) -> Vec<String> {
    fn walk(prefix: &str, value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&path, value, out);
                }
            }
            _ => out.push(prefix.to_owned()),
        }
    }
    let mut out = Vec::new();
    walk("", tree, &mut out);
    out
}

/// Name of a key's environment variable.
pub(super) fn variable(path: &str) -> String {
    format!("PHAROS_{}", path.replace('.', "_").to_ascii_uppercase())
}

fn read_file(path: &Path) -> Result<Value, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let syntax = |reason: String| ConfigError::Syntax { path: path.to_owned(), reason };
    let value: Value = match path.extension().and_then(|e| e.to_str()) {
        Some("yaml" | "yml") => serde_norway::from_str(&text).map_err(|e| syntax(e.to_string()))?,
        Some("toml") => toml::from_str(&text).map_err(|e| syntax(e.to_string()))?,
        _ => return Err(ConfigError::Extension { path: path.to_owned() }),
    };
    match value {
        // A file of comments only.
        Value::Null => Ok(Value::Object(serde_json::Map::new())),
        Value::Object(_) => Ok(value),
        _ => Err(syntax("sections such as `http:` are expected at the top".into())),
    }
}

/// Lays a tree over another, refusing what is not there.
fn overlay(
    tree: &mut Value,
    leaves: &[String],
    prefix: &str,
    over: Value,
    origin: &str,
) -> Result<(), ConfigError> {
    match (tree, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                let Some(slot) = base.get_mut(&name) else {
                    let hint = nearest(&path, leaves.iter().map(String::as_str));
                    return Err(ConfigError::Unknown { origin: origin.to_owned(), key: path, hint });
                };
                overlay(slot, leaves, &path, value, origin)?;
            }
            Ok(())
        }
        (Value::Object(_), _) => Err(ConfigError::Value {
            origin: origin.to_owned(),
            reason: format!("{prefix} is a section, keys are expected below it"),
        }),
        (slot, value) => {
            *slot = coerce(slot, prefix, value, origin)?;
            Ok(())
        }
    }
}

fn set(tree: &mut Value, path: &str, value: Value, origin: &str) -> Result<(), ConfigError> {
    let pointer = format!("/{}", path.replace('.', "/"));
    let Some(slot) = tree.pointer_mut(&pointer) else {
        return Err(ConfigError::Unknown { origin: origin.to_owned(), key: path.to_owned(), hint: None });
    };
    *slot = coerce(slot, path, value, origin)?;
    Ok(())
}

/// Turns text into what the default is: a switch, a number or a list.
fn coerce(default: &Value, path: &str, value: Value, origin: &str) -> Result<Value, ConfigError> {
    let wrong = |expected: &str, got: &Value| ConfigError::Value {
        origin: origin.to_owned(),
        reason: format!("{path}: {expected} is expected, not {got}"),
    };
    Ok(match (default, value) {
        (Value::Bool(_), Value::String(text)) => match text.as_str() {
            "true" | "1" => Value::Bool(true),
            "false" | "0" => Value::Bool(false),
            _ => return Err(wrong("true or false", &Value::String(text))),
        },
        (Value::Number(_), Value::String(text)) => {
            let number: u64 =
                text.trim().parse().map_err(|_| wrong("a number", &Value::String(text.clone())))?;
            Value::from(number)
        }
        (Value::Array(_), Value::String(text)) => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect()
        }
        // `0` is a size and a duration without a unit.
        (Value::String(_), Value::Number(n)) if n.as_u64() == Some(0) => Value::from("0"),
        (Value::String(_), value @ Value::String(_))
        | (Value::Bool(_), value @ Value::Bool(_))
        | (Value::Number(_), value @ Value::Number(_))
        | (Value::Array(_), value @ Value::Array(_)) => value,
        (Value::String(_), other) => {
            return Err(wrong("text (with a unit, if it is a size or a time)", &other));
        }
        (Value::Bool(_), other) => return Err(wrong("true or false", &other)),
        (Value::Number(_), other) => return Err(wrong("a number", &other)),
        (_, other) => return Err(wrong("a list", &other)),
    })
}

/// The candidate with the fewest edits, if it is near enough to be what was meant.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|candidate| (edits(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= name.len().max(6) / 3)
        .map(|(_, candidate)| candidate.to_owned())
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(ca != *cb)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::units::{ByteSize, Span};

    fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn later_sources_win_key_by_key() {
        let (_dir, path) =
            file("c.yaml", "query:\n  timeout: 10s\n  max_memory: 1GiB\nhttp:\n  addr: 127.0.0.1:1\n");
        let config = Sources {
            file: Some(path),
            environment: env(&[
                ("PHAROS_QUERY_TIMEOUT", "20s"),
                ("PHAROS_CLUSTER_JOIN", "a:1, b:2"),
                ("PHAROS_CLUSTER_SHARDS", "4"),
                ("PHAROS_TESTDATA", "/x"),
            ]),
            flags: vec![
                ("cluster.shards".to_owned(), Value::from("8")),
                ("http.addr".to_owned(), Value::from("127.0.0.1:2")),
            ],
        }
        .load()
        .unwrap();
        assert_eq!(config.query.timeout, Span::secs(20));
        assert_eq!(config.query.max_memory, ByteSize(1 << 30));
        assert_eq!(config.cluster.join, ["a:1", "b:2"]);
        assert_eq!(config.cluster.shards, 8);
        assert_eq!(config.http.addr.port(), 2);
        assert_eq!(config.ingest, Config::default().ingest);
    }

    #[test]
    fn toml_is_read_too() {
        let (_dir, path) = file("c.toml", "[storage]\nretention = \"unlimited\"\n");
        let config = Sources { file: Some(path), ..Sources::default() }.load().unwrap();
        assert_eq!(config.storage.retention.as_ms(), None);
    }

    #[track_caller]
    fn refused(name: &str, text: &str, offence: &str) {
        let (_dir, path) = file(name, text);
        let message = Sources { file: Some(path), ..Sources::default() }.load().unwrap_err().to_string();
        assert!(message.contains(offence), "{message}");
    }

    #[test]
    fn bad_files_are_refused_with_the_offence_named() {
        refused("c.yaml", "query:\n  timeuot: 10s\n", "did you mean \"query.timeout\"");
        refused("c.yaml", "querry: {}\n", "\"querry\"");
        refused("c.yaml", "query: 3\n", "query is a section");
        refused("c.yaml", "query:\n  timeout: 30\n", "query.timeout");
        refused("c.yaml", "query:\n  timeout: 30x\n", "30x");
        refused("c.yaml", "cluster:\n  shards: many\n", "cluster.shards");
        refused("c.yaml", "cluster:\n  shards: 100000\n", "100000");
        refused("c.yaml", "- 1\n", "sections");
        refused("c.yaml", "a: [", "c.yaml");
        refused("c.json", "{}", ".yaml");
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let (_dir, path) = file("c.yml", "# nothing\n");
        assert_eq!(Sources { file: Some(path), ..Sources::default() }.load().unwrap(), Config::default());
    }

    #[test]
    fn unknown_variables_are_refused() {
        let sources = Sources { environment: env(&[("PHAROS_QUERY_TIMEOUTS", "1s")]), ..Sources::default() };
        let message = sources.load().unwrap_err().to_string();
        assert!(message.contains("PHAROS_QUERY_TIMEOUT\""), "{message}");
    }

    #[test]
    fn unknown_keys_of_the_command_line_are_refused() {
        let flags = vec![("query.time_out".to_owned(), Value::from("1s"))];
        let message = Sources { flags, ..Sources::default() }.load().unwrap_err().to_string();
        assert!(message.contains("did you mean \"query.timeout\""), "{message}");
    }

    #[test]
    fn variables_are_unique() {
        let leaves = leaves(&default_tree());
        let names: BTreeSet<String> = leaves.iter().map(|p| variable(p)).collect();
        assert_eq!(names.len(), leaves.len());
    }
}
