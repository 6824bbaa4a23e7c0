//! Frames between nodes.
//!
//! Hot and large requests (Raft, writes, fragments, file pieces) have compact bodies and share their payload's bytes
//! with the frame; small and rare ones (ping, join, meta, status) carry JSON, which grows without breaking peers.
//!
//! ```text
//! request = version u8 (1) | kind u8 | cluster tag u64 LE | from varint | to varint | body by kind
//! answer  = version u8 (1) | 0 | body by kind of the request
//!         | version u8 (1) | 1 | refusal as JSON
//! ```
//!
//! The tag is a hash of the cluster's id: a node whose address was reused in another cluster is refused, not fed. `to` is
//! the node the sender means (0 = whoever is there, for a join). Raft requests name the replica, not only the node: see
//! [`ReplicaId`]. Log ids, votes, memberships and entries are in [`crate::types::codec`]'s format, each with its length.
//!
//! Every decoder takes bytes as hostile: lengths are checked against what is there, errors name the part.

use bytes::Bytes;
use protocol::error::ErrorKind;
use protocol::ids::{NodeId, ShardId};
use protocol::varint;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use storage::manifest::FileRef;

use crate::meta::{MetaCommand, MetaOutcome, ReplicaId};
use crate::read::Consistency;
use crate::status::{NodeStatus, Pulse};
use crate::types::codec::{self, DecodeError};
use crate::types::{Entry, LogId, StoredMembership, Vote};

const VERSION: u8 = 1;

/// Longest piece of a file in one frame.
pub const FILE_CHUNK_BYTES: u32 = 1 << 20;
/// Longest payload that senders put into one frame; what is longer is cut or sent in pieces.
pub const MAX_PAYLOAD_BYTES: usize = crate::env::MAX_FRAME_BYTES - (64 << 10);

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Hash of the cluster's id; 0 when the sender is in none yet.
    pub cluster: u64,
    /// The sender; 0 when it has no id yet.
    pub from: NodeId,
    /// The receiver that is meant; 0 for any.
    pub to: NodeId,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Entries or a heartbeat of a group's leader.
    Append(Append),
    /// A candidate asks for a vote, or whether it would get one.
    Vote {
        /// Which group.
        group: ShardId,
        /// The replica that is asked.
        to: ReplicaId,
        /// Only a question: nothing is stored.
        pre: bool,
        /// The candidate's vote.
        vote: Vote,
        /// The candidate's last entry.
        last: Option<LogId>,
        /// The leader told it to.
        transfer: bool,
    },
    /// A leader makes another replica its successor.
    Transfer {
        /// Which group.
        group: ShardId,
        /// The replica that is told.
        to: ReplicaId,
        /// The leader's vote.
        from: Vote,
        /// Who is to lead.
        next: ReplicaId,
        /// What the successor must have.
        last: Option<LogId>,
    },
    /// A leader offers a snapshot. Sent again and again until the answer is not [`OfferAnswer::Working`].
    Offer(Offer),
    /// A piece of a file of a group's store.
    Fetch {
        /// Which group.
        group: ShardId,
        /// The file, by its content.
        file: FileRef,
        /// Where the piece starts.
        offset: u64,
        /// How long it may be.
        len: u32,
    },
    /// A sub-batch for the leader of a shard.
    Propose {
        /// Which shard.
        shard: ShardId,
        /// How long the sender waits.
        timeout_ms: u32,
        /// The bytes.
        sub_batch: Bytes,
    },
    /// A fragment of a query.
    Fragment {
        /// On which shards.
        shards: Vec<ShardId>,
        /// How fresh.
        consistency: Consistency,
        /// How long the sender waits.
        timeout_ms: u32,
        /// The fragment.
        fragment: Bytes,
    },
    /// The rest of an answer that was longer than a frame.
    More {
        /// Which answer.
        id: u64,
        /// Where to go on.
        offset: u64,
    },
    /// Clock and groups of the sender, for those of the receiver.
    Ping(Box<Pulse>),
    /// A node wants in.
    Join(Join),
    /// A command for the meta leader.
    Meta(MetaCommand),
    /// What the node knows about itself.
    Status,
    /// The leader of these shards is to flush them.
    Flush {
        /// Which; empty for all that the receiver leads.
        shards: Vec<ShardId>,
        /// Whether to answer only when the flush and the merges that follow are installed.
        wait: bool,
    },
    /// The leader of a shard is to delete samples.
    Delete {
        /// Which shard.
        shard: ShardId,
        /// A command that deletes, with any header.
        command: Bytes,
    },
    /// The leader of a shard is to rewrite segments without what was deleted; the answer comes when it has.
    Clean {
        /// Which shard.
        shard: ShardId,
    },
    /// The leader of a shard is to flush it and to give the manifest that covers everything before.
    Capture {
        /// Which shard.
        shard: ShardId,
    },
    /// The receiver is to hand the leadership of a group to a replica.
    Step {
        /// Which group.
        group: ShardId,
        /// To whom.
        to: ReplicaId,
    },
}

