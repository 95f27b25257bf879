"""A child that pulls or prepares a model is told all that its parent plans with."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from appliance.launch.pulling import fit_flags
from appliance.settings import FIT_OPTIONS, ServeSettings, add_flags, load


def settings_from(*words: str, home: Path) -> ServeSettings:
    parser = argparse.ArgumentParser()
    add_flags(parser, ServeSettings)
    return load(ServeSettings, vars(parser.parse_args(words)), {"HOME": str(home)})


@pytest.mark.parametrize(
    "words",
    [
        (),
        (
            "m",
            "--ctx",
            "512",
            "--kv-cells",
            "1024",
            "--quant",
            "Q8_0",
            "--kv-type",
            "q8_0/q4_0",
            "--ram",
            "3GiB",
        ),
        (
            "m",
            "--threads",
            "3",
            "--batch-threads",
            "2",
            "--ubatch-rows",
            "64",
            "--slots",
            "2",
            "--max-batch-rows",
            "96",
        ),
        ("m", "--flash-attention", "on", "--mmap", "off"),
        (
            "m",
            "--flash-attention",
            "off",
            "--mmap",
            "on",
            "--models-dir",
            "/m",
            "--state-dir",
            "/s",
        ),
        (
            "m",
            "--gpu-layers",
            "all",
            "--split-mode",
            "row",
            "--tensor-split",
            "3,0.5",
            "--main-gpu",
            "1",
        ),
    ],
)
def test_flags_say_what_the_settings_say(words: tuple[str, ...], tmp_path: Path) -> None:
    settings = settings_from(*words, home=tmp_path)

    again = settings_from(*fit_flags(settings), home=tmp_path / "another")

    for name in FIT_OPTIONS:
        assert getattr(again, name) == getattr(settings, name), name
