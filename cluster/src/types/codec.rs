//! Bytes of openraft's values on disk and between peers.
//!
//! Every value starts with a version byte (1 today); numbers are LEB128 varints, strings carry their length, optional
//! values a presence byte. A decoder takes exactly the bytes of its value: bytes left over are an error, so is a count
//! that the rest of the input could not hold.
//!
//! An entry is a *head* (version, kind, log id: at most [`MAX_ENTRY_HEAD_BYTES`]) followed by its *body*. For a command
//! the body is the command itself, which is why the two parts can travel apart: the log store and the RPC frames put
//! the head beside a body that is shared with the proposer and never copied to be encoded.
//!
//! ```text
//! entry       = version, kind {0 blank, 1 command, 2 membership}, term, node id, index | body
//! log id      = version, term, node id, index
//! vote        = version, term, node id, committed {0, 1}
//! membership  = version, log id present {0, 1} [term, node id, index],
//!               configs: count (count of voters, voter ids ascending)*, nodes: count (id, address)*
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::error::ErrorKind;
use protocol::varint;

use super::{Command, Entry, LeaderId, LogId, Membership, Node, Payload, StoredMembership, Vote};

/// The version that encoders write.
const VERSION: u8 = 1;
/// Longest head of an entry.
pub const MAX_ENTRY_HEAD_BYTES: usize = 2 + 3 * 10;
/// Longest address of a node.
const MAX_ADDR_BYTES: usize = 1024;

const KIND_BLANK: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// Why bytes are not the value they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes are no {what}: {reason}")]
pub struct DecodeError {
    /// The value that was expected.
    pub what: &'static str,
    /// The offence.
    pub reason: DecodeReason,
}

impl DecodeError {
    /// Stored or sent bytes are wrong; the same bytes stay wrong.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Corruption
    }
}

/// The offence of undecodable bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeReason {
    /// The value ends early, or a number is longer than 64 bits.
    #[error("cut short or a number overflows")]
    Truncated,
    /// Bytes follow the value.
    #[error("{0} bytes follow its end")]
    Trailing(usize),
    /// Written by another release.
    #[error("unknown version {0}")]
    Version(u8),
    /// A tag byte is none of the known ones.
    #[error("unknown tag {0}")]
    Tag(u8),
    /// A count or length is larger than the input or the limit.
    #[error("count or length {0} is impossible")]
    Length(u64),
    /// An address is not UTF-8.
    #[error("an address is not UTF-8")]
    Utf8,
    /// Voters without a node, an empty configuration, or ids out of order.
    #[error("invalid membership: {0}")]
    Membership(String),
}

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// Reads one value and names it in errors.
struct Reader<'a> {
    what: &'static str,
    input: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(what: &'static str, input: &'a [u8]) -> Result<Self> {
        let mut reader = Self { what, input };
        match reader.byte()? {
            VERSION => Ok(reader),
            other => Err(reader.error(DecodeReason::Version(other))),
        }
    }

    fn error(&self, reason: DecodeReason) -> DecodeError {
        DecodeError { what: self.what, reason }
    }

    fn byte(&mut self) -> Result<u8> {
        let (&byte, rest) = self.input.split_first().ok_or_else(|| self.error(DecodeReason::Truncated))?;
        self.input = rest;
        Ok(byte)
    }

    fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error(DecodeReason::Tag(other))),
        }
    }

    fn number(&mut self) -> Result<u64> {
        varint::read_u64(&mut self.input).ok_or_else(|| self.error(DecodeReason::Truncated))
    }

    /// A count of things that take at least `least_bytes` each.
    fn count(&mut self, least_bytes: usize) -> Result<usize> {
        let count = self.number()?;
        let fits = usize::try_from(count).is_ok_and(|n| n <= self.input.len() / least_bytes);
        if fits { Ok(count as usize) } else { Err(self.error(DecodeReason::Length(count))) }
    }

    fn log_id(&mut self) -> Result<LogId> {
        let leader_id = LeaderId { term: self.number()?, node_id: self.number()? };
        Ok(LogId { leader_id, index: self.number()? })
    }

    fn address(&mut self) -> Result<String> {
        let len = self.count(1)?;
        if len > MAX_ADDR_BYTES {
            return Err(self.error(DecodeReason::Length(len as u64)));
        }
        let bytes =
            varint::read_bytes(&mut self.input, len).ok_or_else(|| self.error(DecodeReason::Truncated))?;
        match std::str::from_utf8(bytes) {
            Ok(addr) => Ok(addr.to_owned()),
            Err(_) => Err(self.error(DecodeReason::Utf8)),
        }
    }

    fn membership(&mut self) -> Result<Membership> {
        let mut configs = Vec::new();
        for _ in 0..self.count(1)? {
            let mut voters = BTreeSet::new();
            for _ in 0..self.count(1)? {
                let id = self.number()?;
                if voters.last().is_some_and(|&last| last >= id) {
                    return Err(self.error(DecodeReason::Membership("voters out of order".into())));
                }
                voters.insert(id);
            }
            configs.push(voters);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..self.count(2)? {
            let id = self.number()?;
            if nodes.last_key_value().is_some_and(|(&last, _)| last >= id) {
                return Err(self.error(DecodeReason::Membership("nodes out of order".into())));
            }
            nodes.insert(id, Node { addr: self.address()? });
        }
        // openraft would invent default nodes for unknown voters elsewhere; here a voter without address is an error.
        Membership::new(configs, nodes).map_err(|e| self.error(DecodeReason::Membership(e.to_string())))
    }

    fn end(self) -> Result<()> {
        if self.input.is_empty() { Ok(()) } else { Err(self.error(DecodeReason::Trailing(self.input.len()))) }
    }
}

