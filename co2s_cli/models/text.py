"""Class vectors from text prompts by CLIP's text tower. A model stores them, so that prediction needs no text tower."""

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
    """The phrases that describe a class: its prompts, else its name."""
    return item.prompts or (item.name,)


@torch.no_grad()
def class_vectors(classes: ClassMap, name: str, weights: str) -> Tensor:
    """Unit vectors (N, width): for each class the normalised mean of its prompts' embeddings, which are not normalised.

    `name` is a CLIP of open_clip and `weights` a tag or a file with the whole CLIP; the text tower uses the activation
    that the weights were trained with.

    Raises:
        ModelError: the weights hold no text tower, or do not fit.
    """
    tensors = clip_tensors(name, weights)
    model = open_clip.create_model(
        name.removesuffix(QUICK), force_quick_gelu=training_of(name, weights).quick_gelu
    ).eval()
    text_tensors = {key for key in model.state_dict() if not key.startswith("visual.")}
    missing = sorted(text_tensors - tensors.keys() - {"logit_bias"})
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
        model.encode_text(tokenizer([TEMPLATE.format(phrase) for phrase in concepts(item)])).mean(dim=0)
        for item in classes.classes
    ]
    return F.normalize(torch.stack(rows), dim=-1)
