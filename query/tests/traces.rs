//! Questions about traces on 1, 2 and 16 shards in memory: all give what one shard without any pushdown gives, pages put
//! together are the whole, and a shard that is missing fails the question.

mod log_support;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt;
use log_support::LogCluster;
use proptest::prelude::*;
use protocol::error::ErrorKind;
use protocol::ids::TenantId;
use protocol::logs::{LogField, LogFilter, LogStream, LogTest, LogValue};
use protocol::spans::{Span, SpanKind, SpanStatus};
use query::logs::engine::LogQuery;
use query::traces::engine::{MAX_TRACES, TraceSeries};
use query::traces::{Found, Order, SearchOptions, Summary, TracePlace};
use query::{Engine, EngineOptions, Limits, QueryError};

type Part = (LogStream<'static>, Span<'static>);

const SHARDS: [u16; 3] = [1, 2, 16];

fn text(text: impl Into<String>) -> LogValue<'static> {
    LogValue::String(text.into().into())
}

fn part(trace: u8, id: u8, parent: u8, service: &str, start_ns: i64, duration_ns: i64, code: i64) -> Part {
    let stream = LogStream { resource: vec![("service.name".into(), text(service))], ..LogStream::default() };
    let mut trace_id = [0; 16];
    trace_id[15] = trace;
    let span = Span {
        trace_id,
        span_id: [0, 0, 0, 0, 0, 0, 1, id],
        parent_id: if parent == 0 { [0; 8] } else { [0, 0, 0, 0, 0, 0, 1, parent] },
        name: format!("op {}", id % 4).into(),
        kind: [SpanKind::Server, SpanKind::Client, SpanKind::Internal][usize::from(id % 3)],
        start_ns,
        end_ns: start_ns + duration_ns,
        status: if code >= 500 { SpanStatus::Error } else { SpanStatus::Unset },
        attributes: vec![("code".into(), LogValue::Int(code)), ("user".into(), text(format!("u{}", id % 5)))],
        ..Span::default()
    };
    (stream, span)
}

fn parts(most: usize) -> impl Strategy<Value = Vec<Part>> {
    let one = (
        1u8..12,
        1u8..9,
        0u8..9,
        0usize..3,
        1i64..60,
        0i64..40,
        prop_oneof![Just(200i64), Just(404), Just(503)],
    );
    let one = one.prop_map(|(trace, id, parent, service, start, duration, code)| {
        part(trace, id, parent, ["web", "cart", "bank"][service], start, duration, code)
    });
    proptest::collection::vec(one, 0..most)
}

fn engine(shards: u16, parts: &[Part]) -> (Engine, Arc<LogCluster>) {
    let cluster = LogCluster::new(shards);
    parts.iter().for_each(|(stream, span)| cluster.put_span(stream, span));
    (Engine::new(cluster.clone(), EngineOptions::default()), cluster)
}

fn ask(query: &str, (start_ns, end_ns): (i64, i64)) -> LogQuery {
    LogQuery::new(TenantId::default(), query, start_ns, end_ns)
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the cluster answers at once")
}

fn search(engine: &Engine, query: &str, range: (i64, i64), options: SearchOptions) -> Vec<Found> {
    now(engine.trace_search(&ask(query, range), options)).unwrap_or_else(|error| panic!("{query}: {error}"))
}

fn told(found: &[Found]) -> Vec<String> {
    found.iter().map(|found| format!("{} {:?} {:?}", found.place, found.summary, found.sets)).collect()
}

/// Nearly all of a page may lie on one shard, although chance spreads traces over all.
#[test]
fn a_page_from_one_shard_is_whole() {
    for elsewhere in 0..16 {
        let mut parts: Vec<Part> =
            (1..16).map(|at| part(at * 16, 1, 0, "web", i64::from(at) * 10, 5, 200)).collect();
        parts.extend((1..=elsewhere).map(|at| part(at, 1, 0, "web", i64::from(at) * 10 + 5, 5, 200)));
        for limit in [1, 5, 6, 7, 12, 15, 40] {
            let options = SearchOptions { limit, ..SearchOptions::default() };
            let of = |shards| told(&search(&engine(shards, &parts).0, "{ }", (0, 1000), options));
            assert_eq!(of(16), of(1), "{limit} of {}", parts.len());
            assert_eq!(of(16).len(), limit.min(parts.len()));
        }
    }
}

