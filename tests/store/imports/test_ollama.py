"""What Ollama keeps is read by its manifests, and nothing that they say is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import BadSettings
from appliance.store.imports.found import FoundModel, inspected
from appliance.store.imports.ollama import ollama_folder, ollama_models
from tests.store.imports.folders import OllamaFolder, write_gguf
from tests.store.samples import Sample, write_sample

LAYER = "application/vnd.ollama.image.model"


@pytest.fixture
def ollama(tmp_path: Path) -> OllamaFolder:
    return OllamaFolder(tmp_path / ".ollama" / "models")


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return write_gguf(tmp_path / "sample.gguf").read_bytes()


def only(ollama: OllamaFolder) -> FoundModel:
    [model] = ollama_models(ollama.folder)
    return inspected(model)


@pytest.mark.parametrize(
    ("host", "path", "name", "origin"),
    [
        ("registry.ollama.ai", "library/llama3.2/1b", "llama3.2:1b", "ollama.com/library/"),
        ("registry.ollama.ai", "library/llama3.2/latest", "llama3.2", "ollama.com/library/"),
        ("registry.ollama.ai", "me/mario/latest", "me/mario", "ollama.com/"),
        ("hf.co", "org/repo-GGUF/Q4_K_M", "hf.co/org/repo-GGUF:Q4_K_M", ""),
    ],
)
def test_names(
    ollama: OllamaFolder, weights: bytes, host: str, path: str, name: str, origin: str
) -> None:
    ollama.add(path, weights, host=host)
    model = only(ollama)
    assert (model.name, model.origin, model.problem) == (name, f"{origin}{name}", "")


def test_what_a_manifest_tells(ollama: OllamaFolder, weights: bytes) -> None:
    blob = ollama.add(
        "library/mario/latest",
        weights,
        system="You are Mario.",
        params={"temperature": 0, "stop": ["END"]},
        messages=[{"role": "user", "content": "Hi"}],
        template="{{ .Prompt }}",
        license="MIT",
    )
    model = only(ollama)
    assert (model.system, model.parameters, model.messages, model.remarks) == (
        "You are Mario.",
        {"temperature": 0, "stop": ["END"]},
        [{"role": "user", "content": "Hi"}],
        (),
    )
    [file] = model.files
    assert (file.path, file.name, f"sha256-{file.sha256}") == (blob, "mario.gguf", blob.name)


def test_a_template_in_go_alone_is_none(ollama: OllamaFolder, tmp_path: Path) -> None:
    plain = write_gguf(tmp_path / "plain.gguf", template=False).read_bytes()
    ollama.add("library/plain/latest", plain, template="{{ .Prompt }}")
    [remark] = only(ollama).remarks
    assert remark.startswith("its chat template is written for Ollama, in Go")


@pytest.mark.parametrize(
    ("layers", "problem", "remark"),
    [
        ({"projector": "x"}, "", "its projector is left out: it will see no pictures."),
        ({"draft": "x"}, "", "its draft model is left out."),
        ({"adapter": "x"}, "it is a model with an adapter, which is not applied.", ""),
        ({"params": [1]}, "what Ollama keeps of it cannot be read: its params are of the", ""),
        ({"params": "{"}, "what Ollama keeps of it cannot be read: Expecting property name", ""),
    ],
)
def test_layers_that_are_not_used(
    ollama: OllamaFolder, weights: bytes, layers: dict[str, object], problem: str, remark: str
) -> None:
    ollama.add("library/odd/latest", weights, **layers)
    model = only(ollama)
    assert model.problem[: len(problem) or None] == problem
    assert model.remarks == ((remark,) if remark else ())


def test_an_encoder_of_pictures_in_the_same_file(ollama: OllamaFolder, tmp_path: Path) -> None:
    path = tmp_path / "vision.gguf"
    write_sample(path, Sample())
    content = path.read_bytes().replace(b"blk.1.ffn_up.weight", b"v.1.blk_ffn_up.weig")
    ollama.add("library/gemma3/4b", content)
    assert only(ollama).problem.startswith("its file holds the encoder of pictures too")


def test_models_of_the_cloud_are_none(ollama: OllamaFolder) -> None:
    ollama.write_manifest("registry.ollama.ai/library/gpt-oss/120b-cloud", [])
    assert list(ollama_models(ollama.folder)) == []


def test_tensors_for_mlx_are_no_gguf(ollama: OllamaFolder) -> None:
    layer = {"mediaType": "application/vnd.ollama.image.tensor", "digest": f"sha256:{'0' * 64}"}
    ollama.write_manifest("registry.ollama.ai/library/qwen3.5/mlx", [layer])
    assert only(ollama).problem == "it is kept as tensors for MLX, not as GGUF."


@pytest.mark.parametrize(
    "digest", ["sha256:../../../etc/passwd", "sha256-" + "0" * 63, "0" * 64, f"sha256:{'0' * 64}"]
)
def test_a_digest_that_is_no_blobs_is_a_problem(ollama: OllamaFolder, digest: str) -> None:
    layers = [{"mediaType": LAYER, "digest": digest}]
    ollama.write_manifest("registry.ollama.ai/library/bad/latest", layers)
    assert only(ollama).problem.startswith("what Ollama keeps of it cannot be read: ")


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"layers": 3}', '{"layers": [{}]}'])
def test_what_is_no_manifest_is_a_problem(ollama: OllamaFolder, manifest: str) -> None:
    path = ollama.folder / "manifests" / "registry.ollama.ai" / "library" / "bad" / "latest"
    path.parent.mkdir(parents=True)
    path.write_text(manifest)
    assert only(ollama).problem.startswith("what Ollama keeps of it cannot be read: ")


def test_where_the_folder_is(ollama: OllamaFolder, tmp_path: Path) -> None:
    assert ollama_folder(tmp_path, "") == ollama.folder
    assert ollama_folder(tmp_path / "absent", str(ollama.folder)) == ollama.folder
    with pytest.raises(BadSettings, match=f"Ollama has no models in {tmp_path}/no. If they"):
        ollama_folder(tmp_path, str(tmp_path / "no"))
