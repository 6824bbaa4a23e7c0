//! Spans of a store: what is read is what was pushed, by range of time, by filter and by trace, wherever it lies.

use protocol::command::RetentionCut;
use protocol::logs::RowSignal;
use protocol::logs::value::id_text;
use protocol::spans::{Span, SpanEvent, SpanKind, SpanLink, SpanStatus, row};

use super::*;

fn span(trace: u8, id: u64, start_ns: i64, took_ns: i64) -> Span<'static> {
    Span {
        trace_id: [trace; 16],
        span_id: id.to_be_bytes(),
        name: "GET /item".into(),
        kind: SpanKind::Server,
        start_ns,
        end_ns: start_ns + took_ns,
        ..Span::default()
    }
}

/// A sub-batch as a router makes it.
pub(crate) fn span_batch_of(tenant: &TenantId, key: u64, spans: &[(LogStream<'_>, Span<'_>)]) -> Bytes {
    let mut builder = LogBatchBuilder::of(RowSignal::Spans);
    for (stream, span) in spans {
        builder.stream(stream);
        builder.record(&row::row_of(span));
    }
    let mut name = [0; 16];
    name[..8].copy_from_slice(&key.to_le_bytes());
    let mut parts = builder.finish(tenant, BatchKey(name)).expect("short spans");
    assert_eq!(parts.len(), 1);
    parts.remove(0).1
}

fn reader(tenant: &TenantId) -> LogReader<'_> {
    LogReader { signal: RowSignal::Spans, tenant, should_stop: &|| false }
}

fn read_spans(snapshot: &StoreSnapshot, tenant: &TenantId, scan: &LogScan) -> Vec<Encoded> {
    let mut out = Vec::new();
    let visit = &mut |stream: &LogStream<'_>, span: &Span<'_>| {
        out.push(encoded(stream, &row::row_of(span)));
        ControlFlow::Continue(())
    };
    snapshot.spans(reader(tenant), scan, visit).expect("readable spans");
    out
}

fn read_trace(snapshot: &StoreSnapshot, tenant: &TenantId, trace_id: &[u8; 16]) -> Vec<Encoded> {
    let mut out = Vec::new();
    let visit = &mut |stream: &LogStream<'_>, span: &Span<'_>| {
        out.push(encoded(stream, &row::row_of(span)));
        ControlFlow::Continue(())
    };
    snapshot.trace(reader(tenant), trace_id, visit).expect("readable spans");
    out
}

fn note(model: &mut Model, tenant: usize, spans: &[(LogStream<'_>, Span<'_>)]) {
    for (stream, span) in spans {
        let record = row::row_of(span);
        model.0.push((tenant, encoded(stream, &record), record.effective_ns()));
    }
}

fn expected(model: &Model, tenant: usize, scan: &LogScan) -> Vec<Encoded> {
    model.expected(tenant, &LogScan { filter: row::row_filter(&scan.filter), ..scan.clone() })
}

