//! Series on equal steps in binary: what charts take without parsing numbers from text.
//!
//! ```text
//! "PHC1" | length of header u32 LE | header JSON, padded with spaces to a multiple of 8 | float64 LE, series by series
//! header = {"start": ms, "step": ms, "steps": n, "series": [labels, ...], "histograms": series left out, "cut": bool}
//! ```
//!
//! A step without a value is the NaN of [`ABSENT`]; a NaN that was stored is the usual one. Native histograms have no
//! place here and are counted. The reader is `ui/src/lib/columns.ts`.

use std::collections::BTreeMap;

use query::result::{MatrixSeries, ResultValue};
use serde_json::json;

/// The bits of a step without a value.
pub const ABSENT: u64 = 0x7fff_ffff_ffff_ffff;
/// Longest answer.
pub const MAX_BYTES: usize = 32 << 20;

/// Steps of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// First, in milliseconds.
    pub start_ms: i64,
    /// Distance, at least 1.
    pub step_ms: i64,
    /// Number.
    pub count: usize,
}

/// Appends an answer. Series beyond what [`MAX_BYTES`] holds are left out, and the header says so.
pub fn encode(value: &ResultValue, steps: Steps, out: &mut Vec<u8>) {
    let none: &[MatrixSeries] = &[];
    let all = match value {
        ResultValue::Matrix(series) => series,
        _ => none,
    };
    let most = MAX_BYTES / 8 / steps.count.max(1);
    let floats: Vec<&MatrixSeries> = all.iter().filter(|series| !series.floats.is_empty()).collect();
    let shown = &floats[..floats.len().min(most)];
    let names: Vec<BTreeMap<&str, &str>> =
        shown.iter().map(|series| series.labels.iter().flat_map(|labels| labels.iter()).collect()).collect();
    let header = json!({
        "start": steps.start_ms,
        "step": steps.step_ms,
        "steps": steps.count,
        "series": names,
        "histograms": all.len() - floats.len(),
        "cut": shown.len() < floats.len(),
    });
    let mut header = header.to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    out.reserve(8 + header.len() + shown.len() * steps.count * 8);
    out.extend_from_slice(b"PHC1");
    out.extend_from_slice(&(header.len() as u32).to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    for series in shown {
        let mut points = series.floats.iter().peekable();
        for step in 0..steps.count {
            let at = steps.start_ms + steps.step_ms * step as i64;
            while points.next_if(|(time, _)| *time < at).is_some() {}
            let bits = match points.peek() {
                Some((time, value)) if *time == at => {
                    if value.is_nan() {
                        f64::NAN.to_bits()
                    } else {
                        value.to_bits()
                    }
                }
                _ => ABSENT,
            };
            out.extend_from_slice(&bits.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::labels::Labels;

    use super::*;

    #[test]
    fn gaps_and_nan_are_told_apart() {
        let labels = Labels::from_pairs([("job", "a\"b")]).expect("labels");
        let series = MatrixSeries {
            labels: Some(labels),
            floats: vec![(10, 1.5), (30, f64::NAN)],
            histograms: vec![],
        };
        let value = ResultValue::Matrix(vec![series, MatrixSeries::default()]);
        let mut out = vec![9; 8];
        encode(&value, Steps { start_ms: 0, step_ms: 10, count: 4 }, &mut out);
        let body = &out[8..];
        assert_eq!(&body[..4], b"PHC1");
        let length = u32::from_le_bytes(body[4..8].try_into().expect("4 bytes")) as usize;
        assert_eq!(length % 8, 0);
        let header: serde_json::Value = serde_json::from_slice(&body[8..8 + length]).expect("JSON");
        assert_eq!(header["series"], json!([{"job": "a\"b"}]));
        assert_eq!(
            (&header["steps"], &header["histograms"], &header["cut"]),
            (&json!(4), &json!(1), &json!(false))
        );
        let bits: Vec<u64> = body[8 + length..]
            .chunks(8)
            .map(|chunk| u64::from_le_bytes(chunk.try_into().expect("8 bytes")))
            .collect();
        assert_eq!(bits, [ABSENT, 1.5f64.to_bits(), ABSENT, f64::NAN.to_bits()]);
    }

    #[test]
    fn what_is_too_much_is_left_out_and_said() {
        let one = |n: usize| MatrixSeries {
            labels: Labels::from_pairs([("n", n.to_string().as_str())]).ok(),
            floats: vec![(0, 1.0)],
            histograms: vec![],
        };
        let value = ResultValue::Matrix((0..5).map(one).collect());
        let mut out = Vec::new();
        encode(&value, Steps { start_ms: 0, step_ms: 1, count: MAX_BYTES / 8 / 2 }, &mut out);
        assert!(out.len() <= MAX_BYTES + 4096);
        let length = u32::from_le_bytes(out[4..8].try_into().expect("4 bytes")) as usize;
        let header: serde_json::Value = serde_json::from_slice(&out[8..8 + length]).expect("JSON");
        assert_eq!((header["series"].as_array().map(Vec::len), &header["cut"]), (Some(2), &json!(true)));
    }
}
