"""Files that were sent, names and recipes, and what is deleted with a model."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.errors import BadRequest
from appliance.gateway.library.facts import ModelDefaults
from appliance.launch.library.blobs import Blobs
from appliance.launch.library.materials import materials_in
from appliance.launch.library.reading import facts_of
from appliance.launch.library.recipes import CreatedModel, CreatedModels, new_name
from appliance.launch.library.removal import remove_files
from tests.conftest import Embedded
from tests.launch.specs import spec_of

CONTENT = b"some bytes"
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


async def parts(*content: bytes) -> AsyncIterator[bytes]:
    for each in content:
        yield each


# --- blobs ----------------------------------------------------------------------------


async def test_a_blob_is_kept_under_its_digest(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    await blobs.keep(DIGEST, parts(CONTENT[:4], b"", CONTENT[4:]))
    assert blobs.path_of(DIGEST).read_bytes() == CONTENT
    blobs.move(DIGEST, tmp_path / "moved")
    assert [*(tmp_path / "blobs").iterdir()] == []
    with pytest.raises(BadRequest, match="There is no file sha256:"):
        blobs.move(DIGEST, tmp_path / "moved")


async def test_nothing_is_kept_of_other_content(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    with pytest.raises(BadRequest, match="The content's digest is sha256:"):
        await blobs.keep(DIGEST, parts(b"other"))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../x", DIGEST.upper(), DIGEST + "0"])
def test_what_is_no_digest_is_refused(digest: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="A digest is written"):
        Blobs(tmp_path).path_of(digest)


# --- names and recipes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "plain"), [("mario", "mario"), ("me/mario:latest", "me/mario"), ("m:7b", "m:7b")]
)
def test_names(name: str, plain: str) -> None:
    assert new_name(name) == plain


@pytest.mark.parametrize("name", ["", ".x", "a b", "../x", "a//b", "x" * 81, "a:b:c", "a..b"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="Invalid 'model'"):
        new_name(name)
    with pytest.raises(BadRequest, match="Invalid 'destination'"):
        new_name(name, "destination")


def test_recipes_are_remembered_until_they_are_forgotten(tmp_path: Path) -> None:
    created = CreatedModels(tmp_path)
    assert created.read() == []
    mario = CreatedModel(
        name="me/mario",
        argument="novels-6m",
        defaults=ModelDefaults(
            parent="novels-6m",
            system="Be Mario.",
            parameters={"stop": ["a"], "top_k": 3},
            messages=[{"role": "user", "content": "Hi"}],
        ),
    )
    created.write(mario, "{{ messages }}")
    assert created.read() == [mario]
    assert created.template_path("me/mario").read_text(encoding="utf-8") == "{{ messages }}"
    (tmp_path / ".created" / "broken.json").write_text("{", encoding="utf-8")
    assert created.read() == [mario]
    created.forget("me/mario")
    assert created.read() == []
    assert not created.template_path("me/mario").exists()


# --- files ----------------------------------------------------------------------------


async def kept(blobs: Blobs, content: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    await blobs.keep(digest, parts(content))
    return digest


async def test_a_gguf_that_was_sent_is_a_model_of_its_name(
    tmp_path: Path, embedded: Embedded
) -> None:
    models_dir, blobs = tmp_path / "models", Blobs(tmp_path / ".blobs")
    content = embedded.files["Q2_K"].read_bytes()
    digest = await kept(blobs, content)
    assert materials_in(models_dir, "me/mario", {"anything": digest}, blobs) == "me-mario"
    facts = facts_of(spec_of(tmp_path, "me-mario"))
    assert (facts.architecture, facts.quantization) == ("llama", "Q2_K")
    assert (facts.num_bytes, len(facts.digest)) == (len(content), 64)
    assert facts.metadata["general.architecture"] == "llama"
    assert facts.metadata["tokenizer.ggml.tokens"] is None
    assert "im_start" in facts.chat_template
    assert not facts.embeds


async def test_what_is_no_model_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / ".blobs")
    digest = await kept(blobs, CONTENT)
    with pytest.raises(BadRequest, match=r"Invalid 'files': mario\.gguf is not a usable GGUF"):
        materials_in(tmp_path, "mario", {"mario.gguf": digest}, blobs)
    assert not (tmp_path / "mario").exists()
    with pytest.raises(BadRequest, match="There is no file sha256:"):
        materials_in(tmp_path, "mario", {"mario.gguf": digest}, blobs)


def test_only_what_nobody_else_needs_is_deleted(tmp_path: Path, embedded: Embedded) -> None:
    models_dir, elsewhere = tmp_path / "models", tmp_path / "elsewhere.gguf"
    for name in ("one", "two"):
        (models_dir / name).mkdir(parents=True)
        shutil.copy(embedded.files["Q2_K"], models_dir / name / f"{name}.gguf")
    shutil.copy(embedded.files["Q2_K"], elsewhere)
    one, two = spec_of(tmp_path, "one"), spec_of(tmp_path, "two")
    remove_files(spec_of(tmp_path, str(elsewhere)), [])
    remove_files(spec_of(tmp_path, "unknown"), [])
    remove_files(one, [two, one])
    assert elsewhere.exists()
    assert (models_dir / "one" / "one.gguf").exists()
    remove_files(one, [two])
    assert [path.name for path in models_dir.iterdir()] == ["two"]
