"""A model's own Jinja chat template, rendered in a sandbox as Hugging Face renders it.

Knows no tokens.

The environment is that of `transformers.PreTrainedTokenizerBase.apply_chat_template`
(version 5): trimmed blocks, loop controls, `raise_exception`, `strftime_now`, a
`tojson` that escapes neither HTML nor non-ASCII, `{% generation %}` blocks, and
namespaces without private names. A message's reasoning is there under both names that
templates read.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils

from appliance.errors import TemplateFailed

_MAX_RENDERED_CHARS = 16 << 20  # far above any context; stops a template that multiplies its input
# behind the words of a turn to be gone on with; nobody writes such characters
_OPEN_END = "\ue000open end\ue001 "
_REASONING = ("reasoning_content", "thinking", "reasoning")  # names in use, the usual one first


class ChatTemplate:
    """Compiles `source` once. Raises `TemplateFailed` if it is no valid Jinja.

    `special` are the vocabulary's special tokens by Hugging Face's names, such as
    `bos_token`. `variables` names what the template reads: `messages`, `tools`,
    arguments.
    """

    def __init__(
        self, source: str, *, special: Mapping[str, str], now: Callable[[], datetime.datetime]
    ) -> None:
        self._special = dict(special)
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda fmt: now().strftime(fmt)
        environment.globals["namespace"] = _Namespace
        try:
            self._template = environment.from_string(source)
            self.variables = frozenset(
                jinja2.meta.find_undeclared_variables(environment.parse(source))
            )
        except jinja2.TemplateError as error:
            raise TemplateFailed(
                f"The model's chat template is not valid Jinja: {error}"
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        arguments: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
    ) -> str:
        """The prompt up to where the assistant's answer begins; with
        `continue_final_message`, to where the last message's text ends.

        `tools` are JSON schemas of functions, `arguments` whatever else the template
        reads, such as `enable_thinking`. Raises `TemplateFailed` with its words.
        """
        known = [_with_reasoning(message) for message in messages]
        if continue_final_message:
            known[-1]["content"] += _OPEN_END
        rendered = self._render(
            known, tools, arguments or {}, add_generation_prompt=not continue_final_message
        )
        return _up_to_open_end(rendered) if continue_final_message else rendered

    def _render(
        self,
        messages: list[dict[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        arguments: Mapping[str, Any],
        *,
        add_generation_prompt: bool,
    ) -> str:
        known = {
            **self._special,
            **arguments,
            "messages": messages,
            "tools": tools or None,
            "documents": None,
        }
        try:
            return _join_bounded(
                self._template.generate(known, add_generation_prompt=add_generation_prompt)
            )
        except jinja2.TemplateError as error:
            raise TemplateFailed(
                f"The model's chat template refused the messages: {error}", param="messages"
            ) from error
        except (
            TypeError,
            ValueError,
            AttributeError,
            ArithmeticError,
            LookupError,
            RecursionError,
        ) as error:
            # What a template's own expressions raise on messages it was not written
            # for.
            raise TemplateFailed(
                f"The model's chat template failed on the messages: {type(error).__name__}: "
                f"{error}",
                param="messages",
            ) from error


class _Namespace(jinja2.utils.Namespace):
    """Jinja's `namespace()`, which would also keep names
    that lead into Python's own machinery.
    """

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        for name in dict(*rest, **kwargs):
            _check_public(name)
        jinja2.utils.Namespace.__init__(self, *rest, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_public(name)
        super().__setitem__(name, value)


def _check_public(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(
            f"a namespace cannot have {name!r}: names with a leading underscore are private"
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


class _Generation(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}` marks for training what the assistant
    wrote; here it is only its body.
    """

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


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
