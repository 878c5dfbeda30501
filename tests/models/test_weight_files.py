"""Every publisher's format gives the same tensors under the names that timm and open_clip know."""

import json
import warnings

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from support import hugging
from support.pretrained import CLIP, know_small_clip, small_dino, whole_clip
from timm.models import eva, vision_transformer

from co2s_cli.errors import ModelError
from co2s_cli.models.weight_files import activation_of, is_torchscript, read_tensors


@pytest.fixture(scope="module", autouse=True)
def _small_clip_is_known(tmp_path_factory):
    know_small_clip(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A CLIP in half precision as a TorchScript archive, with the numbers that OpenAI keeps among its tensors."""

    class Published(torch.nn.Module):
        def __init__(self, clip):
            super().__init__()
            self.visual, self.transformer = clip.visual, clip.transformer
            self.token_embedding, self.ln_final = clip.token_embedding, clip.ln_final
            self.positional_embedding, self.text_projection = clip.positional_embedding, clip.text_projection
            self.logit_scale = clip.logit_scale
            for name in ("input_resolution", "context_length", "vocab_size"):
                self.register_buffer(name, torch.tensor(64))

        def forward(self, image):
            return self.visual.conv1(image) + self.input_resolution

    path = tmp_path_factory.mktemp("openai") / "ViT-B-16.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Published(whole_clip()).half(), torch.zeros(1, 3, 64, 64).half()).save(str(path))
    return path


def test_transformers_dinov3_fills_timms(tmp_path):
    vit = small_dino()
    for name, value in vit.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(value)
    save_file(hugging.dinov3(vit.state_dict()), tmp_path / "model.safetensors")
    read = eva.checkpoint_filter_fn(read_tensors(tmp_path / "model.safetensors"), vit)
    assert all(torch.equal(value, read[name]) for name, value in vit.state_dict().items())


def test_transformers_dinov2_fills_timms(tmp_path):
    vit = timm.create_model("vit_small_patch14_dinov2", num_classes=0, embed_dim=32, depth=2, num_heads=2, img_size=56)
    save_file(hugging.dinov2(vit.state_dict()), tmp_path / "model.safetensors")
    read = vision_transformer.checkpoint_filter_fn(read_tensors(tmp_path / "model.safetensors"), vit)
    assert all(torch.equal(value, read[name]) for name, value in vit.state_dict().items())


def test_transformers_clip_fills_open_clips(tmp_path):
    clip = whole_clip()
    save_file(hugging.clip(clip.state_dict()), tmp_path / "model.safetensors")
    read = read_tensors(tmp_path / "model.safetensors")
    assert read.keys() == clip.state_dict().keys()
    assert all(torch.equal(value, read[name]) for name, value in clip.state_dict().items())


def test_openais_archive_fills_open_clips(archive):
    assert is_torchscript(archive)
    read, clip = read_tensors(archive), whole_clip()
    assert read.keys() == clip.state_dict().keys()
    for name, value in clip.state_dict().items():
        torch.testing.assert_close(read[name], value.half().float())


def test_the_activation_is_read_from_the_file_or_beside_it(tmp_path, archive):
    assert activation_of(archive) == "quickgelu"
    torch.save(open_clip.create_model(CLIP).state_dict(), tmp_path / "clip.pt")
    assert activation_of(tmp_path / "clip.pt") is None
    for name, content, activation in (
        ("config.json", {"vision_config": {"hidden_act": "quick_gelu"}}, "quickgelu"),
        ("config.json", {"vision_config": {"hidden_act": "gelu"}}, "gelu"),
        ("open_clip_config.json", {"model_cfg": {"embed_dim": 512}}, "gelu"),
        ("open_clip_config.json", {"model_cfg": {"quick_gelu": True}}, "quickgelu"),
    ):
        (tmp_path / name).write_text(json.dumps(content))
        assert activation_of(tmp_path / "clip.pt") == activation


@pytest.mark.parametrize("name", ["model.msgpack", "model.safetensors", "weights.pth"])
def test_a_file_of_another_kind_is_one_error_that_names_what_works(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x93NUMPY nothing of ours")
    with pytest.raises(ModelError, match="cannot be read as weights") as caught:
        read_tensors(tmp_path / name)
    assert "safetensors" in caught.value.hint


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_finite_numbers_are_refused_when_they_are_read(tmp_path, value):
    save_file({"fine": torch.zeros(3), "broken": torch.tensor([1.0, value])}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"model.safetensors: broken holds values that are no finite numbers"):
        read_tensors(tmp_path / "model.safetensors")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**6, 10**6),
        torch.zeros(3, 1).expand(3, 4),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, dtype=torch.complex64),
    ],
)
def test_tensors_that_are_more_than_their_bytes_are_refused(tmp_path, tensor):
    torch.save({"good": torch.zeros(2), "bad": tensor}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"'bad' of .* numbers is not stored as plain numbers"):
        read_tensors(tmp_path / "a.pth")


def test_views_of_one_storage_are_plain_numbers(tmp_path):
    whole = torch.arange(6.0)
    torch.save({"whole": whole, "turned": whole.view(2, 3).T, "part": whole[2:4]}, tmp_path / "a.pth")
    assert read_tensors(tmp_path / "a.pth")["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
