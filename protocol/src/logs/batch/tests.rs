//! What is pushed is what is read, whatever it is; what is no batch is refused.

use std::borrow::Cow;
use std::path::Path;

use proptest::prelude::*;

use super::super::codec::encode_record;
use super::super::codec::tests::any_value;
use super::super::{Attribute, LogValue};
use super::*;

const KEY: BatchKey = BatchKey([7; 16]);

fn text(text: impl Into<String>) -> LogValue<'static> {
    LogValue::String(Cow::Owned(text.into()))
}

fn line(time_ns: i64, body: impl Into<String>) -> LogRecord<'static> {
    LogRecord { time_ns, body: text(body), ..LogRecord::default() }
}

fn encoded(stream: &LogStream<'_>, record: &LogRecord<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    super::super::codec::encode_stream(stream, &mut bytes);
    encode_record(record, &mut bytes);
    bytes
}

/// What of each row is kept by groups, whatever the order of the rows.
fn grouped(rows: &Rows, dict: &Dict) -> Vec<Vec<u8>> {
    let of_row = |row| {
        let mut bytes = dict.streams().get(rows.streams()[row]).to_vec();
        let record = rows.record(row, dict);
        let (trace_id, span_id) = Default::default();
        encode_record(&LogRecord { time_ns: 0, observed_ns: 0, trace_id, span_id, ..record }, &mut bytes);
        bytes
    };
    let mut all: Vec<Vec<u8>> = (0..rows.len()).map(of_row).collect();
    all.sort();
    all
}

/// Pushes records, reads them back and compares each bit. Returns the bytes of the sub-batches.
fn round_trip(records: &[(LogStream<'_>, LogRecord<'_>)]) -> Vec<Bytes> {
    let mut builder = LogBatchBuilder::new();
    let mut last = None;
    for (stream, record) in records {
        if last != Some(stream) {
            builder.stream(stream);
            last = Some(stream);
        }
        builder.record(record);
    }
    let tenant = TenantId::default();
    let parts = builder.finish(&tenant, KEY).expect("short records");
    let mut expected: Vec<(i64, Vec<u8>)> =
        records.iter().map(|(stream, record)| (record.effective_ns(), encoded(stream, record))).collect();
    if parts.len() == 1 {
        expected.sort_by_key(|(time, _)| *time);
    }
    let mut found = Vec::new();
    for (number, (key, bytes)) in parts.iter().enumerate() {
        let batch = LogBatch::decode(bytes).expect("own bytes");
        assert_eq!((batch.key, *key), (KEY.part(number), KEY.part(number)));
        let (mut sum, mut scratch) = (0u64, Vec::new());
        for row in 0..batch.rows.len() {
            let stream = batch.dict.streams().get(batch.rows.streams()[row]);
            let record = batch.rows.record(row, &batch.dict);
            sum = sum.wrapping_add(record_checksum(stream, &record, &mut scratch));
            let stream = super::super::codec::decode_stream(stream).expect("a stream");
            found.push((record.effective_ns(), encoded(&stream, &record)));
        }
        assert_eq!(sum, batch.checksum);
        assert_eq!(RowChecksums::new(&batch.rows, &batch.dict).sum(), sum, "straight from the columns");
        let open = OpenLogBatch::new(bytes).expect("own bytes");
        let want = Want { observed: false, traces: false, spans: false, ..Want::ALL };
        let rows =
            open.block.decode_grouped(&open.dict, &want, None, Trust::Stranger, LIMITS).expect("own bytes");
        assert!(grouped(&rows, &open.dict) == grouped(&batch.rows, &batch.dict), "rows by group are others");
    }
    if parts.len() > 1 {
        expected.sort();
        found.sort();
    }
    assert!(found == expected, "what is read differs from what was pushed");
    parts.into_iter().map(|(_, bytes)| bytes).collect()
}

fn round_trip_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> usize {
    let lines = lines.into_iter().enumerate();
    let records: Vec<_> = lines.map(|(at, body)| (LogStream::default(), line(at as i64 + 1, body))).collect();
    round_trip(&records).iter().map(Bytes::len).sum()
}

