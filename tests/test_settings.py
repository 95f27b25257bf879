"""Each option comes from its first source, and whatever is wrong with one is told with
its place and the way out.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import BadSettings
from appliance.fit.plan.offload import ALL_LAYERS
from appliance.settings import ServeSettings, add_flags, declared, load
from appliance.settings.options import Alias, KeepAlive

HOME = {"HOME": "/home/ann"}


def settings_from(
    *argv: str,
    environ: dict[str, str] | None = None,
    toml: str | None = None,
    tmp_path: Path | None = None,
) -> ServeSettings:
    parser = argparse.ArgumentParser()
    add_flags(parser, ServeSettings)
    words = list(argv)
    if toml is not None:
        assert tmp_path is not None
        (tmp_path / "my.toml").write_text(toml)
        words += ["--config", str(tmp_path / "my.toml")]
    return load(ServeSettings, vars(parser.parse_args(words)), HOME | (environ or {}))


def test_defaults() -> None:
    settings = settings_from()

    assert (settings.model, settings.ctx, settings.kv_cells, settings.quant) == (
        (),
        None,
        None,
        None,
    )
    assert (settings.host, settings.port, settings.slots) == ("127.0.0.1", 8080, None)
    assert (settings.max_batch_rows, settings.max_waiting, settings.max_stall_ms) == (
        512,
        65536,
        250,
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


def test_every_option_can_come_from_every_source(tmp_path: Path) -> None:
    values = {
        "model": "novels-6m",
        "ctx": "4096",
        "kv_cells": "8192",
        "quant": "q4_k_m",
        "kv_type": "q8_0",
        "ram": "6GiB",
        "threads": "2",
        "batch_threads": "1",
        "ubatch_rows": "128",
        "flash_attention": "on",
        "mmap": "off",
        "no_tune": "true",
        "gpu_layers": "all",
        "split_mode": "none",
        "tensor_split": "3,1",
        "main_gpu": "1",
        "all_models": "true",
        "preload": "novels-6m,other",
        "keep_alive": "1h,other=-1,third=0",
        "load_wait_s": "20",
        "never_smaller": "true",
        "slots": "3",
        "max_batch_rows": "256",
        "max_waiting": "1000",
        "max_stall_ms": "100",
        "resident_prefix_cells": "300",
        "prefix_host_bytes": "1GiB",
        "prefix_disk_bytes": "1GiB",
        "prefix_ttl_s": "60",
        "draft": "auto",
        "prompt_lookup": "off",
        "host": "::1",
        "port": "9000",
        "api_key_file": "/etc/keys",
        "insecure": "true",
        "alias": "a,b=other",
        "max_body_bytes": "1MiB",
        "client_timeout_s": "5",
        "models_dir": "/m",
        "state_dir": "/s",
        "drain_s": "1.5",
        "log_level": "debug",
    }
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


@pytest.mark.parametrize(
    "toml", ["models_dir = 5", "state_dir = 0.5", "api_key_file = 7", "model = 1"]
)
def test_a_number_is_no_path(toml: str, tmp_path: Path) -> None:
    name, _, value = toml.partition(" = ")
    with pytest.raises(BadSettings, match=rf"^{name} in .*: '{value}' is not allowed, but a path"):
        settings_from(toml=toml, tmp_path=tmp_path)


def test_toml_may_use_its_own_types_and_relative_paths(tmp_path: Path) -> None:
    toml = 'port = 9000\ninsecure = true\ndrain_s = 0.5\nalias = ["a", "b,c"]\nmodels_dir = "models"\nctx = "auto"\n'

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
        ('model = "auto"', ()),
    ):
        assert settings_from(toml=toml, tmp_path=tmp_path).model == models
    assert settings_from(toml="keep_alive = 300", tmp_path=tmp_path).keep_alive == (
        KeepAlive(300.0),
    )


@pytest.mark.parametrize(
    "flags", [("--keep-alive", "soon"), ("--keep-alive", "=5m"), ("--keep-alive", "a=")]
)
def test_a_keep_alive_that_is_none_is_refused(flags: tuple[str, str]) -> None:
    with pytest.raises(BadSettings, match="a time such as 30m"):
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
    ("argv", "told"),
    [
        (["--port", "0"], r"--port: '0' is not allowed, but a whole number from 1 to 65535 is"),
        (
            ["--gpu-layers", "some"],
            r"--gpu-layers: 'some' is not allowed, but a number of layers from 0 on, or all, or auto is",
        ),
        (["--split-mode", "rows"], r"--split-mode: 'rows' is not allowed, .* Did you mean row\?"),
        (["--tensor-split", "3,-1"], "--tensor-split: '-1' is not allowed, but a proportion"),
        (["--ctx", "8k"], r"--ctx: '8k' is not allowed, .* or auto is"),
        (["--kv-type", "q80"], r"Did you mean q8_0\?"),
        (["--ram", "lots"], "a size such as 6GiB"),
        (["--ram", "6GiBB"], "a size such as 6GiB"),
        (["--drain-s", "nan"], "a number of seconds"),
        (["--slots", "65"], "from 1 to 64"),
        (["--slots", "8", "--max-batch-rows", "4"], "--max-batch-rows 4 is less than --slots 8"),
        (["--ctx", "4096", "--kv-cells", "2048"], "--kv-cells 2048 is less than --ctx 4096"),
    ],
)
def test_bad_flags_are_told_with_what_is_allowed(argv: list[str], told: str) -> None:
    with pytest.raises(BadSettings, match=told):
        settings_from(*argv)


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("prot = 1", r"prot in .*my\.toml is no setting\. Did you mean port\?"),
        ('port = "x"', r"port in .*my\.toml: 'x' is not allowed"),
        ("port = true", r"port in .*my\.toml: 'True' is not allowed"),
        ("port = [1]", "is not allowed"),
        ("[port]\nx = 1", "is not allowed"),
        ("port = ", r"my\.toml is not TOML"),
    ],
)
def test_bad_files_are_told_with_key_and_file(toml: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=told):
        settings_from(toml=toml, tmp_path=tmp_path)


def test_bad_variables_are_told_and_empty_ones_are_unset() -> None:
    with pytest.raises(
        BadSettings,
        match=r"APPLIANCE_PROT in the environment is no setting\. Did you mean APPLIANCE_PORT",
    ):
        settings_from(environ={"APPLIANCE_PROT": "1"})
    with pytest.raises(BadSettings, match="APPLIANCE_PORT: 'x' is not allowed"):
        settings_from(environ={"APPLIANCE_PORT": "x"})
    assert settings_from(environ={"APPLIANCE_PORT": ""}).port == 8080


def test_a_named_config_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"absent\.toml cannot be read"):
        settings_from("--config", str(tmp_path / "absent.toml"))


def test_without_home_the_directories_must_be_given() -> None:
    with pytest.raises(BadSettings, match="--models-dir and --state-dir"):
        load(ServeSettings, {}, {})
    assert load(ServeSettings, {"models_dir": "/m", "state_dir": "/s"}, {}).models_dir == Path("/m")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "128.0.0.1"])
def test_a_public_address_needs_a_key_or_consent(host: str) -> None:
    with pytest.raises(BadSettings, match="--api-key-file FILE, or --insecure"):
        settings_from("--host", host)
    assert settings_from("--host", host, "--insecure").host == host
    assert settings_from("--host", host, "--api-key-file", "keys").api_key_file == Path("keys")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_nothing(host: str) -> None:
    assert settings_from("--host", host).host == host


@pytest.mark.parametrize(
    ("text", "layers"), [("auto", None), ("0", 0), ("20", 20), ("all", ALL_LAYERS)]
)
def test_layers_on_gpus(text: str, layers: int | None) -> None:
    settings = settings_from("--gpu-layers", text, "--tensor-split", "3", "--tensor-split", "0.5")
    assert (settings.gpu_layers, settings.tensor_split) == (layers, (3.0, 0.5))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"flash_attention": False, "kv_type": "q8_0"}, "only flash attention reads quantized KV"),
        ({"ubatch_rows": 600}, "--ubatch-rows 600 is more than --max-batch-rows 512"),
    ],
)
def test_contradictions_are_told(flags: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=says):
        ServeSettings(models_dir=tmp_path, state_dir=tmp_path, **flags)
