//! Deterministic metric workloads, encoded the way Prometheus sends them.
//!
//! A [`Workload`] is a fleet of hosts with 500 series each, scraped at a fixed interval: node-exporter and HTTP metrics
//! with eight to eleven labels a series; 43 % of the series are constant, 37 % are changing integers (counters, gauges in
//! multiples of a page), 19 % decimals of two places, 1 % floats with full mantissas. One request carries one sample
//! of each series of a few hosts, or of some series of one: snappy over a remote write 1.0 message.
//!
//! The same seed and start give the same bytes, so that two servers or two versions see the same load. Shape *A* is
//! 100,000 series x 240 scrapes (an hour at 15 s), shape *B* is 1,000,000 series x 10 (mostly first contacts).

use std::fmt::Write as _;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::sim::random::{Stream, stream};

/// Series of one host.
pub const SERIES_PER_HOST: usize = 500;

/// The size of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Shape {
    /// Hosts, of [`SERIES_PER_HOST`] series each.
    pub hosts: usize,
    /// Scrapes of every host.
    pub scrapes: usize,
    /// Milliseconds from scrape to scrape.
    pub interval_ms: i64,
    /// Samples of a request, of as many whole hosts as that comes to, or of a part of one host.
    pub samples_per_request: usize,
}

impl Shape {
    /// 100,000 series x 240 scrapes, 2,000 samples a request.
    pub const A: Self = Self { hosts: 200, scrapes: 240, interval_ms: 15_000, samples_per_request: 2_000 };
    /// 1,000,000 series x 10 scrapes, 2,000 samples a request.
    pub const B: Self = Self { hosts: 2_000, scrapes: 10, interval_ms: 15_000, samples_per_request: 2_000 };

    /// Series in all.
    pub const fn series(&self) -> usize {
        self.hosts * SERIES_PER_HOST
    }

    /// Samples in all.
    pub const fn samples(&self) -> u64 {
        (self.series() * self.scrapes) as u64
    }

    /// Hosts whose requests keep their order.
    fn hosts_per_group(&self) -> usize {
        (self.samples_per_request / SERIES_PER_HOST).max(1)
    }

    /// Milliseconds from the first to after the last scrape.
    pub const fn span_ms(&self) -> i64 {
        self.scrapes as i64 * self.interval_ms
    }
}

/// How a series moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value for ever.
    Constant,
    /// A counter or gauge of whole numbers.
    Integer,
    /// Two decimal places.
    Decimal,
    /// Anything.
    Float,
}

struct Series {
    /// The labels, encoded as fields of a `TimeSeries` message.
    labels: Vec<u8>,
    kind: Kind,
    gauge: bool,
    value: f64,
    /// Typical growth from scrape to scrape.
    step: f64,
}

struct Host {
    series: Vec<Series>,
    /// Scrapes of hosts are spread over the interval.
    offset_ms: i64,
    rng: SmallRng,
}

/// A fleet of hosts that is scraped.
pub struct Workload {
    shape: Shape,
    start_ms: i64,
    hosts: Vec<Host>,
    scrape: usize,
}

/// One encoded request.
pub struct Request {
    /// What it is about, a group of hosts: requests of one group must keep their order.
    pub group: usize,
    /// Samples in it, or log lines.
    pub samples: u32,
    /// The body as it is sent: snappy over the remote write message, or a plain OTLP one.
    pub body: Vec<u8>,
}

impl Workload {
    /// The fleet of a shape; its first scrape happens at `start_ms`.
    pub fn new(shape: Shape, seed: u64, start_ms: i64) -> Self {
        let hosts = (0..shape.hosts).map(|number| host(number, seed, shape.interval_ms)).collect();
        Self { shape, start_ms, hosts, scrape: 0 }
    }

