"""What is decided from probabilities."""

import pytest
import torch

from co2s_cli.inference.model import averaged_over_views
from co2s_cli.inference.opinions import Opinions
from co2s_cli.inference.products import LandCover, distance, most_probable, quantised


def blended(*pixels):
    """Probabilities of single pixels as (depth, 1, pixels)."""
    return torch.tensor(pixels).T[:, None]


def test_exact_ties_go_to_the_lower_id():
    product = LandCover(classes=4, fusion="mean")
    planes = product.decide(blended([0.1, 0.4, 0.1, 0.4], [0.25] * 4, [0.0, 0.0, 0.5, 0.5]))
    assert planes["class"].flatten().tolist() == [1, 0, 2]
    assert planes["class"].dtype == torch.uint8


def test_the_least_difference_decides():
    planes = LandCover(classes=2, fusion="mean").decide(blended([0.4999999, 0.5], [0.5, 0.4999999]))
    assert planes["class"].flatten().tolist() == [1, 0]


def test_what_is_less_sure_than_wanted_gets_no_class():
    product = LandCover(classes=2, fusion="mean", min_confidence=0.7)
    planes = product.decide(blended([0.7, 0.3], [0.31, 0.69], [float("nan"), float("nan")]))
    assert planes["class"].flatten().tolist() == [0, 255, 255]


def test_numbers_that_are_none_make_no_class():
    planes = LandCover(classes=2, fusion="mean").decide(blended([float("nan")] * 2))
    assert planes["class"].item() == 255


def test_every_plane_that_is_wanted_is_there_and_fits_its_description():
    wanted = ("confidence", "probabilities", "disagreement")
    for dtype in ("uint8", "float32"):
        product = LandCover(classes=3, fusion="mean", wanted=wanted, probabilities=dtype)
        planes = product.decide(torch.rand(product.depth, 2, 5))
        assert [plane.name for plane in product.planes] == list(planes)
        for plane in product.planes:
            assert planes[plane.name].shape == (plane.bands, 2, 5)
            assert str(planes[plane.name].dtype) == f"torch.{plane.dtype}"


def test_fractions_fill_254_steps():
    assert quantised(torch.tensor([0.0, 0.499, 0.5, 1.0, 1.0000002])).tolist() == [0, 127, 127, 254, 254]


def test_disagreement_is_0_for_twins_and_1_for_opposites():
    left, right = torch.tensor([[1.0, 0.0]])[..., None, None], torch.tensor([[0.0, 1.0]])[..., None, None]
    assert distance({"clip": left, "dino": left}).item() == 0
    assert distance({"clip": left, "dino": right}).item() == 1
    assert distance({"clip": left, "dino": (left + right) / 2}).item() == 0.5
    with pytest.raises(ValueError, match="two students"):
        distance({"clip": left})


@pytest.mark.parametrize(("tta", "views"), [("none", 1), ("flips", 4), ("d4", 8)])
def test_views_are_all_different_and_turned_back(tta, views):
    seen = []

    def remember(images):
        seen.append(images)
        return {"clip": images * 2}

    image = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(averaged_over_views(remember, tta)(image)["clip"], image * 2)
    assert len(seen) == views
    assert len({tuple(view.flatten().tolist()) for view in seen}) == views


@pytest.mark.parametrize("tta", ["flips", "d4"])
def test_the_mean_over_views_does_not_know_left_from_right(tta):
    def corner(images):
        ramp = torch.linspace(0, 1, images.shape[-1])
        return {"clip": images * ramp}

    image = torch.rand(1, 1, 5, 5)
    mean = averaged_over_views(corner, tta)
    torch.testing.assert_close(mean(image.flip(-1))["clip"].flip(-1), mean(image)["clip"])


def test_the_most_probable_class_is_that_of_max():
    probabilities = torch.rand(5, 40, 50).mul(8).round()  # with many ties
    confidence, label = most_probable(probabilities)
    expected = probabilities.max(dim=0)
    torch.testing.assert_close(confidence, expected.values, rtol=0, atol=0)
    assert torch.equal(label.long(), expected.indices)


def test_disagreement_of_three_students_is_the_mean_over_their_pairs():
    sure = [torch.tensor([[1.0, 0.0]])[..., None, None], torch.tensor([[0.0, 1.0]])[..., None, None]]
    assert distance({"local": sure[0], "local2": sure[1], "local3": sure[1]}).item() == pytest.approx(2 / 3)


def test_opinions_are_the_map_of_predict_and_each_students_class():
    members = {name: torch.rand(1, 4, 3, 5).softmax(dim=1) for name in ("clip", "dino")}
    product = Opinions(4, "mean", ("clip", "dino"))
    predicted = LandCover(classes=4, fusion="mean", wanted=("confidence", "disagreement"))
    planes = product.decide(product.values(members)[0])
    assert product.values(members).shape[1] == product.depth
    assert [plane.name for plane in product.planes] == list(planes)
    for name, plane in predicted.decide(predicted.values(members)[0]).items():
        assert torch.equal(planes[name], plane)
    for name, probabilities in members.items():
        assert torch.equal(planes[f"guess_{name}"][0], probabilities[0].argmax(dim=0).to(torch.uint8))


def test_one_student_has_no_opinion_beside_the_map():
    product = Opinions(4, "mean", ("dino",))
    planes = product.decide(product.values({"dino": torch.rand(1, 4, 3, 5).softmax(dim=1)})[0])
    assert list(planes) == ["class", "confidence"] == [plane.name for plane in product.planes]
