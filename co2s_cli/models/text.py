"""Class vectors from prompts by CLIP's text tower; computed once and stored, so that prediction needs no text tower."""

from __future__ import annotations

from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from co2s_cli.classes import ClassMap, LandClass
from co2s_cli.errors import ModelError
from co2s_cli.models.pretrained import fetch_clip, read_tensors

TEMPLATE = "a photo of a {}"
_QUICK = "-quickgelu"


def concepts(item: LandClass) -> tuple[str, ...]:
    """What is said of a class: its prompts, else its name."""
    return item.prompts or (item.name,)


@torch.no_grad()
def class_vectors(classes: ClassMap, name: str, weights: str) -> Tensor:
    """Unit vectors (N, width): the mean of each class's un-normalised prompt embeddings, normalised.

    The text tower `name` runs with QuickGELU, as OpenAI's weights were trained; `weights` is a tag or a file that
    holds the whole CLIP.
    """
    path = Path(weights)
    tensors = read_tensors(path if path.suffix else fetch_clip(name, weights))
    quick = name if name.endswith(_QUICK) or f"{name}{_QUICK}" not in open_clip.list_models() else f"{name}{_QUICK}"
    model = open_clip.create_model(quick).eval()
    wanted = {key for key in model.state_dict() if not key.startswith("visual.")}
    missing = sorted(wanted - tensors.keys() - {"logit_bias"})
    if missing:
        raise ModelError(
            f"{weights}: no text tower in it (misses {missing[0]})", hint="class prompts need the whole CLIP"
        )
    try:
        model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{weights}: does not fit {quick} ({' '.join(str(error).split())[:200]})") from error
    tokenizer = open_clip.get_tokenizer(quick)
    rows = [
        model.encode_text(tokenizer([TEMPLATE.format(word) for word in concepts(item)])).mean(dim=0)
        for item in classes.classes
    ]
    return F.normalize(torch.stack(rows), dim=-1)
