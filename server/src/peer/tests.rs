//! Over real sockets on loopback. No assertion on a duration: a test that waits for what never comes fails by the
//! runner's own limit.

use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use protocol::ids::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::frame::{Frame, GREETING_BYTES, Kind, greeting};
use super::*;

const LONG: Duration = Duration::from_secs(60);

fn options() -> PeerOptions {
    PeerOptions {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: None,
        keep_alive: Duration::from_secs(1),
        dead_after: Duration::from_secs(3),
        max_in_flight_bytes: 64 << 20,
        dial_map: BTreeMap::new(),
    }
}

async fn net(options: PeerOptions) -> PeerNet {
    PeerNet::start(Handle::current(), options).await.unwrap()
}

fn at(addr: SocketAddr) -> PeerAddr {
    PeerAddr { id: NodeId(1), addr: addr.to_string() }
}

/// Answers with the request and its length; a request `wait` answers only when a permit is there.
struct Echo(Arc<Semaphore>);

impl PeerHandler for Echo {
    fn handle(&self, request: Bytes) -> BoxFuture<'static, Bytes> {
        let gate = Arc::clone(&self.0);
        async move {
            if request.starts_with(b"wait") {
                gate.acquire().await.unwrap().forget();
            }
            Bytes::from([&request.len().to_le_bytes()[..], &request].concat())
        }
        .boxed()
    }
}

