"""What is asked of real servers with Ollama's client."""

from __future__ import annotations

import ollama

GREEDY = {"temperature": 0, "num_predict": 4}
PROSE = "The old house"
HELLO = [{"role": "user", "content": "Hello"}]


def names(client: ollama.Client) -> list[str | None]:
    return [model.model for model in client.list().models]
