"""Small mistakes that the tests must notice: `make mutants` makes each of them in a copy and runs its room's tests.

python tests/mutants.py [--jobs N] [WORD …]   # only mutants whose file or reason holds a word
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]

FORK = multiprocessing.get_context("fork")

SAID = 10
"""Added to pytest's exit code, so that an error of this script is none of the tests."""

PRELOADED = ("torchvision", "timm", "open_clip", "rasterio.features", "scipy.ndimage", "sklearn.metrics")
"""Modules of others that tests import, and that take seconds to."""

LIMIT_SECONDS = 300
"""A mutant whose tests take longer counts as killed: it made a loop endless."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake."""

    file: str
    """The file below co2s_cli."""
    old: str
    """Text that occurs once in it."""
    new: str
    """What it becomes."""
    tests: str
    """The files below tests that must fail, with spaces between them."""
    why: str
    """What is wrong then."""

    @property
    def path(self) -> Path:
        """The file, from the root of the repository."""
        return Path("co2s_cli", self.file)


FORMULAS, LOSSES = "training/test_formulas.py", "training/test_losses.py"
METHODS, SCHEDULE = "training/test_methods.py", "training/test_schedule.py"
SETUP, PROTOCOL, AUGMENT = "training/test_setup.py", "data/test_protocol.py", "data/test_augment.py"
RUNNER, SLIDING, STORE, PRODUCTS = (f"inference/test_{name}.py" for name in ("runner", "sliding", "store", "products"))
VALIDITY, READER = "geo/read/test_validity.py", "geo/read/test_reader.py"
MODEL_FILES = "training/test_model_files.py"
SELF_TRAINING = "training/methods/self_training.py"

