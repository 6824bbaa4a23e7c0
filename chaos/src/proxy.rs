//! A TCP proxy in user space for every directed link between nodes: cuts, delays and throttles without root.
//!
//! ```text
//!           proxy (a, b)                       Calls of a to b and b's answers share a connection that a dials.
//!   a ────► bytes of link a→b ────► b          A link is a direction of bytes: a→b is what flows to the right here
//!     ◄──── bytes of link b→a ◄────            and to the left in proxy (b, a).
//! ```
//!
//! A link that is cut silently holds its bytes and lets them go on when it heals, as TCP does by sending again; no byte of a
//! connection is ever lost or changed, or the frames behind it would be garbage that no network makes. Nor is a connection
//! made over it, in either direction: its first packets would be held too. A link that is cut by reset ends its
//! connections and refuses new ones.
//!
//! Rules of several faults add up: any cut cuts, delays are added, the smallest rate counts.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

/// How often a thread that waits looks whether it still has to.
const TICK: Duration = Duration::from_millis(5);
/// Bytes of one read.
const CHUNK_BYTES: usize = 32 << 10;
/// Chunks of one direction under way in the proxy.
const CHUNKS: usize = 64;

/// A directed link: from one node to another, by their indexes.
pub type LinkId = (usize, usize);

/// What a fault does to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Bytes are held until the rule ends.
    Silent,
    /// Connections are ended and refused.
    Reset,
    /// Bytes arrive later, by at most so much more as the second duration says, and at most so many in a second.
    Slow {
        /// Added to every chunk.
        delay: Duration,
        /// Added besides, anything up to this.
        jitter: Duration,
        /// Limit, where there is one.
        bytes_per_second: Option<u64>,
    },
}

#[derive(Default)]
struct Link {
    rules: Mutex<BTreeMap<u64, Rule>>,
}

/// All rules of a link in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Effect {
    is_silent: bool,
    is_reset: bool,
    delay: Duration,
    jitter: Duration,
    bytes_per_second: Option<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    fn effect(&self) -> Effect {
        let mut effect = Effect::default();
        for rule in lock(&self.rules).values() {
            match *rule {
                Rule::Silent => effect.is_silent = true,
                Rule::Reset => effect.is_reset = true,
                Rule::Slow { delay, jitter, bytes_per_second } => {
                    effect.delay += delay;
                    effect.jitter += jitter;
                    effect.bytes_per_second = match (effect.bytes_per_second, bytes_per_second) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                }
            }
        }
        effect
    }
}

/// A dialled connection through a proxy.
struct Pair {
    links: [Arc<Link>; 2],
    /// The side that was accepted, the side that was dialled.
    streams: [TcpStream; 2],
}

#[derive(Default)]
struct Shared {
    is_stopping: AtomicBool,
    next_id: AtomicU64,
    pairs: Mutex<BTreeMap<u64, Pair>>,
}

/// The proxies of a cluster: one between each two nodes and direction of dialling.
pub struct Links {
    shared: Arc<Shared>,
    links: BTreeMap<LinkId, Arc<Link>>,
    addresses: BTreeMap<LinkId, SocketAddr>,
    threads: Vec<JoinHandle<()>>,
}

impl Links {
    /// Starts proxies between nodes whose peers are listened for at `targets`.
    pub fn start(targets: &[SocketAddr]) -> anyhow::Result<Self> {
        let all = || (0..targets.len()).flat_map(|a| (0..targets.len()).map(move |b| (a, b)));
        let ids: Vec<LinkId> = all().filter(|(a, b)| a != b).collect();
        let links: BTreeMap<LinkId, Arc<Link>> =
            ids.iter().map(|&id| (id, Arc::new(Link::default()))).collect();
        let shared = Arc::new(Shared::default());
        let mut proxies =
            Self { shared, links: links.clone(), addresses: BTreeMap::new(), threads: Vec::new() };
        for (a, b) in ids {
            let listener = TcpListener::bind(("127.0.0.1", 0)).context("a proxy can not listen")?;
            listener.set_nonblocking(true)?;
            proxies.addresses.insert((a, b), listener.local_addr()?);
            let there_and_back = [links[&(a, b)].clone(), links[&(b, a)].clone()];
            let (shared, target) = (proxies.shared.clone(), targets[b]);
            let thread = std::thread::Builder::new().name(format!("proxy {a}-{b}"));
            proxies.threads.push(thread.spawn(move || accept(&shared, &listener, &there_and_back, target))?);
        }
        Ok(proxies)
    }

