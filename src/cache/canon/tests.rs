use super::*;

fn hex(hash: [u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of(body: &str) -> Result<String, Bypass> {
    digest(body.as_bytes(), &[]).map(hex)
}

#[track_caller]
fn same(spellings: &[&str]) {
    let first = of(spellings[0]).unwrap();
    for other in &spellings[1..] {
        assert_eq!(of(other).unwrap(), first, "{} and {other} say the same", spellings[0]);
    }
}

#[track_caller]
fn all_differ(bodies: &[&str]) {
    let mut seen: Vec<(String, &str)> = bodies.iter().map(|body| (of(body).unwrap(), *body)).collect();
    seen.sort();
    for pair in seen.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "{} and {} say different things", pair[0].1, pair[1].1);
    }
}

#[test]
fn numbers_are_exact_decimals() {
    same(&["1", "1.0", "1e0", "10e-1", "0.1e1", "1.000", "1E+0", "0.01e2"]);
    same(&["0", "-0", "0.0", "0e99999999999999", "-0.0e-5"]);
    same(&["1200", "1.2e3", "12e2", "1200.00", "0.012e5"]);
    same(&["-0.5", "-5e-1", "-0.50"]);
    same(&["1e9999", "0.1e10000", "10e9998"]);
    all_differ(&[
        "9007199254740992",
        "9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "0.1",
        "0.10000000000000000001",
        "1",
        "-1",
        "10",
        "100",
        "1e400",
        "\"1\"",
        "null",
        "true",
        "false",
        "[]",
        "{}",
        "\"\"",
        "0",
    ]);
}

