"""To which node a request goes.

Knows neither Ray nor engines: a node is a number, with what is known of its queue and of
the prefixes that it has.

A prompt is known by the fingerprints of its blocks, each of all tokens up to its end: the
longest known prefix is found by looking up one after the other, and a node's are some bytes
for each block instead of its tokens.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import OrderedDict
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from enum import Enum

BLOCK_TOKENS = 64
PRINT_BYTES = 8  # of the fingerprint of a block
_MOST_WENT = 1 << 17  # blocks: eight million tokens, some 20 MB


class Policy(str, Enum):
    """`prefix`: where the answer begins soonest, known prefixes and queues considered;
    `least_tokens`: where the fewest tokens wait; `random2`: of two by chance, that one of
    them.
    """

    PREFIX = "prefix"
    LEAST_TOKENS = "least_tokens"
    ROUND_ROBIN = "round_robin"
    RANDOM2 = "random2"


Fingerprints = Seq[bytes]  # of a prompt's whole blocks, in order


def fingerprints(tokens: Seq[int]) -> list[bytes]:
    """8 bytes for each whole block (BLAKE2b, chained: https://www.rfc-editor.org/rfc/rfc7693)."""
    found, last = list[bytes](), b""
    for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        block = b"".join(
            token.to_bytes(8, "little") for token in tokens[start : start + BLOCK_TOKENS]
        )
        last = hashlib.blake2b(last + block, digest_size=PRINT_BYTES).digest()
        found.append(last)
    return found


class KnownPrefixes:
    """Fingerprints of what one node has computed, the oldest forgotten first."""

    def __init__(self, most_blocks: int) -> None:
        self._most = most_blocks
        self._blocks: OrderedDict[bytes, None] = OrderedDict()

    def add(self, prints: Fingerprints) -> None:
        for block in reversed(prints):  # so that a prefix outlives what follows it
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)

    def num_tokens(self, prints: Fingerprints) -> int:
        """Of the longest prefix that is known."""
        known = 0
        for block in prints:
            if block not in self._blocks:
                break
            known += 1
        return known * BLOCK_TOKENS

    def clear(self) -> None:
        self._blocks.clear()


@dataclass(frozen=True)
class Load:
    """Requests that are not done yet: tokens of prompts that have no token yet, and those that
    answers may have.
    """

    num_requests: int = 0
    num_prompt_tokens: int = 0
    num_answer_tokens: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            self.num_requests + other.num_requests,
            self.num_prompt_tokens + other.num_prompt_tokens,
            self.num_answer_tokens + other.num_answer_tokens,
        )


@dataclass
class RoutedNode:
    """What a router knows of one node."""

    known: KnownPrefixes
    prompt_token_ms: float  # what computing a token of a prompt takes it
    token_ms: float  # and a step of answers, by which each of them delays a prompt
    is_up: bool = True
    # tokens that were routed there and are not done yet, by request
    _prompt_tokens: dict[int, int] = field(default_factory=dict)
    _answer_tokens: dict[int, int] = field(default_factory=dict)
    # their sums, kept: a thousand nodes are asked for each request
    num_prompt_tokens: int = 0
    num_answer_tokens: int = 0
    elsewhere: Load = Load()  # what other routers sent there

    @property
    def num_waiting_tokens(self) -> int:
        own = self.num_prompt_tokens + self.num_answer_tokens
        return own + self.elsewhere.num_prompt_tokens + self.elsewhere.num_answer_tokens

    def wait_ms(self) -> float:
        """Until a prompt that comes now is begun, if those before it are computed first."""
        num_prompt_tokens = self.num_prompt_tokens + self.elsewhere.num_prompt_tokens
        num_requests = len(self._answer_tokens) + self.elsewhere.num_requests
        return num_prompt_tokens * self.prompt_token_ms + self.token_ms * num_requests

    def take(self, request_id: int, num_prompt: int, num_answer: int) -> None:
        """Tokens of a request to be computed there."""
        self.end(request_id)
        self._prompt_tokens[request_id], self._answer_tokens[request_id] = num_prompt, num_answer
        self.num_prompt_tokens += num_prompt
        self.num_answer_tokens += num_answer

    def begin(self, request_id: int) -> None:
        """Its prompt is computed."""
        self.num_prompt_tokens -= self._prompt_tokens.pop(request_id, 0)

    def end(self, request_id: int) -> None:
        """Nothing of it waits there; unknown ones are ignored."""
        self.begin(request_id)
        self.num_answer_tokens -= self._answer_tokens.pop(request_id, 0)


