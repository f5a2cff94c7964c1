//! Who may share an answer: each fault here showed somebody what another one had asked.

use std::time::Duration;

use futures_util::future::join_all;
use thrifty::call::{Call, Options, Scope};

use super::support::*;

/// Answers each call with the credential it came with.
fn by_whom(pause: Duration) -> Bench {
    let answers = upstream(pause, |_, call| {
        let whose = call.parts.headers.get("authorization").map_or("nobody", |who| who.to_str().unwrap());
        Ok(answer(call, whose))
    });
    Bench::over(|builder| builder, answers)
}

/// Nobody gets what another credential was answered, one after another and all at once.
async fn nobody_gets_anothers(calls: impl Fn() -> Vec<Call>, users: usize) {
    let bench = by_whom(Duration::from_millis(2));
    let credential = |n: usize| format!("Bearer {n}");
    for call in calls() {
        for n in (0..users).chain(0..users) {
            assert_eq!(bench.text(by(&credential(n), call.clone())).await, credential(n));
        }
    }
    assert_eq!(bench.calls(), users, "each of them paid once, for both forms");
    bench.handle.purge_all().await;
    let asked = (0..users * 20).flat_map(|n| calls().into_iter().map(move |call| (n % users, call)));
    let answered = join_all(asked.map(|(n, call)| {
        let bench = &bench;
        async move { (n, bench.text(by(&credential(n), call)).await) }
    }));
    for (n, said) in answered.await {
        assert_eq!(said, credential(n), "in one flight with somebody else");
    }
}

mod theopenco_llmgateway {
    use super::*;

    /// The key of the response cache had no tenant in it (GHSA-h9ww-f95j-h54c).
    #[tokio::test]
    async fn theopenco_llmgateway_3758_two_credentials_never_share() {
        nobody_gets_anothers(|| both("hi").into(), 2).await;
    }
}

mod vllm_project_semantic_router {
    use super::*;

    /// A user was served what another one had asked.
    #[tokio::test]
    async fn vllm_project_semantic_router_1448_no_user_gets_anothers_answer() {
        nobody_gets_anothers(|| both("What is my balance?").into(), 8).await;
    }

    /// The same, by a question that was merely similar.
    #[tokio::test]
    async fn vllm_project_semantic_router_2134_a_similar_question_of_another_user_is_a_miss() {
        let bench = by_whom(Duration::ZERO);
        for (user, question) in [("a", "What is my balance?"), ("b", "What's my balance?")] {
            assert_eq!(bench.text(by(user, ask(question))).await, user);
        }
        assert_eq!(bench.calls(), 2);
    }
}

mod kilocode {
    use super::*;

    /// Users of one gateway were said to have got each other's answers.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn kilocode_14080_flights_of_several_tenants_do_not_meet() {
        let answers = upstream(Duration::from_millis(2), |_, call| {
            let tenant = call.parts.headers["x-tenant"].to_str().unwrap();
            Ok(answer(call, tenant))
        });
        let bench = Bench::over(|builder| builder, answers);
        let of = |n: usize| {
            let tenant = format!("t{}", n % 16);
            let mut call = both("hi")[n / 16 % 2].clone();
            call.parts.headers.insert("x-tenant", tenant.parse().unwrap());
            (tenant.clone(), call.with(Options::new().scope(Scope::tenant(&tenant))))
        };
        let callers = (0..800).map(of).map(|(tenant, call)| {
            let client = bench.client.clone();
            tokio::spawn(async move {
                let reply = tower::ServiceExt::oneshot(client, call).await.unwrap();
                assert_eq!(text(&reply.into_body().bytes().await.unwrap()), tenant);
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    }
}

/// No member of a body and no header says who shares.
fn nothing_in_a_request_widens_its_scope(member: &str, value: &str) {
    let of = |credential: &str| {
        let mut call =
            by(credential, Call::post(CHAT, format!(r#"{{"model":"m","messages":[],"{member}":{value}}}"#)));
        for header in ["x-cache-scope", "x-cache-key", "x-tenant", "thrifty-scope"] {
            call.parts.headers.insert(header, "shared".parse().unwrap());
        }
        keyer().key(&call, &Scope::default(), &[]).unwrap()
    };
    assert!(of("Bearer a") != of("Bearer b"), "`{member}` brought two credentials together");
}

mod wso2_api_platform {
    /// The cache was shared by all.
    #[test]
    fn wso2_api_platform_733_a_request_cannot_share_by_a_member() {
        super::nothing_in_a_request_widens_its_scope("scope", r#""shared""#);
    }
}

mod maximhq_bifrost {
    use super::*;

    /// A request could lower the floor of similarity.
    #[tokio::test]
    async fn maximhq_bifrost_6101_a_request_cannot_loosen_the_match() {
        nothing_in_a_request_widens_its_scope("cache_threshold", "0");
        let bench = Bench::counting(Duration::ZERO);
        for question in ["Is it safe?", "Is it not safe?"] {
            let mut call = ask(question);
            call.parts.headers.insert("x-bf-cache-threshold", "0".parse().unwrap());
            bench.text(call).await;
        }
        assert_eq!(bench.calls(), 2, "a header made two questions one");
    }

    /// A request could name its key.
    #[tokio::test]
    async fn maximhq_bifrost_5769_a_request_cannot_name_its_key() {
        nothing_in_a_request_widens_its_scope("cache_key", r#""k""#);
        let bench = Bench::counting(Duration::ZERO);
        for question in ["a", "b"] {
            let mut call = ask(question);
            call.parts.headers.insert("x-cache-key", "k".parse().unwrap());
            bench.text(call).await;
        }
        assert_eq!(bench.calls(), 2, "a header made two questions one");
    }
}

mod berriai_litellm {
    use super::*;

    /// The key stood in a header, and was the same for two teams.
    #[tokio::test]
    async fn berriai_litellm_29955_nothing_shows_a_key() {
        let bench = Bench::counting(Duration::ZERO);
        let made = key(CHAT, &chat("a"));
        let hex: String = made.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let team = |who: &str| keyer().key(&by(who, ask("a")), &Scope::default(), &[]).unwrap();
        assert!(team("Bearer a") != team("Bearer b"), "two teams have one key");
        for _ in 0..2 {
            let reply = bench.send(ask("a")).await.unwrap();
            let shown =
                format!("{:?} {:?} {:?} {made:?}", reply.headers(), bench.handle, bench.handle.stats());
            assert!(shown.contains("thrifty; "), "{shown}");
            assert!(!shown.to_lowercase().contains(&hex[..8]) && !shown.contains("key="), "{shown}");
        }
    }
}

mod nomadamas_k_skill {
    use super::*;

    /// One key served several routes.
    #[test]
    fn nomadamas_k_skill_151_the_route_counts() {
        let (one, other) = ("https://gw.example/v1/completions", "https://gw.example/v1/chat/completions");
        assert!(key(one, &chat("a")) != key(other, &chat("a")));
    }

    /// And an outage was served for as long as an answer.
    #[tokio::test]
    async fn nomadamas_k_skill_151_an_outage_is_not_stored() {
        let bench = Bench::new(|n, call| {
            Ok(if n < 2 { reply(502 + n as u16, whole("down")) } else { answer(call, "up") })
        });
        for want in ["down", "down", "up", "up"] {
            assert_eq!(bench.text(ask("a")).await, want);
        }
        assert_eq!(bench.calls(), 3);
    }
}
