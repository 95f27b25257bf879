"""The prompts: random words of exact length, and real ones from files.

Knows no server.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Short enough to be one token each, with the space before it, in practically every
# vocabulary that knows English.
_SHORT_WORDS = (
    "the and for are but not you all any can had her was one our out day get has him his how "
    "man new now old see two way who boy did its let put say she too use big end far few got "
    "run set top try ask air arm art bad bag bed bit box car cut dog eat eye fit fly gas job "
    "key law lay leg lie lot low map men met mix oil pay per red sea sit six sky son sun ten "
    "tie"
)
_WORDS = _SHORT_WORDS.split()
_MAX_REAL_CHARS = 4000  # of a prompt, so that any fits in a context of 4,096 tokens


def random_text(rng: random.Random, num_tokens: int) -> str:
    """So many words.

    From 8 on, no two texts begin alike: no server knows any of it already.
    """
    return "".join(f" {word}" for word in rng.choices(_WORDS, k=num_tokens))


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
