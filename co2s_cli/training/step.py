"""One step of training: views of a batch → one student after the other → the terms of its loss → their sum.

A method (`training/methods`) says in a `Wants` which views it needs and makes terms of them; everything else of a step
is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from co2s_cli.data.batch import Batch
from co2s_cli.models.student import Student
from co2s_cli.training.losses import Term
from co2s_cli.training.runtime import Runtime

FEATURE_STREAM, DROPOUT_STREAM = 9, 10
"""Streams of random numbers; the loader uses lower ones."""

DROPPED = 0.5
"""Share of the channels that feature perturbation drops, as published."""

Guide = Callable[[Tensor], Tensor]
"""Images (B, C, S, S) → class probabilities (B, N, S, S) without gradient: the model that gives the pseudo-labels."""


@dataclass(frozen=True, slots=True)
class Wants:
    """What a method needs of a student's views; the labelled crops are always there."""

    strong: int = 0
    """Strong views of the unlabelled crops."""
    feature: bool = False
    """The weak view with dropped feature channels."""
    weak: bool = False
    """The weak view with its gradient, even where a guide gives the pseudo-labels."""
    peers: bool = False
    """What the other students say about the weak view."""
    labeled_guide: bool = False
    """What the guide says about the labelled crops."""
    tokens: bool = False
    """The student's tokens, translated into the space of each frozen teacher."""

    @property
    def unlabeled(self) -> bool:
        """Whether unlabelled crops are needed at all."""
        return self.strong > 0 or self.feature


@dataclass(frozen=True, slots=True)
class Views:
    """What one student says, as logits (·, N, S, S), and what it is told."""

    labeled: Tensor
    weak: Tensor
    """Of the own unlabelled crops; (0, …) where only pseudo-labels are wanted of them and a guide gives those."""
    strong: tuple[Tensor, ...]
    feature: Tensor | None
    """Of the weak crops with dropped feature channels."""
    guide: Tensor
    """Probabilities (b + extra, N, S, S) of all weak crops, without gradient: what pseudo-labels are made of."""
    labeled_guide: Tensor | None = None
    """Probabilities (b, N, S, S) of the labelled crops by the guide."""
    shown: Tensor | None = None
    """Images that frozen teachers see too: the labelled ones, then the strong ones with the partner's box pasted in."""
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    """The student's tokens of those images, translated into the space of each teacher, by its name."""


class Method(Protocol):
    """A way of learning."""

    @property
    def wants(self) -> Wants:
        """The views it needs."""

    @property
    def classes(self) -> int:
        """How many there are."""

    def wants_at(self, step: int) -> Wants:
        """The views it needs in one step: fewer of them while some have no weight."""

    def counts_said(self, step: int) -> bool:
        """Whether what its terms are divided by depends on what students say about the weak view."""

    def terms(self, view: Views, batch: Batch, peers: Mapping[str, Tensor], step: int) -> dict[str, Term]:
        """Parts of a student's loss in step `step`.

        `peers` are the other students' probabilities of the weak view, (b, N, S, S), without gradient.
        """


