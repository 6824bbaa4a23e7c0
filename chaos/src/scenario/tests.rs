//! Scenarios that can be run, and the words for those that can not.

use super::*;

#[test]
fn the_built_in_scenarios_can_be_run() {
    for text in BUILT_IN {
        let scenario = Scenario::parse(text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
        assert!(!scenario.summary.is_empty(), "{}", scenario.name);
        assert!(!scenario.plan(1).expect("a plan").is_empty(), "{}", scenario.name);
    }
    let all = Scenario::all();
    let mut names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len(), "each name once");
    for name in QUICK {
        assert!(Scenario::built_in(name).is_some(), "{name}");
    }
}

#[test]
fn the_seed_decides_the_plan() {
    let mayhem = Scenario::built_in("mayhem").expect("built in");
    assert_eq!(mayhem.plan(7).expect("a plan"), mayhem.plan(7).expect("a plan"));
    assert_ne!(mayhem.plan(7).expect("a plan"), mayhem.plan(8).expect("a plan"));
}

#[test]
fn steps_repeat_in_order() {
    let text = r#"
        name = "x"
        duration = "20s"
        [[step]]
        at = "5s"
        every = "4s"
        times = 3
        kill = { target = "node:2" }
        [[step]]
        at = "6s"
        pause = { for = "1.5s", target = "majority" }
    "#;
    let plan = Scenario::parse(text).expect("a scenario").plan(1).expect("a plan");
    let seen: Vec<(u128, &str)> = plan.iter().map(|p| (p.at.0.as_millis(), p.fault.name())).collect();
    assert_eq!(seen, [(5000, "kill"), (6000, "pause"), (9000, "kill"), (13_000, "kill")]);
}

#[test]
fn a_resized_scenario_says_so_in_its_text() {
    let mut scenario = Scenario::built_in("leader-kill").expect("built in");
    scenario.resize(Some(5), None).expect("five nodes will do");
    let again = Scenario::parse(&scenario.text).expect("its own text");
    assert_eq!((scenario.nodes, again.nodes, again.shards), (5, 5, scenario.shards));
    assert_eq!(again.plan(3).expect("a plan"), scenario.plan(3).expect("a plan"));
    scenario.resize(Some(10), None).expect_err("ten are too many");
}

#[test]
fn what_is_wrong_is_named() {
    let check = |text: &str, word: &str| {
        let text = format!("name = \"x\"\nduration = \"20s\"\n{text}");
        let error = Scenario::parse(&text).expect_err(&text).to_string();
        assert!(error.contains(word), "{error} for {text}");
    };
    check("typo = 1", "typo");
    check("nodes = 10", "nodes = 10");
    check("[load]\nspeed = 1", "speed");
    check("[load]\nmetrics = 2000000", "load.metrics");
    check("[[step]]\nat = \"1s\"", "0 faults");
    check("[[step]]\nat = \"1s\"\nkill = {}\npause = { for = \"1s\" }", "2 faults");
    check("[[step]]\nat = \"soon\"\nkill = {}", "soon");
    check("[[step]]\nat = \"1s\"\nkill = { target = \"king\" }", "king");
    check("[[step]]\nat = \"1s\"\nkill = { target = \"node:4\" }", "node:4");
    check("[[step]]\nat = \"1s\"\nkill = { target = \"each\" }", "each");
    check("[[step]]\nat = \"1s\"\nevery = \"1s\"\nkill = {}", "times");
    check("[[step]]\nat = \"1s\"\nevery = \"1s\"\ntimes = 40\nkill = {}", "behind the end");
    check("[[step]]\nat = \"1s\"\noverload = { connections = 0, for = \"1s\" }", "connections");
    check("nodes = 1\n[[step]]\nat = \"1s\"\nwipe = { restart_after = \"1s\" }", "two nodes");
    check("[[step]]\nat = \"1s\"\nfill = { room = \"1\", for = \"1s\" }", "no size");
    check("[[step]]\nat = \"1s\"\nclock = { jump = \"1h\", for = \"1s\" }", "no jump");
    check("[goal]\nthroughput_min = 2.0", "throughput_min");
}
