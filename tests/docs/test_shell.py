"""What is written for people is read as a shell would, and what is wrong is found."""

from __future__ import annotations

import pytest

from tests.docs.curl import Asked, asked
from tests.docs.shell import commands, typed


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("a b   # says why", [["a", "b"]]),
        ("a && .venv/bin/b | c; d &", [["a"], [".venv/bin/b"], ["c"], ["d"]]),
        ("a 'b\n c' \\\n  d\ne", [["a", "b\n c", "d"], ["e"]]),
        ("X=1 sudo Y='2 3' a b=c", [["a", "b=c"]]),
        ("for a in *; do b $a; done", [["for", "a", "in", "*"], ["b", "$a"], ["done"]]),
        ("X=$(a b)", [["a", "b"]]),
        ("a < in > out 2>&1\nb", [["a", "2"], ["b"]]),
        ("python - <<'EOF'\nno | command\nEOF\nb", [["python", "-"], ["b"]]),
        ("a --key '{\"x\": 1}' (b)", [["a", "--key", '{"x": 1}'], ["b"]]),
    ],
)
def test_commands(script: str, words: list[list[str]]) -> None:
    assert commands(script) == words


def test_only_what_was_typed_is_a_command() -> None:
    assert typed("$ a \\\n    b\nc\n$ d\n$e") == "a \\\n    b\nd"


def test_a_request_is_read_from_curls_flags() -> None:
    words = ["-sN", "localhost:8080/a?b=c", "-H", "X: y: z", "-d", "{}"]
    assert asked(words) == Asked(method="POST", path="/a?b=c", headers={"X": "y: z"}, body="{}")
    assert asked(["http://127.0.0.1:8080/", "-X", "DELETE"]) == Asked(
        method="DELETE", path="/", headers={}, body=None
    )
    assert asked(["https://example.org/"]) is None
