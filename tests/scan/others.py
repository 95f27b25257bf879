"""What one key's holder leaves behind is not there for another one.

Knows how each kind of thing is made, and where it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.scan.requests import Request, Who
from tests.scan.scanner import Scanner

_NOT_THERE = frozenset({404, 410})
_LISTS = (b"/v1/files", b"/v1/batches")
_FORM = b"multipart/form-data; boundary=b"


async def scan_others_things(scanner: Scanner) -> None:
    """Makes one of each, asks for it by another key and by none, and takes it away."""
    made = {kind: id_ async for kind, id_ in _make(scanner)}
    for kind, id_ in made.items():
        for request in _asking_for(kind, id_):
            for who in (Who.OTHER, Who.NOBODY, Who.GUESSER):
                response = await scanner.ask(request.asked_by(who))
                allowed = _NOT_THERE if who is Who.OTHER else {401}
                if response is not None and response.status not in allowed:
                    scanner.findings.add(
                        request.asked_by(who), f"answered with {response.status} what is another's"
                    )
    for target in _LISTS:
        response = await scanner.ask(Request(method=b"GET", target=target, who=Who.OTHER))
        if response is not None and any(id_ in response.body for id_ in made.values()):
            scanner.findings.add(target, "lists what is another's")
    for kind, id_ in made.items():
        response = await scanner.ask(
            Request(method=b"GET", target=_path(kind) + b"/" + id_, who=Who.HOLDER)
        )
        if kind != "stream" and (response is None or response.status != 200):
            scanner.findings.add(kind, "is not there for its own holder: this scan saw nothing")


async def _make(scanner: Scanner) -> Any:
    """Kinds and ids."""
    hello = {"input": "Hello", "max_output_tokens": 1}
    yield "response", await _made(scanner, b"/v1/responses", hello)
    yield "conversation", await _made(scanner, b"/v1/conversations", {})
    line = {"custom_id": "a", "method": "POST", "url": "/v1/completions"}
    line |= {"body": {"model": "novels-6m", "prompt": "Hello", "max_tokens": 1}}
    file = await _made_file(scanner, json.dumps(line).encode())
    yield "file", file
    batch = {"input_file_id": file.decode(), "endpoint": "/v1/completions"}
    yield "batch", await _made(scanner, b"/v1/batches", {**batch, "completion_window": "24h"})
    stream = {"prompt": "Hello", "max_tokens": 2, "stream": True}
    accepts = (b"Accept: text/event-stream",)  # else its events have no ids
    response = await scanner.ask(replace(_post(b"/v1/completions", stream), headers=accepts))
    assert response is not None
    [first, *_] = [line for line in response.body.splitlines() if line.startswith(b"id: ")]
    yield "stream", first.removeprefix(b"id: ")


def _post(target: bytes, body: dict[str, Any], who: Who = Who.HOLDER) -> Request:
    return Request(method=b"POST", target=target, body=json.dumps(body).encode(), who=who)


async def _made(scanner: Scanner, target: bytes, body: dict[str, Any]) -> bytes:
    return _id_in(await scanner.ask(_post(target, body)))


async def _made_file(scanner: Scanner, content: bytes) -> bytes:
    parts = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    parts += b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    request = Request(
        method=b"POST",
        target=b"/v1/files",
        headers=(b"Content-Type: " + _FORM,),
        body=parts + content + b"\n\r\n--b--\r\n",
        who=Who.HOLDER,
    )
    return _id_in(await scanner.ask(request))


def _id_in(response: Any) -> bytes:
    assert response is not None, "nothing was made"
    assert response.status == 200, response.body
    found: str = json.loads(response.body)["id"]
    return found.encode()


_PATHS = {
    "response": b"/v1/responses",
    "conversation": b"/v1/conversations",
    "file": b"/v1/files",
    "batch": b"/v1/batches",
    "stream": b"/v1/streams",
}


def _path(kind: str) -> bytes:
    return _PATHS[kind]


def _asking_for(kind: str, id_: bytes) -> Iterator[Request]:
    at = _path(kind) + b"/" + id_
    yield Request(method=b"GET", target=at)
    yield Request(method=b"HEAD", target=at)
    if kind == "response":
        yield Request(method=b"GET", target=at + b"/input_items")
        yield Request(method=b"POST", target=at + b"/cancel", body=b"{}")
        yield Request(method=b"DELETE", target=at)
    elif kind == "conversation":
        yield Request(method=b"GET", target=at + b"/items")
        yield Request(method=b"POST", target=at, body=b'{"metadata": {"a": "b"}}')
        yield Request(method=b"POST", target=at + b"/items", body=b'{"items": []}')
        yield Request(method=b"DELETE", target=at)
    elif kind == "file":
        yield Request(method=b"GET", target=at + b"/content")
        yield Request(method=b"DELETE", target=at)
        batch = b'{"input_file_id": "%b", "endpoint": "/v1/completions", '
        batch += b'"completion_window": "24h"}'
        yield Request(method=b"POST", target=b"/v1/batches", body=batch % id_)
    elif kind == "batch":
        yield Request(method=b"POST", target=at + b"/cancel", body=b"{}")
    elif kind == "stream":
        again = b'{"prompt": "Hello", "max_tokens": 2, "stream": true}'
        yield Request(
            method=b"POST",
            target=b"/v1/completions",
            body=again,
            headers=(b"Last-Event-ID: " + id_,),
        )
