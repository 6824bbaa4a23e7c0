//! Crashes at every operation of the file system, in every way: what was acknowledged is there, what was not is there
//! as a whole or not at all.

use std::sync::Mutex;

use super::model::{Model, Op};
use super::*;

fn crash_options() -> WalOptions {
    WalOptions { segment_bytes: 1536, cache_bytes: 0, batch_bytes: 400, rewrite_above_segments: 2, salt: 99 }
}

/// Changes that roll, truncate, purge, remove and delete segments. `seed` shifts them around.
fn script(seed: u64) -> Vec<Op> {
    let mut ops = Vec::new();
    for round in 0..9u64 {
        let group = ((round + seed) % 3) as u16;
        ops.push(Op::Append { group, count: 2 + (round + seed) % 3, len: 40 + (seed * 13 % 60) as usize });
        if (round + seed) % 4 == 1 {
            ops.push(Op::Vote { group });
        }
        ops.push(Op::Append { group: 3, count: 1, len: 150 });
        if (round + seed) % 3 == 2 {
            ops.push(Op::Truncate { group, count: 1 });
            ops.push(Op::Append { group, count: 2, len: 30 });
        }
        ops.push(Op::Committed { group });
        if round % 2 == 0 {
            ops.push(Op::Flush);
        }
        if round % 3 == 2 {
            for group in 0..4 {
                ops.push(Op::Purge { group, count: 1 });
            }
            ops.push(Op::Flush);
        }
        if round == 5 {
            ops.push(Op::Remove { group: 1 });
        }
        ops.push(Op::Mark);
    }
    ops.push(Op::Flush);
    ops
}

/// Runs the script until the power fails. Gives the model after each submitted change, and how many of these were
/// acknowledged.
fn run(fs: &MemFs, ops: &[Op], start: Model, base: u64) -> (Vec<Model>, usize) {
    let (states, acked, _) = run_with_stats(fs, ops, start, base);
    (states, acked)
}

fn run_with_stats(fs: &MemFs, ops: &[Op], start: Model, base: u64) -> (Vec<Model>, usize, WalStats) {
    let mut states = vec![start];
    let acked = Arc::new(Mutex::new(0));
    let Ok((wal, mut writer)) = Wal::open(fs.clone(), Path::new(DIR), crash_options()) else {
        return (states, 0, WalStats::default());
    };
    for (op, version) in ops.iter().zip(base..) {
        if matches!(op, Op::Flush) {
            while matches!(writer.write_pending(), Ok(1..)) {}
            if wal.is_poisoned() {
                break;
            }
            continue;
        }
        let mut model = states.last().unwrap().clone();
        let number = states.len();
        let acked = acked.clone();
        let done: Done = Box::new(move |result| {
            if result.is_ok() {
                let mut acked = acked.lock().unwrap();
                assert!(*acked < number, "callbacks out of order");
                *acked = number;
            }
        });
        if !matches!(op, Op::Mark) && model.apply(op, version, &wal, done) {
            states.push(model);
        } else if matches!(op, Op::Mark) {
            wal.mark_if_idle();
        } else {
            *states.last_mut().unwrap() = model;
        }
    }
    let acked = *acked.lock().unwrap();
    (states, acked, wal.stats())
}

/// Whether a log holds one of the states from the last acknowledged one on. Gives it.
fn judge(fs: &MemFs, states: &[Model], acked: usize, what: &str) -> Model {
    let (wal, writer) = Wal::open(fs.clone(), Path::new(DIR), crash_options())
        .unwrap_or_else(|e| panic!("{what}: opening fails: {e}"));
    let mut reasons = Vec::new();
    for state in &states[acked..] {
        match state.differs(&wal, false) {
            None => {
                drop((wal, writer));
                return state.clone();
            }
            Some(reason) => reasons.push(reason),
        }
    }
    panic!("{what}: {} changes were acknowledged of {}: {}", acked, states.len() - 1, reasons[0]);
}