/// Entries or a heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// Which group.
    pub group: ShardId,
    /// The replica it is for.
    pub to: ReplicaId,
    /// The leader's vote.
    pub vote: Vote,
    /// The entry before.
    pub prev: Option<LogId>,
    /// Up to where the leader has committed.
    pub commit: Option<LogId>,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// A snapshot on offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Which group.
    pub group: ShardId,
    /// The replica it is for.
    pub to: ReplicaId,
    /// The leader's vote.
    pub vote: Vote,
    /// Last entry that the snapshot covers.
    pub last: Option<LogId>,
    /// Membership at that entry.
    pub membership: StoredMembership,
    /// What the state machine calls its snapshot: a manifest whose files are fetched from the sender.
    pub manifest: Bytes,
}

/// How far the receiver of a snapshot is.
#[derive(Clone, Debug, PartialEq)]
pub enum OfferAnswer {
    /// Files are on their way.
    Working {
        /// Bytes received so far.
        received: u64,
    },
    /// Installed, or refused for a higher vote.
    Done {
        /// The receiver's vote.
        vote: Vote,
    },
}

/// A node wants in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Where its peers reach it.
    pub addr: String,
    /// Random number of its data directory.
    pub incarnation: u64,
    /// The newest epoch that it knows.
    #[serde(default = "oldest_epoch")]
    pub epoch: u16,
    /// Secret of its join token.
    #[serde(default)]
    pub secret: Option<String>,
}

const fn oldest_epoch() -> u16 {
    protocol::epoch::OLDEST
}

/// What a joining node is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Name of the cluster.
    pub cluster_id: String,
    /// Its id from now on.
    pub node: NodeId,
    /// The members it can talk to.
    pub peers: Vec<(NodeId, String)>,
}

/// What a Raft peer said to entries.
#[derive(Clone, Debug, PartialEq)]
pub enum AppendAnswer {
    /// All stored.
    Success,
    /// The entry before is not there.
    Conflict,
    /// There is a higher vote.
    HigherVote(Vote),
}

/// What a voter said.
#[derive(Clone, Debug, PartialEq)]
pub struct VoteAnswer {
    /// Its vote now.
    pub vote: Vote,
    /// Whether the candidate got it.
    pub granted: bool,
    /// Its last entry.
    pub last: Option<LogId>,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    /// The bytes are no request.
    #[error("the request is malformed: {part}")]
    Malformed {
        /// Where.
        part: String,
    },
    /// Sender and receiver belong to different clusters.
    #[error("the receiver belongs to another cluster")]
    ForeignCluster,
    /// Another node lives at this address now.
    #[error("the receiver is node {is}")]
    WrongNode {
        /// Who it is.
        is: NodeId,
    },
    /// The sender is not a member any more.
    #[error("the sender is not a member any more")]
    Retired,
    /// There is no such replica here.
    #[error("the receiver holds no such replica")]
    NotHosted,
    /// Somebody else leads.
    #[error("the receiver does not lead the group")]
    NotLeader {
        /// Who does, where that is known.
        leader: Option<NodeId>,
    },
    /// A queue is full. Nothing was done.
    #[error("{queued_bytes} bytes are waiting already")]
    Overloaded {
        /// Bytes in the queue.
        queued_bytes: u64,
    },
    /// The disk is nearly full. Nothing was done.
    #[error("the disk is nearly full")]
    DiskFull,
    /// There is no memory for more. Nothing was done.
    #[error("there is no memory left for writes, or for new series")]
    MemoryFull,
    /// It may or may not have been done.
    #[error("outcome unknown: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// It was tried and failed.
    #[error("{message}")]
    Failed {
        /// Kind of the failure.
        kind: ErrorKind,
        /// Its words.
        message: String,
    },
}

