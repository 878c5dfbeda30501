"""Checkpoints in the authors' layout, small and seeded, and a plain reference of what their network computes.

The reference is written from the published formulas, one line after the other, with every `repeat` and concatenation in
place: slow, and independent of the package.
"""

import math

import torch
import torch.nn.functional as F


def shapes(kind: str, *, width: int = 128, layers: int = 6, classes: int = 5, text: int = 64, grid: int = 8):
    """Names and shapes of one student: CLIP's or DINOv3's backbone, then the decoder."""
    out = _clip_shapes(width, layers, text, grid) if kind == "clip" else _dino_shapes(width, layers)
    out |= decoder_shapes(width, text if kind == "clip" else width)
    out["_cached_text" if kind == "clip" else "text_provider.emb.weight"] = (classes, text if kind == "clip" else width)
    return out


def _clip_shapes(width, layers, text, grid):
    out = {
        "backbone.cls_token": (1, 1, width),
        "backbone.pos_embed": (1, grid * grid + 1, width),
        "backbone.patch_embed.projection.weight": (width, 3, 16, 16),
        "backbone.proj.weight": (text, width, 1, 1),
    }
    for name in ("backbone.ln0", "backbone.ln1"):
        out |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for i in range(layers):
        block = f"backbone.layers.{i}"
        out |= {
            f"{block}.attn.attn.in_proj_weight": (3 * width, width),
            f"{block}.attn.attn.in_proj_bias": (3 * width,),
            f"{block}.attn.attn.out_proj.weight": (width, width),
            f"{block}.attn.attn.out_proj.bias": (width,),
            f"{block}.ffn.layers.0.0.weight": (4 * width, width),
            f"{block}.ffn.layers.0.0.bias": (4 * width,),
            f"{block}.ffn.layers.1.weight": (width, 4 * width),
            f"{block}.ffn.layers.1.bias": (width,),
        }
        for norm in ("ln1", "ln2"):
            out |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
    return out


def _dino_shapes(width, layers):
    out = {
        "backbone.cls_token": (1, 1, width),
        "backbone.mask_token": (1, width),
        "backbone.storage_tokens": (1, 4, width),
        "backbone.patch_embed.proj.weight": (width, 3, 16, 16),
        "backbone.patch_embed.proj.bias": (width,),
        "backbone.rope_embed.periods": (16,),
        "backbone.norm.weight": (width,),
        "backbone.norm.bias": (width,),
    }
    for i in range(layers):
        block = f"backbone.blocks.{i}"
        out |= {
            f"{block}.attn.qkv.weight": (3 * width, width),
            f"{block}.attn.qkv.bias": (3 * width,),
            f"{block}.attn.qkv.bias_mask": (3 * width,),
            f"{block}.attn.proj.weight": (width, width),
            f"{block}.attn.proj.bias": (width,),
            f"{block}.ls1.gamma": (width,),
            f"{block}.ls2.gamma": (width,),
            f"{block}.mlp.fc1.weight": (4 * width, width),
            f"{block}.mlp.fc1.bias": (4 * width,),
            f"{block}.mlp.fc2.weight": (width, 4 * width),
            f"{block}.mlp.fc2.bias": (width,),
        }
        for norm in ("norm1", "norm2"):
            out |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
    return out