    /// The requests of the next scrape, group by group; `None` after the last one.
    pub fn next_scrape(&mut self) -> Option<Vec<Request>> {
        if self.scrape == self.shape.scrapes {
            return None;
        }
        let at_ms = self.start_ms + self.scrape as i64 * self.shape.interval_ms;
        self.scrape += 1;
        let mut snappy = snap::raw::Encoder::new();
        let mut message = Vec::new();
        let samples_per_request = self.shape.samples_per_request.max(1);
        let mut requests = Vec::new();
        for (group, hosts) in self.hosts.chunks_mut(self.shape.hosts_per_group()).enumerate() {
            let mut samples = 0;
            let mut finish = |message: &mut Vec<u8>, samples: &mut usize| {
                let body = snappy.compress_vec(message).expect("a request is far below snappy's limit");
                requests.push(Request { group, samples: *samples as u32, body });
                message.clear();
                *samples = 0;
            };
            for host in hosts {
                for series in &mut host.series {
                    series.scrape(&mut host.rng, at_ms + host.offset_ms, &mut message);
                    samples += 1;
                    if samples == samples_per_request {
                        finish(&mut message, &mut samples);
                    }
                }
            }
            if samples > 0 {
                finish(&mut message, &mut samples);
            }
        }
        Some(requests)
    }

    /// Whether series `index` of every host has this kind.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.hosts.iter().take(1).flat_map(|host| host.series.iter().map(|s| s.kind))
    }
}

impl Series {
    /// Its next sample, as a field of the message.
    fn scrape(&mut self, rng: &mut SmallRng, at_ms: i64, out: &mut Vec<u8>) {
        self.advance(rng);
        let mut sample = [0; 24];
        let sample_len = sample_field(self.value, at_ms, &mut sample);
        out.push(0x0a); // WriteRequest.timeseries
        put_varint(out, (self.labels.len() + sample_len) as u64);
        out.extend_from_slice(&self.labels);
        out.extend_from_slice(&sample[..sample_len]);
    }

