//! Metrics of the node: its groups, its log, its peers, its queues. Asked for when somebody gathers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster::node::Node;
use cluster::status::Role;
use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts};
use query::engine::ResultCache;

use super::metrics::{Metrics, registered};
use crate::ingest::Ingest;
use crate::peer::PeerStats;
use crate::runtime::TokioEnv;
use crate::wiring::Fragments;

/// Registers the metrics of a node.
pub fn register(
    metrics: &Metrics,
    node: &Arc<Node<TokioEnv>>,
    env: &TokioEnv,
    fragments: &Arc<Fragments>,
    ingest: &Arc<Ingest>,
) {
    groups(metrics, node);
    queues(metrics, env, fragments, ingest);
    peers(metrics, env.net_stats());
}

fn groups(metrics: &Metrics, node: &Arc<Node<TokioEnv>>) {
    let registry = metrics.registry();
    let by_shard =
        |name: &str, help: &str| registered(registry, IntGaugeVec::new(Opts::new(name, help), &["shard"]));
    let gauge = |name: &str, help: &str| registered(registry, IntGauge::new(name, help));
    let leader =
        by_shard("pharos_shard_leader", "1 where this node leads the shard. Shard 0 is the meta group.");
    let term = by_shard("pharos_shard_term", "Raft term.");
    let last_log = by_shard("pharos_shard_last_log_index", "Last entry in this replica's log.");
    let applied = by_shard("pharos_shard_applied_index", "Last entry that this replica has applied.");
    let lag = by_shard("pharos_shard_lag_entries", "Entries in this replica's log that are not applied.");
    let series = by_shard("pharos_shard_series", "Series in the registry.");
    let memtable = by_shard("pharos_shard_memtable_bytes", "Bytes of memtables.");
    let segments = by_shard("pharos_shard_segments", "Segments.");
    let segment_bytes = by_shard("pharos_shard_segment_bytes", "Bytes of segments.");
    let flushed = by_shard(
        "pharos_shard_flushed_bytes",
        "Bytes of segments that flushes have written since the shard began.",
    );
    let merged = by_shard(
        "pharos_shard_merged_bytes",
        "Bytes of segments that merges have written since the shard began: by those of flushes, the write amplification.",
    );
    let log_bytes = by_shard("pharos_shard_log_bytes", "Bytes of log entries that are still needed.");
    let all = [
        &leader,
        &term,
        &last_log,
        &applied,
        &lag,
        &series,
        &memtable,
        &segments,
        &segment_bytes,
        &flushed,
        &merged,
        &log_bytes,
    ]
    .map(Clone::clone);
    let ready = gauge("pharos_node_ready", "1 when this node's replicas have caught up.");
    let node_id = gauge("pharos_node_id", "Id of this node.");
    let log_disk = gauge("pharos_log_disk_bytes", "Bytes of the log's files.");
    let log_live = gauge("pharos_log_live_bytes", "Bytes of log entries that are still needed.");
    let clock = gauge("pharos_clock_offset_milliseconds", "Median of the members' clocks minus this node's.");
    let reachable = registered(
        registry,
        IntGaugeVec::new(
            Opts::new("pharos_peer_reachable", "1 while the node was heard of lately."),
            &["node"],
        ),
    );
    let node = Arc::downgrade(node);
    metrics.add_source(move || {
        let Some(node) = node.upgrade() else { return };
        let status = node.node_status();
        // A replica that moved away must not stay behind as a frozen line.
        for vector in &all {
            vector.reset();
        }
        for group in &status.groups {
            let shard = group.pulse.group.to_string();
            let set = |vector: &IntGaugeVec, value: u64| {
                vector.with_label_values(&[&shard]).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&leader, u64::from(group.pulse.role == Role::Leader));
            set(&term, group.pulse.term);
            set(&last_log, group.pulse.last_log);
            set(&applied, group.pulse.applied);
            set(&lag, group.pulse.last_log.saturating_sub(group.pulse.applied));
            if let Some(data) = &group.data {
                set(&series, data.series);
                set(&memtable, data.memtable_bytes);
                set(&segments, data.segments);
                set(&segment_bytes, data.segment_bytes);
                set(&flushed, data.flushed_bytes);
                set(&merged, data.merged_bytes);
                set(&log_bytes, data.log_bytes);
            }
        }
        ready.set(i64::from(status.ready));
        node_id.set(i64::try_from(status.id.0).unwrap_or(i64::MAX));
        log_disk.set(i64::try_from(status.log.disk_bytes).unwrap_or(i64::MAX));
        log_live.set(i64::try_from(status.log.live_bytes).unwrap_or(i64::MAX));
        clock.set(status.clock_offset_ms);
        reachable.reset();
        for peer in &status.peers {
            reachable.with_label_values(&[&peer.id.to_string()]).set(i64::from(peer.reachable));
        }
    });
}

