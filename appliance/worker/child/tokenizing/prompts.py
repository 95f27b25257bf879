"""The text side of a request's beginning: any kind of prompt becomes token ids, and
what else is asked of a vocabulary.

Knows no engine and no llama.cpp.
"""

from __future__ import annotations

import logging
from typing import Protocol

from appliance.errors import BadRequest, PromptSize, PromptTooLong
from appliance.protocol.events import AskResult
from appliance.protocol.questions import (
    DescribeText,
    Detokenize,
    RenderChat,
    TextQuestion,
    Tokenize,
)
from appliance.protocol.requests import (
    ChatPrompt,
    GenerationPrompt,
    InfillPrompt,
    MixedPrompt,
    TextPrompt,
    TokenPrompt,
)
from appliance.text.chat_template import MAX_CPU_S
from appliance.text.chats.end_of_turn import end_of_turn, text_behind_answers
from appliance.text.chats.model_chat import RenderedChat
from appliance.text.chats.model_chats import ModelChats, TemplateSources
from appliance.worker.child.tokenizing.forced_text import forced_text
from appliance.worker.child.tokenizing.infill import InfillVocabulary, infill_tokens
from appliance.worker.child.tokenizing.text_pieces import PieceVocabulary, text_pieces

_log = logging.getLogger(__name__)
_TEMPLATE = "tokenizer.chat_template"  # GGUF's; named ones behind a dot
_UNUSED_TEMPLATES = ("rag",)
_OTHER_SPECIAL = {
    "unk_token": "unknown",
    "pad_token": "padding",
    "sep_token": "seperator",
    "cls_token": "cls",
}  # GGUF's


class PromptVocabulary(InfillVocabulary, PieceVocabulary, Protocol):
    """What of a loaded model a prompt needs; implemented by
    `appliance.llama.model.Model`.
    """

    @property
    def bos(self) -> int | None: ...

    @property
    def eos(self) -> int | None: ...

    @property
    def end_tokens(self) -> frozenset[int]: ...

    @property
    def adds_bos(self) -> bool: ...

    @property
    def num_vocab(self) -> int: ...

    def metadata(self, key: str) -> str | None: ...

    def text_of(self, token: int | None) -> str: ...

    def longest_piece_bytes(self) -> int: ...


