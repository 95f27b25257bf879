"""Attention's kernels: as near to the exact result as is promised, and the same bits
whatever is computed beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.kernels.attention import TYPES, Attention, Kernels, quantized

NEAR = 1e-4  # for values around 1


def inputs(
    *,
    rows: int = 5,
    cells: int = 256,
    heads: int = 4,
    kv_heads: int = 2,
    size: int = 64,
    v_size: int = 0,
    streams: int = 1,
    k_type: str = "f16",
    v_type: str = "",
    seed: int = 1,
) -> Attention:
    """Without a mask."""
    rng = np.random.default_rng(seed)
    v_type = v_type or k_type
    k = rng.standard_normal((streams, cells, kv_heads, size))
    v = rng.standard_normal((streams, cells, kv_heads, v_size or size))
    return Attention(
        q=rng.standard_normal((streams, heads, rows, size)).astype(np.float32),
        k=quantized(k, k_type),
        v=quantized(v, v_type),
        k_type=k_type,
        v_type=v_type,
        scale=float(size) ** -0.5,
    )


def seen(is_seen: np.ndarray) -> np.ndarray:
    """A mask: [streams or 1, rows, cells]."""
    return np.where(is_seen, 0, -np.inf).astype(np.float16)


def causal(rows: int, cells: int) -> np.ndarray:
    """The rows are the last cells."""
    return seen(np.arange(cells)[None, :] <= np.arange(rows)[:, None] + cells - rows)[None]


def streams_of_one_row(rows: int, cells: int, shared: int, own: int) -> np.ndarray:
    """A prefix that all see, then cells of each in turn; the last cells are nobody's."""
    is_seen = np.zeros((rows, cells), bool)
    is_seen[:, :shared] = True
    for i in range(own * rows):
        is_seen[i % rows, shared + i] = True
    return seen(is_seen)[None]


def random_mask(rows: int, cells: int, part: float = 0.5, seed: int = 2) -> np.ndarray:
    return seen(np.random.default_rng(seed).random((1, rows, cells)) < part)


def assert_near(kernels: Kernels, work: Attention, threads: int = 1) -> None:
    off = np.abs(kernels.compute(work, threads=threads) - work.exact()).max()
    assert off < NEAR


def assert_same(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


@pytest.mark.parametrize("v_type", TYPES)
@pytest.mark.parametrize("k_type", TYPES)
@pytest.mark.parametrize("variant", ["avx512", "avx2", "baseline"])
def test_types(
    attention_of: Callable[[str], Kernels], variant: str, k_type: str, v_type: str
) -> None:
    work = inputs(rows=6, cells=300, k_type=k_type, v_type=v_type)
    assert_near(attention_of(variant), replace(work, mask=causal(6, 300)))


@pytest.mark.parametrize(
    ("size", "v_size"),
    [(8, 8), (32, 32), (40, 40), (80, 80), (96, 96), (128, 64), (192, 128), (256, 256), (576, 512)],
)
def test_head_sizes(attention: Kernels, size: int, v_size: int) -> None:
    assert_near(attention, inputs(size=size, v_size=v_size))


@pytest.mark.parametrize("size", [32, 96, 160])
@pytest.mark.parametrize("kind", ["q8_0", "q5_1", "q4_0"])
def test_head_sizes_of_blocks(attention: Kernels, kind: str, size: int) -> None:
    assert_near(attention, inputs(size=size, k_type=kind))


@pytest.mark.parametrize(
    ("heads", "kv_heads"), [(1, 1), (4, 4), (16, 2), (7, 1), (40, 1), (71, 1), (36, 12)]
)
def test_groups(attention: Kernels, heads: int, kv_heads: int) -> None:
    assert_near(attention, inputs(heads=heads, kv_heads=kv_heads, rows=9, cells=100))


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 17, 33, 64, 70])
@pytest.mark.parametrize("cells", [1, 15, 64, 257, 513])
def test_rows_and_cells(attention: Kernels, rows: int, cells: int) -> None:
    work = inputs(rows=rows, cells=cells)
    assert_near(attention, replace(work, mask=causal(rows, cells)), threads=2)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_masks(attention: Kernels, threads: int) -> None:
    work = inputs(rows=33, cells=640)
    for mask in (
        streams_of_one_row(33, 640, 100, 12),
        random_mask(33, 640),
        random_mask(33, 640, 0.01),
        np.zeros((1, 33, 640), np.float16),
        np.where(np.triu(np.ones((33, 640)), 500), -np.inf, causal(33, 640)).astype(np.float16),
    ):
        assert_near(attention, replace(work, mask=mask), threads)


def test_a_row_that_sees_nothing_is_zero(attention: Kernels) -> None:
    mask = random_mask(5, 256)
    mask[0, 2] = -np.inf
    out = attention.compute(replace(inputs(), mask=mask, sinks=np.zeros(4, np.float32)))
    assert (out[0, 2] == 0).all()
    assert (out[0, 1] != 0).all()


def test_streams(attention: Kernels) -> None:
    work = inputs(streams=3, rows=4)
    mask = np.concatenate([random_mask(4, 256, seed=seed) for seed in range(3)])
    assert_near(attention, replace(work, mask=mask), threads=2)
    assert_near(attention, replace(work, mask=mask[:1]))
    assert_near(attention, replace(work, k=work.k[:1], v=work.v[:1], mask=mask))


def test_biases(attention: Kernels) -> None:
    """ALiBi: distances, each head takes a part of them."""
    distance = np.arange(256)[None, :] - np.arange(5)[:, None] - 251
    mask = (distance + causal(5, 256)).astype(np.float16)
    for heads in (4, 12):
        assert_near(attention, replace(inputs(heads=heads), mask=mask, max_bias=8.0), threads=2)


