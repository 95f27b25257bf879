"""How one option is declared, and the parsers its value may have.

Knows no option by name and no source of values.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.durations import duration_s

_BYTES_PER_UNIT = {
    "": 1,
    "b": 1,
    **{f"{prefix}{suffix}": 1024**n for n, prefix in enumerate("kmgt", 1) for suffix in ("", "ib")},
    **{f"{prefix}b": 1000**n for n, prefix in enumerate("kmgt", 1)},
}


class OutOfRange(ValueError):
    """A number, but too small or too large;
    its text is the range, as it reads after "must be".
    """


@dataclass(frozen=True)
class Parser:
    """Turns the text of a value into the value.

    `read` raises `OutOfRange`, or `ValueError` for anything else that is not `allowed`.
    """

    read: Callable[[str], object]
    allowed: str  # in words, as they read after "must be"
    choices: tuple[str, ...] = ()  # of which a misspelt value may have meant one
    is_path: bool = False  # `~/` is the home directory; in a file, relative to that file
    # a value that stays text is such a path if it has a slash, or ends with one of these
    file_endings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Option:
    """Everything about one option but its name, type and default,
    which its dataclass field has.
    """

    help: str
    parser: Parser
    group: str
    metavar: str = ""
    automatic: str = ""  # what happens while the value is None; allows the word `auto` for it
    positional: bool = False
    switch: bool = False  # a flag without a value
    many: bool = False  # repeatable, or a list
    separator: str = ","  # between the values of a list that is one text
    default_from: Callable[[Mapping[str, str]], object] | None = None  # computes it, of environ
    default_text: str = ""  # that default in the docs


def whole_number(low: int, high: int, unit: str = "") -> Parser:
    between = f"between {low} and {high}"

    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise OutOfRange(f"{between} {unit}".rstrip())
        return value

    return Parser(read, f"a whole number{' of ' + unit if unit else ''} {between}")


def layers(every: int) -> Parser:
    """A number of layers; `all` is read as `every`, more than there are."""

    def read(text: str) -> int:
        value = every if text.lower() == "all" else int(text)
        if not 0 <= value <= every:
            raise ValueError
        return value

    return Parser(read, "a number of layers (0 or more) or all", ("all", "auto"))


def proportion() -> Parser:
    def read(text: str) -> float:
        value = float(text)
        if not 0 <= value <= 1e9:  # also refuses nan
            raise ValueError
        return value

    return Parser(read, "a proportion of 0 or more, such as 3 or 0.5")


def amount(example: str) -> Parser:
    """A number with a unit that is said elsewhere."""

    def read(text: str) -> float:
        value = float(text)
        if not 0 <= value <= 1e9:  # also refuses nan
            raise ValueError
        return value

    return Parser(read, f"a number of 0 or more, such as {example}")


def seconds(low: float, high: float) -> Parser:
    between = f"between {low:g} and {high:.0f} seconds"

    def read(text: str) -> float:
        value = duration_s(text)
        if not low <= value <= high:
            raise OutOfRange(between)
        return value

    return Parser(read, f"a duration such as 30 (seconds), 45s or 1h30m, {between}")


@dataclass(frozen=True)
class Lifetime:
    """How long something is kept, as it was written: `30d`, `12h`, `300` (seconds), `-1`
    (for ever), `off`.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def seconds(self) -> float:
        """Infinite is for ever, and 0 is off."""
        return 0.0 if self.text == "off" else duration_s(self.text)


def lifetime() -> Parser:
    def read(text: str) -> Lifetime:
        value = Lifetime(text.lower())
        if not value.seconds and value.text != "off":
            raise OutOfRange("more than 0, or off")
        return value

    return Parser(read, "a duration such as 30d, 12h or -1 (for ever), or off", ("off",))


@dataclass(frozen=True)
class KeepAlive:
    """How long an unused model stays loaded."""

    seconds: float  # infinite: forever
    name: str | None = None  # of the model; None: all of them


