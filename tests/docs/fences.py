"""The pieces of code on the pages: what each is written in, and how it is marked.

Knows no command. A mark is a comment right before the fence, which nobody sees when
reading (CONTRIBUTING.md, "Pages"):

- `<!-- run -->`: a test runs it against a real server (`test_commands_that_are_run.py`);
- `<!-- .ci/run: NAME -->`: `.ci/run` does, as a new user would;
- `<!-- needs: WHAT, WHAT -->`: nobody does, for want of what it needs.

Marked or not, what can be checked without running it is (`test_fences.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).parents[2]
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
_MARK = re.compile(r"<!-- (?P<kind>run|needs|\.ci/run)(?:: (?P<words>[\w, -]+))? -->")


@dataclass(frozen=True, kw_only=True)
class Fence:
    page: Path
    line: int
    language: str  # "" where it is shown as it is: what a program prints
    kind: str  # "run", "needs", ".ci/run", or "" without a mark
    words: tuple[str, ...]  # what stands behind the colon
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


@cache
def fences() -> tuple[Fence, ...]:
    return tuple(fence for page in PAGES for fence in _fences_of(page))


def spans() -> Iterator[tuple[str, str]]:
    """Every piece of code within a text, with the page and the line on which it is."""
    for page in PAGES:
        for token in _parse(page):
            for part in token.children or ():
                if part.type == "code_inline":
                    assert token.map is not None
                    yield f"{page.relative_to(REPOSITORY)}:{token.map[0] + 1}", part.content


@cache
def _parse(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def _fences_of(page: Path) -> Iterator[Fence]:
    for before, token in pairwise([Token("", "", 0), *_parse(page)]):
        if token.type == "fence":
            assert token.map is not None
            mark = _MARK.fullmatch(before.content.strip()) if before.type == "html_block" else None
            yield Fence(
                page=page,
                line=token.map[0] + 1,
                language=token.info,
                kind=mark["kind"] if mark else "",
                words=tuple(mark["words"].split(", ")) if mark and mark["words"] else (),
                text=token.content,
            )
