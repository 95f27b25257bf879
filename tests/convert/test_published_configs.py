"""Config files as people have them: what they leave out, and how they spell what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from convert.__main__ import main
from convert.errors import UnsupportedModel
from convert.pipeline import Job, convert
from tests.convert.checkpoints import change_config, golden_checkpoint


def convert_to_f32(source: Path, out: Path) -> Path:
    job = Job(source=source, directory=out, name="model", types=("F32",), num_threads=1)
    return convert(job)[0].path


def value(path: Path, key: str) -> Any:
    return GGUFReader(path).fields[key].contents()


def with_numbers_as_floats(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {key: with_numbers_as_floats(item) for key, item in entry.items()}
    if isinstance(entry, list):
        return [with_numbers_as_floats(item) for item in entry]
    return float(entry) if type(entry) is int else entry


@pytest.mark.parametrize(
    ("name", "architecture", "theta"),
    [
        ("llama2", "llama", 1e4),
        ("mistral", "llama", 1e4),
        ("mixtral", "llama", 1e6),
        ("qwen2_moe", "qwen2moe", 1e4),
        ("qwen3_moe", "qwen3moe", 1e4),
        ("gemma", "gemma", 1e4),
        ("gemma2", "gemma2", 1e4),
        ("gemma3", "gemma3", 1e6),
        ("phi4_mini", "phi3", 1e4),
        ("smollm3", "smollm3", 2e6),
    ],
)
@pytest.mark.parametrize("null", [False, True])
def test_the_base_of_the_rotation_that_a_config_leaves_out(
    name: str, architecture: str, theta: float, null: bool, tmp_path: Path
) -> None:
    """`default_theta` of transformers' configuration classes."""
    source = golden_checkpoint(name, tmp_path / name)

    def leave_out(config: dict[str, Any]) -> None:
        for key in ("rope_theta", "rope_parameters", "rope_scaling"):
            config.pop(key, None)
        if null:
            config["rope_theta"] = None
            config["rope_parameters"] = {"rope_type": "default", "rope_theta": None}

    change_config(source, leave_out)
    assert value(convert_to_f32(source, tmp_path), f"{architecture}.rope.freq_base") == theta


