//! Speed and size of the codecs and of whole segments, on data like workload A's: 43 % of the series constant, 37 %
//! integers, 20 % decimals, and a few full-mantissa floats; 240 samples each, scraped together by host.
//!
//! `cargo bench -p storage --bench encoding`. Figures are per core: everything runs on one thread.

#![allow(clippy::print_stdout, reason = "a benchmark reports to its terminal")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use protocol::ids::TenantId;
use protocol::labels::Labels;
use protocol::matcher::Matcher;
use storage::encoding::Effort;
use storage::encoding::floats::{self, FloatEncoder};
use storage::fs::Map;
use storage::segment::{SegmentBuilder, SegmentHeader, SegmentReader, SeriesInput, compare_series};

/// A small generator with a fixed seed: the same data in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn unit(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 53) as f64
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Constant,
    BusyCounter,
    QuietCounter,
    Pages,
    Decimal,
    CpuSeconds,
    FullMantissa,
}

/// Kinds in the shares of workload A, in percent.
const SHARES: [(Kind, usize); 7] = [
    (Kind::Constant, 43),
    (Kind::BusyCounter, 14),
    (Kind::QuietCounter, 13),
    (Kind::Pages, 10),
    (Kind::Decimal, 10),
    (Kind::CpuSeconds, 9),
    (Kind::FullMantissa, 1),
];

fn kind_of(series: usize) -> Kind {
    let mut at = series * 37 % 100;
    for (kind, share) in SHARES {
        if at < share {
            return kind;
        }
        at -= share;
    }
    Kind::Constant
}

fn values(kind: Kind, count: usize, random: &mut Random) -> Vec<f64> {
    let start = random.below(1_000_000);
    let bits = random.below(14);
    let rate = 1 + random.below(1 << bits);
    let mut sum = start as f64;
    let mut cents = start as i64;
    (0..count)
        .map(|_| match kind {
            Kind::Constant => start as f64 % 3.0,
            Kind::BusyCounter => {
                sum += (rate * 15 + random.below(rate * 4)) as f64;
                sum
            }
            Kind::QuietCounter => {
                sum += if random.below(8) == 0 { random.below(4) as f64 } else { 0.0 };
                sum
            }
            Kind::Pages => {
                sum += (random.below(41) as f64 - 20.0) * 4096.0;
                sum
            }
            Kind::Decimal => {
                cents += random.below(301) as i64 - 150;
                cents as f64 / 100.0
            }
            Kind::CpuSeconds => {
                cents += 1200 + random.below(300) as i64;
                cents as f64 / 100.0
            }
            Kind::FullMantissa => {
                sum += random.unit() - 0.5;
                sum
            }
        })
        .collect()
}

/// Repeats `work` for a while and gives the best time of one round.
fn best_of(mut work: impl FnMut()) -> Duration {
    let begin = Instant::now();
    let mut best = Duration::MAX;
    let mut rounds = 0;
    while rounds < 3 || (begin.elapsed() < Duration::from_millis(400) && rounds < 50) {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed());
        rounds += 1;
    }
    best
}

fn per_second(samples: usize, time: Duration) -> f64 {
    samples as f64 / time.as_secs_f64() / 1e6
}

fn bench_codec(name: &str, columns: &[Vec<f64>], effort: Effort) {
    let samples: usize = columns.iter().map(Vec::len).sum();
    let mut encoder = FloatEncoder::default();
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    let encode = best_of(|| {
        bytes.clear();
        ends.clear();
        for column in columns {
            encoder.encode(black_box(column), effort, &mut bytes);
            ends.push(bytes.len());
        }
    });
    let mut out = Vec::new();
    let decode = best_of(|| {
        let mut start = 0;
        for (column, end) in columns.iter().zip(&ends) {
            floats::decode(&bytes[start..*end], column.len(), &mut out).expect("own bytes");
            black_box(&out);
            start = *end;
        }
    });
    println!(
        "{name:<28} {:>5} points  encode {:>7.1} M/s  decode {:>7.1} M/s  {:>6.3} B/sample",
        columns[0].len(),
        per_second(samples, encode),
        per_second(samples, decode),
        bytes.len() as f64 / samples as f64
    );
}

struct Series {
    labels: Labels,
    host: usize,
    values: Vec<f64>,
}

