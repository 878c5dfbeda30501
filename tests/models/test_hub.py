"""The table of known weights is true, and files come from cache, hand or hub, with the hash that they should have."""

import socket
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from open_clip.model import CLIP
from support.hub import local_hub, use_hub
from timm.models import load_state_dict_from_hf

from co2s_cli.errors import ModelError, ResourceError
from co2s_cli.models import hub
from co2s_cli.models.pretrained import weights_called

DINO = "vit_small_patch16_dinov3_qkvb.lvd1689m"
FILE = f"timm/{DINO}/model.safetensors"


@pytest.fixture
def served(monkeypatch, tmp_path):
    with local_hub(monkeypatch, tmp_path) as server:
        yield server


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """A hub's address at which nobody listens, and an empty cache."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        use_hub(monkeypatch, f"http://127.0.0.1:{unused.getsockname()[1]}", tmp_path / "hub")
        yield tmp_path / "hub"


def tensors() -> bytes:
    """A file of weights."""
    from safetensors.torch import save

    return save({"norm.weight": torch.arange(4.0)})


@pytest.mark.parametrize("weights", hub.known_weights(), ids=lambda weights: weights.name)
def test_the_table_says_what_the_libraries_do(weights):
    network, colon, tag = weights.name.partition(":")
    with torch.device("meta"):
        if colon:
            parts = {key: open_clip.get_model_config(network)[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
            model = CLIP(**parts)
            assert open_clip.get_pretrained_cfg(network, tag)["hf_hub"] == f"{weights.repo}/"
        else:
            model = timm.create_model(weights.name, pretrained=False)
            assert timm.get_pretrained_cfg(weights.name).hf_hub_id == weights.repo
    size = 4 * sum(tensor.numel() for tensor in model.state_dict().values())
    assert weights.size == pytest.approx(size, rel=1e-3)


def test_the_groups_are_known():
    assert all(hub.find_weights(name) for names in hub.groups().values() for name in names)


def test_names_beyond_the_table_are_asked_of_the_libraries():
    assert weights_called("ViT-B-32:laion2b_e16").repo == "timm/vit_base_patch32_clip_224.laion2b_e16"
    assert weights_called("vit_tiny_patch16_224.augreg_in21k").repo == "timm/vit_tiny_patch16_224.augreg_in21k"
    assert weights_called("ViT-B-16:no_such_tag") is None
    assert weights_called("no_such_network.tag") is None
    assert hub.find_weights("ViT-B-16-quickgelu:openai") == hub.find_weights("ViT-B-16:openai")


def test_a_file_comes_once_and_timm_finds_it_then(served):
    served.files[FILE] = tensors()
    path = hub.fetch(hub.find_weights(DINO))
    assert path.read_bytes() == tensors()
    assert served.cache in path.parents
    asked = len(served.asked)
    assert hub.fetch(hub.find_weights(DINO)) == path
    assert len(served.asked) == asked, "what is cached is asked of nobody"
    torch.testing.assert_close(
        load_state_dict_from_hf(f"timm/{DINO}", cache_dir=served.cache)["norm.weight"], torch.arange(4.0)
    )


def test_the_second_name_of_a_file_is_tried(served):
    served.files[f"timm/{DINO}/pytorch_model.bin"] = b"pickled"
    assert hub.fetch(hub.find_weights(DINO)).name == "pytorch_model.bin"


def test_another_file_than_announced_is_refused_and_removed(served):
    served.files[FILE] = tensors()
    served.send_instead(tensors()[:-1] + b"!")
    with pytest.raises(ModelError, match="has the hash"):
        hub.fetch(hub.find_weights(DINO))
    assert hub.find_weights(DINO).cached() is None
    assert not list(served.cache.rglob("model.safetensors"))


def test_another_file_than_published_is_refused(served):
    served.files["timm/vit_base_patch16_clip_224.openai/open_clip_model.safetensors"] = tensors()
    with pytest.raises(ModelError, match="wanted is 4b8699299b1e"):
        hub.fetch(hub.find_weights("ViT-B-16:openai"))


def test_a_repository_that_is_not_there_is_one_line(served):
    with pytest.raises(ModelError, match="could not be fetched") as caught:
        hub.fetch(hub.find_weights(DINO))
    assert "\n" not in caught.value.message
    assert sum("resolve" in line for line in served.asked) == 1


def test_a_file_that_a_hand_has_put_there_is_found(offline):
    weights = hub.find_weights(DINO)
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        hub.fetch(weights)
    folder = Path(caught.value.hint.partition(f"{weights.address} into ")[2].partition(";")[0])
    folder.mkdir(parents=True)
    (folder / weights.address.rpartition("/")[2]).write_bytes(tensors())
    assert hub.fetch(weights).read_bytes() == tensors()


def test_a_full_disk_is_told_before(served, monkeypatch):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    with pytest.raises(ResourceError, match="10 B free"):
        hub.fetch(hub.find_weights(DINO))
    assert not served.asked
