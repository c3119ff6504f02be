"""`equilibra sample`: equilibrium conformations from a model."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equilibra.cli import adsorbate_input as adsorbates
from equilibra.cli import adsorbate_relaxation, crystal_design, guiding
from equilibra.cli import ligand_input as ligands
from equilibra.cli.checks import at_least, one_of, writable
from equilibra.cli.console import complain, say, table
from equilibra.cli.domains import (
    DEFAULT_FORMATS,
    DOMAINS,
    chain_names,
    energies_of,
    formats_of,
    model_of,
    reader_of,
    refuse,
    systems_of,
)
from equilibra.cli.domains import FORMATS as DOMAIN_FORMATS
from equilibra.cli.sampling import Output, folders, sample_one
from equilibra.errors import EquilibraError, InputError

if TYPE_CHECKING:
    from equilibra.sampling.choose import SamplerConfig
    from equilibra.systems.guides import GuideText
    from equilibra.systems.model import Model

NAME = "sample"
EXAMPLE = (
    "Example:\n\nequilibra sample molecule ACE-ALA-NME -n 1000 --seed 0 -o out/\n\n"
    "With weights for the Boltzmann distribution of a force field:\n\n"
    "equilibra sample molecule ACE-ALA-NME -n 1000 --energy amber99sbildn-obc -o weighted/\n\n"
    "Guided to a property, with weights for that:\n\n"
    "equilibra sample molecule ACE-ALA-NME -n 1000 --guide distance:2,18=..2.5 -o guided/\n\n"
    "A protein, with all its atoms:\n\n"
    "equilibra sample protein GYDPETGTWG -n 1000 --model runs/mine/model --all-atom -o chignolin/\n\n"
    "Crystals of carbon, with 6 to 24 atoms in the cell, and some with the band gap that a model with labels is asked for:\n\n"
    "equilibra sample crystal C --atoms 6..24 -n 200 --model runs/carbon/model -o carbon/\n\n"
    "equilibra sample crystal C8 -n 200 --label band_gap=3.0 --strength 2 --model runs/gaps/model -o gaps/\n\n"
    "equilibra sample crystal C8 -n 200 --guide band-gap:megnet=3.0 --judge band-gap:xtb --relax tight-binding --model runs/carbon/model -o gaps/\n\n"
    "Poses of a ligand in the pocket of another, with weights for the Boltzmann distribution of the Vina score:\n\n"
    "equilibra sample ligand receptor.pdb ligand.sdf --ref-ligand known.sdf -n 50 --energy vina -o poses/\n\n"
    "Carbon monoxide on platinum, with weights for the Boltzmann distribution of an energy:\n\n"
    "equilibra sample adsorbate --slab 'Pt(111) 3x3x4' --adsorbate CO -n 200 --energy emt --temperature 500 --relax emt -o co/\n\n"
    "Repeat the command to go on with an interrupted run; with a larger -n to draw more."
)
SAMPLERS = ("dpm2m", "heun", "euler", "sde", "sde2m")
SPACINGS = ("log", "karras")
FORMATS = DOMAIN_FORMATS["molecule"]
"""All formats; a domain's own are in `cli.domains`."""
ENGINES = ("pdbfixer", "rigid", "tmol")
PROTEINS, CRYSTALS = "Proteins", "Crystals"
_FRAMES = ", whose frames without side chains have no energy that is known"
_ALL_THERE = ", whose atoms are all there"
_PERIODIC = ", whose coordinates are periodic, for which paths have no exact weights"