#[test]
fn a_trace_is_found_whole_wherever_its_spans_lie() {
    let mut replica = Replica::new();
    let (of, other) = (TenantId::default(), tenant(1));
    let (mut model, mut id) = (Model::default(), 0);
    // Late spans come days after the others, into segments of their own.
    for day in 0..3i64 {
        let spans: Vec<_> = (1..200u8)
            .map(|trace| {
                id += 1;
                (stream("a"), span(trace, id, day * DAY_NS + i64::from(trace) * 1000, 500))
            })
            .collect();
        assert_eq!(
            replica.write_bytes(span_batch_of(&of, day as u64, &spans)),
            LogBatchOutcome::Applied { records: 199 }
        );
        note(&mut model, 0, &spans);
        if day < 2 {
            replica.flush();
            replica.settle(&idle());
        }
    }
    replica.write_bytes(span_batch_of(&other, 9, &[(stream("a"), span(7, 9000, 5, 5))]));
    replica.write(10, &[(stream("a"), LogRecord { trace_id: [7; 16], ..line(5, "a line of the trace") })]);
    let is_whole = |replica: &Replica, what: &str| {
        let snapshot = replica.store.snapshot();
        for trace in [1, 7, 199u8] {
            let id = LogTest::Equals(id_text(&[trace; 16]));
            let all = expected(&model, 0, &scan_of(LogFilter::Field(LogField::TraceId, id), false));
            assert_eq!(all.len(), 3);
            assert!(read_trace(&snapshot, &of, &[trace; 16]) == all, "{what}: trace {trace}");
        }
        let some = LogTest::OneOf([1u8, 7, 199, 200].map(|trace| id_text(&[trace; 16])).into());
        let scan = scan_of(LogFilter::Field(LogField::TraceId, some), false);
        let all = expected(&model, 0, &scan);
        assert_eq!(all.len(), 9);
        assert!(read_spans(&snapshot, &of, &scan) == all, "{what}: traces together");
        assert_eq!(read_trace(&snapshot, &other, &[7; 16]).len(), 1, "{what}: the other tenant's");
        assert!(
            read_trace(&snapshot, &of, &[200; 16]).is_empty()
                && read_trace(&snapshot, &of, &[0; 16]).is_empty()
        );
        assert_eq!(read(&snapshot, &of, &scan_of(LogFilter::All, false)).len(), 1, "{what}: logs stay logs");
    };
    is_whole(&replica, "segments and memtable");
    replica.restart(true);
    is_whole(&replica, "after a crash");
    replica.flush();
    is_whole(&replica, "frozen");
    replica.settle(&FlushPolicy { merge_all: true, ..idle() });
    is_whole(&replica, "merged");
    let stats = replica.store.stats();
    assert_eq!((stats.segment_spans, stats.segment_records, stats.memtable_spans), (598, 1, 0));
    // Deletes of logs and their retention leave spans alone.
    replica.delete(&of, LogFilter::All, (i64::MIN, i64::MAX));
    replica.settle(&FlushPolicy { clean_tombstones: true, retention: rows_kept(Some(0), None), ..idle() });
    assert_eq!((replica.store.stats().tombstones, replica.store.stats().segment_records), (0, 0));
    replica.time_ms = 4 * PARTITION_MS;
    assert_eq!(read_trace(&replica.store.snapshot(), &of, &[7; 16]).len(), 3);
    replica.settle(&FlushPolicy { retention: rows_kept(None, Some(2 * PARTITION_MS - 1)), ..idle() });
    assert_eq!(
        read_trace(&replica.store.snapshot(), &of, &[7; 16]).len(),
        1,
        "what is old goes whole days at a time"
    );
}

#[test]
fn a_tenants_own_days_go_when_its_own_time_is_over() {
    let mut replica = Replica::new();
    for day in 0..6i64 {
        for number in 0..2 {
            let (of, at) = (tenant(number), day * DAY_NS + 5);
            let key = (day * 10) as u64 + number as u64;
            replica.write_bytes(batch_of(&of, key, &[(stream("a"), line(at, "a line"))]));
            replica.write_bytes(span_batch_of(&of, key + 5, &[(stream("a"), span(1, key, at, 5))]));
        }
        replica.flush();
    }
    replica.settle(&idle());
    let left = |replica: &Replica, number: usize| {
        let (snapshot, scan) = (replica.store.snapshot(), scan_of(LogFilter::All, false));
        let count = |signal| read_rows(&snapshot, signal, &tenant(number), &scan).len();
        (count(RowSignal::Logs), count(RowSignal::Spans))
    };
    let mut retention = Retention::of_all(Ages { logs: Some(5 * PARTITION_MS), ..Ages::default() });
    let own = Ages { logs: Some(2 * PARTITION_MS), spans: Some(3 * PARTITION_MS), ..Ages::default() };
    retention.own.insert(tenant(1), own);
    replica.time_ms = 6 * PARTITION_MS;
    let policy = FlushPolicy { retention: Arc::new(retention), ..idle() };
    replica.settle(&policy);
    assert_eq!(left(&replica, 1), (5, 6), "a cluster with an older build in it can not leave anybody out");
    let policy = FlushPolicy { encoder_epoch: protocol::epoch::NEWEST, ..policy };
    replica.settle(&policy);
    assert_eq!((left(&replica, 0), left(&replica, 1)), ((5, 6), (2, 3)));
    replica.restart(true);
    assert_eq!((left(&replica, 0), left(&replica, 1)), ((5, 6), (2, 3)), "after a crash");
    // A tenant that keeps its logs longer than others is what is left of their days.
    let mut longer = Retention::clone(&policy.retention);
    longer.general.logs = Some(PARTITION_MS);
    replica.settle(&FlushPolicy { retention: Arc::new(longer), ..policy });
    assert_eq!((left(&replica, 0), left(&replica, 1)), ((1, 6), (2, 3)));
}

