//! Metrics that follow from a shard's spans: how often, how long and with what outcome each operation ran, and which service
//! called which. Each span counts once, whatever is sent again, whoever dies.
//!
//! ```text
//! apply(sub-batch of spans that the window admits) ─► take: series by (tenant, service, name, kind, status): count, duration
//!                                                       └─► halves of calls by (tenant, trace, span) ─ both there ─► edges
//! cut of the memtable ─► a file beside those of the flush ─► manifest          reader ─► all counters of a shard, encoded
//! ```
//!
//! The counters are state of the shard as the window of keys is: a function of the log, equal on all replicas, in each
//! snapshot. They only grow. A reader sees them at or behind the index of its view, and no linearizable read sees less than
//! one before it: sums over all shards are counters, too.
//!
//! A call has two halves: a client's (or producer's) span, and the server's (or consumer's) span that names it as its parent.
//! Both lie in one trace, hence on one shard, in any order and in requests of their own. The first half waits
//! [`WAIT_MS`] of cluster time, as far as the log tells it, for the other. A client's span that says which database it asks
//! is a call by itself. Durations are summed as whole nanoseconds, so that sums do not depend on the order.
//!
//! Of each series the slowest span of the latest [`EXEMPLAR_MS`] of cluster time is known, as an exemplar of its histogram.
//!
//! **Bounds.** Names and series come from clients: texts are cut at [`MAX_TEXT`] bytes, and a shard keeps [`MAX_SERIES`]
//! series and as many edges; what more there is counts in one series a tenant (kind [`OVERFLOW`]). [`MAX_HALVES`] halves wait
//! at most; further ones are counted as left out.
//!
//! ```text
//! file   "PHSPANM" | version u8 (2) | last entry v | unpaired v | left out v
//!        | count v | count x ( p(tenant) p(service) p(name) kind u8 status u8 | 13 x bucket v | sum u128 LE )
//!        | count v | count x ( p(tenant) p(client) p(server) connection u8 | failed v | 9 x v, sum | 9 x v, sum )
//!        | count v | count x ( until z | p(tenant) | trace 16 | span 8 | side u8 (1 server, 2 message) | p(service) | duration v | failed u8 )
//!        | count v | count x ( place among the series v | window z | trace 16 | span 8 | duration v | end z )
//!        | crc32c u32
//! ```
//! Version 1 has no exemplars.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, Equivalent, HashMap};
use indexmap::IndexMap;
use protocol::ids::TenantId;
use protocol::logs::LogValue;
use protocol::logs::batch::LogBatch;
use protocol::logs::codec::decode_stream;
use protocol::logs::dict::Dict;
use protocol::logs::rows::{Rows, Values};
use protocol::spans::{SpanKind, SpanStatus, row};
use protocol::varint::{
    read_bytes, read_len, read_prefixed, read_u64, unzigzag, write_prefixed, write_u64, zigzag,
};

use crate::error::FormatError;

/// How long a half of a call waits for the other, in cluster time.
pub const WAIT_MS: i64 = 60_000;
/// Width of the windows of cluster time, each of which may give a series an exemplar.
pub const EXEMPLAR_MS: i64 = 15_000;
/// Halves that wait at most.
pub const MAX_HALVES: usize = 50_000;
/// Series, and edges, that a shard keeps; beyond, all of a tenant's count in one.
pub const MAX_SERIES: usize = 2_000;
/// Bytes of a name.
pub const MAX_TEXT: usize = 256;
/// Kind of the series of a tenant in which that counts for which there is no room.
pub const OVERFLOW: u8 = 255;

const MS: u64 = 1_000_000;
/// Upper bounds of the buckets of a span's duration, in nanoseconds.
pub const DURATION_BOUNDS: [u64; 12] = [
    2 * MS,
    4 * MS,
    8 * MS,
    16 * MS,
    32 * MS,
    64 * MS,
    128 * MS,
    256 * MS,
    512 * MS,
    1020 * MS,
    2050 * MS,
    4100 * MS,
];
/// The same of a call's.
pub const CALL_BOUNDS: [u64; 8] =
    [100 * MS, 200 * MS, 400 * MS, 800 * MS, 1600 * MS, 3200 * MS, 6400 * MS, 12800 * MS];

/// Durations, `N` buckets of them with the one that has no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations<const N: usize> {
    /// Number by bucket, each for itself.
    pub buckets: [u64; N],
    /// Nanoseconds of all.
    pub sum_ns: u128,
}

