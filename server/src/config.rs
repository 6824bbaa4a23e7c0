//! Settings: one tree, read once, checked, and handed down in sections.
//!
//! Defaults, then a YAML or TOML file, then `PHAROS_*` variables, then flags; later ones win, key by key. A key that
//! does not exist is an error wherever it comes from, with the nearest existing one named, so that a typing mistake
//! never runs as a default; only variables that name no section (`PHAROS_PORT` of a Kubernetes service) are ignored, with
//! a warning. Nobody else in the workspace reads the environment. `docs/config.md` is made from
//! [`keys::KEYS`] and the defaults below; a test compares it.

pub mod docs;
pub mod keys;
pub mod load;
pub mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use cluster::node::invite::JoinToken;
use protocol::epoch;
use protocol::ids::TenantId;
use protocol::otlp::metrics::{Promoted, Translation};
use protocol::otlp::naming::Strategy;
use protocol::retention::{Ages, Rollups};
use query::Features;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use load::{ConfigError, Sources};
use units::{ByteSize, Listen, MemoryBudget, Own, Patience, Retention, RollupRetention, Span};

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub node: NodeSection,
    pub http: HttpSection,
    pub peer: PeerSection,
    pub cluster: ClusterSection,
    pub storage: StorageSection,
    pub ingest: IngestSection,
    pub otlp: OtlpSection,
    pub syslog: SyslogSection,
    pub postgres: PostgresSection,
    pub query: QuerySection,
    pub telemetry: TelemetrySection,
    pub tenants: BTreeMap<String, TenantSection>,
}

/// What is different for one tenant, by its name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSection {
    pub features: Vec<String>,
    pub retention: Own<Retention>,
    pub log_retention: Own<Retention>,
    pub span_retention: Own<Retention>,
    pub rollup_retention: Own<RollupRetention>,
}

/// This node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    pub data_dir: PathBuf,
    pub memory_budget: MemoryBudget,
    pub insecure: bool,
    pub features: Vec<String>,
    pub shutdown_timeout: Span,
}

impl Default for NodeSection {
    fn default() -> Self {
        Self {
            data_dir: "pharos-data".into(),
            memory_budget: MemoryBudget::Auto,
            insecure: false,
            features: Vec::new(),
            shutdown_timeout: Span::secs(15),
        }
    }
}

/// The listener for clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSection {
    pub addr: SocketAddr,
    pub advertise: String,
    pub header_timeout: Span,
    pub body_timeout: Span,
    pub write_timeout: Span,
    pub max_connections: u32,
    pub max_concurrent_requests: u32,
    pub max_form_body: ByteSize,
    pub cors_origin: String,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([0, 0, 0, 0], 9600)),
            advertise: String::new(),
            header_timeout: Span::secs(30),
            body_timeout: Span::secs(30),
            write_timeout: Span::secs(30),
            max_connections: 4096,
            max_concurrent_requests: 512,
            max_form_body: ByteSize::mib(4),
            cors_origin: ".*".to_owned(),
        }
    }
}

/// The listener for the other nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSection {
    pub addr: SocketAddr,
    pub advertise: String,
    pub tls_cert: String,
    pub tls_key: String,
    pub tls_ca: String,
    pub keep_alive: Span,
    pub dead_after: Span,
    pub max_in_flight: ByteSize,
}

impl Default for PeerSection {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 9620)),
            advertise: String::new(),
            tls_cert: String::new(),
            tls_key: String::new(),
            tls_ca: String::new(),
            keep_alive: Span::secs(1),
            dead_after: Span::secs(3),
            max_in_flight: ByteSize::mib(64),
        }
    }
}

/// The cluster, as this node founds or joins it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSection {
    pub join: Vec<String>,
    pub join_token: String,
    pub shards: u16,
    pub replication_factor: u8,
    pub rebuild_after: Patience,
    pub newest_epoch: u16,
}

impl Default for ClusterSection {
    fn default() -> Self {
        Self {
            join: Vec::new(),
            join_token: String::new(),
            shards: 16,
            replication_factor: 3,
            rebuild_after: Patience::For(Span::secs(300)),
            newest_epoch: epoch::NEWEST,
        }
    }
}

