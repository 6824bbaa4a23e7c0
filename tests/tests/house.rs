//! House rules that a compiler does not keep: the arrows between crates, module docs, and what stays out of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.expect("a readable directory").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("protocol", &[][..]),
        ("storage", &["protocol"][..]),
        ("cluster", &["protocol", "storage"][..]),
        ("query", &["protocol"][..]),
        ("sql", &["protocol", "query"][..]),
        ("chaos", &["protocol", "storage", "cluster", "query"][..]),
        ("server", &["protocol", "storage", "cluster", "query", "sql", "chaos"][..]),
    ]);
    for (name, allowed) in &allowed {
        let text =
            std::fs::read_to_string(root().join(name).join("Cargo.toml")).expect("each crate has a manifest");
        let manifest: BTreeMap<String, BTreeMap<String, toml_value::Value>> = toml_value::parse(&text);
        let mut named: Vec<&str> = Vec::new();
        for (section, keys) in &manifest {
            // `[dependencies]`, `[target.'...'.dev-dependencies]`; and `[dependencies.x]`, which names one itself.
            let (before, last) = section.rsplit_once('.').unwrap_or(("", section));
            if last.ends_with("dependencies") {
                named.extend(keys.keys().map(String::as_str));
            } else if before.ends_with("dependencies") {
                named.push(last);
            }
        }
        assert!(*name == "protocol" || !named.is_empty(), "{name}'s dependencies were found");
        for dependency in named {
            let ours = root().join(dependency).join("Cargo.toml").exists();
            assert!(!ours || allowed.contains(&dependency), "{name} must not depend on {dependency}");
        }
    }
}

/// Just enough of TOML for our own manifests: sections and the keys in them.
mod toml_value {
    use std::collections::BTreeMap;

    pub type Value = String;

    pub fn parse(text: &str) -> BTreeMap<String, BTreeMap<String, Value>> {
        let mut out: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        let mut section = String::new();
        for line in text.lines().map(str::trim).filter(|l| !l.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                section = name.trim_matches(['[', ']']).to_owned();
            } else if let Some((key, value)) = line.split_once('=') {
                let key = key.trim().split('.').next().unwrap_or_default().to_owned();
                out.entry(section.clone()).or_default().insert(key, value.trim().to_owned());
            }
        }
        out
    }
}

#[test]
fn every_module_says_what_it_is() {
    let mut files = Vec::new();
    for name in ["protocol", "storage", "cluster", "query", "sql", "server", "chaos", "tests"] {
        sources(&root().join(name).join("src"), &mut files);
    }
    assert!(files.len() > 20, "the sources were found");
    let silent: Vec<_> = files
        .iter()
        .filter(|f| !f.ends_with("tests.rs"))
        .filter(|f| {
            let text = std::fs::read_to_string(f).expect("readable");
            !text.starts_with("//!") && !text.starts_with("#![doc = include_str!(")
        })
        .collect();
    assert!(silent.is_empty(), "modules without docs: {silent:?}");
}

#[test]
fn the_deterministic_crates_stay_deterministic() {
    let forbidden = ["tokio::", "SystemTime", "time::Instant", "std::thread", "rand::rng", "thread_rng"];
    let mut files = Vec::new();
    sources(&root().join("cluster/src"), &mut files);
    sources(&root().join("storage/src"), &mut files);
    // Below the workspace: where that lies says nothing.
    let is_test = |file: &Path| {
        let inside = file.strip_prefix(root()).expect("a file of the workspace");
        inside.components().any(|part| part.as_os_str().to_string_lossy().contains("tests"))
    };
    let code: Vec<_> = files.iter().filter(|file| !is_test(file)).collect();
    assert!(code.len() > 20, "the sources were found");
    for file in code {
        let text = std::fs::read_to_string(file).expect("readable");
        // Unit tests at the end of a file may use what they like.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in forbidden {
            let hit = code.lines().find(|l| l.contains(word) && !l.trim_start().starts_with("//"));
            assert!(hit.is_none(), "{}: {word} in {:?}", file.display(), hit);
        }
    }
}
