"""The official Python client of OpenAI: chat completions, responses, embeddings."""

import asyncio
import json

import openai
from common import Checks, need, seen
from pydantic import BaseModel

MODEL = "gpt-5-mini"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find_city",
            "description": "Finds a city.",
            "parameters": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
                "required": ["name", "count"],
                "additionalProperties": False,
            },
        },
    }
]
FLAT_TOOLS = [{"type": "function", "strict": True, **TOOLS[0]["function"]}]


class City(BaseModel):
    name: str
    people: int
    is_capital: bool


def client(url, headers):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="sk-openai-python", default_headers=headers, max_retries=0)


def ask(text):
    return [{"role": "system", "content": "You are brief."}, {"role": "user", "content": text}]


def raw(call):
    """Gives what a non-streamed call with raw access gives."""
    return seen(call.headers), call.parse()


def stream(call):
    """Gives the chunks of a streamed call."""
    with call as response:
        return seen(response.headers), list(response.parse())


def text_of(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def arguments_of(chunks):
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    return "".join(call.function.arguments or "" for call in calls)


def is_call(name, arguments):
    need(name == "find_city", "the tool's name")
    need(set(json.loads(arguments)) == {"name", "count"}, "arguments that fit the schema")


def chat(checks):
    checks.call(
        "chat, plain",
        lambda c: raw(c.chat.completions.with_raw_response.create(model=MODEL, messages=ask("Openai, plain."))),
        lambda a: need(
            len(a.choices[0].message.content) > 40 and a.usage.total_tokens > 10 and a.choices[0].finish_reason == "stop",
            "text, usage and an end",
        ),
    )

    def streamed(c, **more):
        return stream(
            c.chat.completions.with_streaming_response.create(
                model=MODEL, stream=True, stream_options={"include_usage": True}, **more
            )
        )

    checks.stream(
        "chat, streamed",
        lambda c: streamed(c, messages=ask("Openai, streamed.")),
        lambda a: need(len(text_of(a)) > 40 and a[-1].usage.completion_tokens > 10, "text and usage"),
    )
    tool = {"messages": ask("Openai: use the tool."), "tools": TOOLS}
    checks.call(
        "chat, tool call",
        lambda c: raw(c.chat.completions.with_raw_response.create(model=MODEL, **tool)),
        lambda a: is_call(
            a.choices[0].message.tool_calls[0].function.name, a.choices[0].message.tool_calls[0].function.arguments
        ),
    )
    checks.stream(
        "chat, tool call streamed",
        lambda c: streamed(c, messages=ask("Openai: use the tool, streamed."), tools=TOOLS),
        lambda a: is_call(a[0].choices[0].delta.tool_calls[0].function.name, arguments_of(a)),
    )
    checks.call(
        "chat, structured output",
        lambda c: raw(
            c.chat.completions.with_raw_response.parse(
                model=MODEL, messages=ask("Openai: a city as JSON."), response_format=City
            )
        ),
        lambda a: need(isinstance(a.choices[0].message.parsed, City), "a parsed city"),
    )

    # The helper that puts the pieces of a stream together.
    def helper(c):
        with c.chat.completions.stream(model=MODEL, messages=ask("Openai: another city."), response_format=City) as s:
            events = [event.type for event in s]
            return seen(s._response.headers), [events, s.get_final_completion()]

    checks.stream(
        "chat, structured output put together from a stream",
        helper,
        lambda a: need(isinstance(a[1].choices[0].message.parsed, City), "a parsed city"),
    )

    def asynchronous(c):
        async def run():
            async with openai.AsyncOpenAI(
                base_url=c.base_url, api_key=c.api_key, default_headers=c._custom_headers, max_retries=0
            ) as a:
                call = a.chat.completions.with_streaming_response.create(
                    model=MODEL, messages=ask("Openai, asynchronous."), stream=True
                )
                async with call as response:
                    chunks = [chunk async for chunk in await response.parse()]
                    return seen(response.headers), chunks

        return asyncio.run(run())

    checks.stream("chat, asynchronous stream", asynchronous, lambda a: need(len(text_of(a)) > 40, "text"))


def responses(checks):
    checks.call(
        "responses, plain",
        lambda c: raw(c.responses.with_raw_response.create(model=MODEL, input="Openai responses, plain.", store=False)),
        lambda a: need(
            a.status == "completed" and len(a.output_text) > 40 and a.usage.output_tokens > 10, "text, usage and an end"
        ),
    )

    def streamed(c, **more):
        return stream(c.responses.with_streaming_response.create(model=MODEL, stream=True, store=False, **more))

    def whole(events):
        need(events[0].type == "response.created", "a start")
        need(events[-1].type == "response.completed", "an end")
        numbers = [event.sequence_number for event in events]
        need(numbers == sorted(set(numbers)), "numbered events")
        return events[-1].response

    def says(events):
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        need(len(text) > 40 and whole(events).output_text == text, "the same text in pieces and as a whole")

    checks.stream("responses, streamed", lambda c: streamed(c, input="Openai responses, streamed."), says)
    tool = {"input": "Openai responses: use the tool.", "tools": FLAT_TOOLS}
    checks.call(
        "responses, tool call",
        lambda c: raw(c.responses.with_raw_response.create(model=MODEL, store=False, **tool)),
        lambda a: is_call(a.output[-1].name, a.output[-1].arguments),
    )

    def calls(events):
        pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
        item = whole(events).output[-1]
        is_call(item.name, item.arguments)
        need("".join(pieces) == item.arguments, "the same arguments in pieces and as a whole")

    checks.stream(
        "responses, tool call streamed",
        lambda c: streamed(c, input="Openai responses: use the tool, streamed.", tools=FLAT_TOOLS),
        calls,
    )
    checks.call(
        "responses, structured output",
        lambda c: raw(
            c.responses.with_raw_response.parse(
                model=MODEL, input="Openai responses: a city as JSON.", text_format=City, store=False
            )
        ),
        lambda a: need(isinstance(a.output_parsed, City), "a parsed city"),
    )


def embeddings(checks):
    # Without a format the library asks for base64 and decodes it itself.
    for name, more in [("base64", {}), ("numbers", {"encoding_format": "float"})]:
        checks.call(
            f"embeddings as {name}",
            lambda c: raw(
                c.embeddings.with_raw_response.create(
                    model="text-embedding-3-small", input=["Openai, one.", "Openai, two."], **more
                )
            ),
            lambda a: need(
                len(a.data) == 2
                and all(isinstance(x, float) for x in a.data[0].embedding)
                and a.data[0].embedding != a.data[1].embedding,
                "two vectors",
            ),
        )


def errors(checks):
    checks.error(
        "an unknown path",
        lambda c: c.post("/no/such/path", cast_to=object, body={"model": MODEL}),
        openai.NotFoundError,
        "/no/such/path",
    )
    checks.error(
        "a body without messages",
        lambda c: c.chat.completions.create(model=MODEL, messages=[]),
        openai.BadRequestError,
        "messages",
    )
    checks.error(
        "a wish that is not known",
        lambda c: c.chat.completions.create(
            model=MODEL, messages=ask("Openai, wish."), extra_headers={"thrifty-cache": "sometimes"}
        ),
        openai.BadRequestError,
        "thrifty-cache",
        "no-store",
    )


def both(checks):
    """Each question as a document and as a stream, of which only one is asked of the upstream."""

    def chat_stream(c, text, **more):
        options = {"include_usage": True}
        with c.chat.completions.stream(model=MODEL, messages=ask(text), stream_options=options, **more) as s:
            events = list(s)
            need(len({event.chunk.id for event in events if event.type == "chunk"}) == 1, "one id in all chunks")
            return seen(s._response.headers), s.get_final_completion()

    def response_stream(c, text, **more):
        served, events = stream(
            c.responses.with_streaming_response.create(model=MODEL, input=text, stream=True, store=False, **more)
        )
        need(len({event.response.id for event in events if hasattr(event, "response")}) == 1, "one id in all events")
        return served, events[-1].response

    for name, more, flat in [("text", {}, {}), ("tool call", {"tools": TOOLS}, {"tools": FLAT_TOOLS})]:
        checks.both(
            f"chat in both forms, {name}",
            lambda c, text: raw(
                c.chat.completions.with_raw_response.create(
                    model=MODEL, messages=ask(f"Openai: use the tool, {text}"), **more
                )
            ),
            lambda c, text: chat_stream(c, f"Openai: use the tool, {text}", **more),
        )
        checks.both(
            f"responses in both forms, {name}",
            lambda c, text: raw(
                c.responses.with_raw_response.create(
                    model=MODEL, input=f"Openai: use the tool, {text}", store=False, **flat
                )
            ),
            lambda c, text: response_stream(c, f"Openai: use the tool, {text}", **flat),
        )


checks = Checks(client)
both(checks)
chat(checks)
embeddings(checks)
errors(checks)
responses(checks)
