//! Clients of PostgreSQL against three nodes: psql and a Python driver ask the SQL cases over the wire, of the nodes in
//! turn; what psql shows of the tables; and a statement that psql gives up.

use std::process::{Command, Output};

use chaos::client::Client;
use tests::remote_write;
use tests::{Cluster, peers};

#[path = "../../sql/tests/support/cases.rs"]
mod cases;

use cases::{Expected, Subject, cases, data, run};

fn load(client: &Client) {
    remote_write::load(client, data().into_iter().map(|loaded| (loaded.labels, loaded.samples)));
}

/// `psql` at a node, told to show values and nothing else.
fn psql(cluster: &Cluster, node: usize, tenant: &str) -> Command {
    let mut command = Command::new("psql");
    let port = cluster.nodes[node].postgres.to_string();
    command
        .args(["--no-psqlrc", "-h", "127.0.0.1", "-p", &port, "-U", "ann", "-d", tenant])
        .args(["-At", "-F", "|", "-P", "null=NULL", "-v", "ON_ERROR_STOP=1"])
        .env("PGTZ", "UTC");
    command
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Asks by psql, one process a statement.
struct Psql<'a> {
    cluster: &'a Cluster,
    asked: usize,
}

/// As the cases write what PostgreSQL writes in another way: moments and truths.
fn as_in_cases(field: &str) -> String {
    let moment = field.strip_suffix("+00").unwrap_or(field).split_once(' ');
    match (field, moment) {
        ("t", _) => "true".to_owned(),
        ("f", _) => "false".to_owned(),
        (_, Some((day, time))) if day.len() == 10 && time.starts_with(|c: char| c.is_ascii_digit()) => {
            match time.split_once('.') {
                Some((seconds, fraction)) => format!("{day}T{seconds}.{fraction:0<3}Z"),
                None => format!("{day}T{time}Z"),
            }
        }
        (other, _) => other.to_owned(),
    }
}

impl Subject for Psql<'_> {
    fn ask(&mut self, statement: &str) -> Result<Vec<String>, String> {
        self.asked += 1;
        let output = psql(self.cluster, self.asked % self.cluster.nodes.len(), "default")
            .args(["-c", statement])
            .output()
            .expect("psql starts");
        let (out, err) = said(&output);
        if !output.status.success() {
            return Err(err);
        }
        let row = |line: &str| line.split('|').map(as_in_cases).collect::<Vec<_>>().join("|");
        Ok(out.lines().map(row).collect())
    }
}

/// Cases of which every field is a plain value: lists, maps and intervals are written in another way.
fn plain_cases() -> Vec<cases::Case> {
    let is_plain =
        |row: &String| !row.contains(['[', '{', '\\']) && !row.contains("mins") && !row.contains("T24");
    let mut cases = cases();
    cases.retain(|case| match &case.expected {
        Expected::Rows { rows, .. } => rows.iter().all(is_plain),
        Expected::Refused(_) => true,
    });
    // Plans are of several lines, settings are the session's, and several statements are answered here.
    let is_other =
        |text: &str| text.contains("explain") || text.starts_with("set ") || text.contains("; select");
    cases.retain(|case| !is_other(&case.statement));
    cases
}

