"""Copies every tensor that fits from one model into another with other classes, bands or students."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from co2s_cli.geo.read.bands import find_bands
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.student import Student


@dataclass(frozen=True, slots=True)
class Transfer:
    """What was copied from a model file."""

    taken: dict[str, tuple[int, int]]
    """By student: number of tensors copied, and number of tensors that the student has."""
    new_classes: tuple[str, ...] = ()
    """Classes that the file does not have: their vectors stay randomly initialised."""
    new_bands: tuple[str, ...] = ()
    """Bands that the file does not have: their filters stay randomly initialised."""

    def __str__(self) -> str:
        """One line for the log."""
        parts = [f"{name} {count} of {total} tensors" for name, (count, total) in self.taken.items()]
        if self.new_classes:
            parts.append(f"new class vectors for {', '.join(self.new_classes)}")
        if self.new_bands:
            parts.append(f"new filters for {', '.join(self.new_bands)}")
        return "; ".join(parts)


def transfer(source: Ensemble, target: Ensemble, *, leave: Sequence[str] = ()) -> Transfer:
    """Copy the tensors of `source` that fit into `target`, between students of the same name.

    Rows of classes and filters of bands are matched by name, bands also by their common names. Tensors of other shapes,
    and rows and filters without a match, keep their random initial values; so do tensors whose names begin with one of
    `leave`. Filters are scaled by the ratio of the numbers of bands, so that their sum over the bands keeps its size.
    """
    old, new = source.manifest, target.manifest
    classes = _indices(new.class_map.names, old.class_map.names)
    bands = [None if number is None else number - 1 for number in find_bands(old.bands, new.bands)]
    taken = {}
    for name, student in target.students.items():
        if name not in source.students:
            taken[name] = (0, len(student.state_dict()))
            continue
        taken[name] = _fill(student, source.students[name], classes, bands, leave)  # type: ignore[arg-type]
    return Transfer(
        taken,
        tuple(name for name, index in zip(new.class_map.names, classes, strict=True) if index is None),
        tuple(name for name, index in zip(new.bands, bands, strict=True) if index is None),
    )


@torch.no_grad()
def _fill(
    student: Student, source: Student, classes: list[int | None], bands: list[int | None], leave: Sequence[str]
) -> tuple[int, int]:
    """Copy the tensors that fit from `source` into `student`; the number copied, and the number in `student`."""
    state, source_state = student.state_dict(), source.state_dict()
    count = 0
    for name, value in state.items():
        old = source_state.get(name)
        if old is None or name.startswith(tuple(leave)):
            continue
        if name in student.class_tensors():
            old = _class_rows(value, old, classes)
        elif name in student.band_tensors():
            old = _band_filters(value, old, bands)
        if old is not None and old.shape == value.shape:
            value.copy_(old)
            count += 1
    return count, len(state)


def _indices(new_names: Sequence[str], old_names: Sequence[str]) -> list[int | None]:
    """For each new name its index in the old names, whatever the case; None where it is not among them."""
    index_by_name = {name.lower(): index for index, name in enumerate(old_names)}
    return [index_by_name.get(name.lower()) for name in new_names]


def _class_rows(new: Tensor, old: Tensor, indices: list[int | None]) -> Tensor | None:
    """Rows `indices` of `old`, one for each class; where an index is None, the row of `new`. None if nothing fits."""
    if new.shape[1:] != old.shape[1:] or all(index is None for index in indices):
        return None
    return torch.stack([new[row] if index is None else old[index] for row, index in enumerate(indices)])


def _band_filters(new: Tensor, old: Tensor, indices: list[int | None]) -> Tensor | None:
    """Filters (width, bands, h, w): bands `indices` of `old`, scaled, or `new`'s where None. None if nothing fits."""
    same_shape = new.shape[0] == old.shape[0] and new.shape[2:] == old.shape[2:]
    if not same_shape or all(index is None for index in indices):
        return None
    scale = old.shape[1] / new.shape[1]
    bands = [new[:, band] if index is None else old[:, index] * scale for band, index in enumerate(indices)]
    return torch.stack(bands, dim=1)
