//! Every fate a message can have, one by one.

use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use protocol::ids::NodeId;

use super::*;

const A: Place = Place(1);
const B: Place = Place(2);

/// Answers with the number of requests it has seen, after `work`.
struct Counter {
    seen: AtomicU32,
    work: Duration,
}

struct Counting(Arc<Counter>);

impl PeerHandler for Counting {
    fn handle(&self, _request: Bytes) -> BoxFuture<'static, Bytes> {
        let counter = self.0.clone();
        Box::pin(async move {
            let seen = counter.seen.fetch_add(1, Ordering::Relaxed) + 1;
            SimRuntime::sleep(counter.work).await;
            Bytes::from(seen.to_string())
        })
    }
}

struct World {
    network: SimNetwork,
    a: SimNet,
    counter: Arc<Counter>,
}

fn world(plan: NetPlan, work: Duration) -> World {
    let network = SimNetwork::new(1, plan);
    let (a, b) = (network.attach(A, "a:1"), network.attach(B, "b:1"));
    let counter = Arc::new(Counter { seen: AtomicU32::new(0), work });
    b.serve(Arc::new(Counting(counter.clone())));
    World { network, a, counter }
}

impl World {
    async fn call(&self) -> Result<Bytes, NetError> {
        let a = self.a.clone();
        let call = async move {
            let to = PeerAddr { id: NodeId(2), addr: "b:1".to_owned() };
            a.call(&to, Bytes::from_static(b"hi"), Duration::from_secs(1)).await
        };
        SimRuntime::spawn_on(A, call).await.expect("the caller lives")
    }
}

fn check(plan: NetPlan, test: impl AsyncFnOnce(World)) {
    SimRuntime::with_seed(5).block_on(async { test(world(plan, Duration::from_millis(20))).await });
}

#[test]
fn an_answer_comes_back_after_the_delays() {
    check(NetPlan::calm(), async |world| {
        assert_eq!(world.call().await, Ok(Bytes::from_static(b"1")));
        let took = executor::elapsed();
        assert!(took >= Duration::from_micros(20_200) && took <= Duration::from_millis(22), "{took:?}");
    });
}

#[test]
fn a_lost_request_is_a_timeout() {
    check(NetPlan { loss: 1.0, ..NetPlan::calm() }, async |world| {
        assert!(matches!(world.call().await, Err(NetError::Timeout { .. })));
        assert_eq!(world.counter.seen.load(Ordering::Relaxed), 0);
        assert_eq!(executor::elapsed(), Duration::from_secs(1));
    });
}

#[test]
fn a_request_can_arrive_twice() {
    check(NetPlan { duplicate: 1.0, ..NetPlan::calm() }, async |world| {
        assert_eq!(world.call().await, Ok(Bytes::from_static(b"1")));
        SimRuntime::sleep(Duration::from_secs(1)).await;
        assert_eq!(world.counter.seen.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn cuts_are_one_way() {
    check(NetPlan::calm(), async |world| {
        world.network.cut(B, A);
        assert!(matches!(world.call().await, Err(NetError::Timeout { .. })));
        assert_eq!(
            world.counter.seen.load(Ordering::Relaxed),
            1,
            "the request went through, the answer did not"
        );
        world.network.mend_all();
        world.network.cut(A, B);
        assert!(matches!(world.call().await, Err(NetError::Timeout { .. })));
        assert_eq!(world.counter.seen.load(Ordering::Relaxed), 1);
        world.network.mend(A, B);
        assert_eq!(world.call().await, Ok(Bytes::from_static(b"2")));
    });
}

#[test]
fn a_dead_peer_refuses_or_is_silent() {
    check(NetPlan::calm(), async |world| {
        executor::kill(B);
        let refused = world.call().await.expect_err("nobody is there");
        assert!(refused.is_certainly_unsent(), "{refused}");
        world.network.set_plan(NetPlan { reset: 0.0, ..NetPlan::calm() });
        assert!(matches!(world.call().await, Err(NetError::Timeout { .. })));
    });
}

#[test]
fn a_peer_that_dies_at_work_leaves_the_outcome_open() {
    for (reset, broken) in [(1.0, true), (0.0, false)] {
        check(NetPlan { reset, ..NetPlan::calm() }, async |world| {
            SimRuntime::spawn(async {
                SimRuntime::sleep(Duration::from_millis(10)).await;
                executor::kill(B);
            });
            let error = world.call().await.expect_err("the peer died");
            assert_eq!(matches!(error, NetError::Broken { .. }), broken, "{error}");
            assert!(!error.is_certainly_unsent());
            assert_eq!(world.counter.seen.load(Ordering::Relaxed), 1);
        });
    }
}

#[test]
fn a_frame_has_a_longest_length() {
    check(NetPlan::calm(), async |world| {
        let to = PeerAddr { id: NodeId(2), addr: "b:1".to_owned() };
        let request = Bytes::from(vec![0; MAX_FRAME_BYTES + 1]);
        let refused = world.a.call(&to, request, Duration::from_secs(1)).await;
        assert_eq!(refused, Err(NetError::TooLarge { bytes: MAX_FRAME_BYTES + 1 }));
    });
}

#[test]
fn messages_overtake_each_other() {
    let plan = NetPlan { delay_max: Duration::from_millis(60), ..NetPlan::calm() };
    check(plan, async |world| {
        let world = Arc::new(world);
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let world = world.clone();
                SimRuntime::spawn(async move { world.call().await })
            })
            .collect();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.expect("the call ends").expect("the peer answers"));
        }
        assert!(answers.windows(2).any(|w| w[0].len() > w[1].len() || w[0] > w[1]), "all came in order");
    });
}
