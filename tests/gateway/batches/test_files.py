"""Files: kept, found again by their caller alone, within a budget, for a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.errors import BadRequest, BodyTooLarge, NotFound
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.batches.batches import open_batches
from appliance.gateway.batches.paging import PageQuery
from tests.gateway.batches.house import ANN, AWAIT_S, START_S, BatchHouse, Words

BOB = Caller("bob")
BLOCK = 4096


async def test_a_file_is_its_callers_alone(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path)
    files = house.batches.files
    file_id = await house.upload(b"one\n")
    found = await files.find(ANN.id, file_id)
    assert (found.num_bytes, found.expires_at) == (4, START_S + 30 * 86_400)
    assert files.path_of(file_id).read_bytes() == b"one\n"
    assert files.path_of(file_id).stat().st_mode & 0o777 == 0o600
    for wait in (files.find(BOB.id, file_id), files.delete(BOB.id, file_id)):
        with pytest.raises(NotFound):
            await wait
    await files.delete(ANN.id, file_id)
    assert [*house.folder.iterdir()] == []
    with pytest.raises(NotFound):
        await files.find(ANN.id, file_id)
    await house.batches.close()


async def test_pages_in_both_orders(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path)
    files = house.batches.files
    ids = [await house.upload(b"") for _ in range(5)]
    await house.upload(b"", BOB)

    async def pages(*, is_ascending: bool) -> list[list[str]]:
        found, after, has_more = [], None, True
        while has_more:
            query = PageQuery(limit=2, after=after, is_ascending=is_ascending)
            page = await files.page(ANN.id, query, None)
            found.append([file.id for file in page.items])
            after, has_more = found[-1][-1], page.has_more
        return found

    assert await pages(is_ascending=True) == [ids[:2], ids[2:4], ids[4:]]
    assert await pages(is_ascending=False) == [ids[:2:-1], ids[2:0:-1], ids[:1]]
    assert (await files.page(ANN.id, PageQuery(limit=9), "batch_output")).items == []
    with pytest.raises(BadRequest, match="after"):
        await files.page(BOB.id, PageQuery(limit=2, after=ids[0]), None)
    await house.batches.close()


async def test_all_files_together_keep_to_the_budget(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path, budget_bytes=3 * BLOCK)
    await house.upload(b"x" * BLOCK, BOB)
    await house.upload(b"x" * (BLOCK - 1))
    with pytest.raises(BodyTooLarge, match="--files-bytes"):
        await house.upload(b"")
    await house.batches.close()


async def test_uploads_share_what_is_left(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path, budget_bytes=1000)
    files = house.batches.files
    async with files.receiving() as first, files.receiving() as second:
        await first.write(b"x" * 600)
        with pytest.raises(BodyTooLarge, match="--files-bytes"):
            await second.write(b"x" * 500)
    async with files.receiving() as third:
        await third.write(b"x" * 999)
    await house.batches.close()


async def test_nothing_is_left_of_a_file_that_does_not_come_to_its_end(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path, budget_bytes=4 << 20)
    async with house.batches.files.receiving() as upload:
        await upload.write(b"x" * (2 << 20))
        [partial] = house.folder.iterdir()
        assert partial.stat().st_size == 2 << 20
    assert [*house.folder.iterdir()] == []
    assert (await house.batches.files.page(ANN.id, PageQuery(limit=9), None)).items == []
    await house.batches.close()


async def test_no_file_is_larger_than_what_a_batch_reads(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path, budget_bytes=300 << 20)
    house.batches.files.max_file_bytes = 10
    await house.upload(b"x" * 10)
    with pytest.raises(BodyTooLarge, match="larger than 10 bytes"):
        await house.upload(b"x" * 11)
    await house.batches.close()


async def test_lines_wait_for_room_for_their_results(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path, budget_bytes=2 * BLOCK + 2, num_at_once=1)
    async with house.running():
        other = await house.upload(b"")
        batch = await house.create(b"1\n")  # now the files fill the budget
        second = await house.create_of(batch.input_file_id)
        await house.batches.cancel(ANN.id, second.id)
        await house.ended(second)  # so the first has been looked at
        assert house.words.num_answers == {}
        await house.batches.delete_file(ANN.id, other)
        assert (await house.ended(batch)).num_completed == 1


async def test_a_file_that_a_batch_reads_stays(tmp_path: Path) -> None:
    words = Words()
    words.gate.clear()
    house = BatchHouse(tmp_path, words)
    files = house.batches.files
    async with house.running():
        batch = await house.create(b"one\n", window_s=60 * 86_400)
        await asyncio.wait_for(words.has_begun.wait(), AWAIT_S)
        with pytest.raises(BadRequest, match=f"read by the batch {batch.id}"):
            await files.delete(ANN.id, batch.input_file_id)
        house.clock_s += 31 * 86_400
        await files.sweep()
        await files.find(ANN.id, batch.input_file_id)
        words.gate.set()
        batch = await house.ended(batch)
        await files.sweep()
        with pytest.raises(NotFound):
            await files.find(ANN.id, batch.input_file_id)
        [left] = house.folder.iterdir()
        assert left.name == batch.output_file_id


async def test_strays_of_a_process_that_was_killed_are_removed(tmp_path: Path) -> None:
    house = BatchHouse(tmp_path)
    kept = await house.upload(b"one\n")
    for name in (".0123456789abcdef.partial", "file-of-nobody"):
        (house.folder / name).write_bytes(b"x")
    await house.batches.prepare()
    assert [path.name for path in house.folder.iterdir()] == [kept]
    await house.batches.close()


async def test_one_process_has_them_at_a_time(tmp_path: Path) -> None:
    first = open_batches(tmp_path, 1 << 20)
    assert first is not None
    assert open_batches(tmp_path, 1 << 20) is None
    await first.close()
    second = open_batches(tmp_path, 1 << 20)
    assert second is not None
    await second.close()
    assert open_batches(tmp_path / "off", 0) is None
    assert not (tmp_path / "off").exists()
    (tmp_path / "file").write_bytes(b"")
    assert open_batches(tmp_path / "file", 1 << 20) is None