/// Metrics times hosts, a few instances of each metric on a host, as a node exporter has them.
fn fleet(count: usize, points: usize, random: &mut Random) -> Vec<Series> {
    let hosts = (count / 500).max(1);
    let mut all: Vec<Series> = (0..count)
        .map(|i| {
            let (host, rest) = (i % hosts, i / hosts);
            let (metric, device) = (rest / 8, rest % 8);
            let labels = Labels::from_pairs([
                ("__name__", format!("node_metric_{metric:03}_total")),
                ("device", format!("dev{device}")),
                ("instance", format!("host-{host:04}.example:9100")),
                ("job", "node".to_owned()),
                ("region", format!("region-{}", host % 5)),
            ]);
            Series {
                labels: labels.expect("distinct names"),
                host,
                values: values(kind_of(rest), points, random),
            }
        })
        .collect();
    all.sort_by(|a, b| compare_series(&a.labels, &b.labels));
    all
}

fn bench_segment(name: &str, count: usize, points: usize, effort: Effort) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let series = fleet(count, points, &mut random);
    let hosts = series.iter().map(|s| s.host).max().unwrap_or(0) + 1;
    let times: Vec<Vec<i64>> = (0..hosts)
        .map(|host| (0..points as i64).map(|i| 1_700_000_000_000 + host as i64 * 13 + i * 15_000).collect())
        .collect();
    let (samples, tenant) = (count * points, TenantId::default());
    let mut sealed = None;
    let build = best_of(|| {
        let header = SegmentHeader::default();
        let mut builder = SegmentBuilder::new(header, effort);
        for one in &series {
            let input = SeriesInput {
                float_times: &times[one.host],
                float_values: &one.values,
                ..Default::default()
            };
            builder.push(&tenant, &one.labels, &input).expect("in order");
        }
        sealed = Some(builder.finish().expect("memory takes any bytes"));
    });
    let sealed = sealed.expect("built at least once");
    let len = sealed.sink.len();
    let map = Map::new(sealed.sink);
    let reader = SegmentReader::open(map.clone(), Path::new("bench")).expect("own bytes");
    let open = best_of(|| {
        black_box(SegmentReader::open(map.clone(), Path::new("bench")).expect("own bytes"));
    });
    let mut out = Vec::new();
    let scan = best_of(|| {
        let mut cursor = reader.cursor();
        for series in reader.all() {
            black_box(cursor.floats(series, i64::MIN, i64::MAX, &mut out).expect("own bytes"));
        }
    });
    let walk = best_of(|| {
        let mut cursor = reader.cursor();
        for series in reader.all() {
            black_box(cursor.labels(series).expect("own bytes"));
        }
    });
    let matchers = [
        Matcher::equal("__name__", "node_metric_003_total"),
        Matcher::new("instance", protocol::matcher::MatchOp::Regex, "host-00[0-4].*").expect("valid"),
    ];
    let select = best_of(|| {
        black_box(reader.select("default", &matchers, i64::MIN, i64::MAX).expect("own bytes"));
    });
    println!(
        "{name:<28} {count} x {points}: build {:.1} M/s ({:.2} us/series), {:.3} B/sample, {:.2} B/series; scan {:.1} M/s, \
         labels {:.0} ns/series, open {:.1} ms, select {:.2} ms",
        per_second(samples, build),
        build.as_secs_f64() * 1e6 / count as f64,
        len as f64 / samples as f64,
        len as f64 / count as f64,
        per_second(samples, scan),
        walk.as_secs_f64() * 1e9 / count as f64,
        open.as_secs_f64() * 1e3,
        select.as_secs_f64() * 1e3,
    );
    let sizes = reader.sizes();
    println!(
        "{:<28} B/series: floats {:.2}, labels {:.2}, times {:.2}; all else {} B",
        "",
        sizes.floats as f64 / count as f64,
        sizes.labels as f64 / count as f64,
        sizes.times as f64 / count as f64,
        sizes.whole - sizes.floats - sizes.labels - sizes.times,
    );
}

fn main() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for points in [10, 240, 2000] {
        let count = 400_000 / points;
        let mix: Vec<_> = (0..count).map(|i| values(kind_of(i), points, &mut random)).collect();
        bench_codec("mix", &mix, Effort::Fast);
        for (kind, _) in SHARES {
            let columns: Vec<_> = (0..count / 8).map(|_| values(kind, points, &mut random)).collect();
            bench_codec(&format!("  {kind:?}"), &columns, Effort::Fast);
        }
        bench_codec("mix, thorough", &mix, Effort::Thorough);
    }
    bench_segment("segment, A hot", 20_000, 40, Effort::Fast);
    bench_segment("segment, A merged", 20_000, 240, Effort::Fast);
    bench_segment("segment, B", 100_000, 10, Effort::Fast);
}
