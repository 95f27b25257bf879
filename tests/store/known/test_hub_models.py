"""The catalog of hub models agrees with itself, and with what quantization makes of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.errors import SetupError
from appliance.store.catalog import load_catalog
from appliance.store.hub_id import parse_hub_id
from appliance.store.known.hub_models import KINDS, HubModel, load_hub_models

MODELS = load_hub_models()
# Bits a parameter takes by and large, of llama.cpp's own description of the types.
BITS = {"Q3_K_M": 3.9, "Q4_K_M": 4.85, "Q5_K_M": 5.7, "Q6_K": 6.6, "Q8_0": 8.5, "MXFP4": 4.6}
# Below this size the matrix of the vocabulary, which takes more bits, is much of the file.
SMALL = 1_000_000_000
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


def test_there_are_models_of_every_kind_from_the_smallest_to_thirty_two_billion() -> None:
    assert len(MODELS) >= 40
    assert {model.kind for model in MODELS} == set(KINDS)
    generating = [model.parameters for model in MODELS if model.generates]
    assert min(generating) < 300_000_000 < 32_000_000_000 < max(generating)


def test_no_two_models_share_a_name_or_a_repository() -> None:
    names = [name for model in MODELS for name in (model.name, *model.ollama)]
    local = {entry.name for entry in load_catalog().entries}
    assert len(names) == len(set(names))
    assert len({model.repository for model in MODELS}) == len(MODELS)
    assert local.isdisjoint(names)


@each_model
def test_a_model_is_what_its_kind_of_entry_says(model: HubModel) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]+", model.name)
    hub_id = parse_hub_id(model.repository)
    assert hub_id is not None
    assert hub_id.choice is None
    assert re.fullmatch(r"main|[0-9a-f]{40}", model.revision)
    assert model.licence
    assert model.languages
    assert all(re.fullmatch(r"[a-z]{2}", each) for each in model.languages)
    assert model.ctx is None or 2048 <= model.ctx <= 1 << 20
    assert 100_000_000 <= model.parameters <= 33_000_000_000
    assert 0.03 * model.parameters <= model.active_parameters <= model.parameters
    assert all(name == name.lower() for name in model.ollama)


@each_model
def test_sizes_agree_with_parameters_times_bits(model: HubModel) -> None:
    assert model.sizes
    most = 1.2 if model.parameters >= SMALL else 2.0
    for quantization, num_bytes in model.sizes.items():
        expected = model.parameters * BITS[quantization] / 8
        assert 0.9 <= num_bytes / expected <= most, (quantization, num_bytes / expected)


@each_model
def test_what_drafts_for_a_model_is_in_the_catalog_and_smaller(model: HubModel) -> None:
    draft = load_catalog().draft_of(model.repository)
    if draft is None or not model.generates:
        return
    name = draft.partition(":")[0].rpartition("/")[2]
    found = [other for other in MODELS if other.repository.rpartition("/")[2] == name]
    assert [other.parameters < model.parameters for other in found] == [True]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[[model]]\nname = 1\n", "name = 1"),
        ('[[model]]\nkind = "chat"\n', "'languages'"),
        ('[[model]]\ncolour = "red"\n', "colour = 'red'"),
        ("nothing = 1\n", "'model'"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong(
    content: str, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(content)
    with pytest.raises(SetupError, match=f"hub.toml is invalid: .*{re.escape(complaint)}"):
        load_hub_models(file)
