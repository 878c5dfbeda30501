"""One whole Co2S step against the papers' formulas, written out once more as plain tensor code."""

import copy
import math

import pytest
import torch
from support.training import noise
from torch.nn.functional import cross_entropy

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.models import catalog
from co2s_cli.models.fresh import new_ensemble
from co2s_cli.models.manifest import Manifest, ModelScaling
from co2s_cli.training.methods import METHODS, MethodRules
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.step import StudentStep, run_students
from co2s_cli.training.step_loss import total_loss
from co2s_cli.training.views import channel_masks

CLASSES, SEED, STEP, STEPS = 4, 5, 7, 100
CPU = torch.device("cpu")
THRESHOLD = torch.tensor([0.30, 0.62, 0.45, 0.80])
"""By class, so that the classes' thresholds decide which pixels count."""


def pair_of_students():
    """Two tiny students whose answers differ from pixel to pixel, in double precision."""
    torch.manual_seed(3)
    manifest = Manifest(
        classes=tuple(ClassMap.of([str(number) for number in range(CLASSES)]).plain()),
        scaling=ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
        students={"clip": catalog.clip_student("tiny-clip"), "dino": catalog.dino_student("tiny-dino")},
    )
    pair = new_ensemble(manifest)
    with torch.no_grad():
        for student in pair.students.values():
            student.decoder.head.weight.mul_(150)
    return pair.double()


def batch_of_two(extra):
    """Two labelled and two unlabelled crops with padding, unlabelled pixels and a box of its own in each view."""
    batch = noise(extra=extra, classes=CLASSES)
    batch.labels[0, :20] = IGNORE
    batch.valid[:, :, 56:] = False
    batch.valid[1, :9] = False
    batch.boxes[1][0, 5:50, 20:60] = True
    batch.boxes[1][1, 30:64, :25] = True
    for crops in (batch.images, batch.weak, *batch.strong):
        crops.data = crops.data.double()
    return batch


def unlabelled_loss(logits, labels, confidence, valid):
    """U of §3: cross-entropy of the confident pixels, divided by all valid ones."""
    counts = (confidence >= THRESHOLD[labels]) & valid
    return (cross_entropy(logits, labels, reduction="none") * counts).sum() / valid.sum()


def loss_by_the_formulas(student, other, number, batch, *, published):
    """L of one student, §3 and §4 of the paper, each view in a pass of its own."""
    size, own = batch.images.shape[-2:], len(batch.images)

    def logits(images):
        return student.decode(student.encode(images), size).float()

    dropped = channel_masks(student.widths, batch.slots, seed=SEED, step=batch.step, student=number, device=CPU)
    weak = batch.weak[:own]
    taps = student.encode(weak)
    feature_taps = type(taps)(*(tap * mask[:, :, None, None].double() for tap, mask in zip(taps, dropped, strict=True)))
    feature_logits = student.decode(feature_taps, size).float()
    weak_logits = logits(weak)

    with torch.no_grad():
        confidence, labels = logits(batch.weak).softmax(1).max(1)
        other_chances = other.decode(other.encode(weak), size).float().softmax(1)
        other_confidence, other_labels = other_chances.max(1)

    supervised = cross_entropy(logits(batch.images), batch.labels, ignore_index=IGNORE)
    feature = unlabelled_loss(feature_logits, labels[:own], confidence[:own], batch.valid[:own])
    strong = []
    for view in (0, 1):
        box, partner = batch.boxes[view], batch.partner
        images = torch.where(box[:, None], batch.strong[view][partner], batch.strong[view][:own])
        strong.append(
            unlabelled_loss(
                logits(images),
                torch.where(box, labels[partner], labels[:own]),
                torch.where(box, confidence[partner], confidence[:own]),
                torch.where(box, batch.valid[partner], batch.valid[:own]),
            )
        )
    loss = (supervised + 0.25 * strong[0] + 0.25 * strong[1] + 0.5 * feature) / 2

    mask = (other_confidence >= THRESHOLD[other_labels]) & (other_confidence >= confidence[:own])
    if not published:  # the released code counts padding as well
        mask &= batch.valid[:own]
    if published:  # and detaches both sides
        weak_logits = weak_logits.detach()
    squares = (weak_logits.softmax(1) - other_chances).square().sum(1)
    stability = (squares * mask).sum() / (CLASSES * mask.sum())
    ramp_length = round(0.2 * STEPS)
    weight = 0.25 * (1 - math.cos(math.pi * STEP / (ramp_length - 1)))
    return loss + weight * stability, stability, mask


@pytest.mark.parametrize(("published", "extra"), [(False, 0), (True, 2)])
def test_a_step_has_the_losses_and_gradients_of_the_formulas(published, extra):
    pair, batch = pair_of_students(), batch_of_two(extra)
    reference = copy.deepcopy(pair)
    rules = MethodRules(threshold=THRESHOLD, steps=STEPS, stability_grad=not published, stability_in_padding=published)
    steps = {
        name: StudentStep(student, METHODS["co2s"](rules), number=number, seed=SEED)
        for number, (name, student) in enumerate(pair.students.items())
    }
    losses = {}
    for name, terms in run_students(steps, batch, STEP):
        loss, _ = total_loss(terms, Runtime(CPU), shared=not published)
        loss.backward()
        losses[name] = loss.item()

    for number, (name, other) in enumerate((("clip", "dino"), ("dino", "clip"))):
        student = reference.students[name]
        loss, stability, mask = loss_by_the_formulas(
            student, reference.students[other], number, batch, published=published
        )
        loss.backward()
        assert 0.02 < mask.float().mean() < 0.98
        assert stability.item() > 1e-3
        assert losses[name] == pytest.approx(loss.item(), rel=1e-6)
        expected = {key: value.grad for key, value in student.named_parameters() if value.grad is not None}
        actual = {key: value.grad for key, value in pair.students[name].named_parameters() if value.grad is not None}
        assert actual.keys() == expected.keys()
        scale = max(gradient.abs().max() for gradient in expected.values())
        for key, gradient in expected.items():
            torch.testing.assert_close(actual[key], gradient, rtol=1e-4, atol=1e-6 * scale, msg=f"{name}.{key}")
