"""What a slot's last request left in the cache: to a file under a name, back, or away.

Knows no text and no llama.cpp.

It is a prefix like others: a file counts among those of `PrefixFiles`, and what comes
back is found by any prompt that begins with it.
"""

from __future__ import annotations

import time

from appliance.engine.cache.cells import Cells
from appliance.engine.cache.kept_prefixes import MIN_KEPT_TOKENS
from appliance.errors import BadRequest
from appliance.protocol.events import AskResult
from appliance.protocol.questions import AskSlot, SlotAction
from appliance.worker.child.prefix_files import PrefixFiles


class SlotFiles:
    """Called between two steps."""

    def __init__(self, cells: Cells, files: PrefixFiles | None) -> None:
        """Without `files` only erasing is possible."""
        self._cells = cells
        self._files = files

    def answer(self, request_id: int, question: AskSlot) -> AskResult:
        """Raises `BadRequest`."""
        if question.slot >= self._cells.left.num_slots:
            most = self._cells.left.num_slots - 1
            raise BadRequest(
                f"Slots have the numbers 0 to {most} (got {question.slot}).", param="id_slot"
            )
        if question.action is SlotAction.ERASE:
            return AskResult(request_id, num_tokens=self._cells.left.erase(question.slot))
        if self._files is None:
            raise BadRequest(
                "No prefixes are kept on disk. Serve with --prefix-disk-bytes and "
                "--prefix-host-bytes above 0."
            )
        if question.action is SlotAction.SAVE:
            return self._save(request_id, question, self._files)
        return self._restore(request_id, question, self._files)

    def _save(self, request_id: int, question: AskSlot, files: PrefixFiles) -> AskResult:
        chain = self._cells.left.copy(question.slot, files.max_bytes)
        if not chain:
            raise BadRequest(
                f"Slot {question.slot} has nothing to save: no request has ended there, or it "
                f"left less than {MIN_KEPT_TOKENS} tokens, or these have given way to others, or "
                "were moved (--cache-reuse), which makes them no prefix for others.",
                param="id_slot",
            )
        *earlier, saved = chain
        num_bytes = files.write(saved, question.name, earlier)
        if not num_bytes:
            raise BadRequest("The file could not be written. The server's log says why.")
        return AskResult(request_id, num_tokens=len(saved.tokens), num_bytes=num_bytes)

    def _restore(self, request_id: int, question: AskSlot, files: PrefixFiles) -> AskResult:
        chain, num_bytes = files.read(question.name, time.perf_counter())
        if not chain:
            raise BadRequest(
                "There is no such file for this model as it is served, or it has given way to "
                "newer ones.",
                param="filename",
            )
        if not self._cells.left.put(question.slot, chain):
            raise BadRequest("There is no room for it in host memory.", param="filename")
        return AskResult(request_id, num_tokens=len(chain[-1].tokens), num_bytes=num_bytes)