#[test]
fn a_request_of_spans_that_comes_again_changes_nothing() {
    let mut replica = Replica::new();
    let batch = span_batch_of(&TenantId::default(), 1, &[(stream("a"), span(1, 1, 5, 5))]);
    assert_eq!(replica.write_bytes(batch.clone()), LogBatchOutcome::Applied { records: 1 });
    assert_eq!(replica.write_bytes(batch.clone()), LogBatchOutcome::Duplicate { records: 1 });
    replica.flush();
    replica.settle(&idle());
    replica.restart(true);
    assert_eq!(replica.write_bytes(batch), LogBatchOutcome::Duplicate { records: 1 });
    assert_eq!(read_trace(&replica.store.snapshot(), &TenantId::default(), &[1; 16]).len(), 1);
}

#[test]
fn a_cut_names_the_signal_that_it_drops() {
    let mut replica = Replica::new();
    replica.write(1, &[(stream("a"), line(5, "x"))]);
    replica.write_bytes(span_batch_of(&TenantId::default(), 2, &[(stream("a"), span(1, 1, 5, 5))]));
    replica.flush();
    replica.settle(&idle());
    let cut = RetentionCut { signal: RowSignal::Spans.number(), class: 0, before_ms: i64::MAX };
    let header = CommandHeader { encoder_epoch: 1, cluster_time_ms: 0 };
    let body = CommandBody::DropPartitions(vec![cut]);
    replica.apply(protocol::command::Command { header, body }.encode());
    let stats = replica.store.stats();
    assert_eq!((stats.segment_records, stats.segment_spans), (1, 0));
}

#[test]
fn fields_and_counts_speak_of_spans() {
    let mut replica = Replica::new();
    let tenant = TenantId::default();
    let full = Span {
        parent_id: [3; 8],
        status: SpanStatus::Error,
        status_message: "no room".into(),
        events: vec![SpanEvent { time_ns: 7, name: "retry".into(), ..SpanEvent::default() }],
        attributes: vec![("http.route".into(), text("/item")), ("\u{1}parent".into(), LogValue::Int(1))],
        ..span(1, 1, 5, 5)
    };
    let spans = [(stream("a"), full), (stream("b"), span(1, 2, 6, 5)), (stream("b"), span(2, 3, 7, 1))];
    replica.write_bytes(span_batch_of(&tenant, 1, &spans));
    let check = |replica: &Replica| {
        let snapshot = replica.store.snapshot();
        let mut fields = BTreeMap::new();
        let visit = &mut |field: &super::super::scan::FieldCount| {
            *fields.entry(format!("{:?}", field.field)).or_insert(0) += field.records;
            ControlFlow::Continue(())
        };
        let all = (i64::MIN, i64::MAX);
        snapshot.log_fields(reader(&tenant), all, &LogFilter::All, visit).expect("readable spans");
        let named = [
            ("Body", 3),
            ("Duration", 3),
            ("ParentId", 1),
            ("RecordAttribute(\"\\u{1}parent\")", 1),
            ("RecordAttribute(\"http.route\")", 1),
            ("ResourceAttribute(\"service.name\")", 3),
            ("SpanId", 3),
            ("SpanKind", 3),
            ("SpanStatus", 1),
            ("StatusMessage", 1),
            ("TraceId", 3),
        ];
        assert_eq!(fields, named.map(|(name, count)| (name.to_owned(), count)).into());
        let by = [
            LogField::ResourceAttribute("service.name".to_owned()),
            LogField::SpanStatus,
            LogField::RecordAttribute("\u{1}parent".to_owned()),
        ];
        let counting = LogCounting { start_ns: 0, end_ns: 9, filter: &LogFilter::All, bucket_ns: 0, by: &by };
        let mut counts = Vec::new();
        let visit = &mut |_: u64, labels: &[&str], count: u64| {
            counts.push((labels.join(" "), count));
            ControlFlow::Continue(())
        };
        snapshot.log_counts(reader(&tenant), &counting, visit).expect("readable spans");
        counts.sort();
        assert_eq!(counts, [("a 2 1".to_owned(), 1), ("b 0 ".to_owned(), 2)]);
    };
    check(&replica);
    replica.flush();
    replica.settle(&idle());
    check(&replica);
}