def run(
    ctx: typer.Context,
    domain: Annotated[
        str, typer.Argument(help="Kind of system: molecule, protein, crystal, ligand or adsorbate.", metavar="DOMAIN")
    ],
    source: Annotated[
        list[str] | None,
        typer.Argument(
            help="Peptides (ACE-ALA-NME), SMILES, or SDF, MOL, PDB or SMI files; of proteins, sequences of one-letter codes (':' between chains), or "
            "FASTA, PDB or mmCIF files; of crystals, formulas of one cell (C8, NaCl) or files of structures; of ligands a receptor (PDB, mmCIF), then ligands "
            "(SDF, MOL2 or SMI files, SMILES), or one table (CSV) or folder of complexes; of adsorbates texts such as 'CO@Pt(111) 3x3x4', or --slab and --adsorbate. Several go to a sub-folder each.",
            metavar="SOURCE",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Valid conformations wanted, of each system.")] = 1000,
    seed: Annotated[
        int, typer.Option("--seed", help="The same seed gives the same conformations, whatever the batch size.")
    ] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("out"),
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="A shipped model, or the folder of your own; by default the shipped one of the domain (`equilibra models`).",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Noise levels; by default the model's.")] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="dpm2m, heun, euler, sde or sde2m; by default the model's.")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option("--spacing", help="Spacing of the noise levels: log or karras; by default the model's.")
    ] = None,
    eta: Annotated[float | None, typer.Option("--eta", help="Stochasticity of the sde sampler, 1 by default.")] = None,
    churn: Annotated[
        float | None, typer.Option("--churn", help="Noise added before each step, relative; not with dpm2m and sde2m.")
    ] = None,
    energy: Annotated[
        str | None,
        typer.Option(
            "--energy",
            help="Weight the conformations for the Boltzmann distribution of this energy: a force field of peptides such as "
            "amber99sbildn-obc, or mmff94, mmff94s, gaff2, so3lr. Not with the options of a sampler.",
        ),
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(
            "--levels", help="Noise levels of a path, with --energy; 200 by default. More cost more, and raise the ESS."
        ),
    ] = None,
    smc: Annotated[
        int | None,
        typer.Option(
            "--smc",
            help="With --energy, anneal the paths of each block to the energy, with so many moves between levels: for weights that are too uneven. "
            "Blocks should have some hundred conformations.",
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", help="Temperature in K, of a model of several or of the energy; by default the model's."),
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option(
            "--block-size",
            help="Conformations of a block, the unit kept when interrupted, and one population with --guide; by default 50, or 100 with --guide.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Conformations given to the network at once; lower it if memory is short."),
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="xtc, dcd, npz, pdb, sdf or extxyz (the last two of molecules); of crystals extxyz, cif.zip or npz; repeat it for several.",
        ),
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
    guide: guiding.Guide = None,
    guide_external: guiding.External = None,
    strength: guiding.Strength = None,
    uncorrected: guiding.Uncorrected = False,
    label: guiding.Label = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            help="Extra features of residues and pairs, of the kind that the model was trained with: none, SINGLE.npy,PAIR.npy, an npz file, a folder "
            "of these, esm:WEIGHTS, or structure:PATH of known structures.",
            rich_help_panel=PROTEINS,
        ),
    ] = None,
    chains: Annotated[
        list[str] | None,
        typer.Option(
            "--chains", help="Chains to take of structures, such as A or A,B; by default all.", rich_help_panel=PROTEINS
        ),
    ] = None,
    all_atom: Annotated[
        bool,
        typer.Option(
            "--all-atom",
            help="Add side chains and hydrogens to every conformation and relax them with OpenMM: all-atom.pdb, all-atom.xtc, relaxation.csv.",
            rich_help_panel=PROTEINS,
        ),
    ] = False,
    side_chains: Annotated[
        str | None,
        typer.Option(
            "--side-chains",
            help="With --all-atom, what places them: pdbfixer (default), rigid or tmol.",
            rich_help_panel=PROTEINS,
        ),
    ] = None,
    atoms: Annotated[
        str | None,
        typer.Option(
            "--atoms",
            help="Number of atoms in the cell, or a range such as 6..24, of which the sizes are drawn as often as the model's training had them; the "
            "source is the formula of one unit then, such as C.",
            rich_help_panel=CRYSTALS,
        ),
    ] = None,
    ref_ligand: ligands.RefLigand = None,
    center: ligands.Center = None,
    size: ligands.Size = None,
    residues: ligands.Residues = None,
    waters: ligands.Waters = False,
    keep_geometry: ligands.KeepGeometry = False,
    slab: adsorbates.Slab = None,
    adsorbate: adsorbates.Adsorbates = None,
    coverage: adsorbates.Coverage = 1,
    relax_layers: adsorbate_relaxation.Layers = 0,
    judge: crystal_design.Judge = None,
    relax: crystal_design.Relax = None,
    training: crystal_design.Training = None,
) -> None:
    """Draw equilibrium conformations of molecules or proteins, or crystal structures, from a trained model."""
    options_given = dict(locals())
    one_of("domain", domain, DOMAINS)
    if domain != "ligand":
        refuse(domain, {f"--{name.replace('_', '-')}": (options_given[name], ", which have no pocket") for name in ligands.OWN})
    if domain != "adsorbate":
        refuse(
            domain,
            {
                "--slab": (slab, ""),
                "--adsorbate": (adsorbate, ""),
                "--coverage": (coverage if coverage != 1 else None, ""),
                "--relax-layers": (relax_layers or None, ""),
            },
        )
        if not source:
            raise InputError(
                f"sample: got nothing to sample; name it after the domain, as in `equilibra sample {domain} SOURCE`"
            )
    refuse(domain, _meaningless(domain, energy, features, chains, all_atom, side_chains, atoms))
    if domain != "crystal":
        refuse(domain, {"--judge": (judge, ""), "--training": (training, "")})
        refuse(domain, {"--relax": (None if domain in ("adsorbate", "ligand") else relax, "")})
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
    at_least("--levels", levels, 2)
    at_least("--smc", smc, 1)
    if temperature is not None and not 0.0 < temperature < float("inf"):
        raise InputError(f"--temperature: got {temperature:g} K, expected a positive number")
    given = {"--sampler": sampler, "--steps": steps, "--spacing": spacing, "--eta": eta, "--churn": churn}
    _check_weighting(energy, {"--levels": levels, "--smc": smc}, [name for name, value in given.items() if value is not None])
    labels = guiding.wanted_labels(label)
    design: crystal_design.Design | adsorbate_relaxation.SiteRelaxation | None
    if domain == "adsorbate":
        design = adsorbate_relaxation.relaxation_of(relax, relax_layers)
    else:
        design = crystal_design.design_of(judge, None if domain == "ligand" else relax, training, labels)
    guides = guiding.guide_texts(guide, guide_external, strength, uncorrected, energy, labels)
    one_of("sampler", sampler, SAMPLERS)
    one_of("spacing", spacing, SPACINGS)
    one_of("precision", precision, ("fp32", "bf16"))
    formats = formats_of(domain, format or DEFAULT_FORMATS[domain])
    one_of("side-chain engine", side_chains, ENGINES)
    if side_chains is not None and not all_atom:
        raise InputError("--side-chains: has an effect with --all-atom only")
    chosen = chain_names(chains)
    writable(out)

    import torch

    if energy is not None and domain != "adsorbate":  # any calculator is one of theirs
        one_of("energy", energy, energies_of(domain))

    from equilibra.memory import keep_freed_memory
    from equilibra.systems.guided import block_size_of, guided_sampler

    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = model_of(domain, model)
    way: dict[str, Any] = {"energy": energy, "levels": levels, "smc": smc}
    corrected = guides is not None and not uncorrected
    block_size = block_size_of(block_size, corrected=corrected)
    if energy is None:
        own = guided_sampler(loaded.sampler, None, corrected=corrected)
        way = {"sampler": _sampler(own, steps=steps, name=sampler, spacing=spacing, eta=eta, churn=churn)}
    if guides is not None:
        guided_sampler(loaded.sampler, way["sampler"], corrected=corrected)
        way |= {"guides": guides, "corrected": corrected}
    if labels is not None:
        loaded.scope.told(labels, loaded.name)
        guiding.warn_of_labels(loaded, labels)
        way |= {"labels": labels, "label_strength": 1.0 if strength is None else strength}
    way |= {"temperature": temperature, "precision": precision}
    if domain == "ligand" and relax is not None:
        one_of("relax", relax, energies_of(domain))
        way |= {"relax": relax}
    early = _check(loaded, block_size, batch_size, None, guides)
    read = reader_of(domain, loaded, features=features, chains=chosen, check=early)
    engine = (side_chains or ENGINES[0]) if all_atom else None
    check = _check(loaded, block_size, batch_size, engine, guides, design)
    # with --atoms a source is one unit of a cell: what the model has seen are multiples of it
    allowed = outside_scope or atoms is not None
    sources: list[Any] = list(source or ())
    if domain == "ligand":
        sources = list(ligands.inputs_of(sources, options_given))
    elif domain == "adsorbate":
        sources = list(adsorbates.sources_of(source, options_given))
    systems, problems = systems_of(loaded, sources, read, outside_scope=allowed, check=check)
    for problem in problems:
        complain(str(problem))
    if not systems:
        raise typer.Exit(2)
    wanted = [n] * len(systems)
    if atoms is not None:
        from equilibra.cli.crystal_sampling import of_sizes

        systems, wanted = map(list, zip(*of_sizes(loaded, systems, atoms, n, seed), strict=True))
    several = len(systems) + len(problems) > 1
    output = Output(formats=formats, report=report, model=model or loaded.name, all_atom=engine, design=design)
    options: dict[str, Any] = {"seed": seed, "block_size": block_size, "batch_size": batch_size}
    options |= {"outside_scope": outside_scope, "compile": compile}
    rows, worst = [], 2 if problems else 0
    places = folders(out, systems, domain) if several else [(out, systems[0])]
    for (folder, system), count in zip(places, wanted, strict=True):
        try:
            guiding.warn(loaded, system, guides)
            if domain == "ligand":
                ligands.tell(ctx, system)
            rows.append(sample_one(ctx, loaded, system, folder, output, way, {**options, "n": count}))
        except EquilibraError as error:
            if not several:
                raise
            complain(f"{system.name}: {error}")
            worst = max(worst, error.exit_code)
    if several and rows:
        table(ctx, ("system", "conformations", "valid", "calls each", "per second", "folder"), rows)
    if atoms is not None and several and not worst:
        from equilibra.cli.crystal_sampling import write_all

        say(ctx, f"all of them together in '{out}': {', '.join(write_all([folder for folder, _ in places], out))}")
    if worst:
        raise typer.Exit(worst)


