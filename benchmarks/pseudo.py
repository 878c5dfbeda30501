"""What a second round of self-training on pseudo-labels does to mIoU, beside simply training twice as long.

Few labels of a made-up scene; measured on scenes of other seeds, on the last model, with the `tiny` networks. Each
round starts from new networks, or with `--init` the second one from the first one's; `twice the steps` is the first
round with the steps of both. `--ways` picks how pseudo-labels are cut. Prints a table in Markdown; how much of the
scene is labelled, and how much of that is right, is told by its full labels.
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import methods
import yaml

from co2s_cli.config.pseudo_label import PseudoLabelConfig
from co2s_cli.config.sample import SampleConfig
from co2s_cli.config.train import settings_of
from co2s_cli.jobs import pseudo_label, sample
from co2s_cli.pseudo.cut import LabelSummary

TRAIN_SCENE, TEST_SCENES = 11, (101, 102, 103)
WAYS: dict[str, dict[str, object]] = {
    "surer, 0.95": {"agree": "surer", "threshold": 0.95},
    "both, 0.95": {"agree": "both", "threshold": 0.95},
    "any, 0.95": {"agree": "any", "threshold": 0.95},
    "surer, top half": {"agree": "surer", "threshold_per_class": "auto", "share": 0.5},
    "both, top half": {"agree": "both", "threshold_per_class": "auto", "share": 0.5},
    "surer, top fifth": {"agree": "surer", "threshold_per_class": "auto", "share": 0.2},
}
"""Settings of pseudo-label by the name of a row."""


@dataclass(frozen=True, slots=True)
class Row:
    """Test mIoU of one run, and the pseudo-labels it has learned from."""

    miou: float
    labels: LabelSummary | None = None


def landscape(folder: Path, size: int) -> Path:
    """Few labels of one scene, all of it unlabelled, other scenes to measure on."""
    for seed in (TRAIN_SCENE, *TEST_SCENES):
        if not (folder / f"scene_{seed}" / "data.yaml").exists():
            sample.run(SampleConfig(folder=folder / f"scene_{seed}", size=size, seed=seed, overwrite=True))
    content = yaml.safe_load((folder / f"scene_{TRAIN_SCENE}" / "data.yaml").read_text())
    scene = f"scene_{TRAIN_SCENE}/scene.tif"
    content["labeled"] = [{"image": scene, "labels": f"scene_{TRAIN_SCENE}/few.tif"}]
    content["unlabeled"] = [scene]
    content["val"] = [{"image": f"scene_{s}/scene.tif", "labels": f"scene_{s}/labels.tif"} for s in TEST_SCENES]
    path = folder / "landscape.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def labelled(way: str, run: Path, data: Path, out: Path) -> tuple[Path, LabelSummary]:
    """The data.yaml of the next round, and what became of the pixels."""
    made = data.parent / f"scene_{TRAIN_SCENE}"
    base = {"scenes": [str(made / "scene.tif")], "truth": made / "labels.tif", "keep_labels": data, "out": out}
    settings = {**base, "model": run / "last.safetensors", "overwrite": True, **WAYS[way]}
    done = pseudo_label.run(PseudoLabelConfig.model_validate(settings))
    if done.data is None or done.total is None:
        raise SystemExit(f"{way}: nothing was sure enough")
    return done.data, done.total


def table(rows: dict[str, list[Row]]) -> str:
    """Means over the seeds, in percent; mIoU with its standard deviation."""
    lines = ["| | test mIoU | labelled | of these right |", "|---|---:|---:|---:|"]
    for name, found in rows.items():
        values = [100 * row.miou for row in found]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        totals = [row.labels for row in found if row.labels]
        shares = [
            _percent([value for one in totals if (value := getattr(one, field)) is not None])
            for field in ("coverage", "precision")
        ]
        lines.append(f"| {name} | {statistics.mean(values):.1f}{spread} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _percent(values: list[float]) -> str:
    return f"{100 * statistics.mean(values):.1f} %" if values else "–"


def main() -> None:
    """The first round and twice its length, then a second round for every way to cut; print the table in the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/pseudo"), help="where scenes and runs go")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--method", default="co2s", help="of both rounds")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=1024, help="side of the made-up scenes")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--init", action="store_true", help="start round 2 from the model of round 1")
    parser.add_argument("--set", dest="extra", nargs="*", default=[], help="settings of every training run")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    data = landscape(given.folder, given.size)

    def trained(
        name: str, source: Path, seed: int, steps: int, labels: LabelSummary | None = None, start: Path | None = None
    ) -> Path:
        out, began = given.folder / f"{name}-{seed}".replace(" ", "_"), time.perf_counter()
        flags = {
            "data": str(source), "preset": "tiny", "method": given.method, "seed": seed, "steps": steps, "out": out,
            "overwrite": True, **({"init": start} if start else {}),
        }  # fmt: skip
        miou = methods.measured(settings_of(None, flags, [f"val_every={steps}", *given.extra])).mean
        rows.setdefault(name, []).append(Row(miou, labels))
        print(f"{name}, seed {seed}: {miou:.3f}, {time.perf_counter() - began:.0f} s", file=sys.stderr)
        return out

    rows: dict[str, list[Row]] = {}
    for seed in given.seeds:  # seeds outside, so that a run cut short still compares like with like
        first = trained("round 1", data, seed, given.steps)
        trained("round 1, twice the steps", data, seed, 2 * given.steps)
        if given.init:  # what a second run alone does, without any pseudo-label
            trained("round 1, again from its model", data, seed, given.steps, start=first / "last.safetensors")
        for way in given.ways:
            source, labels = labelled(way, first, data, given.folder / f"labels-{way}-{seed}".replace(" ", "_"))
            start = first / "last.safetensors" if given.init else None
            trained(f"round 2: {way}", source, seed, given.steps, labels, start)
    print(table(rows))


if __name__ == "__main__":
    main()
