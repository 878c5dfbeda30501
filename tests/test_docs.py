"""The documents are true: the keys of data.yaml are those of the settings, and the example on the page is read."""

import json
import re
from pathlib import Path

import pytest
import yaml

from co2s_cli.config import reference
from co2s_cli.config.data import DataConfig, LabeledEntry, ScalingEntry, UnlabeledEntry

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_and_the_schema_are_current():
    hint = "python -m co2s_cli.config.reference docs"
    assert (DOCS / "data.schema.json").read_text() == reference.schema_text(), hint
    assert (DOCS / "data.md").read_text().partition(reference.MARK)[2].strip() == reference.data_keys().strip(), hint


@pytest.mark.parametrize("kind", [DataConfig, LabeledEntry, UnlabeledEntry, ScalingEntry])
def test_every_key_is_on_the_page(kind):
    rows = re.findall(r"^\| `(\w+)` \|", reference.data_keys(), re.MULTILINE)
    assert set(kind.model_fields) <= set(rows)


def test_the_example_is_a_data_yaml_by_settings_and_by_schema():
    example = yaml.safe_load((DOCS / "data.md").read_text().split("```yaml\n")[1].split("```")[0])
    assert DataConfig(**example).class_map.names == ("water", "forest", "built-up")
    schema = json.loads((DOCS / "data.schema.json").read_text())
    assert example.keys() <= schema["properties"].keys()
    entry = schema["$defs"]["LabeledEntry"]["properties"].keys()
    assert all(item.keys() <= entry for item in example["labeled"])
