"""How batches come to their end: validated, answered, cancelled, expired."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.errors import BadRequest, ModelLoading, NotFound, QueueFull, RateLimited
from appliance.gateway.accounts.caller import ANONYMOUS, Caller
from appliance.gateway.batches.records import BatchStatus, LineFault, LineResult
from appliance.gateway.batches.runner import MAX_ATTEMPTS
from appliance.gateway.foreground import Foreground
from tests.gateway.batches.house import ANN, AWAIT_S, START_S, BatchHouse, Words

BOB = Caller("bob")


async def test_each_line_is_answered_once_and_goes_to_one_of_two_files(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path)
    async with house.running():
        batch = await house.create(b"one\ntwo!\n\r\nthree\r\nfour")
        assert (batch.status, batch.expires_at) == (BatchStatus.VALIDATING, START_S + 86_400)
        batch = await house.ended(batch)
        assert batch.status is BatchStatus.COMPLETED
        assert (batch.num_lines, batch.num_completed, batch.num_failed) == (4, 3, 1)
        assert await house.lines(batch) == (
            ["/echo one", "/echo three", "/echo four"],
            ["/echo two!"],
        )
        output = await house.batches.files.find(ANN.id, batch.output_file_id or "")
        assert (output.purpose, output.num_bytes) == ("batch_output", 33)
    assert [*batch.reached] == [
        BatchStatus.IN_PROGRESS,
        BatchStatus.FINALIZING,
        BatchStatus.COMPLETED,
    ]
    assert house.words.num_answers == {"one": 1, "two!": 1, "three": 1, "four": 1}
    assert {*house.words.callers} == {Caller("ann", yields=True)}


async def test_as_many_lines_at_once_as_there_are_slots(tmp_path: Path) -> None:
    words = Words()
    words.gate.clear()
    words.expected_at_once = 3
    house = BatchHouse(tmp_path, words, num_at_once=3)
    async with house.running():
        first, second = await house.create(b"1\n2\n"), await house.create(b"3\n4\n5\n")
        await asyncio.wait_for(words.has_begun.wait(), AWAIT_S)
        words.gate.set()
        assert (await house.ended(first)).num_completed == 2
        assert (await house.ended(second)).num_completed == 3
    assert words.most_at_once == 3


async def test_a_batch_without_failures_has_no_error_file(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path)
    async with house.running():
        batch = await house.ended(await house.create(b"one\n"))
        assert (batch.output_file_id is None, batch.error_file_id) == (False, None)
        failed = await house.ended(await house.create(b"one!\n"))
        assert (failed.output_file_id, failed.error_file_id is None) == (None, False)
        assert failed.status is BatchStatus.COMPLETED


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        (b"", [("empty_file", None)]),
        (b"\n \n", [("empty_file", None)]),
        (b"one\ntwo?\nthree?", [("not_a_word", 2), ("not_a_word", 3)]),
        (b"one\n\none\n", [("duplicate_custom_id", 3)]),
        (b"123456789 123456789 x\none", [("line_too_long", 1)]),
        (b"x" * 100_000 + b"\ntwo?", [("line_too_long", 1), ("not_a_word", 2)]),
    ],
)
async def test_a_file_that_is_no_batch_fails_with_each_line(
    tmp_path: Path, content: bytes, faults: list[tuple[str, int | None]]
) -> None:
    house = BatchHouse(tmp_path)
    async with house.running():
        batch = await house.ended(await house.create(content))
    assert batch.status is BatchStatus.FAILED
    assert [(fault.code, fault.line) for fault in batch.faults] == faults
    assert house.words.num_answers == {}


async def test_a_file_that_somebody_removed_fails(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path)
    batch = await house.create(b"one")
    house.batches.files.path_of(batch.input_file_id).unlink()
    async with house.running():
        batch = await house.ended(batch)
    assert [(fault.code, fault.line) for fault in batch.faults] == [("file_not_found", None)]


async def test_only_so_many_faults_are_told(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path)
    async with house.running():
        batch = await house.ended(await house.create(b"?\n" * 1000))
    assert len(batch.faults) == 100
    assert batch.faults[99] == LineFault(
        code="not_a_word", message="It asks.", line=100, param="word"
    )


async def test_a_line_as_long_as_may_be_is_taken(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path)
    async with house.running():
        batch = await house.ended(await house.create(b"123456789 123456789 \r\none"))
    assert batch.num_completed == 2


async def test_no_line_begins_while_somebody_else_is_answered(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path)
    async with house.running():
        with house.foreground.counted(ANONYMOUS), house.foreground.counted(BOB):
            first = await house.create(b"one\ntwo\n")
            # the second shows that the first has been looked at
            second = await house.ended(await house.create(b"?"))
            assert second.status is BatchStatus.FAILED
            assert house.batches.num_waiting_lines == 2
            assert house.words.num_answers == {}
        assert (await house.ended(first)).num_completed == 2


async def test_who_yields_is_not_in_the_foreground() -> None:
    foreground = Foreground()
    with foreground.counted(Caller("ann", yields=True)):
        assert not foreground.is_present
        await foreground.until_absent()
        with foreground.counted(ANN):
            assert foreground.is_present
            await foreground.until_present()
    assert not foreground.is_present


async def test_batches_are_answered_one_after_the_other(tmp_path: Path) -> None:
    words = Words()
    words.gate.clear()
    house = BatchHouse(tmp_path, words, num_at_once=1)
    async with house.running():
        first = await house.create(b"one\ntwo\n")
        second = await house.create(b"three\n", BOB)
        await asyncio.wait_for(words.has_begun.wait(), AWAIT_S)
        words.gate.set()
        await house.ended(second)
        assert (await house.batches.find(ANN.id, first.id)).status is BatchStatus.COMPLETED
    assert [caller.id for caller in words.callers] == ["ann", "ann", "bob"]


async def test_a_cancelled_batch_keeps_what_was_answered(tmp_path: Path) -> None:
    words = Words()
    house = BatchHouse(tmp_path, words, num_at_once=1)
    async with house.running():
        batch = await house.create(b"one\ntwo\nthree\n")
        await asyncio.wait_for(words.has_begun.wait(), AWAIT_S)
        words.gate.clear()
        while (await house.batches.find(ANN.id, batch.id)).num_completed == 0:
            pass
        cancelling = await house.batches.cancel(ANN.id, batch.id)
        assert cancelling.status is BatchStatus.CANCELLING
        batch = await house.ended(batch)
        assert batch.status is BatchStatus.CANCELLED
        output, errors = await house.lines(batch)
        assert (await house.batches.cancel(ANN.id, batch.id)).status is BatchStatus.CANCELLED
    assert output == [f"/echo {word}" for word in ("one", "two", "three")[: batch.num_completed]]
    assert len(output) + len(errors) == 3
    assert all(error.endswith(": batch_cancelled") for error in errors)
    assert words.num_at_once == 0


async def test_what_has_ended_is_not_cancelled(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path)
    async with house.running():
        batch = await house.ended(await house.create(b"one\n"))
        with pytest.raises(BadRequest, match="A batch that is completed cannot be cancelled"):
            await house.batches.cancel(ANN.id, batch.id)
        with pytest.raises(NotFound):
            await house.batches.cancel(BOB.id, batch.id)


async def test_a_batch_expires_with_what_was_answered(tmp_path: Path) -> None:
    words = Words()
    words.gate.clear()
    house = BatchHouse(tmp_path, words)
    async with house.running():
        batch = await house.create(b"one\ntwo\nthree\n", window_s=60)
        await asyncio.wait_for(words.has_begun.wait(), AWAIT_S)
        house.clock_s += 60
        await house.create(b"?")  # so that the clock is looked at
        batch = await house.ended(batch)
        assert await house.lines(batch) == (
            [],
            ["one: batch_expired", "two: batch_expired", "three: batch_expired"],
        )
    assert (batch.status, batch.output_file_id) == (BatchStatus.EXPIRED, None)
    assert (batch.num_completed, batch.num_failed) == (0, 0)


async def test_a_line_waits_for_its_model_but_not_for_ever(tmp_path: Path) -> None:
    words = Words()
    words.errors = [QueueFull("Full."), ModelLoading("Loading.")]
    house = BatchHouse(tmp_path, words, num_at_once=1)
    async with house.running():
        batch = await house.ended(await house.create(b"one\n"))
        assert (batch.num_completed, house.pauses_s) == (1, [5.0, 10])
        words.errors = [ModelLoading("Loading.")] * MAX_ATTEMPTS
        failed = await house.ended(await house.create(b"two\n"))
        assert await house.lines(failed) == ([], ["two: model_loading"])
    assert (failed.num_failed, words.num_answers["two"]) == (1, MAX_ATTEMPTS)


class _AnnsLimits(Words):
    """Ann may ask again after an hour, so many times."""

    num_refusals = 2 * MAX_ATTEMPTS

    async def answer(self, caller: Caller, endpoint: str, line: bytes) -> LineResult:
        result = await super().answer(caller, endpoint, line)
        if caller.id == ANN.id and self.num_answers[line.decode()] <= self.num_refusals:
            raise RateLimited.after(3600, "Over.")
        return result


async def test_lines_over_their_callers_limits_wait_and_others_do_not(tmp_path: Path) -> None:
    words = _AnnsLimits()
    house = BatchHouse(tmp_path, words, num_at_once=1)
    async with house.running():
        anns = await house.create(b"one\n")
        for num_refusals in range(1, words.num_refusals + 1):
            await asyncio.wait_for(words.has_begun.wait(), AWAIT_S)
            assert (await house.ended(await house.create(b"two\n", BOB))).num_completed == 1
            assert words.num_answers["one"] == num_refusals
            words.has_begun.clear()
            house.clock_s += 3600
            await house.create(b"?", BOB)  # so that the clock is looked at
        assert (await house.ended(anns)).num_completed == 1
    assert (words.num_answers["one"], house.pauses_s) == (words.num_refusals + 1, [])


async def test_a_caller_has_so_many_batches_that_have_not_ended(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path)
    for _ in range(128):
        await house.create(b"")
    with pytest.raises(QueueFull, match="128 batches have not ended"):
        await house.create(b"")
    await house.create(b"", BOB)
    await house.batches.close()
