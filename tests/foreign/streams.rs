//! Streams: each fault here passed them by, or gave them back in another shape.

use std::time::Duration;

use http_body_util::BodyExt;
use thrifty::call::{Call, Dialect};

use super::support::*;

mod berriai_litellm {
    use super::*;

    /// A stream from the cache came as one lump.
    #[tokio::test]
    async fn berriai_litellm_30216_a_replay_has_the_frames_of_its_stream() {
        let bench = Bench::counting(Duration::ZERO);
        let asks_for_usage = || {
            Call::post(
                CHAT,
                chat("hi").replacen('{', r#"{"stream":true,"stream_options":{"include_usage":true},"#, 1),
            )
        };
        for _ in 0..2 {
            let mut body = bench.send(asks_for_usage()).await.unwrap().into_body();
            let mut frames = Vec::new();
            while let Some(frame) = body.frame().await {
                frames.push(frame.unwrap().into_data().unwrap());
            }
            assert_eq!(frames, events("0"));
        }
        assert_eq!(bench.calls(), 1);
    }
}

mod langchain_ai_langchain {
    use super::*;

    /// One entry serves these calls in this order, with one call upstream.
    async fn one_call_serves(calls: [Call; 4]) {
        let bench = Bench::counting(Duration::ZERO);
        for call in calls {
            assert_eq!(bench.text(call).await, "0");
        }
        assert_eq!(bench.calls(), 1, "a form of the call passed the cache by");
    }

    /// Streams did not look into the cache.
    #[tokio::test]
    async fn langchain_ai_langchain_13119_a_stream_is_served_from_the_cache() {
        let [plain, stream] = both("hi");
        one_call_serves([plain, stream.clone(), stream.clone(), stream]).await;
    }

    /// Streams were not stored.
    #[tokio::test]
    async fn langchain_ai_langchain_23701_a_stream_is_stored_for_the_next_stream() {
        let [_, stream] = both("hi");
        one_call_serves([stream.clone(), stream.clone(), stream.clone(), stream]).await;
    }

    /// What a stream had brought did not serve a plain call.
    #[tokio::test]
    async fn langchain_ai_langchain_24120_a_stream_is_stored_for_plain_calls() {
        let [plain, stream] = both("hi");
        one_call_serves([stream, plain.clone(), plain.clone(), plain]).await;
    }

    /// The two forms had caches of their own.
    #[tokio::test]
    async fn langchain_ai_langchain_25161_both_forms_have_one_entry() {
        let [plain, stream] = both("hi");
        let bench = Bench::counting(Duration::ZERO);
        for call in [&plain, &stream, &plain] {
            bench.text(call.clone()).await;
        }
        assert_eq!(bench.handle.stats().store.memory_entries, 1);
        assert!(bench.handle.invalidate(&stream).await);
        assert!(bench.handle.get(&plain).await.is_none(), "one form was forgotten and the other was not");
    }
}

mod kong {
    use super::*;

    /// The end marker of a stream was wrong, of one format after another.
    #[tokio::test]
    async fn kong_each_format_ends_its_streams_its_own_way() {
        let gemini =
            "https://generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse";
        for (url, document, end) in [
            (CHAT, whole("a"), "data: [DONE]\n\n"),
            (
                CLAUDE,
                r#"{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}"#.to_owned(),
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            ),
            (
                gemini,
                r#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,"totalTokenCount":2},"modelVersion":"m"}"#.to_owned(),
                "\"modelVersion\":\"m\"}\n\n",
            ),
            (
                OLLAMA,
                r#"{"model":"m","created_at":"2026-11-18T11:06:40Z","message":{"role":"assistant","content":"a"},"done":true,"done_reason":"stop","prompt_eval_count":1,"eval_count":1}"#.to_owned(),
                "\"eval_count\":1}\n",
            ),
        ] {
            let bench = Bench::counting(Duration::ZERO);
            let (_, base) = bases().into_iter().find(|(at, _)| *at == url).unwrap_or((url, bases()[3].1.clone()));
            let streams = if url == gemini { "" } else { r#""stream":true,"# };
            let call = Call::post(url, format!("{{{streams}{base}}}"));
            bench.handle.put(&call, reply(200, document)).await.unwrap_or_else(|why| panic!("{url}: {why}"));
            let body = bench.read(call.clone()).await.unwrap();
            let body = String::from_utf8_lossy(&body);
            assert!(body.ends_with(end), "{:?} ends with {:?}", call.dialect, &body[body.len().saturating_sub(80)..]);
            assert_eq!(body.matches(end).count(), 1, "once: {body}");
            let done = body.contains("[DONE]");
            assert_eq!(done, call.dialect == Dialect::OpenAiChat, "{url} has {}", if done { "one" } else { "none" });
            assert_eq!(bench.calls(), 0, "it was served");
        }
    }
}

mod helicone_ai_gateway {
    use super::*;

    /// A stream was collected, and came when it was over.
    #[tokio::test(start_paused = true)]
    async fn helicone_ai_gateway_the_first_byte_comes_before_the_last() {
        let bench = Bench::over(
            |builder| builder,
            upstream(Duration::ZERO, |_, _| Ok(paced(events("a"), Duration::from_secs(10)))),
        );
        let began = tokio::time::Instant::now();
        let mut body = bench.send(ask_stream("hi")).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
        body.bytes().await.unwrap();
        assert!(began.elapsed() >= Duration::from_secs(40));
    }
}
