//! TraceQL: what is printed parses to the same, what is wrong is told with its place, and what queries find in one trace.

use std::sync::Arc;

use proptest::prelude::*;
use protocol::logs::{LogStream, LogValue};
use protocol::spans::{Span, SpanEvent, SpanKind, SpanLink, SpanStatus};

use super::*;
use crate::traces::assemble::Trace;

fn stream(service: &str) -> Arc<LogStream<'static>> {
    let service = LogValue::String(service.to_owned().into());
    Arc::new(LogStream {
        resource: vec![("service.name".into(), service), ("zone".into(), LogValue::String("eu".into()))],
        scope_name: "lib".into(),
        ..LogStream::default()
    })
}

fn span(id: u8, parent: u8, name: &'static str, start_ns: i64, duration_ns: i64) -> Span<'static> {
    Span {
        trace_id: [7; 16],
        span_id: [0, 0, 0, 0, 0, 0, 0, id],
        parent_id: [0, 0, 0, 0, 0, 0, 0, parent],
        name: name.into(),
        start_ns,
        end_ns: start_ns + duration_ns,
        ..Span::default()
    }
}

/// ```text
/// 1 GET /pay (web, server)         6 lost (web), an orphan
/// ├ 2 charge (web, client)
/// │ └ 3 charge (bank, server, failed)
/// │   └ 4 SELECT (bank)
/// └ 5 render (web)
/// ```
fn trace() -> Trace {
    let (web, bank) = (stream("web"), stream("bank"));
    let root = Span {
        kind: SpanKind::Server,
        attributes: vec![
            ("http.status_code".into(), LogValue::Int(200)),
            ("zone".into(), LogValue::String("us".into())),
            ("cached".into(), LogValue::Bool(false)),
            ("ratio".into(), LogValue::Float(0.5)),
            ("empty".into(), LogValue::String("".into())),
            ("a b".into(), LogValue::String("quoted".into())),
        ],
        ..span(1, 0, "GET /pay", 1000, 9000)
    };
    let event = SpanEvent {
        name: "retry".into(),
        attributes: vec![("count".into(), LogValue::Int(3))],
        ..SpanEvent::default()
    };
    let link = SpanLink { trace_id: [0xab; 16], span_id: [1; 8], ..SpanLink::default() };
    let client = Span {
        kind: SpanKind::Client,
        events: vec![SpanEvent { name: "begin".into(), ..SpanEvent::default() }, event],
        links: vec![link],
        ..span(2, 1, "charge", 2000, 5000)
    };
    let server = Span {
        kind: SpanKind::Server,
        status: SpanStatus::Error,
        status_message: "no money".into(),
        attributes: vec![("http.status_code".into(), LogValue::Int(500))],
        ..span(3, 2, "charge", 2500, 4000)
    };
    Trace::assemble(vec![
        (Arc::clone(&bank), span(4, 3, "SELECT", 3000, 1000)),
        (Arc::clone(&web), root),
        (Arc::clone(&web), client),
        (bank, server),
        (Arc::clone(&web), span(5, 1, "render", 8000, 1500)),
        (web, span(6, 99, "lost", 9000, 10)),
    ])
}

/// Ids of the spans of each set that a query finds.
fn found(text: &str) -> Vec<Vec<u8>> {
    let query = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let trace = trace();
    let summary = trace.summary().expect("it has spans");
    let evaluator = Evaluator::new(&query).expect("it compiles");
    let ids = |set: &Spanset| {
        let mut ids: Vec<u8> = set.spans.iter().map(|at| trace.spans[*at].span.span_id[7]).collect();
        ids.sort_unstable();
        ids
    };
    evaluator.spansets(&trace, &summary).iter().map(ids).collect()
}

fn check(text: &str, expected: &[u8]) {
    let expected: Vec<Vec<u8>> = if expected.is_empty() { Vec::new() } else { vec![expected.to_vec()] };
    assert_eq!(found(text), expected, "{text}");
}

#[test]
fn fields_and_comparisons() {
    check("{ }", &[1, 2, 3, 4, 5, 6]);
    check("", &[1, 2, 3, 4, 5, 6]);
    check("{ true }", &[1, 2, 3, 4, 5, 6]);
    check("{ false }", &[]);
    check("{ name = \"charge\" }", &[2, 3]);
    check("{ span:name =~ \"ch.*\" && kind = server }", &[3]);
    // Expressions match whole texts.
    check("{ name =~ \"charg\" }", &[]);
    check("{ name !~ \".*e.*\" }", &[1, 4, 6]);
    check("{ name !~ \".*e.*\" && name != \"SELECT\" && name != \"lost\" }", &[1]);
    check("{ status = error }", &[3]);
    check("{ status != error }", &[1, 2, 4, 5, 6]);
    check("{ statusMessage = \"no money\" }", &[3]);
    check("{ duration > 4us && duration <= 5us }", &[2]);
    check("{ 5us >= duration && duration > 4us }", &[2]);
    check("{ duration < 11 }", &[6]);
    check("{ resource.service.name = \"bank\" }", &[3, 4]);
    check("{ .service.name = `web` }", &[1, 2, 5, 6]);
    check("{ .http.status_code >= 400 }", &[3]);
    check("{ span.http.status_code = 200.0 }", &[1]);
    check("{ span.http.status_code != 200 }", &[3]);
    // What a span does not have is neither equal nor unequal, and kinds do not mix.
    check("{ span.http.status_code = \"200\" }", &[]);
    check("{ span.http.status_code != \"200\" }", &[]);
    check("{ span.http.status_code = nil && kind = server }", &[]);
    check("{ span.http.status_code != nil }", &[1, 3]);
    check("{ !(span.http.status_code = 200) && kind = server }", &[3]);
    check("{ span.empty = \"\" }", &[1]);
    check("{ span.empty != nil }", &[1]);
    // The span's own comes before the resource's.
    check("{ .zone = \"us\" }", &[1]);
    check("{ resource.zone = \"eu\" && .zone = \"eu\" }", &[2, 3, 4, 5, 6]);
    check("{ span.cached = false }", &[1]);
    check("{ span.cached }", &[]);
    check("{ !span.cached && span.cached != nil }", &[1]);
    check("{ span.ratio > 0.4 && span.ratio < 1 }", &[1]);
    check("{ span.\"a b\" = \"quoted\" }", &[1]);
    check("{ event:name = \"retry\" }", &[2]);
    check("{ event.count > 2 }", &[2]);
    check("{ link:traceID = \"abababababababababababababababab\" }", &[2]);
    check("{ instrumentation:name = \"lib\" && name = \"lost\" }", &[6]);
    check("{ rootName = \"GET /pay\" && rootServiceName = \"web\" && name = \"lost\" }", &[6]);
    check("{ trace:rootService = \"bank\" }", &[]);
    check("{ traceDuration = 9us && trace:duration < 1s && kind = client }", &[2]);
    check("{ span:id = \"3\" }", &[3]);
    check("{ trace:id = \"07070707070707070707070707070707\" && span:parentID = nil }", &[1]);
    check("{ parent = nil }", &[1]);
}

#[test]
fn places_of_spans() {
    check("{ name = \"GET /pay\" } > { }", &[2, 5]);
    check("{ name = \"GET /pay\" } >> { }", &[2, 3, 4, 5]);
    check("{ name = \"SELECT\" } < { }", &[3]);
    check("{ name = \"SELECT\" } << { }", &[1, 2, 3]);
    check("{ name = \"render\" } ~ { }", &[2]);
    check("{ name = \"render\" } ~ { name = \"render\" }", &[]);
    check("{ kind = server } >> { kind = server }", &[3]);
    check("{ kind = server } !>> { }", &[1, 6]);
    check("{ kind = server } !> { name != \"lost\" }", &[1, 3]);
    check("{ } !< { }", &[4, 5, 6]);
    check("{ status = error } && { name = \"render\" }", &[3, 5]);
    check("{ status = error } && { name = \"nothing\" }", &[]);
    check("{ status = error } || { name = \"nothing\" }", &[3]);
    // Places bind tighter than both, both tighter than either.
    check("{ name = \"lost\" } || { kind = client } > { kind = server }", &[3, 6]);
    check("({ name = \"lost\" } || { kind = client }) > { kind = server }", &[3]);
    check("{ name = \"lost\" } || { name = \"none\" } && { name = \"SELECT\" }", &[6]);
    check("{ } >> { } >> { status = error }", &[3]);
}

#[test]
fn stages() {
    check("{ kind = server } | count() = 2", &[1, 3]);
    check("{ kind = server } | count() > 2", &[]);
    check("{ } | { status = error }", &[3]);
    check("{ kind = server } | avg(duration) > 6us | max(span.http.status_code) = 500", &[1, 3]);
    check("{ kind = server } | sum(duration) = 13us", &[1, 3]);
    check("{ kind = server } | min(span.http.status_code) < 200", &[]);
    check("{ name = \"lost\" } | avg(span.http.status_code) > 0", &[]);
    check("{ } | select(span.http.status_code, resource.zone)", &[1, 2, 3, 4, 5, 6]);
    assert_eq!(found("{ } | by(resource.service.name)"), [vec![1, 2, 5, 6], vec![3, 4]]);
    assert_eq!(found("{ } | by(resource.service.name) | count() < 3"), [vec![3, 4]]);
    check("{ } | by(resource.service.name) | count() < 3 | coalesce()", &[3, 4]);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let check = |text: &str, column: usize, part: &str| {
        let error = parse(text).expect_err(text);
        assert_eq!((error.line, error.column), (1, column), "{text}: {error}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    };
    check("{", 2, "expecting a field or a value");
    check("{ .a = }", 8, "expecting a value");
    check("{ .a = 1 } | foo()", 14, "\"foo\" is not supported");
    check("{ .a = 1 } | rate() | rate()", 23, "second stages");
    check("{ foo = 1 }", 3, "\"foo\" is no field");
    check("{ status = \"error\" }", 12, "status is compared with error, ok or unset");
    check("{ status > error }", 12, "a status is only equal or not");
    check("{ .a = error }", 8, ".a is compared with text");
    check("{ name = 3 }", 10, "name is compared with text in quotes");
    check("{ .a =~ 3 }", 9, "an expression is text");
    check("{ .a =~ \"(\" }", 9, "does not compile");
    check("{ .a = .b }", 8, "comparisons of two fields");
    check("{ parent.a = 1 }", 3, "of the parent are not supported");
    check("({ } | count() > 1) && { }", 6, "pipelines inside of parentheses");
    check("{ } | count() > \"a\"", 17, "an aggregate is compared with a number");
    check("{ } | quantile_over_time(duration, 2)", 36, "from 0 to 1");
    check("{ duration > 5xs }", 14, "neither a number nor a duration");
    check("{ } with(foo=true)", 10, "\"foo\" is not supported");
    let deep = format!("{{ {}.a{} }}", "(".repeat(40), ")".repeat(40));
    check(&deep, 36, "nested deeper than 32");
    assert!(parse(&"{ } && ".repeat(40)).is_err());
}

#[test]
fn metrics_parse() {
    let query =
        parse("{ } | quantile_over_time(duration, .5, 0.99) by (resource.service.name) with(exemplars=true)")
            .expect("it parses");
    let metric = query.metric.expect("there is one");
    assert_eq!(metric.kind, MetricKind::Quantile(Field::Intrinsic(Intrinsic::Duration), vec![0.5, 0.99]));
    assert_eq!(metric.by.len(), 1);
}

fn field() -> impl Strategy<Value = Field> {
    let scope = prop_oneof![
        Just(Scope::Any),
        Just(Scope::Span),
        Just(Scope::Resource),
        Just(Scope::Event),
        Just(Scope::Link),
        Just(Scope::Instrumentation)
    ];
    let name = prop_oneof!["[a-z][a-z0-9._/-]{0,6}", "\\PC{1,6}"];
    prop_oneof![
        (scope, name).prop_map(|(scope, name)| Field::Attribute(scope, name)),
        (0..Intrinsic::ALL.len()).prop_map(|at| Field::Intrinsic(Intrinsic::ALL[at].0)),
    ]
}

fn number() -> impl Strategy<Value = Literal> {
    prop_oneof![
        any::<i64>().prop_map(Literal::Int),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Literal::Float),
        (i64::MIN + 1..=i64::MAX).prop_map(Literal::Duration),
    ]
}

const ORDERS: [CompareOp; 6] = [
    CompareOp::Equal,
    CompareOp::NotEqual,
    CompareOp::Less,
    CompareOp::LessEqual,
    CompareOp::Greater,
    CompareOp::GreaterEqual,
];

fn comparison() -> impl Strategy<Value = Expr> {
    (field(), 0usize..6, number(), "\\PC{0,6}", 0usize..6, any::<bool>()).prop_map(
        |(field, op, number, text, pick, value)| {
            let equality = ORDERS[op % 2];
            let (op, literal) = match &field {
                Field::Intrinsic(Intrinsic::Status) => (equality, Literal::Status(STATES[pick % 3].0)),
                Field::Intrinsic(Intrinsic::Kind) => (equality, Literal::Kind(KINDS[pick].0)),
                Field::Intrinsic(Intrinsic::Duration | Intrinsic::TraceDuration) => (ORDERS[op], number),
                Field::Intrinsic(_) => (ORDERS[op], Literal::Text(text)),
                Field::Attribute(..) => match pick {
                    0 => (equality, Literal::Nil),
                    1 => (equality, Literal::Bool(value)),
                    2 => (CompareOp::Match, Literal::Text(regex::escape(&text))),
                    3 => (CompareOp::NotMatch, Literal::Text(regex::escape(&text))),
                    4 => (ORDERS[op], Literal::Text(text)),
                    _ => (ORDERS[op], number),
                },
            };
            Expr::Compare(field, op, literal)
        },
    )
}

fn expr() -> impl Strategy<Value = Expr> {
    let leaf =
        prop_oneof![comparison(), any::<bool>().prop_map(Expr::Constant), field().prop_map(Expr::Truth)];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::Or),
            inner.prop_map(|part| Expr::Not(Box::new(part))),
        ]
    })
}

