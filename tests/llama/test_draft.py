"""The draft model on real files: what it proposes does not depend on its past, and who
cannot draft is refused.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, Embedded
from tests.llama.rewritten_gguf import other_token, rewritten


def in_child(module: str, *arguments: Path) -> str:
    command = [sys.executable, "-m", f"tests.llama.{module}", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def test_proposals_do_not_depend_on_what_was_drafted_before(
    embedded: Embedded, draft: Path
) -> None:
    report = json.loads(in_child("draft_proposals", embedded.files["F32"], draft))
    assert report["num_other"] == 0
    # The target as its own draft: what is left are drafts beyond the end of an answer.
    assert report["greedy_itself"] > 0.97
    assert report["seeded_itself"] > 0.97, "it draws with the target's own randomness"
    assert 0.5 < report["seeded_itself_short_window"] < report["seeded_itself"], (
        "it has only read the last tokens"
    )
    # The small one agrees with 65 % of single tokens, so that four in a row bring 1.5
    # of 4; by chance it would be none.
    assert report["greedy_small"] > 0.3
    assert report["seeded_small"] > 0.2


def other_end(name: str, value: object) -> object:
    return 5 if name == "tokenizer.ggml.eos_token_id" else value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_token, "the target's token 2000 ("),
        (other_end, "the EOS token of the target is "),
    ],
)
def test_another_vocabulary_is_refused_with_the_first_difference(
    embedded: Embedded,
    draft: Path,
    tmp_path: Path,
    change: Callable[[str, object], object],
    words: str,
) -> None:
    other = rewritten(draft, tmp_path / "other.gguf", change)
    refusal = in_child("draft_refusal", embedded.files["Q8_0"], other)
    assert refusal.startswith(f"other.gguf cannot draft for this model: {words}")
    assert refusal.rstrip().endswith("Give a smaller model of the same family, or --draft off.")
    assert in_child("draft_refusal", embedded.files["Q8_0"], draft) == "it can\n"
