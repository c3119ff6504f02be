"""The table below is the architecture: which room of the package may import which. The tests read the sources, so that prose can't drift."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import equilibra

PACKAGE = Path(equilibra.__file__).parent

FOUNDATION = {"types", "errors", "units", "configuration"}
CORE = FOUNDATION | {"geometry", "state", "diffusion"}
FILES = {"atomic", "run_folder", "tensor_files", "plain_pickles"}  # how files are written and read, whatever is in them
BELOW_SYSTEMS = CORE | FILES | {"sampling", "density", "guidance", "thermo", "energies", "data", "nn", "properties"}

# room: the rooms it may import, besides itself. A new room needs a row here.
MAY_IMPORT: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "units": set(),
    "configuration": {"errors"},
    "atomic": FOUNDATION,
    "run_folder": FOUNDATION | {"atomic"},
    "own_functions": FOUNDATION,
    "tensor_files": FOUNDATION | {"atomic"},
    "plain_pickles": FOUNDATION,
    "memory": FOUNDATION,
    "geometry": FOUNDATION,
    "state": FOUNDATION | {"geometry"},
    "diffusion": FOUNDATION | {"geometry", "state"},
    "nn": {"types", "errors", "geometry"},  # knows tensors, neither schedules nor files
    "properties": FOUNDATION | FILES | {"geometry", "nn"},  # trained networks as functions of crystals: no State, no guide
    "sampling": CORE,
    "density": CORE | {"sampling", "energies"},  # along the levels of a noise grid; weights for an energy
    "guidance": CORE | {"sampling", "energies"},  # along the levels of a noise grid; resampling of populations
    "thermo": FOUNDATION,  # log-weights in, free energies out
    "energies": CORE | FILES | {"own_functions"},
    "data": CORE | FILES,
    "systems": BELOW_SYSTEMS | {"own_functions"},
    "testing": BELOW_SYSTEMS,
    "train": BELOW_SYSTEMS | {"systems", "memory"},
    "analysis": FOUNDATION | {"geometry", "thermo"},  # arrays in, numbers out: no domain, no model
    "report": BELOW_SYSTEMS | {"systems", "analysis"},  # brings a domain's ensembles and the analysis together
    "cli": BELOW_SYSTEMS | {"memory", "systems", "train", "analysis", "report"},
    "__main__": {"cli"},  # `python -m equilibra`
}
# `equilibra/__init__.py` only re-exports: it may name any room but the command line
PUBLIC = set(MAY_IMPORT) - {"cli", "testing", "__main__"}

HEAVY = {"openmm", "pdbfixer", "rdkit", "mdtraj", "lightning", "pytorch_lightning", "matplotlib", "ot", "deeptime", "sklearn"}
HEAVY |= {"scipy", "ase", "Bio", "PeptideBuilder", "tensorboard", "pandas", "pymbar", "arviz", "spglib", "pymatgen", "matminer"}
# a Lightning module is a subclass, so its base is needed when the file is read; others import that file inside a function
SUBCLASSES = {"train/module.py": "lightning"}
PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NAMELESS = {"utils", "util", "common", "misc", "helpers", "v2"}

SOURCES = sorted(PACKAGE.rglob("*.py"))
IDS = [path.relative_to(PACKAGE).as_posix() for path in SOURCES]
each_source = pytest.mark.parametrize("path", SOURCES, ids=IDS)


class Import(NamedTuple):
    """One imported module: its dotted name, the line, and whether importing the file runs it."""

    name: str
    line: int
    at_import: bool


def _parts(path: Path) -> tuple[str, ...]:
    """Dotted position of a file below the package: `sampling/ode.py` is ('sampling', 'ode')."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _names(node: ast.AST, path: Path) -> list[str]:
    """Modules that one node imports; for `from package import name`, `package.name`, which may be a module or an attribute."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            here = ("equilibra", *_parts(path))
            here = here if path.name == "__init__.py" else here[:-1]
            base = ".".join([*here[: len(here) - node.level + 1], *([base] if base else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    # a string that is a module's full name is there to be imported later
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"equilibra(\.[a-z_0-9]+)+", node.value):
        return [node.value] if (PACKAGE.parent / node.value.replace(".", "/")).with_suffix(".py").exists() else []
    return []


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of a file, those inside functions and type-checking blocks included."""

    def visit(node: ast.AST, at_import: bool) -> Iterator[Import]:
        for name in _names(node, path):
            yield Import(name, getattr(node, "lineno", 0), at_import)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_type_checking(node):
            at_import = False
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_import)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), True)