/// What is kept, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSection {
    pub retention: Retention,
    pub log_retention: Retention,
    pub span_retention: Retention,
    pub rollup_retention: RollupRetention,
    pub max_data: ByteSize,
    pub max_disk_share: f64,
    pub min_free: ByteSize,
    pub max_unflushed_log: ByteSize,
    pub memtable_size: ByteSize,
    pub flush_interval: Span,
}

impl Default for StorageSection {
    fn default() -> Self {
        Self {
            retention: Retention::For(Span::secs(30 * 86_400)),
            log_retention: Retention::For(Span::secs(14 * 86_400)),
            span_retention: Retention::For(Span::secs(14 * 86_400)),
            rollup_retention: RollupRetention::None,
            max_data: ByteSize(0),
            max_disk_share: 1.0,
            min_free: ByteSize(2 << 30),
            max_unflushed_log: ByteSize::mib(384),
            memtable_size: ByteSize::mib(6),
            flush_interval: Span::secs(300),
        }
    }
}

/// What is accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngestSection {
    pub max_body: ByteSize,
    pub max_future: Span,
    pub max_labels: u32,
    pub max_label_name: ByteSize,
    pub max_label_value: ByteSize,
    pub deadline: Span,
    pub max_in_flight: ByteSize,
}

impl Default for IngestSection {
    fn default() -> Self {
        Self {
            max_body: ByteSize(32_000_000),
            max_future: Span::secs(600),
            max_labels: 128,
            max_label_name: ByteSize(1 << 10),
            max_label_value: ByteSize(16 << 10),
            deadline: Span::secs(5),
            max_in_flight: ByteSize::mib(256),
        }
    }
}

/// What becomes of metrics that say by how much something grew instead of how much it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deltas {
    /// They are refused, by name.
    Reject,
    /// They are samples like others.
    Store,
}

/// OTLP: where it is listened for besides `http.addr`, and how metrics become series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtlpSection {
    pub grpc_addr: Listen,
    pub http_addr: Listen,
    pub max_body: ByteSize,
    pub translation_strategy: Strategy,
    pub promote_resource_attributes: Vec<String>,
    pub promote_all_resource_attributes: bool,
    pub ignore_resource_attributes: Vec<String>,
    pub keep_identifying_resource_attributes: bool,
    pub promote_scope_metadata: bool,
    pub convert_histograms_to_nhcb: bool,
    pub label_name_underscore_sanitization: bool,
    pub label_name_preserve_multiple_underscores: bool,
    pub deltas: Deltas,
}

/// What Prometheus' guide to OpenTelemetry promotes.
const PROMOTED: [&str; 19] = [
    "service.instance.id",
    "service.name",
    "service.namespace",
    "service.version",
    "cloud.availability_zone",
    "cloud.region",
    "container.name",
    "deployment.environment",
    "deployment.environment.name",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.daemonset.name",
    "k8s.deployment.name",
    "k8s.job.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.replicaset.name",
    "k8s.statefulset.name",
];

impl Default for OtlpSection {
    fn default() -> Self {
        Self {
            grpc_addr: Listen::Auto,
            http_addr: Listen::Auto,
            max_body: ByteSize::mib(64),
            translation_strategy: Strategy::default(),
            promote_resource_attributes: PROMOTED.map(str::to_owned).into(),
            promote_all_resource_attributes: false,
            ignore_resource_attributes: Vec::new(),
            keep_identifying_resource_attributes: false,
            promote_scope_metadata: false,
            convert_histograms_to_nhcb: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
            deltas: Deltas::Reject,
        }
    }
}

impl OtlpSection {
    /// The settings as the decoder takes them.
    pub fn translation(&self) -> Translation {
        let set = |names: &[String]| names.iter().cloned().collect();
        Translation {
            strategy: self.translation_strategy,
            underscore_sanitization: self.label_name_underscore_sanitization,
            preserve_multiple_underscores: self.label_name_preserve_multiple_underscores,
            promoted: match self.promote_all_resource_attributes {
                true => Promoted::AllBut(set(&self.ignore_resource_attributes)),
                false => Promoted::These(set(&self.promote_resource_attributes)),
            },
            keep_identifying_attributes: self.keep_identifying_resource_attributes,
            promote_scope: self.promote_scope_metadata,
            custom_buckets: self.convert_histograms_to_nhcb,
            store_deltas: self.deltas == Deltas::Store,
        }
    }
}