class Router:
    """Chooses, and keeps what it knows of the nodes. For one thread."""

    def __init__(
        self, policy: Policy, nodes: Seq[RoutedNode], rng: random.Random | None = None
    ) -> None:
        self._policy = policy
        self.nodes = list(nodes)
        self.nearest: int | None = None  # the node that is taken of equals
        self._rng = rng or random.Random()
        self._turn = 0
        # where each block went last; what is not in here no node is taken to know
        self._went: OrderedDict[bytes, int] = OrderedDict()

    def choose(self, prints: Fingerprints, num_tokens: int) -> int | None:
        """The node for a prompt of `num_tokens`; None where none is up."""
        up = [at for at, node in enumerate(self.nodes) if node.is_up]
        if not up:
            return None
        if self._policy is Policy.ROUND_ROBIN:
            self._turn += 1
            return up[self._turn % len(up)]
        if self._policy is Policy.RANDOM2:
            up = self._rng.sample(up, min(2, len(up)))
        if self._policy is Policy.PREFIX:
            return self._soonest(up, prints, num_tokens)
        return min(up, key=lambda at: (self.nodes[at].num_waiting_tokens, at != self.nearest, at))

    def nearest_up(self) -> int | None:
        """Whatever waits there; None where none is up."""
        if self.nearest is not None and self.nodes[self.nearest].is_up:
            return self.nearest
        return next((at for at, node in enumerate(self.nodes) if node.is_up), None)

    def routed(
        self, at: int, request_id: int, prints: Fingerprints, num_tokens: int, num_answer: int
    ) -> None:
        """That a request went there."""
        node = self.nodes[at]
        node.take(request_id, num_tokens - node.known.num_tokens(prints), num_answer)
        self.learned(at, prints)

    def learned(self, at: int, prints: Fingerprints) -> None:
        """That a prompt is computed there, whoever sent it."""
        self.nodes[at].known.add(prints)
        for block in reversed(prints):
            self._went[block] = at
            self._went.move_to_end(block)
        while len(self._went) > _MOST_WENT:
            self._went.popitem(last=False)

    def began(self, at: int, request_id: int) -> None:
        """Its prompt is computed."""
        self.nodes[at].begin(request_id)

    def ended(self, at: int, request_id: int) -> None:
        """Answered, or not to be answered there."""
        self.nodes[at].end(request_id)

    def _soonest(self, up: Seq[int], prints: Fingerprints, num_tokens: int) -> int:
        """Where the answer begins soonest: of equals the one where the prompt's longest prefix
        went last, or else the nearest, or the first.

        Prefixes are looked up only where a node could be that one, if it knew all that any
        node does: of a thousand, few.
        """
        last, num_blocks = None, 0
        for block in prints:
            if block not in self._went:
                break
            last, num_blocks = self._went[block], num_blocks + 1
        least_new = num_tokens - BLOCK_TOKENS * num_blocks
        best, best_ms = up[0], float("inf")
        first = [
            at
            for at in (last, self.nearest)
            if at is not None and at < len(self.nodes) and self.nodes[at].is_up
        ]
        for at in itertools.chain(first, up):
            node = self.nodes[at]
            if node.wait_ms() + least_new * node.prompt_token_ms < best_ms:
                num_new = num_tokens - node.known.num_tokens(prints)
                begins_ms = node.wait_ms() + num_new * node.prompt_token_ms
                if begins_ms < best_ms:
                    best, best_ms = at, begins_ms
        return best