def decoder_shapes(skip, guidance, width=32, skips=(16, 8), ups=(24, 16)):
    head = "decode_head"
    out = {
        f"{head}.conv1.weight": (width, 1, 7, 7),
        f"{head}.conv1.bias": (width,),
        f"{head}.aspp.project.0.weight": (width, 5 * width, 1, 1),
        f"{head}.aspp.project.1.weight": (width,),
        f"{head}.aspp.project.1.bias": (width,),
        f"{head}.aspp.aspp_convs.4.gap.1.weight": (width, width, 1, 1),
        f"{head}.aspp.aspp_convs.4.gap.2.weight": (width,),
        f"{head}.aspp.aspp_convs.4.gap.2.bias": (width,),
        f"{head}.text_proj.0.weight": (width, guidance),
        f"{head}.text_proj.0.bias": (width,),
        f"{head}.head.weight": (1, ups[1], 3, 3),
        f"{head}.head.bias": (1,),
    }
    for i, kernel in enumerate((1, 3, 3, 3)):
        conv = f"{head}.aspp.aspp_convs.{i}"
        out |= {
            f"{conv}.0.weight": (width, width, kernel, kernel),
            f"{conv}.1.weight": (width,),
            f"{conv}.1.bias": (width,),
        }
    both = 2 * width
    for i in range(2):
        layer = f"{head}.layers.{i}.transformer"
        out |= {
            f"{layer}.attn.attn.in_proj_weight": (3 * both, both),
            f"{layer}.attn.attn.in_proj_bias": (3 * both,),
            f"{layer}.attn.attn.out_proj.weight": (both, both),
            f"{layer}.attn.attn.out_proj.bias": (both,),
            f"{layer}.ffn.layers.0.0.weight": (2 * both, both),
            f"{layer}.ffn.layers.0.0.bias": (2 * both,),
            f"{layer}.ffn.layers.1.weight": (both, 2 * both),
            f"{layer}.ffn.layers.1.bias": (both,),
        }
        for norm in ("ln1", "ln2"):
            out |= {f"{layer}.{norm}.weight": (both,), f"{layer}.{norm}.bias": (both,)}
    for name, into, outof, kept in (("up1", width, ups[0], skips[0]), ("up2", ups[0], ups[1], skips[1])):
        out |= {
            f"{head}.{name}.up.weight": (into, into - kept, 2, 2),
            f"{head}.{name}.up.bias": (into - kept,),
            f"{head}.{name}.conv.0.weight": (outof, into, 3, 3),
            f"{head}.{name}.conv.3.weight": (outof, outof, 3, 3),
        }
        for norm in ("1", "4"):
            out |= {f"{head}.{name}.conv.{norm}.weight": (outof,), f"{head}.{name}.conv.{norm}.bias": (outof,)}
    for i in range(2):
        out |= {f"{head}.skip_proj.{i}.0.weight": (skips[i], skip, 3, 3), f"{head}.skip_proj.{i}.0.bias": (skips[i],)}
    return out


def tensors(kind: str, seed: int, **sizes):
    """Seeded numbers of sensible scale for every name."""
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, shape in sorted(shapes(kind, **sizes).items()):
        noise = torch.randn(shape, generator=generator)
        if name.endswith("bias_mask"):
            third = shape[0] // 3
            noise = torch.cat([torch.ones(third), torch.zeros(third), torch.ones(third)])
        elif name.endswith("periods"):
            noise = (100.0 ** (torch.arange(shape[0]) / shape[0])).bfloat16()
        elif name.endswith("gamma"):
            noise = 0.5 + 0.1 * noise
        elif len(shape) == 1:
            noise = 1 + 0.1 * noise if name.endswith("weight") else 0.1 * noise
        elif "token" in name or "pos_embed" in name:
            noise = 0.2 * noise
        else:
            noise = noise / math.sqrt(math.prod(shape[1:]))
        out[name] = noise
    return out


def save(path, kind: str, seed: int = 0, *, change=None, **sizes):
    """A file as `torch.save` of the authors' training script leaves it; `change` may edit the tensors first."""
    content = tensors(kind, seed, **sizes)
    if change:
        change(content)
    model = {f"module.{name}": value for name, value in content.items()}
    torch.save({"model": model, "optimizer": {}, "epoch": 3, "previous_best": 61.1}, path)
    return content


def logits(kind: str, t, image):
    """Logits for a normalised image (B, 3, S, S), S a multiple of 64."""
    shallow, deep, semantic = _clip_maps(t, image) if kind == "clip" else _dino_maps(t, image)
    words = t["_cached_text"] if kind == "clip" else t["text_provider.emb.weight"]
    out = decode(t, shallow, deep, semantic, words.float())
    return F.interpolate(out, size=image.shape[-2:], mode="bilinear", align_corners=False)


def _norm(t, name, x, eps):
    return F.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], eps)


def _linear(t, name, x):
    return F.linear(x, t[f"{name}.weight"], t[f"{name}.bias"])


