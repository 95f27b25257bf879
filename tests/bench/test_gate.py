"""The speed gate's arithmetic, what it says, and how it finds the last release."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.gate.measuring import command
from bench.gate.release import NoRelease, checked_out, commit_of, last_release, newest_version
from bench.gate.verdict import Comparison, verdict

RELEASE = [100.0, 102.0, 98.0, 101.0, 99.0]


def compared(*now: float, load: str = "a model, 8 streams") -> Comparison:
    return Comparison(load=load, now=now, release=RELEASE[: len(now)])


def test_the_ratio_is_that_of_the_medians() -> None:
    comparison = compared(50.0, 97.0, 98.0, 99.0, 200.0)
    assert comparison.ratio == 0.98
    assert comparison.spread == pytest.approx((0.9509803921568627, 1.0))
    assert compared(50.0).spread == (0.5, 0.5)


@pytest.mark.parametrize(("rate", "is_enough"), [(97.0, True), (96.9, False), (130.0, True)])
def test_three_per_cent_may_be_lost(rate: float, is_enough: bool) -> None:
    assert compared(*[rate] * 5).is_fast_enough == is_enough


def test_one_sentence_says_what_is_too_slow() -> None:
    slow, fast = compared(*[90.0] * 5), compared(*[110.0] * 5, load="a model, 1 streams")
    assert verdict([fast, slow], "0.1.0", 0.01) == (
        "Too slow: a model, 8 streams runs at 0.900 of the rate of 0.1.0; at least 0.97 is wanted."
    )
    assert verdict([fast], "0.1.0", 0.01) == (
        "Fast enough: at least 1.100 of the rate of 0.1.0 (a model, 1 streams)."
    )
    assert "took 25% of the machine" in verdict([fast, slow], "0.1.0", 0.25)


def test_the_topmost_version_is_the_last_release() -> None:
    assert newest_version("# Log\n\n## [Unreleased]\n\n## [0.2.0] - x\n\n## [0.1.0]\n") == "0.2.0"
    with pytest.raises(NoRelease, match="--against"):
        newest_version("## [Unreleased]\n")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Three commits, of which the first one dated 0.1.0 and the third one went on."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    head, release = "## [Unreleased]\n\n", "## [0.1.0] - today\n"
    for text in (head + release, f"{head}{release}\n- Old.\n", f"{head}- New.\n\n{release}"):
        (root / "CHANGELOG.md").write_text(text)
        git(root, "add", ".")
        who = ("-c", "user.name=a", "-c", "user.email=a@b.example")
        git(root, *who, "commit", "-q", "-m", "x")
    return root


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_release_is_its_tag_or_the_last_commit_before_something_new(repository: Path) -> None:
    first, second, third = git(repository, "rev-list", "--reverse", "HEAD").split()
    assert last_release(repository) == ("0.1.0", second)
    git(repository, "tag", "v0.1.0", first)
    assert last_release(repository) == ("0.1.0", first)
    assert commit_of("main", repository) == third
    with pytest.raises(NoRelease, match="no-such-ref"):
        commit_of("no-such-ref", repository)


def test_its_files_lie_in_a_tree_of_their_own_for_a_while(repository: Path) -> None:
    with checked_out(last_release(repository)[1], repository) as tree:
        assert "- Old." in (tree / "CHANGELOG.md").read_text()
        assert len(git(repository, "worktree", "list").splitlines()) == 2
    assert not tree.exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_the_code_of_the_tree_is_run_and_not_that_of_this_folder(tmp_path: Path) -> None:
    tree = tmp_path / "a tree"
    package = tree / "appliance"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys; print(__file__, *sys.argv[1:])")
    words = command("x", tree, tmp_path / "m.gguf", tmp_path / "home").words(4711)
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split(" ")
    assert str(package / "__main__.py") in " ".join(said)
    assert [str(tmp_path / "m.gguf"), "--port", "4711"] == said[-10:-7]
