"""The student's layers for distillation (RS-MTDF): translators to teachers' features, projections back, token fusion.

The teachers themselves are in `teachers`. A student that does not fuse runs none of these layers outside training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from co2s_cli.models.manifest import DenseSpec, TranslatorSpec


class Translator(nn.Module):
    """Student tokens (B, L, d) → tokens in a teacher's feature space (B, L, teacher's width)."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, hidden)
        self.leave = nn.Linear(hidden, out)

    def forward(self, tokens: Tensor) -> Tensor:
        """The translated tokens, on the same grid."""
        return self.leave(F.relu(self.enter(tokens)))  # type: ignore[no-any-return]


class TeacherBranch(nn.Module):
    """Translator to one teacher's feature space, and projection back to the student's width.

    If folded, the projection is merged into the translator's second matrix.
    """

    def __init__(self, spec: TranslatorSpec, width: int) -> None:
        super().__init__()
        self.translate = Translator(width, spec.hidden, width if spec.folded else spec.width)
        self.back: nn.Module = nn.Identity() if spec.folded else nn.Linear(spec.width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """The predicted teacher tokens, projected to the student's width (B, L, d)."""
        return self.back(self.translate(tokens))  # type: ignore[no-any-return]


class TokenFusion(nn.Module):
    """alpha · last map + (1 - alpha) · mean over the teachers of their branch's output."""

    def __init__(self, spec: DenseSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.width = width
        self.branches = nn.ModuleList(TeacherBranch(translator, width) for translator in spec.translators)

    def forward(self, last: Tensor, grid_tokens: Tensor) -> Tensor:
        """The fused map, of the shape of `last` (B, d, h, w); `grid_tokens` as in `DenseTaps`."""
        size = last.shape[-2:]
        total = self.spec.alpha * last
        share = (1 - self.spec.alpha) / max(1, len(self.branches))
        for translator, branch in zip(self.spec.translators, self.branches, strict=True):
            tokens = self._tokens(translator, last, grid_tokens)
            projected = branch(tokens).transpose(1, 2)
            grid = (translator.grid, translator.grid) if translator.grid else size
            # projection and resize are both affine: projecting first, on fewer tokens, only changes rounding
            enlarged = F.interpolate(projected.unflatten(2, grid), size=size, mode="bilinear", align_corners=True)
            total = total + share * enlarged
        return total

    def translated(self, last: Tensor, grid_tokens: Tensor) -> dict[str, Tensor]:
        """By teacher name: translated tokens (B, L, teacher's width) on that teacher's grid, for the loss."""
        if any(translator.folded for translator in self.spec.translators):
            raise ValueError("the translators are folded: there are no tokens to compare with a teacher's")
        return {
            translator.teacher: branch.get_submodule("translate")(self._tokens(translator, last, grid_tokens))
            for translator, branch in zip(self.spec.translators, self.branches, strict=True)
        }

    def _tokens(self, translator: TranslatorSpec, last: Tensor, grid_tokens: Tensor) -> Tensor:
        """The student's tokens (B, L, d) on the teacher's grid."""
        if translator.grid is None:
            return last.flatten(2).transpose(1, 2)
        if self.spec.align == "pool":
            return F.adaptive_avg_pool2d(last, translator.grid).flatten(2).transpose(1, 2)
        grids = self.spec.grids
        lengths = [grid * grid for grid in grids]
        return torch.split(grid_tokens, lengths, dim=1)[grids.index(translator.grid)]


def folded(fusion: TokenFusion) -> TokenFusion:
    """A copy of `fusion` with the same output, without what only training needs.

    Between a translator's second matrix and the projection there is only a linear resize, so that both matrices become
    one. If the student does not fuse, the translators are dropped.
    """
    spec = fusion.spec
    translators = [item.model_copy(update={"folded": True}) for item in spec.translators] if spec.fuse else []
    lean = TokenFusion(spec.model_copy(update={"translators": tuple(translators)}), fusion.width)
    for branch, old in zip(lean.branches, fusion.branches, strict=False):  # `lean` has none if it does not fuse
        branch.load_state_dict(_merged(old))
    device = next((parameter.device for parameter in fusion.parameters()), None)
    return lean.to(device).train(fusion.training)


def _merged(branch: nn.Module) -> dict[str, Tensor]:
    """Tensors of a branch with its projection merged into its translator; in float64 on the CPU, as MPS has none."""
    state = {name: value.detach().cpu() for name, value in branch.state_dict().items()}
    if "back.weight" in state:
        projection, offset = state.pop("back.weight").double(), state.pop("back.bias").double()
        weight, bias = (f"translate.leave.{part}" for part in ("weight", "bias"))
        state[bias] = (projection @ state[bias].double() + offset).float()
        state[weight] = (projection @ state[weight].double()).float()
    return state
