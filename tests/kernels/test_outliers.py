"""Attention over values of which some are far larger than others: these come out as if
the large ones were not there, and the same bits whatever is computed beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.attention import Attention, Kernels, quantized

HEAD, CELLS, ROWS, HEADS, KV_HEADS = 64, 512, 6, 4, 2
UNLIKELY = 40  # a cell


def work_of(values: np.ndarray, kind: str = "f16", *, depth: float = 32.0) -> Attention:
    """Every row sees `UNLIKELY` with a probability of about e^-depth, and others beside it."""
    rng = np.random.default_rng(7)
    q = rng.standard_normal((1, HEADS, ROWS, HEAD)).astype(np.float32)
    k = rng.standard_normal((1, CELLS, KV_HEADS, HEAD))
    q[..., 0] = 8
    k[..., 0] = 0
    k[:, UNLIKELY] = 0
    k[:, UNLIKELY, :, 0] = -depth
    mask = np.where(rng.random((1, ROWS, CELLS)) < 0.7, 0, -np.inf).astype(np.float16)
    mask[:, :2] = 0
    mask[..., UNLIKELY] = 0
    return Attention(q=q, k=k.astype(np.float16), v=quantized(values, kind), mask=mask, v_type=kind)


def values_around_1() -> np.ndarray:
    return np.random.default_rng(8).standard_normal((1, CELLS, KV_HEADS, HEAD))


def relative_error(kernels: Kernels, work: Attention, of: slice = slice(None)) -> float:
    exact = work.exact()[..., of]
    off = kernels.compute(work, threads=2)[..., of] - exact
    return float(np.sqrt(np.square(off).sum() / np.square(exact).sum()))


@pytest.mark.parametrize("size", [1.0, 100.0, 10_000.0, 60_000.0])
@pytest.mark.parametrize("kind", ["f16", "f32", "bf16"])
def test_a_channel_of_large_values_spoils_no_other(
    attention: Kernels, kind: str, size: float
) -> None:
    values = values_around_1()
    values[..., 5] = size * (1 + values[..., 5] / 100)
    work = work_of(values, kind)
    for others in (slice(0, 5), slice(6, HEAD)):
        assert relative_error(attention, work, others) < 1e-4
    assert relative_error(attention, work, slice(5, 6)) < 1e-5


@pytest.mark.parametrize("kind", ["q8_0", "q5_1", "q4_0"])
def test_a_block_of_large_values_spoils_no_other(attention: Kernels, kind: str) -> None:
    values = values_around_1()
    values[..., 5] *= 10_000
    work = work_of(values, kind)
    assert relative_error(attention, work, slice(32, HEAD)) < 1.5e-4
    assert relative_error(attention, work) < 5e-4


@pytest.mark.parametrize("size", [100.0, 10_000.0, 60_000.0])
@pytest.mark.parametrize("kind", ["f16", "f32", "bf16", "q8_0", "q5_1", "q4_0"])
def test_a_cell_that_hardly_counts_spoils_nothing(
    attention: Kernels, kind: str, size: float
) -> None:
    values = values_around_1()
    values[:, UNLIKELY] = -size
    assert relative_error(attention, work_of(values, kind)) < 2e-4


def test_a_cell_that_counts_comes_out(attention: Kernels) -> None:
    values = values_around_1()
    values[:, UNLIKELY] = 60_000
    for depth in (0.0, 8.0, 16.0):
        assert relative_error(attention, work_of(values, depth=depth)) < 2e-4


def test_large_scores_hide_nothing(attention: Kernels) -> None:
    """What is rounded in a score counts in its exponential: the limit must be above it."""
    values = values_around_1()
    values[:, UNLIKELY] = 60_000
    for size in (1e3, 1e6, 1e9):
        work = work_of(values, "f32")
        k = work.k.astype(np.float32)
        k[..., 0] = size
        work = replace(work, k=k, k_type="f32")
        out = attention.compute(work, threads=2)
        assert np.isfinite(out).all()
        assert np.abs(out).max() <= 60_000 * 1.001


def test_many_cells_beside_one_that_hardly_counts(attention: Kernels) -> None:
    """Alike, so that all sums are the largest they can be: they have room."""
    rng = np.random.default_rng(9)
    values = np.full((1, 40_000, 1, 32), 0.999)
    values[:, 7] = 60_000
    k = np.zeros((1, 40_000, 1, 32), np.float16)
    k[:, 7, :, 0] = -40
    q = rng.standard_normal((1, 1, 2, 32)).astype(np.float32)
    q[..., 0] = 8
    work = Attention(q=q, k=k, v=quantized(values, "f16"))
    out = attention.compute(work, threads=2)
    np.testing.assert_allclose(out, float(np.float16(0.999)), rtol=2e-4, atol=0)


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q5_1"])
def test_nothing_beside_them_changes_a_bit(
    attention_of: Callable[[str], Kernels], attention: Kernels, kind: str
) -> None:
    """Rows, the places of cells, threads, instruction sets."""
    values = values_around_1()
    values[..., 5] *= 1000
    values[:, UNLIKELY] = 60_000
    values[:, UNLIKELY + 1] = 3_000  # not all rows see it
    work = work_of(values, kind)
    whole = attention.compute(work).view(np.uint32)
    for row in range(ROWS):
        alone = attention.compute(work.rows([row])).view(np.uint32)
        np.testing.assert_array_equal(alone[:, 0], whole[:, row])
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(CELLS)
        moved = attention.compute(work.cells(order), threads=1 + 2 * seed).view(np.uint32)
        np.testing.assert_array_equal(moved, whole)
    for variant in ("avx2", "baseline"):
        other = attention_of(variant).compute(work, threads=2).view(np.uint32)
        np.testing.assert_array_equal(other, whole)


def test_a_score_that_is_not_a_number_is_none_with_softcap(attention: Kernels) -> None:
    work = work_of(values_around_1())
    k = work.k.copy()
    k[:, UNLIKELY, :, 3] = np.nan
    out = attention.compute(replace(work, k=k, softcap=20.0))
    assert np.isnan(out).all()
