"""Plots of free energies with their errors: a profile along one collective variable, a surface over two, both as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from equilibra.analysis.collective_variables import CollectiveVariable
from equilibra.analysis.state_free_energies import StatePopulation
from equilibra.report.canvas import INK, LINE, SAMPLE, SOFT, FloatArray, png, sheet
from equilibra.report.elements import colour
from equilibra.report.molecule import greek
from equilibra.thermo.profile import Profile
from equilibra.units import KJ_PER_MOL_EV, thermal_energy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TOP = 12.0  # kT; what lies higher is known to be rare and no more


def axis_name(variable: CollectiveVariable) -> str:
    """Returns the name of a variable with the unit that people read: angles in degrees."""
    return f"{greek(variable.name)} ({'degrees' if variable.unit == 'rad' else variable.unit})"


def shown(variable: CollectiveVariable, values: FloatArray) -> FloatArray:
    """Returns values of a variable in the unit of its axis."""
    return np.degrees(values) if variable.unit == "rad" else values


def free_energy_profile(
    profile: Profile, variable: CollectiveVariable, *, temperature: float | None = None, states: Sequence[StatePopulation] = ()
) -> bytes:
    """Draws a free-energy profile with its 95 % band; empty bins are gaps.

    Arguments:
        profile: The profile, in kT.
        variable: Its collective variable.
        temperature: Temperature in K for a second axis in kJ/mol, or None.
        states: States to shade, where they lie along the variable.

    Returns:
        The bytes of a PNG file.
    """
    centres, free = shown(variable, profile.centres[0]), profile.free_energy
    edges = shown(variable, profile.edges[0])
    highest = float(np.nanmax(free))
    top = min(_TOP, 1.18 * highest + 0.6)
    bottom = min(float(np.nanmin(profile.low)), 0.0) - 0.3
    figure = sheet(8.4, 4.3)
    ax = figure.subplots()
    for index, state in enumerate(states):
        for low, high in shown(variable, np.array(state.spans).reshape(-1, 2)):
            ax.axvspan(low, high, color=colour(index + 1), alpha=0.10, lw=0)
        if state.spans:
            low, high = max((shown(variable, np.array(span)) for span in state.spans), key=lambda span: span[1] - span[0])
            ax.text(
                0.5 * (low + high),
                0.985,
                greek(state.name),
                transform=ax.get_xaxis_transform(),
                ha="center",
                va="top",
                fontsize=9.5,
                color=colour(index + 1),
            )
    # one bar for each bin, so that a bin without neighbours has its band, too
    held = np.isfinite(free)
    low, high = profile.low[held], np.where(np.isfinite(profile.high), profile.high, 1e3)[held]
    ax.bar(centres[held], high - low, np.diff(edges)[held], low, color=SAMPLE, alpha=0.22, lw=0, label="95 % interval")
    ax.plot(centres, free, color=SAMPLE, lw=1.8, marker="o", ms=3.2, label="free energy")
    ax.set(xlim=(edges[0], edges[-1]), ylim=(bottom, top), xlabel=axis_name(variable), ylabel="free energy (kT)")
    if variable.period is not None:
        ax.set_xticks(np.arange(-180, 181, 60))
    ax.grid(color=LINE, lw=0.6)
    figure.legend(frameon=False, fontsize=9, loc="outside upper right", ncols=2)
    if temperature is not None:
        _second_unit(ax, thermal_energy(temperature) / KJ_PER_MOL_EV, temperature)
    return png(figure)


def free_energy_map(surface: Profile, variables: tuple[CollectiveVariable, CollectiveVariable]) -> bytes:
    """Draws a free-energy surface beside its standard error; white bins hold no conformation, and the errors of grey ones have no upper end.

    Arguments:
        surface: The surface, in kT.
        variables: Its two variables.

    Returns:
        The bytes of a PNG file.
    """
    figure = sheet(11.0, 4.9)
    axes = figure.subplots(1, 2, sharey=True)
    x, y = (shown(variable, edges) for variable, edges in zip(variables, surface.edges, strict=True))
    open_ended = np.isinf(surface.high) | np.isinf(surface.error)
    error = np.where(open_ended, np.nan, surface.error)
    finite = error[np.isfinite(error)]
    panels: list[tuple[str, FloatArray, str, float]] = [
        (
            "free energy (kT)",
            surface.free_energy,
            "viridis",
            float(np.clip(np.ceil(np.nanmax(surface.free_energy)), 2.0, 10.0)),
        ),
        ("standard error (kT)", error, "magma", float(min(max(finite.max(), 0.1), 1.5)) if finite.size else 1.0),
    ]
    for ax, (title, values, colours, top) in zip(axes, panels, strict=True):
        ax.set_label("framed")
        image = ax.pcolormesh(x, y, values.T, cmap=colours, vmin=0.0, vmax=top, rasterized=True)
        ax.set_title(title, fontsize=11, color=INK, pad=9)
        ax.set_xlabel(axis_name(variables[0]))
        for axis, variable in ((ax.xaxis, variables[0]), (ax.yaxis, variables[1])):
            if variable.period is not None:
                axis.set_ticks(np.arange(-180, 181, 60))
        if values is error:
            grey = np.where(open_ended, 0.35, np.nan)
            ax.pcolormesh(x, y, grey.T, cmap="Greys", vmin=0.0, vmax=1.0, rasterized=True)
        bar = figure.colorbar(image, ax=ax, pad=0.02, fraction=0.05, extend="max" if bool((values > top).any()) else "neither")
        bar.outline.set_visible(False)
    axes[0].set_ylabel(axis_name(variables[1]))
    return png(figure)


def _second_unit(ax: Axes, factor: float, temperature: float) -> None:
    other: Any = ax.secondary_yaxis("right", functions=(lambda kt: np.asarray(kt) * factor, lambda kj: np.asarray(kj) / factor))
    other.set_ylabel(f"kJ/mol at {temperature:g} K", color=SOFT, fontsize=10.5)
    other.tick_params(colors="#aab2bb", labelcolor=INK, labelsize=9.5)
    other.spines["right"].set_color("#aab2bb")
