//! A fragment carries the place in its trace to the shards.
//!
//! ```text
//! fragment of a trace that is kept: ff "TRACE1" | trace id, 16 bytes | span id, 8 bytes | fragment
//! any other:                        fragment
//! ```
//!
//! No fragment begins with `ff`: those of queries are Protocol Buffers, where that byte is no field.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::telemetry::trace::{POSITION_BYTES, Position, Tracer};

const MARK: &[u8] = b"\xffTRACE1";

/// A fragment of a trace, if it is of one.
pub(super) fn join(position: Option<&Position>, fragment: Bytes) -> Bytes {
    let Some(place) = position.and_then(Position::to_bytes) else { return fragment };
    let mut joined = BytesMut::with_capacity(MARK.len() + POSITION_BYTES + fragment.len());
    joined.extend_from_slice(MARK);
    joined.extend_from_slice(&place);
    joined.extend_from_slice(&fragment);
    joined.freeze()
}

/// The place in its trace and the fragment alone. On the node that asks, the task knows the place, kept or not.
pub(super) fn split(tracer: &Arc<Tracer>, fragment: Bytes) -> (Option<Position>, Bytes) {
    let here = Position::current();
    let place = fragment.strip_prefix(MARK).and_then(|rest| rest.first_chunk::<POSITION_BYTES>());
    match place {
        None => (here, fragment),
        Some(place) => {
            let position = here.unwrap_or_else(|| tracer.resume(place));
            (Some(position), fragment.slice(MARK.len() + POSITION_BYTES..))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, Method};

    use super::*;
    use crate::telemetry::trace::{Settings, compute_at};

    #[test]
    fn a_fragment_takes_its_place_along_and_is_what_it_was() {
        let settings = Settings { per_second: 1, slow_after: std::time::Duration::ZERO };
        let tracer = Tracer::new(settings);
        let kept = tracer.request("/", &Method::GET, &HeaderMap::new());
        let bytes = Bytes::from_static(b"\x0a\x01x");
        let joined = join(kept.position().as_ref(), bytes.clone());
        let (position, alone) = split(&tracer, joined.clone());
        assert_eq!(alone, bytes);
        assert_eq!(position.unwrap().to_bytes(), kept.position().unwrap().to_bytes());
        // The task knows better.
        let other = tracer.request("/other", &Method::GET, &HeaderMap::new());
        let (position, alone) = compute_at(other.position(), || split(&tracer, joined.clone()));
        assert_eq!(alone, bytes);
        assert_eq!(position.unwrap().to_bytes(), other.position().unwrap().to_bytes());
        // Without a trace, and cut off, it is what came.
        assert_eq!(join(None, bytes.clone()), bytes);
        let (position, alone) = split(&tracer, joined.slice(..20));
        assert!(position.is_none() && alone == joined.slice(..20));
    }

    #[test]
    fn no_fragment_looks_like_one_of_a_trace() {
        assert!(query::Fragment::decode(MARK).is_err() && sql::Fragment::decode(MARK).is_none());
        assert!(!super::super::SPAN_METRICS.starts_with(MARK));
    }
}
