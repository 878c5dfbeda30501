"""The training loop: batch → loss terms → optimiser step → validate → save. Knows no method by name."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from co2s_cli.data.batch import DrawnBatch
from co2s_cli.data.loader import Loader
from co2s_cli.errors import ConfigError
from co2s_cli.files import write_text
from co2s_cli.models import weights
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import Manifest
from co2s_cli.progress import Progress
from co2s_cli.scoring.report import percent
from co2s_cli.scoring.samples import SampleView
from co2s_cli.scoring.validation import FUSED, ValidationCounts, empty_counts
from co2s_cli.training.ema import Ema
from co2s_cli.training.gradients import StepGradients
from co2s_cli.training.model_files import BestFile, best_files, check_kept
from co2s_cli.training.names import EMA, FINAL, LAST
from co2s_cli.training.optimizer import parameter_groups
from co2s_cli.training.records import (
    Records,
    drifting,
    duration,
    read,
    refuse_older,
    starving,
    summary,
    validation_figures,
)
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.schedule import one_cycle, poly
from co2s_cli.training.state import State
from co2s_cli.training.step import StudentStep
from co2s_cli.training.step_loss import StepSums
from co2s_cli.training.step_times import StepTimes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Length of a run, and the settings of its optimiser, validation and files."""

    steps: int
    """Steps of the whole run."""
    refit: bool
    """Whether the second half of the steps trains again from the initial weights with all labels, those held back for
    validation included. The second half is not validated."""
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
    """Whether losses are divided by the counts of all ranks; else by those of each rank alone."""
    half_files: bool
    """Whether model files hold float16; the state for a resume never does."""
    select_students: bool
    """Whether each student has a best file of its own, besides that of the fused map."""

    @property
    def schedule_steps(self) -> int:
        """Steps until the last validation, over which rates and ramps run: `steps`, or with `refit` half of them."""
        return self.steps // 2 if self.refit else self.steps


