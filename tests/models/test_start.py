"""The packaged start: small, whole, and of use for other bands and classes."""

from pathlib import Path

import pytest
import torch

from co2s_cli.config.train import settings_of
from co2s_cli.data.landscape.spectrum import SPECTRUM
from co2s_cli.errors import ConfigError
from co2s_cli.models import catalog, weights
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import Manifest
from co2s_cli.students import LOCAL_NAMES
from co2s_cli.training.network import students_of
from co2s_cli.training.transfer import transfer


def model_for(bands, classes):
    known = weights.read_manifest(Path(weights.START)).students
    return Ensemble(
        Manifest(
            classes=tuple({"name": name, "color": [i, i, i]} for i, name in enumerate(classes)),
            bands=bands,
            scaling={"dtype": "uint8", "low": [0.0] * len(bands), "high": [255.0] * len(bands)},
            students={name: catalog.for_bands(spec, bands) for name, spec in known.items()},
        )
    )


def test_the_word_names_the_packaged_file_and_a_path_does_not():
    assert weights.local_file("start") == weights.local_file(Path("start")) == weights.start_path()
    assert weights.local_file("./other/start") == Path("other/start")


def test_the_packaged_models_are_small_together():
    sizes = [path.stat().st_size for path in (weights.start_path(), weights.demo_path())]
    assert sum(sizes) <= 10_000_000


def test_it_is_sound_and_knows_a_full_spectrum():
    start = weights.load("start")
    assert start.manifest.bands == SPECTRUM
    assert all(value.isfinite().all() for value in start.state_dict().values())


@pytest.mark.parametrize("bands", [("red", "green", "blue"), ("nir", "red", "green"), (*SPECTRUM, "radar")])
def test_everything_but_the_classes_goes_to_other_bands(bands):
    start, model = weights.load("start"), model_for(bands, ("meadow", "glacier"))
    taken = transfer(start, model)
    for name, (count, of) in taken.taken.items():
        new = set(model.students[name].class_tensors())
        assert count == of - len(new)
    assert taken.new_bands == tuple(band for band in bands if band not in SPECTRUM)


def test_a_class_that_it_knows_is_taken_by_name():
    start, model = weights.load("start"), model_for(("red", "green", "blue"), ("glacier", "water"))
    transfer(start, model)
    place = start.manifest.class_map.names.index("water")
    torch.testing.assert_close(
        model.students["dino"].guidance.vectors[1], start.students["dino"].guidance.vectors[place], rtol=0, atol=0
    )


def test_red_green_and_blue_alone_make_up_for_the_bands_that_are_absent():
    start, model = weights.load("start"), model_for(("red", "green", "blue"), ("glacier", "water"))
    transfer(start, model)
    dino = start.students["dino"]
    name = dino.band_tensors()[0]
    places = [SPECTRUM.index(band) for band in ("red", "green", "blue")]
    known = dino.state_dict()[name][:, places] * len(SPECTRUM) / len(places)
    torch.testing.assert_close(model.students["dino"].state_dict()[name], known, rtol=2e-3, atol=1e-5)


def test_the_small_preset_starts_from_it_unless_told_otherwise():
    settings = settings_of(None, {"preset": "small"}, [])
    assert (settings.init, settings.students) == (Path("start"), None)
    for none in (
        settings_of(None, {"preset": "small", "init": "none"}, []),
        settings_of(None, {"preset": "small"}, ["init=none"]),
    ):
        assert (none.init, none.students, none.pretrained) == (None, None, ())
    assert settings_of(None, {}, []).init is None


@pytest.mark.parametrize(
    "other",
    [
        {"student": "tiny-student", "method": "fixmatch"},
        {"students": "clip,local"},
        {"dino": "vit_large_patch14_dinov2"},
    ],
)
def test_students_that_it_does_not_hold_begin_without_it(other):
    assert settings_of(None, {"preset": "small", **other}, []).init is None


def test_students_that_it_holds_begin_with_it():
    settings = settings_of(None, {"preset": "small", "students": "clip,dino"}, [])
    assert (settings.init, settings.students) == (Path("start"), ("clip", "dino"))


@pytest.mark.parametrize(
    ("bands", "students"),
    [(("red", "green", "blue"), ("dino", "local")), (("nir", "red", "green"), LOCAL_NAMES), (("b1",) * 8, LOCAL_NAMES)],
)
def test_it_brings_dino_where_the_bands_are_those_that_it_has_seen(bands, students):
    assert students_of(settings_of(None, {"preset": "small"}, []), bands) == students
    assert students_of(settings_of(None, {"preset": "small", "init": "none"}, []), bands) == students  # from nothing
    assert students_of(settings_of(None, {"preset": "small", "students": "local,dino"}, []), bands) == ("local", "dino")


def test_a_dino_student_that_is_named_learns_on_any_bands():
    settings = settings_of(None, {"preset": "small", "dino": "vit_large_patch14_dinov2.lvd142m"}, ["dino_weights=auto"])
    assert students_of(settings, ("nir", "red", "green")) == ("dino", "local")
    assert settings.pretrained == ("vit_large_patch14_dinov2.lvd142m",)


def test_a_student_twice_is_refused_before_the_start_is_chosen():
    with pytest.raises(ConfigError, match="wants each student once"):
        settings_of(None, {"preset": "small", "students": "dino,local,dino"}, [])


def test_it_holds_dino_alone():
    assert set(weights.read_manifest(weights.start_path()).students) == {"dino"}
