"""A repeatable request gets the same answer each time that nobody runs beside it, on a
model whose results depend on how rows were computed and where their cells lie.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import pytest

from appliance.engine.batch import Batch
from appliance.engine.engine import Engine
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from tests.engine.engines import ENDLESS, make_engine, run_to_end
from tests.engine.fake_drafting import FakeDrafting
from tests.engine.fake_runner import Cell, FakeRunner

BLOCK = 8
ANSWER = 6


class ShapedRunner(FakeRunner):
    """As llama.cpp's kernels are: a row beside few others is computed in another order
    than one beside many, and sums run over cells in the order in which they lie. New
    cells are the lowest free ones, as in llama.cpp's `find_slot`.
    """

    def __init__(self, jitter: random.Random | None = None, **kwargs: int) -> None:
        cost = (lambda _: jitter.uniform(0.1, 60.0)) if jitter else (lambda _: 1.0)
        super().__init__(cost_ms=cost, **kwargs)
        self.capabilities = replace(self.capabilities, block_rows=BLOCK)
        self.saved: list[list[Cell]] = []
        self.scratch: list[Cell] = []  # in use while what was saved is loaded
        self.places: WeakKeyDictionary[Cell, int] = WeakKeyDictionary()

    def decode(self, batch: Batch) -> None:
        super().decode(batch)
        num_blocks = len(batch) // BLOCK * BLOCK
        for at, row in enumerate(batch.rows):
            cell = self.cells[row.slot][row.position]
            num_beside = 0 if at < num_blocks else len(batch)  # 0: many, whatever their number
            before = [*self.seen_by(row.slot, row.position - 1)] if row.position else []
            cell.token = zlib.crc32(bytes([*before, row.token, num_beside])) % 50
            self._place(cell)

    def seen_by(self, slot: int, position: int) -> list[int]:
        cells = self.cells[slot][: position + 1]
        return [part for cell in cells for part in (cell.token, self.places.get(cell, 0) % 251)]

    def save_cells(self, sequence_id: int, first: int, max_bytes: int) -> bytes | None:
        data = super().save_cells(sequence_id, first, max_bytes)
        if data is None:
            return None
        self.saved.append(self.cells[sequence_id][first:])
        return bytes([first, *divmod(len(self.saved) - 1, 256), *data[3:]])

    def load_cells(
        self, target_id: int, data: bytes, first: int, last: int, shift: int = 0
    ) -> bool:
        assert not shift, "who repeats an answer takes over nothing moved"
        saved_first, saved = data[0], self.saved[data[1] * 256 + data[2]]
        loaded = [Cell(cell.token) for cell in saved]
        self.scratch = loaded
        for cell in loaded:
            self._place(cell)
        self.scratch = []
        path = self.cells.setdefault(target_id, [])
        assert len(path) == first
        path.extend(loaded[first - saved_first : last - saved_first])
        self.num_restored_tokens += last - first
        return True

    def _place(self, cell: Cell) -> None:
        living = [*(each for path in self.cells.values() for each in path), *self.scratch]
        used = {self.places[each] for each in living if each in self.places}
        self.places[cell] = next(at for at in range(len(used) + 1) if at not in used)


def ask(
    engine: Engine, request_id: int, prompt: Sequence[int], *, is_repeatable: bool = True
) -> None:
    engine.submit(
        EngineRequest(
            request_id=request_id,
            prompt=prompt,
            sampling=ENDLESS,
            max_new_tokens=ANSWER,
            is_repeatable=is_repeatable,
        )
    )


def answer(engine: Engine, request_id: int, prompt: Sequence[int]) -> tuple[list[int], int]:
    """The answer's tokens, and how many of the prompt's were cached."""
    ask(engine, request_id, prompt)
    outputs = [o for o in run_to_end(engine) if isinstance(o, Sampled)]
    return [o.token for o in outputs], outputs[0].num_cached_tokens


def test_whole_blocks_of_a_repeated_prompt_are_taken_over_and_nothing_of_an_answer() -> None:
    engine = make_engine(ShapedRunner(), max_kept=1000, max_host_bytes=10_000)
    prompt = list(range(1, 2 * BLOCK + 4))
    first, num_cached = answer(engine, 1, prompt)
    assert num_cached == 0
    assert answer(engine, 2, prompt) == (first, 2 * BLOCK)
    follow_up = [*prompt, *first, 7, 7]  # the answer's tokens were computed one by one
    once, num_cached = answer(engine, 3, follow_up)
    assert num_cached == 2 * BLOCK
    fresh = make_engine(ShapedRunner(), max_kept=1000)
    assert answer(fresh, 1, follow_up) == (once, 0)


def test_an_exact_prefix_comes_back_from_host_memory_to_the_lowest_cells() -> None:
    runner = ShapedRunner()
    engine = make_engine(runner, max_kept=1000, max_host_bytes=10_000)
    prompt = list(range(1, 2 * BLOCK + 4))
    first, _ = answer(engine, 1, prompt)
    ask(engine, 2, [40] * 30, is_repeatable=False)
    run_to_end(engine)
    answer(engine, 3, [41] * 30)
    assert runner.num_restored_tokens == 0
    assert answer(engine, 4, prompt) == (first, 2 * BLOCK)
    assert runner.num_restored_tokens == 2 * BLOCK


def test_no_drafts_where_the_answer_is_to_be_the_same_again() -> None:
    runner = ShapedRunner(max_draft_rows=4)
    drafting = FakeDrafting(chance=0.0, most_depth=2)
    engine = make_engine(runner, max_kept=1000, drafting=drafting)
    answer(engine, 1, [1, 2, 3])
    assert max(len(batch) for batch in runner.batches[1:]) == 1
    ask(engine, 2, [1, 2, 3], is_repeatable=False)
    run_to_end(engine)
    assert max(len(batch) for batch in runner.batches[-ANSWER + 1 :]) > 1


def test_where_rows_are_exact_it_is_cached_and_drafted_for_like_any_other() -> None:
    runner = FakeRunner(max_draft_rows=4)
    runner.capabilities = replace(runner.capabilities, block_rows=BLOCK, exact_rows=True)
    drafting = FakeDrafting(chance=0.0, most_depth=2)
    engine = make_engine(runner, max_kept=1000, drafting=drafting)
    prompt = list(range(1, 2 * BLOCK + 4))
    first, _ = answer(engine, 1, prompt)
    assert max(len(batch) for batch in runner.batches[1:]) > 1
    assert answer(engine, 2, prompt) == (first, len(prompt) - 1)
    _, num_cached = answer(engine, 3, [*prompt, *first, 7, 7])
    assert num_cached == len(prompt) + ANSWER - 1, "the last one was never computed"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("max_kept", "max_host_bytes"), [(1000, 20_000), (60, 300), (0, 0)])
def test_answers_do_not_depend_on_what_was_asked_before(
    seed: int, max_kept: int, max_host_bytes: int
) -> None:
    rng = random.Random(seed)
    runner = ShapedRunner(jitter=rng)
    engine = make_engine(runner, ctx=120, max_kept=max_kept, max_host_bytes=max_host_bytes)
    stems = [[rng.randrange(1, 50) for _ in range(70)] for _ in range(3)]
    answers: dict[tuple[int, ...], list[int]] = {}
    for request_id in range(0, 120, 2):
        prompt = rng.choice(stems)[: rng.choice((3, 8, 20, 33, 48, 70))]
        if rng.random() < 0.3:
            prompt = [*prompt, *answers.get(tuple(prompt), ())]
        match rng.randrange(3):
            case 0:  # two at once: nothing is promised for these
                ask(engine, request_id, prompt, is_repeatable=rng.random() < 0.5)
                for _ in range(rng.randrange(4)):
                    engine.step()
                ask(engine, request_id + 1, rng.choice(stems)[:40])
                run_to_end(engine)
            case 1:
                ask(engine, request_id, prompt, is_repeatable=False)
                run_to_end(engine)
            case 2:
                got, _ = answer(engine, request_id, prompt)
                assert got == answers.setdefault(tuple(prompt), got)
