"""The students: shapes, counts, what guides them, what trains. Numbers are those of the published architecture."""

import math

import pytest
import torch
import torch.nn.functional as F

from co2s_cli.classes import ClassMap
from co2s_cli.models import catalog, clip_tower, fresh
from co2s_cli.models.decoder import GuidedDecoder, UpBlock, dilated
from co2s_cli.models.ensemble import Ensemble, fuse
from co2s_cli.models.guided import GuidedStudent
from co2s_cli.models.manifest import DecoderSpec, Manifest, ModelScaling
from co2s_cli.models.taps import Taps

PUBLISHED_SKIP = 768
WIDTH = catalog.clip_student("tiny-clip").backbone.options["width"]
"""Channels of both tiny students."""


def count(module, *, trainable=False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def tiny_manifest(classes: int = 3, **changes) -> Manifest:
    return Manifest(
        classes=tuple(ClassMap.of([f"class {index}" for index in range(classes)]).plain()),
        scaling=ModelScaling(low=(0, 0, 0), high=(255, 255, 255)),
        students={"clip": catalog.clip_student("tiny-clip"), "dino": catalog.dino_student("tiny-dino")},
        **changes,
    )


@pytest.fixture
def pair() -> Ensemble:
    torch.manual_seed(0)
    return fresh.new_ensemble(tiny_manifest()).eval()


@pytest.fixture(scope="module")
def base_students() -> dict[str, GuidedStudent]:
    """The published sizes, freshly drawn."""
    return {
        "clip": GuidedStudent(catalog.clip_student("ViT-B-16"), 6),
        "dino": GuidedStudent(catalog.dino_student("vit_base_patch16_dinov3_qkvb.lvd1689m"), 6),
    }


def drawn_taps(grid: int = 8, *, skip: int = 24, semantic: int = 20, batch: int = 2) -> Taps:
    generator = torch.Generator().manual_seed(3)
    sizes = (skip, skip, semantic)
    return Taps(*(torch.randn(batch, width, grid, grid, generator=generator) for width in sizes))


@pytest.fixture
def decoder() -> GuidedDecoder:
    torch.manual_seed(1)
    return GuidedDecoder(DecoderSpec(width=32, skips=(16, 8), ups=(24, 16)), skip_width=24, guidance_width=20)


@pytest.mark.parametrize(("guidance", "wanted"), [(512, 2_217_185), (768, 2_249_953)])
def test_the_published_decoder_has_its_published_size(guidance, wanted):
    assert count(GuidedDecoder(DecoderSpec(), skip_width=PUBLISHED_SKIP, guidance_width=guidance)) == wanted


@pytest.mark.parametrize("guidance", [512, 768])
@torch.no_grad()
def test_a_fresh_decoder_of_the_published_size_is_sure_of_nothing(guidance):
    torch.manual_seed(0)
    decoder = GuidedDecoder(DecoderSpec(), skip_width=PUBLISHED_SKIP, guidance_width=guidance)
    logits = decoder(drawn_taps(16, skip=PUBLISHED_SKIP, semantic=guidance), torch.randn(6, guidance))
    assert logits.softmax(dim=1).max() <= 1 / 6 + 0.02
    assert F.cross_entropy(logits, torch.randint(0, 6, (2, 64, 64))).item() == pytest.approx(math.log(6), abs=0.005)


@pytest.mark.slow
def test_published_backbones_have_their_published_sizes_and_trainable_parts(base_students):
    clip, dino = base_students["clip"], base_students["dino"]
    assert count(clip.backbone) == 86_192_640  # 197 positions; the published count at 256 px has 257
    assert count(clip.backbone, trainable=True) == 28_348_416
    assert sum(p.requires_grad for p in clip.backbone.parameters()) == 48
    assert count(dino.backbone, trainable=True) == 28_339_200
    assert sum(p.requires_grad for p in dino.backbone.parameters()) == 60
    assert clip.backbone.taps == (0, 4, 11)
    assert dino.backbone.taps == (2, 7, 11)
    assert dino.guidance.vectors.shape == (6, 768)
    assert clip.guidance.vectors.shape == (6, 512)


@pytest.mark.slow
@pytest.mark.parametrize(("side", "grid"), [(256, 16), (512, 32)])
@torch.no_grad()
def test_published_shapes(base_students, side, grid):
    images = torch.rand(1, 3, side, side)
    for name, semantic in (("clip", 512), ("dino", 768)):
        student = base_students[name]
        taps = student.encode(images)
        assert [tuple(item.shape) for item in taps] == [(1, c, grid, grid) for c in (768, 768, semantic)]
        assert student.decoder(taps, student.guidance()).shape == (1, 6, 4 * grid, 4 * grid)
        assert student(images).shape == (1, 6, side, side)


@pytest.mark.parametrize("classes", [1, 2, 7, 15])
@torch.no_grad()
def test_logits_have_one_map_per_class(decoder, classes):
    vectors = torch.randn(classes, 20)
    assert decoder(drawn_taps(), vectors).shape == (2, classes, 32, 32)


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (64, 64), (65, 130), (100, 37)])
@torch.no_grad()
def test_any_size_goes_in_and_comes_out(pair, size):
    probabilities = pair.probabilities(torch.rand(1, 3, *size))
    assert probabilities.shape == (1, 3, *size)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1, *size))


