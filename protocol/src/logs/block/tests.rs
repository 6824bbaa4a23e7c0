//! A block is what its rows were, in each layout, and what is not asked for is not read.

use super::*;
use crate::encoding::DecodeError;
use crate::encoding::columns::{Pack, Trust};
use crate::ids::TenantId;
use crate::logs::batch::{BatchKey, LIMITS, LogBatch, LogBatchBuilder};
use crate::logs::rows::Rows;
use crate::logs::{LogRecord, LogSink, LogStream, LogValue};

fn text(text: String) -> LogValue<'static> {
    LogValue::String(text.into())
}

/// Rows with their dictionary, and the groups of their bodies.
fn blocks_of(records: &[(LogStream<'_>, LogRecord<'_>)]) -> (LogBatch, Vec<(Vec<u8>, Encoded, Layout)>) {
    let mut builder = LogBatchBuilder::new();
    for (stream, record) in records {
        builder.stream(stream);
        builder.record(record);
    }
    let parts = builder.finish(&TenantId::default(), BatchKey([7; 16])).expect("short records");
    let batch = LogBatch::decode(&parts[0].1).expect("own bytes");
    let block = |layout| {
        let mut bytes = Vec::new();
        let encoded = encode(&batch.rows, &batch.dict, Pack::Small, layout, &mut bytes);
        (bytes, encoded, layout)
    };
    let blocks = [Layout::Plain, Layout::Checked].map(block).into();
    (batch, blocks)
}

/// Lines of some kinds, each with its stream and level.
fn kinds_of_lines(count: u64) -> Vec<(LogStream<'static>, LogRecord<'static>)> {
    let one = |n: u64| {
        let body = match n % 10 {
            0..=5 => format!("request {n} took {}ms", n % 77),
            6..=8 => format!("user {n} came by 10.0.0.{}", n % 200),
            _ if n % 40 == 9 => "y".repeat(3000),
            _ => format!("disk {} is full", n % 3),
        };
        let (severity, trace_id) = ((n % 10) as u8 + 1, u128::from(n / 3).to_be_bytes());
        let time_ns = n as i64 + 1;
        let mut record =
            LogRecord { time_ns, severity, trace_id, body: text(body.clone()), ..LogRecord::default() };
        let (name, value) = if n % 10 < 6 { ("took", LogValue::Int(n as i64)) } else { ("who", text(body)) };
        record.attributes.push((name.into(), value));
        let resource = vec![("pod".into(), LogValue::Int((n * n % 5) as i64))];
        (LogStream { resource, ..LogStream::default() }, record)
    };
    (0..count).map(one).collect()
}

#[test]
fn both_layouts_hold_the_same_and_parts_are_read_by_themselves() {
    let (batch, blocks) = blocks_of(&kinds_of_lines(5000));
    let whole: Vec<String> =
        (0..5000).map(|row| format!("{:?}", batch.rows.record(row, &batch.dict))).collect();
    let by_group = Want { observed: false, traces: false, spans: false, ..Want::ALL };
    let mut all_by_group = Vec::new();
    for (bytes, encoded, layout) in &blocks {
        assert_eq!(encoded.bodies, blocks[0].1.bodies);
        assert_eq!(Block::unchecked(bytes, *layout), Some(encoded.unchecked));
        let block = Block::parse(bytes, *layout, LIMITS).expect("own bytes");
        block.verify().expect("own bytes");
        let rows = block.decode(&batch.dict, &Want::ALL, None, Trust::Own, LIMITS).expect("own bytes");
        let read: Vec<String> = (0..5000).map(|row| format!("{:?}", rows.record(row, &batch.dict))).collect();
        assert!(read == whole && rows.streams() == batch.rows.streams(), "{layout:?}");
        let (mut start, dict) = (0, &batch.dict);
        let grouped = block.decode_grouped(dict, &by_group, None, Trust::Own, LIMITS).expect("own bytes");
        let of = |rows: &Rows, row| format!("{} {:?}", rows.streams()[row], rows.record(row, dict));
        let read: Vec<String> = (0..5000).map(|row| of(&grouped, row)).collect();
        for (_, count) in &encoded.bodies {
            let among = start..start + *count as usize;
            let rows =
                block.decode_grouped(dict, &by_group, Some(std::slice::from_ref(&among)), Trust::Own, LIMITS);
            let rows = rows.expect("own bytes");
            assert!(among.clone().all(|row| of(&rows, row) == read[row]), "{layout:?} {among:?}");
            let has = |column: u32| {
                among.clone().any(|row| dict.key_columns(rows.key_sets()[row]).contains(&column))
            };
            let columns = 0..dict.columns_len() as u32;
            assert!(columns.clone().all(|column| rows.column(column).is_some() == has(column)), "{among:?}");
            if *layout == Layout::Checked && start > 1000 {
                assert!(rows.severities()[..500].iter().all(|severity| *severity == 0), "it is not read");
            }
            start += *count as usize;
        }
        all_by_group.push(read);
    }
    assert!(all_by_group[0] == all_by_group[1]);
}

#[test]
fn each_section_has_its_checksum_and_nobody_else_minds() {
    let (batch, blocks) = blocks_of(&kinds_of_lines(300));
    let (bytes, encoded, layout) = &blocks[1];
    let severities = Want { severities: true, ..Want::default() };
    let decode = |bytes: &[u8], want: &Want| {
        let block = Block::parse(bytes, *layout, LIMITS)?;
        block
            .decode_grouped(&batch.dict, want, None, Trust::Own, LIMITS)
            .map(|rows| rows.severities().to_vec())
    };
    let expected = decode(bytes, &severities).expect("own bytes");
    let mut read = 0;
    for at in encoded.unchecked..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let block = Block::parse(&damaged, *layout, LIMITS).expect("the head is as it was");
        assert_eq!(block.verify(), Err(DecodeError::Checksum), "byte {at}");
        assert_eq!(
            block.decode(&batch.dict, &Want::ALL, None, Trust::Own, LIMITS).err(),
            Some(DecodeError::Checksum),
            "byte {at}"
        );
        match decode(&damaged, &severities) {
            Ok(severities) => assert_eq!(severities, expected, "byte {at}"),
            Err(error) => {
                assert_eq!(error, DecodeError::Checksum);
                read += 1;
            }
        }
    }
    assert!(read > 0 && read * 10 < bytes.len(), "{read} of {} bytes are read", bytes.len());
}
