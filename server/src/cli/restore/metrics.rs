//! Metrics of a shard, by remote write: samples, histograms, exemplars and start times as 2.0, metadata as 1.0, whose
//! messages name the family.
//!
//! Requests are bounded by rows and by bytes of labels. A sample that is there already changes nothing, so a request whose answer was
//! lost is sent again.

use std::collections::HashMap;
use std::ops::ControlFlow;

use prost::Message;
use protocol::histogram;
use protocol::ids::{ShardId, TenantId};
use protocol::labels::Labels;
use protocol::remote_read::{HistogramMessage, compress};
use protocol::varint;
use storage::archive::Archive;

use super::super::client::{Exchange, Target};
use super::super::{CliError, complain};
use super::Tally;

/// Rows of a request.
const MAX_ROWS: usize = 10_000;
/// Bytes of a request's symbols and histograms.
const MAX_BYTES: usize = 1 << 20;

/// Key of a histogram's field 17, a varint: its start timestamp.
const START_TIMESTAMP: u64 = 17 << 3;

const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// `io.prometheus.write.v2.Request`
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    /// Messages with [`START_TIMESTAMP`] behind them.
    #[prost(bytes = "vec", repeated, tag = "3")]
    histograms: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

/// `prometheus.WriteRequest` with nothing but metadata.
#[derive(Clone, PartialEq, Message)]
struct MetadataRequest {
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    r#type: i32,
    #[prost(string, tag = "2")]
    family: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

/// A request that gathers.
#[derive(Default)]
struct Gathered {
    request: Request,
    symbols: HashMap<String, u32>,
    rows: usize,
    bytes: usize,
}

impl Gathered {
    fn symbol(&mut self, text: &str) -> u32 {
        if self.request.symbols.is_empty() {
            // The first symbol is the empty one.
            self.request.symbols.push(String::new());
            self.symbols.insert(String::new(), 0);
        }
        if let Some(number) = self.symbols.get(text) {
            return *number;
        }
        let number = self.request.symbols.len() as u32;
        self.bytes += text.len();
        self.request.symbols.push(text.to_owned());
        self.symbols.insert(text.to_owned(), number);
        number
    }

    fn refs(&mut self, labels: &Labels) -> Vec<u32> {
        labels.iter().flat_map(|(name, value)| [self.symbol(name), self.symbol(value)]).collect()
    }

    /// The series that rows are added to: a new part of `labels`.
    fn begin(&mut self, labels: &Labels) -> usize {
        let labels_refs = self.refs(labels);
        self.request.timeseries.push(TimeSeries { labels_refs, ..TimeSeries::default() });
        self.request.timeseries.len() - 1
    }

    fn is_full(&self) -> bool {
        self.rows >= MAX_ROWS || self.bytes >= MAX_BYTES
    }
}

struct Sender<'a> {
    target: &'a Target,
    tenant: &'a TenantId,
    gathered: Gathered,
    tally: &'a mut Tally,
}

impl Sender<'_> {
    fn send(&mut self) -> Result<(), CliError> {
        let Gathered { request, rows, .. } = std::mem::take(&mut self.gathered);
        if rows == 0 {
            return Ok(());
        }
        let (refused, text) = write(self.target, self.tenant, V2, &request.encode_to_vec(), rows as u64)?;
        self.tally.samples += rows as u64 - refused;
        self.tally.refuse(refused, &text);
        Ok(())
    }

    fn send_if_full(&mut self, labels: &Labels, series: usize) -> Result<usize, CliError> {
        if !self.gathered.is_full() {
            return Ok(series);
        }
        self.send()?;
        Ok(self.gathered.begin(labels))
    }
}

/// Sends a request; how many of its rows were refused, and the node's words.
fn write(
    target: &Target,
    tenant: &TenantId,
    kind: &str,
    body: &[u8],
    rows: u64,
) -> Result<(u64, String), CliError> {
    let compressed = compress(body).map_err(|error| CliError::Failed(error.to_string()))?;
    let headers = [("content-type", kind), ("content-encoding", "snappy")];
    let exchange = Exchange::post("/api/v1/write", &[], &compressed).of(tenant).with(&headers);
    let (status, answer, written) = target.exchange_counted(&exchange)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    match (status, written) {
        (200..=299, _) => Ok((0, text)),
        // The valid rest is written.
        (400, Some(written)) if written <= rows => Ok((rows - written, text)),
        _ => Err(CliError::Failed(format!("the node answered {status} to a write: {}", text.trim()))),
    }
}

/// Restores a shard's metrics.
pub(super) fn restore(
    target: &Target,
    shard: ShardId,
    archive: &Archive,
    tally: &mut Tally,
) -> Result<(), CliError> {
    for tenant in archive.tenants() {
        let before = tally.samples;
        restore_metadata(target, tenant, archive)?;
        let mut sender = Sender { target, tenant, gathered: Gathered::default(), tally };
        samples(&mut sender, archive)?;
        exemplars(&mut sender, archive)?;
        sender.send()?;
        let samples = tally.samples - before;
        if samples > 0 {
            complain(&format!("shard {shard}, tenant {tenant}: {samples} samples"));
        }
    }
    Ok(())
}

