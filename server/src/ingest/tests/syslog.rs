//! Syslog by raw sockets.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::*;
use crate::ingest::syslog::{SyslogOptions, SyslogServer, SyslogSockets};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const STOP: Duration = Duration::from_secs(60);

struct Listening {
    setup: Setup,
    tcp: SocketAddr,
    udp: SocketAddr,
    server: SyslogServer,
}

async fn listen(change: impl FnOnce(&mut SyslogOptions)) -> Listening {
    // What has no time gets that of now, long after the fake shards' present.
    let router = RouterConfig {
        deadline: Duration::from_millis(50),
        max_future: Duration::from_secs(1 << 40),
        ..RouterConfig::default()
    };
    let setup = setup_with(router, |_| ());
    let mut sockets = SyslogSockets::default();
    let tcp = sockets.bind_tcp(ANY_PORT).unwrap();
    let udp = sockets.bind_udp(ANY_PORT).await.unwrap();
    let mut options =
        SyslogOptions { tenant: TenantId::default(), max_connections: 8, max_queue_bytes: 1 << 20 };
    change(&mut options);
    let server = sockets.serve(&setup.ingest, &options);
    Listening { setup, tcp, udp, server }
}

impl Listening {
    /// Bodies of all records, sorted.
    fn bodies(&self) -> Vec<String> {
        let logs = self.setup.shards.logs.lock().unwrap();
        let mut bodies: Vec<String> = logs.values().flatten().cloned().collect();
        bodies.sort();
        bodies
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let wait = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    fn has_metric(&self, line: &str) -> bool {
        self.setup.metrics.text().unwrap().lines().any(|found| found == line)
    }

    fn set_uncertain(&self, uncertain: bool) {
        *self.setup.shards.uncertain.lock().unwrap() = uncertain;
    }
}

#[tokio::test]
async fn streams_of_either_framing_are_written() {
    let t = listen(|_| ()).await;
    let lines = b"<34>1 2023-11-14T22:13:20Z host su 77 ID47 - of RFC 5424\n<30>Nov 14 22:13:20 host cron[1]: of RFC 3164\n";
    let mut stream = TcpStream::connect(t.tcp).await.unwrap();
    stream.write_all(lines).await.unwrap();
    let mut counting = TcpStream::connect(t.tcp).await.unwrap();
    // In pieces, and the last message is never completed by its sender.
    counting.write_all(b"30 <34>1 - host su - - - a\nb").await.unwrap();
    counting.write_all(b"\nc, c15 <13>no priority9 <13>cut").await.unwrap();
    t.until("all four", |t| t.bodies().len() == 4).await;
    assert_eq!(t.bodies(), ["a\nb\nc, c", "no priority", "of RFC 3164", "of RFC 5424"]);
    drop((stream, counting));
    t.until("both are closed", |t| t.has_metric("pharos_syslog_connections 0")).await;
    t.server.stop(STOP).await;
    assert!(
        t.has_metric("pharos_ingest_rows_total{kind=\"logs\",protocol=\"syslog\"} 4"),
        "{:?}",
        t.bodies()
    );
}

#[tokio::test]
async fn datagrams_are_messages() {
    let t = listen(|_| ()).await;
    let socket = UdpSocket::bind(ANY_PORT).await.unwrap();
    for message in ["<14>one\n", "<14>1 - h a - - - two\nlines", "\n", "12 three"] {
        socket.send_to(message.as_bytes(), t.udp).await.unwrap();
    }
    t.until("three", |t| t.bodies().len() == 3).await;
    assert_eq!(t.bodies(), ["12 three", "one", "two\nlines"]);
    t.server.stop(STOP).await;
}

#[tokio::test]
async fn what_shards_do_not_confirm_is_sent_again_under_its_key() {
    let t = listen(|_| ()).await;
    t.set_uncertain(true);
    let mut stream = TcpStream::connect(t.tcp).await.unwrap();
    stream.write_all(b"<14>once\n").await.unwrap();
    t.until("an attempt", |t| t.bodies().len() == 1).await;
    t.set_uncertain(false);
    let line = "pharos_ingest_rows_total{kind=\"logs\",protocol=\"syslog\"} 1";
    t.until("it is confirmed", |t| t.has_metric(line)).await;
    t.server.stop(STOP).await;
    assert_eq!(t.bodies(), ["once"]);
}

#[tokio::test]
async fn a_sender_waits_when_nothing_is_written_and_loses_nothing() {
    let t = listen(|options| options.max_queue_bytes = 1000).await;
    t.set_uncertain(true);
    let mut expected: Vec<String> =
        (0..30_000).map(|n| format!("message {n:05} {}", "x".repeat(300))).collect();
    let body: String = expected.iter().map(|message| format!("<14>{message}\n")).collect();
    let mut stream = TcpStream::connect(t.tcp).await.unwrap();
    let sender = tokio::spawn(async move {
        stream.write_all(body.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    t.until("the first attempt", |t| !t.bodies().is_empty()).await;
    // Nine megabytes are more than the kernel keeps between the two, and nothing is read while nothing is written.
    assert!(!sender.is_finished());
    t.set_uncertain(false);
    sender.await.unwrap();
    t.until("all of them", |t| t.bodies().len() >= expected.len()).await;
    t.server.stop(STOP).await;
    expected.sort();
    assert_eq!(t.bodies(), expected);
}

#[tokio::test]
async fn datagrams_without_room_are_dropped_and_counted() {
    let t = listen(|options| options.max_queue_bytes = 100).await;
    t.set_uncertain(true);
    let socket = UdpSocket::bind(ANY_PORT).await.unwrap();
    let mut sent = 0;
    while !t.setup.metrics.text().unwrap().contains("pharos_syslog_refused_total{reason=\"queue\"}") {
        socket.send_to(format!("<14>{sent:060}").as_bytes(), t.udp).await.unwrap();
        sent += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    t.set_uncertain(false);
    t.server.stop(STOP).await;
    let written = t.bodies();
    assert!(!written.is_empty() && written.len() < sent, "{} of {sent}", written.len());
}

#[tokio::test]
async fn connections_over_the_limit_and_streams_without_end_are_closed() {
    let t = listen(|options| options.max_connections = 1).await;
    let mut first = TcpStream::connect(t.tcp).await.unwrap();
    t.until("it is open", |t| t.has_metric("pharos_syslog_connections 1")).await;
    let mut second = TcpStream::connect(t.tcp).await.unwrap();
    // Closed, or reset: the end of it either way.
    assert!(!matches!(second.read(&mut [0; 8]).await, Ok(1..)));
    assert!(t.has_metric("pharos_syslog_refused_total{reason=\"connections\"} 1"));

    first.write_all(b"<14>before\n9999999 <14>").await.unwrap();
    assert!(!matches!(first.read(&mut [0; 8]).await, Ok(1..)));
    t.until("its place is free", |t| t.has_metric("pharos_syslog_connections 0")).await;
    assert!(t.has_metric("pharos_syslog_refused_total{reason=\"too_long\"} 1"));
    t.server.stop(STOP).await;
    assert_eq!(t.bodies(), ["before"]);
}

#[tokio::test]
async fn a_stop_writes_what_was_sent() {
    let t = listen(|_| ()).await;
    let mut stream = TcpStream::connect(t.tcp).await.unwrap();
    t.until("it is open", |t| t.has_metric("pharos_syslog_connections 1")).await;
    stream.write_all(b"<14>a\n<14>b").await.unwrap();
    t.server.stop(STOP).await;
    assert_eq!(t.bodies(), ["a", "b"]);
    assert!(TcpStream::connect(t.tcp).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_message_that_stays_half_sent_does_not_hold_memory() {
    let router = RouterConfig { max_future: Duration::from_secs(1 << 40), ..RouterConfig::default() };
    let setup = setup_with(router, |settings| settings.body_timeout = Duration::from_millis(20));
    let mut sockets = SyslogSockets::default();
    let tcp = sockets.bind_tcp(ANY_PORT).unwrap();
    let options = SyslogOptions { tenant: TenantId::default(), max_connections: 1, max_queue_bytes: 1 << 20 };
    let server = sockets.serve(&setup.ingest, &options);
    let mut stream = TcpStream::connect(tcp).await.unwrap();
    stream.write_all(&[b'x'; 100_000]).await.unwrap();
    assert!(!matches!(stream.read(&mut [0; 8]).await, Ok(1..)));
    let text = setup.metrics.text().unwrap();
    assert!(text.contains("pharos_syslog_refused_total{reason=\"stalled\"} 1"), "{text}");
    server.stop(STOP).await;
    assert!(setup.metrics.text().unwrap().contains("pharos_ingest_in_flight_bytes 0"));
}