class StudentStep(nn.Module):
    """A student together with its method: a batch in, the terms of its loss out. What DDP wraps.

    The other students reach it as probabilities without gradient, so that only one student's graph lives at a time. Its
    `guide` and the teachers that its method knows are no part of this module: DDP, optimiser and model file never see
    them.
    """

    def __init__(
        self,
        student: Student,
        method: Method,
        *,
        number: int,
        seed: int,
        guide: Guide | None = None,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        checkpointed: bool = False,
    ) -> None:
        super().__init__()
        self.student = student
        self.wants_at = method.wants_at
        self.counts_said = method.counts_said
        self._method = method
        self._guide = guide
        self._number = number
        self._seed = seed
        self._dtype = dtype
        self._passes = Passes(student, compiled=compiled, checkpointed=checkpointed)

    def forward(self, batch: Batch, step: int, peers: Mapping[str, Tensor]) -> tuple[dict[str, Term], Tensor]:
        """Terms of its loss of `batch` in step `step` of the run; what it says about the weak view.

        `peers` and the second result are probabilities (b, N, S, S) of the unlabelled crops, without gradient.
        """
        wants = self.wants_at(step)
        masks = self._masks(batch, FEATURE_STREAM, DROPPED) if wants.feature else None
        drops = None
        if self.student.dropout:  # a function of seed, step and slot, so that a resumed run drops the same
            views_dropped = range(1 + wants.strong)
            drops = [self._masks(batch, DROPOUT_STREAM + view, self.student.dropout) for view in views_dropped]
        with self._autocast(batch.images):
            views = forward_views(self._passes, batch, wants, masks=masks, drops=drops, guide=self._guide)
            terms = self._method.terms(views, batch, peers, step)
        return terms, views.weak.detach().float().softmax(dim=1)

    def _masks(self, batch: Batch, stream: int, dropped: float) -> list[Tensor]:
        """A mask (b, channels) for each map of the student."""
        return channel_masks(
            self.student.widths, batch.slots, seed=self._seed, step=batch.step, student=self._number,
            device=batch.images.device, stream=stream, dropped=dropped,
        )  # fmt: skip

    @torch.no_grad()
    def predict_weak(self, batch: Batch) -> Tensor:
        """Probabilities (b, N, S, S) of the weak view, in a pass of its own."""
        own = batch.weak[: len(batch.images)]
        with self._autocast(own):
            return self._passes.probabilities(own)

    def counted(self, batch: Batch, step: int, said: Mapping[str, Tensor], name: str) -> dict[str, Term]:
        """The terms of `forward`, of which the counts alone are right; the networks are not asked.

        `said` are the probabilities of the weak view of all students, by name; empty where no count depends on them.
        Left out are terms that every crop has the same count in.
        """
        wants, own = self.wants_at(step), len(batch.images)
        empty = torch.zeros(1, 1, 1, 1, device=batch.images.device)
        blank = empty.expand(own, self._method.classes, *batch.images.shape[-2:])
        looks = wants.unlabeled and (wants.weak or self._guide is None or wants.feature)
        weak = said.get(name, blank)
        guide = self._guide(batch.weak[:own]) if self._guide is not None and said else weak
        views = Views(
            labeled=blank,
            weak=weak.clamp_min(1e-12).log() if looks else blank[:0],
            strong=(blank,) * wants.strong,
            feature=blank if wants.feature else None,
            guide=torch.cat([guide, empty.expand(len(batch.weak) - own, *blank.shape[1:])])
            if len(batch.weak)
            else weak,
            labeled_guide=blank if wants.labeled_guide else None,
        )
        peers = {peer: probabilities for peer, probabilities in said.items() if peer != name}
        return self._method.terms(views, batch, peers, step)

    def _autocast(self, images: Tensor) -> torch.autocast:
        return torch.autocast(images.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32)


def run_students(
    steps: Mapping[str, StudentStep], batch: Batch, step: int, *, called: Mapping[str, nn.Module] | None = None
) -> Iterator[tuple[str, dict[str, Term]]]:
    """Name and loss terms of each student; its gradients are to be taken before the next one's turn.

    So the graphs of two students never share the memory. Where students learn from one another, those behind the
    first one say in a short pass of their own what the first one is to know. `called` are the steps as DDP wraps them.
    """
    _, *later = steps.items()
    said = {name: student.predict_weak(batch) for name, student in later if student.wants_at(step).peers}
    for name, model in (called or steps).items():
        peers = {peer: said[peer] for peer in steps if peer in said and peer != name}  # in the order of `survey`
        terms, said[name] = model(batch, step, peers)
        yield name, terms


def total_loss(terms: dict[str, Term], runtime: Runtime, *, shared: bool) -> tuple[Tensor, Tensor]:
    """The loss to differentiate on this rank, and the value of each term over all ranks.

    With `shared` counts a term is the sum of all ranks' totals over the sum of their counts. DDP averages gradients
    over the ranks, so this rank's share is multiplied by their number.
    """
    totals = torch.stack([term.total for term in terms.values()])
    counts = torch.stack([term.count for term in terms.values()])
    weight = torch.tensor([term.weight for term in terms.values()]).to(totals.device, non_blocking=True)
    if not shared:
        values = totals / counts.clamp_min(1e-12)
        return (weight * values).sum(), runtime.summed(values.detach()) / runtime.ranks
    both = runtime.summed(torch.stack([totals.detach(), counts]))
    counts = both[1].clamp_min(1e-12)
    values = totals * runtime.ranks / counts
    return (weight * values).sum(), both[0] / counts


