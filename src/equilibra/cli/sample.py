"""`equilibra sample`: equilibrium conformations from a model."""

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equilibra.cli.checks import at_least, one_of, writable
from equilibra.cli.console import Bar, bar, complain, say, table
from equilibra.errors import EquilibraError, InputError

if TYPE_CHECKING:
    from equilibra.sampling.choose import SamplerConfig
    from equilibra.systems.blocks import Progress
    from equilibra.systems.model import Model

NAME = "sample"
EXAMPLE = (
    "Example:\n\nequilibra sample molecule ACE-ALA-NME -n 1000 --seed 0 -o out/\n\n"
    "Repeat the command to go on with an interrupted run; with a larger -n to draw more."
)
DOMAINS = ("molecule",)
SAMPLERS = ("dpm2m", "heun", "euler", "sde")
SPACINGS = ("log", "karras")
FORMATS = ("xtc", "dcd", "npz", "pdb", "sdf", "extxyz")


def run(
    ctx: typer.Context,
    domain: Annotated[str, typer.Argument(help="Kind of system: molecule.", metavar="DOMAIN")],
    source: Annotated[
        list[str],
        typer.Argument(
            help="Peptides (ACE-ALA-NME), SMILES, or SDF, MOL, PDB or SMI files; several go to a sub-folder each.",
            metavar="SOURCE",
        ),
    ],
    n: Annotated[int, typer.Option("-n", help="Valid conformations wanted, of each system.")] = 1000,
    seed: Annotated[
        int, typer.Option("--seed", help="The same seed gives the same conformations, whatever the batch size.")
    ] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("out"),
    model: Annotated[str, typer.Option("--model", help="A shipped model, or the folder of your own.")] = "molecule-ala2",
    steps: Annotated[int | None, typer.Option("--steps", help="Noise levels; by default the model's.")] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="dpm2m, heun, euler or sde; by default the model's.")] = None,
    spacing: Annotated[
        str | None, typer.Option("--spacing", help="Spacing of the noise levels: log or karras; by default the model's.")
    ] = None,
    eta: Annotated[float | None, typer.Option("--eta", help="Stochasticity of the sde sampler, 1 by default.")] = None,
    churn: Annotated[
        float | None, typer.Option("--churn", help="Noise added before each step, relative; not with dpm2m.")
    ] = None,
    block_size: Annotated[
        int, typer.Option("--block-size", help="Conformations of a block, the unit kept when interrupted.")
    ] = 50,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Conformations given to the network at once; lower it if memory is short."),
    ] = None,
    format: Annotated[
        list[str] | None, typer.Option("--format", help="xtc, dcd, npz, pdb, sdf or extxyz; repeat it for several.")
    ] = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html.")] = True,
    outside_scope: Annotated[
        bool, typer.Option("--outside-scope", help="Allow molecules that the model was not trained for.")
    ] = False,
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: pays from some ten thousand conformations on.")
    ] = False,
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, or bf16: faster, other conformations of the same quality.")
    ] = "fp32",
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads; by default PyTorch's choice.")] = None,
) -> None:
    """Draw equilibrium conformations of a molecule from a trained model."""
    one_of("domain", domain, DOMAINS)
    for name, value in (
        ("-n", n),
        ("--steps", steps),
        ("--block-size", block_size),
        ("--batch-size", batch_size),
        ("--threads", threads),
    ):
        at_least(name, value, 1)
    for name, number in (("--seed", seed), ("--eta", eta), ("--churn", churn)):
        at_least(name, number, 0)
    one_of("sampler", sampler, SAMPLERS)
    one_of("spacing", spacing, SPACINGS)
    one_of("precision", precision, ("fp32", "bf16"))
    formats = list(dict.fromkeys(format or ["xtc"]))
    for name in formats:
        one_of("format", name, FORMATS)
    writable(out)

    import torch

    from equilibra.memory import keep_freed_memory
    from equilibra.systems.model import load

    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load(model)
    if loaded.domain != domain:
        raise InputError(
            f"model '{model}' is of the domain '{loaded.domain}', not '{domain}'; `equilibra models` lists what there is"
        )
    config = _sampler(loaded.sampler, steps=steps, name=sampler, spacing=spacing, eta=eta, churn=churn)
    systems, problems = _systems(loaded, source, outside_scope)
    for problem in problems:
        complain(str(problem))
    if not systems:
        raise typer.Exit(2)
    several = len(systems) + len(problems) > 1
    rows, worst = [], 2 if problems else 0
    for folder, system in _folders(out, systems) if several else [(out, systems[0])]:
        try:
            options = {"n": n, "seed": seed, "sampler": config, "block_size": block_size, "batch_size": batch_size}
            rows.append(
                _one(
                    ctx,
                    loaded,
                    system,
                    folder,
                    formats,
                    report,
                    model,
                    {**options, "outside_scope": outside_scope, "compile": compile, "precision": precision},
                )
            )
        except EquilibraError as error:
            if not several:
                raise
            complain(f"{system.name}: {error}")
            worst = max(worst, error.exit_code)
    if several and rows:
        table(ctx, ("system", "conformations", "valid", "calls each", "per second", "folder"), rows)
    if worst:
        raise typer.Exit(worst)


