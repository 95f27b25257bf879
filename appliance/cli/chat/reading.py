"""What a person types: lines with a history, and texts of several lines.

Knows no meaning of them. Editing is readline's, which Python brings along; it also takes
a pasted text of many lines as one.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

try:
    import readline
except ImportError:  # a Python that was built without it reads lines all the same
    readline = None  # type: ignore[assignment]  # a module or none

_MAX_LINES = 1000
_QUOTES = '"""'
_PROMPT, _MORE = "> ", ". "


@contextlib.contextmanager
def history_in(path: Path) -> Iterator[None]:
    """What is typed meanwhile is kept there, for this user's eyes, and offered again."""
    if readline is None or not sys.stdin.isatty():
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    with contextlib.suppress(OSError):  # libedit refuses a file that is empty
        readline.read_history_file(path)
    readline.set_history_length(_MAX_LINES)
    try:
        yield
    finally:
        readline.write_history_file(path)


def take_any_bytes() -> None:
    """Standard input that is not UTF-8 is read all the same, whatever the locale says:
    who asks with it says what is wrong.
    """
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")


def read_text() -> str | None:
    """A line, one that goes on behind `\\`, or lines between two `\"\"\"`; None at the end.

    Raises `KeyboardInterrupt` for Ctrl-C, which gives up what was typed.
    """
    line = _read_line(_PROMPT)
    if line is None:
        return None
    if line.lstrip().startswith(_QUOTES):
        return _read_block(line.lstrip().removeprefix(_QUOTES))
    while line.endswith("\\"):
        line = f"{line[:-1]}\n{_read_line(_MORE) or ''}"
    return line


def _read_block(line: str | None) -> str:
    lines = []
    while line is not None and not line.rstrip().endswith(_QUOTES):
        lines.append(line)
        line = _read_line(_MORE)
    if line is not None:
        lines.append(line.rstrip().removesuffix(_QUOTES))
    return "\n".join(lines).strip("\n")


def _read_line(prompt: str) -> str | None:
    try:
        return input(prompt if sys.stdin.isatty() else "")
    except EOFError:
        return None
