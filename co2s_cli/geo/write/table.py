"""A batch of features on its way into a vector file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Table:
    """Some features: WKB and one array a field."""

    geometry: NDArray[np.object_]
    fields: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.geometry)
