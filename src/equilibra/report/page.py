"""A self-contained HTML page: one file that shows the same on any machine, today and in ten years, without a network.

Style, pictures, data and the 3-D viewer are inside the file. A content security policy in its head forbids the browser to load
anything else, so a page can be opened from an e-mail or an air-gapped machine, and nobody learns that it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path

from equilibra.atomic import write_text
from equilibra.errors import InputError
from equilibra.report.elements import Element
from equilibra.report.structure_view import Molecules, Movie

_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading.

    Attributes:
        title: The heading; it also stands in the list of sections at the top.
        elements: What the section shows, in order.
    """

    title: str
    elements: tuple[Element, ...]


@dataclass
class Page:
    """A report page, built section by section.

    >>> from equilibra.report.elements import Text
    >>> page = Page("Water", "1,000 conformations").add("Purpose", Text("To show <b> as it is."))
    >>> "To show &lt;b&gt; as it is." in page.render()
    True

    Attributes:
        title: The heading of the page and of the browser's tab.
        subtitle: One sentence below it.
        lead: Elements between the heading and the first section, such as `Highlights`.
        sections: The sections in order; `add` appends one.
    """

    title: str
    subtitle: str = ""
    lead: tuple[Element, ...] = ()
    sections: list[Section] = field(default_factory=list)

    def add(self, title: str, *elements: Element) -> Page:
        """Appends a section and returns the page, so that calls can be chained."""
        self.sections.append(Section(title, elements))
        return self

    def extend(self, *sections: tuple[str, Sequence[Element]]) -> Page:
        """Appends those sections, each a title and its elements, that have any, and returns the page."""
        for title, elements in sections:
            if elements:
                self.add(title, *elements)
        return self

    def render(self) -> str:
        """Returns the page as one HTML document without any reference to the outside."""
        has_molecules = any(isinstance(element, Molecules | Movie) for section in self.sections for element in section.elements)
        has_molecules = has_molecules or any(isinstance(element, Molecules | Movie) for element in self.lead)
        entries = "".join(f'<a href="#section-{i}">{escape(section.title)}</a>' for i, section in enumerate(self.sections))
        navigation = f'<nav aria-label="Sections">{entries}</nav>' if len(self.sections) > 1 else ""
        lead = "\n".join(element.html(f"lead-{i}") for i, element in enumerate(self.lead))
        body = "\n".join(_section(section, i) for i, section in enumerate(self.sections))
        subtitle = f'<p class="subtitle">{escape(self.subtitle)}</p>' if self.subtitle else ""
        return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(self.title)}</title>
<link rel="icon" href="data:,">
<style>
{_asset("page.css")}</style>
</head>
<body>
<header class="top">
<p class="brand">equilibra report</p>
<h1>{escape(self.title)}</h1>
{subtitle}
{lead}
{navigation}
</header>
<main>
{body}
</main>
<footer>
{_viewer_licence() if has_molecules else "<p>This file is self-contained: it loads nothing from a network.</p>"}
</footer>
{_viewer_scripts() if has_molecules else ""}
</body>
</html>
"""

    def write(self, path: str | Path) -> Path:
        """Writes the page atomically: readers see the old file or the whole new one, never a part.

        Arguments:
            path: The file to write; its folder must exist.

        Returns:
            The path written.

        Raises:
            InputError: If the folder does not exist or cannot be written to. An existing file stays as it was.
        """
        target = Path(path)
        text = self.render()
        if not target.parent.is_dir():
            raise InputError(f"report: folder '{target.parent}' does not exist; create it or choose another path")
        if target.is_dir():
            raise InputError(f"report: '{target}' is a folder, expected the name of a file such as '{target / 'report.html'}'")
        write_text(target, text)
        return target


def _section(section: Section, index: int) -> str:
    body = "\n".join(element.html(f"section-{index}-{j}") for j, element in enumerate(section.elements))
    return f'<section id="section-{index}">\n<h2>{escape(section.title)}</h2>\n{body}\n</section>'


def _asset(name: str) -> str:
    return (resources.files("equilibra.report") / "assets" / name).read_text(encoding="utf-8")


def without_addresses(text: str) -> str:
    """Returns a text whose web addresses have lost their scheme, so that nothing in it can be fetched by mistake.

    The 3-D viewer knows the addresses of public structure archives. The page never asks for them; taking the scheme away makes sure
    that it cannot, and lets anyone check by a search for "://" that a report refers to nothing outside.
    """
    return re.sub(r"https?://|(?<=[\"'])//(?=(?:[\w-]+\.)+[a-z]{2,}/)", "", text)


def inline_script(text: str) -> str:
    r"""Returns a script that can stand inside a `<script>` element: no source map, nothing that ends the element early.

    Inside JavaScript strings and regular expressions `<\/script` means the same as `</script`.
    """
    text = re.sub(r"^//[#@] sourceMappingURL=.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"</(?=script)", r"<\\/", text, flags=re.IGNORECASE)
    return text.replace("<!--", r"\x3c!--")


def _viewer_scripts() -> str:
    library = inline_script(without_addresses(_asset("3Dmol-min.js")))
    return f"<script>{library}</script>\n<script>{inline_script(_asset('viewer.js'))}</script>"


def _viewer_licence() -> str:
    text = escape(without_addresses(_asset("3Dmol-LICENSE.txt")))
    return (
        "<details><summary>This file is self-contained: it loads nothing from a network. "
        f"The 3-D view is drawn by 3Dmol.js 2.5.5; its licence</summary><pre>{text}</pre></details>"
    )