fn any_span() -> impl Strategy<Value = Span<'static>> {
    let ids = (1u8..6, 1u64..1000, prop_oneof![Just(0u64), 1..4u64]);
    let time = (0i64..4, 0i64..20).prop_map(|(day, ms)| day * DAY_NS + ms * 1_000_000);
    let name = prop_oneof![
        Just("GET /user/7".to_owned()),
        (0u32..50).prop_map(|n| format!("user {n}")),
        Just(String::new())
    ];
    let value = prop_oneof![
        any_body(),
        (0i64..4).prop_map(LogValue::Int),
        Just(text("warm")),
        Just(LogValue::List(vec![LogValue::Int(1), LogValue::Empty])),
    ];
    let key =
        prop_oneof![3 => Just("status"), 3 => Just("id"), 1 => Just("\u{1}parent"), 1 => Just("\u{1}x")];
    let attributes = prop::collection::vec((key.prop_map(Into::into), value), 0..4);
    let event = (0i64..9, attributes.clone()).prop_map(|(time_ns, attributes)| SpanEvent {
        time_ns,
        name: "event".into(),
        attributes,
        dropped_attributes: 1,
    });
    let link = attributes.clone().prop_map(|attributes| SpanLink {
        trace_id: [1; 16],
        span_id: [2; 8],
        attributes,
        ..SpanLink::default()
    });
    let lists = (prop::collection::vec(event, 0..3), prop::collection::vec(link, 0..2), attributes);
    let kinds = (0u8..6, 0u8..3, prop_oneof![Just(""), Just("user 7"), Just("warm")], 0u32..2);
    let took = prop_oneof![0i64..9, Just(-5i64), Just(1_000_000_000)];
    (ids, name, kinds, time, took, lists).prop_map(
        |((trace, id, parent), name, (kind, status, message, dropped), start_ns, took, lists)| Span {
            parent_id: parent.to_be_bytes(),
            name: name.into(),
            kind: SpanKind::of_number(kind).expect("one of six"),
            status: SpanStatus::of_number(status).expect("one of three"),
            status_message: message.into(),
            trace_state: message.into(),
            flags: dropped,
            events: lists.0,
            links: lists.1,
            attributes: lists.2,
            dropped_attributes: dropped,
            dropped_links: dropped * 7,
            ..span(trace, id, start_ns, took)
        },
    )
}

