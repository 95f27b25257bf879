"""Commands as a shell would read them, of what is written for people.

Knows no command, and of the shell's language only what the pages use.
"""

from __future__ import annotations

import re
import shlex

_COMMENT = re.compile(r"(^|\s)#\s.*$", re.MULTILINE)
_HERE_DOCUMENT = re.compile(r"<<-?\s*'?(\w+)'?(.*)\n(?s:.*?)\n\1$", re.MULTILINE)
_KEYWORDS = {"do", "else", "if", "then", "while", "!"}
_ASSIGNMENT = re.compile(r"\w+=.*", re.DOTALL)
_OPERATORS = ";|&()<>\n"


def typed(console: str) -> str:
    """What somebody typed, of what a terminal shows: the lines behind `$ `, and those in
    which they go on.
    """
    lines: list[str] = []
    goes_on = False
    for line in console.splitlines():
        if line.startswith("$ ") or goes_on:
            lines.append(line if goes_on else line.removeprefix("$ "))
            goes_on = line.endswith("\\")
    return "\n".join(lines)


def commands(script: str) -> list[list[str]]:
    """The words of each command: without assignments, redirections and `sudo`."""
    script = _HERE_DOCUMENT.sub(r"\2", script)
    script = _COMMENT.sub("", script.replace("\\\n", " "))
    lexer = shlex.shlex(script, posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t\r", "", True
    found: list[list[str]] = [[]]
    is_target = False  # of a redirection
    for word in lexer:
        if word and not set(word) - set(_OPERATORS):
            is_target = set(word) <= set("<>&") and bool(set(word) & set("<>"))
            if not is_target:
                found.append([])
        elif is_target:
            is_target = False
        elif found[-1] or not _is_before(word):
            found[-1].append(word)
    return [words for words in found if words]


def _is_before(word: str) -> bool:
    """Whether it stands before a command, and is none."""
    return word in _KEYWORDS or word == "sudo" or _ASSIGNMENT.fullmatch(word) is not None
