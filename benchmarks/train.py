"""Cost of one training step of the ViT-B pair, in forward passes of the DINOv3 ViT-B.

The unit is one forward pass in fp32, without gradient, of the two images of a batch of two. Unit and step are medians
of five after a warm-up, in one process. Weights are drawn at random: they change no cost. Run one precision a process
(`python benchmarks/train.py bf16`), so that the peak memory is its own.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from co2s_cli.classes import ClassMap
from co2s_cli.data.batch import Batch
from co2s_cli.models import catalog
from co2s_cli.models.fresh import new_ensemble
from co2s_cli.models.manifest import Manifest, ModelScaling
from co2s_cli.training.methods import METHODS, MethodRules
from co2s_cli.training.optimizer import parameter_groups
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.step import StudentStep, run_students
from co2s_cli.training.step_loss import total_loss

CLASSES, CROP, BATCH, REPEATS = 6, 256, 2, 5
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians of several runs."""

    seconds: float
    processor: float
    """Processor time in seconds, which other work on the machine lengthens less."""


def costs(*works: Callable[[], object]) -> list[Cost]:
    """Cost of `REPEATS` runs of each after one to warm up, in turns, so that a busy moment meets all of them."""
    found: list[list[tuple[float, float]]] = [[] for _ in works]
    for _ in range(REPEATS + 1):
        for work, runs in zip(works, found, strict=True):
            wall, processor = time.perf_counter(), time.process_time()
            work()
            runs.append((time.perf_counter() - wall, time.process_time() - processor))
    return [Cost(*(statistics.median(values) for values in zip(*runs[1:], strict=True))) for runs in found]


def random_batch() -> Batch:
    """A batch of noise with a CutMix box in each strong view; its content changes no cost."""
    images = torch.rand(BATCH, 3, CROP, CROP)
    box = torch.zeros(BATCH, CROP, CROP, dtype=torch.bool)
    box[:, 40:120, 60:160] = True
    return Batch(
        step=0,
        slots=tuple(range(BATCH)),
        images=images,
        labels=torch.randint(0, CLASSES, (BATCH, CROP, CROP)),
        seen=torch.ones(BATCH, CROP, CROP, dtype=torch.bool),
        weak=images.flip(-1),
        strong=(images.flip(-2), images * 0.8),
        valid=torch.ones(BATCH, CROP, CROP, dtype=torch.bool),
        boxes=(box, box),
        partner=torch.arange(BATCH) ^ 1,
    )


def main() -> None:
    """Print unit, step, their quotient and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("precision", nargs="?", choices=list(DTYPES), default="fp32")
    parser.add_argument("--checkpointing", action="store_true")
    given = parser.parse_args()
    torch.manual_seed(0)
    manifest = Manifest(
        classes=tuple(ClassMap.of([f"class {index}" for index in range(CLASSES)]).plain()),
        scaling=ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
        students={
            "clip": catalog.clip_student("ViT-B-16"),
            "dino": catalog.dino_student("vit_base_patch16_dinov3_qkvb.lvd1689m"),
        },
    )
    pair = new_ensemble(manifest)
    method = METHODS["co2s"](MethodRules(threshold=torch.full((CLASSES,), 0.95), steps=100))
    trainees = {
        name: StudentStep(
            student, method, number=number, seed=0, dtype=DTYPES[given.precision], checkpointed=given.checkpointing
        )
        for number, (name, student) in enumerate(pair.students.items())
    }
    optimizer = torch.optim.AdamW(parameter_groups(pair, 1e-4, backbone=0.01, decoder=10, queries=1))
    runtime, batch = Runtime(torch.device("cpu")), random_batch()
    backbone, images = pair.students["dino"].backbone, batch.images

    def unit() -> None:
        with torch.no_grad():
            backbone(images)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for _, terms in run_students(trainees, batch, 50):
            total_loss(terms, runtime, shared=True)[0].backward()
        for student in pair.students.values():
            torch.nn.utils.clip_grad_norm_([p for p in student.parameters() if p.requires_grad], 1.0)
        optimizer.step()

    one, whole = costs(unit, step)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{given.precision}, {torch.get_num_threads()} threads{', checkpointing' if given.checkpointing else ''}")
    print(f"unit {one.seconds:.3f} s, step {whole.seconds:.2f} s = {whole.seconds / one.seconds:.1f} units")
    print(f"in processor time {whole.processor / one.processor:.1f} units, peak memory {peak:.2f} GB")


if __name__ == "__main__":
    main()
