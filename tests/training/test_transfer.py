"""What a model file gives to a model of other classes, bands or students."""

import pytest
import torch

from co2s_cli.classes import ClassMap
from co2s_cli.models import catalog
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import Manifest, ModelScaling
from co2s_cli.training.transfer import transfer


def model(classes=("land", "water"), bands=("red", "green", "blue"), names=("dino", "local"), seed=0) -> Ensemble:
    makers = {
        "local": catalog.local_student(bands),
        "dino": catalog.from_scratch(catalog.for_bands(catalog.dino_student("tiny-dino"), bands)),
    }
    torch.manual_seed(seed)
    return Ensemble(
        Manifest(
            classes=tuple(ClassMap.of(list(classes)).plain()),
            bands=bands,
            scaling=ModelScaling(low=(0,) * len(bands), high=(255,) * len(bands)),
            students={name: makers[name] for name in names},
        )
    )


def test_an_equal_model_is_taken_whole():
    source, target = model(), model(seed=1)
    taken = transfer(source, target)
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())
    assert all(count == of for count, of in taken.taken.values())
    assert taken.new_classes == taken.new_bands == ()


def test_classes_are_taken_by_name_and_others_begin_anew():
    source, target = model(("land", "water", "town")), model(("Town", "forest", "land"), seed=1)
    drawn = target.students["dino"].guidance.vectors.detach().clone()
    taken = transfer(source, target)
    old, new = source.students["dino"].guidance.vectors, target.students["dino"].guidance.vectors
    assert torch.equal(new[[0, 2]], old[[2, 0]])
    assert torch.equal(new[1], drawn[1])
    assert torch.equal(target.students["local"].head.bias[0], source.students["local"].head.bias[2])
    assert taken.new_classes == ("forest",)


def test_filters_are_taken_by_the_names_of_bands_and_keep_the_size_of_their_sum():
    source = model(bands=("blue", "green", "red", "nir"))
    target = model(bands=("red", "nir"), seed=1)
    taken = transfer(source, target)
    old = source.students["local"].pixel[0][0].weight
    new = target.students["local"].pixel[0][0].weight
    assert torch.equal(new, old[:, [2, 3]] * 2)
    assert taken.new_bands == ()
    other = model(bands=("red", "radar"), seed=2)
    drawn = other.students["local"].pixel[0][0].weight.detach().clone()
    assert transfer(source, other).new_bands == ("radar",)
    sentinel = model(bands=("B02", "B04", "B08", "B11"), seed=3)  # by what these codes are called
    assert transfer(source, sentinel).new_bands == ("B11",)
    assert torch.equal(other.students["local"].pixel[0][0].weight[:, 1], drawn[:, 1])


def test_a_student_that_the_file_has_not_is_left_as_drawn():
    source, target = model(names=("local",)), model(seed=1)
    before = {name: value.clone() for name, value in target.students["dino"].state_dict().items()}
    taken = transfer(source, target)
    assert taken.taken["dino"][0] == 0
    assert all(torch.equal(value, target.students["dino"].state_dict()[name]) for name, value in before.items())
    assert "dino 0 of" in str(taken)


def test_no_namesake_at_all_takes_everything_else():
    source, target = model(("a", "b")), model(("c", "d", "e"), seed=1)
    taken = transfer(source, target)
    assert taken.new_classes == ("c", "d", "e")
    kept = target.students["dino"].state_dict()
    assert torch.equal(kept["decoder.head.weight"], source.students["dino"].state_dict()["decoder.head.weight"])
    assert taken.taken["dino"][0] == taken.taken["dino"][1] - 1


@pytest.mark.parametrize("leave", [("decoder.",), ("backbone.", "guidance.")])
def test_what_is_to_be_left_stays(leave):
    source, target = model(names=("dino",)), model(names=("dino",), seed=1)
    before = {name: value.clone() for name, value in target.students["dino"].state_dict().items()}
    transfer(source, target, leave=leave)
    for name, value in target.students["dino"].state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(leave) or torch.equal(
            before[name], source.students["dino"].state_dict()[name]
        )
