"""What the Python scripts share: one check is one call made three times.

Past the cache, through the cold cache and through the warm one. The typed objects the client library makes of the
three answers have to be equal, down to their types and their order. Ids and times are compared by their pattern only
(which of them are equal to which), since a replayed answer may be given fresh ones.

Where an answer came from is told by the server's sums, and by the header `thrifty-served` of answers that are no
streams; the two have to agree, and with both the header `cache-status`. A stored answer serves streams and documents
alike, so each check asks a question of its own, and `both` asks one in either form.
"""

import base64
import json
import os
import re
import sys
import time
import urllib.request

URL = os.environ["THRIFTY_URL"].rstrip("/")
DIRECT_URL = os.environ["THRIFTY_DIRECT_URL"].rstrip("/")

# Asked of the server past the cache: nothing is looked up, stored or shared.
PAST = {"thrifty-cache": "no-store"}

UPSTREAM = {"upstream"}
CACHE = {"memory", "disk", "flight"}

IDENTITIES = {
    "id",
    "item_id",
    "call_id",
    "tool_use_id",
    "tool_call_id",
    "response_id",
    # It is bound to the id of its item.
    "encrypted_content",
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


# The headers of the last reply.
LAST = {}


def seen(headers):
    """Remembers a reply's headers, and gives `thrifty-served` of them."""
    LAST.clear()
    LAST.update({name.lower(): value for name, value in headers.items()})
    return LAST.get("thrifty-served")


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


def sums(url):
    with urllib.request.urlopen(f"{url}/thrifty/stats", timeout=10) as page:
        totals = json.load(page)["totals"]
    return {"calls": totals["calls"], "upstream": totals["sent"], **totals["hits"]}


def places(url, before):
    """Where the calls since `before` were served from."""
    # A call is settled when its body has ended, which the client may know a moment before the server does.
    for _ in range(200):
        now = sums(url)
        if now["calls"] > before["calls"]:
            break
        time.sleep(0.01)
    return {place for place in UPSTREAM | CACHE if now[place] > before[place]}


class Checks:
    """Runs checks with two clients, one for each of the two servers. `make` gets the URL and headers to send along."""

    def __init__(self, make):
        self.direct, self.through = make(DIRECT_URL, PAST), make(URL, {})

    def call(self, name, ask, look=None, cached=True, told=True):
        """`ask(client)` gives the header `thrifty-served` and the answer; `look(answer)` may assert what it holds.

        With `cached` false the answer must come from the upstream each time. With `told` false there may be no
        header, as in streams.
        """
        answers = []
        steps = [
            ("direct", DIRECT_URL, self.direct, UPSTREAM),
            ("uncached", URL, self.through, UPSTREAM),
            ("cached", URL, self.through, CACHE if cached else UPSTREAM),
        ]
        for step, url, client, expected in steps:
            answer = self.one(name, step, url, client, expected, ask, told)
            if look is not None:
                try:
                    look(answer)
                except AssertionError as error:
                    fail(name, f"the {step} answer is not as it should be: no {error} in {answer!r:.600}")
            answers.append((step, Plain().of(answer)))
        for (one, a), (other, b) in zip(answers, answers[1:]):
            if found := difference(a, b):
                fail(name, f"{one} and {other} differ: {found}")
        if cached:
            print(f"ok   {name}: cached, uncached and direct are equal", flush=True)
        else:
            print(f"ok   {name}: never cached, and equal to the direct one", flush=True)

    def one(self, name, step, url, client, expected, ask, told):
        """One call; its answer, if it came from where it should and says so."""
        before = sums(url)
        try:
            served, answer = ask(client)
        except Exception as error:
            fail(name, f"the {step} call failed: {type(error).__name__}: {error}")
        came = places(url, before)
        if not came or not came <= expected:
            fail(name, f"the {step} call was served from {came or 'nowhere'}, not from {expected}")
        if (served is not None or told) and served not in came:
            fail(name, f"the header of the {step} call says {served!r}, the sums say {came}")
        status, age, origin = (LAST.get(header) for header in ("cache-status", "age", "thrifty-origin-id"))
        is_hit = bool(re.fullmatch(r"thrifty; hit; ttl=\d+", status or ""))
        if is_hit != (expected is CACHE) or not (status or "").startswith("thrifty; "):
            fail(name, f"the {step} call's cache-status is {status!r}")
        if (is_hit and not (age or "").isdigit()) or (origin is not None and not is_hit):
            fail(name, f"the {step} call's age is {age!r}, its origin id {origin!r}")
        names = Plain()
        names.of(answer)
        if origin is not None and origin in names.names:
            fail(name, f"the {step} answer still has the id {origin!r}")
        return answer

    def both(self, name, document, stream, joined=lambda answer: answer, origin=True):
        """One question in both forms: what is stored as one form has to serve the other.

        `document(client, text)` and `stream(client, text)` ask it; `joined(answer)` makes of a stream what does not
        depend on where it was cut. With `origin` the header `thrifty-origin-id` has to be there.
        """
        forms = {"document": (document, lambda answer: answer), "stream": (stream, joined)}
        for first, then in [("document", "stream"), ("stream", "document")]:
            text = f"{name}: a {first} first."
            ask, whole = forms[then]
            wanted = self.one(name, "direct", DIRECT_URL, self.direct, UPSTREAM, lambda c: ask(c, text), False)
            self.one(name, f"first {first}", URL, self.through, UPSTREAM, lambda c: forms[first][0](c, text), False)
            got = self.one(name, f"{then} after it", URL, self.through, CACHE, lambda c: ask(c, text), False)
            if origin and "thrifty-origin-id" not in LAST:
                fail(name, f"the {then} does not tell its origin id")
            if found := difference(Plain().of(whole(wanted)), Plain().of(whole(got))):
                fail(name, f"the {then} made of a {first} differs: {found}")
            print(f"ok   {name}: a stored {first} serves a {then}", flush=True)

    def stream(self, name, ask, look=None):
        self.call(name, ask, look, told=False)

    def error(self, name, ask, kind, *parts):
        """`ask(client)` has to raise the library's own `kind`, with all `parts` in its message, each time."""
        for step, client in [("direct", self.direct), ("first", self.through), ("second", self.through)]:
            try:
                answer = ask(client)
            except kind as error:
                text = str(error)
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
