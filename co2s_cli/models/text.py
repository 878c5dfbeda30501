"""Class vectors from prompts by CLIP's text tower; computed once and stored, so that prediction needs no text tower."""

from __future__ import annotations

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from co2s_cli.classes import ClassMap, LandClass
from co2s_cli.errors import ModelError, one_line
from co2s_cli.models.clip_training import QUICK, training_of
from co2s_cli.models.pretrained import clip_tensors

TEMPLATE = "a photo of a {}"


def concepts(item: LandClass) -> tuple[str, ...]:
    """What is said of a class: its prompts, else its name."""
    return item.prompts or (item.name,)


@torch.no_grad()
def class_vectors(classes: ClassMap, name: str, weights: str) -> Tensor:
    """Unit vectors (N, width): the mean of each class's un-normalised prompt embeddings, normalised.

    The text tower `name` runs with the activation that its weights were trained with; `weights` is a tag or a file that
    holds the whole CLIP.
    """
    tensors = clip_tensors(name, weights)
    model = open_clip.create_model(
        name.removesuffix(QUICK), force_quick_gelu=training_of(name, weights).quick_gelu
    ).eval()
    wanted = {key for key in model.state_dict() if not key.startswith("visual.")}
    missing = sorted(wanted - tensors.keys() - {"logit_bias"})
    if missing:
        raise ModelError(
            f"{weights}: no text tower in it (misses {missing[0]})", hint="class prompts need the whole CLIP"
        )
    try:
        model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{weights}: does not fit {name} ({one_line(error)})") from error
    tokenizer = open_clip.get_tokenizer(name)
    rows = [
        model.encode_text(tokenizer([TEMPLATE.format(word) for word in concepts(item)])).mean(dim=0)
        for item in classes.classes
    ]
    return F.normalize(torch.stack(rows), dim=-1)
