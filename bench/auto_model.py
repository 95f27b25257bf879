"""How well the model `auto` tells requests that need a large model from others: labelled
prompts, the table of what was chosen, and what it saves.

    python -m bench.auto_model shared/data/prompts

Computes no answer: the score is a pure function of the request, and the labels are those of
the prompts' sources (see `LARGE`). So it measures routing, not the quality of answers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.gateway.tiers.complexity import complexity_of
from appliance.gateway.tiers.rules import AutoRules
from appliance.protocol.requests import ChatPrompt, GenerateRequest

# MT-bench's categories, and whole sources, in which small models are known to fall behind
LARGE = frozenset({"math", "coding", "reasoning", "humaneval", "gsm8k", "bbh"})


@dataclass(frozen=True)
class Labelled:
    """A request, and whether it needs the large model."""

    source: str
    messages: list[dict[str, Any]]
    needs_large: bool

    @property
    def score(self) -> int:
        return complexity_of(GenerateRequest(prompt=ChatPrompt(messages=self.messages))).score


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text("utf-8").splitlines():
        yield json.loads(line)


def labelled_prompts(folder: Path) -> list[Labelled]:
    """All of `folder`. Of bbh_cot each worked example's question, as it is asked there. Raises
    `OSError` where a file is missing.
    """
    found: list[tuple[str, str, list[dict[str, Any]]]] = []
    for one in _lines(folder / "mt_bench.jsonl"):
        first = [_user(one["turns"][0])]
        answer = {"role": "assistant", "content": "..."}
        found.append((f"mt_bench {one['category']}", one["category"], first))
        second = [*first, answer, _user(one["turns"][1])]
        found.append((f"mt_bench {one['category']}", one["category"], second))
    for one in _lines(folder / "humaneval.jsonl"):
        found.append(("humaneval", "humaneval", [_user(one["prompt"])]))
    for one in _lines(folder / "gsm8k_test.jsonl"):
        found.append(("gsm8k", "gsm8k", [_user(one["question"])]))
    for path in sorted((folder / "bbh_cot").glob("*.txt")):
        for part in path.read_text("utf-8").split("\nQ: ")[1:]:
            found.append(("bbh_cot", "bbh", [_user(part.split("\nA:")[0])]))
    for one in json.loads((folder / "sharegpt_like.json").read_text("utf-8")):
        said = one["conversations"]
        last = max(at for at, turn in enumerate(said) if turn["from"] == "human")
        roles = {"human": "user", "gpt": "assistant"}
        messages = [
            {"role": roles[turn["from"]], "content": turn["value"]} for turn in said[: last + 1]
        ]
        found.append(("sharegpt_like", "chat", messages))
    return [Labelled(source, messages, label in LARGE) for source, label, messages in found]


@dataclass(frozen=True)
class Confusion:
    """How many of each label went to which model."""

    large_to_large: int
    large_to_small: int
    small_to_large: int
    small_to_small: int

    @classmethod
    def of(cls, prompts: Sequence[Labelled], threshold: float | None) -> Confusion:
        """None: each goes where its label says."""
        cells = [
            (each.needs_large, each.needs_large if threshold is None else each.score >= threshold)
            for each in prompts
        ]
        return cls(
            large_to_large=cells.count((True, True)),
            large_to_small=cells.count((True, False)),
            small_to_large=cells.count((False, True)),
            small_to_small=cells.count((False, False)),
        )

    @property
    def balanced(self) -> float:
        """The mean of both labels' parts that went where they belong."""
        large = self.large_to_large / max(1, self.large_to_large + self.large_to_small)
        small = self.small_to_small / max(1, self.small_to_small + self.small_to_large)
        return (large + small) / 2

    def saved(self, cost_ratio: float) -> float:
        """Of the cost of sending all to the large model, whose token costs `cost_ratio` times
        one of the small model; all answers are as long.
        """
        num_small = self.large_to_small + self.small_to_small
        total = num_small + self.large_to_large + self.small_to_large
        return num_small * (1 - 1 / cost_ratio) / max(1, total)


def _table(prompts: Sequence[Labelled], threshold: float, cost_ratio: float) -> Iterator[str]:
    confusion = Confusion.of(prompts, threshold)
    yield f"{len(prompts)} prompts, threshold {threshold:g}"
    yield "| label | to the large model | to the small one |"
    yield "|---|---|---|"
    yield f"| needs the large one | {confusion.large_to_large} | {confusion.large_to_small} |"
    yield f"| does not | {confusion.small_to_large} | {confusion.small_to_small} |"
    saved, possible = confusion.saved(cost_ratio), Confusion.of(prompts, None).saved(cost_ratio)
    yield f"balanced accuracy {confusion.balanced:.1%}, cost saved {saved:.1%} of {possible:.1%}"
    yield f"(a token of the large model costs {cost_ratio:g} of the small one's)"
    yield ""
    yield "| source | prompts | to the large model | median score |"
    yield "|---|---|---|---|"
    for source in dict.fromkeys(each.source for each in prompts):
        scores = sorted(each.score for each in prompts if each.source == source)
        part = sum(score >= threshold for score in scores) / len(scores)
        yield f"| {source} | {len(scores)} | {part:.0%} | {scores[len(scores) // 2]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="with mt_bench.jsonl and the others")
    parser.add_argument("--threshold", type=float, default=AutoRules().threshold_of_two)
    parser.add_argument("--cost-ratio", type=float, default=10.0, help="large to small, per token")
    parser.add_argument(
        "--half", choices=("all", "even", "odd"), default="odd", help="the points were set on even"
    )
    arguments = parser.parse_args()
    prompts = labelled_prompts(arguments.folder)
    halves = {"all": prompts, "even": prompts[::2], "odd": prompts[1::2]}
    for line in _table(halves[arguments.half], arguments.threshold, arguments.cost_ratio):
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
