//! The simulator finds bugs: each of [`Mutant::ALL`] put in, some seed fails. One that is not found is a hole in the
//! harness, and fails here.

#![cfg(debug_assertions)]
#![allow(clippy::print_stdout, reason = "what found a bug is read by people")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chaos::sim::oracle::Violation;
use chaos::sim::run::{SeedReport, SimOptions, run_seed};
use chaos::sim::schedule::Schedule;
use chaos::sim::shrink::shrink;
use storage::mutant::{self, Mutant};

/// Seeds that are tried at most.
const BUDGET: u64 = 300;

/// Which seed found a bug lately, where that is none of the first: it is tried before the others.
const LATELY: [(Mutant, u64); 5] = [
    (Mutant::PurgedTooFar, 13),
    (Mutant::VoteForgotten, 4),
    (Mutant::TruncateNotLogged, 4),
    (Mutant::WindowNotInSnapshot, 6),
    (Mutant::OperationsRepeated, 7),
];

fn caught(bug: Mutant) -> Option<(u64, Violation)> {
    let lately = LATELY.into_iter().filter(|(of, _)| *of == bug).map(|(_, seed)| seed);
    lately.chain(1..=BUDGET).find_map(|seed| {
        let report = mutant::with(bug, || run_seed(seed, &SimOptions::default()));
        report.violations.into_iter().next().map(|violation| (seed, violation))
    })
}

#[test]
fn every_mutant_is_caught() {
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(bug) = Mutant::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match caught(*bug) {
                        Some((seed, violation)) => println!("{bug:?}: seed {seed}: {violation}"),
                        None => missed.lock().expect("nobody panics here").push(*bug),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("nobody panics here");
    assert!(missed.is_empty(), "{BUDGET} seeds do not find {missed:?}");
}

#[test]
fn a_seed_that_finds_a_mutant_needs_little_of_what_it_has() {
    let run = |seed: u64, schedule: &Schedule| -> SeedReport {
        let options = SimOptions { schedule: schedule.clone(), ..SimOptions::default() };
        mutant::with(Mutant::BatchNotSynced, || run_seed(seed, &options))
    };
    let whole = |seed: &u64| run(*seed, &Schedule::default());
    let seed = (1..=BUDGET).find(|seed| whole(seed).struck.len() > 5 && !whole(seed).passed());
    let seed = seed.expect("a seed finds it after some faults");
    let shrunk =
        shrink(&|schedule| run(seed, schedule), Duration::from_secs(120), &mut |step| println!("{step}"));
    let shrunk = shrunk.expect("it fails");
    println!("{}", shrunk.to_text());
    assert!(shrunk.report.struck.len() <= 3, "a batch is lost by one crash: {}", shrunk.to_text());
    let again = run(seed, &shrunk.report.schedule);
    assert_eq!((again.trace_hash, again.violations), (shrunk.report.trace_hash, shrunk.report.violations));
}
