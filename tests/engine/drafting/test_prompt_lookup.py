"""Prompt lookup: what it proposes of texts
that are written out, and what it never does.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.drafting.drafter import DraftRequest, Proposal
from appliance.engine.drafting.prompt_lookup import LEAST_MATCH, PromptLookup
from appliance.protocol.sampling import SamplingParams

SEEDED = SamplingParams(seed=1)


def request(tokens: list[int], most_tokens: int = 4, slot: int = 0) -> DraftRequest:
    return DraftRequest(
        slot=slot,
        tokens=tokens,
        num_new_tokens=len(tokens),
        sampling=SEEDED,
        most_tokens=most_tokens,
    )


def proposed(
    lookup: PromptLookup, tokens: list[int], most_tokens: int = 4, slot: int = 0
) -> Proposal:
    [proposal] = lookup.propose([request(tokens, most_tokens, slot)])
    return proposal


def test_what_followed_the_same_three_tokens() -> None:
    assert proposed(PromptLookup(), [1, 2, 3, 7, 8, 9, 1, 2, 3]) == Proposal((7, 8, 9, 1), grade=1)
    assert proposed(PromptLookup(), [9, 2, 3, 7, 8, 9, 1, 2, 3]) == Proposal(()), (
        "two tokens are no match"
    )


def test_the_longest_match_comes_first_and_the_latest_of_equals() -> None:
    tokens = [1, 2, 3, 4, 50, 2, 3, 4, 60, 2, 3, 4, 70, 1, 2, 3, 4]
    assert proposed(PromptLookup(), tokens, 1) == Proposal((50,), grade=1)
    assert proposed(PromptLookup(), tokens[4:], 1) == Proposal((70,), grade=1)


def test_longer_matches_are_of_higher_grades() -> None:
    for length, grade in ((3, 1), (4, 1), (5, 2), (8, 2), (9, 3), (40, 3)):
        text = list(range(length))
        assert proposed(PromptLookup(), [100, *text, 77, 101, *text], 1) == Proposal((77,), grade)


def test_a_text_that_repeats_itself_is_followed_as_far_as_it_goes() -> None:
    assert proposed(PromptLookup(), [1, 2, 1, 2, 1, 2], 8) == Proposal((1, 2), grade=1)
    assert proposed(PromptLookup(), [5, 5, 5, 5], 8) == Proposal((5,), grade=1)


def test_the_answer_so_far_counts_too() -> None:
    lookup = PromptLookup()
    tokens = [1, 2, 3, 4, 5, 6]
    assert proposed(lookup, tokens) == Proposal(())
    tokens += [1, 2]
    assert proposed(lookup, tokens) == Proposal(())
    tokens += [3]
    assert proposed(lookup, tokens, 2) == Proposal((4, 5), grade=1)


def test_texts_that_have_ended_are_looked_through_after_its_own_and_not_across_their_ends() -> None:
    lookup = PromptLookup()
    proposed(lookup, [1, 2, 3, 4, 5], slot=0)
    proposed(lookup, [7, 8, 9, 4, 6], slot=1)
    assert proposed(lookup, [1, 2, 3], slot=2) == Proposal(()), (
        "others' texts count once they have ended"
    )
    lookup.release(0)
    lookup.release(1)
    assert proposed(lookup, [1, 2, 3], 9, slot=2) == Proposal((4, 5), grade=1)
    assert proposed(lookup, [7, 8, 9], 9, slot=3) == Proposal((4, 6), grade=1)
    assert proposed(lookup, [7, 8, 9, 30, 7, 8, 9], 1, slot=4) == Proposal((30,), grade=1)
    assert proposed(lookup, [2, 3, 4, 5], 9, slot=5) == Proposal(()), "nothing followed"


def test_only_so_much_of_the_past_is_kept() -> None:
    lookup = PromptLookup()
    for at in range(5):
        proposed(lookup, [at * 10_000 + i for i in range(10_000)])
        lookup.release(0)
    assert proposed(lookup, [5000, 5001, 5002], 1) == Proposal(())
    lookup.release(0)
    assert proposed(lookup, [45_000, 45_001, 45_002], 1) == Proposal((45_003,), grade=1)


def test_each_of_several_requests_has_its_own_text() -> None:
    one, other = [1, 2, 3, 8, 1, 2, 3], [1, 2, 3, 9, 1, 2, 3]
    proposals = PromptLookup().propose([request(one, 1, slot=0), request(other, 1, slot=1)])
    assert proposals == [Proposal((8,), grade=1), Proposal((9,), grade=1)]


def test_a_copy_goes_on_behind_one_changed_token() -> None:
    source = list(range(10, 40))
    lookup, tokens = PromptLookup(), [*source, *source[:6]]
    assert proposed(lookup, tokens, 2) == Proposal((16, 17), grade=2)
    tokens += [99]  # instead of 16
    assert proposed(lookup, tokens, 2) == Proposal((17, 18), grade=0)
    tokens += [17]
    assert proposed(lookup, tokens, 2) == Proposal((18, 19), grade=0)
    assert proposed(lookup, [*tokens, 18, 19], 2) == Proposal((20, 21), grade=1), (
        "three agree again"
    )


def test_it_does_not_go_on_behind_two_changed_tokens_nor_behind_a_short_match() -> None:
    source = list(range(10, 40))
    lookup = PromptLookup()
    assert proposed(lookup, [*source, *source[:6]], 2).tokens
    assert not proposed(lookup, [*source, *source[:6], 98, 99], 2).tokens
    assert proposed(lookup, [*source, *source[:4]], 2, slot=1).tokens
    assert not proposed(lookup, [*source, *source[:4], 99], 2, slot=1).tokens


def test_what_is_gone_on_with_is_the_slots_own_match_and_forgotten_with_it() -> None:
    source = list(range(10, 40))
    lookup = PromptLookup()
    assert proposed(lookup, [*source, *source[:6]], 2).tokens
    assert not proposed(lookup, [*source[:6], 99], 2, slot=1).tokens
    lookup.release(0)
    assert not proposed(lookup, [*source, *source[:6], 99], 2).tokens


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 6))
def test_a_proposal_is_what_did_follow(tokens: list[int], most: int) -> None:
    found = proposed(PromptLookup(), tokens, most).tokens
    assert len(found) <= most
    ending = tokens[-LEAST_MATCH:]
    places = [
        at for at in range(LEAST_MATCH, len(tokens)) if tokens[at - LEAST_MATCH : at] == ending
    ]
    assert bool(found) == bool(places and most and len(ending) == LEAST_MATCH)
    if found:
        assert any(tuple(tokens[at : at + len(found)]) == found for at in places)