/// Syslog: where it is listened for, and whose messages those are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogSection {
    pub tcp_addr: Listen,
    pub udp_addr: Listen,
    pub tenant: String,
    pub max_connections: u32,
    pub max_queue: ByteSize,
}

impl Default for SyslogSection {
    fn default() -> Self {
        Self {
            tcp_addr: Listen::Off,
            udp_addr: Listen::Off,
            tenant: "default".to_owned(),
            max_connections: 1024,
            max_queue: ByteSize::mib(16),
        }
    }
}

/// The listener for PostgreSQL's clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSection {
    pub addr: Listen,
    pub tls_cert: String,
    pub tls_key: String,
    pub max_connections: u32,
    pub idle_timeout: Span,
}

impl Default for PostgresSection {
    fn default() -> Self {
        Self {
            addr: Listen::Auto,
            tls_cert: String::new(),
            tls_key: String::new(),
            max_connections: 100,
            idle_timeout: Span::secs(3600),
        }
    }
}

/// What a query may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuerySection {
    pub timeout: Span,
    pub lookback: Span,
    pub max_samples: u64,
    pub max_points_per_series: u32,
    pub max_memory: ByteSize,
    pub result_cache: ByteSize,
    pub max_rows: u64,
    pub max_spill: ByteSize,
    pub max_concurrent: u32,
    pub queue_timeout: Span,
    pub log_slower_than: Span,
    pub quarantine: Span,
}

impl Default for QuerySection {
    fn default() -> Self {
        Self {
            timeout: Span::secs(120),
            lookback: Span::secs(300),
            max_samples: 50_000_000,
            max_points_per_series: 11_000,
            max_memory: ByteSize::mib(512),
            result_cache: ByteSize::mib(64),
            max_rows: 50_000_000,
            max_spill: ByteSize(4 << 30),
            max_concurrent: 20,
            queue_timeout: Span::secs(10),
            log_slower_than: Span::secs(10),
            quarantine: Span::secs(3600),
        }
    }
}

/// Form of the log on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// An object a line.
    Json,
}

/// What the node tells about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySection {
    pub log_level: String,
    pub log_format: LogFormat,
    pub self_monitoring: bool,
    pub self_monitoring_interval: Span,
    pub self_monitoring_tenant: String,
    pub traces_per_second: u32,
}

impl Default for TelemetrySection {
    fn default() -> Self {
        Self {
            log_level: "info".to_owned(),
            log_format: LogFormat::Text,
            self_monitoring: true,
            self_monitoring_interval: Span::secs(10),
            self_monitoring_tenant: "_system".to_owned(),
            traces_per_second: 1,
        }
    }
}

/// A node that restarts is silent, too.
const MIN_REBUILD_AFTER: Span = Span::secs(3);

/// With less, what a process needs at rest would count as pressure.
const MIN_MEMORY_BUDGET: ByteSize = ByteSize::mib(128);

/// Positions in a request are kept in 31 bits, with room to spare.
const MAX_OTLP_BODY: ByteSize = ByteSize::mib(256);

