//! The OpenAPI document, made from the table of routes.

use serde_json::{Map, Value, json};

use super::routes::{Param, Route, Verb, table};

/// The document, pretty-printed.
pub fn document() -> String {
    let mut paths = Map::new();
    for route in table() {
        let methods: &[&str] = match route.verb {
            Verb::Get => &["get"],
            Verb::Post => &["post"],
            Verb::GetOrPost => &["get", "post"],
            Verb::PostOrPut => &["post", "put"],
            Verb::Put => &["put"],
            Verb::Delete => &["delete"],
        };
        // Several rows may share a path.
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        for method in methods {
            item[*method] = operation(&route, method);
        }
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Pharos",
            "description": "Answers of the Prometheus API carry its envelope: status, data, errorType, error, warnings, \
                            infos. Requests choose a tenant by the header X-Scope-OrgID and how fresh a read must be by \
                            X-Pharos-Consistency (linearizable, session, local) with X-Pharos-Commit-Token.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0"},
        },
        "paths": paths,
    });
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn operation(route: &Route, method: &str) -> Value {
    let name: String = route.path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mut responses = json!({
        "200": {"description": "Done."},
        "400": {"description": "The request is at fault; the message names the offence."},
        "503": {"description": "Overload or doubt: the same request may succeed later."},
    });
    if route.path == "/api/v1/write" {
        responses["204"] =
            json!({"description": "Every sample is durable on a quorum and visible to the next query."});
        responses["415"] = json!({"description": "Content type or encoding is not understood."});
    }
    if route.verb == Verb::PostOrPut {
        responses["204"] = responses["200"].take();
        responses.as_object_mut().map(|all| all.remove("200"));
    }
    let form = method == "post" && route.verb == Verb::GetOrPost;
    let params: Vec<&Param> = route.params.iter().filter(|p| p.in_path || !form).collect();
    let mut operation = json!({
        "operationId": format!("{method}{name}"),
        "summary": route.summary,
        "x-permission": route.permission.as_str(),
        "parameters": params.into_iter().map(parameter).collect::<Vec<_>>(),
        "responses": responses,
    });
    if form {
        let properties: Map<String, Value> =
            route.params.iter().map(|p| (p.name.to_owned(), schema(p, Some(p.doc)))).collect();
        let required: Vec<&str> = route.params.iter().filter(|p| p.required).map(|p| p.name).collect();
        operation["requestBody"] = json!({"content": {"application/x-www-form-urlencoded": {
            "schema": {"type": "object", "properties": properties, "required": required},
        }}});
    }
    operation
}

fn schema(param: &Param, doc: Option<&str>) -> Value {
    let mut schema = if param.repeated {
        json!({"type": "array", "items": {"type": "string"}})
    } else {
        json!({"type": "string"})
    };
    if let Some(doc) = doc {
        schema["description"] = json!(doc);
    }
    schema
}

fn parameter(param: &Param) -> Value {
    json!({
        "name": param.name,
        "in": if param.in_path { "path" } else { "query" },
        "required": param.required,
        "description": param.doc,
        "schema": schema(param, None),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_document_is_this_one() {
        crate::testing::committed(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json"),
            &document(),
        );
    }

    #[test]
    fn path_variables_and_parameters_agree() {
        for route in table() {
            let named: BTreeSet<&str> = route.params.iter().filter(|p| p.in_path).map(|p| p.name).collect();
            let in_path: BTreeSet<&str> = route
                .path
                .split('/')
                .filter_map(|element| element.strip_prefix('{').and_then(|e| e.strip_suffix('}')))
                .collect();
            assert_eq!(named, in_path, "{}", route.path);
        }
    }
}
