"""Each option comes from its first source, and a message says what is wrong with one,
where, and the way out.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from appliance.errors import BadSettings
from appliance.settings import ModelValue, ServeSettings, declared, load
from appliance.settings.options import Alias, KeepAlive
from tests.settings.every_option import EVERY_OPTION
from tests.settings.given import settings_from


def test_defaults() -> None:
    settings = settings_from()

    assert settings.model == ()
    assert (settings.ctx, settings.kv_cells, settings.quant) == (None, None, None)
    assert (settings.host, settings.port, settings.slots) == ("127.0.0.1", 8080, None)
    assert (settings.max_batch_rows, settings.max_waiting, settings.max_stall_ms) == (
        512,
        65536,
        120,
    )
    assert settings.models_dir == Path("/home/ann/.local/share/appliance/models")
    assert settings.state_dir == Path("/home/ann/.local/state/appliance")


def test_directories_follow_the_xdg_variables_when_absolute() -> None:
    settings = settings_from(environ={"XDG_DATA_HOME": "/data", "XDG_STATE_HOME": "relative"})

    assert settings.models_dir == Path("/data/appliance/models")
    assert settings.state_dir == Path("/home/ann/.local/state/appliance")


def test_flag_before_variable_before_file_before_default(tmp_path: Path) -> None:
    environ = {"APPLIANCE_PORT": "2", "APPLIANCE_SLOTS": "2"}
    toml = "port = 3\nslots = 3\nthreads = 3\n"

    settings = settings_from("--port", "1", environ=environ, toml=toml, tmp_path=tmp_path)

    assert (settings.port, settings.slots, settings.threads, settings.drain_s) == (1, 2, 3, 30.0)


def test_a_chat_templates_file_is_relative_to_the_settings_and_a_name_is_a_name(
    tmp_path: Path,
) -> None:
    toml = (
        'chat_template = "mine.jinja"\n[models.a]\nchat_template = "chatml"\n'
        '[models.b]\nchat_template = "of/b"\n[models.c]\nchat_template = "/c.jinja"\n'
        '[models.d]\nchat_template = "auto"\n'
    )
    settings = settings_from(toml=toml, tmp_path=tmp_path)
    assert settings.chat_template == str(tmp_path / "mine.jinja")
    assert [settings.for_model(name).chat_template for name in "abcd"] == [
        "chatml",
        str(tmp_path / "of/b"),
        "/c.jinja",
        None,
    ]
    assert settings_from("--chat-template", "mine.jinja").chat_template == "mine.jinja"


def test_every_option_can_come_from_every_source(tmp_path: Path) -> None:
    values = EVERY_OPTION
    assert list(values) == [entry.name for entry in declared(ServeSettings)]
    flags: list[str] = []
    for entry in declared(ServeSettings):
        value = values[entry.name]
        if entry.option.positional:
            flags.append(value)
        else:
            flags += [entry.flag] if entry.option.switch else [entry.flag, value]

    from_flags = settings_from(*flags)
    from_variables = settings_from(
        environ={f"APPLIANCE_{name.upper()}": value for name, value in values.items()}
    )
    toml = "\n".join(f'{name} = "{value}"' for name, value in values.items())
    from_file = settings_from(toml=toml, tmp_path=tmp_path)

    assert from_flags == from_variables == from_file
    assert (from_file.quant, from_file.ram, from_file.alias) == (
        "Q4_K_M",
        6 << 30,
        (Alias("a"), Alias("b", "other")),
    )
    assert from_file.keep_alive == (
        KeepAlive(3600.0),
        KeepAlive(math.inf, "other"),
        KeepAlive(0.0, "third"),
    )
    assert (from_file.insecure, from_file.drain_s, from_file.max_body_bytes) == (True, 1.5, 1 << 20)
    assert from_file.set == (
        ModelValue("other", "ctx", 2048),
        ModelValue("other", "tensor_split", (2.0, 1.0)),
    )


@pytest.mark.parametrize(
    "toml", ["models_dir = 5", "state_dir = 0.5", "api_key_file = 7", "model = 1"]
)
def test_a_number_is_not_a_path(toml: str, tmp_path: Path) -> None:
    name, _, value = toml.partition(" = ")
    with pytest.raises(BadSettings, match=rf"^{name} in .* must be a path.* \(got {value}\)"):
        settings_from(toml=toml, tmp_path=tmp_path)


def test_toml_may_use_its_own_types_and_relative_paths(tmp_path: Path) -> None:
    toml = (
        "port = 9000\ninsecure = true\ndrain_s = 0.5\n"
        'alias = ["a", "b,c"]\nmodels_dir = "models"\nctx = "auto"\n'
    )

    settings = settings_from(toml=toml, tmp_path=tmp_path)

    assert (settings.port, settings.insecure, settings.drain_s, settings.ctx) == (
        9000,
        True,
        0.5,
        None,
    )
    assert settings.alias == (Alias("a"), Alias("b"), Alias("c"))
    assert settings.models_dir == tmp_path / "models"


def test_repeated_flags_home_and_auto() -> None:
    settings = settings_from(
        "~/m.gguf",
        "--alias",
        "a",
        "--alias",
        "b,c",
        "--ctx",
        "auto",
        environ={"APPLIANCE_CTX": "512"},
    )

    assert settings.model == ("/home/ann/m.gguf",)
    assert settings.alias == (Alias("a"), Alias("b"), Alias("c"))
    assert settings.ctx is None


def test_several_models_from_every_source(tmp_path: Path) -> None:
    """A flag or a TOML string is one model, whatever its name; a variable has only
    commas to part them.
    """
    assert settings_from("novels-6m", "~/a,b.gguf").model == ("novels-6m", "/home/ann/a,b.gguf")
    assert settings_from(environ={"APPLIANCE_MODEL": "novels-6m, other"}).model == (
        "novels-6m",
        "other",
    )
    for toml, models in (
        ('model = "a,b.gguf"', ("a,b.gguf",)),
        ('model = ["novels-6m", "a,b.gguf"]', ("novels-6m", "a,b.gguf")),
        ('model = "auto"', ("auto",)),
    ):
        assert settings_from(toml=toml, tmp_path=tmp_path).model == models
    assert settings_from(toml="keep_alive = 300", tmp_path=tmp_path).keep_alive == (
        KeepAlive(300.0),
    )


@pytest.mark.parametrize(
    "flags", [("--keep-alive", "soon"), ("--keep-alive", "=5m"), ("--keep-alive", "a=")]
)
def test_a_bad_keep_alive_is_refused(flags: tuple[str, str]) -> None:
    with pytest.raises(BadSettings, match="must be a duration such as 30m"):
        settings_from(*flags)


def test_the_first_config_file_that_exists_is_read(tmp_path: Path) -> None:
    file = tmp_path / ".config" / "appliance" / "appliance.toml"
    file.parent.mkdir(parents=True)
    file.write_text("port = 9001\n")

    assert load(ServeSettings, {}, {"HOME": str(tmp_path)}).port == 9001


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("1", 1), ("6GiB", 6 << 30), ("6g", 6 << 30), ("1.5 MB", 1_500_000), ("512kib", 512 << 10)],
)
def test_sizes(text: str, num_bytes: int) -> None:
    assert settings_from("--ram", text).ram == num_bytes


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--port", "0"], "--port must be between 1 and 65535 (got 0)."),
        (["--port", "a"], "--port must be a whole number between 1 and 65535 (got 'a')."),
        (["--ctx", "8"], "--ctx must be between 64 and 16777216 tokens, or auto (got 8)."),
        (
            ["--ctx", "8k"],
            "--ctx must be a whole number of tokens between 64 and 16777216, or auto (got '8k').",
        ),
        (
            ["--gpu-layers", "some"],
            "--gpu-layers must be a number of layers (0 or more) or all, or auto (got 'some').",
        ),
        (
            ["--split-mode", "rows"],
            "--split-mode must be one of layer, row, none (got 'rows'). Did you mean row?",
        ),
        (
            ["--tensor-split", "3,-1"],
            "--tensor-split must be a proportion of 0 or more, such as 3 or 0.5 (got '-1').",
        ),
        (
            ["--kv-type", "q80"],
            "--kv-type must be f16, q8_0, q5_1 or q4_0, or two of them as K/V, such as q8_0/q4_0, "
            "or auto (got 'q80'). Did you mean q8_0?",
        ),
        (["--ram", "lots"], "--ram must be a size such as 6GiB, 1500MiB or 8GB, or auto"),
        (["--ram", "6GiBB"], "--ram must be a size such as 6GiB, 1500MiB or 8GB, or auto"),
        (["--ram", "0"], "--ram must be at least 1 byte, or auto (got 0)."),
        (["--max-body-bytes", "1"], "--max-body-bytes must be at least 1024 bytes, or auto"),
        (
            ["--drain-s", "nan"],
            "--drain-s must be a duration such as 30 (seconds), 45s or 1h30m, between 0 and 3600 "
            "seconds (got 'nan').",
        ),
        (["--drain-s", "2h"], "--drain-s must be between 0 and 3600 seconds (got 2h)."),
        (["--prefix-ttl-s", "-1"], "--prefix-ttl-s must be between 0 and 31536000 seconds"),
        (["--slots", "65"], "--slots must be between 1 and 64, or auto (got 65)."),
        (["--set", "ctx=8"], "--set must be NAME:KEY=VALUE, such as gemma-3-4b:ctx=8192 (got"),
        (
            ["--slots", "8", "--max-batch-rows", "4"],
            "--max-batch-rows must be at least --slots (got 4 and 8)",
        ),
        (
            ["--ctx", "4096", "--kv-cells", "2048"],
            "--kv-cells must be at least --ctx (got 2048 and 4096)",
        ),
    ],
)
def test_bad_flags_are_refused_with_what_is_allowed(argv: list[str], message: str) -> None:
    with pytest.raises(BadSettings, match="^" + re.escape(message)):
        settings_from(*argv)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30.0), ("0.5", 0.5), ("250ms", 0.25), ("45s", 45.0), ("1h", 3600)]
)
def test_every_option_in_seconds_is_a_duration(text: str, seconds: float) -> None:
    flags = ("--drain-s", "--load-wait-s", "--client-timeout-s", "--prefix-ttl-s", "--keep-alive")
    settings = settings_from(*(word for flag in flags for word in (flag, text)))

    assert (
        settings.drain_s,
        settings.load_wait_s,
        settings.client_timeout_s,
        settings.prefix_ttl_s,
        settings.keep_alive,
    ) == (*(seconds,) * 4, (KeepAlive(seconds),))
    assert settings_from("--load-wait-s", "1h30m").load_wait_s == 5400.0


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("prot = 1", r"^Unknown setting 'prot' in /.*my\.toml\. Did you mean port\?"),
        ("xyz = 1", r"^Unknown setting 'xyz' in /.*my\.toml\. The settings are: adapter_turn_ms"),
        ('port = "x"', r"^port in /.*my\.toml must be a whole number .* \(got 'x'\)"),
        ("port = true", r"^port in /.*my\.toml must be a whole number .* \(got true\)"),
        ("port = [1]", r"\(got \[1\]\)"),
        ("[port]\nx = 1", r"\(got \{'x': 1\}\)"),
        ("port = ", r"^The settings file /.*my\.toml is not valid TOML: "),
    ],
)
def test_bad_files_are_refused_with_key_and_file(toml: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=message):
        settings_from(toml=toml, tmp_path=tmp_path)


def test_bad_variables_are_refused_and_empty_ones_are_unset() -> None:
    with pytest.raises(
        BadSettings,
        match=r"^Unknown setting 'APPLIANCE_PROT' in the environment\. Did you mean APPLIANCE_PORT",
    ):
        settings_from(environ={"APPLIANCE_PROT": "1"})
    with pytest.raises(BadSettings, match=r"^APPLIANCE_PORT must be a whole number .* \(got 'x'\)"):
        settings_from(environ={"APPLIANCE_PORT": "x"})
    assert settings_from(environ={"APPLIANCE_PORT": ""}).port == 8080


def test_a_named_config_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(
        BadSettings, match=r"^Cannot read the settings file /.*absent\.toml: No such"
    ):
        settings_from("--config", str(tmp_path / "absent.toml"))


def test_without_home_the_directories_must_be_given() -> None:
    with pytest.raises(BadSettings, match="--models-dir and --state-dir"):
        load(ServeSettings, {}, {})
    assert load(ServeSettings, {"models_dir": "/m", "state_dir": "/s"}, {}).models_dir == Path("/m")