fn write_log_id(out: &mut Vec<u8>, id: &LogId) {
    varint::write_u64(out, id.leader_id.term);
    varint::write_u64(out, id.leader_id.node_id);
    varint::write_u64(out, id.index);
}

fn write_membership(out: &mut Vec<u8>, membership: &Membership) {
    let configs = membership.get_joint_config();
    varint::write_u64(out, configs.len() as u64);
    for voters in configs {
        varint::write_u64(out, voters.len() as u64);
        for &voter in voters {
            varint::write_u64(out, voter);
        }
    }
    varint::write_u64(out, membership.nodes().count() as u64);
    for (&id, node) in membership.nodes() {
        varint::write_u64(out, id);
        varint::write_prefixed(out, node.addr.as_bytes());
    }
}

/// Bytes of a log id.
pub fn encode_log_id(id: &LogId) -> Vec<u8> {
    let mut out = vec![VERSION];
    write_log_id(&mut out, id);
    out
}

/// Reads what [`encode_log_id`] wrote.
pub fn decode_log_id(bytes: &[u8]) -> Result<LogId> {
    let mut reader = Reader::new("log id", bytes)?;
    let id = reader.log_id()?;
    reader.end()?;
    Ok(id)
}

/// Bytes of a vote.
pub fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut out = vec![VERSION];
    varint::write_u64(&mut out, vote.leader_id.term);
    varint::write_u64(&mut out, vote.leader_id.node_id);
    out.push(u8::from(vote.committed));
    out
}

/// Reads what [`encode_vote`] wrote.
pub fn decode_vote(bytes: &[u8]) -> Result<Vote> {
    let mut reader = Reader::new("vote", bytes)?;
    let leader_id = LeaderId { term: reader.number()?, node_id: reader.number()? };
    let vote = Vote { leader_id, committed: reader.flag()? };
    reader.end()?;
    Ok(vote)
}

/// Bytes of a membership and the log entry that made it.
pub fn encode_stored_membership(stored: &StoredMembership) -> Vec<u8> {
    let mut out = vec![VERSION, u8::from(stored.log_id().is_some())];
    if let Some(id) = stored.log_id() {
        write_log_id(&mut out, id);
    }
    write_membership(&mut out, stored.membership());
    out
}