@torch.no_grad()
def test_padding_is_the_models_and_is_cropped_away(pair):
    images = torch.rand(1, 3, 70, 90)
    padded = F.pad(images, (0, 6, 0, 10), mode="replicate")
    for student in pair.students.values():
        torch.testing.assert_close(student(images), student(padded)[..., :70, :90])


@torch.no_grad()
def test_permuting_the_class_vectors_permutes_the_logits(decoder):
    vectors, order = torch.randn(5, 20), torch.tensor([3, 0, 4, 1, 2])
    logits = decoder(drawn_taps(), vectors)
    torch.testing.assert_close(decoder(drawn_taps(), vectors[order]), logits[:, order], rtol=0, atol=1e-5)


@torch.no_grad()
def test_only_directions_matter_to_the_similarity(decoder):
    taps, vectors = drawn_taps(), torch.randn(4, 20)
    longer = taps._replace(semantic=taps.semantic * 7.5)
    torch.testing.assert_close(decoder(longer, vectors * 0.3), decoder(taps, vectors), rtol=0, atol=1e-5)


@torch.no_grad()
def test_classes_hear_one_another_and_only_through_the_mixers(decoder):
    taps, vectors = drawn_taps(), torch.randn(4, 20)
    other = vectors.clone()
    other[2] = torch.randn(20)
    assert (decoder(taps, vectors) - decoder(taps, other))[:, [0, 1, 3]].abs().max() > 1e-4
    for mixer in decoder.mixers:
        mixer.forward = lambda x, words, batch: torch.zeros_like(x)
    torch.testing.assert_close(decoder(taps, vectors)[:, [0, 1, 3]], decoder(taps, other)[:, [0, 1, 3]], rtol=0, atol=0)


