"""What a student learns from frozen teachers, at work in the student: translators, projections, token fusion (RS-MTDF).

The teachers themselves are not here. Nothing of this file is run by a student that does not fuse.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from co2s_cli.models.manifest import DenseSpec, TranslatorSpec


class Translator(nn.Module):
    """Student tokens (B, L, d) → tokens of a teacher's space (B, L, its width)."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, hidden)
        self.leave = nn.Linear(hidden, out)

    def forward(self, tokens: Tensor) -> Tensor:
        """The translation, on the same grid."""
        return self.leave(F.relu(self.enter(tokens)))  # type: ignore[no-any-return]


class Branch(nn.Module):
    """The way to one teacher's space and back; folded, the way back is part of the translator's second matrix."""

    def __init__(self, spec: TranslatorSpec, width: int) -> None:
        super().__init__()
        self.translate = Translator(width, spec.hidden, width if spec.folded else spec.width)
        self.back: nn.Module = nn.Identity() if spec.folded else nn.Linear(spec.width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """What the teacher would say, in the student's space."""
        return self.back(self.translate(tokens))  # type: ignore[no-any-return]


class TokenFusion(nn.Module):
    """`alpha` of the student's last tap and an equal share of the rest for each teacher."""

    def __init__(self, spec: DenseSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.width = width
        self.branches = nn.ModuleList(Branch(item, width) for item in spec.translators)

    def forward(self, last: Tensor, native: Tensor) -> Tensor:
        """The fused map, of the shape of `last` (B, d, h, w); for `native` see `DenseTaps`."""
        size = last.shape[-2:]
        total = self.spec.alpha * last
        share = (1 - self.spec.alpha) / max(1, len(self.branches))
        for item, branch in zip(self.spec.translators, self.branches, strict=True):
            tokens = self._tokens(item, last, native)
            back = branch(tokens).transpose(1, 2)
            grid = (item.grid, item.grid) if item.grid else size
            # the projection is affine, as the resize is: projecting the few tokens first changes rounding alone
            told = F.interpolate(back.unflatten(2, grid), size=size, mode="bilinear", align_corners=True)
            total = total + share * told
        return total

    def translated(self, last: Tensor, native: Tensor) -> dict[str, Tensor]:
        """Tokens (B, L, width) for each teacher's name, on that teacher's grid: what it is to be compared with."""
        if any(item.folded for item in self.spec.translators):
            raise ValueError("the translators are folded: nothing can be compared with a teacher any more")
        return {
            item.teacher: branch.get_submodule("translate")(self._tokens(item, last, native))
            for item, branch in zip(self.spec.translators, self.branches, strict=True)
        }

    def _tokens(self, item: TranslatorSpec, last: Tensor, native: Tensor) -> Tensor:
        """The student's tokens on a teacher's grid."""
        if item.grid is None:
            return last.flatten(2).transpose(1, 2)
        if self.spec.align == "pool":
            return F.adaptive_avg_pool2d(last, item.grid).flatten(2).transpose(1, 2)
        grids = self.spec.grids
        lengths = [grid * grid for grid in grids]
        return torch.split(native, lengths, dim=1)[grids.index(item.grid)]


def folded(fusion: TokenFusion) -> TokenFusion:
    """An equal fusion without what only training needs; `fusion` is left alone.

    A projection follows its translator's second matrix with nothing but a linear resize between: both become one
    matrix. Where nothing is fused the translators go.
    """
    spec = fusion.spec
    kept = [item.model_copy(update={"folded": True}) for item in spec.translators] if spec.fuse else []
    lean = TokenFusion(spec.model_copy(update={"translators": tuple(kept)}), fusion.width)
    for branch, old in zip(lean.branches, fusion.branches, strict=False):  # none where nothing is fused
        branch.load_state_dict(_merged(old))
    device = next((parameter.device for parameter in fusion.parameters()), None)
    return lean.to(device).train(fusion.training)


def _merged(branch: nn.Module) -> dict[str, Tensor]:
    """Tensors of a branch whose way back is in its translator, computed in double precision, which MPS has not."""
    state = {name: value.detach().cpu() for name, value in branch.state_dict().items()}
    if "back.weight" in state:
        back, shift = state.pop("back.weight").double(), state.pop("back.bias").double()
        weight, bias = (f"translate.leave.{part}" for part in ("weight", "bias"))
        state[bias] = (back @ state[bias].double() + shift).float()
        state[weight] = (back @ state[weight].double()).float()
    return state
