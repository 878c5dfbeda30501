"""The single student: sizes, shapes, what its fusion does to the tokens, and that folding changes nothing but size."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from co2s_cli.models import catalog, dense, mtdf
from co2s_cli.models.dense import DenseStudent
from co2s_cli.models.guided import GuidedStudent
from co2s_cli.models.manifest import DenseSpec, TranslatorSpec

SMALL = "vit_small_patch14_dinov2.lvd142m"
PAPER = (TranslatorSpec(teacher="dino", width=768), TranslatorSpec(teacher="clip", width=1024, grid=16))
TINY = (
    TranslatorSpec(teacher="dino", width=40, hidden=24),
    TranslatorSpec(teacher="clip", width=56, hidden=24, grid=3),
)
NAMES = ("tiny-student", "tiny-student14")
ALIGNS = ("second_pass", "pool")


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def hollow(name=SMALL, classes=6, **changes) -> DenseStudent:
    """One whose tensors have shapes and no numbers."""
    with torch.device("meta"):
        return DenseStudent(catalog.dense_student(name, **changes), classes).eval()


def tiny(name="tiny-student", *, classes=5, seed=0, **changes) -> DenseStudent:
    """A drawn one whose every part makes a difference."""
    torch.manual_seed(seed)
    student = DenseStudent(
        catalog.dense_student(name, **{"translators": TINY, "align": "second_pass", **changes}), classes
    )
    with torch.no_grad():
        for parameter_name, parameter in student.named_parameters():
            if "gamma" in parameter_name or "ls" in parameter_name.split("."):
                parameter.fill_(0.7)
    return student.eval()


def plain(student: DenseStudent) -> DenseStudent:
    """The same student without any translator."""
    spec = student.spec.model_copy(update={"translators": ()})
    alone = DenseStudent(spec, student.head.out[-1].out_channels).eval()
    alone.load_state_dict({k: v for k, v in student.state_dict().items() if not k.startswith("fusion.")})
    return alone


def seen_by_the_head(student, images):
    """The four maps that enter the head."""
    kept = []
    hook = student.head.register_forward_pre_hook(lambda module, inputs: kept.extend(inputs[0]))
    student(images)
    hook.remove()
    return kept


@pytest.mark.parametrize(("classes", "published"), [(6, 28_108_454), (7, 28_108_519)])
def test_the_papers_student_has_the_papers_size_less_the_unit_that_never_runs(classes, published):
    student = hollow(classes=classes, translators=PAPER, align="second_pass")
    assert count(student) == published - 73_856
    assert count(student.backbone) == 22_056_192
    dino, clip = student.fusion.branches
    assert (count(dino.translate), count(dino.back)) == (1_181_440, 295_296)
    assert (count(clip.translate), count(clip.back)) == (1_443_840, 393_600)
    assert student.spec.taps == (2, 5, 8, 11)


@pytest.mark.parametrize(
    ("name", "features", "taps"),
    [
        ("vit_base_patch14_dinov2.lvd142m", 128, (2, 5, 8, 11)),
        ("vit_large_patch16_dinov3.sat493m", 256, (4, 11, 17, 23)),
        ("vit_giant_patch14_dinov2.lvd142m", 384, (9, 19, 29, 39)),
        ("vit_small_patch16_dinov3.lvd1689m", 64, (2, 5, 8, 11)),
    ],
)
def test_larger_students_have_the_published_heads_and_taps(name, features, taps):
    spec = catalog.dense_student(name)
    assert (spec.head.features, spec.taps) == (features, taps)


def test_the_tiny_student_is_at_most_half_the_tiny_pair():

    pair = [GuidedStudent(spec, 7) for spec in (catalog.clip_student("tiny-clip"), catalog.dino_student("tiny-dino"))]
    for name in NAMES:
        assert count(hollow(name, 7)) <= sum(map(count, pair)) / 2


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(518, 518), (518, 700)])
@torch.no_grad()
def test_the_papers_shapes(height, width):
    student = DenseStudent(catalog.dense_student(SMALL, translators=PAPER, align="second_pass"), 6).eval()
    taps = student.encode(torch.rand(1, 3, height, width))
    grid = (height // 14, width // 14)
    assert all(item.shape == (1, 384, *grid) for item in taps[:4])
    assert taps.grid_tokens.shape == (1, 256, 384)
    translated = student.translated(taps)
    assert translated["dino"].shape == (1, grid[0] * grid[1], 768)
    assert translated["clip"].shape == (1, 256, 1024)
    assert student.decode(taps, (height, width)).shape == (1, 6, height, width)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (13, 29), (64, 64), (70, 112), (512, 20)])
@torch.no_grad()
def test_any_size_goes_in_and_comes_out_as_if_padded(name, size):
    student = tiny(name)
    images = torch.rand(1, 3, *size)
    patch = student.patch
    padded = F.pad(images, (0, -size[1] % patch, 0, -size[0] % patch), mode="replicate")
    logits = student(images)
    assert logits.shape == (1, 5, *size)
    torch.testing.assert_close(logits, student(padded)[..., : size[0], : size[1]], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_student_is_what_the_paper_writes():
    """§2.2 of the method, in its own order, with the student's own parts."""
    student = tiny("tiny-student14")
    images = torch.rand(2, 3, 70, 98)
    maps = student.backbone.maps(images)
    small = F.interpolate(images, (42, 42), mode="bilinear", align_corners=True)
    own = maps[3].flatten(2).transpose(1, 2)
    again = student.backbone.maps(small)[3].flatten(2).transpose(1, 2)
    dino, clip = student.fusion.branches
    enlarged = F.interpolate(
        clip.translate(again).transpose(1, 2).reshape(2, 56, 3, 3), (5, 7), mode="bilinear", align_corners=True
    )
    told = dino.back(dino.translate(own)) + clip.back(enlarged.flatten(2).transpose(1, 2))
    fused = (0.8 * own + 0.1 * told).transpose(1, 2).reshape(2, -1, 5, 7)
    logits = student.head((*maps[:3], fused))
    wanted = F.interpolate(logits, (70, 98), mode="bilinear", align_corners=True)
    torch.testing.assert_close(student(images), wanted, rtol=0, atol=1e-5)
    translated = student.translated(student.encode(images))
    torch.testing.assert_close(translated["dino"], dino.translate(own), rtol=0, atol=1e-5)
    torch.testing.assert_close(translated["clip"], clip.translate(again), rtol=0, atol=1e-5)
    assert (wanted - plain(student)(images)).abs().max() > 1e-3


