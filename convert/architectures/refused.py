"""Architectures that llama.cpp has a name for, but whose models it would compute otherwise
than they were trained, or not at all.

Knows no tensors. Checked against the sources of the pinned llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping

REFUSED: Mapping[str, str] = {
    "MllamaForConditionalGeneration": "layers that look at images stand between those that write, "
    "and llama.cpp has no graph with them",
    "PaliGemmaForConditionalGeneration": "it reads its prompt in both directions and llama.cpp "
    "only backwards",
    "Phi4MMForCausalLM": "its weights carry adapters for images and sound that are switched by "
    "what is read; llama.cpp has none of its graph",
    "MiniCPMV": "its config.json does not say which text model is inside",
    "T5EncoderModel": "the embedding models made of it (sentence-t5, GTR) have a dense layer after "
    "pooling, which llama.cpp's t5encoder does not compute",
    "T5ForConditionalGeneration": "it writes with a decoder that looks at an encoder, which this "
    "project's server does not run",
    "UMT5EncoderModel": "it guides other models (images, video) by its last layer, for which this "
    "project's server has no use",
    "BertForSequenceClassification": "it tells a query from a document by their types, and "
    "llama.cpp gives all tokens the first type",
    "PhiMoEForCausalLM": "its router (sparsemixer) weighs the two experts each against its own "
    "rivals; llama.cpp takes the softmax of all",
    "BitNetForCausalLM": "its feed-forward network squares a ReLU; llama.cpp's bitnet has a SiLU "
    "there, of older models",
}
