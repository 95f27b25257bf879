"""A real worker on the real embedded model, driven as the gateway drives it: answers,
limits, cancels, prefixes.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import msgspec
import pytest

from appliance.errors import BadRequest, PromptSize, PromptTooLong
from appliance.protocol.events import Delta, FinishReason
from appliance.protocol.questions import DescribeText, Detokenize, RenderChat, Tokenize
from appliance.protocol.requests import ChatPrompt, GenerateRequest, TextPrompt, TokenPrompt
from appliance.protocol.sampling import SamplingParams
from appliance.worker.config import WorkerConfig
from tests.conftest import Embedded
from tests.worker.running import (
    ENDLESS,
    GREEDY,
    ask,
    config,
    next_heartbeat,
    resized,
    running,
    text,
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
    assert described.pieces == [b"<|endoftext|>", b"<|im_end|>", b""]
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
        with pytest.raises(PromptTooLong, match=f"{num_tokens} tokens, and at most 511") as refused:
            await ask(supervisor, text(long))
        assert refused.value.prompt_size == PromptSize(num_tokens, 512)
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


async def test_whoever_leaves_at_any_moment_of_the_beginning_has_left(
    config: WorkerConfig,
) -> None:
    async with running(msgspec.structs.replace(config, ctx=2000)) as supervisor:
        for num_turns in range(8):
            asking = asyncio.create_task(ask(supervisor, text("It was", max_tokens=1900)))
            for _ in range(num_turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait((asking,))
            assert asking.cancelled(), num_turns


async def test_a_prompt_that_cannot_fit_is_refused_before_it_is_tokenized(
    config: WorkerConfig,
) -> None:
    chat = ChatPrompt(messages=[{"role": "user", "content": "<|im_start|>x" * 100_000}])
    async with running(config) as supervisor:
        with pytest.raises(
            PromptTooLong, match=r"maximum context length is 512 tokens\. .* at least"
        ) as refused:
            await ask(supervisor, GenerateRequest(prompt=chat))
    assert refused.value.param == "messages"
    size = refused.value.prompt_size
    assert size is not None
    assert (size.num_tokens > 512, size.ctx) == (True, 512)


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
