"""What a rule makes of two students, pixel by pixel, against plain loops."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.made import pointwise, positional, random_scene, runner, untiled, whole

from co2s_cli.errors import ConfigError
from co2s_cli.inference.products import LandCover
from co2s_cli.models.ensemble import learns_from_peer
from co2s_cli.pseudo.candidates import GRID, Candidates, candidates_of
from co2s_cli.tiling import Window

CLASSES = 4


def candidates(rule, students=2):
    return Candidates(CLASSES, rule, "mean", students)


def chances(shape=(6, 7), seed=0):
    """Probabilities of two students (1, N, h, w), among them equal ones."""
    torch.manual_seed(seed)
    drawn = (torch.randn(2, 1, CLASSES, *shape) * 3).softmax(2)
    drawn[1, ..., :2, :2] = drawn[0, ..., :2, :2]
    drawn[1, :, :, 3] = drawn[0, :, [1, 0, 3, 2], 3]  # as sure, of another class
    return {"clip": drawn[0], "dino": drawn[1]}


def decided(rule, members):
    product = candidates(rule)
    return {name: plane[0].numpy() for name, plane in product.decide(product.values(members)[0]).items()}


def plain(rule, first, second):
    """Class and confidence of one pixel, from the probabilities of two students."""
    if rule == "any":
        fused = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
        return fused.index(max(fused)), max(fused)
    own, other = first.index(max(first)), second.index(max(second))
    if rule == "both":
        return (own if own == other else 255), min(max(first), max(second))
    return (own if max(first) >= max(second) else other), max(*first, *second)


@pytest.mark.parametrize("rule", ["any", "both", "surer"])
def test_each_rule_equals_a_loop_over_pixels(rule):
    members = chances()
    found = decided(rule, members)
    for row in range(6):
        for col in range(7):
            label, sure = plain(rule, *(part[0, :, row, col].tolist() for part in members.values()))
            assert found["class"][row, col] == label
            assert found["confidence"][row, col] == round(sure * GRID) / GRID
            first, second = (part[0, :, row, col].numpy() for part in members.values())
            assert found["disagreement"][row, col] == pytest.approx(abs(first - second).sum() / 2 * 254, abs=0.51)


@given(st.integers(0, 10_000), st.floats(0.3, 0.99))
def test_surer_is_what_one_student_learns_from_the_other_in_training(seed, threshold):
    members = chances(seed=seed)
    found = decided("surer", members)
    (own, mine), (other, theirs) = ((part[0].max(0)) for part in members.values())
    from_other, from_own = (
        learns_from_peer(own, other, threshold).numpy(),
        learns_from_peer(other, own, threshold).numpy(),
    )
    kept = torch.maximum(own, other).numpy() >= threshold
    np.testing.assert_array_equal(kept, from_other | from_own)
    np.testing.assert_array_equal(found["class"][from_other & ~from_own], theirs.numpy()[from_other & ~from_own])
    np.testing.assert_array_equal(found["class"][from_own], mine.numpy()[from_own])


def test_any_is_predicts_own_map():
    scene = random_scene(40, 50)
    product, cover = candidates("any"), LandCover(CLASSES, "mean", wanted=("confidence", "disagreement"))
    values = torch.from_numpy(untiled(scene, pointwise, product))
    found, expected = product.decide(values), cover.decide(values)
    for name in ("class", "disagreement"):
        assert torch.equal(found[name], expected[name])
    assert (found["confidence"] * 254 - expected["confidence"]).abs().max() <= 0.51


@pytest.mark.parametrize("rule", ["any", "both", "surer"])
def test_students_are_blended_one_by_one_whatever_the_windows(rule):
    scene, product = random_scene(50, 70), candidates(rule)
    values, valid = whole(runner(scene, pointwise, product, tile=32, overlap=8), Window(0, 0, 50, 70))
    assert valid.all()
    np.testing.assert_allclose(values, untiled(scene, pointwise, product), atol=1e-6)
    assert len(whole(runner(scene, positional, product, tile=32, overlap=8), Window(0, 0, 50, 70))[0]) == product.depth


def test_a_value_that_is_no_number_is_no_class():
    product = candidates("both")
    values = product.values(chances())[0]
    values[:, 0, 0] = float("nan")
    found = product.decide(values)
    assert found["class"][0, 0, 0] == 255
    assert found["confidence"][0, 0, 0] == 0


@pytest.mark.parametrize("rule", ["both", "surer"])
def test_rules_for_two_refuse_a_single_student_and_name_the_one_that_works(rule):
    manifest = SimpleNamespace(students={"dino": None}, classes=("a", "b"), fusion="mean")
    with pytest.raises(ConfigError, match="this one has dino") as caught:
        candidates_of(manifest, rule)
    assert "--agree any" in caught.value.hint


@pytest.mark.parametrize(("names", "rule"), [("dino", "any"), ("clip dino", "surer"), ("local local2 local3", "any")])
def test_the_rule_follows_the_number_of_students_where_none_is_named(names, rule):
    manifest = SimpleNamespace(students=dict.fromkeys(names.split()), classes=("a", "b"), fusion="mean")
    assert candidates_of(manifest, None).rule == rule


def test_a_single_student_has_no_disagreement():
    product = candidates_of(SimpleNamespace(students={"dino": None}, classes=("a",) * CLASSES, fusion="mean"), None)
    assert (product.rule, [plane.name for plane in product.planes]) == ("any", ["class", "confidence"])
    found = product.decide(product.values({"dino": chances()["dino"]})[0])
    assert set(found) == {"class", "confidence"}
