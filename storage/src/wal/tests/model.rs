//! The log against a naive model: random changes, reopened at random, after power cuts too.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;

/// What a group should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::wal) struct ModelGroup {
    pub(in crate::wal) vote: Option<Bytes>,
    pub(in crate::wal) committed: Option<Bytes>,
    pub(in crate::wal) purged: Option<(u64, Bytes)>,
    pub(in crate::wal) entries: BTreeMap<u64, WalEntry>,
}

/// What the log should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::wal) struct Model(pub(in crate::wal) BTreeMap<ShardId, ModelGroup>);

/// A change that a group submits.
#[derive(Clone, Debug)]
pub(in crate::wal) enum Op {
    Append {
        group: u16,
        count: u64,
        len: usize,
    },
    Vote {
        group: u16,
    },
    Committed {
        group: u16,
    },
    /// Truncates this many entries from the end.
    Truncate {
        group: u16,
        count: u64,
    },
    /// Purges this many entries from the front, perhaps beyond the end.
    Purge {
        group: u16,
        count: u64,
    },
    Remove {
        group: u16,
    },
    Flush,
    Mark,
}

pub(in crate::wal) fn op() -> impl Strategy<Value = Op> {
    let group = 0u16..4;
    prop_oneof![
        8 => (group.clone(), 1u64..6, prop_oneof![4 => 0usize..60, 1 => 500usize..1500])
            .prop_map(|(group, count, len)| Op::Append { group, count, len }),
        2 => group.clone().prop_map(|group| Op::Vote { group }),
        2 => group.clone().prop_map(|group| Op::Committed { group }),
        2 => (group.clone(), 0u64..6).prop_map(|(group, count)| Op::Truncate { group, count }),
        3 => (group.clone(), 0u64..9).prop_map(|(group, count)| Op::Purge { group, count }),
        1 => group.prop_map(|group| Op::Remove { group }),
        6 => Just(Op::Flush),
        1 => Just(Op::Mark),
    ]
}

impl Model {
    pub(in crate::wal) fn due(&self, group: ShardId) -> u64 {
        let Some(group) = self.0.get(&group) else { return 1 };
        let last = group.entries.last_key_value().map(|(index, _)| *index);
        last.or(group.purged.as_ref().map(|(index, _)| *index)).map_or(1, |index| index + 1)
    }

    /// Applies a change to the model and submits it to the log. `false` if it is no change of the log.
    pub(in crate::wal) fn apply<F: Fs>(&mut self, op: &Op, version: u64, wal: &Wal<F>, done: Done) -> bool {
        let bytes = |what: &str| Bytes::from(format!("{what}{version}"));
        match *op {
            Op::Append { group, count, len } => {
                let id = ShardId(group);
                let due = self.due(id);
                let list = entries(due..due + count, version, len);
                self.0
                    .entry(id)
                    .or_default()
                    .entries
                    .extend(list.iter().map(|entry| (entry.index, entry.clone())));
                wal.append(id, list, done);
            }
            Op::Vote { group } => {
                self.0.entry(ShardId(group)).or_default().vote = Some(bytes("vote"));
                wal.save_vote(ShardId(group), bytes("vote"), done);
            }
            Op::Committed { group } => {
                self.0.entry(ShardId(group)).or_default().committed = Some(bytes("committed"));
                wal.save_committed(ShardId(group), bytes("committed")).unwrap();
                return false;
            }
            Op::Truncate { group, count } => {
                let id = ShardId(group);
                let after = self.due(id).saturating_sub(1 + count);
                if let Some(group) = self.0.get_mut(&id) {
                    group.entries.retain(|index, _| *index <= after);
                }
                wal.truncate_after(id, Some(after), done);
            }
            Op::Purge { group, count } => {
                let id = ShardId(group);
                let first = self.0.get(&id).and_then(|group| group.entries.keys().next().copied());
                let upto = first.unwrap_or(self.due(id)) + count;
                let group = self.0.entry(id).or_default();
                group.entries.retain(|index, _| *index > upto);
                group.purged = Some((upto, bytes("purged")));
                wal.purge(id, upto, bytes("purged"), done);
            }
            Op::Remove { group } => {
                self.0.remove(&ShardId(group));
                wal.remove_group(ShardId(group), done);
            }
            Op::Mark => return wal.mark_if_idle(),
            Op::Flush => return false,
        }
        true
    }

