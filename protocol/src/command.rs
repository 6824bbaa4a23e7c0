//! Commands: what a shard's Raft log carries, and the outcomes that applying them gives.
//!
//! A command is the payload of one log entry. Every replica applies the same bytes and must come to the same
//! outcome, so a command names everything that its execution depends on: the epoch of the encoders, the cluster
//! time that its leader stamped, the inputs of a merge, the files of an installed flush. Nothing is looked up on a
//! local clock or disk.
//!
//! ```text
//! header  version u8 (1) | kind u8 | encoder epoch u16 LE | cluster time i64 LE, milliseconds
//! body    by kind; integers are varints, byte strings are length-prefixed
//!   1 Write           count, then each sub-batch's bytes (as `protocol::batch` wrote them)
//!   2 BeginFlush      flags u8 (bit 0: a new registry generation starts)
//!   3 InstallFlush    job, output
//!   4 BeginMerge      count, then each input's 32 byte file hash
//!   5 InstallMerge    job, output
//!   6 DeleteSeries    tenant, start zigzag, end zigzag, count, then (name, op u8, value) of each matcher
//!   7 DropPartitions  count, then (signal u8, retention class u8, before zigzag)
//!   8 DeleteLogs      tenant, start zigzag, end zigzag, filter (`protocol::logs::messages`)
//!   9 BeginMerge      as 4, then count and each tenant that is left out, count and each that is rolled up, at least one
//!                     in all; from epoch 3 on
//! outcome version u8 (1) | kind u8 | body
//!   0 Done            nothing
//!   1 Write           count, then each sub-batch's outcome (as `protocol::batch` wrote it)
//!   2 Rejected        reason
//! ```
//!
//! Sub-batches travel as the bytes that the router made: the leader gathers them into one command while the entry
//! before is in flight, and nobody encodes them again. The output of a flush or merge is opaque here; `storage`
//! encodes it. It names the content hashes of the files, so that a replica whose own result differs, or whose disk
//! lost it, knows what to fetch.

use bytes::Bytes;

use crate::ids::{LogIndex, TenantId};
use crate::logs::messages::{decode_filter, encode_filter};
use crate::logs::{LogFilter, TimestampNs};
use crate::matcher::{MatchOp, Matcher};
use crate::sample::TimestampMs;
use crate::varint;

/// Version of the header and the bodies.
pub const COMMAND_VERSION: u8 = 1;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 12;

/// BLAKE3 of a file's content: its name and its identity.
pub type ContentHash = [u8; 32];

/// What every command carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandHeader {
    /// Version of the encoders that flushes and merges begun by this command use.
    pub encoder_epoch: u16,
    /// Cluster time in milliseconds, monotone per shard, stamped by the leader.
    pub cluster_time_ms: i64,
}

/// One entry's payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Command<'a> {
    /// Common part.
    pub header: CommandHeader,
    /// What to do.
    pub body: CommandBody<'a>,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandBody<'a> {
    /// Applies sub-batches in order, each on its own.
    Write(Vec<&'a [u8]>),
    /// Freezes the memtable at this entry and begins to flush it. The job's id is this entry's index.
    BeginFlush {
        /// Whether the entries after this one belong to a new registry generation, in which every series registers
        /// anew. This is how a shard forgets series that nobody writes to any more.
        new_generation: bool,
    },
    /// Makes the result of a flush part of the manifest.
    InstallFlush {
        /// Index of the entry that began it.
        job: LogIndex,
        /// What the leader's run made, as `storage` encodes it.
        output: Vec<u8>,
    },
    /// Begins to merge segments. The job's id is this entry's index.
    BeginMerge {
        /// Files of the inputs.
        inputs: Vec<ContentHash>,
        /// What becomes of tenants whose time is over.
        over: TenantsOver,
    },
    /// Puts the result of a merge in the place of its inputs.
    InstallMerge {
        /// Index of the entry that began it.
        job: LogIndex,
        /// What the leader's run made, as `storage` encodes it.
        output: Vec<u8>,
    },
    /// Hides the samples of matching series that earlier entries wrote, in a closed time range.
    DeleteSeries {
        /// Whose series.
        tenant: TenantId,
        /// Which series; all must match.
        matchers: Vec<Matcher>,
        /// First timestamp.
        start_ms: TimestampMs,
        /// Last timestamp.
        end_ms: TimestampMs,
    },
    /// Hides the records that a filter finds and earlier entries wrote, in a closed time range.
    DeleteLogs {
        /// Whose records.
        tenant: TenantId,
        /// Which of them.
        filter: LogFilter,
        /// First time.
        start_ns: TimestampNs,
        /// Last time.
        end_ns: TimestampNs,
    },
    /// Drops every partition that ends at or before the cut of its retention class.
    DropPartitions(Vec<RetentionCut>),
}

/// What a merge makes of tenants whose time is over. Of others it takes over everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantsOver {
    /// Of these it takes over nothing.
    pub left_out: Vec<TenantId>,
    /// What these have is rolled up: the inputs are all segments of a day of metrics.
    pub rolled_up: Vec<TenantId>,
}

