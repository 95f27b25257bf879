"""Which of a model's chat templates shows a conversation.

Knows no tokens. Models may have several templates by name: one for functions, called
`tool_use`, and others that nobody asks for here.
"""

from __future__ import annotations

import datetime
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.errors import BadSettings, TemplateFailed
from appliance.protocol.requests import ChatPrompt
from appliance.text.chat_template import ChatTemplate
from appliance.text.chats.model_chat import ModelChat, ToolUse

_log = logging.getLogger(__name__)
_NO_TEMPLATE = (
    "This model has no chat template. Use /v1/completions instead, or serve the model with "
    "--chat-template and the form that it was trained with, such as --chat-template chatml."
)


@dataclass(frozen=True, kw_only=True)
class TemplateSources:
    """Jinja sources; empty: there is none."""

    default: str = ""
    tool_use: str = ""  # for conversations with functions
    is_given: bool = False  # the default one was set by a user and is no model's own


class ModelChats:
    """Those of one model; `special` are its special tokens by Hugging Face's names.

    `tools` is as in `ModelChat`. Raises `BadSettings` where a template that was set
    cannot be used; a model's own is left out then, with `no_template` saying why.
    """

    def __init__(
        self,
        sources: TemplateSources,
        *,
        special: Mapping[str, str],
        tools: str,
        now: Callable[[], datetime.datetime] = datetime.datetime.now,
    ) -> None:
        self._sources = sources
        self._special = special
        self._tools = tools
        self._now = now
        self.source = sources.default or sources.tool_use
        self.no_template = ""
        self._usual = self._compiled(self.source)
        if sources.is_given:
            self._check_given()

    @property
    def all_sources(self) -> str:
        """Of what any conversation is shown by."""
        return f"{self._sources.default}\0{self._sources.tool_use}"

    @property
    def has_template(self) -> bool:
        return self._usual is not None

    @property
    def tool_use(self) -> ToolUse:
        """How functions are shown to the model."""
        if self._for_tools is None:
            return ToolUse.NONE
        return self._for_tools.tool_use

    @property
    def usual(self) -> ModelChat | None:
        """Of a conversation without functions."""
        return self._usual

    def of(self, prompt: ChatPrompt) -> ModelChat:
        """Raises `TemplateFailed` where there is none."""
        chat = self._for_tools if prompt.tools else self._usual
        if chat is None:
            raise TemplateFailed(self.no_template, param="messages")
        return chat

    @functools.cached_property
    def _for_tools(self) -> ModelChat | None:
        """Compiled once somebody asks: a template's process takes memory."""
        source = self._sources.tool_use
        if not source or source == self.source:
            return self._usual
        return self._compiled(source) or self._usual

    def _compiled(self, source: str) -> ModelChat | None:
        if not source:
            self.no_template = _NO_TEMPLATE
            return None
        try:
            template = ChatTemplate(source, special=self._special, now=self._now)
        except TemplateFailed as error:
            if self._sources.is_given:
                raise BadSettings(f"--chat-template cannot be used. {error.message}") from error
            _log.warning("a chat template cannot be used: %s", error.message)
            self.no_template = f"{error.message} Use /v1/completions instead, or --chat-template."
            return None
        return ModelChat(template, source, self._tools)

    def _check_given(self) -> None:
        assert self._usual is not None, "it was compiled"
        prompt = ChatPrompt(messages=[{"role": "user", "content": "Hello"}])
        try:
            text = self._usual.render(prompt).text
        except TemplateFailed as error:
            raise BadSettings(
                f"--chat-template cannot be used: a message of the user cannot be shown by it. "
                f"{error.message}"
            ) from error
        if "Hello" not in text:
            raise BadSettings(
                "--chat-template cannot be used: it does not show the messages. It must be a "
                "Jinja template that writes out 'messages'."
            )
