"""What the Python scripts share: one check is one call made three times.

Directly to the upstream, through a cold cache and through a warm one. The typed objects the client library makes of
the three answers have to be equal, down to their types and their order. Ids and times are compared by their pattern
only (which of them are equal to which), since a replayed answer may be given fresh ones.
"""

import base64
import os
import sys
import urllib.request

URL = os.environ["THRIFTY_URL"].rstrip("/")
DIRECT_URL = os.environ["THRIFTY_DIRECT_URL"].rstrip("/")

# Where an answer came from, in the header `thrifty-served`.
UPSTREAM = {"upstream"}
CACHE = {"memory", "disk", "flight"}

IDENTITIES = {
    "id",
    "item_id",
    "call_id",
    "tool_use_id",
    "tool_call_id",
    "response_id",
    "obfuscation",
}
TIMES = {
    "created",
    "created_at",
    "completed_at",
    "create_time",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
}


class Plain:
    """An answer as nested lists and dictionaries, with the names of the types in them."""

    def __init__(self):
        self.names = {}

    def of(self, value, key=None):
        if value is not None and key in IDENTITIES and isinstance(value, str):
            return self.names.setdefault(value, f"<id {len(self.names)}>")
        if value is not None and key in TIMES:
            return "<time>"
        if hasattr(type(value), "model_fields"):
            fields = {name: getattr(value, name) for name in type(value).model_fields}
            fields.update(value.model_extra or {})
            # Headers are looked at apart from the answer.
            fields.pop("sdk_http_response", None)
            return {"": type(value).__qualname__, **{name: self.of(field, name) for name, field in fields.items()}}
        if isinstance(value, dict):
            return {str(name): self.of(field, str(name)) for name, field in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(item, key) for item in value]
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if value is None or isinstance(value, (str, int, float, bool)):
            return value
        return f"{type(value).__qualname__} {value}"


def difference(a, b, at="answer"):
    """Where two plain values part ways; None where they are equal."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in [*a, *(name for name in b if name not in a)]:
            if name not in a or name not in b:
                return f"{at}.{name} is only in {'the first' if name in a else 'the second'}"
            if found := difference(a[name], b[name], f"{at}.{name}"):
                return found
        return None
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return f"{at} has {len(a)} elements and {len(b)}"
        for index, (one, other) in enumerate(zip(a, b)):
            if found := difference(one, other, f"{at}[{index}]"):
                return found
        return None
    return None if type(a) is type(b) and a == b else f"{at} is {a!r:.300} and {b!r:.300}"


def fail(name, why):
    print(f"FAIL {name}: {why}", flush=True)
    sys.exit(1)


class Checks:
    """Runs checks with one client for each of the two servers."""

    def __init__(self, make):
        self.direct, self.through = make(DIRECT_URL), make(URL)

    def call(self, name, ask, look=None, cached=True):
        """`ask(client)` gives `(served, answer)`; `look(answer)` may assert what it holds.

        With `cached` false the answer must come from the upstream each time.
        """
        answers = []
        steps = [
            ("direct", self.direct, UPSTREAM),
            ("uncached", self.through, UPSTREAM),
            ("cached", self.through, CACHE if cached else UPSTREAM),
        ]
        for step, client, expected in steps:
            try:
                served, answer = ask(client)
            except Exception as error:
                fail(name, f"the {step} call failed: {type(error).__name__}: {error}")
            if served not in expected:
                fail(name, f"the {step} call was served from {served!r}, not from {' or '.join(sorted(expected))}")
            if look is not None:
                try:
                    look(answer)
                except AssertionError as error:
                    fail(name, f"the {step} answer is not as it should be: {error} in {answer!r:.600}")
            answers.append((step, Plain().of(answer)))
        for (one, a), (other, b) in zip(answers, answers[1:]):
            if found := difference(a, b):
                fail(name, f"{one} and {other} differ: {found}")
        told = "cached answer equal to" if cached else "never cached;"
        print(f"ok   {name}: {told} the uncached and the direct one", flush=True)

    def error(self, name, ask, kind, *parts):
        """`ask(client)` has to raise the library's own `kind`, with all `parts` in its message, each time."""
        for step, client in [("direct", self.direct), ("first", self.through), ("second", self.through)]:
            try:
                answer = ask(client)
            except kind as error:
                text = f"{error} {getattr(error, 'message', '')}"
                for part in parts:
                    if part not in text:
                        fail(name, f"the {step} message does not say {part!r}: {text!r:.600}")
                continue
            except Exception as error:
                fail(name, f"the {step} call raised {type(error).__name__}, not {kind.__name__}: {error}")
            fail(name, f"the {step} call raised nothing and gave {answer!r:.300}")
        print(f"ok   {name}: {kind.__name__}, {text.strip()[:120]!r}", flush=True)


def need(fact, what):
    """Unlike `assert`, holds under `python -O` too."""
    if not fact:
        raise AssertionError(what)