impl TenantsOver {
    /// Whether it is nobody's.
    pub fn is_empty(&self) -> bool {
        self.left_out.is_empty() && self.rolled_up.is_empty()
    }

    /// All of them.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.left_out.iter().chain(&self.rolled_up)
    }

    /// Appends both lists.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for tenants in [&self.left_out, &self.rolled_up] {
            varint::write_u64(out, tenants.len() as u64);
            tenants.iter().for_each(|tenant| varint::write_prefixed(out, tenant.as_str().as_bytes()));
        }
    }

    /// Reads what [`TenantsOver::encode`] wrote.
    pub fn decode(input: &mut &[u8]) -> Result<Self, CommandError> {
        let mut list = || read_list(input, 2, "tenants", |input| read_tenant(input).ok());
        Ok(Self { left_out: list()?, rolled_up: list()? })
    }
}

/// How far a retention class has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionCut {
    /// Number of the signal.
    pub signal: u8,
    /// Retention class inside the signal.
    pub class: u8,
    /// Samples before this may go.
    pub before_ms: TimestampMs,
}

/// What applying a command gave; equal on all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// Done, nothing to tell.
    Done,
    /// Outcome of each sub-batch in order, encoded: whoever waits for one decodes that one.
    Write(Vec<Bytes>),
    /// The command had no effect.
    Rejected(String),
}

