"""Makes a site of the pages that are written to be read as files: mkdocs calls it.

Knows where pages lie in the repository, and no page's text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

_DOCS = Path(__file__).parent
_REPOSITORY = _DOCS.parent
# Pages at the top of the repository, by their names in the site.
_TOP = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_DECISIONS = "decisions/index.md"
_LINK = re.compile(r"(?<!!)\[(?P<text>[^]]*)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)]*)?\)")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"(!\[[^]]*\]\()docs/")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Headings get the anchors that they have on forges."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages at the top of the repository, and the list of decisions."""
    for name, in_site in _TOP.items():
        text = (_REPOSITORY / name).read_text(encoding="utf-8")
        files.append(File.generated(config, in_site, content=text))
    files.append(File.generated(config, _DECISIONS, content=_decisions()))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Turns links between files of the repository into links between pages of the site."""
    names = {in_site: name for name, in_site in _TOP.items()}
    in_repository = names.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def in_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(
            posixpath.join(posixpath.dirname(in_repository), link["target"])
        )
        uri = _TOP.get(target, target.removeprefix("docs/"))
        if uri == "decisions":
            uri = _DECISIONS
        if files.get_file_from_path(uri) is None:
            # A file that is no page: there is nothing to lead to.
            return link["text"] if target.startswith("docs/") else f"`{target}`"
        way = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
        return f"[{link['text']}]({way}{link['anchor'] or ''})"

    pieces = _FENCE.split(markdown)  # every second one is code
    pieces[::2] = (_PICTURE.sub(r"\1", _LINK.sub(in_site, piece)) for piece in pieces[::2])
    return "".join(pieces)


def _decisions() -> str:
    lines = ["# Decisions", "", "Why it is built as it is, in the order of time.", ""]
    for record in sorted((_DOCS / "decisions").glob("*.md")):
        title = record.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        # "7. Two passes" would be a list of its own
        lines.append(f"- [{title.replace('. ', ': ', 1)}]({record.name})")
    return "\n".join(lines) + "\n"
