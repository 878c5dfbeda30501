"""Settings that belong together: presets."""

from __future__ import annotations

from typing import Any

_FROM_NOTHING: dict[str, Any] = {
    "backbone_lr": 1.0,
    "decoder_lr": 1.0,
    "strong_jitter": 0.25,  # networks without pretraining go by colour: with it turned about they learn nonsense
    "strong_hue": 0.03,
    "strong_gray": 0.0,
}
_TINY: dict[str, Any] = {
    **_FROM_NOTHING,
    "crop": 128,
    "batch": 4,
    "steps": 600,
    "lr": 5e-4,
    "warmup": 50,  # at full speed from the first step such networks often die, and answer the same everywhere
}

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "published": {
        "stability_grad": False,
        "stability_in_padding": True,
        "dino_init": "random",
        "network": "published",
        "cutmix_partner": "same",
        "denominators": "rank",
        "clip_norm": 0.0,
        "lr_lag": 1,
        "precision": "fp32",
        "eval_blend": "logits",
        "eval_taper": "flat",
        "eval_overlap": 1 / 6,
        "eval_resize": 512,
        "scale_rule": "fitted",
        "epochs": 80,
        "val_every": "epoch",
        "select": "students",
    },
    "tiny": {
        "clip": "tiny-clip",
        "clip_weights": "none",
        "dino": "tiny-dino",
        "dino_weights": "none",
        **_TINY,
    },
    "small": {
        "init": "start",  # with it dino and local learn on red, green and blue, three of local's kind on other bands
        "train_backbone": "all",
        "dino": "tiny-dino",
        "dino_weights": "none",
        **_FROM_NOTHING,
        "crop": 96,
        "batch": 4,
        "visits": 24,
        "refit": True,  # of few labels none can be spared: on few-landsat a fifth less cost 25 to 30 points
        "lr": 2e-3,
        "schedule": "cycle",
        "scale": (1.0, 1.0),
        "headroom": 0.5,  # the brightest 2 % of a scene are often a class: towns, sand, foam
        "balance": "uniform",  # a crop in n shows the rarest of n classes at its centre
        "flips": "both",
        "rotate": True,
        "labeled_gain": 0.05,
        "labeled_offset": 0.02,
        "labeled_noise": 0.01,
        "consistency_start": 0.3,  # before that, students from nothing teach one another nonsense
        "consistency_after": 60,  # steps: in runs of a hundred that share is over too soon
        "consistency_ramp": 0.1,
        "stability_weight": 0.25,  # students that follow one another closely become one
        "threshold_share": 0.5,
        "pseudo_balance": 0.5,
    },
}
"""Settings by name of the preset. `published` is the released behaviour, accidents included; `tiny` is the paper's pair
in networks that fit any machine, for trying things out; `small` is what learns without pretrained weights."""

FROM_MODELS: dict[str, Any] = {"lr": 1e-4, "decoder_lr": 10.0, "ema": 0.0, "divisor": 1.0}
"""Pace of a student of trained models: they give the pseudo-labels, so that no running mean is needed."""

DISTILL_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "published": {
        "teacher_statistics": "imagenet",
        "align": "second_pass",
        "fuse": True,
        "alpha": 0.8,
        "loss": "mse",
        "cutmix_partner": "flip",
        "denominators": "rank",
        "clip_norm": 0.0,
        "lr_lag": 1,
        "precision": "fp32",
        "scale_rule": "long",
        "eval_blend": "logits",
        "eval_taper": "flat",
        "eval_overlap": 0.0,
        "eval_resize": 518,
        "epochs": 60,
        "val_every": "epoch",
    },
    "tiny": {
        "student": "tiny-student",
        "student_weights": "none",
        "teacher": ("tiny-dino:none", "tiny-clip:none"),
        **_TINY,
    },
}
DISTILL_PRESETS["small"] = DISTILL_PRESETS["tiny"]
"""Settings of `co2s distill` by name of the preset. `published` is RS-MTDF's released behaviour."""