impl<const N: usize> Default for Durations<N> {
    fn default() -> Self {
        Self { buckets: [0; N], sum_ns: 0 }
    }
}

impl<const N: usize> Durations<N> {
    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    fn add(&mut self, bounds: &[u64], ns: u64) {
        self.buckets[bounds.partition_point(|bound| *bound < ns).min(N - 1)] += 1;
        self.sum_ns += u128::from(ns);
    }

    fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(a, b)| *a = a.wrapping_add(*b));
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.buckets.iter().for_each(|count| write_u64(out, *count));
        out.extend_from_slice(&self.sum_ns.to_le_bytes());
    }

    fn decode(input: &mut &[u8]) -> Option<Self> {
        let mut buckets = [0; N];
        for bucket in &mut buckets {
            *bucket = read_u64(input)?;
        }
        Some(Self { buckets, sum_ns: u128::from_le_bytes(read_bytes(input, 16)?.try_into().ok()?) })
    }
}

/// Spans that count together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// Whose.
    pub tenant: TenantId,
    /// Name of the service.
    pub service: Arc<str>,
    /// Name of the operation.
    pub name: Arc<str>,
    /// Number of the kind, or [`OVERFLOW`].
    pub kind: u8,
    /// Number of the status.
    pub status: u8,
}

/// A key that is not owned; hashes as [`SeriesKey`] does.
#[derive(Hash)]
struct SeriesRef<'a> {
    tenant: &'a TenantId,
    service: &'a str,
    name: &'a str,
    kind: u8,
    status: u8,
}

impl Equivalent<SeriesKey> for SeriesRef<'_> {
    fn equivalent(&self, key: &SeriesKey) -> bool {
        (self.kind, self.status, self.name) == (key.kind, key.status, &*key.name)
            && (self.service, self.tenant) == (&*key.service, &key.tenant)
    }
}

impl SeriesRef<'_> {
    fn to_key(&self) -> SeriesKey {
        SeriesKey {
            tenant: self.tenant.clone(),
            service: Arc::from(self.service),
            name: Arc::from(self.name),
            kind: self.kind,
            status: self.status,
        }
    }
}

/// What a call goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Connection {
    /// A request.
    Direct = 0,
    /// A queue.
    Messaging = 1,
    /// A client of a database, which itself sends no spans.
    Database = 2,
}

/// Calls that count together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeKey {
    /// Whose.
    pub tenant: TenantId,
    /// Service that calls; empty, as the other, for those for which there is no room.
    pub client: Arc<str>,
    /// Service that is called.
    pub server: Arc<str>,
    /// By which way.
    pub connection: Connection,
}

/// Calls of an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// Those that failed on either side.
    pub failed: u64,
    /// As the client saw them.
    pub client: Durations<9>,
    /// As the server did.
    pub server: Durations<9>,
}

impl Edge {
    fn merge(&mut self, other: &Self) {
        self.failed = self.failed.wrapping_add(other.failed);
        self.client.merge(&other.client);
        self.server.merge(&other.server);
    }
}

/// A span that stands for others of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanExemplar {
    /// Number of the window in which it came.
    pub window: i64,
    /// Its trace.
    pub trace_id: [u8; 16],
    /// Its id.
    pub span_id: [u8; 8],
    /// How long it took.
    pub took_ns: u64,
    /// When it ended, in nanoseconds since 1970.
    pub end_ns: i64,
}

impl SpanExemplar {
    /// Whether it is shown instead of another one.
    fn beats(&self, other: &Self) -> bool {
        (self.window, self.took_ns) > (other.window, other.took_ns)
    }
}

/// Tenant, trace and the client's span of a call.
type CallId = (TenantId, [u8; 16], [u8; 8]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client = 0,
    Server = 1,
}

/// One side of a call, whose other is not there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Half {
    side: Side,
    /// Until when it waits.
    until: i64,
    /// Its number among all that ever waited.
    number: u64,
    service: Arc<str>,
    took_ns: u64,
    failed: bool,
    /// Whether it put something into a queue, or took it from there.
    is_message: bool,
}

/// What is known of a series.
#[derive(Clone, Copy, Debug, Default)]
struct Series {
    durations: Durations<13>,
    exemplar: Option<SpanExemplar>,
}

