//! openraft's conformance suite, and what it does not pin down: places, kills, clocks, repeatability.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use openraft_rt::testing::Suite;
use openraft_rt::{Mpsc, MpscReceiver, MpscSender};
use rand::RngExt;

use super::*;

const NODE: Place = Place(1);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn passes_the_conformance_suite() {
    Suite::<SimRuntime>::test_all();
}

#[test]
fn time_is_virtual() {
    SimRuntime::with_seed(1).block_on(async {
        SimRuntime::sleep(Duration::from_secs(86_400)).await;
        assert_eq!(executor::elapsed(), Duration::from_secs(86_400));
    });
}

/// Order in which eight tasks that are ready at once run.
fn order(seed: u64) -> (Vec<u32>, u64) {
    let mut runtime = SimRuntime::with_seed(seed);
    let order = runtime.block_on(async {
        let (sender, mut receiver) = <SimRuntime as AsyncRuntime>::Mpsc::channel::<u32>(16);
        for n in 0..8 {
            let sender = sender.clone();
            SimRuntime::spawn(async move {
                SimRuntime::sleep(ms(1)).await;
                let _ = sender.send(n).await;
            });
        }
        drop(sender);
        let mut order = Vec::new();
        while let Some(n) = receiver.recv().await {
            order.push(n);
        }
        order
    });
    (order, runtime.trace_hash())
}

#[test]
fn the_seed_decides_the_order() {
    assert_eq!(order(3), order(3));
    let orders: Vec<_> = (0..8).map(|seed| order(seed).0).collect();
    assert!(orders.iter().any(|o| *o != orders[0]), "eight seeds gave one order");
    assert_ne!(order(1).1, order(2).1);
}

#[test]
fn tasks_inherit_their_place_and_die_with_it() {
    SimRuntime::with_seed(1).block_on(async {
        let ticks = Arc::new(AtomicU32::new(0));
        let counter = ticks.clone();
        let parent = SimRuntime::spawn_on(NODE, async move {
            let child = SimRuntime::spawn(async move {
                assert_eq!(executor::current_place(), NODE);
                loop {
                    SimRuntime::sleep(ms(10)).await;
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
            child.await
        });
        SimRuntime::sleep(ms(55)).await;
        executor::kill(NODE);
        assert_eq!(parent.await.map(|_: Result<(), _>| ()), Err(SimJoinError::Killed));
        let at_death = ticks.load(Ordering::Relaxed);
        assert_eq!(at_death, 5);
        SimRuntime::sleep(ms(100)).await;
        assert_eq!(ticks.load(Ordering::Relaxed), at_death);

        // A dead place starts nothing; a revived one does.
        assert_eq!(SimRuntime::spawn_on(NODE, async { 1 }).await, Err(SimJoinError::Killed));
        executor::revive(NODE);
        assert_eq!(SimRuntime::spawn_on(NODE, async { 1 }).await, Ok(1));
    });
}

#[test]
fn a_task_can_kill_its_own_place() {
    SimRuntime::with_seed(1).block_on(async {
        let handle = SimRuntime::spawn_on(NODE, async {
            executor::kill(NODE);
            SimRuntime::sleep(ms(1)).await;
        });
        assert_eq!(handle.await, Err(SimJoinError::Killed));
    });
}

#[test]
fn destructors_of_a_killed_place_start_nothing() {
    struct SpawnsOnDrop(Arc<AtomicU32>);
    impl Drop for SpawnsOnDrop {
        fn drop(&mut self) {
            let ran = self.0.clone();
            SimRuntime::spawn(async move { ran.fetch_add(1, Ordering::Relaxed) });
        }
    }
    SimRuntime::with_seed(1).block_on(async {
        let ran = Arc::new(AtomicU32::new(0));
        let bomb = SpawnsOnDrop(ran.clone());
        SimRuntime::spawn_on(NODE, async move {
            let _bomb = bomb;
            std::future::pending::<()>().await;
        });
        SimRuntime::sleep(ms(1)).await;
        executor::kill(NODE);
        SimRuntime::sleep(ms(1)).await;
        assert_eq!(ran.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_panic_is_kept_with_its_place() {
    SimRuntime::with_seed(1).block_on(async {
        let handle = SimRuntime::spawn_on(NODE, async { panic!("boom") });
        let error = handle.await.map(|_: ()| ()).expect_err("the task panics");
        assert!(SimRuntime::is_panic(&error));
        assert_eq!(executor::take_panics(), vec![(NODE, "boom".to_owned())]);
    });
}

#[test]
fn clocks_run_at_their_own_rate() {
    SimRuntime::with_seed(1).block_on(async {
        executor::set_rate(NODE, executor::RATE_ONE * 11 / 10);
        let handle = SimRuntime::spawn_on(NODE, async {
            let start = SimInstant::now();
            SimRuntime::sleep(ms(1100)).await;
            start.elapsed()
        });
        assert_eq!(handle.await, Ok(ms(1100)));
        assert_eq!(executor::elapsed(), ms(1000));
        assert_eq!(executor::local_elapsed(NODE), ms(1100));
    });
}

#[test]
fn random_numbers_belong_to_places() {
    let draw = |seed, place| {
        SimRuntime::with_seed(seed).block_on(async {
            SimRuntime::spawn_on(place, async { SimRuntime::thread_rng().random::<u64>() }).await
        })
    };
    assert_eq!(draw(1, NODE), draw(1, NODE));
    assert_ne!(draw(1, NODE), draw(1, Place(2)));
    assert_ne!(draw(1, NODE), draw(2, NODE));
}

#[test]
#[should_panic(expected = "stands still")]
fn a_world_that_stands_still_is_reported() {
    SimRuntime::with_seed(1).block_on(std::future::pending::<()>());
}