def test_softcap_and_sinks(attention: Kernels) -> None:
    work = replace(inputs(), mask=random_mask(5, 256))
    assert_near(attention, replace(work, softcap=20.0, scale=1.0))
    for sinks in ([0.5, 3, 9, 30], [-200, -np.inf, 0, 1]):
        assert_near(attention, replace(work, sinks=np.array(sinks, np.float32)), threads=2)


@pytest.mark.parametrize("scale", [0.0, 0.001, 0.125, 3.0])
@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_many_cells(attention: Kernels, kind: str, scale: float) -> None:
    """From all alike to one that has it all; relative to the largest value."""
    work = replace(inputs(rows=1, cells=32_768, heads=2, kv_heads=1, k_type=kind), scale=scale)
    off = np.abs(attention.compute(work, threads=2) - work.exact()).max()
    assert off < NEAR


def test_values_that_are_all_alike_come_out(attention: Kernels) -> None:
    """Where every product is rounded the same way, and the sums are the largest."""
    for value in (1.999, 1.0, 0.0, 6e-8, 60_000.0, -1.0009765625):
        work = inputs(rows=2, cells=4096, heads=1, kv_heads=1)
        work = replace(work, v=np.full_like(work.v, value), scale=0.0)
        out = attention.compute(work, threads=2)
        np.testing.assert_allclose(out, float(np.float16(value)), rtol=2e-4, atol=0)


# --- the same bits


def invariant_work(kind: str = "f16", rows: int = 19, cells: int = 700) -> Attention:
    work = inputs(rows=rows, cells=cells, k_type=kind)
    mask = streams_of_one_row(rows, cells, 300, 20)
    mask[:, rows // 2 :] = causal(rows, cells)[:, rows // 2 :]
    # one cell's values are far larger: not all rows see it
    work.v[:, 310] = quantized(np.full((1, 2, 64), 900.0), kind)
    return replace(work, mask=mask)


@pytest.mark.parametrize("kind", TYPES)
def test_other_rows_change_no_bit(attention: Kernels, kind: str) -> None:
    work = invariant_work(kind)
    whole = attention.compute(work)
    for row in range(0, 19, 3):
        assert_same(attention.compute(work.rows([row]))[:, 0], whole[:, row])
    assert_same(attention.compute(work.rows(slice(4, 15))), whole[:, 4:15])


@pytest.mark.parametrize("kind", TYPES)
def test_places_of_cells_change_no_bit(attention: Kernels, kind: str) -> None:
    work = invariant_work(kind)
    whole = attention.compute(work)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(700)
        assert_same(attention.compute(work.cells(order), threads=1 + seed), whole)


def test_threads_change_no_bit(attention: Kernels) -> None:
    for rows in (1, 4, 19, 40):
        work = invariant_work(rows=rows, cells=1200)
        whole = attention.compute(work)
        for threads in (2, 3, 16):
            assert_same(attention.compute(work, threads=threads), whole)


def test_cells_of_others_change_no_bit(attention: Kernels) -> None:
    work = invariant_work()
    assert work.mask is not None
    whole = attention.compute(work)
    k, v = work.k.copy(), work.v.copy()
    foreign = np.isneginf(work.mask[0, 0])
    k[:, foreign] = v[:, foreign] = np.nan  # some of them in pieces that row 0 has cells in
    k[:, foreign & (np.arange(700) % 2 == 0)] = v[:, foreign & (np.arange(700) % 3 == 0)] = np.inf
    assert_same(attention.compute(replace(work, k=k, v=v))[:, 0], whole[:, 0])
    wider = [np.concatenate([x, x[:, :90]], axis=1) for x in (work.k, work.v)]
    mask = np.concatenate([work.mask, np.full((1, 19, 90), -np.inf, np.float16)], axis=2)
    assert_same(attention.compute(replace(work, k=wider[0], v=wider[1], mask=mask)), whole)


@pytest.mark.parametrize("kind", TYPES)
def test_instruction_sets_change_no_bit(
    attention_of: Callable[[str], Kernels], attention: Kernels, kind: str
) -> None:
    work = replace(invariant_work(kind), sinks=np.ones(4, np.float32), softcap=30.0)
    whole = attention.compute(work)
    for variant in ("avx2", "baseline"):
        assert_same(attention_of(variant).compute(work, threads=2), whole)


def test_biases_change_no_bit(attention: Kernels) -> None:
    work = invariant_work()
    assert work.mask is not None
    bias = np.random.default_rng(3).standard_normal((1, 19, 700)).astype(np.float16)
    work = replace(work, mask=(work.mask + bias).astype(np.float16), max_bias=4.0)
    whole = attention.compute(work)
    assert_same(attention.compute(work.rows([7]))[:, 0], whole[:, 7])
    order = np.random.default_rng(4).permutation(700)
    assert_same(attention.compute(work.cells(order), threads=2), whole)


# --- what is not finite, and what is not computed here


def test_what_is_not_a_number_stays_with_its_rows(attention: Kernels) -> None:
    work = invariant_work()
    whole = attention.compute(work)
    for name in ("k", "v"):
        cells = getattr(work, name).copy()
        cells[:, 300, :, 5] = np.nan  # row 0's own
        out = attention.compute(replace(work, **{name: cells}))
        assert np.isnan(out[0, 0]).any()
        assert_same(out[:, 1:9], whole[:, 1:9])


def test_what_is_refused(attention: Kernels) -> None:
    work = inputs()
    assert attention.supports(work)
    assert not attention.supports(inputs(size=36))
    assert not attention.supports(replace(work, q=work.q[:, :3]))
    short = np.zeros((1, 4, 256), np.float16)
    assert not attention.supports(replace(work, mask=short))
