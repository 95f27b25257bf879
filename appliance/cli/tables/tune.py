"""What tuning found, as lines for people.

Knows no measurement and no rule of the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from appliance.cli.tables.table import table
from appliance.fit.plan.planner import Plan
from appliance.fit.tuning.record import EmptyCache, TuningConditions, TuningRecord
from appliance.fit.tuning.speeds import (
    ANSWER_TOKENS,
    PROMPT_TOKENS,
    Quartiles,
    Speeds,
    quartiles_of,
)
from appliance.fit.tuning.tuner import Outcome, TuningResult, Verdict
from appliance.launch.tuning.recall import how_computed

_CHOICES = {
    "use_extra_bufts": "extra buffer types",
    "flash_attention": "flash attention",
    "threads": "threads, one stream",
    "batch_threads": "threads, prompts and several streams",
    "ubatch_rows": "tokens computed together",
    "use_mmap": "map the file",
}
_COLUMNS: tuple[tuple[str, Callable[[Speeds], float]], ...] = (
    ("prompt", lambda speeds: speeds.prefill_tokens_per_s),
    ("one stream", lambda speeds: speeds.alone_tokens_per_s),
    ("all streams", lambda speeds: speeds.together_tokens_per_s),
)
_NO_GAIN = "-"


def as_text(record: TuningRecord, plan: Plan, *, max_others_share: float) -> str:
    """The evidence of a record that has some,
    and how `plan`, made with it, is computed.
    """
    found = record.found
    assert found is not None
    parts = [_head(plan, record.conditions)]
    if record.conditions.others_share > max_others_share:
        parts.append("Other work took much of the CPUs. Measure again when the machine is idle.")
    if found.verdicts:
        parts.append(_verdicts(found.verdicts))
    parts += [_speeds(found, record.empty), f"`appliance serve` computes {how_computed(plan)}."]
    return "\n\n".join(parts)


def _head(plan: Plan, conditions: TuningConditions) -> str:
    return (
        f"{plan.model_path.name}, {plan.sizes.kv_type} KV, {conditions.date}: "
        f"{conditions.depth} cells filled, prompts of {conditions.prompt_rows} tokens, "
        f"{conditions.streams} streams; other work took "
        f"{100 * conditions.others_share:.0f} % of the CPUs"
    )


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    rows = [("", "choice", "", "time saved, %", "middle half", "rounds", "")]
    for verdict in verdicts:
        mark = "*" if verdict.outcome is Outcome.TAKEN else ""
        saved, middle = _in_percent(verdict.gain)
        choice = (_CHOICES[verdict.field], _value(verdict.value))
        rows.append((mark, *choice, saved, middle, str(verdict.num_rounds), verdict.reason))
    return f"Each choice against the best before it (* adopted):\n{table(rows)}"


def _in_percent(gain: Quartiles | None) -> tuple[str, str]:
    if gain is None:
        return _NO_GAIN, ""
    return f"{100 * gain.median:.1f}", f"{100 * gain.low:.1f} to {100 * gain.high:.1f}"


def _value(value: bool | int | None) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _speeds(found: TuningResult, empty: EmptyCache | None) -> str:
    rows = [("", *(name for name, _ in _COLUMNS), "mix, s")]
    rows += _compared("", found.default_rounds, found.best_rounds, same=found.best == found.default)
    if empty is not None:
        same = found.best == found.default
        rows += _compared(", empty cache", empty.default_rounds, empty.best_rounds, same=same)
    return (
        "Tokens per second (median and middle half of the rounds), and the mix: seconds for a "
        f"prompt of {PROMPT_TOKENS} tokens\nand {ANSWER_TOKENS} tokens of answer, alone and with "
        f"all streams busy (geometric mean of the two):\n{table(rows)}"
    )


def _compared(
    where: str, default: Sequence[Speeds], best: Sequence[Speeds], *, same: bool
) -> Iterator[tuple[str, ...]]:
    yield f"defaults{where}", *_row(default)
    if same:
        return
    yield f"chosen{where}", *_row(best)
    times = [quartiles_of(best, of).median / quartiles_of(default, of).median for _, of in _COLUMNS]
    mix = quartiles_of(default, _mix).median / quartiles_of(best, _mix).median
    yield f"times as fast{where}", *(f"{ratio:.2f}" for ratio in (*times, mix))


def _mix(speeds: Speeds) -> float:
    return speeds.mix_s


def _row(rounds: Sequence[Speeds]) -> tuple[str, ...]:
    figures = [quartiles_of(rounds, of) for _, of in _COLUMNS]
    cells = [f"{_short(f.median)} ({_short(f.low)} to {_short(f.high)})" for f in figures]
    return (*cells, f"{quartiles_of(rounds, _mix).median:.3g}")


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}"
