//! The bytes of a sub-batch and of an outcome: what parses can be iterated to the end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::batch::{SubBatchOutcome, SubBatchView};

fuzz_target!(|bytes: &[u8]| {
    let _ = SubBatchOutcome::decode(&mut &bytes[..]);
    let Ok(view) = SubBatchView::parse(bytes) else { return };
    assert_eq!(view.new_series().map(|series| series.labels()).count(), view.new_series_len());
    assert_eq!(view.floats().iter().count(), view.floats().rows().len());
    assert_eq!(view.histograms().iter().count(), view.histograms().rows().len());
    assert_eq!(view.exemplars().iter().map(|exemplar| exemplar.labels()).count(), view.exemplars().rows().len());
    assert_eq!(view.metadata().count(), view.metadata().len());
});
