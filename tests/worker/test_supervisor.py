"""A real worker on the real embedded model, driven as the gateway drives it: answers,
limits, cancels, crashes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import msgspec
import psutil
import pytest

from appliance.errors import (
    BadRequest,
    LoadFailed,
    ModelNotReady,
    PromptTooLong,
    ShuttingDown,
    WorkerLost,
)
from appliance.protocol.events import Delta, FinishReason
from appliance.protocol.health import WorkerState
from appliance.protocol.questions import DescribeText, Detokenize, RenderChat, Tokenize
from appliance.protocol.requests import ChatPrompt, GenerateRequest, TextPrompt, TokenPrompt
from appliance.protocol.sampling import SamplingParams
from appliance.worker.config import WorkerConfig
from appliance.worker.crash import Crash, Remedy
from appliance.worker.supervisor import Patience, Supervisor
from tests.conftest import Embedded
from tests.worker.running import (
    ENDLESS,
    GREEDY,
    PATIENCE,
    ask,
    config,
    next_heartbeat,
    resized,
    running,
    text,
    worker_pid,
)

__all__ = ["config"]  # a fixture


async def test_chat_is_rendered_tokenized_and_counted_as_hugging_face_does(
    config: WorkerConfig, embedded: Embedded
) -> None:
    rendered = "<|im_start|>user\nTell me of the sea.<|im_end|>\n<|im_start|>assistant\n"
    async with running(config) as supervisor:
        request = GenerateRequest(
            prompt=ChatPrompt(messages=[{"role": "user", "content": "Tell me of the sea."}]),
            sampling=GREEDY,
            max_tokens=400,
        )
        answer = await ask(supervisor, request)
    assert answer.finished.reason is FinishReason.STOP
    assert answer.finished.usage.num_prompt_tokens == embedded.num_tokens(rendered)
    assert answer.finished.usage.num_completion_tokens == answer.num_tokens + 1, (
        "the end token is counted, not shown"
    )
    assert "<|" not in answer.text
    assert len(answer.text.split()) > 5


async def test_questions_are_answered_beside_what_is_computed(
    config: WorkerConfig, embedded: Embedded
) -> None:
    words = "Tell me of the sea, naïve 海!"
    chat = ChatPrompt(messages=[{"role": "user", "content": words}])
    rendered = f"<|im_start|>user\n{words}<|im_end|>\n<|im_start|>assistant\n"
    async with (
        running(config) as supervisor,
        aclosing(supervisor.generate(text("It", max_tokens=400))) as events,
    ):
        await anext(events)
        tokenized = await supervisor.ask(Tokenize(TextPrompt(words)))
        assert (await supervisor.ask(Detokenize(tokenized.tokens))).text == words
        assert (await supervisor.ask(RenderChat(chat))).text == rendered
        in_chat = await supervisor.ask(Tokenize(chat))
        described = await supervisor.ask(DescribeText())
        with pytest.raises(BadRequest, match="Token ids must be between"):
            await supervisor.ask(Detokenize([1 << 30]))
    assert tokenized.tokens == embedded.tokenizer.encode(words).ids
    assert "<|im_start|>" in described.text
    assert described.pieces == [b"<|endoftext|>", b"<|im_end|>"]
    assert b"".join(tokenized.pieces).decode() == words
    assert in_chat.tokens == embedded.tokenizer.encode(rendered).ids


async def test_a_begun_answer_is_gone_on_with(config: WorkerConfig, embedded: Embedded) -> None:
    rendered = "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\nMy name is"
    chat = [
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "My name is"},
    ]
    async with running(config) as supervisor:
        begun = await ask(
            supervisor,
            GenerateRequest(
                prompt=ChatPrompt(messages=chat, continue_final_message=True),
                sampling=GREEDY,
                max_tokens=12,
            ),
        )
        as_tokens = TokenPrompt(embedded.tokenizer.encode(rendered).ids)
        assert (
            begun.text
            == (
                await ask(
                    supervisor, GenerateRequest(prompt=as_tokens, sampling=GREEDY, max_tokens=12)
                )
            ).text
        )
    assert begun.finished.usage.num_prompt_tokens == len(as_tokens.tokens)


async def test_the_same_seed_gives_the_same_answer_and_another_seed_another(
    config: WorkerConfig,
) -> None:
    async with running(config) as supervisor:
        answers = [
            (
                await ask(
                    supervisor, text("It was a", SamplingParams(seed=seed, temperature=1.0), 24)
                )
            ).text
            for seed in (7, 7, 8)
        ]
    assert answers[0] == answers[1] != answers[2]


async def test_eight_requests_on_four_slots_are_all_answered_as_if_alone(
    config: WorkerConfig,
) -> None:
    requests = [
        text(f"Chapter {number}. The old man", max_tokens=20 + number) for number in range(8)
    ]
    async with running(config) as supervisor:
        alone = [await ask(supervisor, request) for request in requests]
        together = await asyncio.gather(*(ask(supervisor, request) for request in requests))
    assert [a.finished.usage.num_completion_tokens for a in together] == [
        20 + number for number in range(8)
    ]
    same = sum(a.text == b.text for a, b in zip(alone, together, strict=True))
    assert same >= 7, "a near-tie may flip with the batch's shape, at most here and there"


async def test_a_stop_string_ends_the_answer_before_it(config: WorkerConfig) -> None:
    async with running(config) as supervisor:
        whole = await ask(supervisor, text("It was", max_tokens=40))
        word = whole.text.split()[3]
        cut = await ask(supervisor, text("It was", max_tokens=40, stop=(word,)))
    assert cut.text == whole.text[: whole.text.index(word)]
    assert cut.finished.reason is FinishReason.STOP
    assert cut.finished.usage.num_completion_tokens < 40


async def test_limits_are_named_with_both_numbers(config: WorkerConfig, embedded: Embedded) -> None:
    long = "word " * 600
    num_tokens = embedded.num_tokens(long)
    async with running(config) as supervisor:
        with pytest.raises(PromptTooLong, match=f"{num_tokens} tokens, but at most 511 fit"):
            await ask(supervisor, text(long))
        with pytest.raises(BadRequest, match=r"between 0 and 4095 \(got 4096\)"):
            await ask(supervisor, GenerateRequest(prompt=TokenPrompt([1, 4096])))
        with pytest.raises(BadRequest, match="99999"):
            await ask(supervisor, text("x", SamplingParams(logit_bias={99999: 1.0})))
        filled = await ask(
            supervisor,
            GenerateRequest(prompt=TextPrompt("It was"), sampling=ENDLESS, max_tokens=None),
        )
    assert filled.finished.reason is FinishReason.LENGTH
    assert (
        filled.finished.usage.num_prompt_tokens + filled.finished.usage.num_completion_tokens == 512
    )


async def test_logit_bias_and_greedy_reach_the_sampler(
    config: WorkerConfig, embedded: Embedded
) -> None:
    [token] = embedded.tokenizer.encode(" the").ids
    async with running(config) as supervisor:
        biased = await ask(
            supervisor, text("It", SamplingParams(temperature=0.0, logit_bias={token: 100.0}), 3)
        )
    assert biased.text == " the the the"


async def test_a_reader_that_leaves_frees_its_slot_at_once(config: WorkerConfig) -> None:
    async with running(msgspec.structs.replace(resized(config, slots=1), ctx=2000)) as supervisor:
        async with aclosing(supervisor.generate(text("It was", max_tokens=1900))) as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
        after = await ask(supervisor, text("It was", max_tokens=4))
        assert after.finished.usage.num_completion_tokens == 4
        await next_heartbeat(supervisor)
        heartbeat = supervisor.health().heartbeat
    assert heartbeat is not None
    assert heartbeat.num_running == 0
    assert heartbeat.num_steps < 1900, "the first answer was not computed to its end"


async def test_a_killed_worker_costs_the_requests_in_flight_an_error_and_the_next_one_nothing(
    config: WorkerConfig,
) -> None:
    async with running(config) as supervisor:
        async with aclosing(supervisor.generate(text("It was", max_tokens=400))) as events:
            await anext(events)
            os.kill(worker_pid(supervisor), signal.SIGKILL)
            with pytest.raises(WorkerLost, match="killed by SIGKILL"):
                async for _ in events:
                    pass
        answer = await ask(supervisor, text("It was", max_tokens=4))
        health = supervisor.health()
    assert answer.finished.usage.num_completion_tokens == 4
    assert (health.state, health.num_restarts, health.last_error) == (
        WorkerState.READY,
        1,
        "killed by SIGKILL",
    )


async def test_a_worker_that_hangs_is_killed_and_replaced(config: WorkerConfig) -> None:
    async with running(config, Patience(silence_s=3.0)) as supervisor:
        async with aclosing(supervisor.generate(text("It was", max_tokens=400))) as events:
            await anext(events)
            os.kill(worker_pid(supervisor), signal.SIGSTOP)
            with pytest.raises(WorkerLost, match="silent"):
                async for _ in events:
                    pass
        await ask(supervisor, text("It was", max_tokens=4))


async def test_a_file_that_is_no_model_is_a_load_error(
    config: WorkerConfig, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    supervisor = Supervisor(msgspec.structs.replace(config, model_path=str(broken)), PATIENCE)
    with pytest.raises(LoadFailed, match=r"broken\.gguf"):
        await supervisor.start()
    assert supervisor.health().state is WorkerState.FAILED
    with pytest.raises(ModelNotReady):
        await ask(supervisor, text("x"))
    await supervisor.stop()


async def test_a_signal_without_a_name_is_survived_too(config: WorkerConfig) -> None:
    async with running(config) as supervisor:
        async with aclosing(supervisor.generate(text("It was", max_tokens=400))) as events:
            await anext(events)
            os.kill(worker_pid(supervisor), 40)  # a real-time signal
            with pytest.raises(WorkerLost, match="killed by signal 40"):
                async for _ in events:
                    pass
        await ask(supervisor, text("It was", max_tokens=4))
        health = supervisor.health()
    assert (health.state, health.last_error) == (WorkerState.READY, "killed by signal 40")


async def test_a_prompt_that_cannot_fit_is_refused_before_it_is_tokenized(
    config: WorkerConfig,
) -> None:
    chat = ChatPrompt(messages=[{"role": "user", "content": "<|im_start|>x" * 100_000}])
    async with running(config) as supervisor:
        with pytest.raises(
            PromptTooLong, match="they cannot fit into the context of 512 tokens"
        ) as refused:
            await ask(supervisor, GenerateRequest(prompt=chat))
    assert refused.value.param == "messages"


async def test_stopping_ends_streams_and_leaves_no_process(config: WorkerConfig) -> None:
    async with running(config) as supervisor:
        pid = worker_pid(supervisor)
        async with aclosing(supervisor.generate(text("It was", max_tokens=400))) as events:
            await anext(events)
            await supervisor.stop()
            with pytest.raises(ShuttingDown):
                async for _ in events:
                    pass
        assert not psutil.pid_exists(pid)
        with pytest.raises(ShuttingDown):
            await ask(supervisor, text("x"))


@pytest.mark.parametrize("kv_type", ["f16", "q8_0", "q5_1", "q4_0", "q8_0/q4_0", "f16/q8_0"])
@pytest.mark.parametrize(
    ("resident_cells", "host_bytes"), [(512, 0), (0, 64 << 20)], ids=["in the cache", "saved"]
)
async def test_a_prompt_seen_before_is_not_computed_again(
    config: WorkerConfig, embedded: Embedded, resident_cells: int, host_bytes: int, kv_type: str
) -> None:
    config = msgspec.structs.replace(
        resized(config, kv_type=kv_type, flash_attention=kv_type != "f16"),
        resident_prefix_cells=resident_cells,
        prefix_host_bytes=host_bytes,
    )
    prompt = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 4
    num_tokens = embedded.num_tokens(prompt)
    async with running(config) as supervisor:
        first = await ask(supervisor, text(prompt, max_tokens=8))
        again = await ask(supervisor, text(prompt, max_tokens=8))
        longer = await ask(supervisor, text(prompt + first.text, max_tokens=8))
    assert first.finished.usage.num_cached_tokens == 0
    assert again.finished.usage.num_cached_tokens == num_tokens - 1, (
        "the last token is always computed"
    )
    assert again.text == first.text
    assert longer.finished.usage.num_cached_tokens >= num_tokens - 1


async def test_requests_at_once_compute_their_common_prefix_once(
    config: WorkerConfig, embedded: Embedded
) -> None:
    prefix = (
        "You are the narrator of a long novel about a lighthouse, its keeper and the sea around "
        "it. " * 8
    )
    num_shared = embedded.num_tokens(prefix.rstrip())
    requests = [
        text(f"{prefix.rstrip()} {name}", max_tokens=4)
        for name in ("Anna", "Boris", "Clara", "Dora")
    ]
    async with running(config) as supervisor:
        answers = await asyncio.gather(*(ask(supervisor, request) for request in requests))
    cached = sorted(answer.finished.usage.num_cached_tokens for answer in answers)
    assert cached[0] == 0
    # A request that comes when fewer than 16 tokens are left of it computes those
    # itself.
    assert all(num_shared - 16 < num <= num_shared + 2 for num in cached[1:]), (num_shared, cached)


# --- crashes and their remedies, with a worker that dies as scripted ------------------


def scripted(
    config: WorkerConfig, deaths: str, remedies: list[Remedy | None]
) -> tuple[Supervisor, list[Crash]]:
    """A supervisor whose crashes are answered with `remedies` in turn, and the crashes
    it will have asked about.
    """
    crashes: list[Crash] = []

    def on_crash(crash: Crash) -> Remedy | None:
        crashes.append(crash)
        return remedies[len(crashes) - 1]

    command = [sys.executable, "-m", "tests.worker.scripted_worker", deaths]
    return Supervisor(config, PATIENCE, on_crash, command), crashes


async def test_a_first_load_that_dies_is_tried_again_with_the_remedys_config(
    config: WorkerConfig,
) -> None:
    other = msgspec.structs.replace(config, use_extra_bufts=True)
    supervisor, crashes = scripted(
        config, "plain:load:SIGILL", [Remedy("plain is given up", other)]
    )
    await supervisor.start()
    health, info = supervisor.health(), supervisor.info
    await supervisor.stop()
    assert crashes == [Crash(-signal.SIGILL, was_ready=False)]
    assert info is not None
    assert info.name == "extra"
    assert (health.state, health.num_restarts) == (WorkerState.READY, 1)
    assert health.last_error == "killed by SIGILL; plain is given up"


@pytest.mark.parametrize(
    ("remedy", "reason"),
    [(None, "killed by SIGABRT"), (Remedy("both died"), "killed by SIGABRT; both died")],
)
async def test_a_first_load_that_dies_without_another_config_fails_and_says_why(
    config: WorkerConfig, remedy: Remedy | None, reason: str
) -> None:
    supervisor, crashes = scripted(config, "plain:load:SIGABRT", [remedy])
    with pytest.raises(LoadFailed) as failed:
        await supervisor.start()
    await supervisor.stop()
    assert (failed.value.message, len(crashes)) == (reason, 1)


async def test_a_worker_that_dies_at_work_comes_back_with_the_remedys_config(
    config: WorkerConfig,
) -> None:
    other = msgspec.structs.replace(config, use_extra_bufts=True)
    supervisor, crashes = scripted(
        config, "plain:request:SIGILL", [Remedy("plain is given up", other)]
    )
    await supervisor.start()
    with pytest.raises(WorkerLost, match="killed by SIGILL"):
        await ask(supervisor, text("x"))
    stream = supervisor.generate(text("x"))
    # waits until the next worker is there; it never answers
    waiting = asyncio.create_task(anext(stream))
    while supervisor.health().state is not WorkerState.READY:
        await asyncio.sleep(0)
    info, last_error = supervisor.info, supervisor.health().last_error
    await supervisor.stop()
    with pytest.raises(ShuttingDown):
        await waiting
    assert crashes == [Crash(-signal.SIGILL, was_ready=True)]
    assert info is not None
    assert (info.name, last_error) == ("extra", "killed by SIGILL; plain is given up")


async def test_a_stop_does_not_wait_for_a_load(config: WorkerConfig) -> None:
    # a load without end
    command = [sys.executable, "-m", "tests.worker.scripted_worker", "plain:load:SIGSTOP"]
    supervisor = Supervisor(config, Patience(stop_s=3600.0), command=command)
    starting = asyncio.create_task(supervisor.start())
    while supervisor.health().pid is None:
        await asyncio.sleep(0)
    pid = worker_pid(supervisor)
    await asyncio.wait_for(supervisor.stop(), 60)
    assert not psutil.pid_exists(pid)
    with pytest.raises(LoadFailed):
        await starting


async def test_the_end_of_supervision_is_reported_to_whoever_waits_for_it(
    config: WorkerConfig,
) -> None:
    def on_crash(_crash: Crash) -> Remedy | None:
        raise ValueError("no remedy is known")

    command = [sys.executable, "-m", "tests.worker.scripted_worker", "plain:request:SIGILL"]
    supervisor = Supervisor(config, PATIENCE, on_crash, command)
    await supervisor.start()
    failing = asyncio.create_task(supervisor.failed())
    with pytest.raises(WorkerLost):
        await ask(supervisor, text("x"))
    with pytest.raises(
        WorkerLost, match="no longer served: the supervisor failed: no remedy is known"
    ):
        await asyncio.wait_for(failing, 60)
    await supervisor.stop()


def test_a_child_tied_to_its_parent_dies_with_it() -> None:
    """Also where it reads nothing: here it only sleeps."""
    child = (
        "from appliance.worker.child.lifeline import die_with_parent; die_with_parent(); "
        "print(1, flush=True); input()"
    )
    parent = f"""
import sys
from subprocess import PIPE, Popen
child = Popen([sys.executable, "-c", {child!r}], stdin=PIPE, stdout=PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.readline()
"""
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        grandchild = psutil.Process(int(process.stdout.readline()))
        os.kill(grandchild.pid, signal.SIGSTOP)  # it could not even notice the end of its input
        process.kill()
        gone, _ = psutil.wait_procs([grandchild], timeout=30)
    assert gone


async def test_a_worker_that_refuses_its_model_says_why_to_who_may_know_a_remedy(
    config: WorkerConfig, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    crashes: list[Crash] = []
    config = msgspec.structs.replace(config, model_path=str(broken))
    supervisor = Supervisor(config, PATIENCE, crashes.append)  # append's None is no remedy
    with pytest.raises(LoadFailed, match=r"broken\.gguf"):
        await supervisor.start()
    await supervisor.stop()
    (crash,) = crashes
    assert not crash.was_ready
    assert "broken.gguf" in (crash.load_error or "")
