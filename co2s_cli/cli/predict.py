"""`co2s predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import Config, Json, Overwrite, command, echo_result, flag
from co2s_cli.cli.maps import options
from co2s_cli.config import given, load
from co2s_cli.config.predict import PredictConfig as P


@command(app, "predict", shared=options(P))
def predict(
    scenes: Annotated[
        list[str] | None, typer.Argument(metavar="SCENE", help=P.model_fields["scenes"].description)
    ] = None,
    out: Annotated[Path | None, flag(P, "out", "--out", "-o", "--output")] = None,
    model: Annotated[Path | None, flag(P, "model", "--model", "-m")] = None,
    fusion: Annotated[str | None, flag(P, "fusion")] = None,
    min_confidence: Annotated[float | None, flag(P, "min_confidence", "--min-confidence", "--min-conf")] = None,
    confidence: Annotated[Path | None, flag(P, "confidence")] = None,
    probabilities: Annotated[Path | None, flag(P, "probabilities")] = None,
    probability_type: Annotated[str | None, flag(P, "probability_type")] = None,
    disagreement: Annotated[Path | None, flag(P, "disagreement")] = None,
    vector: Annotated[Path | None, flag(P, "vector")] = None,
    preview: Annotated[Path | None, flag(P, "preview")] = None,
    overwrite: Overwrite = None,
    config: Config = None,
    as_json: Json = False,
    **shared: Any,
) -> None:
    """Label every pixel of each SCENE and write a Cloud-Optimized GeoTIFF with colours and class names.

    `co2s predict SCENE MAP` is short for `--out MAP` where MAP is not there yet.
    """
    scenes, out = _pair(scenes or [], out)
    flags = given(
        scenes=scenes, out=out, model=model, fusion=fusion, min_confidence=min_confidence, confidence=confidence,
        probabilities=probabilities, probability_type=probability_type, disagreement=disagreement, vector=vector,
        preview=preview, overwrite=overwrite, **shared,
    )  # fmt: skip
    settings = load(P, config, flags)
    from co2s_cli.jobs import predict as job  # torch loads in seconds: after the settings are known to be good

    result = job.run(settings, progress=watcher())
    echo_result(result, as_json=as_json, text=result.text())
    result.check()


def _pair(scenes: list[str], out: Path | None) -> tuple[list[str], Path | None]:
    """A scene and its map, where two names come without --out and the second one is no file yet."""
    if out is None and len(scenes) == 2 and not Path(scenes[1]).exists() and Path(scenes[1]).suffix:
        return scenes[:1], Path(scenes[1])
    return scenes, out
