//! OpenTelemetry's own SDKs export metrics to one node; the others answer what they say, also after the first was
//! killed.

use std::collections::BTreeMap;

use chaos::client::Client;
use chaos::ledger::now_ms;
use tests::{Cluster, eventually, peers};

/// Labels without the signs of JSON.
fn plain(labels: &str) -> String {
    let labels: BTreeMap<String, String> = serde_json::from_str(labels).expect("labels are JSON");
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(client: &Client, query: &str, expected: &[(&str, f64)]) {
    let found = eventually(query, || client.query(query, now_ms()));
    let mut found: Vec<(String, f64)> = found.iter().map(|(labels, value)| (plain(labels), *value)).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let found: Vec<(&str, f64)> = found.iter().map(|(labels, value)| (labels.as_str(), *value)).collect();
    assert_eq!(found, expected, "{query}");
}

/// What `metrics.py` says, as `service` said it.
fn check_python(client: &Client, service: &str) {
    let of = |metric: &str| {
        format!("sum by (__name__, http_route, ok, cpu, le) ({metric}{{job=\"eu/{service}\"}})")
    };
    check(
        client,
        &of("orders_placed_total"),
        &[
            ("__name__=orders_placed_total http_route=/buy ok=true", 3.0),
            ("__name__=orders_placed_total http_route=/cart ok=false", 4.0),
        ],
    );
    check(client, &of("queue_length"), &[("__name__=queue_length", -2.0)]);
    check(client, &of("cpu_utilization_ratio"), &[("__name__=cpu_utilization_ratio cpu=0", 0.25)]);
    check(
        client,
        &of("request_duration_seconds_bucket"),
        &[
            ("__name__=request_duration_seconds_bucket le=+Inf", 5.0),
            ("__name__=request_duration_seconds_bucket le=0.1", 1.0),
            ("__name__=request_duration_seconds_bucket le=0.5", 3.0),
            ("__name__=request_duration_seconds_bucket le=1", 4.0),
        ],
    );
    check(client, &of("request_duration_seconds_count"), &[("__name__=request_duration_seconds_count", 5.0)]);
    let whole = format!("{{job=\"eu/{service}\",instance=\"i-1\"}}");
    check(client, &format!("sum(histogram_count(payload_size_bytes{whole}))"), &[("", 4.0)]);
    check(client, &format!("sum(histogram_sum(payload_size_bytes{whole}))"), &[("", 1007.0)]);
    check(
        client,
        &format!("count(orders_placed_total{{job=\"eu/{service}\",k8s_pod_name=\"pod-1\"}})"),
        &[("", 2.0)],
    );
    check(
        client,
        &format!("count(target_info{{job=\"eu/{service}\",instance=\"i-1\",host_name=\"host-1\"}})"),
        &[("", 1.0)],
    );
}

#[test]
fn the_python_sdk_over_grpc_and_http() {
    let Some(probe) = peers::python("metrics.py") else { return };
    drop(probe);
    let mut cluster = Cluster::start(3, 4);
    let (http, grpc) = (cluster.nodes[0].url(), format!("127.0.0.1:{}", cluster.nodes[0].grpc));
    let exports = [
        ("grpc", grpc.clone(), "none", "grpc-plain"),
        ("grpc", grpc, "gzip", "grpc-gzip"),
        ("http", format!("{http}/v1/metrics"), "none", "http-plain"),
        ("http", format!("{http}/api/v1/otlp/v1/metrics"), "gzip", "http-gzip"),
    ];
    for (protocol, endpoint, compression, service) in &exports {
        let python = peers::python("metrics.py").expect("it was there");
        peers::run(python, &[protocol, endpoint, compression, service]);
        // No waiting: what was confirmed is seen by the next query, wherever it is asked.
        check_python(&cluster.nodes[1].client(), service);
    }
    cluster.kill(0);
    for (_, _, _, service) in &exports {
        check_python(&cluster.nodes[2].client(), service);
    }
}

#[test]
fn the_javascript_sdk_in_json() {
    let Some(node) = peers::node("metrics.js") else { return };
    let cluster = Cluster::start(3, 4);
    peers::run(node, &[&format!("{}/v1/metrics", cluster.nodes[0].url()), "web"]);
    let client = cluster.nodes[1].client();
    check(
        &client,
        "sum by (page, ok, service_version) (page_views_total{job=\"web\"})",
        &[("ok=true page=größe service_version=2.0", 1.0), ("page=home service_version=2.0", 2.0)],
    );
    check(
        &client,
        "sum by (le) (page_load_milliseconds_bucket)",
        &[("le=+Inf", 3.0), ("le=10", 2.0), ("le=5", 1.0)],
    );
    check(&client, "sum(page_load_milliseconds_sum)", &[("", 78.0)]);
}
