//! The table of routes: the router and the OpenAPI document are made from it.
//!
//! A row says method, path, permission, what the route is for and what it takes. Adding an endpoint is adding a row;
//! forgetting its permission or its description is not possible.

use std::sync::Arc;

use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Router, middleware};

use super::{
    App, admin, backup, cluster, dashboards, discovery, federate, health, live, logs, loki, prometheus,
    remote_read, search, self_metrics, sql, status, tail, write,
};
use crate::auth::{self, Permission};

mod traces;

/// Methods that a route answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// GET (and HEAD).
    Get,
    /// POST.
    Post,
    /// GET or POST, with the same parameters: in the query string, or in a form body.
    GetOrPost,
    /// POST or PUT.
    PostOrPut,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
}

/// A parameter of a route.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Name, as sent.
    pub name: &'static str,
    /// Whether the route refuses to work without it.
    pub required: bool,
    /// Whether it may come several times.
    pub repeated: bool,
    /// Whether it is part of the path.
    pub in_path: bool,
    /// What it means.
    pub doc: &'static str,
}

const fn need(name: &'static str, doc: &'static str) -> Param {
    Param { name, required: true, repeated: false, in_path: false, doc }
}

const fn may(name: &'static str, doc: &'static str) -> Param {
    Param { name, required: false, repeated: false, in_path: false, doc }
}

const fn many(name: &'static str, required: bool, doc: &'static str) -> Param {
    Param { name, required, repeated: true, in_path: false, doc }
}

const fn path(name: &'static str, doc: &'static str) -> Param {
    Param { name, required: true, repeated: false, in_path: true, doc }
}

/// A row of the table.
pub struct Route {
    /// Methods.
    pub verb: Verb,
    /// Path, `{name}` for a variable element.
    pub path: &'static str,
    /// What it takes.
    pub permission: Permission,
    /// One line for people.
    pub summary: &'static str,
    /// Parameters.
    pub params: Vec<Param>,
    handler: MethodRouter<Arc<App>>,
}

impl Route {
    /// The route with one more parameter.
    fn taking(mut self, param: Param) -> Self {
        self.params.push(param);
        self
    }
}

fn route<H, T, const N: usize>(
    verb: Verb,
    path: &'static str,
    permission: Permission,
    summary: &'static str,
    params: [Param; N],
    handler: H,
) -> Route
where
    H: Handler<T, Arc<App>>,
    T: 'static,
{
    let handler = match verb {
        Verb::Get => get(handler),
        Verb::Post => post(handler),
        Verb::GetOrPost => get(handler.clone()).post(handler),
        Verb::PostOrPut => post(handler.clone()).put(handler),
        Verb::Put => put(handler),
        Verb::Delete => delete(handler),
    };
    Route { verb, path, permission, summary, params: params.into(), handler }
}

const QUERY: Param = need("query", "A PromQL expression.");
const TIMEOUT: Param = may("timeout", "Gives up after this long; at most `query.timeout`.");
const LIMIT: Param = may("limit", "Returns at most so many, with a warning when there are more.");
const LOOKBACK: Param = may("lookback_delta", "How far an instant selector looks back.");
const STATS: Param = may("stats", "Adds what the query cost; `true` or `all`.");
const EXPLAIN: Param = may("explain", "Adds the plan and what each shard did; `true`.");
const NOCACHE: Param = may("nocache", "Evaluates everything, and keeps nothing for the next query; `1`.");
const START: Param = may("start", "First moment: seconds since 1970 or RFC 3339.");
const END: Param = may("end", "Last moment, inclusive.");
const SEARCH: Param =
    may("query", "A search such as `service.name:checkout level>=warn`; everything by default.");
const LOG_START: Param =
    may("start", "First moment: RFC 3339, seconds, or nanoseconds; an hour before the end by default.");
