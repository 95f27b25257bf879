"""A fleet's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import BadSettings
from appliance.fleet.routing import Policy
from appliance.fleet.serving.settings import Scaling, node_settings, read_fleet_file


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return path


def test_what_it_says_is_read_and_the_rest_is_a_servers(tmp_path: Path) -> None:
    file = read_fleet_file(
        written(
            tmp_path,
            'model = ["a", "b"]\nctx = 4096\n[models.b]\nctx = 512\n'
            '[fleet]\nray = "10.0.0.1:7000"\nrouting = "least_tokens"\ndoors = 2\n'
            "[fleet.replicas]\na = 3\nb = {max = 4, waiting_tokens = 900}\n",
        )
    )
    assert (file.fleet.ray, file.fleet.routing, file.fleet.doors) == (
        "10.0.0.1:7000",
        Policy.LEAST_TOKENS,
        2,
    )
    assert file.fleet.replicas == {"a": 3, "b": Scaling(min=1, max=4, waiting_tokens=900)}
    settings = node_settings(file.table, Path(file.folder))
    assert (settings.model, settings.for_model("b").ctx) == (("a", "b"), 512)


def test_a_file_without_the_table_is_a_fleet_of_one_machine(tmp_path: Path) -> None:
    file = read_fleet_file(written(tmp_path, 'model = ["a"]\n'))
    assert (file.fleet.ray, file.fleet.routing) == ("127.0.0.1:6379", Policy.PREFIX)


def test_a_nodes_own_variables_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPLIANCE_RAM", "2GiB")
    file = read_fleet_file(written(tmp_path, 'ram = "8GiB"\nmodels_dir = "here"\n'))
    settings = node_settings(file.table, Path(file.folder))
    assert settings.ram == 2 << 30
    assert settings.models_dir == tmp_path / "here"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("routes = 1", "unknown field `routes`"),
        ('routing = "best"', "best"),
        ("doors = 0", "doors must be 1 or more"),
        ("silence_s = 0", "silence_s must be a number of seconds above 0"),
        ('replicas = {a = "many"}', '"per-node"'),
        ("replicas = {a = 0}", "between 1 and 10000"),
        ("replicas = {a = {min = 3, max = 2}}", "1 <= min <= max"),
        ("replicas = {a = {max = 2, waiting_tokens = 0}}", "waiting_tokens of 1 or more"),
    ],
)
def test_what_cannot_be_is_named_with_the_file(tmp_path: Path, table: str, words: str) -> None:
    path = written(tmp_path, f"[fleet]\n{table}\n")
    with pytest.raises(BadSettings) as caught:
        read_fleet_file(path)
    assert words in caught.value.message
    assert str(path) in caught.value.message


def test_a_setting_that_no_server_has_is_named(tmp_path: Path) -> None:
    file = read_fleet_file(written(tmp_path, "contxt = 5\n"))
    with pytest.raises(BadSettings, match="contxt"):
        node_settings(file.table, Path(file.folder))
