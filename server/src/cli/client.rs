//! How commands speak to a node.

use std::time::Duration;

use clap::Args;
use protocol::ids::TenantId;
use serde_json::Value;

use super::CliError;
use crate::backup::State;

/// Which node to ask.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// A node of the cluster, any of them [default: the one on this machine, at port 9600 or, of `pharos dev`, 9601]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Tenant whose data is meant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
}

/// Where nodes of this machine listen: of `pharos server` and of `pharos dev`.
const LOCAL: [&str; 2] = ["http://127.0.0.1:9600", "http://127.0.0.1:9601"];

/// A request whose answer is bytes.
#[derive(Clone, Copy)]
pub(super) struct Exchange<'a> {
    method: Method,
    path: &'a str,
    query: &'a [(&'a str, String)],
    headers: &'a [(&'a str, &'a str)],
    tenant: Option<&'a TenantId>,
    body: &'a [u8],
}

#[derive(Clone, Copy)]
enum Method {
    Get,
    Post,
    Put,
}

impl<'a> Exchange<'a> {
    pub fn get(path: &'a str, query: &'a [(&'a str, String)]) -> Self {
        Self { method: Method::Get, path, query, headers: &[], tenant: None, body: &[] }
    }

    pub fn post(path: &'a str, query: &'a [(&'a str, String)], body: &'a [u8]) -> Self {
        Self { method: Method::Post, body, ..Self::get(path, query) }
    }

    pub fn put(path: &'a str, body: &'a [u8]) -> Self {
        Self { method: Method::Put, body, ..Self::get(path, &[]) }
    }

    /// About a tenant's data.
    pub fn of(self, tenant: &'a TenantId) -> Self {
        Self { tenant: Some(tenant), ..self }
    }

    /// With headers beside the tenant's.
    pub fn with(self, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { headers, ..self }
    }
}

/// How often a request is sent again while the cluster is overloaded, in doubt or away, a second apart.
const PATIENCE: u32 = 120;

impl Target {
    /// A node, or the one on this machine.
    pub fn at(url: Option<String>) -> Self {
        Self { url, tenant: None }
    }

    /// Status and body of the answer. What may go better a moment later is tried again.
    pub fn exchange(&self, exchange: &Exchange<'_>) -> Result<(u16, Vec<u8>), CliError> {
        self.exchange_counted(exchange).map(|(status, body, _)| (status, body))
    }

    /// The same, with the number of rows that the answer to a write says are written, if it says so.
    pub fn exchange_counted(&self, exchange: &Exchange<'_>) -> Result<(u16, Vec<u8>, Option<u64>), CliError> {
        for _ in 0..PATIENCE {
            match self.exchange_once(exchange) {
                Ok((429 | 503, ..)) | Err(CliError::Unreachable { .. }) => {
                    std::thread::sleep(Duration::from_secs(1));
                }
                outcome => return outcome,
            }
        }
        self.exchange_once(exchange)
    }

    fn exchange_once(&self, exchange: &Exchange<'_>) -> Result<(u16, Vec<u8>, Option<u64>), CliError> {
        let send = |agent: &ureq::Agent, url: String| {
            let request = match exchange.method {
                Method::Get => {
                    let request = exchange.query.iter().fold(agent.get(&url), |r, (k, v)| r.query(*k, v));
                    return headed(request, exchange).call();
                }
                Method::Post => agent.post(&url),
                Method::Put => agent.put(&url),
            };
            let request = exchange.query.iter().fold(request, |r, (k, v)| r.query(*k, v));
            headed(request, exchange).send(exchange.body)
        };
        let mut response = reach(self.urls(), send, exchange.path)?;
        let count = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<u64>().ok();
        let kinds = ["samples", "histograms", "exemplars"];
        let written =
            kinds.map(|kind| count(&format!("x-prometheus-remote-write-{kind}-written"))).into_iter().sum();
        let body = response.body_mut().with_config().limit(1 << 30).read_to_vec();
        let body = body.map_err(|error| CliError::Unreachable {
            url: exchange.path.to_owned(),
            reason: format!("the answer is cut off: {error}"),
        })?;
        Ok((response.status().as_u16(), body, written))
    }

    /// The body of a good answer, else what the node said.
    pub fn expect(status: u16, body: Vec<u8>) -> Result<Vec<u8>, CliError> {
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        let said = serde_json::from_str::<Value>(&text).ok();
        let said = said.and_then(|json| json["error"].as_str().map(str::to_owned));
        let reason = said.unwrap_or_else(|| format!("the node answered {status}: {}", text.trim()));
        Err(CliError::Failed(reason))
    }

    /// The body of a good answer.
    pub fn ask(&self, exchange: &Exchange<'_>) -> Result<Vec<u8>, CliError> {
        let (status, body) = self.exchange(exchange)?;
        Self::expect(status, body)
    }

    /// The meta state's part of a backup. The first question of a command: where nobody answers, it is not asked again.
    pub fn state(&self) -> Result<State, CliError> {
        let (status, body, _) = self.exchange_once(&Exchange::get("/api/v1/admin/backup/state", &[]))?;
        let body = Self::expect(status, body)?;
        let answer: Value = serde_json::from_slice(&body).map_err(|e| CliError::Failed(e.to_string()))?;
        serde_json::from_value(answer["data"].clone())
            .map_err(|error| CliError::Failed(format!("the node's state is not understood: {error}")))
    }

    fn urls(&self) -> Vec<String> {
        match &self.url {
            Some(url) => vec![if url.contains("://") { url.clone() } else { format!("http://{url}") }],
            None => LOCAL.map(str::to_owned).into(),
        }
    }

    /// The JSON that a GET answers.
    pub fn get(&self, path: &str, params: &[(&str, String)]) -> Result<Value, CliError> {
        let response = reach(
            self.urls(),
            |agent, url| {
                let mut request = agent.get(&url);
                for (name, value) in params {
                    request = request.query(*name, value);
                }
                match &self.tenant {
                    Some(tenant) => request.header(crate::auth::TENANT_HEADER, tenant).call(),
                    None => request.call(),
                }
            },
            path,
        );
        answer(response?)
    }

    /// The JSON that a form POST answers.
    pub fn post(&self, path: &str, params: &[(&str, String)]) -> Result<Value, CliError> {
        answer(self.reach_by_post(path, params)?)
    }

    /// The text that a form POST answers.
    pub fn post_text(&self, path: &str, params: &[(&str, String)]) -> Result<String, CliError> {
        let response = self.reach_by_post(path, params)?;
        if response.status().is_success() {
            text(response)
        } else {
            answer(response).map(|json| json.to_string())
        }
    }

    fn reach_by_post(
        &self,
        path: &str,
        params: &[(&str, String)],
    ) -> Result<ureq::http::Response<ureq::Body>, CliError> {
        reach(
            self.urls(),
            |agent, url| {
                let form = params.iter().map(|(name, value)| (*name, value.as_str()));
                match &self.tenant {
                    Some(tenant) => {
                        agent.post(&url).header(crate::auth::TENANT_HEADER, tenant).send_form(form)
                    }
                    None => agent.post(&url).send_form(form),
                }
            },
            path,
        )
    }
}

/// Adds the headers of an exchange.
fn headed<B>(request: ureq::RequestBuilder<B>, exchange: &Exchange<'_>) -> ureq::RequestBuilder<B> {
    let tenant = exchange.tenant.map(|tenant| (crate::auth::TENANT_HEADER, tenant.as_str()));
    let headers = exchange.headers.iter().copied().chain(tenant);
    headers.fold(request, |request, (name, value)| request.header(name, value))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(5)))
        .timeout_global(Some(Duration::from_secs(600)))
        .max_redirects(0)
        .build()
        .into()
}

/// Sends a request to the first of the addresses where somebody listens. Only a refused connection leads on to the next:
/// a node that is slow, or that hangs up after it got the request, is the one that was meant, and the next may belong to
/// another cluster.
fn reach(
    urls: Vec<String>,
    send: impl Fn(&ureq::Agent, String) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    path: &str,
) -> Result<ureq::http::Response<ureq::Body>, CliError> {
    let mut last = None;
    for url in urls {
        let url = format!("{}{path}", url.trim_end_matches('/'));
        let error = match send(&agent(), url.clone()) {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        let refused =
            matches!(&error, ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused);
        match error {
            // Nothing was sent: an argument can not stand in a request.
            ureq::Error::Http(error) => return Err(CliError::Usage(format!("{url}: {error}"))),
            ureq::Error::BadUri(error) => return Err(CliError::Usage(format!("{url}: {error}"))),
            error if refused => last = Some((url, error.to_string())),
            error => return Err(CliError::Unreachable { url, reason: error.to_string() }),
        }
    }
    let (url, reason) = last.unwrap_or_default();
    Err(CliError::Unreachable { url, reason })
}

fn text(mut response: ureq::http::Response<ureq::Body>) -> Result<String, CliError> {
    let read = response.body_mut().with_config().limit(1 << 30).read_to_string();
    read.map_err(|error| CliError::Failed(format!("the answer is cut off: {error}")))
}

fn answer(response: ureq::http::Response<ureq::Body>) -> Result<Value, CliError> {
    let status = response.status();
    let text = text(response)?;
    let json: Option<Value> = serde_json::from_str(&text).ok();
    match json {
        Some(json) if status.is_success() => Ok(json),
        Some(json) if json["error"].is_string() => {
            Err(CliError::Failed(json["error"].as_str().unwrap_or_default().to_owned()))
        }
        _ => Err(CliError::Failed(format!("the node answered {status}: {}", text.trim()))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// A node that reads one request, says these bytes and hangs up.
    fn node(says: &'static [u8]) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = [0; 4096];
            assert_ne!(stream.read(&mut bytes).unwrap(), 0);
            stream.write_all(says).unwrap();
        });
        (url, thread)
    }

    fn nobody() -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    fn post(urls: Vec<String>, tenant: &str) -> Result<Value, CliError> {
        answer(reach(urls, |agent, url| agent.post(&url).header("X-Scope-OrgID", tenant).send_empty(), "/x")?)
    }

    const FINE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";

    #[test]
    fn the_next_node_is_asked_only_where_nobody_listens() {
        let (there, thread) = node(FINE);
        assert!(post(vec![nobody(), there], "a").is_ok());
        thread.join().unwrap();
        // One that took the request and hung up may have done what it was told to.
        let (hangs_up, thread) = node(b"");
        let watched = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        watched.set_nonblocking(true).unwrap();
        let next = format!("http://{}", watched.local_addr().unwrap());
        let error = post(vec![hangs_up.clone(), next], "a").unwrap_err();
        assert!(matches!(&error, CliError::Unreachable { url, .. } if url.starts_with(&hangs_up)), "{error}");
        thread.join().unwrap();
        assert!(watched.accept().is_err(), "nobody asked the other node");
        assert_eq!(post(vec![nobody(), nobody()], "a").unwrap_err().exit_code(), 69);
    }

    #[test]
    fn what_can_not_stand_in_a_request_is_a_wrong_command_line() {
        let error = post(vec!["http://127.0.0.1:1".to_owned()], "a\nb").unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        let error = post(vec!["http://exa mple".to_owned()], "a").unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}
