"""The limits, the models made up for them,
and which candidate the plan would have liked better.

Starts nothing.

A model is random weights in the shape of a common one, as deep as it takes for the
limit to bind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.fit.machine.device import measure_device
from appliance.fit.plan.overrides import Overrides
from appliance.fit.plan.quality import rank
from appliance.fit.plan.search import PlanOption, options_of
from appliance.fit.tuning.choices import Tuning
from appliance.store.gguf_header import read_header
from appliance.store.synthetic import RandomShape, write_random_model

TYPES = ("Q8_0", "Q4_K", "Q2_K")
_MIB = 1 << 20
# Widths, heads and feed-forward as in a 0.1B, Qwen 3 0.6B, Llama 3.2 1B and 3B; a
# context that can be filled soon.
_TINY = RandomShape(num_layers=0, embd=768, ff=2048, heads=12, kv_heads=4, vocab=32000, ctx=2048)
_SMALL = RandomShape(num_layers=0, embd=1024, ff=3072, heads=16, kv_heads=8, vocab=65536, ctx=2048)
_MEDIUM = RandomShape(num_layers=0, embd=2048, ff=8192, heads=32, kv_heads=8, vocab=65536, ctx=1024)
_LARGE = RandomShape(num_layers=0, embd=3072, ff=8192, heads=24, kv_heads=8, vocab=65536, ctx=1024)


_NAMES = ("quantization", "kv_type", "ctx", "slots")  # of a candidate


@dataclass(frozen=True)
class GroupCase:
    """A limit in bytes and the shape of the model to be served under it."""

    limit_bytes: int
    shape: RandomShape

    @property
    def model(self) -> str:
        return f"random-{self.shape.embd}x{self.shape.num_layers}"


def _case(limit_mib: int, shape: RandomShape, num_layers: int) -> GroupCase:
    return GroupCase(limit_mib * _MIB, dataclasses.replace(shape, num_layers=num_layers))


# As deep as Q4_K (once: Q2_K) still fits with f16 KV and four slots, all but the first
# without what grammars take; with 30 layers in 512 MiB it just does not.
CASES = (
    _case(259, _TINY, 16),
    _case(384, _TINY, 43),
    _case(512, _SMALL, 29),
    _case(512, _SMALL, 30),
    _case(768, _SMALL, 53),
    _case(1024, _MEDIUM, 22),
    _case(1024, _MEDIUM, 37),
    _case(1536, _MEDIUM, 36),
    _case(2048, _LARGE, 29),
    _case(3072, _LARGE, 45),
    _case(4096, _LARGE, 62),
)


@dataclass(frozen=True, kw_only=True)
class Better:
    """A candidate that the plan would have preferred, with the flags that make a server
    take it; sizes in tokens.
    """

    quantization: str
    kv_type: str
    ctx: int
    slots: int
    need_bytes: int

    @property
    def flags(self) -> tuple[str, ...]:
        sizes = ("--ctx", str(self.ctx), "--kv-cells", str(self.ctx), "--slots", str(self.slots))
        return ("--quant", self.quantization, "--kv-type", self.kv_type, *sizes)


def write_models(case: GroupCase, models: Path) -> None:
    """One file per type, in the folder that gives the model its name;
    those that are there stay.
    """
    folder = models / case.model
    folder.mkdir(parents=True, exist_ok=True)
    for type_name in TYPES:
        path = folder / f"{case.model}-{type_name}.gguf"
        if not path.exists():
            write_random_model(path, case.shape, type_name)


def next_better(plan: Mapping[str, Any], folder: Path) -> Better | None:
    """Of the candidates in the order of the search, the last before the one chosen;
    None where the best was chosen.

    `plan` is that of `appliance fit --json`.
    """
    headers = rank([read_header(path) for path in sorted(folder.glob("*.gguf"))]).headers
    tuning = Tuning(
        use_extra_bufts=plan["use_extra_bufts"],
        own_q8_0_attention=plan["candidates"][0]["kv_type"] == "q8_0",  # so it comes first
    )
    options = options_of(
        headers, Overrides(max_batch_rows=plan["max_batch_rows"]), measure_device(), tuning
    )
    chosen = next(candidate for candidate in plan["candidates"] if candidate["chosen"])
    at = [_names(option) for option in options].index(tuple(chosen[name] for name in _NAMES))
    before = [option for option in options[:at] if option.need is not None]
    return _better(before[-1]) if before else None


def _better(option: PlanOption) -> Better:
    assert option.need is not None
    return Better(
        **dict(zip(_NAMES, _names(option), strict=True)), need_bytes=option.need.claimed_bytes
    )


def _names(option: PlanOption) -> tuple[str, str, int, int]:
    return (
        option.header.quantization,
        option.size.sizes.kv_type,
        option.ctx,
        option.size.sizes.slots,
    )
