"""A slot's prefix goes to a file of a real worker, and another worker knows it again."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest

from appliance.errors import BadRequest
from appliance.protocol.questions import AskSlot, SlotAction
from appliance.worker.config import WorkerConfig
from tests.conftest import Embedded
from tests.worker.running import ask, config, running, text

__all__ = ["config"]  # a fixture

PROMPT = "It was the best of times, it was the worst of times, it was the age of wisdom."


async def test_a_saved_slot_is_restored_by_another_worker(
    config: WorkerConfig,
    embedded: Embedded,
    tmp_path: Path,
) -> None:
    lasting = msgspec.structs.replace(
        config,
        prefix_host_bytes=64 << 20,
        prefix_disk_bytes=64 << 20,
        prefix_dir=str(tmp_path / "prefixes"),
    )
    num_tokens = embedded.num_tokens(PROMPT)
    async with running(lasting) as supervisor:
        num_slots = supervisor.info.slots if supervisor.info is not None else 0
        await ask(supervisor, text(PROMPT, max_tokens=2))
        for slot in range(num_slots):
            with contextlib.suppress(BadRequest):  # by the slots where nothing ran
                result = await supervisor.ask(AskSlot(slot, SlotAction.SAVE, "a.bin"))
        [file] = Path(lasting.prefix_dir).glob("*/named-*.prefix")
        assert (result.num_tokens, result.num_bytes) == (num_tokens + 1, file.stat().st_size)
        file = file.rename(tmp_path / file.name)  # so that it is not found at the start
        folder = next(Path(lasting.prefix_dir).iterdir())
    async with running(lasting) as supervisor:
        with pytest.raises(BadRequest, match="no such file"):
            await supervisor.ask(AskSlot(0, SlotAction.RESTORE, "a.bin"))
        file.rename(folder / file.name)
        restored = await supervisor.ask(AskSlot(0, SlotAction.RESTORE, "a.bin"))
        assert restored.num_tokens == num_tokens + 1
        answer = await ask(supervisor, text(PROMPT, max_tokens=2))
        assert answer.finished.usage.num_cached_tokens == num_tokens - 1
        with pytest.raises(BadRequest, match=f"got {num_slots}"):
            await supervisor.ask(AskSlot(num_slots, SlotAction.ERASE))
