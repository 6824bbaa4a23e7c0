//! A log cut at every byte and with every byte flipped: it opens with what was synced, or names the damage. It never
//! gives wrong data, and never loses a synced record silently.

use std::collections::BTreeMap;

use super::*;

const GROUPS: u16 = 5;

/// A version that no other group uses, so that an entry's bytes tell its group.
fn version(round: u64, group: u16) -> u64 {
    round * u64::from(GROUPS) + u64::from(group)
}

/// What each group should hold.
type Expected = BTreeMap<ShardId, (GroupState, Vec<WalEntry>)>;

fn snapshot<F: Fs>(wal: &Wal<F>) -> Expected {
    (0..GROUPS).map(ShardId).map(|id| (id, (wal.state(id), all(wal, id)))).collect()
}

fn paths(fs: &MemFs) -> Vec<PathBuf> {
    fs.list(Path::new(DIR)).unwrap().into_iter().map(|entry| Path::new(DIR).join(entry.name)).collect()
}

/// A log of about `bytes` in segments of `segment_bytes`, closed with a mark. Gives its state after each batch.
fn build(bytes: u64, segment_bytes: u64) -> (MemFs, Vec<Expected>) {
    let fs = MemFs::new(1);
    let (wal, mut writer) = open_with(&fs, WalOptions { segment_bytes, ..options() });
    let mut states = vec![snapshot(&wal)];
    let mut next = [1u64; GROUPS as usize];
    let mut round = 0u64;
    while wal.stats().written_bytes < bytes {
        round += 1;
        for group in 0..GROUPS {
            let due = &mut next[usize::from(group)];
            let count = 1 + (round + u64::from(group)) % 3;
            wal.append(
                ShardId(group),
                entries(*due..*due + count, version(round, group), (round % 50) as usize + 8),
                ignore(),
            );
            *due += count;
            if (round + u64::from(group)).is_multiple_of(7) {
                wal.truncate_after(ShardId(group), Some(*due - 2), ignore());
                *due -= 1;
                wal.append(ShardId(group), entries(*due..*due + 1, version(round + 1, group), 20), ignore());
                *due += 1;
                wal.save_vote(ShardId(group), Bytes::from(format!("vote {round}")), ignore());
            }
        }
        wal.save_committed(ShardId((round % 5) as u16), Bytes::from(format!("committed {round}"))).unwrap();
        flush(&mut writer);
        states.push(snapshot(&wal));
    }
    wal.close();
    flush(&mut writer);
    (fs, states)
}

/// Opens and compares. Groups that are not damaged must be as in `expected`; the damaged ones are counted.
fn damaged_groups(fs: &MemFs, expected: &Expected, what: &str) -> usize {
    let (wal, _writer) = Wal::open(fs.clone(), Path::new(DIR), options())
        .unwrap_or_else(|e| panic!("{what}: opening fails: {e}"));
    let mut damaged = 0;
    for (id, (state, entries)) in expected {
        let found = wal.state(*id);
        if found.damage.is_some() {
            damaged += 1;
            assert!(wal.read(*id, 0..u64::MAX, usize::MAX).is_err(), "{what}: a damaged group gives data");
            continue;
        }
        assert_eq!(found, *state, "{what}: group {id}");
        assert_eq!(all(&wal, *id), *entries, "{what}: group {id}");
    }
    damaged
}

/// A log that grows by a batch a step, and keeps few segments: what every byte of a long log meant when it was new can
/// be tested without replaying all of it each time.
struct Growing {
    fs: MemFs,
    wal: Wal<MemFs>,
    writer: LogWriter<MemFs>,
    round: u64,
}

impl Growing {
    fn new(segment_bytes: u64) -> Self {
        let fs = MemFs::new(1);
        let (wal, writer) = open_with(&fs, WalOptions { segment_bytes, ..options() });
        let mut growing = Self { fs, wal, writer, round: 0 };
        for id in (0..GROUPS).map(ShardId) {
            growing.wal.append(id, entries(1..2, 1, 10), ignore());
        }
        flush(&mut growing.writer);
        growing
    }

