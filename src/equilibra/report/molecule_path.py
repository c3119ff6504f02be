"""The report of a path between two conformations of a molecule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from equilibra.report import plots
from equilibra.report.elements import CellLike, Element, Facts, Figure, Highlights, Table, Text
from equilibra.report.from_molecule import frame_pdb
from equilibra.report.molecule import greek, torsion_pairs
from equilibra.report.page import Page
from equilibra.report.representatives import superpose_pdb
from equilibra.report.structure_view import Molecules

if TYPE_CHECKING:
    from equilibra.systems.molecule.interpolate import MoleculePath

_SHOWN = 9
_CAUTION = (
    "The path is a great arc in the model's latent space, decoded. It passes through conformations that the model finds likely, but it is a "
    "hypothesis about a transition: it has no time, and nature may take another way."
)


def path_page(path: MoleculePath, *, model: str | Path | None = None) -> Page:
    """Returns the report of a path.

    Arguments:
        path: The path.
        model: Name or folder of the model, whose reference is the background of the path where there is one; by default as the path says.
    """
    from equilibra.systems.molecule.reference import model_reference

    ensemble = path.ensemble
    name = ensemble.provenance.get("model") if model is None else model
    reference = None if name is None else model_reference(name, ensemble.system)
    torsions = ensemble.torsions()
    shown = np.unique(np.linspace(0, len(path) - 1, min(_SHOWN, len(path))).round().astype(int))
    valid = ensemble.validity.valid
    tiles = {
        "conformations": len(path),
        "valid": f"{int(valid.sum())} of {len(path)}",
        "error of encoding and decoding": f"{max(path.round_trip):.4f} Å",
    }
    page = Page(f"{ensemble.system.name}: a path", f"{len(path)} conformations from A to B.", lead=(Highlights(tiles),))
    pairs = torsion_pairs(list(torsions))
    if reference is not None and pairs:
        phi, psi = pairs[0]
        kelvin = float(ensemble.provenance.get("temperature_k") or 300.0)
        image = plots.ramachandran_surface(
            reference.torsions[phi],
            reference.torsions[psi],
            temperature=kelvin,
            marks=[(float(torsions[phi][i]), float(torsions[psi][i])) for i in shown],
            names=(greek(phi), greek(psi)),
        )
        caption = (
            f"Free energy of {reference.label} over {greek(phi)} and {greek(psi)}; numbers mark the conformations shown below."
        )
        page.add("Where it goes", Figure(image, caption, caption))
    models = superpose_pdb([frame_pdb(ensemble, int(i)) for i in shown])
    labels = [f"{k} · step {i + 1} of {len(path)}{'' if valid[i] else ' · invalid'}" for k, i in enumerate(shown, start=1)]
    structures: list[Element] = [
        Molecules(models, labels, "Conformations on the path, superposed. Drag to turn; click, then scroll, to zoom.")
    ]
    page.add("Structures", *structures)
    rows: list[list[CellLike]] = [
        [
            i + 1,
            *(round(float(np.degrees(values[i]))) for values in torsions.values()),
            "; ".join(ensemble.validity.reasons(i)) or "valid",
        ]
        for i in range(len(path))
    ]
    page.add("Steps", Table(["step", *(f"{greek(name)} (degrees)" for name in torsions), "checks"], rows))
    page.add("What this is not good for", Text(_CAUTION))
    page.add("Provenance", Facts(dict(ensemble.provenance)))
    return page