    fn advance(&mut self, rng: &mut SmallRng) {
        match self.kind {
            Kind::Constant => {}
            Kind::Integer if self.gauge => {
                let pages = rng.random_range(-self.step..=self.step).round();
                self.value = (self.value + pages * 4096.0).max(0.0);
            }
            Kind::Integer => self.value += (self.step * rng.random_range(0.5..1.5)).round(),
            Kind::Decimal if self.gauge => {
                let moved = self.value + rng.random_range(-self.step..=self.step);
                self.value = hundredths(moved.max(0.0));
            }
            Kind::Decimal => self.value = hundredths(self.value + self.step * rng.random_range(0.5..1.5)),
            Kind::Float => self.value = self.step * rng.random_range(0.5..1.5),
        }
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn host(number: usize, seed: u64, interval_ms: i64) -> Host {
    let mut rng = stream(seed, Stream::Clients, number as u64);
    let mut series = Vec::with_capacity(SERIES_PER_HOST);
    families(number, |name, labels, kind, gauge| {
        let step = match (kind, gauge) {
            (Kind::Constant, _) => 0.0,
            // Rates spread over five decades, as in a real fleet.
            (Kind::Integer, false) => 10f64.powf(rng.random_range(-0.5..4.5)),
            (Kind::Integer, true) => rng.random_range(1.0..2_000.0),
            (Kind::Decimal, false) => rng.random_range(0.05..14.0),
            (Kind::Decimal, true) => rng.random_range(0.05..0.8),
            (Kind::Float, _) => rng.random_range(0.0005..0.2),
        };
        let value = match (kind, gauge) {
            (Kind::Constant, _) if name == "up" || name.ends_with("_info") => 1.0,
            (Kind::Constant, _) if gauge => f64::from(rng.random_range(0..2_u32)),
            (Kind::Constant, _) => f64::from(rng.random_range(1..1_000_000_u32)) * 4096.0,
            (Kind::Integer, true) => f64::from(rng.random_range(10_000..4_000_000_u32)) * 4096.0,
            (Kind::Integer, false) => (step * rng.random_range(0.0..40_000.0)).round(),
            (Kind::Decimal, false) => hundredths(step * rng.random_range(0.0..40_000.0)),
            (Kind::Decimal, true) => hundredths(rng.random_range(0.0..8.0)),
            (Kind::Float, _) => 0.0,
        };
        series.push(Series { labels: encode_labels(name, labels, number), kind, gauge, value, step });
    });
    assert_eq!(series.len(), SERIES_PER_HOST, "the families must add up");
    Host { series, offset_ms: (number as i64 * 7_919) % interval_ms, rng }
}

/// Where file systems are mounted, and of which type they are.
const MOUNTS: [(&str, &str); 12] = [
    ("/", "ext4"),
    ("/boot", "vfat"),
    ("/data", "xfs"),
    ("/home", "ext4"),
    ("/opt", "ext4"),
    ("/srv", "xfs"),
    ("/var", "ext4"),
    ("/var/lib/containers", "xfs"),
    ("/var/log", "ext4"),
    ("/dev/shm", "tmpfs"),
    ("/run", "tmpfs"),
    ("/tmp", "tmpfs"),
];

/// What a host's memory is used for.
const MEMORY: [&str; 12] = [
    "Active",
    "AnonPages",
    "Buffers",
    "Cached",
    "Dirty",
    "Inactive",
    "Mapped",
    "MemAvailable",
    "MemFree",
    "PageTables",
    "Shmem",
    "Slab",
];

/// Calls `add(name, labels, kind, is a gauge)` for each series of a host.
fn families(number: usize, mut add: impl FnMut(&str, &[(&str, String)], Kind, bool)) {
    let mut each = |name: &str, label: &str, count: usize, kind: Kind, gauge: bool| {
        for i in 0..count {
            let value = match (label, i) {
                ("device", 0) if name.contains("_network_") => "lo".to_owned(),
                ("device", i) if name.contains("_network_") => format!("eth{}", i - 1),
                ("device", i) => format!("nvme{i}n1"),
                ("cpu", i) => i.to_string(),
                (other, i) => format!("{other}-{i}"),
            };
            add(name, &[(label, value)], kind, gauge);
        }
    };
    // Constants
    for state in ["active", "activating", "deactivating", "failed", "inactive"] {
        each(&format!("node_systemd_unit_{state}"), "name", 26, Kind::Constant, true);
    }
    each("node_network_mtu_bytes", "device", 8, Kind::Constant, false);
    each("node_network_up", "device", 8, Kind::Constant, true);
    each("node_network_speed_bytes", "device", 8, Kind::Constant, false);
    each("node_network_receive_errs_total", "device", 8, Kind::Constant, true);
    each("node_cpu_info", "cpu", 8, Kind::Constant, true);
    each("node_sysctl_info", "index", 16, Kind::Constant, true);
    // Integers
    for direction in ["receive", "transmit"] {
        each(&format!("node_network_{direction}_bytes_total"), "device", 8, Kind::Integer, false);
        each(&format!("node_network_{direction}_packets_total"), "device", 8, Kind::Integer, false);
    }
    for what in ["reads", "writes", "reads_merged", "writes_merged", "read_sectors", "written_sectors"] {
        each(&format!("node_disk_{what}_total"), "device", 4, Kind::Integer, false);
    }
    each("node_vmstat_total", "field", 6, Kind::Integer, false);
    each("node_netstat_total", "field", 6, Kind::Integer, false);
    each("process_virtual_memory_bytes", "process", 6, Kind::Integer, true);
    // Decimals and floats
    each("process_cpu_seconds_total", "process", 25, Kind::Decimal, false);
    each("node_pressure_waiting_ratio", "resource", 3, Kind::Decimal, true);
    each("node_scrape_collector_duration_seconds", "collector", 5, Kind::Float, true);

    for (mountpoint, fstype) in MOUNTS {
        let labels = [("fstype", fstype.to_owned()), ("mountpoint", mountpoint.to_owned())];
        add("node_filesystem_size_bytes", &labels, Kind::Constant, false);
        add("node_filesystem_readonly", &labels, Kind::Constant, true);
        add("node_filesystem_avail_bytes", &labels, Kind::Integer, true);
        add("node_filesystem_free_bytes", &labels, Kind::Integer, true);
    }
    for area in MEMORY {
        add(&format!("node_memory_{area}_bytes"), &[], Kind::Integer, true);
    }
    for single in ["up", "node_boot_time_seconds", "node_memory_MemTotal_bytes"] {
        add(single, &[], Kind::Constant, false);
    }
    let release = format!("6.1.0-{}-amd64", 26 + number % 3);
    add("node_uname_info", &[("release", release)], Kind::Constant, true);
    add("app_build_info", &[("revision", "1f6b3c0".to_owned())], Kind::Constant, true);
    for event in ["context_switches", "forks", "intr"] {
        add(&format!("node_{event}_total"), &[], Kind::Integer, false);
    }
    for load in ["node_load1", "node_load5", "node_load15"] {
        add(load, &[], Kind::Decimal, true);
    }
    for handler in ["/api/v1/orders", "/api/v1/users", "/api/v1/search", "/health"] {
        for le in ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"] {
            let labels = [("handler", handler.to_owned()), ("le", le.to_owned())];
            add("http_request_duration_seconds_bucket", &labels, Kind::Integer, false);
        }
    }
    for handler in 0..8 {
        for code in ["200", "404", "500"] {
            let labels = [("code", code.to_owned()), ("handler", format!("/route/{handler}"))];
            add("http_requests_total", &labels, Kind::Integer, false);
        }
    }
    for cpu in 0..8 {
        for mode in ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"] {
            let labels = [("cpu", cpu.to_string()), ("mode", mode.to_owned())];
            add("node_cpu_seconds_total", &labels, Kind::Decimal, false);
        }
    }
}