@pytest.mark.parametrize("align", ALIGNS)
@torch.no_grad()
def test_without_a_way_back_the_head_sees_the_students_share(align):
    student = tiny(align=align)
    for branch in student.fusion.branches:
        for parameter in branch.back.parameters():
            parameter.zero_()
    images = torch.rand(1, 3, 64, 96)
    taps = student.encode(images)
    *others, last = seen_by_the_head(student, images)
    assert torch.equal(last, 0.8 * taps.last)
    for seen, tap in zip(others, taps[:3], strict=True):
        assert torch.equal(seen, tap)


@torch.no_grad()
def test_only_the_last_tap_is_fused():
    student = tiny()
    images = torch.rand(1, 3, 64, 64)
    maps = student.backbone.maps(images)
    *others, last = seen_by_the_head(student, images)
    assert all(torch.equal(seen, tap) for seen, tap in zip(others, maps[:3], strict=True))
    assert not torch.equal(last, maps[3])


@pytest.mark.parametrize("align", ALIGNS)
@torch.no_grad()
def test_with_the_whole_share_the_student_is_a_plain_one(align):
    student = tiny(align=align, alpha=1.0)
    images = torch.rand(1, 3, 80, 64)
    assert torch.equal(student(images), plain(student)(images))


@pytest.mark.parametrize("teachers", [1, 3])
@torch.no_grad()
def test_teachers_share_what_the_student_leaves(teachers):
    translators = tuple(TranslatorSpec(teacher=f"t{index}", width=8, hidden=8) for index in range(teachers))
    student = tiny(translators=translators)
    for branch in student.fusion.branches:
        for parameter in branch.parameters():
            parameter.zero_()
        branch.back.bias.fill_(1.0)
    images = torch.rand(1, 3, 64, 64)
    last = seen_by_the_head(student, images)[3]
    torch.testing.assert_close(last - 0.8 * student.encode(images).last, torch.full_like(last, 0.2), rtol=0, atol=1e-6)
    one = student.fusion.branches[0]
    one.back.bias.zero_()
    last = seen_by_the_head(student, images)[3]
    wanted = 0.2 * (teachers - 1) / teachers
    torch.testing.assert_close(
        last - 0.8 * student.encode(images).last, torch.full_like(last, wanted), rtol=0, atol=1e-6
    )