def keep_alive() -> Parser:
    """`30m`, `1h30m`, `300` (seconds), `-1` (forever), each also as `NAME=5m`."""

    def read(text: str) -> KeepAlive:
        name, equals, duration = text.rpartition("=")
        if equals and not name:
            raise ValueError
        return KeepAlive(duration_s(duration), name or None)

    return Parser(
        read, "a duration such as 30m, 1h30m, 300 (seconds) or -1 (forever), or NAME=DURATION"
    )


@dataclass(frozen=True)
class Assignment:
    """`NAME:key=value`: an option of one model, its value still as it was written."""

    model: str
    key: str
    text: str


def assignment() -> Parser:
    def read(text: str) -> Assignment:
        target, equals, value = text.partition("=")
        model, colon, key = target.rpartition(":")
        if not (equals and colon and model and key):
            raise ValueError
        return Assignment(model, key.strip().replace("-", "_"), value)

    return Parser(read, "NAME:KEY=VALUE, such as gemma-3-4b:ctx=8192")


@dataclass(frozen=True)
class Alias:
    """Another name of a model."""

    name: str
    model: str | None = None  # None: the first one


def alias() -> Parser:
    """`NAME` or `NAME=MODEL`."""

    def read(text: str) -> Alias:
        name, equals, model = text.partition("=")
        if re.fullmatch(r"[^\s,=]{1,200}", name) is None or (equals and not model):
            raise ValueError
        return Alias(name, model or None)

    return Parser(read, "a name without spaces, commas or =, or NAME=MODEL")


def byte_count(low: int = 1) -> Parser:
    """Sizes such as `6GiB`, `500MB` or `1048576`;
    K, M, G and T alone are powers of 1024.
    """

    def read(text: str) -> int:
        match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,6})?)\s*([a-z]*)", text.strip().lower())
        if match is None or match[2] not in _BYTES_PER_UNIT:
            raise ValueError
        value = int(float(match[1]) * _BYTES_PER_UNIT[match[2]])
        if value < low:
            raise OutOfRange(f"at least {low} byte{'s' if low != 1 else ''}")
        return value

    return Parser(read, "a size such as 6GiB, 1500MiB or 8GB")


def one_of(*choices: str) -> Parser:
    def read(text: str) -> str:
        value = text.lower()
        if value not in choices:
            raise ValueError
        return value

    return Parser(read, "one of " + ", ".join(choices), choices)


def pattern(regex: str, allowed: str, *, upper: bool = False, near: tuple[str, ...] = ()) -> Parser:
    """Text that matches as a whole;
    `near` are examples that a misspelt value may have meant.
    """

    def read(text: str) -> str:
        if re.fullmatch(regex, text) is None:
            raise ValueError
        return text.upper() if upper else text

    return Parser(read, allowed, near)


def path() -> Parser:
    def read(text: str) -> Path:
        if not text or "\0" in text:
            raise ValueError
        return Path(text)

    return Parser(read, "a path", is_path=True)


def path_or_name() -> Parser:
    """Stays text: only the model store can tell a path from a name."""

    def read(text: str) -> str:
        if not text.strip() or "\0" in text:
            raise ValueError
        return text

    return Parser(read, "a path or a name", is_path=True)


def name_or_file(endings: tuple[str, ...]) -> Parser:
    """Stays text; a file has a slash in it or ends with one of `endings`."""

    def read(text: str) -> str:
        if not text.strip() or "\0" in text:
            raise ValueError
        return text

    return Parser(read, "a name or a file", is_path=True, file_endings=endings)


def truth() -> Parser:
    words = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }

    def read(text: str) -> bool:
        if text.lower() not in words:
            raise ValueError
        return words[text.lower()]

    return Parser(read, "true or false")


def on_off() -> Parser:
    words = {"on": True, "off": False}

    def read(text: str) -> bool:
        if text.lower() not in words:
            raise ValueError
        return words[text.lower()]

    return Parser(read, "on or off", tuple(words))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean X?`, or nothing where no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""
