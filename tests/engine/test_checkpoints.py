"""Models whose sequences share no cells: what was computed is saved whole at chosen places,
and who begins with it goes on from there. Exact counts of what is computed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from appliance.engine.engine import Engine
from appliance.engine.outputs import Output
from appliance.engine.requests import EngineRequest
from tests.engine.engines import ENDLESS, answers, make_engine, run_to_end
from tests.engine.fake_runner import Cell, FakeRunner, answer_alone

ROOM = 1 << 20


class StateData(bytes):
    """As large as what it stands for."""

    first: int
    cells: list[Cell]


class StateRunner(FakeRunner):
    """What it saved is of use to a sequence that has just what came before, and whole."""

    def __init__(self, num_cells: int = 2048, num_slots: int = 4, state_bytes: int = 0) -> None:
        super().__init__(num_cells=num_cells, num_slots=num_slots, num_sequence_ids=num_slots)
        self.capabilities = replace(
            self.capabilities, keeps_states=True, wants_equal_rows=True, state_bytes=state_bytes
        )
        self.saved_at: list[int] = []  # after how many tokens

    def load_cells(
        self, target_id: int, data: bytes, first: int, last: int, shift: int = 0
    ) -> bool:
        assert isinstance(data, StateData)
        assert (first, last, shift) == (data.first, data.first + len(data.cells), 0), "or nothing"
        path = self.cells.setdefault(target_id, [])
        assert len(path) == first
        path.extend(Cell(cell.token, cell.after) for cell in data.cells)
        assert self.num_used_cells <= self.capabilities.num_cells
        return True

    def save_cells(self, sequence_id: int, first: int, max_bytes: int) -> bytes | None:
        cells = self.cells[sequence_id][first:]
        data = StateData(len(cells) + self.capabilities.state_bytes)
        data.first, data.cells = first, cells
        if len(data) > max_bytes:
            return None
        self.saved_at.append(first + len(cells))
        return data

    def copy_cells(self, source_id: int, target_id: int, num_tokens: int) -> None:
        raise AssertionError("no sequence shares cells here")


def engine_on(runner: StateRunner, max_host_bytes: int = ROOM, ctx: int = 256) -> Engine:
    return make_engine(runner, ctx=ctx, max_host_bytes=max_host_bytes)


def prompt_of(seed: int, num_tokens: int) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(1, 50) for _ in range(num_tokens)]


def ask(
    request_id: int,
    prompt: list[int],
    max_new_tokens: int = 4,
    places: Mapping[int, bool] | None = None,
    is_repeatable: bool = False,
) -> EngineRequest:
    return EngineRequest(
        request_id=request_id,
        prompt=prompt,
        sampling=ENDLESS,
        max_new_tokens=max_new_tokens,
        places=places or {},
        is_repeatable=is_repeatable,
    )


def told(engine: Engine, runner: StateRunner, request: EngineRequest) -> tuple[list[int], int]:
    """The answer, and how many rows it took."""
    num_rows = runner.num_prefilled_tokens
    engine.submit(request)
    answer = answers(run_to_end(engine))[request.request_id]
    assert answer == expected(request)
    return answer, runner.num_prefilled_tokens - num_rows


def expected(request: EngineRequest) -> list[int]:
    """What `ENDLESS` makes of the fake model: no end token ends it."""
    tokens = list(request.prompt)
    for _ in range(request.max_new_tokens or 0):
        token = answer_alone(tokens, 1, len(tokens) + 2)[0]
        tokens.append(token or 1)
    return tokens[len(request.prompt) :]


def test_the_next_turn_computes_only_what_is_new() -> None:
    runner = StateRunner()
    engine = engine_on(runner)
    first = prompt_of(1, 40)
    answer, num_rows = told(engine, runner, ask(1, first, max_new_tokens=20))
    assert num_rows == 40 + 19  # the last token sampled is never computed
    second = [*first, *answer, *prompt_of(2, 20)]
    assert told(engine, runner, ask(2, second))[1] == (1 + 20) + 3


def test_a_turn_whose_answer_is_left_out_goes_on_from_the_question() -> None:
    """As where a template leaves out earlier reasoning."""
    runner = StateRunner()
    engine = engine_on(runner)
    first = prompt_of(1, 40)
    told(engine, runner, ask(1, first, places={36: False}))
    second = [*first[:36], *prompt_of(2, 20)]
    assert told(engine, runner, ask(2, second, places={52: False}))[1] == 20 + 3
    third = [*second[:52], *prompt_of(3, 10)]
    assert told(engine, runner, ask(3, third))[1] == 10 + 3
    # The first turn's place gave way to the second's: one for each chat is enough.
    assert told(engine, runner, ask(4, first))[1] == 40 + 3


def test_a_branch_stays_for_all_that_begin_with_it() -> None:
    runner = StateRunner()
    engine = engine_on(runner)
    system = prompt_of(0, 80)
    told(engine, runner, ask(1, [*system, *prompt_of(1, 30)], places={80: True, 100: False}))
    for chat in range(2, 6):
        prompt = [*system, *prompt_of(chat, 30)]
        assert told(engine, runner, ask(chat, prompt, places={80: True, 100: False}))[1] == 30 + 3


def test_where_prompts_part_is_learned() -> None:
    runner = StateRunner()
    engine = engine_on(runner)
    common = prompt_of(0, 100)
    rows = [
        told(engine, runner, ask(chat, [*common, *prompt_of(chat, 30)]))[1] for chat in range(1, 5)
    ]
    assert rows == [133, 133, 33, 33]


def test_two_that_arrive_together_compute_their_beginning_once() -> None:
    runner = StateRunner()
    engine = engine_on(runner)
    common = prompt_of(0, 100)
    requests = [ask(chat, [*common, *prompt_of(chat, 20)]) for chat in range(1, 4)]
    for request in requests:
        engine.submit(request)
    found = answers(run_to_end(engine))
    assert found == {request.request_id: expected(request) for request in requests}
    assert runner.num_prefilled_tokens == 100 + 3 * (20 + 3)


def test_what_a_cancelled_prompt_had_computed_is_gone_on_from_by_who_waited() -> None:
    runner = StateRunner()
    engine = engine_on(runner)
    common = prompt_of(0, 200)
    requests = [ask(chat, [*common, *prompt_of(chat, 20)]) for chat in range(1, 4)]
    for request in requests:
        engine.submit(request)
    engine.step()
    num_computed = runner.num_prefilled_tokens
    assert 0 < num_computed < 200
    engine.finish(1)
    found = answers(run_to_end(engine))
    assert found == {request.request_id: expected(request) for request in requests[1:]}
    assert runner.num_prefilled_tokens == 200 + 2 * (20 + 3)


def test_who_keeps_out_of_the_cache_leaves_nothing_in_it() -> None:
    runner = StateRunner()
    engine = engine_on(runner)
    prompt = prompt_of(1, 80)
    private = replace(ask(1, prompt, places={70: True}), uses_cache=False)
    told(engine, runner, private)
    assert runner.saved_at == []
    assert told(engine, runner, ask(2, prompt))[1] == 80 + 3
    assert told(engine, runner, replace(private, request_id=3))[1] == 80 + 3


def test_a_slot_is_saved_with_all_that_its_chat_continues() -> None:
    runner, other = StateRunner(num_slots=1), StateRunner(num_slots=1)
    engine = engine_on(runner)
    system = prompt_of(0, 80)
    chat = [*system, *prompt_of(1, 30)]
    answer, _ = told(engine, runner, ask(1, chat, 20, places={80: True, 105: False}))
    chain = engine.cells.left.copy(0, ROOM)
    assert [(each.first, len(each.tokens), each.is_branch) for each in chain] == [
        (0, 80, True),
        (80, 110 + 19, False),
    ]
    assert engine.cells.left.copy(0, 100) == []
    elsewhere = engine_on(other)
    assert elsewhere.cells.left.put(0, chain)
    assert elsewhere.cells.left.put(0, chain), "a second time it takes no more room"
    assert elsewhere.num_host_bytes == sum(len(each.data) for each in chain)
    second = [*chat, *answer, *prompt_of(2, 10)]
    assert told(elsewhere, other, ask(2, second))[1] == 1 + 10 + 3
    # A short answer is no checkpoint of its own: what there is of the chat is saved.
    told(engine, runner, ask(3, prompt_of(3, 60), 4, places={58: False}))
    assert [len(each.tokens) for each in engine.cells.left.copy(0, ROOM)] == [58]


def test_an_erased_slot_takes_its_chat_along_but_not_what_others_begin_with() -> None:
    runner = StateRunner(num_slots=1)
    engine = engine_on(runner)
    system = prompt_of(0, 80)
    chats = [[*system, *prompt_of(chat, 40)] for chat in (1, 2)]
    for chat in chats:
        told(engine, runner, ask(chat[-1], chat, 4, places={80: True, 118: False}))
    assert engine.cells.left.erase(0) == 120 + 3
    assert engine.cells.left.erase(0) == 0
    assert told(engine, runner, ask(90, chats[0], 4))[1] == 2 + 3
    assert told(engine, runner, ask(91, chats[1], 4))[1] == 40 + 3


def test_after_a_restart_a_branch_is_still_one() -> None:
    runner, other = StateRunner(), StateRunner()
    engine = engine_on(runner, ctx=700)
    system = prompt_of(0, 300)
    for chat in (1, 2):
        told(engine, runner, ask(chat, [*system, *prompt_of(chat, 30)], places={300: True}))
    later = engine_on(other, ctx=700)
    while (saved := engine.next_for_disk()) is not None:
        saved.on_disk = True
        later.take_back(replace(saved))
    for chat in range(3, 8):
        request = ask(chat, [*system, *prompt_of(chat, 30)], 20)
        assert told(later, other, request)[1] == 30 + 19


def test_prompts_and_answers_take_turns() -> None:
    """A step has rows of one kind, and of one prompt."""
    runner = StateRunner()
    engine = engine_on(runner)
    for chat in range(1, 5):
        engine.submit(ask(chat, prompt_of(chat, 90), max_new_tokens=20))
    run_to_end(engine)
    for batch in runner.batches:
        num_rows = {row.slot: 0 for row in batch.rows}
        for row in batch.rows:
            num_rows[row.slot] += 1
        assert len(num_rows) == 1 or set(num_rows.values()) == {1}


def test_who_gave_way_goes_on_from_what_it_was() -> None:
    runner = StateRunner(num_cells=140)
    engine = engine_on(runner, ctx=100)
    requests = [ask(chat, prompt_of(chat, 50), max_new_tokens=40) for chat in (1, 2)]
    for request in requests:
        engine.submit(request)
    was_preempted, outputs = False, list[Output]()
    while engine.has_work:
        outputs += engine.step()
        was_preempted |= engine.num_preempted > 0
    assert answers(outputs) == {request.request_id: expected(request) for request in requests}
    assert was_preempted
    assert runner.num_prefilled_tokens == 2 * (50 + 39), "nothing was computed twice"


def test_a_repeatable_one_goes_on_from_whole_blocks_of_its_like() -> None:
    runner = StateRunner()
    runner.capabilities = replace(runner.capabilities, block_rows=8)
    engine = engine_on(runner)
    first = prompt_of(1, 45)
    _, num_rows = told(engine, runner, ask(1, first, places={44: False}, is_repeatable=True))
    assert num_rows == 45 + 3
    assert told(engine, runner, ask(2, first, is_repeatable=True))[1] == 5 + 3
    # what somebody else computed otherwise is none of its own
    other = prompt_of(3, 45)
    told(engine, runner, ask(3, other, places={40: False}))
    assert told(engine, runner, ask(4, other, is_repeatable=True))[1] == 45 + 3


def test_a_small_budget_forgets_leaves_first() -> None:
    runner = StateRunner()
    engine = engine_on(runner, max_host_bytes=160)
    system = prompt_of(0, 80)
    for chat in range(1, 9):
        prompt = [*system, *prompt_of(chat, 30)]
        told(engine, runner, ask(chat, prompt, places={80: True}))
        assert 80 <= engine.num_host_bytes <= 160
    prompt = [*system, *prompt_of(99, 30)]
    assert told(engine, runner, ask(99, prompt))[1] == 30 + 3


def test_without_a_budget_nothing_is_saved_or_waited_for() -> None:
    runner = StateRunner()
    engine = engine_on(runner, max_host_bytes=0)
    prompt = prompt_of(1, 60)
    for request_id in (1, 2):
        engine.submit(ask(request_id, prompt))
    run_to_end(engine)
    assert runner.num_prefilled_tokens == 2 * (60 + 3)
    assert runner.saved_at == []


def test_large_states_are_saved_at_fewer_places() -> None:
    prompt = prompt_of(1, 3000)
    saves = {}
    for state_bytes in (0, 600):
        runner = StateRunner(num_cells=4096, state_bytes=state_bytes)
        engine = engine_on(runner, max_host_bytes=8192, ctx=4096)
        told(engine, runner, ask(1, prompt, max_new_tokens=1))
        saves[state_bytes] = runner.saved_at
    assert saves == {0: [1024, 2048, 2999], 600: [2048, 2999]}


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_chats_says_what_each_alone_says(seed: int) -> None:
    chance = random.Random(seed)
    runner = StateRunner(num_cells=400, num_slots=3)
    engine = engine_on(runner, max_host_bytes=chance.choice((200, 1000, ROOM)), ctx=300)
    chats = [prompt_of(chat % 2, 30 + chat) for chat in range(5)]
    request_id = 0
    for _ in range(12):
        asked: dict[int, tuple[int, EngineRequest]] = {}
        outputs: list[Output] = []
        for chat in chance.sample(range(5), chance.randrange(1, 4)):
            request_id += 1
            places = {chance.randrange(1, len(chats[chat])): chance.random() < 0.3}
            request = ask(request_id, chats[chat], chance.randrange(1, 8), places)
            asked[request_id] = (chat, request)
            engine.submit(request)
            for _ in range(chance.randrange(3)):
                outputs += engine.step() if engine.has_work else []
        said = answers(outputs + run_to_end(engine))
        for each, (chat, request) in asked.items():
            assert said[each] == expected(request)
            chats[chat] = [*request.prompt, *said[each], *prompt_of(each, chance.randrange(1, 9))]
            if len(chats[chat]) > 200:
                chats[chat] = prompt_of(chat % 2, 30 + chat)
    assert runner.num_used_cells == 0
