"""Validation by predict's sliding window: each student and the fused pair, and what the pseudo-labels are worth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from co2s_cli import metrics
from co2s_cli.classes import IGNORE
from co2s_cli.data.dataset import Area
from co2s_cli.geo.scaling import Scaling
from co2s_cli.inference.stitch import Piece, Weights, stitch
from co2s_cli.models.pair import Pair, fuse
from co2s_cli.tiling import Plan, Window
from co2s_cli.training.losses import learns
from co2s_cli.training.runtime import Runtime

FUSED = "fused"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sliding:
    """How a map is made of windows; the defaults are predict's, `published` evaluation sets every one."""

    tile: int
    overlap: int
    blend: Literal["probabilities", "logits"] = "probabilities"
    flat: bool = False
    """Whether all of a window weighs the same; else its rim tapers off."""
    resize: int = 0
    """Short side, in pixels, that an area is resized to before and back from afterwards; 0 = as it is."""
    batch: int = 4
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class Tally:
    """Exact counts over labelled validation pixels; tallies of ranks and areas add up."""

    confusions: dict[str, metrics.Confusion]
    """For each student and the fused pair."""
    sure: dict[str, int]
    """Pixels where a student's confidence reaches the threshold: those that it would learn from."""
    right: dict[str, int]
    """Those of them that are right."""
    taught: dict[str, int]
    """Pixels where a student would learn from the other one."""
    agreed: int
    """Pixels where the students say the same."""
    pixels: int

    def vector(self) -> NDArray[np.int64]:
        """All counts in a fixed order."""
        parts = [matrix.ravel() for matrix in self.confusions.values()]
        single = [*self.sure.values(), *self.right.values(), *self.taught.values(), self.agreed, self.pixels]
        return np.concatenate([*parts, np.array(single, np.int64)])

    def filled(self, vector: NDArray[np.int64]) -> Tally:
        """A tally of the same names with the counts of `vector`."""
        values = iter(vector.tolist())
        confusions = {
            name: np.array(list(islice(values, matrix.size)), np.int64).reshape(matrix.shape)
            for name, matrix in self.confusions.items()
        }
        sure, right, taught = ({name: next(values) for name in part} for part in (self.sure, self.right, self.taught))
        return Tally(confusions, sure, right, taught, next(values), next(values))

    def facts(self) -> dict[str, float]:
        """What the record of a run keeps of a validation."""
        found: dict[str, float] = {}
        for name, matrix in self.confusions.items():
            scores = metrics.Scores.of(matrix)
            found[f"{name}/miou"], found[f"{name}/accuracy"] = scores.miou, scores.accuracy
        for name, sure in self.sure.items():
            found[f"{name}/coverage"] = sure / max(self.pixels, 1)
            found[f"{name}/precision"] = self.right[name] / max(sure, 1)
            found[f"{name}/taught"] = self.taught[name] / max(self.pixels, 1)
        found["agreement"] = self.agreed / max(self.pixels, 1)
        return found


def evaluate(
    pair: Pair, areas: Sequence[Area], scaling: Scaling, sliding: Sliding, *, threshold: Tensor, runtime: Runtime
) -> Tally:
    """The tally over all areas, which the ranks share out among themselves."""
    classes, students = len(pair.manifest.classes), tuple(pair.students)
    total = _empty(students, classes)
    counts = total.vector()
    with torch.no_grad():
        for area in areas[runtime.rank :: runtime.ranks]:
            with area.labels.reader() as labels:
                for window, members in maps(pair, area, scaling, sliding, runtime.device):
                    truth = labels.read(window)
                    counts = counts + _tallied(members, truth, pair, threshold).vector()
    summed = runtime.summed(torch.from_numpy(counts).to(runtime.device))
    return total.filled(summed.cpu().numpy())


def maps(
    pair: Pair, area: Area, scaling: Scaling, sliding: Sliding, device: torch.device
) -> Iterator[tuple[Window, dict[str, Tensor]]]:
    """Each student's probabilities (N, h, w) of strips of an area, with the strips' place in the scene."""
    window = area.window
    with area.scene.reader() as reader:
        if not sliding.resize:
            yield from _strips(pair, _Plain(reader, window, scaling), (window.row, window.col), sliding, device)
            return
        patch = reader.read(window)
    source = _Resized(torch.from_numpy(scaling.apply(patch.pixels)), sliding.resize)
    strips = [part for _, part in _strips(pair, source, (0, 0), sliding, device, raw=True)]
    whole = {name: torch.cat([strip[name] for strip in strips], dim=1) for name in pair.students}
    size = (window.height, window.width)
    yield (
        window,
        {
            name: F.interpolate(part[None], size=size, mode="bilinear", align_corners=True)[0].softmax(dim=0)
            if sliding.blend == "logits"
            else F.interpolate(part[None], size=size, mode="bilinear", align_corners=True)[0]
            for name, part in whole.items()
        },
    )


