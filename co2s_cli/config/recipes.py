"""Presets: named groups of settings for `co2s train` and `co2s distill`."""

from __future__ import annotations

from typing import Any

_FROM_NOTHING: dict[str, Any] = {
    "backbone_lr": 1.0,
    "decoder_lr": 1.0,
    "strong_jitter": 0.25,  # networks without pretraining rely on colour: strong changes of it mislead them
    "strong_hue": 0.03,
    "strong_gray": 0.0,
}
_TINY: dict[str, Any] = {
    **_FROM_NOTHING,
    "crop": 128,
    "batch": 4,
    "steps": 600,
    "lr": 5e-4,
    "warmup": 50,  # at the full rate from the first step such networks often collapse to one class everywhere
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
        "init": "start",  # students are then dino and local for red, green, blue; local, local2, local3 for other bands
        "train_backbone": "all",
        "clip": "tiny-clip",
        "clip_weights": "none",
        "dino": "tiny-dino",
        "dino_weights": "none",
        **_FROM_NOTHING,
        "crop": 96,
        "batch": 4,
        "visits": 24,
        "eval_overlap": 0.5,  # of windows of 96 px; by a quarter, class borders follow the windows
        "refit": True,  # few labels are all needed: on few-landsat training with a fifth less cost 25 to 30 points
        "lr": 2e-3,
        "schedule": "cycle",
        "scale": (1.0, 1.0),
        "headroom": 0.5,  # the brightest 2 % of a scene are often a class of their own: towns, sand, foam
        "balance": "uniform",  # one crop in n has the rarest of n classes at its centre
        "flips": "both",
        "rotate": True,
        "labeled_gain": 0.05,
        "labeled_offset": 0.02,
        "labeled_noise": 0.01,
        "labeled_balance": 0.5,  # counted by pixel, polygons of 10 pixels are learnt long after those of 100
        "labeled_paste": 0.5,  # without it 10 % of a Landsat scene's water, its narrow arms, became land
        "consistency_start": 0.3,  # earlier pseudo-labels of students without pretraining are mostly wrong
        "consistency_after": 60,  # in runs of 100 steps, `consistency_start` alone would end after 30
        "consistency_ramp": 0.1,
        "stability_weight": 0.25,  # a larger weight makes the students alike, so that they no longer correct each other
        "threshold_share": 0.5,
        "pseudo_balance": 0.5,
    },
}
"""Settings of `co2s train` by name of the preset. `published` is the behaviour of the released code, its bugs included;
`tiny` is the paper's pair as networks that fit any machine, for trials; `small` learns without pretrained weights."""

FROM_MODELS: dict[str, Any] = {"lr": 1e-4, "decoder_lr": 10.0, "ema": 0.0, "divisor": 1.0}
"""Defaults of `co2s distill` with model files as teachers: they make the pseudo-labels, so `ema` is off."""

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
"""Settings of `co2s distill` by name of the preset. `published` is the behaviour of RS-MTDF's released code."""