    fn newest(&self) -> (PathBuf, usize) {
        let path = paths(&self.fs).pop().unwrap();
        let bytes = self.fs.read(&path, 1 << 20).unwrap();
        let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
        (path, end)
    }

    /// Writes a batch of small records of several groups.
    fn step(&mut self) {
        self.round += 1;
        let round = self.round;
        for group in 0..3 {
            let id = ShardId(((round + group) % u64::from(GROUPS)) as u16);
            let state = self.wal.state(id);
            let due = state.last.or(state.purged.map(|(index, _)| index)).unwrap() + 1;
            self.wal.append(
                id,
                entries(due..due + 1 + round % 2, round, (round * 7 % 60) as usize),
                ignore(),
            );
            match (round + group) % 6 {
                0 => self.wal.truncate_after(id, Some(due - 1), ignore()),
                1 => self.wal.save_vote(id, Bytes::from(format!("vote {round}")), ignore()),
                2 => self.wal.save_committed(id, Bytes::from(format!("committed {round}"))).unwrap(),
                _ => {}
            }
            if due > 6 {
                self.wal.purge(id, due - 6, Bytes::from(format!("purged {round}")), ignore());
            }
        }
        flush(&mut self.writer);
    }
}

#[test]
fn a_tail_that_never_arrived_is_cut_at_every_byte() {
    // Every byte of 256 KiB of log in small records, each at the time when it was the newest.
    let mut log = Growing::new(8 << 10);
    let (mut cuts, mut seed) = (0, 0);
    while cuts < 256 << 10 {
        let before = snapshot(&log.wal);
        let (old_path, old_end) = log.newest();
        let old = log.fs.fork(0);
        log.step();
        let after = snapshot(&log.wal);
        let (path, end) = log.newest();
        let is_new = path != old_path;
        let bytes = log.fs.read(&path, 1 << 20).unwrap();
        // The batch may have led to the deletion of segments, which would not have happened before its sync.
        let base = log.fs.fork(0);
        for gone in paths(&old).iter().filter(|path| !base.exists(path).unwrap()) {
            base.write_atomic(gone, &old.read(gone, 1 << 20).unwrap()).unwrap();
        }
        let first = format::SEGMENT_HEADER_BYTES;
        let checkpoint = format::BatchHeader::parse(&bytes[first..]).unwrap();
        // A last byte of zero can be cut without anyone noticing, so the payloads' end is not the bytes' end.
        let checkpoint_end = first + checkpoint.head_bytes() + checkpoint.payload_bytes as usize;
        for cut in if is_new { 0 } else { old_end }..end {
            cuts += 1;
            seed += 1;
            let fs = base.fork(seed);
            fs.zero_from(&path, cut as u64).unwrap();
            let (wal, _writer) = open(&fs);
            let what = format!("round {}, cut at {cut} of {end}", log.round);
            if cut < checkpoint_end && bytes[cut..checkpoint_end].iter().any(|b| *b != 0) {
                let damaged = (0..GROUPS).filter(|id| wal.state(ShardId(*id)).damage.is_some()).count();
                assert!(damaged > 0, "{what}: a segment bears its name only when its checkpoint is durable");
                continue;
            }
            assert!(snapshot(&wal) == before, "{what}: not the state before the batch");
        }
        let fs = log.fs.fork(seed);
        assert!(snapshot(&open(&fs).0) == after, "round {}: the whole batch", log.round);
    }
}

#[test]
fn a_file_that_was_cut_is_damage_at_every_byte() {
    let (fs, states) = build(20 << 10, 24 << 10);
    let path = &paths(&fs)[0];
    let len = fs.read(path, 1 << 20).unwrap().len();
    for cut in 0..len {
        let fs = fs.fork(cut as u64);
        fs.damage(path, |bytes| bytes.truncate(cut)).unwrap();
        let damaged = damaged_groups(&fs, states.last().unwrap(), &format!("cut at {cut}"));
        assert_eq!(damaged, usize::from(GROUPS), "a file never gets shorter by itself");
    }
}