    /// Where node `from` has to dial to reach `to`.
    pub fn address(&self, from: usize, to: usize) -> Option<SocketAddr> {
        self.addresses.get(&(from, to)).copied()
    }

    /// Puts a rule on links. The number takes it away again.
    pub fn add(&self, links: &[LinkId], rule: Rule) -> u64 {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        for link in links.iter().filter_map(|id| self.links.get(id)) {
            lock(&link.rules).insert(id, rule);
        }
        if rule == Rule::Reset {
            for pair in lock(&self.shared.pairs).values() {
                if pair.links.iter().any(|link| lock(&link.rules).contains_key(&id)) {
                    end(&pair.streams);
                }
            }
        }
        id
    }

    /// Takes a rule away, from all links that have it.
    pub fn remove(&self, rule: u64) {
        for link in self.links.values() {
            lock(&link.rules).remove(&rule);
        }
    }

    /// Takes all rules away.
    pub fn heal(&self) {
        for link in self.links.values() {
            lock(&link.rules).clear();
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        lock(&self.shared.pairs).values().for_each(|pair| end(&pair.streams));
        for thread in self.threads.drain(..) {
            // A proxy that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

/// Ends both sides of a connection; one that is gone already needs nothing.
fn end(streams: &[TcpStream; 2]) {
    for stream in streams {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener, links: &[Arc<Link>; 2], target: SocketAddr) {
    while !shared.is_stopping.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(TICK);
            continue;
        };
        let (shared, links) = (shared.clone(), links.clone());
        // Without a thread the connection is dropped, which its dialler takes for a refusal.
        let _ = std::thread::Builder::new()
            .name("proxied connection".to_owned())
            .spawn(move || connect(&shared, stream, &links, target));
    }
}

fn connect(shared: &Arc<Shared>, accepted: TcpStream, links: &[Arc<Link>; 2], target: SocketAddr) {
    loop {
        let effects = [links[0].effect(), links[1].effect()];
        if shared.is_stopping.load(Ordering::Relaxed) || effects.iter().any(|e| e.is_reset) {
            return;
        }
        if !effects.iter().any(|e| e.is_silent) {
            break;
        }
        // Who dialled may have given up meanwhile: nothing can be read from it before, so this is its end.
        if matches!(peek(&accepted), Ok(0)) {
            return;
        }
        std::thread::sleep(TICK * 4);
    }
    let Ok(dialled) = TcpStream::connect_timeout(&target, Duration::from_secs(3)) else { return };
    if forward(shared, [accepted, dialled], links).is_err() {
        // A socket that can not be prepared is dropped, as if the link had been reset.
    }
}

/// What a read would give, without waiting for it or taking it.
fn peek(stream: &TcpStream) -> std::io::Result<usize> {
    stream.set_nonblocking(true)?;
    let seen = stream.peek(&mut [0; 1]);
    stream.set_nonblocking(false)?;
    seen
}

/// Carries bytes both ways until both have ended.
fn forward(shared: &Arc<Shared>, streams: [TcpStream; 2], links: &[Arc<Link>; 2]) -> std::io::Result<()> {
    for stream in &streams {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
    }
    let clones =
        || -> std::io::Result<[TcpStream; 2]> { Ok([streams[0].try_clone()?, streams[1].try_clone()?]) };
    let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
    lock(&shared.pairs).insert(id, Pair { links: links.clone(), streams: clones()? });
    let mut threads = Vec::new();
    for (link, [from, to]) in links.iter().zip([clones()?, {
        let [a, b] = clones()?;
        [b, a]
    }]) {
        let (sender, receiver) = sync_channel(CHUNKS);
        let (shared, link, reading) = (shared.clone(), link.clone(), link.clone());
        threads.push(std::thread::spawn(move || read(from, &reading, &sender)));
        threads.push(std::thread::spawn(move || write(&shared, to, &link, &receiver)));
    }
    for thread in threads {
        // A direction that panicked is over as well.
        let _ = thread.join();
    }
    lock(&shared.pairs).remove(&id);
    Ok(())
}

fn read(mut from: TcpStream, link: &Link, sender: &SyncSender<(Instant, Vec<u8>)>) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = match from.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        chunk.truncate(read);
        let effect = link.effect();
        // Any spread will do.
        state = crate::sim::random::mix(state);
        let jitter = effect.jitter.mul_f64((state >> 11) as f64 / (1u64 << 53) as f64);
        if sender.send((Instant::now() + effect.delay + jitter, chunk)).is_err() {
            return;
        }
    }
}

fn write(shared: &Shared, mut to: TcpStream, link: &Link, receiver: &Receiver<(Instant, Vec<u8>)>) {
    let is_stopping = || shared.is_stopping.load(Ordering::Relaxed);
    let wait_until_open = || {
        while link.effect().is_silent && !is_stopping() {
            std::thread::sleep(TICK);
        }
    };
    loop {
        let (due, chunk) = match receiver.recv_timeout(Duration::from_millis(500)) {
            Ok(next) => next,
            Err(RecvTimeoutError::Timeout) if is_stopping() => return,
            Err(RecvTimeoutError::Timeout) => continue,
            // The end of a stream is held as its bytes are.
            Err(RecvTimeoutError::Disconnected) => {
                wait_until_open();
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        wait_until_open();
        for part in chunk.chunks(4 << 10) {
            if let Some(rate) = link.effect().bytes_per_second {
                std::thread::sleep(Duration::from_secs_f64(part.len() as f64 / rate.max(1) as f64));
            }
            if is_stopping() || to.write_all(part).is_err() {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that echoes, and links of two nodes: 0 dials 1, which it is.
    fn echo() -> (Links, SocketAddr) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        if stream.write_all(&buffer[..read]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        let links = Links::start(&[addr, addr]).expect("links");
        let dial = links.address(0, 1).expect("an address");
        (links, dial)
    }

    fn ask(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text)?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    fn client(addr: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(addr).expect("the proxy accepts");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
        stream
    }

    #[test]
    fn a_healthy_link_carries_everything() {
        let (_links, addr) = echo();
        let mut stream = client(addr);
        for number in 0..50_u32 {
            let text: Vec<u8> = number.to_le_bytes().repeat(200);
            assert_eq!(ask(&mut stream, &text).expect("an answer"), text);
        }
    }

    #[test]
    fn a_silent_cut_holds_bytes_and_loses_none() {
        for (link, there) in [((0, 1), true), ((1, 0), false)] {
            let (links, addr) = echo();
            let mut stream = client(addr);
            ask(&mut stream, b"before").expect("an answer");
            let rule = links.add(&[link], Rule::Silent);
            stream.write_all(b"during").expect("the proxy takes it");
            stream.set_read_timeout(Some(Duration::from_millis(300))).expect("an option");
            let mut answer = [0; 6];
            assert!(
                stream.read_exact(&mut answer).is_err(),
                "nothing comes back; cut on the way there: {there}"
            );
            links.remove(rule);
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
            stream.read_exact(&mut answer).expect("what was held arrives");
            assert_eq!(&answer, b"during");
        }
    }

    #[test]
    fn no_connection_is_made_over_a_silent_cut() {
        let (links, addr) = echo();
        links.add(&[(1, 0)], Rule::Silent);
        let mut stream = client(addr);
        stream.write_all(b"x").expect("the proxy takes it");
        stream.set_read_timeout(Some(Duration::from_millis(300))).expect("an option");
        assert!(stream.read_exact(&mut [0; 1]).is_err());
        links.heal();
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
        stream.read_exact(&mut [0; 1]).expect("it goes through in the end");
    }

    #[test]
    fn a_reset_ends_connections_and_refuses_new_ones() {
        let (links, addr) = echo();
        let mut stream = client(addr);
        ask(&mut stream, b"before").expect("an answer");
        let rule = links.add(&[(0, 1)], Rule::Reset);
        assert!(ask(&mut stream, b"after").is_err());
        assert!(ask(&mut client(addr), b"new").is_err());
        links.remove(rule);
        ask(&mut client(addr), b"healed").expect("an answer");
    }

    #[test]
    fn rules_add_up() {
        let link = Link::default();
        let slow = |ms, rate| Rule::Slow {
            delay: Duration::from_millis(ms),
            jitter: Duration::ZERO,
            bytes_per_second: rate,
        };
        let rules = [slow(3, None), slow(4, Some(9)), slow(0, Some(7)), Rule::Silent];
        *lock(&link.rules) = rules.into_iter().enumerate().map(|(id, rule)| (id as u64, rule)).collect();
        let effect = link.effect();
        assert_eq!((effect.delay.as_millis(), effect.bytes_per_second), (7, Some(7)));
        assert!(effect.is_silent && !effect.is_reset);
    }
}