class TrainingEngine:
    """Trains, validates and saves one run, on one rank."""

    def __init__(
        self,
        ensemble: Ensemble,
        students: Mapping[str, StudentStep],
        loader: Loader,
        plan: TrainingPlan,
        runtime: Runtime,
        *,
        sums: StepSums,
        folder: Path,
        settings: Mapping[str, Any],
        validate: Callable[[Ensemble], ValidationCounts],
        progress: Progress,
        sample_views: Callable[[Ensemble], Sequence[SampleView]] | None = None,
        ema: Ema | None = None,
        guided: bool = False,
        half: bool = False,
    ) -> None:
        """`sample_views` makes the crops that TensorBoard shows at each validation.

        `guided`: a frozen model makes the pseudo-labels, neither the students nor the running mean of their weights.
        `half`: trains in float16, with loss scaling.
        """
        self._ensemble = ensemble
        self.guided = guided
        self._manifest = ensemble.manifest
        self._ema = ema
        self._students = students
        self._loader = loader
        self._plan = plan
        self._runtime = runtime
        self._folder = folder
        self._settings = dict(settings)
        self._run_validation = validate
        self._sample_views = sample_views
        self._progress = progress
        groups = parameter_groups(
            self._ensemble, plan.lr, backbone=plan.backbone_lr, decoder=plan.decoder_lr, queries=plan.queries_lr
        )
        self.optimizer = torch.optim.AdamW(groups, weight_decay=plan.weight_decay)
        self._scaler = torch.amp.GradScaler(runtime.device.type, enabled=half)
        self._gradients = StepGradients(
            students, loader, runtime, sums=sums, scaler=self._scaler, shared_counts=plan.shared_counts
        )
        self._initial = copy.deepcopy(ensemble.state_dict()) if plan.refit else {}
        self.step = 0
        """Number of steps done."""
        self._wait_seconds = 0.0
        """Total time for which the loop waited for the loader."""
        self._times = StepTimes(plan.schedule_steps, self._light_steps())
        self._validations: list[float] = []
        """Seconds of each validation of this call of `fit`, with the files that are written after it."""
        self.best_files = best_files(
            tuple(ensemble.students), select_students=plan.select_students, averaged=ema is not None
        )
        self.best: dict[str, float] = {}
        """mIoU and step of each best file, by `BestFile.key`; empty before the first validation."""
        self.validation: ValidationCounts | None = None
        """The last validation of the model."""
        self.ema_validation: ValidationCounts | None = None
        """The last validation of the running mean of its weights; None where the run keeps none."""
        self.validated = 0
        """Number of steps done at the last validation."""

    def resume(self) -> None:
        """Continue from the last whole state in the run folder, which only rank 0 needs to reach."""
        state = None
        with self._runtime.agreed():
            if self._runtime.leads:
                state = State.load(self._folder)
                refuse_older(self._folder, state.step, every=self._plan.val_every)
        state = self._runtime.from_leader(state)
        assert state is not None
        with self._runtime.agreed():
            if self._runtime.leads:
                check_kept(self._folder, [file for file in self.best_files if file.key("step") in state.best])
        self._ensemble.load_state_dict(state.model)
        self._initial = state.initial
        if self._ema is not None:
            self._ema.module.load_state_dict(state.ema)
            # a refit restarts the running mean
            self._ema.n_averaged.fill_(state.step % self._plan.schedule_steps)
        self.optimizer.load_state_dict(state.optimizer)
        self._scaler.load_state_dict(state.scaler)
        self.step, self.best, self.validated = state.step, state.best, state.validated
        blank = empty_counts(tuple(self._ensemble.students), len(self._manifest.classes))
        counts = {prefix: blank.with_vector(vector.numpy()) for prefix, vector in state.counts.items()}
        self.validation, self.ema_validation = counts.get(""), counts.get(EMA)

    def fit(self, until: int) -> None:
        """Train until step `until` is done, or the last step of the run."""
        plan, last = self._plan, min(until, self._plan.steps)
        records = Records(self._folder, done=self.step) if self._runtime.leads else None
        self._progress.start("train", last - self.step, "step")
        clock = time.perf_counter()
        first, self._validations = self.step, []
        batches = self._loader.batches(self.step, last)
        try:
            while self.step < last:
                values = self._train_step(self._next_micro_batches(batches))
                self._progress.advance(loss=f"{values['loss']:.3f}")
                if self.step % plan.log_every == 0 or self.step == last:
                    seconds = time.perf_counter() - clock
                    self._record(records, values, done=self.step - first, seconds=seconds, last=last)
                if self._validates(self.step):
                    began = time.perf_counter()
                    self._validate_and_save(records)
                    self._validations.append(time.perf_counter() - began)
                elif self.step == last or self.step % plan.val_every == 0:
                    self._refuse_nonfinite_weights()
                    self._save()
        finally:
            batches.close()  # ends the loader's threads at once, whatever ended the run
            self._progress.close()
            if records is not None:
                records.close()

    def expected_seconds(self, until: int) -> float:
        """Expected time of the steps until `until` is done, measured by a light and a full one that teach nothing."""
        full = self._runtime.mean(self.seconds_per_step(tries=1))
        both = 0 < self._times.light_steps < self._times.schedule_steps
        light = self._runtime.mean(self.seconds_per_step(0, tries=1)) if both else full
        self._times = replace(self._times, light=light, full=full)
        return self._times.seconds(until) - self._times.seconds(self.step)

    def _light_steps(self) -> int:
        """Number of steps at the beginning of the schedule in which only labels count."""
        students, steps = self._students.values(), self._plan.schedule_steps
        full = (step for step in range(steps) if any(student.required_at(step).unlabeled for student in students))
        return next(full, steps)

    def seconds_per_step(self, step: int | None = None, tries: int = 2) -> float:
        """Mean time of `tries` steps after one that is not timed, each like `step`, or with all losses.

        The weights do not change.
        """
        step = self._plan.schedule_steps - 1 if step is None else step
        batches = self._loader.batches(step, step + tries + 1)
        self._ensemble.train()
        start = time.perf_counter()
        try:
            for attempt in range(tries + 1):
                micro_batches = self._next_micro_batches(batches)
                self._gradients.add(micro_batches, step)
                start = time.perf_counter() if attempt == 0 else start
            return (time.perf_counter() - start) / tries
        finally:
            batches.close()
            self.optimizer.zero_grad(set_to_none=True)
            self._wait_seconds = 0.0

    def _validates(self, step: int) -> bool:
        """Whether step number `step` is followed by a validation."""
        schedule_steps = self._plan.schedule_steps
        return step == schedule_steps or (step < schedule_steps and step % self._plan.val_every == 0)

    def _restart(self) -> None:
        """Reset weights, optimiser and running mean to those before step 0, for the half that trains with all labels.

        Continuing from the weights of the first half was far worse: on few-landsat it ended at mIoU .81 and .61 by
        seed, the restart at .84 and .78.
        """
        self._ensemble.load_state_dict(self._initial)
        self.optimizer.state.clear()
        if self._ema is not None:
            self._ema.module.load_state_dict(self._initial)
            self._ema.n_averaged.zero_()

    def validate(self) -> None:
        """Validate the current weights and keep the counts. Records, best files and state are not written."""
        self._ensemble.eval()
        self.validation, self.validated = self._run_validation(self._ensemble), self.step
        if self._ema is not None:
            self.ema_validation = self._run_validation(self._ema.module)

    def _next_micro_batches(self, batches: Iterator[DrawnBatch]) -> list[DrawnBatch]:
        """The micro-batches of the next step; adds the time spent waiting for them to `_wait_seconds`."""
        start = time.perf_counter()
        micro_batches = [next(batches) for _ in range(self._loader.passes)]
        self._wait_seconds += time.perf_counter() - start
        return micro_batches

    def _train_step(self, batches: list[DrawnBatch]) -> dict[str, float]:
        """Make one step; its values (see `step_values`) over all ranks."""
        plan = self._plan
        if self.step == plan.schedule_steps and plan.refit:
            self._restart()
        step = self.step % plan.schedule_steps
        factor = (
            one_cycle(step, plan.schedule_steps)
            if plan.schedule == "cycle"
            else poly(step, plan.schedule_steps, lag=plan.lr_lag, warmup=plan.warmup)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        self._ensemble.train()
        self.optimizer.zero_grad(set_to_none=True)
        values = self._gradients.add(batches, step)
        if not math.isfinite(values["loss"]):  # the loss over all ranks, so that all of them stop here
            raise _diverged(self.step + 1, f"the loss is {values['loss']}")
        self._scaler.unscale_(self.optimizer)
        for student in self._ensemble.students.values():
            if plan.clip_norm:
                torch.nn.utils.clip_grad_norm_([p for p in student.parameters() if p.requires_grad], plan.clip_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._ema is not None:
            self._ema.update_parameters(self._ensemble)
        self.step += 1
        return values

    def _record(
        self, records: Records | None, values: dict[str, float], *, done: int, seconds: float, last: int
    ) -> None:
        """Write the values, speed and memory of the step; `done` steps of this call took `seconds`."""
        if records is None:
            return
        plan = self._plan
        rate = next(group["lr"] for group in self.optimizer.param_groups if group["name"].endswith("decoder"))
        records.add(self.step, {**values, "lr": rate})
        speed = done / max(seconds, 1e-9)
        images = speed * self._loader.images
        memory = torch.cuda.max_memory_allocated() / 1e9 if self._runtime.device.type == "cuda" else 0.0
        timing = {"images_per_second": images, "seconds": seconds, "waited": self._wait_seconds, "gpu_gb": memory}
        records.add_timing(self.step, timing)
        stepping = seconds - sum(self._validations)
        remaining = self._times.left(self.step - done, self.step, last, stepping)
        if self._validations:
            due = sum(map(self._validates, range(self.step, last + 1)))  # that of this step comes next
            remaining += due * sum(self._validations) / len(self._validations)
        log.info(
            "step %*d/%d  %s  lr %.1e  %.1f images/s  %s left",
            len(str(plan.steps)), self.step, plan.steps, summary(values), rate, images, duration(remaining),
        )  # fmt: skip

    def _validate_and_save(self, records: Records | None) -> None:
        """Validate, and save the models, those with a new best validation as best files too.

        The running mean of the weights has files of its own.
        """
        self._refuse_nonfinite_weights()
        self.validate()
        assert self.validation is not None
        figures = validation_figures(self.validation, self.ema_validation, guided=self.guided)
        improved = [file for file in self.best_files if self._update_best(figures, file)]
        if records is not None:
            records.add(self.step, figures)
            if self._sample_views is not None:
                records.add_views(self.step, self._sample_views(self._ensemble), self._manifest.class_map.colors)
            scored = [*self.validation.score_names, *([EMA + FUSED] if self.ema_validation is not None else [])]
            scores = "  ".join(f"{name} {percent(figures[f'{name}/miou'])}" for name in scored)
            log.info("step %d  validation mIoU: %s%s", self.step, scores, _best_so_far(improved))
            losses, validations = read(self._folder)
            names = self._manifest.class_map.names
            for warning in (drifting(losses, validations), starving(validations, names)):
                if warning:
                    log.warning(warning)
        self._save(improved)

    def _refuse_nonfinite_weights(self) -> None:
        """Stop where weights are NaN or infinite: after a bad gradient in the last step no loss has shown it yet."""
        finite = [values.isfinite().all() for values in self._ensemble.state_dict().values()]
        if not torch.stack(finite).all():
            raise _diverged(self.step, "some weights are NaN or infinite")

    def _update_best(self, figures: Mapping[str, float], file: BestFile) -> bool:
        """Whether a validation has the highest mIoU so far for a best file; if so it is kept as the best."""
        miou = figures[file.figure]
        if miou <= self.best.get(file.key("miou"), -1.0):
            return False
        self.best |= {file.key("step"): float(self.step), file.key("miou"): miou}
        return True

    def _save(self, improved: Collection[BestFile] = ()) -> None:
        """Write the model files, then the state: if the run is killed, no model file is older than the state."""
        if not self._runtime.leads:
            return
        for prefix, model, validation in self._models_to_save():
            model.manifest = self._current_manifest(validation)
            contents = {}
            for file in improved:
                if file.prefix == prefix and validation is not None:
                    contents[file.name] = file.content(model)
                    write_text(self._folder / file.counts_name, json.dumps(validation.plain()) + "\n")
            final = {prefix + FINAL: model} if self._plan.refit and self.step == self._plan.steps else {}
            for name, content in {**contents, **final, prefix + LAST: model}.items():
                weights.save(content, self._folder / name, half=self._plan.half_files)
        State(
            step=self.step,
            manifest=self._manifest.model_dump_json(),
            model=self._ensemble.state_dict(),
            ema={} if self._ema is None else self._ema.module.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self._scaler.state_dict(),
            best=self.best,
            settings=self._settings,
            validated=self.validated,
            initial=self._initial if self.step <= self._plan.schedule_steps else {},
            counts={
                prefix: torch.from_numpy(validation.vector())
                for prefix, _, validation in self._models_to_save()
                if validation is not None
            },
        ).save(self._folder)

    def _models_to_save(self) -> list[tuple[str, Ensemble, ValidationCounts | None]]:
        """Prefix of the file names, model and last validation: of the model, and of the running mean of its weights."""
        averaged = [(EMA, self._ema.module, self.ema_validation)] if self._ema is not None else []
        return [("", self._ensemble, self.validation), *averaged]

    def _current_manifest(self, validation: ValidationCounts | None) -> Manifest:
        """The manifest with the steps done, and with `validation` if that is of the current weights."""
        training = {**self._manifest.training, "steps": self.step}
        if self.step > self._plan.schedule_steps:
            training["all_labels"] = True  # the validation labels have trained too: scores on them would be too high
        if validation is not None and self.validated == self.step:
            training["validation"] = {key: round(value, 4) for key, value in validation.facts().items()}
        return self._manifest.model_copy(update={"training": training})


def _best_so_far(improved: Collection[BestFile]) -> str:
    """The end of a log line: the students, or the fused map, whose mIoU is the best so far."""
    names = ", ".join(file.prefix + file.scored for file in improved)
    return f"  (best so far: {names})" if names else ""


def _diverged(step: int, reason: str) -> ConfigError:
    return ConfigError(
        f"step {step}: {reason}; the run has diverged",
        hint="start a new run with a smaller --set lr=… or a larger --set warmup=…; the files of earlier steps stay",
    )
