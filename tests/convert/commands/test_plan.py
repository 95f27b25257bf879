"""The plan of a conversion,
from the headers of a checkpoint alone, is exact for every family.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from convert.__main__ import main
from tests.convert.checkpoints import GOLDEN_NAMES, golden_checkpoint


@pytest.mark.parametrize("family", GOLDEN_NAMES)
def test_the_plan_of_a_file_is_its_beginning_and_its_size(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = golden_checkpoint(family, tmp_path / family)
    types = ["BF16", "Q8_0", "Q2_K"]

    assert (
        main(
            [
                "plan",
                str(source),
                "--types",
                ",".join(types),
                "--headers",
                str(tmp_path / "h"),
                "--json",
            ]
        )
        == 0
    )
    planned = json.loads(capsys.readouterr().out)
    main(
        [
            str(source),
            "--out",
            str(tmp_path),
            "--types",
            ",".join(types),
            "--name",
            family,
            "--no-verify",
            "--json",
        ]
    )

    files = [tmp_path / f"{family}-{type_name}.gguf" for type_name in types]
    assert planned["files"] == [
        {"type": t, "bytes": f.stat().st_size} for t, f in zip(types, files, strict=True)
    ]
    for type_name, file in zip(types, files, strict=True):
        header = (tmp_path / "h" / f"{type_name}.gguf.header").read_bytes()
        assert file.read_bytes().startswith(header)


def test_an_unknown_type_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = golden_checkpoint("llama2", tmp_path / "llama2")

    assert main(["plan", str(source), "--types", "Q9_Z"]) == 2
    assert "Unknown type Q9_Z. Known types: F32" in capsys.readouterr().err
