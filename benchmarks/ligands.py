r"""The figures of ligands in docs/results.md: the 409 pairs of DiG, and the distribution of poses against parallel tempering.

    python benchmarks/ligands.py split fep/ dig_409_pairs.csv -o data/
    python benchmarks/ligands.py train data/ -o runs/ligand-pocket
    python benchmarks/ligands.py measure runs/ligand-pocket/model data/ -o runs/dig --vina
    python benchmarks/ligands.py distribution data/ -o runs/distribution --systems 20 --start-from runs/ligand-pocket/model

`fep/` is the folder of structures of schrodinger/public_binding_free_energy_benchmark. `split` leaves the 409 pairs and every structure of their 16 targets out of the training. `measure` goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import equilibra
from equilibra.energies.docking import VinaProgram
from equilibra.geometry.symmetric_rmsd import symmetric_rmsd
from equilibra.memory import keep_freed_memory
from equilibra.report.pose_evaluation import evaluate_poses
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.inputs import LigandInput, ligand_systems
from equilibra.systems.ligand.sources import read_ligands
from equilibra.train.config import TrainConfig
from equilibra.train.ligand import DEFAULT, train_ligand

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


def train(data: Path, out: Path, *, steps: int, batch_size: int, threads: int | None, seed: int, most: int | None) -> None:
    """Trains the shipped model on the complexes of `train.csv`."""
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
        sources.append(LigandInput(receptor=receptor, ligand=together))
    config = TrainConfig(
        steps=steps,
        batch_size=batch_size,
        noise_median=DEFAULT.noise_median,
        noise_width=DEFAULT.noise_width,
        compile=False,
        precision="fp32",
        threads=threads,
        seed=seed,
    )
    start = time.perf_counter()

    def report(step: int, values: dict[str, float]) -> None:
        print(f"step {step:,} of {steps:,}, loss {values['loss']:.4f}, {time.perf_counter() - start:,.0f} s", flush=True)

    model = train_ligand(
        sources,
        out,
        config,
        name="ligand-pocket",
        network={"dim": 96, "pair_dim": 48, "layers": 4, "heads": 8},
        progress=report,
    )
    print(model.card.summary)


def measure(model: str, data: Path, out: Path, *, vina: bool, exhaustiveness: int, most: int | None, seed: int) -> None:
    """Samples the pairs of `test.csv`, 50 poses each, and prints the shares that are right."""
    loaded = equilibra.load(model)
    rows = list(csv.DictReader((data / "test.csv").open(encoding="utf-8")))[:most]
    found: list[dict[str, Any]] = []
    for number, row in enumerate(rows, start=1):
        file = out / f"{row['name']}.json"
        if not file.is_file():
            given = LigandInput(receptor=row["receptor"], ligand=row["ligand"], name=row["name"])
            try:
                made = _pair(loaded, given, out / row["name"], seed, vina, exhaustiveness)
            except equilibra.errors.EquilibraError as error:
                made = {"error": str(error)}
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"name": row["name"], **made}) + "\n", encoding="utf-8")
        found.append(json.loads(file.read_text(encoding="utf-8")))
        print(f"{number} of {len(rows)}: {found[-1]}", flush=True)
    _summary(found)


def _pair(model: Any, given: LigandInput, folder: Path, seed: int, vina: bool, exhaustiveness: int) -> dict[str, Any]:
    (system,) = ligand_systems(given)
    start = time.perf_counter()
    ensemble: LigandEnsemble = model.sample(system, POSES, seed=seed, folder=folder, block_size=POSES, outside_scope=True)
    seconds = time.perf_counter() - start
    ensemble.save(folder)
    table = evaluate_poses(ensemble, given.ligand, n=POSES, seed=seed)
    values = {row.metric: row.value for row in table.rows}
    rmsd = ensemble.rmsd
    assert rmsd is not None
    made: dict[str, Any] = {
        "best": float(rmsd.min()),
        "top": values["top-1 RMSD"],
        "median": values["median RMSD"],
        "centred": values[f"best of {POSES}, centred (DiG)"],
        "valid": values["valid"],
        "posebusters": values.get("PoseBusters-valid"),
        "seconds": seconds,
        "calls": ensemble.provenance["network_calls"],
        "heavy": len(system.torsions.heavy),
    }
    if vina:
        start = time.perf_counter()
        program = VinaProgram(system.receptor, system.box, search=True, seed=seed + 1)
        poses = program.dock(system.mol, exhaustiveness=exhaustiveness)[:, system.torsions.heavy]
        distances = symmetric_rmsd(poses, system.pose[system.torsions.heavy], ensemble.symmetries)  # type: ignore[index]
        made |= {
            "vina_top": float(distances[0]),
            "vina_best": float(distances.min()),
            "vina_poses": len(distances),
            "vina_seconds": time.perf_counter() - start,
        }
    return made


def _summary(found: Sequence[dict[str, Any]]) -> None:
    good = [each for each in found if "error" not in each]
    print(f"\n{len(good)} of {len(found)} pairs sampled; {len(found) - len(good)} refused")
    for key, words in (
        ("best", f"best of {POSES}"),
        ("top", "top-1"),
        ("centred", f"best of {POSES}, centred as DiG"),
        ("vina_top", "Vina top-1"),
        ("vina_best", "Vina best"),
    ):
        values = np.array([each[key] for each in good if each.get(key) is not None])
        if len(values):
            print(
                f"{words}: {100 * (values <= 2.0).mean():.1f} % within 2 Å, median {np.median(values):.2f} Å, mean {values.mean():.2f} Å (N = {len(values)})"
            )
    for key, words in (("valid", "valid"), ("posebusters", "PoseBusters-valid")):
        values = np.array([each[key] for each in good if each.get(key) is not None])
        if len(values):
            print(f"{words}: {100 * values.mean():.2f} %")
    print(
        f"poses/s: {POSES / np.mean([each['seconds'] for each in good]):.2f}, {good[0]['calls']} network calls" if good else ""
    )
    timed = [each for each in good if "vina_seconds" in each]
    if timed:
        print(f"Vina: {sum(each['vina_poses'] for each in timed) / sum(each['vina_seconds'] for each in timed):.2f} poses/s")


def distribution(
    data: Path, out: Path, *, systems: int, start_from: str | None, energy: str, steps: int, seed: int, threads: int | None
) -> None:
    """Trains on the energy of some pairs of `test.csv` from the score alone, and compares weighted poses with the walkers of the parallel tempering."""
    from equilibra.train.ligand_energy import train_ligand_on_energy

    rows = list(csv.DictReader((data / "test.csv").open(encoding="utf-8")))
    rows = [rows[i] for i in np.linspace(0, len(rows) - 1, systems).round().astype(int)]
    weights = None if start_from is None else equilibra.load(start_from)
    for row in rows:
        (system,) = ligand_systems(LigandInput(receptor=row["receptor"], ligand=row["ligand"], name=row["name"]))
        folder = out / row["name"]
        config = TrainConfig(
            steps=steps,
            batch_size=64,
            noise_median=0.2,
            noise_width=1.6,
            compile=False,
            precision="fp32",
            threads=threads,
            seed=seed,
        )
        network = (
            None
            if weights is None
            else {key: weights.network[key] for key in ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels")}
        )
        model = train_ligand_on_energy(system, folder, energy, train=config, network=network, weights=weights)
        ensemble: LigandEnsemble = model.sample(system, 500, seed=seed, energy=energy, folder=folder / "poses")
        ensemble.save(folder / "poses")
        print(row["name"], model.card.data)
        print(evaluate_poses(ensemble, LigandEnsemble.read(folder / "walkers"), n=500, seed=seed).to_text(), flush=True)


def check(data: Path) -> None:
    """Reads all complexes of both tables, and prints what is refused."""
    for name in ("train.csv", "test.csv"):
        bad = [
            record
            for row in csv.DictReader((data / name).open(encoding="utf-8"))
            for record in read_ligands(Path(row["ligand"]))
            if isinstance(record, Exception)
        ]
        print(f"{name}: {len(bad)} refused{': ' if bad else ''}{'; '.join(map(str, bad[:5]))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("split")
    one.add_argument("fep", type=Path)
    one.add_argument("pairs", type=Path)
    two = verbs.add_parser("train")
    two.add_argument("data", type=Path)
    two.add_argument("--steps", type=int, default=20_000)
    two.add_argument("--batch-size", type=int, default=32)
    two.add_argument("--most", type=int, help="complexes, for a trial")
    three = verbs.add_parser("measure")
    three.add_argument("model")
    three.add_argument("data", type=Path)
    three.add_argument("--vina", action="store_true")
    three.add_argument("--exhaustiveness", type=int, default=8)
    three.add_argument("--most", type=int, help="pairs, for a trial")
    four = verbs.add_parser("distribution")
    four.add_argument("data", type=Path)
    four.add_argument("--systems", type=int, default=20)
    four.add_argument("--start-from")
    four.add_argument("--energy", default="vina")
    four.add_argument("--steps", type=int, default=4000)
    five = verbs.add_parser("check")
    five.add_argument("data", type=Path)
    for each in (one, two, three, four):
        each.add_argument("-o", "--out", type=Path, required=True)
    for each in (two, three, four):
        each.add_argument("--seed", type=int, default=0)
    for each in (two, four):
        each.add_argument("--threads", type=int)
    given = vars(parser.parse_args())
    keep_freed_memory()
    made = {"split": split, "train": train, "measure": measure, "distribution": distribution, "check": check}
    made[given.pop("verb")](**given)


if __name__ == "__main__":
    main()
