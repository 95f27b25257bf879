"""Answers that keep to a form: only what it allows is chosen, drafted or not, and what
fails ends its request alone.
"""

from __future__ import annotations

import pytest

from appliance.engine.outputs import Broken, Sampled
from appliance.engine.requests import EngineRequest
from appliance.errors import ConstraintFailed
from appliance.protocol.events import FinishReason
from appliance.protocol.sampling import SamplingParams
from tests.engine.engines import ENDLESS, finished, make_engine, request, run_to_end
from tests.engine.fake_drafting import FakeDrafting
from tests.engine.fake_runner import END_TOKEN, FakeRunner


class Alternating:
    """Even and odd tokens in turn, and after `length` of them the end."""

    def __init__(self, length: int, fails_at: int | None = None) -> None:
        self.accepted: list[int] = []
        self._length = length
        self._fails_at = fails_at

    def mask(self) -> bytes:
        at = len(self.accepted)
        if at == self._fails_at:
            raise ConstraintFailed("as the test wished")
        tokens = range(2 + at % 2, 50, 2) if at < self._length else [END_TOKEN]
        return sum(1 << token for token in tokens).to_bytes(8, "little")

    def accept(self, token: int) -> None:
        self.accepted.append(token)


@pytest.mark.parametrize("chance", [None, 0.0, 0.7, 1.0])
def test_the_answer_is_the_same_with_drafts_and_ends_where_its_form_does(
    chance: float | None,
) -> None:
    runner = FakeRunner(num_slots=2, max_draft_rows=8)
    engine = make_engine(runner, drafting=None if chance is None else FakeDrafting(chance, 5))
    form = Alternating(20)
    engine.submit(
        EngineRequest(
            request_id=1,
            prompt=[1, 2, 3],
            sampling=SamplingParams(),
            max_new_tokens=None,
            constraint=form,
        )
    )
    engine.submit(request(2, max_new_tokens=30))
    outputs = run_to_end(engine)
    answer = [o.token for o in outputs if isinstance(o, Sampled) and o.request_id == 1]
    assert answer == form.accepted == ALONE
    assert finished(outputs) == {1: FinishReason.STOP, 2: FinishReason.LENGTH}
    assert [token % 2 for token in answer] == [0, 1] * 10 + [0]


def alone() -> list[int]:
    engine = make_engine(FakeRunner(num_slots=1))
    form = Alternating(20)
    engine.submit(
        EngineRequest(
            request_id=1,
            prompt=[1, 2, 3],
            sampling=SamplingParams(),
            max_new_tokens=None,
            constraint=form,
        )
    )
    run_to_end(engine)
    return form.accepted


ALONE = alone()


def test_a_form_that_cannot_be_kept_to_ends_its_request_and_no_other() -> None:
    engine = make_engine(FakeRunner(num_slots=2))
    engine.submit(
        EngineRequest(
            request_id=1,
            prompt=[1, 2, 3],
            sampling=ENDLESS,
            max_new_tokens=9,
            constraint=Alternating(20, fails_at=4),
        )
    )
    engine.submit(request(2, max_new_tokens=9))
    outputs = run_to_end(engine)
    [broken] = [output for output in outputs if isinstance(output, Broken)]
    assert (broken.request_id, type(broken.error)) == (1, ConstraintFailed)
    assert len([o for o in outputs if isinstance(o, Sampled) and o.request_id == 1]) == 4
    assert finished(outputs) == {2: FinishReason.LENGTH}