#[test]
fn every_flipped_bit_is_healed_or_named() {
    // Every byte of 128 KiB of log, each once with two or three segments around it and a mark behind it.
    let mut log = Growing::new(8 << 10);
    let (mut flips, mut seed) = (0, 0);
    let (mut healed, mut partly, mut all_groups) = (0, 0, 0);
    let (mut done, _) = log.newest();
    while flips < 128 << 10 {
        while log.newest().0 == done {
            log.step();
        }
        log.wal.mark_if_idle();
        log.wal.mark_if_idle();
        flush(&mut log.writer);
        let expected = snapshot(&log.wal);
        // The segment that is complete now, if it was not deleted at once, and the newest every now and then.
        let (newest, _) = log.newest();
        let files = if seed % 5 == 0 { vec![done.clone(), newest.clone()] } else { vec![done.clone()] };
        for path in files.iter().filter(|path| log.fs.exists(path).unwrap()) {
            let bytes = log.fs.read(path, 1 << 20).unwrap();
            for at in 0..bytes.len() {
                flips += 1;
                let fs = log.fs.fork(seed);
                fs.flip_bit(path, at as u64, (at % 8) as u8).unwrap();
                match damaged_groups(
                    &fs,
                    &expected,
                    &format!("round {}, {}, byte {at}", log.round, path.display()),
                ) {
                    0 => healed += 1,
                    n if n < usize::from(GROUPS) => partly += 1,
                    _ => all_groups += 1,
                }
            }
        }
        seed += 1;
        done = newest;
    }
    // Old segments are healed by the next one's checkpoint; what is lost are single entries, each its group's.
    assert!(healed > 0 && partly > 0 && all_groups > 0, "{healed} {partly} {all_groups}");
    assert!(partly > all_groups, "{healed} {partly} {all_groups}");
}

#[test]
fn zeroed_and_misplaced_sectors_are_healed_or_named() {
    let (fs, states) = build(60 << 10, 32 << 10);
    let expected = states.last().unwrap();
    for path in paths(&fs) {
        let bytes = fs.read(&path, 1 << 20).unwrap();
        let end = bytes.iter().rposition(|b| *b != 0).unwrap();
        // The last sectors hold the mark; without it a tail is a torn one.
        for sector in 0..(end / 512).saturating_sub(1) {
            for source in [None, Some((sector + 7) % (end / 512))] {
                let fs = fs.fork(1);
                fs.damage(&path, |bytes| match source {
                    None => bytes[sector * 512..][..512].fill(0),
                    Some(from) => bytes.copy_within(from * 512..from * 512 + 512, sector * 512),
                })
                .unwrap();
                damaged_groups(&fs, expected, &format!("{} sector {sector} {source:?}", path.display()));
            }
        }
    }
}

#[test]
fn missing_segments_are_noticed_unless_nobody_needs_them() {
    let (fs, states) = build(100 << 10, 16 << 10);
    let files = paths(&fs);
    assert!(files.len() > 5);
    for path in &files {
        let fs = fs.fork(1);
        fs.delete(path).unwrap();
        let damaged = damaged_groups(&fs, states.last().unwrap(), &format!("without {}", path.display()));
        assert_eq!(damaged, usize::from(GROUPS), "every group has entries in every segment");
    }
    // Purged by all groups but not yet deleted: nobody misses it.
    let (wal, mut writer) = open(&fs);
    let first = fs.fork(2);
    for id in (0..GROUPS).map(ShardId) {
        let last = wal.state(id).last.unwrap();
        wal.purge(id, last - 3, Bytes::new(), ignore());
    }
    let expected = snapshot(&wal);
    flush(&mut writer);
    assert!(paths(&fs).len() < 4 && !first.list(Path::new(DIR)).unwrap().is_empty());
    drop((wal, writer));
    assert_eq!(damaged_groups(&fs, &expected, "after deletion"), 0);
}

