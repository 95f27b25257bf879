"""Every model of the catalog: the checkpoint that it was made from goes through.

releases.toml has the facts. That a small checkpoint of each class of config.json is converted
and says what transformers says is shown by test_families.py, test_newer_families.py and
test_seeing.py; here, that each release is of such a class and asks for nothing else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from convert.architectures import find_family
from convert.architectures.seeing import wrapper_of
from convert.config import Config
from tests.convert.checkpoints import GOLDEN, GOLDEN_NAMES, NEWER_NAMES, golden_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HUB = Path(__file__).parents[2] / "models" / "hub.toml"
RELEASES: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent / "releases.toml").read_text()
)["release"]
# without a head of its own: tied
NAMES = frozenset({"model.embed_tokens.weight"})


def test_every_model_of_the_catalog_has_its_release() -> None:
    catalog = [model["name"] for model in tomllib.loads(HUB.read_text())["model"]]
    listed = [name for release in RELEASES for name in release["models"]]
    assert sorted(listed) == sorted(catalog)
    assert len(catalog) >= 50


def small_config(release: dict[str, Any]) -> dict[str, Any]:
    """The golden checkpoint's."""
    name = release["golden"]
    if name.startswith("wrapped/"):
        return dict(json.loads((GOLDEN / f"{name}.json").read_text())["config"])
    assert name in (*GOLDEN_NAMES, *NEWER_NAMES)  # others would not be tested
    return dict(json.loads((golden_folder(name) / "config.json").read_text()))


def released(release: dict[str, Any]) -> Config:
    """A small config that says what the release's says."""
    said = {key: None if value == "null" else value for key, value in release["text"].items()}
    config = small_config(release)
    section = release.get("section")
    if section is None:
        return Config("config.json", {**config, **said, "architectures": [release["architecture"]]})
    inner = {**config.get(section, config), **said}
    whole = {"architectures": [release["architecture"]], section: inner}
    return Config("config.json", whole)


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: str(release["models"][0]))
def test_a_release_goes_through(release: dict[str, Any]) -> None:
    config = released(release)
    assert (wrapper_of(config) is None) == ("section" not in release)
    golden = small_config(release)["architectures"][0]
    family, tested = find_family(config), find_family(Config("config.json", small_config(release)))
    assert family.rules == tested.rules or golden != release["architecture"]
    hyper = family.read_config(config, NAMES)
    assert {field.key for field in hyper.fields} >= {f"{family.name}.block_count"}
    assert family.name == tested.name
