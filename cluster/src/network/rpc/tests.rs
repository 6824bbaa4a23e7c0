use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::status::{GroupPulse, Role};
use crate::types::{Command, LeaderId, Membership, Node, Payload};

fn log_id(index: u64) -> LogId {
    LogId { leader_id: LeaderId { term: 300, node_id: 1 << 20 | 1 }, index }
}

fn vote() -> Vote {
    Vote { leader_id: LeaderId { term: 301, node_id: 2 }, committed: true }
}

fn pulse() -> Pulse {
    Pulse {
        node: NodeId(3),
        addr: "h:1".into(),
        clock_ms: -4,
        meta_version: 9,
        stopping: false,
        groups: vec![GroupPulse {
            group: ShardId(4),
            replica: ReplicaId::new(NodeId(3), 2),
            role: Role::Leader,
            leader: Some(ReplicaId::new(NodeId(3), 2)),
            term: 8,
            last_log: 10,
            applied: 9,
            voters: vec![ReplicaId::new(NodeId(3), 2)],
            learners: vec![],
            joint: false,
            matched: BTreeMap::from([(ReplicaId::new(NodeId(1), 1), 7)]),
            bytes: 5,
        }],
        short_of_memory: true,
        disk_full: true,
        evict_before_ms: Some(-5),
    }
}

fn requests() -> Vec<Request> {
    let (group, to) = (ShardId(7), ReplicaId::new(NodeId(2), 1));
    let nodes = BTreeMap::from([(5, Node { addr: "a:1".into() })]);
    let membership = Membership::new(vec![BTreeSet::from([5])], nodes).unwrap();
    vec![
        Request::Append(Append {
            group,
            to,
            vote: vote(),
            prev: Some(log_id(4)),
            commit: None,
            entries: vec![
                Entry { log_id: log_id(5), payload: Payload::Blank },
                Entry { log_id: log_id(6), payload: Payload::Normal(Command(Bytes::from_static(b"abc"))) },
                Entry { log_id: log_id(7), payload: Payload::Membership(membership.clone()) },
            ],
        }),
        Request::Vote { group, to, pre: true, vote: vote(), last: Some(log_id(1)), transfer: false },
        Request::Vote { group, to, pre: false, vote: vote(), last: None, transfer: true },
        Request::Transfer { group, to, from: vote(), next: to, last: Some(log_id(9)) },
        Request::Offer(Offer {
            group,
            to,
            vote: vote(),
            last: Some(log_id(9)),
            membership: StoredMembership::new(Some(log_id(3)), membership),
            manifest: Bytes::from_static(b"files"),
        }),
        Request::Fetch {
            group,
            file: FileRef { hash: [9; 32], len_bytes: 1 << 50, kind: storage::manifest::FileKind::Segment },
            offset: 1 << 40,
            len: FILE_CHUNK_BYTES,
        },
        Request::Propose { shard: group, timeout_ms: 5000, sub_batch: Bytes::from_static(b"columns") },
        Request::Fragment {
            shards: vec![ShardId(1), ShardId(2)],
            consistency: Consistency::Session(BTreeMap::from([(ShardId(1), 77)])),
            timeout_ms: 100,
            fragment: Bytes::from_static(b"plan"),
        },
        Request::More { id: 4, offset: 5 },
        Request::Ping(Box::new(pulse())),
        Request::Join(Join {
            addr: "b:2".into(),
            incarnation: u64::MAX,
            epoch: 7,
            secret: Some("00ff".into()),
        }),
        Request::Meta(MetaCommand::ShardBorn { shard: group }),
        Request::Delete { shard: ShardId(3), command: Bytes::from_static(b"delete") },
        Request::Clean { shard: ShardId(4) },
        Request::Capture { shard: ShardId(4) },
        Request::Status,
        Request::Flush { shards: vec![group], wait: true },
        Request::Step { group, to },
    ]
}

const HEADER: Header = Header { cluster: 0xdead_beef, from: NodeId(1), to: NodeId(300) };

#[test]
fn requests_round_trip_and_no_prefix_passes() {
    for request in requests() {
        let frame = request.encode(HEADER);
        assert_eq!(Request::decode(&frame).unwrap(), (HEADER, request.clone()));
        for cut in 0..frame.len() {
            assert!(Request::decode(&frame.slice(..cut)).is_err(), "{} cut at {cut}", request.name());
        }
        let longer = Bytes::from([&frame[..], &[0]].concat());
        assert!(Request::decode(&longer).is_err(), "{}", request.name());
    }
}

#[test]
fn payloads_share_the_frame() {
    let sub_batch = Bytes::from(vec![7; 1000]);
    let frame = Request::Propose { shard: ShardId(1), timeout_ms: 1, sub_batch }.encode(HEADER);
    let Request::Propose { sub_batch, .. } = Request::decode(&frame).unwrap().1 else {
        panic!("another kind")
    };
    assert!(frame.as_ptr_range().contains(&sub_batch.as_ptr()));
}

fn check<T: Answer + PartialEq + std::fmt::Debug>(answer: T) {
    let frame = encode_answer(&Ok(answer));
    let again: T = decode_answer(&frame).unwrap();
    assert_eq!(encode_answer(&Ok(again)), frame);
    for cut in 0..frame.len() {
        assert!(decode_answer::<T>(&frame.slice(..cut)).is_err());
    }
}

#[test]
fn answers_round_trip() {
    check(AppendAnswer::Success);
    check(AppendAnswer::Conflict);
    check(AppendAnswer::HigherVote(vote()));
    check(VoteAnswer { vote: vote(), granted: true, last: Some(log_id(1)) });
    check::<Result<(), String>>(Err("no".into()));
    check::<Result<(), String>>(Ok(()));
    check(OfferAnswer::Working { received: 300 });
    check(OfferAnswer::Done { vote: vote() });
    check(Bytes::from_static(b"piece"));
    check(());
    check(ProposeAnswer { index: 300, outcome: Bytes::from_static(b"applied") });
    check(Paged { total: 10, id: 1, head: Bytes::from_static(b"head") });
    check(pulse());
    check(Joined { cluster_id: "c".into(), node: NodeId(4), peers: vec![(NodeId(1), "a".into())] });
}

#[test]
fn a_refusal_is_an_error() {
    let refusal = Refusal::NotLeader { leader: Some(NodeId(2)) };
    let frame = encode_answer::<()>(&Err(refusal.clone()));
    assert_eq!(decode_answer::<()>(&frame), Err(RpcError::Refused(refusal)));
}

#[test]
fn shard_answers_round_trip() {
    let answers = vec![
        ShardAnswer { shard: ShardId(1), result: Ok(Bytes::from_static(b"rows")) },
        ShardAnswer { shard: ShardId(2), result: Err(Refusal::NotHosted) },
        ShardAnswer { shard: ShardId(3), result: Ok(Bytes::new()) },
    ];
    let bytes = Bytes::from(encode_shard_answers(&answers));
    assert_eq!(decode_shard_answers(&bytes).unwrap(), answers);
    for cut in 0..bytes.len() {
        assert!(decode_shard_answers(&bytes.slice(..cut)).is_err());
    }
}

#[test]
fn scrambled_bytes_never_panic() {
    for request in requests() {
        let frame = request.encode(HEADER);
        for at in 0..frame.len() {
            for change in [0u8, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = frame.to_vec();
                bytes[at] = change;
                let _ = Request::decode(&bytes.into());
            }
        }
    }
}
