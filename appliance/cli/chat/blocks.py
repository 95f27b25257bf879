"""Where Markdown that is still being written can be cut: between its blocks.

Knows no terminal, and of Markdown only blank lines, indentation and fences.
"""

from __future__ import annotations

import re
import unicodedata

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def finished_length(text: str) -> int:
    """How many characters of `text` are whole blocks, whatever follows: up to the last
    line that begins one behind a blank line, outside of fences.
    """
    finished = at = 0
    fence = ""
    is_behind_blank = False
    for line in text.splitlines(keepends=True):
        found = _FENCE.match(line)
        # indented lines go on with an item of a list, or with code
        if not fence and is_behind_blank and line.strip() and not line[0].isspace():
            finished = at
        if found:
            fence = _fence_after(fence, found.group(1), found.group(2).strip())
        is_behind_blank = not line.strip()
        at += len(line)
    return finished


def _fence_after(fence: str, marks: str, behind: str) -> str:
    """The fence that is open behind a line of such marks; empty for none."""
    if not fence:
        return "" if marks[0] == "`" and "`" in behind else marks
    is_its_end = marks[0] == fence[0] and len(marks) >= len(fence) and not behind
    return "" if is_its_end else fence


def end_of(text: str, num_lines: int) -> str:
    """The last lines of a block; code stays code, whose fence is otherwise cut off."""
    lines = text.splitlines(keepends=True)
    if len(lines) <= num_lines:
        return text
    first = lines[0] if _FENCE.match(lines[0]) else ""
    return first + "".join(lines[-num_lines:])


def printable(text: str) -> str:
    """Without what terminals obey: an answer must not move the cursor, name windows or
    write to the clipboard. Tabs and ends of lines stay.
    """
    text = text.replace("\r\n", "\n")
    return "".join(
        character
        for character in text
        if character in "\n\t" or unicodedata.category(character) != "Cc"
    )
