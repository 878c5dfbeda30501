"""The loop: batch → parts of the loss → step → validate → save. Knows no method by name."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from co2s_cli.data.batch import DrawnBatch
from co2s_cli.data.loader import Loader
from co2s_cli.errors import ConfigError, ResourceError
from co2s_cli.files import write_text
from co2s_cli.models import weights
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import Manifest
from co2s_cli.progress import Progress
from co2s_cli.scoring.report import percent
from co2s_cli.scoring.samples import SampleView
from co2s_cli.scoring.validation import FUSED, ValidationCounts, nothing_counted
from co2s_cli.training.ema import Ema
from co2s_cli.training.model_files import BestFile, best_files, check_kept
from co2s_cli.training.names import EMA, FINAL, LAST
from co2s_cli.training.optimizer import parameter_groups
from co2s_cli.training.records import Records, drifting, duration, findings, read, refuse_older, starving, summary
from co2s_cli.training.runtime import Runtime, without_sync
from co2s_cli.training.schedule import one_cycle, poly
from co2s_cli.training.state import State
from co2s_cli.training.step import StepSums, StudentStep, run_students, share_of_loss, survey, total_loss

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Course:
    """How long a run is, and how its steps are made."""

    steps: int
    """All of them."""
    refit: bool
    """Whether their second half begins anew, with the labels that validated the first half; it is not validated."""
    lr: float
    backbone_lr: float
    decoder_lr: float
    queries_lr: float
    weight_decay: float
    warmup: int
    lr_lag: int
    schedule: Literal["poly", "cycle"]
    clip_norm: float
    val_every: int
    log_every: int
    shared_counts: bool
    """Whether losses are divided by the counts of all ranks."""
    half_files: bool
    """Whether model files hold halves; the state for a resume never does."""
    select_students: bool
    """Whether each student keeps its own best file."""

    @property
    def judged(self) -> int:
        """Steps until the last validation."""
        return self.steps // 2 if self.refit else self.steps


@dataclass(frozen=True, slots=True)
class StudentLoss:
    """The terms of one student's loss of one batch."""

    student: str
    weights: dict[str, float]
    """Of each term in the loss, by its name."""
    values: Tensor
    """(terms) over all ranks, without the weights, on the device; of one of several passes its part of the sum."""


