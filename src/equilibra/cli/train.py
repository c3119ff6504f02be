"""`equilibra train`: a model from trajectories, from structures, or from an energy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from equilibra.cli import adsorbate_input, adsorbate_training, ligand_input, ligand_training
from equilibra.cli import crystal_training as crystals
from equilibra.cli import protein_training as proteins
from equilibra.cli import training as options
from equilibra.cli.checks import at_least, one_of, writable
from equilibra.cli.console import say
from equilibra.errors import InputError, unknown_key_message
from equilibra.train.config import TrainConfig
from equilibra.train.energy_config import LOW_NOISE, MOLECULE, OBJECTIVES

NAME = "train"
EXAMPLE = (
    "Examples:\n\nequilibra train molecule --trajectory my.xtc --topology my.pdb --temperature 300 -o runs/mine/\n\n"
    'equilibra train molecule "CC(=O)NC(C)C(=O)NC" --energy mmff94 --minutes 30 -o runs/mine/\n\n'
    "equilibra train protein --data atlas/ --data my.xtc:my.pdb@0.5 -o runs/mine/\n\n"
    "equilibra train protein --data structures/ --energy amber14-obc2 --plain-data atlas/ -o runs/physical/\n\n"
    "equilibra train crystal --data train.csv -o runs/carbon/\n\n"
    "equilibra train adsorbate --slab 'Pt(111) 3x3x4' --slab 'Cu(100) 3x3x4' --adsorbate O --adsorbate CO --energy emt -o runs/metals/\n\n"
    "equilibra train ligand receptor.pdb ligand.sdf --ref-ligand known.sdf --energy vina -o runs/pocket/\n\n"
    "equilibra train ligand --data complexes.csv -o runs/ligands/\n\n"
    "equilibra train ligand --data md.xtc:complex.pdb --ligand-residue LIG -o runs/dynamics/\n\n"
    "equilibra train ligand pockets.csv --energy vina --data complexes.csv -o runs/pockets/\n\n"
    "Repeat the command to go on with an interrupted run."
)
DEFAULT = TrainConfig()
SIZES = ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels")
FROM_ENERGY = ("source", "minutes", "objective", "rounds", "rungs", "top_temperature", "walkers", "sweeps", "start_from")
"""Options of a training from an energy alone."""


def run(
    ctx: typer.Context,
    out: options.Out,
    domain: Annotated[
        str, typer.Argument(help="Kind of system: molecule, protein, crystal, adsorbate or ligand.", metavar="[DOMAIN]")
    ] = "molecule",
    source: Annotated[
        str | None,
        typer.Argument(
            help="With --energy: a peptide (ACE-ALA-NME), SMILES, or SDF, MOL or PDB file; by default the molecule of --topology. Of ligands: a receptor, or a table (CSV) or "
            "folder of complexes.",
            metavar="[SOURCE]",
        ),
    ] = None,
    ligand: Annotated[
        str | None,
        typer.Argument(help="Of ligands: an SDF, MOL2 or SMI file, or a SMILES, after the receptor.", metavar="[LIGAND]"),
    ] = None,
    trajectory: options.Start = None,
    topology: options.StartTopology = None,
    forces: options.Forces = None,
    stride: options.Stride = 1,
    skip: options.Skip = 0,
    temperature: Annotated[
        float,
        typer.Option("--temperature", help="Temperature in K: of the trajectories, or with --energy the lowest of the ladder."),
    ] = 300.0,
    energy: Annotated[
        str | None,
        typer.Option(
            "--energy",
            help="Train from this energy: mmff94, mmff94s, gaff2, so3lr, or a force field such as amber99sbildn-obc. Proteins: a force field, whose mean "
            "forces on snapshots of short dynamics join the --data.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", help="With --energy: time for the run on this machine; sets --sweeps and --steps."),
    ] = None,
    objective: Annotated[
        str, typer.Option("--objective", help=f"With --energy: {', '.join(OBJECTIVES)}.")
    ] = MOLECULE.objective,
    rounds: Annotated[
        int, typer.Option("--rounds", help="With --energy: rounds of collecting and training.")
    ] = MOLECULE.rounds,
    rungs: Annotated[
        int, typer.Option("--rungs", help="With --energy: temperatures of the ladder; the model knows all of them.")
    ] = MOLECULE.rungs,
    top_temperature: Annotated[
        float | None,
        typer.Option("--top-temperature", help="With --energy: highest temperature in K; 2.2 times the lowest by default."),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--start-from",
            help="With --energy: a model whose weights training starts from: of any molecule, such as molecule-ala2, of adsorbates, such as adsorbate-metals, or of ligands.",
        ),
    ] = None,
    walkers: Annotated[int, typer.Option("--walkers", help="With --energy: walkers at each temperature.")] = MOLECULE.columns,
    sweeps: Annotated[int, typer.Option("--sweeps", help="With --energy: sweeps of a round.")] = MOLECULE.sweeps,
    name: Annotated[str, typer.Option("--name", help="Name of the model.")] = "molecule",
    network: Annotated[
        list[str] | None,
        typer.Option("--network", help="Size of the network, such as dim=96 or layers=3; repeat it for several."),
    ] = None,
    steps: options.Steps = DEFAULT.steps,
    batch_size: options.BatchSize = DEFAULT.batch_size,
    learning_rate: options.LearningRate = DEFAULT.learning_rate,
    schedule: options.Schedule = DEFAULT.schedule,
    warmup: options.Warmup = DEFAULT.warmup,
    weight_decay: options.WeightDecay = DEFAULT.weight_decay,
    clip: options.Clip = DEFAULT.clip,
    ema: options.Ema = DEFAULT.ema,
    noise_median: options.NoiseMedian = DEFAULT.noise_median,
    noise_width: options.NoiseWidth = DEFAULT.noise_width,
    use_forces: options.UseForces = DEFAULT.forces,
    precision: options.Precision = DEFAULT.precision,
    compile: options.Compile = DEFAULT.compile,
    threads: options.Threads = DEFAULT.threads,
    seed: options.Seed = DEFAULT.seed,
    checkpoint_every: options.CheckpointEvery = DEFAULT.checkpoint_every,
    log_every: options.LogEvery = DEFAULT.log_every,
    devices: options.Devices = DEFAULT.devices,
    nodes: options.Nodes = DEFAULT.nodes,
    strategy: options.Strategy = DEFAULT.strategy,
    accelerator: options.Accelerator = DEFAULT.accelerator,
    data: proteins.Data = None,
    features: proteins.Features = None,
    feature_dropout: proteins.FeatureDropout = 0.0,
    allow_missing_features: proteins.AllowMissingFeatures = False,
    crop: proteins.Crop = proteins.CROP,
    budget: proteins.Budget = proteins.BUDGET,
    plain_data: proteins.PlainData = None,
    snapshots: proteins.Snapshots = proteins.SNAPSHOTS,
    average: proteins.Average = proteins.AVERAGE,
    slab: adsorbate_input.Slab = None,
    adsorbate: adsorbate_input.Adsorbates = None,
    coverage: adsorbate_input.Coverage = 1,
    label: crystals.Label = None,
    label_dropout: crystals.LabelDropout = crystals.LABEL_DROPOUT,
    ref_ligand: ligand_input.RefLigand = None,
    center: ligand_input.Center = None,
    size: ligand_input.Size = None,
    residues: ligand_input.Residues = None,
    waters: ligand_input.Waters = False,
    keep_geometry: ligand_input.KeepGeometry = False,
    data_share: ligand_input.DataShare = None,
    ligand_residue: ligand_input.LigandResidue = None,
    ligand_template: ligand_input.LigandTemplate = None,
    state: ligand_input.State = "torsional",
) -> None:
    """Train a model on trajectories at equilibrium, with forces if there are any; on structures and trajectories of proteins; on crystal structures; or from an energy, without any data."""
    given = dict(locals())
    one_of("domain", domain, ("molecule", "protein", "crystal", "adsorbate", "ligand"))
    config = options.config_of(given)
    sizes = _sizes(
        network or [],
        {
            "protein": proteins.SIZES,
            "crystal": crystals.SIZES,
            "ligand": ligand_training.SIZES,
            "adsorbate": adsorbate_training.SIZES,
        }.get(domain, SIZES),
    )
    if domain != "crystal":
        for option in options.typed(ctx, crystals.LABELS):
            raise InputError(f"train: {option} has a meaning for crystals only; leave it out")
    if domain != "ligand":
        for option in options.typed(ctx, ("state",)):
            raise InputError(f"train: {option} has a meaning for ligands only; leave it out")
    if domain == "adsorbate":
        adsorbate_training.run_adsorbate(ctx, given, config, sizes)
        return
    for option in options.typed(ctx, adsorbate_input.OWN):
        raise InputError(f"train: {option} has a meaning for adsorbates only; leave it out")
    if domain == "ligand":
        ligand_training.run_ligand(ctx, given, config, sizes)
        return
    for option in options.typed(ctx, (*ligand_input.OWN, "ligand", "data_share", "ligand_residue", "ligand_template")):
        raise InputError(
            f"train: {option} has a meaning for ligands only; leave it out, or begin with `equilibra train ligand`"
        )
    if domain == "crystal":
        _refuse_for_crystals(ctx, given)
        crystals.run_crystal(ctx, given, config, sizes)
        return
    if domain == "protein":
        _refuse_for_proteins(ctx, given)
        proteins.run_protein(ctx, given, config, sizes)
        return
    for option in options.typed(ctx, proteins.OWN):
        raise InputError(
            f"train: {option} has a meaning for proteins only; leave it out, or begin with `equilibra train protein`"
        )
    if energy is not None:
        _from_energy(ctx, given, config, sizes)
        return
    if not trajectory or topology is None:
        raise InputError(
            "train: got neither --energy nor a --trajectory with its --topology; give trajectories to learn from, or an energy such as "
            '`equilibra train molecule "CCO" --energy mmff94 --minutes 30 -o runs/mine/`'
        )
    if source is not None:
        raise InputError(
            f"train: the molecule '{source}' has a meaning with --energy only; from trajectories the molecule is that of --topology"
        )
    for option in options.typed(ctx, FROM_ENERGY):
        raise InputError(f"train: {option} has a meaning with --energy only; leave it out, or give an energy")
    files = options.files_of(given)

    from equilibra.train.molecule import train_molecule

    options.watch(
        ctx,
        out,
        config,
        lambda progress: train_molecule(
            [files], Path(out), config, name=name, temperature=temperature, network=sizes, progress=progress
        ),
    )


def _from_energy(ctx: typer.Context, given: dict[str, Any], config: TrainConfig, sizes: dict[str, int]) -> None:
    """Checks the options of a training from an energy, and runs it."""
    import dataclasses

    temperature, top, minutes = given["temperature"], given["top_temperature"], given["minutes"]
    one_of("objective", given["objective"], OBJECTIVES)
    for option, value in (("--rounds", given["rounds"]), ("--rungs", given["rungs"]), ("--walkers", given["walkers"])):
        at_least(option, value, 1)
    at_least("--sweeps", given["sweeps"], 1)
    if not temperature > 0:
        raise InputError(f"--temperature: got {temperature}, expected a positive number in K")
    if top is not None and not top > temperature:
        raise InputError(f"--top-temperature: got {top:g} K, expected more than the lowest, {temperature:g} K")
    if minutes is not None and not minutes > 0:
        raise InputError(f"--minutes: got {minutes}, expected a positive number")
    if bool(given["trajectory"]) != (given["topology"] is not None):
        raise InputError("train: a --trajectory to start from needs its --topology, and the other way round")
    if given["source"] is None and given["topology"] is None:
        raise InputError("train: got no molecule; name it after the domain, or give --trajectory and --topology to start from")
    for option in options.typed(ctx, ("forces", "use_forces")):
        raise InputError(f"train: {option} has no meaning with --energy, whose own forces are used; leave it out")
    if minutes is not None:
        for option in options.typed(ctx, ("steps", "sweeps")):
            raise InputError(f"train: got {option} and --minutes, which sets it; leave one of them out")
    if top is not None and given["rungs"] == 1:
        raise InputError("--top-temperature: got one with --rungs 1, a ladder without a top; leave one of them out")
    writable(given["out"])
    ladder = dataclasses.replace(
        MOLECULE,
        objective=given["objective"],
        rounds=given["rounds"],
        rungs=given["rungs"],
        hottest=MOLECULE.hottest if top is None else top / temperature,
        columns=given["walkers"],
        sweeps=given["sweeps"],
    )

    import torch

    from equilibra.memory import keep_freed_memory
    from equilibra.systems.model import load
    from equilibra.systems.molecule.stereoisomers import stereoisomers
    from equilibra.train.molecule_energy import train_molecule_on_energy

    keep_freed_memory()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    low = {name: getattr(LOW_NOISE, name) for name in ("noise_median", "noise_width") if not options.typed(ctx, (name,))}
    config = dataclasses.replace(config, **low)
    weights = None if given["start_from"] is None else load(given["start_from"])
    start = [options.files_of(given)] if given["trajectory"] else []
    source = given["topology"] if given["source"] is None else given["source"]
    isomers = stereoisomers(source)
    if isomers:
        say(
            ctx,
            f"'{source}' leaves its stereochemistry open, and may be {len(isomers)} molecules: taking {isomers[0]}; give another one's SMILES "
            "to train that",
        )
        source = isomers[0]
    options.watch_energy(
        ctx,
        given["out"],
        str(source),
        given["energy"],
        lambda progress: train_molecule_on_energy(
            source,
            given["out"],
            given["energy"],
            ladder,
            config,
            name=given["name"],
            temperature=temperature,
            minutes=minutes,
            network=sizes,
            weights=weights,
            start=start,
            progress=progress,
        ),
    )


def _refuse_for_proteins(ctx: typer.Context, given: dict[str, Any]) -> None:
    """Refuses what belongs to molecules."""
    if given["source"] is not None:
        raise InputError(f"train: got '{given['source']}' after the domain; proteins are learned from data, which --data names")
    for option in options.typed(ctx, (*(name for name in FROM_ENERGY if name not in ("source", "objective")), "use_forces")):
        raise InputError(
            f"train: {option} has no meaning for proteins, which are learned from structures and trajectories; leave it out"
        )


def _refuse_for_crystals(ctx: typer.Context, given: dict[str, Any]) -> None:
    """Refuses what belongs to molecules and proteins."""
    if given["source"] is not None:
        raise InputError(f"train: got '{given['source']}' after the domain; crystals are learned from data, which --data names")
    for option in options.typed(ctx, (name for name in FROM_ENERGY if name != "source")):
        raise InputError(f"train: {option} has no meaning for crystals, which are learned from structures; leave it out")


def _sizes(texts: list[str], known: Sequence[str]) -> dict[str, int]:
    """Reads `KEY=NUMBER` pairs of the network's configuration."""
    sizes = {}
    for text in texts:
        key, _, number = text.partition("=")
        if key not in known:
            raise InputError(f"--network: {unknown_key_message('size', key, known)}")
        if not number.isdecimal() or int(number) < 1:
            raise InputError(f"--network: got '{text}', expected a size and a whole number, such as {key}=64")
        sizes[key] = int(number)
    return sizes
