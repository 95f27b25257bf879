"""A worker's vectors as numbers. Knows no wire format."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from appliance.worker.messages import Answered

Vector = npt.NDArray[np.float32]


def vectors_of(answer: Answered) -> list[Vector]:
    """Each text's, of length 1, float32 [size]."""
    return [np.frombuffer(vector, "<f4").astype(np.float32) for vector in answer.vectors]
