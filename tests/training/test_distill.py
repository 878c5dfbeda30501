"""What a distilled student learns, from whom, and what it costs no one."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from support.training import noise

from co2s_cli.classes import ClassMap
from co2s_cli.config import distill
from co2s_cli.errors import ConfigError
from co2s_cli.models import catalog
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.fresh import new_ensemble
from co2s_cli.models.manifest import SINGLE, Manifest, ModelScaling
from co2s_cli.models.teachers import foundation
from co2s_cli.scoring.matrix import Scores, confusion
from co2s_cli.training.ema import Ema
from co2s_cli.training.losses import consistency
from co2s_cli.training.methods import METHODS, MethodRules, self_training
from co2s_cli.training.methods.distill import Distill, DistillWeights
from co2s_cli.training.network import FRESH_LAYER_SCALE, set_layer_scale
from co2s_cli.training.optimizer import parameter_groups
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.setup import sliding_of
from co2s_cli.training.step import StudentStep, run_students
from co2s_cli.training.step_loss import total_loss
from co2s_cli.training.trained import TrainedTeachers, rescaled
from co2s_cli.training.views import StudentForward

N = 6
CPU = torch.device("cpu")
CLASSES = tuple(ClassMap.of([str(i) for i in range(N)]).plain())
SCALING = ModelScaling(low=(0, 0, 0), high=(255, 255, 255))


def manifest(**students):
    return Manifest(classes=CLASSES, scaling=SCALING, students=students)


@pytest.fixture(scope="module")
def teachers():
    return [foundation(name, patch=16) for name in ("tiny-dino:none", "tiny-clip:none")]


def model(teachers=(), seed=0, **changes) -> Ensemble:
    torch.manual_seed(seed)
    spec = catalog.dense_student(
        "tiny-student", translators=[teacher.translator(hidden=32) for teacher in teachers], **changes
    )
    pair = new_ensemble(manifest(student=spec))
    set_layer_scale(pair.students[SINGLE], FRESH_LAYER_SCALE)
    pair.students[SINGLE].train_backbone("all")
    return pair


def rules(threshold=0.95):
    return MethodRules(threshold=torch.full((N,), threshold), steps=100)


def trainee(pair, method, guide=None) -> StudentStep:
    return StudentStep(pair.students[SINGLE], method, number=0, seed=0, guide=guide)


def terms_of(pair, method, data=None, guide=None):
    return trainee(pair, method, guide)(data or noise(), 0, {})[0]


def touched(pair):
    return {
        name.removeprefix("students.student.")
        for name, parameter in pair.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


class Spy:
    """A teacher that keeps what it was shown."""

    def __init__(self, teacher):
        self.name, self.shown, self._teacher = teacher.name, [], teacher

    def tokens(self, images):
        self.shown.append(images.clone())
        return self._teacher.tokens(images)


# features


def test_the_loss_is_in_thirds_and_each_teacher_has_a_term(teachers):
    pair = model(teachers)
    found = terms_of(pair, Distill(rules(), DistillWeights(), teachers))
    assert {name: term.weight for name, term in found.items()} == pytest.approx(
        {"labeled": 1 / 3, "strong1": 1 / 3, **{f"distill:{teacher.name}": 1 / 6 for teacher in teachers}}
    )
    loss, values = total_loss(found, Runtime(CPU), shared=True)
    labeled, strong, first, second = values.tolist()
    assert loss.item() == pytest.approx((labeled + strong + (first + second) / 2) / 3)


def test_the_feature_loss_is_the_hand_computed_one(teachers):
    pair, data = model(teachers), noise()
    student = pair.students[SINGLE]
    found = terms_of(pair, Distill(rules(), DistillWeights(), teachers), data)
    mixed = data.strong[0].clone()
    mixed[:, :, 10:30, 10:30] = data.strong[0].flip(0)[:, :, 10:30, 10:30]
    images = torch.cat([data.images, mixed])
    said = student.translated(student.encode(images))
    for teacher in teachers:
        wanted = (said[teacher.name] - teacher.tokens(images)).square().mean()
        assert found[f"distill:{teacher.name}"].value.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_it_is_nothing_where_the_student_says_what_the_teacher_says(teachers):
    pair = model(teachers)

    class Echo:
        """A teacher that says what the student says."""

        def __init__(self, name):
            self.name = name

        def tokens(self, images):
            student = pair.students[SINGLE]
            return student.translated(student.encode(images))[self.name].detach()

    found = terms_of(pair, Distill(rules(), DistillWeights(), [Echo(teacher.name) for teacher in teachers]))
    assert all(found[f"distill:{teacher.name}"].value.item() < 1e-12 for teacher in teachers)


@pytest.mark.parametrize("ema", [False, True])
def test_teachers_are_shown_the_labelled_and_the_pasted_strong_crops_and_never_the_weak_view(teachers, ema):
    pair, data = model(teachers), noise()
    spy = Spy(teachers[0])
    other = Spy(teachers[1])
    guide = StudentForward(Ema(pair, 0.9).module.students[SINGLE]).probabilities if ema else None
    terms_of(pair, Distill(rules(), DistillWeights(), [spy, other]), data, guide)
    mixed = data.strong[0].clone()
    mixed[:, :, 10:30, 10:30] = data.strong[0].flip(0)[:, :, 10:30, 10:30]
    assert len(spy.shown) == 1
    assert torch.equal(spy.shown[0], torch.cat([data.images, mixed]))
    assert torch.equal(other.shown[0], spy.shown[0])


def test_the_feature_loss_reaches_encoder_and_translators_alone(teachers):
    pair = model(teachers, align="second_pass")
    found = terms_of(pair, Distill(rules(), DistillWeights(), teachers))
    sum(found[f"distill:{teacher.name}"].value for teacher in teachers).backward()
    names = touched(pair)
    assert any(name.startswith("backbone.") for name in names)
    assert {name.split(".")[3] for name in names if name.startswith("fusion.")} == {"translate"}
    assert not any(name.startswith("head.") or ".back." in name for name in names)
    assert len([name for name in names if ".translate." in name]) == 8


def test_the_label_loss_reaches_everything_that_trains(teachers):
    pair = model(teachers, align="second_pass")
    terms_of(pair, Distill(rules(), DistillWeights(), teachers))["labeled"].value.backward()
    missed = {name.removeprefix("students.student.") for name, _ in pair.named_parameters()} - touched(pair)
    assert all("mask_token" in name or ".k_bias" in name for name in missed), missed


@pytest.mark.slow
def test_teachers_stay_as_they_are_and_are_part_of_nothing(teachers):
    pair = model(teachers)
    method = Distill(rules(), DistillWeights(), teachers)
    before = [value.clone() for teacher in teachers for value in teacher._backbone.state_dict().values()]
    learner = trainee(pair, method)
    groups = parameter_groups(pair, 1e-3, backbone=1, decoder=2, queries=1)
    optimizer = torch.optim.AdamW(groups)
    for step in range(10):
        optimizer.zero_grad()
        total_loss(learner(noise(), step, {})[0], Runtime(CPU), shared=True)[0].backward()
        optimizer.step()
    after = [value for teacher in teachers for value in teacher._backbone.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    theirs = {id(p) for teacher in teachers for p in teacher._backbone.parameters()}
    assert not theirs & {id(p) for group in groups for p in group["params"]}
    assert not theirs & {id(p) for p in learner.parameters()}
    assert sum(p.numel() for p in Ema(pair, 0.9).module.parameters()) == sum(p.numel() for p in pair.parameters())


def test_each_parameter_that_trains_is_in_one_group_and_the_rest_learns_forty_times_as_fast(teachers):
    pair = model(teachers)
    groups = {group["name"]: group for group in parameter_groups(pair, 5e-6, backbone=1, decoder=40, queries=1)}
    assert groups.keys() == {"student/backbone", "student/decoder"}
    assert groups["student/decoder"]["lr"] / groups["student/backbone"]["lr"] == pytest.approx(40)
    grouped = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in pair.parameters() if p.requires_grad)


@pytest.mark.slow
def test_recomputing_activations_changes_no_gradient(teachers):
    found = []
    for checkpointed in (False, True):
        pair = model(teachers, align="second_pass")
        learner = StudentStep(
            pair.students[SINGLE],
            Distill(rules(), DistillWeights(), teachers),
            number=0,
            seed=0,
            checkpointed=checkpointed,
        )
        total_loss(learner(noise(), 0, {})[0], Runtime(CPU), shared=True)[0].backward()
        found.append(torch.cat([p.grad.flatten() for p in pair.parameters() if p.grad is not None]))
    torch.testing.assert_close(*found)


def losses(pair, method, steps=3):
    """The losses of a few steps."""
    optimizer = torch.optim.AdamW(parameter_groups(pair, 1e-3, backbone=1, decoder=2, queries=1))
    learner, found = trainee(pair, method), []
    for step in range(steps):
        optimizer.zero_grad()
        loss, _ = total_loss(learner(noise(), step, {})[0], Runtime(CPU), shared=True)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.slow
def test_without_teachers_and_halved_it_is_fixmatch_bit_for_bit():
    ablated = Distill(rules(0.2), DistillWeights(feature=0, divisor=2))
    assert losses(model(fuse=False), ablated) == losses(model(), METHODS["fixmatch"](rules(0.2)))


def test_with_a_guide_the_student_is_spared_the_weak_view_and_taught_by_it(monkeypatch):
    pair, data = model(), noise(extra=2)
    said = torch.rand(4, N, 64, 64).softmax(dim=1)
    seen = []
    learner = trainee(pair, METHODS["fixmatch"](rules(0)), lambda images: (seen.append(images), said)[1])
    encoded, encode = [], pair.students[SINGLE].encode
    monkeypatch.setattr(learner._forward, "_encode", lambda images: (encoded.append(len(images)), encode(images))[1])
    terms, weak = learner(data, 0, {})
    assert encoded == [4]
    assert len(weak) == 0
    assert torch.equal(seen[0], data.weak)
    labels = torch.where(data.boxes[0], said.argmax(dim=1)[data.partner], said.argmax(dim=1)[:2])
    mixed = torch.where(data.boxes[0][:, None], data.strong[0][data.partner], data.strong[0][:2])
    wanted = torch.nn.functional.cross_entropy(pair.students[SINGLE](mixed), labels)
    assert terms["strong1"].value.item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["co2s", "unimatch"])
def test_a_guide_changes_the_pseudo_labels_of_a_pair_and_no_other_part(method):
    torch.manual_seed(0)
    pair = new_ensemble(manifest(clip=catalog.clip_student("tiny-clip"), dino=catalog.dino_student("tiny-dino")))
    other = Ema(pair, 0.9)
    with torch.no_grad():
        for parameter in other.module.parameters():
            parameter.mul_(1.1)
    found = []
    for guided in (False, True):
        learners = {
            name: StudentStep(
                student, METHODS[method](rules(0)), number=number, seed=0,
                guide=StudentForward(other.module.students[name]).probabilities if guided else None,
            )
            for number, (name, student) in enumerate(pair.students.items())
        }  # fmt: skip
        turns = run_students(learners, noise(), 50)
        found.append({f"{name}/{part}": term.value.item() for name, terms in turns for part, term in terms.items()})
    same = {name for name in found[0] if found[0][name] == found[1][name]}
    assert same == {name for name in found[0] if name.endswith(("labeled", "stability"))}


@pytest.mark.slow
def test_four_tiles_are_learnt_by_heart_and_so_is_a_random_teacher(teachers):
    pair, data = model(teachers[:1]), noise(4)
    rows, cols = torch.meshgrid(torch.arange(64) // 32, torch.arange(64) // 32, indexing="ij")
    data.labels[:] = (rows * 2 + cols + torch.arange(4)[:, None, None]) % N
    colors = torch.tensor(np.random.default_rng(0).random((N, 3), dtype=np.float32))
    data.images[:] = colors[data.labels].movedim(-1, 1)
    optimizer = torch.optim.AdamW(parameter_groups(pair, 1e-3, backbone=1, decoder=2, queries=1))
    learner, features = trainee(pair, Distill(rules(), DistillWeights(), teachers[:1])), []
    for step in range(200):
        optimizer.zero_grad()
        terms = learner(data, step, {})[0]
        total_loss(terms, Runtime(CPU), shared=True)[0].backward()
        optimizer.step()
        features.append(terms[f"distill:{teachers[0].name}"].value.item())
    said = pair.eval().probabilities(data.images).argmax(dim=1)
    assert Scores.of(confusion(data.labels.numpy(), said.numpy(), N)).miou > 0.95
    assert features[-1] < features[0] / 2


def test_a_box_brings_image_label_confidence_and_padding_of_the_mirrored_crop(teachers, monkeypatch):
    boxes = torch.zeros(4, 64, 64, dtype=torch.bool)
    for index in range(3):  # the last one has none
        boxes[index, 5 * index : 30, 10 : 20 + 5 * index] = True
    rows = torch.arange(64)[:, None].expand(64, 64)
    valid = torch.stack([rows < 60 - 15 * index for index in range(4)])
    data = replace(noise(4), boxes=(boxes, boxes), valid=valid, partner=torch.tensor([3, 2, 1, 0]))
    sure = torch.tensor([0.6, 0.7, 0.8, 0.9])
    said = ((1 - sure) / (N - 1)).view(4, 1, 1, 1).repeat(1, N, 64, 64)
    for index in range(4):
        said[index, index] = sure[index]
    told, spy = [], Spy(teachers[0])
    monkeypatch.setattr(
        self_training,
        "consistency",
        lambda logits, pseudo, *rest, **named: (told.append(pseudo), consistency(logits, pseudo, *rest, **named))[1],
    )
    terms_of(model(teachers), Distill(rules(), DistillWeights(), [spy]), data, lambda images: said)
    mirrored = torch.arange(4).flip(0).view(4, 1, 1)
    source = torch.where(boxes, mirrored, torch.arange(4).view(4, 1, 1))
    (pseudo,) = told
    assert torch.equal(pseudo.labels, source)
    assert torch.equal(pseudo.confidence, sure[source])
    assert torch.equal(pseudo.valid, torch.where(boxes, valid.flip(0), valid))
    strong = data.strong[0]
    assert torch.equal(spy.shown[0][4:], torch.where(boxes[:, None], strong.flip(0), strong))


def test_crops_that_are_no_whole_patches_are_refused_with_those_next_to_them():
    """A model that is mapped with pads them instead; in training teacher and student would see different grids."""
    with pytest.raises(ConfigError, match=r"--crop 512: is no multiple of the student's patch of 14") as caught:
        distill.check_crop(512, 14)
    assert caught.value.hint == "--crop 518"
    distill.check_crop(518, 14)
    distill.check_crop(512, 16)


def test_the_published_validation_maps_a_tile_of_512_pixels_in_one_window_of_518():
    """The way back keeps the corners where they are: a ramp stays a ramp, and a constant a constant."""
    sliding = sliding_of(distill.settings_of(None, {"teacher": "tiny-dino:none", "preset": "published"}, []))
    seen = []

    def ramps(images):
        seen.append(tuple(images.shape))
        down, across = torch.meshgrid(*(torch.linspace(0, 1, side) for side in images.shape[-2:]), indexing="ij")
        return torch.stack([torch.full_like(down, 3.0), down, across])[None]

    constant, down, across = sliding(ramps, torch.rand(3, 512, 512))
    assert seen == [(1, 3, 518, 518)]
    wanted = torch.linspace(0, 1, 512).expand(512, 512)
    torch.testing.assert_close(constant, torch.full((512, 512), 3.0))
    torch.testing.assert_close(down, wanted.T, rtol=0, atol=1e-5)
    torch.testing.assert_close(across, wanted, rtol=0, atol=1e-5)


# soft labels


def pair_of_two(seed=0):
    torch.manual_seed(seed)
    pair = new_ensemble(manifest(clip=catalog.clip_student("tiny-clip"), dino=catalog.dino_student("tiny-dino")))
    with torch.no_grad():
        for student in pair.students.values():
            student.decoder.head.weight.mul_(300)
    return pair.eval()


def test_a_student_equal_to_its_teacher_has_nothing_to_learn():
    pair, teacher = model(), model()
    guide = TrainedTeachers([teacher], "mean")
    found = terms_of(pair, Distill(rules(), DistillWeights(divisor=1), soft=True), guide=guide)
    assert found["soft"].value.item() == pytest.approx(0, abs=1e-6)
    assert found["soft"].weight == found["strong1"].weight == 0.5
    before = [p.detach().clone() for p in pair.parameters()]
    found["soft"].value.backward()
    torch.optim.SGD(pair.parameters(), lr=1).step()
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(before, pair.parameters(), strict=True))


def test_soft_labels_teach_over_the_weak_view_and_the_labelled_images_without_padding():
    pair, data = model(), noise()
    data = replace(data, valid=data.valid.clone(), seen=data.seen.clone())
    data.valid[0], data.seen[1] = False, False
    teacher = TrainedTeachers([pair_of_two()], "mean")
    found = terms_of(pair, Distill(rules(), DistillWeights(divisor=1), soft=True), data, teacher)["soft"]
    total, count = 0.0, 0
    for images, valid in ((data.weak, data.valid), (data.images, data.seen)):
        told, said = teacher(images), pair.students[SINGLE](images).softmax(dim=1)
        divergence = (told * (told.log() - said.log())).sum(dim=1) * told.amax(dim=1)
        total, count = total + divergence[valid].sum().item(), count + int(valid.sum())
    assert found.count.item() == count
    assert found.value.item() == pytest.approx(total / count, rel=1e-4)


def test_no_gradient_reaches_a_trained_teacher():
    pair, teacher = model(), pair_of_two()
    found = terms_of(
        pair, Distill(rules(), DistillWeights(divisor=1), soft=True), guide=TrainedTeachers([teacher], "mean")
    )
    total_loss(found, Runtime(CPU), shared=True)[0].backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert any(name.startswith("backbone.") for name in touched(pair))


def test_arbitration_takes_the_surer_student_of_each_pixel_and_the_mean_takes_all():
    first, second, images = pair_of_two(), model(seed=3), torch.rand(1, 3, 64, 64)
    surer = TrainedTeachers([first, second], "arbitrate")(images)
    with torch.no_grad():
        members = [*first.members(images).values(), *second.members(images).values()]
    stacked = torch.stack(members)
    best = stacked.amax(dim=2).argmax(dim=0)
    for index, member in enumerate(members):
        here = best == index
        assert torch.equal(surer.movedim(1, -1)[here], member.movedim(1, -1)[here])
    torch.testing.assert_close(TrainedTeachers([first, second], "mean")(images), stacked.mean(dim=0))


def test_images_come_to_a_teacher_as_it_would_have_scaled_them():
    numbers = torch.arange(0, 256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    ours = ModelScaling(low=(0, 0, 0), high=(255, 255, 255))
    theirs = ModelScaling(low=(10, 0, 5), high=(200, 255, 5))
    seen = rescaled(numbers / 255, ours, theirs)
    torch.testing.assert_close(seen[:, 0], ((numbers[:, 0] - 10) / 190).clamp(0, 1))
    torch.testing.assert_close(seen[:, 1], numbers[:, 1] / 255)
    torch.testing.assert_close(seen[:, 2], torch.full((1, 16, 16), 0.5))
    assert rescaled(numbers, ours, ours) is numbers


@pytest.mark.slow
def test_both_kinds_of_teachers_teach_at_once(teachers):
    pair = model(teachers)
    method = partial(Distill, rules(), DistillWeights(divisor=1), teachers, soft=True, kind="cosine")
    found = terms_of(pair, method(), guide=TrainedTeachers([pair_of_two()], "mean"))
    assert found.keys() == {"labeled", "strong1", "soft", *(f"distill:{teacher.name}" for teacher in teachers)}
    assert sum(term.weight for term in found.values()) == pytest.approx(3)
