"""What a prompt begins with, as a door knows it before anybody has tokenized it.

Knows no replica. A door loads nothing native, so of texts it takes blocks of bytes where a
router wants blocks of tokens: as many as these have, on the mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from appliance.fleet.routing import BLOCK_TOKENS, PRINT_BYTES, fingerprints
from appliance.protocol.requests import (
    ChatPrompt,
    GenerationPrompt,
    InfillPrompt,
    MixedPrompt,
    TextPrompt,
    TokenPrompt,
)

BYTES_PER_TOKEN = 4  # of UTF-8, in most languages and vocabularies
_BLOCK_BYTES = BLOCK_TOKENS * BYTES_PER_TOKEN


def prompt_prints(prompt: GenerationPrompt) -> list[bytes]:
    """8 bytes for each whole block, each of all that stands before its end; the next turn of a
    conversation begins with those of this one.
    """
    if isinstance(prompt, TokenPrompt):
        return fingerprints(prompt.tokens)
    return _text_prints(b"".join(_parts(prompt)))


def _parts(prompt: GenerationPrompt) -> Iterator[bytes]:
    match prompt:
        case TextPrompt(text):
            yield text.encode()
        case ChatPrompt():
            # templates write functions, and what else they are given, before the messages
            yield msgspec.json.encode([prompt.tools, prompt.arguments], order="sorted")
            for message in prompt.messages:
                yield msgspec.json.encode(message, order="sorted")
        case MixedPrompt(parts):
            for part in parts:
                yield part.encode() if isinstance(part, str) else msgspec.json.encode(part)
        case InfillPrompt():
            for file in prompt.files:
                yield f"{file.name}\n{file.text}\n".encode()
            yield (prompt.suffix + prompt.prefix).encode()
            yield prompt.prefill.encode()


def _text_prints(text: bytes) -> list[bytes]:
    found, chain = list[bytes](), hashlib.blake2b(digest_size=PRINT_BYTES)
    for end in range(_BLOCK_BYTES, len(text) + 1, _BLOCK_BYTES):
        chain.update(text[end - _BLOCK_BYTES : end])
        found.append(chain.digest())
    return found
