"""What is done about a worker that was lost together with a helper."""

from __future__ import annotations

import signal

from appliance.errors import HelperLost
from appliance.launch.fallback.rpc_helpers import HelperFallback
from appliance.worker.crash import Crash, Remedy

OTHERWISE = Remedy("something else")


def test_a_lost_helper_has_the_model_planned_anew_and_nothing_blamed() -> None:
    fallback = HelperFallback(lambda _crash: OTHERWISE)
    for was_ready in (True, False):
        crash = Crash(-signal.SIGABRT, was_ready, "10.0.0.2:50052 is gone", HelperLost.code)
        assert fallback(crash) == Remedy(
            "the model is planned anew on what is left", loads_anew=True
        )


def test_all_other_crashes_are_others_matter() -> None:
    fallback = HelperFallback(lambda _crash: OTHERWISE)
    assert fallback(Crash(-signal.SIGABRT, True)) is OTHERWISE
