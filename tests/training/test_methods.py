"""Who learns from what: gradients of each method's parts on tiny students."""

import itertools
import math

import pytest
import torch
from support.training import noise as batch

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.config.train import settings_of
from co2s_cli.data.batch import Batch
from co2s_cli.models import catalog
from co2s_cli.models.fresh import new_ensemble
from co2s_cli.models.manifest import Manifest, ModelScaling
from co2s_cli.progress import SILENT
from co2s_cli.scoring.matrix import Scores, confusion
from co2s_cli.training.engine import TrainingEngine
from co2s_cli.training.methods import METHODS, MethodRules
from co2s_cli.training.optimizer import parameter_groups
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.setup import plan_of
from co2s_cli.training.step import StudentStep, run_students
from co2s_cli.training.step_loss import total_loss
from co2s_cli.training.views import RequiredViews, StudentForward, StudentOutputs, channel_masks, forward_views

N, SIDE = 6, 64
CPU = torch.device("cpu")


def new(seed=0):
    torch.manual_seed(seed)
    manifest = Manifest(
        classes=tuple(ClassMap.of([str(i) for i in range(N)]).plain()),
        scaling=ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
        students={"clip": catalog.clip_student("tiny-clip"), "dino": catalog.dino_student("tiny-dino")},
    )
    return new_ensemble(manifest)


def rules(**changes):
    return MethodRules(**{"threshold": torch.full((N,), 0.95), "steps": 100, **changes})


def trainees_of(method, pair, *, checkpointed=False, **changes):
    chosen = METHODS[method](rules(**changes))
    return {
        name: StudentStep(student, chosen, number=number, seed=0, checkpointed=checkpointed)
        for number, (name, student) in enumerate(pair.students.items())
    }


def terms_of(method, pair=None, *, step=50, data=None, **changes):
    """Parts of the loss of all students by `student/part`, their graphs alive."""
    turns = run_students(trainees_of(method, pair or new(), **changes), data or batch(), step)
    return {f"{name}/{part}": term for name, terms in turns for part, term in terms.items()}


def descend(trainees, data, step=0):
    """Gradients of every student's loss, as a run takes them."""
    for _, terms in run_students(trainees, data, step):
        total_loss(terms, Runtime(CPU), shared=True)[0].backward()


def gradients(pair):
    return {name for name, p in pair.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("supervised", {"labeled": 1.0}),
        ("fixmatch", {"labeled": 0.5, "strong1": 0.5}),
        ("unimatch", {"labeled": 0.5, "strong1": 0.125, "strong2": 0.125, "feature": 0.25}),
        ("co2s", {"labeled": 0.5, "strong1": 0.125, "strong2": 0.125, "feature": 0.25, "stability": 0.5}),
    ],
)
def test_parts_and_their_weights(method, parts):
    found = terms_of(method)
    assert {name: term.weight for name, term in found.items()} == {
        f"{student}/{part}": weight for student in ("clip", "dino") for part, weight in parts.items()
    }


def test_fresh_students_are_sure_of_nothing_and_pay_for_the_labels_alone():
    """Each pays ln N / 2. Tiny ones are a little surer than the published 1/N + 0.02, and as far from the threshold."""
    pair, data = new(), batch()
    found = terms_of("co2s", pair, data=data)
    for name, student in pair.students.items():
        parts = {part: term for part, term in found.items() if part.startswith(f"{name}/")}
        loss, values = total_loss(parts, Runtime(CPU), shared=True)
        assert loss.item() == pytest.approx(math.log(N) / 2, abs=0.005)
        assert values.tolist() == pytest.approx([math.log(N), 0, 0, 0, 0], abs=0.01)
        assert values[1:].count_nonzero() == 0
        with torch.no_grad():
            assert student(torch.cat([data.images, data.weak])).softmax(dim=1).max() < 1 / N + 0.03


@pytest.mark.parametrize("taught", ["clip", "dino"])
def test_stability_teaches_its_own_student_alone(taught):
    pair = new()
    found = terms_of("co2s", pair, threshold=torch.zeros(N))
    found[f"{taught}/stability"].value.backward()
    touched = gradients(pair)
    assert touched
    assert all(name.startswith(f"students.{taught}.") for name in touched)