impl Config {
    /// Refuses values that can not work, naming the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |key: &str, reason: String| Err(ConfigError::Invalid { key: key.to_owned(), reason });
        if self.node.data_dir.as_os_str().is_empty() {
            return invalid("node.data_dir", "must name a directory".into());
        }
        if let Err(unknown) = Features::from_names(self.node.features.iter().map(String::as_str)) {
            return invalid("node.features", unknown.to_string());
        }
        for (name, tenant) in &self.tenants {
            if let Err(error) = TenantId::new(name) {
                return invalid("tenants", error.to_string());
            }
            if let Err(unknown) = Features::from_names(tenant.features.iter().map(String::as_str)) {
                return invalid(&format!("tenants.{name}.features"), unknown.to_string());
            }
            let own = [
                ("retention", tenant.retention),
                ("log_retention", tenant.log_retention),
                ("span_retention", tenant.span_retention),
            ];
            if let Some((key, _)) = own.iter().find(|(_, own)| own.or(Retention::Unlimited).is_too_short()) {
                return invalid(&format!("tenants.{name}.{key}"), "must be at least 1h".into());
            }
        }
        if let Err(error) = crate::api::cors::Cors::new(&self.http.cors_origin) {
            return invalid("http.cors_origin", error.to_string());
        }
        if matches!(self.node.memory_budget, MemoryBudget::Size(size) if size < MIN_MEMORY_BUDGET) {
            return invalid("node.memory_budget", format!("must be at least {MIN_MEMORY_BUDGET}"));
        }
        if !(1..=512).contains(&self.cluster.shards) {
            return invalid("cluster.shards", format!("{} is outside 1 to 512", self.cluster.shards));
        }
        if !matches!(self.cluster.replication_factor, 1 | 3 | 5) {
            return invalid(
                "cluster.replication_factor",
                "must be 1, 3 or 5: an even number survives no more".into(),
            );
        }
        if self.cluster.rebuild_after.limit().is_some_and(|after| after < MIN_REBUILD_AFTER.0) {
            let reason = format!("must be at least {MIN_REBUILD_AFTER}, or `never`");
            return invalid("cluster.rebuild_after", reason);
        }
        if !(epoch::OLDEST..=epoch::NEWEST).contains(&self.cluster.newest_epoch) {
            let reason = format!("this build knows epochs {} to {}", epoch::OLDEST, epoch::NEWEST);
            return invalid("cluster.newest_epoch", reason);
        }
        for (key, addr) in
            [("http.advertise", &self.http.advertise), ("peer.advertise", &self.peer.advertise)]
        {
            if !addr.is_empty() && !is_host_port(addr) {
                return invalid(key, format!("{addr:?} is not host:port"));
            }
        }
        if let Some(addr) = self.cluster.join.iter().find(|addr| !is_host_port(addr)) {
            return invalid("cluster.join", format!("{addr:?} is not host:port"));
        }
        match self.cluster.join_token.as_str() {
            "" => {}
            token => match token.parse::<JoinToken>() {
                Err(reason) => return invalid("cluster.join_token", reason),
                Ok(token) => {
                    if let Some(addr) = token.addrs.iter().find(|addr| !is_host_port(addr)) {
                        return invalid("cluster.join_token", format!("{addr:?} is not host:port"));
                    }
                }
            },
        }
        let tls = [&self.peer.tls_cert, &self.peer.tls_key, &self.peer.tls_ca];
        if tls.iter().any(|path| !path.is_empty()) && tls.iter().any(|path| path.is_empty()) {
            return invalid(
                "peer.tls_cert",
                "tls_cert, tls_key and tls_ca are set together or not at all".into(),
            );
        }
        if self.postgres.tls_cert.is_empty() != self.postgres.tls_key.is_empty() {
            return invalid(
                "postgres.tls_cert",
                "tls_cert and tls_key are set together or not at all".into(),
            );
        }
        if self.peer.dead_after.0 < self.peer.keep_alive.0 * 2 || self.peer.keep_alive.0.is_zero() {
            return invalid(
                "peer.dead_after",
                "must be at least twice peer.keep_alive, which must not be 0".into(),
            );
        }
        if !self.node.insecure && !self.has_peer_tls() {
            let advertised = self.peer_advertise();
            if !self.peer.addr.ip().is_loopback() || !is_loopback(&advertised) {
                return Err(ConfigError::InsecurePeers { addr: advertised });
            }
        }
        if let Err(reason) = crate::telemetry::log_filter(&self.telemetry.log_level) {
            return invalid("telemetry.log_level", reason);
        }
        let otlp = &self.otlp;
        if !otlp.ignore_resource_attributes.is_empty() && !otlp.promote_all_resource_attributes {
            return invalid(
                "otlp.ignore_resource_attributes",
                "means something only with otlp.promote_all_resource_attributes".into(),
            );
        }
        if otlp.max_body > MAX_OTLP_BODY {
            return invalid("otlp.max_body", format!("must be at most {MAX_OTLP_BODY}"));
        }
        let positive: [(&str, u128); 28] = [
            ("postgres.max_connections", self.postgres.max_connections.into()),
            ("postgres.idle_timeout", self.postgres.idle_timeout.0.as_millis()),
            ("otlp.max_body", self.otlp.max_body.0.into()),
            ("syslog.max_connections", self.syslog.max_connections.into()),
            ("syslog.max_queue", self.syslog.max_queue.0.into()),
            ("http.write_timeout", self.http.write_timeout.0.as_millis()),
            ("http.max_form_body", self.http.max_form_body.0.into()),
            ("peer.max_in_flight", self.peer.max_in_flight.0.into()),
            ("storage.max_unflushed_log", self.storage.max_unflushed_log.0.into()),
            ("storage.memtable_size", self.storage.memtable_size.0.into()),
            ("storage.flush_interval", self.storage.flush_interval.0.as_millis()),
            ("ingest.max_labels", self.ingest.max_labels.into()),
            ("ingest.max_label_name", self.ingest.max_label_name.0.into()),
            ("ingest.max_label_value", self.ingest.max_label_value.0.into()),
            ("ingest.deadline", self.ingest.deadline.0.as_millis()),
            ("ingest.max_in_flight", self.ingest.max_in_flight.0.into()),
            ("query.max_samples", self.query.max_samples.into()),
            ("query.max_memory", self.query.max_memory.0.into()),
            ("query.max_rows", self.query.max_rows.into()),
            ("http.header_timeout", self.http.header_timeout.0.as_millis()),
            ("http.body_timeout", self.http.body_timeout.0.as_millis()),
            ("http.max_connections", self.http.max_connections.into()),
            ("http.max_concurrent_requests", self.http.max_concurrent_requests.into()),
            ("ingest.max_body", self.ingest.max_body.0.into()),
            ("query.timeout", self.query.timeout.0.as_millis()),
            ("query.max_concurrent", self.query.max_concurrent.into()),
            ("query.max_points_per_series", self.query.max_points_per_series.into()),
            ("telemetry.self_monitoring_interval", self.telemetry.self_monitoring_interval.0.as_millis()),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return invalid(key, "must not be 0".into());
        }
        let general = [
            ("storage.retention", self.storage.retention),
            ("storage.log_retention", self.storage.log_retention),
            ("storage.span_retention", self.storage.span_retention),
        ];
        if let Some((key, _)) = general.iter().find(|(_, retention)| retention.is_too_short()) {
            return invalid(key, "must be at least 1h".into());
        }
        if let (Some(samples), RollupRetention::Kept(Retention::For(rollups))) =
            (self.storage.retention.as_ms(), self.storage.rollup_retention)
            && rollups.as_ms() <= samples
        {
            return invalid("storage.rollup_retention", "must be longer than storage.retention".into());
        }
        if !(self.storage.max_disk_share > 0.0 && self.storage.max_disk_share <= 1.0) {
            return invalid("storage.max_disk_share", "must be above 0 and at most 1".into());
        }
        if let Err(error) = TenantId::new(&self.telemetry.self_monitoring_tenant) {
            return invalid("telemetry.self_monitoring_tenant", error.to_string());
        }
        if let Err(error) = TenantId::new(&self.syslog.tenant) {
            return invalid("syslog.tenant", error.to_string());
        }
        Ok(())
    }

    /// Every setting as text, under its path, in the order of paths.
    pub fn flat(&self) -> Vec<(String, String)> {
        fn walk(prefix: &str, value: &Value, out: &mut Vec<(String, String)>) {
            match value {
                Value::Object(map) => {
                    for (name, value) in map {
                        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                        walk(&path, value, out);
                    }
                }
                Value::String(text) => out.push((prefix.to_owned(), text.clone())),
                other => out.push((prefix.to_owned(), other.to_string())),
            }
        }
        let mut out = Vec::new();
        walk("", &serde_json::to_value(self).unwrap_or_default(), &mut out);
        out.sort();
        out
    }

    /// How long data is kept.
    pub fn retention(&self) -> protocol::retention::Retention {
        let StorageSection { retention, log_retention, span_retention, rollup_retention, .. } = self.storage;
        let ages = |own: &TenantSection| Ages {
            metrics: own.retention.or(retention).as_ms(),
            logs: own.log_retention.or(log_retention).as_ms(),
            spans: own.span_retention.or(span_retention).as_ms(),
            rollups: match own.rollup_retention.or(rollup_retention) {
                RollupRetention::None => Rollups::None,
                RollupRetention::Kept(retention) => Rollups::Until(retention.as_ms()),
            },
        };
        let mut all = protocol::retention::Retention::of_all(ages(&TenantSection::default()));
        for (name, section) in &self.tenants {
            // The names were checked when the settings were.
            let own = (ages(section) != all.general).then(|| TenantId::new(name).ok()).flatten();
            all.own.extend(own.map(|tenant| (tenant, ages(section))));
        }
        all
    }

    /// What is switched on for a tenant: the node's features and its own.
    pub fn features_of(&self, tenant: &str) -> Features {
        let own = self.tenants.get(tenant).map_or(&[][..], |tenant| tenant.features.as_slice());
        let names = self.node.features.iter().chain(own).map(String::as_str);
        // The names were checked when the settings were.
        Features::from_names(names).unwrap_or_default()
    }

    /// Whether peers authenticate each other.
    pub fn has_peer_tls(&self) -> bool {
        !self.peer.tls_cert.is_empty()
    }

    /// The address under which the other nodes reach this one.
    pub fn peer_advertise(&self) -> String {
        advertised(&self.peer.advertise, self.peer.addr)
    }

    /// The address under which clients reach this node; the `instance` label of its own metrics.
    pub fn http_advertise(&self) -> String {
        advertised(&self.http.advertise, self.http.addr)
    }
}

