//! How commands speak to a node.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::CliError;

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

impl Target {
    fn agent() -> ureq::Agent {
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(600)))
            .max_redirects(0)
            .build()
            .into()
    }

    fn urls(&self) -> Vec<String> {
        match &self.url {
            Some(url) => vec![if url.contains("://") { url.clone() } else { format!("http://{url}") }],
            None => LOCAL.map(str::to_owned).into(),
        }
    }

    fn send(
        &self,
        send: impl Fn(&ureq::Agent, String) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        path: &str,
    ) -> Result<Value, CliError> {
        let mut last = None;
        for url in self.urls() {
            let url = format!("{}{path}", url.trim_end_matches('/'));
            match send(&Self::agent(), url.clone()) {
                Ok(response) => return answer(response),
                // Only a node that is not there sends us on to the next.
                Err(error) => last = Some((url, error.to_string())),
            }
        }
        let (url, reason) = last.unwrap_or_default();
        Err(CliError::Unreachable { url, reason })
    }

    /// The JSON that a GET answers.
    pub fn get(&self, path: &str, params: &[(&str, String)]) -> Result<Value, CliError> {
        self.send(
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
        )
    }

    /// The JSON that a form POST answers.
    pub fn post(&self, path: &str, params: &[(&str, String)]) -> Result<Value, CliError> {
        self.send(
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

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Value, CliError> {
    let status = response.status();
    let text = response
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_to_string()
        .map_err(|error| CliError::Failed(format!("the answer is cut off: {error}")))?;
    let json: Option<Value> = serde_json::from_str(&text).ok();
    match json {
        Some(json) if status.is_success() => Ok(json),
        Some(json) if json["error"].is_string() => {
            Err(CliError::Failed(json["error"].as_str().unwrap_or_default().to_owned()))
        }
        _ => Err(CliError::Failed(format!("the node answered {status}: {}", text.trim()))),
    }
}
