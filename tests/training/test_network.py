"""What a run starts from: pretrained weights in the real formats, and what becomes of them."""

from pathlib import Path

import pytest
import torch
import yaml
from support.pretrained import CLIP, know_small_clip, small_dino, whole_clip
from support.training import landscape, quick

from co2s_cli import load
from co2s_cli.data.landscape import CLASSES
from co2s_cli.errors import ModelError
from co2s_cli.jobs import train
from co2s_cli.models import text
from co2s_cli.training.names import LAST

pytestmark = pytest.mark.slow  # whole runs, a second each


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    know_small_clip(folder)
    torch.save(whole_clip().state_dict(), folder / "clip.pt")
    torch.save(small_dino().state_dict(), folder / "dino.pt")
    return folder


def settings(folder, weights, **flags):
    quick_clip = {"clip": f"{CLIP}-quickgelu", "clip_weights": str(weights / "clip.pt")}
    files = {**quick_clip, "dino_weights": str(weights / "dino.pt")}
    return quick(landscape(folder), folder / "run", "lr_lag=1", **{**files, "steps": 2, **flags})


def test_pretrained_backbones_train_their_attention_alone_and_keep_the_rest(weights, tmp_path):
    train.run(settings(tmp_path, weights))
    pair = load(tmp_path / "run" / LAST)
    clip, dino = whole_clip(), small_dino()
    pairs = [(pair.students["clip"].backbone.visual, clip.visual), (pair.students["dino"].backbone.vit, dino)]
    for trained, given in pairs:
        before = given.state_dict()
        moved = {name for name, value in trained.state_dict().items() if not torch.equal(value, before[name])}
        assert moved
        assert all("attn" in name for name in moved)


def test_the_class_vectors_of_a_run_are_the_text_towers(weights, tmp_path):
    train.run(settings(tmp_path, weights, steps=1, method="supervised"))
    vectors = load(tmp_path / "run" / LAST).students["clip"].guidance.vectors
    torch.testing.assert_close(vectors, text.class_vectors(CLASSES, f"{CLIP}-quickgelu", str(weights / "clip.pt")))


def test_an_image_tower_alone_serves_where_queries_guide(weights, tmp_path):
    torch.save(whole_clip().visual.state_dict(), tmp_path / "visual.pt")
    alone = {"clip_weights": str(tmp_path / "visual.pt"), "steps": 1, "method": "supervised"}
    with pytest.raises(ModelError, match="no text tower"):
        train.run(settings(tmp_path, weights, **alone))
    assert train.run(settings(tmp_path, weights, **alone, clip_guidance="queries")).step == 1


def test_the_published_preset_lets_dino_lose_its_weights(weights, tmp_path):
    train.run(settings(tmp_path, weights, steps=1, method="supervised", dino_init="random"))
    trained = load(tmp_path / "run" / LAST).students["dino"].backbone.vit.state_dict()
    given = small_dino().state_dict()
    assert not any(torch.equal(trained[name], given[name]) for name in given if name.endswith("fc1.weight"))
    assert all(trained[name].abs().max() < 2e-5 for name in given if "gamma" in name)


def test_a_model_file_needs_no_weights_from_elsewhere(weights, tmp_path, monkeypatch):
    """With --init nothing is fetched that the file has; other prompts are read by the text tower of --clip-weights."""
    first = train.run(settings(tmp_path, weights, steps=1, method="supervised"))
    read = []
    monkeypatch.setattr("co2s_cli.models.pretrained._fill", lambda *args, **_: read.append(args))
    again = {"steps": 1, "method": "supervised", "init": first.model, "clip_weights": "openai", "dino_weights": "none"}
    data = landscape(tmp_path)
    train.run(quick(data, tmp_path / "again", **again))
    assert not read
    content = yaml.safe_load(Path(data).read_text())
    content["classes"][0]["prompts"] = ["a mill"]
    Path(data).write_text(yaml.safe_dump(content))
    clip = {"clip": f"{CLIP}-quickgelu", "clip_weights": str(weights / "clip.pt")}
    train.run(quick(data, tmp_path / "mill", **{**again, **clip}))
    before = load(first.model).students["clip"].guidance.vectors
    after = load(tmp_path / "mill" / LAST).students["clip"].guidance.vectors
    assert not torch.allclose(after[0], before[0])
    torch.testing.assert_close(after[1:], before[1:])


@pytest.mark.parametrize(
    ("flags", "overlap"),
    [({}, 0.25), ({"eval_overlap": 0.5}, 0.5), ({"eval_overlap": 0.5, "eval_resize": 64}, 0.25)],
)
def test_the_model_overlaps_windows_as_its_validation_did_but_not_where_that_resized(tmp_path, flags, overlap):
    train.run(quick(landscape(tmp_path), tmp_path / "run", **{"steps": 1, **flags}))
    assert load(tmp_path / "run" / LAST).manifest.overlap == overlap


def test_a_file_of_a_single_student_does_not_stand_for_others(tmp_path):
    data = landscape(tmp_path)
    one = {"student": "tiny-student", "method": "supervised", "steps": 1}
    train.run(quick(data, tmp_path / "one", **one))
    given = {"init": str(tmp_path / "one" / LAST), "method": "supervised", "steps": 1}
    with pytest.raises(ModelError, match="holds a single student, which is none of dino, local"):
        train.run(quick(data, tmp_path / "run", students="dino,local", **given))
    train.run(quick(data, tmp_path / "run", **given))
    assert list(load(tmp_path / "run" / LAST).students) == ["student"]