#[test]
fn psql_asks_the_cases() {
    if !peers::installed(&["psql"]) {
        return;
    }
    let quiet = ["--set", "telemetry.self_monitoring=false", "--retention", "unlimited"];
    let cluster = Cluster::with_arguments(3, 4, &quiet);
    load(&cluster.nodes[0].client());
    let cases = plain_cases();
    assert!(cases.len() >= 150, "{} cases are plain", cases.len());
    run(&mut Psql { cluster: &cluster, asked: 0 }, &cases);

    // Errors say which, and where.
    let show = |statement: &str, tenant: &str| {
        let output = psql(&cluster, 1, tenant).args(["-v", "VERBOSITY=verbose", "-c", statement]).output();
        said(&output.expect("psql starts"))
    };
    let (_, err) = show("select 1\nfrom nowhere", "default");
    assert!(err.contains("42P01") && err.contains("there is no table \"nowhere\""), "{err}");
    let (_, err) = show("select 1,\n  wrong from up", "default");
    assert!(err.contains("42703") && err.contains("LINE 2:   wrong from up"), "{err}");
    let (_, err) = show("select (", "default");
    assert!(err.contains("42601"), "{err}");
    let (_, err) = show("delete from metrics", "default");
    assert!(err.contains("25006"), "{err}");
    // What psql looks up to show tables and columns.
    let (out, err) = show("\\d", "default");
    assert!(out.contains("public|up|table|pharos\n") && out.contains("public|metrics|table"), "{out}{err}");
    for table in ["logs", "spans", "span_events", "traces"] {
        assert!(out.contains(&format!("public|{table}|table|pharos\n")), "{table}: {out}{err}");
    }
    let (out, err) = show("\\d traces", "default");
    assert!(out.contains("duration_ns|bigint|") && out.contains("services|text[]|"), "{out}{err}");
    let (out, err) = show("\\d span_events", "default");
    assert!(out.contains("time|timestamp with time zone|") && out.contains("attributes|json|"), "{out}{err}");
    let (out, err) = show("\\d up", "default");
    assert!(out.contains("time|timestamp with time zone|") && out.contains("instance|text|"), "{out}{err}");
    // The rest of what it has commands for: tables alone, one with all that is known of it, schemas, roles, functions.
    let (out, err) = show("\\dt", "default");
    assert!(out.contains("public|up|table|pharos\n") && err.is_empty(), "{out}{err}");
    let (out, err) = show("\\dt+ up", "default");
    assert!(out.contains("public|up|table|pharos|permanent|") && err.is_empty(), "{out}{err}");
    let (out, err) = show("\\d+ up", "default");
    assert!(out.contains("value|double precision|") && err.is_empty(), "{out}{err}");
    let (out, err) = show("\\dn", "default");
    assert!(
        out.contains("public|pharos\n") && out.contains("metric|pharos\n") && err.is_empty(),
        "{out}{err}"
    );
    let (out, err) = show("\\du", "default");
    assert!(out.starts_with("pharos|") && err.is_empty(), "{out}{err}");
    for nothing in ["\\df", "\\dv", "\\di", "\\ds", "\\dx"] {
        let (out, err) = show(nothing, "default");
        assert!(!err.contains("ERROR") && !out.contains("up"), "{nothing}: {out}{err}");
    }
    // The database is the tenant.
    let (out, err) = show("\\l", "default");
    assert!(out.contains("default|pharos|UTF8|"), "{out}{err}");
    assert_eq!(show("select count(*) from metrics", "elsewhere").0, "0\n");
    // Several statements, a transaction, a setting.
    let script = "begin; select 1; commit; set statement_timeout = '200ms'; show statement_timeout; \
                  select count(*) from generate_series(1, 100000000000)";
    let (out, err) = show(script, "default");
    assert_eq!(out, "BEGIN\n1\nCOMMIT\nSET\n200ms\n");
    assert!(err.contains("57014"), "{err}");
}

#[test]
fn psql_talks_in_cipher_where_there_is_a_certificate() {
    if !peers::installed(&["psql", "openssl"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("a path is text").to_owned();
    let (cert, key) = (path("node.pem"), path("node.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-keyout", &key, "-out", &cert, "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .output()
        .expect("openssl starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let settings = [format!("postgres.tls_cert={cert}"), format!("postgres.tls_key={key}")];
    let mut arguments = vec!["--set", "telemetry.self_monitoring=false"];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let cluster = Cluster::with_arguments(1, 1, &arguments);
    let ask = |mode: &str, root: &str| {
        let output = psql(&cluster, 0, "default")
            .env("PGSSLMODE", mode)
            .env("PGSSLROOTCERT", root)
            .args(["-c", "select 1", "-c", "\\conninfo"])
            .output();
        said(&output.expect("psql starts"))
    };
    let (out, err) = ask("require", "/absent");
    assert!(out.starts_with("1\n") && out.contains("TLS"), "{out}{err}");
    let (out, err) = ask("verify-full", &cert);
    assert!(out.starts_with("1\n") && out.contains("TLS"), "{out}{err}");
    // Nobody is made to.
    let (out, err) = ask("disable", "/absent");
    assert!(out.starts_with("1\n") && !out.contains("TLS"), "{out}{err}");
    // More than a record of TLS holds, in both directions.
    let long = format!("select length('{}'), repeat('x', 300000)", "y".repeat(100_000));
    let script = dir.path().join("long.sql");
    std::fs::write(&script, long).expect("a script");
    let output = psql(&cluster, 0, "default").env("PGSSLMODE", "require").arg("-f").arg(&script).output();
    let (out, err) = said(&output.expect("psql starts"));
    assert!(out.starts_with("100000|xxx") && out.len() > 300_000, "{}{err}", out.len());
}

#[test]
fn a_python_driver_asks_the_cases() {
    let Some(python) = peers::python("postgres.py") else { return };
    let quiet = ["--set", "telemetry.self_monitoring=false", "--retention", "unlimited"];
    let cluster = Cluster::with_arguments(3, 4, &quiet);
    load(&cluster.nodes[0].client());
    let ports: Vec<String> = cluster.nodes.iter().map(|node| node.postgres.to_string()).collect();
    let file = cases::directory().join("cases.txt");
    let mut arguments = vec![file.to_str().expect("a path is text")];
    arguments.extend(ports.iter().map(String::as_str));
    peers::run(python, &arguments);
}