class Prompts:
    """Turns any kind of prompt into token ids,
    with the BOS that the model wants, once.
    """

    def __init__(
        self,
        vocabulary: PromptVocabulary,
        ctx: int,
        *,
        chat_template: str = "",
        tools: str = "auto",
    ) -> None:
        """`chat_template` is used instead of the model's own; for `tools` see `ModelChat`.

        Raises `BadSettings` where it cannot be used.
        """
        self._vocabulary = vocabulary
        self._forced = forced_text(vocabulary)
        self._ctx = ctx
        self._max_bytes = ctx * vocabulary.longest_piece_bytes()
        self._tool_use_source = "" if chat_template else self._named_template("tool_use")
        self.chats = ModelChats(
            TemplateSources(
                default=chat_template or vocabulary.metadata(_TEMPLATE) or "",
                tool_use=self._tool_use_source,
                is_given=bool(chat_template),
            ),
            special=self._special_tokens(),
            tools=tools,
        )
        self.end_of_turn = self._end_of_turn(is_given=bool(chat_template))
        for name in _UNUSED_TEMPLATES:
            if self._named_template(name):
                _log.info("the model's chat template %r is not used: nothing asks for it", name)

    def _end_of_turn(self, *, is_given: bool) -> str:
        """What ends a chat's answer beside the vocabulary's end tokens; empty: nothing."""
        usual = self.chats.usual
        if usual is None:
            return ""
        vocabulary = self._vocabulary
        return end_of_turn(
            text_behind_answers(usual.template),
            tokenize=lambda text: vocabulary.tokenize(text, parse_special=True),
            end_tokens=vocabulary.end_tokens,
            name=lambda token: "" if vocabulary.piece(token) else vocabulary.text_of(token),
            marks=usual.form.marks,
            is_given=is_given,
        )

    def _named_template(self, name: str) -> str:
        return self._vocabulary.metadata(f"{_TEMPLATE}.{name}") or ""

    def _special_tokens(self) -> dict[str, str]:
        """By Hugging Face's names; BOS and EOS are always there, for many templates
        write them unasked.
        """
        vocabulary = self._vocabulary
        ids = {
            name: vocabulary.metadata(f"tokenizer.ggml.{key}_token_id")
            for name, key in _OTHER_SPECIAL.items()
        }
        others = {
            name: vocabulary.text_of(int(number))
            for name, number in ids.items()
            if number is not None and number.isdecimal()
        }
        return {
            "bos_token": vocabulary.text_of(vocabulary.bos),
            "eos_token": vocabulary.text_of(vocabulary.eos),
            **others,
        }

    def rendered(
        self,
        prompt: GenerationPrompt,
        *,
        template_cpu_s: float = MAX_CPU_S,
    ) -> RenderedChat | None:
        """A chat as text; other prompts are none.

        Raises `TemplateFailed`, and `BadRequest` for what it cannot show.
        """
        return self._render(prompt, template_cpu_s) if isinstance(prompt, ChatPrompt) else None

    def tokens(
        self,
        prompt: GenerationPrompt,
        rendered: RenderedChat | None,
    ) -> list[int]:
        """`rendered` is what `rendered` gave.

        Raises `PromptTooLong`, and `BadRequest` where none can be filled in.
        """
        if isinstance(prompt, TokenPrompt):
            return list(prompt.tokens)
        if isinstance(prompt, MixedPrompt):
            return self._mixed(prompt)
        if isinstance(prompt, InfillPrompt):
            self._check_size(prompt.num_chars)
            within = self._forced.tokens if self._vocabulary.adds_space_prefix else None
            return self._with_bos(infill_tokens(self._vocabulary, prompt, within))
        if isinstance(prompt, TextPrompt):
            text = prompt.text
        else:
            assert rendered is not None, "a chat is rendered first"
            text = rendered.text
        self._check_size(len(text))
        is_chat = isinstance(prompt, ChatPrompt)
        return self._with_bos(self._vocabulary.tokenize(text, parse_special=is_chat))

    def _mixed(self, prompt: MixedPrompt) -> list[int]:
        texts = [part for part in prompt.parts if isinstance(part, str)]
        self._check_size(sum(map(len, texts)))
        tokens: list[int] = []
        for part in prompt.parts:
            tokens += (
                self._vocabulary.tokenize(part, parse_special=True)
                if isinstance(part, str)
                else part
            )
        return self._with_bos(tokens) if isinstance(prompt.parts[0], str) else tokens

    def plain_tokens(self, text: str) -> list[int]:
        """Of a text in which special tokens are plain text, without BOS."""
        return self._vocabulary.tokenize(text, parse_special=False)

    def answer(
        self, request_id: int, question: TextQuestion, *, template_cpu_s: float = MAX_CPU_S
    ) -> AskResult:
        """However long the text is: nothing is computed.

        Raises `TemplateFailed`, and `BadRequest` for unknown ids.
        """
        if isinstance(question, RenderChat):
            return AskResult(request_id, self._render(question.prompt, template_cpu_s).text)
        if isinstance(question, DescribeText):
            ends = (self._vocabulary.bos, self._vocabulary.eos)
            return AskResult(
                request_id,
                self.chats.source,
                pieces=[
                    *(self._vocabulary.text_of(token).encode() for token in ends),
                    self._tool_use_source.encode(),
                ],
            )
        if isinstance(question, Detokenize):
            return AskResult(request_id, self._text(question))
        tokens = self._tokenize(question, template_cpu_s)
        return AskResult(
            request_id,
            tokens=tokens,
            pieces=text_pieces(self._vocabulary, tokens, shows_special=True),
        )

    def _tokenize(self, question: Tokenize, template_cpu_s: float) -> list[int]:
        prompt = question.prompt
        if isinstance(prompt, ChatPrompt):
            rendered = self._render(prompt, template_cpu_s).text
            return self._with_bos(self._vocabulary.tokenize(rendered, parse_special=True))
        tokens = self._vocabulary.tokenize(prompt.text, parse_special=question.parses_special)
        return self._with_bos(tokens) if question.adds_special else tokens

    def _text(self, question: Detokenize) -> str:
        tokens = question.tokens
        unknown = next(
            (token for token in tokens if not 0 <= token < self._vocabulary.num_vocab), None
        )
        if unknown is not None:
            most = self._vocabulary.num_vocab - 1
            raise BadRequest(
                f"Token ids must be between 0 and {most} (got {unknown}).",
                param="tokens",
            )
        pieces = text_pieces(self._vocabulary, tokens, shows_special=question.shows_special)
        return b"".join(pieces).decode("utf-8", errors="replace")

    def _check_size(self, num_chars: int) -> None:
        """What cannot fit however it is tokenized is not tokenized: that takes time."""
        if num_chars > self._max_bytes:
            longest = self._max_bytes // self._ctx
            num_tokens = -(-num_chars // longest)
            raise PromptTooLong.because(
                f"the prompt has at least {num_tokens} tokens, for it has {num_chars} characters, "
                f"and no token is longer than {longest} bytes. Please reduce the length of the "
                "messages or of the prompt, or serve with a larger --ctx.",
                PromptSize(num_tokens, self._ctx),
            )

    def _render(self, prompt: ChatPrompt, template_cpu_s: float) -> RenderedChat:
        return self.chats.of(prompt).render(prompt, template_cpu_s)

    def _with_bos(self, tokens: list[int]) -> list[int]:
        bos = self._vocabulary.bos
        if bos is None or not self._vocabulary.adds_bos or tokens[:1] == [bos]:
            return tokens
        return [bos, *tokens]
