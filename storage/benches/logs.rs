//! Generated application logs through batch, memtable, flush, merge and queries, on one thread: bytes a line and CPU a
//! million lines. `cargo bench -p storage --bench logs [-- LINES]`.
//!
//! The lines are those of twelve services with five pods each: requests, queries, cache and queue messages, errors with
//! words that nothing else has, with trace and span ids, users, addresses and durations; 348 bytes each as flat JSON.

#![allow(clippy::print_stdout)]

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use protocol::command::{Command, CommandBody, CommandHeader, encode_write};
use protocol::ids::{LogIndex, ShardId, TenantId};
use protocol::logs::batch::{BatchKey, LogBatchBuilder};
use protocol::logs::{
    LogColumns, LogField, LogFilter, LogRecord, LogScan, LogSink, LogStream, LogTest, LogValue,
};
use storage::engine::{FlushPolicy, LogPosition, ShardOptions, ShardStore};
use storage::fs::mem::MemFs;
use storage::logs::scan::{LogCounting, LogReader};

const LINES_PER_BATCH: usize = 2000;
const FLUSH_BYTES: usize = 6 << 20;
const HOUR_NS: i64 = 3_600_000_000_000;
const START_NS: i64 = 1_700_000_000_000_000_000;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Small numbers often, large ones rarely.
    fn skewed(&mut self, bound: u64) -> u64 {
        let (a, b) = (self.below(bound), self.below(bound));
        a * b / bound
    }
}

const SERVICES: [&str; 12] = [
    "checkout",
    "cart",
    "payment",
    "inventory",
    "search",
    "auth",
    "gateway",
    "email",
    "billing",
    "catalog",
    "shipping",
    "frontend",
];
const VERBS: [&str; 8] =
    ["loading", "storing", "checking", "sending", "reading", "parsing", "merging", "closing"];
const NOUNS: [&str; 6] = ["session", "order", "invoice", "basket", "token", "profile"];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const LEVELS: [(&str, u8); 4] = [("DEBUG", 5), ("INFO", 9), ("WARN", 13), ("ERROR", 17)];

struct Line {
    stream: usize,
    record: LogRecord<'static>,
}

fn text(text: impl Into<String>) -> LogValue<'static> {
    LogValue::String(Cow::Owned(text.into()))
}

fn line(random: &mut Random, number: usize, total: usize, trace: &mut [u8; 16]) -> Line {
    let service = random.skewed(12) as usize;
    let stream = service * 5 + random.below(5) as usize;
    let time_ns = START_NS
        + (number as i128 * i128::from(HOUR_NS) / total as i128) as i64
        + random.below(900_000) as i64;
    if random.below(3) == 0 {
        trace[..8].copy_from_slice(&random.next().to_le_bytes());
        trace[8..].copy_from_slice(&random.next().to_le_bytes());
    }
    let (user, took, status) = (
        random.skewed(50_000),
        random.skewed(2_000_000),
        [200, 200, 200, 201, 404, 500][random.below(6) as usize],
    );
    let address = format!("10.{}.{}.{}", random.below(4), random.below(256), random.below(256));
    let mut attributes = Vec::new();
    let (verb, noun) = (VERBS[random.below(8) as usize], NOUNS[random.below(6) as usize]);
    let mut level = if random.below(20) == 0 { 2 } else { 1 };
    let body = match random.below(10) {
        0..=3 => {
            attributes.push(("method".into(), text(METHODS[random.below(4) as usize])));
            attributes.push(("status".into(), LogValue::Int(status)));
            attributes.push(("duration_ms".into(), LogValue::Float(took as f64 / 1000.0)));
            attributes.push(("client_ip".into(), text(address.clone())));
            format!(
                "{} /api/v1/{noun}s/{user} {status} in {}.{:03}ms from {address}",
                METHODS[random.below(4) as usize],
                took / 1000,
                took % 1000
            )
        }
        4 | 5 => {
            attributes.push(("user_id".into(), LogValue::Int(user as i64)));
            format!("{verb} {noun} for user {user} ({} items)", random.skewed(40))
        }
        6 => format!(
            "cache {} for key {noun}:{:016x} after {}us",
            ["hit", "miss"][random.below(2) as usize],
            random.next(),
            took / 10
        ),
        7 => {
            let mut id = String::new();
            let (a, b) = (random.next(), random.next());
            let _ = write!(
                id,
                "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
                a as u32,
                (a >> 32) as u16,
                (a >> 48) & 0xfff,
                b & 0xfff,
                b >> 16
            );
            format!("message {id} {verb} by worker {} in partition {}", random.below(16), random.below(64))
        }
        8 => {
            level = 0;
            format!(
                "query {} took {} rows={} db={noun}s",
                random.below(100_000),
                took / 1000,
                random.skewed(5000)
            )
        }
        _ => {
            level = if random.below(4) == 0 { 3 } else { 2 };
            if level == 3 {
                format!("{verb} {noun} {user} failed: context deadline exceeded after {}ms", took / 1000)
            } else {
                format!(
                    "retry {} of {verb} {noun}: connection refused by {address}:{}",
                    random.below(5),
                    8000 + random.below(3)
                )
            }
        }
    };
    let (severity_text, severity) = LEVELS[level];
    let with_trace = random.below(100) < 62;
    let record = LogRecord {
        time_ns,
        severity,
        severity_text: severity_text.into(),
        body: text(body),
        trace_id: if with_trace { *trace } else { [0; 16] },
        span_id: if with_trace { random.next().to_le_bytes() } else { [0; 8] },
        attributes,
        ..LogRecord::default()
    };
    Line { stream, record }
}

