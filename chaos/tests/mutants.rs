//! The simulator finds bugs: each of [`Mutant::ALL`] put in, some seed fails. One that is not found is a hole in the
//! harness, and fails here.

#![cfg(debug_assertions)]
#![allow(clippy::print_stdout, reason = "what found a bug is read by people")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use chaos::sim::oracle::Violation;
use chaos::sim::run::{SimOptions, run_seed};
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
