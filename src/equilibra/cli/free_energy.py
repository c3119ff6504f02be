"""`equilibra free-energy`: populations and free energies of states, and profiles along collective variables."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from equilibra.cli.checks import at_least, writable
from equilibra.cli.console import say, table
from equilibra.cli.density import target
from equilibra.cli.domains import only_molecules
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.report.free_energies import FreeEnergies

NAME = "free-energy"
EXAMPLE = (
    'Examples:\n\nequilibra free-energy out/ --cv phi --states "phi<0" "phi>0"\n\n'
    'equilibra free-energy md/ --cv phi --second-cv psi --states "phi<0" "0<phi<2"\n\n'
    "equilibra free-energy out/ --cv distance:5,17"
)


class Command(TyperCommand):
    """Lets `--states` take several texts, up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the command line."""
        return super().parse_args(ctx, spread(args))


def spread(args: list[str]) -> list[str]:
    """Returns arguments with each text after `--states` as an option of its own: `--states a b` becomes `--states=a --states=b`.

    A text that begins with a minus and a digit, such as `-2<phi`, is no option.
    """
    found: list[str] = []
    inside = False
    for argument in args:
        if argument == "--states":
            inside = True
        elif inside and (not argument.startswith("-") or re.match(r"-[\d.]", argument)):
            found.append(f"--states={argument}")
        else:
            inside = False
            found.append(argument)
    return found


def run(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(help="A folder of samples or of a simulation, a PDB or SDF file, or FILE:TOPOLOGY.", metavar="OUT")
    ],
    cv: Annotated[
        str,
        typer.Option(
            "--cv",
            help="Collective variable: a torsion (phi, 'psi ALA2', chi1), distance:i,j, angle:i,j,k, dihedral:i,j,k,l (atoms from 1), or rg.",
        ),
    ],
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--states",
            help="States such as 'phi<0' '0<phi<2' 'phi>-120deg and psi<1', in rad and Å; each is compared with the first.",
        ),
    ] = None,
    second_cv: Annotated[str | None, typer.Option("--second-cv", help="A second variable, for a surface.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Temperature in K, where the files do not say it; for kJ/mol only.")
    ] = None,
    block: Annotated[
        int | None,
        typer.Option(
            "--block", help="Frames of a block for the error bars of a trajectory; by default estimated. 1: independent."
        ),
    ] = None,
    bins: Annotated[
        int | None, typer.Option("--bins", help="Bins of the profile; by default chosen by the number of samples.")
    ] = None,
    allow_untrusted: Annotated[
        bool, typer.Option("--allow-untrusted", help="Show numbers even if the weights cannot be trusted.")
    ] = False,
    topology: Annotated[Path | None, typer.Option("--topology", help="PDB or SDF file of a trajectory without atoms.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write to; by default free-energy/ in OUT.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstraps.")] = 0,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write free-energy.html.")] = True,
) -> None:
    """Compute populations, free-energy differences and profiles of an ensemble, weighted or not, with error bars; refuse what cannot be trusted."""
    for name, value, least in (("--block", block, 1), ("--bins", bins, 2), ("--seed", seed, 0)):
        at_least(name, value, least)
    if temperature is not None and not temperature > 0:
        raise InputError(f"--temperature: got {temperature}, expected a positive number in K")
    folder = target(source, out, NAME)
    only_molecules(NAME, source, "; `equilibra evaluate --native` gives the free energy of folding")
    writable(folder)

    from equilibra.report.free_energies import free_energy

    options: dict[str, Any] = {"cv": cv, "states": states or [], "second_cv": second_cv, "temperature": temperature}
    options |= {"block": block, "allow_untrusted": allow_untrusted, "topology": topology, "bins": bins, "seed": seed}
    try:
        result = free_energy(source, **options)
    except InputError as error:
        # the library cannot know what the option is called
        raise InputError(str(error).replace("allow it explicitly", "give --allow-untrusted")) from error
    files = [path.name for path in result.save(folder)]
    if report:
        from equilibra.report.free_energy_page import write_free_energy_report

        files.append(write_free_energy_report(result, folder / "free-energy.html").name)
    _summary(ctx, result)
    say(ctx, f"files in '{folder}': {', '.join(files)}")


def _summary(ctx: typer.Context, result: "FreeEnergies") -> None:
    from equilibra.report.free_energy_page import interval, percent

    rows = [
        (
            s.name,
            percent(s.population.value),
            f"{percent(s.population.low)} to {percent(s.population.high)}",
            f"{s.count:,}",
            f"{s.effective:,.1f}",
        )
        for s in result.states
    ]
    if rows:
        title = f"{result.name}: {result.samples.n:,} conformations"
        table(ctx, ("state", "population", "95 % interval", "conformations", "effective"), rows, title=title)
    lines = [
        (f"{d.start} -> {d.end}", str(d.kt), interval(d.kt), "-" if d.kj_per_mol is None else str(d.kj_per_mol))
        for d in result.differences
    ]
    if lines:
        table(ctx, ("free energy", "kT", "95 % interval", "kJ/mol"), lines)
    if result.absolute is not None:
        say(
            ctx,
            f"log Z {result.absolute.log_z}, entropy S/k {result.absolute.entropy}, heat capacity C/k {result.absolute.heat_capacity}",
        )
    notes = [*(s.population.note for s in result.states), *(d.kt.note for d in result.differences)]
    diagnosis = "" if result.samples.diagnosis is None else result.samples.diagnosis.sentence
    for words in dict.fromkeys([*notes, diagnosis, result.samples.sentence, result.samples.warning, *result.notes]):
        if words:
            say(ctx, f"{words[0].upper()}{words[1:]}")
