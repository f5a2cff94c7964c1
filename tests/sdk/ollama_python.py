"""Ollama's own Python client: chat, generate, embeddings."""

import asyncio

import ollama
from common import Checks, need, seen
from pydantic import BaseModel

MODEL = "llama3.2"
SEEN = []
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
            },
        },
    }
]


class City(BaseModel):
    name: str
    people: int


def note(response):
    # The library shows no headers; its HTTP client does.
    SEEN.append(seen(response.headers))


async def note_async(response):
    note(response)


def client(url, headers):
    headers = {"authorization": "Bearer ollama-python", **headers}
    c = ollama.Client(host=url, headers=headers, timeout=30, event_hooks={"response": [note]})
    c.url, c.headers = url, headers
    return c


def ask(text):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}]}


def served(answer):
    answer = answer if isinstance(answer, BaseModel) else list(answer)
    return SEEN[-1], answer


def is_whole(answer):
    need(answer.done and answer.done_reason == "stop", "an end")
    need(answer.prompt_eval_count > 3 and answer.eval_count > 3, "usage")


def is_text(answer):
    is_whole(answer)
    need(len(answer.message.content) > 40, "text")


def is_call(answer):
    is_whole(answer)
    call = answer.message.tool_calls[0].function
    need(call.name == "find_city" and set(call.arguments) == {"name", "count"}, "a call that fits the schema")


def is_text_stream(parts):
    is_whole(parts[-1])
    need(len(parts) > 2 and len("".join(part.message.content for part in parts)) > 40, "text in pieces")


def is_call_stream(parts):
    is_whole(parts[-1])
    calls = [call for part in parts for call in part.message.tool_calls or []]
    need(len(calls) == 1 and set(calls[0].function.arguments) == {"name", "count"}, "one call that fits the schema")


checks = Checks(client)
checks.call("chat, plain", lambda c: served(c.chat(**ask("Ollama, plain."))), is_text)
checks.stream("chat, streamed", lambda c: served(c.chat(stream=True, **ask("Ollama, streamed."))), is_text_stream)
tool = ask("Ollama: use the tool.")
checks.call("chat, tool call", lambda c: served(c.chat(tools=TOOLS, **tool)), is_call)
tool = ask("Ollama: use the tool, streamed.")
checks.stream("chat, tool call streamed", lambda c: served(c.chat(tools=TOOLS, stream=True, **tool)), is_call_stream)


def result(c):
    """The turn after a tool call: the library's own typed message sent back."""
    question = {"role": "user", "content": "Ollama: use the tool and tell me."}
    call = c.chat(model=MODEL, messages=[question], tools=TOOLS).message
    answer = {"role": "tool", "content": "42", "tool_name": "find_city"}
    return served(c.chat(model=MODEL, messages=[question, call, answer], tools=TOOLS))


checks.call("chat, result of a tool", result, is_text)
checks.call(
    "chat, structured output",
    lambda c: served(c.chat(format=City.model_json_schema(), **ask("Ollama: a city as JSON."))),
    lambda a: City.model_validate_json(a.message.content),
)
checks.call(
    "generate, plain",
    lambda c: served(c.generate(model=MODEL, prompt="Ollama generates, plain.")),
    lambda a: (is_whole(a), need(len(a.response) > 40, "text")),
)
checks.stream(
    "generate, streamed",
    lambda c: served(c.generate(model=MODEL, prompt="Ollama generates, streamed.", stream=True)),
    lambda a: (is_whole(a[-1]), need(len("".join(part.response for part in a)) > 40, "text in pieces")),
)
checks.call(
    "embeddings",
    lambda c: served(c.embed(model="all-minilm", input=["Ollama, one.", "Ollama, two."])),
    lambda a: need(len(a.embeddings) == 2 and a.embeddings[0] != a.embeddings[1], "two vectors"),
)
checks.call(
    "embeddings, older call",
    lambda c: served(c.embeddings(model="all-minilm", prompt="Ollama, older.")),
    lambda a: need(len(a.embedding) > 1, "a vector"),
)


def asynchronous(c):
    async def run():
        a = ollama.AsyncClient(host=c.url, headers=c.headers, event_hooks={"response": [note_async]})
        parts = [part async for part in await a.chat(stream=True, **ask("Ollama, asynchronous."))]
        return SEEN[-1], parts

    return asyncio.run(run())


checks.stream("chat, asynchronous stream", asynchronous, is_text_stream)



def put_together(parts):
    return {
        "text": "".join(part.message.content or "" for part in parts),
        "calls": [call for part in parts for call in part.message.tool_calls or []],
        "last": {name: value for name, value in parts[-1].model_dump().items() if name != "message"},
    }


for name, more in [("text", {}), ("tool call", {"tools": TOOLS})]:
    checks.both(
        f"chat in both forms, {name}",
        lambda c, text: served(c.chat(**more, **ask(f"Ollama: use the tool, {text}"))),
        lambda c, text: served(c.chat(stream=True, **more, **ask(f"Ollama: use the tool, {text}"))),
        put_together,
        # There is no id in this format.
        origin=False,
    )
checks.both(
    "generate in both forms",
    lambda c, text: served(c.generate(model=MODEL, prompt=f"Ollama: {text}")),
    lambda c, text: served(c.generate(model=MODEL, prompt=f"Ollama: {text}", stream=True)),
    lambda parts: ["".join(part.response for part in parts), parts[-1].done_reason, parts[-1].eval_count, parts[-1].context],
    origin=False,
)

checks.error(
    "an unknown path",
    lambda c: c._request_raw("POST", "/api/no-such-path", json={"model": MODEL}),
    ollama.ResponseError,
    "404",
    "/api/no-such-path",
)
checks.error(
    "a body without a model",
    lambda c: c._request_raw("POST", "/api/chat", json={"messages": []}),
    ollama.ResponseError,
    "400",
    "model",
)


def wish(c):
    headers = {"thrifty-cache": "sometimes"}
    return ollama.Client(host=c.url, headers=headers).chat(**ask("Ollama, wish."))


checks.error("a wish that is not known", wish, ollama.ResponseError, "400", "thrifty-cache", "no-store")
