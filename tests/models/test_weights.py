"""The model file says what it is, and a file that is not what it says is refused in one line."""

import json

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

import co2s_cli
from co2s_cli.errors import InputError, ModelError, OutputError, ResourceError
from co2s_cli.models import catalog, fresh, weights
from co2s_cli.models.manifest import Manifest, ModelScaling


def manifest(**changes) -> Manifest:
    plain = {
        "classes": (
            {"name": "land", "color": [1, 2, 3], "prompts": []},
            {"name": "water", "color": [0, 0, 9], "prompts": ["sea"]},
        ),
        "scaling": ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
        "students": {"clip": catalog.clip_student("tiny-clip"), "dino": catalog.dino_student("tiny-dino")},
        "tile": 128,
        "ground_resolution": 0.5,
        "trained_on": "nothing",
    }
    return Manifest(**{**plain, **changes})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    pair = fresh.new_ensemble(manifest()).eval()
    weights.save(pair, path)
    return pair, path


def rewrite(source, target, *, metadata=None, tensors=None):
    """The file again, with changes."""
    with safe_open(source, framework="pt") as file:
        facts = dict(file.metadata())
    save_file({**load_file(source), **(tensors or {})}, target, metadata={**facts, **(metadata or {})})
    return target


def test_what_is_saved_is_what_is_loaded(model):
    pair, path = model
    again = co2s_cli.load(path)
    assert again.manifest == pair.manifest
    assert not again.training
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(pair.probabilities(images), again.probabilities(images))
    with safe_open(path, framework="pt") as file:
        assert again.digest == file.metadata()["digest"]


def test_equal_models_are_equal_files(tmp_path):
    model = fresh.new_ensemble(manifest(trained_on='fields, "meadows"\n\x7f é 🌾'))
    for number in range(6):
        weights.save(model, tmp_path / f"{number}.safetensors")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert weights.load(tmp_path / "0.safetensors").manifest == model.manifest


def test_a_file_of_halves_is_half_the_size_and_loads_as_floats(model, tmp_path):
    pair, path = model
    weights.save(pair, tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.51 * path.stat().st_size
    again = co2s_cli.load(tmp_path / "half.safetensors")
    assert {value.dtype for value in again.state_dict().values()} == {torch.float32}
    for name, value in pair.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value.half().float(), rtol=0, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_finite_numbers_are_neither_written_nor_loaded(model, tmp_path, value):
    pair, path = model
    name, tensor = next((name, tensor) for name, tensor in load_file(path).items() if tensor.ndim > 1)
    tensor.view(-1)[3] = value
    tensors = {**load_file(path), name: tensor}
    with safe_open(path, framework="pt") as file:
        digest = weights.digest_of(file.metadata()["manifest"], tensors)
    broken = rewrite(path, tmp_path / "broken.safetensors", tensors={name: tensor}, metadata={"digest": digest})
    with pytest.raises(ModelError, match=rf"broken.safetensors: {name} holds values that are no finite numbers"):
        weights.load(broken)
    pair = weights.load(path)
    pair.state_dict()[name].view(-1)[3] = value
    with pytest.raises(ModelError, match=r"new.safetensors: .* no finite numbers"):
        weights.save(pair, tmp_path / "new.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.safetensors"]


def test_weights_too_large_for_halves_are_not_written_as_halves(model, tmp_path):
    pair = weights.load(model[1])
    next(pair.parameters()).data.view(-1)[0] = 1e5
    weights.save(pair, tmp_path / "whole.safetensors")
    with pytest.raises(ModelError, match="no finite numbers"):
        weights.save(pair, tmp_path / "half.safetensors", half=True)


def test_the_manifest_is_read_without_torch(model):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from co2s_cli.models import weights;"
        f"m = weights.read_manifest(Path({str(model[1])!r}));"
        "print(m.tile, 'torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "128 False\n"
    )


def test_equal_models_have_equal_digests_and_other_ones_do_not(model, tmp_path):
    pair, path = model
    assert weights.save(pair, tmp_path / "same.safetensors") == co2s_cli.load(path).digest
    other = fresh.new_ensemble(manifest(tile=64))
    other.load_state_dict(pair.state_dict())
    assert weights.save(other, tmp_path / "other.safetensors") != co2s_cli.load(path).digest


