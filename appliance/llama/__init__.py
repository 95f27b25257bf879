"""The only importer of llama_cpp here. Importing this package loads nothing native: only its modules do.

It sets what llama.cpp reads from the environment when its library is loaded, so that every child has it.
"""

import os

# An abort would attach gdb for a backtrace, and hang on a terminal.
os.environ.setdefault("GGML_NO_BACKTRACE", "1")
# OpenMP's threads wait for each other by spinning. Where somebody else uses a core, the one that spins keeps the one
# it waits for from running. They spin briefly, then sleep (docs/performance.md).
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
