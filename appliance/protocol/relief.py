"""What a worker does without for a while: memory, or a part of the machine's power.

Knows no measure of either, nor who decides.
"""

from __future__ import annotations

from appliance.errors import MemoryPressure
from appliance.protocol.record import Record


class Pace(Record, frozen=True):
    """How much of the machine's power may be used until the next one; 1 is all."""

    share: float


class Relief(Record, frozen=True):
    """Tighter bounds for a while; None leaves one as it was configured."""

    max_host_bytes: int | None = None  # of saved prefixes in host memory
    # of a new prompt that have no cells yet, so that a long conversation whose
    # beginning is known goes on
    max_prompt_tokens: int | None = None
    reason: str = ""  # for whoever is refused

    def check(self, num_prompt_tokens: int, num_resident: int) -> None:
        """Raises `MemoryPressure` for a prompt that is too long for now; `num_resident`
        of its tokens have cells.
        """
        num_new = num_prompt_tokens - num_resident
        if self.max_prompt_tokens is not None and num_new > self.max_prompt_tokens:
            raise MemoryPressure.of(num_new, self.max_prompt_tokens, self.reason)


NO_RELIEF = Relief()
