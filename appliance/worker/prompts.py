"""The text side of a request's beginning: any kind of prompt becomes token ids. Knows no engine and no llama.cpp."""

from __future__ import annotations

import datetime
import logging
from typing import Protocol

from appliance.errors import PromptTooLong, TemplateFailed
from appliance.text.chat_template import ChatTemplate
from appliance.worker.messages import ChatPrompt, TextPrompt, TokenPrompt

_log = logging.getLogger(__name__)


class Vocabulary(Protocol):
    """What of a loaded model a prompt needs; implemented by `appliance.llama.model.Model`."""

    @property
    def bos(self) -> int | None: ...

    @property
    def eos(self) -> int | None: ...

    @property
    def adds_bos(self) -> bool: ...

    def metadata(self, key: str) -> str | None: ...

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]: ...

    def text_of(self, token: int | None) -> str: ...

    def longest_piece_bytes(self) -> int: ...


class Prompts:
    """Turns any kind of prompt into token ids, with the BOS that the model wants, once."""

    def __init__(self, vocabulary: Vocabulary, ctx: int) -> None:
        self._vocabulary = vocabulary
        self._ctx = ctx
        self._bos_text = vocabulary.text_of(vocabulary.bos)
        self._max_bytes = ctx * vocabulary.longest_piece_bytes()
        self._template, self._no_template = self._compile(vocabulary.metadata("tokenizer.chat_template"))

    @property
    def has_template(self) -> bool:
        return self._template is not None

    def _compile(self, source: str | None) -> tuple[ChatTemplate | None, str]:
        """The template, or why there is none: without one, text can still be continued."""
        if not source:
            return None, "This model has no chat template."
        eos = self._vocabulary.text_of(self._vocabulary.eos)
        try:
            return ChatTemplate(source, bos=self._bos_text, eos=eos, now=datetime.datetime.now), ""
        except TemplateFailed as error:
            _log.warning("no chat: %s", error.message)
            return None, error.message

    def tokens(self, prompt: ChatPrompt | TextPrompt | TokenPrompt) -> list[int]:
        """Raises `TemplateFailed`."""
        if isinstance(prompt, TokenPrompt):
            return list(prompt.tokens)
        is_text = isinstance(prompt, TextPrompt)
        text = prompt.text if isinstance(prompt, TextPrompt) else self._render(prompt)
        self._check_size(text)
        return self._with_bos(self._vocabulary.tokenize(text, parse_special=not is_text))

    def _check_size(self, text: str) -> None:
        """What cannot fit however it is tokenized is not tokenized: that takes time."""
        if len(text) > self._max_bytes:
            raise PromptTooLong(
                f"The prompt has {len(text)} characters. No token is longer than "
                f"{self._max_bytes // self._ctx} bytes, so they cannot fit into the context of {self._ctx} tokens."
            )

    def _render(self, prompt: ChatPrompt) -> str:
        if self._template is None:
            raise TemplateFailed(f"{self._no_template} Use /v1/completions instead.", param="messages")
        return self._template.render(prompt.messages)

    def _with_bos(self, tokens: list[int]) -> list[int]:
        bos = self._vocabulary.bos
        if bos is None or not self._vocabulary.adds_bos or tokens[:1] == [bos]:
            return tokens
        return [bos, *tokens]
