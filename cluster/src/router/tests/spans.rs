//! Spans: each trace on one shard, each request once.

use protocol::logs::LogStream;
use protocol::spans::{Span, SpanEvent, SpanSink};

use super::*;
use crate::router::spans::SpanBatchBuilder;

fn span(trace: u8, name: &str) -> Span<'_> {
    Span {
        trace_id: [trace; 16],
        span_id: [1; 8],
        name: name.into(),
        start_ns: NOW * 1_000_000,
        end_ns: NOW * 1_000_000 + 5,
        ..Span::default()
    }
}

fn batch_of(t: &Setup, spans: &[(u8, &str)]) -> SpanBatchBuilder {
    let mut batch = t.router.span_batch(&t.tenant).expect("cluster time is known");
    for (trace, name) in spans {
        let service = LogValue::String(format!("service {}", trace % 3).into());
        batch.stream(&LogStream { resource: vec![("service.name".into(), service)], ..LogStream::default() });
        batch.span(&span(*trace, name));
    }
    batch
}

fn stored(t: &Setup) -> Vec<([u8; 16], String)> {
    let mut spans = t.shards.all(|shard| shard.spans.clone());
    spans.sort();
    spans
}

#[tokio::test]
async fn a_trace_lies_on_one_shard_and_late_spans_join_it() {
    let t = setup();
    let early: Vec<(u8, &str)> = (1..=60).map(|trace| (trace, "early")).collect();
    let late: Vec<(u8, &str)> = (1..=60).rev().map(|trace| (trace, "late")).collect();
    let receipt = t.router.write_spans(batch_of(&t, &early), None).await.expect("written");
    assert_eq!((receipt.records, receipt.repeated), (60, false));
    let shards = receipt.token.positions().count();
    assert!(shards > 1, "they are spread");
    t.router.write_spans(batch_of(&t, &late), None).await.expect("written");
    for shard in t.shards.map.shards() {
        let mut traces: BTreeMap<[u8; 16], Vec<String>> = BTreeMap::new();
        for (trace, name) in t.shards.shard(shard).spans.clone() {
            traces.entry(trace).or_default().push(name);
        }
        assert!(traces.values().all(|names| names == &["early", "late"]), "{traces:?}");
    }
    assert_eq!(stored(&t).len(), 120);
    // Another tenant's trace of the same id may lie elsewhere, and is another one.
    let slots = |tenant: &str| {
        let tenant = TenantId::new(tenant).expect("a valid name");
        let slots = crate::router::spans::TraceSlots::new(&ClusterSecret([5; 32]), &tenant);
        (0..60u8).map(|trace| slots.slot_of(&[trace; 16])).collect::<Vec<_>>()
    };
    assert_ne!(slots("default"), slots("other"));
    assert_eq!(slots("other"), slots("other"));
}

#[tokio::test]
async fn a_request_that_comes_again_meets_the_same_keys() {
    let t = setup();
    let spans: Vec<(u8, &str)> = (1..=40).map(|trace| (trace, "a")).collect();
    let key = Some(t.router.body_key(&t.tenant, b"body"));
    // One shard takes its share and does not say so.
    let uncertain = |shard: ShardId| (WriteError::Uncertain { shard, reason: "no answer".to_owned() }, true);
    t.shards.shard(ShardId(2)).errors.push(uncertain(ShardId(2)));
    let receipt = t.router.write_spans(batch_of(&t, &spans), key).await.expect("written");
    assert_eq!((receipt.records, receipt.repeated), (40, false));
    let again = t.router.write_spans(batch_of(&t, &spans), key).await.expect("known");
    assert_eq!((again.records, again.repeated), (40, true));
    assert_eq!(again.token.positions().count(), receipt.token.positions().count());
    assert_eq!(stored(&t).len(), 40);
    // A log request under the same key is another one.
    let mut logs = t.router.log_batch(&TenantId::default()).expect("cluster time is known");
    logs.record(&LogRecord { time_ns: NOW * 1_000_000, ..LogRecord::default() });
    assert!(!t.router.write_logs(&t.tenant, logs, key).await.expect("written").repeated);
    // Without a key each request is new.
    for _ in 0..2 {
        t.router.write_spans(batch_of(&t, &[(1, "b")]), None).await.expect("written");
    }
    assert_eq!(stored(&t).len(), 42);
    let empty = t.router.write_spans(batch_of(&t, &[]), None).await.expect("nothing to do");
    assert_eq!(empty, crate::router::logs::LogReceipt::default());
}

#[tokio::test]
async fn shards_that_fail_are_named_and_the_rest_is_written_once() {
    let t = setup();
    let spans: Vec<(u8, &str)> = (1..=40).map(|trace| (trace, "a")).collect();
    let key = Some(t.router.declared_key(&t.tenant, "mine"));
    t.shards.shard(ShardId(3)).max_keys = Some(0);
    let error = t.router.write_spans(batch_of(&t, &spans), key).await.expect_err("no room on one shard");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    let RouteError::Shards { failures } = &error else { panic!("{error}") };
    assert_eq!(failures.iter().map(|(shard, _)| *shard).collect::<Vec<_>>(), [ShardId(3)]);
    t.shards.shard(ShardId(3)).max_keys = None;
    let receipt = t.router.write_spans(batch_of(&t, &spans), key).await.expect("written");
    assert_eq!((receipt.records, receipt.repeated), (40, false));
    assert_eq!(stored(&t).len(), 40);
}

#[tokio::test]
async fn what_can_not_be_kept_is_left_out_and_counted() {
    let t = setup();
    let mut batch = batch_of(&t, &[(1, "kept")]);
    batch.span(&Span { trace_id: [0; 16], ..span(1, "no trace") });
    batch.span(&Span { span_id: [0; 8], ..span(1, "no id") });
    for start_ms in [NOW - 15 * 86_400_000, NOW + 700_000] {
        batch.span(&Span { start_ns: start_ms * 1_000_000, ..span(1, "elsewhen") });
    }
    batch.span(&Span { start_ns: 0, end_ns: 0, ..span(1, "no time") });
    batch.span(&Span { start_ns: 0, ..span(1, "only an end") });
    let deep = (0..100).fold(LogValue::Empty, |inner, _| LogValue::List(vec![inner]));
    let attributes = vec![("deep".into(), deep.clone())];
    let event = SpanEvent { attributes: attributes.clone(), ..SpanEvent::default() };
    batch.span(&Span { attributes: attributes.clone(), ..span(1, "deep") });
    batch.span(&Span { events: vec![event], ..span(1, "deep inside") });
    batch.stream(&LogStream { resource: attributes, ..LogStream::default() });
    batch.span(&span(1, "of a deep stream"));
    assert_eq!((batch.len(), batch.without_id(), batch.too_deep()), (2, 2, 3));
    assert_eq!((batch.outside().too_old, batch.outside().too_new), (2, 1));
    t.router.write_spans(batch, None).await.expect("written");
    let names: Vec<String> = stored(&t).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["kept", "only an end"]);
    *t.shards.time.lock().expect("no test panics inside") = None;
    assert_eq!(t.router.span_batch(&t.tenant).err(), Some(RouteError::NoClusterTime));
}
