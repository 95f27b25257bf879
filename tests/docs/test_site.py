"""The site is built of the pages without a warning, asks nobody for anything, and reads
as the files do.

Knows no page's text.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
TOP = {
    "index": "README.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "security": "SECURITY.md",
}
# What a reader sees of a page's form; both dialects of Markdown must agree on it.
FORM = {"blockquote", "h1", "h2", "h3", "img", "li", "ol", "pre", "table", "td", "ul"}
LOADED = {"iframe": "src", "img": "src", "link": "href", "script": "src", "source": "src"}
IFRAME_WORKER = "e8e412dbcfea9b7e31b5ffa288d7b6035915e714c542f4176a0cdbe262fc9609"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("material") is None,
    reason="mkdocs-material is not installed (the extra `docs`)",
)


class Tags(HTMLParser):
    """The tags of a page: what it loads, and the form of its article."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.form: Counter[str] = Counter()
        self._in_article = "<article" not in html
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in_article = self._in_article or tag == "article"
        if self._in_article and tag in FORM:
            self.form[tag] += 1
        if tag in LOADED:
            self.loaded.append(dict(attributes).get(LOADED[tag]) or "")

    def handle_endtag(self, tag: str) -> None:
        self._in_article = self._in_article and tag != "article"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    return folder


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    found = [
        f"{page.name}: {address}"
        for page in site.rglob("*.html")
        for address in Tags(page.read_text(encoding="utf-8")).loaded
        if re.match(r"(\w+:)?//", address)
    ]
    assert found == []
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert styles
    assert not any(re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style) for style in styles)


def test_pages_have_the_form_that_they_have_as_files(site: Path) -> None:
    commonmark = MarkdownIt("commonmark").enable("table")
    differing = {}
    for page in site.rglob("*.html"):
        name = page.relative_to(site).with_suffix("").as_posix()
        source = REPOSITORY / TOP[name] if name in TOP else DOCS / f"{name}.md"
        if name in {"404", "decisions/index"}:
            continue  # made for the site
        here = Tags(page.read_text(encoding="utf-8")).form
        file = Tags(commonmark.render(source.read_text(encoding="utf-8"))).form
        if here != file:
            differing[name] = (file - here, here - file)
    assert differing == {}, "only as a file, only in the site"


def test_every_page_can_be_searched_for(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    pages = {page.relative_to(site).as_posix() for page in site.rglob("*.html")}
    assert found == pages - {"404.html"}


def test_the_script_of_others_is_the_one_in_its_package() -> None:
    script = DOCS / "vendor" / "iframe-worker" / "iframe-worker.js"
    assert hashlib.sha256(script.read_bytes()).hexdigest() == IFRAME_WORKER
    assert "Copyright" in (script.parent / "LICENSE").read_text(encoding="utf-8")