@pytest.mark.parametrize("grid", [4, 8, 16, 19])
@pytest.mark.parametrize("dilation", [1, 6, 12, 18])
@torch.no_grad()
def test_a_dilation_wider_than_the_map_is_a_point_convolution(grid, dilation):
    conv = torch.nn.Conv2d(4, 4, 3, padding=dilation, dilation=dilation, bias=False)
    x = torch.randn(2, 4, grid, grid)
    torch.testing.assert_close(dilated(conv, x), conv(x), rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_skip_convolved_once_equals_the_concatenation():
    torch.manual_seed(2)
    up = UpBlock(32, 24, skip=16)
    x, skip = torch.randn(6, 32, 8, 8), torch.randn(2, 16, 8, 8)
    joined = torch.cat(
        [up.up(x), F.interpolate(skip, size=(16, 16), mode="bilinear", align_corners=True).repeat_interleave(3, 0)], 1
    )
    plain = F.relu(up.norm2(up.conv2(F.relu(up.norm1(up.conv1(joined))))))
    torch.testing.assert_close(up(x, skip), plain, rtol=0, atol=1e-5)


@torch.no_grad()
def test_clip_taps_are_value_paths_computed_from_the_block_inputs(pair):
    tower = pair.students["clip"].backbone
    inputs, outputs = {}, {}
    for index, block in enumerate(tower.visual.transformer.resblocks):
        block.register_forward_hook(
            lambda _, args, out, index=index: (
                (inputs.update({index: args[0]}), outputs.update({index: out}))[1] and None
            )
        )
    images = torch.rand(2, 3, 64, 64)
    taps = tower(images)
    for tap, index in ((taps.shallow, 0), (taps.deep, 1)):
        block, x = tower.visual.transformer.resblocks[index], inputs[index]
        value = F.linear(block.ln_1(x), block.attn.in_proj_weight[2 * WIDTH :], block.attn.in_proj_bias[2 * WIDTH :])
        a = x + block.attn.out_proj(value)
        by_hand = (a + block.mlp(block.ln_2(a)))[:, 1:].transpose(1, 2).reshape(2, WIDTH, 4, 4)
        torch.testing.assert_close(tap, by_hand)
        ordinary = outputs[index][:, 1:].transpose(1, 2).reshape(2, WIDTH, 4, 4)
        assert (tap - ordinary).abs().max() > 1e-3
    assert 3 not in inputs, "the last block's attention is not run"
    torch.testing.assert_close(taps.semantic.norm(dim=1), torch.ones(2, 4, 4))


@torch.no_grad()
def test_dino_taps_are_normed_block_outputs_without_prefix_tokens(pair):
    tower = pair.students["dino"].backbone
    outputs = {}
    for index, block in enumerate(tower.vit.blocks):
        block.register_forward_hook(lambda _, args, out, index=index: outputs.update({index: out}))
    taps = tower(torch.rand(2, 3, 64, 96))
    for tap, index in zip(taps, (0, 1, 3), strict=True):
        by_hand = tower.vit.norm(outputs[index])[:, 5:].transpose(1, 2).reshape(2, WIDTH, 4, 6)
        torch.testing.assert_close(tap, by_hand)


def test_positions_are_resized_without_antialias_and_the_class_row_stays():
    positions = torch.randn(1 + 14 * 14, 32)
    resized = clip_tower.resize_positions(positions, torch.Size((16, 16)))
    plain = F.interpolate(positions[1:].T.reshape(1, 32, 14, 14), size=(16, 16), mode="bicubic", align_corners=False)
    torch.testing.assert_close(resized[1:].T.reshape(1, 32, 16, 16), plain)
    smooth = F.interpolate(positions[1:].T.reshape(1, 32, 14, 14), size=(16, 16), mode="bicubic", antialias=True)
    assert (plain - smooth).abs().max() > 0.05
    assert torch.equal(resized[0], positions[0])
    assert clip_tower.resize_positions(positions, torch.Size((14, 14))) is positions


@pytest.mark.slow
def test_only_attention_decoder_and_queries_train_and_all_of_them_learn(pair):
    images = torch.rand(2, 3, 64, 64)
    for name, student in pair.students.items():
        before = {key: value.clone() for key, value in student.backbone.named_parameters()}
        optimiser = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=1e-3)
        (student(images) * torch.randn(2, 3, 64, 64)).mean().backward()
        with_gradient = {key for key, value in student.backbone.named_parameters() if value.grad is not None}
        # the last CLIP block's attention is not run: its query and key rows get zeros, its value rows do not
        assert with_gradient == {key for key in before if "attn" in key}
        optimiser.step()
        frozen = {key for key in before if "attn" not in key}
        assert all(torch.equal(before[key], dict(student.backbone.named_parameters())[key]) for key in frozen)
        if name == "dino":
            assert (student.guidance.vectors.grad.abs().sum(dim=1) > 0).all()
        else:
            assert not student.guidance.vectors.requires_grad