/// Reads what [`encode_stored_membership`] wrote.
pub fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership> {
    let mut reader = Reader::new("stored membership", bytes)?;
    let log_id = if reader.flag()? { Some(reader.log_id()?) } else { None };
    let membership = reader.membership()?;
    reader.end()?;
    Ok(StoredMembership::new(log_id, membership))
}

/// Head and body of an entry. The body of a command is the command, shared.
pub fn encode_entry_parts(entry: &Entry) -> (Vec<u8>, Bytes) {
    let (kind, body) = match &entry.payload {
        Payload::Blank => (KIND_BLANK, Bytes::new()),
        Payload::Normal(command) => (KIND_COMMAND, command.0.clone()),
        Payload::Membership(membership) => {
            let mut body = Vec::new();
            write_membership(&mut body, membership);
            (KIND_MEMBERSHIP, body.into())
        }
    };
    let mut head = Vec::with_capacity(MAX_ENTRY_HEAD_BYTES);
    head.extend([VERSION, kind]);
    write_log_id(&mut head, &entry.log_id);
    (head, body)
}

/// Appends head and body of an entry. The reader must know where the entry ends.
pub fn write_entry(out: &mut Vec<u8>, entry: &Entry) {
    let (head, body) = encode_entry_parts(entry);
    out.extend_from_slice(&head);
    out.extend_from_slice(&body);
}

/// Puts an entry together from its parts. A command shares `body`.
pub fn decode_entry_parts(head: &[u8], body: Bytes) -> Result<Entry> {
    let mut reader = Reader::new("entry", head)?;
    let (kind, log_id) = (reader.byte()?, reader.log_id()?);
    reader.end()?;
    entry_of(kind, log_id, body)
}

/// Reads an entry that spans all of `bytes`. A command shares them.
pub fn decode_entry(bytes: Bytes) -> Result<Entry> {
    let mut reader = Reader::new("entry", &bytes)?;
    let (kind, log_id) = (reader.byte()?, reader.log_id()?);
    let head_len = bytes.len() - reader.input.len();
    entry_of(kind, log_id, bytes.slice(head_len..))
}

/// The log id of an entry, without a look at its body.
pub fn entry_log_id(head: &[u8]) -> Result<LogId> {
    let mut reader = Reader::new("entry", head)?;
    reader.byte()?;
    reader.log_id()
}

