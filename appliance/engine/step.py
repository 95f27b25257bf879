"""One step's rows, and whose they are. Knows no cells, no cost and no llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.engine.adapters.sets import NO_ADAPTERS, AdapterSet, plain_token
from appliance.engine.batch import Batch
from appliance.engine.sequence import Sequence


@dataclass(kw_only=True)
class ScheduledStep:
    """The rows of a step; dicts are by request id."""

    batch: Batch = field(default_factory=Batch)
    computed: dict[int, int] = field(default_factory=dict)  # how many known tokens have rows
    # The rows whose logits its next tokens are sampled from: that of its last known
    # token, then those of its drafted ones.
    logit_rows: dict[int, list[int]] = field(default_factory=dict)
    drafted: dict[int, tuple[int, ...]] = field(default_factory=dict)  # tokens
    scored: dict[int, list[int]] = field(default_factory=dict)  # rows whose logits score the prompt
    num_attended: int = 0  # the rows' own cells, summed
    num_scanned: int = 0  # cells that each row scans
    adapters: AdapterSet = NO_ADAPTERS  # that it is computed with
    # Cells got other positions, or the adapters are others than before: that takes time too.
    does_more: bool = False

    @property
    def num_logit_rows(self) -> int:
        return sum(map(len, (*self.logit_rows.values(), *self.scored.values())))

    @property
    def summary(self) -> str:
        """For a log."""
        return (
            f"{len(self.batch)} rows of {self.batch.num_slots} sequences, "
            f"{len(self.logit_rows)} sampled"
        )

    def add_known(self, seq: Sequence, num_rows: int) -> None:
        """Rows for the next known tokens of `seq`; the one that completes them asks for
        logits to sample from.
        """
        first = seq.num_computed_tokens
        for position in range(first, first + num_rows):
            is_sampled = position == len(seq.tokens) - 1 and seq.max_new_tokens > 0
            is_scored = seq.is_scored_by(position)
            wants_logits = is_sampled or is_scored
            token = plain_token(seq.tokens[position])
            row = self.batch.add(token, position, seq.admitted_slot, wants_logits)
            if is_sampled:
                self.logit_rows[seq.request_id] = [row]
            if is_scored:
                self.scored.setdefault(seq.request_id, []).append(row)
            self.num_attended += position + 1
        self.computed[seq.request_id] = num_rows

    def add_drafted(self, seq: Sequence, tokens: tuple[int, ...]) -> None:
        """Rows for tokens that may follow those of `seq`; each asks for logits."""
        self.drafted[seq.request_id] = tokens
        for position, token in enumerate(tokens, len(seq.tokens)):
            self.logit_rows[seq.request_id].append(
                self.batch.add(token, position, seq.admitted_slot, wants_logits=True)
            )
            self.num_attended += position + 1
