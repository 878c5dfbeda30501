"""Channels that a student drops while it trains: drawn by seed, step and slot, and never in the weak view."""

import torch

from co2s_cli.data.batch import Batch
from co2s_cli.models import catalog
from co2s_cli.models.ensemble import build_student
from co2s_cli.training.methods import METHODS, MethodRules
from co2s_cli.training.step import StudentStep
from co2s_cli.training.views import RequiredViews, forward_views


def noise_batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    images, weak, strong = torch.rand(3, 2, 3, 32, 32, generator=generator)
    seen = torch.ones(2, 32, 32, dtype=torch.bool)
    return Batch(
        step=step,
        slots=(0, 1),
        images=images,
        labels=torch.randint(0, 6, (2, 32, 32), generator=generator),
        seen=seen,
        weak=weak,
        strong=(strong,),
        valid=seen,
        boxes=(torch.zeros(2, 32, 32, dtype=torch.bool),),
        partner=torch.tensor([1, 0]),
    )


def local():
    torch.manual_seed(0)
    return build_student(catalog.local_student(("red", "green", "blue")), 6)


def said(student, batch, *, step=0, seed=0):
    rules = MethodRules(threshold=torch.full((6,), 0.5), steps=10)
    trained = StudentStep(student, METHODS["fixmatch"](rules), number=0, seed=seed).train()
    terms, weak = trained(batch(step), step, {})
    return {name: term.value.item() for name, term in terms.items()}, weak


def test_what_is_dropped_is_a_function_of_seed_and_step():
    student = local()
    first, weak = said(student, noise_batch)
    again, same = said(student, noise_batch)
    other, third = said(student, noise_batch, seed=1)
    later, _ = said(student, noise_batch, step=1)
    assert first == again
    assert first["labeled"] != other["labeled"]
    assert first["labeled"] != later["labeled"]
    assert torch.equal(weak, same)
    assert torch.equal(weak, third)  # nothing is dropped where the pseudo-labels come from


def test_masks_reach_the_labelled_and_the_strong_views_alone():
    from co2s_cli.training.views import StudentForward

    student, batch = local().eval(), noise_batch(0)
    nothing = [[torch.zeros(len(batch.images), width) for width in student.widths] for _ in range(2)]
    with torch.no_grad():
        plain = forward_views(StudentForward(student), batch, RequiredViews(strong=1))
        dropped = forward_views(StudentForward(student), batch, RequiredViews(strong=1), dropout_masks=nothing)
    assert torch.equal(plain.weak, dropped.weak)
    assert (dropped.labeled - dropped.labeled[..., :1, :1]).abs().max() < 1e-5
    assert (dropped.strong[0] - dropped.strong[0][..., :1, :1]).abs().max() < 1e-5
    assert (plain.labeled - plain.labeled[..., :1, :1]).abs().max() > 1e-3