/// An answer to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposeAnswer {
    /// Index of the entry that carried it.
    pub index: u64,
    /// Outcome of the sub-batch, as `protocol::batch` wrote it.
    pub outcome: Bytes,
}

/// What one shard answered to a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardAnswer {
    /// The shard.
    pub shard: ShardId,
    /// Its answer, or why there is none.
    pub result: Result<Bytes, Refusal>,
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// Another release's version.
    #[error("version {0} of a frame is not known here")]
    Version(u8),
    /// Another release's kind.
    #[error("kind {0} of a frame is not known here")]
    Kind(u8),
    /// Ends early, or holds a wrong length.
    #[error("frame is malformed at its {0}")]
    Malformed(&'static str),
    /// A value inside.
    #[error(transparent)]
    Value(#[from] DecodeError),
    /// The peer refused the request.
    #[error(transparent)]
    Refused(Refusal),
}

const APPEND: u8 = 1;
const VOTE: u8 = 2;
const TRANSFER: u8 = 3;
const OFFER: u8 = 4;
const FETCH: u8 = 5;
const PROPOSE: u8 = 6;
const FRAGMENT: u8 = 7;
const MORE: u8 = 8;
const PING: u8 = 9;
const JOIN: u8 = 10;
const META: u8 = 11;
const STATUS: u8 = 12;
const FLUSH: u8 = 13;
const STEP: u8 = 14;
const DELETE: u8 = 15;
const CLEAN: u8 = 16;
const CAPTURE: u8 = 17;

impl Request {
    /// Short name for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Append(_) => "append",
            Self::Vote { .. } => "vote",
            Self::Transfer { .. } => "transfer",
            Self::Offer(_) => "offer",
            Self::Fetch { .. } => "fetch",
            Self::Propose { .. } => "propose",
            Self::Fragment { .. } => "fragment",
            Self::More { .. } => "more",
            Self::Ping(_) => "ping",
            Self::Join(_) => "join",
            Self::Meta(_) => "meta",
            Self::Status => "status",
            Self::Flush { .. } => "flush",
            Self::Delete { .. } => "delete",
            Self::Clean { .. } => "clean",
            Self::Capture { .. } => "capture",
            Self::Step { .. } => "step",
        }
    }

    /// Whether a frame is a fragment of a query, by its kind alone.
    pub fn is_fragment(frame: &[u8]) -> bool {
        frame.get(1) == Some(&FRAGMENT)
    }

    /// The frame.
    pub fn encode(&self, header: Header) -> Bytes {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(&[VERSION, 0]);
        out.extend_from_slice(&header.cluster.to_le_bytes());
        varint::write_u64(&mut out, header.from.0);
        varint::write_u64(&mut out, header.to.0);
        out[1] = self.write_body(&mut out);
        out.into()
    }

    fn write_body(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Append(append) => {
                write_target(out, append.group, append.to);
                varint::write_prefixed(out, &codec::encode_vote(&append.vote));
                write_log_id(out, append.prev.as_ref());
                write_log_id(out, append.commit.as_ref());
                varint::write_u64(out, append.entries.len() as u64);
                for entry in &append.entries {
                    let (head, body) = codec::encode_entry_parts(entry);
                    varint::write_prefixed(out, &head);
                    varint::write_prefixed(out, &body);
                }
                APPEND
            }
            Self::Vote { group, to, pre, vote, last, transfer } => {
                write_target(out, *group, *to);
                out.push(u8::from(*pre) | u8::from(*transfer) << 1);
                varint::write_prefixed(out, &codec::encode_vote(vote));
                write_log_id(out, last.as_ref());
                VOTE
            }
            Self::Transfer { group, to, from, next, last } => {
                write_target(out, *group, *to);
                varint::write_prefixed(out, &codec::encode_vote(from));
                varint::write_u64(out, next.0);
                write_log_id(out, last.as_ref());
                TRANSFER
            }
            Self::Offer(offer) => {
                write_target(out, offer.group, offer.to);
                varint::write_prefixed(out, &codec::encode_vote(&offer.vote));
                write_log_id(out, offer.last.as_ref());
                varint::write_prefixed(out, &codec::encode_stored_membership(&offer.membership));
                varint::write_prefixed(out, &offer.manifest);
                OFFER
            }
            Self::Fetch { group, file, offset, len } => {
                varint::write_u64(out, u64::from(group.0));
                file.encode(out);
                varint::write_u64(out, *offset);
                varint::write_u64(out, u64::from(*len));
                FETCH
            }
            Self::Propose { shard, timeout_ms, sub_batch } => {
                varint::write_u64(out, u64::from(shard.0));
                varint::write_u64(out, u64::from(*timeout_ms));
                varint::write_prefixed(out, sub_batch);
                PROPOSE
            }
            Self::Fragment { shards, consistency, timeout_ms, fragment } => {
                write_shards(out, shards);
                consistency.write(out);
                varint::write_u64(out, u64::from(*timeout_ms));
                varint::write_prefixed(out, fragment);
                FRAGMENT
            }
            Self::More { id, offset } => {
                varint::write_u64(out, *id);
                varint::write_u64(out, *offset);
                MORE
            }
            Self::Ping(pulse) => write_json(out, pulse, PING),
            Self::Join(join) => write_json(out, join, JOIN),
            Self::Meta(command) => write_json(out, command, META),
            Self::Status => STATUS,
            Self::Flush { shards, wait } => {
                write_shards(out, shards);
                out.push(u8::from(*wait));
                FLUSH
            }
            Self::Delete { shard, command } => {
                varint::write_u64(out, u64::from(shard.0));
                varint::write_prefixed(out, command);
                DELETE
            }
            Self::Clean { shard } => {
                varint::write_u64(out, u64::from(shard.0));
                CLEAN
            }
            Self::Capture { shard } => {
                varint::write_u64(out, u64::from(shard.0));
                CAPTURE
            }
            Self::Step { group, to } => {
                write_target(out, *group, *to);
                STEP
            }
        }
    }

    /// Takes a frame apart. Payloads share its bytes.
    pub fn decode(frame: &Bytes) -> Result<(Header, Self), RpcError> {
        let (fixed, mut input) = frame.split_at_checked(10).ok_or(RpcError::Malformed("header"))?;
        if fixed[0] != VERSION {
            return Err(RpcError::Version(fixed[0]));
        }
        let cluster = u64::from_le_bytes(fixed[2..10].try_into().expect("the header holds 8 bytes of tag"));
        let input = &mut input;
        let from = NodeId(number(input, "sender")?);
        let to = NodeId(number(input, "receiver")?);
        let request = Self::read_body(fixed[1], frame, input)?;
        if !input.is_empty() {
            return Err(RpcError::Malformed("end"));
        }
        Ok((Header { cluster, from, to }, request))
    }

    fn read_body(kind: u8, frame: &Bytes, input: &mut &[u8]) -> Result<Self, RpcError> {
        Ok(match kind {
            APPEND => {
                let (group, to) = read_target(input)?;
                let vote = codec::decode_vote(prefixed(input, "vote")?)?;
                let (prev, commit) = (read_log_id(input)?, read_log_id(input)?);
                let count = count(input, 2, "entries")?;
                let mut entries = Vec::with_capacity(count);
                for _ in 0..count {
                    let head = prefixed(input, "entry head")?;
                    let body = shared(frame, input, "entry body")?;
                    entries.push(codec::decode_entry_parts(head, body)?);
                }
                Self::Append(Append { group, to, vote, prev, commit, entries })
            }
            VOTE => {
                let (group, to) = read_target(input)?;
                let flags = byte(input, "flags")?;
                if flags > 3 {
                    return Err(RpcError::Malformed("flags"));
                }
                let vote = codec::decode_vote(prefixed(input, "vote")?)?;
                let last = read_log_id(input)?;
                Self::Vote { group, to, pre: flags & 1 != 0, vote, last, transfer: flags & 2 != 0 }
            }
            TRANSFER => {
                let (group, to) = read_target(input)?;
                let from = codec::decode_vote(prefixed(input, "vote")?)?;
                let next = ReplicaId(number(input, "successor")?);
                Self::Transfer { group, to, from, next, last: read_log_id(input)? }
            }
            OFFER => {
                let (group, to) = read_target(input)?;
                let vote = codec::decode_vote(prefixed(input, "vote")?)?;
                let last = read_log_id(input)?;
                let membership = codec::decode_stored_membership(prefixed(input, "membership")?)?;
                let manifest = shared(frame, input, "manifest")?;
                Self::Offer(Offer { group, to, vote, last, membership, manifest })
            }
            FETCH => {
                let group = shard(input)?;
                let file = FileRef::decode(input).ok_or(RpcError::Malformed("file"))?;
                let offset = number(input, "offset")?;
                Self::Fetch { group, file, offset, len: small(input, "length")? }
            }
            PROPOSE => {
                let (shard, timeout_ms) = (shard(input)?, small(input, "timeout")?);
                Self::Propose { shard, timeout_ms, sub_batch: shared(frame, input, "sub-batch")? }
            }
            FRAGMENT => {
                let shards = read_shards(input)?;
                let consistency = Consistency::read(input).ok_or(RpcError::Malformed("consistency"))?;
                let timeout_ms = small(input, "timeout")?;
                Self::Fragment {
                    shards,
                    consistency,
                    timeout_ms,
                    fragment: shared(frame, input, "fragment")?,
                }
            }
            MORE => Self::More { id: number(input, "id")?, offset: number(input, "offset")? },
            PING => Self::Ping(Box::new(read_json(input, "ping")?)),
            JOIN => Self::Join(read_json(input, "join")?),
            META => Self::Meta(read_json(input, "command")?),
            STATUS => Self::Status,
            DELETE => Self::Delete { shard: shard(input)?, command: shared(frame, input, "command")? },
            CLEAN => Self::Clean { shard: shard(input)? },
            CAPTURE => Self::Capture { shard: shard(input)? },
            FLUSH => Self::Flush { shards: read_shards(input)?, wait: flag(input, "wait")? },
            STEP => {
                let (group, to) = read_target(input)?;
                Self::Step { group, to }
            }
            kind => return Err(RpcError::Kind(kind)),
        })
    }
}

