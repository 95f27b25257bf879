"""Adds up what a model's weights are multiplied with while it reads a text: `python -m
convert.native.importance_child`.

Knows no imatrix files. Which weights, and which rows of which input count for which
matrix: llama.cpp, tools/imatrix.

    request: {"model", "text", "threads", "chunk_tokens", "max_chunks", "unfinished",
              "identity", "save_interval_s"}
    events:  {"done", "total"} in chunks
    answer:  {"num_chunks"}, once all sums lie in the file "unfinished"
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType

from convert.child import Refused, serve
from convert.errors import BadInput
from convert.importance.sums import ImportanceSums, NotFinite, load_sums
from convert.native.decoding import WindowDecoder
from convert.native.ggml_tensor import GgmlTensor, find_operators

MIN_CHUNKS = 2  # of text, as llama-imatrix wants: fewer are no sample


class Collector:
    """Sees the nodes of the graph (`cb_eval`) and adds up the inputs of every product
    with a weight of a layer.

    llama-imatrix leaves out inputs of less than 16 rows, so as not to count generated
    tokens; here all rows are the text's, so the end of a chunk counts however short it
    is.
    """

    def __init__(self, sums: ImportanceSums) -> None:
        self._sums = sums
        self._operators = find_operators()

    def __call__(self, address: int, asks: bool) -> bool:
        """Whether the node is wanted (`asks`), or whether the graph shall go on.

        Raises `Refused`.
        """
        node = GgmlTensor.from_address(address)
        if asks:
            return self._wants(node)
        weight = node.source(0)
        try:
            if node.op == self._operators.mul_mat:
                self._add(node, weight)
            else:
                self._add_routed(node, weight)
        except NotFinite:
            raise Refused(
                f"The input of {weight.name.decode()} contains NaN or infinite values: the model "
                "is damaged, or its values are too large for the number format it is computed in."
            ) from None
        return True

    def _wants(self, node: GgmlTensor) -> bool:
        if node.op not in (self._operators.mul_mat, self._operators.mul_mat_id):
            return False
        is_layers: bool = node.source(0).name.startswith(b"blk.")
        is_float32: bool = node.source(1).type == GGMLQuantizationType.F32.value
        return is_layers and is_float32

    def _add(self, node: GgmlTensor, weight: GgmlTensor) -> None:
        outer, matrices, _rows, _columns = weight.shape
        self._sums.add(weight.name.decode(), node.source(1).values(), (outer, matrices))

    def _add_routed(self, node: GgmlTensor, weight: GgmlTensor) -> None:
        _outer, num_experts, _rows, _columns = weight.shape
        rows, experts = node.source(1).values(), node.source(2).values()
        self._sums.add_routed(weight.name.decode(), rows[0], experts[0, 0], num_experts)


def collect(request: Any, send: Callable[[object], None]) -> dict[str, int]:
    """Raises `Refused` for a model that does not decode, a text that is too short, or
    numbers that are none.
    """
    path, identity, chunk_tokens = (
        Path(request["unfinished"]),
        request["identity"],
        request["chunk_tokens"],
    )
    sums = load_sums(path, identity) or ImportanceSums()
    decoder = WindowDecoder(
        Path(request["model"]), chunk_tokens, request["threads"], on_node=Collector(sums)
    )
    tokens = _tokenize(decoder, request["text"], chunk_tokens)
    total_chunks = min(len(tokens) // chunk_tokens, request["max_chunks"] or len(tokens))
    if sums.num_chunks > total_chunks:  # more than is wanted now
        sums.clear()
    saved_at = time.monotonic()
    send({"done": sums.num_chunks, "total": total_chunks})
    for window in itertools.islice(
        decoder.windows(tokens, chunk_tokens), sums.num_chunks, total_chunks
    ):
        # all are asked for: the last layer computes no other rows
        for _logits in decoder.logits(window, 0):
            pass
        if sums.is_empty:
            raise Refused(
                f"{request['model']} has no matrix product with a layer's weight (blk.*), so "
                "there is nothing to measure."
            )
        sums.num_chunks += 1
        if (
            sums.num_chunks == total_chunks
            or time.monotonic() - saved_at >= request["save_interval_s"]
        ):
            _save(sums, path, identity)
            saved_at = time.monotonic()
        send({"done": sums.num_chunks, "total": total_chunks})
    return {"num_chunks": total_chunks}


def _tokenize(decoder: WindowDecoder, text: str, chunk_tokens: int) -> list[int]:
    tokens = decoder.tokenize(text)
    if len(tokens) < MIN_CHUNKS * chunk_tokens:
        raise Refused(
            f"The text is too short: it has {len(tokens)} tokens, but "
            f"{MIN_CHUNKS * chunk_tokens} are needed ({MIN_CHUNKS} chunks of {chunk_tokens})."
        )
    return tokens


def _save(sums: ImportanceSums, path: Path, identity: str) -> None:
    try:
        sums.save(path, identity)
    except BadInput as error:
        raise Refused(str(error)) from error


if __name__ == "__main__":
    serve(collect)
