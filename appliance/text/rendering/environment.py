"""Jinja as Hugging Face sets it up for chat templates, in a sandbox.

Knows no limits of time and memory, and no processes: this is what such a process runs.

The environment is that of `transformers.PreTrainedTokenizerBase.apply_chat_template`
(version 5): trimmed blocks, loop controls, `raise_exception`, `strftime_now`, a
`tojson` that escapes neither HTML nor non-ASCII, `{% generation %}` blocks, and
namespaces without private names. In one thing it differs: a template may change lists
and dicts, as Kimi-K2's does. What it is given is a copy, which ends with the rendering.

What fails so is tried again as `lenient` says, unless the template itself refuses.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import types
from collections.abc import Iterable
from typing import Any, NoReturn

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils

from appliance.text.rendering.frames import MAX_RENDERED_CHARS
from appliance.text.rendering.lenient import Leniency, with_simple_schemas, without_nothing


class TemplateRefused(Exception):
    """The template is no valid Jinja, or refused what it was given; the message is a sentence.

    `may_be_helped`: it did not refuse, but met something that it does not know.
    """

    def __init__(self, message: str, *, may_be_helped: bool = False) -> None:
        super().__init__(message)
        self.may_be_helped = may_be_helped


class RenderedTooLong(Exception):
    """It rendered more than `MAX_RENDERED_CHARS`."""


class CompiledTemplate:
    """Raises `TemplateRefused` if `source` is no valid Jinja.

    `special` are the vocabulary's special tokens by Hugging Face's names. `variables`
    names what the template reads.
    """

    def __init__(self, source: str, special: dict[str, str]) -> None:
        self._special = special
        self._leniency = Leniency()
        environment = jinja2.sandbox.SandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[jinja2.ext.loopcontrols, _Generation],
            undefined=self._leniency.undefined(),
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["namespace"] = _Namespace
        self._environment = environment
        try:
            self._template = environment.from_string(source)
            self.variables = frozenset(
                jinja2.meta.find_undeclared_variables(environment.parse(source))
            )
        except MemoryError:
            raise
        except Exception as error:  # Jinja computes constants: whatever these raise
            raise TemplateRefused(
                f"The model's chat template is not valid Jinja: {error}"
            ) from error

    def render(self, request: bytes) -> str:
        """`request` is JSON: `values` for the template, and `now` in ISO's format.

        Raises `TemplateRefused` with the template's words, and `RenderedTooLong`.
        """
        try:
            return self._render(**json.loads(request))
        except TemplateRefused as refused:
            if not refused.may_be_helped:
                raise
            self._leniency.is_on = True
            for adapted in (without_nothing, with_simple_schemas):
                given = json.loads(request)  # once more: a rendering may change what it is given
                with contextlib.suppress(TemplateRefused):
                    return self._render(adapted(given["values"]), given["now"])
            raise
        finally:
            self._leniency.is_on = False

    def _render(self, values: dict[str, Any], now: str) -> str:
        moment = datetime.datetime.fromisoformat(now)
        known = {"strftime_now": moment.strftime, **self._special, **values}
        try:
            return _join_bounded(self._template.generate(known))
        except (MemoryError, RenderedTooLong):
            raise
        except jinja2.TemplateError as error:
            raise TemplateRefused(
                f"The model's chat template refused the messages: {error}",
                may_be_helped=isinstance(error, jinja2.UndefinedError),
            ) from error
        except Exception as error:  # what its own expressions raise on unexpected messages
            raise TemplateRefused(
                f"The model's chat template failed on the messages: {type(error).__name__}: "
                f"{error}",
                may_be_helped=True,
            ) from error


class _Namespace(jinja2.utils.Namespace):
    """Jinja's `namespace()`, which would also keep names that lead into Python's own machinery."""

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


class _Generation(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}` marks for training what the assistant
    wrote; here it is only its body.
    """

    tags = {"generation"}  # noqa: RUF012 - the name and type that Jinja's base class declares

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _join_bounded(pieces: Iterable[str]) -> str:
    parts, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_RENDERED_CHARS:
            raise RenderedTooLong
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
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_as_list,
    )


def _as_list(value: object) -> list[Any]:
    """What `map` and `select` give is no list in Python, and is one elsewhere."""
    if isinstance(value, types.GeneratorType):
        return list(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
