"""How long a worker's parent waits for what. Knows no worker."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.protocol.health import Heartbeat


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for what, in seconds."""

    load_s: float = 1800.0  # a large model from a slow card
    silence_s: float = 30.0  # the worker's heart beats every second
    step_s: float = 300.0  # a step is cut to about a second; this long means native code hangs
    prepare_s: float = 120.0  # the longest prompt takes some ten; native code of grammars hangs
    ready_s: float = 60.0  # how long a request waits for a worker that is starting again
    stop_s: float = 5.0  # from `Stop` to SIGKILL
    # before a worker is replaced that was of no use; twice as long each time
    first_backoff_s: float = 0.2
    longest_backoff_s: float = 30.0
    healthy_s: float = 60.0  # whoever lived so long was of use

    def why_given_up(self, silence_s: float, heartbeat: Heartbeat | None) -> str | None:
        """Of a worker that no longer answers, or whose native code does not return."""
        if silence_s > self.silence_s:
            return f"it was silent for {silence_s:.0f} s"
        if heartbeat is not None and heartbeat.step_age_s > self.step_s:
            return f"one step took more than {self.step_s:.0f} s"
        if heartbeat is not None and heartbeat.tokenize_age_s > self.prepare_s:
            return f"a request took more than {self.prepare_s:.0f} s to prepare"
        return None