fn advertised(explicit: &str, listen: SocketAddr) -> String {
    if !explicit.is_empty() {
        return explicit.to_owned();
    }
    if listen.ip().is_unspecified() { format!("127.0.0.1:{}", listen.port()) } else { listen.to_string() }
}

fn is_host_port(addr: &str) -> bool {
    let is_host = |host: &str| !host.is_empty() && !host.contains([',', '/', ' ', '\t']);
    addr.rsplit_once(':')
        .is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|p| p != 0))
}

/// Whether an address certainly stays on this machine.
fn is_loopback(addr: &str) -> bool {
    match addr.parse::<SocketAddr>() {
        Ok(addr) => addr.ip().is_loopback(),
        Err(_) => addr.rsplit_once(':').is_some_and(|(host, _)| host == "localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Config), offence: &str) {
        let mut config = Config::default();
        change(&mut config);
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(offence), "{message}");
    }

    #[test]
    fn defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn what_can_not_work_is_refused() {
        refused(
            |c| c.node.memory_budget = MemoryBudget::Size(ByteSize::mib(100)),
            "node.memory_budget: must be at least 128MiB",
        );
        refused(|c| c.cluster.shards = 0, "cluster.shards");
        refused(|c| c.cluster.replication_factor = 2, "replication_factor");
        refused(
            |c| c.cluster.newest_epoch = epoch::NEWEST + 1,
            "cluster.newest_epoch: this build knows epochs 1 to",
        );
        refused(|c| c.cluster.join_token = "a:1".into(), "cluster.join_token: a join token");
        let secret = "0".repeat(32);
        refused(
            move |c| c.cluster.join_token = format!("{secret}@a"),
            "cluster.join_token: \"a\" is not host:port",
        );
        refused(
            |c| c.cluster.rebuild_after = Patience::For(Span::secs(2)),
            "cluster.rebuild_after: must be at least 3s",
        );
        refused(|c| c.cluster.join = vec!["node-b".into()], "cluster.join");
        refused(|c| c.peer.tls_cert = "a.pem".into(), "peer.tls_cert");
        refused(|c| c.postgres.tls_key = "a.key".into(), "postgres.tls_cert");
        refused(|c| c.peer.dead_after = Span::millis(100), "peer.dead_after");
        refused(|c| c.node.features = vec!["warp".into()], "warp");
        let warp = TenantSection { features: vec!["warp".into()], ..TenantSection::default() };
        refused(|c| drop(c.tenants.insert("team-a".into(), warp)), "tenants.team-a.features");
        refused(|c| drop(c.tenants.insert("a/b".into(), TenantSection::default())), "tenants");
        let own = Own::Set(Retention::For(Span::secs(5)));
        let brief = TenantSection { log_retention: own, ..TenantSection::default() };
        refused(|c| drop(c.tenants.insert("team-a".into(), brief.clone())), "tenants.team-a.log_retention");
        refused(|c| c.query.timeout = Span::secs(0), "query.timeout");
        refused(|c| c.http.cors_origin = "(".into(), "http.cors_origin");
        refused(|c| c.storage.retention = Retention::For(Span::secs(5)), "storage.retention");
        for share in [0.0, 1.5, -0.1, f64::NAN] {
            refused(|c| c.storage.max_disk_share = share, "storage.max_disk_share");
        }
        refused(|c| c.storage.log_retention = Retention::For(Span::secs(5)), "storage.log_retention");
        let week = RollupRetention::Kept(Retention::For(Span::secs(7 * 86_400)));
        refused(|c| c.storage.rollup_retention = week, "storage.rollup_retention");
        refused(|c| c.storage.span_retention = Retention::For(Span::secs(5)), "storage.span_retention");
        refused(|c| c.telemetry.self_monitoring_tenant = "a/b".into(), "self_monitoring_tenant");
        refused(|c| c.cluster.join = vec!["a:1,b:2".into()], "cluster.join");
        refused(|c| c.otlp.max_body = ByteSize::mib(257), "otlp.max_body: must be at most 256MiB");
        refused(|c| c.otlp.ignore_resource_attributes = vec!["a".into()], "otlp.ignore_resource_attributes");
        refused(|c| c.telemetry.log_level = "info,cluster=loud".into(), "telemetry.log_level");
        refused(|c| c.syslog.tenant = "a/b".into(), "syslog.tenant");
        refused(|c| c.syslog.max_queue = ByteSize(0), "syslog.max_queue");
        refused(|c| c.query.max_samples = 0, "query.max_samples");
        refused(|c| c.query.max_memory = ByteSize(0), "query.max_memory");
        refused(|c| c.ingest.max_in_flight = ByteSize(0), "ingest.max_in_flight");
        refused(|c| c.ingest.deadline = Span::secs(0), "ingest.deadline");
        refused(|c| c.storage.memtable_size = ByteSize(0), "storage.memtable_size");
        refused(|c| c.peer.max_in_flight = ByteSize(0), "peer.max_in_flight");
    }

    #[test]
    fn a_tenant_keeps_its_data_as_everybody_or_as_it_is_set() {
        let mut config = Config::default();
        config.tenants.insert("plain".into(), TenantSection::default());
        let logs = Own::Set(Retention::For(Span::secs(7200)));
        let section = TenantSection {
            retention: Own::Set(Retention::Unlimited),
            log_retention: logs,
            rollup_retention: Own::Set(RollupRetention::Kept(Retention::Unlimited)),
            ..TenantSection::default()
        };
        config.tenants.insert("team-a".into(), section);
        let retention = config.retention();
        let (month, fortnight) = (30 * 86_400_000, 14 * 86_400_000);
        let general = Ages {
            metrics: Some(month),
            logs: Some(fortnight),
            spans: Some(fortnight),
            rollups: Rollups::None,
        };
        assert_eq!((retention.general, retention.own.len()), (general, 1));
        let own = Ages {
            metrics: None,
            logs: Some(7_200_000),
            spans: Some(fortnight),
            rollups: Rollups::Until(None),
        };
        assert_eq!((*retention.of("team-a"), *retention.of("plain")), (own, general));
    }

    #[test]
    fn a_tenant_has_the_features_of_the_node_and_its_own() {
        let mut config = Config::default();
        config.node.features = vec!["type-and-unit-labels".into()];
        let features = vec!["promql-delayed-name-removal".into()];
        let own = TenantSection { features, ..TenantSection::default() };
        config.tenants.insert("team-a".into(), own);
        let (a, b) = (config.features_of("team-a"), config.features_of("team-b"));
        assert!(a.delayed_name_removal && a.type_and_unit_labels);
        assert!(!b.delayed_name_removal && b.type_and_unit_labels);
    }

    #[test]
    fn peers_off_loopback_need_tls_or_insecure() {
        refused(|c| c.peer.addr = "0.0.0.0:9620".parse().unwrap(), "--insecure");
        refused(|c| c.peer.advertise = "10.0.0.1:9620".into(), "--insecure");
        let mut config = Config::default();
        config.peer.addr = "0.0.0.0:9620".parse().unwrap();
        config.node.insecure = true;
        config.validate().unwrap();
        config.node.insecure = false;
        for path in [&mut config.peer.tls_cert, &mut config.peer.tls_key, &mut config.peer.tls_ca] {
            *path = "x.pem".into();
        }
        config.validate().unwrap();
    }

    #[test]
    fn advertised_addresses() {
        let mut config = Config::default();
        assert_eq!(config.http_advertise(), "127.0.0.1:9600");
        assert_eq!(config.peer_advertise(), "127.0.0.1:9620");
        config.http.advertise = "pharos-a:80".into();
        assert_eq!(config.http_advertise(), "pharos-a:80");
    }
}
