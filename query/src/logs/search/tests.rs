use proptest::prelude::*;
use protocol::logs::filter::{LogField, LogFilter, LogTest};
use protocol::logs::matching::CompiledFilter;
use protocol::logs::{LogRecord, LogStream, LogValue};

use super::*;

fn printed(text: &str) -> String {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
}

fn check(text: &str, expected: &str) {
    assert_eq!(printed(text), expected, "{text}");
    assert_eq!(printed(expected), expected);
}

#[test]
fn shapes() {
    check("", "*");
    check("  *  ", "*");
    check("a b", "a b");
    check("a AND b", "a b");
    check("a OR b c", "a OR (b c)");
    check("(a OR b) c", "(a OR b) c");
    check("NOT a -b", "-a -b");
    check("-(a b)", "-(a b)");
    check("NOT NOT a", "--a");
    check("andy orange", "andy orange");
    check(r#""AND""#, r#""AND""#);
    check(r#""connection refused""#, r#""connection refused""#);
    check(r#""say \"hi\"\n""#, r#""say \"hi\"\n""#);
}

#[test]
fn terms() {
    check("service.name:checkout", "service.name:checkout");
    check(r#"a:"b c""#, r#"a:"b c""#);
    check("a:b*", "a:b*");
    check("a:*b*", "a:*b*");
    check("a:*", "a:*");
    check("conn*", "conn*");
    check("*:conn", "*:conn");
    check("a=b", "a:=b");
    check("a!=b", "-a:=b");
    check("a>5 a>=5 a<5 a<=5", "a:>5 a:>=5 a:<5 a:<=5");
    check("a:>5", "a:>5");
    check("a:[1 TO 2]", "a:[1 TO 2]");
    check("a:{1 TO 2}", "a:{1 TO 2}");
    check("a:[1 TO *]", "a:>=1");
    check("a:[* TO *]", "a:[* TO *]");
    check("a:(b OR c)", "a:b OR a:c");
    check("a:(b -c)", "a:b -a:c");
    check("/re.*x/", "/re.*x/");
    check("/a\\/b/i", "/(?i)a\\/b/");
    check("a:/b c/", "a:/b c/");
    check("i(Error) a:i(\"b c\")", "i(\"Error\") a:i(\"b c\")");
    check("a:~b", "a:~b");
    check("url:http://x/y?z=1", "url:\"http://x/y?z=1\"");
    check("\"odd name\":x", "\"odd name\":x");
    check("a\\:b", "\"a:b\"");
    check("level>=warn", "level:>=warn");
    check("a:-5", "a:\"-5\"");
}

fn fails(text: &str, expected: &str) {
    let error = parse(text).and_then(|search| search.filter(text)).expect_err(text);
    assert_eq!(error.to_string(), expected, "{text}");
}

#[test]
fn errors_have_places() {
    fails("a (b", "1:3: \"(\" is not closed");
    fails("a) b", "1:2: ')' closes nothing");
    fails("a OR", "1:5: the query ends where a term is due");
    fails("AND a", "1:1: AND has nothing before it; quote it to look for the word");
    fails("()", "1:2: a term is due before \")\"");
    fails("a\n \"b", "2:2: the quoted text does not end");
    fails("/a", "1:1: the regular expression does not end with \"/\"");
    fails("x /(/", "1:3: regular expression: unclosed group");
    fails("a:[1 2]", "1:6: \"TO\" is due between the ends of a range");
    fails("a:[1 TO 2", "1:3: the range is not closed by \"]\" or \"}\"");
    fails("é status:>abc", "1:3: \"abc\" is no number");
    fails(
        "level>=loud",
        "1:1: \"loud\" is no level: trace, debug, info, warn, error, fatal or a number from 1 to 24",
    );
    fails("level:/w/", "1:1: a level is compared by name or number; severity_text is its text");
    fails(
        "a:b*c",
        "1:1: \"*\" may stand behind a word or on both sides of it; use /a.*b/ for the rest, or quote it to look for it",
    );
    fails(":x", "1:1: a word or a quoted text is due, not ':'");
    fails("\"\":x", "1:1: the name of a field is due");
    fails("a: b", "1:3: a word or a quoted text is due, not ' '");
    fails("-", "1:2: the query ends where a term is due");
    fails("a\\", "1:3: \"\\\" escapes nothing");
    fails("/a/b", "1:4: a space is due behind the regular expression; \"\\/\" is a slash inside of one");
    let deep = "(".repeat(40);
    assert!(parse(&deep).expect_err("too deep").to_string().contains("nested deeper than 32"));
    let deep = "-".repeat(40);
    assert!(parse(&deep).expect_err("too deep").to_string().contains("nested deeper than 32"));
}

fn filter(text: &str) -> LogFilter {
    parse(text).and_then(|search| search.filter(text)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn filters() {
    let attribute = |name: &str| LogField::Attribute(name.to_owned());
    let equals = |text: &str| LogTest::Equals(text.to_owned());
    let phrase = |text: &str, ignore_case| LogTest::Phrase { text: text.to_owned(), ignore_case };
    assert_eq!(filter("a:b"), LogFilter::Field(attribute("a"), equals("b")));
    assert_eq!(filter("b"), LogFilter::Field(LogField::Body, phrase("b", false)));
    assert_eq!(filter("body:=b"), LogFilter::Field(LogField::Body, equals("b")));
    assert_eq!(filter("trace_id:AB"), LogFilter::Field(LogField::TraceId, equals("ab")));
    assert_eq!(
        filter("resource.a:b"),
        LogFilter::Field(LogField::ResourceAttribute("a".to_owned()), equals("b"))
    );
    assert_eq!(filter("a:~b"), LogFilter::Field(attribute("a"), phrase("b", false)));
    assert_eq!(filter("*:i(b)"), LogFilter::Field(LogField::Any, phrase("b", true)));
    assert_eq!(filter("a:b*"), LogFilter::Field(attribute("a"), LogTest::Prefix("b".to_owned())));
}

#[test]
fn what_records_are_found() {
    let stream = LogStream {
        resource: vec![("service.name".into(), LogValue::String("checkout".into()))],
        ..LogStream::default()
    };
    let record = LogRecord {
        time_ns: 1,
        severity: 13,
        severity_text: "Warning".into(),
        body: LogValue::String("dial tcp: connection refused".into()),
        attributes: vec![("status".into(), LogValue::Int(503))],
        ..LogRecord::default()
    };
    let found = |text: &str, record: &LogRecord<'_>| {
        CompiledFilter::new(&filter(text)).expect("it compiles").matches(&stream, record)
    };
    let check = |text: &str, expected: bool| assert_eq!(found(text, &record), expected, "{text}");
    check(
        "service.name:checkout level>=warn \"connection refused\" -debug status:[500 TO 599] /re.*d/",
        true,
    );
    check("connection", true);
    check("connect", false);
    check("connect*", true);
    check("onnect*", false);
    check("*onnect*", true);
    check("i(CONNECTION)", true);
    check("level:warn", true);
    check("level>warn", false);
    check("level<warn", false);
    check("level<=warn", true);
    check("level:[info TO warn}", false);
    check("level:13", true);
    check("level:*", true);
    check("status>503 OR status:503", true);
    check("absent!=x", true);
    check("absent:*", false);
    let unnumbered = LogRecord { severity: 0, ..record.clone() };
    assert!(found("level:warn", &unnumbered));
    assert!(!found("level<warn", &unnumbered));
    assert!(!found("level>=error", &unnumbered));
}

fn search() -> impl Strategy<Value = Search> {
    let end = || ("-?[0-9]{1,4}", any::<bool>()).prop_map(|(text, inclusive)| End { text, inclusive });
    let test = prop_oneof![
        Just(TermTest::Exists),
        "\\PC{0,6}".prop_map(TermTest::Text),
        "[a-zA-Z:*()/ \"\\\\\n]{0,6}".prop_map(TermTest::Text),
        "\\PC{0,6}".prop_map(TermTest::Equals),
        "\\PC{0,6}".prop_map(TermTest::Words),
        "\\PC{0,6}".prop_map(TermTest::IgnoreCase),
        "\\PC{1,6}".prop_map(TermTest::Prefix),
        "\\PC{1,6}".prop_map(TermTest::Part),
        "[a-z/.]{0,6}".prop_map(TermTest::Regex),
        proptest::option::of(end()).prop_flat_map(move |from| {
            proptest::option::of(end()).prop_map(move |to| TermTest::Range(from.clone(), to))
        }),
    ];
    let field = proptest::option::of(prop_oneof!["[a-z.]{1,5}", "\\PC{1,5}", Just("*".to_owned())]);
    let leaf = prop_oneof![
        Just(Search::All),
        (field, test).prop_map(|(field, test)| match (&field, &test) {
            // Without a field, a star is every record.
            (None, TermTest::Exists) => Search::All,
            _ => Search::Term(Term { field, test, at: 0 }),
        }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Search::And),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Search::Or),
            inner.prop_map(|part| Search::Not(Box::new(part))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(search in search()) {
        let text = search.to_string();
        let parsed = parse(&text);
        prop_assert_eq!(parsed.as_ref(), Ok(&search), "{}", text);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[a-c:*()/ \"\\\\<>=!\\[\\]{}~i\\-]{0,24}") {
        if let Ok(search) = parse(&text) {
            let again = search.to_string();
            let parsed = parse(&again);
            prop_assert_eq!(parsed.as_ref(), Ok(&search), "{} as {}", text, again);
            let _ = search.filter(&text);
        }
    }
}
