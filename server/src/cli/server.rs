//! `pharos server`

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::CliError;
use crate::config::Sources;
use crate::service::{self, ServiceError, ServiceOptions};

const EXAMPLES: &str = "\
Examples:
  pharos server --data-dir /var/lib/pharos
      founds a cluster of one node: HTTP on 0.0.0.0:9600, peers on 127.0.0.1:9620
  pharos server --data-dir /var/lib/pharos --peer-addr 0.0.0.0:9620 --advertise pharos-b:9620 \\
      --peer-tls-cert b.pem --peer-tls-key b.key --peer-tls-ca ca.pem --join pharos-a:9620
      joins the cluster of pharos-a; --join is ignored once the node is a member
  pharos server --config pharos.yaml --set query.timeout=30s

Every setting has a flag here, or takes --set KEY=VALUE; docs/config.md lists them. SIGTERM and SIGINT stop the node in
an orderly way: leaderships are handed over, requests finished.";

/// Arguments of `pharos server`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServerArgs {
    /// Settings file, YAML or TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of this node [default: pharos-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address for clients [default: 0.0.0.0:9600]
    #[arg(long, value_name = "ADDR")]
    http_addr: Option<String>,
    /// Address for the other nodes [default: 127.0.0.1:9620]
    #[arg(long, value_name = "ADDR")]
    peer_addr: Option<String>,
    /// host:port under which the other nodes reach this one [default: --peer-addr]
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    /// Peer addresses of members to join through, with commas between them; may be repeated
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    join: Vec<String>,
    /// Token of `pharos cluster token` to join by; says where the members are
    #[arg(long, value_name = "TOKEN")]
    join_token: Option<String>,
    /// Number of shards of a new cluster [default: 16]
    #[arg(long, value_name = "N")]
    shards: Option<String>,
    /// Replicas of each shard of a new cluster [default: 3, or as many as there are nodes]
    #[arg(long, value_name = "N")]
    replication_factor: Option<String>,
    /// How long data is kept: 90d, 1y, unlimited [default: 30d for metrics, 14d for logs]
    #[arg(long, value_name = "TIME")]
    retention: Option<String>,
    /// Memory of this node: 2GiB, auto [default: auto, half of what the machine has]
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<String>,
    /// Switches an unsettled feature on; may be repeated
    #[arg(long, value_name = "NAME")]
    enable_feature: Vec<String>,
    /// Certificate chain of this node for its peers
    #[arg(long, value_name = "FILE")]
    peer_tls_cert: Option<String>,
    /// Private key of this node for its peers
    #[arg(long, value_name = "FILE")]
    peer_tls_key: Option<String>,
    /// Certificate authority of the cluster
    #[arg(long, value_name = "FILE")]
    peer_tls_ca: Option<String>,
    /// Lets peers talk in plain text off loopback: only where nobody else can reach the network
    #[arg(long)]
    insecure: bool,
    /// error, warn, info, debug, or a filter such as info,cluster=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any setting by its key; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Dials a node elsewhere: only on a data directory that `pharos chaos` made
    #[arg(long, value_name = "NODE=ADDR", hide = true)]
    dial_map: Vec<String>,
    /// Reads faults of disk and clock from a file: only on a data directory that `pharos chaos` made
    #[arg(long, value_name = "FILE", hide = true)]
    fault_file: Option<PathBuf>,
    /// Stops when standard input ends: how a supervisor's children outlive it by no more than a clean stop
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

impl ServerArgs {
    pub fn run(self) -> Result<(), CliError> {
        let mut flags: Vec<(String, Value)> = Vec::new();
        let single = [
            ("node.data_dir", self.data_dir),
            ("node.memory_budget", self.memory_budget),
            ("http.addr", self.http_addr),
            ("peer.addr", self.peer_addr),
            ("peer.advertise", self.advertise),
            ("cluster.join_token", self.join_token),
            ("cluster.shards", self.shards),
            ("cluster.replication_factor", self.replication_factor),
            ("storage.retention", self.retention.clone()),
            ("storage.log_retention", self.retention.clone()),
            ("storage.span_retention", self.retention),
            ("peer.tls_cert", self.peer_tls_cert),
            ("peer.tls_key", self.peer_tls_key),
            ("peer.tls_ca", self.peer_tls_ca),
            ("telemetry.log_level", self.log_level),
            ("telemetry.log_format", self.log_format),
        ];
        flags.extend(single.into_iter().filter_map(|(key, text)| Some((key.to_owned(), Value::from(text?)))));
        for (key, values) in [("cluster.join", self.join), ("node.features", self.enable_feature)] {
            if !values.is_empty() {
                flags.push((key.to_owned(), Value::from(values)));
            }
        }
        if self.insecure {
            flags.push(("node.insecure".to_owned(), Value::from(true)));
        }
        for pair in self.set {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| CliError::Usage(format!("--set {pair}: KEY=VALUE is expected")))?;
            flags.push((key.trim().to_owned(), Value::from(value)));
        }
        let dial_map = self.dial_map.iter().map(|pair| {
            let (node, addr) = pair
                .split_once('=')
                .ok_or_else(|| CliError::Usage(format!("--dial-map {pair}: NODE=ADDR is expected")))?;
            Ok((node.to_owned(), addr.to_owned()))
        });
        let dial_map = dial_map.collect::<Result<_, CliError>>()?;
        let sources = Sources { file: self.config, flags, ..Sources::default() }.with_process_environment();
        let ignored = sources.ignored_variables();
        let config = sources.load()?;
        let options = ServiceOptions {
            dial_map,
            fault_file: self.fault_file,
            stop_with_stdin: self.stop_with_stdin,
            ignored_variables: ignored,
        };
        service::run(config, options).map_err(|error| match error {
            ServiceError::Config(error) => CliError::Config(error),
            error => CliError::Failed(crate::error::chain(&error)),
        })
    }
}
