//! Generated application logs through batch, memtable, flush, merge and queries, on one thread: bytes a line and CPU a
//! million lines. `cargo bench -p chaos --bench logs [-- LINES] [NAME...]`, where names say which queries are asked, else
//! all of them. The lines are those of `pharos bench logs`.

#![allow(clippy::print_stdout)]

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use chaos::log_workload::{LINES_PER_REQUEST, Line, LogWorkload, json_len, streams};
use protocol::command::{Command, CommandBody, CommandHeader, encode_write};
use protocol::epoch;
use protocol::ids::{LogIndex, ShardId, TenantId};
use protocol::logs::batch::{BatchKey, LogBatchBuilder};
use protocol::logs::filter::{Bound, LogRange};
use protocol::logs::{
    LogColumns, LogField, LogFilter, LogRecord, LogScan, LogSink, LogStream, LogTest, RowSignal,
};
use storage::engine::{FlushPolicy, LogPosition, ShardOptions, ShardStore};
use storage::fs::mem::MemFs;
use storage::logs::scan::{LogCounting, LogReader};

const FLUSH_BYTES: usize = 6 << 20;
const START_NS: i64 = 1_700_000_000_000_000_000;

fn report(what: &str, started: Instant, lines: usize) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what:32} {:8.3} s per million lines", seconds * 1e6 / lines as f64);
}

