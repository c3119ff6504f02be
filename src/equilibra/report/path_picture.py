"""An animated picture of a protein's path: the C-alpha trace from A to B and back, with both ends as ghosts, for pages that take pictures only."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from equilibra.analysis.samples import FloatArray
from equilibra.analysis.superposition import superpose
from equilibra.atomic import write_bytes
from equilibra.errors import InputError
from equilibra.report.backbone_profile import evenly_spaced
from equilibra.report.canvas import INK
from equilibra.report.elements import colour
from equilibra.report.protein_path import ends_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image as Picture

    from equilibra.systems.protein.interpolate import ProteinPath

_MOST_FRAMES = 30
_PER_RESIDUE = 6  # points of the smooth trace
_WIDTH, _HEIGHT, _DPI = 5.2, 4.4, 100  # inches, dots per inch
_SHARE = 0.92  # of the height that the trace may take
_LONGEST = 24  # letters of the name of an end
_TUBE = 1.5  # Å across
_MILLISECONDS, _REST = 90, 900  # of a frame, and of both ends
_COLOURS = 128  # in a file
_FOG = 0.6  # how pale the farthest part is
_A, _B = 1, 2  # colours of the ends, as in the movie of the report


def write_path_gif(path: ProteinPath, file: str | Path) -> Path:
    """Draws a path as an animated GIF, and returns the file.

    The conformations are superposed on the first and seen from the side from which shape and motion show most; they are never mirrored. The trace is coloured
    from the first residue (violet) to the last (yellow), and pale where it is far.

    Arguments:
        path: The path; conformations that are not finite are left out.
        file: The file to write.

    Raises:
        InputError: If no conformation has finite coordinates.
    """
    steps = np.flatnonzero(np.isfinite(path.ensemble.ca).all(axis=(1, 2)))
    if not len(steps):
        raise InputError("picture of a path: no conformation has finite coordinates")
    steps = steps[evenly_spaced(len(steps), _MOST_FRAMES)]
    traces = [_smooth(x, path.ensemble.system.breaks) for x in seen_from_the_side(path.ensemble.ca[steps])]
    words = [f"step {step + 1} of {len(path)}" for step in steps]
    images = _with_common_palette(_drawn(traces, words, ends_of(path)))
    there_and_back = [*images, *images[-2:0:-1]]
    durations = [_MILLISECONDS] * len(there_and_back)
    durations[0] = durations[len(images) - 1] = _REST
    stream = io.BytesIO()
    images[0].save(
        stream, format="GIF", save_all=True, append_images=there_and_back[1:], duration=durations, loop=0, optimize=True
    )
    write_bytes(file, stream.getvalue())
    return Path(file)


def seen_from_the_side(ca: np.ndarray) -> FloatArray:
    r"""Returns C-alpha positions (frames, L, 3) superposed on the first and turned: x and y are the plane of the picture, z comes towards the reader.

    The plane is spanned by the two largest eigenvectors of :math:`S / \operatorname{tr} S + M / \operatorname{tr} M`, with the second moments S of the positions
    and M of the way from the first to the last.
    """
    frames = np.asarray(ca, dtype=np.float64)
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = superpose(frames, frames[0])
    way = frames[-1] - frames[0]
    moments = sum(x.T @ x / max(float((x**2).sum()), 1e-12) for x in (frames.reshape(-1, 3), way))
    axes = np.linalg.eigh(moments)[1][:, ::-1]
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    return np.asarray(frames @ axes)


def _smooth(x: FloatArray, breaks: np.ndarray) -> list[FloatArray]:
    """Returns the pieces of a chain (points, 3) along Catmull-Rom splines through its C-alpha atoms."""
    cuts = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(x)]
    t = np.arange(_PER_RESIDUE)[:, None] / _PER_RESIDUE
    pieces = []
    for start, stop in pairwise(cuts):
        p = np.concatenate([x[start : start + 1], x[start:stop], x[stop - 1 : stop]])
        spans = [
            b + 0.5 * t * (c - a + t * (2.0 * a - 5.0 * b + 4.0 * c - d + t * (3.0 * (b - c) + d - a)))
            for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
        ]
        pieces.append(np.concatenate([*spans, p[-1:]]))
    return pieces


def _drawn(traces: list[list[FloatArray]], words: list[str], names: tuple[str, str]) -> list[np.ndarray]:
    """Returns the pictures (height, width, 3) of traces, 8 bits a colour."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    view = _View(traces)
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    frames = []
    for trace, text in zip(traces, words, strict=True):
        figure.clear()
        ax = view.axes(figure)
        for ghost, index in ((traces[0], _A), (traces[-1], _B)):
            for piece in ghost:
                ax.plot(piece[:, 0], piece[:, 1], color=colour(index), lw=1.6, alpha=0.7, zorder=1, solid_capstyle="round")
        view.tube(ax, trace)
        for place, name, index, side in ((0.03, names[0], _A, "left"), (0.97, names[1], _B, "right")):
            figure.text(place, 0.95, _short(name), color=colour(index), fontsize=11, weight="bold", ha=side)
        figure.text(0.5, 0.95, text, color=INK, fontsize=10, ha="center")
        canvas.draw()
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return frames