#[test]
fn a_power_cut_at_every_operation_loses_nothing_acknowledged() {
    let (mut judged, mut rewritten, mut deleted) = (0, 0, 0);
    for seed in 0..6 {
        let ops = script(seed);
        let fs = MemFs::new(seed);
        let (states, acked, stats) = run_with_stats(&fs, &ops, Model::default(), 1);
        assert_eq!(acked, states.len() - 1, "without a fault all is acknowledged");
        rewritten += stats.rewritten_bytes;
        let names: Vec<_> = fs.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect();
        deleted += usize::from(!names.contains(&recover::segment_name(1)));
        let total = fs.op_count();
        assert!(total > 40);
        for cut in 1..=total {
            let fs = MemFs::new(seed * 1000 + cut);
            fs.power_off_after(cut);
            let (states, acked) = run(&fs, &ops, Model::default(), 1);
            for mode in CrashMode::POWER {
                for variant in
                    0..if matches!(mode, CrashMode::DropUnsynced | CrashMode::KeepAll) { 1 } else { 4 }
                {
                    let left = fs.fork(cut * 10 + variant).crash(mode);
                    judge(&left, &states, acked, &format!("seed {seed}, cut at {cut} of {total}, {mode:?}"));
                    judged += 1;
                }
            }
        }
    }
    assert!(judged > 5000, "{judged}");
    assert!(
        rewritten > 0 && deleted > 0,
        "the script must reach rewriting and deletion: {rewritten}, {deleted}"
    );
}

#[test]
fn crashes_during_recovery_and_after_it_lose_nothing_either() {
    for seed in 0..40u64 {
        let mut fs = MemFs::new(seed);
        let mut model = Model::default();
        for life in 0..8 {
            fs.power_off_after(1 + (seed * 7 + life * 11) % 60);
            let (states, acked) = run(&fs, &script(seed + life), model, 1 + life * 1000);
            let modes = [CrashMode::POWER.as_slice(), &[CrashMode::Process]].concat();
            fs = fs.crash(modes[((seed + life) % modes.len() as u64) as usize]);
            // Opening once without a fault, and once with the power failing in the middle of it.
            let what = format!("seed {seed}, life {life}");
            let interrupted = fs.fork(seed);
            interrupted.power_off_after(1 + (seed + life) % 4);
            let _ = Wal::open(interrupted.clone(), Path::new(DIR), crash_options());
            let interrupted = interrupted.crash(CrashMode::POWER[(life % 5) as usize]);
            judge(&interrupted, &states, acked, &format!("{what}, interrupted"));
            model = judge(&fs, &states, acked, &what);
            // Noted positions may have been lost with the tail.
            let (wal, _writer) = open_with(&fs, crash_options());
            for (id, group) in &mut model.0 {
                group.committed = wal.state(*id).committed;
            }
        }
    }
}

#[test]
fn what_a_killed_process_left_to_the_kernel_is_durable_once_it_was_read() {
    for mode in CrashMode::POWER {
        let fs = MemFs::new(1);
        let (wal, mut writer) = open(&fs);
        wal.append(ShardId(1), entries(1..2, 1, 10), ignore());
        flush(&mut writer);
        wal.append(ShardId(1), entries(2..3, 1, 10), ignore());
        // The batch is written, the sync never happens.
        fs.power_off_after(2);
        writer.write_pending().unwrap_err();
        let fs = fs.crash(CrashMode::Process);
        let (wal, writer) = open(&fs);
        assert_eq!(all(&wal, ShardId(1)), entries(1..3, 1, 10));
        // From here on a leader may count these entries.
        drop((wal, writer));
        let fs = fs.crash(mode);
        assert_eq!(all(&open(&fs).0, ShardId(1)), entries(1..3, 1, 10), "{mode:?}");
    }
}

#[test]
fn a_killed_process_at_every_operation_and_then_a_power_cut() {
    // What the kernel alone knew at the restart, names too, carries what is acknowledged after it.
    let ops = script(2);
    for cut in 1..120 {
        let fs = MemFs::new(cut);
        fs.power_off_after(cut);
        let _ = run(&fs, &ops, Model::default(), 1);
        let fs = fs.crash(CrashMode::Process);
        let (wal, mut writer) = open_with(&fs, crash_options());
        let due = wal.state(ShardId(3)).last.map_or(1, |last| last + 1);
        let due = wal.state(ShardId(3)).purged.map_or(due, |(purged, _)| due.max(purged + 1));
        wal.append(ShardId(3), entries(due..due + 2, 9, 20), ignore());
        flush(&mut writer);
        let expected = all(&wal, ShardId(3));
        drop((wal, writer));
        let fs = fs.crash(CrashMode::DropUnsynced);
        let (wal, _writer) = open_with(&fs, crash_options());
        assert_eq!(wal.state(ShardId(3)).damage, None, "killed at {cut}");
        assert_eq!(all(&wal, ShardId(3)), expected, "killed at {cut}");
    }
}

