r"""Turns a trained run into a shipped model: adds the card, and the compact reference that reports compare with.

    python benchmarks/ship_model.py run/ --card benchmarks/cards/molecule-ala2.json --reference md/trajectory-2.dcd md/trajectory-3.dcd \\
        --topology md/topology.pdb --label "OpenMM, independent replica-exchange runs"

`without` in the card's file names adsorbates that the training did not get right: they are taken out of the model's scope, so that it refuses them.

The reference must be frames that were not used in training. Without `--reference` the one that lies beside the shipped model stays.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from equilibra.sampling.choose import SamplerConfig
from equilibra.systems.card import Card
from equilibra.systems.model import WEIGHTS, load
from equilibra.systems.molecule.files import read_frames
from equilibra.systems.molecule.reference import FILE, write_reference
from equilibra.systems.molecule.system import molecule_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of `equilibra train`")
    parser.add_argument(
        "--card", type=Path, required=True, help="JSON with the keys name, sampler and card, and without for adsorbates"
    )
    parser.add_argument("--reference", type=Path, nargs="+", default=[])
    parser.add_argument("--topology", type=Path)
    parser.add_argument("--label")
    parser.add_argument("--frames", type=int, default=10_000, help="frames of the reference that are kept")
    arguments = parser.parse_args()
    if arguments.reference and not (arguments.topology and arguments.label):
        parser.error("--reference needs --topology and --label")

    values = json.loads(arguments.card.read_text(encoding="utf-8"))
    trained = load(arguments.run)
    without = set(values.get("without", ()))
    systems = tuple(text for text in trained.scope.systems if without.isdisjoint(text.partition("@")[0].split(",")))
    model = dataclasses.replace(
        trained,
        name=values["name"],
        sampler=SamplerConfig.from_dict(values["sampler"]),
        card=Card.from_dict(values["card"]),
        scope=dataclasses.replace(trained.scope, systems=systems),
    )
    folder = WEIGHTS / model.name
    model.save(folder)
    if arguments.reference:
        system = molecule_system(arguments.topology)
        frames = np.concatenate([read_frames(path, system.topology)[0] for path in arguments.reference])
        chosen = np.sort(np.random.default_rng(0).choice(len(frames), min(arguments.frames, len(frames)), replace=False))
        write_reference(folder / FILE, frames[chosen], system, arguments.label)
    print(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir()) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
