//! PostgreSQL's protocol, spoken byte by byte, with an imitated node behind it.

use proptest::prelude::{ProptestConfig, any};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::postgres::{PostgresOptions, PostgresServer};

async fn listener(surface: &Surface, max_connections: usize) -> PostgresServer {
    let wait = Duration::from_secs(60);
    let options = PostgresOptions { tls: None, max_connections, idle_timeout: wait, write_timeout: wait };
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    PostgresServer::start(addr, Arc::clone(&surface.app), options).await.unwrap()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

fn bind(values: &[&str]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0];
    body.extend((values.len() as u16).to_be_bytes());
    for value in values {
        body.extend((value.len() as u32).to_be_bytes());
        body.extend(value.as_bytes());
    }
    message(b'B', &[&body[..], &[0, 0]].concat())
}

fn greeting(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

struct Client {
    stream: TcpStream,
    process: u32,
    secret: u32,
}

/// A message as a line: its kind and its body, where what is no letter is left out.
fn line(kind: u8, body: &[u8]) -> String {
    let text: String =
        String::from_utf8_lossy(body).chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    format!("{}{text}", char::from(kind))
}

impl Client {
    async fn start(server: &PostgresServer, tenant: &str) -> (Self, Vec<String>) {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        // No TLS here, which is one byte.
        stream.write_all(&greeting(&80_877_103_u32.to_be_bytes())).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'N');
        let body = format!("\0\x03\0\0user\0ann\0database\0{tenant}\0\0");
        stream.write_all(&greeting(body.as_bytes())).await.unwrap();
        let mut client = Self { stream, process: 0, secret: 0 };
        let told = client.until_ready().await;
        (client, told)
    }

    async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let kind = self.stream.read_u8().await.ok()?;
        let length = self.stream.read_u32().await.ok()? as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body).await.ok()?;
        if kind == b'K' {
            self.process = u32::from_be_bytes(body[..4].try_into().unwrap());
            self.secret = u32::from_be_bytes(body[4..].try_into().unwrap());
        }
        Some((kind, body))
    }

    /// All messages up to `ReadyForQuery`, or to the end of the connection.
    async fn until_ready(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some((kind, body)) = self.message().await {
            lines.push(line(kind, &body));
            if kind == b'Z' {
                break;
            }
        }
        lines
    }

    async fn ask(&mut self, messages: &[Vec<u8>]) -> Vec<String> {
        self.stream.write_all(&messages.concat()).await.unwrap();
        self.until_ready().await
    }
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn execute(max_rows: u32) -> Vec<u8> {
    message(b'E', &[&[0][..], &max_rows.to_be_bytes()].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_asks_in_both_ways() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let server = listener(&surface, 8).await;
    let (mut client, told) = Client::start(&server, "default").await;
    assert!(told.contains(&"Sclient_encodingUTF8".to_owned()), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("Sserver_version14.0")), "{told:?}");

    let answer = client.ask(&[query("select 1 as n, 'x' as t; show server_encoding; select x")]).await;
    assert_eq!(answer[1], "D1x");
    assert_eq!(&answer[2..6], ["CSELECT 1", "Tserver_encoding", "DUTF8", "CSHOW"]);
    let failed = &answer[6];
    // The place is in the whole text.
    assert!(failed.contains("C42703") && failed.contains("P55"), "{answer:?}");
    assert_eq!(answer[7..], ["ZI"]);
    assert_eq!(client.ask(&[query(" ; ")]).await, ["I", "ZI"]);
    assert!(client.ask(&[query("drop table x")]).await[0].contains("C25006"));

    // Prepared, with a value, taken in two parts.
    let answer = client
        .ask(&[
            parse("", "select v, $1 as w from (values (1), (2), (3)) as t(v)"),
            bind(&["a"]),
            message(b'D', b"P\0"),
            execute(2),
            execute(0),
            sync(),
        ])
        .await;
    let kinds: String = answer.iter().map(|line| &line[..1]).collect();
    assert_eq!(kinds, "12TDDsDCZ", "{answer:?}");
    assert_eq!(&answer[3..], ["D1a", "D2a", "s", "D3a", "CSELECT 1", "ZI"]);

    // After an error the rest of the group is skipped.
    let answer = client.ask(&[parse("", "select ("), bind(&[]), execute(0), sync()]).await;
    assert!(answer.len() == 2 && answer[0].contains("C42601"), "{answer:?}");
    let answer = client.ask(&[bind(&["too", "many"]), sync()]).await;
    assert!(answer[0].contains("C26000"), "the failed one took the place of the one before: {answer:?}");
    let answer = client.ask(&[parse("s", "select 1"), parse("s", "select 2"), sync()]).await;
    assert!(answer[1].contains("C42P05"), "{answer:?}");
    let answer =
        client.ask(&[message(b'D', b"Ss\0"), message(b'C', b"Ss\0"), message(b'D', b"Ss\0"), sync()]).await;
    assert_eq!(answer.iter().map(|line| &line[..1]).collect::<String>(), "tT3EZ", "{answer:?}");

    // Transactions, and settings.
    assert_eq!(client.ask(&[query("begin; savepoint a")]).await, ["CBEGIN", "CSAVEPOINT", "ZT"]);
    assert_eq!(client.ask(&[query("select nothing")]).await.last().unwrap(), "ZE");
    assert!(client.ask(&[query("select 1")]).await[0].contains("C25P02"));
    assert_eq!(client.ask(&[query("commit")]).await, ["CROLLBACK", "ZI"]);
    assert_eq!(
        client.ask(&[query("set application_name = 'x'")]).await,
        ["Sapplication_namex", "CSET", "ZI"]
    );
    assert!(client.ask(&[query("set client_encoding = latin1")]).await[0].contains("C22023"));
    server.stop(Duration::from_secs(60)).await;
    assert!(client.until_ready().await[0].contains("C57P01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_stopped_by_its_client() {
    let surface = surface(|_| ()).await;
    surface.connect_node(true);
    let server = listener(&surface, 8).await;
    let (mut client, _) = Client::start(&server, "slow").await;
    client.stream.write_all(&query("select count(*) from metrics")).await.unwrap();
    let queries = surface.app.backend().unwrap().queries.active();
    let running = || queries.json()["active"].as_array().map_or(0, Vec::len);
    while running() == 0 {
        tokio::task::yield_now().await;
    }
    let mut other = TcpStream::connect(server.addr).await.unwrap();
    let body = [80_877_102_u32, client.process, client.secret].map(u32::to_be_bytes).concat();
    other.write_all(&greeting(&body)).await.unwrap();
    let answer = client.until_ready().await;
    assert!(answer[0].contains("C57014"), "{answer:?}");
    assert_eq!(running(), 0);
    // A client that goes stops it, too.
    client.stream.write_all(&query("select count(*) from metrics")).await.unwrap();
    while running() == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    while running() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_tenants_named() {
    let surface = surface(|_| ()).await;
    let server = listener(&surface, 1).await;
    let (mut client, _) = Client::start(&server, "default").await;
    let answer = client.ask(&[query("select 1")]).await;
    assert!(answer[0].contains("C57P03") && answer[0].contains("starting"), "{answer:?}");
    let mut more = Client { stream: TcpStream::connect(server.addr).await.unwrap(), process: 0, secret: 0 };
    assert!(more.until_ready().await[0].contains("C53300"));
    drop(client);
    // The place is free once the session has seen the end.
    let refused = loop {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let _ = stream.write_all(&greeting(b"\0\x03\0\0user\0ann\0database\0a/b\0\0")).await;
        let answer = Client { stream, process: 0, secret: 0 }.until_ready().await;
        match answer.first() {
            Some(line) if !line.contains("C53300") => break line.clone(),
            _ => {}
        }
    };
    assert!(refused.contains("C3D000") && refused.contains("tenant"), "{refused}");
}

/// Whatever comes, the listener answers the next client.
#[test]
fn no_bytes_bring_the_listener_down() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (surface, server) = runtime.block_on(async {
        let surface = surface(|_| ()).await;
        surface.connect_node(true);
        let server = listener(&surface, 64).await;
        (surface, server)
    });
    let kinds = proptest::sample::select(b"QPBDCEHSXpdcfF?".to_vec());
    let bytes = proptest::collection::vec(any::<u8>(), 0..40);
    let messages = proptest::collection::vec((kinds, bytes, any::<bool>()), 0..12);
    proptest::proptest!(ProptestConfig::with_cases(64), |(messages in messages, whole: bool)| {
        runtime.block_on(async {
            let (mut client, _) = Client::start(&server, "default").await;
            for (kind, mut body, is_text) in messages {
                if is_text {
                    body.iter_mut().for_each(|byte| *byte = (*byte).clamp(b' ', b'~'));
                    body.push(0);
                }
                let mut sent = message(kind, &body);
                if !whole {
                    sent.truncate(sent.len() / 2);
                }
                // The server may have ended it already.
                let _ = client.stream.write_all(&sent).await;
            }
            let _ = client.stream.shutdown().await;
            while client.message().await.is_some() {}
            let (mut next, _) = Client::start(&server, "default").await;
            assert_eq!(next.ask(&[query("select 1")]).await[1], "D1");
        });
    });
    drop(surface);
}