fn any_filter_of_spans() -> impl Strategy<Value = LogFilter> {
    let own = prop_oneof![
        Just(LogField::Duration),
        Just(LogField::SpanKind),
        Just(LogField::SpanStatus),
        Just(LogField::StatusMessage),
        Just(LogField::ParentId),
        Just(LogField::Events),
        Just(LogField::Attribute("\u{1}parent".to_owned())),
        Just(LogField::RecordAttribute("\u{1}message".to_owned())),
    ];
    let test = prop_oneof![
        3 => any_test(),
        1 => (1u8..7).prop_map(|trace| LogTest::Equals(id_text(&[trace; 16]))),
        1 => (0u64..4).prop_map(|parent| LogTest::Equals(id_text(&parent.to_be_bytes()))),
        1 => Just(LogTest::Equals("010101".to_owned())),
        1 => prop::collection::vec((0u8..7).prop_map(|trace| id_text(&[trace; 16])), 0..3).prop_map(LogTest::OneOf),
    ];
    let field = prop_oneof![2 => own, 2 => Just(LogField::TraceId), 1 => any_field()];
    let leaf = (field, test).prop_map(|(field, test)| LogFilter::Field(field, test));
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(LogFilter::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(LogFilter::Or),
            inner.prop_map(|part| LogFilter::Not(Box::new(part))),
        ]
    })
}