const LOG_END: Param = may("end", "Last moment; now by default.");
const LOGQL: Param = need("query", "A LogQL expression.");
const SELECTOR: Param = may("query", "A LogQL selector; all streams by default.");
const SINCE: Param = may("since", "How far `start` lies before `end`, where it is not given.");
const LOG_STEP: Param = may("step", "Distance of steps: seconds or a duration.");
const FIELD: Param = many("field", false, "A field to count by; several make combinations.");
const LINE_LIMIT: Param = may("line_limit", "Fields are looked for in at most so many lines.");
const MATCH: Param = many("match[]", false, "A series selector; several are united.");

/// What all searches for names take.
const NAMES: [Param; 11] = [
    many("search[]", false, "What names are to be like; several are alternatives."),
    may(
        "fuzz_alg",
        "`subsequence` (default): the characters come in this order; `jarowinkler`: near misses, too.",
    ),
    may("fuzz_threshold", "Least likeness, 0 to 100; 0 by default."),
    may("case_sensitive", "`false` to ignore case."),
    may("sort_by", "`alpha` (default) or `score`."),
    may("sort_dir", "`asc` or `dsc`; scores begin with the best by default."),
    may("limit", "Finds at most so many, 1 to 10000; 100 by default."),
    may("batch_size", "Results in a line, 1 to 10000; 100 by default."),
    MATCH,
    START,
    END,
];

/// All routes.
pub fn table() -> Vec<Route> {
    let mut routes = untraced_table();
    routes.extend(traces::table());
    routes
}

