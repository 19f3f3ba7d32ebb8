"""The shape of the code: which room may import which, what is packaged, what is loaded when."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The last column of the design's table. `api` is `xsearch` itself.
MAY_IMPORT = {
    "core": set(),
    "api": {"core", "retrieval", "indexer"},
    "cli": {"api", "core", "training", "server"},
    "retrieval": {"core", "data", "indexer"},
    "indexer": {"core", "migrations"},
    "training": {"api", "core", "data", "retrieval"},
    "server": {"api", "core"},
    "data": {"core"},
    "migrations": set(),
}
ROOMS = [room for room in MAY_IMPORT if (ROOT / room).is_dir()]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())


def room_of(module: str) -> str | None:
    """The room of an imported module; None for other distributions."""
    if module != "xsearch" and not module.startswith("xsearch."):
        return None
    first = module.split(".")[1] if "." in module else ""
    return first if first in MAY_IMPORT else "api"


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside functions."""
    package = ["xsearch", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            found.add(".".join([*base, node.module] if node.module else base))
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    for path in sorted((ROOT / room).rglob("*.py")):
        used = {room_of(module) for module in imports_of(path)} - {None, room}
        assert used <= MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {used}"


def test_only_training_and_the_open_clip_encoder_import_torch() -> None:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            heavy = {module.split(".")[0] for module in imports_of(path)} & {"torch", "open_clip"}
            allowed = room == "training" or path.parent == ROOT / "retrieval/encoders/clip"
            assert not heavy or allowed, f"{path.relative_to(ROOT)} imports {heavy}"


def test_migrations_are_frozen() -> None:
    for path in (ROOT / "migrations").rglob("*.py"):
        assert not any(module.startswith("xsearch") for module in imports_of(path)), path


def test_every_package_is_listed_and_mapped() -> None:
    setuptools = CONFIG["tool"]["setuptools"]
    folders = {
        path.parent.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert set(setuptools["package-dir"].values()) == folders
    assert set(setuptools["package-dir"]) == set(setuptools["packages"])
    for package, folder in setuptools["package-dir"].items():
        expected = "xsearch" if folder == "api" else "xsearch." + folder.replace("/", ".")
        assert package == expected


def test_every_module_stays_short_enough_to_read() -> None:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 500, path


def required(name: str, seen: set[str]) -> set[str]:
    """Names of everything that installing a distribution brings, without extras."""
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name in seen:
        return seen
    seen.add(name)
    try:
        needs = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return seen
    for need in needs:
        if "extra ==" not in need:
            required(re.match(r"[A-Za-z0-9._-]+", need)[0], seen)
    return seen


def test_no_core_dependency_brings_torch() -> None:
    everything: set[str] = set()
    for need in CONFIG["project"]["dependencies"]:
        required(re.match(r"[A-Za-z0-9._-]+", need)[0], everything)
    assert {"numpy", "onnxruntime", "sqlalchemy"} <= everything
    assert not {name for name in everything if name.startswith(("torch", "nvidia", "open-clip"))}


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running some code."""
    shown = f"{code}\nimport sys; print('LOADED', *{{m.split('.')[0] for m in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    return set(result.stdout.rpartition("LOADED")[2].split())


HEAVY = {"torch", "faiss", "onnxruntime", "sqlalchemy", "alembic", "numpy", "PIL", "tokenizers"}


def test_importing_xsearch_loads_nothing_heavy() -> None:
    assert not modules_after("import xsearch; xsearch.Hit; xsearch.Error") & HEAVY


def test_showing_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['xsearch', '--help']\n"
        "from xsearch.cli.main import run\n"
        "try: run()\nexcept SystemExit: pass"
    )
    assert not modules_after(code) & HEAVY