def test_the_published_stability_has_no_gradient():
    found = terms_of("co2s", stability_grad=False, threshold=torch.zeros(N))
    assert found["clip/stability"].total.item() > 0
    assert not found["clip/stability"].total.requires_grad
    assert not found["dino/stability"].total.requires_grad


def test_padding_stays_out_of_the_stability_loss_unless_published():
    data = batch()
    data.valid[:] = False
    zero = torch.zeros(N)
    assert terms_of("co2s", data=data, threshold=zero)["clip/stability"].count.item() == 0
    counted = terms_of("co2s", data=data, threshold=zero, stability_in_padding=True)
    assert counted["clip/stability"].count.item() > 0


def test_with_a_single_view_unimatch_is_fixmatch_and_co2s_adds_stability():
    pair, zero = new(), torch.zeros(N)
    wanted = terms_of("fixmatch", pair, threshold=zero)
    assert METHODS["co2s"](rules(single_view=True)).required.strong == METHODS["fixmatch"].required.strong
    for method, more in (("unimatch", set()), ("co2s", {"clip/stability", "dino/stability"})):
        found = terms_of(method, pair, threshold=zero, single_view=True)
        assert found.keys() == wanted.keys() | more
        for name, term in wanted.items():
            assert found[name].weight == term.weight
            torch.testing.assert_close(found[name].value, term.value)


def views_of_leaves():
    """Outputs whose every part is a leaf tensor, so that its gradient tells which ones a loss uses."""

    def leaf(count):
        return torch.randn(count, N, 8, 8, requires_grad=True)

    weak = leaf(2)
    return StudentOutputs(leaf(2), weak, (leaf(2), leaf(2)), leaf(2), weak.detach().softmax(dim=1))


def small_batch():
    data = batch()
    cut = {name: getattr(data, name)[..., :8, :8] for name in ("images", "labels", "seen", "weak", "valid")}
    return Batch(
        step=0, slots=(0, 1), **cut,
        strong=tuple(view[..., :8, :8] for view in data.strong),
        boxes=tuple(box[..., :8, :8] for box in data.boxes),
        partner=data.partner,
    )  # fmt: skip


def test_consistency_never_reaches_the_weak_view():
    view = views_of_leaves()
    found = METHODS["unimatch"](rules(threshold=torch.zeros(N))).terms(view, small_batch(), {}, 0)
    sum(term.value for name, term in found.items() if name != "labeled").backward()
    assert view.weak.grad is None
    assert view.labeled.grad is None
    assert all(strong.grad.abs().sum() > 0 for strong in view.strong)
    assert view.feature.grad.abs().sum() > 0


def logits_that_cost(loss):
    """Logits whose cross-entropy to class 0 is `loss` everywhere."""
    share = math.exp(-loss)
    logits = torch.full((2, N, 8, 8), math.log(max(1 - share, 1e-30) / (N - 1)))
    logits[:, 0] = math.log(share)
    return logits


@pytest.mark.parametrize(
    ("labeled", "strong1", "strong2", "feature", "wanted"),
    [(4, 0, 0, 0, 2), (0, 4, 0, 0, 0.5), (0, 0, 4, 0, 0.5), (0, 0, 0, 4, 1), (1, 1, 1, 1, 1)],
)
def test_the_loss_is_the_published_sum_of_its_parts(labeled, strong1, strong2, feature, wanted):
    sure = torch.zeros(2, N, 8, 8)
    sure[:, 0] = 1
    weak, strong = logits_that_cost(0), (logits_that_cost(strong1), logits_that_cost(strong2))
    view = StudentOutputs(logits_that_cost(labeled), weak, strong, logits_that_cost(feature), sure)
    data = small_batch()
    data.labels[:] = 0
    for method, peers in (("unimatch", {}), ("co2s", {"other": sure})):
        loss, _ = total_loss(METHODS[method](rules()).terms(view, data, peers, 50), Runtime(CPU), shared=True)
        assert loss.item() == pytest.approx(wanted, rel=1e-5)


