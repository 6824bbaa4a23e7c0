//! Blocks of logs in both layouts: a block with bytes of it changed, or any bytes, are rows that can be put together, or an
//! error.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use protocol::encoding::columns::{Pack, Trust};
use protocol::ids::TenantId;
use protocol::logs::batch::{BatchKey, LogBatch, LogBatchBuilder};
use protocol::logs::block::{Block, Layout, Limits, Want, encode};
use protocol::logs::{LogRecord, LogSink, LogStream, LogValue};

const LIMITS: Limits = Limits { rows: 1 << 12, values: 1 << 18, bytes: 1 << 20 };

static BATCH: LazyLock<LogBatch> = LazyLock::new(|| {
    let mut builder = LogBatchBuilder::new();
    for n in 0..200u64 {
        let resource = vec![("pod".into(), LogValue::Int((n * n % 5) as i64))];
        builder.stream(&LogStream { resource, ..LogStream::default() });
        let body = match n % 4 {
            0 => format!("request {n} took {}ms", n % 77),
            1 => format!("user {n} came by 10.0.0.{}", n % 200),
            2 => "no digits at all".to_owned(),
            _ => format!("disk {} is full", n % 3),
        };
        let attributes = vec![
            ("took".into(), LogValue::Int(n as i64)),
            ("ratio".into(), LogValue::Float(n as f64 / 8.0)),
            ("who".into(), LogValue::String(format!("user-{}", n % 7).into())),
        ];
        builder.record(&LogRecord {
            time_ns: n as i64,
            severity: (n % 20) as u8,
            trace_id: u128::from(n / 3).to_be_bytes(),
            body: LogValue::String(body.into()),
            attributes: attributes.into_iter().take(n as usize % 4).collect(),
            ..LogRecord::default()
        });
    }
    let parts = builder.finish(&TenantId::default(), BatchKey([7; 16])).expect("short records");
    LogBatch::decode(&parts[0].1).expect("own bytes")
});

static BLOCKS: LazyLock<[(Layout, Vec<u8>); 2]> = LazyLock::new(|| {
    [Layout::Plain, Layout::Checked].map(|layout| {
        let mut bytes = Vec::new();
        encode(&BATCH.rows, &BATCH.dict, Pack::Quick, layout, &mut bytes);
        (layout, bytes)
    })
});

fn read(bytes: &[u8], layout: Layout) {
    let Ok(block) = Block::parse(bytes, layout, LIMITS) else { return };
    let sums = block.verify();
    if let Ok(rows) = block.decode(&BATCH.dict, &Want::ALL, None, Trust::Stranger, LIMITS) {
        assert_eq!((rows.len(), sums), (block.rows(), Ok(())));
        for row in 0..rows.len() {
            let _ = rows.record(row, &BATCH.dict);
        }
    }
    let by_group = Want { observed: false, traces: false, spans: false, ..Want::ALL };
    let _ = block.decode_untimed(&BATCH.dict, &by_group, None, Trust::Stranger, LIMITS);
    let _ = block.bodies_by_group(&|template| template % 2 == 0, &BATCH.dict, Trust::Stranger, LIMITS);
    let _ = block.numbers(Trust::Stranger);
    for column in block.columns() {
        let _ = block.templates_of(column);
    }
}

fuzz_target!(|input: (bool, Vec<(u16, u8)>, &[u8])| {
    let (is_checked, changes, raw) = input;
    let (layout, bytes) = &BLOCKS[usize::from(is_checked)];
    if !raw.is_empty() {
        return read(raw, *layout);
    }
    let mut bytes = bytes.clone();
    for (at, byte) in changes {
        let at = usize::from(at) % bytes.len();
        bytes[at] = byte;
    }
    read(&bytes, *layout);
});
