"""The docs name what exists: paths, modules, classes, links;
decision records have one form.

Knows no fact that the docs state beside these.
"""

from __future__ import annotations

import ast
import posixpath
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
ARCHITECTURE = DOCS / "architecture.md"
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
PAGES = sorted([*DOCS.rglob("*.md"), *REPOSITORY.glob("*.md")])
# Pages that name modules, so that they say where things are today.
PAGES_WITH_PATHS = [
    ARCHITECTURE,
    DOCS / "glossary.md",
    DOCS / "known-limits.md",
    REPOSITORY / "CONTRIBUTING.md",
    *DECISIONS,
]
HEADINGS = ["Status", "Context", "Decision", "Consequences"]
MAX_DECISION_LINES = 40

ROOMS = "appliance|convert|tests|bench|docs|install|release"
PATH = re.compile(rf"(?<![\w/.-])(?:{ROOMS})/[\w/.-]*[\w/]")
MODULE = re.compile(r"(?<![\w/.-])[\w-]+(?:/[\w-]+)+\.py\b")
QUOTED_CLASS = re.compile(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)*)`")
PROGRAM = re.compile(r"python3? -m ((?:appliance|convert|tests|bench|release)(?:\.\w+)*)")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\(([^)#:\s]*)#([^)\s]+)\)")


FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without its pieces of code, in which brackets are no links."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def show(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def is_here(path: str) -> bool:
    """As it stands, or below the package, as decision records shorten it."""
    return any((REPOSITORY / root / path).exists() for root in ("", "appliance"))


@pytest.mark.parametrize("page", PAGES_WITH_PATHS, ids=show)
def test_every_path_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    paths = {*PATH.findall(text), *MODULE.findall(text)}
    assert sorted(path for path in paths if not is_here(path)) == []


def test_every_class_in_the_architecture_exists() -> None:
    defined = {
        node.name
        for path in (REPOSITORY / "appliance").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.ClassDef)
    }
    named = set(QUOTED_CLASS.findall(ARCHITECTURE.read_text(encoding="utf-8")))
    assert sorted(named - defined) == []


@pytest.mark.parametrize("page", PAGES, ids=show)
def test_every_program_exists(page: Path) -> None:
    programs = set(PROGRAM.findall(page.read_text(encoding="utf-8")))
    files = {name: REPOSITORY / name.replace(".", "/") for name in programs}
    assert [
        name
        for name, path in sorted(files.items())
        if not path.with_suffix(".py").exists() and not (path / "__main__.py").exists()
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=show)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    links = LINK.findall(prose(page))
    assert [link for link in links if not (page.parent / link).exists()] == []


@cache
def anchors(page: Path) -> frozenset[str]:
    """Of a page's headings, as forges make them."""
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    return frozenset(
        re.sub(r"[^\w\- ]", "", "".join(part.content for part in inline.children))
        .lower()
        .replace(" ", "-")
        for opening, inline in pairwise(tokens)
        if opening.type == "heading_open" and inline.children
    )


@pytest.mark.parametrize("page", PAGES, ids=show)
def test_every_link_into_a_page_leads_to_a_heading(page: Path) -> None:
    links = ANCHOR.findall(prose(page))
    assert [
        f"{path}#{anchor}"
        for path, anchor in links
        if "//" not in path and anchor not in anchors((page.parent / path) if path else page)
    ] == []


def test_every_page_is_in_the_sites_navigation() -> None:
    config = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))
    listed: list[str] = []

    def walk(entry: object) -> None:
        if isinstance(entry, str):
            listed.append(entry)
        elif isinstance(entry, dict):
            walk(list(entry.values()))
        elif isinstance(entry, list):
            for below in entry:
                walk(below)

    walk(config["nav"])
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    made = {"decisions/index.md", *(f"{page.stem.lower()}.md" for page in REPOSITORY.glob("*.md"))}
    made = made - {"readme.md"} | {"index.md"}
    assert len(listed) == len(set(listed))
    assert set(listed) - made == {page for page in pages if posixpath.dirname(page) != "decisions"}
    assert made <= set(listed)


@pytest.mark.parametrize("record", DECISIONS, ids=lambda record: record.stem)
def test_decision_records_have_one_form(record: Path) -> None:
    lines = record.read_text(encoding="utf-8").splitlines()
    number = int(record.name[:4])
    assert lines[0].startswith(f"# {number}. ")
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == HEADINGS
    assert len(lines) <= MAX_DECISION_LINES


def test_decision_records_have_numbers_of_their_own() -> None:
    """A gap is a record that is still being written."""
    numbers = [int(record.name[:4]) for record in DECISIONS]
    assert numbers == sorted(set(numbers))