fn restore_metadata(target: &Target, tenant: &TenantId, archive: &Archive) -> Result<(), CliError> {
    let known = archive.snapshot().metadata(tenant, None);
    for part in known.chunks(1000) {
        let metadata = part.iter().map(|(family, known)| Metadata {
            r#type: known.metric_type as i32,
            family: (*family).to_owned(),
            help: known.help.clone(),
            unit: known.unit.clone(),
        });
        let request = MetadataRequest { metadata: metadata.collect() };
        write(target, tenant, V1, &request.encode_to_vec(), 0)?;
    }
    Ok(())
}

/// Ends a visit at the first failure, which is kept.
fn until_failed(step: Result<(), CliError>, failure: &mut Option<CliError>) -> ControlFlow<()> {
    match step {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            *failure = Some(error);
            ControlFlow::Break(())
        }
    }
}

fn samples(sender: &mut Sender<'_>, archive: &Archive) -> Result<(), CliError> {
    let mut failure = None;
    let tenant = sender.tenant;
    let read = archive.snapshot().select(tenant, &[], i64::MIN, i64::MAX, &mut |columns| {
        let mut add = || -> Result<(), CliError> {
            let mut series = sender.gathered.begin(columns.labels);
            for (at, (&timestamp, &value)) in columns.times.iter().zip(columns.values).enumerate() {
                let start_timestamp = columns.start_times.get(at).copied().unwrap_or(0);
                let sample = Sample { value, timestamp, start_timestamp };
                sender.gathered.request.timeseries[series].samples.push(sample);
                sender.gathered.rows += 1;
                series = sender.send_if_full(columns.labels, series)?;
            }
            for (at, (&timestamp, blob)) in columns.histogram_times.iter().zip(columns.histograms).enumerate()
            {
                let histogram =
                    histogram::decode(blob).map_err(|error| CliError::Failed(error.to_string()))?;
                let mut message = HistogramMessage::new(timestamp, &histogram).encode_to_vec();
                if let Some(start) = columns.histogram_start_times.get(at).filter(|start| **start != 0) {
                    varint::write_u64(&mut message, START_TIMESTAMP);
                    varint::write_u64(&mut message, *start as u64);
                }
                sender.gathered.request.timeseries[series].histograms.push(message);
                sender.gathered.rows += 1;
                sender.gathered.bytes += blob.len() * 4;
                series = sender.send_if_full(columns.labels, series)?;
            }
            Ok(())
        };
        until_failed(add(), &mut failure)
    });
    read.map_err(|error| CliError::Failed(crate::error::chain(&error)))?;
    failure.map_or(Ok(()), Err)
}

fn exemplars(sender: &mut Sender<'_>, archive: &Archive) -> Result<(), CliError> {
    let mut failure = None;
    let tenant = sender.tenant;
    let read = archive.snapshot().exemplars(tenant, &[], i64::MIN, i64::MAX, &mut |labels, all| {
        let series = sender.gathered.begin(labels);
        for exemplar in all {
            let labels_refs = sender.gathered.refs(&exemplar.labels);
            let message = Exemplar { labels_refs, value: exemplar.value, timestamp: exemplar.time_ms };
            sender.gathered.request.timeseries[series].exemplars.push(message);
            sender.gathered.rows += 1;
        }
        until_failed(if sender.gathered.is_full() { sender.send() } else { Ok(()) }, &mut failure)
    });
    read.map_err(|error| CliError::Failed(crate::error::chain(&error)))?;
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use protocol::ids::ClusterSecret;
    use protocol::remote_write::{Limits, Version, decode};
    use protocol::write_batch::FingerprintKey;

    use super::*;

    #[test]
    fn what_is_sent_is_what_the_write_path_reads() {
        let labels = |n: &str| Labels::from_pairs([("__name__", "m"), ("n", n)]).expect("valid labels");
        let mut gathered = Gathered::default();
        for n in ["1", "2"] {
            let series = gathered.begin(&labels(n));
            let trace = gathered.refs(&Labels::from_pairs([("trace", "t")]).expect("valid labels"));
            let series = &mut gathered.request.timeseries[series];
            series.samples.push(Sample {
                value: f64::from_bits(0x7ff0_0000_0000_0002),
                timestamp: 9,
                start_timestamp: 4,
            });
            series.samples.push(Sample { value: 2.5, timestamp: 10, start_timestamp: 0 });
            series.exemplars.push(Exemplar { labels_refs: trace, value: 0.5, timestamp: 9 });
        }
        let body = gathered.request.encode_to_vec();
        let key = FingerprintKey::new(&ClusterSecret([1; 32]));
        let batch = decode(Version::V2, body, &key, &Limits::default()).expect("a request");
        assert!(batch.rejections().is_empty());
        assert_eq!(batch.series_len(), 2);
        for (at, n) in ["1", "2"].iter().enumerate() {
            let series = batch.series(at);
            assert_eq!(series.labels().expect("labels"), labels(n));
            let samples: Vec<_> =
                series.samples().iter().map(|s| (s.timestamp_ms, s.value.to_bits())).collect();
            assert_eq!(samples, [(9, 0x7ff0_0000_0000_0002), (10, 2.5f64.to_bits())]);
            assert_eq!(series.starts(), [4, 0]);
            assert_eq!(series.exemplars().count(), 1);
        }
    }
}
