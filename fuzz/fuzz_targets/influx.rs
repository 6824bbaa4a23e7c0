//! InfluxDB's lines: every body is taken, its bad lines named, and what is taken can be read without errors.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use protocol::ids::ClusterSecret;
use protocol::influx::{Precision, decode};
use protocol::labels::Labels;
use protocol::remote_write::Limits;
use protocol::write_batch::FingerprintKey;

static KEY: LazyLock<FingerprintKey> = LazyLock::new(|| FingerprintKey::new(&ClusterSecret([1; 32])));

fuzz_target!(|body: &[u8]| {
    let extra = Some(("db", "x"));
    let Ok(decoded) = decode(body, Precision::Milliseconds, 1, extra, &KEY, &Limits::default()) else { return };
    for index in 0..decoded.batch.series_len() {
        let series = decoded.batch.series(index);
        if let Ok(labels) = series.labels() {
            assert_eq!(Labels::from_canonical(labels.as_bytes()).as_ref(), Ok(&labels));
        }
        assert_eq!(series.samples().len(), 1);
    }
});