def test_gradients_reach_queries_keys_and_values_where_attention_runs(pair):
    student = pair.students["clip"]
    (student(torch.rand(1, 3, 64, 64)) * torch.randn(1, 3, 64, 64)).mean().backward()
    *earlier, last = (block.attn for block in student.backbone.visual.transformer.resblocks)
    for attention in earlier:
        assert all(part.abs().max() > 0 for part in attention.in_proj_weight.grad.chunk(3))
    q, k, v = last.in_proj_weight.grad.chunk(3)
    assert q.abs().max() == 0
    assert k.abs().max() == 0
    assert v.abs().max() > 0
    assert last.out_proj.weight.grad.abs().max() > 0
    for block in pair.students["dino"].backbone.vit.blocks:
        assert "k_bias" not in dict(block.attn.named_parameters())


def test_training_all_of_a_backbone_is_a_choice(pair):
    student = pair.students["dino"]
    student.train_backbone("all")
    assert all(p.requires_grad for p in student.backbone.parameters())
    student.train_backbone("attention")
    assert not student.backbone.vit.norm.weight.requires_grad


def test_fusions_say_what_they_say():
    a = torch.tensor([0.9, 0.1]).view(1, 2, 1, 1)
    b = torch.tensor([0.3, 0.7]).view(1, 2, 1, 1)
    members = {"clip": torch.cat([a, b], -1), "dino": torch.cat([b, a], -1)}
    torch.testing.assert_close(fuse(members, "mean"), (members["clip"] + members["dino"]) / 2)
    torch.testing.assert_close(fuse(members, "confident"), torch.cat([a, a], -1))
    assert fuse(members, "clip") is members["clip"]
    assert fuse(members, "dino") is members["dino"]
    torch.testing.assert_close(fuse({"dino": a}, "mean"), a)
    torch.testing.assert_close(fuse({"dino": a}, "confident"), a)
    with pytest.raises(ValueError, match="holds only dino"):
        fuse({"dino": a}, "clip")
    with pytest.raises(ValueError, match="fusion banana"):
        fuse(members, "banana")


@torch.no_grad()
def test_images_are_neither_clamped_nor_refused(pair):
    wild = torch.randn(1, 3, 64, 64) * 3
    student = pair.students["dino"]
    assert (student(wild) - student(wild.clamp(0, 1))).abs().max() > 1e-3


def test_new_clip_students_are_clip_as_it_was_trained():
    openai, laion = (catalog.clip_student("ViT-B-16", tag).backbone for tag in ("openai", "laion2b_s34b_b88k"))
    assert openai.options["quick_gelu"]
    assert not laion.options["quick_gelu"]
    assert openai.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert catalog.clip_student("ViT-B-16", "none").backbone.options["quick_gelu"]
    large = catalog.clip_student("ViT-L-14").backbone
    assert (large.options["patch_size"], large.options["layers"], large.options["width"]) == (14, 24, 1024)


@pytest.mark.parametrize(
    ("name", "taps", "width"),
    [
        ("vit_small_patch16_dinov3.lvd1689m", (2, 7, 11), 384),
        ("vit_large_patch16_dinov3.sat493m", (5, 15, 23), 1024),
        ("vit_small_patch14_dinov2.lvd142m", (2, 7, 11), 384),
    ],
)
def test_dino_students_by_name(name, taps, width):
    spec = catalog.dino_student(name)
    assert (spec.taps, spec.guidance_width) == (taps, width)
    if "sat493m" in name:
        assert spec.backbone.mean == (0.43, 0.411, 0.296)


@torch.no_grad()
def test_patch_14_students_run_at_any_size():
    student = GuidedStudent(catalog.dino_student("vit_small_patch14_dinov2.lvd142m"), 2)
    assert student(torch.rand(1, 3, 60, 100)).shape == (1, 2, 60, 100)


@pytest.mark.parametrize("build", [catalog.clip_student, catalog.dino_student])
def test_unknown_backbones_are_refused_with_examples(build):
    from co2s_cli.errors import ConfigError

    for name in ("no-such-model", "RN50", "resnet18"):
        with pytest.raises(ConfigError) as caught:
            build(name)
        assert "for example" in caught.value.hint
