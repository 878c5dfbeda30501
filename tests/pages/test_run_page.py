"""A training run as a page."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from support.browser import opened
from support.training import landscape, quick

from co2s_cli.classes import IGNORE, ClassMap
from co2s_cli.jobs import train
from co2s_cli.pages import curves
from co2s_cli.pages.document import document
from co2s_cli.pages.run_page import RunContent, run_sections
from co2s_cli.scoring.samples import SampleView
from co2s_cli.scoring.validation import FUSED, ValidationCounts

CLASSES = ClassMap.of([{"name": "water & <ice>", "color": [0, 0, 255]}, {"name": "town"}, {"name": "moor"}])
MATRIX = np.array([[1234, 66, 0], [100, 300, 0], [0, 0, 0]])


@pytest.fixture
def content():
    ids = np.array([[0, 1], [IGNORE, 1]], np.uint8)
    view = SampleView(np.zeros((2, 2, 3), np.uint8), ids, {"clip": ids, "dino": ids, FUSED: ids})
    counts = ValidationCounts({"clip": MATRIX, "dino": MATRIX, FUSED: MATRIX}, {}, {}, {}, 0, 1700)
    return RunContent(
        facts={"Method": "co2s", "Licence of the weights": "not stated"},
        classes=CLASSES,
        labeled_pixels={"town": 4321},
        losses=[{"step": step, "loss": 1 / step, "clip/labeled": 0.5, "dino/labeled": 1.5} for step in range(1, 9)],
        validations=[{"step": 4, "clip/miou": 0.5, "fused/miou": 0.25}, {"step": 8, "clip/miou": 1.0, "agreement": 1}],
        best=counts,
        views=[view],
        remark="",
    )


def rows_of(text, caption):
    table = text[text.index(caption) :].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [[re.sub("<.*?>", " ", cell).split() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_the_table_of_classes_has_pixels_and_a_dash_for_what_nothing_validates(content):
    rows = rows_of("".join(run_sections(content)), "without validation pixels")
    assert rows[1][:2] == [["mean"], ["76.3", "%"]]
    assert rows[2][0] == ["water", "&amp;", "&lt;ice&gt;"]
    assert rows[3][-2:] == [["4,321"], ["400"]]
    assert rows[4][1:] == [["–"], ["–"], ["–"], ["0"], ["0"]]


def test_a_student_far_behind_is_told(content):
    assert "points of mean IoU behind" not in "".join(run_sections(content))
    worse = {"clip": MATRIX[::-1].copy(), "dino": MATRIX, FUSED: MATRIX}
    counts = ValidationCounts(worse, {}, {}, {}, 0, 1700)
    text = "".join(run_sections(replace(content, best=counts)))
    assert re.search(r"<p>clip is \d+ points of mean IoU behind dino", text)


def test_the_confusion_matrix_has_counts_and_shares(content):
    rows = rows_of("".join(run_sections(content)), "Pixels by true class")
    assert rows[1][1] == ["1,234", "95", "%"]
    assert rows[2][1:3] == [["100", "25", "%"], ["300", "75", "%"]]


def test_curves_have_plain_labels_and_losses_are_means_over_the_students(content):
    text = "".join(run_sections(content))
    for words in ("whole loss", "on labels", "mean IoU, CLIP student", "mean IoU, all together", "students agree"):
        assert words in text
    assert curves.losses_by_term(content.losses)[0] == {"step": 1, "loss": 1.0, "labeled": 1.0}
    assert curves.plain_label("ema-fused/miou") == "mean IoU, mean of the weights, all together"


def test_each_crop_has_image_labels_students_and_all_together(content):
    text = "".join(run_sections(content))
    assert re.findall(r"<figcaption>(\w+)</figcaption></figure>", text) == ["image", "labels", "clip", "dino", FUSED]


def test_a_run_without_validation_or_data_has_a_page_too(content):
    bare = RunContent({}, CLASSES, {}, [], [], None, [], "None: the data is gone.")
    text = document("x", run_sections(bare), {})
    assert "Nothing recorded." in text
    assert "None: the data is gone." in text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.37), (0.9, 0.91), (-3, 5000), (5, 5)])
def test_ticks_are_round_few_and_around_what_they_measure(low, high):
    ticks = curves.nice_ticks(low, high)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 8


@pytest.mark.slow
def test_a_run_is_shown_from_its_folder_and_without_its_data(co2s, tmp_path):
    run, out = tmp_path / "run", tmp_path / "run.html"
    data = landscape(tmp_path)
    train.run(quick(data, run, "val_every=2"))
    assert co2s("report", run, "--out", out).exit_code == 0
    text = out.read_text()
    best = json.loads((run / "report.json").read_text())["best"]["best.safetensors"]
    assert f"{best['step']:.0f}, mean IoU {100 * best['miou']:.1f} %" in text
    assert text.count("<figcaption>fused</figcaption>") == 3
    assert rows_of(text, "without validation pixels")[1][3] == [f"{100 * best['miou']:.1f}", "%"]
    assert re.search(r"<dt>Device</dt><dd>CPU, \d", text)
    assert not re.findall(r'(?:src|href)="(?!data:)[^"#]', text)
    _, console = opened(out, "if (document.querySelector('main').scrollWidth > innerWidth) console.error('too wide');")
    assert console == []
    data.unlink()
    result = co2s("report", run, "--out", out, "--overwrite")
    assert result.exit_code == 0
    assert "could not be read again" in out.read_text()


def test_what_is_no_run_is_refused(co2s, tmp_path):
    result = co2s("report", tmp_path, "--out", tmp_path / "run.html")
    assert result.exit_code == 3
    assert "holds no training run" in result.stderr
    result = co2s("report", tmp_path, "--image", "x.tif", "--out", tmp_path / "run.html")
    assert result.exit_code == 2
    assert "--image" in result.stderr
