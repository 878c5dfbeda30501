"""Pretrained weights in the real formats reach the backbones, last of all, and are still there afterwards."""

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from support.pretrained import CLIP, DINO, SIZES, know_small_clip, small_dino, whole_clip

from co2s_cli.classes import ClassMap, LandClass
from co2s_cli.config.protocol import find_protocol
from co2s_cli.errors import InputError, ModelError
from co2s_cli.models import catalog, fresh, pretrained, text
from co2s_cli.models.backbone import build
from co2s_cli.models.manifest import Manifest, ModelScaling

WIDTH = SIZES["embed_dim"]
QUICK = f"{CLIP}-quickgelu"


@pytest.fixture(scope="module", autouse=True)
def _small_clip_is_known(tmp_path_factory):
    know_small_clip(tmp_path_factory.mktemp("configs"))


def manifest(classes=("land", "water")) -> Manifest:
    return Manifest(
        classes=tuple(ClassMap.of(classes).plain()),
        scaling=ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
        students={"clip": catalog.clip_student(QUICK), "dino": catalog.dino_student("tiny-dino")},
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_survive_the_building_of_a_pair(tmp_path, suffix):
    clip, dino = whole_clip(), small_dino()
    files = {}
    for name, model in (("clip", clip), ("dino", dino)):
        files[name] = tmp_path / f"{name}{suffix}"
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(state, files[name]) if suffix == ".safetensors" else torch.save({"state_dict": state}, files[name])
    pair = fresh.new_ensemble(manifest(), {"clip": str(files["clip"]), "dino": str(files["dino"])})
    tower = pair.students["clip"].backbone.visual.state_dict()
    assert all(torch.equal(value, tower[name]) for name, value in clip.visual.state_dict().items())
    vit = pair.students["dino"].backbone.vit
    assert all(torch.equal(value, vit.state_dict()[name]) for name, value in dino.state_dict().items())
    assert all((block.gamma_1 - 1e-5).abs().min() > 1e-3 for block in vit.blocks)


def test_metas_own_dinov3_names_are_understood(tmp_path):
    """Meta's files keep one q/k/v bias with a mask, `storage_tokens` and `ls1.gamma`."""
    vit = small_dino()
    official = {"mask_token": torch.zeros(1, WIDTH), "rope_embed.periods": torch.zeros(8)}
    for name, value in vit.state_dict().items():
        if name.endswith("q_bias"):
            q = torch.randn(WIDTH)
            vit.get_parameter(name).data.copy_(q)
            v = vit.get_parameter(name.replace("q_bias", "v_bias")).data
            official[name.replace("q_bias", "qkv.bias")] = torch.cat([q, torch.zeros(WIDTH), v])
            official[name.replace("q_bias", "qkv.bias_mask")] = torch.ones(3 * WIDTH)
        elif not name.endswith("v_bias"):
            renamed = name.replace("reg_token", "storage_tokens").replace("gamma_1", "ls1.gamma")
            official[renamed.replace("gamma_2", "ls2.gamma")] = value
    torch.save(official, tmp_path / "dinov3.pth")
    spec = catalog.dino_student("tiny-dino")
    tower = build(spec.backbone, spec.taps)
    pretrained.load_weights(tower, DINO, str(tmp_path / "dinov3.pth"))
    assert all(torch.equal(value, tower.vit.state_dict()[name]) for name, value in vit.state_dict().items())


def test_weights_that_do_not_fit_are_refused(tmp_path):
    spec = catalog.dino_student("tiny-dino")
    tower = build(spec.backbone, spec.taps)
    torch.save(timm.create_model(DINO, num_classes=0, **{**SIZES, "depth": 3}).state_dict(), tmp_path / "short.pth")
    with pytest.raises(ModelError, match="tensors are not in it"):
        pretrained.load_weights(tower, DINO, str(tmp_path / "short.pth"))
    torch.save(
        timm.create_model(DINO, num_classes=0, **{**SIZES, "embed_dim": 2 * WIDTH}).state_dict(), tmp_path / "wide.pth"
    )
    with pytest.raises(ModelError, match="wanted"):
        pretrained.load_weights(tower, DINO, str(tmp_path / "wide.pth"))
    with pytest.raises(InputError, match="no such weights file"):
        pretrained.load_weights(tower, DINO, str(tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        pretrained.load_weights(tower, DINO, str(tmp_path / "text.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="no named tensors"):
        pretrained.load_weights(tower, DINO, str(tmp_path / "list.pth"))


@pytest.mark.slow
def test_unknown_tags_are_refused_with_the_known_ones():
    spec = catalog.dino_student("vit_small_patch16_dinov3_qkvb")
    with pytest.raises(ModelError, match="lvd1689m"):
        pretrained.load_weights(build(spec.backbone, spec.taps), spec.backbone.name, "nonsense")
    spec = catalog.clip_student("ViT-B-32")
    with pytest.raises(ModelError, match="openai"):
        pretrained.load_weights(build(spec.backbone, spec.taps), "ViT-B-32", "nonsense")


def test_none_leaves_the_weights_as_drawn():
    spec = catalog.dino_student("tiny-dino")
    tower = build(spec.backbone, spec.taps)
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    pretrained.load_weights(tower, DINO, "none")
    assert all(torch.equal(value, tower.state_dict()[name]) for name, value in before.items())


def test_class_vectors_are_normalised_means_of_the_text_towers_embeddings(tmp_path):
    clip = whole_clip()
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    classes = ClassMap((LandClass("land", (0, 0, 0)), LandClass("water", (0, 0, 1), ("water", "sea", "bare_rock"))))
    vectors = text.class_vectors(classes, QUICK, str(tmp_path / "clip.pt"))
    tokens = open_clip.get_tokenizer(CLIP)(["a photo of a water", "a photo of a sea", "a photo of a bare_rock"])
    with torch.no_grad():
        mean = clip.encode_text(tokens).mean(0)
    torch.testing.assert_close(vectors[1], mean / mean.norm())
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    shuffled = ClassMap((classes.classes[0], LandClass("water", (0, 0, 1), ("sea", "bare_rock", "water"))))
    torch.testing.assert_close(text.class_vectors(shuffled, QUICK, str(tmp_path / "clip.pt")), vectors)


@pytest.mark.parametrize(
    ("name", "tag", "quick"),
    [
        ("ViT-B-16", "openai", True),
        ("ViT-B-16", "laion2b_s34b_b88k", False),
        ("ViT-B-16", "datacomp_xl_s13b_b90k", False),
        ("ViT-L-14", "laion2b_s32b_b82k", False),
        ("ViT-B-16-quickgelu", "dfn2b", True),
    ],
)
def test_activation_and_statistics_are_those_of_open_clip(name, tag, quick, tmp_path):
    """A tag says how its weights were trained, also where they come from a file."""
    mean = open_clip.get_pretrained_cfg(name, tag)["mean"]
    (tmp_path / "clip.pt").touch()
    for weights in (tag, f"{tag}={tmp_path / 'clip.pt'}"):
        spec = catalog.clip_student(name, weights).backbone
        assert (spec.options["quick_gelu"], spec.mean) == (quick, mean)


@pytest.mark.parametrize("quick", [True, False])
def test_both_towers_give_the_features_of_open_clip(tmp_path, quick, monkeypatch):
    name = QUICK if quick else CLIP
    clip = open_clip.create_model(name).eval()
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, {"made": {"quick_gelu": quick}})
    weights = f"made={tmp_path / 'clip.pt'}"
    spec = catalog.clip_student(name, weights)
    tower = build(spec.backbone, spec.taps)
    pretrained.load_weights(tower, name, weights)
    images = torch.rand(2, 3, 64, 64)
    seen = (images - torch.tensor(spec.backbone.mean).view(3, 1, 1)) / torch.tensor(spec.backbone.std).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(tower.visual(seen), clip.visual(seen), atol=1e-5, rtol=1e-4)
        said = clip.encode_text(open_clip.get_tokenizer(name)(["a photo of a land"]))[0]
    vectors = text.class_vectors(ClassMap.of(["land"]), name, weights)
    torch.testing.assert_close(vectors[0], said / said.norm())


def test_a_file_that_does_not_say_how_it_was_trained_is_refused(tmp_path):
    torch.save(whole_clip().state_dict(), tmp_path / "clip.pt")
    with pytest.raises(ModelError, match="QuickGELU") as caught:
        catalog.clip_student("ViT-B-16", str(tmp_path / "clip.pt"))
    assert "ViT-B-16-quickgelu" in caught.value.hint


def test_a_missing_weight_is_told_at_once_where_there_is_no_network(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(pretrained.hub, "reachable", lambda address: False)
    asked = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *host, **_: asked.append(host))
    for fetch, file in (
        (lambda: pretrained.fetch_clip("ViT-B-16", "laion2b_s34b_b88k"), "laion/CLIP-ViT-B-16"),
        (lambda: pretrained.fetch_timm("vit_base_patch16_dinov3_qkvb", "lvd1689m"), "vit_base_patch16_dinov3"),
    ):
        with pytest.raises(ModelError, match="cannot be reached") as caught:
            fetch()
        assert file in caught.value.hint
    assert not asked


def test_an_image_tower_alone_has_no_class_vectors(tmp_path):
    torch.save(whole_clip().visual.state_dict(), tmp_path / "visual.pt")
    with pytest.raises(ModelError, match="no text tower"):
        text.class_vectors(ClassMap.of(["land"]), QUICK, str(tmp_path / "visual.pt"))


def test_without_a_text_tower_the_table_tells_the_classes_apart():
    table = fresh.plain_table(ClassMap.of([f"c{i}" for i in range(6)]), 64)
    torch.testing.assert_close(table @ table.T, torch.eye(6), atol=1e-5, rtol=0)
    assert torch.equal(table, fresh.plain_table(ClassMap.of([f"d{i}" for i in range(6)]), 64))
    crowded = fresh.plain_table(ClassMap.of([f"c{i}" for i in range(9)]), 4)
    torch.testing.assert_close(crowded.norm(dim=1), torch.ones(9))


FINGERPRINTS = {
    "whdld": (0.856, 0.892, 0.939), "loveda": (0.851, 0.893, 0.951), "potsdam": (0.853, 0.892, 0.933),
    "gid15": (0.810, 0.874, 0.966), "mer": (0.800, 0.859, 0.962),
}  # fmt: skip


@pytest.mark.network
@pytest.mark.parametrize("name", FINGERPRINTS)
def test_real_class_vectors_have_the_published_fingerprints(name):
    try:
        vectors = text.class_vectors(find_protocol(name).class_map, "ViT-B-16", "openai")
    except ModelError as error:
        pytest.skip(f"no pretrained weights here: {error}")
    cosines = (vectors @ vectors.T)[~torch.eye(len(vectors), dtype=torch.bool)]
    found = (cosines.min().item(), cosines.mean().item(), cosines.max().item())
    assert found == pytest.approx(FINGERPRINTS[name], abs=0.01)


@pytest.mark.network
def test_real_dinov3_keeps_its_layerscale():
    spec = catalog.dino_student("vit_base_patch16_dinov3_qkvb.lvd1689m")
    tower = build(spec.backbone, spec.taps)
    try:
        pretrained.load_weights(tower, spec.backbone.name, "lvd1689m")
    except ModelError as error:
        pytest.skip(f"no pretrained weights here: {error}")
    assert not all(torch.allclose(block.gamma_1, torch.tensor(1e-5)) for block in tower.vit.blocks)
