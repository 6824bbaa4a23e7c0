//! Shapes of traces, sound and broken, and their critical paths.

use proptest::prelude::*;

use super::*;
use crate::traces::critical_path::{Segment, critical_path};

type Part = (Arc<LogStream<'static>>, Span<'static>);

fn part(service: &str, id: u64, parent: u64, start_ns: i64, end_ns: i64) -> Part {
    let service = LogValue::String(service.to_owned().into());
    let stream = LogStream { resource: vec![("service.name".into(), service)], ..LogStream::default() };
    let span = Span {
        trace_id: [1; 16],
        span_id: id.to_be_bytes(),
        parent_id: parent.to_be_bytes(),
        name: format!("span {id}").into(),
        start_ns,
        end_ns,
        ..Span::default()
    };
    (Arc::new(stream), span)
}

fn id(trace: &Trace, at: usize) -> u64 {
    u64::from_be_bytes(trace.spans[at].span.span_id)
}

/// The tree as text: ids in order, each with its depth.
fn shape(trace: &Trace) -> String {
    let line = |at: &usize| format!("{}@{}", id(trace, *at), trace.spans[*at].depth);
    trace.order.iter().map(line).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_tree_whatever_the_order_of_arrival() {
    let parts = vec![
        part("a", 3, 2, 30, 40),
        part("a", 1, 0, 10, 90),
        part("b", 4, 1, 50, 60),
        part("a", 2, 1, 20, 45),
        part("c", 5, 77, 5, 6),
    ];
    let mut reversed = parts.clone();
    reversed.reverse();
    for parts in [parts, reversed] {
        let trace = Trace::assemble(parts);
        // The true root comes before the orphan, though that begins earlier.
        assert_eq!(shape(&trace), "1@0 2@1 3@2 4@1 5@0");
        let summary = trace.summary().expect("it has spans");
        assert_eq!((summary.root_service.as_str(), summary.root_name.as_str()), ("a", "span 1"));
        assert_eq!((summary.start_ns, summary.end_ns, summary.spans), (5, 90, 5));
        assert_eq!(summary.services, [("a".into(), 3, 0), ("b".into(), 1, 0), ("c".into(), 1, 0)]);
    }
    assert!(Trace::assemble(Vec::new()).summary().is_none());
}

#[test]
fn circles_are_cut_at_their_earliest_span() {
    let trace = Trace::assemble(vec![
        part("a", 1, 3, 10, 20),
        part("a", 2, 1, 11, 20),
        part("a", 3, 2, 12, 20),
        part("a", 4, 2, 13, 20),
        part("a", 5, 5, 14, 20),
    ]);
    assert_eq!(shape(&trace), "1@0 2@1 3@2 4@2 5@0");
}

#[test]
fn both_parts_of_a_call_may_share_an_id() {
    let kind = |(stream, span): Part, kind: SpanKind| (stream, Span { kind, ..span });
    let trace = Trace::assemble(vec![
        part("web", 1, 0, 10, 90),
        kind(part("web", 2, 1, 20, 80), SpanKind::Client),
        kind(part("bank", 2, 1, 25, 75), SpanKind::Server),
        part("bank", 3, 2, 30, 70),
        part("web", 4, 2, 79, 80),
        part("other", 5, 2, 78, 79),
    ]);
    let parents: Vec<(u64, &str)> = trace
        .spans
        .iter()
        .filter_map(|span| Some((u64::from_be_bytes(span.span.span_id), trace.spans[span.parent?].service())))
        .collect();
    assert_eq!(parents, [(2, "web"), (2, "web"), (3, "bank"), (5, "bank"), (4, "web")]);
    assert_eq!(trace.len(), 6);
}

#[test]
fn what_came_twice_is_there_once() {
    let twice = || part("a", 1, 0, 10, 20);
    let other = (twice().0, Span { status: SpanStatus::Error, ..twice().1 });
    assert_eq!(Trace::assemble(vec![twice(), twice()]).len(), 1);
    assert_eq!(Trace::assemble(vec![twice(), other]).len(), 2);
}

#[test]
fn a_hundred_thousand_spans_deep() {
    let depth = 100_000;
    let parts = (1..=depth).map(|id| part("a", id, id - 1, id as i64, (2 * depth - id) as i64)).collect();
    let trace = Trace::assemble(parts);
    assert_eq!(trace.spans[trace.order[trace.len() - 1]].depth, trace.len() - 1);
    // Down and up again, but for the two in the middle: the deepest takes no time.
    let path = critical_path(&trace);
    assert_eq!(path.len() as u64, 2 * depth - 3);
}

fn path(parts: Vec<Part>) -> Vec<(u64, i64, i64)> {
    let trace = Trace::assemble(parts);
    let segment = |segment: &Segment| (id(&trace, segment.span), segment.start_ns, segment.end_ns);
    critical_path(&trace).iter().map(segment).collect()
}

#[test]
fn the_path_is_what_the_end_waited_for() {
    // One after the other, then two at once: the later of these counts, the other does not.
    let parts = vec![
        part("a", 1, 0, 0, 100),
        part("a", 2, 1, 10, 30),
        part("a", 3, 1, 40, 60),
        part("a", 4, 1, 45, 90),
        part("a", 5, 4, 50, 80),
    ];
    assert_eq!(
        path(parts),
        [(1, 0, 10), (2, 10, 30), (1, 30, 45), (4, 45, 50), (5, 50, 80), (4, 80, 90), (1, 90, 100)]
    );
    // Clocks: a child is clipped to its parent, one that lies outside is nothing.
    let skewed = vec![
        part("a", 1, 0, 10, 100),
        part("b", 2, 1, 5, 20),
        part("b", 3, 1, 90, 120),
        part("b", 4, 1, 200, 300),
    ];
    assert_eq!(path(skewed), [(2, 10, 20), (1, 20, 90), (3, 90, 100)]);
    assert_eq!(path(Vec::new()), []);
}

proptest! {
    #[test]
    fn any_parents_make_a_forest(
        spans in proptest::collection::vec((1u64..20, 0u64..20, 0i64..50, 0i64..30, 0u8..2), 0..25),
    ) {
        let parts: Vec<Part> = spans
            .into_iter()
            .map(|(id, parent, start, long, service)| {
                part(["a", "b"][usize::from(service)], id, parent, start, start + long)
            })
            .collect();
        let trace = Trace::assemble(parts);
        // Every span once, behind its parent.
        let mut place = vec![usize::MAX; trace.len()];
        for (order, at) in trace.order.iter().enumerate() {
            place[*at] = order;
        }
        prop_assert!(trace.order.len() == trace.len() && !place.contains(&usize::MAX));
        for (at, span) in trace.spans.iter().enumerate() {
            if let Some(parent) = span.parent {
                prop_assert!(place[parent] < place[at]);
                prop_assert!(trace.children(parent).contains(&at));
            }
        }
        // The path covers the root's time without a gap.
        let path = critical_path(&trace);
        if let (Some(root), Some(first), Some(last)) = (trace.root(), path.first(), path.last()) {
            let root = &trace.spans[root].span;
            prop_assert_eq!((first.start_ns, last.end_ns), (root.start_ns, root.end_ns));
        }
        for pair in path.windows(2) {
            prop_assert_eq!(pair[0].end_ns, pair[1].start_ns);
        }
    }
}