/// An answer's body.
pub trait Answer: Sized {
    /// Appends the body.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads the body; `frame` is what `input` points into.
    fn read(frame: &Bytes, input: &mut &[u8]) -> Result<Self, RpcError>;
}

/// Encodes what a handler came to.
pub fn encode_answer<T: Answer>(result: &Result<T, Refusal>) -> Bytes {
    let mut out = vec![VERSION, u8::from(result.is_err())];
    match result {
        Ok(answer) => answer.write(&mut out),
        Err(refusal) => {
            write_json(&mut out, refusal, 0);
        }
    }
    out.into()
}

/// Decodes what [`encode_answer`] wrote. A refusal is an error.
pub fn decode_answer<T: Answer>(frame: &Bytes) -> Result<T, RpcError> {
    let mut slice = &frame[..];
    let input = &mut slice;
    match byte(input, "version")? {
        VERSION => {}
        version => return Err(RpcError::Version(version)),
    }
    if flag(input, "status")? {
        return Err(RpcError::Refused(read_json(input, "refusal")?));
    }
    let answer = T::read(frame, input)?;
    if input.is_empty() { Ok(answer) } else { Err(RpcError::Malformed("end")) }
}

impl Answer for AppendAnswer {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Success => out.push(0),
            Self::Conflict => out.push(1),
            Self::HigherVote(vote) => {
                out.push(2);
                varint::write_prefixed(out, &codec::encode_vote(vote));
            }
        }
    }

    fn read(_: &Bytes, input: &mut &[u8]) -> Result<Self, RpcError> {
        Ok(match byte(input, "append answer")? {
            0 => Self::Success,
            1 => Self::Conflict,
            2 => Self::HigherVote(codec::decode_vote(prefixed(input, "vote")?)?),
            _ => return Err(RpcError::Malformed("append answer")),
        })
    }
}

