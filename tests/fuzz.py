"""Small valid inputs, mutated, through the real command line: `make fuzz`, or `python tests/fuzz.py --cases 2000`.

A case is a number: it chooses one file, one command that reads it, and how the file is damaged. The command must end
with one of our exit codes, within its limits of time and memory, without a traceback, with one `error:` line where it
fails, and must leave every other file as it was. Where it succeeds although its own state was damaged, its outputs are
those of the undamaged run, or it names the damaged file.
"""

from __future__ import annotations

import argparse
import hashlib
import queue
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from support import forked, mutate, small

CODES = {0, 2, 3, 4, 5, 6, 7}
SECONDS = 60
MEMORY = 3_000_000_000

MAP = ["predict", "scene.tif", "-m", "model.safetensors", "-o", "out/map.tif"]
ROUND = ["pseudo-label", "scene.tif", "-m", "model.safetensors", "-o", "round", "--threshold", "0.3"]
TRAIN = [*small.BEGIN, "--out", "out/run"]
IMPORTED = "out/imported.safetensors"
JUDGE = ["evaluate", "map.tif", "labels.tif", "--classes", "data.yaml"]


@dataclass(frozen=True)
class Subject:
    """A file to be damaged, and the commands that read it."""

    file: str
    mutators: tuple[mutate.Mutator, ...]
    commands: tuple[list[str], ...]
    ours: bool = False
    """Whether it is state that a command wrote for itself: damage may cost time, never change the outputs."""


def _with(command: list[str], old: str, new: str) -> list[str]:
    return [new if word == old else word for word in command]


def _table(file: str, mutators: tuple[mutate.Mutator, ...]) -> Subject:
    return Subject(file, mutators, (_with(JUDGE, "labels.tif", file), [*MAP, "--aoi", file]))


SUBJECTS = (
    Subject("scene.tif", mutate.RASTER, (["info", "scene.tif"], MAP, [*MAP, "--scale", "auto"], ROUND)),
    Subject("labels.tif", mutate.RASTER, (JUDGE, TRAIN)),
    Subject("map.tif", mutate.RASTER, (JUDGE, ["vectorize", "map.tif", "-o", "out/map.gpkg", "--workers", "1"])),
    Subject("scene.vrt", mutate.TEXT, (["info", "scene.vrt"], _with(MAP, "scene.tif", "scene.vrt"))),
    Subject("data.yaml", mutate.TEXT, (TRAIN, JUDGE)),
    Subject("predict.yaml", mutate.TEXT, ([*MAP, "--config", "predict.yaml"],)),
    Subject("model.safetensors", mutate.MODEL, (["info", "model.safetensors"], MAP, ROUND)),
    Subject("best_clip.pth", mutate.BYTES, (["import", "best_clip.pth", "--dataset", "loveda", "-o", IMPORTED],)),
    _table("truth.gpkg", mutate.BYTES),
    _table("truth.geojson", mutate.TEXT),
    _table("truth.parquet", mutate.BYTES),
    Subject("begun.tif.parts/journal.json", mutate.TEXT, (small.RESUME_MAP,), ours=True),
    Subject("begun.tif.parts/0-0-16x96.class.tif", mutate.RASTER, (small.RESUME_MAP,), ours=True),
    Subject("run/state.pt", mutate.BYTES, (small.RESUME_RUN,), ours=True),
    Subject("run/config.yaml", mutate.TEXT, (small.RESUME_RUN,), ours=True),
    Subject("round/confidence/scene.tif", mutate.RASTER, ([*ROUND, "--overwrite"],), ours=True),
)
OUTPUTS = ("out", "begun.tif", "begun.tif.parts", "run", "round")
"""What commands may write, in the folder of a case."""
RESULTS = ("out", "begun.tif", "run/last.safetensors", "round/labels", "round/mask", "round/weights")
"""Of these, what must be the same where only state was damaged."""


def build(folder: Path) -> None:
    """All inputs, and what commands have left of a run and a round that are to go on."""
    forked.call(small.build, folder)
    (folder / "out").mkdir()
    for command in ([*small.BEGIN, "--out", "run", "--stop-after", "1"], ROUND):
        ended = forked.run(command, folder)
        assert ended.code == 0, ended.stderr


