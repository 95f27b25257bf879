"""A failure as Ollama's clients expect it: `{"error": "..."}`.

Knows no endpoint.
"""

from __future__ import annotations

import msgspec

from appliance.api.errors import ErrorShape, Failure


class OllamaError(msgspec.Struct):
    error: str


def ollama_error(failure: Failure) -> OllamaError:
    """Also the last line of a stream that broke."""
    return OllamaError(failure.message)


OLLAMA_ERRORS = ErrorShape(OllamaError, ollama_error)
