//! Lays file, environment and flags over the defaults.
//!
//! All three become the same thing, pairs of a key's path and a JSON value, and go through one function that knows
//! the tree by the serialised defaults: it refuses keys that are not there and turns text (all the environment and
//! most flags have) into the type that the default has.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Config, TenantSection};

/// Variables with our prefix that are no settings and known to be none: tests find outside data and the binary by the
/// first two, documentation is rewritten by the third, the others choose what tests try.
const FOREIGN_VARIABLES: [&str; 5] =
    ["PHAROS_TESTDATA", "PHAROS_BIN", "PHAROS_BLESS", "PHAROS_RANDOM_QUERIES", "PHAROS_SIM_SEED"];

/// Whether a variable is one of those by which Kubernetes (and Docker's links, whose form it took over) tells containers
/// of services: `{NAME}_SERVICE_HOST`, `{NAME}_SERVICE_PORT[_{PORT NAME}]`, `{NAME}_PORT`,
/// `{NAME}_PORT_{NUMBER}_{PROTOCOL}[_PROTO|_PORT|_ADDR]`. A service called `pharos-http` gives us names that begin like
/// settings.
fn is_service_variable(name: &str) -> bool {
    let numbered = |rest: &str| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        digits > 0 && rest[digits..].starts_with('_')
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.match_indices("_PORT_").any(|(at, found)| numbered(&name[at + found.len()..]))
}

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
    pub environment: Vec<(String, OsString)>,
    /// Path and value of keys given by flags.
    pub flags: Vec<(String, Value)>,
}

impl Sources {
    /// The process' own environment.
    pub fn with_process_environment(mut self) -> Self {
        // Others may hold anything: what is no text is not touched.
        let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        self.environment = named.filter(|(name, _)| name.starts_with("PHAROS_")).collect();
        self
    }

    /// Names of variables with our prefix that are no settings and below no section of ours, so that they are taken
    /// for somebody else's.
    pub fn ignored_variables(&self) -> Vec<String> {
        let tree = default_tree();
        let leaves = leaves(&tree);
        let is_setting = |name: &str| leaves.iter().any(|path| variable(path) == name);
        let names = self.environment.iter().map(|(name, _)| name);
        names.filter(|name| !is_setting(name) && is_foreign(name, &tree)).cloned().collect()
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
            let Some(path) = leaves.iter().find(|path| variable(path) == name) else {
                if FOREIGN_VARIABLES.contains(&name.as_str()) || is_foreign(&name, &tree) {
                    continue;
                }
                let all: Vec<String> = leaves.iter().map(|p| variable(p)).collect();
                let hint = nearest(&name, all.iter().map(String::as_str));
                return Err(ConfigError::Unknown { origin: "environment".into(), key: name, hint });
            };
            let text = text.into_string().map_err(|_| ConfigError::Value {
                origin: name.clone(),
                reason: format!("{path}: the value is no UTF-8"),
            })?;
            set(&mut tree, path, Value::String(text), &name)?;
        }
        for (path, value) in self.flags {
            if add_tenant(&mut tree, &path) {
                set(&mut tree, &path, value, "command line")?;
                continue;
            }
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

/// Whether a variable that is no setting is somebody else's: it stands below no section of the tree, or is one of
/// Kubernetes'. The rest are misspelt settings.
fn is_foreign(name: &str, tree: &Value) -> bool {
    let sections = tree.as_object().into_iter().flat_map(|sections| sections.keys());
    let is_below = |section: &String| name.starts_with(&format!("{}_", variable(section)));
    let known = FOREIGN_VARIABLES.contains(&name);
    !known && (is_service_variable(name) || !sections.into_iter().any(is_below))
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

/// The section whose keys are the names of tenants.
const TENANTS: &str = "tenants";

/// The defaults of a tenant as a tree of JSON.
pub(super) fn default_tenant() -> Value {
    serde_json::to_value(TenantSection::default()).expect("the defaults have string keys only")
}

/// Makes room for a tenant that a key's path names, `tenants.NAME.KEY`. False where the path is no such key.
fn add_tenant(tree: &mut Value, path: &str) -> bool {
    let Some((name, key)) = path.strip_prefix("tenants.").and_then(|rest| rest.rsplit_once('.')) else {
        return false;
    };
    // A dot is what separates the parts of a path.
    if name.is_empty() || name.contains(['.', '/']) || default_tenant().get(key).is_none() {
        return false;
    }
    if let Some(tenants) = tree.get_mut(TENANTS).and_then(Value::as_object_mut) {
        tenants.entry(name).or_insert_with(default_tenant);
    }
    true
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
                if prefix == TENANTS && !base.contains_key(&name) {
                    base.insert(name.clone(), default_tenant());
                }
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

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, OsString)> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.into())).collect()
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
    fn variables_of_others_are_named_and_ignored() {
        let others = [
            "PHAROS_SERVICE_HOST",
            "PHAROS_SERVICE_PORT",
            "PHAROS_SERVICE_PORT_HTTP",
            "PHAROS_PORT",
            "PHAROS_PORT_9600_TCP",
            "PHAROS_PORT_9600_TCP_ADDR",
            "PHAROS_HTTP_SERVICE_HOST",
            "PHAROS_HTTP_SERVICE_PORT_PEERS",
            "PHAROS_HTTP_PORT_9600_TCP_PROTO",
            "PHAROS_HEADLESS_PORT",
        ];
        let mut environment = env(&others.map(|name| (name, "tcp://10.0.0.1:9600")));
        environment.extend(env(&[("PHAROS_RANDOM_QUERIES", "9"), ("PHAROS_QUERY_TIMEOUT", "7s")]));
        let sources = Sources { environment, ..Sources::default() };
        assert_eq!(sources.ignored_variables(), others);
        assert_eq!(sources.load().unwrap().query.timeout, Span::secs(7));
    }

    #[test]
    fn a_setting_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(vec![b'5', 0xff]);
        let environment = vec![("PHAROS_NONE_OF_OURS".to_owned(), odd.clone())];
        Sources { environment, ..Sources::default() }.load().unwrap();
        let environment = vec![("PHAROS_QUERY_TIMEOUT".to_owned(), odd)];
        let message = Sources { environment, ..Sources::default() }.load().unwrap_err().to_string();
        assert!(message.contains("PHAROS_QUERY_TIMEOUT") && message.contains("UTF-8"), "{message}");
    }

    #[test]
    fn misspelt_settings_in_the_environment_are_refused() {
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
