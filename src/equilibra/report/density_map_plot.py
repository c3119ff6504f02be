"""Pictures of density maps over a surface: the plane with its atoms and sites, and heights one by one in the browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from equilibra.report.canvas import INK, SOFT, png, sheet
from equilibra.report.elements import script_json

if TYPE_CHECKING:
    from equilibra.systems.adsorbate.density_map import DensityMap
    from equilibra.systems.adsorbate.sites import Sites

_MARKS = {"ontop": "o", "bridge": "|", "hollow": "^", "fourfold": "s"}
_CANVAS = 440  # pixels


def plane_maps(
    maps: list[DensityMap], sites: Sites | None = None, minima: ArrayLike | None = None, titles: list[str] | None = None
) -> bytes:
    """Draws maps in the plane, over all heights, side by side on one scale.

    Arguments:
        maps: Maps of one slab.
        sites: Sites to mark.
        minima: Points (n, 2) of energy minima to mark, in Å.
        titles: What each map is called; by default its own name.

    Returns:
        The bytes of a PNG file.
    """
    plane = maps[0].system.plane.numpy()
    corners = np.array([(0.0, 0.0), plane[0], plane[1], plane[0] + plane[1]])
    wide, high = np.ptp(corners, axis=0)
    # as high as the cell is, and an inch for titles and labels: a layout does not make room for these beside equal scales
    figure = sheet(4.6 * len(maps) + 0.8, float(np.clip(4.0 * high / wide, 1.5, 8.0)) + 1.0)
    axes = figure.subplots(1, len(maps), squeeze=False).ravel()
    area = abs(float(np.linalg.det(plane)))
    shown = [grid.plane * grid.plane.size / area for grid in maps]
    top = max(float(values.max()) for values in shown)
    mesh = None
    for index, (ax, grid, values) in enumerate(zip(axes, maps, shown, strict=True)):
        nx, ny = values.shape
        corners = np.stack(np.meshgrid(np.arange(nx + 1) / nx, np.arange(ny + 1) / ny, indexing="ij"), -1) @ plane
        mesh = ax.pcolormesh(corners[..., 0], corners[..., 1], values, cmap="viridis", vmin=0.0, vmax=top, rasterized=True)
        slab = grid.system.slab
        exposed = slab.positions[:, 2] > grid.system.top - 1.0
        _points(ax, slab.positions[exposed, :2], plane, "o", "white", 60, "atoms of the top layer")
        for site in sites.kinds if sites is not None else ():
            if site.shape != "ontop":
                _points(ax, site.points[:, :2], plane, _MARKS.get(site.shape, "x"), "#ffb86b", 16, "")
        if minima is not None:
            _points(ax, np.asarray(minima), plane, "x", "#ff5f5f", 40, "minima")
        ax.set(xlabel="x (Å)", ylabel="y (Å)" if index == 0 else "", aspect="equal")
        ax.set_title(grid.name if titles is None else titles[index], color=INK, fontsize=10.5)
    if mesh is not None:
        bar = figure.colorbar(mesh, ax=list(axes), shrink=0.8)
        bar.set_label("density in the plane (1/Å²)", color=SOFT)
    return png(figure)


def _points(ax, points: np.ndarray, plane: np.ndarray, mark: str, colour: str, size: float, label: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    frac = points @ np.linalg.inv(plane)
    inside = (frac - np.floor(frac)) @ plane
    ax.scatter(
        inside[:, 0],
        inside[:, 1],
        s=size,
        marker=mark,
        facecolors="none" if mark in "os^" else colour,
        edgecolors=None if mark in "x|" else colour,
        linewidths=1.0,
        label=label or None,
    )


@dataclass(frozen=True, eq=False)
class HeightMap:
    """A density map of which the reader chooses the height, in the browser.

    Attributes:
        grid: The map.
        caption: What it shows.
    """

    grid: DensityMap = field(repr=False)
    caption: str

    def html(self, ident: str) -> str:
        """Returns a canvas with a slider, and the data for them."""
        density, plane = self.grid.density, self.grid.system.plane.numpy()
        low, high = self.grid.heights
        step = (high - low) / density.shape[2]
        slab = self.grid.system.slab
        exposed = slab.positions[:, 2] > self.grid.system.top - 1.0
        frac = slab.positions[exposed, :2] @ np.linalg.inv(plane)
        payload = {
            "plane": plane.tolist(),
            "shape": list(density.shape),
            "values": [float(f"{value:.4g}") for value in density.ravel()],
            "heights": [round(low + (k + 0.5) * step, 3) for k in range(density.shape[2])],
            "atoms": ((frac - np.floor(frac)) @ plane).round(3).tolist(),
            "size": _CANVAS,
        }
        return (
            f'<figure class="figure" id="{ident}"><div class="sheet"><canvas width="{_CANVAS}" height="{_CANVAS}" role="img" '
            f'aria-label="{escape(self.caption)}"></canvas></div><p><label>height above the surface: <output></output> '
            f'<input type="range" min="0" max="{density.shape[2]}" value="{density.shape[2]}"></label></p>'
            f"<figcaption>{escape(self.caption)}</figcaption>"
            f'<script type="application/json">{script_json(payload)}</script>'
            f"<script>{_SCRIPT.replace('IDENT', ident)}</script></figure>"
        )


_SCRIPT = """
(() => {
  const figure = document.getElementById("IDENT");
  const data = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
  const [nx, ny, nz] = data.shape, canvas = figure.querySelector("canvas"), pen = canvas.getContext("2d");
  const slider = figure.querySelector("input"), told = figure.querySelector("output"), [a, b] = data.plane;
  const corners = [[0, 0], a, b, [a[0] + b[0], a[1] + b[1]]];
  const xs = corners.map(c => c[0]), ys = corners.map(c => c[1]);
  const scale = 0.94 * data.size / Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys));
  const place = (x, y) => [0.03 * data.size + (x - Math.min(...xs)) * scale, 0.97 * data.size - (y - Math.min(...ys)) * scale];
  const at = (i, j, k) => k < nz ? data.values[(i * ny + j) * nz + k]
    : data.values.slice((i * ny + j) * nz, (i * ny + j + 1) * nz).reduce((s, v) => s + v, 0) / nz;
  const draw = () => {
    const k = Number(slider.value);
    told.textContent = k < nz ? data.heights[k].toFixed(2) + " Å" : "all";
    let top = 0;
    for (let i = 0; i < nx; i++) for (let j = 0; j < ny; j++) top = Math.max(top, at(i, j, k));
    pen.clearRect(0, 0, data.size, data.size);
    for (let i = 0; i < nx; i++) for (let j = 0; j < ny; j++) {
      const v = top > 0 ? at(i, j, k) / top : 0;
      pen.fillStyle = `hsl(${265 - 215 * v} 70% ${22 + 43 * v}%)`;
      pen.beginPath();
      [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]].forEach(([u, w], n) => {
        const p = place(u / nx * a[0] + w / ny * b[0], u / nx * a[1] + w / ny * b[1]);
        n ? pen.lineTo(...p) : pen.moveTo(...p);
      });
      pen.fill();
    }
    pen.strokeStyle = "white";
    for (const [x, y] of data.atoms) { pen.beginPath(); pen.arc(...place(x, y), 6, 0, 7); pen.stroke(); }
  };
  slider.addEventListener("input", draw);
  draw();
})();
"""
