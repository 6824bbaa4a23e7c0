//! An export of metrics in protobuf: taken or refused, and what is taken can be read without errors.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use protocol::histogram;
use protocol::ids::ClusterSecret;
use protocol::labels::Labels;
use protocol::otlp::metrics::{Translation, decode};
use protocol::remote_write::Limits;
use protocol::write_batch::FingerprintKey;

static KEY: LazyLock<FingerprintKey> = LazyLock::new(|| FingerprintKey::new(&ClusterSecret([1; 32])));

fuzz_target!(|input: (bool, bool, &[u8])| {
    let (custom_buckets, store_deltas, body) = input;
    let translation =
        Arc::new(Translation { custom_buckets, store_deltas, promote_scope: store_deltas, ..Translation::default() });
    let Ok(decoded) = decode(body.to_vec(), &KEY, &translation, &Limits::default()) else { return };
    let batch = decoded.batch;
    for index in 0..batch.series_len() {
        let series = batch.series(index);
        if let Ok(labels) = series.labels() {
            assert_eq!(Labels::from_canonical(labels.as_bytes()).as_ref(), Ok(&labels));
        }
        series.describe();
        assert!(series.starts().is_empty() || series.starts().len() == series.samples().len());
        for histogram in series.histograms() {
            histogram::decode(histogram.blob).expect("own blob").validate().expect("only valid ones are kept");
        }
        for exemplar in series.exemplars() {
            Labels::from_canonical(exemplar.label_bytes).expect("canonical");
        }
    }
    for (_, metadata) in batch.metadata() {
        assert!(!metadata.family.is_empty());
    }
});