/// Conditions, each with the same that no store can look up.
const QUERIES: [(&str, &str); 12] = [
    ("{ }", "{ !false }"),
    ("{ resource.service.name = \"bank\" }", "{ !(!(resource.service.name = \"bank\")) }"),
    ("{ .code >= 404 && kind = server }", "{ !(!(.code >= 404 && kind = server)) }"),
    ("{ span.code != 200 }", "{ !(!(span.code != 200)) }"),
    ("{ name =~ \"op [12]\" || status = error }", "{ !(!(name =~ \"op [12]\" || status = error)) }"),
    ("{ duration > 10ns && duration < 31ns }", "{ !(!(duration > 10ns && duration < 31ns)) }"),
    ("{ name = \"op 1\" } >> { .user = \"u2\" }", "{ !(!(name = \"op 1\")) } >> { !(!(.user = \"u2\")) }"),
    ("{ .code = 503 } && { kind = client }", "{ !(!(.code = 503)) } && { !(!(kind = client)) }"),
    ("{ .code = 503 } || { parent = nil }", "{ !(!(.code = 503)) } || { !(!(parent = nil)) }"),
    ("{ kind = client } | count() > 1", "{ !(!(kind = client)) } | count() > 1"),
    (
        "{ } | { .code = 404 } | by(name) | select(.user)",
        "{ } | { !(!(.code = 404)) } | by(name) | select(.user)",
    ),
    ("{ rootServiceName = \"web\" && .user != nil }", "{ !(!(rootServiceName = \"web\" && .user != nil)) }"),
];