fn encode_labels(name: &str, own: &[(&str, String)], host: usize) -> Vec<u8> {
    const REGIONS: [&str; 4] = ["eu-west-1", "eu-north-1", "us-east-1", "ap-south-1"];
    const SITES: [&str; 4] = ["fra1", "arn1", "iad1", "bom1"];
    let mut instance = String::new();
    let site = SITES[host / 50 % SITES.len()];
    let _ = write!(instance, "node-{host:05}.{site}.example.net:9100");
    let region = REGIONS[host % REGIONS.len()];
    let mut labels: Vec<(&str, &str)> = vec![
        ("__name__", name),
        ("cluster", "production-1"),
        ("env", "prod"),
        ("instance", &instance),
        ("job", if name.starts_with("node_") || name == "up" { "node" } else { "app" }),
        ("namespace", "platform"),
        ("region", region),
        ("team", ["storage", "payments", "search"][host % 3]),
    ];
    labels.extend(own.iter().map(|(name, value)| (*name, value.as_str())));
    labels.sort_unstable();
    let mut out = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        put_bytes(&mut label, 0x0a, name.as_bytes());
        put_bytes(&mut label, 0x12, value.as_bytes());
        put_bytes(&mut out, 0x0a, &label);
    }
    out
}

/// A `samples` field of a `TimeSeries` message.
fn sample_field(value: f64, timestamp_ms: i64, out: &mut [u8; 24]) -> usize {
    // field 2, length; field 1 fixed64 value; field 2 varint timestamp
    let mut time = Vec::with_capacity(10);
    put_varint(&mut time, timestamp_ms as u64);
    out[0] = 0x12;
    out[1] = (9 + 1 + time.len()) as u8;
    out[2] = 0x09;
    out[3..11].copy_from_slice(&value.to_le_bytes());
    out[11] = 0x10;
    out[12..12 + time.len()].copy_from_slice(&time);
    12 + time.len()
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        timeseries: Vec<TimeSeries>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        samples: Vec<Sample>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Label {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        value: String,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Sample {
        #[prost(double, tag = "1")]
        value: f64,
        #[prost(int64, tag = "2")]
        timestamp: i64,
    }

    fn decode(body: &[u8]) -> WriteRequest {
        let raw = snap::raw::Decoder::new().decompress_vec(body).expect("snappy");
        WriteRequest::decode(raw.as_slice()).expect("protobuf")
    }

    const SMALL: Shape = Shape { hosts: 6, scrapes: 3, interval_ms: 15_000, samples_per_request: 2_000 };

    #[test]
    fn requests_are_what_prometheus_would_send() {
        let mut workload = Workload::new(SMALL, 1, 1_000_000);
        let mut seen = std::collections::BTreeSet::new();
        let mut times = 0;
        while let Some(requests) = workload.next_scrape() {
            assert_eq!(requests.iter().map(|r| r.samples).collect::<Vec<_>>(), [2_000, 1_000]);
            for request in requests {
                let message = decode(&request.body);
                assert_eq!(message.timeseries.len(), request.samples as usize);
                for series in message.timeseries {
                    let names: Vec<_> = series.labels.iter().map(|l| l.name.clone()).collect();
                    assert!(names.is_sorted(), "{names:?}");
                    assert!((8..=11).contains(&names.len()), "{names:?}");
                    assert_eq!(series.samples.len(), 1);
                    assert!(series.samples[0].timestamp >= 1_000_000);
                    let key: Vec<_> = series.labels.into_iter().map(|l| (l.name, l.value)).collect();
                    seen.insert(key);
                }
            }
            times += 1;
        }
        assert_eq!((seen.len(), times), (SMALL.series(), SMALL.scrapes));
    }

    #[test]
    fn a_request_may_hold_a_part_of_a_host() {
        let scrape = |samples_per_request| {
            let mut workload = Workload::new(Shape { samples_per_request, ..SMALL }, 1, 0);
            workload.next_scrape().unwrap()
        };
        let small = scrape(200);
        let sizes: Vec<_> = small.iter().map(|r| (r.group, r.samples)).collect();
        assert_eq!(sizes[..4], [(0, 200), (0, 200), (0, 100), (1, 200)]);
        let series = |requests: &[Request]| -> Vec<_> {
            requests.iter().flat_map(|r| decode(&r.body).timeseries).collect()
        };
        assert_eq!(series(&small), series(&scrape(2_000)), "the same samples in the same order");
    }

    #[test]
    fn the_mix_is_as_stated() {
        let workload = Workload::new(SMALL, 1, 0);
        let count = |kind| workload.kinds().filter(|k| *k == kind).count();
        assert_eq!([Kind::Constant, Kind::Integer, Kind::Decimal, Kind::Float].map(count), [215, 185, 95, 5]);
    }

    #[test]
    fn the_seed_fixes_the_bytes() {
        let bytes = |seed| {
            let mut workload = Workload::new(SMALL, seed, 5);
            let mut all = Vec::new();
            while let Some(requests) = workload.next_scrape() {
                all.extend(requests.into_iter().flat_map(|r| r.body));
            }
            all
        };
        assert_eq!(bytes(3), bytes(3));
        assert_ne!(bytes(3), bytes(4));
    }

    #[test]
    fn a_sample_costs_on_the_wire_what_it_costs_peers() {
        let mut workload = Workload::new(SMALL, 1, 1_764_000_000_000);
        workload.next_scrape();
        let requests = workload.next_scrape().expect("a second scrape");
        let (bytes, samples) =
            requests.iter().fold((0, 0), |(b, s), r| (b + r.body.len(), s + r.samples as usize));
        let per_sample = bytes as f64 / samples as f64;
        assert!((18.0..32.0).contains(&per_sample), "{per_sample}");
    }
}
