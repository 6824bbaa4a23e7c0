//! The bytes of a log sub-batch and of an outcome: what decodes can be put together to the last record, and has a checksum.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::logs::batch::{LogBatch, LogBatchOutcome};
use protocol::logs::checksum::{RowChecksums, record_checksum};

fuzz_target!(|bytes: &[u8]| {
    let _ = LogBatchOutcome::decode(bytes);
    let Ok(batch) = LogBatch::decode(bytes) else { return };
    let mut scratch = Vec::new();
    for row in 0..batch.rows.len() {
        let stream = batch.dict.streams().get(batch.rows.streams()[row]);
        record_checksum(stream, &batch.rows.record(row, &batch.dict), &mut scratch);
    }
    RowChecksums::new(&batch.rows, &batch.dict).sum();
});