#[test]
fn every_part_of_a_record_comes_back() {
    let attribute =
        |name: &str, value: LogValue<'static>| -> Attribute<'static> { (Cow::Owned(name.to_owned()), value) };
    let stream = LogStream {
        resource: vec![attribute("service.name", text("a")), attribute("n", LogValue::Float(f64::NAN))],
        scope_name: "scope".into(),
        scope_version: "1".into(),
        scope_attributes: vec![attribute("x", LogValue::Bool(true))],
    };
    let nested = LogValue::Map(vec![attribute("k", LogValue::List(vec![LogValue::Int(1), text("v")]))]);
    let full = LogRecord {
        time_ns: 5,
        observed_ns: 9,
        severity: 17,
        severity_text: "Error".into(),
        body: nested.clone(),
        trace_id: [1; 16],
        span_id: [2; 8],
        flags: 1,
        event_name: "event".into(),
        attributes: vec![
            attribute("b", LogValue::Int(-1)),
            attribute("a", text("10.0.0.1")),
            attribute("b", LogValue::Int(2)),
            attribute("b", text("0x0F")),
            attribute("b", text("0x0F")),
            attribute("e", LogValue::Empty),
            attribute("f", LogValue::Float(-0.0)),
            attribute("f", LogValue::Float(0.1)),
            attribute("y", LogValue::Bytes(Cow::Owned(vec![0xff, 0xfe]))),
            attribute("m", nested),
        ],
    };
    let observed = LogRecord { observed_ns: 7, body: LogValue::Empty, ..LogRecord::default() };
    let records = [
        (stream.clone(), full.clone()),
        (LogStream::default(), observed),
        (LogStream::default(), LogRecord::default()),
        (stream.clone(), LogRecord { attributes: Vec::new(), time_ns: -3, ..full.clone() }),
        (stream, full),
    ];
    round_trip(&records);
    round_trip(&[]);
}

#[test]
fn texts_that_invite_mistakes_come_back() {
    let long = "x".repeat(1 << 20);
    let busy = "7 ".repeat(500);
    round_trip_lines([
        "",
        "0",
        "00",
        "007 0007 7",
        "1.50 01.5 1. .5 1.5.2 0.0 00.0",
        "99999999999999999 100000000000000000 99999999999999999999",
        "12345678901234567.1 1234567890123456.1",
        "10.0.0.1 010.0.0.1 256.0.0.1 1.2.3.4.5 1.2.3.4a",
        "DEADBEEF1 deadbeef1 DeadBeef1 deadbeef cafe1 0xff 0xFF 0xfF 0x",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8 6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8x",
        "\u{f8}\u{fe} <int> \u{0} \u{7f}",
        r#"{"a": "b c", "d":"e\"f", "g":"1", "h":"", "i": "é ü"}"#,
        "k=v k=1 k= k=é =x",
        "a1b2c3d4e5 a1b2 1a2b3c4d5e6f zz9zz9zz9",
        "user77 77user u7u 7u7",
        "日本 2024-01-07T12:07:03.004Z",
        &long,
        &busy,
    ]);
}

#[test]
fn a_name_that_only_some_records_repeat() {
    let attributes = |n: usize| (0..n).map(|at| (Cow::Borrowed("k"), LogValue::Int(at as i64))).collect();
    let records: Vec<_> = [3, 0, 1, 2, 3, 200]
        .into_iter()
        .map(|n| (LogStream::default(), LogRecord { attributes: attributes(n), ..line(1, "same") }))
        .collect();
    round_trip(&records);
}

#[test]
fn the_samples_come_back_and_are_small() {
    let Some(data) = std::env::var_os("PHAROS_TESTDATA") else {
        #[allow(clippy::print_stderr, reason = "a test that skips says so")]
        {
            eprintln!("skipped the_samples_come_back_and_are_small: PHAROS_TESTDATA is not set");
        }
        return;
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(Path::new(&data).join("loghub")).expect("the samples are there") {
        let set = entry.expect("a readable directory").path();
        for file in std::fs::read_dir(set).expect("a set is a directory") {
            let file = file.expect("a readable directory");
            if file.path().extension().is_some_and(|extension| extension == "log") {
                let text = std::fs::read_to_string(file.path()).expect("a readable sample");
                let bytes = round_trip_lines(text.lines());
                assert!(bytes * 4 < text.len(), "{:?}: {bytes} of {}", file.path(), text.len());
                seen += 1;
            }
        }
    }
    assert!(seen >= 8, "{seen} samples");
}

#[test]
fn what_does_not_fit_one_part_is_cut_the_same_way_each_time() {
    // Noise: what the estimate and the packing make of it is as long as it is.
    let noise = |seed: u64| -> String {
        let mut state = seed;
        let digit = |_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            char::from(b'!' + (state >> 33) as u8 % 90)
        };
        (0..1 << 20).map(digit).collect()
    };
    let records: Vec<_> = (0..12).map(|at| (LogStream::default(), line(at, noise(at as u64)))).collect();
    let parts = round_trip(&records);
    assert!(parts.len() > 1 && parts.iter().all(|part| part.len() <= MAX_BYTES));
    assert_eq!(parts, round_trip(&records));
    let mut builder = LogBatchBuilder::new();
    builder.record(&line(1, (0..8).map(noise).collect::<String>()));
    let result = builder.finish(&TenantId::default(), KEY);
    assert!(matches!(result, Err(RecordTooLong { bytes }) if bytes > MAX_BYTES));
}

#[test]
fn what_is_nested_too_deep_is_left_out_and_counted() {
    let deep = (0..100).fold(LogValue::Empty, |inner, _| LogValue::List(vec![inner]));
    let mut builder = LogBatchBuilder::new();
    builder.record(&LogRecord { body: deep.clone(), ..LogRecord::default() });
    builder.stream(&LogStream { resource: vec![("r".into(), deep)], ..LogStream::default() });
    builder.record(&LogRecord::default());
    builder.stream(&LogStream::default());
    builder.record(&LogRecord::default());
    assert_eq!((builder.len(), builder.too_deep()), (1, 2));
}

