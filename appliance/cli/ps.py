"""`appliance ps`: asks the running server what it has loaded, and prints it.

Knows no process and no model itself.
"""

from __future__ import annotations

import json
from typing import Any

from appliance.cli.running_server import RunningServer
from appliance.cli.tables.table import table
from appliance.durations import in_words
from appliance.fit.plan.budget import readable
from appliance.settings import ServeSettings

_HEAD = (
    "",
    "state",
    "pid",
    "predicted",
    "real",
    "anonymous",
    "mapped",
    "tokens/s",
    "requests",
    "waiting",
    "unloaded in",
)


def run(settings: ServeSettings, *, as_json: bool) -> int:
    """Raises `ApplianceError` if no server answers, or it refuses."""
    report = RunningServer.of(settings).processes()
    print(json.dumps(report, indent=2) if as_json else as_text(report))
    return 0


def as_text(report: dict[str, Any]) -> str:
    """A line for the server and one for each model; below them, notes on the models."""
    rows = [_HEAD, _server_row(report["server"])]
    rows += [_model_row(model, report["workers"].get(model["id"])) for model in report["models"]]
    notes = [note for model in report["models"] if (note := _note(model))]
    return "\n".join([table(rows), *_budget(report), *notes])


def _server_row(server: dict[str, Any]) -> tuple[str, ...]:
    return ("server", "", str(server["pid"]), "-", *_memory(server), "-", "-", "-", "")


def _model_row(model: dict[str, Any], worker: dict[str, Any] | None) -> tuple[str, ...]:
    waiting = model["num_waiting"] + (model["num_queued"] or 0)
    return (
        model["id"],
        model["state"],
        "-" if worker is None else str(worker["pid"]),
        "-" if model["predicted_bytes"] is None else readable(model["predicted_bytes"]),
        *_memory(worker),
        "-" if model["tokens_per_s"] is None else f"{model['tokens_per_s']:.1f}",
        "-" if model["num_requests"] is None else str(model["num_requests"]),
        str(waiting),
        _unloaded_in(model),
    )


def _memory(process: dict[str, Any] | None) -> tuple[str, str, str]:
    memory = None if process is None else process["memory"]
    if memory is None:
        return "-", "-", "-"
    return (
        readable(memory["pss_bytes"]),
        readable(memory["anonymous_bytes"]),
        readable(memory["file_bytes"]),
    )


def _unloaded_in(model: dict[str, Any]) -> str:
    if model["state"] != "loaded":
        return ""
    if model["unload_in_s"] is None:
        return "in use" if model["num_requests"] else "never"
    return in_words(float(model["unload_in_s"]))


def _budget(report: dict[str, Any]) -> list[str]:
    if report["budget_bytes"] is None:
        return []
    predicted = sum(model["predicted_bytes"] or 0 for model in report["models"])
    return [
        "",
        f"Budget for all processes: {readable(report['budget_bytes'])}. Predicted need of the "
        f"models: {readable(predicted)}.",
        "The real memory of a process includes its share of what several processes map.",
    ]


def _vectors(model: dict[str, Any]) -> str:
    if model["pooling"] == "rank":
        return "ranks documents"
    return f"embeddings of {model['num_embedding_values']} values, pooling {model['pooling']}"


def _note(model: dict[str, Any]) -> str | None:
    name = model["id"] + (f" ({', '.join(model['aliases'])})" if model["aliases"] else "")
    if model["progress"] is not None:
        return f"{name}: {model['progress']}"
    if model["is_loaded"]:
        if model["pooling"] is not None:
            size = f"{model['quantization']}, inputs of up to {model['ctx']} tokens"
            return f"{name}: {size}; {_vectors(model)}"
        slots = "1 slot" if model["slots"] == 1 else f"{model['slots']} slots"
        size = (
            f"{model['quantization']}, context {model['ctx']}, {model['kv_cells']} cells of "
            f"{model['kv_type']}, {slots}"
        )
        size += f"; speculation: {model['speculation']}"
        size += "; exact" if model["exact_rows"] else ""
        return f"{name}: {size}" + (
            "; reduced, because memory is short" if model["is_reduced"] else ""
        )
    return f"{name}: {model['last_error']}" if model["last_error"] else None
