use proptest::prelude::*;

use super::*;

fn check(text: &str, expected: &str) {
    let printed = parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string();
    assert_eq!(printed, expected, "{text}");
    let again = parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
    assert_eq!(again.to_string(), expected);
}

#[test]
fn log_queries() {
    check(r#"{app="a"}"#, r#"{app="a"}"#);
    check(r#"{ app = "a" , env!="b", x=~"c.*", y!~`d\d` }"#, r#"{app="a", env!="b", x=~"c.*", y!~"d\\d"}"#);
    check(r#"{app="a"} |= "x" != "y" |~ "z" !~ "w""#, r#"{app="a"} |= "x" != "y" |~ "z" !~ "w""#);
    check(r#"{app="a"} |= "x" or "y""#, r#"{app="a"} |= "x" or "y""#);
    check(r#"{app="a"} |> "<_> x <_>" !> "y""#, r#"{app="a"} |> "<_> x <_>" !> "y""#);
    check(r#"{app="a"} |= ip("10.0.0.0/8")"#, r#"{app="a"} |= ip("10.0.0.0/8")"#);
    check(
        r#"{app="a"} | json | logfmt | unpack | decolorize"#,
        r#"{app="a"} | json | logfmt | unpack | decolorize"#,
    );
    check(r#"{app="a"} | json a="b.c", d"#, r#"{app="a"} | json a="b.c", d="d""#);
    check(
        r#"{app="a"} | logfmt --strict --keep-empty a"#,
        r#"{app="a"} | logfmt --strict --keep-empty a="a""#,
    );
    check(r#"{app="a"} | regexp "(?P<x>.*)""#, r#"{app="a"} | regexp "(?P<x>.*)""#);
    check(r#"{app="a"} | pattern "<x> <_>""#, r#"{app="a"} | pattern "<x> <_>""#);
    check(r#"{app="a"} | line_format "{{.x}}""#, r#"{app="a"} | line_format "{{.x}}""#);
    check(r#"{app="a"} | label_format x=y,z="{{.a}}""#, r#"{app="a"} | label_format x=y, z="{{.a}}""#);
    check(r#"{app="a"} | drop a, b="x" | keep c"#, r#"{app="a"} | drop a, b="x" | keep c"#);
    check("{app=\"a\"} # note\n|= \"x\"", r#"{app="a"} |= "x""#);
    check(r#"({app="a"} |= "x") | json"#, r#"{app="a"} |= "x" | json"#);
    check("{app=\"a\\u00e9\\x41\\n\"}", "{app=\"a\u{e9}A\\n\"}");
}

#[test]
fn label_filters() {
    let check = |filter: &str, expected: &str| {
        check(&format!("{{app=\"a\"}} | {filter}"), &format!("{{app=\"a\"}} | {expected}"));
    };
    check("status >= 500", "status >= 500");
    check("status = 500", "status == 500");
    check("x == 1.5", "x == 1.5");
    check("took > 1m30s", "took > 1m30s");
    check("size <= 20KB", "size <= 20000B");
    check("a = \"b\" and c != \"d\" or e =~ \"f\"", "((a=\"b\" and c!=\"d\") or e=~\"f\")");
    check("a = \"b\", c > 1 d < 2", "((a=\"b\" and c > 1) and d < 2)");
    check("(a = 1 or b = 2) and c = 3", "((a == 1 or b == 2) and c == 3)");
    check("addr = ip(\"::1\")", "addr = ip(\"::1\")");
    check("__error__ = \"\"", "__error__=\"\"");
    check("x = -1", "x == -1");
}

#[test]
fn metric_queries() {
    check(r#"rate({a="b"}[5m])"#, r#"rate({a="b"} [5m])"#);
    check(r#"rate({a="b"}[5m] |= "x")"#, r#"rate({a="b"} |= "x" [5m])"#);
    check(r#"rate(({a="b"} |= "x")[5m])"#, r#"rate({a="b"} |= "x" [5m])"#);
    check(r#"count_over_time({a="b"}[1h] offset 5m)"#, r#"count_over_time({a="b"} [1h] offset 5m)"#);
    check(
        r#"quantile_over_time(0.99, {a="b"} | json | unwrap duration(x) | __error__="" [1m]) by (c)"#,
        r#"quantile_over_time(0.99, {a="b"} | json | unwrap duration(x) | __error__="" [1m]) by (c)"#,
    );
    check(r#"sum by (a) (rate({a="b"}[1m]))"#, r#"sum by (a) (rate({a="b"} [1m]))"#);
    check(r#"sum(rate({a="b"}[1m])) without (a,c)"#, r#"sum without (a, c) (rate({a="b"} [1m]))"#);
    check(r#"topk(3, rate({a="b"}[1m]))"#, r#"topk(3, rate({a="b"} [1m]))"#);
    check("vector(1)+vector(1)", "(vector(1) + vector(1))");
    check("1 + 2 * 3 ^ 2 ^ 2", "(1 + (2 * (3 ^ (2 ^ 2))))");
    check("1 - 2 - 3", "((1 - 2) - 3)");
    check("-1 + 1e3", "(-1 + 1000)");
    check("vector(1) > bool 0 or vector(2)", "((vector(1) > bool 0) or vector(2))");
    check("vector(1) * on (a) group_left (b) vector(2)", "(vector(1) * on (a) group_left (b) vector(2))");
    check("vector(1) and ignoring (x) vector(2)", "(vector(1) and ignoring (x) vector(2))");
    check(
        r#"label_replace(vector(1), "a", "$1", "b", "(.*)")"#,
        r#"label_replace(vector(1), "a", "$1", "b", "(.*)")"#,
    );
    check(r#"absent_over_time({a="b"}[5m])"#, r#"absent_over_time({a="b"} [5m])"#);
    check(r#"sum_over_time({a="b"} | unwrap x [5m])"#, r#"sum_over_time({a="b"} | unwrap x [5m])"#);
}

fn fails(text: &str, expected: &str) {
    let error = parse(text).expect_err(text).to_string();
    assert!(error.contains(expected), "{text}: {error}");
}

#[test]
fn errors() {
    fails(
        "",
        "line 1, col 1: syntax error: unexpected the end, expecting a selector, a function or a number",
    );
    fails("{", "expecting a name");
    fails("{a}", "expecting =, !=, =~ or !~");
    fails("{a=b}", "expecting a string");
    fails("{a=\"b\"", "expecting \",\" or \"}\"");
    fails("{a=\"b\"} |", "expecting a stage or a label");
    fails("{a=\"b\"} foo", "expecting the end");
    fails("{a=\"\n", "the string does not end");
    fails("{a=\"\\q\"}", "the escape in the string means nothing");
    fails("{a=~\".*\"}", "at least one regexp or equality matcher");
    fails("{a!=\"b\"}", "at least one regexp or equality matcher");
    fails("{a=~\"(\"}", "regular expression");
    fails("{a=\"b\"} |~ \"(\"", "regular expression");
    fails("{a=\"b\"} | regexp \"x\"", "at least one named capture");
    fails("{a=\"b\"} | pattern \"x\"", "at least one capture");
    fails("{a=\"b\"} | line_format \"{{\"", "invalid template");
    fails("{a=\"b\"} | json x=\"[\"", "cannot parse expression");
    fails("{a=\"b\"} | x > abc", "expecting a string, a number, a duration or a size");
    fails("{a=\"b\"} | x > 5xb", "is no number, duration or size");
    fails("{a=\"b\"} | unwrap x", "unwrap stands only in functions");
    fails("rate({a=\"b\"})", "rate takes a range");
    fails("rate({a=\"b\"}[x])", "is no duration of a range");
    fails("rate({a=\"b\"}[5m)", "\"]\" is missing");
    fails("sum_over_time({a=\"b\"}[5m])", "invalid aggregation sum_over_time without unwrap");
    fails("count_over_time({a=\"b\"} | unwrap x [5m])", "invalid aggregation count_over_time with unwrap");
    fails("rate({a=\"b\"}[5m]) by (x)", "grouping not allowed for rate aggregation");
    fails("topk(rate({a=\"b\"}[5m]))", "parameter required for operation topk");
    fails("topk(0, vector(1))", "must be greater than 0");
    fails("sum({a=\"b\"})", "numbers are due, not lines");
    fails("{a=\"b\"} + 1", "takes numbers, not lines");
    fails("1 + {a=\"b\"}", "takes numbers, not lines");
    fails("1 and vector(1)", "takes series, not a number");
    fails("vector(1) + bool vector(1)", "bool modifier can only be used on comparison operators");
    fails("sum by (a) (vector(1)) by (b)", "stand twice");
    fails("\n  rate({a=\"b\"}[5m]", "line 2");
    fails(&"(".repeat(100), "nested deeper than 64");
    fails(&format!("1{}", " ^ 1".repeat(200)), "nested deeper than 64");
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9 ]{0,5}", "\\PC{0,4}", "[\"\\\\\n\t`]{0,3}"]
}

fn name() -> impl Strategy<Value = String> {
    "l_[a-z0-9_]{0,4}"
}

fn matcher() -> impl Strategy<Value = LabelMatcher> {
    let op = prop_oneof![
        Just(MatchOp::Equal),
        Just(MatchOp::NotEqual),
        Just(MatchOp::Regex),
        Just(MatchOp::NotRegex)
    ];
    (name(), op, text()).prop_map(|(name, op, value)| {
        let value = match op {
            MatchOp::Regex | MatchOp::NotRegex => regex::escape(&value),
            _ => value,
        };
        LabelMatcher { name, op, value }
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    prop_oneof![
        Just(Compare::Equal),
        Just(Compare::NotEqual),
        Just(Compare::Greater),
        Just(Compare::GreaterOrEqual),
        Just(Compare::Less),
        Just(Compare::LessOrEqual),
    ]
}

fn label_filter() -> impl Strategy<Value = LabelFilter> {
    let leaf = prop_oneof![
        matcher().prop_map(LabelFilter::Match),
        (name(), compare(), -1e6..1e6f64)
            .prop_map(|(name, compare, value)| LabelFilter::Number(name, compare, value)),
        (name(), compare(), 1i64..10_000_000_000_000).prop_map(|(n, c, ns)| LabelFilter::Duration(n, c, ns)),
        (name(), compare(), 0u64..1 << 50)
            .prop_map(|(name, compare, bytes)| LabelFilter::Bytes(name, compare, bytes)),
        (name(), any::<bool>()).prop_map(|(name, equal)| LabelFilter::Ip(
            name,
            equal,
            "10.0.0.0/8".to_owned()
        )),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| LabelFilter::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| LabelFilter::Or(Box::new(a), Box::new(b))),
        ]
    })
}

fn stage() -> impl Strategy<Value = Stage> {
    let extraction =
        (name(), "[a-z]{1,3}(\\.[a-z]{1,3})?").prop_map(|(label, path)| Extraction { label, path });
    let extractions = proptest::collection::vec(extraction, 0..3).boxed();
    let choice = prop_oneof![name().prop_map(LabelChoice::Name), matcher().prop_map(LabelChoice::Matcher)];
    let choices = proptest::collection::vec(choice, 1..3).boxed();
    let line = (0..3usize, proptest::collection::vec(text(), 1..3)).prop_map(|(op, texts)| {
        let op = [LineOp::Contains, LineOp::NotContains, LineOp::Pattern][op];
        Stage::Line(op, texts.into_iter().map(LineTest::Text).collect())
    });
    prop_oneof![
        line,
        extractions.clone().prop_map(Stage::Json),
        (any::<bool>(), any::<bool>(), extractions)
            .prop_map(|(strict, keep_empty, extractions)| Stage::Logfmt { strict, keep_empty, extractions }),
        Just(Stage::Unpack),
        Just(Stage::Decolorize),
        Just(Stage::Pattern("<a> <_>".to_owned())),
        Just(Stage::Regexp("(?P<a>\\w+)".to_owned())),
        label_filter().prop_map(Stage::Filter),
        // What opens an action of a template has to close it, in a line and in a label alike.
        text().prop_map(|text| Stage::LineFormat(text.replace('{', "("))),
        (name(), name()).prop_map(|(a, b)| Stage::LabelFormat(vec![(a, LabelValue::Rename(b))])),
        (name(), text())
            .prop_map(|(a, b)| Stage::LabelFormat(vec![(a, LabelValue::Template(b.replace('{', "(")))])),
        choices.clone().prop_map(Stage::Drop),
        choices.prop_map(Stage::Keep),
    ]
}

fn log() -> impl Strategy<Value = LogExpr> {
    let selective = name().prop_map(|name| LabelMatcher { name, op: MatchOp::Equal, value: "x".to_owned() });
    (selective, proptest::collection::vec(matcher(), 0..2), proptest::collection::vec(stage(), 0..4))
        .prop_map(|(first, mut matchers, mut stages)| {
            matchers.insert(0, first);
            // `drop a != "b"` is a drop with a matcher, as in Loki: no line filter of that form can follow one.
            stages.dedup_by(|next, before| {
                let takes_matchers = matches!(before, Stage::Drop(_) | Stage::Keep(_));
                takes_matchers && matches!(next, Stage::Line(LineOp::NotContains | LineOp::NotMatches, _))
            });
            LogExpr { matchers, stages }
        })
}

fn metric() -> impl Strategy<Value = Metric> {
    let unwrap = (name(), 0..3usize, proptest::collection::vec(label_filter(), 0..2)).prop_map(
        |(label, c, filters)| Unwrap {
            label,
            conversion: [Conversion::None, Conversion::Duration, Conversion::Bytes][c],
            filters,
        },
    );
    let range = (0..RangeOp::ALL.len(), log(), unwrap, 1i64..1 << 45, -(1i64 << 40)..1 << 40, any::<bool>());
    let range = range.prop_map(|(op, log, unwrap, range_ns, offset_ns, both)| {
        use RangeOp::{AbsentOverTime, BytesOverTime, BytesRate, CountOverTime, QuantileOverTime, Rate};
        let op = RangeOp::ALL[op];
        let unwraps = match op {
            CountOverTime | BytesRate | BytesOverTime => false,
            Rate | AbsentOverTime => both,
            _ => true,
        };
        Metric::Range(Box::new(RangeExpr {
            op,
            param: (op == QuantileOverTime).then_some(0.75),
            log,
            unwrap: unwraps.then_some(unwrap),
            range_ns,
            offset_ns,
            grouping: None,
        }))
    });
    let grouping = (any::<bool>(), proptest::collection::vec(name(), 0..3))
        .prop_map(|(without, labels)| Grouping { without, labels });
    let grouping = proptest::option::of(grouping).boxed();
    let leaf = prop_oneof![range, (-1e3..1e3f64).prop_map(Metric::Vector)];
    leaf.prop_recursive(3, 8, 2, move |inner| {
        let aggregate = (0..9usize, grouping.clone(), inner.clone()).prop_map(|(op, grouping, expr)| {
            let op = AggregateOp::ALL[op];
            Metric::Aggregate { op, param: op.takes_param().then_some(3.0), grouping, expr: Box::new(expr) }
        });
        let ops = [BinaryOp::Add, BinaryOp::Pow, BinaryOp::Or, BinaryOp::Unless, BinaryOp::Sub];
        let binary = (0..ops.len(), inner.clone(), inner).prop_map(move |(op, left, right)| Metric::Binary {
            op: ops[op],
            matching: Matching { on: Some((true, vec!["l_a".to_owned()])), ..Matching::default() },
            left: Box::new(left),
            right: Box::new(right),
        });
        prop_oneof![aggregate, binary]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(log in log(), metric in metric()) {
        for expr in [Expr::Log(log), Expr::Metric(metric)] {
            let text = expr.to_string();
            let parsed = parse(&text);
            prop_assert_eq!(parsed.as_ref(), Ok(&expr), "{}", text);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[{}()\\[\\]|=!~<>a-c\"`5m .,+*^#\\\\-]{0,30}") {
        if let Ok(expr) = parse(&format!("{{a=\"b\"}} {text}")).or_else(|_| parse(&text)) {
            let text = expr.to_string();
            let again = parse(&text).map(|expr| expr.to_string());
            prop_assert_eq!(again.as_ref(), Ok(&text));
        }
    }
}
