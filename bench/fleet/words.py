"""What people say to a measured fleet: pieces of a real text, in the model's own tokens."""

from __future__ import annotations

import http.client
import json
import random
from pathlib import Path

from appliance.cli.bench.stream import Endpoint
from appliance.fleet.demand import Words

_TEXT = Path(__file__).parents[2] / ".." / "shared" / "data" / "wikitext-2-valid.txt"
_MAX_CHARS = 200_000
_PARTS = ("the", "city", "river", "was", "built", "near", "old", "house", "of", "music", "and")


def some_text(path: Path = _TEXT) -> str:
    """The beginning of a text that is there, or words by chance."""
    if path.exists():
        return path.read_text("utf-8")[:_MAX_CHARS]
    rng = random.Random(1)
    return " ".join(rng.choice(_PARTS) for _ in range(_MAX_CHARS // 5))


def tokens_of(text: str, endpoint: Endpoint) -> list[int]:
    """Of a node's model (llama-server's /tokenize)."""
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=60)
    try:
        connection.request(
            "POST",
            "/tokenize",
            json.dumps({"content": text}).encode(),
            {"Content-Type": "application/json"},
        )
        found: list[int] = json.load(connection.getresponse())["tokens"]
        return found
    finally:
        connection.close()


def pieces(tokens: list[int]) -> Words:
    """So many tokens from anywhere in the text."""

    def words(num_tokens: int, rng: random.Random) -> list[int]:
        if not num_tokens:
            return []
        first = rng.randrange(len(tokens) - num_tokens)
        return tokens[first : first + num_tokens]

    return words
