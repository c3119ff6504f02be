"""Structures to turn in the hand: laid over each other, or one after the other as a movie."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError, ShapeError
from equilibra.report.elements import colour, script_json

Drawing = Literal["sticks", "cartoon", "crystal"]
"""How a structure is drawn: all its atoms as balls and sticks, the course of a protein's backbone, or atoms in a unit cell, one structure at a time."""

_WITHOUT_WEBGL = "This browser cannot draw in 3-D (WebGL is missing or switched off), so the structures are not shown."
_LARGEST = 32_000  # of the numbers of 16 bits that a movie is made of
_VIEW_TOOLS = (
    '<button type="button" data-toggle="spin" aria-pressed="false">Spin</button>'
    '<button type="button" data-action="reset">Reset view</button>'
)


@dataclass(frozen=True)
class Molecules:
    """Structures to turn in the hand: one at a time or laid over each other.

    Attributes:
        pdb_models: One structure each, in PDB format, in Å, already superposed.
        labels: The name of each structure, shown on its button.
        caption: What the structures are.
        drawing: How they are drawn; a cartoon needs the atoms N, CA, C and O of each residue, a crystal its cell (CRYST1).
    """

    pdb_models: Sequence[str] = field(repr=False)
    labels: Sequence[str]
    caption: str
    drawing: Drawing = "sticks"

    def __post_init__(self) -> None:
        if len(self.pdb_models) != len(self.labels) or not self.pdb_models:
            raise InputError(
                f"molecules: got {len(self.pdb_models)} structures and {len(self.labels)} labels, expected as many, at least one"
            )
        for label, text in zip(self.labels, self.pdb_models, strict=True):
            if not _has_atoms(text):
                raise InputError(f"molecules: structure '{label}' has no ATOM or HETATM line, expected PDB text")

    def html(self, ident: str) -> str:
        """Returns the stage of the viewer, its buttons, its data and the message for browsers without WebGL."""
        payload = {
            "models": list(self.pdb_models),
            "colours": [colour(i) for i in range(len(self.labels))],
            "drawing": self.drawing,
            "without_webgl": _WITHOUT_WEBGL,
        }
        every = ""
        if len(self.labels) > 1 and self.drawing != "crystal":
            every = '<button type="button" data-show="all" aria-pressed="true">All, superposed</button>'
        buttons = "".join(
            f'<button type="button" data-show="{i}" aria-pressed="false">'
            f'<span class="swatch" style="--swatch: {colour(i)}"></span>{escape(label)}</button>'
            for i, label in enumerate(self.labels)
        )
        hydrogens = '<button type="button" data-toggle="hydrogens" aria-pressed="true">Hydrogens</button>'
        tools = f'<span class="gap"></span>{hydrogens if self.drawing == "sticks" else ""}{_VIEW_TOOLS}'
        return _figure(
            ident,
            f'<div class="toolbar" role="group" aria-label="Structures" hidden>{every}{buttons}{tools}</div>',
            f"3-D view of {', '.join(self.labels)}.",
            self.caption,
            payload,
        )


@dataclass(frozen=True, eq=False)
class Movie:
    """Conformations of one structure that follow each other, with a slider and a button to play them; the first and last can stay in view.

    Attributes:
        template: One conformation in PDB format, which gives the atoms.
        positions: Conformations (frames, atoms, 3), in Å, already superposed.
        labels: The name of each conformation.
        caption: What is shown.
        drawing: How they are drawn; a cartoon needs the atoms N, CA, C and O of each residue.
    """

    template: str = field(repr=False)
    positions: ArrayLike = field(repr=False)
    labels: Sequence[str]
    caption: str
    drawing: Drawing = "cartoon"

    def __post_init__(self) -> None:
        atoms = sum(line.startswith(("ATOM  ", "HETATM")) for line in self.template.splitlines())
        x = np.asarray(self.positions)
        if not atoms or x.ndim != 3 or x.shape[1:] != (atoms, 3) or len(x) == 0:
            raise ShapeError("movie", x.shape, f"(frames, {atoms}, 3), as many atoms as the template has")
        if len(self.labels) != len(x):
            raise InputError(f"movie: got {len(self.labels)} labels, expected {len(x)}, one for each frame")
        if not np.isfinite(x).all():
            raise InputError("movie: got coordinates that are not finite; leave those frames out")

    def html(self, ident: str) -> str:
        """Returns the stage of the viewer, its slider and buttons, its data and the message for browsers without WebGL."""
        x = np.asarray(self.positions, dtype=np.float64)
        unit = max(0.01, float(np.abs(x).max()) / _LARGEST)
        numbers = np.round(x / unit).astype("<i2")
        payload = {
            "movie": {
                "template": self.template,
                "frames": base64.b64encode(numbers.tobytes()).decode("ascii"),
                "unit": unit,
                "labels": list(self.labels),
            },
            "colours": [colour(0), colour(1), colour(2)],
            "drawing": self.drawing,
            "without_webgl": _WITHOUT_WEBGL,
        }
        last = len(self.labels) - 1
        toolbar = (
            '<div class="toolbar" role="group" aria-label="Movie" hidden>'
            '<button type="button" data-action="play" aria-pressed="false">Play</button>'
            f'<input type="range" min="0" max="{last}" value="0" step="1" aria-label="Conformation">'
            f"<output>{escape(self.labels[0])}</output>"
            '<span class="gap"></span><button type="button" data-toggle="ends" aria-pressed="true">'
            f'<span class="swatch" style="--swatch: {colour(1)}"></span><span class="swatch" style="--swatch: {colour(2)}"></span>First and last</button>'
            f"{_VIEW_TOOLS}</div>"
        )
        return _figure(ident, toolbar, f"3-D movie of {len(self.labels)} conformations, with a slider.", self.caption, payload)


def _figure(ident: str, toolbar: str, name: str, caption: str, payload: Mapping[str, object]) -> str:
    label = escape(f"{name} Drag or use the arrow keys to turn, plus and minus to zoom.")
    return (
        f'<figure class="molecules" id="{escape(ident)}"><div class="panel">{toolbar}'
        f'<div class="stage" tabindex="0" role="application" aria-label="{label}">'
        '<p class="fallback"><span>The 3-D view needs JavaScript, which is switched off in this browser.</span></p></div></div>'
        f"<figcaption>{escape(caption)}</figcaption>"
        f'<script type="application/json">{script_json(payload)}</script></figure>'
    )


def _has_atoms(text: str) -> bool:
    return any(line.startswith(("ATOM", "HETATM")) for line in text.splitlines())
