"""Small networks whose weights have the real names: a CLIP that open_clip knows, and a DINOv3 of timm."""

import json
from pathlib import Path

import open_clip
import timm
import torch

from co2s_cli.models import catalog

CLIP = "co2s-test-clip"
DINO = "vit_small_patch16_dinov3_qkvb"
SIZES = catalog.dino_student("tiny-dino").backbone.options["sizes"]


def know_small_clip(folder: Path) -> None:
    """Let open_clip know a three-layer CLIP under two names, as it knows ViT-B-16 and ViT-B-16-quickgelu."""
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    for name, quick in ((CLIP, False), (f"{CLIP}-quickgelu", True)):
        (folder / f"{name}.json").write_text(json.dumps({**config, "quick_gelu": quick}))
        open_clip.add_model_config(folder / f"{name}.json")


def whole_clip() -> torch.nn.Module:
    torch.manual_seed(11)
    return open_clip.create_model(f"{CLIP}-quickgelu").eval()


def small_dino() -> torch.nn.Module:
    torch.manual_seed(12)
    vit = timm.create_model(DINO, num_classes=0, **SIZES)
    for name, value in vit.named_parameters():
        if "gamma" in name:
            torch.nn.init.normal_(value, 0.5, 0.1)
    return vit
