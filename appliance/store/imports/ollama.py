"""What Ollama keeps: a manifest for each name, and blobs named by their content.

Reads manifests and small blobs; what they say is not trusted.

Source: https://github.com/ollama/ollama, manifest/ (where they are and what is in them),
server/images.go (the layers), types/model/name.go (names), envconfig (the folder).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.errors import BadSettings, SetupError
from appliance.store.imports.found import FoundFile, FoundModel

_HOST, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
_OF_THE_SERVICE = Path("/usr/share/ollama/.ollama/models")  # as Ollama's installer has it
_LAYER = "application/vnd.ollama.image."
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_MOST_TEXT_BYTES = 1 << 20  # of a manifest, or a layer that is no weights


def ollama_folder(home: Path, told: str) -> Path:
    """The folder of Ollama's models: what OLLAMA_MODELS says, else the user's, else the
    service's.

    Raises `BadSettings` where there is none, `SetupError` where it may not be read.
    """
    candidates = [Path(told)] if told else [home / ".ollama" / "models", _OF_THE_SERVICE]
    for folder in candidates:
        try:
            (folder / "manifests").stat()
        except PermissionError as error:
            raise SetupError(
                f"{folder} belongs to another user. Run this with sudo, and --models-dir as it "
                "is without; or name a copy of the folder with --from-dir."
            ) from error
        except OSError:
            continue  # it has none
        return folder
    where = " or ".join(map(str, candidates))
    raise BadSettings(
        f"Ollama has no models in {where}. If they are elsewhere, name that folder with --from-dir."
    )


def ollama_models(folder: Path) -> Iterator[FoundModel]:
    """In order of their manifests; models of Ollama's cloud are none."""
    for manifest in sorted((folder / "manifests").glob("*/*/*/*")):
        if manifest.is_file() and not manifest.name.startswith("."):
            model = _model(folder, manifest)
            if model is not None:
                yield model


def _model(folder: Path, manifest: Path) -> FoundModel | None:
    name = _name(manifest)
    nothing = FoundModel(name=name, origin=_origin(name), files=())
    try:
        layers = _Layers.of(folder, json.loads(_read(manifest)))
        weights = layers.path("model")
        if weights is None:
            return layers.explained(nothing)
        system, template = layers.text("system"), layers.text("template") or layers.text("prompt")
        described = replace(
            nothing,
            system=system,
            parameters=layers.data("params", dict),
            messages=layers.data("messages", list),
            has_go_template=bool(template),
            files=(
                FoundFile(
                    path=weights,
                    name=f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name.rpartition('/')[2])}.gguf",
                    sha256=weights.name.removeprefix("sha256-"),
                ),
            ),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return replace(nothing, problem=f"what Ollama keeps of it cannot be read: {error}.")
    return layers.explained(described)


@dataclass(frozen=True)
class _Layers:
    """The layers of a manifest: digests by kind, of several the last, as Ollama has it."""

    blobs: Path
    digests: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, manifest: Mapping[str, Any]) -> _Layers:
        """Raises `KeyError` and the like for what is no manifest."""
        found = {}
        for layer in manifest["layers"] or ():
            digest = _DIGEST.fullmatch(layer["digest"])
            if digest is None:
                raise ValueError(f"its manifest names a layer {layer['digest']!r}")
            found[layer["mediaType"].removeprefix(_LAYER)] = digest[1].lower()
        return cls(folder / "blobs", found)

    def path(self, kind: str) -> Path | None:
        """Raises `FileNotFoundError` where Ollama has lost it."""
        if kind not in self.digests:
            return None
        path = self.blobs / f"sha256-{self.digests[kind]}"
        path.stat()
        return path

    def text(self, kind: str) -> str:
        path = self.path(kind)
        return "" if path is None else _read(path).decode("utf-8", errors="replace")

    def data(self, kind: str, form: type[Any]) -> Any:
        """JSON of that form; empty where there is none."""
        text = self.text(kind)
        data = json.loads(text) if text.strip() else None
        if data is not None and not isinstance(data, form):
            raise ValueError(f"its {kind} are of the wrong form")
        return data or form()

    def explained(self, model: FoundModel) -> FoundModel | None:
        """With what is said against it; None where nothing of it is on this machine."""
        if "tensor" in self.digests:
            return replace(model, problem="it is kept as tensors for MLX, not as GGUF.")
        if not model.files:
            return None
        if "adapter" in self.digests:
            return replace(model, problem="it is a model with an adapter, which is not applied.")
        remarks = (
            ("projector", "its projector is left out: it will see no pictures."),
            ("draft", "its draft model is left out."),
        )
        return replace(model, remarks=tuple(text for kind, text in remarks if kind in self.digests))


def _name(manifest: Path) -> str:
    """As Ollama shows it, but without `latest`."""
    host, namespace, model, tag = manifest.parts[-4:]
    owner = f"{namespace}/" if namespace != _NAMESPACE else ""
    prefix = owner if host == _HOST else f"{host}/{namespace}/"
    return f"{prefix}{model}" if tag == _TAG else f"{prefix}{model}:{tag}"


def _origin(name: str) -> str:
    """Where Ollama has it from, as its address is written."""
    if name.count("/") > 1:
        return name
    return f"ollama.com/{name}" if "/" in name else f"ollama.com/{_NAMESPACE}/{name}"


def _read(path: Path) -> bytes:
    """Raises `ValueError` for what is larger than any of its kind."""
    if path.stat().st_size > _MOST_TEXT_BYTES:
        raise ValueError(f"{path} is larger than {_MOST_TEXT_BYTES} bytes")
    return path.read_bytes()