    /// Describes the first difference between the model and the log. Positions that were only noted may lag.
    pub(in crate::wal) fn differs<F: Fs>(&self, wal: &Wal<F>, strict: bool) -> Option<String> {
        for id in (0..4).map(ShardId) {
            let expected = self.0.get(&id).cloned().unwrap_or_default();
            let state = wal.state(id);
            if let Some(damage) = state.damage {
                return Some(format!("group {id} is damaged: {damage}"));
            }
            let found = ModelGroup {
                vote: state.vote,
                committed: if strict { state.committed } else { expected.committed.clone() },
                purged: state.purged,
                entries: all(wal, id).into_iter().map(|entry| (entry.index, entry)).collect(),
            };
            if found != expected {
                return Some(format!("group {id}: found {found:?}, expected {expected:?}"));
            }
        }
        None
    }
}

fn small_segments(cache_bytes: usize) -> WalOptions {
    WalOptions { segment_bytes: 2048, cache_bytes, batch_bytes: 600, rewrite_above_segments: 2, salt: 77 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_was_done_to_it(
        runs in proptest::collection::vec((proptest::collection::vec(op(), 0..30), any::<bool>()), 1..5),
        cache_bytes in prop_oneof![Just(0usize), Just(500), Just(1 << 20)],
    ) {
        let mut fs = MemFs::new(1);
        let mut model = Model::default();
        let mut version = 0;
        for (ops, power_cut) in runs {
            let (wal, mut writer) = open_with(&fs, small_segments(cache_bytes));
            prop_assert_eq!(model.differs(&wal, true), None, "after opening");
            for op in ops {
                version += 1;
                model.apply(&op, version, &wal, ignore());
                if matches!(op, Op::Flush) {
                    // One batch only: the rest keeps waiting.
                    writer.write_pending().unwrap();
                }
                prop_assert_eq!(model.differs(&wal, true), None, "after {:?}", op);
            }
            // A last change, so that noted positions have something to ride on.
            model.apply(&Op::Vote { group: 0 }, version, &wal, ignore());
            flush(&mut writer);
            prop_assert_eq!(model.differs(&wal, true), None, "after the last batch");
            drop((wal, writer));
            fs = fs.crash(if power_cut { CrashMode::DropUnsynced } else { CrashMode::Process });
        }
    }
}

#[test]
fn many_threads_submit_and_all_hear_back_in_order() {
    let fs = MemFs::new(1);
    let (wal, mut writer) = open_with(&fs, WalOptions { segment_bytes: 64 << 10, ..options() });
    let thread = std::thread::spawn(move || {
        while writer.wait() {
            writer.write_pending().unwrap();
        }
    });
    let clients: Vec<_> = (0..4u16)
        .map(|group| {
            let wal = wal.clone();
            std::thread::spawn(move || {
                let heard = Arc::new(Mutex::new(Vec::new()));
                let group = ShardId(group);
                for index in 1..=200 {
                    let (tx, rx) = mpsc::channel();
                    let heard = heard.clone();
                    wal.append(
                        group,
                        vec![entry(index, 1, 50)],
                        Box::new(move |result| {
                            result.unwrap();
                            heard.lock().unwrap().push(index);
                            let _ = tx.send(());
                        }),
                    );
                    if index % 7 == 0 {
                        rx.recv().unwrap();
                        wal.purge(group, index - 5, Bytes::new(), ignore());
                    }
                    assert_eq!(wal.read(group, index..index + 1, 0).unwrap(), [entry(index, 1, 50)]);
                }
                let (tx, rx) = mpsc::channel();
                wal.save_vote(group, Bytes::new(), Box::new(move |result| tx.send(result).unwrap()));
                rx.recv().unwrap().unwrap();
                assert_eq!(*heard.lock().unwrap(), (1..=200).collect::<Vec<_>>());
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    drop(wal);
    thread.join().unwrap();
    let (wal, _writer) = open(&fs);
    for group in 0..4 {
        assert_eq!(all(&wal, ShardId(group)), entries(192..201, 1, 50));
    }
}
