use proptest::prelude::*;

use super::*;

fn start(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = (MAJOR << 16).to_be_bytes().to_vec();
    for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    body
}

fn bind() -> Vec<u8> {
    let mut body = b"portal\0statement\0".to_vec();
    body.extend_from_slice(&[0, 1, 0, 1]);
    body.extend_from_slice(&[0, 2, 0, 0, 0, 3]);
    body.extend_from_slice(b"abc");
    body.extend_from_slice(&[0xff; 4]);
    body.extend_from_slice(&[0, 0]);
    body
}

#[test]
fn greetings() {
    let read = Greeting::decode(&start(&[("user", "ann"), ("database", "team-a")]));
    let parameters =
        vec![("user".to_owned(), "ann".to_owned()), ("database".to_owned(), "team-a".to_owned())];
    assert_eq!(read, Ok(Greeting::Start { minor: 0, parameters }));
    assert_eq!(Greeting::decode(&TLS.to_be_bytes()), Ok(Greeting::Tls));
    let cancel = [CANCEL.to_be_bytes(), 7_u32.to_be_bytes(), 9_u32.to_be_bytes()].concat();
    assert_eq!(Greeting::decode(&cancel), Ok(Greeting::Cancel { process: 7, secret: 9 }));
    assert_eq!(Greeting::decode(&[0, 2, 0, 0]), Err(PostgresError::Version { code: 0x2_0000 }));
    assert!(Greeting::decode(&start(&[("user", "ann")])[..9]).is_err());
    assert!(Greeting::decode(&[cancel, vec![0]].concat()).is_err());
}

#[test]
fn lengths_are_checked_before_anything_is_held() {
    assert_eq!(greeting_body([0, 0, 0, 8]), Ok(4));
    assert_eq!(greeting_body([0, 0, 0, 3]), Err(PostgresError::Length { length: 3 }));
    assert!(matches!(greeting_body([0xff; 4]), Err(PostgresError::TooLong { .. })));
    assert_eq!(message_body([b'Q', 0, 0, 0, 4]), Ok((b'Q', 0)));
    assert!(matches!(message_body([b'Q', 0x7f, 0xff, 0xff, 0xff]), Err(PostgresError::TooLong { .. })));
}

#[test]
fn messages() {
    assert_eq!(Message::decode(b'Q', b"select 1\0"), Ok(Message::Query("select 1".to_owned())));
    assert_eq!(Message::decode(b'S', b""), Ok(Message::Sync));
    let parse = [b"s\0select $1\0".as_slice(), &[0, 1, 0, 0, 0, 23]].concat();
    let expected =
        Message::Parse { statement: "s".to_owned(), text: "select $1".to_owned(), types: vec![23] };
    assert_eq!(Message::decode(b'P', &parse), Ok(expected));
    let bound = Message::decode(b'B', &bind()).expect("a portal");
    let values = vec![Some(b"abc".to_vec()), None];
    assert!(matches!(bound, Message::Bind { values: read, .. } if read == values));
    assert_eq!(Message::decode(b'D', b"Px\0"), Ok(Message::Describe(Named::Portal("x".to_owned()))));
    assert_eq!(
        Message::decode(b'E', b"\0\0\0\0\x05"),
        Ok(Message::Execute { portal: String::new(), max_rows: 5 })
    );
    assert_eq!(Message::decode(b'?', b""), Err(PostgresError::Kind { kind: b'?' }));
    assert_eq!(Message::decode(b'D', b"?x\0"), Err(PostgresError::Kind { kind: b'?' }));
    assert_eq!(Message::decode(b'S', b"x"), Err(PostgresError::Trailing { kind: 'S', bytes: 1 }));
    assert!(matches!(Message::decode(b'Q', b"select 1"), Err(PostgresError::Truncated { .. })));
    assert!(matches!(Message::decode(b'Q', b"\xff\0"), Err(PostgresError::NotUtf8 { .. })));
    // A count that the bytes can not hold.
    assert!(Message::decode(b'P', b"\0\0\xff\xff").is_err());
}

#[test]
fn what_ends_early_is_refused_at_every_byte() {
    let whole = bind();
    for end in 0..whole.len() {
        assert!(Message::decode(b'B', &whole[..end]).is_err(), "{end}");
    }
    let whole = start(&[("user", "ann"), ("database", "x")]);
    for end in 0..whole.len() {
        assert!(Greeting::decode(&whole[..end]).is_err(), "{end}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(kind: u8, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::decode(kind, &bytes);
        let _ = Greeting::decode(&bytes);
        let _ = Greeting::decode(&[&(MAJOR << 16).to_be_bytes(), bytes.as_slice()].concat());
        for kind in *b"QPBDCEHSXpdcfF" {
            let _ = Message::decode(kind, &bytes);
        }
    }
}

#[test]
fn answers() {
    let mut writer = Writer::default();
    writer.ready(b'I');
    assert_eq!(writer.take(), b"Z\0\0\0\x05I");
    writer.setting("a", "b\0c");
    assert_eq!(writer.take(), b"S\0\0\0\x09a\0bc\0");
    let written = writer.row(3, |column, out| match column {
        0 => Ok(true),
        1 => Ok(false),
        _ => {
            out.extend_from_slice(b"xy");
            Err("no")
        }
    });
    assert_eq!(written, Err("no"));
    writer.clear();
    let written: Result<(), ()> = writer.row(2, |column, out| {
        out.extend_from_slice(b"xy");
        Ok(column == 0)
    });
    assert_eq!(written, Ok(()));
    assert_eq!(writer.take(), b"D\0\0\0\x10\0\x02\0\0\0\x02xy\xff\xff\xff\xff");
    writer.failure(&Failure {
        severity: Severity::Error,
        state: "42601",
        message: "bad".to_owned(),
        hint: None,
        position: Some(3),
    });
    assert_eq!(writer.take(), b"E\0\0\0\x22SERROR\0VERROR\0C42601\0Mbad\0P3\0\0");
}