#[test]
fn a_torn_tail_is_wiped() {
    let mut torn = 0;
    for seed in 0..30 {
        let fs = MemFs::new(seed);
        let (wal, mut writer) = open(&fs);
        wal.append(ShardId(1), entries(1..3, 1, 10), ignore());
        flush(&mut writer);
        let path = Path::new(DIR).join(recover::segment_name(1));
        let whole = fs.read(&path, 1 << 20).unwrap();
        wal.append(ShardId(1), entries(3..8, 1, 400), ignore());
        fs.power_off_after(2);
        writer.write_pending().unwrap_err();
        let fs = fs.crash(CrashMode::Torn);
        let left = fs.read(&path, 1 << 20).unwrap();
        let (wal, _writer) = open(&fs);
        if wal.state(ShardId(1)).last == Some(2) {
            torn += usize::from(left != whole);
            assert_eq!(fs.crash(CrashMode::DropUnsynced).read(&path, 1 << 20).unwrap(), whole, "seed {seed}");
        }
    }
    assert!(torn > 10, "{torn}");
}

#[test]
fn every_failing_operation_is_refused_or_survived() {
    // Errors instead of power cuts: the process goes on, but must not acknowledge.
    let ops = script(1);
    for op in [FaultOp::Write, FaultOp::Sync] {
        for skip in 0..40 {
            let fs = MemFs::new(skip);
            for round in 0..skip {
                // Arms a fault on no file that exists, so that only the count moves.
                fs.fail_next(op, &format!("none-{round}"));
            }
            let (states, acked) = run_with_fault(&fs, &ops, op, skip as usize);
            for mode in CrashMode::POWER {
                judge(&fs.fork(skip).crash(mode), &states, acked, &format!("{op:?} {skip} {mode:?}"));
            }
        }
    }
}

/// Runs the script and lets the first `op` after `skip` changes fail.
fn run_with_fault(fs: &MemFs, ops: &[Op], op: FaultOp, skip: usize) -> (Vec<Model>, usize) {
    let at = skip.min(ops.len());
    let mut states = vec![Model::default()];
    let acked = Arc::new(Mutex::new(0));
    let Ok((wal, mut writer)) = Wal::open(fs.clone(), Path::new(DIR), crash_options()) else {
        return (states, 0);
    };
    for (number, change) in ops.iter().enumerate() {
        if number == at {
            fs.fail_next(op, "wal-");
        }
        let mut model = states.last().unwrap().clone();
        let acked_here = acked.clone();
        let index = states.len();
        let done: Done = Box::new(move |result| {
            if result.is_ok() {
                *acked_here.lock().unwrap() = index;
            }
        });
        if matches!(change, Op::Mark | Op::Committed { .. }) || wal.is_poisoned() {
            continue;
        }
        if model.apply(change, number as u64, &wal, done) {
            states.push(model);
        }
        let _ = writer.write_pending();
    }
    let acked = *acked.lock().unwrap();
    (states, acked)
}

#[test]
fn pages_that_a_failed_sync_left_clean_are_written_again() {
    for seed in 0..16 {
        let fs = MemFs::new(seed);
        let (wal, mut writer) = open(&fs);
        wal.append(A, entries(1..3, 1, 40), ignore());
        flush(&mut writer);
        wal.append(A, entries(3..6, 1, 40), ignore());
        fs.fail_next(FaultOp::Sync, "wal");
        writer.write_pending().unwrap_err();
        drop((wal, writer));

        // The process starts again on the same kernel: it reads what no disk may have, and goes on from there.
        let fs = fs.crash(CrashMode::Process);
        let (wal, mut writer) = open(&fs);
        let last = wal.state(A).last.unwrap();
        wal.append(A, entries(last + 1..last + 3, 2, 40), ignore());
        flush(&mut writer);
        let expected = all(&wal, A);
        drop((wal, writer));

        let fs = fs.crash(CrashMode::DropUnsynced);
        let (wal, _writer) = open(&fs);
        assert_eq!(wal.state(A).damage, None, "seed {seed}");
        assert_eq!(all(&wal, A), expected, "seed {seed}");
    }
}
