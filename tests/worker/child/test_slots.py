"""What a heartbeat says of an engine's slots, while it computes."""

from __future__ import annotations

from appliance.engine.engine import EngineRequest
from appliance.protocol.health import Heartbeat, Slot
from appliance.worker.child.slots import slots_of
from appliance.worker.frames import decode_from_worker, encode
from tests.engine.fake_runner import FakeRunner
from tests.engine.test_engine import ENDLESS, make_engine

PROMPT = list(range(1, 41))


def test_prefill_decode_and_what_waits() -> None:
    engine = make_engine(FakeRunner(num_slots=3, max_rows=24), ctx=64)
    engine.submit(EngineRequest(7, PROMPT[:4], ENDLESS, 9))
    engine.step()
    engine.submit(EngineRequest(8, PROMPT, ENDLESS, 5))
    engine.submit(EngineRequest(9, [*PROMPT, 3], ENDLESS, 5))
    engine.submit(EngineRequest(10, PROMPT, ENDLESS, 5))
    engine.step()
    told = slots_of(engine.running)
    assert told == [
        Slot(0, 7, "decode", 4, 4, 0, 2, 9),
        Slot(1, 8, "prefill", 40, 11, 4, 0, 5),
        Slot(2, 9, "sharing", 41, 0, 0, 0, 5),
    ]
    beat = Heartbeat(3, 1, 2, 27, 0.0, slots=told)
    assert decode_from_worker(encode(beat)) == beat
