"""A stub of a model server, for measurements: it has no model, and answers every request after a fixed time.

It speaks as much HTTP as a pooled client needs (keep-alive, Content-Length) and counts what it is asked:

    POST /v1/chat/completions   the same utterance every time, with a usage block; a plan without turns for JSON
    POST /v1/systemone          the first option of every choice; `applies` and other yes/no questions yes, `ended` no
    GET  /stub/counts           {"chat": ..., "decisions": ...}
    GET  /stub/refused          {"refused": ...}

`--other-option-every N` has every Nth choice answered with its last option, so that guesses at the first one are wrong.
`--knee N` has it degrade: with more than N requests at once each takes longer by the square of the excess, so that less
comes out. `--refuse-beyond N` has it answer 429 to what comes on top of N.
Runs in a process of its own: `python bench/stub_server.py --latency-ms 100`; the first line it prints is its URL.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

UTTERANCE = "That would suit me well, thank you, so what is the next thing that I should do?"
PROMPT_TOKENS = 180
COMPLETION_TOKENS = 20

_CERTAIN = 0.9


def _response(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def _chat(content: str) -> bytes:
    return _response(
        {
            "id": "chatcmpl-stub",
            "object": "chat.completion",
            "created": 1_750_000_000,
            "model": "stub",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": PROMPT_TOKENS,
                "completion_tokens": COMPLETION_TOKENS,
                "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
            },
        }
    )


_CHAT = _chat(UTTERANCE)
_PLAN = _chat('{"turns": []}')  # what bench/peers' oumi asks for by a schema before each dialogue
_BUSY = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Stub:
    """What all connections share: the latency, the counts, and answers that were built before."""

    def __init__(self, latency: float, other_option_every: int, knee: int, refuse_beyond: int) -> None:
        """`knee`, `refuse_beyond`: 0 for none."""
        self.latency = latency
        self.other_option_every = other_option_every
        self.knee = knee
        self.refuse_beyond = refuse_beyond
        self.under_way = 0
        self.chat = 0
        self.decisions = 0
        self.refused = 0
        self._answers: dict[tuple[bytes, bool], bytes] = {}

    def answer(self, path: bytes, body: bytes) -> tuple[float, bytes]:
        """The delay in seconds and the bytes of the response."""
        if path in (b"/v1/chat/completions", b"/v1/systemone") and 0 < self.refuse_beyond <= self.under_way:
            self.refused += 1
            return 0.0, _BUSY
        if path == b"/v1/chat/completions":
            self.chat += 1
            return self._seconds(), _PLAN if b'"response_format"' in body else _CHAT
        if path == b"/v1/systemone":
            self.decisions += 1
            return self._seconds(), self._decide(body)
        if path == b"/stub/counts":
            return 0.0, _response({"chat": self.chat, "decisions": self.decisions})
        if path == b"/stub/refused":
            return 0.0, _response({"refused": self.refused})
        return 0.0, _NOT_FOUND

    def _seconds(self) -> float:
        """What the next answer takes, with those that are under way."""
        return self.latency * max((self.under_way + 1) / self.knee, 1.0) ** 2 if self.knee else self.latency

    def _decide(self, body: bytes) -> bytes:
        is_other = self.other_option_every > 0 and self.decisions % self.other_option_every == 0
        key = (body[body.find(b'"questions"') :], is_other)
        if key not in self._answers:
            questions = json.loads(body)["questions"]
            answers = {name: _answer(name, question, is_other) for name, question in questions.items()}
            self._answers[key] = _response({"answers": answers, "usage": {"input_tokens": PROMPT_TOKENS}})
        return self._answers[key]


def _answer(name: str, question: dict[str, Any], is_other: bool) -> dict[str, Any]:
    if question["type"] == "noul":
        return {"noul": 1 - _CERTAIN if name == "ended" else _CERTAIN}
    options = list(question["criteria"])
    chosen = options[-1] if is_other else options[0]
    rest = (1 - _CERTAIN) / max(len(options) - 1, 1)
    return {"probabilities": {option: _CERTAIN if option == chosen else rest for option in options}}


class _Connection(asyncio.Protocol):
    """One keep-alive connection: whole requests out of its bytes, one response for each."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _content_length(self._received[:end])
            whole = end + 4 + length
            if len(self._received) < whole:
                return
            path = self._received[: self._received.find(b"\r\n")].split(b" ", 2)[1]
            body = self._received[end + 4 : whole]
            self._received = self._received[whole:]
            delay, response = self._stub.answer(path, body)
            if delay:
                self._stub.under_way += 1
                self._loop.call_later(delay, self._write_late, response)
            else:
                self._write(response)

    def _write_late(self, response: bytes) -> None:
        self._stub.under_way -= 1
        self._write(response)

    def _write(self, response: bytes) -> None:
        if not self._transport.is_closing():  # the asker may have hung up meanwhile
            self._transport.write(response)


def _content_length(head: bytes) -> int:
    start = head.lower().find(b"\r\ncontent-length:")
    return 0 if start < 0 else int(head[start + 17 :].split(b"\r\n", 1)[0])


async def serve(stub: Stub) -> None:
    """Serve on a free port of this machine, and print the URL, until the process is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(stub), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A stub of a model server, for measurements.")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="time until every answer")
    parser.add_argument("--other-option-every", type=int, default=0, help="every Nth choice takes its last option")
    parser.add_argument("--knee", type=int, default=0, help="requests at once beyond which less comes out")
    parser.add_argument("--refuse-beyond", type=int, default=0, help="requests at once beyond which it answers 429")
    options = parser.parse_args()
    served = Stub(options.latency_ms / 1000, options.other_option_every, options.knee, options.refuse_beyond)
    asyncio.run(serve(served))
