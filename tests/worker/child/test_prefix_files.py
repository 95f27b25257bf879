"""Prefixes outlive the process: after a clean stop and after a kill, and damaged or
foreign files are never loaded.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from array import array
from pathlib import Path

import msgspec
import pytest

from appliance.engine.cache.host_prefixes import SavedPrefix
from appliance.worker.child.prefix_files import PrefixFiles, fingerprint
from appliance.worker.config import WorkerConfig
from tests.conftest import Embedded
from tests.worker.running import ask, config, resized, running, text, worker_pid

__all__ = ["config"]  # a fixture

PROMPT = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 15


@pytest.fixture
def lasting(config: WorkerConfig, tmp_path: Path) -> WorkerConfig:
    return msgspec.structs.replace(
        config,
        prefix_host_bytes=64 << 20,
        prefix_disk_bytes=64 << 20,
        prefix_dir=str(tmp_path / "prefixes"),
    )


async def cached_tokens(config: WorkerConfig, *, kill: bool = False, times: int = 2) -> int:
    """Asks the same prompt several times in one worker's life;
    the first answer's cached tokens.
    """
    async with running(config) as supervisor:
        answers = [await ask(supervisor, text(PROMPT, max_tokens=2)) for _ in range(times)]
        if kill:
            while not files(config):
                await asyncio.sleep(0)
            os.kill(worker_pid(supervisor), signal.SIGKILL)
    return answers[0].finished.usage.num_cached_tokens


def files(config: WorkerConfig) -> list[Path]:
    return list(Path(config.prefix_dir).glob("*/*.prefix"))


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
async def test_a_known_prompt_is_restored_after_a_restart(
    lasting: WorkerConfig, embedded: Embedded, kill: bool
) -> None:
    num_tokens = embedded.num_tokens(PROMPT)
    assert await cached_tokens(lasting, kill=kill) == 0
    assert await cached_tokens(lasting) == num_tokens - 1, "the last token is always computed"


async def test_what_was_asked_only_once_is_not_written(lasting: WorkerConfig) -> None:
    await cached_tokens(lasting, times=1)
    assert files(lasting) == []


async def test_a_damaged_file_is_removed_and_another_kv_types_files_are_left_alone(
    lasting: WorkerConfig,
) -> None:
    await cached_tokens(lasting)
    [path] = files(lasting)
    assert path.stat().st_mode & 0o077 == 0
    assert await cached_tokens(resized(lasting, kv_type="q8_0", flash_attention=True), times=1) == 0
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert await cached_tokens(lasting, times=1) == 0
    assert not path.exists()


def test_the_budget_holds_over_all_models_the_oldest_going_first(tmp_path: Path) -> None:
    saved = [
        SavedPrefix(tokens=[number] * 10, first=0, data=bytes(1000), last_used_s=0.0)
        for number in range(4)
    ]
    for number, prefix in enumerate(saved):
        store = PrefixFiles(tmp_path, f"model{number % 2}", 3500)
        store.write(prefix)
        newest = max(tmp_path.glob("*/*.prefix"), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (number, number))
    left = [
        s.tokens[0]
        for model in ("model0", "model1")
        for s in PrefixFiles(tmp_path, model, 1).load(0.0, 10**6)
    ]
    assert sorted(left) == [1, 2, 3]


def test_what_others_continue_outlives_them(tmp_path: Path) -> None:
    """Three files have room, of four kilobytes each."""

    def prefix(first: int, *tokens: int) -> SavedPrefix:
        return SavedPrefix(tokens=[*tokens], first=first, data=bytes(4000), last_used_s=0.0)

    def left() -> list[list[int]]:
        found = PrefixFiles(tmp_path, "model", 1).load(0.0, 10**6)
        return sorted(list(each.tokens) for each in found)

    store = PrefixFiles(tmp_path, "model", 14_000)
    root, other, next_one = prefix(0, 1, 2, 3), prefix(0, 7, 8), prefix(3, 1, 2, 3, 4, 5)
    for at, each in enumerate((root, other, next_one)):
        before = set(tmp_path.glob("*/*.prefix"))
        store.write(each)
        if each is not next_one:  # as if minutes had passed
            [path] = set(tmp_path.glob("*/*.prefix")) - before
            os.utime(path, (at, at))
    store.write(prefix(0, 9))
    assert left() == [[1, 2, 3], [1, 2, 3, 4, 5], [9]], "the root is not the oldest any more"
    again = PrefixFiles(tmp_path, "model", 14_000)  # as another worker would
    # the two newest: what was written last, and the root, which is newer than what continues it
    assert sorted([*each.tokens] for each in again.load(0.0, 9000)) == [[1, 2, 3], [9]]
    assert len(list(again.load(0.0, 10**6))) == 3
    again.write(prefix(2, 1, 2, 6))  # branches off within the root
    assert left() == [[1, 2, 3], [1, 2, 6], [9]], "what nobody continues has gone first"


def test_what_a_prefix_continues_is_kept_in_its_file(tmp_path: Path) -> None:
    store = PrefixFiles(tmp_path, "model", 10**6)
    chain = [
        SavedPrefix(tokens=[1] * 5, first=0, data=b"one", last_used_s=0.0, is_branch=True),
        SavedPrefix(tokens=[1] * 5 + [2] * 5, first=5, data=b"two", last_used_s=0.0),
    ]
    assert store.write(chain[1], "a chat", chain[:1]) > 0
    found, _ = store.read("a chat", 7.0)
    assert [s.tokens for s in found] == [s.tokens for s in store.load(7.0, 10**6)]
    told = [(s.tokens, s.first, s.data, s.is_branch, s.on_disk) for s in found]
    assert told == [(s.tokens, s.first, s.data, s.is_branch, True) for s in chain]
    assert store.read("another", 7.0) == ([], 0)


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    store = PrefixFiles(tmp_path, "model", 10**6)
    body = msgspec.msgpack.encode([array("i", [1, 2, 3]).tobytes(), 1, b"cells"])
    (tmp_path / "model").mkdir()
    content = b"APFX0001" + hashlib.sha256(body).digest() + body
    (tmp_path / "model" / "a.prefix").write_bytes(content)
    [saved] = store.load(0.0, 10**6)
    assert (saved.tokens, saved.first, saved.data) == ([1, 2, 3], 1, b"cells")
    assert not saved.is_branch


def test_the_fingerprint_names_model_content_and_parts(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(b"weights")
    before = fingerprint(model, "f16", "b1")
    assert fingerprint(model, "f16", "b1") == before
    assert fingerprint(model, "q8_0", "b1") != before
    model.write_bytes(b"others!")
    assert fingerprint(model, "f16", "b1") != before


def test_what_a_killed_writer_left_behind_is_removed_and_a_writer_at_work_is_left_alone(
    tmp_path: Path,
) -> None:
    store = PrefixFiles(tmp_path, "model", 10**6)
    store.write(SavedPrefix(tokens=[1] * 10, first=0, data=bytes(1000), last_used_s=0.0))
    left, in_progress = tmp_path / "model" / ".left.123", tmp_path / "other" / ".new.456"
    in_progress.parent.mkdir()
    for path in (left, in_progress):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert [(s.tokens, s.data) for s in store.load(0.0, 10**6)] == [([1] * 10, bytes(1000))]
    assert (left.exists(), in_progress.exists()) == (False, True)


WRITER = """
import sys
from pathlib import Path
from appliance.engine.cache.host_prefixes import SavedPrefix
from appliance.worker.child.prefix_files import PrefixFiles

