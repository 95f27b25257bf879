"""Families whose tensors are held otherwise than llama.cpp wants them: golden checkpoints,
converted and run by llama.cpp, say what transformers says, and are quantized as llama.cpp
does it. As test_families.py and test_bit_exact.py, for all of them in one pass, which
costs a start of llama.cpp only twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray

from convert.__main__ import main
from convert.pipeline import Job, convert
from tests.convert import llama_tools
from tests.convert.checkpoints import (
    ENCODERS,
    NEWER_NAMES,
    change_config,
    golden_checkpoint,
    golden_folder,
)

MAX_DIFFERENCE = 1e-3  # of log-probabilities
DECODERS = [name for name in NEWER_NAMES if name not in ENCODERS]
QUANTIZED = ("F16", "Q8_0", "Q4_K_M", "Q2_K")
COMPUTED = ("falcon_h1",)  # whose weights are products, which BF16 does not hold


def contents(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        tensor.name: (tensor.tensor_type.name, shape_of(tensor), tensor.data.tobytes())
        for tensor in GGUFReader(path).tensors
    }


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Without outer axes of 1, which llama.cpp does not write again."""
    shape = [int(size) for size in tensor.shape]
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return tuple(shape)


def reference(name: str) -> dict[str, NDArray[Any]]:
    return dict(np.load(golden_folder(name) / "reference.npz"))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """Each family's files by type."""
    folder = tmp_path_factory.mktemp("newer")
    files = {}
    for name in NEWER_NAMES:
        job = Job(
            source=golden_checkpoint(name, folder / name),
            directory=folder,
            name=name,
            types=("F32", "BF16", *QUANTIZED),
            num_threads=1,
        )
        files[name] = {file.type: file.path for file in convert(job)}
    return files


@pytest.fixture(scope="module")
def computed(converted: dict[str, dict[str, Path]]) -> dict[Path, NDArray[np.float64]]:
    return llama_tools.log_probs_of_many(
        {converted[name]["F32"]: reference(name)["tokens"] for name in DECODERS}
    )


@pytest.fixture(scope="module")
def quantized(converted: dict[str, dict[str, Path]]) -> dict[str, dict[str, Path]]:
    """The same types, as llama.cpp makes them of the unquantized files."""
    theirs = {
        name: {kind: Path(f"{files[kind]}.theirs") for kind in QUANTIZED}
        for name, files in converted.items()
    }
    own = {name: "F32" if name in COMPUTED else "BF16" for name in converted}
    llama_tools.quantize_many((converted[name][own[name]], theirs[name]) for name in theirs)
    return theirs


@pytest.mark.parametrize("name", DECODERS)
def test_log_probs_are_those_of_transformers(
    name: str,
    converted: dict[str, dict[str, Path]],
    computed: dict[Path, NDArray[np.float64]],
) -> None:
    assert converted[name]["F32"] in computed, "llama.cpp refused it"
    actual, expected = computed[converted[name]["F32"]], reference(name)["log_probs"]
    assert np.abs(actual - expected).max() < MAX_DIFFERENCE
    assert (actual.argmax(axis=1) == expected.argmax(axis=1)).all()


