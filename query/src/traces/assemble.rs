//! Spans of a trace, whenever and from wherever they came, as one tree.
//!
//! ```text
//! spans ─sorted by start, repeated ones once─► parents by id ─cycles cut─► roots, children, order from the top
//! ```
//!
//! Nothing here recurses: a trace may be 100,000 spans deep. The shape does not depend on the order of arrival:
//!
//! - A span whose parent is not there (not yet, or never sent) is an *orphan*: a root besides the true ones.
//! - Two spans may have one id: the client's and the server's part of a call, as Zipkin's clients write it. The server's is
//!   the client's child, and what names the id as its parent is the child of that part which is of its own service, else of
//!   the server's.
//! - Parents that lead back to the span itself are cut at the earliest span of the circle, which becomes a root.
//! - A span that came twice, equal in everything, is there once.

use std::sync::Arc;

use protocol::logs::{Attribute, LogStream, LogValue};
use protocol::spans::{Span, SpanKind, SpanStatus};

use crate::value::Map;

/// A span and who emitted it.
pub type Part = (Arc<LogStream<'static>>, Span<'static>);

/// A span of a trace and its place in it.
#[derive(Clone, Debug)]
pub struct TraceSpan {
    /// Who emitted it.
    pub stream: Arc<LogStream<'static>>,
    /// The span.
    pub span: Span<'static>,
    /// Position of its parent, none for roots and orphans.
    pub parent: Option<usize>,
    /// Spans above it.
    pub depth: usize,
}

impl TraceSpan {
    /// Name of the service that emitted it; empty where the resource has none.
    pub fn service(&self) -> &str {
        service_of(&self.stream)
    }

    /// Whether it names a parent that the trace does not have.
    pub fn is_orphan(&self) -> bool {
        self.parent.is_none() && self.span.parent_id != [0; 8]
    }
}

/// Name of the service of a stream; empty where it has none.
pub fn service_of<'s>(stream: &'s LogStream<'_>) -> &'s str {
    match attribute(&stream.resource, "service.name") {
        Some(LogValue::String(name)) => name,
        _ => "",
    }
}

/// The first value of an attribute.
pub fn attribute<'s, 'a>(attributes: &'s [Attribute<'a>], name: &str) -> Option<&'s LogValue<'a>> {
    attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// A trace.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Its spans, by start.
    pub spans: Vec<TraceSpan>,
    /// Positions of spans without a parent here, true roots before orphans, then by start.
    pub roots: Vec<usize>,
    /// Positions of all spans, every parent before its children; children by start.
    pub order: Vec<usize>,
    /// Children of all, by parent; where those of each begin.
    children: Vec<usize>,
    first_child: Vec<usize>,
}

/// What a trace is in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its id.
    pub trace_id: [u8; 16],
    /// Service of the root.
    pub root_service: String,
    /// Name of the root.
    pub root_name: String,
    /// Whether the root is an orphan: no true one is there.
    pub orphaned: bool,
    /// First start.
    pub start_ns: i64,
    /// Last end.
    pub end_ns: i64,
    /// Number of spans.
    pub spans: u64,
    /// Spans that failed.
    pub errors: u64,
    /// Services by name, each with its spans and how many of these failed.
    pub services: Vec<(String, u64, u64)>,
}

impl Summary {
    /// From the first start to the last end.
    pub fn duration_ns(&self) -> u64 {
        u64::try_from(self.end_ns.saturating_sub(self.start_ns)).unwrap_or(0)
    }
}

impl Trace {
    /// Puts spans together.
    pub fn assemble(mut parts: Vec<Part>) -> Self {
        fn place((_, span): &Part) -> (i64, [u8; 8], SpanKind, i64) {
            (span.start_ns, span.span_id, span.kind, span.end_ns)
        }
        parts.sort_by_key(place);
        // Those of one place by what else they have, so that equal ones are neighbours.
        for same in parts.chunk_by_mut(|a, b| place(a) == place(b)).filter(|same| same.len() > 1) {
            same.sort_by_cached_key(|part| format!("{part:?}"));
        }
        parts.dedup_by(|a, b| a.1.span_id == b.1.span_id && a.1 == b.1 && a.0 == b.0);
        let spans =
            parts.into_iter().map(|(stream, span)| TraceSpan { stream, span, parent: None, depth: 0 });
        let mut trace = Self { spans: spans.collect(), ..Self::default() };
        trace.find_parents();
        trace.cut_circles();
        trace.arrange();
        trace
    }

    /// Number of spans.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Positions of a span's children, by start.
    pub fn children(&self, span: usize) -> &[usize] {
        match (self.first_child.get(span), self.first_child.get(span + 1)) {
            (Some(from), Some(to)) => &self.children[*from..*to],
            _ => &[],
        }
    }