impl Answer for VoteAnswer {
    fn write(&self, out: &mut Vec<u8>) {
        varint::write_prefixed(out, &codec::encode_vote(&self.vote));
        out.push(u8::from(self.granted));
        write_log_id(out, self.last.as_ref());
    }

    fn read(_: &Bytes, input: &mut &[u8]) -> Result<Self, RpcError> {
        let vote = codec::decode_vote(prefixed(input, "vote")?)?;
        Ok(Self { vote, granted: flag(input, "granted")?, last: read_log_id(input)? })
    }
}

/// What became of a transfer; the reason of a refusal is in words, only the leader's log reads it.
impl Answer for Result<(), String> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Ok(()) => out.push(0),
            Err(reason) => {
                out.push(1);
                varint::write_prefixed(out, reason.as_bytes());
            }
        }
    }

    fn read(_: &Bytes, input: &mut &[u8]) -> Result<Self, RpcError> {
        if flag(input, "transfer answer")? {
            let reason = std::str::from_utf8(prefixed(input, "reason")?);
            return Ok(Err(reason.map_err(|_| RpcError::Malformed("reason"))?.to_owned()));
        }
        Ok(Ok(()))
    }
}

impl Answer for OfferAnswer {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Working { received } => {
                out.push(0);
                varint::write_u64(out, *received);
            }
            Self::Done { vote } => {
                out.push(1);
                varint::write_prefixed(out, &codec::encode_vote(vote));
            }
        }
    }

    fn read(_: &Bytes, input: &mut &[u8]) -> Result<Self, RpcError> {
        Ok(if flag(input, "offer answer")? {
            Self::Done { vote: codec::decode_vote(prefixed(input, "vote")?)? }
        } else {
            Self::Working { received: number(input, "received")? }
        })
    }
}