def _meaningless(
    domain: str,
    energy: str | None,
    features: str | None,
    chains: list[str] | None,
    all_atom: bool,
    side_chains: str | None,
    atoms: str | None,
) -> dict[str, tuple[object, str]]:
    """Returns the options that have no meaning for a domain, with the reasons; see `refuse`."""
    if domain == "protein":
        return {"--energy": (energy, _FRAMES), "--atoms": (atoms, "")}
    others: dict[str, tuple[object, str]] = {
        "--features": (features, ""),
        "--chains": (chains, ""),
        "--all-atom": (all_atom, _ALL_THERE),
        "--side-chains": (side_chains, _ALL_THERE),
    }
    return {**others, "--energy": (energy, _PERIODIC)} if domain == "crystal" else {**others, "--atoms": (atoms, "")}


def _check(
    model: "Model",
    block_size: int,
    batch_size: int | None,
    engine: str | None,
    guides: "list[GuideText] | None",
    design: crystal_design.Design | adsorbate_relaxation.SiteRelaxation | None = None,
) -> Callable[[Any], object]:
    """Returns what is checked of a system before anything is drawn: memory, the properties of guides, judges, relaxations, and that the engine can place side chains."""
    from equilibra.systems.domain import domain
    from equilibra.systems.guides import ready_guides

    module = domain(model.domain)

    def check(system: Any) -> None:
        module.fitting_batch(system, model.network, batch_size, block_size, gradients=guides is not None)
        ready = [] if guides is None else ready_guides(guides, model.domain, system)
        if design is not None:
            design.check(system, [item.guide.property.name for item in ready])
        if engine is not None:
            from equilibra.systems.protein.all_atom import side_chain_engine
            from equilibra.systems.protein.peptides import all_atom_protein

            side_chain_engine(engine, all_atom_protein(system))

    return check


def _check_weighting(energy: str | None, path_options: dict[str, int | None], sampler_options: list[str]) -> None:
    """Refuses options that do not go together."""
    for name, value in path_options.items():
        if energy is None and value is not None:
            raise InputError(f"{name}: has an effect with --energy only; use --steps for the noise levels of a sampler")
    if energy is not None and sampler_options:
        raise InputError(
            f"{sampler_options[0]}: cannot be combined with --energy, whose weights need a path of its own; leave it out, and use --levels "
            "for the number of noise levels"
        )


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
