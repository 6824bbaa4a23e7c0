//! Whole segments: round trips against a naive model, damage, determinism.

use std::path::Path;

use protocol::ids::TenantId;
use protocol::labels::Labels;
use protocol::matcher::Matcher;

use super::*;
use crate::encoding::Effort;
use crate::fs::Map;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).expect("valid labels")
}

fn open(bytes: Vec<u8>) -> Result<SegmentReader, SegmentError> {
    SegmentReader::open(Map::new(bytes), Path::new("test"))
}

#[test]
fn a_small_segment_is_read_back() {
    let tenant = TenantId::default();
    let mut builder = SegmentBuilder::new(SegmentHeader::default(), Effort::Fast);
    let times: Vec<i64> = (0..10).map(|i| i * 15_000).collect();
    let sets = [
        labels(&[("__name__", "a"), ("x", "2")]),
        labels(&[("__name__", "a"), ("x", "1"), ("y", "1")]),
        labels(&[("__name__", "b"), ("x", "1")]),
    ];
    for (k, set) in sets.iter().enumerate() {
        let values: Vec<f64> = (0..10).map(|i| (i * k) as f64).collect();
        let input = SeriesInput { float_times: &times, float_values: &values, ..Default::default() };
        builder.push(&tenant, set, &input).expect("in order");
    }
    let sealed = builder.finish().expect("memory takes any bytes");
    assert_eq!(sealed.summary.time_vectors, 1);
    let reader = open(sealed.sink).expect("own bytes");
    reader.verify(sealed.name).expect("own name");
    let selected = reader.select("default", &[Matcher::equal("x", "1")], 0, 100_000).expect("own bytes");
    assert_eq!(selected.iter().collect::<Vec<_>>(), [1, 2]);
    let mut cursor = reader.cursor();
    let (mut values, mut first) = (vec![], None);
    for (series, set) in (0..).zip(&sets) {
        assert_eq!(cursor.labels(series).expect("own bytes"), *set);
        let read = cursor.floats(series, 15_000, 45_000, &mut values).expect("own bytes").expect("samples");
        assert_eq!(*read, [15_000, 30_000, 45_000]);
        assert_eq!(values, [1, 2, 3].map(|i| f64::from(i * series as i32)));
        let vector = first.get_or_insert_with(|| read.vector().clone());
        assert!(std::sync::Arc::ptr_eq(vector, read.vector()));
    }
}
