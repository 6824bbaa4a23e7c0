//! The simulator as CI runs it: three hundred seeds, every seed that ever failed, and proof that a seed is one run.

#![allow(clippy::print_stdout, reason = "a failed seed must print how to replay it")]

use std::ops::RangeInclusive;
use std::process::Command;

use chaos::sim::corpus;
use chaos::sim::run::{Report, SeedReport, SimOptions, run, run_list, run_seed};

fn print(seed: &SeedReport) {
    if !seed.passed() {
        println!("seed {} failed: {}", seed.seed, seed.replay());
    }
}

fn assert_passed(report: &Report) {
    println!("{}", report.to_text());
    assert!(report.passed(), "{}", report.to_text());
}

/// The seeds of every CI run.
const EVERY_RUN: RangeInclusive<u64> = 1..=300;

#[test]
fn three_hundred_seeds_break_nothing() {
    let report = run(EVERY_RUN, &SimOptions::default(), &print);
    assert_passed(&report);
    assert_eq!(report.seeds, 300);
    assert!(report.acked_batches >= 300_000, "each seed acknowledges a thousand batches");
    assert!(report.simulated.as_secs() >= 18_000, "each seed runs for a minute");
    // A kind that never strikes is a hole in the harness, not a healthy product.
    assert!(report.strikes.values().all(|count| *count > 0), "{:?}", report.strikes);
    assert!(report.strikes["crashes"] >= 300, "each seed has a crash");
}

#[test]
fn seeds_that_once_failed_break_nothing_now() {
    let others: Vec<u64> = corpus::seeds().into_iter().filter(|seed| !EVERY_RUN.contains(seed)).collect();
    assert_passed(&run_list(&others, &SimOptions::default(), &print));
}

/// Names the seed for [`one_seed`] in a process of its own.
const SEED: &str = "PHAROS_SIM_SEED";

/// Runs one seed and prints its hash, when a test asks for it in a process of its own.
#[test]
fn one_seed() {
    if let Some(seed) = std::env::var_os(SEED) {
        let seed = seed.to_string_lossy().parse().expect("the parent names a number");
        let report = run_seed(seed, &SimOptions::default());
        println!("trace {:016x} polls {} counts {:?}", report.trace_hash, report.polls, report.counts);
    }
}

fn hash_in_fresh_process(seed: u64) -> String {
    let output = Command::new(std::env::current_exe().expect("a running test has a path"))
        .args(["--exact", "one_seed", "--nocapture"])
        .env(SEED, seed.to_string())
        .output()
        .expect("the test binary starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.find("trace ").map(|at| line[at..].to_owned()));
    line.unwrap_or_else(|| panic!("no hash in {text}"))
}

#[test]
fn fresh_processes_agree_on_a_seed() {
    for seed in [3, 8] {
        assert_eq!(hash_in_fresh_process(seed), hash_in_fresh_process(seed), "seed {seed}");
    }
    assert_ne!(hash_in_fresh_process(3), hash_in_fresh_process(8));
}