def test_the_stability_loss_is_outside_of_the_division_by_two():
    """Opposite students, sure of it, cost 2/N each; at the peak of the ramp half of that is added."""
    sure, opposite = torch.zeros(2, N, 8, 8), torch.zeros(2, N, 8, 8)
    sure[:, 0] = opposite[:, 1] = 1
    nothing = logits_that_cost(0)
    view = StudentOutputs(nothing, nothing, (nothing, nothing), nothing, sure)
    data = small_batch()
    data.labels[:] = 0
    for step, weight in ((0, 0), (50, 0.5)):
        terms = METHODS["co2s"](rules()).terms(view, data, {"other": opposite}, step)
        assert total_loss(terms, Runtime(CPU), shared=True)[0].item() == pytest.approx(weight * 2 / N, abs=1e-6)


def test_without_labels_the_supervised_part_is_zero():
    data = batch()
    data.labels[:] = IGNORE
    found = terms_of("supervised", data=data)
    assert found["clip/labeled"].value.item() == 0


def test_crops_count_alike_in_the_labelled_loss_where_the_rules_say_so():
    data = batch()
    data.labels[:] = IGNORE
    data.labels[0], data.labels[1, 0, :4] = 1, 2
    by_pixel, by_crop = (
        terms_of("supervised", data=data, labeled_balance=power)["clip/labeled"].count.item() for power in (0, 1)
    )
    assert (by_pixel, by_crop) == (SIDE * SIDE + 4, 2)