#[test]
fn records_of_other_times_are_left_out_and_counted() {
    let mut builder = LogBatchBuilder::within(10, 20);
    for time in [9, 10, 20, 21, 0, 22] {
        builder.record(&line(time, "x"));
    }
    assert_eq!((builder.len(), builder.outside()), (2, Outside { too_old: 2, too_new: 2, first: 9 }));
}

#[test]
fn keys_differ_by_what_they_are_of() {
    let (secret, tenant) = (ClusterSecret([1; 32]), TenantId::default());
    let other = TenantId::new("other").expect("a valid name");
    let keys = [
        BatchKey::declared(&secret, &tenant, "a"),
        BatchKey::declared(&secret, &tenant, "b"),
        BatchKey::declared(&secret, &other, "a"),
        BatchKey::declared(&ClusterSecret([2; 32]), &tenant, "a"),
        BatchKey::of_body(&secret, &tenant, b"a"),
        BatchKey::unique(&secret, &tenant, b"a"),
        BatchKey::declared(&secret, &tenant, "a").part(1),
        BatchKey::declared(&secret, &tenant, "a").part(2),
    ];
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(key));
    }
}

#[test]
fn outcomes_round_trip() {
    for outcome in [
        LogBatchOutcome::Applied { records: 300 },
        LogBatchOutcome::Duplicate { records: 1 },
        LogBatchOutcome::WindowFull { keys: 1 << 18 },
        LogBatchOutcome::Rejected { reason: "why".to_owned() },
    ] {
        let mut bytes = Vec::new();
        outcome.encode(&mut bytes);
        assert_eq!(LogBatchOutcome::decode(&bytes), Ok(outcome));
        assert!(LogBatchOutcome::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,40}",
        "[a-c0-9.=:\" xX_-]{0,40}",
        "(user|id=|0x|took )[0-9]{0,19}( |ms|\\.[0-9]{1,3})",
        "[0-9a-f]{6,20}|[0-9A-F]{6,20}",
        Just("the same each time 7".to_owned()),
    ]
}

fn any_record() -> impl Strategy<Value = LogRecord<'static>> {
    let times = (prop_oneof![Just(0), 0i64..5, any::<i64>()], prop_oneof![Just(0i64), 1i64..9, any::<i64>()]);
    let body = prop_oneof![4 => any_text().prop_map(text), 1 => any_value()];
    let name = prop_oneof![Just("a"), Just("b"), Just("long.name")].prop_map(Cow::Borrowed);
    let value = prop_oneof![
        any_text().prop_map(text),
        any_value(),
        any::<f32>().prop_map(|f| LogValue::Float(f.into()))
    ];
    let attributes = prop::collection::vec((name, value), 0..5);
    let ids = (prop_oneof![Just([0u8; 16]), Just([3; 16]), any::<[u8; 16]>()], any::<[u8; 8]>());
    (times, 0u8..30, "[a-z]{0,3}", body, ids, any::<u32>(), "[a-z]{0,2}", attributes).prop_map(
        |(
            (time_ns, observed_ns),
            severity,
            severity_text,
            body,
            (trace_id, span_id),
            flags,
            event,
            attributes,
        )| {
            LogRecord {
                time_ns,
                observed_ns,
                severity,
                severity_text: Cow::Owned(severity_text),
                body,
                trace_id,
                span_id,
                flags,
                event_name: Cow::Owned(event),
                attributes,
            }
        },
    )
}

fn any_stream() -> impl Strategy<Value = LogStream<'static>> {
    let attributes = || prop::collection::vec(("[ab]".prop_map(Cow::Owned), any_value()), 0..3);
    (attributes(), "[a-z]{0,2}", attributes()).prop_map(|(resource, name, scope_attributes)| LogStream {
        resource,
        scope_name: Cow::Owned(name),
        scope_version: Cow::Borrowed(""),
        scope_attributes,
    })
}

proptest! {
    #[test]
    fn any_records_come_back(records in prop::collection::vec((any_stream(), any_record()), 0..40)) {
        // Floats that are not equal to themselves would look like changes of the stream: bytes decide.
        round_trip(&records);
    }

    #[test]
    fn any_change_of_the_bytes_is_refused_or_read(
        records in prop::collection::vec((any_stream(), any_record()), 1..12),
        at in any::<prop::sample::Index>(),
        byte: u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = round_trip(&records).remove(0);
        let mut changed = bytes.to_vec();
        let at = at.index(changed.len());
        changed[at] = byte;
        if let Ok(batch) = LogBatch::decode(&changed) {
            for row in 0..batch.rows.len() {
                encode_record(&batch.rows.record(row, &batch.dict), &mut Vec::new());
            }
        }
        prop_assert!(LogBatch::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
        let _ = LogBatch::decode(&[&[VERSION, 1, b'a'][..], &bytes].concat());
        let _ = LogBatchOutcome::decode(&bytes);
    }
}
