"""Names of the files in a run folder. Imports no torch, so that a command line can be checked against them quickly."""

from pathlib import Path

from co2s_cli.errors import OutputError
from co2s_cli.students import STUDENT_NAMES

EMA = "ema-"
"""Prefix of names of files and of scores that belong to the running mean of the weights."""

CONFIG, STATE = "config.yaml", "state.pt"
METRICS, TIMING = "metrics.jsonl", "timing.jsonl"
BEST, LAST, FINAL = "best.safetensors", "last.safetensors", "final.safetensors"
REPORT = ("report.json", "report.md", "curves.png", "confusion.png")


def best_of(student: str) -> str:
    """Name of the model file with the best validation of one student."""
    return f"best-{student}.safetensors"


def counts_of(model_file: str) -> str:
    """Name of the file with the validation counts of a best model file."""
    return f"{model_file.removesuffix('.safetensors')}.json"


_BEST_FILES = tuple(prefix + name for prefix in ("", EMA) for name in (BEST, *map(best_of, STUDENT_NAMES)))

MODEL_FILES = (
    *(prefix + name for prefix in ("", EMA) for name in (LAST, FINAL)), *_BEST_FILES, *map(counts_of, _BEST_FILES)
)  # fmt: skip
"""Every model file that a run may write, and the files with validation counts of the best ones."""

RESULT_FILES = (*MODEL_FILES, METRICS, TIMING, STATE, *REPORT)
"""Files with results of a run: a new run refuses a folder that holds one, or with --overwrite removes it."""

RUN_FILES = (CONFIG, *RESULT_FILES)
"""Every file of a run with a fixed name; names of TensorBoard files are not fixed."""


def result_files_in(folder: Path) -> list[Path]:
    """The result files in a folder, TensorBoard files included; a new run there removes them."""
    return [*filter(Path.exists, (folder / name for name in RESULT_FILES)), *folder.glob("events.out.tfevents.*")]


def check_new(folder: Path) -> None:
    """Refuse a folder that holds a run, or files of other origin that a new run would replace.

    Raises:
        OutputError: names the folder or the file.
    """
    if (folder / CONFIG).exists():
        raise OutputError(f"{folder}: holds a run already", hint="go on with --resume, or start anew with --overwrite")
    if files := result_files_in(folder):
        raise OutputError(
            f"{files[0]}: is there, but no {CONFIG} of a run that has made it; a new run would replace it",
            hint="choose another folder, or replace it with --overwrite",
        )
