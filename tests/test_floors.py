"""Imports point strictly down the floors of the house, and never in a circle."""

import ast
from pathlib import Path

import pytest

import co2s_cli

ROOT = Path(co2s_cli.__file__).parent
FLOORS = {
    "errors": 0, "log": 0, "classes": 0, "progress": 0, "assets": 0,
    "files": 1, "tiling": 1, "config": 1, "metrics": 1,
    "geo": 2, "models": 2, "plots": 2,
    "data": 3, "inference": 3, "scoring": 3, "pseudo": 4,
    "training": 4,
    "jobs": 5,
    "cli": 6,
}  # fmt: skip
HEAVY_ROOMS = {"rasterio": {"geo"}, "pyogrio": {"geo"}, "shapely": {"geo"}, "geopandas": {"geo"}}


def modules() -> dict[str, Path]:
    """Dotted name below the package → file."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(ROOT.rglob("*.py"))
        if path.parent != ROOT or path.stem not in ("__init__", "__main__")
    }


def imported(path: Path) -> set[str]:
    """Every module that the file imports, at its top or inside a function, except for types only."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for node in ast.walk(block)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("name", modules())
def test_imports_point_down(name):
    mine = FLOORS[room(name)]
    for target in imported(modules()[name]):
        below = target.removeprefix("co2s_cli.")
        if below == target or room(below) not in FLOORS or room(below) == room(name):
            continue
        theirs = FLOORS[room(below)]
        assert theirs < mine, f"{name} (floor {mine}) imports {below} (floor {theirs})"


@pytest.mark.parametrize("name", modules())
def test_only_its_room_knows_a_library(name):
    for target in imported(modules()[name]):
        rooms = HEAVY_ROOMS.get(target.split(".")[0])
        assert rooms is None or room(name) in rooms, f"{name} imports {target}, which only {rooms} may"


def test_no_circles():
    files = modules()
    edges = {
        name: {t.removeprefix("co2s_cli.") for t in imported(path) if t.removeprefix("co2s_cli.") in files} - {name}
        for name, path in files.items()
    }
    # a command registers itself on the app of its own package: that one edge is by design
    edges = {
        name: {t for t in targets if not (name.startswith("cli.") and t == "cli")} for name, targets in edges.items()
    }
    done: set[str] = set()
    while len(done) < len(edges):
        free = {name for name in edges.keys() - done if edges[name] <= done}
        assert free, f"a circle among {sorted(edges.keys() - done)}"
        done |= free
