"""Methods side by side: same data, steps, networks and seeds; what differs is how unlabelled images are used.

`landscape`: few labels of made-up scenes, measured on scenes of other seeds. `india DIR`: the hand-labelled Sentinel-2
scenes of ../shared/data/india-s2, by their own splits. The last model is measured, never the best one on the test set.
`--variants` picks rows; the ablation's rows are among them. Those of one student are of a net with less than half the
parameters of the pair: alone, taught by random foundation models (RS-MTDF), and taught by the pair that the same seed
has trained. Prints a table in Markdown.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from co2s_cli import load
from co2s_cli.config.distill import DistillConfig
from co2s_cli.config.distill import settings_of as of_distill
from co2s_cli.config.sample import SampleConfig
from co2s_cli.config.train import TrainConfig, settings_of
from co2s_cli.jobs import distill, sample, train
from co2s_cli.scoring.matrix import Scores
from co2s_cli.scoring.validation import FUSED, evaluate
from co2s_cli.training.run import data_of
from co2s_cli.training.runtime import Runtime
from co2s_cli.training.setup import rules_of, sliding_of
from co2s_cli.training.step_loss import StepSums

RELEASED = (
    "stability_grad=false", "stability_in_padding=true", "cutmix_partner=same", "denominators=rank", "clip_norm=0",
    "lr_lag=1",
)  # fmt: skip
ONE = ("student=tiny-student", "student_weights=none")
DISTILL = "distill"
VARIANTS = {
    "supervised": ("supervised", ()),
    "FixMatch": ("fixmatch", ()),
    "UniMatch": ("unimatch", ()),
    "Co2S, published": ("co2s", RELEASED),
    "Co2S, default": ("co2s", ()),
    "Co2S, stability off": ("co2s", ("stability_weight=0",)),
    "Co2S, queries for both": ("co2s", ("clip_guidance=queries",)),
    "FixMatch + EMA": ("fixmatch", ("ema=0.996",)),
    "one student, supervised": ("supervised", ONE),
    "one student, FixMatch": ("fixmatch", ONE),
    "one student, FixMatch + EMA": ("fixmatch", (*ONE, "ema=0.996")),
    "one student, RS-MTDF": (DISTILL, ()),
    "one student of the pair": (DISTILL, ("teacher={Co2S, default}/last.safetensors",)),
    "one student of the supervised pair": (DISTILL, ("teacher={supervised}/last.safetensors",)),
}
"""Method and settings of each row. Published: the released training; networks and evaluation are equal for all.
`{ROW}` is the folder of another row's run."""

TRAIN_SCENES, TEST_SCENES = (11, 12), (101, 102, 103)


@dataclass(frozen=True, slots=True)
class Row:
    """Test mIoU of one run; one student has none of a pair's."""

    clip: float | None
    dino: float | None
    mean: float
    confident: float


def landscape(folder: Path, size: int) -> dict[int | str, Path]:
    """Few labels of the training scenes, the whole of them unlabelled, the test scenes to measure on."""
    made = {}
    for seed in (*TRAIN_SCENES, *TEST_SCENES):
        made[seed] = folder / f"scene_{seed}"
        if not (made[seed] / "data.yaml").exists():
            sample.run(SampleConfig(folder=made[seed], size=size, seed=seed, overwrite=True))
    content = yaml.safe_load((made[TRAIN_SCENES[0]] / "data.yaml").read_text())
    content["labeled"] = [{"image": f"scene_{s}/scene.tif", "labels": f"scene_{s}/few.tif"} for s in TRAIN_SCENES]
    content["unlabeled"] = [f"scene_{s}/scene.tif" for s in TRAIN_SCENES]
    content["val"] = [{"image": f"scene_{s}/scene.tif", "labels": f"scene_{s}/labels.tif"} for s in TEST_SCENES]
    return {"": _written(folder / "landscape.yaml", content)}


def india(folder: Path, source: Path, fraction: str, seeds: list[int]) -> dict[int | str, Path]:
    """A data.yaml for each seed's split: labelled fraction, the rest of train unlabelled, test to measure on."""
    source = source.resolve()
    known = json.loads((source / "classes.json").read_text())["classes"]
    classes = [{key: item[key] for key in ("name", "color")} for item in known]
    chips = {"image": str(source / "images"), "labels": str(source / "labels")}
    everything = (source / "splits" / "train.txt").read_text().split()
    made: dict[int | str, Path] = {}
    for seed in seeds:
        few = source / "splits" / f"train_{fraction}_seed{seed}.txt"
        rest = folder / f"unlabeled_{fraction}_seed{seed}.txt"
        rest.write_text("\n".join(name for name in everything if name not in few.read_text().split()) + "\n")
        content = {
            "classes": classes,
            "labeled": [{**chips, "list": str(few)}],
            "unlabeled": [{"image": chips["image"], "list": str(rest.resolve())}],
            "val": [{**chips, "list": str(source / "splits" / "test.txt")}],
            "scaling": {"dtype": "uint8", "low": [0, 0, 0], "high": [128, 128, 128]},  # the scenes are dark
        }
        made[seed] = _written(folder / f"india_{fraction}_seed{seed}.yaml", content)
    return made


