r"""The figures of ligands in docs/results.md: the 409 pairs of DiG. The distribution of poses is in `ligand_distribution.py`, speed in `ligand_speed.py`.

    python benchmarks/ligands.py split fep/ dig_409_pairs.csv -o data/
    python benchmarks/ligands.py train data/ -o runs/ligand-pocket
    python benchmarks/ligands.py measure ligand-pocket data/ -o runs/dig --each 3 --parts random,model,vina
    python benchmarks/ligands.py files fep/

`fep/` is the folder of structures of schrodinger/public_binding_free_energy_benchmark. `split` leaves the 409 pairs and every structure of their 16 targets out of the training. `measure` goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import equilibra
from equilibra.analysis.poses import SUCCESS, centred_rmsd
from equilibra.energies.docking import VinaProgram
from equilibra.geometry.symmetric_rmsd import symmetric_rmsd
from equilibra.memory import keep_freed_memory
from equilibra.report.pose_evaluation import evaluate_poses
from equilibra.sampling.grid import noise_grid
from equilibra.state import State
from equilibra.state.randomness import generator_for
from equilibra.systems.blocks import SamplerDrawing
from equilibra.systems.ligand.domain import template
from equilibra.systems.ligand.energy import ligand_energy
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.inputs import LigandInput, complexes, ligand_systems
from equilibra.systems.ligand.poses import pose_positions, random_state
from equilibra.systems.ligand.relaxation import relaxed_poses
from equilibra.systems.ligand.sources import read_ligands
from equilibra.systems.ligand.symmetry import automorphisms
from equilibra.systems.ligand.system import LigandSystem
from equilibra.train.config import TrainConfig
from equilibra.train.ligand import DEFAULT, fine_tune_ligand, train_ligand

TARGETS = {
    "Bace": "jacs_set/bace",
    "CDK2": "jacs_set/cdk2",
    "Jnk1": "jacs_set/jnk1_manual_flips",
    "MCL1": "jacs_set/mcl1_extra_flips",
    "p38": "jacs_set/p38",
    "PTP1B": "jacs_set/ptp1b",
    "Thrombin": "jacs_set/thrombin_core",
    "Tyk2": "jacs_set/tyk2",
    "cdk8": "merck/cdk8_5cei_new_helix_loop_extra",
    "cmet": "merck/cmet",
    "eg5": "merck/eg5_extraprotomers",
    "hif2a": "merck/hif2a_automap",
    "pfkfb3": "merck/pfkfb3_automap",
    "shp2": "merck/shp2",
    "syk": "merck/syk_4puz_fullmap",
    "tnk2": "merck/tnks2_fullmap",
}
"""Where the targets of DiG's pairs are."""

LEFT_OUT = (
    "bace", "cdk2", "jnk1", "mcl1", "mcl-1", "p38", "ptp1b", "throm", "tyk2", "cdk8", "cmet", "c-met", "eg5", "hif2a", "hif-2", "pfkfb3", "shp2", "syk", "tnks", "2b8v", "2q15",
)  # fmt: skip
"""Structures with such a word in their names, or in the name of their protein, are of these targets."""

POSES = 50


def split(fep: Path, pairs: Path, out: Path) -> None:
    """Writes `train.csv` and `test.csv`: a row for each complex, the ligands as files of their own."""
    proteins = {}
    for table in sorted(fep.glob("*/subset_metadata.csv")):
        for row in csv.DictReader(table.open(encoding="utf-8-sig")):
            proteins[table.parent.name, row["Input file naming scheme"]] = row["Protein"]
    out.mkdir(parents=True, exist_ok=True)
    train: list[dict[str, str]] = []
    for receptor in sorted(fep.glob("*/*_protein.pdb")):
        stem = receptor.name.removesuffix("_protein.pdb")
        words = f"{stem} {proteins.get((receptor.parent.name, stem), '')}".lower()
        if not any(word in words for word in LEFT_OUT):
            train += _rows(receptor, receptor.with_name(f"{stem}_ligands.sdf"), out, f"{receptor.parent.name}-{stem}")
    test: list[dict[str, str]] = []
    missing = []
    for row in csv.DictReader(pairs.open(encoding="utf-8")):
        target, _, rest = row["key"].removesuffix("_dirsep_crystal").partition("_")
        name = rest.removeprefix("p38a_").split("(")[0] if target in ("p38", "PTP1B") else rest
        stem = fep / TARGETS[target]
        found = _rows(
            stem.with_name(f"{stem.name}_protein.pdb"), stem.with_name(f"{stem.name}_ligands.sdf"), out, target, only=name
        )
        test += found
        missing += [] if found else [row["key"]]
    for file, rows in (("train.csv", train), ("test.csv", test)):
        with (out / file).open("w", encoding="utf-8", newline="") as text:
            writer = csv.DictWriter(text, ("receptor", "ligand", "name"))
            writer.writeheader()
            writer.writerows(rows)
    print(f"{len(train)} complexes to train on, {len(test)} of DiG's pairs; not found: {', '.join(missing) or 'none'}")


