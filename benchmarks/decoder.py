"""The guided decoder against a plain reading of the published one: same weights, same taps, same logits, time ratio.

The plain decoder repeats the skips for every class and convolves the concatenation; ours convolves them once per image.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support import published as plain

from co2s_cli.models.decoder import GuidedDecoder
from co2s_cli.models.manifest import DecoderSpec
from co2s_cli.models.published import decoder_tensors
from co2s_cli.models.taps import Taps

ROUNDS = 7
SKIP, GUIDANCE = 768, 512


def seconds(run: Callable[[], object]) -> float:
    """One call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


@torch.no_grad()
def compare(classes: int, grid: int) -> tuple[float, float, float]:
    """Median seconds of the plain decoder and of ours, and the largest difference of their logits."""
    torch.manual_seed(0)
    shapes = plain.decoder_shapes(SKIP, GUIDANCE, width=128, skips=(32, 16), ups=(64, 32))
    tensors = {name: torch.randn(shape) * 0.05 for name, shape in shapes.items()}
    decoder = GuidedDecoder(DecoderSpec(), skip_width=SKIP, guidance_width=GUIDANCE).eval()
    decoder.load_state_dict(decoder_tensors(tensors))
    taps = Taps(*(torch.randn(1, width, grid, grid) for width in (SKIP, SKIP, GUIDANCE)))
    words = torch.randn(classes, GUIDANCE)
    difference = (plain.decode(tensors, *taps, words) - decoder(taps, words)).abs().max().item()
    before, after = [], []
    for _ in range(ROUNDS):  # in turns, so that a busy moment meets both
        before.append(seconds(lambda: plain.decode(tensors, *taps, words)))
        after.append(seconds(lambda: decoder(taps, words)))
    return statistics.median(before), statistics.median(after), difference


def main() -> None:
    """Print one line per case."""
    print("classes  grid   plain ms   ours ms   ratio   max |difference|")
    for grid in (16, 32):
        for classes in (6, 15):
            before, after, difference = compare(classes, grid)
            times = f"{before * 1e3:10.1f} {after * 1e3:9.1f} {before / after:7.2f}"
            print(f"{classes:7d} {grid:5d} {times}   {difference:.1e}")


if __name__ == "__main__":
    main()
