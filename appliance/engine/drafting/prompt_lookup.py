"""Drafts what followed the same tokens before,
in the request itself or in others lately.

Knows no model and no costs.

Prompt lookup (Saxena 2023, "Prompt Lookup Decoding"; earlier as LLMA, Yang et al. 2023,
"Inference with Reference"): an answer that copies or edits text goes on as that text
does. Of each text there is an index by three tokens, which takes about
`BYTES_PER_TOKEN` a token; looking for a match that is not there takes a microsecond or
two. Where an answer changes one token of what it copies, the copy goes on after it at
once, not only when three tokens agree again.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from appliance.engine.drafting.drafter import DraftCost, DraftRequest, Proposal

BYTES_PER_TOKEN = 106
MOST_PAST_TOKENS = 1 << 14  # of sequences that have ended
LEAST_MATCH = 3  # tokens: two in a row are too common to predict what follows
_GRADES = (5, 9)  # a match of so many tokens or more is of the next grade
_LEAST_TRAIL = 5  # tokens of a match that goes on after a change
_MOST_MATCH = 16  # longer ones count as equal
_MOST_TRIED = 8  # places of the same three tokens
_BREAK = -1  # between two texts: no token
_FREE = DraftCost(0.0, 0.0)
_NOTHING = Proposal(())


class PromptLookup:
    """A `Drafter`. Grade 0 of its proposals goes on after a change, 1 is a match of 3
    or 4 tokens, 2 of up to 8, 3 of more.
    """

    name = "prompt lookup"

    def __init__(self) -> None:
        self._texts: dict[int, _IndexedText] = {}
        self._past = _IndexedText()
        self._trails: dict[int, _Trail] = {}  # by slot: the last good match

    def cost(self, requests: Seq[DraftRequest]) -> DraftCost:  # noqa: ARG002 - the Protocol's signature
        """Too little to be measured beside a step."""
        return _FREE

    def propose(self, requests: Seq[DraftRequest]) -> list[Proposal]:
        """What followed the longest match, the latest of equals; in the request's own
        text before all others.
        """
        return [self._proposal(request) for request in requests]

    def release(self, slot: int) -> None:
        """Its text is one of the past."""
        self._trails.pop(slot, None)
        text = self._texts.pop(slot, None)
        if text is not None:
            self.remember(text.tokens)

    def remember(self, tokens: Seq[int]) -> None:
        """A text of the past, as much of which is kept as there is room for."""
        self._past.append([_BREAK, *tokens[-MOST_PAST_TOKENS + 1 :]])
        if len(self._past) > MOST_PAST_TOKENS:
            # half of it: so that this is done seldom
            kept = self._past.tokens[-MOST_PAST_TOKENS // 2 :]
            self._past = _IndexedText()
            self._past.append(kept)

    def _proposal(self, request: DraftRequest) -> Proposal:
        if request.most_tokens <= 0:
            return _NOTHING
        text = self._texts.get(request.slot)
        if text is None:
            text = self._texts[request.slot] = _IndexedText()
        num_known = len(text)
        text.append(request.tokens[num_known:] if num_known else request.tokens)
        ending = request.tokens[-_MOST_MATCH:]
        for source in (text, self._past):
            end, num_tokens = source.longest_match(ending)
            if num_tokens >= LEAST_MATCH:
                if num_tokens >= _LEAST_TRAIL:
                    self._trails[request.slot] = _Trail(source, end - len(request.tokens))
                return Proposal(source.following(end, request.most_tokens), _grade(num_tokens))
        trail = self._trails.get(request.slot)
        return _NOTHING if trail is None else Proposal(trail.following_change(request))


class _IndexedText:
    """Token ids that grow at their end,
    and where each three of them in a row were seen last.
    """

    def __init__(self) -> None:
        self._tokens: list[int] = []
        # Three tokens (`_key`) -> the position after them, where something follows.
        self._ends: dict[int, int] = {}
        # By position: where the three tokens in front of it ended earlier, or 0.
        self._earlier: list[int] = []

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def tokens(self) -> list[int]:
        return self._tokens

    def append(self, tokens: Seq[int]) -> None:
        """Indexes what got a follower by it: the last three tokens of a text are no
        match of themselves.
        """
        known, ends, earlier = self._tokens, self._ends, self._earlier
        first = len(known)
        known.extend(tokens)
        first_key = max(first - LEAST_MATCH, 0)
        earlier.extend([0] * (first_key + LEAST_MATCH - len(earlier)))
        threes = zip(
            known[first_key:], known[first_key + 1 :], known[first_key + 2 :], strict=False
        )
        for end, (three, follower) in enumerate(
            zip(threes, known[len(earlier) :], strict=False), len(earlier)
        ):
            key = _key(*three)
            earlier.append(ends.get(key, 0))
            if follower != _BREAK:
                ends[key] = end

    def longest_match(self, ending: Seq[int]) -> tuple[int, int]:
        """(position after it, tokens of it) of the longest match of an end of
        `ending`, the latest of equals.

        Of the latest `_MOST_TRIED` places only: what is everywhere predicts little.
        """
        if len(ending) < LEAST_MATCH:
            return 0, 0
        end = self._ends.get(_key(*ending[-LEAST_MATCH:]), 0)
        best_end, best = 0, 0
        for _ in range(_MOST_TRIED):
            if not end:
                break
            num_tokens = self._num_common(end, ending)
            if num_tokens > best:
                best_end, best = end, num_tokens
                if best == len(ending):
                    break
            end = self._earlier[end]
        return best_end, best

    def _num_common(self, end: int, ending: Seq[int]) -> int:
        """How many tokens in front of `end` agree with the last of `ending`."""
        tokens = self._tokens
        num_tokens = LEAST_MATCH
        most = min(end, len(ending))
        while num_tokens < most and tokens[end - 1 - num_tokens] == ending[-1 - num_tokens]:
            num_tokens += 1
        return num_tokens

    def following(self, position: int, most: int) -> tuple[int, ...]:
        """Up to `most` tokens from `position` on, not past the end of their text."""
        found = self._tokens[position : position + most]
        return tuple(found[: found.index(_BREAK)] if _BREAK in found else found)


@dataclass(frozen=True)
class _Trail:
    """A sequence's tokens agreed with those
    of `source` that are `offset` further on.
    """

    source: _IndexedText
    offset: int

    def following_change(self, request: DraftRequest) -> tuple[int, ...]:
        """What follows in the source if just one
        of the last tokens was another there.
        """
        position = len(request.tokens) + self.offset
        there = self.source.tokens[position - LEAST_MATCH : position]
        num_equal = sum(
            one == other for one, other in zip(there, request.tokens[-LEAST_MATCH:], strict=False)
        )
        return (
            self.source.following(position, request.most_tokens)
            if num_equal == LEAST_MATCH - 1
            else ()
        )


def _key(first: int, second: int, third: int) -> int:
    """One number for three tokens, which have up to 20 bits each: a tuple would take
    three times the memory.
    """
    return first << 40 | second << 20 | third


def _grade(num_tokens: int) -> int:
    return 1 + sum(num_tokens >= least for least in _GRADES)
