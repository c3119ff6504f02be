"""The elements of a report: paragraphs, tables and figures, each of which can write itself as HTML.

Everything a caller hands over is text to show: it is escaped here, in one place, before it reaches a page. Elements know nothing
of any domain and nothing of the network.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal, Protocol

from equilibra.errors import InputError

Tone = Literal["plain", "good", "warn", "bad"]
"""How a table cell is meant: neutral, as it should be, worth a look, wrong."""

PALETTE: tuple[str, ...] = ("#3b7ea1", "#d98a29", "#4b9b6e", "#b4517a", "#7a6bb5", "#c2513f", "#6d8f1f", "#7b6a58")
"""Colours that tell series and structures apart, in the order of use; legible on light and dark ground."""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def colour(index: int) -> str:
    """Returns the colour of the series or structure with this index (from 0), repeating after the last."""
    return PALETTE[index % len(PALETTE)]


class Element(Protocol):
    """Abstract part of a page that can write itself as HTML."""

    def html(self, ident: str) -> str:
        """Returns the markup; `ident` is unique on the page and may be used for `id` attributes."""
        ...


@dataclass(frozen=True)
class Cell:
    """A table cell whose tone says how it is meant.

    Attributes:
        value: The text or number to show; None shows a dash.
        tone: How the cell is meant. The words must say the same: colour alone carries nothing.
    """

    value: str | int | float | None
    tone: Tone = "plain"


CellLike = Cell | str | int | float | None


def number(value: float, digits: int = 4) -> str:
    """Returns a number as people write it: thousands separated, at most `digits` significant digits, no trailing noise."""
    whole = isinstance(value, int) or abs(value) >= 10.0**digits
    text = f"{value:,.0f}" if whole else f"{value:.{digits}g}"
    return text.replace("-", "−", 1) if value < 0 else text


def show(value: object) -> str:
    """Returns the escaped text of a value: numbers as `number` writes them, mappings and sequences joined by commas, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return escape(number(value))
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(key))} {escape(str(item))}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(show(item) for item in value)
    return escape(str(value))


@dataclass(frozen=True)
class Text:
    """Paragraphs of plain text, separated by empty lines.

    Attributes:
        text: The text. Markup in it is shown, not obeyed.
    """

    text: str

    def html(self, ident: str) -> str:
        """Returns one `<p>` for each paragraph."""
        paragraphs = [" ".join(part.split()) for part in self.text.split("\n\n")]
        return "\n".join(f"<p>{escape(part)}</p>" for part in paragraphs if part)


@dataclass(frozen=True)
class Highlights:
    """A row of tiles with the few numbers that a reader looks for first.

    Attributes:
        items: Label -> value, in the order of reading.
    """

    items: Mapping[str, object]

    def html(self, ident: str) -> str:
        """Returns a definition list laid out as tiles."""
        tiles = "".join(f"<div><dt>{escape(key)}</dt><dd>{show(value)}</dd></div>" for key, value in self.items.items())
        return f'<dl class="highlights">{tiles}</dl>'


@dataclass(frozen=True)
class Facts:
    """A list of names and values, such as the provenance of a result.

    Attributes:
        items: Name -> value, in the order of reading.
    """

    items: Mapping[str, object]

    def html(self, ident: str) -> str:
        """Returns a definition list of two columns."""
        rows = "".join(f"<dt>{escape(key)}</dt><dd>{show(value)}</dd>" for key, value in self.items.items())
        return f'<dl class="facts">{rows}</dl>'


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows.

    Attributes:
        columns: Head of each column.
        rows: Cells of each row, as many as columns. Columns that hold only numbers are set to the right.
        caption: What the table shows, one or two sentences.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[CellLike]]
    caption: str = ""

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(
                    f"table row {index}: got {len(row)} cells, expected {len(self.columns)} ({', '.join(self.columns)})"
                )

    def html(self, ident: str) -> str:
        """Returns the table inside a box that scrolls sideways on narrow screens."""
        cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]
        right = [
            any(_is_number(row[j].value) for row in cells)
            and all(row[j].value is None or _is_number(row[j].value) for row in cells)
            for j in range(len(self.columns))
        ]
        head = "".join(
            f'<th scope="col"{_classes("number" if right[j] else "")}>{escape(name)}</th>'
            for j, name in enumerate(self.columns)
        )
        body = "\n".join(f"<tr>{''.join(_cell(cell, j == 0, right[j]) for j, cell in enumerate(row))}</tr>" for row in cells)
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        return f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


@dataclass(frozen=True)
class Figure:
    """A picture, embedded in the page.

    Attributes:
        image: The bytes of a PNG or an SVG file. It is shown as an image: scripts inside an SVG do not run.
        caption: What the picture shows and how to read it.
        alt: The same for a reader who cannot see it: what is plotted and what it says.
    """

    image: bytes = field(repr=False)
    caption: str
    alt: str

    def __post_init__(self) -> None:
        self._media_type()
        if not self.alt.strip():
            raise InputError("figure: got no alternative text, expected one sentence that says what the picture shows")

    def _media_type(self) -> str:
        if self.image.startswith(_PNG_MAGIC):
            return "image/png"
        if b"<svg" in self.image[:2000]:
            return "image/svg+xml"
        raise InputError(f"figure: got bytes that begin with {self.image[:8]!r}, expected a PNG or an SVG file")

    def html(self, ident: str) -> str:
        """Returns the picture as a data address with its caption below."""
        data = base64.b64encode(self.image).decode("ascii")
        return (
            f'<figure class="figure"><div class="sheet"><img src="data:{self._media_type()};base64,{data}" alt="{escape(self.alt)}"{_size(self.image)}></div>'
            f"<figcaption>{escape(self.caption)}</figcaption></figure>"
        )


def script_json(payload: object) -> str:
    """Returns JSON that can stand inside a `<script>` element: no character of it can end the element."""
    text = json.dumps(payload, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _is_number(value: str | int | float | None) -> bool:
    """Returns whether a cell reads as a number, with or without a unit of one sign such as % or ×."""
    if isinstance(value, str):
        return re.fullmatch(r"[<>−-]?\s?\d[\d,.]*\s?[%×]?", value) is not None
    return isinstance(value, int | float)


def _size(png: bytes) -> str:
    """Returns the size attributes of a PNG file at its own resolution, 96 pixels of a page to the inch; nothing for other files.

    The head of the file gives width and height in pixels, the chunk `pHYs` the number of pixels per metre.
    """
    if not png.startswith(_PNG_MAGIC):
        return ""
    width, height = struct.unpack(">II", png[16:24])
    place = png.find(b"pHYs", 33, 2000)
    density, _, unit = struct.unpack(">IIB", png[place + 4 : place + 13]) if place >= 0 else (0, 0, 0)
    scale = 96.0 / (density * 0.0254) if unit == 1 and density else 1.0
    return f' width="{round(width * scale)}" height="{round(height * scale)}"'


def _classes(*names: str) -> str:
    given = " ".join(name for name in names if name)
    return f' class="{given}"' if given else ""


def _cell(cell: Cell, is_row_head: bool, is_number: bool) -> str:
    kind = _classes("number" if is_number else "", "" if cell.tone == "plain" else cell.tone)
    return f'<th scope="row"{kind}>{show(cell.value)}</th>' if is_row_head else f"<td{kind}>{show(cell.value)}</td>"
