"""Settings as a command line, variables and a file give them, for tests."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.settings import ServeSettings, add_flags, load

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