@torch.no_grad()
def test_pooled_tokens_are_the_means_of_their_cells():
    student = tiny(align="pool", translators=(TranslatorSpec(teacher="clip", width=8, hidden=8, grid=2),))
    taps = student.encode(torch.rand(1, 3, 64, 64))
    assert taps.grid_tokens.shape == (1, 0, 96)
    cells = taps.last.reshape(1, 96, 2, 2, 2, 2).mean((3, 5)).flatten(2).transpose(1, 2)
    wanted = student.fusion.branches[0].translate(cells)
    torch.testing.assert_close(student.translated(taps)["clip"], wanted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_second_pass_serves_all_teachers_of_a_grid():
    grids = (4, 3, 4)
    translators = tuple(TranslatorSpec(teacher=f"t{i}", width=8, hidden=8, grid=g) for i, g in enumerate(grids))
    student = tiny(translators=translators)
    images = torch.rand(2, 3, 96, 96)
    taps = student.encode(images)
    assert taps.grid_tokens.shape == (2, 9 + 16, 96)
    for index, (grid, tokens) in enumerate(zip(grids, student.translated(taps).values(), strict=True)):
        seen = student.backbone.maps(dense.resized(images, (16 * grid, 16 * grid)))[3].flatten(2).transpose(1, 2)
        torch.testing.assert_close(tokens, student.fusion.branches[index].translate(seen), rtol=0, atol=1e-5)


@torch.no_grad()
def test_images_of_the_teachers_size_are_seen_once():
    student = tiny()
    passes = []
    student.backbone.vit.patch_embed.register_forward_hook(lambda *_: passes.append(1))
    taps = student.encode(torch.rand(1, 3, 48, 48))
    assert len(passes) == 1
    assert torch.equal(taps.grid_tokens, taps.last.flatten(2).transpose(1, 2))
    student.encode(torch.rand(1, 3, 48, 64))
    assert len(passes) == 3


def test_a_student_that_does_not_fuse_translates_while_it_learns_only():
    student = tiny(fuse=False).train()
    images = torch.rand(1, 3, 64, 64)
    taps = student.encode(images)
    assert {name: tuple(tokens.shape) for name, tokens in student.translated(taps).items()} == {
        "dino": (1, 16, 40),
        "clip": (1, 9, 56),
    }
    with torch.no_grad():
        student.eval()
        assert student.encode(images).grid_tokens.shape[1] == 0
        assert torch.equal(student(images), plain(student)(images))


def test_the_distillation_reaches_encoder_and_translators_alone():
    student = tiny().train()
    taps = student.encode(torch.rand(1, 3, 64, 64))
    sum(tokens.square().mean() for tokens in student.translated(taps).values()).backward()
    reached = {name for name, parameter in student.named_parameters() if parameter.grad is not None}
    assert not [name for name in reached if name.startswith("head.") or ".back." in name]
    encoder = {f"backbone.{name}" for name, _ in student.backbone.named_parameters()}
    assert encoder <= reached
    assert {name for name, _ in student.named_parameters() if ".translate." in name} <= reached


def test_the_segmentation_reaches_everything_that_trains():
    student = tiny().train()
    images = torch.rand(1, 3, 64, 64)
    (student(images) * torch.randn(1, 5, 64, 64)).mean().backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    student.train_backbone("attention")
    open_ones = {name for name, parameter in student.backbone.named_parameters() if parameter.requires_grad}
    assert open_ones == {name for name, _ in student.backbone.named_parameters() if "attn" in name}
    student.train_backbone("all")
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("align", ALIGNS)
@torch.no_grad()
def test_folding_changes_the_size_alone(name, align):
    student = tiny(name, align=align)
    before = {key: value.clone() for key, value in student.state_dict().items()}
    lean = tiny(name, align=align)
    lean.fusion = mtdf.folded(student.fusion)
    assert [item.folded for item in lean.spec.translators] == [True, True]
    for size in ((64, 64), (60, 100), (126, 31)):
        images = torch.rand(2, 3, *size)
        torch.testing.assert_close(lean(images), student(images), rtol=0, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())
    width = 96
    assert count(student) - count(lean) == sum(
        item.hidden * item.width + item.width + item.width * width + width - item.hidden * width - width
        for item in TINY
    )
    assert count(mtdf.folded(lean.fusion)) == count(lean.fusion)
    with pytest.raises(ValueError, match="folded"):
        lean.translated(lean.encode(torch.rand(1, 3, 64, 64)))


class Accelerated(torch.Tensor):
    """A tensor of a device that knows no float64, as MPS."""

    def double(self):
        raise TypeError("this device has no float64")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_folding_asks_no_device_for_double_precision(monkeypatch):
    fusion = tiny().fusion
    wanted = mtdf.folded(fusion).state_dict()
    for branch in fusion.branches:
        state = {name: value.as_subclass(Accelerated) for name, value in branch.state_dict().items()}
        monkeypatch.setattr(branch, "state_dict", lambda state=state: state)
    found = mtdf.folded(fusion).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())