@pytest.mark.parametrize("name", ["smollm3", "gemma2", "phi3"])
def test_numbers_with_a_point_and_a_byte_order_mark(name: str, tmp_path: Path) -> None:
    source = golden_checkpoint(name, tmp_path / name)
    expected = convert_to_f32(source, tmp_path / "plain").read_bytes()

    def spell(config: dict[str, Any]) -> None:
        config.update(with_numbers_as_floats(config))

    change_config(source, spell)
    for path in source.glob("*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert '"hidden_size": 64.0' in (source / "config.json").read_text(encoding="utf-8-sig")
    assert convert_to_f32(source, tmp_path / "spelled").read_bytes() == expected


def test_the_end_token_of_a_config_with_a_point(tmp_path: Path) -> None:
    source = golden_checkpoint("llama2", tmp_path / "llama2")
    (source / "tokenizer_config.json").unlink()
    change_config(source, lambda config: config.update(eos_token_id=[257.0]))
    path = convert_to_f32(source, tmp_path)
    assert value(path, "tokenizer.ggml.eos_token_id") == 257


def plan_notes(source: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the user is told, from the headers alone."""
    assert main(["plan", str(source), "--types", "F32", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert isinstance(notes, list)
    return notes


YARN = {"type": "yarn", "factor": 4.0}
DYNAMIC = {"type": "dynamic", "factor": 4.0}


@pytest.mark.parametrize(
    ("scaling", "stated", "context_length"),
    [
        # as the model cards of Qwen say to switch YaRN on
        ({**YARN, "original_max_position_embeddings": 2048}, 2048, 8192),
        ({**YARN, "original_max_position_embeddings": 2048}, 2560, 8192),
        ({**YARN, "original_max_position_embeddings": 2048}, 8192, 8192),
        # no smaller than what the config states, and not guessed
        ({**YARN, "original_max_position_embeddings": 32}, 2048, 2048),
        (YARN, 2048, 2048),
        ({"type": "yarn", "original_max_position_embeddings": 512}, 2048, 2048),
        (DYNAMIC, 2048, 2048),
        ({**DYNAMIC, "original_max_position_embeddings": 512}, 2048, 512),
    ],
)
@pytest.mark.parametrize("newer", [{}, {"rope_theta": 10000.0, "rope_type": "default"}])
def test_the_context_of_scaled_rotations(
    newer: dict[str, Any],
    scaling: dict[str, Any],
    stated: int,
    context_length: int,
    tmp_path: Path,
) -> None:
    """Also where `rope_scaling` was added to a checkpoint of the newer layout."""
    source = golden_checkpoint("qwen2", tmp_path / "qwen2")
    change_config(
        source,
        lambda config: (
            config.update(
                rope_scaling=scaling, max_position_embeddings=stated, use_sliding_window=False
            )
            or config.update(rope_parameters=newer)
            or config.pop("layer_types", None)
        ),
    )
    path = convert_to_f32(source, tmp_path)
    assert value(path, "qwen2.context_length") == context_length
    if scaling["type"] == "yarn":
        assert value(path, "qwen2.rope.scaling.factor") == 4.0
        original = scaling.get("original_max_position_embeddings", stated)
        assert value(path, "qwen2.rope.scaling.original_context_length") == original
    else:
        assert "qwen2.rope.scaling.type" not in GGUFReader(path).fields


def test_dynamic_scaling_is_none_within_the_original_context(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = golden_checkpoint("llama2", tmp_path / "llama2")
    expected = convert_to_f32(source, tmp_path / "plain").read_bytes()
    assert plan_notes(source, capsys) == []
    change_config(source, lambda config: config.update(rope_scaling=DYNAMIC))
    (note,) = plan_notes(source, capsys)
    assert note.startswith("The context ends at 512 tokens")
    assert "'dynamic'" in note
    assert convert_to_f32(source, tmp_path / "dynamic").read_bytes() == expected


@pytest.mark.parametrize(
    ("window", "context_length"), [({}, 4096), ({"sliding_window": None}, 8192)]
)
def test_a_window_that_a_config_of_mistral_leaves_out_is_not_none(
    window: dict[str, Any],
    context_length: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = golden_checkpoint("mistral", tmp_path / "mistral")

    def leave_out(config: dict[str, Any]) -> None:
        config.pop("sliding_window")
        config.update(max_position_embeddings=8192, **window)

    change_config(source, leave_out)
    path = convert_to_f32(source, tmp_path)
    assert value(path, "llama.context_length") == context_length
    cut = [note for note in plan_notes(source, capsys) if "4096 tokens instead of 8192" in note]
    assert len(cut) == (context_length == 4096)


def test_the_scale_of_experts_that_a_config_of_deepseek_leaves_out(tmp_path: Path) -> None:
    source = golden_checkpoint("deepseek_v3", tmp_path / "deepseek_v3")
    change_config(source, lambda config: config.pop("routed_scaling_factor"))
    path = convert_to_f32(source, tmp_path)
    assert value(path, "deepseek2.expert_weights_scale") == 2.5


def test_where_longrope_begins_is_said_outside_of_it(tmp_path: Path) -> None:
    """As transformers has it, where both say something."""
    source = golden_checkpoint("phi4_mini", tmp_path / "phi4_mini")
    expected = convert_to_f32(source, tmp_path / "plain").read_bytes()
    change_config(
        source,
        lambda config: config["rope_parameters"].update(original_max_position_embeddings=64),
    )
    assert convert_to_f32(source, tmp_path / "other").read_bytes() == expected


def test_exaone_with_a_window_that_no_layer_has_is_refused(tmp_path: Path) -> None:
    """transformers rotates no layer of such a model."""
    source = golden_checkpoint("exaone4", tmp_path / "exaone4")
    change_config(source, lambda config: config.update(sliding_window=4096))
    with pytest.raises(UnsupportedModel, match="set sliding_window to null"):
        convert_to_f32(source, tmp_path / "out")


@pytest.mark.parametrize("factor", [None, 1, 2.0])
def test_lfm2_with_scaled_experts_is_refused(factor: float | None, tmp_path: Path) -> None:
    source = golden_checkpoint("lfm2_moe", tmp_path / "lfm2_moe")
    change_config(source, lambda config: config.pop("routed_scaling_factor", None))
    if factor is not None:
        change_config(source, lambda config: config.update(routed_scaling_factor=factor))
    if factor != 2.0:
        assert convert_to_f32(source, tmp_path / "out").exists()
        return
    with pytest.raises(UnsupportedModel, match=r"routed_scaling_factor = 2\.0"):
        convert_to_f32(source, tmp_path / "out")