class StepSums:
    """Tensors summed over all ranks and passes of a step, for a method that asks for some in the middle of its terms.

    A step of one pass asks the ranks at once. For one of several passes `survey` collects what each of them adds, and
    each is answered with the sums then, in the order in which it asks.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._sums: list[Tensor] = []
        self._asked = 0
        self.mode: Literal["at once", "collecting", "answering"] = "at once"

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self._runtime.device

    def begin(self) -> None:
        """A pass begins."""
        self._asked = 0

    def __call__(self, values: Tensor) -> Tensor:
        """The sum of such tensors."""
        if self.mode == "at once":
            return self._runtime.summed(values)
        self._asked += 1
        if self.mode == "answering":
            return self._sums[self._asked - 1]
        if self._asked > len(self._sums):
            self._sums.append(values)
        else:
            self._sums[self._asked - 1] = self._sums[self._asked - 1] + values
        return values

    def collect(self) -> None:
        """The passes of another step begin to tell what they add."""
        self._sums, self.mode = [], "collecting"

    def answer(self) -> bool:
        """From now on every pass gets the sums over all ranks; whether there are any."""
        self._sums = [self._runtime.summed(values) for values in self._sums]
        self.mode = "answering"
        return bool(self._sums)


@torch.no_grad()
def survey(
    steps: Mapping[str, StudentStep], views: Callable[[], Iterator[Batch]], step: int, sums: StepSums, runtime: Runtime
) -> dict[str, dict[str, Tensor]]:
    """What the terms of each student are divided by, over all ranks and passes of a step, before any gradient is taken.

    `views` gives the passes of this rank anew at each call. They cost a pass of the weak view through the networks, and
    that only where a count depends on it; two where thresholds do as well.
    """
    sums.collect()
    counts = _counted(steps, views, step, sums)
    if sums.answer():
        counts = _counted(steps, views, step, sums)
    shared = runtime.summed(torch.stack([count for terms in counts.values() for count in terms.values()]))
    rest = iter(shared.unbind())
    return {name: {part: next(rest) for part in terms} for name, terms in counts.items()}


def _counted(
    steps: Mapping[str, StudentStep], views: Callable[[], Iterator[Batch]], step: int, sums: StepSums
) -> dict[str, dict[str, Tensor]]:
    """The counts of each student's terms over the passes of this rank."""
    counts: dict[str, dict[str, Tensor]] = {name: {} for name in steps}
    asks = any(student.counts_said(step) for student in steps.values())
    for batch in views():
        sums.begin()
        said = {name: student.predict_weak(batch) for name, student in steps.items()} if asks else {}
        for name, student in steps.items():
            for part, term in student.counted(batch, step, said, name).items():
                counts[name][part] = counts[name].get(part, 0) + term.count
    return counts


def share_of_loss(
    terms: dict[str, Term], over: Mapping[str, Tensor] | int, runtime: Runtime, *, portion: float
) -> tuple[Tensor, Tensor]:
    """As `total_loss` for one of several passes of a step; its values are parts of sums over all passes and ranks.

    `over`: the counts of the whole step by term; or how many shares there are, each with counts of its own. A term that
    is not among the counts has the same in every crop, of which the pass holds a `portion` of the step's.
    """
    totals = torch.stack([term.total for term in terms.values()])
    if isinstance(over, int):
        counts = torch.stack([term.count.clamp_min(1e-12) * over for term in terms.values()])
    else:
        known = [over.get(part, term.count / portion) for part, term in terms.items()]
        counts = torch.stack(known).clamp_min(1e-12)
    weight = torch.tensor([term.weight for term in terms.values()]).to(totals.device, non_blocking=True)
    values = totals / counts
    return (weight * values).sum() * runtime.ranks, values.detach()


