"""`appliance pull` by names of the catalog and of Ollama's library."""

from __future__ import annotations

from pathlib import Path

from appliance.store.known.hub_models import load_hub_models
from tests.cli.models.conftest import GGUFS, Run
from tests.store.hub_server import HubServer


def test_a_name_of_the_catalog_and_one_of_ollamas_library_mean_a_repository(
    run: Run, hub: HubServer, tmp_path: Path
) -> None:
    repo = "bartowski/Llama-3.2-1B-Instruct-GGUF"
    hub.add(repo, hub.repositories[GGUFS])

    assert run("pull", "llama3.2:1b", "--quant", "Q2_K").returncode == 0
    assert "novels-6m-Q2_K.gguf" in run("fit", "llama-3.2-1b:Q2_K", "--json").stdout
    assert hub.downloads() == [("novels-6m-Q2_K.gguf", None)]
    assert f"/api/models/{repo}" in {request.path for request in hub.requests}, "the newest"
    folder = tmp_path / "models" / "Llama-3.2-1B-Instruct-GGUF"
    assert run("rm", "ollama.com/library/llama3.2:1b").stdout == f"Deleted {folder}\n"


def test_the_commit_of_the_catalogs_entry_is_pulled(run: Run, hub: HubServer) -> None:
    [entry] = [model for model in load_hub_models() if model.name == "qwen3-4b"]
    hub.add(entry.repository, hub.repositories[GGUFS])

    assert run("pull", "qwen3-4b:Q2_K").returncode == 0

    asked = {request.path for request in hub.requests if request.path.startswith("/api/models/")}
    assert asked == {f"/api/models/{entry.repository}/revision/{entry.revision}"}
