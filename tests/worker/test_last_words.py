"""What llama.cpp gives up for while it loads a file is told in its words."""

from __future__ import annotations

import signal
import struct
from pathlib import Path

import pytest

from appliance.errors import LoadFailed
from appliance.launch.fallback.cpu_path import blames_native_code
from appliance.worker.crash import Crash
from appliance.worker.supervisor import Supervisor
from tests.conftest import Embedded
from tests.mutants.gguf_parts import Key, read_parts, text
from tests.worker.running import PATIENCE, config_of


async def test_an_assertion_that_a_file_contradicts(embedded: Embedded, tmp_path: Path) -> None:
    parts = read_parts(embedded.files["Q8_0"])
    parts.keys.append(Key(b"llama.expert_used_count", 4, struct.pack("<I", 4)))
    path = tmp_path / "experts.gguf"
    path.write_bytes(parts.written())
    crashes: list[Crash] = []

    with pytest.raises(LoadFailed) as failed:
        await Supervisor(config_of(path), PATIENCE, crashes.append).start()

    words = "GGML_ASSERT(n_expert_used_max <= hparams.n_expert) failed"
    assert failed.value.message.startswith(f"llama.cpp gave up on {path}: src/llama-model.cpp:")
    assert words in failed.value.message
    [crash] = crashes
    assert crash.status == -signal.SIGABRT
    assert str(crash).startswith("killed by SIGABRT (llama.cpp gave up on")
    # it may have been the CPU path's fault all the same
    assert blames_native_code(crash)


async def test_a_value_of_megabytes_is_quoted_in_part(embedded: Embedded, tmp_path: Path) -> None:
    """Looking through all of it took minutes."""
    parts = read_parts(embedded.files["Q8_0"])
    key = parts.key(b"tokenizer.ggml.pre")
    assert key is not None
    key.data = text(b"x" * 2_000_000)
    path = tmp_path / "long.gguf"
    path.write_bytes(parts.written())

    with pytest.raises(
        LoadFailed, match=r"unknown pre-tokenizer type: 'x{100,1000}\.\.\."
    ) as failed:
        await Supervisor(config_of(path), PATIENCE).start()
    assert len(failed.value.message) < 8000


def test_who_says_why_and_exits_did_not_die_of_native_code() -> None:
    crash = Crash(1, was_ready=False, load_error="no such tensor")
    assert str(crash) == "unable to load: no such tensor"
    assert not blames_native_code(crash)