/// The numbers of the conditions, with the fields that are shown left out: those differ where conditions do.
fn without_fields(mut found: Vec<Found>) -> Vec<String> {
    for set in found.iter_mut().flat_map(|found| &mut found.sets) {
        set.spans.iter_mut().for_each(|span| span.fields.clear());
    }
    told(&found)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn all_shards_find_what_one_finds_without_looking_up(
        parts in parts(60),
        query in 0..QUERIES.len(),
        start in 0i64..40,
        width in 0i64..60,
        limit in 1usize..15,
        slowest in any::<bool>(),
    ) {
        let (query, plain) = QUERIES[query];
        let range = (start, start + width);
        let order = if slowest { Order::Slowest } else { Order::Newest };
        let options = SearchOptions { limit, order, spans_per_set: 2, ..SearchOptions::default() };
        let everything = SearchOptions { limit: 1000, ..options };
        let all = without_fields(search(&engine(1, &parts).0, plain, range, everything));
        for shards in SHARDS {
            let (engine, _) = engine(shards, &parts);
            let page = search(&engine, query, range, options);
            prop_assert_eq!(without_fields(page), &all[..limit.min(all.len())]);
            // Page by page, to the end.
            let (mut pages, mut after) = (Vec::new(), None);
            loop {
                let page = search(&engine, query, range, SearchOptions { after, ..options });
                after = page.last().map(|found| found.place);
                let is_last = page.len() < limit;
                pages.extend(without_fields(page));
                if is_last {
                    break;
                }
            }
            prop_assert_eq!(&pages, &all);
        }
    }

    #[test]
    fn numbers_add_up_over_shards(parts in parts(60), query in 0..QUERIES.len(), start in 0i64..40) {
        let range = (start, start + 30);
        let metrics = ["rate() by (resource.service.name)", "count_over_time()", "max_over_time(duration) by (name)",
            "quantile_over_time(span.code, 0.5, 0.9)", "histogram_over_time(duration)"];
        for metric in metrics {
            let (query, plain) = QUERIES[query];
            let ask_engine = |engine: &Engine, query: &str| -> Vec<TraceSeries> {
                now(engine.trace_metrics(&ask(&format!("{query} | {metric}"), range), 7)).expect("it is answered")
            };
            let expected = ask_engine(&engine(1, &parts).0, plain);
            for shards in SHARDS {
                prop_assert_eq!(&ask_engine(&engine(shards, &parts).0, query), &expected);
            }
            if metric == "count_over_time()" {
                // As many as a search finds, if their spans count that begin in the range.
                let counted: f64 = expected.iter().flat_map(|series| &series.points).map(|(_, count)| count).sum();
                let everything = SearchOptions { limit: 1000, ..SearchOptions::default() };
                let found = search(&engine(1, &parts).0, query, range, everything);
                let spans = found.iter().flat_map(|found| &found.sets).flat_map(|set| &set.spans);
                let in_range = spans.filter(|span| (range.0..=range.1).contains(&span.start_ns)).count();
                prop_assert_eq!(counted, in_range as f64);
            }
        }
    }

    #[test]
    fn traces_in_short_are_those_that_begin_in_a_range(
        parts in parts(60),
        start in 0i64..40,
        width in 0i64..60,
        limit in 1usize..6,
        of_one in proptest::option::of(1u8..12),
    ) {
        let range = (start, start + width);
        let id = of_one.map(|number| format!("{number:032x}"));
        let filter = id.clone().map_or(LogFilter::All, |id| LogFilter::Field(LogField::TraceId, LogTest::Equals(id)));
        // Whole traces, judged one by one.
        let mut expected: Vec<Summary> = Vec::new();
        for number in (1u8..12).filter(|number| of_one.is_none_or(|one| one == *number)) {
            let mut trace_id = [0; 16];
            trace_id[15] = number;
            let trace = now(engine(1, &parts).0.trace(&ask("trace", (0, 0)), trace_id)).expect("it is answered");
            expected.extend(trace.and_then(|trace| trace.summary()));
        }
        expected.retain(|summary| (range.0..=range.1).contains(&summary.start_ns));
        expected.sort_by_key(|summary| (std::cmp::Reverse(summary.start_ns), summary.trace_id));
        for shards in SHARDS {
            let (engine, _) = engine(shards, &parts);
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = now(engine.trace_summaries(&ask("traces", range), &filter, limit, after));
                let page = page.expect("it is answered");
                prop_assert!(page.traces.len() >= limit || page.next.is_none());
                found.extend(page.traces);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(&found, &expected);
        }
    }

    #[test]
    fn traces_come_whole(parts in parts(60)) {
        for shards in SHARDS {
            let (engine, _) = engine(shards, &parts);
            for number in 0u8..12 {
                let mut trace_id = [0; 16];
                trace_id[15] = number;
                let found = now(engine.trace(&ask("trace", (0, 0)), trace_id)).expect("it is answered");
                let ids: BTreeSet<[u8; 8]> =
                    parts.iter().filter(|(_, span)| span.trace_id == trace_id).map(|(_, span)| span.span_id).collect();
                let came: Option<BTreeSet<[u8; 8]>> =
                    found.map(|trace| trace.spans.iter().map(|span| span.span.span_id).collect());
                prop_assert_eq!(came, (!ids.is_empty()).then_some(ids));
            }
        }
    }
}

fn shop() -> Vec<Part> {
    vec![
        part(1, 1, 0, "web", 10, 50, 200),
        part(1, 2, 1, "cart", 15, 20, 200),
        part(1, 3, 2, "bank", 20, 10, 503),
        part(2, 1, 0, "web", 100, 30, 200),
        part(2, 2, 1, "cart", 105, 20, 404),
        part(3, 6, 0, "cron", 200, 500, 200),
    ]
}