/// Why bytes are no command or outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The version is none of ours.
    #[error("version {0} of a command is not known here")]
    Version(u8),
    /// The kind is none of ours.
    #[error("kind {0} of a command is not known here")]
    Kind(u8),
    /// The bytes end early, hold a wrong length, or go on after the end.
    #[error("command is malformed at its {0}")]
    Malformed(&'static str),
    /// A part is well formed but not valid.
    #[error("command holds an invalid {part}: {reason}")]
    Invalid {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

const WRITE: u8 = 1;
const BEGIN_FLUSH: u8 = 2;
const INSTALL_FLUSH: u8 = 3;
const BEGIN_MERGE: u8 = 4;
const INSTALL_MERGE: u8 = 5;
const DELETE_SERIES: u8 = 6;
const DROP_PARTITIONS: u8 = 7;
const DELETE_LOGS: u8 = 8;
const BEGIN_MERGE_BY_TENANT: u8 = 9;

const OUTCOME_DONE: u8 = 0;
const OUTCOME_WRITE: u8 = 1;
const OUTCOME_REJECTED: u8 = 2;

/// Encodes a write of gathered sub-batches without holding them in one buffer first.
pub fn encode_write(header: CommandHeader, sub_batches: &[Bytes]) -> Bytes {
    let len: usize = sub_batches.iter().map(|b| b.len() + 5).sum();
    let mut out = Vec::with_capacity(HEADER_BYTES + 5 + len);
    write_header(&mut out, header, WRITE);
    varint::write_u64(&mut out, sub_batches.len() as u64);
    for bytes in sub_batches {
        varint::write_prefixed(&mut out, bytes);
    }
    out.into()
}

fn write_header(out: &mut Vec<u8>, header: CommandHeader, kind: u8) {
    out.extend_from_slice(&[COMMAND_VERSION, kind]);
    out.extend_from_slice(&header.encoder_epoch.to_le_bytes());
    out.extend_from_slice(&header.cluster_time_ms.to_le_bytes());
}

impl<'a> Command<'a> {
    /// The bytes for the log.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        let kind = match &self.body {
            CommandBody::Write(_) => WRITE,
            CommandBody::BeginFlush { .. } => BEGIN_FLUSH,
            CommandBody::InstallFlush { .. } => INSTALL_FLUSH,
            CommandBody::BeginMerge { over, .. } if over.is_empty() => BEGIN_MERGE,
            CommandBody::BeginMerge { .. } => BEGIN_MERGE_BY_TENANT,
            CommandBody::InstallMerge { .. } => INSTALL_MERGE,
            CommandBody::DeleteSeries { .. } => DELETE_SERIES,
            CommandBody::DropPartitions(_) => DROP_PARTITIONS,
            CommandBody::DeleteLogs { .. } => DELETE_LOGS,
        };
        write_header(&mut out, self.header, kind);
        match &self.body {
            CommandBody::DeleteLogs { tenant, filter, start_ns, end_ns } => {
                varint::write_prefixed(&mut out, tenant.as_str().as_bytes());
                varint::write_u64(&mut out, varint::zigzag(*start_ns));
                varint::write_u64(&mut out, varint::zigzag(*end_ns));
                varint::write_prefixed(&mut out, &encode_filter(filter));
            }
            CommandBody::Write(sub_batches) => {
                varint::write_u64(&mut out, sub_batches.len() as u64);
                for bytes in sub_batches {
                    varint::write_prefixed(&mut out, bytes);
                }
            }
            CommandBody::BeginFlush { new_generation } => out.push(u8::from(*new_generation)),
            CommandBody::InstallFlush { job, output } | CommandBody::InstallMerge { job, output } => {
                varint::write_u64(&mut out, job.0);
                varint::write_prefixed(&mut out, output);
            }
            CommandBody::BeginMerge { inputs, over } => {
                varint::write_u64(&mut out, inputs.len() as u64);
                inputs.iter().for_each(|hash| out.extend_from_slice(hash));
                if !over.is_empty() {
                    over.encode(&mut out);
                }
            }
            CommandBody::DeleteSeries { tenant, matchers, start_ms, end_ms } => {
                varint::write_prefixed(&mut out, tenant.as_str().as_bytes());
                varint::write_u64(&mut out, varint::zigzag(*start_ms));
                varint::write_u64(&mut out, varint::zigzag(*end_ms));
                write_matchers(&mut out, matchers);
            }
            CommandBody::DropPartitions(cuts) => {
                varint::write_u64(&mut out, cuts.len() as u64);
                for cut in cuts {
                    out.extend_from_slice(&[cut.signal, cut.class]);
                    varint::write_u64(&mut out, varint::zigzag(cut.before_ms));
                }
            }
        }
        out.into()
    }

    /// Takes the bytes of a log entry.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, CommandError> {
        let (header, mut input) =
            bytes.split_at_checked(HEADER_BYTES).ok_or(CommandError::Malformed("header"))?;
        if header[0] != COMMAND_VERSION {
            return Err(CommandError::Version(header[0]));
        }
        let input = &mut input;
        let body = match header[1] {
            WRITE => CommandBody::Write(read_list(input, 1, "sub-batches", varint::read_prefixed)?),
            BEGIN_FLUSH => match read_u8(input, "flags")? {
                flags @ (0 | 1) => CommandBody::BeginFlush { new_generation: flags == 1 },
                _ => return Err(CommandError::Malformed("flags")),
            },
            INSTALL_FLUSH => {
                let (job, output) = read_install(input)?;
                CommandBody::InstallFlush { job, output }
            }
            kind @ (BEGIN_MERGE | BEGIN_MERGE_BY_TENANT) => {
                let hash = |input: &mut &[u8]| varint::read_bytes(input, 32)?.try_into().ok();
                let inputs = read_list(input, 32, "inputs", hash)?;
                let mut over = TenantsOver::default();
                if kind == BEGIN_MERGE_BY_TENANT {
                    over = TenantsOver::decode(input)?;
                    if over.is_empty() {
                        return Err(CommandError::Malformed("tenants"));
                    }
                }
                CommandBody::BeginMerge { inputs, over }
            }
            INSTALL_MERGE => {
                let (job, output) = read_install(input)?;
                CommandBody::InstallMerge { job, output }
            }
            DELETE_LOGS => {
                let tenant = read_tenant(input)?;
                let (start_ns, end_ns) = (read_time(input)?, read_time(input)?);
                let filter = varint::read_prefixed(input).ok_or(CommandError::Malformed("filter"))?;
                let filter = decode_filter(filter)
                    .map_err(|e| CommandError::Invalid { part: "filter", reason: e.to_string() })?;
                CommandBody::DeleteLogs { tenant, filter, start_ns, end_ns }
            }
            DELETE_SERIES => {
                let tenant = read_tenant(input)?;
                let (start_ms, end_ms) = (read_time(input)?, read_time(input)?);
                CommandBody::DeleteSeries { tenant, matchers: read_matchers(input)?, start_ms, end_ms }
            }
            DROP_PARTITIONS => {
                let cut = |input: &mut &[u8]| {
                    let class = varint::read_bytes(input, 2)?;
                    let before_ms = varint::unzigzag(varint::read_u64(input)?);
                    Some(RetentionCut { signal: class[0], class: class[1], before_ms })
                };
                CommandBody::DropPartitions(read_list(input, 3, "cuts", cut)?)
            }
            kind => return Err(CommandError::Kind(kind)),
        };
        if !input.is_empty() {
            return Err(CommandError::Malformed("end"));
        }
        let header = CommandHeader {
            encoder_epoch: u16::from_le_bytes([header[2], header[3]]),
            cluster_time_ms: i64::from_le_bytes(header[4..12].try_into().expect("the header has 12 bytes")),
        };
        Ok(Self { header, body })
    }
}