/// A piece of a file or of a long answer.
impl Answer for Bytes {
    fn write(&self, out: &mut Vec<u8>) {
        varint::write_prefixed(out, self);
    }

    fn read(frame: &Bytes, input: &mut &[u8]) -> Result<Self, RpcError> {
        shared(frame, input, "piece")
    }
}

impl Answer for () {
    fn write(&self, _: &mut Vec<u8>) {}

    fn read(_: &Bytes, _: &mut &[u8]) -> Result<Self, RpcError> {
        Ok(())
    }
}

impl Answer for ProposeAnswer {
    fn write(&self, out: &mut Vec<u8>) {
        varint::write_u64(out, self.index);
        varint::write_prefixed(out, &self.outcome);
    }

    fn read(frame: &Bytes, input: &mut &[u8]) -> Result<Self, RpcError> {
        Ok(Self { index: number(input, "index")?, outcome: shared(frame, input, "outcome")? })
    }
}

/// The answers of all shards of a fragment request, or their beginning and where the rest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paged {
    /// Length of the whole.
    pub total: u64,
    /// Name of the rest; 0 when there is none.
    pub id: u64,
    /// The beginning.
    pub head: Bytes,
}

impl Answer for Paged {
    fn write(&self, out: &mut Vec<u8>) {
        varint::write_u64(out, self.total);
        varint::write_u64(out, self.id);
        varint::write_prefixed(out, &self.head);
    }

    fn read(frame: &Bytes, input: &mut &[u8]) -> Result<Self, RpcError> {
        let (total, id) = (number(input, "total")?, number(input, "id")?);
        Ok(Self { total, id, head: shared(frame, input, "head")? })
    }
}

/// Bytes of the answers of several shards.
pub fn encode_shard_answers(answers: &[ShardAnswer]) -> Vec<u8> {
    let mut out =
        Vec::with_capacity(answers.iter().map(|a| a.result.as_ref().map_or(64, Bytes::len) + 16).sum());
    varint::write_u64(&mut out, answers.len() as u64);
    for answer in answers {
        varint::write_u64(&mut out, u64::from(answer.shard.0));
        match &answer.result {
            Ok(bytes) => {
                out.push(0);
                varint::write_prefixed(&mut out, bytes);
            }
            Err(refusal) => {
                out.push(1);
                write_json(&mut out, refusal, 0);
            }
        }
    }
    out
}

/// Reads what [`encode_shard_answers`] wrote; answers share the bytes.
pub fn decode_shard_answers(bytes: &Bytes) -> Result<Vec<ShardAnswer>, RpcError> {
    let mut slice = &bytes[..];
    let input = &mut slice;
    let count = count(input, 3, "answers")?;
    let mut answers = Vec::with_capacity(count);
    for _ in 0..count {
        let shard = shard(input)?;
        let result = if flag(input, "answer status")? {
            Err(read_json(input, "refusal")?)
        } else {
            Ok(shared(bytes, input, "answer")?)
        };
        answers.push(ShardAnswer { shard, result });
    }
    if input.is_empty() { Ok(answers) } else { Err(RpcError::Malformed("end")) }
}