#[test]
fn damage_stays_until_the_group_is_removed_and_then_the_group_works() {
    let (fs, states) = build(10 << 10, 64 << 10);
    let path = &paths(&fs)[0];
    let bytes = fs.read(path, 1 << 20).unwrap();
    let victim = &states.last().unwrap()[&ShardId(2)].1[5];
    let victim = [&victim.head[..], &victim.body[..]].concat();
    let at = bytes.windows(victim.len()).position(|window| window == victim).unwrap();
    fs.flip_bit(path, at as u64, 3).unwrap();
    for segment in ["wal-00000001.log at offset", "found damaged before"] {
        let (wal, mut writer) = open(&fs);
        let damage = wal.state(ShardId(2)).damage.unwrap();
        assert!(damage.to_string().contains(segment), "{damage}");
        let (tx, rx) = mpsc::channel();
        wal.append(ShardId(2), vec![entry(1, 1, 1)], Box::new(move |result| tx.send(result).unwrap()));
        assert!(matches!(rx.recv().unwrap(), Err(WalError::GroupDamaged { .. })));
        // The others go on, through new segments and the deletion of the damaged one.
        for id in [0, 1, 3, 4].map(ShardId) {
            let last = wal.state(id).last.unwrap();
            wal.append(id, entries(last + 1..last + 40, 1, 500), ignore());
            flush(&mut writer);
            wal.purge(id, last + 38, Bytes::new(), ignore());
            flush(&mut writer);
        }
    }
    let (wal, mut writer) = open(&fs);
    assert!(wal.state(ShardId(2)).damage.is_some());
    wal.remove_group(ShardId(2), ignore());
    wal.append(ShardId(2), entries(100..103, 9, 10), ignore());
    flush(&mut writer);
    drop((wal, writer));
    let (wal, _writer) = open(&fs);
    assert_eq!(wal.state(ShardId(2)).damage, None);
    assert_eq!(all(&wal, ShardId(2)), entries(100..103, 9, 10));
    assert!(paths(&fs)[0] != *path, "the damaged segment could go");
}

#[test]
fn entries_that_go_bad_while_open_are_named_not_given() {
    let fs = MemFs::new(1);
    let (wal, mut writer) =
        open_with(&fs, WalOptions { cache_bytes: 0, segment_bytes: 1 << 20, ..options() });
    wal.append(ShardId(1), entries(1..20, 1, 100), ignore());
    wal.append(ShardId(2), entries(1..20, 2, 100), ignore());
    flush(&mut writer);
    assert_eq!(all(&wal, ShardId(1)), entries(1..20, 1, 100));
    let path = &paths(&fs)[0];
    let body = entry(7, 1, 100).body;
    let at = fs.read(path, 1 << 20).unwrap().windows(100).position(|window| window == &body[..]).unwrap();
    fs.flip_bit(path, at as u64 + 50, 0).unwrap();
    assert!(matches!(wal.read(ShardId(1), 1..20, usize::MAX), Err(WalError::GroupDamaged { .. })));
    assert!(wal.state(ShardId(1)).damage.is_some());
    assert!(matches!(wal.check(ShardId(1)), Err(WalError::GroupDamaged { .. })));
    assert_eq!(all(&wal, ShardId(2)), entries(1..20, 2, 100));
}

#[test]
fn bytes_of_a_client_never_pass_for_a_batch() {
    // A body that is a whole batch of another log, in front of a torn tail.
    let forged = {
        let mut builder = format::BatchBuilder::new(12345);
        builder.begin(1, 0, 0);
        builder.push(format::Kind::Vote, ShardId(1), 0, &[], b"forged");
        builder.finish(1_000_000, 999_999, 0).to_vec()
    };
    let fs = MemFs::new(1);
    let (wal, mut writer) = open_with(&fs, WalOptions { segment_bytes: 64 << 10, ..options() });
    wal.append(ShardId(1), entries(1..3, 1, 10), ignore());
    flush(&mut writer);
    let body = forged.repeat(20);
    let hostile =
        (3..11).map(|index| WalEntry { index, head: Bytes::new(), body: body.clone().into() }).collect();
    wal.append(ShardId(1), hostile, ignore());
    flush(&mut writer);
    let path = &paths(&fs)[0];
    // The batch's first sector never arrived.
    let bytes = fs.read(path, 1 << 20).unwrap();
    let at = bytes.windows(4).rposition(|window| window == format::BATCH_MAGIC && window != &forged[..4]);
    assert!(at.is_none(), "all magic is alike");
    let start = bytes.windows(body.len()).position(|window| window == &body[..]).unwrap() - 8 * 24 - 48;
    fs.damage(path, |bytes| bytes[start..start + 100].fill(0)).unwrap();
    drop((wal, writer));
    let (wal, _writer) = open(&fs);
    assert_eq!(wal.state(ShardId(1)).damage, None);
    assert_eq!(all(&wal, ShardId(1)), entries(1..3, 1, 10));
}