def _rows(receptor: Path, ligands: Path, out: Path, prefix: str, only: str | None = None) -> list[dict[str, str]]:
    """Writes each record of a file of ligands to a file of its own; of one name the plainest record, if it is asked for: one that is no flip, rotamer or tautomer."""
    blocks = [block for block in ligands.read_text(encoding="utf-8").split("$$$$\n") if block.strip()]
    titled = [(block.split("\n", 1)[0].strip(), block) for block in blocks]
    if only is not None:
        titled = sorted((pair for pair in titled if only in pair[0].split()), key=lambda pair: len(pair[0]))[:1]
    rows = []
    for number, (title, block) in enumerate(titled):
        name = f"{prefix}-{only or title or number}".replace("/", "_").replace(" ", "_")
        path = out / "ligands" / f"{name}.sdf"
        path.parent.mkdir(exist_ok=True)
        path.write_text(block + "$$$$\n", encoding="utf-8")
        rows.append({"receptor": str(receptor.resolve()), "ligand": str(path.resolve()), "name": name})
    return rows


def train(
    data: Path,
    out: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    start_from: str | None,
    threads: int | None,
    seed: int,
    most: int | None,
) -> None:
    """Trains the shipped model on the complexes of `train.csv`, from random weights or further from those of a model."""
    rows = list(csv.DictReader((data / "train.csv").open(encoding="utf-8")))[:most]
    # one input for each receptor: its file is read once
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row["receptor"], []).append(row["ligand"])
    sources: list[Any] = []
    for receptor, files in groups.items():
        together = data / "together" / f"{Path(receptor).parent.name}-{Path(receptor).stem}.sdf"
        together.parent.mkdir(exist_ok=True)
        together.write_text("".join(Path(file).read_text(encoding="utf-8") for file in files), encoding="utf-8")
        # bonds, angles and rings of the poses: making them anew takes longer than a good part of the training
        sources.append(LigandInput(receptor=receptor, ligand=together, keep_geometry=True))
    config = TrainConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup=100,
        ema=0.998,
        noise_median=DEFAULT.noise_median,
        noise_width=DEFAULT.noise_width,
        compile=False,
        precision="bf16",
        threads=threads,
        seed=seed,
        checkpoint_every=250,
    )
    start = time.perf_counter()

    def report(step: int, values: dict[str, float]) -> None:
        print(f"step {step:,} of {steps:,}, loss {values['loss']:.4f}, {time.perf_counter() - start:,.0f} s", flush=True)

    if start_from is not None:
        tuned = fine_tune_ligand(equilibra.load(start_from), sources, out, config, name="ligand-pocket", progress=report)
        print(tuned.card.summary)
        return
    model = train_ligand(
        sources,
        out,
        config,
        name="ligand-pocket",
        network={"dim": 96, "pair_dim": 32, "layers": 4, "heads": 8, "basis": 32},
        progress=report,
    )
    print(model.card.summary)


def chosen(data: Path, each: int | None, seed: int) -> list[dict[str, str]]:
    """Returns the rows of `test.csv`, or so many of each target at random: the first of every target, then the second of every target, and so on."""
    rows = list(csv.DictReader((data / "test.csv").open(encoding="utf-8")))
    if each is None:
        return rows
    rng = np.random.default_rng(seed)
    targets: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        targets.setdefault(row["receptor"], []).append(row)
    drawn = [[members[i] for i in rng.permutation(len(members))[:each]] for members in targets.values()]
    return [members[number] for number in range(each) for members in drawn if number < len(members)]


