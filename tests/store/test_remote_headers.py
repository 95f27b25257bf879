"""What is known of a model before it is fetched is what is known of it afterwards."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from appliance.errors import BadModelFile
from appliance.store.gguf_header import read_header, read_header_from
from appliance.store.hub.client import RemoteStream, list_repository
from appliance.store.hub_contents import HubGguf
from appliance.store.remote_headers import plan_conversion, read_remote_header
from tests.convert.checkpoints import Shape, write_checkpoint
from tests.store.hub_server import HubServer
from tests.store.samples import Sample, write_sample

TYPES = ("Q8_0", "Q4_K_M", "Q2_K")


def test_a_remote_header_is_the_files_own(hub: HubServer, tmp_path: Path) -> None:
    file = write_sample(tmp_path / "a.gguf", Sample(tokens=70_000))
    hub.add("org/a", {"a.gguf": file.read_bytes()})
    repository = list_repository("org/a")
    hub.requests.clear()

    model = HubGguf("a.gguf", repository.files)
    header = read_remote_header(repository, model, tmp_path)

    assert header == read_header(file)
    assert 1 << 20 < header.data_offset < 2 << 20
    asked = [request.range for request in hub.requests if request.path.startswith("/lfs/")]
    assert asked == ["bytes=0-1048575", "bytes=1048576-2097151"], (
        "of 20 MB, so much as the header needs"
    )


def test_numbers_for_each_layer_are_known_without_the_file(tmp_path: Path) -> None:
    path = tmp_path / "layers.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_head_count_kv([2, 4])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()

    header = read_header_from(
        io.BytesIO(path.read_bytes()), tmp_path / "elsewhere.gguf", path.stat().st_size
    )

    assert header.integers("llama.attention.head_count_kv", 2) == (2, 4)


def test_a_stream_gives_what_was_asked_for_and_ends_with_the_file(hub: HubServer) -> None:
    hub.add("org/a", {"a.gguf": b"0123456789"})
    repository = list_repository("org/a")
    stream = RemoteStream(repository, repository.files[0])

    assert [stream.read(4), stream.read(4), stream.read(4), stream.read(4)] == [
        b"0123",
        b"4567",
        b"89",
        b"",
    ]


@pytest.mark.parametrize("num_shards", [1, 2])
def test_a_planned_conversion_is_the_conversion(
    num_shards: int, hub: HubServer, tmp_path: Path
) -> None:
    shape = Shape(hidden=256, feed_forward=512, num_layers=3)
    source = write_checkpoint(tmp_path / "tiny", shape, num_shards=num_shards)
    hub.add("org/tiny", {path.name: path.read_bytes() for path in source.iterdir()})
    out = tmp_path / "out"

    planned = plan_conversion(list_repository("org/tiny"), TYPES, out, "tiny")

    assert not [name for name, _ in hub.downloads() if name.endswith(".safetensors")], (
        "only their headers"
    )
    command = [
        sys.executable,
        "-m",
        "convert",
        str(source),
        "--out",
        str(out),
        "--types",
        ",".join(TYPES),
    ]
    subprocess.run(
        [*command, "--no-verify"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert list(planned) == [read_header(out / f"tiny-{type_name}.gguf") for type_name in TYPES]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"architectures": ["Nonesuch"]}', "org/tiny cannot be converted .*Nonesuch"),
        ("[]", "org/tiny cannot be"),
    ],
)
def test_what_cannot_be_converted_is_reported_before_it_is_fetched(
    config: str, message: str, hub: HubServer, tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / "tiny", Shape())
    (source / "config.json").write_text(config)
    hub.add("org/tiny", {path.name: path.read_bytes() for path in source.iterdir()})

    with pytest.raises(BadModelFile, match=message):
        plan_conversion(list_repository("org/tiny"), TYPES, tmp_path, "tiny")


def test_weights_that_are_no_safetensors_are_reported(hub: HubServer, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "tiny", Shape())
    (source / "model.safetensors").write_bytes(b"\xff" * 100)
    hub.add("org/tiny", {path.name: path.read_bytes() for path in source.iterdir()})

    with pytest.raises(
        BadModelFile, match=r"model\.safetensors of org/tiny is not a safetensors file"
    ):
        plan_conversion(list_repository("org/tiny"), TYPES, tmp_path, "tiny")
