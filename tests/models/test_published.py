"""Imported checkpoints compute what the published network computes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import published as reference

import co2s_cli
from co2s_cli.classes import ClassMap
from co2s_cli.config.protocol import find_protocol, published_names
from co2s_cli.errors import InputError, ModelError
from co2s_cli.models import published

GOLDEN = Path(__file__).parents[1] / "golden"
MEAN = torch.tensor(published.IMAGENET["mean"]).view(1, 3, 1, 1)
STD = torch.tensor(published.IMAGENET["std"]).view(1, 3, 1, 1)
LAYERS = {"clip": 6, "dino": 9}


def image(seed: int, side: int) -> torch.Tensor:
    """Already normalised, so it reaches far outside [0, 1]."""
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def classes(count: int) -> ClassMap:
    return ClassMap.of([f"class {index}" for index in range(count)])


def imported(folder: Path, kind: str, count: int, **sizes):
    content = reference.save(folder / f"{kind}.pth", kind, classes=count, layers=LAYERS[kind], **sizes)
    checkpoint = published.read(folder / f"{kind}.pth")
    return content, published.assemble([checkpoint], classes=classes(count), tile=256, trained_on="nothing")


@pytest.mark.parametrize("kind", ["clip", "dino"])
@pytest.mark.parametrize(("count", "side"), [(2, 64), (5, 128), (9, 320)])
@torch.no_grad()
def test_the_network_equals_a_plain_reading_of_the_formulas(tmp_path, kind, count, side):
    content, pair = imported(tmp_path, kind, count)
    normalised = image(count, side)
    found = pair.students[kind](normalised * STD + MEAN)
    wanted = reference.logits(kind, content, normalised)
    # rotating in bfloat16 turns a last-bit difference of q and k into one of 2^-8, hence the wider bound
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5 if kind == "clip" else 1e-4)


@pytest.mark.parametrize("kind", ["clip", "dino"])
@torch.no_grad()
def test_logits_equal_the_stored_golden(tmp_path, kind):
    _, pair = imported(tmp_path, kind, 4)
    found = pair.students[kind](image(7, 128) * STD + MEAN)[:, :, ::8, ::8].numpy()
    with np.load(GOLDEN / "published.npz") as golden:
        stored = golden[kind]
    np.testing.assert_allclose(found, stored, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "kind"), [("whdld_clip", "clip"), ("whdld_dinov3", "dino")])
def test_full_size_checkpoints_give_the_published_logits(shared, tmp_path, co2s, file, kind, monkeypatch):
    spec_path = shared / "golden" / f"{file}.json"
    if not spec_path.exists():
        pytest.skip("no golden values beside the project")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(shared / "golden"))
    import make_checkpoint

    spec = json.loads(spec_path.read_text())
    weights = {f"module.{name}": value for name, value in make_checkpoint.state_dict(spec).items()}
    torch.save({"model": weights, "optimizer": {}, "epoch": 0, "previous_best": 0.0}, tmp_path / "best.pth")
    result = co2s("import", tmp_path / "best.pth", "--dataset", spec["dataset"], "--out", tmp_path / "m.safetensors")
    assert result.exit_code == 0, result.output
    pair = co2s_cli.load(tmp_path / "m.safetensors")
    with torch.no_grad():
        found = pair.students[kind](make_checkpoint.image(spec) * STD + MEAN)
    with np.load(spec_path.with_suffix(".npz")) as golden:
        step, logits = int(golden["step"]), golden["logits"]
    np.testing.assert_allclose(found[:, :, ::step, ::step].numpy(), logits, rtol=0, atol=1e-4)


def test_every_data_set_has_its_classes_and_prompts():
    protocols = {name: find_protocol(name) for name in published_names()}
    counts = {
        name: (len(one.class_map), sum(len(c.prompts) for c in one.class_map.classes))
        for name, one in protocols.items()
        if one.command == "train"
    }
    assert counts == {
        "whdld": (6, 37), "loveda": (7, 41), "potsdam": (6, 36), "gid15": (15, 90), "mer": (9, 54), "msl": (9, 54),
    }  # fmt: skip


def test_a_checkpoint_of_another_class_count_is_refused(tmp_path):
    reference.save(tmp_path / "clip.pth", "clip", classes=6)
    with pytest.raises(ModelError, match="6 classes found, the data set has 7"):
        published.assemble([published.read(tmp_path / "clip.pth")], classes=classes(7), tile=256, trained_on="")


def test_two_files_of_one_student_are_refused(tmp_path):
    reference.save(tmp_path / "clip.pth", "clip", classes=6)
    twice = [published.read(tmp_path / "clip.pth")] * 2
    with pytest.raises(ModelError, match="both files hold the clip student"):
        published.assemble(twice, classes=classes(6), tile=256, trained_on="")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("decode_head.head.bias"), "not the published layout"),
        (lambda t: t.pop("backbone.layers.3.ln1.bias"), "not the published layout"),
        (lambda t: t.update({"decode_head.surprise.weight": torch.zeros(1)}), "not the published layout"),
        (lambda t: t.update({"surprise": torch.zeros(1)}), "unknown tensor surprise"),
        (lambda t: t.pop("backbone.proj.weight"), "not the published layout"),
        (lambda t: t.update({"decode_head.conv1.bias": torch.zeros(7)}), "not the published layout"),
        (lambda t: t.pop("_cached_text"), "neither the published CLIP student nor"),
    ],
)
def test_a_checkpoint_that_is_not_quite_the_layout_is_a_model_error(tmp_path, change, message):
    reference.save(tmp_path / "clip.pth", "clip", classes=6, change=change)
    with pytest.raises(ModelError, match=message):
        published.assemble([published.read(tmp_path / "clip.pth")], classes=classes(6), tile=256, trained_on="")


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        published.read(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ModelError, match="not a PyTorch checkpoint"):
        published.read(tmp_path / "text.pth")
    torch.save({"model": {"a": 1}}, tmp_path / "plain.pth")
    with pytest.raises(ModelError, match="wants"):
        published.read(tmp_path / "plain.pth")
    content = reference.save(tmp_path / "cut.pth", "clip", classes=6)
    assert content
    whole = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cut short"):
        published.read(tmp_path / "cut.pth")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update({"_cached_text": torch.tensor(1.0)}),
        lambda t: t.update({"decode_head.conv1.bias": torch.full((32,), float("nan"))}),
        lambda t: t.update({"decode_head.conv1.bias": torch.zeros(32, dtype=torch.complex64)}),
        lambda t: t.update({"decode_head.conv1.weight": torch.tensor(1.0)}),
    ],
)
def test_tensors_that_cannot_be_are_refused(tmp_path, change):
    reference.save(tmp_path / "clip.pth", "clip", classes=6, change=change)
    with pytest.raises(ModelError):
        published.assemble([published.read(tmp_path / "clip.pth")], classes=classes(6), tile=256, trained_on="")


@pytest.mark.parametrize(("kind", "layers"), [("clip", 3), ("dino", 6)])
def test_students_too_shallow_for_the_published_taps_are_refused(tmp_path, kind, layers):
    reference.save(tmp_path / "few.pth", kind, classes=6, layers=layers)
    with pytest.raises(ModelError, match="not the published layout"):
        published.assemble([published.read(tmp_path / "few.pth")], classes=classes(6), tile=256, trained_on="")


@pytest.mark.parametrize("name", ["backbone.blocks.2.attn.qkv.bias_mask", "backbone.rope_embed.periods"])
def test_constants_that_are_not_the_published_ones_are_refused(tmp_path, name):
    def alter(t):
        t[name] = torch.full_like(t[name], 1.5)

    reference.save(tmp_path / "dino.pth", "dino", classes=6, layers=9, change=alter)
    with pytest.raises(ModelError, match="not the published layout"):
        published.assemble([published.read(tmp_path / "dino.pth")], classes=classes(6), tile=256, trained_on="")


def test_a_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "clip.pth"
    reference.save(path, "clip", classes=6)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="checksum"):
        published.read(path)


class _Trap:
    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def test_code_in_a_checkpoint_is_refused_and_never_run(tmp_path):
    trap = _Trap()
    trap.path = str(tmp_path / "sprung")
    torch.save({"model": trap}, tmp_path / "trap.pth")
    with pytest.raises(ModelError):
        published.read(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.slow
def test_overwritten_dino_weights_are_told(tmp_path, caplog):
    def flatten(t):
        for name in t:
            if name.endswith("gamma"):
                t[name] = torch.full_like(t[name], 1e-5)

    reference.save(tmp_path / "dino.pth", "dino", classes=6, layers=9, change=flatten)
    published.assemble([published.read(tmp_path / "dino.pth")], classes=classes(6), tile=256, trained_on="")
    assert "LayerScale" in caplog.text
    caplog.clear()
    reference.save(tmp_path / "dino.pth", "dino", classes=6, layers=9)
    published.assemble([published.read(tmp_path / "dino.pth")], classes=classes(6), tile=256, trained_on="")
    assert "LayerScale" not in caplog.text