def _attend(q, k, v, heads):
    b, length, width = q.shape
    q, k, v = (x.reshape(b, -1, heads, width // heads).transpose(1, 2) for x in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / math.sqrt(width // heads)).softmax(-1)
    return (weights @ v).transpose(1, 2).reshape(b, length, width)


def _clip_maps(t, image):
    x = F.conv2d(image, t["backbone.patch_embed.projection.weight"], stride=16)
    b, width, g, _ = x.shape
    x = torch.cat([t["backbone.cls_token"].repeat(b, 1, 1), x.flatten(2).transpose(1, 2)], 1)
    side = math.isqrt(t["backbone.pos_embed"].shape[1] - 1)
    grid = t["backbone.pos_embed"][:, 1:].transpose(1, 2).reshape(1, width, side, side)
    grid = F.interpolate(grid, size=(g, g), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    x = _norm(t, "backbone.ln0", x + torch.cat([t["backbone.pos_embed"][:, :1], grid], 1), 1e-6)
    layers = sum(name.endswith("in_proj_bias") and name.startswith("backbone") for name in t)
    values = []
    for i in range(layers):
        name = f"backbone.layers.{i}"
        y = _norm(t, f"{name}.ln1", x, 1e-6)
        q, k, v = F.linear(y, t[f"{name}.attn.attn.in_proj_weight"], t[f"{name}.attn.attn.in_proj_bias"]).chunk(3, -1)

        def rest(mixed, name=name, x=x):
            a = x + _linear(t, f"{name}.attn.attn.out_proj", mixed)
            hidden = F.gelu(_linear(t, f"{name}.ffn.layers.0.0", _norm(t, f"{name}.ln2", a, 1e-6)))
            return a + _linear(t, f"{name}.ffn.layers.1", hidden)

        values.append(rest(v))
        x = rest(_attend(q, k, v, width // 64))
    last = _norm(t, "backbone.ln1", values[-1], 1e-6) @ t["backbone.proj.weight"][:, :, 0, 0].T
    maps = (values[0], values[4], F.normalize(last, dim=-1))
    return [m[:, 1:].transpose(1, 2).reshape(b, -1, g, g) for m in maps]


def _dino_maps(t, image):
    x = F.conv2d(image, t["backbone.patch_embed.proj.weight"], t["backbone.patch_embed.proj.bias"], stride=16)
    b, width, g, _ = x.shape
    prefix = [t["backbone.cls_token"].repeat(b, 1, 1), t["backbone.storage_tokens"].repeat(b, 1, 1)]
    x = torch.cat([*prefix, x.flatten(2).transpose(1, 2)], 1)
    half = torch.bfloat16
    axis = 2.0 * (torch.arange(0.5, g, dtype=half) / g) - 1.0
    coords = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    angles = (2 * math.pi * coords[:, :, None] / t["backbone.rope_embed.periods"]).flatten(1)
    sin, cos = angles.tile(2).sin(), angles.tile(2).cos()
    layers = sum(name.endswith("qkv.weight") for name in t)
    outs = []
    for i in range(layers):
        name = f"backbone.blocks.{i}"
        bias = t[f"{name}.attn.qkv.bias"] * t[f"{name}.attn.qkv.bias_mask"]
        qkv = F.linear(_norm(t, f"{name}.norm1", x, 1e-6), t[f"{name}.attn.qkv.weight"], bias)
        q, k, v = qkv.chunk(3, -1)
        q, k = (_rotate(y, sin, cos, width // 64) for y in (q, k))
        x = x + t[f"{name}.ls1.gamma"] * _linear(t, f"{name}.attn.proj", _attend(q, k, v, width // 64))
        hidden = F.gelu(_linear(t, f"{name}.mlp.fc1", _norm(t, f"{name}.norm2", x, 1e-6)))
        x = x + t[f"{name}.ls2.gamma"] * _linear(t, f"{name}.mlp.fc2", hidden)
        outs.append(_norm(t, "backbone.norm", x, 1e-6))
    return [outs[i][:, 5:].transpose(1, 2).reshape(b, width, g, g) for i in (2, 7, layers - 1)]


def _rotate(y, sin, cos, heads):
    b, length, width = y.shape
    heads_first = y.reshape(b, length, heads, -1).transpose(1, 2)
    patches = heads_first[:, :, 5:].bfloat16()
    first, second = patches.chunk(2, -1)
    patches = patches * cos + torch.cat([-second, first], -1) * sin
    out = torch.cat([heads_first[:, :, :5], patches.float()], 2)
    return out.transpose(1, 2).reshape(b, length, width)


def _group(t, name, x):
    return F.group_norm(x, max(x.shape[1] // 16, 1), t[f"{name}.weight"], t[f"{name}.bias"])


def decode(t, shallow, deep, semantic, words):
    t = {name.removeprefix("decode_head."): value for name, value in t.items() if name.startswith("decode_head.")}
    b, n, g = len(semantic), len(words), semantic.shape[-1]
    words = F.normalize(words, dim=-1)
    x = torch.einsum("bchw,nc->bnhw", F.normalize(semantic, dim=1), words).reshape(b * n, 1, g, g)
    x = F.conv2d(x, t["conv1.weight"], t["conv1.bias"], padding=3)
    branches = []
    for i, dilation in enumerate((1, 6, 12, 18)):
        pad = 0 if i == 0 else dilation
        y = F.conv2d(x, t[f"aspp.aspp_convs.{i}.0.weight"], padding=pad, dilation=dilation)
        branches.append(F.relu(_group(t, f"aspp.aspp_convs.{i}.1", y)))
    y = F.conv2d(F.adaptive_avg_pool2d(x, 1), t["aspp.aspp_convs.4.gap.1.weight"])
    y = F.relu(_group(t, "aspp.aspp_convs.4.gap.2", y))
    branches.append(F.interpolate(y, size=(g, g), mode="bilinear", align_corners=True))
    y = F.conv2d(torch.cat(branches, 1), t["aspp.project.0.weight"])
    x = x + F.relu(_group(t, "aspp.project.1", y))
    spoken = F.relu(_linear(t, "text_proj.0", words))
    for i in range(2):
        x = x + _mix(t, f"layers.{i}.transformer", x, spoken, b)
    deep = F.relu(F.conv2d(deep, t["skip_proj.0.0.weight"], t["skip_proj.0.0.bias"], padding=1))
    shallow = F.relu(F.conv2d(shallow, t["skip_proj.1.0.weight"], t["skip_proj.1.0.bias"], padding=1))
    for name, skip in (("up1", deep), ("up2", shallow)):
        x = F.conv_transpose2d(x, t[f"{name}.up.weight"], t[f"{name}.up.bias"], stride=2)
        resized = F.interpolate(skip, size=x.shape[-2:], mode="bilinear", align_corners=True)
        x = torch.cat([x, resized.repeat_interleave(n, dim=0)], 1)
        for conv, norm in (("0", "1"), ("3", "4")):
            x = F.conv2d(x, t[f"{name}.conv.{conv}.weight"], padding=1)
            x = F.relu(_group(t, f"{name}.conv.{norm}", x))
    x = F.conv2d(x, t["head.weight"], t["head.bias"], padding=1)
    return x.reshape(b, n, 4 * g, 4 * g)


def _mix(t, name, x, spoken, b):
    n, width = len(spoken), x.shape[1]
    pooled = F.avg_pool2d(x, 4)
    side = pooled.shape[-1]
    tokens = pooled.reshape(b, n, width, side, side).permute(0, 3, 4, 1, 2).reshape(-1, n, width)
    tokens = torch.cat([tokens, spoken.repeat(len(tokens), 1, 1)], -1)
    y = _norm(t, f"{name}.ln1", tokens, 1e-5)
    q, k, v = F.linear(y, t[f"{name}.attn.attn.in_proj_weight"], t[f"{name}.attn.attn.in_proj_bias"]).chunk(3, -1)
    tokens = tokens + _linear(t, f"{name}.attn.attn.out_proj", _attend(q, k, v, 4))
    hidden = F.gelu(_linear(t, f"{name}.ffn.layers.0.0", _norm(t, f"{name}.ln2", tokens, 1e-5)))
    tokens = (tokens + _linear(t, f"{name}.ffn.layers.1", hidden))[..., :width]
    pooled = tokens.reshape(b, side, side, n, width).permute(0, 3, 4, 1, 2).reshape(b * n, width, side, side)
    return F.interpolate(pooled, size=x.shape[-2:], mode="bilinear", align_corners=True)
