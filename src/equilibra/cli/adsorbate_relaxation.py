"""What `equilibra sample adsorbate` adds to samples: one structure of each site, relaxed."""

from __future__ import annotations

import csv
import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equilibra.cli.adsorbate_input import PANEL
from equilibra.cli.console import bar
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble

TABLE, STRUCTURES = "relaxed.csv", ("relaxed.extxyz", "relaxed.traj")

Layers = Annotated[
    int,
    typer.Option(
        "--relax-layers",
        help="With --relax: so many top layers of the slab relax as well; atoms that a constraint of the slab fixes stay where they are.",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True)
class SiteRelaxation:
    """Relaxation of a structure of each site by an energy, named by `energy`, with so many `layers` of the slab."""

    energy: str
    layers: int

    @property
    def files(self) -> list[str]:
        """Names of the files that are written."""
        return [*STRUCTURES, TABLE]

    @property
    def record(self) -> dict[str, Any]:
        """What a finished folder tells of this, in the provenance of its ensemble."""
        return {"relaxed_by": self.energy, "relaxed_layers": self.layers}

    def check(self, system: Any, guides: list[str]) -> None:
        """Checks, before anything is drawn, that there are so many layers and such an energy.

        Raises:
            InputError: If not.
        """
        from equilibra.systems.adsorbate.energy import bare_energy
        from equilibra.systems.adsorbate.relaxation import top_layers

        try:
            top_layers(system.slab, self.layers)
        except InputError as error:
            raise InputError(f"{system.name}: --relax-{error}") from error
        bare_energy(system, self.energy)

    def add(self, ctx: typer.Context, ensemble: AdsorbateEnsemble, folder: Path) -> tuple[AdsorbateEnsemble, list[str]]:
        """Relaxes, writes the files, and returns the ensemble that knows of it and the summary in a sentence."""
        from equilibra.atomic import write_text
        from equilibra.systems.adsorbate.relaxation import STEPS, relax_sites

        with bar(ctx, f"relaxing by {self.energy}", STEPS) as shown:
            found = relax_sites(
                ensemble,
                self.energy,
                layers=self.layers,
                progress=lambda done, total: shown.update(done, total=total, note=f"step {done:,}"),
            )
        for name in STRUCTURES:
            found.write(folder / name)
        rows = found.rows()
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows({**row, "flags": " ".join(row["flags"])} for row in rows)
        write_text(folder / TABLE, text.getvalue())
        told = {**ensemble.provenance, **self.record, "relaxed_sites": rows}
        slab = f"the top {self.layers} layers free" if self.layers else "the slab held"
        line = f"{sum(row['converged'] for row in rows)} of {len(rows)} structures, one of each site, relaxed by {self.energy} with {slab}"
        lowest = min((row for row in rows if row["above_lowest_ev"] == 0.0), key=lambda row: row["sample"], default=None)
        line += "" if lowest is None else f"; lowest at {lowest['relaxed_site']}, {lowest['energy_after_ev']:.4f} eV"
        return dataclasses.replace(ensemble, provenance=told), [f"{line}. Each is in {TABLE}."]


def relaxation_of(relax: str | None, layers: int) -> SiteRelaxation | None:
    """Returns the relaxation that is asked for, or None.

    Raises:
        InputError: If a number is out of range, or options do not go together.
    """
    if layers < 0:
        raise InputError(f"--relax-layers: got {layers}, expected at least 0")
    if relax is None:
        if layers:
            raise InputError("--relax-layers: has an effect with --relax only; name an energy, such as --relax emt")
        return None
    return SiteRelaxation(relax, layers)
