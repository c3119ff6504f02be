"""What `equilibra sample` does with one system: its folder, its run, its files and its summary."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from equilibra.cli.console import Bar, bar, say, table

if TYPE_CHECKING:
    from equilibra.cli.adsorbate_relaxation import SiteRelaxation
    from equilibra.cli.crystal_design import Design
    from equilibra.systems.blocks import Progress
    from equilibra.systems.model import Model


@dataclass(frozen=True)
class Output:
    """What is written of each system: `formats`, a page or none, the name of the `model` for it, the engine of side chains, or None, and what is added to crystals and adsorbates."""

    formats: list[str]
    report: bool
    model: str
    all_atom: str | None
    design: "Design | SiteRelaxation | None" = None

    @property
    def files(self) -> list[str]:
        """Names of the files."""
        names = [f"samples.{suffix}" for suffix in self.formats] + (["report.html"] if self.report else [])
        names += [] if self.design is None else self.design.files
        return [*names, "all-atom.pdb", "all-atom.xtc", "relaxation.csv"] if self.all_atom else names


def folders(out: Path, systems: list[Any], domain: str) -> list[tuple[Path, Any]]:
    """Gives each system a sub-folder named after it, or after its domain; the same sources give the same folders."""
    pairs, taken = [], set()
    for system in systems:
        stem = re.sub(r"[^A-Za-z0-9._+-]+", "_", system.name).strip("._") or domain
        stem = stem if len(stem) <= 80 else f"{stem[:80]}-{system.digest[:8]}"
        name, number = stem, 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        pairs.append((out / name, system))
    return pairs


def sample_one(
    ctx: typer.Context,
    model: "Model",
    system: Any,
    folder: Path,
    output: Output,
    way: dict[str, Any],
    options: dict[str, Any],
) -> list[object]:
    """Samples one system into its folder, and returns its row of the summary. `way` is the part of the options that defines the samples."""
    wanted = output.files
    finished = _finished(folder, model.identity(system, **way), options)
    if finished is not None and all((folder / name).is_file() for name in wanted) and not _stale(folder, output):
        say(
            ctx,
            f"'{folder}' already holds {finished['frames']:,} conformations of this run ({options['n']:,} wanted); nothing was changed",
        )
        _say_weights(ctx, finished["provenance"])
        return _row(system.name, finished["frames"], finished["validity"], finished["provenance"], folder)
    done = len(list((folder / "blocks").glob("block-*.npz")))
    if done:
        say(ctx, f"going on with '{folder}': {done} blocks of {options['block_size']} conformations are there")
    if finished is not None:
        # fewer are wanted than there are: keep them all, and add what is missing beside them
        options = {**options, "n": max(options["n"], finished["frames"])}
    with bar(ctx, system.name, options["n"]) as shown:
        ensemble = model.sample(system, folder=folder, progress=_reporter(shown, options["block_size"]), **way, **options)
    judged: list[str] = []
    if output.design is not None:
        ensemble, judged = output.design.add(ctx, ensemble, folder)
    ensemble.save(folder, formats=output.formats)
    moved = "" if output.all_atom is None else _add_atoms(ctx, ensemble, folder, output.all_atom)
    if output.report:
        from equilibra.report.from_ensemble import write_report

        write_report(ensemble, folder / "report.html", model=output.model)
    provenance = dict(ensemble.provenance)
    checks = [{"check": name, "passed": passed, "total": total} for name, passed, total in ensemble.validity_table()]
    summary = [
        (row["check"], row["passed"], row["total"], f"{100 * row['passed'] / max(row['total'], 1):.2f} %") for row in checks
    ]
    table(ctx, ("check", "passed", "of", ""), summary, title=f"{system.name}: {len(ensemble):,} conformations")
    if ensemble.kind == "ligand":
        from equilibra.cli.ligand_input import tell_clusters

        tell_clusters(ctx, ensemble)
    elif ensemble.kind == "adsorbate":
        from equilibra.cli.adsorbate_input import tell_sites

        tell_sites(ctx, ensemble)
    _say_weights(ctx, provenance)
    rate = provenance["timing"]["samples_per_second"]
    speed = "all blocks were there" if rate is None else f"{rate:,.1f} per second"
    say(
        ctx,
        f"{provenance['network_calls']} network calls each, {speed}; files in '{folder}': {', '.join([*_atoms_file(ensemble), *wanted])}, ensemble.json",
    )
    for line in (*judged, moved):
        if line:
            say(ctx, line)
    return _row(system.name, len(ensemble), checks, provenance, folder)


def _atoms_file(ensemble: Any) -> list[str]:
    return [] if ensemble.topology_file is None else [ensemble.topology_file]


def _add_atoms(ctx: typer.Context, ensemble: Any, folder: Path, engine: str) -> str:
    """Builds and relaxes all atoms on the samples of a folder, and returns what moved."""
    from equilibra.systems.protein.all_atom_ensemble import all_atom_ensemble

    with bar(ctx, f"{ensemble.system.name}: all atoms", len(ensemble)) as shown:
        made = all_atom_ensemble(
            ensemble,
            folder,
            engine=engine,
            progress=shown.count,
        )
    return f"All atoms ({engine}): {made.summary()}. Each frame is in relaxation.csv."


def _stale(folder: Path, output: Output) -> bool:
    """Tells whether the all-atom files of a folder were made by another engine, or of fewer samples than there are; or crystals or adsorbates judged or relaxed by others."""
    if output.design is not None:
        try:
            known = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))["provenance"]
        except (OSError, ValueError, KeyError):
            return True
        return any(known.get(key) != value for key, value in output.design.record.items())
    if output.all_atom is None:
        return False
    try:
        made = json.loads((folder / "all-atom-blocks" / "run.json").read_text(encoding="utf-8"))["engine"]
        rows = len((folder / "relaxation.csv").read_text(encoding="utf-8").splitlines()) - 1
        frames = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))["frames"]
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return bool(made != output.all_atom or rows != frames)


def _say_weights(ctx: typer.Context, provenance: dict[str, Any]) -> None:
    """Says what the samples were guided to, and how good the weights are, where there are any."""
    if "guidance" in provenance:
        from equilibra.systems.guided import guide_lines

        for line in guide_lines(provenance["guidance"]):
            say(ctx, line)
    if "path_weights" not in provenance:
        return
    from equilibra.systems.weighted import weight_lines

    numbers, verdict = weight_lines(provenance["path_weights"])
    say(ctx, f"Weights for {provenance['energy']} at {provenance['temperature_k']:g} K: {numbers}.")
    say(ctx, verdict)


def _row(name: str, frames: int, checks: list[dict[str, Any]], provenance: dict[str, Any], folder: Path) -> list[object]:
    valid = checks[-1]
    rate = provenance["timing"]["samples_per_second"]
    share = f"{100 * valid['passed'] / max(valid['total'], 1):.2f} %"
    return [name, f"{frames:,}", share, provenance["network_calls"], "-" if rate is None else f"{rate:,.1f}", folder]


def _reporter(shown: Bar, block_size: int) -> Any:
    import time

    start = time.monotonic()
    first: list[float] = []

    def report(state: "Progress") -> None:
        drawn = state.drawn + state.fraction * block_size
        if not first:
            first.append(drawn)
        rate = (drawn - first[0]) / max(time.monotonic() - start, 1e-9)
        # a block's samples are checked at its end; until then count on its share
        done = min(state.wanted, state.valid + state.fraction * block_size)
        shown.update(done, note=state.note or f"{state.valid:,}/{state.wanted:,} valid, {rate:,.0f}/s")

    return report


def _finished(folder: Path, identity: dict[str, Any], options: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the description of the ensemble in a folder if it is of this run and has enough conformations."""
    try:
        description = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
        provenance = description["provenance"]
        wanted = json.loads(json.dumps({**identity, "seed": options["seed"], "block_size": options["block_size"]}))
        same = all(provenance[key] == value for key, value in wanted.items())
        return description if same and description["frames"] >= options["n"] and provenance["timing"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
