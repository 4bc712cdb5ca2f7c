"""The shape of the tree: which files may import which, and which file may import a library."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LEVELS = [
    {"lenses"},
    {"runtime.rules"},
    {"runtime.config", "runtime.turns", "runtime.tiers", "runtime.clock", "runtime.counts"},
    {"runtime.batches", "runtime.branches", "runtime.transcript"},
    {"runtime.events", "runtime.notebook", "runtime.table"},
    {"runtime.expansion", "runtime.cache"},
    {"runtime.walk", "runtime.device_walk"},
    {"runtime.engine"},
    {"runtime.rows", "runtime.kept", "runtime.reading"},
    {"runtime.plan"},
    {"runtime.blocks", "runtime.random_host"},
    {"runtime.hook", "runtime.host", "runtime.generate"},
    {"runtime.monitor", "runtime.sink", "runtime.known", "runtime.trend", "runtime.alarms"},
    {"runtime.session"},
    {"runtime.flow", "runtime.screen", "runtime.wording"},
    {"runtime.frame"},
    {"runtime.display", "runtime.packs", "runtime.environment"},
    {"runtime.doctor", "runtime.page", "runtime.scan", "runtime.recording"},
    {"runtime.training", "runtime.serve"},
    {"runtime.commands"},
    {"runtime.cli"},
    {"scripts"},
]
"""Modules from the bottom up; a module may import from its own level's package and from below, never from above."""

DOORS = {
    "safetensors": {"lenses/store.py", "runtime/training/shards.py"},
    "cachetools": {"runtime/tiers.py"},
    "numba": {"lenses/kernels.py", "lenses/team.py", "lenses/vectors.py"},
    "llvmlite": {"lenses/team.py", "lenses/vectors.py"},
    "huggingface_hub": {"lenses/hub.py", "lenses/bring.py", "lenses/transfer.py", "runtime/host.py"},
    "stamina": {"lenses/transfer.py"},
    "typer": {
        "runtime/cli.py",
        *(f"runtime/commands/{p.name}" for p in (ROOT / "runtime/commands").glob("*.py")),
    },
    "pandas": {"runtime/table.py"},
    "fastapi": {
        "runtime/commands/serve.py",
        "runtime/serve/app.py",
        "runtime/serve/server.py",
        *(f"runtime/serve/{name}_routes.py" for name in ("generate", "lens", "page", "status")),
    },
    "uvicorn": {"runtime/commands/serve.py", "runtime/serve/server.py"},
    "prometheus_client": {"runtime/commands/serve.py", "runtime/serve/metrics.py"},
    "pyarrow": {"runtime/scan/parquet.py"},
}
"""Library to the only files that may import it."""


def sources() -> list[Path]:
    return sorted(p for d in ("lenses", "runtime", "scripts") for p in (ROOT / d).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Absolute names of everything a file imports when it is imported (type-checking blocks and functions aside)."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, node.module] if node.module else base)
            found.add(name)
            found.update(f"{name}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


@cache
def all_imports(path: Path) -> set[str]:
    """Top-level names of everything a file imports anywhere, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def level_of(module: str) -> int | None:
    for level, names in enumerate(LEVELS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return level
    return None


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down_only(path: Path) -> None:
    module = module_name(path)
    if module == "runtime":
        return
    own = level_of(module)
    assert own is not None, f"{module} has no place in LEVELS: say where it belongs"
    for name in imports(path):
        level = level_of(name)
        assert level is None or level <= own, f"{module} imports {name}, which lies above it"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_each_library_has_one_door(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    for library, doors in DOORS.items():
        assert library not in all_imports(path) or relative in doors or relative.startswith("scripts/"), (
            f"{relative} imports {library}; only {', '.join(sorted(doors))} may"
        )


def test_lenses_never_import_runtime() -> None:
    for path in (ROOT / "lenses").rglob("*.py"):
        assert "runtime" not in all_imports(path), path


def test_every_source_has_a_docstring() -> None:
    for path in sources():
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} does not say what it is"


def test_no_machine_paths_or_registry_hosts_in_the_tree() -> None:
    for path in sources() + sorted(ROOT.glob("*.md")) + [ROOT / "Makefile", ROOT / "constraints.txt"]:
        text = path.read_text()
        for needle in ("/work" + "/", "/root" + "/", "/ho" + "me/"):
            assert needle not in text, f"{path.name} holds the machine path {needle}"
