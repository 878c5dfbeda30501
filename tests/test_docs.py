"""The documents are true: keys, commands, flags, links and files that they name exist, and examples are read."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from co2s_cli import errors
from co2s_cli.cli import app
from co2s_cli.config import reference
from co2s_cli.config.data import DataConfig, LabeledEntry, ScalingEntry, UnlabeledEntry
from co2s_cli.config.protocol import find_protocol, published_names
from co2s_cli.config.recipes import PRESETS

DOCS = Path(__file__).parents[1] / "docs"
ROOT = DOCS.parent
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands


def as_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def blocks(page: Path) -> list[str]:
    """The fenced blocks of a page, without the word behind the fence."""
    return re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def command_lines(page: Path) -> list[list[str]]:
    """The words of every line of a block that begins with `co2s`."""
    lines = [line for block in blocks(page) for line in block.splitlines() if line.startswith("co2s ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_the_page_and_the_schema_are_current():
    hint = "python -m co2s_cli.config.reference docs"
    assert (DOCS / "data.schema.json").read_text() == reference.schema_text(), hint
    for name, generate in reference.GENERATED.items():
        assert (DOCS / name).read_text().partition(reference.MARK)[2].strip() == generate().strip(), hint


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


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=as_id)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=as_id)
def test_files_in_the_text_exist(page):
    for name in re.findall(r"`((?:co2s_cli|docs|tests|benchmarks|sample_data)/[\w./-]+)`", page.read_text()):
        assert "NAME" in name or (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=as_id)
def test_flags_in_the_examples_are_those_of_the_commands(page):
    for name, *words in command_lines(page):
        if name.startswith("-"):
            continue
        spelled = {word for part in COMMANDS[name].params for word in (*part.opts, *part.secondary_opts)}
        typed = {word for word in words if re.match(r"--?[a-z]", word)}
        assert typed <= spelled | {"--help"}, name


def test_every_command_has_a_page_with_two_examples():
    listed = (DOCS / "commands" / "index.md").read_text()
    assert {page.stem for page in (DOCS / "commands").glob("*.md")} == {*COMMANDS, "index"}
    for name in COMMANDS:
        assert f"[{name}]({name}.md)" in listed
        assert len([words for words in command_lines(DOCS / "commands" / f"{name}.md") if words[0] == name]) >= 2, name


def test_the_page_of_train_tells_the_small_preset_as_it_is():
    page = " ".join((DOCS / "commands" / "train.md").read_text().split())
    small = PRESETS["small"]
    assert f"{small['visits']} crops for each labelled place" in page
    assert small["refit"]
    assert small["init"] == "start"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_ends_with_an_example_of_it(name):
    command = COMMANDS[name]
    spelled = {word for part in command.params for word in (*part.opts, *part.secondary_opts)}
    program, called, *words = shlex.split((command.epilog or "").removeprefix("Example: "))
    assert (program, called) == ("co2s", name)
    assert {word for word in words if word.startswith("-")} <= spelled


def test_every_exit_code_is_on_the_page():
    codes = {kind.exit_code for kind in errors.Co2sError.__subclasses__()}
    first_cells = re.findall(r"^\| ([\d, ]+) \|", (DOCS / "operations.md").read_text(), re.MULTILINE)
    assert codes < {int(code) for cell in first_cells for code in cell.split(", ")}


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "commands" / "train.html").is_file()
