//! The network: requests and answers that arrive late, twice, out of order or never.
//!
//! ```text
//! call --(cut? lost?)--> delay --(dead? cut?)--> handler --(cut? lost?)--> delay --> caller
//!            \ sometimes a second copy with a delay of its own; its answer is thrown away
//! ```
//!
//! A message's fate is drawn when it is sent; cuts and deaths count when it would arrive. What the caller learns is no
//! more than TCP would tell: nothing until its timeout, a refusal (the peer's process is down: certainly not carried
//! out), or a reset (the peer died while it worked: unknown).
//!
//! Delays differ per message, so messages overtake each other; nobody may count on order between two calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cluster::env::{MAX_FRAME_BYTES, Net, NetError, PeerAddr, PeerHandler};
use openraft_rt::{AsyncRuntime, Instant, Oneshot, OneshotSender};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::sim::executor::{self, Place};
use crate::sim::random::{Stream, chance, stream};
use crate::sim::runtime::{SimInstant, SimRuntime};

/// How bad the network is. Drawn per seed.
#[derive(Clone, Debug, PartialEq)]
pub struct NetPlan {
    /// Shortest delay of a message, one way.
    pub delay_min: Duration,
    /// Longest delay of a message, one way.
    pub delay_max: Duration,
    /// Probability that a request or an answer is lost.
    pub loss: f64,
    /// Probability that a request arrives twice.
    pub duplicate: f64,
    /// Probability that a dead peer refuses or resets at once; else the caller runs into its timeout.
    pub reset: f64,
}

impl NetPlan {
    /// A local network on a good day: what the world is like after healing.
    pub fn calm() -> Self {
        Self {
            delay_min: Duration::from_micros(100),
            delay_max: Duration::from_millis(1),
            loss: 0.0,
            duplicate: 0.0,
            reset: 1.0,
        }
    }

    fn delay(&self, rng: &mut SmallRng) -> Duration {
        let (min, max) = (self.delay_min.as_micros() as u64, self.delay_max.as_micros() as u64);
        if max <= min {
            return self.delay_min;
        }
        // Two draws, the smaller one: most messages are quick, some are as slow as allowed.
        let span = max - min;
        let drawn = rng.random_range(0..=span).min(rng.random_range(0..=span));
        Duration::from_micros(min + drawn)
    }
}

/// What became of messages; goes into the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetStats {
    /// Requests sent.
    pub sent: u64,
    /// Requests and answers lost or cut off.
    pub lost: u64,
    /// Requests delivered twice.
    pub duplicated: u64,
}

struct State {
    rng: SmallRng,
    plan: NetPlan,
    hosts: BTreeMap<String, Place>,
    handlers: BTreeMap<Place, Arc<dyn PeerHandler>>,
    /// Directed links that carry nothing.
    cut: BTreeSet<(Place, Place)>,
    stats: NetStats,
}

/// The whole network of a simulation.
#[derive(Clone)]
pub struct SimNetwork(Arc<Mutex<State>>);

impl fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimNetwork").finish_non_exhaustive()
    }
}

impl SimNetwork {
    /// A network without hosts.
    pub fn new(seed: u64, plan: NetPlan) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: stream(seed, Stream::Net, 0),
            plan,
            hosts: BTreeMap::new(),
            handlers: BTreeMap::new(),
            cut: BTreeSet::new(),
            stats: NetStats::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a place an address and returns its view of the network.
    pub fn attach(&self, place: Place, addr: &str) -> SimNet {
        self.lock().hosts.insert(addr.to_owned(), place);
        SimNet { network: self.clone(), place }
    }

    /// Forgets who answers at a place: its process is gone.
    pub fn detach_handler(&self, place: Place) {
        let handler = self.lock().handlers.remove(&place);
        // Dropped outside of the lock: a handler may own a node.
        drop(handler);
    }

    /// Changes how bad the network is.
    pub fn set_plan(&self, plan: NetPlan) {
        self.lock().plan = plan;
    }

    /// Cuts the link from one place to another, in this direction only.
    pub fn cut(&self, from: Place, to: Place) {
        self.lock().cut.insert((from, to));
        executor::note(0xc0 ^ u64::from(from.0) << 32 ^ u64::from(to.0) << 8);
    }

    /// Mends a link.
    pub fn mend(&self, from: Place, to: Place) {
        self.lock().cut.remove(&(from, to));
        executor::note(0xc1 ^ u64::from(from.0) << 32 ^ u64::from(to.0) << 8);
    }

    /// Mends all links.
    pub fn mend_all(&self) {
        self.lock().cut.clear();
    }

    /// Whether messages from one place reach another.
    pub fn is_cut(&self, from: Place, to: Place) -> bool {
        self.lock().cut.contains(&(from, to))
    }

    /// What became of messages so far.
    pub fn stats(&self) -> NetStats {
        self.lock().stats
    }

    fn lost(&self) {
        self.lock().stats.lost += 1;
    }
}

/// The network as one place sees it.
#[derive(Clone, Debug)]
pub struct SimNet {
    network: SimNetwork,
    place: Place,
}

