"""Symbolic links in a checkpoint's folder: followed where the user can only have meant
what they lead to, and of no account where nobody reads them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from convert.__main__ import main
from tests.convert.checkpoints import Shape, write_checkpoint


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source", Shape())


def convert(source: Path) -> int:
    options = ["--types", "Q8_0", "--no-verify"]
    return main([str(source), "--out", str(source.parent / "out"), *options])


def move_away(path: Path, name: str | None = None) -> Path:
    """Leaves a link to where the file is now: another folder, perhaps under another name."""
    target = path.parent.parent / "other disk" / (name or path.name)
    target.parent.mkdir(exist_ok=True)
    shutil.move(path, target)
    path.symlink_to(target)
    return target


@pytest.mark.parametrize("name", ["model.safetensors", "llama.safetensors", "0a1b"])
def test_weights_may_lie_anywhere(name: str, source: Path) -> None:
    move_away(source / "model.safetensors", name)
    assert convert(source) == 0


def test_a_folder_of_links_to_another_one_is_a_checkpoint(source: Path) -> None:
    for path in list(source.iterdir()):
        move_away(path)
    assert convert(source) == 0


def test_links_into_the_cache_of_the_hub_are_followed(source: Path) -> None:
    """As older versions of huggingface_hub left them in a folder that was asked for."""
    blobs = source.parent / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    for index, path in enumerate(list(source.iterdir())):
        shutil.move(path, blobs / str(index))
        path.symlink_to(blobs / str(index))
    assert convert(source) == 0


@pytest.mark.parametrize("name", ["notes.txt", "trainer_state.json", "logo.jinja", "README.md"])
@pytest.mark.parametrize("target", ["/etc/hostname", "/nowhere"])
def test_links_that_nobody_reads_do_not_matter(name: str, target: str, source: Path) -> None:
    (source / name).symlink_to(target)
    assert convert(source) == 0


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_link_to_a_file_of_another_name_is_refused(
    name: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = source.parent / "secret"
    secret.write_text("{}")
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to(secret)
    assert convert(source) == 2
    message = capsys.readouterr().err
    assert f"{name} is a symbolic link to {secret}, a file of another name" in message


def test_a_link_to_what_is_no_weights_is_refused(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "model.safetensors").unlink()
    (source / "model.safetensors").symlink_to("/etc/passwd")
    assert convert(source) == 2
    assert "is truncated or not a safetensors file" in capsys.readouterr().err


def test_a_broken_link_says_where_it_leads(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = move_away(source / "model.safetensors")
    target.unlink()
    assert convert(source) == 2
    message = capsys.readouterr().err
    assert f"model.safetensors is a symbolic link to {target}, which is missing" in message
    assert "Mount the disk it is on" in message
