//! What a segment says of itself: the fixed header at its beginning and the summary in its footer.

use protocol::varint;

/// First bytes of every segment file.
pub(crate) const MAGIC: [u8; 8] = *b"PHSEGMNT";
/// Last bytes of every whole segment file.
pub(crate) const END_MAGIC: [u8; 8] = *b"PHSEGEND";
/// Version that this build writes, and the latest that it reads.
pub(crate) const VERSION: u16 = 1;
/// Length of the fixed header.
pub(crate) const HEADER_LEN: usize = 56;
/// Length of the fixed end: footer length, footer checksum, file length, magic.
pub(crate) const TRAILER_LEN: usize = 24;

/// What kind of telemetry a segment holds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Metrics.
    #[default]
    Metrics,
    /// Logs.
    Logs,
    /// Traces.
    Traces,
    /// Profiles.
    Profiles,
}

impl Signal {
    const fn code(self) -> u8 {
        match self {
            Self::Metrics => 1,
            Self::Logs => 2,
            Self::Traces => 3,
            Self::Profiles => 4,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Metrics),
            2 => Some(Self::Logs),
            3 => Some(Self::Traces),
            4 => Some(Self::Profiles),
            _ => None,
        }
    }
}

/// The partition that a segment belongs to. A duration of 0 is the catch-all of times that have no partition of
/// their own.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Partition {
    /// Kind of telemetry.
    pub signal: Signal,
    /// Retention class: a number that the caller gives meaning to.
    pub retention_class: u16,
    /// First millisecond.
    pub start_ms: i64,
    /// Length in milliseconds, or 0.
    pub duration_ms: i64,
}

/// Fixed header of a segment: all that is known before the first series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Where it belongs.
    pub partition: Partition,
    /// First log index whose data may be inside.
    pub first_log_index: u64,
    /// Last log index whose data may be inside.
    pub last_log_index: u64,
    /// Version of the encoders that replicas agreed on: equal input gives equal bytes only at an equal epoch.
    pub encoder_epoch: u16,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = self.partition.signal.code();
        bytes[12..14].copy_from_slice(&self.partition.retention_class.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.encoder_epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.partition.start_ms.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.partition.duration_ms.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_log_index.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.last_log_index.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..HEADER_LEN - 4]);
        bytes[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header whose magic, version and checksum were found right. `None` for an unknown signal.
    pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let u16_at = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes"));
        Some(Self {
            partition: Partition {
                signal: Signal::from_code(bytes[10])?,
                retention_class: u16_at(12),
                start_ms: u64_at(16) as i64,
                duration_ms: u64_at(24) as i64,
            },
            first_log_index: u64_at(32),
            last_log_index: u64_at(40),
            encoder_epoch: u16_at(14),
        })
    }
}

/// What is in a segment, known after the last series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// Number of series.
    pub series: u32,
    /// Number of float samples.
    pub floats: u64,
    /// Number of native histograms.
    pub histograms: u64,
    /// Number of exemplars.
    pub exemplars: u64,
    /// Number of distinct timestamp vectors.
    pub time_vectors: u32,
    /// Least time of a sample, histogram or exemplar; `i64::MAX` when there is none.
    pub min_time_ms: i64,
    /// Greatest time of a sample, histogram or exemplar; `i64::MIN` when there is none.
    pub max_time_ms: i64,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            series: 0,
            floats: 0,
            histograms: 0,
            exemplars: 0,
            time_vectors: 0,
            min_time_ms: i64::MAX,
            max_time_ms: i64::MIN,
        }
    }
}

impl Summary {
    /// Whether some time of the segment lies between the two, ends included.
    pub fn overlaps(&self, start_ms: i64, end_ms: i64) -> bool {
        // The first condition is for segments without times, which else would overlap the range of all time.
        self.min_time_ms <= self.max_time_ms && self.min_time_ms <= end_ms && start_ms <= self.max_time_ms
    }

    /// Float samples and histograms.
    pub fn samples(&self) -> u64 {
        self.floats + self.histograms
    }

    pub(crate) fn cover(&mut self, time_ms: i64) {
        self.min_time_ms = self.min_time_ms.min(time_ms);
        self.max_time_ms = self.max_time_ms.max(time_ms);
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        varint::write_u64(out, u64::from(self.series));
        varint::write_u64(out, self.floats);
        varint::write_u64(out, self.histograms);
        varint::write_u64(out, self.exemplars);
        varint::write_u64(out, u64::from(self.time_vectors));
        varint::write_u64(out, varint::zigzag(self.min_time_ms));
        varint::write_u64(out, varint::zigzag(self.max_time_ms));
    }

    pub(crate) fn decode(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            series: u32::try_from(varint::read_u64(input)?).ok()?,
            floats: varint::read_u64(input)?,
            histograms: varint::read_u64(input)?,
            exemplars: varint::read_u64(input)?,
            time_vectors: u32::try_from(varint::read_u64(input)?).ok()?,
            min_time_ms: varint::unzigzag(varint::read_u64(input)?),
            max_time_ms: varint::unzigzag(varint::read_u64(input)?),
        })
    }
}
