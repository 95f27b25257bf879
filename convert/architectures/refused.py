"""Architectures that llama.cpp has a name for, but whose models it would compute otherwise
than they were trained, or not at all.

Knows no tensors. Checked against the sources of the pinned llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping

REFUSED: Mapping[str, str] = {
    "BertForSequenceClassification": "it tells a query from a document by their types, and "
    "llama.cpp gives all tokens the first type",
    "PhiMoEForCausalLM": "its router (sparsemixer) weighs the two experts each against its own "
    "rivals; llama.cpp takes the softmax of all",
    "BitNetForCausalLM": "its feed-forward network squares a ReLU; llama.cpp's bitnet has a SiLU "
    "there, of older models",
}
