"""Google's own Python client of the Gemini API: contents, streams, embeddings, token counts."""

import asyncio

from common import Checks, need, seen
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

MODEL = "gemini-2.5-flash"
FUNCTION = types.FunctionDeclaration(
    name="find_city",
    description="Finds a city.",
    parameters_json_schema={
        "type": "object",
        "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["name", "count"],
    },
)
TOOLS = types.GenerateContentConfig(
    tools=[types.Tool(function_declarations=[FUNCTION])],
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
)


class City(BaseModel):
    name: str
    people: int


def client(url, headers):
    options = types.HttpOptions(
        base_url=url, headers=headers, timeout=30_000, retry_options=types.HttpRetryOptions(attempts=1)
    )
    return genai.Client(api_key="google-python", vertexai=False, http_options=options)


def served(answer):
    return seen(answer.sdk_http_response.headers)


def plain(c, text, config=None, **more):
    answer = c.models.generate_content(model=MODEL, contents=text, config=config, **more)
    return served(answer), answer


def streamed(c, text, config=None):
    chunks = list(c.models.generate_content_stream(model=MODEL, contents=text, config=config))
    need(chunks, "at least one chunk")
    return served(chunks[0]), chunks


def is_whole(answer):
    need(answer.candidates[0].finish_reason == types.FinishReason.STOP, "an end")
    usage = answer.usage_metadata
    need(usage.prompt_token_count > 3 and usage.candidates_token_count > 3, "usage")


def is_text(answer):
    is_whole(answer)
    need(len(answer.text) > 40, "text")


def is_call(answer):
    is_whole(answer)
    call = answer.function_calls[0]
    need(call.name == "find_city" and set(call.args) == {"name", "count"}, "a call that fits the schema")


def is_text_stream(chunks):
    is_whole(chunks[-1])
    need(len(chunks) > 2 and len("".join(chunk.text or "" for chunk in chunks)) > 40, "text in pieces")


def is_call_stream(chunks):
    is_whole(chunks[-1])
    calls = [call for chunk in chunks for call in chunk.function_calls or []]
    need(len(calls) == 1 and set(calls[0].args) == {"name", "count"}, "one call that fits the schema")


checks = Checks(client)
system = types.GenerateContentConfig(system_instruction="You are brief.")
checks.call("content, plain", lambda c: plain(c, "Google, plain.", system), is_text)
checks.stream("content, streamed", lambda c: streamed(c, "Google, streamed.", system), is_text_stream)
checks.call("content, tool call", lambda c: plain(c, "Google: use the tool.", TOOLS), is_call)
checks.stream("content, tool call streamed", lambda c: streamed(c, "Google: use the tool, streamed.", TOOLS), is_call_stream)


def result(c):
    """The turn after a tool call: the library's own typed parts sent back."""
    question = types.Content(role="user", parts=[types.Part(text="Google: use the tool and tell me.")])
    _, answer = plain(c, [question], TOOLS)
    response = types.Part.from_function_response(name="find_city", response={"result": 42})
    turns = [question, answer.candidates[0].content, types.Content(role="user", parts=[response])]
    return plain(c, turns, TOOLS)


checks.call("content, result of a tool", result, is_text)
city = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
checks.call(
    "content, structured output",
    lambda c: plain(c, "Google: a city as JSON.", city),
    lambda a: need(isinstance(a.parsed, City), "a parsed city"),
)


def asynchronous(c):
    async def run():
        stream = await c.aio.models.generate_content_stream(model=MODEL, contents="Google, asynchronous.")
        chunks = [chunk async for chunk in stream]
        return served(chunks[0]), chunks

    return asyncio.run(run())


checks.stream("content, asynchronous stream", asynchronous, is_text_stream)


def embed(c):
    answer = c.models.embed_content(model="gemini-embedding-001", contents=["Google, one.", "Google, two."])
    return served(answer), answer


checks.call(
    "embeddings",
    embed,
    lambda a: need(len(a.embeddings) == 2 and a.embeddings[0].values != a.embeddings[1].values, "two vectors"),
)


def count(c):
    answer = c.models.count_tokens(model=MODEL, contents="Google, counted.")
    return served(answer), answer


# A count costs nothing, and no format claims its path: it is passed on each time.
checks.call("token count", count, lambda a: need(a.total_tokens > 3, "a count"), cached=False)



def put_together(chunks):
    return {
        "text": "".join(chunk.text or "" for chunk in chunks),
        "calls": [call for chunk in chunks for call in chunk.function_calls or []],
        "end": [chunks[-1].candidates[0].finish_reason, chunks[-1].usage_metadata, chunks[-1].model_version],
        "ids": sorted({chunk.response_id for chunk in chunks}),
    }


def without_ids(chunks):
    whole = put_together(chunks)
    need(len(whole.pop("ids")) == 1, "one id in all chunks")
    return whole


for name, config in [("text", system), ("tool call", TOOLS)]:
    checks.both(
        f"content in both forms, {name}",
        lambda c, text: plain(c, f"Google: use the tool, {text}", config),
        lambda c, text: streamed(c, f"Google: use the tool, {text}", config),
        without_ids,
    )

checks.error(
    "an unknown path",
    lambda c: c.models.get(model="no-such-model"),
    errors.ClientError,
    "404",
    "no-such-model",
)
checks.error(
    "a body without contents",
    # The library sends no such body by itself.
    lambda c: plain(
        c,
        "Google, nothing.",
        types.GenerateContentConfig(http_options=types.HttpOptions(extra_body={"contents": []})),
    ),
    errors.ClientError,
    "400",
    "contents",
)


def wish(c):
    options = types.HttpOptions(headers={"thrifty-cache": "sometimes"})
    return plain(c, "Google, wish.", types.GenerateContentConfig(http_options=options))


checks.error("a wish that is not known", wish, errors.ClientError, "400", "thrifty-cache", "no-store")
