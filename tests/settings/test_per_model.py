"""What is set for one model: from every source, before what is set for all, and refused
where it is wrong.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.errors import BadSettings
from appliance.settings import ModelSettings, declared
from tests.settings.given import settings_from


def test_what_is_set_for_one_model_from_every_source(tmp_path: Path) -> None:
    """By a flag, a variable, and a table or a list of TOML; for all others the global
    value holds.
    """
    toml = '[models."org/repo"]\nctx = 2048\nkv_type = "q8_0"\ntensor_split = [3, 1]\n'
    sources = (
        settings_from("--set", "org/repo:ctx=2048", "--set", "org/repo:kv-type=q8_0"),
        settings_from(environ={"APPLIANCE_SET": "org/repo:ctx=2048; org/repo:kv_type=q8_0"}),
        settings_from(toml=toml, tmp_path=tmp_path),
        settings_from(
            toml='set = ["org/repo:ctx=2048", "org/repo:kv-type=q8_0"]', tmp_path=tmp_path
        ),
    )
    for settings in sources:
        own, other = settings.for_model("repo", "org/repo"), settings.for_model("other")
        assert (own.ctx, own.kv_type, own.slots) == (2048, "q8_0", None)
        assert (other.ctx, other.kv_type) == (None, None)
    assert sources[2].for_model("org/repo").tensor_split == (3.0, 1.0)
    file = tmp_path / "my.toml"
    assert [(source.set[0].origin, source.set[0].is_flag) for source in sources] == [
        ("--set org/repo:ctx", True),
        ("APPLIANCE_SET org/repo:ctx", False),
        (f'[models."org/repo"] of {file}', False),
        (f"org/repo:ctx of set in {file}", False),
    ]
    many = settings_from(environ={"APPLIANCE_SET": "m:tensor_split=3,1;m:ctx=512"}).for_model("m")
    assert (many.tensor_split, many.ctx) == ((3.0, 1.0), 512)


def test_one_models_value_wins_over_that_for_all_from_whatever_source(tmp_path: Path) -> None:
    """Of one model's values a flag's wins over a file's."""
    toml = "[models.a]\nctx = 512\nslots = 1\n[models.b]\nctx = 1024\n"

    settings = settings_from(
        *("--ctx", "8192", "--set", "a:slots=3"),
        environ={"APPLIANCE_KV_TYPE": "q8_0"},
        toml=toml,
        tmp_path=tmp_path,
    )

    ctx = [settings.for_model(name).ctx for name in ("a", "b", "c")]
    assert ctx == [512, 1024, 8192]
    assert (settings.for_model("a").slots, settings.for_model("b").slots) == (3, None)
    assert settings.for_model("a").kv_type == "q8_0"


def test_auto_for_one_model_takes_back_what_is_set_for_all(tmp_path: Path) -> None:
    for settings in (
        settings_from("--ctx", "4096", "--set", "m:ctx=auto"),
        settings_from("--ctx", "4096", toml='[models.m]\nctx = "auto"', tmp_path=tmp_path),
    ):
        assert (settings.for_model("m").ctx, settings.for_model("other").ctx) == (None, 4096)


def test_every_option_of_a_model_can_be_set_for_one() -> None:
    written = {
        "tensor_split": "2,1",
        "no_tune": "true",
        "split_mode": "row",
        "quant": "Q8_0",
        "kv_type": "q8_0",
        "draft": "other",
        "flash_attention": "on",
        "kernels": "off",
        "mmap": "off",
        "prompt_lookup": "off",
        "repeatable": "off",
        "exact": "on",
        "chat_template": "chatml",
        "tools": "generic",
        "lora": "pirate=a.gguf",
        "control_vector": "calm=b.gguf:0.5",
    }
    values = {entry.name: written.get(entry.name, "64") for entry in declared(ModelSettings)}
    flags = [("--set", f"m:{name}={value}") for name, value in values.items()]
    flags[list(values).index("main_gpu")] = ("--set", "m:main_gpu=1")

    settings = settings_from(*(word for pair in flags for word in pair))

    assert {value.key for value in settings.set} == set(values)
    own, other = settings.for_model("m"), settings.for_model("other")
    for name in values:
        assert getattr(own, name) != getattr(other, name), name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("m:ctxx=5", "Unknown setting 'ctxx' in --set m:ctxx. Did you mean ctx?"),
        ("m:port=5", "Unknown setting 'port' in --set m:port."),
        ("m:ctx=5", "--set m:ctx must be between 64 and 16777216 tokens, or auto (got 5)."),
        ("m:mmap=yes", "--set m:mmap must be on or off, or auto (got 'yes')."),
    ],
)
def test_a_bad_setting_of_one_model_is_refused(argv: str, message: str) -> None:
    with pytest.raises(BadSettings, match="^" + re.escape(message)):
        settings_from("--set", argv)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[models.m]\nctxx = 5", "Unknown setting 'ctxx' in [models.m] of FILE. Did you mean ctx?"),
        (
            '[models."org/repo"]\nctx = 5',
            'ctx in [models."org/repo"] of FILE must be between 64 and 16777216 tokens, or auto '
            "(got 5).",
        ),
        (
            "[models.gemma-3.1-4b]\nctx = 512",
            "[models.gemma-3.1-4b] in FILE is a table within a table. A name with dots needs "
            'quotes: [models."gemma-3.1-4b"].',
        ),
        ("models = 5", "models in FILE must be tables, such as [models.gemma-3-4b]."),
        ("[models]\nm = 5", "m in [models] of FILE must be a table of settings: [models.m]."),
    ],
)
def test_a_bad_table_of_one_model_is_refused(toml: str, message: str, tmp_path: Path) -> None:
    expected = message.replace("FILE", str(tmp_path / "my.toml"))
    with pytest.raises(BadSettings, match="^" + re.escape(expected)):
        settings_from(toml=toml, tmp_path=tmp_path)


def test_a_contradiction_within_one_model_begins_with_its_name(tmp_path: Path) -> None:
    """Whether all of it is set for this model, or a part for all."""
    message = re.escape("--kv-cells must be at least --ctx (got 8192 and 16384)")
    for settings in (
        settings_from("--set", "m:ctx=16384", "--set", "m:kv_cells=8192"),
        settings_from("--kv-cells", "8192", "--set", "m:ctx=16384"),
        settings_from(toml="kv_cells = 8192\n[models.m]\nctx = 16384", tmp_path=tmp_path),
    ):
        assert settings.for_model("other").ctx is None
        with pytest.raises(BadSettings, match=f"^m: {message}"):
            settings.for_model("m", "org/m")