def test_folding_the_papers_student_saves_what_the_paper_could_have_saved():
    fusion = hollow(translators=PAPER, align="second_pass").fusion.to_empty(device="cpu")
    assert count(fusion) == 3_314_176
    assert count(fusion) - count(mtdf.folded(fusion)) == 1_738_496


def test_what_is_not_fused_is_not_deployed():
    lean = mtdf.folded(tiny(fuse=False).fusion)
    assert lean.spec.translators == ()
    assert not lean.state_dict()


def macs(*, fold=False, **changes) -> float:
    """Multiplications of one image of 518 pixels."""
    student = hollow(**changes)
    if fold:
        student.fusion = mtdf.folded(student.fusion.to_empty(device="cpu")).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        student(torch.empty(1, 3, 518, 518, device="meta"))
    return counter.get_total_flops() / 2


@pytest.mark.slow
def test_the_cost_of_the_fusion_is_the_papers():
    base = macs()
    assert base / 1e9 == pytest.approx(56.8, abs=0.5)
    for align, whole, lean in (("second_pass", 1.16, 1.13), ("pool", 1.05, 1.02)):
        assert macs(translators=PAPER, align=align) / base == pytest.approx(whole, abs=0.01)
        assert macs(translators=PAPER, align=align, fold=True) / base == pytest.approx(lean, abs=0.01)
    assert macs(translators=PAPER, align="second_pass", fuse=False) == base


@torch.no_grad()
def test_split_attention_is_the_same_attention_and_only_for_small_windows():
    for name in NAMES:
        student, split = tiny(name), tiny(name)
        split.backbone.split_attention(64)
        assert not any(block.attn.fused_attn for block in split.backbone.vit.blocks)
        images = torch.rand(1, 3, 64, 64)
        torch.testing.assert_close(split(images), student(images), rtol=0, atol=1e-5)
        student.backbone.split_attention(2048)
        assert all(block.attn.fused_attn for block in student.backbone.vit.blocks)


@pytest.mark.parametrize(
    "change",
    [
        {"taps": (2, 1, 3, 4)},
        {"taps": (-1, 1, 2, 3)},
        {"alpha": 1.2},
        {"alpha": float("nan")},
        {"translators": (TINY[0], TINY[0])},
        {"translators": (TINY[0].model_copy(update={"folded": True}),), "fuse": False},
        {"backbone": catalog.clip_student("tiny-clip").backbone},
        {"head": {"features": 0, "widths": (1, 2, 3, 4)}},
        {"head": {"features": 8, "widths": (1, 2, 3, 10**9)}},
        {"translators": ({"teacher": "", "width": 8},)},
        {"translators": ({"teacher": "a", "width": 8, "grid": 10**6},)},
        {"translators": tuple({"teacher": str(index), "width": 8} for index in range(99))},
        {"align": "magic"},
        {"extra": 1},
    ],
)
def test_a_description_that_contradicts_itself_is_refused(change):
    spec = catalog.dense_student("tiny-student")
    with pytest.raises(ValueError, match="validation error"):
        DenseSpec(**{**{name: getattr(spec, name) for name in DenseSpec.model_fields}, **change})