async fn echo(options: PeerOptions) -> (PeerNet, Arc<Semaphore>) {
    let server = net(options).await;
    let gate = Arc::new(Semaphore::new(0));
    server.serve(Arc::new(Echo(Arc::clone(&gate))));
    (server, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_a_connection_and_each_gets_its_own_answer() {
    let (server, _) = echo(options()).await;
    let client = net(options()).await;
    let to = at(server.local_addr());
    let calls = (0..500_usize).map(|n| {
        let (client, to) = (client.clone(), to.clone());
        async move {
            let body = Bytes::from(vec![n as u8; n * 37]);
            let answer = client.call(&to, body.clone(), LONG).await.unwrap();
            assert_eq!(answer[8..], body[..]);
        }
    });
    join_all(calls).await;
    let large = Bytes::from(vec![7; MAX_FRAME_BYTES]);
    assert_eq!(client.call(&to, large.clone(), LONG).await.unwrap().len(), large.len() + 8);
    let stats = client.stats();
    assert!(stats.writes.load(std::sync::atomic::Ordering::Relaxed) < 501, "nothing was coalesced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_request_does_not_hold_up_the_next() {
    let (server, gate) = echo(options()).await;
    let client = net(options()).await;
    let to = at(server.local_addr());
    let slow = tokio::spawn({
        let (client, to) = (client.clone(), to.clone());
        async move { client.call(&to, Bytes::from_static(b"wait"), LONG).await }
    });
    client.call(&to, Bytes::from_static(b"quick"), LONG).await.unwrap();
    gate.add_permits(1);
    slow.await.unwrap().unwrap();
}

/// Works until it is dropped, and tells of the beginning and the end.
struct Endless(tokio::sync::mpsc::UnboundedSender<&'static str>);

struct TellsOfItsEnd(tokio::sync::mpsc::UnboundedSender<&'static str>);

impl Drop for TellsOfItsEnd {
    fn drop(&mut self) {
        let _ = self.0.send("ended");
    }
}

impl PeerHandler for Endless {
    fn handle(&self, request: Bytes) -> BoxFuture<'static, Bytes> {
        let tell = self.0.clone();
        async move {
            tell.send("begun").expect("the test listens");
            let _end = TellsOfItsEnd(tell);
            if request.starts_with(b"short") {
                return request;
            }
            std::future::pending().await
        }
        .boxed()
    }

    fn may_be_dropped(&self, request: &Bytes) -> bool {
        !request.starts_with(b"keep")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_more_ends_at_the_peer() {
    let (server, client) = (net(options()).await, net(options()).await);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    server.serve(Arc::new(Endless(tell)));
    let to = at(server.local_addr());
    let call = |body: &'static [u8]| {
        let (client, to) = (client.clone(), to.clone());
        tokio::spawn(async move { client.call(&to, Bytes::from_static(body), LONG).await })
    };
    // Dropped by its caller.
    let dropped = call(b"work");
    assert_eq!(told.recv().await, Some("begun"));
    dropped.abort();
    assert_eq!(told.recv().await, Some("ended"));
    // Out of time.
    let late = client.call(&to, Bytes::from_static(b"work"), Duration::from_millis(20)).await;
    assert!(matches!(late, Err(NetError::Timeout { .. })));
    assert_eq!((told.recv().await, told.recv().await), (Some("begun"), Some("ended")));
    // What was answered is not missed, and what may not be dropped goes on.
    assert_eq!(call(b"short").await.unwrap().unwrap(), Bytes::from_static(b"short"));
    assert_eq!((told.recv().await, told.recv().await), (Some("begun"), Some("ended")));
    let kept = call(b"keep");
    assert_eq!(told.recv().await, Some("begun"));
    kept.abort();
    let _ = kept.await;
    // The caller's whole node goes: what it had asked for ends.
    let orphan = call(b"work");
    assert_eq!(told.recv().await, Some("begun"));
    client.close();
    assert_eq!(told.recv().await, Some("ended"));
    assert!(orphan.await.unwrap().is_err());
    assert!(told.try_recv().is_err(), "what may not be dropped has not ended");
}

#[tokio::test]
async fn a_call_ends_at_its_timeout_and_its_late_answer_harms_nobody() {
    let (server, gate) = echo(options()).await;
    let client = net(options()).await;
    let to = at(server.local_addr());
    let error = client.call(&to, Bytes::from_static(b"wait"), Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(error, NetError::Timeout { .. }), "{error}");
    gate.add_permits(1);
    assert_eq!(client.call(&to, Bytes::from_static(b"next"), LONG).await.unwrap()[8..], b"next"[..]);
}

#[tokio::test]
async fn too_long_and_too_much_are_refused_unsent() {
    let (server, gate) = echo(options()).await;
    let client = net(PeerOptions { max_in_flight_bytes: 1000, ..options() }).await;
    let to = at(server.local_addr());
    let error = client.call(&to, Bytes::from(vec![0; MAX_FRAME_BYTES + 1]), LONG).await.unwrap_err();
    assert!(matches!(error, NetError::TooLarge { .. }), "{error}");

    let strict = net(PeerOptions { max_in_flight_bytes: 1000, ..options() }).await;
    strict.serve(Arc::new(Echo(Arc::clone(&gate))));
    let to = at(strict.local_addr());
    let caller = net(options()).await;
    let body = Bytes::from([b"wait".to_vec(), vec![0; 2000]].concat());
    let held = tokio::spawn({
        let (caller, to, body) = (caller.clone(), to.clone(), body.clone());
        async move { caller.call(&to, body, LONG).await }
    });
    // Frames keep their order on the connection, so once one is refused the first is in work, and not before.
    loop {
        match caller.call(&to, Bytes::from_static(b"more"), LONG).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => {
                assert!(error.is_certainly_unsent(), "{error}");
                break;
            }
        }
    }
    gate.add_permits(1);
    held.await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_before_serve_are_refused() {
    let server = net(options()).await;
    let client = net(options()).await;
    let error = client.call(&at(server.local_addr()), Bytes::from_static(b"x"), LONG).await.unwrap_err();
    assert!(error.is_certainly_unsent(), "{error}");
}

#[tokio::test]
async fn an_absent_peer_fails_at_once_and_is_found_when_it_comes() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let client = net(options()).await;
    let error = client.call(&at(addr), Bytes::from_static(b"x"), LONG).await.unwrap_err();
    assert!(error.is_certainly_unsent(), "{error}");
    let (_server, _) = echo(PeerOptions { listen: addr, ..options() }).await;
    while client.call(&at(addr), Bytes::from_static(b"x"), LONG).await.is_err() {
        tokio::task::yield_now().await;
    }
}

type FakePeer = (std::net::SocketAddr, tokio::task::JoinHandle<tokio::net::TcpStream>);

/// A peer that greets, says more, and then does what it is told.
async fn fake_peer_that_says(
    more: &'static [u8],
) -> (std::net::SocketAddr, tokio::task::JoinHandle<tokio::net::TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let accepted = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; GREETING_BYTES]).await.unwrap();
        stream.write_all(&[&greeting(1, 1), more].concat()).await.unwrap();
        stream
    });
    (addr, accepted)
}

