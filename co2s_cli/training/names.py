"""Names of the files in the folder of a run. Loads no torch: a command is checked against them before."""

from pathlib import Path

from co2s_cli.errors import OutputError
from co2s_cli.students import STUDENT_NAMES

EMA = "ema-"
"""What names of files and of scores begin with where they belong to the running mean of the weights."""

CONFIG, STATE = "config.yaml", "state.pt"
METRICS, TIMING = "metrics.jsonl", "timing.jsonl"
BEST, LAST, FINAL = "best.safetensors", "last.safetensors", "final.safetensors"
REPORT = ("report.json", "report.md", "curves.png", "confusion.png")


def best_of(student: str) -> str:
    """The model file with the best validation of one student."""
    return f"best-{student}.safetensors"


def counts_of(model_file: str) -> str:
    """The file with what was counted when a best model file was validated."""
    return f"{model_file.removesuffix('.safetensors')}.json"


_BEST_FILES = tuple(prefix + name for prefix in ("", EMA) for name in (BEST, *map(best_of, STUDENT_NAMES)))

MODEL_FILES = (
    *(prefix + name for prefix in ("", EMA) for name in (LAST, FINAL)), *_BEST_FILES, *map(counts_of, _BEST_FILES)
)  # fmt: skip
"""Every model file that a run may write, and the counts beside them."""

MADE = (*MODEL_FILES, METRICS, TIMING, STATE, *REPORT)
"""What a run makes, and a new one in its folder must not find."""

WRITTEN = (CONFIG, *MADE)
"""Every file that a run writes under a name that is known before."""


def made_in(folder: Path) -> list[Path]:
    """What a run has made in a folder: what a new one there takes away."""
    return [*filter(Path.exists, (folder / name for name in MADE)), *folder.glob("events.out.tfevents.*")]


def check_new(folder: Path) -> None:
    """Refuse a folder with a run, or with files of names that a run would take away though none has made them.

    Raises:
        OutputError: what is there.
    """
    if (folder / CONFIG).exists():
        raise OutputError(f"{folder}: holds a run already", hint="go on with --resume, or start anew with --overwrite")
    if found := made_in(folder):
        raise OutputError(
            f"{found[0]}: is there, but no {CONFIG} of a run that has made it; a new run would replace it",
            hint="choose another folder, or replace it with --overwrite",
        )