/// All routes but those of traces.
fn untraced_table() -> Vec<Route> {
    use Permission::{Administer, Observe, Public, Read, Write};
    use Verb::{Delete, Get, GetOrPost, Post, PostOrPut, Put};
    vec![
        route(
            Post,
            "/api/v1/write",
            Write,
            "Takes samples: Prometheus remote write 1.0 and 2.0.",
            [],
            write::remote_write,
        ),
        route(
            Post,
            "/v1/metrics",
            Write,
            "Takes metrics: OTLP in protobuf or JSON; gzip, zstd, deflate, snappy or plain.",
            [],
            write::otlp_metrics,
        ),
        route(
            Post,
            "/api/v1/otlp/v1/metrics",
            Write,
            "The same, where Prometheus has it.",
            [],
            write::otlp_metrics,
        ),
        route(
            Post,
            "/v1/logs",
            Write,
            "Takes logs: OTLP in protobuf or JSON; gzip, zstd, deflate, snappy or plain.",
            [],
            write::otlp_logs,
        ),
        route(Post, "/otlp/v1/logs", Write, "The same, where Loki has it.", [], write::otlp_logs),
        route(
            Post,
            "/loki/api/v1/push",
            Write,
            "Takes logs: Loki's push, in protobuf with snappy or in JSON.",
            [],
            write::loki_push,
        ),
        route(
            PostOrPut,
            "/_bulk",
            Write,
            "Takes logs: Elasticsearch's bulk requests of `create` and `index`.",
            [],
            write::elastic_bulk,
        ),
        route(
            PostOrPut,
            "/{index}/_bulk",
            Write,
            "The same, for actions that name no index.",
            [path("index", "The index: an attribute of the stream.")],
            write::elastic_index_bulk,
        ),
        route(
            Post,
            "/insert/jsonline",
            Write,
            "Takes logs: a JSON object a line.",
            [
                may("_stream_fields", "Names of fields, by commas, whose values tell streams apart."),
                may("_time_field", "Names of the field of the time; the usual ones by default."),
                may("_msg_field", "Names of the field of the message; the usual ones by default."),
            ],
            write::json_lines,
        ),
        route(
            Get,
            "/",
            Public,
            "The web UI for who takes HTML, the version for Elasticsearch's clients.",
            [],
            write::root,
        ),
        route(
            Get,
            "/_license",
            Public,
            "Licence, for Elasticsearch's clients.",
            [],
            write::elastic_handshake,
        ),
        route(Get, "/_xpack", Public, "Features, for Elasticsearch's clients.", [], write::elastic_handshake),
        route(
            Get,
            "/_ilm/policy/{name}",
            Public,
            "Says that the policy is there, for Elasticsearch's clients: none is needed.",
            [path("name", "Any.")],
            write::elastic_handshake,
        ),
        route(
            Put,
            "/_ilm/policy/{name}",
            Write,
            "Says that the policy was made, for Elasticsearch's clients: none is needed.",
            [path("name", "Any.")],
            write::elastic_handshake,
        ),
        route(
            Get,
            "/_index_template/{name}",
            Public,
            "Says that the template is there, for Elasticsearch's clients: none is needed.",
            [path("name", "Any.")],
            write::elastic_handshake,
        ),
        route(
            Put,
            "/_index_template/{name}",
            Write,
            "Says that the template was made, for Elasticsearch's clients: none is needed.",
            [path("name", "Any.")],
            write::elastic_handshake,
        ),
        route(
            Get,
            "/_component_template/{name}",
            Public,
            "Says that the template is there, for Elasticsearch's clients: none is needed.",
            [path("name", "Any.")],
            write::elastic_handshake,
        ),
        route(
            Put,
            "/_component_template/{name}",
            Write,
            "Says that the template was made, for Elasticsearch's clients: none is needed.",
            [path("name", "Any.")],
            write::elastic_handshake,
        ),
        route(
            Get,
            "/_ingest/pipeline/{name}",
            Public,
            "Says that the pipeline is there, for Elasticsearch's clients: none is needed.",
            [path("name", "Any.")],
            write::elastic_handshake,
        ),
        route(
            Put,
            "/_ingest/pipeline/{name}",
            Write,
            "Says that the pipeline was made, for Elasticsearch's clients: none is needed.",
            [path("name", "Any.")],
            write::elastic_handshake,
        ),
        route(
            Get,
            "/_data_stream/{name}",
            Public,
            "Says that the data stream is there, for Elasticsearch's clients: none is needed.",
            [path("name", "Any.")],
            write::elastic_handshake,
        ),
        route(
            Put,
            "/_data_stream/{name}",
            Write,
            "Says that the data stream was made, for Elasticsearch's clients: none is needed.",
            [path("name", "Any.")],
            write::elastic_handshake,
        ),
        route(
            Post,
            "/write",
            Write,
            "Takes samples: InfluxDB's line protocol, version 1.",
            [
                may("precision", "Unit of timestamps: `ns`, `us`, `ms`, `s`, `m` or `h`."),
                may("db", "The database: becomes the label `db`."),
            ],
            write::influx_v1,
        ),
        route(
            Post,
            "/api/v2/write",
            Write,
            "Takes samples: InfluxDB's line protocol, version 2.",
            [
                may("precision", "Unit of timestamps: `ns`, `us`, `ms` or `s`."),
                may("bucket", "The bucket: becomes the label `db`."),
            ],
            write::influx_v2,
        ),
        route(Get, "/ping", Public, "204, for InfluxDB's clients.", [], write::influx_ping),
        route(
            Get,
            "/health",
            Public,
            "Whether the node takes writes, for InfluxDB's clients.",
            [],
            write::influx_health,
        ),
        route(
            GetOrPost,
            "/query",
            Write,
            "Answers InfluxDB's clients that create their database before they write.",
            [need("q", "`CREATE DATABASE` or `SHOW DATABASES`.")],
            write::influx_query,
        ),
        route(
            GetOrPost,
            "/api/v1/query",
            Read,
            "Evaluates an expression at one moment.",
            [QUERY, may("time", "The moment; now by default."), TIMEOUT, LIMIT, LOOKBACK, STATS, EXPLAIN],
            prometheus::query,
        ),
        route(
            GetOrPost,
            "/api/v1/query_range",
            Read,
            "Evaluates an expression at every step of a range, both ends included.",
            [
                QUERY,
                need("start", "First step: seconds since 1970 or RFC 3339."),
                need("end", "Last step."),
                need("step", "Distance of steps: seconds or a duration."),
                TIMEOUT,
                LIMIT,
                LOOKBACK,
                STATS,
                EXPLAIN,
                NOCACHE,
            ],
            prometheus::query_range,
        ),
        route(
            GetOrPost,
            "/api/v1/sql",
            Read,
            "Answers an SQL statement that reads.",
            [
                need("query", "The statement."),
                may("format", "`json` (the default), `ndjson`, `csv` or `arrow` (an IPC stream)."),
                TIMEOUT,
                may(
                    "params",
                    "Values of the statement's parameters: a JSON array for `$1`, `$2`, ..., or an object for `$name`.",
                ),
            ],
            sql::sql,
        ),
        route(
            GetOrPost,
            "/api/v1/query_exemplars",
            Read,
            "Exemplars of the series that an expression selects.",
            [QUERY, START, END],
            prometheus::query_exemplars,
        ),
        route(
            GetOrPost,
            "/api/v1/format_query",
            Read,
            "Formats an expression.",
            [QUERY],
            prometheus::format_query,
        ),
        route(
            GetOrPost,
            "/api/v1/parse_query",
            Read,
            "The syntax tree of an expression, as Prometheus' UI takes it.",
            [QUERY],
            prometheus::parse_query,
        ),
        route(
            Post,
            "/api/v1/read",
            Read,
            "Gives raw samples: Prometheus remote read, as samples or streamed XOR chunks.",
            [],
            remote_read::read,
        ),
        route(
            Get,
            "/federate",
            Read,
            "The newest sample of each selected series in Prometheus' text format.",
            [many("match[]", false, "A series selector; several are united, none selects nothing.")],
            federate::federate,
        ),
        route(
            GetOrPost,
            "/api/v1/labels",
            Read,
            "Label names.",
            [START, END, MATCH, LIMIT],
            prometheus::labels,
        ),
        route(
            Get,
            "/api/v1/label/{name}/values",
            Read,
            "Values of a label.",
            [path("name", "The label; `U__` escapes are understood."), START, END, MATCH, LIMIT],
            prometheus::label_values,
        ),
        route(
            GetOrPost,
            "/api/v1/series",
            Read,
            "Label sets of series.",
            [many("match[]", true, "A series selector; several are united."), START, END, LIMIT],
            prometheus::series,
        ),
        route(
            GetOrPost,
            "/api/v1/logs/query",
            Read,
            "Log records that a search finds, page by page.",
            [
                SEARCH,
                LOG_START,
                LOG_END,
                may("limit", "At most so many; 100 by default."),
                may("direction", "`backward`, newest first, or `forward`."),
                may("cursor", "The cursor of the page before."),
                TIMEOUT,
            ],
            logs::query,
        ),
        route(
            GetOrPost,
            "/api/v1/logs/histogram",
            Read,
            "Numbers of log records over time, by fields.",
            [SEARCH, LOG_START, LOG_END, LOG_STEP, FIELD, TIMEOUT],
            logs::histogram,
        ),
        route(
            GetOrPost,
            "/api/v1/logs/top",
            Read,
            "The commonest values of fields of log records.",
            [
                SEARCH,
                LOG_START,
                LOG_END,
                many("field", true, "A field; several make combinations."),
                may("limit", "At most so many; 10 by default."),
                TIMEOUT,
            ],
            logs::top,
        ),
        route(
            GetOrPost,
            "/api/v1/logs/stats",
            Read,
            "Figures of a field of log records.",
            [
                SEARCH,
                LOG_START,
                LOG_END,
                need("field", "The field."),
                many("quantile", false, "A quantile from 0 to 1; 0.5, 0.9 and 0.99 by default."),
                TIMEOUT,
            ],
            logs::stats,
        ),
        route(
            GetOrPost,
            "/api/v1/logs/fields",
            Read,
            "The fields that log records have.",
            [SEARCH, LOG_START, LOG_END, TIMEOUT],
            logs::fields,
        ),
        route(
            GetOrPost,
            "/api/v1/logs/context",
            Read,
            "The log records of a stream around one that a search found.",
            [
                SEARCH,
                LOG_START,
                LOG_END,
                need("id", "The record's id, as the same search gave it."),
                may("before", "Records before it; 10 by default."),
                may("after", "Records after it; 10 by default."),
                TIMEOUT,
            ],
            logs::context,
        ),
        route(
            GetOrPost,
            "/api/v1/logs/patterns",
            Read,
            "Templates of the bodies of log records, with counts over time.",
            [SEARCH, LOG_START, LOG_END, LOG_STEP, may("limit", "At most so many; 100 by default."), TIMEOUT],
            logs::patterns,
        ),
        route(
            Get,
            "/api/v1/logs/tail",
            Read,
            "Log records as they are written, over a WebSocket.",
            [
                SEARCH,
                may("start", "Begins with what was written since; now by default."),
                may("limit", "At most so many of those; 100 by default."),
                may("delay", "Holds records back for so long, at most 5s."),
                may("tenant", "Whose, for who can send no `X-Scope-OrgID`."),
            ],
            tail::tail,
        ),
        route(
            GetOrPost,
            "/loki/api/v1/query",
            Read,
            "Evaluates LogQL at one moment, as Loki does.",
            [
                LOGQL,
                may("time", "The moment; now by default."),
                LIMIT,
                may("direction", "`backward` or `forward`."),
            ],
            loki::query,
        ),
        route(
            GetOrPost,
            "/loki/api/v1/query_range",
            Read,
            "Evaluates LogQL over a range, as Loki does: lines, or numbers at every step.",
            [
                LOGQL,
                LOG_START,
                LOG_END,
                SINCE,
                LOG_STEP,
                may("interval", "Leaves out lines that are nearer to the one before."),
                may("limit", "At most so many lines; 100 by default."),
                may("direction", "`backward` or `forward`."),
            ],
            loki::query_range,
        ),
        route(
            GetOrPost,
            "/loki/api/v1/labels",
            Read,
            "Names of the labels of streams of logs.",
            [SELECTOR, LOG_START, LOG_END, SINCE],
            loki::labels,
        ),
        route(
            Get,
            "/loki/api/v1/label/{name}/values",
            Read,
            "Values of a label of streams of logs.",
            [path("name", "The label."), SELECTOR, LOG_START, LOG_END, SINCE],
            loki::label_values,
        ),
        route(
            GetOrPost,
            "/loki/api/v1/series",
            Read,
            "Label sets of streams of logs.",
            [many("match[]", false, "A LogQL selector; several are united."), LOG_START, LOG_END, SINCE],
            loki::series,
        ),
        route(
            GetOrPost,
            "/loki/api/v1/index/stats",
            Read,
            "How many streams, entries and bytes a selector selects.",
            [LOGQL, LOG_START, LOG_END, SINCE],
            loki::index_stats,
        ),
        route(
            GetOrPost,
            "/loki/api/v1/index/volume",
            Read,
            "Bytes of logs by labels.",
            [
                LOGQL,
                LOG_START,
                LOG_END,
                SINCE,
                LIMIT,
                may("targetLabels", "Labels to put together by, with commas between."),
                may("aggregateBy", "`series` or `labels`."),
            ],
            loki::index_volume,
        ),
        route(
            GetOrPost,
            "/loki/api/v1/index/volume_range",
            Read,
            "Bytes of logs by labels over time.",
            [
                LOGQL,
                LOG_START,
                LOG_END,
                SINCE,
                LOG_STEP,
                LIMIT,
                may("targetLabels", "Labels to put together by, with commas between."),
                may("aggregateBy", "`series` or `labels`."),
            ],
            loki::index_volume,
        ),
        route(
            GetOrPost,
            "/loki/api/v1/detected_labels",
            Read,
            "Labels of streams of logs and how many values each has.",
            [SELECTOR, LOG_START, LOG_END, SINCE],
            loki::detected_labels,
        ),
        route(
            GetOrPost,
            "/loki/api/v1/detected_fields",
            Read,
            "Fields that lines of logs have, and by which parser they are found.",
            [LOGQL, LOG_START, LOG_END, SINCE, LINE_LIMIT, LIMIT],
            loki::detected_fields,
        ),
        route(
            GetOrPost,
            "/loki/api/v1/detected_field/{name}/values",
            Read,
            "Values of a field that lines of logs have.",
            [path("name", "The field."), LOGQL, LOG_START, LOG_END, SINCE, LINE_LIMIT, LIMIT],
            loki::detected_field_values,
        ),
        route(
            GetOrPost,
            "/loki/api/v1/patterns",
            Read,
            "Templates of lines of logs, with counts over time.",
            [LOGQL, LOG_START, LOG_END, SINCE, LOG_STEP, LIMIT],
            loki::patterns,
        ),
        route(
            Get,
            "/loki/api/v1/tail",
            Read,
            "Lines of logs as they are written, over a WebSocket.",
            [
                LOGQL,
                may("start", "Begins with what was written since; an hour ago by default."),
                may("limit", "At most so many of those; 100 by default."),
                may("delay_for", "Holds lines back for so many seconds, at most 5."),
            ],
            tail::loki_tail,
        ),
        route(GetOrPost, "/loki/api/v1/format_query", Read, "Formats LogQL.", [LOGQL], loki::format_query),
        route(
            Get,
            "/loki/api/v1/status/buildinfo",
            Observe,
            "Version, as Grafana's data source for Loki asks for it.",
            [],
            loki::build_info,
        ),
        route(
            Get,
            "/loki/api/v1/drilldown-limits",
            Observe,
            "What Grafana's Logs Drilldown may ask for.",
            [],
            loki::drilldown_limits,
        ),
        route(
            Get,
            "/api/v1/metadata",
            Read,
            "Type, help and unit of metrics.",
            [
                may("metric", "Only this metric."),
                may("limit", "At most so many metrics."),
                may("limit_per_metric", "At most so many entries a metric."),
            ],
            prometheus::metadata,
        ),
        route(
            Get,
            "/api/v1/targets",
            Read,
            "Scrape targets: none, as this server scrapes nothing.",
            [may("state", "active, dropped or any.")],
            discovery::targets,
        ),
        route(
            Get,
            "/api/v1/targets/metadata",
            Read,
            "Metadata by scrape target: there are none.",
            [],
            discovery::target_metadata,
        ),
        route(Get, "/api/v1/scrape_pools", Read, "Scrape pools: none.", [], discovery::scrape_pools),
        route(
            Get,
            "/api/v1/rules",
            Read,
            "Rule groups: none yet.",
            [may("type", "alert or record.")],
            discovery::rules,
        ),
        route(Get, "/api/v1/alerts", Read, "Active alerts: none yet.", [], discovery::alerts),
        route(
            Get,
            "/api/v1/alertmanagers",
            Read,
            "Alertmanagers that alerts are sent to: none yet.",
            [],
            discovery::alertmanagers,
        ),
        route(Get, "/api/v1/notifications", Read, "Notes for users: none.", [], discovery::notifications),
        route(
            Get,
            "/api/v1/features",
            Observe,
            "What clients may rely on, by Prometheus' categories.",
            [],
            status::features,
        ),
        route(
            Get,
            "/api/v1/status/config",
            Observe,
            "The settings in effect, as a settings file.",
            [],
            status::config,
        ),
        route(
            Get,
            "/api/v1/status/walreplay",
            Observe,
            "Whether the log has been replayed.",
            [],
            status::wal_replay,
        ),
        route(
            Get,
            "/api/v1/status/active_queries",
            Observe,
            "The queries that run on this node, and those that it keeps out.",
            [],
            status::active_queries,
        ),
        route(
            Get,
            "/api/v1/status/slow_queries",
            Observe,
            "The last slow queries of this node.",
            [],
            status::slow_queries,
        ),
        route(
            Post,
            "/api/v1/admin/queries/kill",
            Administer,
            "Stops a query that runs on this node.",
            [need("id", "Its number in `active_queries`.")],
            status::kill_query,
        ),
        route(
            Post,
            "/api/v1/admin/queries/release",
            Administer,
            "Lets a quarantined query run again on this node.",
            [need("query", "Its text.")],
            status::release_query,
        ),
        route(
            Get,
            "/api/v1/status/buildinfo",
            Observe,
            "Version, as Prometheus' clients expect it.",
            [],
            status::build_info,
        ),
        route(
            Get,
            "/api/v1/status/runtimeinfo",
            Observe,
            "The process and its retention.",
            [],
            status::runtime_info,
        ),
        route(Get, "/api/v1/status/flags", Observe, "Effective settings.", [], status::flags),
        route(
            Get,
            "/api/v1/status/tsdb",
            Read,
            "How many series there are, by metric, label and label pair, the largest first.",
            [may("limit", "Length of each list: 1 to 10000, 10 by default.")],
            status::tsdb,
        ),
        route(
            Get,
            "/api/v1/status/tsdb/blocks",
            Observe,
            "The segments of this node's replicas that hold samples, of all tenants.",
            [],
            status::tsdb_blocks,
        ),
        route(
            Get,
            "/api/v1/status/self_metrics",
            Observe,
            "The metrics of this node as JSON: families by protobuf's rules for JSON.",
            [may("metric_name_pattern", "A regular expression that whole names match.")],
            self_metrics::self_metrics,
        ),
        route(
            GetOrPost,
            "/api/v1/search/metric_names",
            Read,
            "Names of metrics like what is typed, in lines of JSON.",
            NAMES,
            search::metric_names,
        )
        .taking(may("include_metadata", "Adds type, help and unit; `true`.")),
        route(
            GetOrPost,
            "/api/v1/search/label_names",
            Read,
            "Names of labels like what is typed, in lines of JSON.",
            NAMES,
            search::label_names,
        ),
        route(
            GetOrPost,
            "/api/v1/search/label_values",
            Read,
            "Values of a label like what is typed, in lines of JSON.",
            NAMES,
            search::label_values,
        )
        .taking(need("label", "The label's name.")),
        route(
            Get,
            "/api/v1/live",
            Read,
            "A WebSocket that pushes what a page subscribes to: the cluster's status, windows of expressions.",
            [],
            live::live,
        ),
        route(
            Get,
            "/api/v1/dashboards",
            Read,
            "The tenant's dashboards, without documents.",
            [],
            dashboards::list,
        ),
        route(
            Get,
            "/api/v1/dashboards/{uid}",
            Read,
            "The newest version of a dashboard, with its document.",
            [path("uid", "Its name.")],
            dashboards::get,
        ),
        route(
            Put,
            "/api/v1/dashboards/{uid}",
            Write,
            "Stores a version of a dashboard; 409 where it was made from another than the newest. The body is JSON: \
             `expected` (that version, 0 for a new dashboard), `message`, `dashboard`.",
            [path("uid", "Its name: 1 to 64 of [A-Za-z0-9_-].")],
            dashboards::save,
        ),
        route(
            Delete,
            "/api/v1/dashboards/{uid}",
            Write,
            "Deletes a dashboard with its versions.",
            [path("uid", "Its name."), need("expected", "Its newest version.")],
            dashboards::delete,
        ),
        route(
            Get,
            "/api/v1/dashboards/{uid}/versions",
            Read,
            "The versions of a dashboard that are kept, the newest first.",
            [path("uid", "Its name.")],
            dashboards::versions,
        ),
        route(
            Get,
            "/api/v1/dashboards/{uid}/versions/{version}",
            Read,
            "A version of a dashboard, with its document.",
            [path("uid", "Its name."), path("version", "The version's number.")],
            dashboards::version,
        ),
        route(Get, "/api/v1/openapi.json", Public, "This document.", [], status::openapi),
        route(
            Get,
            "/api/v1/admin/backup/state",
            Administer,
            "What a backup holds beside the shards' files: dashboards with their versions, cluster settings.",
            [],
            backup::state,
        ),
        route(
            Post,
            "/api/v1/admin/backup/shard",
            Administer,
            "Flushes a shard and answers with its manifest, which then covers everything acknowledged before.",
            [need("shard", "The shard's number.")],
            backup::shard,
        ),
        route(
            Get,
            "/api/v1/admin/backup/file",
            Administer,
            "A piece of a file that a shard's manifest names; 404 once no replica has it any more.",
            [
                need("shard", "The shard's number."),
                need("file", "The file's name: its digest and kind."),
                need("bytes", "The file's length."),
                may("offset", "Where the piece begins."),
            ],
            backup::file,
        ),
        route(
            Post,
            "/api/v1/admin/restore/logs",
            Administer,
            "Writes log records of a backup, in its own encoding.",
            [],
            backup::restore_logs,
        ),
        route(
            Post,
            "/api/v1/admin/restore/settings",
            Administer,
            "Sets cluster settings that are not set yet; a JSON object of texts.",
            [],
            backup::restore_settings,
        ),
        route(
            Post,
            "/api/v1/admin/flush",
            Administer,
            "Flushes and merges every shard; answers when all replicas are done.",
            [],
            cluster::flush,
        ),
        route(
            PostOrPut,
            "/api/v1/admin/tsdb/delete_series",
            Administer,
            "Deletes the tenant's samples of the selected series that were written before; the next query does not see \
             them.",
            [many("match[]", true, "A series selector; several are united."), START, END],
            admin::delete_series,
        ),
        route(
            Post,
            "/api/v1/logs/delete",
            Administer,
            "Deletes the tenant's log records that a search finds and that were written before; the next query does not see \
             them.",
            [
                need("query", "A search; `*` for all."),
                need("start", "First moment of the records."),
                need("end", "Last moment of the records."),
            ],
            logs::delete,
        ),
        route(
            PostOrPut,
            "/api/v1/admin/tsdb/clean_tombstones",
            Administer,
            "Takes deleted samples and log records out of the segments; answers when the leaders are done.",
            [],
            admin::clean_tombstones,
        ),
        route(
            Get,
            "/cluster/status",
            Observe,
            "Members, shards, leaders, positions and digests.",
            [],
            cluster::status,
        ),
        route(
            Post,
            "/api/v1/cluster/token",
            Administer,
            "Makes a token by which one node may join, once: `{\"token\": \"secret@peer,peer\"}`.",
            [may("for", "How long it is good, up to 30d [1h].")],
            cluster::make_join_token,
        ),
        route(
            Post,
            "/api/v1/cluster/join_by",
            Administer,
            "Lets nodes join by a token only, or whoever knows an address.",
            [need("what", "`token` or `address`.")],
            cluster::join_by,
        ),
        route(
            Post,
            "/api/v1/cluster/move",
            Administer,
            "Moves a replica of a shard from one node to another.",
            [
                need("shard", "The shard."),
                need("from", "Node that gives it up."),
                need("to", "Node that gets it."),
            ],
            cluster::move_replica,
        ),
        route(
            Post,
            "/api/v1/cluster/transfer",
            Administer,
            "Hands the leadership of a shard from this node to another of its replicas; 409 where another node leads it.",
            [need("shard", "The shard.")],
            cluster::transfer,
        ),
        route(
            Post,
            "/api/v1/cluster/drain",
            Administer,
            "Moves every replica off a node.",
            [need("node", "The node.")],
            cluster::drain,
        ),
        route(
            Post,
            "/api/v1/cluster/remove",
            Administer,
            "Removes a drained or lost node; its id is never used again.",
            [need("node", "The node.")],
            cluster::remove,
        ),
        route(Get, "/-/healthy", Public, "200 while the process lives.", [], health::healthy),
        route(
            Get,
            "/-/ready",
            Public,
            "200 once the local replicas have caught up, else 503 and why.",
            [],
            health::ready,
        ),
        route(Get, "/ready", Public, "The same, where clients of Loki ask for it.", [], health::ready),
        route(
            Get,
            "/metrics",
            Observe,
            "This node's metrics in Prometheus' text format.",
            [],
            health::metrics,
        ),
    ]
}

/// The router made from the table.
pub fn router() -> Router<Arc<App>> {
    router_of(|_| true)
}

/// The routes of OTLP, for a listener of its own.
pub fn otlp_router() -> Router<Arc<App>> {
    router_of(|path| path.starts_with("/v1/"))
}

fn router_of(wanted: impl Fn(&str) -> bool) -> Router<Arc<App>> {
    table().into_iter().filter(|route| wanted(route.path)).fold(Router::new(), |router, route| {
        let layer = middleware::from_fn_with_state(route.permission, auth::layer);
        router.route(route.path, route.handler.layer(layer))
    })
}
