"""A model's own Jinja chat template, rendered as Hugging Face renders it, within limits.

Knows no tokens, and not how a template is rendered (`appliance.text.rendering`): that
happens in a process which may run out of time or memory, at no cost but the request's.
A message's reasoning is there under both names that templates read.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from appliance.errors import ApplianceError, TemplateFailed
from appliance.text.rendering.frames import MAX_MEMORY_BYTES, MAX_RENDERED_CHARS, Outcome
from appliance.text.rendering.renderers import Renderers, Reply

# Of processor time: a machine that is busy with something else takes nothing away.
MAX_CPU_S = 5.0  # long conversations take a few hundredths of a second
QUICK_CPU_S = 0.1  # what a rendering may take where others wait for it

# behind the words of a turn to be gone on with; nobody writes such characters
_OPEN_END = "\ue000open end\ue001 "
_REASONING = ("reasoning_content", "thinking", "reasoning")  # names in use, the usual one first


class TemplateTooSlow(TemplateFailed):
    """Rendering was stopped after the time it was given; more time may do."""


class ChatTemplate:
    """Compiles `source` once. Raises `TemplateFailed` if it is no valid Jinja, or takes too much.

    `special` are the vocabulary's special tokens by Hugging Face's names, such as
    `bos_token`. `variables` names what the template reads: `messages`, `tools`,
    arguments. May be used on any thread.
    """

    def __init__(
        self,
        source: str,
        *,
        special: Mapping[str, str],
        now: Callable[[], datetime.datetime],
        compile_cpu_s: float = MAX_CPU_S,
    ) -> None:
        self.now = now
        self._renderers = Renderers(source, dict(special), compile_cpu_s)
        compiled = self._renderers.compiled
        if compiled.outcome is not Outcome.DONE:
            raise _error(compiled, f"took more than {compile_cpu_s:g} s of processor time to load")
        self.variables: frozenset[str] = frozenset(json.loads(compiled.text))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        arguments: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        cpu_s: float = MAX_CPU_S,
    ) -> str:
        """The prompt up to where the assistant's answer begins; with
        `continue_final_message`, to where the last message's text ends.

        `tools` are JSON schemas of functions, `arguments` whatever else the template
        reads, such as `enable_thinking`. Raises `TemplateFailed` with its words, and
        `TemplateTooSlow` after `cpu_s` of processor time.
        """
        known = [_with_reasoning(message) for message in messages]
        if continue_final_message:
            known[-1]["content"] += _OPEN_END
        values = {
            "documents": None,
            **(arguments or {}),
            "messages": known,
            "tools": tools or None,
            "add_generation_prompt": not continue_final_message,
        }
        rendered = self._render(values, cpu_s)
        return _up_to_open_end(rendered) if continue_final_message else rendered

    def _render(self, values: dict[str, Any], cpu_s: float) -> str:
        try:
            reply = self._renderers.render(values, self.now().isoformat(), cpu_s)
        except RecursionError as error:
            raise TemplateFailed(
                "The messages are nested too deeply for a chat template. Send them with fewer "
                "objects inside one another.",
                param="messages",
            ) from error
        if reply.outcome is not Outcome.DONE:
            raise _error(
                reply,
                f"took more than {cpu_s:g} s of processor time on these messages",
                param="messages",
            )
        return reply.text


def _error(reply: Reply, too_slow: str, param: str | None = None) -> ApplianceError:
    """What became of a template, in words; `too_slow` says what for it had too little time."""
    template = "The model's chat template"
    match reply.outcome:
        case Outcome.REFUSED:
            return TemplateFailed(reply.text, param=param)
        case Outcome.OUT_OF_TIME:
            return TemplateTooSlow(f"{template} {too_slow}, and was stopped.", param=param)
        case Outcome.OUT_OF_MEMORY:
            limit = f"{MAX_MEMORY_BYTES >> 20} MiB of memory"
            return TemplateFailed(f"{template} needed more than {limit}.", param=param)
        case Outcome.TOO_LONG:
            limit = f"{MAX_RENDERED_CHARS} characters"
            return TemplateFailed(f"{template} rendered more than {limit}.", param=param)
        case _:
            return TemplateFailed(
                f"{template} broke the process that rendered it ({reply.text}).", param=param
            )


def _with_reasoning(message: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that has its reasoning, if any,
    under `reasoning_content` and `thinking`.
    """
    reasoning = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    if reasoning is None:
        return dict(message)
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _up_to_open_end(rendered: str) -> str:
    """What a template trimmed behind the marker it would have trimmed without it."""
    marker = _OPEN_END.rstrip()
    text, found, rest = rendered.rpartition(marker)
    if not found:
        raise TemplateFailed(
            "The model's chat template does not show the last message's text.", param="messages"
        )
    return text if rest.startswith(_OPEN_END[len(marker) :]) else text.rstrip()
