"""`co2s fetch` from the command line, and what a training says of weights that are not here."""

import hashlib
import json
import socket

import pytest
from support.hub import local_hub, use_hub
from support.polygons import landcover

SMALL = "vit_small_patch14_dinov2.lvd142m"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """A hub's address at which nobody listens, and an empty cache."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        use_hub(monkeypatch, f"http://127.0.0.1:{unused.getsockname()[1]}", tmp_path / "hub")
        yield tmp_path / "hub"


def test_weights_are_fetched_and_then_listed_as_here(co2s, monkeypatch, tmp_path):
    with local_hub(monkeypatch, tmp_path) as hub:
        hub.files[f"timm/{SMALL}/model.safetensors"] = b"weights"
        result = co2s("fetch", SMALL, "--json")
        assert result.exit_code == 0, result.output
        (line,) = json.loads(result.stdout)["weights"]
        assert line["sha256"] == hashlib.sha256(b"weights").hexdigest()
        assert (line["size"], line["licence"]) == (7, "Apache-2.0")
    assert co2s("fetch", SMALL).stdout == f"{line['path']}\n", "without network, from the cache"
    listed = co2s("fetch", "--list").stdout.splitlines()
    assert [row.split()[-1] for row in listed if row.split()[0] == SMALL] == ["cached"]
    assert sum(row.endswith("–") for row in listed) == len(listed) - 2


def test_offline_addresses_and_folders_are_told_at_once(co2s, offline):
    result = co2s("fetch", "default")
    assert result.exit_code == 5
    assert result.stderr.count("\n") == 2
    assert "ViT-B-16:openai (598 MB) and vit_base_patch16_dinov3_qkvb.lvd1689m (343 MB) are not in the cache" in (
        result.stderr
    )
    assert f"model.safetensors into {offline}/models--timm--vit_base_patch16_dinov3_qkvb.lvd1689m" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["fetch"], 2, "wants a NAME, such as default, or --list"),
        (["fetch", "no_such.weights"], 2, "neither timm nor open_clip"),
    ],
)
def test_refusals(co2s, words, code, said):
    result = co2s(*words)
    assert result.exit_code == code
    assert said in result.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], ["ViT-B-16:openai", "vit_base_patch16_dinov3_qkvb.lvd1689m", "--clip-weights FILE, --dino-weights FILE"]),
        (["--students", "dino,local"], ["vit_base_patch16_dinov3_qkvb.lvd1689m"]),
        (["--dino-weights", "none"], ["ViT-B-16:openai"]),
        (["--student", SMALL, "--method", "fixmatch"], [SMALL, "--student-weights FILE"]),
    ],
)
def test_a_training_names_the_weights_that_are_not_here(co2s, offline, tmp_path, monkeypatch, words, named):
    landcover(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = co2s("train", "scene.tif", "--labels", "polygons.gpkg", "--out", "run", *words)
    assert result.exit_code == 5, result.output
    assert result.stderr.count("\n") == 2
    assert all(name in result.stderr for name in [*named, "--preset small", "co2s fetch"])
    assert result.stderr.count("resolve/main") == sum(
        "." in name or ":" in name for name in named if "-weights" not in name
    )
    assert not (tmp_path / "run").exists()


def test_a_distillation_names_its_teachers_weights(co2s, offline, tmp_path, monkeypatch):
    landcover(tmp_path)
    monkeypatch.chdir(tmp_path)
    teachers = ("--teacher", "ViT-L-14-quickgelu:openai", "--teacher", "vit_base_patch14_dinov2.lvd142m")
    result = co2s("distill", "scene.tif", "--labels", "polygons.gpkg", "--out", "run", *teachers)
    assert result.exit_code == 5, result.output
    assert all(name in result.stderr for name in (SMALL, "ViT-L-14:openai", "vit_base_patch14_dinov2.lvd142m"))


def test_weights_that_no_network_is_needed_for_are_not_asked_for(co2s, offline, tmp_path, monkeypatch):
    landcover(tmp_path)
    monkeypatch.chdir(tmp_path)
    from co2s_cli.config.train import settings_of
    from co2s_cli.jobs import early

    assert co2s("init", "scene.tif", "--labels", "polygons.gpkg").exit_code == 0
    for preset in ("small", "tiny"):
        early.check_pretrained(settings_of(None, {"data": "data.yaml", "preset": preset}, []))
    files = {"clip_weights": "openai=clip.safetensors", "dino_weights": "dino.pth"}
    early.check_pretrained(settings_of(None, {"data": "data.yaml", **files}, []))