def _sampler(
    default: "SamplerConfig",
    *,
    steps: int | None,
    name: str | None,
    spacing: str | None,
    eta: float | None,
    churn: float | None,
) -> "SamplerConfig":
    if eta is not None and (name or default.name) != "sde":
        raise InputError(f"--eta: has no effect on the sampler '{name or default.name}'; use it with --sampler sde")
    grid: dict[str, Any] = {key: value for key, value in (("steps", steps), ("spacing", spacing)) if value is not None}
    changes: dict[str, Any] = {
        key: value for key, value in (("name", name), ("eta", eta), ("churn", churn)) if value is not None
    }
    return dataclasses.replace(default, grid=dataclasses.replace(default.grid, **grid), **changes)


def _systems(model: "Model", sources: list[str], outside_scope: bool) -> tuple[list[Any], list[InputError]]:
    """Reads all sources; a bad one, or a bad record of a file, does not sink the others."""
    from equilibra.systems.model import domain
    from equilibra.systems.molecule.system import molecule_systems

    module = domain(model.domain)
    systems: list[Any] = []
    problems: list[InputError] = []
    for source in sources:
        try:
            found = molecule_systems(source, on_error=problems.append)
        except InputError as error:
            problems.append(error)
            continue
        for system in found:
            try:
                if not outside_scope:
                    module.check_scope(system, model.scope, model.name)
                systems.append(system)
            except InputError as error:
                problems.append(error)
    return systems, problems


def _folders(out: Path, systems: list[Any]) -> list[tuple[Path, Any]]:
    """Gives each system a sub-folder named after it; the same sources give the same folders."""
    folders, taken = [], set()
    for system in systems:
        stem = re.sub(r"[^A-Za-z0-9._+-]+", "_", system.name).strip("._") or "molecule"
        stem = stem if len(stem) <= 80 else f"{stem[:80]}-{system.digest[:8]}"
        name, number = stem, 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        folders.append((out / name, system))
    return folders


def _one(
    ctx: typer.Context,
    model: "Model",
    system: Any,
    folder: Path,
    formats: list[str],
    report: bool,
    model_name: str,
    options: dict[str, Any],
) -> list[object]:
    """Samples one system into its folder, and returns its row of the summary."""
    wanted = [f"samples.{suffix}" for suffix in formats] + (["report.html"] if report else [])
    finished = _finished(folder, model, system, options)
    if finished is not None and all((folder / name).is_file() for name in wanted):
        say(
            ctx,
            f"'{folder}' already holds {finished['frames']:,} conformations of this run ({options['n']:,} wanted); nothing was changed",
        )
        return _row(system.name, finished["frames"], finished["validity"], finished["provenance"], folder)
    done = len(list((folder / "blocks").glob("block-*.npz")))
    if done:
        say(ctx, f"going on with '{folder}': {done} blocks of {options['block_size']} conformations are there")
    if finished is not None:
        # fewer are wanted than there are: keep them all, and add what is missing beside them
        options = {**options, "n": max(options["n"], finished["frames"])}
    with bar(ctx, system.name, options["n"]) as shown:
        ensemble = model.sample(system, folder=folder, progress=_reporter(shown, options["block_size"]), **options)
    ensemble.save(folder, formats=formats)
    if report:
        from equilibra.report.from_ensemble import write_report

        write_report(ensemble, folder / "report.html", model=model_name)
    provenance = dict(ensemble.provenance)
    checks = [{"check": name, "passed": passed, "total": total} for name, passed, total in ensemble.validity_table()]
    summary = [
        (row["check"], row["passed"], row["total"], f"{100 * row['passed'] / max(row['total'], 1):.2f} %") for row in checks
    ]
    table(ctx, ("check", "passed", "of", ""), summary, title=f"{system.name}: {len(ensemble):,} conformations")
    rate = provenance["timing"]["samples_per_second"]
    speed = "all blocks were there" if rate is None else f"{rate:,.1f} per second"
    say(
        ctx,
        f"{provenance['network_calls']} network calls each, {speed}; files in '{folder}': topology.pdb, {', '.join(wanted)}, ensemble.json",
    )
    return _row(system.name, len(ensemble), checks, provenance, folder)


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
        shown.update(done, note=f"{state.valid:,}/{state.wanted:,} valid, {rate:,.0f}/s")

    return report


def _finished(folder: Path, model: "Model", system: Any, options: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the description of the ensemble in a folder if it is of this run and has enough conformations."""
    try:
        description = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
        provenance = description["provenance"]
        wanted = {
            "model": model.name,
            "weights": model.sha256,
            "system": system.digest,
            "sampler": json.loads(json.dumps(dataclasses.asdict(options["sampler"]))),
            "seed": options["seed"],
            "block_size": options["block_size"],
        }
        same = all(provenance[key] == value for key, value in wanted.items())
        return description if same and description["frames"] >= options["n"] and provenance["timing"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