#[derive(Clone, Debug)]
enum SpanStep {
    Write { tenant: usize, spans: Vec<(bool, Span<'static>)> },
    Flush,
    Settle,
    Merge,
    Restart { crash: bool },
}

fn any_span_step() -> impl Strategy<Value = SpanStep> {
    let spans = prop::collection::vec((any::<bool>(), any_span()), 1..30);
    prop_oneof![
        6 => (0..2usize, spans).prop_map(|(tenant, spans)| SpanStep::Write { tenant, spans }),
        3 => Just(SpanStep::Flush),
        2 => Just(SpanStep::Settle),
        1 => Just(SpanStep::Merge),
        1 => any::<bool>().prop_map(|crash| SpanStep::Restart { crash }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_spans_reads_as_the_model(
        steps in prop::collection::vec(any_span_step(), 1..20),
        filters in prop::collection::vec(any_filter_of_spans(), 1..8),
        range in (0i64..4, 0i64..20, 0i64..4),
    ) {
        let mut replica = Replica::new();
        let mut model = Model::default();
        for (key, step) in (0u64..).zip(steps) {
            match step {
                SpanStep::Write { tenant: number, spans } => {
                    let spans: Vec<_> =
                        spans.into_iter().map(|(a, span)| (stream(if a { "a" } else { "b" }), span)).collect();
                    let outcome = replica.write_bytes(span_batch_of(&tenant(number), key, &spans));
                    prop_assert_eq!(outcome, LogBatchOutcome::Applied { records: spans.len() as u64 });
                    note(&mut model, number, &spans);
                    // Of logs beside them nothing shows among spans.
                    replica.write(1000 + key, &[(stream("a"), line(1, "user 7"))]);
                }
                SpanStep::Flush => replica.flush(),
                SpanStep::Settle => replica.settle(&idle()),
                SpanStep::Merge => replica.settle(&FlushPolicy { merge_all: true, ..idle() }),
                SpanStep::Restart { crash } => replica.restart(crash),
            }
        }
        let start_ns = range.0 * DAY_NS + range.1 * 1_000_000;
        let end_ns = start_ns + range.2 * DAY_NS;
        let snapshot = replica.store.snapshot();
        for filter in filters {
            for (newest_first, (start_ns, end_ns)) in
                [(false, (i64::MIN, i64::MAX)), (true, (start_ns, end_ns)), (false, (start_ns, end_ns))]
            {
                let scan = LogScan { start_ns, end_ns, ..scan_of(filter.clone(), newest_first) };
                for number in 0..TENANTS.len() {
                    let found = read_spans(&snapshot, &tenant(number), &scan);
                    let expected = expected(&model, number, &scan);
                    prop_assert!(found == expected, "{} of {} spans, {:?}", found.len(), expected.len(), scan);
                }
            }
        }
        for trace in 0..7u8 {
            let filter = LogFilter::Field(LogField::TraceId, LogTest::Equals(id_text(&[trace; 16])));
            let expected = if trace == 0 { Vec::new() } else { expected(&model, 0, &scan_of(filter, false)) };
            prop_assert!(read_trace(&snapshot, &tenant(0), &[trace; 16]) == expected, "trace {}", trace);
        }
        // A replica that replays all of the log comes to the same state.
        replica.settle(&FlushPolicy { force_flush: true, ..idle() });
        let fresh_fs = MemFs::new(3).with_dir("/data");
        let fresh = open(&fresh_fs);
        for (at, command) in replica.log.iter().enumerate() {
            Replica::apply_at(&fresh, at as u64 + 1, command);
            Replica::run_jobs(&fresh);
        }
        prop_assert_eq!(fresh.digest(), replica.store.digest());
        let all = scan_of(LogFilter::All, true);
        prop_assert!(read_spans(&fresh.snapshot(), &tenant(0), &all) == expected(&model, 0, &all));
    }
}

/// Traces of 8 to 20 spans as an instrumented shop sends them, spans by the time at which they end, as exporters do.
fn shop(traces: u64) -> Vec<(LogStream<'static>, Span<'static>)> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    };
    let services = ["frontend", "cart", "checkout", "payment", "catalog", "shipping"];
    let operations =
        ["GET /items/{id}", "POST /orders", "SELECT shop.items", "charge", "publish orders", "reserve"];
    let mut spans = Vec::new();
    for trace in 0..traces {
        let trace_id = (u128::from(next(u64::MAX)) << 64 | u128::from(next(u64::MAX))).to_be_bytes();
        let (mut start_ns, mut ids) =
            (trace as i64 * 24_000_000 + next(20_000_000) as i64, Vec::<u64>::new());
        for at in 0..8 + next(13) {
            let service = services[next(6) as usize];
            let operation = next(6) as usize;
            let parent = if at == 0 { 0 } else { ids[next(at) as usize] };
            let took_ns = 50_000 + (next(6_000) * next(6_000)) as i64;
            let attributes = vec![
                ("http.request.method".into(), text(["GET", "POST", "PUT"][next(3) as usize])),
                (
                    "http.response.status_code".into(),
                    LogValue::Int([200, 200, 200, 404, 500][next(5) as usize]),
                ),
                ("url.path".into(), text(format!("/items/{}", next(50_000)))),
                ("user.id".into(), LogValue::Int(next(20_000) as i64)),
                ("thread.id".into(), LogValue::Int(next(64) as i64)),
            ];
            let resource = vec![
                ("service.name".into(), text(service)),
                ("host.name".into(), text(format!("{service}-{}", next(5)))),
            ];
            let failed = next(50) == 0;
            let span = Span {
                parent_id: parent.to_be_bytes(),
                name: operations[operation].into(),
                kind: SpanKind::of_number(1 + next(5) as u8).expect("one of five"),
                status: if failed { SpanStatus::Error } else { SpanStatus::Unset },
                status_message: if failed { "deadline exceeded" } else { "" }.into(),
                flags: 0x101,
                attributes,
                trace_id,
                ..span(0, 1 + next(u64::MAX - 1), start_ns, took_ns)
            };
            start_ns += next(300_000) as i64;
            ids.push(u64::from_be_bytes(span.span_id));
            spans.push((LogStream { resource, ..LogStream::default() }, span));
        }
    }
    spans.sort_by_key(|(_, span)| span.end_ns);
    spans
}

#[test]
fn a_span_takes_few_bytes() {
    let spans = shop(2500);
    let mut replica = Replica::new();
    for (key, chunk) in (0..).zip(spans.chunks(1000)) {
        replica.write_bytes(span_batch_of(&TenantId::default(), key, chunk));
        if key % 10 == 9 {
            replica.flush();
        }
    }
    replica.settle(&FlushPolicy { merge_all: true, force_flush: true, ..idle() });
    let per_span = replica.store.segment_bytes() as f64 / spans.len() as f64;
    assert!(per_span < 45.0, "{per_span} bytes a span");
    let trace = spans[spans.len() / 2].1.trace_id;
    let whole = spans.iter().filter(|(_, span)| span.trace_id == trace).count();
    assert_eq!(read_trace(&replica.store.snapshot(), &TenantId::default(), &trace).len(), whole);
}