    fn find_parents(&mut self) {
        let mut by_id: Map<[u8; 8], Vec<usize>> = Map::default();
        for (at, span) in self.spans.iter().enumerate() {
            by_id.entry(span.span.span_id).or_default().push(at);
        }
        let is_server = |at: usize| matches!(self.spans[at].span.kind, SpanKind::Server | SpanKind::Consumer);
        let parent_of = |at: usize| {
            let span = &self.spans[at];
            // The other part of the same call.
            let same = by_id.get(&span.span.span_id).map_or(&[][..], Vec::as_slice);
            if same.len() > 1 && is_server(at) {
                let client = same.iter().copied().find(|other| *other != at && !is_server(*other));
                if client.is_some() {
                    return client;
                }
            }
            if span.span.parent_id == [0; 8] || span.span.parent_id == span.span.span_id {
                return None;
            }
            let found = by_id.get(&span.span.parent_id)?;
            let own = found.iter().find(|other| self.spans[**other].service() == span.service());
            let server = found.iter().find(|other| is_server(**other));
            match found.len() {
                1 => found.first().copied(),
                _ => own.or(server).or(found.first()).copied(),
            }
        };
        let parents: Vec<Option<usize>> = (0..self.len()).map(parent_of).collect();
        for (span, parent) in self.spans.iter_mut().zip(parents) {
            span.parent = parent;
        }
    }

    fn cut_circles(&mut self) {
        // 0: not seen; n: seen on the n-th way up.
        let mut seen = vec![0usize; self.len()];
        for start in 0..self.len() {
            let way = start + 1;
            let mut at = Some(start);
            while let Some(span) = at.filter(|span| seen[*span] == 0) {
                seen[span] = way;
                at = self.spans[span].parent;
            }
            // Met what this very way has seen: a circle. Spans are sorted by start.
            if let Some(met) = at.filter(|span| seen[*span] == way) {
                let (mut first, mut span) = (met, met);
                while let Some(next) = self.spans[span].parent.filter(|next| *next != met) {
                    first = first.min(next);
                    span = next;
                }
                self.spans[first].parent = None;
            }
        }
    }

    fn arrange(&mut self) {
        let mut counts = vec![0usize; self.len() + 1];
        for span in &self.spans {
            if let Some(parent) = span.parent {
                counts[parent + 1] += 1;
            }
        }
        for at in 1..counts.len() {
            counts[at] += counts[at - 1];
        }
        let mut next = counts.clone();
        let mut children = vec![0; counts.last().copied().unwrap_or(0)];
        for (at, span) in self.spans.iter().enumerate() {
            if let Some(parent) = span.parent {
                children[next[parent]] = at;
                next[parent] += 1;
            }
        }
        (self.children, self.first_child) = (children, counts);
        self.roots = (0..self.len()).filter(|at| self.spans[*at].parent.is_none()).collect();
        self.roots.sort_by_key(|at| (self.spans[*at].is_orphan(), *at));
        let mut waiting: Vec<usize> = self.roots.iter().rev().copied().collect();
        self.order = Vec::with_capacity(self.len());
        while let Some(at) = waiting.pop() {
            self.order.push(at);
            let depth = self.spans[at].depth + 1;
            for child in (self.first_child[at]..self.first_child[at + 1]).rev() {
                let child = self.children[child];
                self.spans[child].depth = depth;
                waiting.push(child);
            }
        }
    }

    /// Position of the root: the first true one, else the first orphan.
    pub fn root(&self) -> Option<usize> {
        self.roots.first().copied()
    }

    /// The trace in short; none of a trace without spans.
    pub fn summary(&self) -> Option<Summary> {
        let root = &self.spans[self.root()?];
        let mut services: Map<&str, (u64, u64)> = Map::default();
        let (mut end_ns, mut errors) = (i64::MIN, 0);
        for span in &self.spans {
            let failed = u64::from(span.span.status == SpanStatus::Error);
            end_ns = end_ns.max(span.span.end_ns).max(span.span.start_ns);
            errors += failed;
            let service = services.entry(span.service()).or_default();
            *service = (service.0 + 1, service.1 + failed);
        }
        let mut services: Vec<(String, u64, u64)> =
            services.into_iter().map(|(name, (spans, errors))| (name.to_owned(), spans, errors)).collect();
        services.sort();
        Some(Summary {
            trace_id: root.span.trace_id,
            root_service: root.service().to_owned(),
            root_name: root.span.name.clone().into_owned(),
            orphaned: root.is_orphan(),
            start_ns: self.spans.first()?.span.start_ns,
            end_ns,
            spans: self.len() as u64,
            errors,
            services,
        })
    }
}

#[cfg(test)]
mod tests;
