"""`equilibra density-map`: where adsorbed atoms are, on a grid over the cell of a surface."""

from pathlib import Path
from typing import Annotated

import typer

from equilibra.cli.checks import at_least, one_of, present, writable
from equilibra.cli.console import bar, say, table
from equilibra.errors import InputError

NAME = "density-map"
EXAMPLE = (
    "Examples:\n\nequilibra density-map out/\n\nequilibra density-map out/ --grid 20,20,10 --exact emt\n\n"
    "equilibra density-map out/ --of model --model runs/metals/model --reference other/density.npz"
)
KINDS = ("samples", "model")


def run(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="A folder of samples of an adsorbate.", metavar="OUT")],
    of: Annotated[
        str,
        typer.Option(
            "--of", help="samples (their weighted occupancy) or model (its own log p at the points, for one mobile atom)."
        ),
    ] = "samples",
    grid: Annotated[str, typer.Option("--grid", help="Points along the two vectors of the cell and of heights.")] = "20,20,10",
    heights: Annotated[
        str | None,
        typer.Option(
            "--heights",
            help="Range of heights above the top of the surface, in Å, such as 0.5,3; by default all that there are.",
        ),
    ] = None,
    element: Annotated[str | None, typer.Option("--element", help="Count the atoms of this element only.")] = None,
    smooth: Annotated[float, typer.Option("--smooth", help="Width in Å that the counts are smoothed by.")] = 0.0,
    weighted: Annotated[bool, typer.Option("--weighted/--raw", help="Use the weights of the samples.")] = True,
    exact: Annotated[
        str | None,
        typer.Option(
            "--exact",
            help="Compare with the exact Boltzmann map of this energy (emt, chgnet, ...) by integration on a fine grid, for one mobile atom.",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="Compare with this map (density.npz) or folder of samples of the same system."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", help="Temperature in K, of --exact and --of model; by default that of the samples."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="With --of model, which one; by default the one that drew the samples.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write to; by default density-map/ in OUT.")] = None,
) -> None:
    """Map where adsorbed atoms are: density.cube, density.npz, a picture and a page; with --exact or --reference, the difference in numbers."""
    one_of("kind of map", of, KINDS)
    shape = tuple(_numbers("--grid", grid, 3, int))
    span = None if heights is None else tuple(_numbers("--heights", heights, 2, float))
    if smooth < 0:
        raise InputError(f"--smooth: got {smooth}, expected a number that is not negative")
    for number in shape:
        at_least("--grid", number, 1)
    if temperature is not None and not temperature > 0:
        raise InputError(f"--temperature: got {temperature}, expected a positive number in K")
    if of == "model" and (element is not None or smooth or not weighted):
        raise InputError("--of model: has neither counts nor weights; leave --element, --smooth and --raw out")
    if reference is not None and not reference.is_dir():
        present(reference)
    folder = Path(source) / NAME if out is None else out
    writable(folder)

    from equilibra.report.density_map_page import make_maps, write_map_report
    from equilibra.systems.adsorbate.runs import join_runs, load_runs

    ensemble = join_runs(load_runs(source))
    with bar(ctx, "density map", 1.0) as shown:
        found = make_maps(
            ensemble,
            of=of,
            shape=shape,
            heights=span,
            element=element,
            smooth=smooth,
            weighted=weighted,
            exact=exact,
            reference=reference,
            temperature=temperature,
            model=model,
            progress=lambda done, total: shown.update(done, total=total, note=f"{done:,}/{total:,} points"),
        )
    files = write_map_report(found, ensemble, folder)
    if found.differences:
        rows = [(name, f"{value:.4f}") for name, value in found.differences.items()]
        table(ctx, ("difference from the reference", "value"), rows, title=f"{found.map.name} against {found.reference_name}")
    say(ctx, f"files in '{folder}': {', '.join(path.name for path in files)}")


def _numbers(option: str, text: str, count: int, kind: type) -> list:
    parts = text.split(",")
    try:
        values = [kind(part) for part in parts]
    except ValueError:
        values = []
    if len(values) != count:
        raise InputError(f"{option}: got '{text}', expected {count} numbers with commas between them")
    return values