#[test]
fn texts_are_compared_unescaped_and_as_they_are() {
    same(&[r#""\u00e9\/""#, "\"é/\""]);
    same(&[r#""\ud83d\ude00""#, "\"\u{1F600}\""]);
    same(&[r#""\n\t\r\b\f\"\\""#, r#""\u000a\u0009\u000d\u0008\u000c\u0022\u005C""#]);
    all_differ(&["\"é\"", "\"e\u{301}\"", "\"E\"", "\"e\"", "\" e\"", "\"e \"", r#""\\u0065""#]);
}

#[test]
fn nothing_can_be_moved_between_neighbours() {
    all_differ(&[
        r#"["ab","c"]"#,
        r#"["a","bc"]"#,
        r#"["abc"]"#,
        r#"[["ab"],"c"]"#,
        r#"[["ab","c"]]"#,
        r#"["c","ab"]"#,
        r#"{"ab":"c"}"#,
        r#"{"a":"bc"}"#,
        r#"{"c":"ab"}"#,
        r#"[1,23]"#,
        r#"[12,3]"#,
        r#"[123]"#,
        r#"{"a":{"b":1},"c":2}"#,
        r#"{"a":{"b":1,"c":2}}"#,
        r#"{"a":null}"#,
        r#"{}"#,
    ]);
}

#[test]
fn members_are_sorted_by_utf8_and_not_by_utf16() {
    same(&["{\"\u{FB33}\":1,\"\u{1F600}\":2}", "{\"\u{1F600}\":2,\"\u{FB33}\":1}"]);
    same(&[
        r#"{"a":1,"a\u0000":2,"aaaaaaaaa":3,"aaaaaaaab":4}"#,
        r#"{"aaaaaaaab":4,"aaaaaaaaa":3,"a\u0000":2,"a":1}"#,
    ]);
}

#[test]
fn what_readers_disagree_on_goes_past_the_cache() {
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert!(of(&deep(128)).is_ok());
    for (body, why) in [
        (r#"{"a":1,"a":1}"#, "duplicate-name"),
        (r#"[{"b":{"a":1,"\u0061":2}}]"#, "duplicate-name"),
        (r#"{"aaaaaaaaaa":1,"b":2,"aaaaaaaaaa":3}"#, "duplicate-name"),
        (r#""\ud800""#, "lone-surrogate"),
        (r#""\ud800\n""#, "lone-surrogate"),
        (r#""\ud800\u0041""#, "lone-surrogate"),
        (r#""\udc00""#, "lone-surrogate"),
        ("\u{FEFF}{}", "byte-order-mark"),
        ("1e10000", "number-range"),
        ("1e-99999999999999999999", "number-range"),
        ("{} {}", "not-json"),
        ("{}x", "not-json"),
        ("", "not-json"),
        ("01", "not-json"),
        ("-", "not-json"),
        ("1.", "not-json"),
        (".5", "not-json"),
        ("+1", "not-json"),
        ("1e", "not-json"),
        ("NaN", "not-json"),
        ("nul", "not-json"),
        ("[1,]", "not-json"),
        ("{\"a\":1,}", "not-json"),
        ("{\"a\" 1}", "not-json"),
        ("{a:1}", "not-json"),
        ("[1}", "not-json"),
        ("[1", "not-json"),
        ("{\"a\":", "not-json"),
        ("\"a", "not-json"),
        ("\"a\nb\"", "not-json"),
        (r#""\x""#, "not-json"),
        (r#""\u00g0""#, "not-json"),
        (r#""\u00"#, "not-json"),
        ("\"\\", "not-json"),
        ("[1] // why", "not-json"),
        (&deep(129), "too-deep"),
        (&deep(200_000), "too-deep"),
    ] {
        assert_eq!(of(body), Err(Bypass(why)), "{}", &body[..body.len().min(40)]);
    }
    assert_eq!(digest(b"\"\xff\"", &[]), Err(Bypass("not-utf8")));
    let large = format!("\"{}\"", "x".repeat(crate::call::Doc::MAX_BYTES));
    assert_eq!(of(&large), Err(Bypass("too-large")));
}

#[test]
fn only_members_at_exactly_the_named_place_are_left_out() {
    let paths = ["user", "m/*/c/*/mark", "deep/er"];
    let same =
        |a: &str, b: &str| digest(a.as_bytes(), &paths).unwrap() == digest(b.as_bytes(), &paths).unwrap();
    assert!(same(r#"{"user":{"x":[1]},"a":1}"#, r#"{"a":1}"#));
    assert!(same(
        r#"{"m":[{"c":[{"mark":1,"t":2},{"t":3}]}]}"#,
        r#"{"m":[{"c":[{"t":2},{"mark":4,"t":3}]}]}"#
    ));
    assert!(same(r#"{"deep":{"er":1}}"#, r#"{"deep":{}}"#));
    for (a, b) in [
        (r#"{"x":{"user":1}}"#, r#"{"x":{}}"#),
        (r#"{"mark":1}"#, "{}"),
        (r#"{"m":[{"c":{"0":{"mark":1}}}]}"#, r#"{"m":[{"c":{"0":{}}}]}"#),
        (r#"{"m":[{"c":[{"t":{"mark":1}}]}]}"#, r#"{"m":[{"c":[{"t":{}}]}]}"#),
        (r#"{"m":{"*":{"c":[{"mark":1}]}}}"#, r#"{"m":{"*":{"c":[{}]}}}"#),
        (r#"{"m":[[{"c":[{"mark":1}]}]]}"#, r#"{"m":[[{"c":[{}]}]]}"#),
        (r#"{"deep":[{"er":1}]}"#, r#"{"deep":[{}]}"#),
        (r#"{"deep":1}"#, "{}"),
        (r#"[{"user":1}]"#, "[{}]"),
    ] {
        assert!(!same(a, b), "{a} and {b}");
    }
    for unclear in [r#"{"user":{"a":1,"a":2}}"#, r#"{"user":[{"b":[{"a":1,"a":2}]}]}"#] {
        assert_eq!(digest(unclear.as_bytes(), &paths), Err(Bypass("duplicate-name")), "{unclear}");
    }
    assert_eq!(digest(br#"{"user":1e99999}"#, &paths), Err(Bypass("number-range")));
}

#[test]
fn differences_are_pointers_and_empty_only_for_equals() {
    let a = br#"{"a":[1,{"x/y":2}],"b":"t","c":null,"user":1,"n":1.0}"#;
    let b = br#"{"n":1,"a":[1.0,{"x/y":3},4],"b":"\u0074","d":0,"user":2}"#;
    assert_eq!(differences(a, b, &["user"]).unwrap(), ["/a/1/x~1y", "/a/2", "/c", "/d"]);
    assert_eq!(differences(a, a, &[]).unwrap(), Vec::<String>::new());
    assert_eq!(differences(b"1", b"\"1\"", &[]).unwrap(), [""]);
    assert_eq!(differences(b"{\"a\":1,\"a\":1}", b"{}", &["a"]), Err(Bypass("duplicate-name")));
    assert_eq!(differences(b"[12.5]", b"[1.25e1]", &[]).unwrap(), Vec::<String>::new());
}

#[test]
fn a_body_larger_than_a_piece_hashes_as_one_written_at_once() {
    // The same fields into one unbuffered hasher.
    let count = |len: usize| match u8::try_from(len) {
        Ok(len) if len < 255 => vec![len],
        _ => [&[255][..], &(len as u64).to_le_bytes()].concat(),
    };
    for len in [
        0,
        1,
        254,
        255,
        256,
        Sink::PIECE - 10,
        Sink::PIECE - 9,
        Sink::PIECE,
        Sink::PIECE + 1,
        3 * Sink::PIECE,
    ] {
        let text = "x".repeat(len);
        let mut plain = blake3::Hasher::new();
        plain.update(&[tag::ARRAY]).update(&count(2));
        for _ in 0..2 {
            plain.update(&[tag::TEXT]).update(&count(len)).update(text.as_bytes());
        }
        assert_eq!(
            of(&format!("[\"{text}\",\"{text}\"]")).unwrap(),
            hex(*plain.finalize().as_bytes()),
            "{len}"
        );
    }
}
