"""The real prompts, from files.

Knows no server.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_MAX_REAL_CHARS = 4000  # of a prompt, so that any fits in a context of 4,096 tokens


@dataclass(frozen=True)
class RealPrompts:
    """Prompts by what they are of, with how often one of that kind is asked."""

    kinds: dict[str, list[str]]
    shares: dict[str, float]

    def draw(self, rng: random.Random) -> str:
        (kind,) = rng.choices(list(self.shares), weights=list(self.shares.values()))
        return rng.choice(self.kinds[kind])[:_MAX_REAL_CHARS]


def read_real_prompts(folder: Path) -> RealPrompts:
    """Questions, code to complete, word problems, and word problems behind few-shot
    examples (a shared prefix).

    Raises `OSError` or `ValueError` where a file is not there or not as expected.
    """
    problems = _json_lines(folder / "gsm8k_test.jsonl", lambda row: row["question"])
    examples = [path.read_text() for path in sorted((folder / "bbh_cot").glob("*.txt"))[:4]]
    room = _MAX_REAL_CHARS // 2
    return RealPrompts(
        kinds={
            "question": _json_lines(folder / "mt_bench.jsonl", lambda row: row["turns"][0]),
            "code": _json_lines(folder / "humaneval.jsonl", lambda row: row["prompt"]),
            "problem": problems,
            "examples": [
                f"{text[:room]}\n\nQ: {problem}\nA:"
                for text in examples
                for problem in problems[:100]
            ],
        },
        shares={"question": 0.5, "code": 0.2, "problem": 0.2, "examples": 0.1},
    )


def _json_lines(path: Path, prompt_of: Callable[[dict[str, list[str]]], object]) -> list[str]:
    try:
        return [str(prompt_of(json.loads(line))) for line in path.read_text().splitlines()]
    except (KeyError, IndexError) as error:
        raise ValueError(f"{path} is not as expected: no {error}") from error