impl CommandOutcome {
    /// The bytes that travel back.
    pub fn encode(&self) -> Bytes {
        let mut out = vec![COMMAND_VERSION];
        match self {
            Self::Done => out.push(OUTCOME_DONE),
            Self::Write(outcomes) => {
                out.push(OUTCOME_WRITE);
                varint::write_u64(&mut out, outcomes.len() as u64);
                outcomes.iter().for_each(|bytes| varint::write_prefixed(&mut out, bytes));
            }
            Self::Rejected(reason) => {
                out.push(OUTCOME_REJECTED);
                varint::write_prefixed(&mut out, reason.as_bytes());
            }
        }
        out.into()
    }

    /// Takes the bytes that [`CommandOutcome::encode`] made; sub-batch outcomes share them.
    pub fn decode(bytes: &Bytes) -> Result<Self, CommandError> {
        let mut slice = &bytes[..];
        let input = &mut slice;
        let version = read_u8(input, "version")?;
        if version != COMMAND_VERSION {
            return Err(CommandError::Version(version));
        }
        let outcome = match read_u8(input, "kind")? {
            OUTCOME_DONE => Self::Done,
            OUTCOME_WRITE => {
                let one = |input: &mut &[u8]| varint::read_prefixed(input).map(|b| bytes.slice_ref(b));
                Self::Write(read_list(input, 1, "outcomes", one)?)
            }
            OUTCOME_REJECTED => {
                let reason = varint::read_prefixed(input).and_then(|b| std::str::from_utf8(b).ok());
                Self::Rejected(reason.ok_or(CommandError::Malformed("reason"))?.to_owned())
            }
            kind => return Err(CommandError::Kind(kind)),
        };
        if slice.is_empty() { Ok(outcome) } else { Err(CommandError::Malformed("end")) }
    }
}

/// Appends matchers.
pub fn write_matchers(out: &mut Vec<u8>, matchers: &[Matcher]) {
    varint::write_u64(out, matchers.len() as u64);
    for matcher in matchers {
        varint::write_prefixed(out, matcher.name().as_bytes());
        out.push(match matcher.op() {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        });
        varint::write_prefixed(out, matcher.value().as_bytes());
    }
}

/// Reads what [`write_matchers`] wrote.
pub fn read_matchers(input: &mut &[u8]) -> Result<Vec<Matcher>, CommandError> {
    const PART: &str = "matchers";
    let text = |b| std::str::from_utf8(b).ok();
    let parts = read_list(input, 3, PART, |input| {
        let name = varint::read_prefixed(input).and_then(text)?;
        let op = match varint::read_bytes(input, 1)?[0] {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => return None,
        };
        Some((name, op, varint::read_prefixed(input).and_then(text)?))
    })?;
    let invalid = |reason: String| CommandError::Invalid { part: PART, reason };
    parts
        .into_iter()
        .map(|(name, op, value)| Matcher::new(name, op, value).map_err(|e| invalid(e.to_string())))
        .collect()
}

fn read_u8(input: &mut &[u8], part: &'static str) -> Result<u8, CommandError> {
    varint::read_bytes(input, 1).map(|b| b[0]).ok_or(CommandError::Malformed(part))
}

fn read_tenant(input: &mut &[u8]) -> Result<TenantId, CommandError> {
    let name = varint::read_prefixed(input).and_then(|b| std::str::from_utf8(b).ok());
    TenantId::new(name.ok_or(CommandError::Malformed("tenant"))?)
        .map_err(|e| CommandError::Invalid { part: "tenant", reason: e.to_string() })
}

fn read_time(input: &mut &[u8]) -> Result<i64, CommandError> {
    varint::read_u64(input).map(varint::unzigzag).ok_or(CommandError::Malformed("time range"))
}