async fn fake_peer() -> FakePeer {
    fake_peer_that_says(&[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_fell_silent_is_dropped() {
    let (addr, accepted) = fake_peer().await;
    let quick = PeerOptions {
        keep_alive: Duration::from_millis(10),
        // It limits the dial, too, which a busy machine needs time for.
        dead_after: Duration::from_secs(2),
        ..options()
    };
    let client = net(quick).await;
    // The call itself would wait a minute: it is the silence that ends it.
    let error = client.call(&at(addr), Bytes::from_static(b"x"), LONG).await.unwrap_err();
    assert!(matches!(error, NetError::Broken { .. }), "{error}");
    drop(accepted.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_call_that_opened_a_connection_hears_of_its_end_at_once() {
    let (addr, accepted) = fake_peer_that_says(&[0xff; 64]).await;
    let error = net(options()).await.call(&at(addr), Bytes::from_static(b"x"), LONG).await.unwrap_err();
    assert!(matches!(error, NetError::Broken { .. }), "{error}");
    drop(accepted.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_connection_did_not_take_is_not_queued_any_more() {
    let (addr, accepted) = fake_peer().await;
    let client = net(PeerOptions { max_in_flight_bytes: 1000, ..options() }).await;
    // More than the sockets take: the call hangs while it is written.
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call(&at(addr), Bytes::from(vec![0; MAX_FRAME_BYTES]), LONG).await }
    });
    let mut stream = accepted.await.unwrap();
    stream.write_all(&[0xff; 64]).await.unwrap();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, NetError::Broken { .. }), "{error}");
    let error = client.call(&at(addr), Bytes::from_static(b"x"), LONG).await.unwrap_err();
    assert!(!error.to_string().contains("queued"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_frame_ends_the_connection_and_its_calls() {
    let (addr, accepted) = fake_peer().await;
    let client = net(options()).await;
    let call = tokio::spawn(async move { client.call(&at(addr), Bytes::from_static(b"x"), LONG).await });
    let mut stream = accepted.await.unwrap();
    stream.read_exact(&mut [0; 17]).await.unwrap();
    let frame = Frame { kind: Kind::Response, id: 1, body: Bytes::from_static(b"answer") };
    let mut bytes = [&frame.head()[..], &frame.body].concat();
    *bytes.last_mut().unwrap() ^= 1;
    stream.write_all(&bytes).await.unwrap();
    let error = call.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[tokio::test]
async fn strangers_and_other_versions_are_turned_away() {
    let (server, _) = echo(options()).await;
    let mut stranger = tokio::net::TcpStream::connect(server.local_addr()).await.unwrap();
    stranger.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // Reset or end: either way nothing is said.
    let _ = stranger.read_to_end(&mut answer).await;
    assert!(answer.is_empty());

    let mut newer = tokio::net::TcpStream::connect(server.local_addr()).await.unwrap();
    newer.write_all(&greeting(3, 9)).await.unwrap();
    newer.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, greeting(0, 0));
}

#[tokio::test]
async fn the_dial_map_leads_elsewhere() {
    let (server, _) = echo(options()).await;
    let dial_map = BTreeMap::from([("7".to_owned(), server.local_addr().to_string())]);
    let client = net(PeerOptions { dial_map, ..options() }).await;
    let to = PeerAddr { id: NodeId(7), addr: "127.0.0.1:1".to_owned() };
    client.call(&to, Bytes::from_static(b"x"), LONG).await.unwrap();
}

#[tokio::test]
async fn close_fails_calls() {
    let (server, _) = echo(options()).await;
    let client = net(options()).await;
    let to = at(server.local_addr());
    client.call(&to, Bytes::from_static(b"x"), LONG).await.unwrap();
    client.close();
    while client.call(&to, Bytes::from_static(b"x"), LONG).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

/// An authority and certificates of it, in files.
struct Authority {
    dir: tempfile::TempDir,
    params: rcgen::CertificateParams,
    key: rcgen::KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, params, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn node(&self, host: &str) -> PeerTls {
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let cert =
            rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        std::fs::write(self.path("node.pem"), cert.pem()).unwrap();
        std::fs::write(self.path("node.key"), key.serialize_pem()).unwrap();
        PeerTls::load(&self.path("node.pem"), &self.path("node.key"), &self.path("ca.pem")).unwrap()
    }
}

#[tokio::test]
async fn tls_lets_in_whom_the_authority_knows() {
    let ours = Authority::new();
    let theirs = Authority::new();
    let with = |tls: Option<PeerTls>| PeerOptions { tls, ..options() };
    let (server, _) = echo(with(Some(ours.node("127.0.0.1")))).await;
    let to = at(server.local_addr());
    let call = |net: PeerNet| {
        let to = to.clone();
        async move { net.call(&to, Bytes::from(vec![3; 300_000]), LONG).await }
    };
    assert_eq!(call(net(with(Some(ours.node("other")))).await).await.unwrap().len(), 300_008);
    call(net(with(Some(theirs.node("127.0.0.1")))).await).await.unwrap_err();
    call(net(with(None)).await).await.unwrap_err();

    // A certificate for another host: the caller refuses.
    let (misnamed, _) = echo(with(Some(ours.node("elsewhere")))).await;
    let client = net(with(Some(ours.node("127.0.0.1")))).await;
    client.call(&at(misnamed.local_addr()), Bytes::from_static(b"x"), LONG).await.unwrap_err();
}

#[test]
fn tls_files_that_are_no_certificates_are_named() {
    let ours = Authority::new();
    let _ = ours.node("x");
    let error =
        PeerTls::load(&ours.path("absent.pem"), &ours.path("node.key"), &ours.path("ca.pem")).unwrap_err();
    assert!(error.to_string().contains("absent.pem"), "{error}");
    let error =
        PeerTls::load(&ours.path("node.key"), &ours.path("node.key"), &ours.path("ca.pem")).unwrap_err();
    assert!(error.to_string().contains("holds no certificate"), "{error}");
}
