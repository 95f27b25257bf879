"""A model in several files, as gguf's own writer splits it, answers as the whole one."""

from __future__ import annotations

from pathlib import Path

import msgspec
from gguf import GGUFReader, GGUFValueType, GGUFWriter

from appliance.llama.checks import DryLoads, ReservedBytes
from appliance.protocol.context_sizes import ContextSizes
from appliance.store.servable import read_servable_header
from appliance.worker.child.prefix_files import fingerprint
from appliance.worker.config import WorkerConfig
from tests.worker.running import ask, config, running, text

__all__ = ["config"]


def split(source: Path, target: Path, max_tensors: int) -> list[Path]:
    """The same GGUF in parts of `max_tensors`."""
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture, split_max_tensors=max_tensors)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        sub_type = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(target.parent.glob(f"{target.stem}-*.gguf"))


def as_in_a_cache(parts: list[Path], cache: Path) -> list[Path]:
    """Links to files that are called by their hashes, as Hugging Face's cache has them."""
    blobs, snapshot = cache / "blobs", cache / "snapshots" / "0"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, part in enumerate(parts):
        part.rename(blobs / f"{number:040}")
        (snapshot / part.name).symlink_to(blobs / f"{number:040}")
    return [snapshot / part.name for part in parts]


async def test_it_answers_as_the_whole_model(config: WorkerConfig, tmp_path: Path) -> None:
    whole = Path(config.model_path)
    first, *others = as_in_a_cache(split(whole, tmp_path / "parts.gguf", 20), tmp_path / "cache")
    assert len(others) > 1
    assert len(read_servable_header(first).tensors) == len(read_servable_header(whole).tensors)
    async with running(config) as supervisor:
        expected = await ask(supervisor, text("It was"))
    sizes = ContextSizes(
        kv_cells=256,
        slots=1,
        max_rows=32,
        kv_type="f16",
        threads=1,
        batch_threads=1,
        ubatch_rows=32,
    )
    dry_loads = DryLoads(tmp_path / "dry.json")
    reserved = dry_loads.reserved(whole, sizes)
    assert isinstance(reserved, ReservedBytes), reserved
    assert dry_loads.reserved(first, sizes) == reserved
    in_parts = msgspec.structs.replace(config, model_path=str(first))
    async with running(in_parts) as supervisor:
        assert (await ask(supervisor, text("It was"))).text == expected.text


def test_saved_prefixes_are_of_all_parts(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    for part in parts:
        part.write_bytes(b"GGUF")
    before = fingerprint(parts[0])
    parts[1].write_bytes(b"GGUF2")
    assert fingerprint(parts[0]) != before