def _written(path: Path, content: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def kept(settings: TrainConfig | DistillConfig) -> Row:
    """The row of a run that an earlier call has measured with the same settings, else of a new one."""
    assert settings.out is not None
    path, asked = settings.out / "row.json", settings.model_dump(mode="json")
    if path.is_file():
        found = json.loads(path.read_text())
        defaults = type(settings).model_construct().model_dump(mode="json")  # of settings younger than the row
        if {**defaults, **found["settings"]} == asked:
            return Row(**found["row"])
    row = measured(settings)
    path.write_text(json.dumps({"settings": asked, "row": dataclasses.asdict(row)}))
    return row


def measured(settings: TrainConfig | DistillConfig) -> Row:
    """Train, then measure the last model: as the run's last validation did, and with the surer student per pixel."""
    data = data_of(settings)
    result = distill.run(settings) if isinstance(settings, DistillConfig) else train.run(settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load(result.last, str(device))
    model.manifest = model.manifest.model_copy(update={"fusion": "confident"})
    tally = evaluate(
        model,
        data.val,
        data.applied_scaling,
        sliding_of(settings),
        threshold=rules_of(settings, data, result.steps, StepSums(Runtime(device))).threshold,
        device=device,
    )
    confident = Scores.of(tally.confusions[FUSED]).miou
    return Row(result.miou.get("clip"), result.miou.get("dino"), result.miou[FUSED], confident)


def settings_for(
    name: str, flags: dict[str, object], extra: list[str], *, folder: Path, stem: str
) -> TrainConfig | DistillConfig:
    """The settings of a row; a row that is taught by another one's model has that one trained first."""
    method, switches = VARIANTS[name]
    written = list(extra)
    for text in switches:
        before, brace, rest = text.partition("{")
        if brace:
            teacher, _, after = rest.partition("}")
            pair = settings_for(teacher, flags, extra, folder=folder, stem=stem)
            kept(pair)
            written.append(f"{before}{pair.out}{after}")
        else:
            written.append(text)
    flags = {**flags, "out": folder / f"{stem}-{name}-{flags['seed']}".replace(" ", "_")}
    if method == DISTILL:
        return of_distill(None, flags, written)
    return settings_of(None, {**flags, "method": method}, written)


def table(rows: dict[str, list[Row]]) -> str:
    """Mean ± standard deviation over the seeds, in percent."""
    lines = ["| | clip | dino | fused (mean) | fused (confident) |", "|---|---:|---:|---:|---:|"]
    for name, found in rows.items():
        cells = []
        for field in ("clip", "dino", "mean", "confident"):
            values = [100 * getattr(row, field) for row in found if getattr(row, field) is not None]
            if not values:
                cells.append("–")
                continue
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run every variant with every seed; print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", choices=["landscape", "india"], default="landscape")
    parser.add_argument("source", nargs="?", type=Path, help="folder of india-s2")
    parser.add_argument("--folder", type=Path, default=Path("build/methods"), help="where scenes and runs go")
    parser.add_argument("--fraction", default="1_8", help="labelled fraction of india-s2")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=1024, help="side of the made-up scenes")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--set", dest="extra", nargs="*", default=[], help="settings of every run")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    data = (
        landscape(given.folder, given.size)
        if given.data == "landscape"
        else india(given.folder, given.source, given.fraction, given.seeds)
    )
    rows: dict[str, list[Row]] = {}
    for seed in given.seeds:  # seeds outside, so that a run cut short still compares like with like
        for name in given.variants:
            flags = {
                "data": str(data.get("", data.get(seed))), "preset": "tiny", "seed": seed, "steps": given.steps,
                "overwrite": True,
            }  # fmt: skip
            start = time.perf_counter()
            settings = settings_for(
                name, flags, [f"val_every={given.steps}", *given.extra],
                folder=given.folder, stem=f"{given.data}-{given.fraction}",
            )  # fmt: skip
            rows.setdefault(name, []).append(kept(settings))
            print(f"{name}, seed {seed}: {rows[name][-1]}, {time.perf_counter() - start:.0f} s", file=sys.stderr)
    print(table(rows))


if __name__ == "__main__":
    main()