fn queues(metrics: &Metrics, env: &TokioEnv, fragments: &Arc<Fragments>, ingest: &Arc<Ingest>) {
    let help = "Steps, fragments of queries (scan) and requests (ingest) that wait for a thread.";
    let length = registered(
        metrics.registry(),
        IntGaugeVec::new(Opts::new("pharos_step_queue_length", help), &["pool"]),
    );
    let running = registered(
        metrics.registry(),
        IntGauge::new(
            "pharos_query_fragments_running",
            "Fragments of queries that have begun on this node and not ended.",
        ),
    );
    let passes = registered(
        metrics.registry(),
        IntCounter::new(
            "pharos_query_passes_total",
            "How often a fragment of a query let those of another pass on this node.",
        ),
    );
    let pools = env.pools().clone();
    let (fragments, ingest) = (Arc::downgrade(fragments), Arc::downgrade(ingest));
    metrics.add_source(move || {
        let fragments = fragments.upgrade();
        if let Some(fragments) = &fragments {
            running.set(i64::try_from(fragments.begun()).unwrap_or(i64::MAX));
            passes.inc_by(fragments.passes().saturating_sub(passes.get()));
        }
        let scan = fragments.map_or(0, |fragments| fragments.waiting());
        let requests = ingest.upgrade().map_or(0, |ingest| ingest.waiting());
        for (pool, waiting) in pools.waiting().into_iter().chain([("scan", scan), ("ingest", requests)]) {
            length.with_label_values(&[pool]).set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
    });
}

/// Registers the metrics of the cache of results.
pub fn result_cache(metrics: &Metrics, cache: &ResultCache) {
    let counter = |name: &str, help: &str| registered(metrics.registry(), IntCounter::new(name, help));
    let gauge = |name: &str, help: &str| registered(metrics.registry(), IntGauge::new(name, help));
    let hits = counter("pharos_query_cache_hits_total", "Range queries that used kept steps.");
    let misses = counter(
        "pharos_query_cache_misses_total",
        "Range queries whose results can be kept, and of which none was kept that is still right.",
    );
    let steps = counter("pharos_query_cache_steps_total", "Steps of range queries that were not evaluated.");
    let results = gauge("pharos_query_cache_results", "Results of range queries that are kept.");
    let bytes = gauge("pharos_query_cache_bytes", "Bytes of results of range queries that are kept.");
    let cache = cache.clone();
    metrics.add_source(move || {
        let stats = cache.stats();
        for (counter, now) in [(&hits, stats.hits), (&misses, stats.misses), (&steps, stats.steps)] {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        results.set(i64::try_from(stats.results).unwrap_or(i64::MAX));
        bytes.set(i64::try_from(stats.bytes).unwrap_or(i64::MAX));
    });
}

fn peers(metrics: &Metrics, stats: Arc<PeerStats>) {
    type Read = fn(&PeerStats) -> &AtomicU64;
    let rows: [(&str, &str, Read); 7] = [
        ("pharos_peer_sent_frames_total", "Frames sent to peers.", |s| &s.sent_frames),
        ("pharos_peer_sent_bytes_total", "Bytes sent to peers.", |s| &s.sent_bytes),
        ("pharos_peer_received_bytes_total", "Bytes received from peers.", |s| &s.received_bytes),
        (
            "pharos_peer_writes_total",
            "Writes that carried the frames: fewer, as they travel together.",
            |s| &s.writes,
        ),
        ("pharos_peer_failed_dials_total", "Connections to peers that did not come about.", |s| {
            &s.failed_dials
        }),
        ("pharos_peer_dropped_connections_total", "Connections to peers that ended.", |s| {
            &s.dropped_connections
        }),
        ("pharos_peer_refused_requests_total", "Requests of peers refused for overload.", |s| &s.refused),
    ];
    for (name, help, read) in rows {
        let counter = registered(metrics.registry(), IntCounter::new(name, help));
        let stats = Arc::clone(&stats);
        metrics.add_source(move || {
            let now = read(&stats).load(Ordering::Relaxed);
            counter.inc_by(now.saturating_sub(counter.get()));
        });
    }
}