class _Plain:
    """Pixels of an area as they are; windows may see what is around it."""

    def __init__(self, reader: Any, area: Window, scaling: Scaling) -> None:
        self.height, self.width = area.height, area.width
        self._reader, self._area, self._scaling = reader, area, scaling

    def read(self, window: Window) -> Tensor:
        place = Window(window.row + self._area.row, window.col + self._area.col, window.height, window.width)
        return torch.from_numpy(self._scaling.apply(self._reader.read(place).pixels))


class _Resized:
    """An image whose short side was brought to a fixed length, as the published evaluation does."""

    def __init__(self, image: Tensor, short: int) -> None:
        factor = short / min(image.shape[-2:])
        size = [round(side * factor) for side in image.shape[-2:]]
        self._image = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
        self.height, self.width = size

    def read(self, window: Window) -> Tensor:
        part = self._image[:, window.row : window.bottom, window.col : window.right]
        return F.pad(part, (0, window.width - part.shape[2], 0, window.height - part.shape[1]))


def _strips(
    pair: Pair,
    image: _Plain | _Resized,
    origin: tuple[int, int],
    sliding: Sliding,
    device: torch.device,
    *,
    raw: bool = False,
) -> Iterator[tuple[Window, dict[str, Tensor]]]:
    """Strips of the blend by student: probabilities, or with `raw` what was blended."""
    plan = Plan.of(image.height, image.width, tile=sliding.tile, overlap=sliding.overlap)
    names, classes = tuple(pair.students), len(pair.manifest.classes)
    strips = stitch(
        _pieces(pair, image, plan, sliding, device),
        plan=plan,
        area=Window(0, 0, image.height, image.width),
        depth=len(names) * classes,
        device=device,
    )
    for strip in strips:
        if strip.blended is None:
            continue
        parts = dict(zip(names, strip.blended.clone().split(classes), strict=True))  # type: ignore[no-untyped-call]
        if sliding.blend == "logits" and not raw:
            parts = {name: part.softmax(dim=0) for name, part in parts.items()}
        height = strip.valid.shape[0]
        yield Window(origin[0] + strip.row, origin[1], height, image.width), parts


def _pieces(
    pair: Pair, image: _Plain | _Resized, plan: Plan, sliding: Sliding, device: torch.device
) -> Iterator[Piece]:
    weights = Weights(plan, device, flat=sliding.flat)
    everything = np.ones((plan.tile, plan.tile), np.bool_)
    places = [(down, across) for down in range(len(plan.rows)) for across in range(len(plan.cols))]
    for batch in _batched(places, sliding.batch):
        images = torch.stack([image.read(plan.window(*place)) for place in batch]).to(device)
        for place, values in zip(batch, _values(pair, images, sliding), strict=True):
            yield Piece(*place, weights.apply(values, *place), everything)


def _values(pair: Pair, images: Tensor, sliding: Sliding) -> Tensor:
    """What is blended of each image, (B, students · N, tile, tile)."""
    with torch.autocast(images.device.type, dtype=sliding.dtype, enabled=sliding.dtype != torch.float32):
        if sliding.blend == "probabilities":
            return torch.cat(list(pair.members(images).values()), dim=1)
        return torch.cat([student(images).float() for student in pair.students.values()], dim=1)


def _tallied(members: Mapping[str, Tensor], truth: NDArray[np.uint8], pair: Pair, threshold: Tensor) -> Tally:
    """Counts of one strip."""
    classes = len(pair.manifest.classes)
    known = torch.from_numpy(truth != IGNORE).to(threshold.device)
    right = torch.from_numpy(truth.astype(np.int64)).to(threshold.device)
    best = {name: part.max(dim=0) for name, part in members.items()}
    fused = fuse({name: part[None] for name, part in members.items()}, pair.manifest.fusion)[0].argmax(dim=0)
    said = {**{name: part.indices for name, part in best.items()}, FUSED: fused}
    sure = {name: (part.values >= threshold[part.indices]) & known for name, part in best.items()}
    taught = {}
    for name, part in best.items():
        peers = [best[peer] for peer in best if peer != name]
        masks = [learns(part.values, peer.values, threshold[peer.indices]) & known for peer in peers]
        taught[name] = sum(int(mask.sum()) for mask in masks)
    first, *others = (part.indices for part in best.values())
    agreed = known if not others else known & (first == others[0])
    return Tally(
        confusions={name: metrics.confusion(truth, part.cpu().numpy(), classes) for name, part in said.items()},
        sure={name: int(mask.sum()) for name, mask in sure.items()},
        right={name: int((mask & (best[name].indices == right)).sum()) for name, mask in sure.items()},
        taught=taught,
        agreed=int(agreed.sum()),
        pixels=int(known.sum()),
    )


def _empty(students: Sequence[str], classes: int) -> Tally:
    blank = dict.fromkeys(students, 0)
    confusions = {name: np.zeros((classes, classes), np.int64) for name in (*students, FUSED)}
    return Tally(confusions, blank, dict(blank), dict(blank), 0, 0)


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