def internal(path: Path) -> Iterator[tuple[list[str], int]]:
    """The imports of a file from the package itself, as parts below `equilibra`."""
    for found in imports_of(path):
        first, *rest = found.name.split(".")
        if first == "equilibra":
            yield rest, found.line


def test_the_readers_see_imports_of_every_kind(tmp_path):
    path = PACKAGE / "sampling" / "imagined.py"
    source = "from equilibra.cli import main\nfrom ..nn import heads\ndef f():\n    import openmm.app\n    load('equilibra.state.state')\n"
    found = [name for node in ast.walk(ast.parse(source)) for name in _names(node, path)]
    assert sorted(found) == ["equilibra.cli.main", "equilibra.nn.heads", "equilibra.state.state", "openmm.app"]
    real = tmp_path / "real.py"
    real.write_text(
        "import scipy\nclass A:\n    import rdkit\nif TYPE_CHECKING:\n    import ase\ndef f():\n    import openmm\n"
    )
    names = {(found.name, found.at_import) for found in imports_of(real)}
    assert names == {("scipy", True), ("rdkit", True), ("ase", False), ("openmm", False)}


def test_the_table_has_no_cycle_and_knows_every_room():
    order: list[str] = []
    while len(order) < len(MAY_IMPORT):
        ready = [room for room in MAY_IMPORT if room not in order and MAY_IMPORT[room] <= set(order)]
        assert ready, f"cycle among {sorted(set(MAY_IMPORT) - set(order))}"
        order.extend(ready)
    rooms = {_parts(path)[0] for path in SOURCES if _parts(path)}
    assert rooms <= set(MAY_IMPORT), f"rooms without a row in the table: {sorted(rooms - set(MAY_IMPORT))}"
    assert [room for room, allowed in MAY_IMPORT.items() if "cli" in allowed] == ["__main__"]


def test_every_folder_is_a_package():
    bare = {path.parent.name for path in SOURCES if not (path.parent / "__init__.py").exists()}
    assert not bare, f"without __init__.py the installer leaves these out: {sorted(bare)}"


@each_source
def test_imports_point_down(path):
    room = _parts(path)[0] if _parts(path) else None
    allowed = PUBLIC if room is None else MAY_IMPORT[room] | {room}
    wrong = []
    for parts, line in internal(path):
        target = parts[0] if parts else "the package itself"
        # a name that is no room is one of `equilibra/__init__.py`, above all rooms but the command line
        fine = target in allowed if target in MAY_IMPORT else room == "cli" or target == "__version__"
        if not fine:
            wrong.append(f"line {line}: {room or 'equilibra'} may not import {target}")
    assert not wrong, "\n".join(wrong)


def test_domains_do_not_know_each_other():
    domains = {folder.name for folder in (PACKAGE / "systems").iterdir() if (folder / "__init__.py").exists()}
    assert "molecule" in domains
    for domain in domains:
        for path in (PACKAGE / "systems" / domain).rglob("*.py"):
            known = {found[1] for found, _ in internal(path) if found[0] == "systems" and len(found) > 1}
            assert not known & (domains - {domain}), f"{path.relative_to(PACKAGE)} imports another domain"


@each_source
def test_heavy_libraries_are_imported_where_they_are_used(path):
    here = path.relative_to(PACKAGE).as_posix()
    modules = {"equilibra." + name.removesuffix(".py").replace("/", ".") for name in SUBCLASSES}
    wrong = []
    for found in imports_of(path):
        library = found.name.split(".")[0]
        heavy = library in HEAVY and SUBCLASSES.get(here) != library
        if found.at_import and (heavy or found.name in modules or found.name.rpartition(".")[0] in modules):
            wrong.append(f"line {found.line}: {found.name}")
    assert not wrong, "import inside the function that needs it: " + ", ".join(wrong)


@each_source
def test_nothing_is_pickled(path):
    wrong = [f"line {f.line}: {f.name}" for f in imports_of(path) if f.name.split(".")[0] in PICKLERS]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        options = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        if ast.unparse(node.func) == "torch.load" and options.get("weights_only") is not True:
            wrong.append(f"line {node.lineno}: torch.load without weights_only=True")
        if options.get("allow_pickle") is True:
            wrong.append(f"line {node.lineno}: allow_pickle=True")
    assert not wrong, ", ".join(wrong)


@each_source
def test_names_and_sizes(path):
    assert not NAMELESS & set(_parts(path)), f"{path.name}: a thing without a name is not understood yet"
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 500, f"{path.relative_to(PACKAGE)} has {lines} lines: it wants two names"


@pytest.mark.parametrize("module", ["equilibra", "equilibra.cli.main"])
def test_importing_the_package_loads_nothing_heavy(module):
    code = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "equilibra" in loaded
    assert not loaded & HEAVY
