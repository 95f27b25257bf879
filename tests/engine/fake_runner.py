"""A model at the Runner seam that computes by arithmetic: each next token depends on
every cell of its sequence.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.engine.adapters.sets import NO_ADAPTERS, AdapterSet
from appliance.engine.batch import Batch
from appliance.engine.constraint import Constraint
from appliance.engine.cost import AttentionCost
from appliance.engine.runner import (
    Capabilities,
    ChosenToken,
    Logprobs,
    SampleRequest,
    ScoreRequest,
    TokenLogprob,
)
from appliance.errors import DecodeFailed
from appliance.protocol.sampling import SamplingParams

END_TOKEN = 0
NUM_VOCAB = 50


def next_token(tokens: Sequence[int]) -> int:
    """The fake model: any change of any earlier token changes what comes next."""
    return zlib.crc32(bytes(tokens)) % NUM_VOCAB


def score_of(tokens: Sequence[int]) -> float:
    """What the fake model gives to the last of the tokens."""
    return -float(zlib.crc32(bytes(tokens)) % 1000)


@dataclass(eq=False)
class Cell:
    token: int
    after: int = 0  # what came before it when it was computed, as a checksum
    adapters: int = 0  # the key of those that it was computed with


class SavedCells(bytes):
    """A position and tokens; `cells` knows what these were computed after."""

    cells: list[Cell]


class FakeRunner:
    """Holds real cells, shared or not, so that a wrong position, a leaked cell or a
    foreign row shows at once.
    """

    def __init__(
        self,
        num_cells: int = 256,
        num_slots: int = 4,
        max_rows: int = 64,
        cost_ms: Callable[[int], float] = lambda num_rows: 0.0,
        num_sequence_ids: int = 32,
        max_draft_rows: int = 0,
    ) -> None:
        self.capabilities = Capabilities(
            num_cells=num_cells,
            num_slots=num_slots,
            first_kept_id=num_slots,
            num_sequence_ids=num_sequence_ids,
            max_rows=max_rows,
            num_vocab=NUM_VOCAB,
            end_tokens=frozenset({END_TOKEN}),
            attention=AttentionCost(0.03),
            max_logit_rows=num_slots + 1 + max_draft_rows,
            max_draft_rows=max_draft_rows,
        )
        self.cells: dict[int, list[Cell]] = {}
        self.batches: list[Batch] = []
        self.adapters = NO_ADAPTERS
        self.adapters_of_batches: list[int] = []  # their keys
        self.num_changes = 0
        self.now_s = 0.0
        self.fail_next = False
        self.slots_without_numbers: set[int] = set()
        self.shares: list[float] = []  # of the machine's power, as they were asked for
        self.num_saved_tokens = 0
        self.num_restored_tokens = 0
        self.num_taken_back = 0
        self.num_moved_tokens = 0
        self._cost_ms = cost_ms
        self._sampling: dict[int, SamplingParams] = {}
        self._constraints: dict[int, Constraint | None] = {}

    @property
    def num_used_cells(self) -> int:
        return len({id(cell) for path in self.cells.values() for cell in path})

    @property
    def num_prefilled_tokens(self) -> int:
        return sum(len(batch) for batch in self.batches)

    def open_sampler(
        self,
        slot: int,
        sampling: SamplingParams,
        prompt: Sequence[int],
        constraint: Constraint | None = None,
    ) -> None:
        assert slot not in self._sampling
        self._sampling[slot] = sampling
        self._constraints[slot] = constraint

    def close_sampler(self, slot: int) -> None:
        del self._sampling[slot], self._constraints[slot]

    def move_sampler(self, source: int, target: int) -> None:
        assert target not in self._sampling
        self._sampling[target] = self._sampling.pop(source)
        self._constraints[target] = self._constraints.pop(source)

    def copy_cells(self, source_id: int, target_id: int, num_tokens: int) -> None:
        assert target_id < self.capabilities.num_sequence_ids
        assert not self.cells.get(target_id)
        assert num_tokens <= len(self.cells[source_id])
        self.cells[target_id] = self.cells[source_id][:num_tokens]

    def remove_cells(self, sequence_id: int) -> None:
        self.cells.pop(sequence_id, None)

    def remove_tail(self, slot: int, num_tokens: int) -> None:
        first = min(row.position for row in self.batches[-1].rows if row.slot == slot)
        assert first < num_tokens < len(self.cells[slot]), (
            "only what the last decode drafted can be taken back"
        )
        self.num_taken_back += len(self.cells[slot]) - num_tokens
        del self.cells[slot][num_tokens:]

    def save_cells(self, sequence_id: int, first: int, max_bytes: int) -> bytes | None:
        cells = self.cells[sequence_id][first:]
        data = SavedCells([first, *(cell.token for cell in cells)])
        data.cells = cells
        if len(data) > max_bytes:
            return None
        self.num_saved_tokens += len(data) - 1
        return data

    def load_cells(
        self, target_id: int, data: bytes, first: int, last: int, shift: int = 0
    ) -> bool:
        saved_first, *tokens = data
        assert isinstance(data, SavedCells)
        assert saved_first <= first < last <= saved_first + len(tokens)
        assert self.num_used_cells + len(tokens) <= self.capabilities.num_cells
        path = self.cells.setdefault(target_id, [])
        assert len(path) == first + shift
        saved = data.cells[first - saved_first : last - saved_first]
        path.extend(Cell(cell.token, cell.after, cell.adapters) for cell in saved)
        self.num_restored_tokens += last - first
        return True

    def copy_moved(self, source_id: int, target_id: int, first: int, last: int, shift: int) -> bool:
        assert target_id < self.capabilities.num_slots, "kept ones are never moved"
        path = self.cells.setdefault(target_id, [])
        assert len(path) == first + shift
        path.extend(
            Cell(cell.token, cell.after, cell.adapters)
            for cell in self.cells[source_id][first:last]
        )
        assert self.num_used_cells <= self.capabilities.num_cells
        self.num_moved_tokens += last - first
        return True

    def use_adapters(self, adapters: AdapterSet) -> None:
        self.num_changes += adapters != self.adapters
        self.adapters = adapters

    def decode(self, batch: Batch) -> None:
        assert 0 < len(batch) <= self.capabilities.max_rows
        assert sum(row.wants_logits for row in batch.rows) <= self.capabilities.max_logit_rows
        self.batches.append(batch)
        self.adapters_of_batches.append(self.adapters.key)
        self.now_s += self._cost_ms(len(batch)) / 1000
        if self.fail_next:
            self.fail_next = False
            for slot in {row.slot for row in batch.rows}:  # what they hold now is nothing valid
                self.cells[slot] = [Cell(NUM_VOCAB, 0) for _ in self.cells.get(slot, [])]
            raise DecodeFailed("as the test wished")
        for row in batch.rows:
            path = self.cells.setdefault(row.slot, [])
            assert row.slot < self.capabilities.num_slots
            assert row.position == len(path), "positions must follow one another"
            assert all(cell.adapters == self.adapters.key for cell in path), "others' cells"
            path.append(Cell(row.token, _after(path), self.adapters.key))
        assert self.num_used_cells <= self.capabilities.num_cells

    def num_exact(self, slot: int) -> int:
        """How many of a sequence's first cells were computed after what comes before them."""
        path = self.cells.get(slot, [])
        return next(
            (at for at, cell in enumerate(path) if cell.after != _after(path[:at])), len(path)
        )

    def seen_by(self, slot: int, position: int) -> list[int]:
        """What a row is computed from."""
        return [cell.token for cell in self.cells[slot][: position + 1]]

    def pace(self, share: float) -> float:
        """Has half of its threads to spare."""
        self.shares.append(share)
        return min(2 * share, 1.0)

    def synchronize(self) -> None:
        """Decoding here is always done."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Logprobs | DecodeFailed]:
        return [self._score(request) for request in requests]

    def _score(self, request: ScoreRequest) -> Logprobs | DecodeFailed:
        """The token's logprob is what `score_of` gives for all tokens up to it."""
        row = self.batches[-1].rows[request.row]
        assert row.wants_logits
        if row.slot in self.slots_without_numbers:
            return DecodeFailed("as the test wished")
        known = self.seen_by(row.slot, row.position)
        return Logprobs(
            score_of([*known, request.token]),
            tuple(TokenLogprob(at, -at) for at in range(request.num_top)),
        )

    def sample(self, requests: Sequence[SampleRequest]) -> list[list[ChosenToken] | DecodeFailed]:
        return [self._choices(request) for request in requests]

    def _choices(self, request: SampleRequest) -> list[ChosenToken] | DecodeFailed:
        if request.slot in self.slots_without_numbers:
            return DecodeFailed("as the test wished")
        assert len(request.rows) == 1 + len(request.drafted)
        choices: list[ChosenToken] = []
        for at, drafted in zip(request.rows, (*request.drafted, None), strict=True):
            row = self.batches[-1].rows[at]
            assert row.wants_logits
            assert row.slot == request.slot
            seen = self.seen_by(request.slot, row.position)
            token = next_token([*self.adapters.key.to_bytes(16, "little"), *seen])
            if not self.adapters.key:
                token = next_token(seen)
            ignores_end = self._sampling[request.slot].ignore_eos
            try:
                token = _allowed(token, self._constraints[request.slot])
            except DecodeFailed as error:
                return choices or error
            choices.append(
                self._choice(
                    request.slot, token + 1 if token == END_TOKEN and ignores_end else token
                )
            )
            if choices[-1].token != drafted or choices[-1].token == END_TOKEN:
                break
        return choices

    def _choice(self, slot: int, token: int) -> ChosenToken:
        num_top = self._sampling[slot].num_top_logprobs
        if num_top is None:
            return ChosenToken(token)
        return ChosenToken(
            token,
            Logprobs(-0.5, tuple(TokenLogprob(token + at, -0.5 - at) for at in range(num_top))),
        )

    def clock(self) -> float:
        return self.now_s


def _after(path: Sequence[Cell]) -> int:
    return zlib.crc32(bytes(cell.token for cell in path))


def _allowed(token: int, constraint: Constraint | None) -> int:
    """The token itself, or the next above it that may come."""
    if constraint is None:
        return token
    mask = int.from_bytes(constraint.mask(), "little")
    chosen = next(
        other % NUM_VOCAB
        for other in range(token, token + NUM_VOCAB)
        if mask >> other % NUM_VOCAB & 1
    )
    constraint.accept(chosen)
    return chosen


def answer_alone(
    prompt: Sequence[int], max_new_tokens: int, ctx: int, adapters: AdapterSet = NO_ADAPTERS
) -> list[int]:
    """What the fake model answers to one request with nobody else there."""
    tokens = list(prompt)
    key = adapters.key.to_bytes(16, "little") if adapters.key else b""
    while len(tokens) - len(prompt) < max_new_tokens and len(tokens) < ctx:
        tokens.append(next_token([*key, *tokens]))
        if tokens[-1] == END_TOKEN:
            break
    return tokens[len(prompt) :]
