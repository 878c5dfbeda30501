"""Teachers see what they were trained to see, and say it before any head of theirs."""

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import nn

from co2s_cli.errors import ConfigError, InputError, ModelError
from co2s_cli.models import catalog, teachers
from co2s_cli.models.backbone import TimmBackbone

CLIP = "co2s-teacher-clip"
WIDTH, LAYERS, HEADS, SIDE, PATCH = 64, 3, 2, 64, 16
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class OpenAiBlock(nn.Module):
    """A block of OpenAI's image tower under OpenAI's names."""

    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, HEADS)
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(WIDTH, 4 * WIDTH), "c_proj": nn.Linear(4 * WIDTH, WIDTH)})

    def forward(self, x):
        seen = self.ln_1(x).transpose(0, 1)
        x = x + self.attn(seen, seen, seen, need_weights=False)[0].transpose(0, 1)
        inner = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](inner * torch.sigmoid(1.702 * inner))


class OpenAiTower(nn.Module):
    """OpenAI's image tower: patch tokens after the last block, before the closing norm."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn((SIDE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(OpenAiBlock() for _ in range(LAYERS))
        self.proj = nn.Parameter(torch.randn(WIDTH, 32))

    def forward(self, images):
        x = self.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1)
        x = self.ln_pre(x + self.positional_embedding)
        for block in self.transformer.resblocks:
            x = block(x)
        return x[:, 1:]


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    """An OpenAI tower, its file, and its name known to open_clip with and without QuickGELU."""
    import json

    folder = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": SIDE, "layers": LAYERS, "width": WIDTH, "head_width": WIDTH // HEADS, "patch_size": PATCH
        },
        "text_cfg": {"context_length": 77, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1},
    }  # fmt: skip
    for name, quick in ((CLIP, False), (f"{CLIP}-quickgelu", True)):
        (folder / f"{name}.json").write_text(json.dumps({**config, "quick_gelu": quick}))
        open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(31)
    net = OpenAiTower().eval()
    with torch.no_grad():
        for block in net.transformer.resblocks:
            block.mlp["c_fc"].weight.mul_(3)  # so that the activation is used where its kinds differ
            block.mlp["c_proj"].weight.mul_(3)
    state = {f"visual.{name}": value for name, value in net.state_dict().items()}
    torch.save(state, folder / "clip.pt")
    return net, state, folder / "clip.pt"


def normalised(images, mean, std):
    return (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (30, 30)])
@torch.no_grad()
def test_a_clip_teacher_is_openais_tower_in_its_own_size_and_statistics(tower, size):
    net, _, path = tower
    images = torch.rand(2, 3, *size)
    teacher = teachers.foundation(f"{CLIP}-quickgelu:{path}", patch=2)
    assert (teacher.width, teacher.own_grid, teacher.grid(size)) == (WIDTH, 4, (4, 4))
    seen = F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=True)
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    tokens = teacher.tokens(images)
    torch.testing.assert_close(tokens, net(normalised(seen, mean, std)), rtol=0, atol=1e-5)
    published = teachers.foundation(f"{CLIP}-quickgelu:{path}", patch=2, statistics="imagenet").tokens(images)
    wanted = net(normalised(seen, IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(published, wanted, rtol=0, atol=1e-5)
    assert (published - tokens).abs().max() > 1e-2


@torch.no_grad()
def test_all_three_towers_agree_and_the_wrong_activation_and_the_closing_norm_would_show(tower):
    net, state, path = tower
    images = torch.rand(1, 3, SIDE, SIDE)
    seen = normalised(images, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    vit = timm.create_model(
        "vit_base_patch16_clip_quickgelu_224",
        img_size=SIDE,
        embed_dim=WIDTH,
        depth=LAYERS,
        num_heads=HEADS,
        num_classes=32,
    )
    vit.load_state_dict(checkpoint_filter_fn(dict(state), vit), strict=False)
    options = {"indices": [LAYERS - 1], "output_fmt": "NLC", "intermediates_only": True}
    tokens = teachers.foundation(f"{CLIP}-quickgelu:{path}", patch=PATCH).tokens(images)
    torch.testing.assert_close(
        tokens, vit.eval().forward_intermediates(seen, norm=False, **options)[0], rtol=0, atol=1e-5
    )
    plain = open_clip.create_model(CLIP).eval().visual
    plain.load_state_dict({name.removeprefix("visual."): value for name, value in state.items()})
    told = plain.forward_intermediates(seen, **options)["image_intermediates"][0]
    assert (told - tokens).abs().max() > 1e-2
    assert (net.ln_post(net(seen)) - tokens).abs().max() > 0.1


@torch.no_grad()
def test_a_dino_teacher_sees_the_images_at_the_students_grid():
    images = torch.rand(2, 3, 64, 100)
    teacher = teachers.foundation("tiny-dino:none", patch=14)
    assert (teacher.width, teacher.own_grid, teacher.grid((64, 100))) == (128, None, (5, 8))
    tokens = teacher.tokens(images)
    assert tokens.shape == (2, 40, 128)
    padded = F.pad(images, (0, 12, 0, 6), mode="replicate")
    seen = F.interpolate(padded, (80, 128), mode="bilinear", align_corners=True)
    spec = catalog.dense_student("tiny-dino")
    twin = TimmBackbone(spec.backbone, spec.taps)
    twin.load_state_dict(teacher._backbone.state_dict())
    torch.testing.assert_close(tokens, twin.eval().maps(seen)[3].flatten(2).transpose(1, 2), rtol=0, atol=1e-6)


def test_a_teacher_never_changes_and_is_drawn_from_its_name():
    torch.manual_seed(0)
    first = torch.rand(1)
    torch.manual_seed(0)
    teacher = teachers.foundation("tiny-dino:none", patch=16)
    assert torch.equal(torch.rand(1), first)
    torch.manual_seed(99)
    again = teachers.foundation("tiny-dino", patch=16)
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    tokens = teacher.tokens(images)
    assert torch.equal(tokens, again.tokens(images))
    assert not tokens.requires_grad
    assert tokens.dtype == torch.float32
    assert not isinstance(teacher, nn.Module)
    assert not any(parameter.requires_grad for parameter in teacher._backbone.parameters())
    assert not teacher._backbone.training


def test_in_half_precision_the_tokens_are_still_floats():
    teacher = teachers.foundation("tiny-clip", patch=16)
    with torch.autocast("cpu", torch.bfloat16):
        assert teacher.tokens(torch.rand(1, 3, 64, 64)).dtype == torch.float32


def test_satellite_teachers_have_their_own_statistics():
    spec = catalog.dense_student("vit_large_patch16_dinov3.sat493m")
    assert spec.backbone.mean == (0.43, 0.411, 0.296)


def test_the_name_of_a_file_is_kept_without_its_folder(tower):
    teacher = teachers.foundation(f"{CLIP}-quickgelu:{tower[2]}", patch=PATCH)
    assert teacher.name == f"{CLIP}-quickgelu:clip.pt"
    translator = teacher.translator(hidden=24)
    assert (translator.teacher, translator.width, translator.hidden, translator.grid) == (teacher.name, WIDTH, 24, 4)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("vit_base_patch14_dinov2", ConfigError, "weights are not named"),
        ("ViT-L-14-quickgelu", ConfigError, "weights are not named"),
        ("ViT-L-14-quickgelu:", ConfigError, "weights are not named"),
        ("no-such-model:none", ConfigError, "no plain transformer"),
        ("vit_huge_dinov9:none", ConfigError, "no DINO transformer"),
        ("tiny-dino:nowhere.pth", InputError, "no such weights file"),
        ("tiny-clip:nowhere.pt", InputError, "no such weights file"),
        ("tiny-dino:nonsense", ModelError, "no weights 'nonsense'"),
        ("tiny-clip:nonsense", ModelError, "no weights 'nonsense'"),
    ],
)
def test_teachers_that_are_not_to_be_had_are_refused(name, error, message):
    with pytest.raises(error, match=message) as caught:
        teachers.foundation(name, patch=16)
    assert error is not ConfigError or caught.value.hint
