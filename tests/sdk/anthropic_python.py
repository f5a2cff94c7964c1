"""The official Python client of Anthropic: messages, their streams, token counts."""

import asyncio
import json

import anthropic
from common import Checks, need, seen
from pydantic import BaseModel

MODEL = "claude-haiku-4-5"
TOOLS = [
    {
        "name": "find_city",
        "description": "Finds a city.",
        "input_schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
            "required": ["name", "count"],
        },
    }
]


class City(BaseModel):
    name: str
    people: int


def client(url, headers):
    return anthropic.Anthropic(base_url=url, api_key="sk-ant-anthropic-python", default_headers=headers, max_retries=0)


def ask(text, **more):
    return {
        "model": MODEL,
        "max_tokens": 2000,
        "system": "You are brief.",
        "messages": [{"role": "user", "content": text}],
        **more,
    }


def raw(call):
    return seen(call.headers), call.parse()


def stream(call):
    with call as response:
        return seen(response.headers), list(response.parse())


def plain(c, *asked, **more):
    return raw(c.messages.with_raw_response.create(**ask(*asked, **more)))


def streamed(c, *asked, **more):
    return stream(c.messages.with_streaming_response.create(stream=True, **ask(*asked, **more)))


def helper(c, *asked, **more):
    """The stream put together by the library."""
    with c.messages.stream(**ask(*asked, **more)) as events:
        served = seen(events.response.headers)
        return served, [[event.type for event in events], events.get_final_message()]


def is_text(message):
    need(message.content[0].type == "text" and len(message.content[0].text) > 40, "text")
    need(message.stop_reason == "end_turn", "an end")
    need(message.usage.input_tokens > 5 and message.usage.output_tokens > 10, "usage")


def is_call(message):
    block = message.content[-1]
    need(block.type == "tool_use" and block.name == "find_city", "a tool call")
    need(set(block.input) == {"name", "count"}, "arguments that fit the schema")
    need(message.stop_reason == "tool_use", "an end for the tool")


def events_are_whole(events):
    need(events[0].type == "message_start" and events[-1].type == "message_stop", "a start and an end")
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    text = "".join(getattr(delta, "text", "") for delta in deltas)
    arguments = "".join(getattr(delta, "partial_json", "") for delta in deltas)
    need(len(text) > 40 or set(json.loads(arguments)) == {"name", "count"}, "text or arguments")


checks = Checks(client)
checks.call("messages, plain", lambda c: plain(c, "Anthropic, plain."), is_text)
checks.stream("messages, streamed", lambda c: streamed(c, "Anthropic, streamed."), events_are_whole)
checks.stream(
    "messages, put together from a stream", lambda c: helper(c, "Anthropic, helper."), lambda a: is_text(a[1])
)
TOOL = "Anthropic: use the tool."
checks.call("messages, tool call", lambda c: plain(c, TOOL, tools=TOOLS), is_call)
checks.stream("messages, tool call streamed", lambda c: streamed(c, f"{TOOL} Streamed.", tools=TOOLS), events_are_whole)
checks.stream(
    "messages, tool call put together from a stream",
    lambda c: helper(c, "Anthropic: use the tool for the helper.", tools=TOOLS),
    lambda a: is_call(a[1]),
)


def result(c):
    """The turn after a tool call: the library's own typed blocks sent back."""
    question = {"role": "user", "content": "Anthropic: use the tool and tell me."}
    call = c.messages.create(**ask("", tools=TOOLS, messages=[question]))
    answer = {"type": "tool_result", "tool_use_id": call.content[-1].id, "content": "42"}
    messages = [question, {"role": "assistant", "content": call.content}, {"role": "user", "content": [answer]}]
    return plain(c, "", tools=TOOLS, messages=messages)


checks.call("messages, result of a tool", result, is_text)


def asynchronous(c):
    async def run():
        async with anthropic.AsyncAnthropic(
            base_url=c.base_url, api_key=c.api_key, default_headers=c._custom_headers, max_retries=0
        ) as a:
            call = a.messages.with_streaming_response.create(stream=True, **ask("Anthropic, asynchronous."))
            async with call as response:
                events = [event async for event in await response.parse()]
                return seen(response.headers), events

    return asyncio.run(run())


checks.stream("messages, asynchronous stream", asynchronous, events_are_whole)

for name, more in [("text", {}), ("tool call", {"tools": TOOLS})]:
    checks.both(
        f"messages in both forms, {name}",
        lambda c, text: plain(c, f"Anthropic: use the tool, {text}", **more),
        lambda c, text: helper(c, f"Anthropic: use the tool, {text}", **more),
        lambda a: a[1],
    )

checks.error(
    "an unknown path",
    lambda c: c.post("/v1/no/such/path", cast_to=object, body={"model": MODEL}),
    anthropic.NotFoundError,
    "/v1/no/such/path",
)
checks.error(
    "a body without messages",
    lambda c: c.messages.create(model=MODEL, max_tokens=5, messages=[]),
    anthropic.BadRequestError,
    "messages",
    "invalid_request_error",
)
checks.error(
    "a wish that is not known",
    lambda c: c.messages.create(**ask("Anthropic, wish."), extra_headers={"thrifty-cache": "sometimes"}),
    anthropic.BadRequestError,
    "thrifty-cache",
    "no-store",
)


def parsed(c):
    """`parse` has no raw access: the HTTP client tells what came."""
    told = []
    hooks = {"response": [lambda response: told.append(seen(response.headers))]}
    with c.copy(http_client=anthropic.DefaultHttpxClient(event_hooks=hooks)) as hooked:
        answer = hooked.messages.parse(**ask("Anthropic: a city as JSON."), output_format=City)
    return told[-1], answer


checks.call(
    "messages, structured output", parsed, lambda a: need(isinstance(a.parsed_output, City), "a parsed city")
)
checks.stream(
    "messages, structured output put together from a stream",
    lambda c: helper(c, "Anthropic: another city.", output_format=City),
    lambda a: need(isinstance(a[1].parsed_output, City), "a parsed city"),
)
# A count costs nothing, and no format claims its path: it is passed on each time.
checks.call(
    "token count",
    lambda c: raw(
        c.messages.with_raw_response.count_tokens(
            model=MODEL, system="You are brief.", messages=[{"role": "user", "content": "Anthropic, counted."}]
        )
    ),
    lambda a: need(a.input_tokens > 5, "a count"),
    cached=False,
)