def test_zero_dropout_gives_the_clean_logits_and_dropout_drops_whole_channels():
    pair, data = new().eval(), batch()
    passes = StudentForward(pair.students["clip"])
    ones = [torch.ones(2, width) for width in pair.students["clip"].widths]
    clean = forward_views(passes, data, RequiredViews(strong=2), feature_masks=ones)
    torch.testing.assert_close(clean.feature, clean.weak)
    masks = channel_masks((64, 64, 48), (0, 1), seed=0, step=1, student=0, device=CPU)
    assert [tuple(mask.shape) for mask in masks] == [(2, 64), (2, 64), (2, 48)]
    assert {value for mask in masks for value in mask.unique().tolist()} == {0.0, 2.0}
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0][0], masks[0][1])
    assert torch.cat([mask.flatten() for mask in masks]).mean().item() == pytest.approx(1, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(("extra", "alone"), [(0, []), (2, [2])])
def test_the_encoder_sees_each_view_once_and_dropped_features_cost_the_decoder_alone(monkeypatch, extra, alone):
    """4 b images are encoded and 5 b decoded; partners from outside of the batch have a pass of their own."""
    pair, data, seen, said = new(), batch(extra=extra), [], []
    student = pair.students["clip"]
    encode, decode = student.encode, student.decode
    monkeypatch.setattr(student, "encode", lambda images: (seen.append(images), encode(images))[1])
    monkeypatch.setattr(student, "decode", lambda taps, size: (said.append(taps), decode(taps, size))[1])
    passes = StudentForward(student)
    masks = channel_masks(student.widths, data.slots, seed=0, step=3, student=0, device=CPU)
    forward_views(passes, data, RequiredViews(strong=2), feature_masks=masks)
    assert [len(images) for images in seen] == [8, *alone]
    assert [len(taps.semantic) for taps in said] == [10, *alone]
    for maps, mask in zip(said[0], masks, strict=True):
        assert torch.equal(maps[8:], maps[2:4] * mask[..., None, None])
        assert (maps[8:].abs().sum(dim=(2, 3)) == 0).any(dim=1).all()
    seen.clear(), said.clear()
    forward_views(passes, data, RequiredViews(strong=2))
    assert [len(images) for images in seen] == [8, *alone]
    assert [len(taps.semantic) for taps in said] == [8, *alone]


def test_one_pass_says_what_separate_passes_say():
    pair, data = new().eval(), batch(extra=2)
    student = pair.students["dino"]
    views = forward_views(StudentForward(student), data, RequiredViews(strong=2))
    with torch.no_grad():
        torch.testing.assert_close(views.labeled, student(data.images), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(views.weak, student(data.weak[:2]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(views.guide, student(data.weak).softmax(dim=1), rtol=1e-4, atol=1e-5)
        mixed = data.strong[0][:2].clone()
        mixed[:, :, 10:30, 10:30] = data.strong[0][2:, :, 10:30, 10:30]
        torch.testing.assert_close(views.strong[0], student(mixed), rtol=1e-4, atol=1e-5)
    assert not views.guide.requires_grad


@pytest.mark.slow
def test_recomputing_activations_changes_no_gradient():
    found = []
    for checkpointed in (False, True):
        pair = new()
        descend(trainees_of("unimatch", pair, checkpointed=checkpointed), batch())
        found.append(torch.cat([p.grad.flatten() for p in pair.parameters() if p.grad is not None]))
    torch.testing.assert_close(*found)


def test_each_trainable_parameter_is_in_one_group_of_its_rate():
    pair = new()
    groups = parameter_groups(pair, 1e-4, backbone=0.01, decoder=10, queries=1)
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == pytest.approx(
        {
            "clip/backbone": 1e-6, "clip/decoder": 1e-3,
            "dino/backbone": 1e-6, "dino/queries": 1e-4, "dino/decoder": 1e-3,
        }
    )  # fmt: skip
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in pair.parameters() if p.requires_grad)


@pytest.mark.parametrize("preset", ["default", "published"])
def test_rates_and_decay_of_a_run_are_the_published_ones_in_every_group(tmp_path, preset):
    plan = plan_of(settings_of(None, {"preset": preset}, []), 100, epoch_steps=100)
    pair = new()
    engine = TrainingEngine(
        pair,
        trainees_of("co2s", pair),
        None,
        plan,
        Runtime(CPU),
        sums=None,
        folder=tmp_path,
        settings={},
        validate=None,
        progress=SILENT,
    )
    groups = engine.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.01] * 5
    assert {(*group["betas"], group["eps"]) for group in groups} == {(0.9, 0.999, 1e-8)}
    assert sorted({group["base"] for group in groups}) == pytest.approx([1e-6, 1e-4, 1e-3])
    assert [group["base"] for group in groups] == [group["lr"] for group in groups]


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other"), [("clip", "dino"), ("dino", "clip")])
def test_a_step_of_one_student_leaves_the_other_as_it_is(one, other):
    """Neither the stability loss nor momentum nor decay moves the one whose loss was not asked for."""
    pair = new()
    trainees = trainees_of("co2s", pair, threshold=torch.zeros(N))
    groups = parameter_groups(pair, 1e-3, backbone=1, decoder=1, queries=1)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    descend(trainees, batch(), 50)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    terms = dict(run_students(trainees, batch(), 50))[one]
    assert terms["stability"].value.item() > 0
    total_loss(terms, Runtime(CPU), shared=True)[0].backward()
    optimizer.step()
    moved = {name for name, value in pair.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith(f"students.{one}.decoder.") for name in moved)
    assert not any(name.startswith(f"students.{other}.") for name in moved)


def test_only_attention_of_the_backbones_moves():
    pair = new()
    before = {name: p.detach().clone() for name, p in pair.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(pair, 1e-3, backbone=1, decoder=1, queries=1))
    total_loss(terms_of("unimatch", pair), Runtime(CPU), shared=True)[0].backward()
    optimizer.step()
    moved = {name for name, p in pair.named_parameters() if not torch.equal(p, before[name])}
    backbone = {name for name in moved if ".backbone." in name}
    assert backbone
    assert all("attn" in name for name in backbone)
    assert any("decoder" in name for name in moved)
    assert "students.dino.guidance.vectors" in moved


@pytest.mark.slow
def test_two_labelled_images_are_learnt_by_heart():
    pair, data = new(), batch()
    for student in pair.students.values():
        student.train_backbone("all")
    rows, cols = torch.meshgrid(torch.arange(SIDE) // 32, torch.arange(SIDE) // 32, indexing="ij")
    data.labels[:] = rows * 2 + cols
    data.labels[1] = 5 - data.labels[1]
    colors = torch.tensor(
        [[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9], [0.9, 0.9, 0.1], [0.1, 0.9, 0.9], [0.9, 0.1, 0.9]]
    )
    data.images[:] = colors[data.labels].movedim(-1, 1)
    trainees = trainees_of("supervised", pair)
    optimizer = torch.optim.AdamW(parameter_groups(pair, 3e-3, backbone=0.3, decoder=1, queries=1))
    for step in range(120):
        optimizer.zero_grad()
        descend(trainees, data, step)
        optimizer.step()
    said = pair.eval().probabilities(data.images).argmax(dim=1)
    scores = Scores.of(confusion(data.labels.numpy(), said.numpy(), N))
    assert scores.miou > 0.95


@pytest.mark.slow
def test_students_that_teach_each_other_agree_sooner():
    """Where one of them is sure: the mean of L_sta over both, with the published weight and from the same seeds.

    Of two seeds with which the students part far by themselves: by seed and machine they may part eight times less, and
    then there is little to teach.
    """
    left = {False: 0.0, True: 0.0}
    for seed, teaches in itertools.product((4, 5), left):
        pair = new(seed)
        optimizer = torch.optim.AdamW(parameter_groups(pair, 1e-3, backbone=1, decoder=1, queries=1))
        trainees = trainees_of("co2s", pair, threshold=torch.full((N,), 0.4), stability_grad=teaches)
        for _ in range(40):
            optimizer.zero_grad()
            descend(trainees, batch(), 50)
            optimizer.step()
        after = [terms["stability"] for _, terms in run_students(trainees, batch(), 50)]
        assert any(term.count > 0 for term in after)  # without teaching one of them may be the surer one everywhere
        left[teaches] += sum(term.value.item() for term in after) / 2
    assert 0 < left[True] < left[False] / 10


def test_each_student_is_told_what_the_other_one_says_of_the_weak_view():
    pair, data, seen = new().eval(), batch(extra=2), {}
    trainees = trainees_of("co2s", pair)
    for name, trainee in trainees.items():
        trainee.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[2]}))
    list(run_students(trainees, data, 50))
    said = pair.members(data.weak[:2])
    assert seen["clip"].keys() == {"dino"}
    assert seen["dino"].keys() == {"clip"}
    torch.testing.assert_close(seen["clip"]["dino"], said["dino"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen["dino"]["clip"], said["clip"], rtol=1e-4, atol=1e-5)
    assert not seen["dino"]["clip"].requires_grad


def test_peers_come_in_the_order_of_the_students_whoever_speaks_first():
    seen = {}
    trainees = {**trainees_of("co2s", new()), "third": trainees_of("co2s", new())["clip"]}
    for name, trainee in trainees.items():
        trainee.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: list(given[2])}))
    list(run_students(trainees, batch(), 50))
    assert seen == {"clip": ["dino", "third"], "dino": ["clip", "third"], "third": ["clip", "dino"]}


def test_methods_that_ask_no_other_student_pay_for_no_pass_of_it(monkeypatch):
    monkeypatch.setattr(StudentStep, "predict_weak", lambda *_: pytest.fail("a pass that nobody wants"))
    assert len(list(run_students(trainees_of("unimatch", new()), batch(), 50))) == 2


def counted(encode, seen):
    """`encode`, noting how many images it is given."""

    def noting(images):
        seen.append(len(images))
        return encode(images)

    return noting


def test_unlabelled_views_are_not_computed_before_they_count(monkeypatch):
    pair, data, seen = new(), batch(extra=2), []
    for student in pair.students.values():
        monkeypatch.setattr(student, "encode", counted(student.encode, seen))
    trainees = trainees_of("co2s", pair, consistency_start=0.5, steps=10)
    early = dict(run_students(trainees, data, 4))
    assert seen == [2, 2]  # the labelled crops alone
    assert {name: set(terms) for name, terms in early.items()} == {"clip": {"labeled"}, "dino": {"labeled"}}
    late = dict(run_students(trainees, data, 5))
    assert all({"labeled", "strong1", "strong2", "feature", "stability"} == set(terms) for terms in late.values())