#[test]
fn a_check_changes_nothing_and_names_the_file_of_every_damage() {
    let (fs, states) = build(60 << 10, 16 << 10);
    let expected = states.last().expect("a state");
    let intact = check(&fs, Path::new(DIR)).expect("a readable log");
    assert_eq!(intact.damage, []);
    assert_eq!(intact.torn, None);
    let files = paths(&fs);
    assert_eq!(intact.files, files.len() as u64);
    let states = expected.iter().map(|(id, (state, _))| (*id, state.clone()));
    assert_eq!(intact.groups, states.collect());
    let (mut tried, mut named, mut unneeded) = (0, 0, 0);
    for (number, path) in files.iter().enumerate() {
        let bytes = fs.read(path, 1 << 20).expect("readable");
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("not empty") as u64 + 1;
        for at in (number as u64 % 7..end).step_by(7) {
            let fs = fs.fork(at);
            fs.flip_bit(path, at, (at % 8) as u8).expect("a byte");
            let operations = fs.op_count();
            let found = check(&fs, Path::new(DIR)).expect("a readable log");
            assert_eq!(fs.op_count(), operations, "a check writes nothing");
            let what = format!("byte {at} of {}", path.display());
            tried += 1;
            if found.damage.iter().any(|damage| damage.path == *path) {
                named += 1;
                // What opening minds is a part of what the check minds, and of that what somebody needs.
                let is_needed =
                    |damage: &Damage| !found.unneeded.contains(&(damage.path.clone(), damage.offset));
                let lost = damaged_groups(&fs, expected, &what);
                assert!(lost == 0 || found.damage.iter().any(is_needed), "{what}: {:?}", found.damage);
                unneeded += usize::from(!found.unneeded.is_empty());
            } else {
                assert_eq!(found.damage, [], "{what}");
                assert_eq!(damaged_groups(&fs, expected, &what), 0, "{what}");
            }
        }
    }
    // Padding has no checksum, and the last batch may pass for one that was never acknowledged.
    assert!(named * 100 > tried * 90, "{named} of {tried} were named");
    assert!(unneeded > 0 && unneeded < named, "{unneeded} of {named} that nobody needs");

    for path in &files[1..] {
        let fs = fs.fork(1);
        fs.delete(path).expect("gone");
        assert_ne!(check(&fs, Path::new(DIR)).expect("a readable log").damage, [], "{}", path.display());
    }
}

#[test]
fn a_check_tells_a_torn_tail_from_damage_and_leaves_it() {
    let (fs, _) = build(4 << 10, 64 << 10);
    let newest = paths(&fs).pop().expect("a segment");
    let end =
        fs.read(&newest, 1 << 20).expect("readable").iter().rposition(|byte| *byte != 0).expect("bytes");
    let from = (end as u64 + 1).next_multiple_of(8);
    fs.damage(&newest, |bytes| bytes[from as usize + 3] = 9).expect("a byte");
    let found = check(&fs, Path::new(DIR)).expect("a readable log");
    assert_eq!(found.damage, []);
    let torn = found.torn.expect("a torn tail");
    assert_eq!((&torn.path, torn.offset, torn.bytes), (&newest, from, 4));
    assert_eq!(check(&fs, Path::new(DIR)).expect("a readable log").torn, Some(torn), "it is still there");
    drop(open(&fs));
    assert_eq!(check(&fs, Path::new(DIR)).expect("a readable log").torn, None, "opening cut it");
}
