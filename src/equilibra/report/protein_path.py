"""The report of a path between two structures of a protein."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from equilibra.analysis.samples import FloatArray
from equilibra.report.backbone_profile import evenly_spaced
from equilibra.report.elements import CellLike, Element, Facts, Figure, Highlights, Table, Text
from equilibra.report.ensemble_facts import limits
from equilibra.report.page import Page
from equilibra.report.path_plot import PathSeries, path_plot
from equilibra.report.protein import drawing_of
from equilibra.report.protein_structures import backbone_pdb, laid_out, structure_bytes
from equilibra.report.structure_view import Molecules, Movie

if TYPE_CHECKING:
    from equilibra.systems.protein.interpolate import ProteinPath
    from equilibra.systems.protein.path_energies import PathEnergies
    from equilibra.systems.protein.system import ProteinSystem

_OVERLAID = 7
_MOST_FRAMES = 100
_MOST_NUMBERS = 600_000  # of coordinates of a movie: 1.6 MB of the page
_MOST_BYTES = 1_500_000  # of the overlaid structures
_CAUTION = (
    "The path is a great arc in the model's latent space, decoded. It passes through conformations that the model finds likely, but it is a "
    "hypothesis about a transition: it has no time, and nature may take another way."
)
_POTENTIAL = (
    "The energies are potential energies{solvent} of one structure for each step: side chains were placed on it anew and relaxed with {force_field}, the backbone "
    "held by springs whose energy is not counted. They are no free energies, and no barriers either: side chains are a guess, and another one changes the "
    "energy by many kcal/mol."
)


def path_page(path: ProteinPath, *, model: str | Path | None = None) -> Page:
    """Returns the report of a path.

    Arguments:
        path: The path.
        model: Name or folder of the model, whose limits are stated; by default as the path says.
    """
    ensemble = path.ensemble
    valid = ensemble.validity.valid
    names = ends_of(path)
    forward = np.diff(path.rmsd[:, 0] - path.rmsd[:, 1]) > 0.0
    tiles: dict[str, object] = {
        "conformations": len(path),
        "valid": f"{int(valid.sum())} of {len(path)}",
        "residues": ensemble.system.length,
        "RMSD between the ends (Å)": f"{max(float(path.rmsd[0, 1]), float(path.rmsd[-1, 0])):.2f}",
        "steps that come nearer to the end": f"{int(forward.sum())} of {len(forward)}",
        "error of encoding and decoding": f"{max(path.round_trip):.4f} Å",
    }
    subtitle = f"{len(path)} conformations from {names[0]} to {names[1]}."
    page = Page(f"{ensemble.system.name}: a path", subtitle, lead=(Highlights(tiles),))
    page.add("Movie", *_movie(path))
    page.add("Along the path", *_series(path, names))
    page.add("Conformations, superposed", *_overlay(path))
    page.add("Steps", _steps(path, names))
    stated = limits(ensemble.provenance.get("model") if model is None else model)
    page.add("What this is not good for", Text("\n\n".join(text for text in (_CAUTION, _about_energies(path), stated) if text)))
    page.add("Provenance", Facts(dict(ensemble.provenance)))
    return page


def ends_of(path: ProteinPath) -> tuple[str, str]:
    """Returns what the ends of a path are called, two different names."""
    given = path.ensemble.provenance.get("ends")
    first, last = (str(name) for name in given) if isinstance(given, list | tuple) and len(given) == 2 else ("A", "B")
    return (first, last) if first != last else (f"{first} (A)", f"{last} (B)")


def _about_energies(path: ProteinPath) -> str:
    """Returns what the energies of a path are, in words, if it has any."""
    if path.energies is None:
        return ""
    name = path.energies.force_field
    return _POTENTIAL.format(force_field=name, solvent="" if name.endswith("vacuum") else " with implicit solvent")


def _backbones(path: ProteinPath) -> tuple[FloatArray, np.ndarray]:
    """Returns the conformations that can be shown, superposed on the first, and their indices: those with finite coordinates."""
    ensemble = path.ensemble
    finite = np.flatnonzero(np.isfinite(ensemble.positions).all(axis=(1, 2)))
    if not len(finite):
        return np.zeros((0, 4 * ensemble.system.length, 3)), finite
    target = ensemble.ca[finite[0]].astype(np.float64)
    return laid_out(ensemble.positions[finite], target, ensemble.system), finite


def _name(path: ProteinPath, step: int) -> str:
    return f"step {step + 1} of {len(path)}{'' if path.ensemble.validity.valid[step] else ' · invalid'}"


def _movie(path: ProteinPath) -> list[Element]:
    positions, steps = _backbones(path)
    if not len(steps):
        return [Text("No conformation of this path has finite coordinates.")]
    system: ProteinSystem = path.ensemble.system
    most = int(np.clip(_MOST_NUMBERS // (3 * positions.shape[1]), 2, _MOST_FRAMES))
    kept = evenly_spaced(len(steps), most)
    left_out = "" if len(kept) == len(path) else f" {len(kept)} of {len(path)} conformations are shown."
    caption = f"The path, superposed on its first conformation; the first (orange) and the last (green) stay as thin traces.{left_out} Play, or move the slider."
    return [
        Movie(
            backbone_pdb(positions[0], system),
            positions[kept],
            [_name(path, int(step)) for step in steps[kept]],
            caption,
            "cartoon" if drawing_of(system.length) == "cartoon" else "sticks",
        )
    ]


def _overlay(path: ProteinPath) -> list[Element]:
    positions, steps = _backbones(path)
    if not len(steps):
        return [Text("No conformation of this path has finite coordinates.")]
    system: ProteinSystem = path.ensemble.system
    kept = evenly_spaced(len(steps), int(np.clip(_MOST_BYTES // structure_bytes(system), 1, _OVERLAID)))
    labels = [f"{number} · {_name(path, int(steps[i]))}" for number, i in enumerate(kept, start=1)]
    models = [backbone_pdb(positions[i], system) for i in kept]
    caption = "Conformations on the path, superposed on the first. Drag to turn; click, then scroll, to zoom."
    return [Molecules(models, labels, caption, "cartoon" if drawing_of(system.length) == "cartoon" else "sticks")]


def _series(path: ProteinPath, names: tuple[str, str]) -> list[Element]:
    ensemble = path.ensemble
    panels = [
        PathSeries("C-alpha RMSD (Å)", {f"to {names[0]}": path.rmsd[:, 0], f"to {names[1]}": path.rmsd[:, 1]}),
        PathSeries("radius of gyration (Å)", {"": ensemble.radius_of_gyration}),
    ]
    words = ""
    if ensemble.log_density is not None:
        panels.append(PathSeries("log-density (nats)", {"": ensemble.log_density}))
        finite = ensemble.log_density[np.isfinite(ensemble.log_density)]
        if len(finite):
            depth = float(finite[[0, -1]].min() - finite.min())
            words = f" At its lowest, the log-density is {depth:.1f} nats below the less likely end."
    if path.energies is not None:
        panels += _energy_panels(path.energies)
        words += (
            f" Energies: potential energy of all atoms after relaxation with {path.energies.force_field}, above the lowest step; no free energies. "
            f"C-alpha atoms moved by the relaxation; pairs of atoms that clash, as built and relaxed."
        )
    bad = ~ensemble.validity.valid
    failed = int(bad.sum())
    which = f"the {failed} conformations that fail" if failed > 1 else "the conformation that fails"
    marks = f" Red marks: {which} a check." if failed else ""
    caption = f"What changes along the path; RMSD after superposition.{words}{marks}"
    alt = f"Lines along the path from {names[0]} to {names[1]}: {', '.join(panel.name for panel in panels)}.{words}{marks}"
    return [Figure(path_plot(panels, bad), caption, alt)]


def _energy_panels(energies: PathEnergies) -> list[PathSeries]:
    relaxed = energies.columns["energy relaxed (kcal/mol)"]
    finite = relaxed[np.isfinite(relaxed)]
    return [
        PathSeries("relaxed energy (kcal/mol)", {"": relaxed - finite.min() if len(finite) else relaxed}),
        PathSeries("C-alpha displacement (Å)", {"": energies.ca_moved}),
        PathSeries("clashes", {"as built": energies.clashes[:, 0], "relaxed": energies.clashes[:, 1]}),
    ]


def _steps(path: ProteinPath, names: tuple[str, str]) -> Table:
    ensemble = path.ensemble
    size, density = ensemble.radius_of_gyration, ensemble.log_density
    energies = {} if path.energies is None else path.energies.columns
    rows: list[list[CellLike]] = [
        [
            i + 1,
            *(_rounded(value, 2) for value in (path.rmsd[i, 0], path.rmsd[i, 1], size[i])),
            *(() if density is None else (_rounded(density[i], 1),)),
            *(_rounded(values[i], 2) if values.dtype.kind == "f" else values[i].item() for values in energies.values()),
            "; ".join(ensemble.validity.reasons(i)) or "valid",
        ]
        for i in range(len(path))
    ]
    head = ["step", f"RMSD to {names[0]} (Å)", f"RMSD to {names[1]} (Å)", "radius of gyration (Å)"]
    return Table([*head, *([] if density is None else ["log-density (nats)"]), *energies, "checks"], rows)


def _rounded(value: float, digits: int) -> str | None:
    return f"{value:.{digits}f}".replace("-", "−") if np.isfinite(value) else None
