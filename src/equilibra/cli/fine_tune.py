"""`equilibra fine-tune`: a model for a user's own molecule, protein or crystals, from the weights of another."""

from pathlib import Path
from typing import Annotated

import typer

from equilibra.cli import adsorbate_training as adsorbates
from equilibra.cli import crystal_training as crystals
from equilibra.cli import ligand_input
from equilibra.cli import ligand_training as ligands
from equilibra.cli import protein_training as proteins
from equilibra.cli import training as options
from equilibra.errors import InputError
from equilibra.train.config import FINE_TUNING

NAME = "fine-tune"
EXAMPLE = (
    "Examples:\n\nequilibra fine-tune molecule-ala2 --trajectory my.xtc --topology my.pdb -o runs/tuned/\n\n"
    "equilibra fine-tune runs/proteins/model --data my.xtc:my.pdb --temperature 310 -o runs/mine/\n\n"
    "equilibra fine-tune runs/proteins/model --data structures/ --energy amber14-obc2 -o runs/physical/\n\n"
    "equilibra fine-tune runs/carbon/model --data mine.csv -o runs/mine/\n\n"
    "equilibra fine-tune runs/ligands/model --data md.xtc:complex.pdb --ligand-residue LIG -o runs/dynamics/\n\n"
    "Repeat the command to go on with an interrupted run."
)


def run(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A shipped model, or the folder of your own.", metavar="MODEL")],
    out: options.Out,
    trajectory: options.Trajectory = None,
    topology: options.Topology = None,
    forces: options.Forces = None,
    stride: options.Stride = 1,
    skip: options.Skip = 0,
    temperature: options.Temperature = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the new model; by default the old one's with `-tuned`.")
    ] = None,
    steps: options.Steps = FINE_TUNING.steps,
    batch_size: options.BatchSize = FINE_TUNING.batch_size,
    learning_rate: options.LearningRate = FINE_TUNING.learning_rate,
    schedule: options.Schedule = FINE_TUNING.schedule,
    warmup: options.Warmup = FINE_TUNING.warmup,
    weight_decay: options.WeightDecay = FINE_TUNING.weight_decay,
    clip: options.Clip = FINE_TUNING.clip,
    ema: options.Ema = FINE_TUNING.ema,
    noise_median: options.NoiseMedian = FINE_TUNING.noise_median,
    noise_width: options.NoiseWidth = FINE_TUNING.noise_width,
    use_forces: options.UseForces = FINE_TUNING.forces,
    precision: options.Precision = FINE_TUNING.precision,
    compile: options.Compile = FINE_TUNING.compile,
    threads: options.Threads = FINE_TUNING.threads,
    seed: options.Seed = FINE_TUNING.seed,
    checkpoint_every: options.CheckpointEvery = FINE_TUNING.checkpoint_every,
    log_every: options.LogEvery = FINE_TUNING.log_every,
    devices: options.Devices = FINE_TUNING.devices,
    nodes: options.Nodes = FINE_TUNING.nodes,
    strategy: options.Strategy = FINE_TUNING.strategy,
    accelerator: options.Accelerator = FINE_TUNING.accelerator,
    data: proteins.Data = None,
    features: proteins.Features = None,
    feature_dropout: proteins.FeatureDropout = 0.0,
    allow_missing_features: proteins.AllowMissingFeatures = False,
    crop: proteins.Crop = proteins.CROP,
    budget: proteins.Budget = proteins.BUDGET,
    energy: proteins.Energy = None,
    plain_data: proteins.PlainData = None,
    snapshots: proteins.Snapshots = proteins.SNAPSHOTS,
    average: proteins.Average = proteins.AVERAGE,
    ligand_residue: ligand_input.LigandResidue = None,
    ligand_template: ligand_input.LigandTemplate = None,
    keep_geometry: ligand_input.KeepGeometry = False,
) -> None:
    """Train a model further on your own trajectories; the model itself is left as it is."""
    given = dict(locals())
    config = options.config_of(given)

    from equilibra.systems.model import load

    start = load(model)
    if start.domain != "ligand":
        for option in options.typed(ctx, ("ligand_residue", "ligand_template", "keep_geometry")):
            raise InputError(
                f"fine-tune: {option} has a meaning for ligands only, and '{start.name}' is a model of another domain; leave it out"
            )
    if start.domain == "protein":
        proteins.tune_protein(ctx, start, given, config)
        return
    if start.domain == "ligand":
        ligands.tune_ligand(ctx, start, given, config)
        return
    if start.domain == "crystal":
        crystals.tune_crystal(ctx, start, given, config)
        return
    if start.domain == "adsorbate":
        adsorbates.tune_adsorbate(ctx, start, given, config)
        return
    for option in options.typed(ctx, (*proteins.OWN, "energy")):
        raise InputError(
            f"fine-tune: {option} has a meaning for proteins only, and '{start.name}' is a model of molecules; leave it out"
        )
    files = options.files_of(given)

    from equilibra.train.molecule import fine_tune

    options.watch(
        ctx,
        out,
        config,
        lambda progress: fine_tune(start, [files], Path(out), config, name=name, temperature=temperature, progress=progress),
    )
