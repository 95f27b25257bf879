"""What to do when a helper on another machine is gone: the model is planned anew.

Knows no process. What stays here takes more memory then, of which only the gateway knows how
much this model may have.
"""

from __future__ import annotations

from appliance.errors import HelperLost
from appliance.worker.crash import Crash, OnCrash, Remedy


class HelperFallback:
    """Answers a supervisor's crashes (`OnCrash`): all that no helper is to blame for go to
    `otherwise`.
    """

    def __init__(self, otherwise: OnCrash) -> None:
        self._otherwise = otherwise

    def __call__(self, crash: Crash) -> Remedy | None:
        if crash.load_code != HelperLost.code:
            return self._otherwise(crash)
        return Remedy("the model is planned anew on what is left", loads_anew=True)
