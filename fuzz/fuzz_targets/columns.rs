//! Columns of segments, from any bytes and any count: values, as many as were asked for, or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::encoding::columns::{self, Trust};
use protocol::encoding::frame;
use storage::encoding::{blobs, floats, times};

/// More values than a block has.
const MAX_COUNT: usize = 1 << 16;

fuzz_target!(|input: (u8, u32, &[u8])| {
    let (kind, count, bytes) = input;
    let count = count as usize % MAX_COUNT;
    match kind % 5 {
        0 => {
            if let Ok(values) = columns::decode(bytes, count, Trust::Stranger) {
                assert_eq!(values.len(), count);
            }
        }
        1 => {
            let mut values = Vec::new();
            if floats::decode(bytes, count, &mut values).is_ok() {
                assert_eq!(values.len(), count);
            }
            let mut places = Vec::new();
            if floats::find_stale(bytes, count, &mut places) == Ok(true) {
                assert!(places.iter().all(|place| (*place as usize) < count));
            }
        }
        2 => {
            let mut values = Vec::new();
            if times::decode(bytes, i64::from(kind), &mut values).is_ok() {
                assert_eq!(times::count(bytes), Ok(values.len()));
            }
        }
        3 => {
            if let Ok(column) = blobs::decode(bytes, count) {
                assert_eq!(column.iter().count(), count);
            }
        }
        _ => {
            if let Ok(raw) = frame::read_within(bytes, count) {
                assert!(raw.len() <= count);
            }
        }
    }
});
