//! The small files of a shard, under a checksum that is right: what is taken is written as what is taken again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storage::manifest::{JobOutput, Manifest};
use storage::metadata::{decode_metadata_file, encode_metadata_file};
use storage::span_metrics::SpanMetrics;

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, bytes) = input;
    let known = match kind % 4 {
        0 => Manifest::empty(protocol::ids::ShardId(1)).encode(),
        1 => encode_metadata_file(&Default::default()),
        2 => SpanMetrics::default().encode(),
        _ => vec![0; 7],
    };
    // The format's name, whatever comes then, and the checksum that makes it a whole file.
    let mut file = [&known[..7], bytes].concat();
    file.extend_from_slice(&crc32c::crc32c(&file).to_le_bytes());
    match kind % 4 {
        0 => {
            if let Ok(manifest) = Manifest::decode(&file) {
                assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
            }
        }
        1 => {
            if let Ok(map) = decode_metadata_file(&file) {
                assert_eq!(decode_metadata_file(&encode_metadata_file(&map)), Ok(map));
            }
        }
        2 => {
            if let Ok(metrics) = SpanMetrics::decode(&file) {
                let again = SpanMetrics::decode(&metrics.encode()).expect("what is written is read");
                assert_eq!(again.encode(), metrics.encode());
            }
        }
        _ => {
            if let Some(output) = JobOutput::decode(bytes) {
                assert_eq!(JobOutput::decode(&output.encode()), Some(output));
            }
        }
    }
});
