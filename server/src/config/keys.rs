//! What each key means: the text behind `docs/config.md`. A test demands a row for every key and a key for every row.

/// A key and its meaning.
pub struct Key {
    /// Path in the tree, dots between.
    pub path: &'static str,
    /// One or two sentences.
    pub doc: &'static str,
}

const fn key(path: &'static str, doc: &'static str) -> Key {
    Key { path, doc }
}

/// All keys, in the order of the tree.
pub const KEYS: &[Key] = &[
    key("node.data_dir", "Directory of this node: identity, log, shards. One process at a time uses it."),
    key(
        "node.memory_budget",
        "Memory of this node, or `auto`: half of what the machine or the control group has. Memtables, caches, writes and \
         queries share it. Towards its end memtables are flushed, queries that want more fail, then writes are answered \
         429 or 503. Mapped segments do not count.",
    ),
    key(
        "node.insecure",
        "Allows peers to talk in plain text off the loopback interface. Only for closed networks.",
    ),
    key("node.features", "Names of unsettled features to switch on (`--enable-feature`)."),
    key("node.shutdown_timeout", "How long a stop may take to hand leaderships over and finish requests."),
    key("http.addr", "Address for clients: the HTTP API."),
    key(
        "http.advertise",
        "`host:port` under which clients reach this node; the `instance` label of its own metrics. \
         Empty: the listen address, with 127.0.0.1 for a wildcard.",
    ),
    key(
        "http.header_timeout",
        "A client that has not sent its (next) request's head within this time is dropped: also how long an idle connection is kept.",
    ),
    key("http.body_timeout", "A request whose body has not arrived within this time is answered 408."),
    key("http.write_timeout", "A client that takes nothing of its answer for this long is dropped."),
    key("http.max_connections", "Open client connections; more wait in the kernel's queue."),
    key(
        "http.max_concurrent_requests",
        "Requests in work at once; more are answered 503 with `Retry-After`.",
    ),
    key("http.max_form_body", "Largest form body of a query, and of a remote read."),
    key(
        "http.cors_origin",
        "Regular expression of the origins whose pages may read the query API in a browser; anchored. \
         Administration and writes are never open to them.",
    ),
    key("peer.addr", "Address for the other nodes. Off loopback it needs TLS or `node.insecure`."),
    key(
        "peer.advertise",
        "`host:port` under which the other nodes reach this one. Empty: the listen address.",
    ),
    key("peer.tls_cert", "PEM file with this node's certificate chain. Peers authenticate each other by it."),
    key("peer.tls_key", "PEM file with this node's private key."),
    key("peer.tls_ca", "PEM file with the certificate authority of the cluster."),
    key("peer.keep_alive", "Interval of pings on a connection to a peer."),
    key(
        "peer.dead_after",
        "A connection on which nothing arrived for this long is dropped and dialled anew.",
    ),
    key(
        "peer.max_in_flight",
        "Bytes queued to one peer, and bytes of one peer's requests in work; more are refused.",
    ),
    key(
        "cluster.join",
        "Peer addresses of members to ask for admission (`--join`). Empty: found a new cluster.",
    ),
    key(
        "cluster.join_token",
        "A token of `pharos cluster token` to join by (`--join-token`): says where the members are and lets one node in.",
    ),
    key("cluster.shards", "Number of shards. Fixed when the cluster is founded; ignored when joining."),
    key("cluster.replication_factor", "Replicas of each shard, at most the number of nodes: 1, 3 or 5."),
    key(
        "cluster.rebuild_after",
        "For how long a node may be silent before other nodes are given what it holds, where there are some that do not \
         hold it yet; `never` to wait for the node or an operator.",
    ),
    key(
        "cluster.newest_epoch",
        "Formats of newer epochs are not known to this node, and so not used in the cluster. Set it to the epoch in use to be \
         able to go back to the build before while a new one is tried.",
    ),
    key("storage.retention", "How long metrics are kept, or `unlimited`. Partitions are dropped whole."),
    key("storage.log_retention", "How long logs are kept, or `unlimited`. Partitions are dropped whole."),
    key("storage.span_retention", "How long spans are kept, or `unlimited`. Partitions are dropped whole."),
    key(
        "storage.rollup_retention",
        "How old hourly roll-ups of metrics get, or `unlimited`. They take the place of samples that `storage.retention` lets \
         go. `none`: samples just go.",
    ),
    key(
        "storage.max_data",
        "What segments of this node may take: above, the oldest days of all signals go before their retention is over. 0: no limit.",
    ),
    key(
        "storage.max_disk_share",
        "The same as a share of what is free on the disk and what the node's files take. 1: all of it.",
    ),
    key(
        "storage.min_free",
        "With less free on the disk, and less than 5 % of it, this node takes no writes: flushes and merges need room.",
    ),
    key("storage.max_unflushed_log", "Unflushed log of this node; above it the largest shard flushes first."),
    key("storage.memtable_size", "A shard whose memtable has grown to this size flushes it."),
    key("storage.flush_interval", "A memtable older than this is flushed however small it is."),
    key("ingest.max_body", "Largest remote-write body after decompression."),
    key("ingest.max_future", "Samples further ahead of cluster time are refused."),
    key("ingest.max_labels", "Labels of a series."),
    key("ingest.max_label_name", "Length of a label's name."),
    key("ingest.max_label_value", "Length of a label's value."),
    key("ingest.deadline", "How long a write may wait for moved leaders before it is answered 503."),
    key(
        "ingest.max_in_flight",
        "Bytes of writes in work on this node; more are answered 503 with `Retry-After`.",
    ),
    key(
        "otlp.grpc_addr",
        "Address for OTLP over gRPC: `ip:port`, `off`, or `auto`: port 4317 beside `http.addr`, and nowhere if that is taken.",
    ),
    key(
        "otlp.http_addr",
        "A further address for OTLP over HTTP, which `http.addr` takes too: `ip:port`, `off`, or `auto`: port 4318 beside \
         `http.addr`, and nowhere if that is taken.",
    ),
    key("otlp.max_body", "Largest OTLP request after decompression; at most 256MiB."),
    key(
        "otlp.translation_strategy",
        "How names become those of Prometheus, as there: `UnderscoreEscapingWithSuffixes`, \
         `UnderscoreEscapingWithoutSuffixes`, `NoUTF8EscapingWithSuffixes` or `NoTranslation`.",
    ),
    key(
        "otlp.promote_resource_attributes",
        "Resource attributes that become labels of each series. The default is the list of Prometheus' guide.",
    ),
    key("otlp.promote_all_resource_attributes", "Makes all resource attributes labels of each series."),
    key("otlp.ignore_resource_attributes", "Those that `otlp.promote_all_resource_attributes` leaves out."),
    key(
        "otlp.keep_identifying_resource_attributes",
        "Whether `target_info` has `service.name`, `service.namespace` and `service.instance.id` beside `job` and `instance`.",
    ),
    key(
        "otlp.promote_scope_metadata",
        "Makes name, version, schema and attributes of the scope labels (`otel_scope_...`).",
    ),
    key(
        "otlp.convert_histograms_to_nhcb",
        "Stores histograms with explicit bounds as native histograms with custom buckets instead of classic series.",
    ),
    key(
        "otlp.label_name_underscore_sanitization",
        "Puts `key` in front of label names that begin with a single underscore.",
    ),
    key(
        "otlp.label_name_preserve_multiple_underscores",
        "Keeps runs of underscores in label names instead of making one of them.",
    ),
    key(
        "otlp.deltas",
        "What becomes of sums and histograms of delta temporality: `reject` refuses them by name, `store` keeps each as a \
         sample of its own (sum them up with `sum_over_time`; `rate` does not understand them).",
    ),
    key(
        "syslog.tcp_addr",
        "Address for syslog over TCP, octets counted or a message a line: `ip:port`, `off`, or `auto`: port 514 beside \
         `http.addr`, and nowhere if that can not be had. Senders are not authenticated.",
    ),
    key(
        "syslog.udp_addr",
        "Address for syslog over UDP: `ip:port`, `off`, or `auto`: port 514 beside `http.addr`, and nowhere if that can \
         not be had.",
    ),
    key("syslog.tenant", "Tenant of syslog messages."),
    key("syslog.max_connections", "Open connections of syslog senders; more are closed at once."),
    key(
        "syslog.max_queue",
        "Bytes of syslog messages that wait to be written; connections wait for room, datagrams are dropped and counted.",
    ),
    key(
        "postgres.addr",
        "Address for clients of PostgreSQL's protocol: `ip:port`, `off`, or `auto`: port 5432 beside `http.addr`, and nowhere \
         if that is taken.",
    ),
    key(
        "postgres.tls_cert",
        "PEM file with the certificate chain that clients of PostgreSQL's protocol are shown. With it, those that ask for TLS \
         get it.",
    ),
    key("postgres.tls_key", "PEM file with the private key that goes with it."),
    key("postgres.max_connections", "Connections at once; more are refused with a message."),
    key("postgres.idle_timeout", "A client that asks nothing for this long is disconnected."),
    key("query.timeout", "Longest a query may take; a request's `timeout` may only shorten it."),
    key("query.lookback", "How far an instant selector looks back for a sample."),
    key("query.max_samples", "Samples a query may read, and steps that a subquery of it may have."),
    key("query.max_points_per_series", "Steps of a range query."),
    key("query.max_memory", "Memory of one query on one node."),
    key(
        "query.result_cache",
        "Memory for results of range queries, of which the next one evaluates only what is new; 0B keeps none.",
    ),
    key("query.max_rows", "Rows that an SQL statement may answer."),
    key(
        "query.max_spill",
        "Bytes that an SQL statement may put on disk when its memory is used up; 0B for none.",
    ),
    key("query.max_concurrent", "Queries in work at once on this node; more wait."),
    key("query.queue_timeout", "How long a query may wait for its turn before it is answered 429."),
    key(
        "query.log_slower_than",
        "Queries that take at least so long are written to the log and listed by `status/slow_queries`; 0s logs none.",
    ),
    key(
        "query.quarantine",
        "How long a query is refused that was running at two crashes of this node in a row; 0s switches that off.",
    ),
    key("telemetry.log_level", "`error`, `warn`, `info`, `debug`, or a filter such as `info,cluster=debug`."),
    key("telemetry.log_format", "`text` or `json`."),
    key(
        "telemetry.self_monitoring",
        "Whether the node writes its own metrics, its log from level `info` on and traces of its requests into the cluster.",
    ),
    key("telemetry.self_monitoring_interval", "Interval of the samples."),
    key("telemetry.self_monitoring_tenant", "Tenant of all of them. `pharos dev` uses `default`."),
    key(
        "telemetry.traces_per_second",
        "Traces of each route that are kept in a second, and as many of slow and failed requests; 0 traces nothing. Requests \
         whose caller samples them are traced beyond that.",
    ),
];

/// Keys of a tenant's section, relative to it.
pub const TENANT_KEYS: &[Key] = &[
    key("features", "Names of unsettled features to switch on for this tenant, besides those of the node."),
    key(
        "retention",
        "How long this tenant's metrics are kept: shorter or longer than `storage.retention`, `unlimited`, or `default` for the \
         same. Takes effect on what is there already: a day that is over for some tenants is rewritten without them.",
    ),
    key("log_retention", "The same for its logs."),
    key("span_retention", "The same for its spans."),
    key("rollup_retention", "The same for roll-ups of its metrics: see `storage.rollup_retention`."),
];