def step_values(losses: Sequence[StudentLoss], summed: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """Sums over the passes of a step: each term as "student/term", and "loss", the weighted sum of all of them.

    `summed` over the ranks, where they are not yet. The device is waited for here alone, once a step.
    """
    by_student: dict[str, Tensor] = {}
    for loss in losses:
        before = by_student.get(loss.student)
        by_student[loss.student] = loss.values if before is None else before + loss.values
    values = iter(summed(torch.cat(list(by_student.values()))).tolist())
    found = {"loss": 0.0}
    for loss in losses[: len(by_student)]:
        terms = {part: next(values) for part in loss.weights}
        found["loss"] += sum(weight * terms[part] for part, weight in loss.weights.items())
        found |= {f"{loss.student}/{part}": value for part, value in terms.items()}
    return found


class TrainingEngine:
    """One run on one rank."""

    def __init__(
        self,
        pair: Ensemble,
        students: Mapping[str, StudentStep],
        loader: Loader,
        course: Course,
        runtime: Runtime,
        *,
        sums: StepSums,
        folder: Path,
        settings: Mapping[str, Any],
        validate: Callable[[Ensemble], ValidationCounts],
        progress: Progress,
        look: Callable[[Ensemble], Sequence[SampleView]] | None = None,
        ema: Ema | None = None,
        guided: bool = False,
        half: bool = False,
    ) -> None:
        """`look` gives crops to be seen beside the numbers.

        `guided`: a frozen guide gives the pseudo-labels, neither the students nor the running mean.
        """
        self._pair = pair
        self.guided = guided
        self._manifest = pair.manifest
        self._ema = ema
        self._students = students
        self._models = {name: runtime.wrapped(student) for name, student in students.items()}
        self._loader = loader
        self._sums = sums
        self._course = course
        self._runtime = runtime
        self._folder = folder
        self._settings = dict(settings)
        self._validate = validate
        self._look = look
        self._progress = progress
        groups = parameter_groups(
            self._pair, course.lr, backbone=course.backbone_lr, decoder=course.decoder_lr, queries=course.queries_lr
        )
        self.optimizer = torch.optim.AdamW(groups, weight_decay=course.weight_decay)
        self._scaler = torch.amp.GradScaler(runtime.device.type, enabled=half)
        self._initial = copy.deepcopy(pair.state_dict()) if course.refit else {}
        self.step = 0
        """Steps done."""
        self._waited = 0.0
        """Seconds in which the next batch was not ready."""
        self.best_files = best_files(
            tuple(pair.students), select_students=course.select_students, averaged=ema is not None
        )
        self.best: dict[str, float] = {}
        """mIoU and step of each best file, by `BestFile.key`; empty before the first validation."""
        self.tally: ValidationCounts | None = None
        """The last validation of this call."""
        self.mean: ValidationCounts | None = None
        """That of the running mean of the weights."""
        self.validated = 0
        """Steps that were done when it was made."""

    def resume(self) -> None:
        """Take up the last whole state of the run folder, which only rank 0 needs to reach."""
        state = None
        with self._runtime.agreed():
            if self._runtime.leads:
                state = State.load(self._folder)
                refuse_older(self._folder, state.step, every=self._course.val_every)
        state = self._runtime.from_leader(state)
        assert state is not None
        with self._runtime.agreed():
            if self._runtime.leads:
                check_kept(self._folder, [file for file in self.best_files if file.key("step") in state.best])
        self._pair.load_state_dict(state.model)
        self._initial = state.initial
        if self._ema is not None:
            self._ema.module.load_state_dict(state.ema)
            self._ema.n_averaged.fill_(state.step % self._course.judged)  # a second half begins anew
        self.optimizer.load_state_dict(state.optimizer)
        self._scaler.load_state_dict(state.scaler)
        self.step, self.best, self.validated = state.step, state.best, state.validated
        blank = nothing_counted(tuple(self._pair.students), len(self._manifest.classes))
        counts = {prefix: blank.filled(vector.numpy()) for prefix, vector in state.counts.items()}
        self.tally, self.mean = counts.get(""), counts.get(EMA)

    def fit(self, until: int) -> None:
        """Train up to `until` steps done, or to the end of the course."""
        course, last = self._course, min(until, self._course.steps)
        records = Records(self._folder, done=self.step) if self._runtime.leads else None
        self._progress.start("train", last - self.step, "step")
        clock = time.perf_counter()
        first = self.step
        batches = self._loader.batches(self.step, last)
        try:
            while self.step < last:
                parts = self._advance(self._drawn(batches))
                self._progress.advance(loss=f"{parts['loss']:.3f}")
                if self.step % course.log_every == 0 or self.step == last:
                    self._log(records, parts, done=self.step - first, seconds=time.perf_counter() - clock, last=last)
                if self._validates():
                    self._check(records)
                elif self.step == last or self.step % course.val_every == 0:
                    self._refuse_broken()
                    self._save()
        finally:
            batches.close()  # here and now: its threads do not outlive it, whatever ended the run
            self._progress.close()
            if records is not None:
                records.close()

    def seconds_a_step(self, tries: int = 2) -> float:
        """What a step takes in which everything is computed; nothing is learnt. A first one is not timed."""
        course = self._course
        self.step = course.judged - 1  # where unlabelled views count
        batches = self._loader.batches(self.step, self.step + tries + 1)
        self._pair.train()
        began = time.perf_counter()
        try:
            for attempt in range(tries + 1):
                drawn = self._drawn(batches)
                if self._gradients(drawn) is None:
                    raise self._too_big(drawn[0])
                began = time.perf_counter() if attempt == 0 else began
            return (time.perf_counter() - began) / tries
        finally:
            batches.close()
            self.optimizer.zero_grad(set_to_none=True)
            self.step, self._waited = 0, 0.0

    def _validates(self) -> bool:
        """Whether a validation follows the last step."""
        judged = self._course.judged
        return self.step == judged or (self.step < judged and self.step % self._course.val_every == 0)

    def _begin_anew(self) -> None:
        """The weights of the beginning, for steps in which all labels teach.

        Going on with the weights at hand was far worse: on few-landsat they ended at a mIoU of .81 and .61 by seed,
        from the beginning at .84 and .78.
        """
        self._pair.load_state_dict(self._initial)
        self.optimizer.state.clear()
        if self._ema is not None:
            self._ema.module.load_state_dict(self._initial)
            self._ema.n_averaged.zero_()

    def validate(self) -> None:
        """Take the tallies of what there is now; records, best and state stay as they are."""
        self._pair.eval()
        self.tally, self.validated = self._validate(self._pair), self.step
        if self._ema is not None:
            self.mean = self._validate(self._ema.module)

    def _drawn(self, batches: Iterator[DrawnBatch]) -> list[DrawnBatch]:
        """The passes of the next step; the time that they are waited for is counted."""
        began = time.perf_counter()
        drawn = [next(batches) for _ in range(self._loader.passes)]
        self._waited += time.perf_counter() - began
        return drawn

    def _advance(self, batches: list[DrawnBatch]) -> dict[str, float]:
        """One step; the values of its parts over all ranks."""
        course = self._course
        if self.step == course.judged and course.refit:
            self._begin_anew()
        step = self.step % course.judged
        factor = (
            one_cycle(step, course.judged)
            if course.schedule == "cycle"
            else poly(step, course.judged, lag=course.lr_lag, warmup=course.warmup)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        self._pair.train()
        self.optimizer.zero_grad(set_to_none=True)
        found = self._gradients(batches)
        if found is None:
            raise self._too_big(batches[0])
        if not math.isfinite(found["loss"]):  # that of all ranks, so all of them stop here
            raise _diverged(self.step + 1, f"the loss is {found['loss']}")
        self._scaler.unscale_(self.optimizer)
        for student in self._pair.students.values():
            if course.clip_norm:
                torch.nn.utils.clip_grad_norm_([p for p in student.parameters() if p.requires_grad], course.clip_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._ema is not None:
            self._ema.update_parameters(self._pair)
        self.step += 1
        return found

    def _gradients(self, batches: list[DrawnBatch]) -> dict[str, float] | None:
        """Gradients of a step, and the values of its parts; None where the device has too little memory."""
        losses: list[StudentLoss] = []
        one = self._loader.one_pass
        try:
            over = None if one else self._survey(batches)
            for index, batch in enumerate(batches):
                losses += self._backward(batch, over, synced=index == len(batches) - 1)
        except torch.OutOfMemoryError:
            return None  # not handled here: what is being raised keeps the step's tensors alive
        return step_values(losses, (lambda values: values) if one else self._runtime.summed)

    def _survey(self, batches: list[DrawnBatch]) -> dict[str, dict[str, Tensor]]:
        """What the terms of each student are divided by, over all passes of the step."""
        device = self._runtime.device
        counts = survey(
            self._students,
            lambda: (batch.to(device, strong=False) for batch in batches),
            self.step % self._course.judged,
            self._sums,
            self._runtime,
        )
        return counts if self._course.shared_counts else {}

    def _too_big(self, batch: DrawnBatch) -> ResourceError:
        """What to try where a step does not fit: the largest half of a half … of the batch that does, found by trying.

        Among several ranks nothing is tried, because the others would wait for this one.
        """
        size = len(batch.images)
        fitting, alone = size // 2, self._runtime.ranks == 1
        while alone and fitting:
            self.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            if self._gradients([batch.first(fitting)]) is not None:
                break
            fitting //= 2
        hint = "one crop alone does not fit: try a smaller --crop, or --checkpointing"
        if fitting:
            said = "fits" if alone else "needs half of it"
            whole = fitting * self._runtime.ranks
            hint = f"--batch {whole} {said}; with --set accumulate={-(-self._loader.crops // whole)} a step is as large"
        return ResourceError(
            f"{self._runtime.device}: a step of {size} + {size} crops of {batch.images.shape[-1]} pixels "
            "does not fit into its memory",
            hint=hint,
        )

    def _backward(
        self, batch: DrawnBatch, over: Mapping[str, Mapping[str, Tensor]] | None, *, synced: bool
    ) -> list[StudentLoss]:
        """Gradients of one pass, one student after the other, without waiting for the device in between.

        `over` is what `_survey` has found, where a step has more passes.
        """
        views = batch.to(self._runtime.device)
        losses = []
        shared = self._course.shared_counts
        self._sums.begin()
        with without_sync(*self._models.values(), wanted=not synced):
            step = self.step % self._course.judged
            for name, terms in run_students(self._students, views, step, called=self._models):
                if over is None:
                    loss, values = total_loss(terms, self._runtime, shared=shared)
                else:
                    parts = over[name] if shared else self._loader.shares
                    portion = len(batch.slots) / self._loader.crops
                    loss, values = share_of_loss(terms, parts, self._runtime, portion=portion)
                self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                losses.append(StudentLoss(name, {part: term.weight for part, term in terms.items()}, values))
        return losses

    def _log(self, records: Records | None, parts: dict[str, float], *, done: int, seconds: float, last: int) -> None:
        if records is None:
            return
        course = self._course
        rate = next(group["lr"] for group in self.optimizer.param_groups if group["name"].endswith("decoder"))
        records.add(self.step, {**parts, "lr": rate})
        speed = done / max(seconds, 1e-9)
        images = speed * self._loader.images
        memory = torch.cuda.max_memory_allocated() / 1e9 if self._runtime.device.type == "cuda" else 0.0
        timing = {"images_per_second": images, "seconds": seconds, "waited": self._waited, "gpu_gb": memory}
        records.add_timing(self.step, timing)
        left = duration((last - self.step) / max(speed, 1e-9))
        log.info(
            "step %*d/%d  %s  lr %.1e  %.1f images/s  %s left",
            len(str(course.steps)), self.step, course.steps, summary(parts), rate, images, left,
        )  # fmt: skip

    def _check(self, records: Records | None) -> None:
        """Validate, keep what is the best so far, save. The running mean is kept beside the model, not in its place."""
        self._refuse_broken()
        self.validate()
        assert self.tally is not None
        found = findings(self.tally, self.mean, guided=self.guided)
        improved = [file for file in self.best_files if self._improved(found, file)]
        if records is not None:
            records.add(self.step, found)
            if self._look is not None:
                records.add_views(self.step, self._look(self._pair), self._manifest.class_map.colors)
            scored = [*self.tally.told, *([EMA + FUSED] if self.mean is not None else [])]
            shown = "  ".join(f"{name} {percent(found[f'{name}/miou'])}" for name in scored)
            log.info("step %d  validation mIoU: %s%s", self.step, shown, _best_so_far(improved))
            losses, validations = read(self._folder)
            names = self._manifest.class_map.names
            for warning in (drifting(losses, validations), starving(validations, names)):
                if warning:
                    log.warning(warning)
        self._save(improved)

    def _refuse_broken(self) -> None:
        """Stop where a gradient was no number in the last step, of which no loss has told yet."""
        whole = [values.isfinite().all() for values in self._pair.state_dict().values()]
        if not torch.stack(whole).all():
            raise _diverged(self.step, "the weights hold values that are no numbers")

    def _improved(self, found: Mapping[str, float], file: BestFile) -> bool:
        """Whether a validation beats all earlier ones by the mIoU of a file; if so it is the best from now on."""
        miou = found[file.figure]
        if miou <= self.best.get(file.key("miou"), -1.0):
            return False
        self.best |= {file.key("step"): float(self.step), file.key("miou"): miou}
        return True

    def _save(self, improved: Collection[BestFile] = ()) -> None:
        """Write the models, then the state: what a killed run leaves behind is never older than its state."""
        if not self._runtime.leads:
            return
        for prefix, model, tally in self._kept():
            model.manifest = self._described(tally)
            contents = {}
            for file in improved:
                if file.prefix == prefix and tally is not None:
                    contents[file.name] = file.content(model)
                    write_text(self._folder / file.counts_name, json.dumps(tally.plain()) + "\n")
            final = {prefix + FINAL: model} if self._course.refit and self.step == self._course.steps else {}
            for name, content in {**contents, **final, prefix + LAST: model}.items():
                weights.save(content, self._folder / name, half=self._course.half_files)
        State(
            step=self.step,
            manifest=self._manifest.model_dump_json(),
            model=self._pair.state_dict(),
            ema={} if self._ema is None else self._ema.module.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self._scaler.state_dict(),
            best=self.best,
            settings=self._settings,
            validated=self.validated,
            initial=self._initial if self.step <= self._course.judged else {},
            counts={prefix: torch.from_numpy(tally.vector()) for prefix, _, tally in self._kept() if tally is not None},
        ).save(self._folder)

    def _kept(self) -> list[tuple[str, Ensemble, ValidationCounts | None]]:
        """What is saved: the prefix of its names, the model, its validation."""
        mean = [(EMA, self._ema.module, self.mean)] if self._ema is not None else []
        return [("", self._pair, self.tally), *mean]

    def _described(self, tally: ValidationCounts | None) -> Manifest:
        """The manifest with what the training has reached; scores of other weights than these are no part of it."""
        training = {**self._manifest.training, "steps": self.step}
        if self.step > self._course.judged:
            training["all_labels"] = True  # scores on the labels that validated would be too high
        if tally is not None and self.validated == self.step:
            training["validation"] = {key: round(value, 4) for key, value in tally.facts().items()}
        return self._manifest.model_copy(update={"training": training})


def _best_so_far(improved: Collection[BestFile]) -> str:
    """The end of a log line: whose validation is the best so far."""
    names = ", ".join(file.prefix + file.scored for file in improved)
    return f"  (best so far: {names})" if names else ""


def _diverged(step: int, found: str) -> ConfigError:
    return ConfigError(
        f"step {step}: {found}; the run has diverged",
        hint="start anew with a smaller --set lr=… or more steps of --set warmup=…; what was saved before stays",
    )