def measure(
    model: str, data: Path, out: Path, *, each: int | None, parts: str, busted: int, exhaustiveness: int, seed: int
) -> None:
    """Draws poses of pairs of `test.csv`, `POSES` each, counts all of them, valid or not, and relaxes each of them in the Vina score. Beside them random poses of the box, and Vina."""
    loaded = equilibra.load(model) if "model" in parts.split(",") else None
    rows = chosen(data, each, seed)
    makers: dict[str, Callable[[LigandSystem], dict[str, Any]]] = {
        "random": lambda system: _judged(system, random_state(system, POSES, generator=torch.Generator().manual_seed(seed)), 0),
        "model": lambda system: _judged(system, _drawn(loaded, system, seed), busted),
        "vina": lambda system: _vina(system, exhaustiveness, seed),
    }
    found: list[dict[str, Any]] = []
    for number, row in enumerate(rows, start=1):
        file = out / f"{row['name']}.json"
        made = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"name": row["name"]}
        missing = [name for name in parts.split(",") if name not in made]
        if missing and "error" not in made:
            try:
                (system,) = ligand_systems(LigandInput(receptor=row["receptor"], ligand=row["ligand"], name=row["name"]))
                made |= {"heavy": len(system.torsions.heavy), "torsions": len(system.torsions.axes)}
                made |= {name: makers[name](system) for name in missing}
            except equilibra.errors.EquilibraError as error:
                made["error"] = str(error)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(made) + "\n", encoding="utf-8")
        found.append(made)
        print(f"{number} of {len(rows)}: {made['name']} {made.get('error', '')}", flush=True)
    _summary(found)


def _drawn(model: Any, system: LigandSystem, seed: int) -> State:
    """Draws poses with the model's own sampler, valid or not."""
    drawing = SamplerDrawing(model.sampler.make(), noise_grid(model.process, model.sampler.grid))
    generator = generator_for(seed, 0, device=torch.device("cpu"))
    with torch.no_grad():
        return drawing(model.bind(system), template(system, POSES), generator=generator, report=lambda done, note: None).state


def _judged(system: LigandSystem, state: State, busted: int) -> dict[str, Any]:
    """Returns what poses are, as they are and relaxed; `busted` of the relaxed ones are given to PoseBusters."""
    heavy, known = system.torsions.heavy, system.pose[system.torsions.heavy]  # type: ignore[index]
    symmetries = automorphisms(system.mol)
    relaxed, energies = relaxed_poses(system, state, ligand_energy(system, "vina"))
    made: dict[str, Any] = {}
    for name, poses in (("drawn", state), ("relaxed", relaxed)):
        x = pose_positions(system, poses).numpy()
        rmsd = symmetric_rmsd(x[:, heavy], known, symmetries)
        made[name] = {
            "best": float(rmsd.min()),
            "median": float(np.median(rmsd)),
            "mean": float(rmsd.mean()),
            "centred": float(centred_rmsd(x[:, heavy], known, symmetries).min()),
            "valid": float(LigandEnsemble.check(x, system).valid.mean()),
        }
        if name == "relaxed":
            made[name]["top"] = float(rmsd[energies.argmin()])
            if busted:
                ensemble = LigandEnsemble.from_frames(system, x, energies=energies)
                found = evaluate_poses(ensemble, system.mol, n=busted, repeats=2)
                shares = [row for row in found.rows if row.metric == "PoseBusters-valid"]
                if shares:
                    made[name] |= {"busted": shares[0].n, "posebusters": shares[0].value}
    return made


def _vina(system: LigandSystem, exhaustiveness: int, seed: int) -> dict[str, Any]:
    program = VinaProgram(system.receptor, system.box, search=True, seed=seed + 1)
    poses = program.dock(system.mol, exhaustiveness=exhaustiveness)[:, system.torsions.heavy]
    rmsd = symmetric_rmsd(poses, system.pose[system.torsions.heavy], automorphisms(system.mol))  # type: ignore[index]
    return {"top": float(rmsd[0]), "best": float(rmsd.min()), "poses": len(rmsd)}