#[test]
fn what_a_trace_is_in_short() {
    let (engine, _) = engine(2, &shop());
    let options = SearchOptions { limit: 10, whole: true, ..SearchOptions::default() };
    let found = search(&engine, "{ status = error } | select(.user)", (0, 1000), options);
    assert_eq!(found.len(), 1);
    let summary = &found[0].summary;
    assert_eq!((summary.root_service.as_str(), summary.root_name.as_str()), ("web", "op 1"));
    assert_eq!((summary.start_ns, summary.duration_ns(), summary.spans, summary.errors), (10, 50, 3, 1));
    assert_eq!(summary.services, [("bank".into(), 1, 1), ("cart".into(), 1, 0), ("web".into(), 1, 0)]);
    let set = &found[0].sets[0];
    assert_eq!((set.matched, set.spans[0].service.as_str(), set.spans[0].failed), (1, "bank", true));
    assert_eq!(set.spans[0].fields, [(".user".into(), text("u3")), ("status".into(), text("error"))]);
    assert_eq!(found[0].trace.as_ref().map(|trace| trace.len()), Some(3));
    let slowest = SearchOptions { limit: 1, order: Order::Slowest, ..SearchOptions::default() };
    assert_eq!(search(&engine, "{ }", (0, 1000), slowest)[0].summary.root_service, "cron");
    // A matching span outside of the range does not bring its trace.
    assert!(search(&engine, "{ name = \"op 3\" }", (0, 19), options).is_empty());
}

