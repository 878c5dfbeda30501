"""Exact values of every loss, who gets a gradient, and what counts."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from co2s_cli.classes import IGNORE
from co2s_cli.models.ensemble import learns_from_peer
from co2s_cli.training.losses import (
    CONFIDENCE_BINS,
    PseudoLabels,
    Term,
    balanced_weights,
    confidence_histogram,
    consistency,
    pseudo_labels,
    share_thresholds,
    soft_label_loss,
    stability,
    supervised,
    token_distance,
)

N = 6
TAU = torch.full((N,), 0.95)


def one_hot(labels, strength=60.0):
    return F.one_hot(labels, N).movedim(-1, 1).float() * strength


def logits_of_loss(loss, shape=(1, 2, 2)):
    """Logits whose cross-entropy to class 0 is `loss` everywhere."""
    share = math.exp(-loss)
    logits = torch.full((shape[0], N, *shape[1:]), math.log((1 - share) / (N - 1)))
    logits[:, 0] = math.log(share)
    return logits


def pseudo(confidence, valid=None):
    confidence = torch.as_tensor(confidence)
    valid = torch.ones_like(confidence, dtype=torch.bool) if valid is None else torch.as_tensor(valid)
    return PseudoLabels(confidence, torch.zeros_like(confidence, dtype=torch.long), valid)


def test_flat_logits_cost_the_logarithm_of_the_number_of_classes():
    term = supervised(torch.zeros(2, N, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long))
    assert term.value.item() == pytest.approx(math.log(N))


def test_a_crop_without_labels_costs_nothing_and_is_not_nan():
    logits = torch.randn(1, N, 4, 4, requires_grad=True)
    term = supervised(logits, torch.full((1, 4, 4), IGNORE))
    term.value.backward()
    assert term.value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_supervised_equals_torch_with_and_without_class_weights():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, N, 5, 5), torch.randint(0, N, (3, 5, 5))
    labels[0, :2] = IGNORE
    weights = torch.rand(N) + 0.1
    for given_weights in (None, weights):
        expected = F.cross_entropy(logits, labels, weight=given_weights, ignore_index=IGNORE)
        torch.testing.assert_close(supervised(logits, labels, class_weights=given_weights).value, expected)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_images_with_few_labelled_pixels_weigh_more_by_the_balance(power):
    torch.manual_seed(0)
    logits, labels = torch.randn(4, N, 5, 5), torch.full((4, 5, 5), IGNORE)
    labels[0], labels[1, 0], labels[2, 3, 3] = 1, 2, 0  # 25, 5, 1 and no labelled pixels
    counts = torch.tensor([25.0, 5.0, 1.0])
    means = torch.stack([F.cross_entropy(logits[i : i + 1], labels[i : i + 1], ignore_index=IGNORE) for i in range(3)])
    expected = (means * counts ** (1 - power)).sum() / (counts ** (1 - power)).sum()
    found = supervised(logits, labels, balance=power)
    torch.testing.assert_close(found.value, expected)
    assert supervised(logits, torch.full_like(labels, IGNORE), balance=power).value == 0
    twice = supervised(logits, labels, balance=power, pixel_weights=torch.full((4, 5, 5), 2.0))
    torch.testing.assert_close(twice.value, expected)


def test_all_pixels_of_a_batch_share_one_denominator():
    logits = torch.cat([logits_of_loss(1.0), logits_of_loss(3.0)])
    labels = torch.zeros(2, 2, 2, dtype=torch.long)
    labels[1, 0] = IGNORE
    assert supervised(logits, labels).value.item() == pytest.approx((4 * 1 + 2 * 3) / 6)


@pytest.mark.parametrize(
    ("confidence", "valid", "expected"),
    [
        ([[[0.9, 0.9], [0.1, 0.94]]], None, 0.0),
        ([[[0.96, 0.99], [1.0, 0.97]]], None, 1.0),
        ([[[0.96, 0.96], [0.5, 0.5]]], None, 0.5),
        ([[[0.95, 0.5], [0.5, 0.5]]], None, 0.25),
        ([[[0.99, 0.99], [0.99, 0.5]]], [[[False, True], [True, False]]], 1.0),
        ([[[0.99, 0.99], [0.5, 0.5]]], [[[False, True], [True, True]]], 1 / 3),
        ([[[0.99, 0.99], [0.99, 0.99]]], [[[False, False], [False, False]]], 0.0),
    ],
)
def test_consistency_divides_by_all_valid_pixels(confidence, valid, expected):
    term = consistency(logits_of_loss(1.0), pseudo(confidence, valid), TAU, weight=0.25)
    assert term.value.item() == pytest.approx(expected, abs=1e-6)
    assert term.weight == 0.25


def test_thresholds_may_differ_by_class():
    thresholds = torch.tensor([0.5, *[0.95] * (N - 1)])
    view = PseudoLabels(torch.full((1, 1, 2), 0.6), torch.tensor([[[0, 1]]]), torch.ones(1, 1, 2, dtype=torch.bool))
    term = consistency(logits_of_loss(1.0, (1, 1, 2)), view, thresholds, weight=1)
    assert term.value.item() == pytest.approx(0.5)


def test_no_gradient_flows_through_pseudo_labels():
    logits = torch.randn(1, N, 2, 2, requires_grad=True)
    view = pseudo_labels(logits.softmax(dim=1), torch.ones(1, 2, 2, dtype=torch.bool))
    assert not view.confidence.requires_grad
    assert torch.equal(view.labels, logits.argmax(dim=1))


def test_a_box_takes_labels_confidence_and_validity_together():
    ours = PseudoLabels(
        torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long), torch.zeros(1, 2, 2, dtype=torch.bool)
    )
    theirs = PseudoLabels(
        torch.ones(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.long), torch.ones(1, 2, 2, dtype=torch.bool)
    )
    box = torch.tensor([[[True, False], [False, True]]])
    mixed = ours.mixed(box, theirs)
    for part in mixed:
        assert torch.equal(part.bool(), box)


def test_stability_at_its_limits():
    labels = torch.zeros(1, 3, 3, dtype=torch.long)
    everywhere = torch.ones(1, 3, 3, dtype=torch.bool)
    sure, opposite = one_hot(labels), one_hot(labels + 1).softmax(dim=1)
    flat = torch.zeros(1, N, 3, 3)
    assert stability(sure, sure.softmax(1), everywhere, weight=1).value.item() == pytest.approx(0, abs=1e-7)
    assert stability(sure, opposite, everywhere, weight=1).value.item() == pytest.approx(2 / N, abs=1e-5)
    assert stability(flat, sure.softmax(1), everywhere, weight=1).value.item() == pytest.approx(0.13889, abs=1e-5)
    assert stability(sure, opposite, ~everywhere, weight=1).value.item() == 0


def test_stability_does_not_depend_on_the_size_of_the_image():
    torch.manual_seed(1)
    ours, theirs, mask = torch.randn(1, N, 4, 4), torch.randn(1, N, 4, 4).softmax(1), torch.rand(1, 4, 4) > 0.5
    small = stability(ours, theirs, mask, weight=1).value
    big = stability(ours.repeat(1, 1, 3, 3), theirs.repeat(1, 1, 3, 3), mask.repeat(1, 3, 3), weight=1).value
    torch.testing.assert_close(small, big)


def test_stability_teaches_one_side_only():
    taught, teaching = torch.randn(1, N, 2, 2, requires_grad=True), torch.randn(1, N, 2, 2, requires_grad=True)
    mask = torch.ones(1, 2, 2, dtype=torch.bool)
    stability(taught, teaching.softmax(1), mask, weight=1).value.backward()
    assert taught.grad.abs().sum() > 0
    assert teaching.grad is None
    assert not stability(taught.detach(), teaching.softmax(1), mask, weight=1).value.requires_grad


@pytest.mark.parametrize(
    ("clip", "dino", "clip_learns", "dino_learns"),
    [
        (0.99, 0.97, False, True),
        (0.97, 0.99, True, False),
        (0.99, 0.50, False, True),
        (0.50, 0.99, True, False),
        (0.94, 0.94, False, False),
        (0.97, 0.97, True, True),
        (0.95, 0.94, False, True),
    ],
)
def test_who_learns(clip, dino, clip_learns, dino_learns):
    clip, dino = torch.tensor(clip), torch.tensor(dino)
    assert bool(learns_from_peer(clip, dino, 0.95)) is clip_learns
    assert bool(learns_from_peer(dino, clip, 0.95)) is dino_learns


@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_someone_learns_exactly_where_someone_is_sure(clip, dino):
    a, b = torch.tensor(clip), torch.tensor(dino)
    either = bool(learns_from_peer(a, b, 0.95) | learns_from_peer(b, a, 0.95))
    both = bool(learns_from_peer(a, b, 0.95) & learns_from_peer(b, a, 0.95))
    assert either == (max(a, b) >= 0.95)
    assert not both or clip == dino


def test_an_empty_term_is_zero():
    assert Term(torch.zeros(()), torch.zeros(())).value.item() == 0


@pytest.mark.parametrize("by_class", [False, True])
def test_weighted_pixels_count_by_their_weight_as_in_a_double_loop(by_class):
    torch.manual_seed(1)
    logits, labels = torch.randn(2, N, 4, 5), torch.randint(0, N, (2, 4, 5))
    labels[0, 1:3] = IGNORE
    weights, classes = torch.rand(2, 4, 5), torch.rand(N) + 0.1
    weights[1, 0] = 0
    total = count = 0.0
    for image, row, col in [(i, r, c) for i in range(2) for r in range(4) for c in range(5)]:
        label = int(labels[image, row, col])
        if label != IGNORE:
            weight = float(weights[image, row, col]) * (float(classes[label]) if by_class else 1.0)
            total -= weight * float(logits[image, :, row, col].log_softmax(0)[label])
            count += weight
    found = supervised(logits, labels, class_weights=classes if by_class else None, pixel_weights=weights)
    assert found.total.item() == pytest.approx(total, rel=1e-5)
    assert found.count.item() == pytest.approx(count, rel=1e-5)
    assert found.value.item() == pytest.approx(total / count, rel=1e-5)


def test_weights_of_one_change_nothing_and_weights_of_zero_cost_nothing():
    logits, labels = torch.randn(2, N, 4, 5), torch.randint(0, N, (2, 4, 5))
    plain = supervised(logits, labels)
    ones = supervised(logits, labels, pixel_weights=torch.ones(2, 4, 5))
    assert torch.equal(plain.total, ones.total)
    assert torch.equal(plain.count, ones.count)
    assert supervised(logits, labels, pixel_weights=torch.zeros(2, 4, 5)).value.item() == 0


@pytest.mark.parametrize("kind", ["mse", "ln_mse", "cosine"])
def test_likeness_is_the_mean_of_a_double_loop(kind):
    generator = torch.Generator().manual_seed(0)
    said, told = (torch.randn(2, 3, 5, generator=generator) for _ in range(2))
    found = []
    for a, b in zip(said.flatten(0, 1).tolist(), told.flatten(0, 1).tolist(), strict=True):
        if kind == "cosine":
            product = sum(x * y for x, y in zip(a, b, strict=True))
            found.append(1 - product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b)))
            continue
        if kind == "ln_mse":
            mean = sum(b) / 5
            deviation = math.sqrt(sum((y - mean) ** 2 for y in b) / 5 + 1e-5)
            found += [(x - (y - mean) / deviation) ** 2 for x, y in zip(a, b, strict=True)]
            continue
        found += [(x - y) ** 2 for x, y in zip(a, b, strict=True)]
    term = token_distance(said, told, kind, weight=0.5)
    assert term.value.item() == pytest.approx(sum(found) / len(found), rel=1e-5)
    assert term.weight == 0.5


@pytest.mark.parametrize("kind", ["ln_mse", "cosine"])
def test_normalised_likeness_does_not_mind_the_teachers_scale(kind):
    said, told = torch.randn(2, 3, 50), torch.randn(2, 3, 50)
    once, scaled = (token_distance(said, factor * told, kind, weight=1).value.item() for factor in (1, 40))
    assert once == pytest.approx(scaled, rel=1e-3)


def test_likeness_teaches_the_student_alone():
    said, told = (torch.randn(1, 2, 4, requires_grad=True) for _ in range(2))
    token_distance(said, told, "mse", weight=1).value.backward()
    assert said.grad.abs().sum() > 0
    assert told.grad is None


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_soft_labels_cost_the_divergence_weighed_by_their_confidence(temperature):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, N, 2, 2, generator=generator)
    chances = torch.randn(1, N, 2, 2, generator=generator).softmax(dim=1)
    valid = torch.tensor([[[True, True], [False, True]]])
    total = 0.0
    for row, col in ((0, 0), (0, 1), (1, 1)):
        told = chances[0, :, row, col]
        sure = told.max().item()
        told = told ** (1 / temperature) / (told ** (1 / temperature)).sum()
        said = (logits[0, :, row, col] / temperature).softmax(dim=0)
        total += temperature**2 * sure * (told * (told / said).log()).sum().item()
    term = soft_label_loss(logits, chances, valid, weight=1, temperature=temperature)
    assert term.count.item() == 3
    assert term.value.item() == pytest.approx(total / 3, rel=1e-4)


def test_soft_labels_that_are_certain_are_no_trouble():
    chances = one_hot(torch.zeros(1, 2, 2, dtype=torch.long), 1.0)
    logits = torch.zeros(1, N, 2, 2, requires_grad=True)
    term = soft_label_loss(logits, chances, torch.ones(1, 2, 2, dtype=torch.bool), weight=1)
    assert term.value.item() == pytest.approx(math.log(N))
    term.value.backward()
    assert torch.isfinite(logits.grad).all()
    assert soft_label_loss(logits, chances, torch.zeros(1, 2, 2, dtype=torch.bool), weight=1).value.item() == 0


def _by_loop(pseudo, classes, threshold, share):
    """For each class the largest edge of a bin that `share` of its valid pixels reach, from 0.5 to its threshold."""
    cuts = []
    for index in range(classes):
        mine = pseudo.confidence[(pseudo.labels == index) & pseudo.valid]
        if not len(mine):
            cuts.append(float(threshold[index]))
            continue
        edges = [edge / CONFIDENCE_BINS for edge in range(CONFIDENCE_BINS)]
        enough = [edge for edge in edges if (mine >= edge).sum() >= share * len(mine)]
        cuts.append(min(max(*enough, 0.5), float(threshold[index])))
    return torch.tensor(cuts)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_thresholds_by_share_are_those_of_a_loop(share):
    generator = torch.Generator().manual_seed(3)
    confidence = torch.rand(2, 16, 16, generator=generator)
    pseudo = PseudoLabels(confidence, torch.randint(0, 4, (2, 16, 16), generator=generator), confidence > 0.1)
    pseudo.labels[pseudo.labels == 2] = 1  # a class that nothing is taken for
    threshold = torch.tensor([0.95, 0.95, 0.8, 0.6])
    cuts = share_thresholds(confidence_histogram(pseudo, 4), threshold, share)
    torch.testing.assert_close(cuts, _by_loop(pseudo, 4, threshold, share))


def test_pseudo_labels_of_a_rare_class_weigh_more_and_all_together_as_much():
    labels = torch.zeros(1, 10, 10, dtype=torch.long)
    labels[0, 0] = 1
    pseudo = PseudoLabels(torch.full((1, 10, 10), 0.99), labels, torch.ones(1, 10, 10, dtype=torch.bool))
    weights = balanced_weights(confidence_histogram(pseudo, 2), torch.tensor([0.95, 0.95]), 0.5)
    assert weights[1] / weights[0] == pytest.approx(3.0)  # the root of 90 to 10
    assert weights[labels].mean().item() == pytest.approx(1.0)
    logits = torch.randn(1, 2, 10, 10)
    plain = consistency(logits, pseudo, torch.tensor([0.95, 0.95]), weight=1.0)
    weighted = consistency(logits, pseudo, torch.tensor([0.95, 0.95]), weight=1.0, class_weights=weights)
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert weighted.total.item() == pytest.approx((loss * weights[labels]).sum().item(), rel=1e-5)
    assert weighted.count == plain.count