type Answer = Result<Bytes, NetError>;
type Channel = <SimRuntime as AsyncRuntime>::Oneshot;
type Sender = <Channel as Oneshot>::Sender<Answer>;

/// The drawn fate of one call.
struct Fate {
    to: Option<Place>,
    out: Duration,
    back: Duration,
    request_lost: bool,
    answer_lost: bool,
    again: Option<Duration>,
    reset: bool,
}

impl SimNet {
    fn draw(&self, addr: &str) -> Fate {
        let mut state = self.network.lock();
        let state = &mut *state;
        let (plan, rng) = (&state.plan, &mut state.rng);
        let to = state.hosts.get(addr).copied();
        let local = to == Some(self.place);
        let fate = Fate {
            to,
            out: plan.delay(rng),
            back: plan.delay(rng),
            request_lost: chance(rng, plan.loss) && !local,
            answer_lost: chance(rng, plan.loss) && !local,
            again: (chance(rng, plan.duplicate) && !local).then(|| plan.delay(rng) * 3),
            reset: chance(rng, plan.reset),
        };
        state.stats.sent += 1;
        state.stats.lost += u64::from(fate.request_lost);
        state.stats.duplicated += u64::from(fate.again.is_some());
        fate
    }

    /// Brings one copy of a request to its handler, and the answer back if anyone waits for it.
    fn deliver(
        &self,
        to: Place,
        addr: &str,
        request: Bytes,
        fate: (Duration, Duration, bool),
        reply: Option<Sender>,
    ) {
        let (out, back, answer_lost) = fate;
        let (network, from, addr) = (self.network.clone(), self.place, addr.to_owned());
        SimRuntime::spawn_on(to, async move {
            SimRuntime::sleep(out).await;
            if network.is_cut(from, to) {
                network.lost();
                keep_silent(reply).await;
                return;
            }
            let handler = network.lock().handlers.get(&to).cloned();
            let answer = match handler {
                Some(handler) => handler.handle(request).await,
                None => {
                    if let Some(reply) = reply {
                        let reason = "nothing listens there yet".to_owned();
                        let _ = reply.send(Err(NetError::Unreachable { addr, reason }));
                    }
                    return;
                }
            };
            let Some(reply) = reply else { return };
            SimRuntime::sleep(back).await;
            if answer_lost || network.is_cut(to, from) {
                network.lost();
                keep_silent(Some(reply)).await;
            } else if answer.len() > MAX_FRAME_BYTES {
                let reason = format!("its answer of {} bytes is longer than a frame may be", answer.len());
                let _ = reply.send(Err(NetError::Broken { addr, reason }));
            } else {
                let _ = reply.send(Ok(answer));
            }
        });
    }
}

/// Keeps the caller waiting: a closed channel would tell it what the network does not.
async fn keep_silent(reply: Option<Sender>) {
    if let Some(reply) = reply {
        SimRuntime::sleep(LONGEST_SILENCE).await;
        drop(reply);
    }
}

/// No caller waits longer than this for an answer; bounds how long a lost call is remembered.
const LONGEST_SILENCE: Duration = Duration::from_secs(120);

impl Net for SimNet {
    async fn call(&self, to: &PeerAddr, request: Bytes, timeout: Duration) -> Result<Bytes, NetError> {
        let addr = to.addr.as_str();
        if request.len() > MAX_FRAME_BYTES {
            return Err(NetError::TooLarge { bytes: request.len() });
        }
        let deadline = SimInstant::now() + timeout;
        let timed_out = || NetError::Timeout { addr: addr.to_owned(), timeout };
        let fate = self.draw(addr);
        let Some(peer) = fate.to else {
            let reason = "no such host".to_owned();
            return Err(NetError::Unreachable { addr: addr.to_owned(), reason });
        };
        executor::note(u64::from(self.place.0) << 56 ^ u64::from(peer.0) << 48 ^ fate.out.as_micros() as u64);
        if !executor::is_alive(peer) && fate.reset && !self.network.is_cut(self.place, peer) {
            SimRuntime::sleep(fate.out.min(timeout)).await;
            let reason = "connection refused".to_owned();
            return Err(NetError::Unreachable { addr: addr.to_owned(), reason });
        }
        if let Some(later) = fate.again {
            self.deliver(peer, addr, request.clone(), (fate.out + later, Duration::ZERO, true), None);
        }
        if fate.request_lost || !executor::is_alive(peer) {
            SimRuntime::sleep_until(deadline).await;
            return Err(timed_out());
        }
        let (reply, answer) = Channel::channel();
        self.deliver(peer, addr, request, (fate.out, fate.back, fate.answer_lost), Some(reply));
        match SimRuntime::timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_died)) if fate.reset => {
                let reason = "connection reset".to_owned();
                Err(NetError::Broken { addr: addr.to_owned(), reason })
            }
            Ok(Err(_died)) => {
                SimRuntime::sleep_until(deadline).await;
                Err(timed_out())
            }
            Err(_elapsed) => Err(timed_out()),
        }
    }

    fn serve(&self, handler: Arc<dyn PeerHandler>) {
        let before = self.network.lock().handlers.insert(self.place, handler);
        drop(before);
    }
}

#[cfg(test)]
mod tests;