#[test]
fn a_trace_in_short_says_whether_its_root_is_there_and_is_placed_by_what_has_a_time() {
    let mut parts = shop();
    parts.push(part(4, 2, 1, "cart", 300, 5, 200));
    // One without a start, which is placed at its end: behind the beginning of other traces.
    let mut unbegun = part(5, 1, 0, "cron", 0, 0, 200);
    unbegun.1.end_ns = 250;
    parts.push(unbegun);
    for shards in SHARDS {
        let (engine, _) = engine(shards, &parts);
        let mut told = Vec::new();
        let mut after = None;
        loop {
            let query = ask("traces", (i64::MIN, i64::MAX));
            let page =
                now(engine.trace_summaries(&query, &LogFilter::All, 1, after)).expect("it is answered");
            told.extend(page.traces.iter().map(|one| (one.trace_id[15], one.start_ns, one.orphaned)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let expected = [(4, 300, true), (5, 250, false), (3, 200, false), (2, 100, false), (1, 10, false)];
        assert_eq!(told, expected);
        // A filter on what spans of a trace do not share would make traces of parts.
        let filter = LogFilter::Field(LogField::Body, LogTest::Exists);
        assert!(now(engine.trace_summaries(&ask("traces", (0, 9)), &filter, 1, None)).is_err());
        let many = MAX_TRACES + 1;
        let refused = now(engine.trace_summaries(&ask("traces", (0, 9)), &LogFilter::All, many, None));
        assert_eq!(refused.map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::InvalidInput));
    }
}

/// What a search reads of spans does not tell these two apart, and yet they are two; the third is the first once more.
#[test]
fn spans_that_differ_in_what_is_not_asked_for_are_not_one() {
    let (stream, span) = part(1, 1, 0, "web", 10, 5, 200);
    let other = Span { attributes: vec![("user".into(), text("somebody else"))], ..span.clone() };
    let parts = [(stream.clone(), span.clone()), (stream.clone(), other), (stream, span)];
    for shards in SHARDS {
        let (engine, _cluster) = engine(shards, &parts);
        for (query, whole) in
            [("{ kind = client }", false), ("{ kind = client }", true), ("{ .user != nil }", false)]
        {
            let options = SearchOptions { limit: 9, whole, ..SearchOptions::default() };
            let found = search(&engine, query, (0, 100), options);
            assert_eq!(found.len(), 1, "{query}");
            assert_eq!((found[0].summary.spans, found[0].sets[0].matched), (2, 2), "{query}");
        }
    }
}

#[test]
fn services_calls_and_fields() {
    for shards in SHARDS {
        let (engine, _) = engine(shards, &shop());
        let query = ask("services", (0, 1000));
        let by = [LogField::ResourceAttribute("service.name".into()), LogField::Body];
        let counted = now(engine.span_counts(&query, &LogFilter::All, &by)).expect("it is answered");
        let lines: Vec<String> =
            counted.iter().map(|group| format!("{} {}", group.values.join("/"), group.count)).collect();
        assert_eq!(lines, ["bank/op 3 1", "cart/op 2 2", "cron/op 2 1", "web/op 1 2"]);
        let edges = now(engine.service_edges(&query)).expect("it is answered");
        let lines: Vec<String> = edges
            .iter()
            .map(|edge| {
                format!("{}>{} {} {} {}", edge.caller, edge.callee, edge.calls, edge.errors, edge.duration_ns)
            })
            .collect();
        assert_eq!(lines, ["cart>bank 1 1 10", "web>cart 2 0 40"]);
        let fields = now(engine.span_fields(&query)).expect("it is answered");
        let attributes: Vec<&str> = fields
            .iter()
            .filter_map(|info| match &info.field {
                LogField::RecordAttribute(name) | LogField::ResourceAttribute(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(attributes, ["code", "user", "service.name"]);
    }
}

#[test]
fn what_tells_two_sets_apart() {
    for shards in SHARDS {
        let parts: Vec<Part> = (1..=40)
            .map(|at| {
                let slow = at % 4 == 0;
                part(at, 1, 0, if slow { "bank" } else { "web" }, 10, if slow { 100 } else { 5 }, 200)
            })
            .collect();
        let (engine, _) = engine(shards, &parts);
        let query = ask("compare", (0, 1000));
        let compared =
            now(engine.trace_compare(&query, ("{ duration > 50ns }", "{ duration <= 50ns }"), 3, 5))
                .expect("answered");
        assert_eq!((compared.selection, compared.baseline), (10, 30));
        assert_eq!(compared.fields.len(), 3);
        let first = &compared.fields[0];
        assert_eq!(first.field, LogField::ResourceAttribute("service.name".into()));
        assert_eq!(first.score, 1.0);
        assert_eq!((first.values[0].value.as_str(), first.values[0].difference), ("bank", 1.0));
        assert_eq!((first.values[1].value.as_str(), first.values[1].baseline), ("web", 30));
        assert_eq!(compared.fields[1].score, 0.0);
    }
}

#[test]
fn what_can_not_be_answered_fails() {
    let (engine, cluster) = engine(2, &shop());
    let options = SearchOptions { limit: 10, ..SearchOptions::default() };
    let fails = |query: &str, options: SearchOptions| {
        now(engine.trace_search(&ask(query, (0, 1000)), options)).expect_err(query)
    };
    assert_eq!(fails("{ foo }", options).kind(), ErrorKind::InvalidInput);
    assert_eq!(fails("{ } | rate()", options).kind(), ErrorKind::InvalidInput);
    let many = SearchOptions { limit: MAX_TRACES + 1, ..options };
    assert_eq!(fails("{ }", many).kind(), ErrorKind::InvalidInput);
    let metrics =
        |query: &str, step| now(engine.trace_metrics(&ask(query, (0, 100_000)), step)).expect_err(query);
    assert_eq!(metrics("{ }", 10).kind(), ErrorKind::InvalidInput);
    assert_eq!(metrics("{ } | rate()", 0).kind(), ErrorKind::InvalidInput);
    assert!(matches!(metrics("{ } | rate()", 1), QueryError::TooManyPoints { .. }));
    *cluster.missing.lock().expect("nobody panicked") = Some(2);
    assert_eq!(fails("{ }", options).kind(), ErrorKind::Unavailable);
    let trace = now(engine.trace(&ask("trace", (0, 0)), [0; 16])).map(|_| ());
    assert_eq!(trace.map_err(|error| error.kind()), Err(ErrorKind::Unavailable));
    *cluster.missing.lock().expect("nobody panicked") = None;
    *cluster.limits.lock().expect("nobody panicked") = Limits { max_samples: 3, ..Limits::default() };
    assert!(matches!(fails("{ }", options), QueryError::TooManySamples { .. }));
}

#[test]
fn places_are_text() {
    let place = TracePlace { key: -5, trace_id: [3; 16] };
    assert_eq!(place.to_string().parse::<TracePlace>().expect("a place"), place);
    for text in ["", "1", "1_", "1_+2", "a_b", "1_2_3"] {
        assert!(text.parse::<TracePlace>().is_err(), "{text}");
    }
}