fn main() {
    let lines = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000usize);
    let names: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-') && argument.parse::<usize>().is_err())
        .collect();
    let is_asked = |name: &str| names.is_empty() || names.iter().any(|asked| asked == name);
    let tenant = TenantId::default();
    let streams = streams();
    let generated: Vec<Line> = LogWorkload::new(lines, 7, START_NS).collect();
    let raw: usize = generated.iter().map(|line| json_len(&streams[line.stream], &line.record)).sum();
    println!("{lines} lines, {} bytes of JSON each", raw / lines);

    let started = Instant::now();
    let mut batches: Vec<Bytes> = Vec::new();
    for (number, chunk) in generated.chunks(LINES_PER_REQUEST).enumerate() {
        let mut builder = LogBatchBuilder::new();
        // As a collector sends them: by stream.
        let mut order: Vec<&Line> = chunk.iter().collect();
        order.sort_by_key(|line| line.stream);
        let mut last = usize::MAX;
        for line in order {
            if line.stream != last {
                builder.stream(&streams[line.stream]);
                last = line.stream;
            }
            builder.record(&line.record);
        }
        let mut key = [0; 16];
        key[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let parts = builder.finish(&tenant, BatchKey(key)).expect("short records");
        batches.extend(parts.into_iter().map(|(_, bytes)| bytes));
    }
    report("build sub-batches", started, lines);
    let sent: usize = batches.iter().map(Bytes::len).sum();
    println!("{:32} {:8.2} bytes a line", "sub-batches", sent as f64 / lines as f64);

    let store = ShardStore::open(
        MemFs::new(1),
        Path::new("/bench"),
        ShardId(1),
        ShardOptions::default(),
        LogIndex(0),
    )
    .expect("an empty directory opens");
    let mut index = 0;
    let header = CommandHeader { encoder_epoch: epoch::NEWEST, cluster_time_ms: 1 };
    let mut apply = |command: &[u8]| {
        index += 1;
        store.apply(LogPosition { index: LogIndex(index), log_id: b"1" }, command);
    };
    let run_jobs = || {
        while let Some(job) = store.next_job() {
            store.finish_job(job.run()).expect("memory does not fail");
        }
    };
    let idle = FlushPolicy {
        encoder_epoch: epoch::NEWEST,
        memtable_bytes: usize::MAX,
        max_age_ms: i64::MAX,
        merge_factor: usize::MAX,
        ..Default::default()
    };
    let (mut applied, mut flushed) = (0.0, 0.0);
    for batch in &batches {
        let started = Instant::now();
        apply(&encode_write(header, std::slice::from_ref(batch)));
        applied += started.elapsed().as_secs_f64();
        if store.stats().memtable_bytes as usize >= FLUSH_BYTES {
            let started = Instant::now();
            let body = CommandBody::BeginFlush { new_generation: false };
            apply(&Command { header, body }.encode());
            run_jobs();
            while let Some(command) = store.propose(&idle, 1) {
                apply(&command.encode());
                run_jobs();
            }
            flushed += started.elapsed().as_secs_f64();
        }
    }
    let started = Instant::now();
    apply(&Command { header, body: CommandBody::BeginFlush { new_generation: false } }.encode());
    run_jobs();
    while let Some(command) = store.propose(&idle, 1) {
        apply(&command.encode());
        run_jobs();
    }
    flushed += started.elapsed().as_secs_f64();
    println!("{:32} {:8.3} s per million lines", "apply", applied * 1e6 / lines as f64);
    println!("{:32} {:8.3} s per million lines", "flush", flushed * 1e6 / lines as f64);
    let size = |what: &str| {
        let bytes = store.segment_bytes();
        println!(
            "{what:32} {:8.2} bytes a line, {:.4} of raw, {} segments",
            bytes as f64 / lines as f64,
            bytes as f64 / raw as f64,
            store.stats().segments
        );
    };
    size("flushed");
    let started = Instant::now();
    let all = FlushPolicy { merge_all: true, ..idle.clone() };
    while let Some(command) = store.propose(&all, 1) {
        apply(&command.encode());
        run_jobs();
    }
    report("merge", started, lines);
    size("merged");

    let snapshot = store.snapshot();
    let reader = LogReader { signal: RowSignal::Logs, tenant: &tenant, should_stop: &|| false };
    let body = |test: LogTest| LogFilter::Field(LogField::Body, test);
    let phrase = |text: &str| body(LogTest::Phrase { text: text.to_owned(), ignore_case: false });
    let contains = |text: &str| body(LogTest::Contains { text: text.to_owned(), ignore_case: false });
    let service = LogFilter::Field(
        LogField::Attribute("service.name".to_owned()),
        LogTest::Equals("payment".to_owned()),
    );
    let count = |name: &str, filter: LogFilter, bucket_ns: i64, by: &[LogField]| {
        if !is_asked(name) {
            return;
        }
        let counting =
            LogCounting { start_ns: i64::MIN + 1, end_ns: i64::MAX, filter: &filter, bucket_ns, by };
        let mut best = f64::MAX;
        let mut total = 0;
        for _ in 0..if names.is_empty() { 5 } else { 100 } {
            let started = Instant::now();
            total = 0;
            let visit = &mut |_: u64, _: &[&str], count: u64| {
                total += count;
                ControlFlow::Continue(())
            };
            snapshot.log_counts(reader, &counting, visit).expect("readable");
            best = best.min(started.elapsed().as_secs_f64());
        }
        println!("{name:32} {:8.2} ms, {total} lines", best * 1e3);
    };
    count("phrase_count", phrase("context deadline exceeded"), 0, &[]);
    count("substring_count", contains("nection refus"), 0, &[]);
    count("regex_count", body(LogTest::Regex("took [0-9]+ rows=1[0-9]{2} ".to_owned())), 0, &[]);
    let bound = |value: f64, inclusive| Some(Bound { value, inclusive });
    let errors = LogTest::Range(LogRange { from: bound(17.0, true), to: bound(20.0, true) });
    let level = LogFilter::Field(LogField::Severity, errors);
    count("word_and_fields", LogFilter::And(vec![phrase("failed"), service.clone(), level]), 0, &[]);
    let attribute = |name: &str| LogField::Attribute(name.to_owned());
    let slow = LogTest::Range(LogRange { from: bound(1500.0, false), to: None });
    let by_service = [attribute("service.name")];
    count("slow_by_service", LogFilter::Field(attribute("duration_ms"), slow), 0, &by_service);
    count("level_per_minute", LogFilter::All, 60_000_000_000, &[LogField::SeverityText]);
    count("digits anywhere", contains("7719"), 0, &[]);
    count("user 77", contains("user 77 "), 0, &[]);
    let rows = |name: &str, filter: LogFilter, limit: usize| {
        if !is_asked(name) {
            return;
        }
        let scan = LogScan {
            start_ns: i64::MIN,
            end_ns: i64::MAX,
            filter,
            newest_first: true,
            columns: LogColumns::All,
            expected: limit,
        };
        let mut best = f64::MAX;
        let mut seen = 0;
        for _ in 0..5 {
            let started = Instant::now();
            seen = 0;
            let visit = &mut |_: &LogStream<'_>, _: &LogRecord<'_>| {
                seen += 1;
                if seen == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            snapshot.log_records(reader, &scan, visit).expect("readable");
            best = best.min(started.elapsed().as_secs_f64());
        }
        println!("{name:32} {:8.2} ms, {seen} rows", best * 1e3);
    };
    rows("last_100_of_service", service, 100);
    let needle = generated
        .iter()
        .rev()
        .find(|line| line.record.trace_id != [0; 16])
        .map_or([0; 16], |line| line.record.trace_id);
    let digits: String = needle.iter().map(|byte| format!("{byte:02x}")).collect();
    rows("needle_trace_id", LogFilter::Field(LogField::TraceId, LogTest::Equals(digits)), 1000);
    rows("everything", LogFilter::All, usize::MAX);
}