def _summary(found: Sequence[dict[str, Any]]) -> None:
    good = [each for each in found if "error" not in each]
    print(
        f"\n{len(good)} of {len(found)} pairs; {len(found) - len(good)} refused; within 2 Å, with the standard error over pairs:"
    )

    def told(words: str, values: Sequence[float], *, share: bool = False) -> None:
        x = np.array(values)
        right = x if share else (x <= SUCCESS).astype(float)
        error = right.std() / np.sqrt(len(x))
        median = (
            ""
            if share
            else f", median {np.median(x):.2f} Å, quartiles {np.quantile(x, 0.25):.2f} and {np.quantile(x, 0.75):.2f}"
        )
        print(f"{words}: {100 * right.mean():.1f} +- {100 * error:.1f} %{median} (N = {len(x)})")

    for source in ("random", "model"):
        for kind in ("drawn", "relaxed"):
            some = [each[source][kind] for each in good if source in each]
            if not some:
                continue
            told(f"{source}, {kind}, best of {POSES}", [each["best"] for each in some])
            told(f"{source}, {kind}, best of {POSES}, centred as DiG", [each["centred"] for each in some])
            if kind == "relaxed":
                told(f"{source}, {kind}, lowest energy", [each["top"] for each in some])
            print(
                f"{source}, {kind}, median RMSD of all poses, mean over pairs: {np.mean([each['median'] for each in some]):.2f} Å"
            )
            told(f"{source}, {kind}, valid", [each["valid"] for each in some], share=True)
    of_model = [each["model"]["relaxed"] for each in good if "model" in each]
    busted = [each["posebusters"] for each in of_model if "posebusters" in each]
    if busted:
        told("model, relaxed, PoseBusters-valid of the valid ones", busted, share=True)
    docked = [each["vina"] for each in good if "vina" in each]
    if docked:
        both = [each["model"]["relaxed"] for each in good if "vina" in each and "model" in each]
        told("Vina, first pose", [each["top"] for each in docked])
        told("Vina, best of its poses", [each["best"] for each in docked])
        if both:
            told(f"model, relaxed, best of {POSES}, on these pairs", [each["best"] for each in both])
            told("model, relaxed, lowest energy, on these pairs", [each["top"] for each in both])


FOUND = {
    "several chains": r"residues in (?:[2-9]|\d\d+) chains",
    "waters": r"\d+ waters?",
    "metals": r"metals kept",
    "other molecules": r"other molecules kept",
    "alternate locations": r"alternate locations",
    "insertion codes": r"insertion codes",
    "residues that lack atoms": r"residues? lacks? atoms",
    "gaps": r"chain breaks?",
    "no hydrogens": r"has no hydrogens",
}
"""What files of receptors hold, as it is told of them."""


def files(receptors: Path) -> None:
    """Reads every `NAME_protein.pdb` with the first ligand beside it, and tells how many files hold what, and which are refused."""
    counts, refused, number = Counter[str](), [], 0
    for given in complexes(receptors):
        number += 1
        first = next(record for record in read_ligands(given.ligand) if not isinstance(record, Exception))
        try:
            (system,) = ligand_systems(dataclasses.replace(given, ligand=first.mol, keep_geometry=True))
        except equilibra.errors.EquilibraError as error:
            refused.append(f"{given.receptor}: {error}")
            continue
        told = " ".join([*system.notes, *system.warnings])
        counts.update(name for name, pattern in FOUND.items() if re.search(pattern, told))
    print(f"{number} files, {len(refused)} refused; with " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    for line in refused:
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("split")
    one.add_argument("fep", type=Path)
    one.add_argument("pairs", type=Path)
    two = verbs.add_parser("train")
    two.add_argument("data", type=Path)
    two.add_argument("--steps", type=int, default=4000)
    two.add_argument("--batch-size", type=int, default=16)
    two.add_argument("--learning-rate", type=float, default=1.5e-3)
    two.add_argument("--start-from", help="a model whose training goes on")
    two.add_argument("--most", type=int, help="complexes, for a trial")
    three = verbs.add_parser("measure")
    three.add_argument("model")
    three.add_argument("data", type=Path)
    three.add_argument("--parts", default="random,model", help="what is measured: random, model, vina (extra docking)")
    three.add_argument("--exhaustiveness", type=int, default=8)
    three.add_argument("--each", type=int, help="pairs of each target, at random; all by default")
    three.add_argument("--busted", type=int, default=0, help="relaxed poses of each pair that PoseBusters checks")
    four = verbs.add_parser("files")
    four.add_argument("receptors", type=Path)
    for each in (one, two, three):
        each.add_argument("-o", "--out", type=Path, required=True)
    for each in (two, three):
        each.add_argument("--seed", type=int, default=0)
    two.add_argument("--threads", type=int)
    given = vars(parser.parse_args())
    keep_freed_memory()
    made = {"split": split, "train": train, "measure": measure, "files": files}
    made[given.pop("verb")](**given)


if __name__ == "__main__":
    main()
