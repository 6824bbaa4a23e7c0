use proptest::prelude::*;

use super::*;

fn prints_as(input: &str, expected: &str) {
    let expr = parse(input).unwrap_or_else(|e| panic!("{input}: {e}"));
    assert_eq!(expr.to_string(), expected, "{input}");
    let again = parse(expected).unwrap_or_else(|e| panic!("{expected}: {e}"));
    assert_eq!(again.to_string(), expected);
}

fn round_trips(input: &str) {
    prints_as(input, input);
}

fn fails(input: &str, expected: &str) {
    match parse(input) {
        Ok(expr) => panic!("{input} parsed as {expr}"),
        Err(error) => assert_eq!(error.to_string(), expected, "{input}"),
    }
}

#[test]
fn literals() {
    round_trips("1");
    prints_as("0x1F", "31");
    prints_as("0755", "493");
    prints_as("1_000", "1000");
    prints_as("1h30m", "1h30m");
    prints_as("-5m", "-5m");
    prints_as("+Inf", "+Inf");
    prints_as("inF", "+Inf");
    prints_as("- - - 1", "-1");
    prints_as("'a\"b'", r#""a\"b""#);
    prints_as("`a\\n`", r#""a\\n""#);
}

#[test]
fn operators_bind_as_in_prometheus() {
    let tree = |input: &str| {
        fn show(e: &Expr) -> String {
            match &e.kind {
                ExprKind::Binary(b) => format!("({}{}{})", show(&b.left), b.op.as_str(), show(&b.right)),
                ExprKind::Unary { negative, expr } => {
                    format!("{}({})", if *negative { '-' } else { '+' }, show(expr))
                }
                _ => e.to_string(),
            }
        }
        show(&parse(input).unwrap_or_else(|e| panic!("{input}: {e}")))
    };
    assert_eq!(tree("1 + 2 * 3"), "(1+(2*3))");
    assert_eq!(tree("1 - 2 - 3"), "((1-2)-3)");
    assert_eq!(tree("2 ^ 3 ^ 2"), "(2^(3^2))");
    assert_eq!(tree("-a ^ 2"), "-((a^2))");
    assert_eq!(tree("-a * 2"), "(-(a)*2)");
    assert_eq!(tree("2 ^ -3 * 4"), "((2^-3)*4)");
    assert_eq!(tree("a or b and c unless d"), "(aor((bandc)unlessd))");
    assert_eq!(tree("a > 1 + 2"), "(a>(1+2))");
    assert_eq!(tree("a </ 1 + 2"), "(a</(1+2))");
    assert_eq!(tree("a atan2 b * c"), "((aatan2b)*c)");
}

#[test]
fn selectors_and_modifiers() {
    round_trips(r#"foo{a="b",c!="d",e=~"f.*",g!~"h"}"#);
    round_trips("foo[5m] @ 10.000 offset 1m");
    prints_as("foo offset -5m @ start()", "foo @ start() offset -5m");
    prints_as("foo @ 1m40s", "foo @ 100.000");
    prints_as("foo[100] offset 50", "foo[1m40s] offset 50s");
    round_trips("rate(foo[5m] anchored)");
    round_trips("foo smoothed");
    fails("sum(foo) anchored", "1:1: parse error: anchored modifier not implemented");
    fails("1 smoothed", "1:1: parse error: smoothed modifier not implemented");
    fails("foo[5m:1m] anchored", "1:1: parse error: anchored modifier is not supported for subqueries");
    round_trips("max_over_time(rate(foo[5m])[1h:1m] @ end())");
    round_trips("foo[1h:]");
    prints_as(r#"{"http.status", code="200"}"#, r#"{__name__="http.status",code="200"}"#);
    prints_as(r#"{"a b"="c"}"#, r#"{"a b"="c"}"#);
    round_trips(r#"sum by (a, "b.c") (foo)"#);
    prints_as("sum(foo) without (a)", "sum without (a) (foo)");
    prints_as("sum by () (foo)", "sum(foo)");
    prints_as("count{by=\"x\"}", "count{by=\"x\"}");
    prints_as("and and and", "and and and");
    prints_as("fill + fill", "fill + fill");
    prints_as("sum + on(a) group_left(b) min", "sum + on (a) group_left (b) min");
    round_trips("a + on (x) group_right (y) b");
    round_trips("a / fill (0) b");
    round_trips("a - ignoring (x) fill_left (1) fill_right (2) b");
    round_trips("a == bool 1");
    round_trips("info(foo, {a=~\".+\"})");
    round_trips("info(foo, {})");
}

#[test]
fn durations_compute() {
    round_trips("foo[5m + 1m * 2]");
    round_trips("foo[step() * 2:step()]");
    round_trips("foo[max_of(step(), 1m)]");
    round_trips("foo offset (1m + 2m)");
    round_trips("foo offset -(1m + 2m)");
    round_trips("foo offset step()");
    round_trips("foo offset -min_of(step(), range())");
    prints_as("foo offset 5m + 3", "foo offset 5m + 3");
    round_trips("foo[(5m)]");
}

#[test]
fn errors_have_prometheus_words() {
    fails("", "1:1: parse error: no expression found in input");
    fails("1 +", "1:4: parse error: unexpected end of input");
    fails("foo{", "1:5: parse error: unexpected end of input inside braces");
    fails("foo{a}", "1:6: parse error: unexpected \"}\" in label matching, expected label matching operator");
    fails("foo{a=b}", "1:7: parse error: unexpected identifier \"b\" in label matching, expected string");
    fails("(1", "1:3: parse error: unclosed left parenthesis");
    fails("1)", "1:2: parse error: unexpected right parenthesis ')'");
    fails("foo bar", "1:5: parse error: unexpected identifier \"bar\"");
    fails("unknown(1)", "1:1: parse error: unknown function with name \"unknown\"");
    fails("abs(1)", "1:5: parse error: expected type instant vector in call to function \"abs\", got scalar");
    fails(
        "rate(foo)",
        "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
    );
    fails("rate(foo[5m], 1)", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 2");
    fails("round()", "1:1: parse error: expected at least 1 argument(s) in call to \"round\", got 0");
    fails("sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar");
    fails(
        "topk(foo)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
    fails("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier");
    fails("foo + bool bar", "1:5: parse error: bool modifier can only be used on comparison operators");
    fails("1 and foo", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression");
    fails("foo and on(a) group_left(b) bar", "1:1: parse error: no grouping allowed for \"and\" operation");
    fails("{a=\"\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    fails("foo{__name__=\"bar\"}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\"");
    fails(
        "foo[5m] + 1",
        "1:1: parse error: binary expression must contain only scalar and instant vector types",
    );
    fails("sum(foo)[5m]", "1:9: parse error: ranges only allowed for vector selectors");
    fails("foo[0m]", "1:5: parse error: duration must be greater than 0");
    fails("foo offset 1m offset 2m", "1:1: parse error: offset may not be set multiple times");
    fails(
        "sum(foo) offset 1m",
        "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
    );
    fails("foo @ 1 @ 2", "1:1: parse error: @ <timestamp> may not be set multiple times");
    fails(
        "a + on(x) group_left(x) b",
        "1:3: parse error: label \"x\" must not occur in ON and GROUP clause at once",
    );
    fails("sum(foo,)", "1:8: parse error: trailing commas not allowed in function call args");
    fails("foo{a=~\"(\"}", &parse("foo{a=~\"(\"}").unwrap_err().to_string());
    fails("a\n  + b c", "2:7: parse error: unexpected identifier \"c\"");
    fails("info(foo, bar)", "1:11: parse error: expected label selectors only, got vector selector instead");
    fails("1m1h", "1:1: parse error: not a valid duration string: \"1m1h\"");
    fails("foo[5m", "1:7: parse error: unexpected end of input in duration expression");
    fails("\"a", "1:1: parse error: unterminated quoted string");
    fails("foo[5m:1m:]", "1:10: parse error: unexpected repeated colon in duration expression");
    fails("1 </ 2", "1:1: parse error: operator \"</\" not allowed for Scalar operations");
}

#[test]
fn depth_is_bounded() {
    for deep in ["(".repeat(100_000), "-".repeat(100_000), "abs(".repeat(100_000)] {
        assert!(parse(&deep).is_err());
    }
    assert!(parse(&format!("foo{}", "[1m:]".repeat(10_000))).is_err());
    assert!(parse(&format!("1{}", " + 1".repeat(10_000))).is_err());
    assert!(parse(&format!("1{}", " ^ 1".repeat(10_000))).is_err());
    assert!(parse(&format!("foo[{}1m]", "(".repeat(10_000))).is_err());
    assert!(parse(&format!("1{}", " + 1".repeat(200))).is_ok());
    assert!(parse(&"x".repeat(MAX_QUERY_BYTES + 1)).is_err());
}

#[test]
fn a_part_parses_by_its_span() {
    let query = "sum(rate(foo[5m])) / b";
    let whole = parse(query).unwrap();
    whole.walk(&mut |part| {
        if matches!(part.kind, ExprKind::Matrix(_)) {
            return;
        }
        assert_eq!(&parse_span(query, part.span).unwrap(), part);
    });
    assert!(parse_span("ä", Span::new(1, 2)).is_err());
    assert!(parse_span("a", Span::new(0, 9)).is_err());
}

/// Expressions built from a grammar, so that most of them parse.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("foo".to_owned()),
        Just("foo{a=\"b\"}".to_owned()),
        Just("{\"a.b\"}".to_owned()),
        Just("1.5".to_owned()),
        Just("-3m".to_owned()),
        Just("foo offset 5m @ 3".to_owned()),
        Just("time()".to_owned()),
    ];
    leaf.prop_recursive(5, 32, 3, |inner| {
        let op = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("/"),
            Just("^"),
            Just("%"),
            Just("== bool"),
            Just("and"),
            Just("or"),
            Just("unless on(a)"),
            Just("* on(a) group_left(b)"),
            Just("atan2"),
            Just("</"),
        ];
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("-{a}")),
            inner.clone().prop_map(|a| format!("sum by (a) ({a})")),
            inner.clone().prop_map(|a| format!("topk(3, {a})")),
            inner.clone().prop_map(|a| format!("abs({a})")),
            inner.clone().prop_map(|a| format!("max_over_time({a}[5m:1m] offset 1m)")),
            inner.prop_map(|a| format!("label_replace({a}, \"x\", \"$1\", \"y\", \"(.*)\")")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_tokens_are_taken_or_refused(tokens in proptest::collection::vec(
        prop_oneof![
            Just("foo"), Just("("), Just(")"), Just("["), Just("]"), Just("{"), Just("}"), Just("5m"), Just("1"),
            Just(":"), Just("offset"), Just("@"), Just("sum"), Just("by"), Just("on"), Just("="), Just("\"a\""),
            Just(","), Just("-"), Just("^"), Just("and"), Just("step"), Just("bool"), Just("fill"), Just("rate"),
            Just("group_left"), Just("smoothed"), Just("min"), Just("start"), Just("#"), Just("\n"), Just("é"),
        ], 0..20))
    {
        let _ = parse(&tokens.concat());
        let _ = parse(&tokens.join(" "));
    }

    #[test]
    fn what_prints_parses_to_the_same(text in expressions()) {
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            let again = parse(&printed).map_err(|e| TestCaseError::fail(format!("{printed}: {e}")))?;
            prop_assert_eq!(again.to_string(), printed.clone());
            let pretty = crate::promql::printer::pretty(&expr);
            let again = parse(&pretty).map_err(|e| TestCaseError::fail(format!("{pretty}: {e}")))?;
            prop_assert_eq!(again.to_string(), printed);
        }
    }
}