FAULTS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "part of a head that rotates": (
        "qwen35",
        lambda config: config["text_config"]["rope_parameters"].update(partial_rotary_factor=0.5),
    ),
    "which experts": ("qwen3_next", lambda config: config.update(num_experts_per_tok=1)),
    "window": ("gpt_oss", lambda config: config.update(sliding_window=24)),
    "yarn of some layers": (
        "olmo3",
        lambda config: config["rope_parameters"]["full_attention"].update(factor=8.0),
    ),
    "a multiplier": ("granite", lambda config: config.update(residual_multiplier=0.25)),
    "the state's multipliers": (
        "falcon_h1",
        lambda config: config["ssm_multipliers"].reverse(),
    ),
    "groups of experts": ("deepseek_v3", lambda config: config.update(topk_group=2)),
    "magnitude of scores": (
        "deepseek_v3",
        lambda config: config["rope_parameters"].update(mscale=0.7, mscale_all_dim=0.7),
    ),
    "base of sliding layers": (
        "gemma4_small",
        lambda config: config["rope_parameters"]["sliding_attention"].update(rope_theta=900.0),
    ),
    "alpha of the rotation": (
        "hunyuan",
        lambda config: config["rope_parameters"].update(alpha=500.0),
    ),
    "parallel residual": ("gpt_neox", lambda config: config.update(use_parallel_residual=False)),
    "growth of queries": (
        "ministral3",
        lambda config: config["rope_parameters"].update(llama_4_scaling_beta=0.2),
    ),
    "window of a layer that others use": (
        "gemma3n",
        lambda config: config.update(sliding_window=24),
    ),
    "scale of logits": ("cohere2", lambda config: config.update(logit_scale=0.3)),
}


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[np.float64]]:
    """Log-probabilities with each fault."""
    folder, files = tmp_path_factory.mktemp("spoiled"), {}
    for index, (fault, (name, spoil)) in enumerate(FAULTS.items()):
        source = golden_checkpoint(name, folder / str(index))
        change_config(source, spoil)
        job = Job(source=source, directory=folder, name=f"{index}", types=("F32",), num_threads=1)
        files[fault] = convert(job)[0].path
    computed = llama_tools.log_probs_of_many(
        {files[fault]: reference(name)["tokens"] for fault, (name, _) in FAULTS.items()}
    )
    return {fault: computed[path] for fault, path in files.items()}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_would_show(fault: str, spoiled: dict[str, NDArray[np.float64]]) -> None:
    expected = reference(FAULTS[fault][0])["log_probs"]
    assert np.abs(spoiled[fault] - expected).max() > 10 * MAX_DIFFERENCE


@pytest.mark.parametrize(
    ("name", "atol"),
    [
        ("nomic_bert", 1e-4),
        ("modern_bert", 3e-4),
        ("jina_bert", 3e-4),
        ("jina_bert_code", 3e-4),
        ("embedding_gemma", 1e-3),
    ],
)
def test_embeddings_are_those_of_transformers(
    name: str, atol: float, converted: dict[str, dict[str, Path]]
) -> None:
    expected = reference(name)
    model = converted[name]["F32"]
    actual = llama_tools.embedding(model, expected["tokens"], "MEAN")
    np.testing.assert_allclose(actual, expected["mean"], atol=atol)


@pytest.mark.parametrize("name", NEWER_NAMES)
def test_types_and_data_are_those_of_llama_cpp(
    name: str, converted: dict[str, dict[str, Path]], quantized: dict[str, dict[str, Path]]
) -> None:
    for kind, theirs in quantized[name].items():
        ours, expected = contents(converted[name][kind]), contents(theirs)
        assert {n: t[:2] for n, t in ours.items()} == {n: t[:2] for n, t in expected.items()}, kind
        assert ours == expected, kind


def test_mxfp4_is_taken_over_as_it_is(
    converted: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    """gpt-oss' experts: chosen rows of a fused tensor, in the blocks in which they came."""
    source = golden_checkpoint("gpt_oss_mxfp4", tmp_path / "source")
    job = Job(source=source, directory=tmp_path, name="m", types=("SOURCE",), num_threads=1)
    kept = {tensor.name: tensor for tensor in GGUFReader(convert(job)[0].path).tensors}
    plain = GGUFReader(converted["gpt_oss_mxfp4"]["F32"]).tensors
    experts = [tensor for tensor in plain if tensor.name.endswith("_exps.weight")]
    assert len(experts) == 2 * 3
    for tensor in experts:
        blocks = kept[tensor.name]
        assert blocks.tensor_type.name == "MXFP4"
        values = dequantize(blocks.data, blocks.tensor_type).reshape(tensor.data.shape)
        np.testing.assert_array_equal(values, tensor.data)


def test_tokens_of_images_and_sound_have_the_first_ones_row(
    converted: dict[str, dict[str, Path]],
) -> None:
    """Gemma 3n has no row of a layer's embedding for them; transformers takes the first."""
    tensors = {
        tensor.name: tensor.data for tensor in GGUFReader(converted["gemma3n"]["F32"]).tensors
    }
    table = tensors["per_layer_token_embd.weight"]
    assert len(table) == 272
    np.testing.assert_array_equal(table[264:], np.tile(table[0], (8, 1)))
    assert (table[1:264] != table[0]).any(axis=1).all()


def test_a_note_says_that_only_the_part_that_writes_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = golden_checkpoint("qwen35", tmp_path / "source")
    assert main(["plan", str(source), "--types", "F32", "--json"]) == 0
    assert any("part that writes" in note for note in json.loads(capsys.readouterr().out)["notes"])
