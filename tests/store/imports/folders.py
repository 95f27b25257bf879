"""Folders of models as Ollama and LM Studio keep them, with small models in them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.store.samples import Sample, write_sample

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


def write_gguf(path: Path, *, tokens: int = 300, template: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    extra = [("tokenizer.chat_template", TEMPLATE)] if template else []
    return write_sample(path, Sample(tokens=tokens), extra)


class OllamaFolder:
    """OLLAMA_MODELS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs").mkdir(parents=True)
        (folder / "manifests").mkdir()

    def blob(self, content: bytes) -> Path:
        path = self.folder / "blobs" / f"sha256-{hashlib.sha256(content).hexdigest()}"
        path.write_bytes(content)
        return path

    def add(
        self, name: str, weights: bytes, *, host: str = "registry.ollama.ai", **layers: Any
    ) -> Path:
        """`name` is NAMESPACE/MODEL/TAG; returns the blob of the weights. Layers are text,
        or data that becomes JSON.
        """
        kinds = {"model": weights, **{kind: _bytes(value) for kind, value in layers.items()}}
        blobs = {kind: self.blob(content) for kind, content in kinds.items()}
        self.write_manifest(
            f"{host}/{name}",
            [
                {
                    "mediaType": f"application/vnd.ollama.image.{kind}",
                    "digest": blob.name.replace("-", ":"),
                    "size": blob.stat().st_size,
                }
                for kind, blob in blobs.items()
            ],
        )
        return blobs["model"]

    def write_manifest(self, name: str, layers: object) -> None:
        path = self.folder / "manifests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"schemaVersion": 2, "layers": layers}), encoding="utf-8")


def _bytes(value: object) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value)).encode()