def test_a_tensor_changed_behind_the_manifests_back_is_noticed(model, tmp_path):
    name = "students.dino.guidance.vectors"
    path = rewrite(model[1], tmp_path / "m.safetensors", tensors={name: torch.zeros(2, 128)})
    with pytest.raises(ModelError, match="does not match its own digest"):
        weights.load(path)


def test_a_changed_manifest_is_noticed(model, tmp_path):
    plain = json.loads(manifest().model_dump_json())
    plain["classes"][0]["name"] = "sea"
    path = rewrite(model[1], tmp_path / "m.safetensors", metadata={"manifest": json.dumps(plain)})
    with pytest.raises(ModelError, match="does not match its own digest"):
        weights.load(path)


def test_a_manifest_that_does_not_fit_the_tensors_is_refused(model, tmp_path):
    more = manifest(classes=tuple({"name": str(i), "color": [i, i, i], "prompts": []} for i in range(3)))
    tensors = load_file(model[1])
    facts = {"manifest": more.model_dump_json(), "digest": weights.digest_of(more.model_dump_json(), tensors)}
    path = rewrite(model[1], tmp_path / "m.safetensors", metadata=facts)
    with pytest.raises(ModelError, match="manifest and tensors do not fit"):
        weights.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"manifest": "no json"}, "manifest is not JSON"),
        ({"manifest": '{"format": 2}'}, "format 2, this co2s reads format 1"),
        ({"manifest": '{"format": 1}'}, "bad manifest"),
    ],
)
def test_manifests_of_other_kinds_are_refused(model, tmp_path, change, message):
    with pytest.raises(ModelError, match=message):
        weights.load(rewrite(model[1], tmp_path / "m.safetensors", metadata=change))


def test_foreign_and_broken_files_are_refused(model, tmp_path):
    with pytest.raises(InputError, match="no such model file"):
        weights.load(tmp_path / "none.safetensors")
    whole = model[1].read_bytes()
    for name, content in {"cut": whole[:-1000], "stub": whole[:5], "text": b"hello, world" * 20, "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match="not a co2s model file"):
            weights.load(tmp_path / name)
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="no manifest in it"):
        weights.load(tmp_path / "other.safetensors")
    torch.save({}, tmp_path / "old.pth")
    with pytest.raises(ModelError) as caught:
        weights.load(tmp_path / "old.pth")
    assert "co2s import" in caught.value.hint


def test_the_default_model_is_the_variables_else_the_packaged_one(monkeypatch, tmp_path):
    monkeypatch.delenv(weights.MODEL_VARIABLE, raising=False)
    assert weights.default_path() == weights.demo_path()
    monkeypatch.setenv(weights.MODEL_VARIABLE, str(tmp_path / "mine.safetensors"))
    assert weights.default_path() == tmp_path / "mine.safetensors"