impl Series {
    fn show(&mut self, exemplar: SpanExemplar) {
        if self.exemplar.is_none_or(|known| exemplar.beats(&known)) {
            self.exemplar = Some(exemplar);
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct SpanMetrics {
    applied: u64,
    unpaired: u64,
    left_out: u64,
    series: IndexMap<SeriesKey, Series, DefaultHashBuilder>,
    edges: HashMap<EdgeKey, Edge>,
    halves: HashMap<CallId, Half>,
    /// Calls of the halves with their numbers, as they came; also of some that met since.
    order: VecDeque<(u64, CallId)>,
    next: u64,
}

/// Where what a span says about its calls stands among the cells of a row.
#[derive(Clone, Debug, Default)]
struct Cells {
    parent: Option<(usize, u32)>,
    /// What names the database, the best first.
    database: Vec<(usize, u32)>,
}

const DATABASE: [&str; 5] = ["peer.service", "db.namespace", "db.name", "db.system.name", "db.system"];

impl Cells {
    fn of(rows: &Rows, dict: &Dict, key_set: u32) -> Self {
        let columns: Vec<u32> = rows.columns_of(key_set, dict).collect();
        let find = |name: &str| {
            let at = columns.iter().position(|column| dict.column(*column).name == name)?;
            Some((at, columns[at]))
        };
        let is_database = DATABASE[1..].iter().any(|name| find(name).is_some());
        Self {
            parent: find(row::PARENT),
            database: if is_database {
                DATABASE.iter().filter_map(|n| find(n)).collect()
            } else {
                Vec::new()
            },
        }
    }

    fn parent(&self, rows: &Rows, row: usize) -> [u8; 8] {
        let value = self.parent.and_then(|(at, column)| Some((rows.column(column)?, rows.cells(row)[at])));
        match value {
            Some((Values::Int(ids), cell)) => ids[cell as usize].to_be_bytes(),
            _ => [0; 8],
        }
    }

    fn database(&self, rows: &Rows, dict: &Dict, row: usize) -> Option<Arc<str>> {
        self.database.iter().find_map(|(at, column)| {
            let value = rows.column(*column)?.value(rows.cells(row)[*at] as usize, dict);
            let text = value.text();
            (!text.is_empty()).then(|| Arc::from(cut(&text)))
        })
    }
}

/// A text without what is beyond its allowed length.
fn cut(text: &str) -> &str {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// Service of a stream.
fn service_of(stream: &[u8]) -> Arc<str> {
    let stream = decode_stream(stream).unwrap_or_default();
    let name = stream.resource.iter().find(|(name, _)| name == "service.name");
    let name = name.map_or(LogValue::Empty, |(_, value)| value.clone());
    Arc::from(cut(&name.text()))
}

impl SpanMetrics {
    /// Counts the spans of a sub-batch that the window has admitted. `index` is the entry that holds it.
    pub fn take(&mut self, index: u64, now_ms: i64, batch: &LogBatch) {
        self.applied = index;
        self.expire(now_ms);
        let (rows, dict) = (&batch.rows, &batch.dict);
        let Some(body) = rows.body() else { return };
        let mut services: Vec<Option<Arc<str>>> = vec![None; dict.streams().len()];
        let mut cells: Vec<Option<Cells>> = vec![None; dict.key_sets_len()];
        // Names are mostly constants of the dictionary: those are looked up once.
        let mut known: HashMap<(u32, u32, u32), Option<usize>> = HashMap::new();
        let window = now_ms.div_euclid(EXEMPLAR_MS);
        for at in 0..rows.len() {
            let (stream, severity) = (rows.streams()[at], rows.severities()[at]);
            let service =
                services[stream as usize].get_or_insert_with(|| service_of(dict.streams().get(stream)));
            let (start, end) = rows.times_of(at);
            let took_ns = u64::try_from(end.saturating_sub(start)).unwrap_or(0);
            let number = dict.severity(severity).0;
            let (kind, status) = (row::kind_number(number), row::status_number(number));
            let group = body.entry(at).0;
            let of_group = &body.groups()[group as usize];
            let is_constant = of_group.template().is_some() && of_group.slots().is_empty();
            let token = (stream, severity, group);
            let place = match known.get(&token).filter(|_| is_constant) {
                Some(place) => *place,
                None => {
                    let value = body.value(at, dict);
                    let (tenant, text) = (&batch.tenant, value.text());
                    let key = SeriesRef { tenant, service, name: cut(&text), kind, status };
                    let place = self.place(&key);
                    if is_constant {
                        known.insert(token, place);
                    }
                    place
                }
            };
            match place.and_then(|place| self.series.get_index_mut(place)) {
                None => self.left_out += 1,
                Some((key, series)) => {
                    series.durations.add(&DURATION_BOUNDS, took_ns);
                    if key.kind != OVERFLOW {
                        let (trace_id, span_id) = (rows.traces()[at], rows.spans()[at]);
                        series.show(SpanExemplar { window, trace_id, span_id, took_ns, end_ns: end });
                    }
                }
            }

            let kind = SpanKind::of_number(kind).unwrap_or_default();
            let side = match kind {
                SpanKind::Client | SpanKind::Producer => Side::Client,
                SpanKind::Server | SpanKind::Consumer => Side::Server,
                SpanKind::Unspecified | SpanKind::Internal => continue,
            };
            let key_set = rows.key_sets()[at];
            let cells = cells[key_set as usize].get_or_insert_with(|| Cells::of(rows, dict, key_set));
            let failed = status == SpanStatus::Error as u8;
            if kind == SpanKind::Client
                && let Some(database) = cells.database(rows, dict, at)
            {
                let (client, connection) = (Arc::clone(service), Connection::Database);
                let edge = EdgeKey { tenant: batch.tenant.clone(), client, server: database, connection };
                self.count(edge, took_ns, took_ns, failed);
                continue;
            }
            let call = if side == Side::Client { rows.spans()[at] } else { cells.parent(rows, at) };
            if call != [0; 8] {
                let id = (batch.tenant.clone(), rows.traces()[at], call);
                let (until, number) = (now_ms.saturating_add(WAIT_MS), self.next);
                let is_message = matches!(kind, SpanKind::Producer | SpanKind::Consumer);
                let service = Arc::clone(service);
                self.pair(id, Half { side, until, number, service, took_ns, failed, is_message });
            }
        }
    }

    /// Counts a call if its other half is there; else the half waits.
    fn pair(&mut self, id: CallId, half: Half) {
        let other = self.halves.get(&id).map(|known| known.side);
        match other {
            Some(side) if side != half.side => {
                let Some(other) = self.halves.remove(&id) else { return };
                let is_message = half.is_message || other.is_message;
                let (client, server) = if half.side == Side::Client { (half, other) } else { (other, half) };
                let edge = EdgeKey {
                    tenant: id.0,
                    client: client.service,
                    server: server.service,
                    connection: if is_message { Connection::Messaging } else { Connection::Direct },
                };
                self.count(edge, client.took_ns, server.took_ns, client.failed || server.failed);
            }
            // A second one of the same side: of the two, the first waits on.
            Some(_) => self.unpaired += 1,
            None if self.halves.len() >= MAX_HALVES => self.left_out += 1,
            None => {
                self.next += 1;
                if self.order.len() > 2 * self.halves.len() + 1_000 {
                    let halves = &self.halves;
                    self.order.retain(|(number, id)| halves.get(id).is_some_and(|h| h.number == *number));
                }
                self.order.push_back((half.number, id.clone()));
                self.halves.insert(id, half);
            }
        }
    }

    /// The halves that wait, the first to come first.
    fn waiting(&self) -> impl Iterator<Item = (&CallId, &Half)> {
        self.order.iter().filter_map(|(number, id)| {
            let half = self.halves.get(id).filter(|half| half.number == *number)?;
            Some((id, half))
        })
    }

    fn expire(&mut self, now_ms: i64) {
        while let Some((number, id)) = self.order.front() {
            match self.halves.get(id).filter(|half| half.number == *number) {
                Some(half) if half.until > now_ms => break,
                Some(_) => {
                    self.halves.remove(id);
                    self.unpaired += 1;
                }
                None => {}
            }
            self.order.pop_front();
        }
    }

    /// Where a series stands, a new one too; that of all for which there is no room, if it is one of those.
    fn place(&mut self, key: &SeriesRef<'_>) -> Option<usize> {
        if let Some(place) = self.series.get_index_of(key) {
            return Some(place);
        }
        if self.series.len() < MAX_SERIES {
            return Some(self.series.insert_full(key.to_key(), Series::default()).0);
        }
        let key = SeriesRef { tenant: key.tenant, service: "", name: "", kind: OVERFLOW, status: 0 };
        match self.series.get_index_of(&key) {
            // Tenants are clients' words, too.
            None if self.series.len() < 2 * MAX_SERIES => {
                Some(self.series.insert_full(key.to_key(), Series::default()).0)
            }
            place => place,
        }
    }

    fn count(&mut self, key: EdgeKey, client_ns: u64, server_ns: u64, failed: bool) {
        let add = |edge: &mut Edge| {
            edge.failed += u64::from(failed);
            edge.client.add(&CALL_BOUNDS, client_ns);
            edge.server.add(&CALL_BOUNDS, server_ns);
        };
        if let Some(edge) = self.edges.get_mut(&key) {
            add(edge);
        } else if self.edges.len() < MAX_SERIES {
            add(self.edges.entry(key).or_default());
        } else {
            let empty: Arc<str> = Arc::from("");
            let (client, server) = (Arc::clone(&empty), empty);
            let key = EdgeKey { tenant: key.tenant, client, server, connection: Connection::Direct };
            match self.edges.contains_key(&key) || self.edges.len() < 2 * MAX_SERIES {
                true => add(self.edges.entry(key).or_default()),
                false => self.left_out += 1,
            }
        }
    }

    /// The last entry that counted.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Whether no span ever counted.
    pub fn is_empty(&self) -> bool {
        self.applied == 0
    }

    /// Spans by what counts together, in the order of the keys.
    pub fn series(&self) -> impl Iterator<Item = (&SeriesKey, &Durations<13>)> {
        self.sorted_series().into_iter().map(|(key, series)| (key, &series.durations))
    }

    fn sorted_series(&self) -> Vec<(&SeriesKey, &Series)> {
        let mut all: Vec<_> = self.series.iter().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    /// The exemplar of a series, if it has one.
    pub fn exemplar(&self, key: &SeriesKey) -> Option<&SpanExemplar> {
        self.series.get(key)?.exemplar.as_ref()
    }

    /// Calls by what counts together, in the order of the keys.
    pub fn edges(&self) -> impl ExactSizeIterator<Item = (&EdgeKey, &Edge)> {
        let mut all: Vec<_> = self.edges.iter().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all.into_iter()
    }

    /// Halves of calls whose other half did not come in time.
    pub fn unpaired(&self) -> u64 {
        self.unpaired
    }

    /// Spans and halves of calls that were not counted, because there was no room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Bytes of memory, roughly.
    pub fn memory_bytes(&self) -> usize {
        self.series.len() * 480 + self.edges.len() * 400 + self.halves.len() * 180 + self.order.len() * 64
    }

    /// Adds the counters of another shard.
    pub fn merge(&mut self, other: &Self) {
        for (key, series) in &other.series {
            let sum = self.series.entry(key.clone()).or_default();
            sum.durations.merge(&series.durations);
            series.exemplar.into_iter().for_each(|exemplar| sum.show(exemplar));
        }
        for (key, edge) in &other.edges {
            self.edges.entry(key.clone()).or_default().merge(edge);
        }
        self.unpaired = self.unpaired.wrapping_add(other.unpaired);
        self.left_out = self.left_out.wrapping_add(other.left_out);
    }

    /// A file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(self.waiting())
    }

    /// As [`Self::encode`], without the halves that wait: what sums are made of.
    pub fn encode_counters(&self) -> Vec<u8> {
        self.encode_with(std::iter::empty())
    }

    fn encode_with<'a>(&'a self, halves: impl Iterator<Item = (&'a CallId, &'a Half)>) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        [self.applied, self.unpaired, self.left_out].iter().for_each(|number| write_u64(&mut out, *number));
        let put = |out: &mut Vec<u8>, text: &str| write_prefixed(out, text.as_bytes());
        let series = self.sorted_series();
        write_u64(&mut out, series.len() as u64);
        for (key, Series { durations, .. }) in &series {
            [key.tenant.as_str(), &key.service, &key.name].iter().for_each(|text| put(&mut out, text));
            out.extend_from_slice(&[key.kind, key.status]);
            durations.encode(&mut out);
        }
        let edges = self.edges();
        write_u64(&mut out, edges.len() as u64);
        for (key, edge) in edges {
            [key.tenant.as_str(), &key.client, &key.server].iter().for_each(|text| put(&mut out, text));
            out.push(key.connection as u8);
            write_u64(&mut out, edge.failed);
            edge.client.encode(&mut out);
            edge.server.encode(&mut out);
        }
        let halves: Vec<_> = halves.collect();
        write_u64(&mut out, halves.len() as u64);
        for ((tenant, trace, span), half) in halves {
            write_u64(&mut out, zigzag(half.until));
            put(&mut out, tenant.as_str());
            out.extend_from_slice(trace);
            out.extend_from_slice(span);
            out.push(half.side as u8 | u8::from(half.is_message) << 1);
            put(&mut out, &half.service);
            write_u64(&mut out, half.took_ns);
            out.push(u8::from(half.failed));
        }
        let places = series.iter().enumerate();
        let shown: Vec<_> = places.filter_map(|(at, (_, series))| Some((at, series.exemplar?))).collect();
        write_u64(&mut out, shown.len() as u64);
        for (at, exemplar) in shown {
            write_u64(&mut out, at as u64);
            write_u64(&mut out, zigzag(exemplar.window));
            out.extend_from_slice(&exemplar.trace_id);
            out.extend_from_slice(&exemplar.span_id);
            write_u64(&mut out, exemplar.took_ns);
            write_u64(&mut out, zigzag(exemplar.end_ns));
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Takes what [`Self::encode`] or [`Self::encode_counters`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or("shorter than its checksum")?;
        if body.len() < 8 || body[..7] != MAGIC[..] {
            return Err("not a file of span metrics".into());
        }
        if u32::from_le_bytes(*checksum) != crc32c::crc32c(body) {
            return Err("the checksum is wrong".into());
        }
        if !(1..=VERSION).contains(&body[7]) {
            let (what, version) = ("the file of span metrics", body[7]);
            return Err(FormatError::Version { what, version, known: VERSION });
        }
        Self::decode_body(body[7], &mut &body[8..]).ok_or_else(|| "the body is malformed".into())
    }

    fn decode_body(version: u8, input: &mut &[u8]) -> Option<Self> {
        fn text<'a>(input: &mut &'a [u8]) -> Option<&'a str> {
            std::str::from_utf8(read_prefixed(input)?).ok()
        }
        fn byte(input: &mut &[u8]) -> Option<u8> {
            Some(read_bytes(input, 1)?[0])
        }
        let mut metrics = Self {
            applied: read_u64(input)?,
            unpaired: read_u64(input)?,
            left_out: read_u64(input)?,
            ..Self::default()
        };
        for _ in 0..read_len(input)? {
            let tenant = TenantId::new(text(input)?).ok()?;
            let (service, name) = (Arc::from(text(input)?), Arc::from(text(input)?));
            let key = SeriesKey { tenant, service, name, kind: byte(input)?, status: byte(input)? };
            metrics.series.insert(key, Series { durations: Durations::decode(input)?, exemplar: None });
        }
        for _ in 0..read_len(input)? {
            let tenant = TenantId::new(text(input)?).ok()?;
            let (client, server) = (Arc::from(text(input)?), Arc::from(text(input)?));
            let connection = match byte(input)? {
                0 => Connection::Direct,
                1 => Connection::Messaging,
                2 => Connection::Database,
                _ => return None,
            };
            let failed = read_u64(input)?;
            let edge = Edge { failed, client: Durations::decode(input)?, server: Durations::decode(input)? };
            metrics.edges.insert(EdgeKey { tenant, client, server, connection }, edge);
        }
        for number in 0..read_len(input)? as u64 {
            let until = unzigzag(read_u64(input)?);
            let tenant = TenantId::new(text(input)?).ok()?;
            let trace = read_bytes(input, 16)?.try_into().ok()?;
            let span = read_bytes(input, 8)?.try_into().ok()?;
            let flags = byte(input).filter(|flags| *flags < 4)?;
            let (side, is_message) =
                (if flags & 1 == 0 { Side::Client } else { Side::Server }, flags & 2 != 0);
            let service = Arc::from(text(input)?);
            let (took_ns, failed) = (read_u64(input)?, byte(input)? == 1);
            let half = Half { side, until, number, service, took_ns, failed, is_message };
            let id = (tenant, trace, span);
            metrics.order.push_back((number, id.clone()));
            metrics.halves.insert(id, half);
            metrics.next = number + 1;
        }
        let exemplars = if version > 1 { read_len(input)? } else { 0 };
        let mut all = metrics.series.values_mut().enumerate();
        for _ in 0..exemplars {
            let place = read_len(input)?;
            let (_, series) = all.find(|(at, _)| *at == place)?;
            series.exemplar = Some(SpanExemplar {
                window: unzigzag(read_u64(input)?),
                trace_id: read_bytes(input, 16)?.try_into().ok()?,
                span_id: read_bytes(input, 8)?.try_into().ok()?,
                took_ns: read_u64(input)?,
                end_ns: unzigzag(read_u64(input)?),
            });
        }
        let is_whole = input.is_empty() && metrics.halves.len() == metrics.order.len();
        is_whole.then_some(metrics)
    }
}

const MAGIC: &[u8; 7] = b"PHSPANM";
const VERSION: u8 = 2;

#[cfg(test)]
mod tests;
