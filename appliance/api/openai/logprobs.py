r"""Log-probabilities in OpenAI's two forms:
a list of tokens for chats, columns for completions.

Knows no request.

A token need not be text. In a chat, `bytes` has it as it is, and `token` shows bytes
that are no characters as `\xe6`; a control token has no bytes. In completions such a
token reads `bytes:\xe6\xbc`, as OpenAI writes it there.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.api.openai.wire import ChatLogprobs, ChatTokenLogprob, TextLogprobs, TopLogprob
from appliance.protocol.events import LikelyToken, SampledToken

MAX_CHAT_TOP_LOGPROBS = 20  # OpenAI's bounds
MAX_TEXT_LOGPROBS = 5
_LEAST = -9999.0  # OpenAI's for "very unlikely"; JSON has no infinities


def chat_logprobs(tokens: Sequence[SampledToken]) -> ChatLogprobs:
    return ChatLogprobs(content=[_chat_token(token) for token in tokens])


def text_logprobs(tokens: Sequence[SampledToken]) -> TextLogprobs:
    return TextLogprobs(
        tokens=[_text_name(token.chosen) for token in tokens],
        token_logprobs=[None if _is_first(token) else _bounded(token.chosen) for token in tokens],
        top_logprobs=[None if _is_first(token) else _text_top(token) for token in tokens],
        text_offset=[token.text_offset for token in tokens],
    )


def _chat_token(token: SampledToken) -> ChatTokenLogprob:
    chosen = token.chosen
    return ChatTokenLogprob(
        token=_chat_name(chosen),
        logprob=_bounded(chosen),
        bytes=_bytes(chosen),
        top_logprobs=[
            TopLogprob(token=_chat_name(likely), logprob=_bounded(likely), bytes=_bytes(likely))
            for likely in token.top
        ],
    )


def _text_top(token: SampledToken) -> dict[str, float]:
    """The most likely ones and, as OpenAI documents it, the sampled one too where it is
    none of them.
    """
    return {_text_name(likely): _bounded(likely) for likely in (*token.top, token.chosen)}


def _chat_name(token: LikelyToken) -> str:
    return token.piece.decode("utf-8", errors="backslashreplace")


def _text_name(token: LikelyToken) -> str:
    try:
        return token.piece.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.piece)


def _bytes(token: LikelyToken) -> list[int] | None:
    return None if token.is_control else list(token.piece)


def _is_first(token: SampledToken) -> bool:
    """Of a prompt."""
    return token.chosen.logprob is None


def _bounded(token: LikelyToken) -> float:
    assert token.logprob is not None, "only a prompt's first token has none"
    return max(token.logprob, _LEAST)
