//! Segments with bytes changed or cut off, or any bytes: opened and read to the end, or an error that names a place.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use protocol::ids::TenantId;
use protocol::labels::Labels;
use storage::encoding::Effort;
use storage::fs::Map;
use storage::logs::segment::LogSegmentReader;
use storage::segment::{SegmentBuilder, SegmentHeader, SegmentReader, SeriesInput};

static SEGMENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let header = SegmentHeader { encoder_epoch: protocol::epoch::NEWEST, ..SegmentHeader::default() };
    let mut builder = SegmentBuilder::new(header, Effort::Thorough);
    for n in 0..40u32 {
        let instance = format!("host-{n:02}");
        let labels = Labels::from_pairs([("__name__", "up"), ("instance", &instance)]).expect("labels");
        let times: Vec<i64> = (0..30).map(|at| i64::from(n) + at * 15_000).collect();
        let values: Vec<f64> = (0..30).map(|at| f64::from(at * n) / 4.0).collect();
        let columns = SeriesInput { float_times: &times, float_values: &values, ..SeriesInput::default() };
        builder.push(&TenantId::default(), &labels, &columns).expect("in order");
    }
    builder.finish().expect("into memory").sink
});

fn read(bytes: Vec<u8>) {
    let map = Map::new(bytes);
    if let Ok(reader) = LogSegmentReader::open(map.clone(), Path::new("logs")) {
        let _ = reader.damage();
    }
    let Ok(reader) = SegmentReader::open(map, Path::new("segment")) else { return };
    let _ = reader.damage();
    let mut cursor = reader.cursor();
    let mut values = Vec::new();
    for series in reader.all().iter() {
        let _ = cursor.labels(series);
        let _ = cursor.floats(series, i64::MIN, i64::MAX, &mut values);
    }
}

fuzz_target!(|input: (u16, Vec<(u16, u8)>, &[u8])| {
    let (cut, changes, raw) = input;
    if !raw.is_empty() {
        return read(raw.to_vec());
    }
    let mut bytes = SEGMENT.clone();
    for (at, byte) in changes {
        let at = usize::from(at) % bytes.len();
        bytes[at] = byte;
    }
    if cut != 0 {
        bytes.truncate(usize::from(cut));
    }
    read(bytes);
});