fn json_len(stream: &LogStream<'_>, record: &LogRecord<'_>) -> usize {
    let mut out = format!(
        "{{\"time\":\"2023-11-14T22:13:20.000000000Z\",\"level\":\"{}\",\"message\":",
        record.severity_text
    );
    record.body.write_json(&mut out);
    for (name, value) in stream.resource.iter().chain(&record.attributes) {
        let _ = write!(out, ",\"{name}\":");
        value.write_json(&mut out);
    }
    if record.trace_id != [0; 16] {
        out.push_str(&format!(",\"trace_id\":\"{}\",\"span_id\":\"{}\"", "x".repeat(32), "x".repeat(16)));
    }
    out.len() + 2
}

fn report(what: &str, started: Instant, lines: usize) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what:32} {:8.3} s per million lines", seconds * 1e6 / lines as f64);
}

fn main() {
    let lines = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000usize);
    let tenant = TenantId::default();
    let streams: Vec<LogStream<'static>> = (0..60)
        .map(|n| {
            let service = SERVICES[n / 5];
            let pair = |name: &'static str, value: String| (Cow::Borrowed(name), text(value));
            let resource = vec![
                pair("service.name", service.to_owned()),
                pair("k8s.namespace.name", "shop".to_owned()),
                pair("k8s.pod.name", format!("{service}-7d9f8b6c5-x{}", n % 5)),
                pair("host.name", format!("node-{:02}", n % 7)),
            ];
            LogStream { resource, ..LogStream::default() }
        })
        .collect();
    let mut random = Random(7);
    let mut trace = [1; 16];
    let generated: Vec<Line> =
        (0..lines).map(|number| line(&mut random, number, lines, &mut trace)).collect();
    let raw: usize = generated.iter().map(|line| json_len(&streams[line.stream], &line.record)).sum();
    println!("{lines} lines, {} bytes of JSON each", raw / lines);

    let started = Instant::now();
    let mut batches: Vec<Bytes> = Vec::new();
    for (number, chunk) in generated.chunks(LINES_PER_BATCH).enumerate() {
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
    let header = CommandHeader { encoder_epoch: 1, cluster_time_ms: 1 };
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
    let reader = LogReader { tenant: &tenant, should_stop: &|| false };
    let body = |test: LogTest| LogFilter::Field(LogField::Body, test);
    let phrase = |text: &str| body(LogTest::Phrase { text: text.to_owned(), ignore_case: false });
    let contains = |text: &str| body(LogTest::Contains { text: text.to_owned(), ignore_case: false });
    let service = LogFilter::Field(
        LogField::Attribute("service.name".to_owned()),
        LogTest::Equals("payment".to_owned()),
    );
    let count = |name: &str, filter: LogFilter, bucket_ns: i64, by: &[LogField]| {
        let counting =
            LogCounting { start_ns: i64::MIN + 1, end_ns: i64::MAX, filter: &filter, bucket_ns, by };
        let mut best = f64::MAX;
        let mut total = 0;
        for _ in 0..5 {
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
    count("word_and_fields", LogFilter::And(vec![phrase("failed"), service.clone()]), 0, &[]);
    count("level_per_minute", LogFilter::All, 60_000_000_000, &[LogField::SeverityText]);
    count("digits anywhere", contains("7719"), 0, &[]);
    count("user 77", contains("user 77 "), 0, &[]);
    let rows = |name: &str, filter: LogFilter, limit: usize| {
        let scan = LogScan {
            start_ns: i64::MIN,
            end_ns: i64::MAX,
            filter,
            newest_first: true,
            columns: LogColumns::All,
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
