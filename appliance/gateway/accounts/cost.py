"""What a request will take, as far as it can be told before it is tokenized.

Knows no tokenizer and no caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from appliance.protocol.requests import (
    ChatPrompt,
    EmbedRequest,
    GenerateRequest,
    GenerationPrompt,
    InfillPrompt,
    MixedPrompt,
    RerankRequest,
    TextPrompt,
    TokenPrompt,
)

# Agents ask for tens of thousands of tokens and take three hundred: to reserve all of
# them would let a key with a small limit ask one thing at a time.
MAX_RESERVED_ANSWER_TOKENS = 1024
_BYTES_PER_TOKEN = 4  # of UTF-8, in most languages and vocabularies


@dataclass(frozen=True)
class Cost:
    """In tokens, estimated."""

    prompt: int
    answer: int = 0


def cost_of(request: GenerateRequest | EmbedRequest | RerankRequest) -> Cost:
    if isinstance(request, GenerateRequest):
        wanted = request.max_tokens
        answer = MAX_RESERVED_ANSWER_TOKENS if wanted is None else wanted
        return Cost(_prompt_tokens(request.prompt), min(answer, MAX_RESERVED_ANSWER_TOKENS))
    if isinstance(request, EmbedRequest):
        return Cost(sum(_prompt_tokens(each) for each in request.inputs))
    query = _text_tokens(request.query)
    limit = request.max_document_tokens
    documents = map(_text_tokens, request.documents)
    return Cost(sum(query + (each if limit is None else min(each, limit)) for each in documents))


def _prompt_tokens(prompt: GenerationPrompt) -> int:
    match prompt:
        case TokenPrompt(tokens):
            return len(tokens)
        case TextPrompt(text):
            return _text_tokens(text)
        case MixedPrompt(parts):
            return sum(_text_tokens(part) if isinstance(part, str) else len(part) for part in parts)
        case InfillPrompt():
            return prompt.num_chars // _BYTES_PER_TOKEN + 1
        case ChatPrompt():
            # what JSON puts around the texts is about what a template does
            written = msgspec.json.encode([prompt.messages, prompt.tools])
            return len(written) // _BYTES_PER_TOKEN + 1


def _text_tokens(text: str) -> int:
    return len(text.encode()) // _BYTES_PER_TOKEN + 1
