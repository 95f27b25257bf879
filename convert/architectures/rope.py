"""Rotary position embeddings as llama.cpp wants them said:
fields, or tensors of divisors.

Knows no family.

The formulas are those of transformers' modeling_rope_utils.py; llama.cpp's counterparts
are `rope_yarn` in ggml's ggml-cpu/ops.cpp and the constructor of `llama_context`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import Field, f32, string, u32
from convert.tensors import Computed, OutputTensor

DEFAULT_THETA = 10000.0
_MAX_CONTEXT = (1 << 31) - 1


def scaled_context(rope: Config, context_length: int) -> tuple[int, tuple[str, ...]]:
    """The longest context in which llama.cpp computes what a model with this scaling does,
    and notes on it; `context_length` is what the config states.

    YaRN is often switched on in a config whose stated length is still the original one.
    """
    original = rope.integer("original_max_position_embeddings", context_length)
    match rope.text("rope_type"):
        case "yarn" if "original_max_position_embeddings" in rope:
            scaled = _yarn_factor(rope, context_length) * original
            return max(context_length, int(min(scaled, _MAX_CONTEXT))), ()
        case "dynamic" if rope.number("factor", 1.0) != 1.0:
            shorter = min(context_length, original)
            return shorter, (
                f"The context ends at {shorter} tokens: for longer texts the rotation of this "
                "model changes with their length (rope scaling 'dynamic'), which llama.cpp does "
                "not compute. Up to there, both compute the same.",
            )
        case _:
            return context_length, ()


def with_default_rope(config: Config, default: Mapping[str, Any]) -> Config:
    """`config` with the scaling `default` where it gives none, for families whose class in
    transformers has one of its own.
    """
    if config.values.get("rope_scaling"):
        return config
    return config.with_defaults({"rope_parameters": default})


def _yarn_factor(rope: Config, context_length: int) -> float:
    original = rope.integer("original_max_position_embeddings", context_length)
    return rope.number("factor", context_length / original)


def scaling_fields(
    name: str, rope: Config, known: Collection[str], context_length: int
) -> tuple[Field, ...]:
    """The fields of the rope scaling of an architecture `name` whose graph follows the
    `known` kinds of scaling.

    `context_length` is what the model was trained on where its yarn settings do not
    say. Raises `UnsupportedModel`.
    """
    rope_type = rope.text("rope_type")
    if rope_type not in known:
        raise UnsupportedModel(
            f"{rope.path}: rope scaling {rope_type!r} cannot be converted; llama.cpp's {name} "
            f"supports {', '.join(known)}."
        )
    match rope_type:
        case "linear":
            return (
                string(f"{name}.rope.scaling.type", "linear"),
                f32(f"{name}.rope.scaling.factor", rope.number("factor")),
            )
        case "yarn":
            return _yarn_fields(name, rope, context_length)
        case _:  # llama3 and longrope scale through tensors of divisors; see `scaled_context`
            return ()


def _yarn_fields(name: str, rope: Config, context_length: int) -> tuple[Field, ...]:
    fixed = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
    for key, value in fixed.items():
        if key in rope and rope.values[key] != value:
            raise UnsupportedModel(
                f"{rope.path}: llama.cpp computes yarn with {key} = {value}, not "
                f"{rope.values[key]}."
            )
    factor = _yarn_factor(rope, context_length)
    fields = [
        string(f"{name}.rope.scaling.type", "yarn"),
        f32(f"{name}.rope.scaling.factor", factor),
        u32(
            f"{name}.rope.scaling.original_context_length",
            rope.integer("original_max_position_embeddings", context_length),
        ),
    ]
    usual = _yarn_magnitude(factor)  # what ggml multiplies by anyway
    wanted = _yarn_attention_factor(rope, factor, usual)
    if not math.isclose(wanted, usual):
        fields.append(f32(f"{name}.rope.scaling.attn_factor", wanted / usual))
    return tuple(fields)


def _yarn_attention_factor(rope: Config, factor: float, usual: float) -> float:
    if "attention_factor" in rope:
        return rope.number("attention_factor")
    if rope.values.get("mscale") and rope.values.get("mscale_all_dim"):
        return _yarn_magnitude(factor, rope.number("mscale")) / _yarn_magnitude(
            factor, rope.number("mscale_all_dim")
        )
    return usual


def _yarn_magnitude(factor: float, mscale: float = 1.0) -> float:
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def llama3_divisors(rope: Config, num_rotated: int) -> tuple[OutputTensor, ...]:
    """Llama 3.1's frequency divisors, one per pair of rows;
    nothing for other kinds of scaling.

    Source: `_compute_llama3_parameters`; ggml divides each frequency by its factor
    where transformers multiplies, and both blend linearly between the two wavelengths.
    """
    if rope.text("rope_type") != "llama3":
        return ()
    factor = rope.number("factor")
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    old_context = rope.number("original_max_position_embeddings")
    if high < low:
        raise DamagedCheckpoint(
            f"{rope.path}: high_freq_factor {high} is below low_freq_factor {low}."
        )
    exponents = np.arange(0, num_rotated, 2, dtype=np.float32) / np.float32(num_rotated)
    frequencies = 1.0 / np.power(np.float32(rope.number("rope_theta", DEFAULT_THETA)), exponents)
    turns = old_context * frequencies / (2 * math.pi)  # rotations within the original context
    if high == low:  # Llama 4: nothing in between
        blend = np.where(turns > low, 1.0, 0.0)
    else:
        blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
    divisors = (1.0 / ((1.0 - blend) / factor + blend)).astype(np.float32)
    return (_divisors("rope_freqs.weight", divisors),)


def longrope_divisors(rope: Config, num_rotated: int) -> tuple[OutputTensor, ...]:
    """LongRoPE's two sets of divisors: beyond the original context, and within it."""
    return tuple(
        _divisors(
            f"rope_factors_{reach}.weight", _numbers(rope, f"{reach}_factor", num_rotated // 2)
        )
        for reach in ("long", "short")
    )


def longrope_attention_factor(rope: Config, context_length: int, original_context: int) -> float:
    """What queries and keys are multiplied by.

    Source: `_compute_longrope_parameters`.
    """
    if "attention_factor" in rope:
        return rope.number("attention_factor")
    factor = rope.number("factor", context_length / original_context)
    return math.sqrt(1 + math.log(factor) / math.log(original_context)) if factor > 1 else 1.0


def _numbers(rope: Config, key: str, count: int) -> NDArray[np.float32]:
    values = rope.values.get(key)
    if not isinstance(values, list) or len(values) != count:
        raise DamagedCheckpoint(f"{rope.path}: {key} is not a list of {count} numbers.")
    if any(
        isinstance(value, bool) or not isinstance(value, int | float) or value <= 0
        for value in values
    ):
        raise DamagedCheckpoint(
            f"{rope.path}: {key} contains something other than a number above 0."
        )
    return np.array(values, dtype=np.float32)


def _divisors(name: str, values: NDArray[np.float32]) -> OutputTensor:
    return OutputTensor(name, (len(values),), Computed(values))