def _with_common_palette(frames: list[np.ndarray]) -> list[Picture]:
    """Returns pictures of few colours, the same for all, so that nothing flickers."""
    from PIL import Image, ImageColor

    swatches = [np.full((60, frames[0].shape[1], 3), ImageColor.getrgb(colour(index)), dtype=np.uint8) for index in (_A, _B)]
    sheet = Image.fromarray(np.concatenate([frames[0], frames[len(frames) // 2], frames[-1], *swatches]))
    palette = sheet.quantize(_COLOURS, dither=Image.Dither.NONE)
    return [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."


class _View:
    """A picture of one scale that has room for all conformations of a path.

    Arguments:
        traces: The pieces (points, 3) of each trace, in Å.
    """

    def __init__(self, traces: list[list[FloatArray]]) -> None:
        points = np.concatenate([piece for trace in traces for piece in trace])
        low, high = points.min(axis=0), points.max(axis=0)
        self.nearest, self.depth = float(high[2]), max(float(high[2] - low[2]), 1e-9)
        size = np.array([_WIDTH, _HEIGHT * _SHARE])
        span = (high - low)[:2] + 0.1 * float((high - low)[:2].max()) + 2.0 * _TUBE
        self.per_inch = float((span / size).max())  # Å
        self.low, self.high = (0.5 * ((low + high)[:2] + sign * self.per_inch * size) for sign in (-1.0, 1.0))

    def axes(self, figure: Figure) -> Axes:
        """Returns axes without ticks for the trace, below a line for words."""
        ax: Axes = figure.add_axes((0.0, 0.0, 1.0, _SHARE))
        ax.set_axis_off()
        ax.set_xlim(self.low[0], self.high[0])
        ax.set_ylim(self.low[1], self.high[1])
        return ax

    def tube(self, ax: Axes, trace: list[FloatArray]) -> None:
        """Draws a trace as a tube with an outline, what is near over what is far."""
        from matplotlib import colormaps
        from matplotlib.collections import LineCollection

        # each stretch reaches into the next, so that square ends leave no gaps; round ones would cut the tube into beads
        lines = np.concatenate([np.stack([piece[:-2], piece[1:-1], piece[2:]], axis=1) for piece in trace])
        depth = lines[:, 1, 2]
        order = np.argsort(depth)
        far = ((self.nearest - depth[order]) / self.depth)[:, None]
        fill = colormaps["viridis"](order / max(len(lines) - 1, 1))[:, :3] * (1.0 - _FOG * far) + _FOG * far
        outline = 0.45 * fill + 0.3 * _FOG * far
        width = float(np.clip(72.0 * _TUBE / self.per_inch, 2.0, 9.0))
        strokes = LineCollection(
            list(np.repeat(lines[order][:, :, :2], 2, axis=0)),
            colors=np.stack([outline, fill], axis=1).reshape(-1, 3),
            linewidths=np.tile([width + 1.8, width], len(lines)),
            capstyle="butt",
            joinstyle="round",
            zorder=2,
        )
        ax.add_collection(strokes)
