"""State dicts of timm and open_clip under the names that Hugging Face transformers saves the same networks with."""

import torch

Tensors = dict[str, torch.Tensor]


def dinov2(state: Tensors) -> Tensors:
    """A timm DINOv2 as `Dinov2Model.save_pretrained` writes it."""
    written = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.mask_token": torch.zeros(1, state["cls_token"].shape[-1]),
        "embeddings.position_embeddings": state["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    for index in range(_depth(state)):
        ours, theirs = f"blocks.{index}.", f"encoder.layer.{index}."
        for kind in ("weight", "bias"):
            parts = state[f"{ours}attn.qkv.{kind}"].chunk(3)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                written[f"{theirs}attention.attention.{name}.{kind}"] = part
            written[f"{theirs}attention.output.dense.{kind}"] = state[f"{ours}attn.proj.{kind}"]
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                written[f"{theirs}{name}.{kind}"] = state[f"{ours}{name}.{kind}"]
        for number in "12":
            written[f"{theirs}layer_scale{number}.lambda1"] = state[f"{ours}ls{number}.gamma"]
    return _own_memory(written)


def dinov3(state: Tensors) -> Tensors:
    """A timm DINOv3 (qkvb) as `DINOv3ViTModel.save_pretrained` writes it."""
    written = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.mask_token": torch.zeros(1, 1, state["cls_token"].shape[-1]),
        "embeddings.register_tokens": state["reg_token"],
        "embeddings.patch_embeddings.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.bias": state["patch_embed.proj.bias"],
        "norm.weight": state["norm.weight"],
        "norm.bias": state["norm.bias"],
    }
    for index in range(_depth(state)):
        ours, theirs = f"blocks.{index}.", f"layer.{index}."
        for name, part in zip("qkv", state[f"{ours}attn.qkv.weight"].chunk(3), strict=True):
            written[f"{theirs}attention.{name}_proj.weight"] = part
        for name in "qv":
            written[f"{theirs}attention.{name}_proj.bias"] = state[f"{ours}attn.{name}_bias"]
        names = {"attn.proj": "attention.o_proj", "norm1": "norm1", "norm2": "norm2"}
        names |= {"mlp.fc1": "mlp.up_proj", "mlp.fc2": "mlp.down_proj"}
        for kind in ("weight", "bias"):
            for own, other in names.items():
                written[f"{theirs}{other}.{kind}"] = state[f"{ours}{own}.{kind}"]
        for number in "12":
            written[f"{theirs}layer_scale{number}.lambda1"] = state[f"{ours}gamma_{number}"]
    return _own_memory(written)


def clip(state: Tensors) -> Tensors:
    """An open_clip CLIP as `CLIPModel.save_pretrained` writes it."""
    written = {
        "logit_scale": state["logit_scale"],
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "visual_projection.weight": state["visual.proj"].T,
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_projection.weight": state["text_projection"].T,
    }
    norms = {"visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm"}
    for own, other in (norms | {"ln_final": "text_model.final_layer_norm"}).items():
        for kind in ("weight", "bias"):
            written[f"{other}.{kind}"] = state[f"{own}.{kind}"]
    for tower, model in (("visual.transformer", "vision_model"), ("transformer", "text_model")):
        for index in range(_depth(state, f"{tower}.resblocks")):
            ours, theirs = f"{tower}.resblocks.{index}.", f"{model}.encoder.layers.{index}."
            for kind in ("weight", "bias"):
                for name, part in zip("qkv", state[f"{ours}attn.in_proj_{kind}"].chunk(3), strict=True):
                    written[f"{theirs}self_attn.{name}_proj.{kind}"] = part
                written[f"{theirs}self_attn.out_proj.{kind}"] = state[f"{ours}attn.out_proj.{kind}"]
                names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
                for own, other in names.items():
                    written[f"{theirs}{other}.{kind}"] = state[f"{ours}{own}.{kind}"]
    return _own_memory(written)


def _depth(state: Tensors, blocks: str = "blocks") -> int:
    start = f"{blocks}."
    return 1 + max(int(name.removeprefix(start).split(".")[0]) for name in state if name.startswith(start))


def _own_memory(state: Tensors) -> Tensors:
    """safetensors refuses tensors that share memory."""
    return {name: value.detach().clone().contiguous() for name, value in state.items()}
