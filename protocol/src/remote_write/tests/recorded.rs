//! Bodies that real senders sent, read by the walker and by prost. Skipped, by name, where `PHAROS_TESTDATA` is unset.

use std::path::PathBuf;

use prost::Message;

use super::*;

fn recordings(client: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Some(root) = std::env::var_os("PHAROS_TESTDATA") else { return Vec::new() };
    let folder = PathBuf::from(root).join("wire").join(client);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a readable file"))).collect()
}

/// Returns numbers of series, samples and metadata of all bodies.
fn check_client(client: &str) -> Option<[usize; 3]> {
    let recordings = recordings(client);
    let mut totals = [0; 3];
    for (path, compressed) in &recordings {
        let body = decompress(compressed, &Limits::default())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let theirs = v1::WriteRequest::decode(body.as_slice()).expect("a valid message");
        let batch = decode(Version::V1, body, &key(), &Limits::default()).expect("a valid message");
        assert!(batch.rejections().is_empty(), "{}: {}", path.display(), batch.rejections());
        assert_eq!(batch.series_len(), theirs.timeseries.len());
        for (index, series) in theirs.timeseries.iter().enumerate() {
            let ours = batch.series(index);
            let pairs = series.labels.iter().map(|label| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
                (text(&label.name), text(&label.value))
            });
            assert_eq!(
                ours.labels().expect("valid labels"),
                Labels::from_pairs(pairs).expect("valid labels")
            );
            let samples: Vec<_> = series.samples.iter().map(|s| (s.timestamp, s.value.to_bits())).collect();
            let read: Vec<_> = ours.samples().iter().map(|s| (s.timestamp_ms, s.value.to_bits())).collect();
            assert_eq!(read, samples);
        }
        totals[0] += batch.series_len();
        totals[1] += batch.sample_count();
        totals[2] += batch.metadata().len();
        assert_eq!(batch.metadata().len(), theirs.metadata.len());
    }
    (!recordings.is_empty()).then_some(totals)
}

#[test]
fn prometheus_2_42_is_understood() {
    let Some([series, samples, metadata]) = check_client("remote_write_prometheus_2.42") else {
        return skipped("prometheus_2_42_is_understood");
    };
    assert!(series > 1000 && samples >= series && metadata > 10, "{series} {samples} {metadata}");
}

#[test]
fn vmagent_1_79_is_understood() {
    let Some([series, samples, _]) = check_client("remote_write_vmagent_1.79") else {
        return skipped("vmagent_1_79_is_understood");
    };
    assert!(series > 100 && samples >= series, "{series} {samples}");
}

#[allow(clippy::print_stderr, reason = "a test that skips says so")]
fn skipped(test: &str) {
    eprintln!("skipped {test}: PHAROS_TESTDATA is not set");
}
