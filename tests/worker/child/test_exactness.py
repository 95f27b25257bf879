"""Who is refused because the answer would not be exact, and who gets the same again."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from appliance.errors import BadRequest
from appliance.llama.exact_rows import why_not_exact
from appliance.protocol.requests import GenerateRequest, TextPrompt
from appliance.protocol.sampling import SamplingParams
from appliance.worker.child.exactness import Exactness


def asked(*, is_exact: bool | None = None, seed: int | None = None) -> GenerateRequest:
    sampling = SamplingParams(temperature=0.8, seed=seed)
    return GenerateRequest(prompt=TextPrompt("x"), sampling=sampling, is_exact=is_exact)


def exactness(*, has: bool, is_demanded: bool = False) -> Exactness:
    return Exactness(has_exact_rows=has, is_demanded=is_demanded, repeats_answers=True)


@pytest.mark.parametrize("is_exact", [None, True, False])
def test_with_exact_rows_nobody_is_refused(is_exact: bool | None) -> None:
    exactness(has=True, is_demanded=True).check(asked(is_exact=is_exact))


def test_without_them_the_refusal_names_the_field_and_the_way_out() -> None:
    with pytest.raises(BadRequest, match=r"--kernels on.* Or leave out 'exact'\.") as refused:
        exactness(has=False).check(asked(is_exact=True))
    assert refused.value.param == "exact"


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        (None, "llama.cpp's own kernels compute it, "),
        (("MUL_MAT", "FLASH_ATTN_EXT"), r"a part of it \(matrix products, attention\), "),
        (("MUL_MAT", "RWKV_WKV7"), r"its state \(RWKV 7\) is computed by llama.cpp's own"),
    ],
)
def test_the_refusal_says_what_is_not_exact(operations: tuple[str, ...], words: str) -> None:
    reason = why_not_exact(operations, uses_gpu=False, flash_attention=True)
    server = dataclasses.replace(exactness(has=False), why_not_exact=reason)
    with pytest.raises(BadRequest, match=f"not exact here: .*{words}.* --kernels on"):
        server.check(asked(is_exact=True))


def test_a_server_that_demands_it_refuses_who_does_not_say_otherwise() -> None:
    server = exactness(has=False, is_demanded=True)
    with pytest.raises(BadRequest, match=r"--exact on.* send 'exact': false"):
        server.check(asked())
    server.check(asked(is_exact=False))
    exactness(has=False).check(asked())


def test_cells_are_moved_only_for_who_expects_no_exact_answer() -> None:
    server = Exactness(has_exact_rows=True, is_demanded=False, repeats_answers=True, cache_reuse=64)
    assert server.min_moved_tokens(asked()) == 64
    assert server.min_moved_tokens(asked(is_exact=True)) == 0
    assert server.min_moved_tokens(asked(seed=1)) == 0
    greedy = replace(asked(), sampling=SamplingParams(temperature=0))
    assert server.min_moved_tokens(greedy) == 0
    assert dataclasses.replace(server, repeats_answers=False).min_moved_tokens(greedy) == 64
    assert server.min_moved_tokens(replace(asked(), uses_cache=False)) == 0
    assert server.min_moved_tokens(replace(asked(), scores_prompt=True)) == 0
    strict = dataclasses.replace(server, is_demanded=True)
    assert strict.min_moved_tokens(asked()) == 0
    assert strict.min_moved_tokens(asked(is_exact=False)) == 64


def test_where_cells_stay_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    server = Exactness(
        has_exact_rows=True,
        is_demanded=False,
        repeats_answers=True,
        cache_reuse=64,
        why_cells_stay="this model looks at a sliding window of tokens",
    )
    server.warn()
    assert (
        "--cache-reuse 64 is ignored: this model looks at a sliding window of tokens."
        in caplog.text
    )
    caplog.clear()
    dataclasses.replace(server, cache_reuse=0).warn()
    assert caplog.text == ""


def test_a_seed_or_temperature_0_makes_a_request_repeatable() -> None:
    assert exactness(has=False).is_repeatable(asked(seed=1))
    assert not exactness(has=False).is_repeatable(asked())


def test_only_with_exact_rows_an_answer_repeats_whatever_runs_beside_it() -> None:
    assert exactness(has=True).repeats(asked(seed=1))
    assert not exactness(has=True).repeats(asked())
    assert not exactness(has=False).repeats(asked(seed=1))
    timed = replace(asked(seed=1), max_text_ms=100)
    assert not exactness(has=True).repeats(timed)


def test_who_demands_what_no_answer_can_be_is_told_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exactness(has=False, is_demanded=True).warn()
    assert (
        "--exact on: every request that does not say 'exact': false will be refused" in caplog.text
    )
    caplog.clear()
    exactness(has=True, is_demanded=True).warn()
    exactness(has=False, is_demanded=False).warn()
    assert caplog.text == ""
