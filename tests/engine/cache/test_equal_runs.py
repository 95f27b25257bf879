"""Which tokens two prompts have in common in different places."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.cache.equal_runs import Run, equal_runs

A, B = list(range(100, 140)), list(range(200, 230))


def test_what_follows_a_changed_piece_is_found_whatever_the_pieces_lengths() -> None:
    for old, new in (([1, 2], [3, 4]), ([1, 2], [3]), ([1], [3, 4, 5]), ([], [3]), ([1], [])):
        known, prompt = [7, *old, *A], [7, *new, *A, 9]
        assert equal_runs(known, 1, prompt, 1, 8) == [Run(1 + len(old), 1 + len(new), len(A))]


def test_several_pieces_may_have_changed() -> None:
    known, prompt = [*A, 1, *B, 2], [5, 5, *A, 6, *B, 7]
    assert equal_runs(known, 0, prompt, 0, 16) == [Run(0, 2, 40), Run(41, 43, 30)]


def test_runs_shorter_than_the_least_are_none_and_one_of_just_so_many_is() -> None:
    known, prompt = [1, *B, 2], [3, 4, *B, 5]
    assert equal_runs(known, 0, prompt, 0, len(B) + 1) == []
    assert equal_runs(known, 0, prompt, 0, len(B)) == [Run(1, 2, len(B))]


def test_the_last_token_of_the_prompt_is_always_computed() -> None:
    assert equal_runs([1, *A], 0, [2, *A], 0, 8) == [Run(1, 1, len(A) - 1)]
    assert equal_runs([1, 5], 0, [2, 5], 0, 1) == []


def test_only_what_has_cells_of_its_own_is_taken() -> None:
    assert equal_runs(A, 10, [3, *A, 9], 0, 8) == [Run(10, 11, 30)]


def test_of_a_text_that_repeats_itself_the_longest_run_is_taken() -> None:
    known = [*A[:10], 1, *A[:12], 2, *A]
    assert equal_runs(known, 0, [3, *A, 9], 0, 8) == [Run(24, 1, 40)]


tokens = st.lists(st.integers(0, 3), max_size=40)


@given(tokens, tokens, st.integers(1, 9), st.integers(0, 10), st.integers(0, 10))
@settings(max_examples=400, deadline=None)
def test_runs_are_equal_in_order_long_enough_and_within_bounds(
    known: list[int], prompt: list[int], min_tokens: int, first: int, start: int
) -> None:
    runs = equal_runs(known, first, prompt, start, min_tokens)
    for run in runs:
        assert run.num_tokens >= min_tokens
        assert known[run.first : run.last] == prompt[run.target : run.target + run.num_tokens]
        assert run.target >= start
        assert run.first >= first
        assert run.target + run.num_tokens < len(prompt)
    for one, next_one in pairwise(runs):
        assert one.last <= next_one.first
        assert one.target + one.num_tokens <= next_one.target
    if not runs:
        pieces = {tuple(known[at : at + min_tokens]) for at in range(first, len(known))}
        wanted = [
            tuple(prompt[at : at + min_tokens]) for at in range(start, len(prompt) - min_tokens)
        ]
        assert not pieces & {piece for piece in wanted if len(piece) == min_tokens}
