"""A model file with a single student: smaller than what was trained, equal to it, and refused when it lies."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.models import drawn_single, save_tiny, single_manifest

import co2s_cli
from co2s_cli.errors import ConfigError, ModelError
from co2s_cli.models import catalog, fresh, weights
from co2s_cli.models.ensemble import deployed
from co2s_cli.models.manifest import Manifest


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pair = drawn_single(align="second_pass")
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    weights.save(pair, path)
    return pair, path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-student", "tiny-student14"])
@pytest.mark.parametrize("changes", [{"align": "second_pass"}, {"align": "pool"}, {"fuse": False}, {"translators": ()}])
@torch.no_grad()
def test_what_is_saved_says_what_was_trained_with_fewer_tensors(tmp_path, name, changes):
    pair = drawn_single(name, **changes)
    names = set(pair.state_dict())
    weights.save(pair, tmp_path / "m.safetensors")
    again = co2s_cli.load(tmp_path / "m.safetensors")
    for size in ((64, 64), (50, 100)):
        images = torch.rand(2, 3, *size)
        torch.testing.assert_close(again.probabilities(images), pair.probabilities(images), rtol=0, atol=1e-5)
    assert set(pair.state_dict()) == names
    assert not [key for key in again.state_dict() if ".back." in key]
    fused = bool(pair.students["student"].spec.translators) and "fuse" not in changes
    assert any("fusion" in key for key in again.state_dict()) == fused
    assert again.manifest.teachers == (("tiny-dino:none", "tiny-clip:none") if fused else ())


def test_saving_a_loaded_model_again_changes_nothing(model, tmp_path):
    again = weights.load(model[1])
    assert deployed(again) is again
    assert weights.save(again, tmp_path / "m.safetensors") == again.digest


def test_the_deployed_copy_shares_no_tensor_with_what_trains(model):
    pair = model[0]
    lean = deployed(pair)
    before = pair.state_dict()["students.student.head.out.2.weight"].clone()
    with torch.no_grad():
        lean.students["student"].head.out[-1].weight.zero_()
    assert torch.equal(pair.state_dict()["students.student.head.out.2.weight"], before)
    assert lean.manifest.students["student"] is not pair.manifest.students["student"]
    assert [item.folded for item in pair.students["student"].spec.translators] == [False, False]


def test_a_pair_is_deployed_as_it_is(tmp_path):
    pair = weights.load(save_tiny(tmp_path / "pair.safetensors"))
    assert deployed(pair) is pair
    assert pair.manifest.teachers == ()


@torch.no_grad()
def test_one_students_word_is_the_models(model):
    pair = model[0]
    images = torch.rand(1, 3, 64, 64)
    wanted = pair.students["student"](images).softmax(1)
    for fusion in (None, "mean", "confident"):
        assert torch.equal(pair.probabilities(images, fusion), wanted)
    with pytest.raises(ValueError, match="holds only student"):
        pair.probabilities(images, "dino")


@pytest.mark.slow
def test_it_loads_and_runs_where_there_is_no_open_clip(model):
    code = (
        "import sys; sys.modules['open_clip'] = None\n"
        "import torch, co2s_cli\n"
        f"pair = co2s_cli.load({str(model[1])!r})\n"
        "with torch.no_grad(): print(tuple(pair.probabilities(torch.rand(1, 3, 64, 64)).shape))\n"
        "print([name for name in sys.modules if 'teachers' in name])\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["(1, 4, 64, 64)", "[]"]


def test_the_demonstration_model_is_what_it_was():
    with safe_open(weights.demo_path(), framework="pt") as file:
        facts = file.metadata()
    assert weights.load(weights.demo_path()).digest == facts["digest"]


def edited(model, target, changes):
    """The model file with its student's description changed and a digest that fits: what anybody can make."""
    plain = json.loads(weights.read_manifest(model[1]).model_dump_json())
    for place, value in changes.items():
        *folders, name = place.split("__")
        spot = plain["students"]["student"]
        for folder in folders:
            spot = spot[int(folder) if folder.isdecimal() else folder]
        spot[name] = value
    with safe_open(model[1], framework="pt") as file:
        facts = {**file.metadata(), "manifest": json.dumps(plain)}
    save_file(load_file(model[1]), target, metadata=facts)
    return target


@pytest.mark.parametrize(
    "changes",
    [
        {"taps": [0, 1, 2, 99]},
        {"taps": [3, 2, 1, 0]},
        {"taps": [0, 1, 2]},
        {"alpha": 7},
        {"align": "magic"},
        {"backbone__std": [0, 0, 0]},
        {"backbone__mean": [0.5]},
        {"backbone__library": "open_clip"},
        {"backbone__name": "hf-hub:somebody/model"},
        {"backbone__name": "resnet18"},
        {"backbone__name": "vit_base_patch16_224"},
        {"backbone__options__sizes": {"checkpoint_path": "other.pth"}},
        {"backbone__options__positions": "meta"},
        {"head__features": 0},
        {"head__features": 48},
        {"head__widths": [1, 2, 3]},
        {"head__widths": [10**9, 2, 3, 4]},
        {"head": None},
        {"guidance": "implicit"},
        {"translators": []},
        {"translators__0__folded": False},
        {"translators__0__hidden": 33},
        {"translators__1__teacher": "tiny-dino:none"},
        {"translators__1__grid": -1},
        {"fuse": False},
    ],
    ids=str,
)
def test_a_description_that_lies_is_a_model_error(model, tmp_path, monkeypatch, changes):
    path = edited(model, tmp_path / "m.safetensors", changes)
    monkeypatch.setattr(weights, "digest_of", lambda manifest, tensors: weights._metadata(path)["digest"])
    with pytest.raises(ModelError) as caught:
        weights.load(path)
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "students",
    [
        {"student": catalog.dino_student("tiny-dino")},
        {"dino": catalog.dense_student("tiny-student")},
        {"student": catalog.dense_student("tiny-student"), "dino": catalog.dino_student("tiny-dino")},
        {"pupil": catalog.dense_student("tiny-student")},
    ],
)
def test_a_single_student_is_alone_and_is_called_so(students):
    plain = single_manifest().model_dump()
    with pytest.raises(ValueError, match=r"another kind|a single student beside|Input should be"):
        Manifest(**{**plain, "students": students})
    with pytest.raises(ValueError, match="without that student"):
        Manifest(**{**plain, "fusion": "dino"})


def test_weights_reach_the_backbone(tmp_path):
    trained = drawn_single(seed=3).students["student"].backbone.vit
    torch.save(trained.state_dict(), tmp_path / "vit.pth")
    pair = fresh.new_ensemble(single_manifest(), {"student": str(tmp_path / "vit.pth")})
    found = pair.students["student"].backbone.vit.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in trained.state_dict().items())


def test_unknown_students_are_refused_with_examples():
    for name in ("no-such-model", "ViT-B-16", "vit_base_patch16_224"):
        with pytest.raises(ConfigError) as caught:
            catalog.dense_student(name)
        assert "for example" in caught.value.hint
