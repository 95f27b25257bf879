"""Random models are whole files of the promised size, random as promised, and llama.cpp
computes with them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from appliance.store.gguf_header import read_header
from appliance.store.synthetic import TYPE_NAMES, RandomShape, num_tensor_bytes, write_random_model

SHAPE = RandomShape(num_layers=2, embd=256, ff=512, heads=4, kv_heads=2, vocab=1500, ctx=512)

# llama.cpp may die: in a child. Prints the tokens of a text, their text again, and
# whether all logits were finite.
CHILD = """
import json, sys
from pathlib import Path
import llama_cpp, numpy as np
from appliance.engine.batch import Batch
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model
from appliance.protocol.context_sizes import ContextSizes

model = Model(Path(sys.argv[1]), use_extra_bufts=False)
sizes = ContextSizes(
    kv_cells=256, slots=1, max_rows=64, ubatch_rows=64, kv_type="f16", threads=1, batch_threads=1
)
context = Context(model, ContextConfig(sizes=sizes))
tokens = [model.bos, *model.tokenize(sys.argv[2], parse_special=False)]
finite = []
for position, token in enumerate(tokens):
    batch = Batch()
    batch.add(token, position, 0, wants_logits=True)
    context.decode(batch)
    first = llama_cpp.llama_get_logits_ith(context.handle, 0)
    logits = np.ctypeslib.as_array(first, (model.num_vocab,))
    finite.append(bool(np.isfinite(logits).all() and logits.std() > 0.01))
text = b"".join(model.piece(token) for token in tokens[1:]).decode()
end = list(model.end_tokens)
print(json.dumps({"tokens": tokens, "text": text, "finite": all(finite), "end": end}))
"""


@pytest.mark.parametrize("type_name", TYPE_NAMES)
def test_the_file_has_the_predicted_size_and_llama_cpp_decodes_it(
    type_name: str, tmp_path: Path
) -> None:
    path = tmp_path / "random.gguf"
    write_random_model(path, SHAPE, type_name)
    first_tensor = gguf.GGUFReader(path).tensors[0]
    assert path.stat().st_size == first_tensor.data_offset + num_tensor_bytes(SHAPE, type_name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["random.gguf"]
    said = ask_child(path, " hi é")
    assert said["finite"]
    # BOS; " h" is the 8th word after the bytes, " hi" the (1 * 26 + 7 * 26 + 9)th; two
    # bytes of é.
    assert said["tokens"] == [1498, 256 + 26 + 7 * 26 + 8, 0x20, 0xC3, 0xA9]
    assert said["text"] == " hi é"
    assert said["end"] == [1499]


@pytest.mark.parametrize("type_name", TYPE_NAMES)
def test_weights_are_centred_and_keep_the_size_of_what_they_multiply(
    type_name: str, tmp_path: Path
) -> None:
    path = tmp_path / "random.gguf"
    write_random_model(path, SHAPE, type_name)
    matrices = []
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if values.ndim == 1:
            assert (values == 1).all()
        else:
            matrices.append(values.ravel() * values.shape[1] ** 0.5)
    normalized = np.concatenate(matrices)
    assert normalized.std() == pytest.approx(1, rel=0.02)
    assert abs(normalized.mean()) < 0.02


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_random_model(tmp_path / name, SHAPE, seed=seed)
    contents = [(tmp_path / name).read_bytes() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]


def test_the_vocabulary_is_distinct_at_the_size_of_a_real_one(tmp_path: Path) -> None:
    shape = RandomShape(num_layers=1, embd=32, ff=32, heads=1, kv_heads=1, vocab=128_256, ctx=64)
    write_random_model(tmp_path / "m", shape, "Q8_0")
    header = read_header(tmp_path / "m")
    tokens = header.array("tokenizer.ggml.tokens")
    assert len(tokens) == len(set(tokens)) == 128_256
    assert header.array_length("tokenizer.ggml.merges") == 128_256 - 258


@pytest.mark.parametrize(
    ("changes", "type_name", "message"),
    [
        ({}, "Q5_K", "got Q5_K"),
        ({"ff": 500}, "Q4_K", "multiples of 256"),
        ({"heads": 3}, "F16", "heads must divide"),
        ({"vocab": 258}, "F16", "at least 259"),
    ],
)
def test_impossible_shapes_are_refused(
    changes: dict[str, int], type_name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_random_model(tmp_path / "m", RandomShape(**{**vars(SHAPE), **changes}), type_name)
    assert not list(tmp_path.iterdir())


def ask_child(path: Path, text: str) -> dict[str, object]:
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), text], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr[-2000:]
    said: dict[str, object] = json.loads(child.stdout)
    return said
