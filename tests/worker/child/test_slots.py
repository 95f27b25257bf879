"""What a heartbeat says of an engine's slots, while it computes."""

from __future__ import annotations

from appliance.engine.requests import EngineRequest
from appliance.protocol.health import Heartbeat, Slot
from appliance.worker.child.slots import slots_of
from appliance.worker.frames import decode_from_worker, encode
from tests.engine.engines import ENDLESS, make_engine
from tests.engine.fake_runner import FakeRunner

PROMPT = list(range(1, 41))


def test_prefill_decode_and_what_waits() -> None:
    engine = make_engine(FakeRunner(num_slots=3, max_rows=24), ctx=64)
    engine.submit(
        EngineRequest(request_id=7, prompt=PROMPT[:4], sampling=ENDLESS, max_new_tokens=9)
    )
    engine.step()
    engine.submit(EngineRequest(request_id=8, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=5))
    engine.submit(
        EngineRequest(request_id=9, prompt=[*PROMPT, 3], sampling=ENDLESS, max_new_tokens=5)
    )
    engine.submit(EngineRequest(request_id=10, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=5))
    engine.step()
    reported = slots_of(engine.running)
    assert reported == [
        Slot(
            id=0,
            request_id=7,
            state="decode",
            num_prompt_tokens=4,
            num_prefilled_tokens=4,
            num_cached_tokens=0,
            num_new_tokens=2,
            max_new_tokens=9,
        ),
        Slot(
            id=1,
            request_id=8,
            state="prefill",
            num_prompt_tokens=40,
            num_prefilled_tokens=11,
            num_cached_tokens=4,
            num_new_tokens=0,
            max_new_tokens=5,
        ),
        Slot(
            id=2,
            request_id=9,
            state="sharing",
            num_prompt_tokens=41,
            num_prefilled_tokens=0,
            num_cached_tokens=0,
            num_new_tokens=0,
            max_new_tokens=5,
        ),
    ]
    beat = Heartbeat(
        num_running=3, num_waiting=1, num_steps=2, num_used_cells=27, step_age_s=0.0, slots=reported
    )
    assert decode_from_worker(encode(beat)) == beat
