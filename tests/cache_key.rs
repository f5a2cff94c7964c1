//! What a cache key promises: one key for all spellings of a call, another for every other call.

use http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;
use thrifty::cache::{Bypass, CacheKey, Keyer, Secret, differences, digest};
use thrifty::call::{Call, Scope};

const URL: &str = "https://api.openai.com/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"hi"}]}"#;

fn keyer() -> Keyer {
    Keyer::new(&Secret::from_bytes([7; 32]))
}

fn call(url: &str, body: &str, headers: &[(&'static str, &str)]) -> Call {
    let mut call = Call::post(url, body.to_owned());
    for (name, value) in headers {
        call.parts.headers.append(*name, HeaderValue::from_str(value).expect("a header value"));
    }
    call
}

fn key_of(url: &str, body: &str, headers: &[(&'static str, &str)]) -> CacheKey {
    keyer().key(&call(url, body, headers), &Scope::default(), &[]).expect("a key")
}

fn body_key(body: &str) -> Result<CacheKey, Bypass> {
    keyer().key(&call(URL, body, &[]), &Scope::default(), &[])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// These change only together with the version of the canonical form or of the key.
#[test]
fn keys_are_the_same_in_every_build() {
    let large = format!(r#"{{"text":"{}"}}"#, "0123456789abcdef".repeat(8192));
    for (body, want) in [
        ("null", GOLDEN[0]),
        (r#"[0,-1.50,1e3,"\u00e9\n",true,false,null]"#, GOLDEN[1]),
        (r#"{"b":[{}],"a":{"c":9007199254740993}}"#, GOLDEN[2]),
        (large.as_str(), GOLDEN[3]),
    ] {
        assert_eq!(hex(&digest(body.as_bytes(), &[]).unwrap()), want, "{:.40}", body);
    }
    let headers = [("authorization", "Bearer sk-1"), ("openai-organization", "org-1")];
    let plain = key_of(URL, BODY, &headers);
    assert_eq!(hex(plain.as_bytes()), GOLDEN[4]);
    assert_eq!(keyer().fingerprint(&plain), GOLDEN[5]);
    let call = call(URL, BODY, &headers);
    let tenant = keyer().key(&call, &Scope::tenant("ann"), &[]).unwrap();
    assert_eq!(hex(tenant.as_bytes()), GOLDEN[6]);
    assert_eq!(hex(keyer().alias(&call, &Scope::default(), &[], &[1; 32]).as_bytes()), GOLDEN[7]);
    assert_eq!(hex(&keyer().scope_tag(&call, &Scope::default())), GOLDEN[8]);
}

const GOLDEN: [&str; 9] = [
    "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    "362190612ca5605ec4b895bb43451b1f088ccaf5ccedf13efe7cef783eea5fef",
    "698dea0e5d989779108e2ef1303a15113c86260131c653483515fd001c17c14a",
    "3a27712cbc0d53f23dc89b0a2363a55655521331bdbc621cac7e4584a0dbe427",
    "a5f15a0a173b19593ae49f6534954cc0cd693a2183a9b347d06d8b350cd00506",
    "beb587de15170c66",
    "cf2fe2f182141df7ecae674ff32dc28fffbbc2a87ce703d7c038553337643d18",
    "80359174d22d0d5f85c6a4cb8fd6ccaceec62c9876c50e06d50bd619e8359f64",
    "007323d74b30fae94f5cee8f6aebc066",
];

#[test]
fn all_that_steers_an_answer_is_in_the_key() {
    let with = |name: &'static str, value: &str| key_of(URL, BODY, &[(name, value)]);
    let keys = [
        key_of(URL, BODY, &[]),
        key_of("https://api.openai.com/v1/other/chat/completions", BODY, &[]),
        key_of("http://api.openai.com/v1/chat/completions", BODY, &[]),
        key_of("https://api.openai.com:8443/v1/chat/completions", BODY, &[]),
        key_of("https://api.openai.org/v1/chat/completions", BODY, &[]),
        key_of("https://api.openai.com/v1/chat/completions?api-version=1", BODY, &[]),
        key_of("https://api.openai.com/v1/chat/completions?api-version=2", BODY, &[]),
        key_of("https://api.openai.com/v1/chat/completions?other=1", BODY, &[]),
        with("anthropic-version", "2023-06-01"),
        with("anthropic-beta", "a"),
        with("anthropic-beta", "a,b"),
        with("openai-beta", "a"),
        with("openai-organization", "a"),
        with("openai-project", "a"),
        body_key(&BODY.replace("gpt-5-mini", "gpt-5")).unwrap(),
        body_key(&BODY.replace('}', "} ").replacen("\"model\"", "\"x_new_field\":0,\"model\"", 1)).unwrap(),
        {
            let mut put = call(URL, BODY, &[]);
            put.parts.method = http::Method::PUT;
            keyer().key(&put, &Scope::default(), &[]).unwrap()
        },
    ];
    for (i, a) in keys.iter().enumerate() {
        for (j, b) in keys.iter().enumerate().skip(i + 1) {
            assert!(a != b, "calls {i} and {j} are told apart");
        }
    }
}

#[test]
fn what_does_not_steer_an_answer_is_not_in_the_key() {
    let plain = key_of(URL, BODY, &[]);
    for (name, value) in [
        ("user-agent", "x/1"),
        ("x-stainless-retry-count", "2"),
        ("traceparent", "00-0-0-00"),
        ("idempotency-key", "k"),
        ("date", "now"),
        ("accept", "*/*"),
    ] {
        assert!(key_of(URL, BODY, &[(name, value)]) == plain, "{name}");
    }
    assert!(key_of("https://API.openai.com:443/v1/chat/completions", BODY, &[]) == plain);
    for field in [
        "\"user\":\"u\",",
        "\"metadata\":{\"a\":\"b\"},",
        "\"stream\":false,",
        // One stored answer serves both kinds of callers.
        "\"stream\":true,",
        "\"stream\":true,\"stream_options\":{\"include_usage\":true},",
        "\"service_tier\":\"flex\",",
    ] {
        let body = BODY.replacen("\"model\"", &format!("{field}\"model\""), 1);
        assert!(body_key(&body).unwrap() == plain, "{field}");
    }
    let beta = |values: &[&'static str]| {
        key_of(URL, BODY, &values.iter().map(|value| ("anthropic-beta", *value)).collect::<Vec<_>>())
    };
    assert!(beta(&["a, b"]) == beta(&["b", "a,a"]), "a set has no order");
}

#[test]
fn headers_named_as_varying_count_in_any_order_of_naming() {
    let (one, two) = (HeaderName::from_static("x-one"), HeaderName::from_static("x-two"));
    let key = |headers: &[(&'static str, &str)], vary: &[HeaderName]| {
        keyer().key(&call(URL, BODY, headers), &Scope::default(), vary).unwrap()
    };
    let both = [("x-one", "1"), ("x-two", "2")];
    assert!(key(&both, &[one.clone(), two.clone()]) == key(&both, &[two.clone(), one.clone(), two.clone()]));
    assert!(key(&both, &[one.clone(), two.clone()]) != key(&both, std::slice::from_ref(&one)));
    assert!(
        key(&[("x-one", "2")], std::slice::from_ref(&one))
            != key(&[("x-one", "1")], std::slice::from_ref(&one))
    );
    assert!(key(&[], std::slice::from_ref(&one)) == key(&[], &[]), "an absent header is no value");
}

#[test]
fn scopes_do_not_meet() {
    let scoped = |headers: &[(&'static str, &str)], scope: &Scope| {
        keyer().key(&call(URL, BODY, headers), scope, &[]).unwrap()
    };
    let (ann, bob) = ([("authorization", "Bearer a")], [("authorization", "Bearer b")]);
    let own = Scope::credential();
    assert!(scoped(&ann, &own) != scoped(&bob, &own), "two credentials");
    assert!(scoped(&ann, &own) == scoped(&ann, &own));
    assert!(scoped(&[("x-api-key", "a")], &own) != scoped(&[("api-key", "a")], &own));
    assert!(
        scoped(&ann, &Scope::tenant("x")) != scoped(&bob, &Scope::tenant("x")),
        "a tenant is within its credential"
    );
    assert!(scoped(&ann, &Scope::tenant("x")) != scoped(&ann, &Scope::tenant("y")));
    assert!(scoped(&ann, &Scope::shared("x")) == scoped(&bob, &Scope::shared("x")), "shared by name");
    assert!(scoped(&ann, &Scope::shared("x")) != scoped(&ann, &Scope::shared("y")));
    assert!(scoped(&[], &Scope::shared("x")) != scoped(&[], &Scope::tenant("x")));
    let query = |key: &str| key_of(&format!("https://g.example/v1/chat/completions?key={key}"), BODY, &[]);
    assert!(query("a") != query("b"), "a credential in the query");
    let other = Keyer::new(&Secret::from_bytes([8; 32]));
    assert!(
        other.key(&call(URL, BODY, &ann), &own, &[]).unwrap() != scoped(&ann, &own),
        "another deployment"
    );
    let tag = |headers: &[(&'static str, &str)]| keyer().scope_tag(&call(URL, BODY, headers), &own);
    assert_eq!(tag(&ann), tag(&ann));
    assert_ne!(tag(&ann), tag(&bob));
}

#[test]
fn a_signature_is_no_credential() {
    let signed = |date: &str| {
        call(
            URL,
            BODY,
            &[("authorization", &format!("AWS4-HMAC-SHA256 Credential=AKIA/{date}, Signature=0"))],
        )
    };
    let key = |date: &str, scope: &Scope| keyer().key(&signed(date), scope, &[]);
    assert_eq!(key("1", &Scope::credential()), Err(Bypass("signed-credential")));
    let with_token = |token: &str, scope: &Scope| {
        let mut call = signed("1");
        call.parts.headers.insert("x-amz-security-token", HeaderValue::from_str(token).expect("a value"));
        keyer().key(&call, scope, &[]).unwrap()
    };
    for scope in [Scope::tenant("t"), Scope::shared("s")] {
        assert_eq!(key("1", &scope).unwrap(), key("2", &scope).unwrap(), "{scope:?}");
        assert_eq!(
            with_token("1", &scope),
            with_token("2", &scope),
            "it belongs to the signature: {scope:?}"
        );
    }
}

#[test]
fn whatever_tells_who_asks_is_a_credential() {
    let by = |name: &'static str, who: &str| key_of(URL, BODY, &[(name, who)]);
    for name in [
        "cookie",
        "proxy-authorization",
        "ocp-apim-subscription-key",
        "helicone-auth",
        "x-portkey-api-key",
        "cf-aig-authorization",
        "cf-access-client-secret",
        "x-auth-token",
        "x-amz-security-token",
        "x-goog-user-project",
        "x-my-credentials",
        "apikey",
        "private-token",
        "x-access-key",
        "x-key",
        "session_id",
    ] {
        assert!(by(name, "ann") != by(name, "bob"), "{name}");
        assert!(by(name, "ann") == by(name, "ann"), "{name}");
    }
    assert!(by("idempotency-key", "a") == by("idempotency-key", "b"), "new for each call, and nobody's");
    assert!(by("x-idempotency-token", "a") == by("x-idempotency-token", "b"), "likewise");
    let user = |user: &str| key_of(&format!("https://{user}@g.example/v1/chat/completions"), BODY, &[]);
    assert!(user("ann:p") != user("bob:p") && user("ann:p") != user("ann:q"), "the user in a URI");
    assert!(user("ann:p") == user("ann:p"));
    let two = |a: &str, b: &str| key_of(URL, BODY, &[("authorization", a), ("cookie", b)]);
    assert!(two("a", "b") != two("a", "c") && two("a", "b") != two("c", "b"), "each of several counts");
    assert!(
        two("a", "b") == key_of(URL, BODY, &[("cookie", "b"), ("authorization", "a")]),
        "in whatever order they came"
    );
}

#[test]
fn a_name_nobody_can_guess_is_a_credential_once_it_is_given() {
    let name = HeaderName::from_static("x-who");
    let (ann, bob) = (call(URL, BODY, &[("x-who", "ann")]), call(URL, BODY, &[("x-who", "bob")]));
    let key = |keyer: &Keyer, call: &Call, scope: &Scope| keyer.key(call, scope, &[]).expect("a key");
    let (plain, told) = (keyer(), keyer().with_credential_headers([name]));
    let own = Scope::credential();
    assert!(key(&plain, &ann, &own) == key(&plain, &bob, &own), "not known to it");
    assert!(key(&told, &ann, &own) != key(&told, &bob, &own));
    let shared = Scope::shared("s");
    assert!(key(&told, &ann, &shared) == key(&told, &bob, &shared), "who shares says so");
    assert_ne!(told.scope_tag(&ann, &own), told.scope_tag(&bob, &own));
}

#[test]
fn what_may_not_be_cached_has_a_reason() {
    for (body, why) in [
        (r#"{"model":"m","messages":[],"store":true}"#, "store-true"),
        (r#"{"model":"m","messages":[{"role":"user","role":"user"}]}"#, "duplicate-name"),
        (r#"{"model":"m","model":"m","messages":[]}"#, "duplicate-name"),
        (r#"{"model":"m","messages":[],"user":{"a":1,"a":2}}"#, "duplicate-name"),
        (r#"{"model":"m","messages":[],"seed":1e99999}"#, "number-range"),
        (r#"{"model":"m","messages":["\ud800"]}"#, "lone-surrogate"),
        ("[1]", "not-an-object"),
        ("{} {}", "not-json"),
        ("", "no-body"),
    ] {
        assert_eq!(body_key(body), Err(Bypass(why)), "{body}");
    }
    let opaque = call("https://api.openai.com/v1/audio/speech", r#"{"input":"x"}"#, &[]);
    assert_eq!(keyer().key(&opaque, &Scope::default(), &[]), Err(Bypass("opaque")));
}

#[test]
fn an_alias_is_of_the_exact_bytes_under_one_policy() {
    let alias =
        |body: &str, policy: u8| keyer().alias(&call(URL, body, &[]), &Scope::default(), &[], &[policy; 32]);
    assert!(alias(BODY, 1) == alias(BODY, 1));
    assert!(alias(BODY, 1) != alias(BODY, 2), "another policy");
    assert!(alias(BODY, 1) != alias(&format!("{BODY} "), 1), "another byte");
    assert!(alias("not json", 1) == alias("not json", 1), "nothing is parsed");
    let shared = keyer().alias(&call(URL, BODY, &[]), &Scope::shared("s"), &[], &[1; 32]);
    assert!(shared != alias(BODY, 1), "another scope");
}

#[test]
fn an_alias_tells_apart_whatever_a_key_tells_apart() {
    let of = |url: &str, headers: &[(&'static str, &str)], scope: &Scope, vary: &[HeaderName]| {
        keyer().alias(&call(url, BODY, headers), scope, vary, &[1; 32])
    };
    let credential = Scope::credential();
    let with = |headers: &[(&'static str, &str)]| of(URL, headers, &credential, &[]);
    let plain = with(&[]);
    for headers in [
        &[("authorization", "Bearer a")][..],
        &[("authorization", "Bearer b")],
        &[("x-api-key", "a")],
        &[("x-api-key", "a"), ("x-api-key", "b")],
        &[("cookie", "a")],
        &[("anthropic-version", "2023-06-01")],
        &[("anthropic-beta", "a")],
        &[("anthropic-beta", "a,b")],
        &[("openai-project", "p")],
    ] {
        assert!(with(headers) != plain, "{headers:?}");
        assert!(with(headers) == with(headers), "{headers:?}");
    }
    let two = |name: &'static str, value: &str| with(&[(name, value)]);
    assert!(two("authorization", "Bearer a") != two("authorization", "Bearer b"), "two credentials");
    assert!(two("x-api-key", "a") != two("authorization", "a"), "where a credential stands");
    assert!(
        with(&[("x-request-id", "1"), ("accept", "a"), ("user-agent", "u")]) == plain,
        "what steers nothing"
    );
    let vary = [HeaderName::from_static("x-request-id")];
    assert!(of(URL, &[("x-request-id", "1")], &credential, &vary) != of(URL, &[], &credential, &vary));
    for url in [
        "https://api.openai.com/v2/chat/completions",
        "https://api.openai.com/v1/chat/completions?a=1",
        "https://api.openai.com/v1/chat/completions?key=1",
        "https://u@api.openai.com/v1/chat/completions",
        "https://api.openai.org/v1/chat/completions",
        "http://api.openai.com/v1/chat/completions",
        "https://api.openai.com:8443/v1/chat/completions",
    ] {
        assert!(of(url, &[], &credential, &[]) != plain, "{url}");
    }
    let path = "/v1/chat/completions";
    let host = |host: &str| of(path, &[("host", host)], &credential, &[]);
    assert!(host("a.example") != host("b.example"), "a call without an origin has that of its host");
    let ann = Scope::tenant("ann");
    assert!(of(URL, &[], &ann, &[]) != of(URL, &[], &Scope::tenant("bob"), &[]), "two tenants");
    assert!(of(URL, &[], &ann, &[]) != of(URL, &[], &Scope::shared("ann"), &[]), "two kinds of scope");
    let sent = |headers: &[(&'static str, &str)]| of(URL, headers, &ann, &[]);
    let signed = |signature: &str| {
        let value = format!("AWS4-HMAC-SHA256 Credential=a, Signature={signature}");
        sent(&[("authorization", value.as_str()), ("x-amz-security-token", signature)])
    };
    assert!(signed("1") == signed("2"), "a signature is new each time; a named tenant is told by name");
    assert!(sent(&[("authorization", "Bearer a")]) != sent(&[("authorization", "Bearer b")]));
    // In a scope that is shared, credentials are nobody's business.
    let shared = Scope::shared("docs");
    for (url, headers) in [
        ("https://api.openai.com/v1/chat/completions?key=1", &[][..]),
        ("https://u@api.openai.com/v1/chat/completions", &[]),
        (URL, &[("authorization", "Bearer a")]),
    ] {
        assert!(of(url, headers, &shared, &[]) == of(URL, &[], &shared, &[]), "{url}");
    }
}

/// JSON that knows what it says, so that it can be spelled in many ways.
#[derive(Clone, Debug)]
enum Value {
    Null,
    Bool(bool),
    /// Digits times a power of ten.
    Number(i64, i16),
    Text(String),
    Array(Vec<Value>),
    Object(Vec<(String, Value)>),
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (any::<i64>(), -20i16..20).prop_map(|(digits, exponent)| Value::Number(digits, exponent)),
        (-9i64..10, -2i16..3).prop_map(|(digits, exponent)| Value::Number(digits, exponent)),
        text().prop_map(Value::Text),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map(text(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,6}", "[a-c/]{0,3}", "[a-z ]{20,90}", "[\"\\\\\n\té\u{1F600}\u{FB33}]{0,40}"]
}

/// A source of choices for one spelling.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn space(&mut self) -> &'static str {
        ["", "", "", " ", "\n", "\t \r\n"][self.roll(6) as usize]
    }
}

fn spell(value: &Value, dice: &mut Dice, out: &mut String) {
    out.push_str(dice.space());
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(digits, exponent) => spell_number(*digits, *exponent, dice, out),
        Value::Text(text) => spell_text(text, dice, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                spell(item, dice, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            for i in (1..members.len()).rev() {
                members.swap(i, dice.roll(i as u64 + 1) as usize);
            }
            out.push('{');
            for (i, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                out.push_str(dice.space());
                spell_text(name, dice, out);
                out.push_str(dice.space());
                out.push(':');
                spell(value, dice, out);
            }
            out.push('}');
        }
    }
    out.push_str(dice.space());
}

fn spell_number(digits: i64, exponent: i16, dice: &mut Dice, out: &mut String) {
    let sign = if digits < 0 { "-" } else { "" };
    let mut text = digits.unsigned_abs().to_string();
    let mut exponent = i64::from(exponent);
    // Move the point to the left by some digits, or add zeros, and say so in the exponent.
    for _ in 0..if digits == 0 { 0 } else { dice.roll(3) } {
        text.push('0');
        exponent -= 1;
    }
    let left = dice.roll(text.len() as u64) as usize;
    if left > 0 {
        exponent += left as i64;
        text.insert(text.len() - left, '.');
        for _ in 0..dice.roll(3) {
            text.push('0');
        }
    }
    let mark = ["e", "E", "e+", "E+"][if exponent < 0 { dice.roll(2) } else { dice.roll(4) } as usize];
    if exponent == 0 && dice.roll(2) == 0 {
        out.push_str(&format!("{sign}{text}"));
    } else {
        out.push_str(&format!("{sign}{text}{mark}{exponent}"));
    }
}

fn spell_text(text: &str, dice: &mut Dice, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        let short = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\t' => "\\t",
            '/' if dice.roll(2) == 0 => "\\/",
            _ => "",
        };
        if dice.roll(8) == 0 || (short.is_empty() && (c as u32) < 0x20) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let (lower, upper) = (format!("\\u{unit:04x}"), format!("\\u{unit:04X}"));
                out.push_str(if dice.roll(2) == 0 { &lower } else { &upper });
            }
        } else if short.is_empty() {
            out.push(c);
        } else {
            out.push_str(short);
        }
    }
    out.push('"');
}

fn spelled(value: &Value, seed: u64) -> String {
    let mut out = String::new();
    spell(value, &mut Dice(seed), &mut out);
    out
}

/// Changes what `value` says in one place, chosen by `dice`. False if this place cannot be changed that way.
fn change(value: &mut Value, dice: &mut Dice) -> bool {
    match value {
        Value::Null => *value = Value::Bool(false),
        Value::Bool(truth) => *truth = !*truth,
        Value::Number(digits, _) => *digits = digits.wrapping_add(1),
        Value::Text(text) => match dice.roll(3) {
            0 => text.push(' '),
            1 => text.insert(0, 'x'),
            _ => *value = Value::Array(vec![Value::Text(std::mem::take(text))]),
        },
        Value::Array(items) => match dice.roll(4) {
            0 => items.push(Value::Null),
            1 if items.len() > 1 => {
                let first = items.remove(0);
                // Reordering equals changes nothing.
                if differences(spelled(&first, 0).as_bytes(), spelled(&items[0], 0).as_bytes(), &[])
                    .is_ok_and(|found| found.is_empty())
                {
                    return false;
                }
                items.insert(1, first);
            }
            2 if items.len() > 1 => {
                let last = items.split_off(items.len() / 2);
                items.push(Value::Array(last));
            }
            _ if !items.is_empty() => {
                let at = dice.roll(items.len() as u64) as usize;
                return change(&mut items[at], dice);
            }
            _ => items.push(Value::Null),
        },
        Value::Object(members) => match dice.roll(3) {
            _ if members.is_empty() => members.push(("k".into(), Value::Null)),
            0 => drop(members.pop()),
            1 => members[0].0.push_str(" by another name"),
            _ => {
                let at = dice.roll(members.len() as u64) as usize;
                return change(&mut members[at].1, dice);
            }
        },
    }
    true
}

/// So many of each of the two ways (one key for all spellings, another for every change) with every submission; a
/// million of each before a release: `THRIFTY_CASES=1000000 cargo test --release --test cache_key`.
const CASES: u32 = 20_000;

fn cases() -> ProptestConfig {
    let cases = std::env::var("THRIFTY_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = cases.unwrap_or(CASES);
    // What reorders equals is no change, and is thrown again.
    ProptestConfig { max_global_rejects: cases, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_spelling_of_a_body_has_one_key(value in values(), seeds: [u64; 2]) {
        let (a, b) = (spelled(&value, seeds[0]), spelled(&value, seeds[1]));
        prop_assert_eq!(digest(a.as_bytes(), &[]).unwrap(), digest(b.as_bytes(), &[]).unwrap(), "{}\n{}", a, b);
        prop_assert_eq!(differences(a.as_bytes(), b.as_bytes(), &[]).unwrap(), Vec::<String>::new());
        let body = |content: &str| format!("{{\"model\":\"m\",\"messages\":[],\"x\":{content}}}");
        prop_assert!(body_key(&body(&a)).unwrap() == body_key(&body(&b)).unwrap());
    }

    #[test]
    fn every_change_of_what_a_body_says_changes_its_key(value in values(), seeds: [u64; 3]) {
        let mut other = value.clone();
        prop_assume!(change(&mut other, &mut Dice(seeds[2])));
        let (a, b) = (spelled(&value, seeds[0]), spelled(&other, seeds[1]));
        prop_assert_ne!(digest(a.as_bytes(), &[]).unwrap(), digest(b.as_bytes(), &[]).unwrap(), "{}\n{}", a, b);
        prop_assert!(!differences(a.as_bytes(), b.as_bytes(), &[]).unwrap().is_empty());
    }

    #[test]
    fn a_text_split_elsewhere_is_another_list(text in "[a-b]{2,9}", at in 0usize..9, by in 0usize..9) {
        let at = at % text.len();
        let to = (at + 1 + by % (text.len() - 1)) % text.len();
        let list = |at: usize| format!("[\"{}\",\"{}\"]", &text[..at], &text[at..]);
        prop_assert_ne!(digest(list(at).as_bytes(), &[]).unwrap(), digest(list(to).as_bytes(), &[]).unwrap());
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_what_passes_is_json(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = digest(&bytes, &["a/*/b"]);
    }

    #[test]
    fn what_has_a_key_is_json_and_json_without_one_has_a_reason(text in "[\\[\\]{}\":,\\\\0-9eE+.u \\-truefalsnd]{0,30}") {
        let json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        match digest(text.as_bytes(), &[]) {
            Ok(_) => prop_assert!(json, "{}", text),
            Err(Bypass("not-json")) => prop_assert!(!json, "{}", text),
            Err(_) => {}
        }
    }
}
