//! Makes `docs/config.md`.

use serde_json::Value;

use super::keys::{KEYS, TENANT_KEYS};
use super::load::{default_tenant, default_tree, variable};

const HEAD: &str = "\
# Settings

<!-- Made from server/src/config.rs and server/src/config/keys.rs; `make docs` writes it anew. -->

Defaults, then a YAML or TOML file (`--config FILE`), then environment variables, then flags: later ones win, key by
key. A key that does not exist is an error at start; a variable that begins with no section's name (`PHAROS_PORT`, as
Kubernetes sets for a service) is ignored with a warning. `pharos check config FILE` checks a file without starting.

Sizes (`64MiB`, `32MB`) and times (`500ms`, `1h30m`, `30d`) carry their unit. Lists in variables are separated by
commas.

```yaml
http:
  addr: 0.0.0.0:9600
storage:
  retention: 90d
cluster:
  join: [pharos-a:9620, pharos-b:9620]
```
";

const TENANTS: &str = "
## tenants

What is different for single tenants, by their names; on the command line `--set tenants.team-a.retention=90d`. All nodes
should have the same: a request is judged by the node that takes it, and what goes by the leader of the shard.

```yaml
tenants:
  team-a:
    features: [promql-delayed-name-removal]
    retention: 90d
    log_retention: 7d
```

| key | default | meaning |
|---|---|---|
";

/// The page.
pub fn page() -> String {
    let tree = default_tree();
    let mut page = HEAD.to_owned();
    let mut section = "";
    for key in KEYS {
        let (this, name) = key.path.split_once('.').unwrap_or(("", key.path));
        if this != section {
            section = this;
            page.push_str(&format!(
                "\n## {section}\n\n| key | default | variable | meaning |\n|---|---|---|---|\n"
            ));
        }
        let default = tree.pointer(&format!("/{}", key.path.replace('.', "/"))).unwrap_or(&Value::Null);
        let default = match default {
            Value::String(text) if text.is_empty() => "".to_owned(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let doc = key.doc.replace('|', "\\|");
        page.push_str(&format!("| `{name}` | {default} | `{}` | {doc} |\n", variable(key.path)));
    }
    page.push_str(TENANTS);
    for key in TENANT_KEYS {
        let default = default_tenant().get(key.path).cloned().unwrap_or_default();
        page.push_str(&format!("| `{}` | `{default}` | {} |\n", key.path, key.doc));
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::config::load::leaves;

    #[test]
    fn every_key_has_a_text_and_every_text_a_key() {
        let keys: BTreeSet<String> = leaves(&default_tree()).into_iter().collect();
        let texts: BTreeSet<String> = KEYS.iter().map(|k| k.path.to_owned()).collect();
        assert_eq!(keys, texts);
        assert_eq!(texts.len(), KEYS.len(), "a key is there twice");
        let of_tenants: BTreeSet<String> = TENANT_KEYS.iter().map(|k| k.path.to_owned()).collect();
        assert_eq!(leaves(&default_tenant()).into_iter().collect::<BTreeSet<_>>(), of_tenants);
    }

    #[test]
    fn the_committed_page_is_this_one() {
        crate::testing::committed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md"), &page());
    }
}
