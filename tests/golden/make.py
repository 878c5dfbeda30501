"""Write `published.npz`: logits of the plain reference for small seeded checkpoints. Run from the project's root."""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import published as reference

LAYERS = {"clip": 6, "dino": 9}

if __name__ == "__main__":
    image = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        logits = {
            kind: reference.logits(kind, reference.tensors(kind, 0, classes=4, layers=layers), image)[:, :, ::8, ::8]
            for kind, layers in LAYERS.items()
        }
    np.savez_compressed(
        Path(__file__).parent / "published.npz", **{kind: item.numpy() for kind, item in logits.items()}
    )
