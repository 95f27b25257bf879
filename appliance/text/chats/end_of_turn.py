"""What ends an answer where the vocabulary's own end tokens do not.

Knows no model: a template shows what stands behind an answer, a vocabulary what of it is
a token that ends answers anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from appliance.errors import TemplateFailed
from appliance.text.chat_template import QUICK_CPU_S, ChatTemplate

_ANSWER, _NEXT = "probe of an answer", "probe of what is next"
_FIRST_LINE = re.compile(r"\s*\S[^\n]*")
_MARK = re.compile(r"\s*[<\[]")


def text_behind_answers(template: ChatTemplate) -> str:
    """What a conversation has between an answer and what the user says next."""
    messages = [
        {"role": "user", "content": "probe"},
        {"role": "assistant", "content": _ANSWER},
        {"role": "user", "content": _NEXT},
    ]
    try:
        rendered = template.render(messages, cpu_s=QUICK_CPU_S)
    except TemplateFailed:
        return ""
    _, found, rest = rendered.rpartition(_ANSWER)
    behind, next_found, _ = rest.partition(_NEXT)
    return behind if found and next_found else ""


def end_of_turn(
    behind: str,
    *,
    tokenize: Callable[[str], list[int]],
    end_tokens: Collection[int],
    name: Callable[[int], str],
    marks: Collection[str],
    is_given: bool,
) -> str:
    """The text, or the special token's name, that ends an answer; empty where an end token does.

    `behind` is as `text_behind_answers` gives it, `name` empty for a token that is not
    special; `marks` mean something within answers. Only where a template `is_given` by a
    user may plain words end an answer: the next speaker's name.
    """
    tokens = tokenize(behind)
    if end_tokens and any(token in end_tokens for token in tokens):
        return ""
    special = next((text for text in map(name, tokens) if text.strip()), "")
    if special:
        return "" if any(special in mark for mark in marks) else special
    line = _FIRST_LINE.match(behind)
    if line is None or not (is_given or _MARK.match(behind)):
        return ""
    return line[0].rstrip()