files = PrefixFiles(Path(sys.argv[1]), "model", 1 << 40)
data = bytes(8 << 20)
print("ready", flush=True)
for number in range(1000):
    files.write(SavedPrefix(tokens=[number], first=0, data=data, last_used_s=0.0))
"""


def test_a_writer_killed_at_any_byte_leaves_whole_prefixes_only(tmp_path: Path) -> None:
    chance = random.Random(5)
    num_unfinished = 0
    for _ in range(12):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        killed_at = chance.randrange(8 << 20)  # bytes of a file that is being written
        while not any(size_of(path) > killed_at for path in tmp_path.glob("model/.*")):
            assert writer.poll() is None, "it goes on until it is killed"
        writer.kill()
        writer.wait()
        writer.stdout.close()
        num_unfinished += len(list(tmp_path.glob("model/.*")))
        found = list(PrefixFiles(tmp_path, "model", 1 << 40).load(0.0, 1 << 40))
        assert len(found) == len(list(tmp_path.glob("model/*.prefix"))), "none was damaged"
        assert all(saved.data == bytes(8 << 20) for saved in found)
        shutil.rmtree(tmp_path / "model")
    assert num_unfinished > 6, "most were killed in the middle"


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it has got its name
        return 0


def test_what_was_written_longer_ago_than_its_lifetime_is_removed(tmp_path: Path) -> None:
    now_s = 1_800_000_000.0

    def kept(ttl_s: float, now_s: float) -> PrefixFiles:
        return PrefixFiles(tmp_path, "model", 1 << 20, ttl_s=ttl_s, clock=lambda: now_s)

    def names() -> list[str]:
        return sorted(path.name for path in tmp_path.glob("*/*.prefix"))

    for first, age_s in ((1, 61.0), (2, 59.0)):
        prefix = SavedPrefix(tokens=[first], first=0, data=b"cells", last_used_s=0.0)
        before = {*names()}
        assert kept(math.inf, now_s).write(prefix) > 0
        [name] = {*names()} - before
        os.utime(tmp_path / "model" / name, (now_s - age_s, now_s - age_s))
    assert len(names()) == 2
    [saved] = kept(60.0, now_s).load(0.0, 1 << 20)
    assert saved.tokens == [2]
    assert len(names()) == 1
    prefix = SavedPrefix(tokens=[3], first=0, data=b"cells", last_used_s=0.0)
    kept(60.0, now_s + 2).write(prefix)
    [saved] = kept(math.inf, now_s).load(0.0, 1 << 20)
    assert saved.tokens == [3]