fn entry_of(kind: u8, log_id: LogId, body: Bytes) -> Result<Entry> {
    let mut reader = Reader { what: "entry", input: &body };
    let payload = match kind {
        KIND_COMMAND => return Ok(Entry { log_id, payload: Payload::Normal(Command(body)) }),
        KIND_BLANK => Payload::Blank,
        KIND_MEMBERSHIP => Payload::Membership(reader.membership()?),
        other => return Err(reader.error(DecodeReason::Tag(other))),
    };
    reader.end()?;
    Ok(Entry { log_id, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_id(term: u64, node_id: u64, index: u64) -> LogId {
        LogId { leader_id: LeaderId { term, node_id }, index }
    }

    fn membership() -> Membership {
        let nodes =
            (1..=4).map(|id| (id, Node { addr: format!("host-{id}:9620") })).collect::<BTreeMap<_, _>>();
        Membership::new(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])], nodes).unwrap()
    }

    fn entries() -> Vec<Entry> {
        vec![
            Entry { log_id: log_id(1, 1, 0), payload: Payload::Membership(membership()) },
            Entry { log_id: log_id(u64::MAX, u64::MAX, u64::MAX), payload: Payload::Blank },
            Entry {
                log_id: log_id(3, 2, 300),
                payload: Payload::Normal(Command(Bytes::from_static(b"abc"))),
            },
            Entry { log_id: log_id(3, 2, 301), payload: Payload::Normal(Command(Bytes::new())) },
            Entry { log_id: log_id(3, 2, 302), payload: Payload::Membership(Membership::default()) },
        ]
    }

    #[test]
    fn entries_round_trip_whole_and_in_parts() {
        for entry in entries() {
            let (head, body) = encode_entry_parts(&entry);
            assert!(head.len() <= MAX_ENTRY_HEAD_BYTES);
            assert_eq!(entry_log_id(&head).unwrap(), entry.log_id);
            assert_eq!(decode_entry_parts(&head, body).unwrap(), entry);
            let mut whole = Vec::new();
            write_entry(&mut whole, &entry);
            assert_eq!(decode_entry(whole.into()).unwrap(), entry);
        }
    }

    #[test]
    fn a_command_is_shared_not_copied() {
        let command = Bytes::from(vec![7; 100]);
        let entry = Entry { log_id: log_id(1, 1, 1), payload: Payload::Normal(Command(command.clone())) };
        let (_, body) = encode_entry_parts(&entry);
        assert_eq!(body.as_ptr(), command.as_ptr());
    }

    #[test]
    fn small_values_round_trip() {
        for id in [log_id(0, 0, 0), log_id(1, 300, 70_000), log_id(u64::MAX, u64::MAX, u64::MAX)] {
            assert_eq!(decode_log_id(&encode_log_id(&id)).unwrap(), id);
            for committed in [false, true] {
                let vote = Vote { leader_id: id.leader_id, committed };
                assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
            }
        }
        for stored in [
            StoredMembership::default(),
            StoredMembership::new(Some(log_id(4, 2, 9)), membership()),
            StoredMembership::new(None, membership()),
        ] {
            assert_eq!(decode_stored_membership(&encode_stored_membership(&stored)).unwrap(), stored);
        }
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_refused() {
        let stored = encode_stored_membership(&StoredMembership::new(Some(log_id(4, 2, 9)), membership()));
        let vote = encode_vote(&Vote { leader_id: LeaderId { term: 5, node_id: 6 }, committed: true });
        let id = encode_log_id(&log_id(300, 2, 1));
        for cut in 0..stored.len() {
            assert!(decode_stored_membership(&stored[..cut]).is_err(), "cut at {cut}");
        }
        for cut in 0..vote.len() {
            assert!(decode_vote(&vote[..cut]).is_err());
        }
        for cut in 0..id.len() {
            assert!(decode_log_id(&id[..cut]).is_err());
        }
        assert_eq!(
            decode_log_id(&[id.as_slice(), &[0]].concat()).unwrap_err().reason,
            DecodeReason::Trailing(1)
        );
        assert!(decode_vote(&[vote.as_slice(), &[0]].concat()).is_err());
        assert!(decode_stored_membership(&[stored.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn impossible_values_are_named() {
        assert_eq!(decode_vote(&[9, 0, 0, 0]).unwrap_err().reason, DecodeReason::Version(9));
        assert_eq!(decode_vote(&[1, 0, 0, 2]).unwrap_err().reason, DecodeReason::Tag(2));
        // A count of 2^63 configurations must not be believed.
        let mut bytes = vec![1, 0];
        varint::write_u64(&mut bytes, 1 << 63);
        assert_eq!(decode_stored_membership(&bytes).unwrap_err().reason, DecodeReason::Length(1 << 63));
        // Voter 7 without a node.
        let lonely = decode_stored_membership(&[1, 0, 1, 1, 7, 0]).unwrap_err();
        assert!(matches!(lonely.reason, DecodeReason::Membership(_)), "{lonely}");
        let unknown = decode_entry(Bytes::from_static(&[1, 3, 0, 0, 0])).unwrap_err();
        assert_eq!(unknown.reason, DecodeReason::Tag(3));
        assert!(decode_entry(Bytes::from_static(&[1, 0, 0, 0, 0, 1])).is_err(), "a blank entry has no body");
    }
}
