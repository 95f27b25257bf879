"""`appliance pull` fetches what fits and nothing else; `fit` shows the same before, and
works offline afterwards.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from appliance.fit.machine.device import measure_device
from appliance.fit.plan.budget import memory_budget
from appliance.store.gguf_header import read_header
from tests.cli.models.conftest import GGUFS, WEIGHTS, Run
from tests.serve.server import free_port
from tests.store.hub_server import Fault, HubServer
from tests.store.samples import Sample, write_sample


def ram_for(run: Run, wanted: str, *too_large: str) -> str:
    """An allowance in which `wanted` fits and the others do not,
    by the needs that `fit` shows.
    """
    record = json.loads(run("fit", GGUFS, "--json").stdout)
    needs = {quant: [] for quant in (wanted, *too_large)}
    for row in record["candidates"]:
        needs.get(row["quantization"], []).append(row["need"]["claimed_bytes"])
    least, limit = min(needs[wanted]), min(min(needs[quant]) for quant in too_large)
    device = measure_device()
    usable = {
        ram: memory_budget(device, ram).usable_bytes for ram in range(128 << 20, 512 << 20, 1 << 18)
    }
    return str(next(ram for ram, usable_bytes in usable.items() if least <= usable_bytes < limit))


def test_the_best_that_fits_is_fetched_and_only_that(
    run: Run, hub: HubServer, tmp_path: Path
) -> None:
    ram = ram_for(run, "Q4_K_M", "Q8_0")
    shown = run("fit", GGUFS, "--ram", ram)
    assert hub.downloads() == [], "fit fetches headers only"

    done = run("pull", GGUFS, "--ram", ram)

    assert (done.returncode, hub.downloads()) == (0, [("novels-6m-Q4_K_M.gguf", None)]), done.stderr
    path = tmp_path / "models" / "novels-GGUF" / "novels-6m-Q4_K_M.gguf"
    assert path.read_bytes() == hub.repositories[GGUFS][path.name]
    *table, last = done.stdout.splitlines()
    chosen = [
        (line.split()[1], *line.split()[4:6])
        for line in (*shown.stdout.splitlines(), *table)
        if line.startswith("  *")
    ]
    assert chosen == [("Q4_K_M", "q8_0", "2048")] * 2
    assert last == f"Downloaded: {path}, 3.6 MiB, from {GGUFS} at {hub.commit(GGUFS)}"


def test_a_quantization_that_is_asked_for_is_fetched_even_where_a_better_one_fits(
    run: Run, hub: HubServer
) -> None:
    done = run("pull", f"{GGUFS}:q2_k")

    assert (done.returncode, hub.downloads()) == (0, [("novels-6m-Q2_K.gguf", None)]), done.stderr


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (
            (f"{GGUFS}:Q5_K_M",),
            2,
            f"{GGUFS} has no Q5_K_M. There are: Q8_0 (novels-6m-Q8_0.gguf), Q4_K_M (",
        ),
        ((f"{GGUFS}:Q2_K", "--quant", "Q8_0"), 2, "contradict each other"),
        (("org/absent",), 2, "shows no repository of that name"),
        (
            ("novels-6m",),
            2,
            "'novels-6m' is not a repository on a hub. Name it as org/repo or org/repo:QUANT, or "
            "by a name that 'appliance list --available' shows.",
        ),
        ((), 2, "Which model? Name it as org/repo or org/repo:QUANT, or by a name that"),
        (("ollama.com/library/qwen3:7b",), 2, "Did you mean qwen3:1.7b or qwen3:8b"),
        (
            (f"{WEIGHTS}:Q9_Z",),
            2,
            "org/novels cannot be converted (exit code 2): appliance-convert: Unknown type Q9_Z",
        ),
        ((GGUFS, "--ram", "64MiB"), 3, "Nothing fits: the smallest choice (Q2_K"),
    ],
)
def test_what_cannot_be_pulled_is_refused_before_anything_is_downloaded(
    argv: tuple[str, ...], code: int, message: str, run: Run, hub: HubServer, tmp_path: Path
) -> None:
    done = run("pull", *argv)

    assert done.returncode == code
    assert message in done.stderr.splitlines()[-1]
    assert not [name for name, _ in hub.downloads() if name.endswith((".gguf", ".safetensors"))]
    assert not (tmp_path / "models").exists()


def test_a_split_model_that_lacks_a_part_is_refused_by_the_parts_name(
    run: Run, hub: HubServer
) -> None:
    part = {"big-Q8_0-00002-of-00002.gguf": b"part"}
    hub.add("org/big", {**hub.repositories[GGUFS], **part})
    hub.add("org/bigger", part)

    missing = "of which big-Q8_0-00001-of-00002.gguf is missing"
    for name in ("org/big:big-Q8_0", "org/bigger"):
        assert f"{name} is split over several files, {missing}" in run("pull", name).stderr


def test_what_is_not_a_model_is_reported_and_left_out(
    run: Run, hub: HubServer, tmp_path: Path
) -> None:
    model = write_sample(tmp_path / "m.gguf", Sample()).read_bytes()
    matrix = write_sample(tmp_path / "i.gguf", Sample(), [("general.type", "imatrix")]).read_bytes()
    hub.add(
        "org/some",
        {"m-Q8_0.gguf": model, "i.gguf": matrix, "d.gguf": b"damaged", "old/m-Q8_0.gguf": model},
    )

    done = run("pull", "org/some")

    assert (done.returncode, hub.downloads()) == (0, [("m-Q8_0.gguf", None)])
    assert [
        line.rpartition("/")[2] for line in done.stderr.splitlines() if line.startswith("left out")
    ] == [
        "i.gguf is not a model (its type is 'imatrix'). Give the model's own file.",
        "d.gguf is not a usable GGUF file: it does not begin with GGUF. "
        "Download or convert it again.",
        "m-Q8_0.gguf has the name of another file there.",
    ]


def test_several_models_in_one_repository_are_not_mixed(
    run: Run, hub: HubServer, tmp_path: Path
) -> None:
    small, large = (
        write_sample(tmp_path / f"{size}b-Q8_0.gguf", Sample(layers=size)).read_bytes()
        for size in (1, 2)
    )
    hub.add("org/both", {"m-1b-Q8_0.gguf": small, "m-2b-Q8_0.gguf": large})

    refused = run("pull", "org/both")
    assert (
        "org/both holds several models, such as m-1b-Q8_0.gguf and m-2b-Q8_0.gguf" in refused.stderr
    )
    assert run("pull", "org/both:2b-Q8_0").returncode == 0
    assert hub.downloads() == [("m-2b-Q8_0.gguf", None)]


def test_a_checkpoint_is_fetched_and_converted_to_what_fits(
    run: Run, hub: HubServer, tmp_path: Path
) -> None:
    done = run("pull", WEIGHTS)

    assert done.returncode == 0, done.stderr
    folder = tmp_path / "models" / "novels"
    [model] = folder.glob("*.gguf")
    assert (model.name, read_header(model).quantization) == ("novels-Q8_0.gguf", "Q8_0")
    assert [name for name, _ in hub.downloads() if name.endswith(".safetensors")] == [
        "model.safetensors"
    ]
    assert f"Downloaded: {model}, 6.0 MiB, from {WEIGHTS} at {hub.commit(WEIGHTS)}" in done.stdout

    hub.requests.clear()
    offline = run("fit", f"{WEIGHTS}:Q2_K", "--json", HF_HUB_OFFLINE="1")
    assert json.loads(offline.stdout)["model_path"] == str(folder / "novels-Q2_K.gguf"), (
        "made of the checkpoint here"
    )
    assert hub.requests == []


def test_what_was_pulled_needs_no_hub(run: Run, hub: HubServer) -> None:
    refused = run("fit", GGUFS, HF_HUB_OFFLINE="1")
    assert (refused.returncode, refused.stderr) == (
        1,
        f"error: {GGUFS} has not been downloaded yet, and HF_HUB_OFFLINE is set. Unset it, or pull "
        "where there is a network.\n",
    )
    run("pull", f"{GGUFS}:Q2_K")

    for name in (GGUFS, f"{GGUFS}:Q2_K", "novels-GGUF"):
        assert "Q2_K is the only file and fits" in run("fit", name, HF_HUB_OFFLINE="1").stdout
    assert "HF_HUB_OFFLINE is set" in run("fit", f"{GGUFS}:Q8_0", HF_HUB_OFFLINE="1").stderr


def test_a_pull_that_was_killed_goes_on_where_it_was(
    run: Run, hub: HubServer, environment: Mapping[str, str], tmp_path: Path
) -> None:
    name = "novels-6m-Q8_0.gguf"
    hub.order(name, Fault(hold_after=2_000_000))
    command = [sys.executable, "-m", "appliance", "pull", f"{GGUFS}:Q8_0"]
    with subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert any(
            line.startswith(b"downloading ") for line in iter(process.stderr.readline, b"")
        ), "it ended before"
        process.kill()
    folder = tmp_path / "models" / "novels-GGUF"
    assert not list(folder.glob("*.gguf"))
    [partial] = (folder / ".pull").iterdir()
    num_bytes = partial.stat().st_size
    hub.released.set()

    assert run("pull", f"{GGUFS}:Q8_0").returncode == 0

    assert 0 < num_bytes <= 2_000_000
    assert hub.downloads() == [(name, None), (name, f"bytes={num_bytes}-")]
    assert (folder / name).read_bytes() == hub.repositories[GGUFS][name]
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "hub.json", name]


def test_a_models_directory_of_another_machine_needs_no_hub(
    run: Run, hub: HubServer, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    for quant in ("Q8_0", "Q2_K"):
        run("pull", f"{GGUFS}:{quant}", "--models-dir", str(stick))
    hub.requests.clear()

    done = run("pull", GGUFS, "--from-dir", str(stick), HF_HUB_OFFLINE="1")

    path = tmp_path / "models" / "novels-GGUF" / "novels-6m-Q8_0.gguf"
    assert (done.returncode, hub.requests) == (0, []), done.stderr
    assert path.read_bytes() == hub.repositories[GGUFS][path.name]
    assert done.stdout.endswith(f"from {GGUFS} at {hub.commit(GGUFS)}\n")
    assert "Q8_0 is the only file and fits" in run("fit", "novels-GGUF").stdout

    (stick / "novels-GGUF" / "novels-6m-Q2_K.gguf").write_bytes(b"damaged")
    assert (
        "HF_HUB_OFFLINE is set"
        in run("pull", f"{GGUFS}:Q2_K", "--from-dir", str(stick), HF_HUB_OFFLINE="1").stderr
    )
    absent = run("pull", GGUFS, "--from-dir", str(tmp_path / "absent"))
    assert (absent.returncode, "is no directory" in absent.stderr) == (2, True)


def test_models_are_listed_and_deleted_by_name(run: Run, hub: HubServer, tmp_path: Path) -> None:
    run("pull", f"{GGUFS}:Q2_K")
    (tmp_path / "mine").mkdir()

    listed = run("list").stdout.splitlines()
    at = listed.index(f"novels-GGUF: from {GGUFS}")
    assert listed[at + 1].split() == ["novels-6m-Q2_K.gguf", "2.6", "MiB"]
    for name in ("../mine", "mine", "..", ".", str(tmp_path / "mine"), "org/absent"):
        assert f"There is no model {name!r} in" in run("rm", name).stderr
    assert (tmp_path / "mine").exists()
    assert run("rm", GGUFS).stdout == f"Deleted {tmp_path / 'models' / 'novels-GGUF'}\n"
    assert "novels-GGUF" not in run("list").stdout


@pytest.mark.parametrize(
    ("flags", "offline", "code", "message"),
    [
        ((), "1", 1, f"{GGUFS} has not been downloaded yet, and HF_HUB_OFFLINE is set."),
        (("--ram", "64MiB"), "", 3, "Nothing fits: the smallest choice (Q2_K"),
        (("--quant", "Q5_K_M"), "", 2, f"{GGUFS} has no Q5_K_M."),
    ],
)
def test_serve_ends_as_the_pull_does(
    flags: tuple[str, ...], offline: str, code: int, message: str, run: Run
) -> None:
    done = run("serve", GGUFS, "--port", str(free_port()), *flags, HF_HUB_OFFLINE=offline)

    assert done.returncode == code
    [why] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert why.startswith(f"error: {message}")


@pytest.mark.parametrize("words", [("serve", "auto"), ("run", "auto", "Hello")])
def test_auto_says_what_it_takes_and_ends_without_a_network(
    words: tuple[str, ...], run: Run
) -> None:
    flags = ("--port", str(free_port()), "--ram", "1200MiB")
    done = run(*words, *flags, HF_HUB_OFFLINE="1")

    assert done.returncode == 1
    assert "is the best chat model that fits: " in done.stderr
    assert "will be downloaded from " in done.stderr
    assert "HF_HUB_OFFLINE is set" in done.stderr.splitlines()[-1]


def test_serve_that_is_stopped_while_it_pulls_ends_the_pull(
    hub: HubServer, environment: Mapping[str, str]
) -> None:
    hub.order("novels-6m-Q8_0.gguf", Fault(hold_after=2_000_000))
    command = [sys.executable, "-m", "appliance", "serve", GGUFS, "--port", str(free_port())]
    with subprocess.Popen(command, env=dict(environment), stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert any(
            line.startswith(b"downloading ") for line in iter(process.stderr.readline, b"")
        ), "it ended before"
        [child] = psutil.Process(process.pid).children()
        process.terminate()
        process.stderr.read()
    assert process.returncode == 0
    assert not child.is_running()


def test_a_server_does_without_a_hubs_client(environment: Mapping[str, str]) -> None:
    program = "import sys, appliance.cli.serve; sys.exit('huggingface_hub' in sys.modules)"

    assert (
        subprocess.run(
            [sys.executable, "-c", program], env=dict(environment), check=False
        ).returncode
        == 0
    )


def test_a_directory_wins_over_a_repository_of_its_spelling(
    run: Run, hub: HubServer, tmp_path: Path
) -> None:
    (tmp_path / GGUFS).mkdir(parents=True)

    assert f"{GGUFS} is not a checkpoint: it has no config.json" in run("fit", GGUFS).stderr
    assert run("pull", f"{GGUFS}:Q2_K").returncode == 0, "pull never means a path"