fn spansets() -> impl Strategy<Value = Spansets> {
    let places =
        [Placement::Child, Placement::Descendant, Placement::Parent, Placement::Ancestor, Placement::Sibling];
    let op = prop_oneof![
        Just(SpansetOp::And),
        Just(SpansetOp::Or),
        (0usize..5, any::<bool>())
            .prop_map(move |(place, negated)| SpansetOp::Place { place: places[place], negated }),
    ];
    proptest::option::of(expr()).prop_map(Spansets::Filter).prop_recursive(3, 8, 2, move |inner| {
        (inner.clone(), op.clone(), inner)
            .prop_map(|(left, op, right)| Spansets::Op(Box::new(left), op, Box::new(right)))
    })
}

fn query() -> impl Strategy<Value = Query> {
    let fields = || proptest::collection::vec(field(), 1..3);
    let aggregate = prop_oneof![
        Just(Aggregate::Count),
        field().prop_map(Aggregate::Avg),
        field().prop_map(Aggregate::Min),
        field().prop_map(Aggregate::Max),
        field().prop_map(Aggregate::Sum),
    ];
    let stage = prop_oneof![
        spansets().prop_map(Stage::Filter),
        (aggregate, 0usize..6, number())
            .prop_map(|(aggregate, op, literal)| Stage::Aggregate(aggregate, ORDERS[op], literal)),
        fields().prop_map(Stage::By),
        fields().prop_map(Stage::Select),
        Just(Stage::Coalesce),
    ];
    let kind = prop_oneof![
        Just(MetricKind::Rate),
        Just(MetricKind::Count),
        field().prop_map(MetricKind::Min),
        field().prop_map(MetricKind::Avg),
        field().prop_map(MetricKind::Histogram),
        (field(), proptest::collection::vec(0.0f64..=1.0, 1..3))
            .prop_map(|(field, quantiles)| MetricKind::Quantile(field, quantiles)),
    ];
    let metric = (kind, proptest::collection::vec(field(), 0..3)).prop_map(|(kind, by)| Metric { kind, by });
    (spansets(), proptest::collection::vec(stage, 0..3), proptest::option::of(metric))
        .prop_map(|(spansets, stages, metric)| Query { spansets, stages, metric })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(query in query()) {
        let text = query.to_string();
        let parsed = parse(&text);
        prop_assert_eq!(parsed.as_ref(), Ok(&query), "{}", text);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[a-c{}()|&<>~!=.,\"` 0-9sm]{0,30}") {
        if let Ok(query) = parse(&text) {
            let again = query.to_string();
            let parsed = parse(&again);
            prop_assert_eq!(parsed.as_ref(), Ok(&query), "{} as {}", text, again);
        }
    }
}
