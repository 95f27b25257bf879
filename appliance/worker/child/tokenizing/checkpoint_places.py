"""Where in a chat's prompt others will go on otherwise: behind what all chats begin with,
and where the answer's own text begins.

Knows templates and tokens; what is saved there is the engine's.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from appliance.engine.cache.host_prefixes import num_common
from appliance.errors import TemplateFailed
from appliance.protocol.requests import ChatPrompt, GenerationPrompt
from appliance.text.chat_template import QUICK_CPU_S, ChatTemplate

_ASKED, _ANSWER = "probe of a question", "probe of an answer"
_MIN_COMMON_TOKENS = 64  # a shorter beginning costs less to compute than to look after
_MAX_CHARS = 200  # of a message, to find it in the prompt
_INSTRUCTING = ("system", "developer")


def text_before_answers(template: ChatTemplate) -> str:
    """What stands between a question and its answer in any later prompt: not all that a
    prompt for an answer ends with, where that has an open reasoning block.
    """
    asked = {"role": "user", "content": _ASKED}
    answer = {"role": "assistant", "content": _ANSWER}
    last = [asked, {"role": "assistant", "content": ""}]
    later = ([asked, answer, *last], [asked, {**answer, "reasoning_content": "probe"}, *last])
    try:
        common = template.render([asked], cpu_s=QUICK_CPU_S).rpartition(_ASKED)[2]
        for messages in later:
            behind = template.render(messages, cpu_s=QUICK_CPU_S).partition(_ASKED)[2]
            between = behind.partition(_ANSWER)[0]
            common = os.path.commonprefix([common, between])  # noqa: RUF071 - texts
    except TemplateFailed:
        return ""
    return common


class CheckpointPlaces:
    """Of one model's chats; `before_answers` is as `text_before_answers` gives it."""

    def __init__(self, before_answers: str, tokenize: Callable[[str], list[int]]) -> None:
        """`tokenize` is of a text that is the prompt's beginning or end, without BOS."""
        self._before_answers = before_answers
        self._tokenize = tokenize

    def of(self, prompt: GenerationPrompt, text: str, tokens: Sequence[int]) -> dict[int, bool]:
        """After how many of a prompt's tokens, whose text is given; and whether several
        chats are expected to go on from there.
        """
        if not isinstance(prompt, ChatPrompt):
            return {}
        places = {}
        num_begun = self._num_begun(prompt.messages, text, tokens)
        if num_begun >= _MIN_COMMON_TOKENS:
            places[num_begun] = True
        num_asked = self._num_asked(text, tokens)
        if num_asked > num_begun:
            places[num_asked] = False
        return places

    def _num_begun(
        self, messages: Sequence[Mapping[str, Any]], text: str, tokens: Sequence[int]
    ) -> int:
        """Tokens in front of the first message that is no instruction."""
        first = next((m for m in messages if m.get("role") not in _INSTRUCTING), {})
        content = first.get("content")
        at = text.find(content.strip()[:_MAX_CHARS]) if isinstance(content, str) else -1
        if at <= 0:
            return 0
        begin = self._tokenize(text[:at])
        with_bos = len(tokens) > 1 and begin[:1] != list(tokens[:1])
        known = [tokens[0], *begin] if with_bos else begin
        return num_common(known, tokens, len(tokens) - 1)

    def _num_asked(self, text: str, tokens: Sequence[int]) -> int:
        """Tokens up to where the answer's own text begins, and never the last one, which
        is computed for every answer.
        """
        at = text.rfind(self._before_answers) if self._before_answers else -1
        end = len(text) if at < 0 else at + len(self._before_answers)
        behind = self._tokenize(text[end:]) if text[end:] else []
        is_cut = bool(behind) and list(tokens[-len(behind) :]) != behind
        return min(len(tokens) - len(behind) - is_cut, len(tokens) - 1)
