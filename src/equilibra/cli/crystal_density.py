"""What `density` does for crystals: the log-density of structures under a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from equilibra.cli.console import bar, say, table
from equilibra.cli.domains import refuse

if TYPE_CHECKING:
    from equilibra.systems.crystal.density import CrystalDensity


def is_crystals(source: str) -> bool:
    """Tells whether a source of densities is of crystals: samples of them, in one folder or several, or a file or folder of structures; no molecule is read from CIF files."""
    from equilibra.report.source_domain import looks_like_crystals
    from equilibra.systems.ensemble_folder import kind_of

    path = Path(source)
    if kind_of(path) == "crystal" or looks_like_crystals(path):
        return True
    # elsewhere CIF files may hold proteins, of which there are no densities
    files = path.glob("*.cif") if path.is_dir() and not (path / "ensemble.json").exists() else [path]
    return any(file.is_file() and file.suffix.lower() == ".cif" for file in files)


def density_of_crystals(ctx: typer.Context, source: str, folder: Path, given: Mapping[str, Any]) -> None:
    """Computes, writes and tells log-densities.

    Arguments:
        ctx: The command.
        source: Samples or structures.
        folder: Where to write.
        given: The options of the command, by the names of their parameters.

    Raises:
        InputError: If an option has no meaning for crystals, or the structures cannot be read.
    """
    names = ("energy", "temperature", "topology")
    refuse("crystal", {f"--{name}": (given[name], ", whose densities are those of data") for name in names})
    refuse("crystal", {"--compile": (given["compile"], ", whose networks are not compiled")})

    from equilibra.cli.guiding import wanted_labels
    from equilibra.density.trace import Trace
    from equilibra.systems.crystal.density import crystal_log_density
    from equilibra.systems.density_blocks import flow_config

    with bar(ctx, "log-density", 1.0) as shown:
        result = crystal_log_density(
            given["model"],
            source,
            labels=wanted_labels(given["label"]),
            config=flow_config(given["steps"], given["check"], given["tolerance"], given["batch_size"]),
            trace=Trace(kind=given["trace"], probes=given["probes"]),
            most=given["most"],
            seed=given["seed"],
            folder=folder,
            outside_scope=given["outside_scope"],
            progress=lambda now: shown.update(now.done, total=now.wanted, note=f"{now.done:,.0f}/{now.wanted:,}"),
        )
    files = [path.name for path in result.save(folder)]
    if given["report"]:
        from equilibra.report.crystal_density_page import write_crystal_density_report

        files.append(write_crystal_density_report(result, folder / "density.html").name)
    _summary(ctx, result, folder, files)


def _summary(ctx: typer.Context, result: CrystalDensity, folder: Path, files: list[str]) -> None:
    from equilibra.systems.crystal.density import MEASURE

    sizes: Mapping[str, Any] = result.to_dict()["by_number_of_atoms"]
    rows = [
        (f"mean of ln p, {count} atoms", f"{row['mean']:.3f} nats over {row['structures']:,} structures")
        for count, row in sizes.items()
    ]
    error = result.integration_error
    rows.append(("integration error, mean and largest", f"{error.mean():.2g}, {error.max():.2g} nats"))
    if result.trace_error.any():
        rows.append(("trace error, mean and largest", f"{result.trace_error.mean():.2g}, {result.trace_error.max():.2g} nats"))
    table(ctx, ("", "value"), rows, title=f"ln p of {len(result):,} crystal structures")
    for note in result.notes:
        say(ctx, note)
    say(ctx, f"{MEASURE[0].upper()}{MEASURE[1:]}.")
    say(ctx, f"files in '{folder}': {', '.join(files)}")
