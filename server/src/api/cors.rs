//! Cross-origin requests: browsers may read the Prometheus API, from the origins of `http.cors_origin`.
//!
//! As in Prometheus, every OPTIONS is answered 204 and the default lets every origin in. Administration and writes never
//! carry the headers: a page from elsewhere has no business there.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use regex::Regex;

use super::App;

/// Which origins are let in.
#[derive(Clone, Debug)]
pub struct Cors {
    /// `None`: all of them.
    origins: Option<Regex>,
}

impl Cors {
    /// Compiles `http.cors_origin`; `.*` means all.
    pub fn new(pattern: &str) -> Result<Self, regex::Error> {
        if pattern == ".*" {
            return Ok(Self { origins: None });
        }
        Ok(Self { origins: Some(Regex::new(&format!("^(?:{pattern})$"))?) })
    }

    fn allow(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        let allowed = match &self.origins {
            None => HeaderValue::from_static("*"),
            Some(origins) if origin.to_str().is_ok_and(|text| origins.is_match(text)) => origin.clone(),
            Some(_) => return,
        };
        let fixed = [
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "Accept, Authorization, Content-Type, Origin, X-Scope-OrgID, X-Pharos-Consistency, \
                 X-Pharos-Commit-Token",
            ),
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
            (header::VARY, "Origin"),
        ];
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

fn is_open(path: &str) -> bool {
    let api = path.starts_with("/api/v1/") || path == "/federate";
    let closed = ["/api/v1/admin", "/api/v1/cluster", "/api/v1/write"];
    api && !closed.iter().any(|prefix| path.starts_with(prefix))
}

/// The layer around all routes.
pub async fn layer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).filter(|_| is_open(request.uri().path())).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    if let Some(origin) = origin {
        app.cors.allow(&origin, response.headers_mut());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, origin: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        Cors::new(pattern).unwrap().allow(&HeaderValue::from_str(origin).unwrap(), &mut headers);
        let found = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|v| v.to_str().unwrap());
        assert_eq!(found, expected, "{pattern} {origin}");
        assert_eq!(headers.contains_key(header::VARY), expected.is_some());
    }

    #[test]
    fn origins() {
        check(".*", "http://a", Some("*"));
        check("https?://(a|b)\\.example", "https://b.example", Some("https://b.example"));
        check("https?://(a|b)\\.example", "https://b.example.evil", None);
        assert!(Cors::new("(").is_err());
    }

    #[test]
    fn administration_is_closed() {
        for path in ["/api/v1/query", "/api/v1/label/x/values", "/federate"] {
            assert!(is_open(path), "{path}");
        }
        for path in ["/api/v1/admin/flush", "/api/v1/cluster/remove", "/api/v1/write", "/cluster/status"] {
            assert!(!is_open(path), "{path}");
        }
    }
}