MUTANTS: tuple[Mutant, ...] = (
    # labels
    Mutant(
        "geo/labels/polygon_file.py",
        "left, top = np.floor(",
        "left, top = np.round(",
        "geo/labels/test_polygon_file.py",
        "a point labels the pixel whose corner is nearest",
    ),
    Mutant(
        "geo/read/features.py",
        "is_point.all() else",
        "is_point.any() else",
        "geo/labels/test_polygon_file.py",
        "polygons among points are called points",
    ),
    Mutant(
        "geo/read/undeclared.py",
        "return land if land.size and (_varies(land) == _varies(values)).all() else values",
        "return land",
        "geo/read/test_undeclared.py",
        "a single pixel that is no border makes every band constant",
    ),
    Mutant(
        "geo/read/scaling.py",
        "return land_values(patch) if",
        "return patch.pixels[:, patch.valid] if",
        "geo/read/test_undeclared.py",
        "a border that is not declared decides the statistics",
    ),
    Mutant(
        "training/methods/self_training.py",
        "balance=self.rules.labeled_balance,",
        "",
        "training/test_methods.py",
        "crops with few labelled pixels weigh no more, whatever the settings say",
    ),
    # suggestions
    Mutant(
        "suggestions/choice.py",
        "if taken[class_id] >= class_limit:",
        "if taken[class_id] > class_limit:",
        "suggestions/test_choice.py",
        "a class gets one place more than its share",
    ),
    Mutant(
        "suggestions/lattice.py",
        "free &= ~labelled.read(window)",
        "free &= labelled.read(window)",
        "suggestions/test_lattice.py",
        "places are suggested only where labels are",
    ),
    # losses
    Mutant(
        "models/ensemble.py",
        "return (peer >= threshold) & (peer >= own)",
        "return (own >= threshold) & (own >= peer)",
        FORMULAS,
        "the surer student learns from the less sure one",
    ),
    Mutant(
        SELF_TRAINING,
        "mixed = pseudo.mixed(batch.boxes[index], partner)",
        "mixed = pseudo.mixed(batch.boxes[0], partner)",
        FORMULAS,
        "the second strong view has the labels of the first one's box",
    ),
    Mutant(
        SELF_TRAINING,
        "rules.term(outputs.feature, pseudo, ",
        "rules.term(outputs.feature, mixed, ",
        FORMULAS,
        "the feature view has CutMix labels",
    ),
    Mutant(
        SELF_TRAINING,
        "threshold[best.indices]",
        "threshold.max()",
        FORMULAS,
        "stability ignores the thresholds of the classes",
    ),
    Mutant(
        SELF_TRAINING,
        "logits = outputs.weak if rules.stability_grad else outputs.weak.detach()",
        "logits = outputs.weak.detach()",
        FORMULAS,
        "the stability loss never has a gradient",
    ),
    Mutant(
        SELF_TRAINING,
        "mask if rules.stability_in_padding else mask & valid",
        "mask & valid",
        FORMULAS,
        "padding never counts in the published stability loss",
    ),
    Mutant(
        SELF_TRAINING,
        "(1 / 8, 1 / 8)",
        "(1 / 4, 1 / 4)",
        METHODS,
        "strong views weigh twice as much",
    ),
    Mutant(
        SELF_TRAINING,
        "peak, share = rules.stability_weight,",
        "peak, share = rules.stability_weight / 2,",
        METHODS,
        "stability lies inside of the division by two",
    ),
    Mutant(
        "training/losses.py",
        "return Term(loss.sum(), pseudo.valid.float().sum(), weight)",
        "return Term(loss.sum(), confident.float().sum(), weight)",
        LOSSES,
        "unlabelled losses are divided by the confident pixels",
    ),
    Mutant(
        "training/losses.py",
        "pseudo.confidence >= threshold[pseudo.labels]",
        "pseudo.confidence > threshold[pseudo.labels]",
        LOSSES,
        "a confidence that equals the threshold does not count",
    ),
    Mutant(
        "training/losses.py",
        "confident = pseudo.valid & (",
        "confident = (",
        LOSSES,
        "padding has pseudo-labels",
    ),
    Mutant(
        "training/losses.py",
        "mask.float().sum() * logits.shape[1], weight",
        "mask.float().sum(), weight",
        LOSSES,
        "stability is a sum over classes",
    ),
    Mutant(
        "training/losses.py",
        "torch.where(box, inside, outside)",
        "torch.where(box, outside, inside)",
        LOSSES,
        "labels of a CutMix view are those outside of the box",
    ),
    Mutant(
        "training/losses.py",
        "loss, count = loss * pixel_weights, count * pixel_weights",
        "loss = loss * pixel_weights",
        LOSSES,
        "weighted pixels count fully in the divisor",
    ),
    Mutant(
        "training/losses.py",
        "loss = temperature**2 * confidence",
        "loss = confidence",
        LOSSES,
        "the temperature weakens the gradient of soft labels",
    ),
    Mutant(
        "training/losses.py",
        "predicted, target = translated.float(), tokens.detach().float()",
        "predicted, target = translated.float(), tokens.float()",
        LOSSES,
        "teachers learn from the student",
    ),
    # a step
    Mutant(
        "training/views.py",
        "(rng.random(width) >= drop_rate) / (1 - drop_rate)",
        "(rng.random(width) >= drop_rate) / 1",
        METHODS,
        "kept channels are not doubled",
    ),
    Mutant(
        "training/views.py",
        "[seed, stream, step, slot, student]",
        "[seed, stream, step, student]",
        METHODS,
        "all images lose the same channels",
    ),
    Mutant(
        "training/views.py",
        "strong[batch.partner], strong[: len(batch.images)])",
        "strong[: len(batch.images)], strong[batch.partner])",
        METHODS,
        "a strong view shows the partner outside of the box",
    ),
    Mutant(
        "training/views.py",
        "return torch.cat([weak, student.probabilities(extra)]) if len(extra) else weak",
        "return torch.cat([weak, weak]) if len(extra) else weak",
        FORMULAS,
        "partners of another batch have the labels of the own crops",
    ),
    Mutant(
        "training/step_loss.py",
        "values = totals / counts.clamp_min(1e-12)",
        "values = totals / counts.sum().clamp_min(1e-12)",
        FORMULAS,
        "published: each part is divided by the pixels of all parts",
    ),
    # schedule, presets, protocols
    Mutant(
        "training/schedule.py",
        "math.pi * step / (length - 1)",
        "math.pi * step / length",
        SCHEDULE,
        "the ramp ends below its peak",
    ),
    Mutant(
        "training/schedule.py",
        "min(after, LONGEST_WAIT * total)",
        "after",
        SCHEDULE,
        "a short run ends before its unlabelled pixels count",
    ),
    Mutant(
        "training/schedule.py",
        "(1 - max(step - lag, 0) / total)",
        "(1 - step / total)",
        SCHEDULE,
        "the published rate does not lag",
    ),
    Mutant(
        "training/schedule.py",
        "max(1, -(-images // ranks) // batch)",
        "max(1, images // ranks // batch)",
        SCHEDULE,
        "an epoch drops the images that do not share evenly among the ranks",
    ),
    Mutant(
        "training/ema.py",
        "min(1 - 1 / (step + 1), decay)",
        "decay",
        "training/test_ema.py",
        "the running mean begins with the first weights",
    ),
    Mutant(
        "training/setup.py",
        "settings.class_thresholds.get(name, settings.threshold)",
        "settings.threshold",
        SETUP,
        "thresholds of classes are not read",
    ),
    Mutant(
        "config/recipes.py",
        '"lr_lag": 1,\n        "precision": "fp32",\n        "eval_blend"',
        '"lr_lag": 0,\n        "precision": "fp32",\n        "eval_blend"',
        SETUP,
        "the published rate of Co2S does not lag",
    ),
    Mutant(
        "config/protocol.py",
        "accumulate = max(1, round(total / batch))",
        "accumulate = 1",
        PROTOCOL,
        "on one GPU a step has a quarter of the published batch",
    ),
    Mutant(
        "training/setup.py",
        "ranks=processes * settings.accumulate",
        "ranks=processes",
        PROTOCOL,
        "accumulation makes a run four times as long",
    ),
    Mutant(
        "config/recipes.py",
        '"epochs": 80,\n        "val_every": "epoch",',
        '"epochs": 80,',
        SETUP,
        "the published run validates ten times, not every epoch",
    ),
    Mutant(
        "config/recipes.py",
        '"select": "students"',
        '"select": "fused"',
        SETUP,
        "the published run keeps no best file of each student",
    ),
    Mutant(
        "training/model_files.py",
        'return f"{self.prefix}{self.scored}/miou"',
        'return f"{self.prefix}{FUSED}/miou"',
        MODEL_FILES,
        "the best file of a student is that of the best fused map",
    ),
    Mutant(
        "training/model_files.py",
        "return model if self.scored == FUSED else alone(model, self.scored)",
        "return model",
        MODEL_FILES,
        "the best file of a student holds all students",
    ),
    Mutant(
        "training/engine.py",
        "self._ensemble.load_state_dict(self._initial)",
        "pass",
        "training/test_run.py",
        "all labels teach the weights of the first half, not new ones",
    ),
    Mutant(
        "training/engine.py",
        "self.step, self.best, self.validated = state.step, state.best, state.validated",
        "self.step, self.validated = state.step, state.validated",
        MODEL_FILES,
        "a resumed run forgets its best validations and overwrites their files",
    ),
    Mutant(
        "published/whdld.yaml",
        "highway, arterial road",
        "motorway, arterial road",
        PROTOCOL,
        "a concept word of WHDLD",
    ),
    Mutant(
        "published/gid15.yaml",
        "rice field",
        "rice fields",
        PROTOCOL,
        "a concept word of GID-15",
    ),
    Mutant(
        "data/protocol.py",
        "if max(coding) in codes",
        "if max(coding) not in codes",
        PROTOCOL,
        "labels of Potsdam coded from 0 are read as coded from 1",
    ),
    # augmentation
    Mutant(
        "data/augment.py",
        "    area = rng.uniform(*BOX_AREA) * crop * crop\n    while True:\n",
        "    while True:\n        area = rng.uniform(*BOX_AREA) * crop * crop\n",
        AUGMENT,
        "the area of a box is drawn again with its place: boxes are too small",
    ),
    Mutant(
        "data/augment.py",
        "BOX_AREA, BOX_RATIO = (0.02, 0.4)",
        "BOX_AREA, BOX_RATIO = (0.02, 0.2)",
        AUGMENT,
        "boxes are half as large",
    ),
    Mutant("data/augment.py", "BOX_CHANCE = 0.5", "BOX_CHANCE = 0.3", AUGMENT, "more boxes than half"),
    Mutant(
        "data/augment.py",
        "return min(BASE[0] * ratio / long, BASE[1] * ratio / short)",
        "return max(BASE[0] * ratio / long, BASE[1] * ratio / short)",
        AUGMENT,
        "the published scale rule fills instead of fitting",
    ),
    Mutant(
        "data/augment.py",
        "return view_mask(labels, geometry, crop, IGNORE)",
        "return view_mask(labels, geometry, crop, 0)",
        AUGMENT,
        "padding is labelled as the first class",
    ),
    Mutant(
        "data/augment.py",
        "cols = ((np.arange(geometry.width) + 0.5) * mask.shape[1] / geometry.width)",
        "cols = ((np.arange(geometry.width)[::-1] + 0.5) * mask.shape[1] / geometry.width)",
        AUGMENT,
        "labels are mirrored against the image",
    ),
    Mutant(
        "data/sources.py",
        "alike = all(_without(*_bands_in(image.path)) == usable for image in _images_of(entry))",
        "alike = True",
        "data/test_sources.py",
        "numbers of the first image pick bands of another sensor",
    ),
    Mutant(
        "data/sources.py",
        "if entry.bands or found == numbers:",
        "if found == numbers:",
        "data/test_sources.py",
        "bands of a data.yaml take the place of those of an entry",
    ),
    Mutant(
        "data/paste.py",
        "mask: NDArray[np.bool_] = smooth > np.quantile(smooth, 1 - area)",
        "mask: NDArray[np.bool_] = smooth > np.quantile(smooth, area)",
        "data/test_paste.py",
        "an irregular mask covers what it should leave",
    ),
    Mutant(
        "data/paste.py",
        "[area] >= SMALLEST_SOURCE) &",
        "[area] >= 0) &",
        "data/test_paste.py",
        "labelled areas of any size are pasted",
    ),
    Mutant(
        "data/paste.py",
        "return Crop(image, torch.where(chosen, other.labels, crop.labels), crop.valid, weights)",
        "return Crop(image, crop.labels, crop.valid, weights)",
        "data/test_paste.py",
        "pixels are pasted without their labels",
    ),
    Mutant(
        "data/paste.py",
        "return int(down.sum() + right.sum()) >= math.sqrt(max(1, int(labelled.sum())))",
        "return False",
        "data/test_paste.py",
        "parts are pasted where labels show borders",
    ),
    Mutant(
        "data/paste.py",
        "large_areas(other.labels.numpy())) & crop.valid",
        "large_areas(other.labels.numpy()))",
        "data/test_paste.py",
        "parts are pasted onto padding and held-out pixels",
    ),
    Mutant(
        "data/loader.py",
        "[self._plan.seed, PASTED, step, slot]",
        "[self._plan.seed, PASTED, slot]",
        "data/test_paste.py",
        "every step pastes the same",
    ),
    Mutant(
        "training/setup.py",
        "labeled_paste=settings.labeled_paste,",
        "",
        SETUP,
        "nothing is pasted, whatever the settings say",
    ),
    Mutant(
        "data/paste.py",
        "weights = torch.where(chosen, other.weights, crop.weights)",
        "weights = crop.weights",
        "data/test_paste.py",
        "labels are pasted without their weights",
    ),
    Mutant(
        "data/batch.py",
        "rows = (pixels >= row) & (pixels < row + height)",
        "rows = (pixels >= row) & (pixels <= row + height)",
        "data/test_batch.py",
        "boxes on the device are a row higher",
    ),
    Mutant(
        "data/loader.py",
        "return crops, [crop_of_slot[partner] for partner in partners]",
        "return crops, [crop_of_slot[slot] for slot in slots]",
        "data/test_streams.py",
        "CutMix pastes the same image",
    ),
    Mutant(
        "data/loader.py",
        "[seed, ORDER + stream, epoch]).permutation",
        "[seed, ORDER + stream]).permutation",
        "data/test_streams.py",
        "every pass has the order of the first",
    ),
    Mutant(
        "data/loader.py",
        "cutmix_box(plan.crop, np.random.default_rng([plan.seed, BOXES + view, step, slot]))",
        "cutmix_box(plan.crop, np.random.default_rng([plan.seed, BOXES, step, slot]))",
        "data/test_streams.py",
        "both strong views have the same box",
    ),
    # tiling
    Mutant(
        "tiling.py",
        "[*range(0, last, tile - overlap), last]",
        "[*range(0, last, tile - overlap)]",
        "test_tiling.py",
        "the last window is missing",
    ),
    Mutant(
        "tiling.py",
        "bisect_right(first, start - tile), bisect_left(first, stop)",
        "bisect_right(first, start - tile), bisect_left(first, stop - 1)",
        "test_tiling.py",
        "a window that shares one row with an area is left out",
    ),
    Mutant(
        "tiling.py",
        "return np.stack([weights / total[start : start + tile] for start in first])",
        "return np.stack([weights for start in first])",
        "test_tiling.py",
        "weights of overlapping windows add up to more than 1",
    ),
    Mutant(
        "tiling.py",
        "(above.bottom, above.col, above.width) == (unit.row, unit.col, unit.width)",
        "(above.col, above.width) == (unit.col, unit.width)",
        "test_tiling.py",
        "units with a gap between them make one chain",
    ),
    Mutant(
        "tiling.py",
        "range(worker * count // workers, (worker + 1) * count // workers)",
        "range(worker * count // workers, (worker + 1) * count // workers - 1)",
        "test_tiling.py",
        "the last unit of each worker is nobody's",
    ),
    # stitching
    Mutant(
        "inference/stitch.py",
        "self._sums[:, ring_rows, ring_cols].add_(",
        "self._sums[:, ring_rows, ring_cols].copy_(",
        RUNNER,
        "the last window wins where windows overlap",
    ),
    Mutant(
        "inference/stitch.py",
        "                self._sums[:, ring_rows] = 0\n",
        "",
        RUNNER,
        "rows of the ring keep the sums of earlier rows",
    ),
    Mutant(
        "inference/stitch.py",
        "                self._valid[ring_rows] = False\n",
        "",
        RUNNER,
        "rows of the ring keep the validity of earlier rows",
    ),
    Mutant(
        "inference/stitch.py",
        "np.logical_or(valid, values.valid",
        "np.logical_and(valid, values.valid",
        RUNNER,
        "a pixel is valid only if it was so before any window",
    ),
    Mutant(
        "inference/runner.py",
        "rank = int(self.ranks[down]) + int(self.may_be_valid[down, : cols.start].sum())",
        "rank = int(self.ranks[down])",
        RUNNER,
        "the slot of a window depends on the area",
    ),
    Mutant(
        "inference/sliding.py",
        'flat=self.taper == "flat"',
        "flat=True",
        SLIDING,
        "validation never tapers",
    ),
    Mutant(
        "inference/products.py",
        "lower = probabilities[0] != confidence",
        "lower = probabilities[0] < confidence - 1e-3",
        PRODUCTS,
        "nearly equal classes go to the lower id",
    ),
    Mutant(
        "inference/products.py",
        "(fractions * STEPS).round_()",
        "(fractions * STEPS).floor_()",
        PRODUCTS,
        "stored fractions are cut, not rounded",
    ),
    Mutant(
        "inference/products.py",
        "label.masked_fill_(~(confidence >= self.min_confidence), IGNORE)",
        "label.masked_fill_(confidence < self.min_confidence, IGNORE)",
        PRODUCTS,
        "a pixel that is no number gets a class",
    ),
    # nodata and validity
    Mutant(
        "geo/read/validity.py",
        "valid &= part.pixels([self.alpha])[0] > 0",
        "valid &= part.pixels([self.alpha])[0] >= 0",
        VALIDITY,
        "alpha hides nothing",
    ),
    Mutant(
        "geo/read/validity.py",
        "valid &= part.masks([1])[0] > 0",
        "pass",
        VALIDITY,
        "a mask file hides nothing",
    ),
    Mutant(
        "geo/read/validity.py",
        "np.isfinite(pixels).all(axis=0)",
        "np.isfinite(pixels).any(axis=0)",
        VALIDITY,
        "NaN in one band of several is data",
    ),
    Mutant(
        "geo/read/validity.py",
        "np.any(_differs(pixels, nodata), axis=0)",
        "np.all(_differs(pixels, nodata), axis=0)",
        VALIDITY,
        "nodata in one band hides the pixel",
    ),
    Mutant(
        "geo/read/validity.py",
        "valid |= (part.masks(others) > 0).any(axis=0)",
        "pass",
        VALIDITY,
        "data in a band that is not in use does not count",
    ),
    Mutant(
        "geo/read/validity.py",
        "return not self.whole_mask or self.alpha is not None",
        "return False",
        VALIDITY,
        "blocks that a sparse file lacks are data",
    ),
    Mutant(
        "geo/read/reader.py",
        "        valid &= _within(window.col, window.right, self.grid.width)\n",
        "",
        READER,
        "mirrored columns beyond the edge are valid",
    ),
    Mutant(
        "geo/read/reader.py",
        "period = 2 * (length - 1)",
        "period = 2 * length",
        READER,
        "the mirror repeats the edge",
    ),
    Mutant(
        "geo/read/reader.py",
        "position - left <= right - position",
        "position - left < right - position",
        READER,
        "of two equally near pixels the right one fills a gap",
    ),
    # sieve and specks
    Mutant(
        "geo/polygons/sieve.py",
        "gdal_sieve(classes, min_pixels, out=sieved, mask=mask, connectivity=4)",
        "gdal_sieve(classes, min_pixels + 1, out=sieved, mask=mask, connectivity=4)",
        "geo/polygons/test_sieve.py",
        "regions as large as the limit are merged",
    ),
    Mutant(
        "geo/polygons/sieve.py",
        "gdal_sieve(classes, min_pixels, out=sieved, mask=mask, connectivity=4)",
        "gdal_sieve(classes, min_pixels, out=sieved, connectivity=4)",
        "geo/polygons/test_sieve.py",
        "regions are merged into nodata",
    ),
    Mutant(
        "geo/polygons/sieve.py",
        "np.not_equal(classes[rows], IGNORE, out=mask",
        "np.not_equal(classes[rows], 0, out=mask",
        "geo/polygons/test_sieve.py",
        "class 0 takes the place of nodata",
    ),
    Mutant(
        "pseudo/specks.py",
        "is_large = self._area >= least",
        "is_large = self._area > least",
        "pseudo/test_specks.py",
        "regions of the least size go",
    ),
    Mutant(
        "pseudo/specks.py",
        "        np.add.at(self._area, self._root[lowest[first]], below.area[present])\n",
        "",
        "pseudo/test_specks.py",
        "what lies in strips below does not count",
    ),
    Mutant(
        "pseudo/specks.py",
        "        if self._above is not None:\n            is_large",
        "        if False:\n            is_large",
        "pseudo/test_specks.py",
        "what lies in strips above does not count",
    ),
    # resume
    Mutant(
        "inference/store.py",
        "json.dumps(facts, sort_keys=True, default=str)",
        "json.dumps(sorted(facts), default=str)",
        STORE,
        "unfinished work of other settings is continued",
    ),
    Mutant(
        "inference/store.py",
        "return all(self._is_whole(self.path(unit, plane)) for plane in self.planes)",
        "return all(self.path(unit, plane).exists() for plane in self.planes)",
        STORE,
        "a part that is cut short counts as finished",
    ),
    Mutant(
        "inference/store.py",
        "tags.get(PART_TAG) == self._identity(path) and checksum_holds(path)",
        "tags.get(PART_TAG) == self._identity(path)",
        STORE,
        "a part with a changed byte counts as finished",
    ),
    Mutant(
        "inference/store.py",
        "tags.get(PART_TAG) == self._identity(path) and",
        "PART_TAG in tags and",
        STORE,
        "a part of another map or place counts as finished",
    ),
    Mutant(
        "inference/store.py",
        "if content.pop(_DIGEST) == key_of(content):",
        "if content.pop(_DIGEST):",
        STORE,
        "a damaged journal is believed",
    ),
    Mutant(
        "inference/store.py",
        "    if foreign:\n",
        "    if False:\n",
        STORE,
        "files of others are taken for parts",
    ),
    Mutant(
        "inference/mapping.py",
        "if not checksum_holds(path):",
        "if False:",
        "jobs/test_predict.py",
        "a damaged map counts as done",
    ),
    Mutant(
        "geo/checksum.py",
        "file.seek(position + len(UNSET))",
        "file.seek(0, 2)",
        "geo/test_checksum.py",
        "what stands behind the checksum may change",
    ),
    Mutant(
        "geo/protected.py",
        "names += _sources(_text_of_vrt(path), path.parent)",
        "names += []",
        "geo/test_protected.py",
        "the scene behind a virtual raster is written over",
    ),
    Mutant(
        "geo/protected.py",
        "return status.st_dev, status.st_ino",
        "return str(path)",
        "geo/test_protected.py",
        "a link to an input is written over",
    ),
    Mutant(
        "jobs/paths.py",
        'if panel != "Output"]',
        'if panel == "Model"]',
        "jobs/test_paths.py",
        "labels, truth and confidence are written over",
    ),
    Mutant(
        "locks.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "test_locks.py",
        "two processes write into one folder",
    ),
    Mutant(
        "locks.py",
        'return pid.isdecimal() and _process_label(int(pid)).endswith(f" {process}")',
        "return pid.isdecimal() and psutil.pid_exists(int(pid))",
        "test_locks.py",
        "a process that took the number of a dead one is taken for it",
    ),
    Mutant(
        "inference/store.py",
        "self._open[name][:, unit_row : unit_row + count] = array[:, done : done + count]",
        "self._open[name][:, unit_row : unit_row + count] = array[:, :count]",
        STORE,
        "a strip that ends a unit begins the next one anew",
    ),
    Mutant(
        "inference/store.py",
        "return self if note in self.notes else replace",
        "return replace",
        STORE,
        "a note is told again with every resume",
    ),
    Mutant(
        "inference/mapping.py",
        "if journal is not None and journal.key != store.key_of(facts):",
        "if False:",
        "jobs/test_predict.py",
        "unfinished work is continued with other settings",
    ),
    Mutant(
        "training/state.py",
        "    if damaged is not None:\n",
        "    if False:\n",
        "training/test_state.py",
        "a changed byte of the weights is taken up",
    ),
    Mutant(
        "training/state.py",
        "name in self.settings and self.settings[name] != value",
        "name not in self.settings",
        "training/test_state.py",
        "a run goes on with other settings",
    ),
    Mutant(
        "training/records.py",
        "(step // every + 1) * every",
        "(step // every + 2) * every",
        "training/test_state.py",
        "an older state is taken up without a word",
    ),
    Mutant(
        "models/weights.py",
        "    check_finite(path, state)\n",
        "",
        "models/test_weights.py",
        "a model of NaN gives a map without a class",
    ),
    Mutant(
        "models/weights.py",
        "    check_finite(path, tensors)\n",
        "",
        "models/test_weights.py",
        "weights that are no numbers are written",
    ),
    Mutant(
        "config/run.py",
        'RESUMABLE = frozenset({"resume", ',
        'RESUMABLE = frozenset({"resume", "lr", ',
        "test_config.py",
        "a resumed run may change its learning rate",
    ),
    # pseudo-labels, thresholds, scores
    Mutant(
        "pseudo/cut.py",
        "np.where(self.confidence >= needed",
        "np.where(self.confidence > needed",
        "pseudo/test_cut.py",
        "a confidence that equals the threshold is not enough",
    ),
    Mutant(
        "pseudo/cut.py",
        "wanted = np.ceil(levels.sum(axis=1) * share)",
        "wanted = np.floor(levels.sum(axis=1) * share)",
        "pseudo/test_thresholds.py",
        "a threshold keeps less than the share",
    ),
    Mutant(
        "pseudo/cut.py",
        "labels[by_hand], mask[by_hand], weights[by_hand] = strip.human[by_hand], HUMAN, STEPS",
        "mask[by_hand], weights[by_hand] = HUMAN, STEPS",
        "pseudo/test_cut.py",
        "human labels do not lie on top",
    ),
    Mutant(
        "pseudo/candidates.py",
        "second = confidence[1] > confidence[0]",
        "second = confidence[1] >= confidence[0]",
        "pseudo/test_candidates.py",
        "of equally sure students the second decides",
    ),
    Mutant(
        "pseudo/candidates.py",
        "return confidence.amin(dim=0), label[0]",
        "return confidence.amax(dim=0), label[0]",
        "pseudo/test_candidates.py",
        "agreement is as sure as the surer student",
    ),
    Mutant(
        "scoring/matrix.py",
        "iou = hits / np.maximum(truth + predicted - hits, 1)",
        "iou = hits / np.maximum(truth + predicted, 1)",
        "scoring/test_matrix.py",
        "IoU counts hits twice in the union",
    ),
    Mutant(
        "pages/doubt.py",
        "mean[2 * has_value.sum(axis=2) < side * side] = -np.inf",
        "mean[has_value.sum(axis=2) < 0] = -np.inf",
        "pages/test_doubt.py",
        "places without data are called unsure",
    ),
    Mutant(
        "pages/pictures.py",
        "number = (number + 1) % 2**24",
        "break",
        "pages/test_pictures.py",
        "two classes share a colour, so that one is taken for the other",
    ),
    Mutant(
        "scoring/areas.py",
        "true_share = weight @ within",
        "true_share = weight @ within.T",
        "scoring/test_areas.py",
        "areas are those of the points' rows",
    ),
    Mutant(
        "scoring/areas.py",
        "degrees = np.where(points > 1, points - 1.0, np.nan)",
        "degrees = np.where(points > 1, points * 1.0, np.nan)",
        "scoring/test_areas.py",
        "the variance of a stratum is divided by its points, not by one less",
    ),
    Mutant(
        "scoring/strata.py",
        "times /= self._rates[top : top + len(labels), None]",
        "times *= self._rates[top : top + len(labels), None]",
        "scoring/test_strata.py",
        "small pixels are drawn rather than large ones",
    ),
    Mutant(
        "scoring/protocol.py",
        "counting[list(excluded)] = 0",
        "counting[:, list(excluded)] = 0",
        "scoring/test_protocol.py",
        "mask leaves out what the map says in place of what is true",
    ),
    Mutant(
        "scoring/protocol.py",
        "return [class_id for class_id in range(len(matrix)) if class_id not in excluded]",
        "return list(range(len(matrix)))",
        "scoring/test_protocol.py",
        "the published protocol scores the classes that the paper leaves out",
    ),
    Mutant(
        "config/evaluate.py",
        "return self.published.excluded",
        "return ()",
        "scoring/test_area_map.py",
        "the classes that a paper does not score are scored",
    ),
    Mutant(
        "config/protocol.py",
        'PRESETS if protocol.command == "train" else DISTILL_PRESETS',
        "PRESETS",
        "scoring/test_area_map.py",
        "data sets of RS-MTDF are judged by windows of Co2S",
    ),
    Mutant(
        "data/splits.py",
        "parts[tile not in drawn].append(item)",
        "parts[item not in items[:count]].append(item)",
        PROTOCOL,
        "chips of one tile train and validate",
    ),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tests said of a mutant."""

    mutant: Mutant
    killed: bool
    seconds: float

    @property
    def row(self) -> str:
        """A line of the table."""
        verdict = "killed" if self.killed else "SURVIVED"
        return f"{verdict:8}  {self.seconds:5.1f} s  {self.mutant.file:32}  {self.mutant.why}"


def stale(mutant: Mutant) -> str | None:
    """Why a mutant cannot be made; None where it can."""
    count = (ROOT / mutant.path).read_text(encoding="utf-8").count(mutant.old)
    if count != 1:
        return f"{mutant.file}: {mutant.old!r} occurs {count} times, once is wanted ({mutant.why})"
    missing = [name for name in mutant.tests.split() if not (ROOT / "tests" / name).is_file()]
    return f"{mutant.file}: no tests {', '.join(missing)} ({mutant.why})" if missing else None


def _make(mutant: Mutant, copy: Path) -> None:
    """Copy the code and its tests, with the mistake in it."""
    for entry in ROOT.iterdir():
        if entry.name in ("co2s_cli", "tests"):
            shutil.copytree(entry, copy / entry.name)
        elif not entry.name.startswith("."):
            (copy / entry.name).symlink_to(entry)
    path = copy / mutant.path
    path.write_text(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")


def _run_tests(copy: Path, tests: Sequence[str]) -> None:
    """Run quick tests of a copy in this process, which is a fork, and end it with `SAID` plus their exit code."""
    signal.alarm(LIMIT_SECONDS)
    with (copy / "said.txt").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    os.chdir(copy)
    sys.path[0:0] = [str(copy)]
    os.environ["PYTHONPATH"] = str(copy)
    chosen = ["-m", "not slow and not network and not gpu", *(f"tests/{name}" for name in tests)]
    options = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    code = pytest.main([*options, *chosen])
    sys.stdout.flush()
    os._exit(SAID + code)


def judged(mutants: Sequence[Mutant], jobs: int) -> Iterator[Outcome]:
    """What the tests say of each mutant, `jobs` at a time, as they end.

    Each runs in a fork of this process, which has imported what takes long.
    """
    for module in PRELOADED:
        importlib.import_module(module)
    torch.set_num_threads(1)
    waiting, running = list(reversed(mutants)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            folder = tempfile.TemporaryDirectory(prefix="co2s-mutant-")
            _make(mutant, Path(folder.name))
            process = FORK.Process(target=_run_tests, args=(Path(folder.name), mutant.tests.split()))
            process.start()
            running[process.sentinel] = (process, mutant, folder, time.perf_counter())
        for sentinel in wait(list(running)):
            process, mutant, folder, began = running.pop(sentinel)
            process.join()
            killed = process.exitcode in (SAID + pytest.ExitCode.TESTS_FAILED, -signal.SIGALRM)
            outcome = Outcome(mutant, killed, time.perf_counter() - began)
            if not killed:
                print("\n".join((Path(folder.name) / "said.txt").read_text().splitlines()[-8:]))
            folder.cleanup()
            yield outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge mutants and print the table; 1 where one survives or cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only mutants whose file or reason holds one of these")
    parser.add_argument("--jobs", type=int, default=1, help="how many run at once")
    options = parser.parse_args(arguments)
    chosen = [
        mutant
        for mutant in MUTANTS
        if not options.words or any(word in f"{mutant.file} {mutant.why}" for word in options.words)
    ]
    errors = [error for mutant in chosen if (error := stale(mutant))]
    if errors:
        print(*errors, sep="\n")
        return 1
    survivors = 0
    for outcome in judged(chosen, options.jobs):
        print(outcome.row, flush=True)
        survivors += not outcome.killed
    print(f"{len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