class Fuzzer:
    """Runs cases in as many folders as run at once; state names the folder in which it was begun."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self._slots: queue.Queue[_Slot] = queue.Queue()
        for number in range(jobs):
            self._slots.put(_Slot(folder / f"{number}"))

    def case(self, number: int) -> tuple[str, forked.Outcome, list[str]]:
        """Run case `number`: its name, how it ended, and what is wrong with that."""
        slot = self._slots.get()
        try:
            return slot.case(number)
        finally:
            self._slots.put(slot)


class _Slot:
    """A folder in which one case runs after the other, each on fresh inputs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fresh = folder.with_name(f"{folder.name}.fresh")
        self._clean: dict[tuple[str, ...], dict[str, str]] = {}
        folder.mkdir()
        build(folder)
        shutil.copytree(folder, self._fresh)

    def case(self, number: int) -> tuple[str, forked.Outcome, list[str]]:
        """Run case `number`."""
        rng, folder = random.Random(number), self._folder
        subject = SUBJECTS[number % len(SUBJECTS)]
        mutator, command = rng.choice(subject.mutators), rng.choice(subject.commands)
        clean = self._clean_results(command) if subject.ours else {}
        self._refresh()
        path = folder / subject.file
        path.write_bytes(mutator(path.read_bytes(), rng))
        before = _digests(folder)
        outcome = forked.run(command, folder, memory=MEMORY, seconds=SECONDS)
        problems = complaints(outcome)
        after = _digests(folder)
        problems += [f"changed {file}" for file in before if before[file] != after.get(file)]
        told = Path(subject.file).parts[0] in outcome.stderr
        if subject.ours and outcome.code == 0 and not told and _results(folder) != clean:
            problems.append("another result, and nothing is said of it")
        return f"{number}: {subject.file} {mutator.__name__}, {' '.join(command)}", outcome, problems

    def _refresh(self) -> None:
        shutil.rmtree(self._folder)
        shutil.copytree(self._fresh, self._folder)

    def _clean_results(self, command: list[str]) -> dict[str, str]:
        """What a command makes of undamaged state."""
        if tuple(command) not in self._clean:
            self._refresh()
            outcome = forked.run(command, self._folder)
            assert outcome.code == 0, (command, outcome.stderr)
            self._clean[tuple(command)] = _results(self._folder)
        return self._clean[tuple(command)]


def complaints(outcome: forked.Outcome) -> list[str]:
    """What is wrong with how a command ended."""
    problems = []
    if outcome.code not in CODES:
        problems.append("killed at its time limit" if outcome.code is None else f"exit code {outcome.code}")
    if "Traceback" in outcome.stderr:
        problems.append(f"traceback: {outcome.stderr.strip().splitlines()[-1][:200]}")
    errors = len(re.findall(r"^error: ", outcome.stderr, re.MULTILINE))
    if outcome.code in CODES and errors != (outcome.code != 0):
        problems.append(f"{errors} error lines with exit code {outcome.code}")
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", outcome.stderr):
        problems.append("control characters")
    if re.search(r"^(ERROR|Warning) \d+:", outcome.stderr, re.MULTILINE):
        problems.append("a line of GDAL's own")
    return problems


def _digests(folder: Path) -> dict[str, str]:
    """Digest of every file that no command may change."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in OUTPUTS
    }


def _results(folder: Path) -> dict[str, str]:
    files = [
        path for name in RESULTS for path in sorted([folder / name, *(folder / name).rglob("*")]) if path.is_file()
    ]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(fuzzer: Fuzzer, numbers: range, jobs: int) -> Iterator[tuple[str, forked.Outcome, list[str]]]:
    """Every case, as it ends."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(fuzzer.case, numbers)


def main() -> None:
    """Run cases, print those that are lost, and how many ended in which way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    codes: Counter[object] = Counter()
    lost = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder), arguments.jobs)
        for name, outcome, problems in run(
            fuzzer, range(arguments.first, arguments.first + arguments.cases), arguments.jobs
        ):
            codes[outcome.code] += 1
            if problems:
                lost += 1
                print(f"{name}\n  {'; '.join(problems)}\n  {outcome.stderr.strip()[-600:]}", flush=True)
            if codes.total() % 10 == 0:
                print(f"{codes.total()} tried after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    ended = ", ".join(f"{count} with {code}" for code, count in sorted(codes.items(), key=str))
    print(f"{arguments.cases} tried, {arguments.cases - lost} survived, {lost} lost; exit codes: {ended}")
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