class Passes:
    """The encoder and the decoder of a student, compiled or recomputed in the backward pass if wanted."""

    def __init__(self, student: Student, *, compiled: bool = False, checkpointed: bool = False) -> None:
        self._encode: Callable[[Tensor], Any] = torch.compile(student.encode) if compiled else student.encode
        self._decode: Callable[[Any, Sequence[int]], Tensor] = (
            torch.compile(student.decode) if compiled else student.decode
        )
        self.translated = student.translated
        self._checkpointed = checkpointed

    def encode(self, images: Tensor) -> Any:
        """Taps of a batch of images."""
        if self._checkpointed and torch.is_grad_enabled():
            return checkpoint(self._encode, images, use_reentrant=False)
        return self._encode(images)

    def decode(self, taps: Any, size: Sequence[int]) -> Tensor:
        """Logits of `size` of a batch of taps."""
        if self._checkpointed and torch.is_grad_enabled():
            logits: Tensor = checkpoint(self._decode, taps, size, use_reentrant=False)
            return logits
        return self._decode(taps, size)

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities of a batch of images, without gradient."""
        return self.decode(self.encode(images), images.shape[-2:]).float().softmax(dim=1)


def forward_views(
    passes: Passes,
    batch: Batch,
    wants: Wants,
    *,
    masks: Sequence[Tensor] | None = None,
    drops: Sequence[Sequence[Tensor]] | None = None,
    guide: Guide | None = None,
) -> Views:
    """What a student says about a batch, in one pass through its encoder and one through its decoder.

    `masks` (b, channels), one for each map, make the feature view; `drops`, such masks for the labelled crops and for
    each strong view, drop channels while a student trains, never in the weak view. Without a `guide` the weak view's
    logits serve pseudo-labels and losses alike, so that they are computed once. With one the student itself looks at
    that view only if that is wanted. Partners are weak views of the same batch; only the extra ones cost a pass of
    their own.
    """
    own, size = len(batch.images), batch.images.shape[-2:]
    uses_weak = wants.strong > 0 or masks is not None
    looks = uses_weak and (wants.weak or guide is None or masks is not None)
    weak = batch.weak[:own] if looks else batch.weak[:0]
    mixed = [pasted(batch, view) for view in range(wants.strong)]
    taps = passes.encode(torch.cat([batch.images, weak, *mixed]))
    tokens = passes.translated(_without(taps, own, own + len(weak))) if wants.tokens else {}
    if drops is not None:
        labeled_drops, *strong_drops = drops
        whole = [torch.ones(len(weak), mask.shape[1], device=mask.device) for mask in labeled_drops]
        rows = (torch.cat(parts) for parts in zip(labeled_drops, whole, *strong_drops, strict=True))
        taps = type(taps)(*(tap * mask[..., None, None].to(tap.dtype) for tap, mask in zip(taps, rows, strict=True)))
    if masks is not None:
        dropped = (
            tap[own : 2 * own] * mask[..., None, None].to(tap.dtype) for tap, mask in zip(taps, masks, strict=True)
        )
        taps = type(taps)(*(torch.cat(both) for both in zip(taps, dropped, strict=True)))
    logits = passes.decode(taps, size)
    sizes = [own, len(weak), *[own] * wants.strong, *([own] if masks is not None else [])]
    labeled, weak_logits, *rest = torch.split(logits, sizes)
    return Views(
        labeled=labeled,
        weak=weak_logits,
        strong=tuple(rest[: wants.strong]),
        feature=rest[wants.strong] if masks is not None else None,
        guide=_guided(passes, batch, weak_logits, guide) if uses_weak else weak_logits.detach(),
        labeled_guide=guide(batch.images) if wants.labeled_guide and guide is not None else None,
        shown=torch.cat([batch.images, *mixed]) if wants.tokens else None,
        tokens=tokens,
    )


def _guided(passes: Passes, batch: Batch, weak: Tensor, guide: Guide | None) -> Tensor:
    """Probabilities of all weak crops, without gradient: the guide's, else the student's own."""
    if guide is not None:
        return guide(batch.weak)
    own, extra = weak.detach().float().softmax(dim=1), batch.weak[len(weak) :]
    return torch.cat([own, passes.probabilities(extra)]) if len(extra) else own


def _without(taps: Any, first: int, last: int) -> Any:
    """Taps less those of the images `first` … `last - 1`."""
    return taps if first == last else type(taps)(*(torch.cat([tap[:first], tap[last:]]) for tap in taps))


def pasted(batch: Batch, view: int) -> Tensor:
    """A strong view of the own crops with the box of the partner's."""
    own = len(batch.images)
    strong = batch.strong[view]
    return torch.where(batch.boxes[view][:, None], strong[batch.partner], strong[:own])


def channel_masks(
    widths: Sequence[int],
    slots: Sequence[int],
    *,
    seed: int,
    step: int,
    student: int,
    device: torch.device,
    stream: int = FEATURE_STREAM,
    dropped: float = DROPPED,
) -> list[Tensor]:
    """Masks (b, channels), one for each map: 0 where a channel of an image is dropped, else 1 / (1 - dropped)."""
    drawn = []
    for slot in slots:
        rng = np.random.default_rng([seed, stream, step, slot, student])
        drawn.append([(rng.random(width) >= dropped) / (1 - dropped) for width in widths])
    return [
        torch.from_numpy(np.stack([masks[index] for masks in drawn]).astype(np.float32)).to(device, non_blocking=True)
        for index in range(len(widths))
    ]
