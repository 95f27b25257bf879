"""A model's own Jinja chat template, rendered in a sandbox as Hugging Face renders it. Knows no tokens.

The environment is that of `transformers.PreTrainedTokenizerBase.apply_chat_template`: trimmed blocks, loop controls,
`raise_exception`, `strftime_now`, a `tojson` that escapes neither HTML nor non-ASCII, and `{% generation %}` blocks.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from appliance.errors import TemplateFailed

_MAX_RENDERED_CHARS = 16 << 20  # far above any context; stops a template that multiplies its input


class ChatTemplate:
    """Compiles `source` once. Raises `TemplateFailed` if it is no valid Jinja."""

    def __init__(self, source: str, *, bos: str, eos: str, now: Callable[[], datetime.datetime]) -> None:
        self._special = {"bos_token": bos, "eos_token": eos}
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda fmt: now().strftime(fmt)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise TemplateFailed(f"The model's chat template is not valid Jinja: {error}") from error

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        """The prompt up to where the assistant's answer begins. Raises `TemplateFailed` with its words."""
        try:
            pieces = self._template.generate(
                messages=messages, add_generation_prompt=True, tools=None, documents=None, **self._special
            )
            return _join_bounded(pieces)
        except jinja2.TemplateError as error:
            raise TemplateFailed(
                f"The model's chat template refused the messages: {error}", param="messages"
            ) from error
        except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError, RecursionError) as error:
            # What a template's own expressions raise on messages it was not written for.
            raise TemplateFailed(
                f"The model's chat template failed on the messages: {type(error).__name__}: {error}", param="messages"
            ) from error


class _Generation(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}` marks for training what the assistant said; here it is only its body."""

    tags = {"generation"}  # noqa: RUF012 - the name and type that Jinja's base class declares

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _join_bounded(pieces: Any) -> str:
    parts, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > _MAX_RENDERED_CHARS:
            raise ValueError(f"it rendered more than {_MAX_RENDERED_CHARS} characters")
        parts.append(piece)
    return "".join(parts)


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
