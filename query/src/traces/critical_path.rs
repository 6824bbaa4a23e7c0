//! The critical path of a trace: which span the end of the root was waiting for, at every moment.
//!
//! The algorithm is that of CRISP (Zhang et al., "CRISP: Critical Path Analysis of Large-Scale Microservice Architectures",
//! USENIX ATC 2022), which Jaeger's UI has, too: from the root's end backwards, the child that finished last is what was
//! waited for, down to its start; then again the child that finished last before that. What no child covers is the span's
//! own time.
//!
//! Clocks differ between machines, so that a child counts only where it lies within its parent: what begins before or ends
//! after it is clipped; what lies outside altogether was not waited for. Without recursion: depth is not bounded.

use super::assemble::Trace;

/// A part of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Position of the span.
    pub span: usize,
    /// From when.
    pub start_ns: i64,
    /// Until when.
    pub end_ns: i64,
}

/// A span on the way down.
struct Frame {
    span: usize,
    /// What it may cover: within its parents.
    start_ns: i64,
    /// Down to where its time is given to something.
    until_ns: i64,
    /// Children by their clipped end, the last one last, each with its clipped interval.
    children: Vec<(i64, i64, usize)>,
}

fn frame(trace: &Trace, span: usize, start_ns: i64, end_ns: i64) -> Frame {
    let clipped = |child: &usize| {
        let span = &trace.spans[*child].span;
        let (start, end) = (span.start_ns.max(start_ns), span.end_ns.min(end_ns));
        (start < end).then_some((end, start, *child))
    };
    let mut children: Vec<_> = trace.children(span).iter().filter_map(clipped).collect();
    children.sort_unstable();
    Frame { span, start_ns, until_ns: end_ns, children }
}

/// The path of the trace's root, by time.
pub fn critical_path(trace: &Trace) -> Vec<Segment> {
    let Some(root) = trace.root() else { return Vec::new() };
    let span = &trace.spans[root].span;
    let mut path = Vec::new();
    let mut frames = vec![frame(trace, root, span.start_ns, span.end_ns)];
    while let Some(top) = frames.last_mut() {
        // Children that were running when this one's successor began overlap it: nobody waited for their end.
        let next = std::iter::from_fn(|| top.children.pop()).find(|(end, _, _)| *end <= top.until_ns);
        let own_from = next.map_or(top.start_ns, |(end, _, _)| end);
        if own_from < top.until_ns {
            path.push(Segment { span: top.span, start_ns: own_from, end_ns: top.until_ns });
        }
        match next {
            Some((end, start, child)) => {
                top.until_ns = start;
                frames.push(frame(trace, child, start, end));
            }
            None => {
                frames.pop();
            }
        }
    }
    path.reverse();
    path
}
