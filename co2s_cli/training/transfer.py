"""What a model file gives to a model of other classes, bands or students: every tensor that fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.student import Student


@dataclass(frozen=True, slots=True)
class Transfer:
    """What was taken from a model file."""

    taken: dict[str, tuple[int, int]]
    """Tensors taken and tensors there are, by the name of the student."""
    new_classes: tuple[str, ...] = ()
    """Classes whose vectors begin anew."""
    new_bands: tuple[str, ...] = ()
    """Bands whose filters begin anew."""

    def __str__(self) -> str:
        """One line for the log."""
        parts = [f"{name} {count} of {of} tensors" for name, (count, of) in self.taken.items()]
        if self.new_classes:
            parts.append(f"new class vectors for {', '.join(self.new_classes)}")
        if self.new_bands:
            parts.append(f"new filters for {', '.join(self.new_bands)}")
        return "; ".join(parts)


def transfer(source: Ensemble, target: Ensemble, *, leave: Sequence[str] = ()) -> Transfer:
    """Copy into `target` what fits it of `source`, student by student of the same name.

    Rows of classes and filters of bands are taken by name; what neither has a namesake nor the same shape stays as it
    was drawn. Filters are scaled by the number of bands, so that their sum over the bands keeps its size. Tensors whose
    names begin with one of `leave` stay, too.
    """
    old, new = source.manifest, target.manifest
    classes = _places(new.class_map.names, old.class_map.names)
    bands = _places(new.bands, old.bands)
    taken = {}
    for name, student in target.students.items():
        if name not in source.students:
            taken[name] = (0, len(student.state_dict()))
            continue
        taken[name] = _fill(student, source.students[name], classes, bands, leave)  # type: ignore[arg-type]
    return Transfer(
        taken,
        tuple(name for name, place in zip(new.class_map.names, classes, strict=True) if place is None),
        tuple(name for name, place in zip(new.bands, bands, strict=True) if place is None),
    )


@torch.no_grad()
def _fill(
    student: Student, source: Student, classes: list[int | None], bands: list[int | None], leave: Sequence[str]
) -> tuple[int, int]:
    """Copy what fits from one student into another; the tensors taken, and those there are."""
    state, found = student.state_dict(), source.state_dict()
    count = 0
    for name, value in state.items():
        old = found.get(name)
        if old is None or name.startswith(tuple(leave)):
            continue
        if name in student.class_tensors():
            old = _rows(value, old, classes)
        elif name in student.band_tensors():
            old = _filters(value, old, bands)
        if old is not None and old.shape == value.shape:
            value.copy_(old)
            count += 1
    return count, len(state)


def _places(wanted: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """For each wanted name its place among the known ones, None where it is not."""
    places = {name.lower(): index for index, name in enumerate(known)}
    return [places.get(name.lower()) for name in wanted]


def _rows(drawn: Tensor, old: Tensor, places: list[int | None]) -> Tensor | None:
    """Rows of classes by name, those without a namesake as drawn; None where nothing fits."""
    if drawn.shape[1:] != old.shape[1:] or all(place is None for place in places):
        return None
    return torch.stack([drawn[row] if place is None else old[place] for row, place in enumerate(places)])


def _filters(drawn: Tensor, old: Tensor, places: list[int | None]) -> Tensor | None:
    """Filters (width, bands, h, w) by the bands' names, those without a namesake as drawn; None where nothing fits."""
    same = drawn.shape[0] == old.shape[0] and drawn.shape[2:] == old.shape[2:]
    if not same or all(place is None for place in places):
        return None
    scale = old.shape[1] / drawn.shape[1]
    columns = [drawn[:, column] if place is None else old[:, place] * scale for column, place in enumerate(places)]
    return torch.stack(columns, dim=1)
