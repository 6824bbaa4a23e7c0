//! The web UI: files of `ui/dist`, in the binary of a release, read from the disk by a development build.
//!
//! ```text
//! /assets/NAME-HASH.js    immutable for a year, an ETag of the content, Brotli or gzip as the build left it beside the file
//! /, /explore, /cluster   the page: never cached, with a nonce of its own for the editor's styles and the policy that
//!                         allows no other script or style than ours
//! /assets/unknown         404: an old page must not take a page for a script
//! /api/..., /metrics      never the page: clients of the API get their errors as ever
//! ```
//!
//! The page decides by its address what it shows, so every address that is no file and no API gets it, where a browser
//! asks. Without `ui/dist` a development build says how to make it.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

#[cfg(feature = "ui")]
#[derive(rust_embed::RustEmbed)]
#[folder = "../ui/dist"]
#[allow_missing = true]
struct Dist;

/// A file of the UI.
struct File {
    bytes: std::borrow::Cow<'static, [u8]>,
    hash: [u8; 32],
}

#[cfg(feature = "ui")]
fn file(path: &str) -> Option<File> {
    let found = Dist::get(path)?;
    Some(File { hash: found.metadata.sha256_hash(), bytes: found.data })
}

#[cfg(not(feature = "ui"))]
fn file(_: &str) -> Option<File> {
    None
}

/// Beginnings of paths that belong to programs.
const PROGRAMS: [&str; 10] =
    ["/api", "/metrics", "/-/", "/cluster/", "/federate", "/v1/", "/loki/", "/otlp/", "/insert/", "/_"];

/// Answers what no route answers; none where it is not the UI's business.
pub fn answer(request: &Request) -> Option<Response> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let path = request.uri().path();
    // `/cluster` is a page, `/cluster/status` is not.
    if PROGRAMS.iter().any(|prefix| path.starts_with(prefix)) {
        return None;
    }
    let name = path.trim_start_matches('/');
    if !name.is_empty() && name != "index.html" {
        if let Some(found) = asset(name, request.headers()) {
            return Some(found);
        }
        if name.starts_with("assets/") || !takes_html(request.headers()) {
            return None;
        }
    }
    Some(page())
}

/// Whether a browser asks.
pub fn takes_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.contains("text/html")
}

/// What a file's name says of its kind.
fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Encodings that the build made, the smallest first.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

fn takes(headers: &HeaderMap, encoding: &str) -> bool {
    headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|part| {
            let (name, weight) = part.split_once(';').unwrap_or((part, ""));
            let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
            name.trim().eq_ignore_ascii_case(encoding) && !refused
        })
    })
}

fn asset(name: &str, headers: &HeaderMap) -> Option<Response> {
    if ENCODINGS.iter().any(|(_, suffix)| name.ends_with(suffix)) {
        return None;
    }
    let plain = file(name)?;
    let encoded = ENCODINGS
        .iter()
        .filter(|(encoding, _)| takes(headers, encoding))
        .find_map(|(encoding, suffix)| Some((*encoding, file(&format!("{name}{suffix}"))?)));
    let (encoding, found) = match encoded {
        Some((encoding, found)) => (Some(encoding), found),
        None => (None, plain),
    };
    let tag =
        found.hash.iter().take(16).fold(String::from("\""), |tag, byte| tag + &format!("{byte:02x}")) + "\"";
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known =
        known.is_some_and(|tags| tags.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(Body::from(found.bytes.into_owned()))
    };
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    out.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        out.insert(header::ETAG, tag);
    }
    // Names in `assets` hold a hash of the content; the others are asked for each time.
    let cache = if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(encoding) = encoding {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    Some(response)
}

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Pharos</title>\
    <h1>Pharos runs, but its pages are not built</h1>\
    <p>Run <code>make ui</code> in the checkout and load this page again; no restart is needed. \
    It takes Node 20.19 or newer.</p>\
    <p>The API works without it: see <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a>.</p></html>";

/// What stands in the page where the nonce goes.
const NONCE_MARK: &str = "__CSP_NONCE__";

fn page() -> Response {
    let nonce =
        rand::random::<[u8; 16]>().iter().fold(String::new(), |nonce, byte| nonce + &format!("{byte:02x}"));
    let (status, html) = match file("index.html") {
        Some(found) => (StatusCode::OK, String::from_utf8_lossy(&found.bytes).replace(NONCE_MARK, &nonce)),
        None => (StatusCode::NOT_FOUND, NOT_BUILT.to_owned()),
    };
    let policy = format!(
        "default-src 'self'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; font-src 'self'; \
         connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    );
    let mut response = (status, html).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, accept: &str) -> Request {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, accept)
            .body(Body::empty())
            .expect("a request")
    }

    #[test]
    fn programs_never_get_the_page() {
        for path in ["/api/v1/nothing", "/api", "/metrics", "/-/healthy", "/cluster/status", "/federate"] {
            assert!(answer(&request("GET", path, "text/html")).is_none(), "{path}");
        }
        assert!(answer(&request("POST", "/", "text/html")).is_none());
        assert!(answer(&request("GET", "/nothing", "*/*")).is_none(), "no browser asks so");
        assert!(answer(&request("GET", "/assets/old-1234.js", "text/html")).is_none());
        assert!(answer(&request("GET", "/../Cargo.toml", "*/*")).is_none());
    }

    #[test]
    fn pages_have_a_policy_without_inline_script() {
        let policies: Vec<String> = ["/", "/cluster", "/dashboards/a"]
            .into_iter()
            .map(|path| {
                let response = answer(&request("GET", path, "text/html,*/*")).expect("a page");
                let headers = response.headers();
                assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
                headers[header::CONTENT_SECURITY_POLICY].to_str().expect("ASCII").to_owned()
            })
            .collect();
        assert!(policies.iter().all(|policy| policy.contains("script-src 'self';")), "{policies:?}");
        assert!(!policies.iter().any(|policy| policy.contains("unsafe")), "{policies:?}");
        assert_ne!(policies[0], policies[1], "a nonce is for one answer");
    }

    #[test]
    fn weights_of_encodings_count() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip;q=0.5, BR, deflate;q=0"));
        assert!(takes(&headers, "br") && takes(&headers, "gzip"));
        assert!(!takes(&headers, "deflate") && !takes(&headers, "zstd"));
    }
}
