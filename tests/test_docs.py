"""The documents are true: the keys of data.yaml are those of the settings, and the example on the page is read."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from co2s_cli.config import reference
from co2s_cli.config.data import DataConfig, LabeledEntry, ScalingEntry, UnlabeledEntry
from co2s_cli.config.protocol import find_protocol, published_names

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_and_the_schema_are_current():
    hint = "python -m co2s_cli.config.reference docs"
    assert (DOCS / "data.schema.json").read_text() == reference.schema_text(), hint
    for name, made in reference.MADE.items():
        assert (DOCS / name).read_text().partition(reference.MARK)[2].strip() == made().strip(), hint


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


def test_the_tree_of_the_architecture_is_that_of_the_package():
    page = (DOCS / "architecture.md").read_text().split("```")[1]
    package = DOCS.parent / "co2s_cli"
    folders = {path.parent.name for path in package.rglob("*.py")} - {"co2s_cli"}
    assert set(re.findall(r"^ +(\w+)/", page, re.MULTILINE)) | {"methods", "landscape"} == folders


@pytest.mark.parametrize("page", ["architecture.md", "data.md"])
def test_files_that_a_page_names_exist(page):
    package = DOCS.parent / "co2s_cli"
    named = re.findall(r"`((?:cli|jobs|training|data|inference|geo|config|models)/[\w/]+)", (DOCS / page).read_text())
    for name in named:
        path = package / name
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_every_published_figure_is_on_the_page():
    rows = {row.split("`")[1]: row for row in reference.protocols().splitlines() if row.startswith("| `")}
    assert rows.keys() == set(published_names())
    for name, row in rows.items():
        protocol = find_protocol(name)
        assert all(f"{share}: {value}" in row for share, value in protocol.miou.items())
        assert all(excluded in row for excluded in protocol.excluded)


@pytest.mark.parametrize("line", re.findall(r"^co2s .+$", (DOCS / "papers.md").read_text(), re.MULTILINE))
def test_the_commands_for_the_tables_are_understood(co2s, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    done = co2s(*shlex.split(line)[1:])
    assert done.exit_code in (3, 5), done.stderr  # all that is missing is the data, or weights that are got first


def test_the_papers_are_named_and_the_licence_is_the_declared_one():
    root = DOCS.parent
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert [item["url"][-10:] for item in citation["references"]] == ["2512.23035", "2506.08772"]
    assert citation["license"] == "Apache-2.0"
    assert 'license = "Apache-2.0"' in (root / "pyproject.toml").read_text()
    assert "Apache License" in (root / "LICENSE").read_text()