@pytest.mark.parametrize(
    "change",
    [
        {"scaling": ModelScaling(low=(0,), high=(1,))},
        {"fusion": "clip", "students": {"dino": catalog.dino_student("tiny-dino")}},
        {"classes": ({"name": "a", "color": [0, 0, 0]}, {"name": "a", "color": [0, 0, 1]})},
        {"students": {}},
        {"tile": 10**9},
        {"ground_resolution": -3.0},
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(change):
    with pytest.raises(ValueError, match=r"scaling|without that student|must differ|at least 1|less than|greater than"):
        manifest(**change)


def edited(model, tmp_path, student, **changes):
    """The model file with one student's description changed and a digest that fits: what anybody can make."""
    plain = json.loads(manifest().model_dump_json())
    for place, value in changes.items():
        *folders, name = place.split("__")
        target = plain["students"][student]
        for folder in folders:
            target = target[folder]
        target[name] = value
    tensors = load_file(model[1])
    facts = {"manifest": json.dumps(plain), "digest": weights.digest_of(json.dumps(plain), tensors)}
    return rewrite(model[1], tmp_path / "edited.safetensors", metadata=facts)


@pytest.mark.parametrize(
    ("student", "change"),
    [
        ("clip", {"taps": [0, 1, 99]}),
        ("dino", {"taps": [3, 1, 0]}),
        ("dino", {"taps": [-9, 1, 3]}),
        ("dino", {"taps": [0, 1, 99]}),
        ("clip", {"backbone__std": [0, 0, 0]}),
        ("clip", {"backbone__mean": [0.5]}),
        ("dino", {"backbone__options__norm_eps": -1}),
        ("dino", {"backbone__name": "hf-hub:somebody/model"}),
        ("dino", {"backbone__name": "resnet18"}),
        ("dino", {"backbone__options__sizes": {"pretrained": True}}),
        ("dino", {"backbone__options__sizes": {"checkpoint_path": "other.pth"}}),
    ],
)
def test_a_students_description_that_cannot_be_is_a_model_error(model, tmp_path, monkeypatch, student, change):
    monkeypatch.setattr(weights, "digest_of", lambda manifest, tensors: "fits")
    path = edited(model, tmp_path, student, **change)
    with pytest.raises(ModelError):
        weights.load(path)


def test_a_device_that_is_not_there_is_a_resource_error(model):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ResourceError, match="cuda"):
        weights.load(model[1], "cuda")


def test_a_full_disk_is_an_output_error(model, tmp_path, monkeypatch):
    import safetensors.torch

    def full(tensors, path, metadata):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        weights.save(model[0], tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def described(source, target, change):
    """The file with another manifest, and the digest that belongs to it."""
    with safe_open(source, framework="pt") as file:
        plain = json.loads(file.metadata()["manifest"])
    change(plain["students"])
    text = json.dumps(plain)
    return rewrite(source, target, metadata={"manifest": text, "digest": weights.digest_of(text, load_file(source))})


def options(student, **changes):
    return lambda students: students[student]["backbone"]["options"].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (options("clip", layers=10_000_000), "layers is 10000000, wanted is a number from 1 to 256"),
        (options("clip", width=10**9), "width is 1000000000"),
        (options("clip", patch_size=0), "patch_size is 0"),
        (options("clip", patch_size=2.5), "patch_size is 2.5"),
        (options("clip", heads=True), "heads is True"),
        (options("dino", norm_eps=[1]), r"norm_eps is \[1\]"),
        (options("dino", norm_eps=None), "norm_eps is None"),
        (options("dino", sizes={"depth": 10**9}), "depth is 1000000000"),
        (options("dino", sizes=[1]), "sizes are names with numbers"),
        (options("dino", rgb=7), "rgb is 7"),
        (lambda students: students["clip"]["decoder"].update(width=10**9), "less than or equal to 16384"),
        (lambda students: students["clip"].update(guidance_width=10**9), "less than or equal to 16384"),
        (options("clip", layers=200), "do not fit .*: found nothing"),
        (options("clip", image_size=4096, patch_size=1), "do not fit .* found"),
        (lambda students: students["dino"]["backbone"].update(name="vit_giant_patch14_dinov2"), "do not fit"),
    ],
)
def test_a_manifest_that_describes_what_the_file_does_not_hold_is_refused_before_it_is_built(
    model, tmp_path, change, words, monkeypatch
):
    def no_memory(*_, **__):
        raise AssertionError("a network is built")

    monkeypatch.setattr(
        torch.nn.init, "trunc_normal_", lambda tensor, *_, **__: tensor if tensor.is_meta else no_memory()
    )
    path = described(model[1], tmp_path / "m.safetensors", change)
    with pytest.raises(ModelError, match=words):
        weights.load(path)


def test_a_manifest_without_end_is_no_json(model, tmp_path):
    path = rewrite(model[1], tmp_path / "m.safetensors", metadata={"manifest": "[" * 200_000})
    with pytest.raises(ModelError, match="not JSON"):
        weights.read_manifest(path)


def test_strings_of_a_manifest_are_cut_in_messages(model, tmp_path):
    path = rewrite(model[1], tmp_path / "m.safetensors", metadata={"manifest": json.dumps({"format": "\x1b" * 500})})
    with pytest.raises(ModelError) as raised:
        weights.read_manifest(path)
    assert "\x1b" not in raised.value.message
    assert len(raised.value.message) < 300