fn read_install(input: &mut &[u8]) -> Result<(LogIndex, Vec<u8>), CommandError> {
    let job = varint::read_u64(input).ok_or(CommandError::Malformed("job"))?;
    let output = varint::read_prefixed(input).ok_or(CommandError::Malformed("output"))?;
    Ok((LogIndex(job), output.to_vec()))
}

/// Reads a counted list. The count is believed only as far as the bytes that follow could hold it.
fn read_list<'a, T>(
    input: &mut &'a [u8],
    min_item_bytes: usize,
    part: &'static str,
    mut read: impl FnMut(&mut &'a [u8]) -> Option<T>,
) -> Result<Vec<T>, CommandError> {
    let count = varint::read_len(input).ok_or(CommandError::Malformed(part))?;
    if count > input.len() / min_item_bytes {
        return Err(CommandError::Malformed(part));
    }
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(read(input).ok_or(CommandError::Malformed(part))?);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(body: CommandBody<'_>) {
        let command = Command { header: CommandHeader { encoder_epoch: 3, cluster_time_ms: -5 }, body };
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes), Ok(command));
        for cut in 0..bytes.len() {
            assert!(Command::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Command::decode(&longer).is_err());
    }

    #[test]
    fn every_kind_round_trips_and_no_prefix_passes() {
        check(CommandBody::Write(vec![b"one", b"", b"three"]));
        check(CommandBody::BeginFlush { new_generation: false });
        check(CommandBody::BeginFlush { new_generation: true });
        check(CommandBody::InstallFlush { job: LogIndex(300), output: b"files".to_vec() });
        check(CommandBody::BeginMerge { inputs: vec![[1; 32], [2; 32]], over: TenantsOver::default() });
        let other = TenantId::new("other").expect("a valid name");
        let over =
            TenantsOver { left_out: vec![TenantId::default(), other], rolled_up: vec![TenantId::default()] };
        check(CommandBody::BeginMerge { inputs: vec![[1; 32]], over });
        check(CommandBody::InstallMerge { job: LogIndex(1), output: Vec::new() });
        check(CommandBody::DeleteSeries {
            tenant: TenantId::default(),
            matchers: vec![
                Matcher::equal("a", "b"),
                Matcher::new("c", MatchOp::NotRegex, "d.*").expect("valid pattern"),
            ],
            start_ms: i64::MIN,
            end_ms: i64::MAX,
        });
        check(CommandBody::DeleteLogs {
            tenant: TenantId::default(),
            filter: LogFilter::Not(Box::new(LogFilter::Field(
                crate::logs::LogField::Body,
                crate::logs::LogTest::Equals("x".to_owned()),
            ))),
            start_ns: i64::MIN,
            end_ns: 7,
        });
        check(CommandBody::DropPartitions(vec![RetentionCut { signal: 0, class: 1, before_ms: -7 }]));
    }

    #[test]
    fn gathered_bytes_are_what_encode_writes() {
        let header = CommandHeader { encoder_epoch: 1, cluster_time_ms: 9 };
        let parts = [Bytes::from_static(b"a"), Bytes::from_static(b"bc")];
        let body = CommandBody::Write(parts.iter().map(|b| &b[..]).collect());
        assert_eq!(encode_write(header, &parts), Command { header, body }.encode());
    }

    #[test]
    fn outcomes_round_trip() {
        for outcome in [
            CommandOutcome::Done,
            CommandOutcome::Write(vec![Bytes::from_static(b"x"), Bytes::new()]),
            CommandOutcome::Rejected("no such job".into()),
        ] {
            assert_eq!(CommandOutcome::decode(&outcome.encode()), Ok(outcome));
        }
    }

    #[test]
    fn the_offence_is_named() {
        let mut bytes =
            Command { header: CommandHeader::default(), body: CommandBody::Write(vec![]) }.encode().to_vec();
        bytes[0] = 9;
        assert_eq!(Command::decode(&bytes), Err(CommandError::Version(9)));
        bytes[0] = COMMAND_VERSION;
        bytes[1] = 99;
        assert_eq!(Command::decode(&bytes), Err(CommandError::Kind(99)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(mut bytes: Vec<u8>, kind in 0u8..12) {
            if bytes.len() > 1 {
                (bytes[0], bytes[1]) = (COMMAND_VERSION, kind);
            }
            let _ = Command::decode(&bytes);
            let _ = CommandOutcome::decode(&Bytes::from(bytes));
        }
    }
}