macro_rules! json_answer {
    ($($type:ty),*) => {$(
        impl Answer for $type {
            fn write(&self, out: &mut Vec<u8>) {
                write_json(out, self, 0);
            }

            fn read(_: &Bytes, input: &mut &[u8]) -> Result<Self, RpcError> {
                read_json(input, stringify!($type))
            }
        }
    )*};
}

json_answer!(Pulse, Joined, MetaOutcome, NodeStatus);

fn write_json<T: Serialize>(out: &mut Vec<u8>, value: &T, kind: u8) -> u8 {
    let json = serde_json::to_vec(value).expect("our types have string keys and no failing serializers");
    varint::write_prefixed(out, &json);
    kind
}

fn read_json<T: DeserializeOwned>(input: &mut &[u8], part: &'static str) -> Result<T, RpcError> {
    serde_json::from_slice(prefixed(input, part)?).map_err(|_| RpcError::Malformed(part))
}

fn write_target(out: &mut Vec<u8>, group: ShardId, to: ReplicaId) {
    varint::write_u64(out, u64::from(group.0));
    varint::write_u64(out, to.0);
}

fn read_target(input: &mut &[u8]) -> Result<(ShardId, ReplicaId), RpcError> {
    Ok((shard(input)?, ReplicaId(number(input, "replica")?)))
}

fn write_log_id(out: &mut Vec<u8>, id: Option<&LogId>) {
    match id {
        Some(id) => varint::write_prefixed(out, &codec::encode_log_id(id)),
        None => varint::write_u64(out, 0),
    }
}

fn read_log_id(input: &mut &[u8]) -> Result<Option<LogId>, RpcError> {
    match prefixed(input, "log id")? {
        [] => Ok(None),
        bytes => Ok(Some(codec::decode_log_id(bytes)?)),
    }
}

fn write_shards(out: &mut Vec<u8>, shards: &[ShardId]) {
    varint::write_u64(out, shards.len() as u64);
    for shard in shards {
        varint::write_u64(out, u64::from(shard.0));
    }
}

fn read_shards(input: &mut &[u8]) -> Result<Vec<ShardId>, RpcError> {
    let count = count(input, 1, "shards")?;
    (0..count).map(|_| shard(input)).collect()
}

fn byte(input: &mut &[u8], part: &'static str) -> Result<u8, RpcError> {
    varint::read_bytes(input, 1).map(|b| b[0]).ok_or(RpcError::Malformed(part))
}

fn flag(input: &mut &[u8], part: &'static str) -> Result<bool, RpcError> {
    match byte(input, part)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(RpcError::Malformed(part)),
    }
}

fn number(input: &mut &[u8], part: &'static str) -> Result<u64, RpcError> {
    varint::read_u64(input).ok_or(RpcError::Malformed(part))
}

fn small(input: &mut &[u8], part: &'static str) -> Result<u32, RpcError> {
    u32::try_from(number(input, part)?).map_err(|_| RpcError::Malformed(part))
}

fn shard(input: &mut &[u8]) -> Result<ShardId, RpcError> {
    let id = u16::try_from(number(input, "group")?).map_err(|_| RpcError::Malformed("group"))?;
    Ok(ShardId(id))
}

/// A count of things that take `least_bytes` each at least.
fn count(input: &mut &[u8], least_bytes: usize, part: &'static str) -> Result<usize, RpcError> {
    let count = varint::read_len(input).ok_or(RpcError::Malformed(part))?;
    if count > input.len() / least_bytes { Err(RpcError::Malformed(part)) } else { Ok(count) }
}

fn prefixed<'a>(input: &mut &'a [u8], part: &'static str) -> Result<&'a [u8], RpcError> {
    varint::read_prefixed(input).ok_or(RpcError::Malformed(part))
}

fn shared(frame: &Bytes, input: &mut &[u8], part: &'static str) -> Result<Bytes, RpcError> {
    let bytes = prefixed(input, part)?;
    Ok(if bytes.is_empty() { Bytes::new() } else { frame.slice_ref(bytes) })
}

#[cfg(test)]
mod tests;
