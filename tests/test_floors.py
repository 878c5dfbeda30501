"""Imports point strictly down the floors of the house and of rooms within rooms, never in a circle, types included."""

import ast
from functools import cache
from pathlib import Path

import co2s_cli

ROOT = Path(co2s_cli.__file__).parent
FLOORS = {
    "errors": 0, "classes": 0, "progress": 0, "assets": 0, "published": 0, "students": 0, "limits": 0, "addresses": 0,
    "files": 1, "locks": 1, "tiling": 1, "colors": 1, "log": 1, "resources": 1,
    "cloud": 2,
    "config": 3,
    "geo": 4, "models": 4,
    "data": 5, "inference": 5,
    "scoring": 6,
    "health": 7, "pages": 7, "pseudo": 7, "suggestions": 7, "training": 7,
    "jobs": 8,
    "cli": 9, "rio": 9,
}  # fmt: skip
INNER_FLOORS = {
    "geo": {"": 0, "read": 1, "write": 2, "labels": 2, "polygons": 2},
    "data": {"landscape": 0, "": 1, "draft": 2},
    "jobs": {"": 0, "gpu": 1},
    "training": {"": 0, "methods": 0},  # methods are made of the losses beside them, and the engine runs methods
}
"""Floors of the rooms within a room; "" are the files that stand beside them."""
WOVEN = {"training"}
"""Rooms whose inner rooms may import each other; their files still form no circle."""
LIBRARIES = {"rasterio": {"geo"}, "pyogrio": {"geo"}, "shapely": {"geo"}, "geopandas": {"geo"}, "click": {"rio"}}
"""Rooms that alone may know a library."""
ALONE = {"ray": "jobs.on_ray"}
"""The one module that may know a library."""


@cache
def modules() -> dict[str, Path]:
    """Dotted name below the package → file."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(ROOT.rglob("*.py"))
        if path.parent != ROOT or path.stem not in ("__init__", "__main__")
    }


@cache
def imported(path: Path) -> frozenset[str]:
    """Every module that the file imports: at its top, inside a function, or for types only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def edges() -> dict[str, set[str]]:
    """Module → modules of the package that it imports.

    A command registers itself on the app of its own package: that one edge is by design.
    """
    return {
        name: {
            target
            for target in (text.removeprefix("co2s_cli.") for text in imported(path))
            if target in modules() and target != name and (target, name.split(".")[0]) != ("cli", "cli")
        }
        for name, path in modules().items()
    }


def room(name: str) -> str:
    """`geo.read` of geo.read.scene, `inference` of inference.stitch."""
    outer, *rest = name.split(".")
    inner = rest[0] if rest and rest[0] in INNER_FLOORS.get(outer, {}) else ""
    return f"{outer}.{inner}".rstrip(".")


def points_down(name: str, target: str) -> bool:
    """Whether `name` may import `target`."""
    (outer, _, inner), (below, _, inner_below) = room(name).partition("."), room(target).partition(".")
    if outer != below:
        return FLOORS[below] < FLOORS[outer]
    floors = INNER_FLOORS.get(outer, {})
    return inner == inner_below or floors[inner_below] < floors[inner] or outer in WOVEN


def test_every_room_has_a_floor():
    folders = {path.parent.relative_to(ROOT) for path in modules().values()} - {Path()}
    known = {Path(outer) for outer in FLOORS} | {
        Path(outer, inner) for outer, floors in INNER_FLOORS.items() for inner in floors
    }
    assert folders <= known, f"give {sorted(map(str, folders - known))} a floor"


def test_imports_point_down():
    wrong = [
        f"{name} imports {target}"
        for name, targets in edges().items()
        for target in targets
        if not points_down(name, target)
    ]
    assert wrong == []


def test_only_its_room_knows_a_library():
    wrong = [
        f"{name} imports {target}, which only {LIBRARIES[target.split('.')[0]]} may"
        for name, path in modules().items()
        for target in imported(path)
        if name.split(".")[0] not in LIBRARIES.get(target.split(".")[0], {name.split(".")[0]})
    ]
    assert wrong == []


def test_only_one_module_knows_a_library():
    wrong = [
        f"{name} imports {target}, which only {ALONE[target.split('.')[0]]} may"
        for name, path in modules().items()
        for target in imported(path)
        if name != ALONE.get(target.split(".")[0], name)
    ]
    assert wrong == []


def test_no_circles():
    open_edges = edges()
    done: set[str] = set()
    while len(done) < len(open_edges):
        free = {name for name in open_edges.keys() - done if open_edges[name] <= done}
        assert free, f"a circle among {sorted(open_edges.keys() - done)}"
        done |= free
