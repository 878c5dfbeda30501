"""What only shows after a while: `make soak`, or `python tests/soak.py --scenes 200 --kills 30`.

Many small scenes in one process: its resident memory and its open files stay where they were. Commands that are killed
at random moments, again and again, and then run once more: their outputs are the bytes of a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from support import forked, small

GROWTH = 30_000_000
"""Bytes of resident memory by which the second half of the scenes may exceed the first: allocators keep some."""

TEACH = ["distill", "data.yaml", "--teacher", "pair.safetensors", *small.STUDENT, *small.SET, "--steps", "3"]
KILLED = {
    "predict": (
        ["predict", "wide.tif", "-m", "model.safetensors", "-o", "out.tif", "--confidence", "sure.tif", "--resume"],
        ("out.tif", "sure.tif"),
    ),
    "vectorize": (["vectorize", "map.tif", "-o", "out.fgb", "--workers", "1", "--overwrite"], ("out.fgb",)),
    "pseudo-label": (
        ["pseudo-label", "wide.tif", "-m", "model.safetensors", "-o", "round", "--threshold", "0.3", "--resume"],
        ("round/candidates", "round/confidence", "round/labels", "round/weights"),
    ),
    "train": ([*small.BEGIN, "--out", "run"], ("run/last.safetensors",)),
    "distill": ([*TEACH, "--out", "taught"], ("taught/last.safetensors",)),
}  # fmt: skip
"""Command, and the outputs that are the same bytes each time."""


def build(folder: Path) -> None:
    """The inputs, and a scene of some hundred windows."""
    forked.call(small.build, folder)
    forked.call(small.widen, folder)


def many_scenes(folder: str, count: int) -> None:
    """Predict the same scene `count` times in this process; its memory and its open files by scene go to a file."""
    from typer.testing import CliRunner

    from co2s_cli.cli import app

    os.chdir(folder)
    seen = []
    for number in range(count):
        words = ["-q", "predict", "scene.tif", "-m", "model.safetensors", "-o", f"many/{number}.tif"]
        assert CliRunner().invoke(app, words).exit_code == 0
        seen.append((forked.status("VmRSS"), len(os.listdir("/proc/self/fd"))))
    Path("many.json").write_text(json.dumps(seen))


def flat(folder: Path, count: int) -> str:
    """Run `many_scenes` and check what it took."""
    (folder / "many").mkdir()
    forked.call(many_scenes, str(folder), count)
    memory, files = zip(*json.loads((folder / "many.json").read_text()), strict=True)
    half = count // 2
    grown = max(memory[half:]) - max(memory[:half])
    told = f"{count} scenes in one process: resident memory grew by {grown / 1e6:.1f} MB in the second half"
    assert grown <= GROWTH, told
    assert max(files[half:]) <= max(files[:half]), files
    return f"{told}, open files {files[0]} to {files[-1]}"


def killed(name: str, folder: Path, kills: int, rng: random.Random) -> str:
    """Kill a command `kills` times at random moments, run it to its end, and compare with a run without kills."""
    command, outputs = KILLED[name]
    fresh = set(folder.rglob("*"))
    began = time.monotonic()
    whole = forked.run(command, folder)
    assert whole.code == 0, whole.stderr
    took, wanted = time.monotonic() - began, _digests(folder, outputs)
    _clear(folder, fresh)
    for _ in range(kills):
        forked.run(_again(command, folder), folder, watch=lambda pid: _kill_after(pid, rng.uniform(0.05, took)))
    ended = forked.run(_again(command, folder), folder)
    assert ended.code == 0, f"{name} after {kills} kills: {ended.stderr}"
    assert _digests(folder, outputs) == wanted, f"{name} after {kills} kills: other bytes"
    left = [
        path.name
        for path in set(folder.rglob("*")) - fresh
        if path.name.startswith(".co2s.") or path.suffix == ".parts"
    ]
    assert not left, f"{name} after {kills} kills: {left} is left"
    _clear(folder, fresh)
    return f"{name}: killed {kills} times within {took:.1f} s, then whole and the same bytes"


def _again(command: list[str], folder: Path) -> list[str]:
    """The same command; training goes on where its folder holds a run."""
    out = folder / command[-1]
    if command[0] not in ("train", "distill") or not (out / "config.yaml").exists():
        return command
    if not (out / "state.pt").exists():
        return [*command, "--overwrite"]
    return [command[0], "--out", command[-1], "--resume"]


def _kill_after(pid: int, seconds: float) -> None:
    time.sleep(seconds)
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has ended


def _digests(folder: Path, outputs: tuple[str, ...]) -> dict[str, str]:
    files = [
        path for name in outputs for path in sorted([folder / name, *(folder / name).glob("*.tif")]) if path.is_file()
    ]
    assert files, outputs
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _clear(folder: Path, fresh: set[Path]) -> None:
    """Remove all that commands have made."""
    for path in sorted(set(folder.rglob("*")) - fresh, reverse=True):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> None:
    """Run all of it; the first loss ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--kills", type=int, default=30, help="over all commands")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        for command in KILLED:
            print(killed(command, folder, -(-arguments.kills // len(KILLED)), rng), flush=True)
        print(flat(folder, arguments.scenes), flush=True)


if __name__ == "__main__":
    main()
