"""Programs that run llama.cpp, each a child started with `-m`:
the only importers of llama_cpp.

Know no checkpoint. `convert/child.py` is how they are talked to.
"""
