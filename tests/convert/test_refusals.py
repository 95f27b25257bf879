"""Bad input: exit 2 with the reason, and nothing left that looks whole."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.__main__ import main
from convert.errors import BadInput
from convert.writer import OutputFile
from tests.convert.checkpoints import (
    Shape,
    random_tensors,
    write_checkpoint,
    write_safetensors,
)


def assert_refused(
    source: Path, out: Path, capsys: pytest.CaptureFixture[str], *parts: str, options: str = ""
) -> None:
    assert main([str(source), "--out", str(out), *options.split()]) == 2
    message = capsys.readouterr().err
    for part in parts:
        assert part in message
    assert not out.exists() or not list(out.iterdir())


def change_config(source: Path, **changes: Any) -> None:
    path = source / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def truncate(source: Path) -> None:
    shard = source / "model-00002-of-00003.safetensors"
    os.truncate(shard, shard.stat().st_size - 10)


def lie_about_offsets(source: Path) -> None:
    path = source / "model-00001-of-00003.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__")
    header[name]["shape"] = [1, *header[name]["shape"], 2]
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data[8 + length :])


def change_tokenizer(source: Path, **changes: Any) -> None:
    path = source / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def add_token(source: Path, content: object) -> None:
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    end = tokenizer["added_tokens"][0]
    change_tokenizer(source, added_tokens=[end, {**end, "id": end["id"] + 1, "content": content}])


def forget_a_type(source: Path) -> None:
    path = source / "model-00001-of-00003.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"dtype": "BF16"', b'"dtype": []    ', 1))


def write_half_a_character(source: Path) -> None:
    """As JSON may have it: one of the two surrogates that a character outside the basic
    plane consists of.
    """
    path = source / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": "\ud83d"}))


def point_outside(source: Path) -> None:
    path = source / "model.safetensors.index.json"
    weight_map = json.loads(path.read_text())["weight_map"]
    path.write_text(
        json.dumps({"weight_map": {name: "../" + shard for name, shard in weight_map.items()}})
    )


def write_nan(source: Path) -> None:
    path = source / "model.safetensors.index.json"
    tensors = random_tensors(Shape(num_layers=2))
    tensors["model.layers.1.mlp.up_proj.weight"][5, 7] = np.nan
    write_safetensors(source / "model.safetensors", tensors, "F32")
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (lambda s: (s / "config.json").unlink(), ["config.json is missing"]),
        (
            lambda s: (s / "tokenizer.json").unlink(),
            ["tokenizer.json nor tokenizer.model nor vocab.txt"],
        ),
        (
            lambda s: (s / "model-00003-of-00003.safetensors").unlink(),
            ["model-00003-of-00003.safetensors is missing"],
        ),
        (truncate, ["model-00002-of-00003.safetensors is truncated"]),
        (lie_about_offsets, ["model-00001-of-00003.safetensors has an inconsistent header"]),
        (
            point_outside,
            [
                "'../model-00001-of-00003.safetensors'",
                "not the name of a safetensors file in the same folder",
            ],
        ),
        (write_nan, ["blk.1.ffn_up.weight contains NaN"]),
        (lambda s: (s / "config.json").write_text("{"), ["config.json is not valid JSON"]),
        (
            lambda s: (s / "config.json").write_text("[" * 100_000),
            ["config.json is not valid JSON"],
        ),
        (
            lambda s: change_config(s, architectures=["OPTForCausalLM"]),
            ["OPTForCausalLM", "docs/guide/convert.md (Supported checkpoints)"],
        ),
        (
            lambda s: change_config(s, hidden_size=128),
            ["shape [260, 64], but config.json implies [260, 128]"],
        ),
        (
            lambda s: change_config(s, num_hidden_layers=3),
            ["does not contain the tensor model.layers.2.input_layernorm.weight"],
        ),
        (
            lambda s: change_config(s, num_hidden_layers=1),
            ["9 tensors", "model.layers.1.input_layernorm.weight"],
        ),
        (
            lambda s: change_config(s, rope_scaling={"rope_type": "longrope"}),
            ["'longrope'", "linear, yarn, dynamic, llama3"],
        ),
        (lambda s: change_config(s, num_attention_heads=0), ["num_attention_heads = 0"]),
        (
            lambda s: (s / "chat_template.json").symlink_to("chat_template.json"),
            ["points back to itself"],
        ),
        (
            lambda s: (s / "chat_template.jinja").mkdir(),
            ["chat_template.jinja cannot be read: Is a directory"],
        ),
        (write_half_a_character, ["contains half a character"]),
        (lambda s: change_tokenizer(s, model="x"), ["a tokenizer file is malformed"]),
        (lambda s: add_token(s, 5), ["the list of added tokens is malformed", "5 is not a string"]),
        (forget_a_type, ["stores model.embed_tokens.weight as [], but only F32, F16, BF16"]),
        (lambda s: (s / "tokenizer_config.json").unlink(), ["end-of-sequence"]),
    ],
)
def test_bad_checkpoints(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    parts: list[str],
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(num_layers=2), num_shards=3)
    damage(source)
    assert_refused(source, tmp_path / "out", capsys, *parts)


def test_biases_that_config_does_not_tell_of_say_how_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(attention_bias=True))
    change_config(source, attention_bias=None)
    first = "model.layers.0.self_attn.k_proj.bias"
    way_out = "set attention_bias to true in config.json"
    assert_refused(source, tmp_path / "out", capsys, first, way_out)
    # without that of the output, the switch would not be the way out
    write_checkpoint(source, Shape(architecture="Qwen2ForCausalLM"))
    change_config(source, architectures=["LlamaForCausalLM"])
    assert_refused(source, tmp_path / "out", capsys, first, "save the model without it")


def test_pickled_weights_are_refused_unopened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    assert_refused(source, tmp_path / "out", capsys, "pickle", "safetensors version")


def cache_layout(tmp_path: Path) -> Path:
    """A checkpoint as the Hugging Face cache keeps it:
    links from a snapshot to blobs.
    """
    blobs, snapshot = (
        tmp_path / "models--x" / "blobs",
        tmp_path / "models--x" / "snapshots" / "0a1b",
    )
    blobs.mkdir(parents=True)
    write_checkpoint(snapshot, Shape())
    for index, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / f"hash{index}")
        path.symlink_to(Path("..") / ".." / "blobs" / f"hash{index}")
    return snapshot


def test_links_into_the_cache_are_followed_and_others_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = cache_layout(tmp_path)
    assert main([str(snapshot), "--out", str(tmp_path / "out"), "--types", "Q8_0"]) == 0
    secret = tmp_path / "secret"
    secret.write_text("private")
    (snapshot / "chat_template.jinja").symlink_to(secret)
    assert_refused(
        snapshot,
        tmp_path / "refused",
        capsys,
        "chat_template.jinja is a symbolic link to",
        "outside the checkpoint",
    )
    (snapshot / "chat_template.jinja").unlink()
    (snapshot / "chat_template.jinja").symlink_to(snapshot / ".." / ".." / "blobs" / "gone")
    assert_refused(snapshot, tmp_path / "refused", capsys, "which is missing")
    (snapshot / "chat_template.jinja").unlink()
    os.mkfifo(snapshot / "chat_template.jinja")
    assert_refused(snapshot, tmp_path / "refused", capsys, "not a regular file")


def test_a_whole_file_goes_before_an_index_as_in_transformers(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(), num_shards=2)
    write_checkpoint(source, Shape())
    for shard in source.glob("model-*"):
        shard.unlink()
    assert main([str(source), "--out", str(tmp_path / "out"), "--types", "Q8_0"]) == 0


def test_outputs_that_cannot_be_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_checkpoint(tmp_path / "source", Shape()), tmp_path / "out"
    (out / "source-Q8_0.gguf").mkdir(parents=True)
    assert main([str(source), "--out", str(out), "--types", "F16,Q8_0"]) == 2
    assert "source-Q8_0.gguf is a directory" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["source-Q8_0.gguf"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # as a file system with a limit of its own
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(BadInput, match="cannot be written: File too large"):
            OutputFile(tmp_path / "large.gguf", (1 << 20) + 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.glob(".large*"))


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_checkpoint(tmp_path / "source", Shape())
    assert_refused(
        source, tmp_path / "out", capsys, "Q9_Z", "Q4_K_M, Q4_0", options="--types Q8_0,Q9_Z"
    )
    assert_refused(
        source, tmp_path / "out", capsys, "must be a plain file name", options="--name ../x"
    )
    assert_refused(
        source,
        tmp_path / "out",
        capsys,
        "must be a plain file name (got 'caf\\udce9')",
        options="--name caf\udce9",
    )
    for length in (240, 300):  # as a file's name, and already without what is put around it
        assert_refused(
            source,
            tmp_path / "out",
            capsys,
            "too long a name for a file there. Choose a shorter one with --name",
            options="--name " + "a" * length,
        )
    assert_refused(
        source,
        tmp_path / "out",
        capsys,
        "must be a size such as 800M or 1.5G (got 'lots')",
        options="--max-ram lots",
    )
    assert_refused(source, tmp_path / "out", capsys, "999')", options="--max-ram " + "9" * 400)
    assert_refused(
        source,
        tmp_path / "out",
        capsys,
        "(got 20 MiB)",
        options="--max-ram 20M",
    )
    assert_refused(tmp_path / "nowhere", tmp_path / "out", capsys, "nowhere is not a directory")


def test_values_beyond_a_type_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "source", Shape(stored_type="F32"))
    tensors = random_tensors(Shape())
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    write_safetensors(source / "model.safetensors", tensors, "F32")
    assert_refused(
        source,
        tmp_path / "out",
        capsys,
        "blk.0.ffn_up.weight",
        "too large for F16",
        options="--types F16",
    )
    assert main([str(source), "--out", str(tmp_path / "out"), "--types", "BF16"]) == 0
