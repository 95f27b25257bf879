"""Which commit was the last release, and its files in a folder of their own.

Changes nothing in the checkout but git's list of work trees.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_HEADING = re.compile(r"^## \[(\d[^\]]*)\]", re.MULTILINE)


class NoRelease(Exception):
    """There is nothing to compare with."""


def newest_version(changelog: str) -> str:
    """Of the topmost heading that is a version. Raises `NoRelease`."""
    found = _HEADING.search(changelog)
    if found is None:
        raise NoRelease("CHANGELOG.md has no heading of a release: give --against REF.")
    return found[1]


def has_unreleased(changelog: str) -> bool:
    """Whether something stands under Unreleased."""
    _, _, unreleased = changelog.partition("## [Unreleased]")
    return bool(unreleased.partition("\n## ")[0].strip())


def last_release(root: Path = ROOT) -> tuple[str, str]:
    """Its version, and the commit: that of its tag, else the last one before something
    was noted as unreleased. Raises `NoRelease`.
    """
    version = newest_version((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    for tag in (f"v{version}", version):
        with contextlib.suppress(NoRelease):
            return version, commit_of(tag, root)
    heading = f"## [{version}]"
    dated = _git(root, "log", "--format=%H", "-S", heading, "--", "CHANGELOG.md").split()
    if not dated:
        raise NoRelease(f"No commit brought {version} into CHANGELOG.md: give --against REF.")
    since = f"{dated[-1]}..HEAD"
    for commit in _git(
        root, "log", "--reverse", "--format=%H", since, "--", "CHANGELOG.md"
    ).split():
        if has_unreleased(_git(root, "show", f"{commit}:CHANGELOG.md")):
            return version, commit_of(f"{commit}~1", root)
    return version, dated[-1]


def commit_of(ref: str, root: Path = ROOT) -> str:
    """Raises `NoRelease` for what git does not know."""
    return _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").strip()


@contextlib.contextmanager
def checked_out(commit: str, root: Path = ROOT) -> Iterator[Path]:
    """A work tree of that commit, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="appliance-gate-") as folder:
        tree = Path(folder) / "release"
        _git(root, "worktree", "add", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            _git(root, "worktree", "remove", "--force", str(tree))


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoRelease(f"git {' '.join(arguments)}: {done.stderr.strip() or 'found nothing'}")
    return done.stdout
