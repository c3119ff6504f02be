"""The page: self-contained, well formed, escaped, written whole or not at all."""

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from importlib import resources

import pytest

from equilibra.errors import InputError
from equilibra.report.elements import Cell, Facts, Figure, Highlights, Table, Text, number, show
from equilibra.report.page import Page, inline_script, without_addresses
from equilibra.report.structure_view import Molecules

HOSTILE = "<script>alert('x')</script> & \"quoted\""
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect width="10" height="10"/></svg>'
PDB = "ATOM      1  CA  ALA A   1       1.000   2.000   3.000  1.00  0.00           C  \nEND\n"
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Checker(HTMLParser):
    """Follows the tags of a document and notes those that do not close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.errors, self.seen, self.loads, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.seen.append((tag, attrs))
        self.loads += [attrs[key] for key in ("src", "href", "srcset", "data", "action", "poster") if key in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


def check(html):
    checker = Checker()
    checker.feed(html)
    checker.close()
    return checker


def full_page():
    page = Page(f"Title {HOSTILE}", f"Subtitle {HOSTILE}", lead=(Highlights({f"tile {HOSTILE}": 1234}),))
    page.add(f"First {HOSTILE}", Text(f"One {HOSTILE}\n\nTwo"), Facts({f"key {HOSTILE}": {"torch": "2.6", HOSTILE: HOSTILE}}))
    page.add("Second", Table([f"head {HOSTILE}", "n"], [[HOSTILE, 1], ["b", None]], HOSTILE), Figure(SVG, HOSTILE, HOSTILE))
    return page.add("Third", Molecules([PDB, PDB + HOSTILE], [f"one {HOSTILE}", "two"], HOSTILE))


def test_page_is_well_formed_and_holds_every_section():
    checker = check(full_page().render())
    assert checker.errors == []
    assert checker.open == []
    idents = [attrs["id"] for _, attrs in checker.seen if "id" in attrs]
    assert {"section-0", "section-1", "section-2"} <= set(idents)
    assert len(idents) == len(set(idents))
    headings = [tag for tag, _ in checker.seen if tag == "h2"]
    assert len(headings) == 3
    assert sum(tag == "th" and attrs.get("scope") == "col" for tag, attrs in checker.seen) == 2
    assert all(attrs.get("alt") for tag, attrs in checker.seen if tag == "img")


def test_page_refers_to_nothing_outside():
    html = full_page().render()
    assert re.findall(r"https?:[^\s\"'<)]*", html, flags=re.IGNORECASE) == []
    assert re.findall(r"[\"'(]//[\w-]+\.", html) == []
    assert "://" not in html
    assert "@import" not in html
    assert "url(" not in html
    assert "sourceMappingURL" not in html
    assert all(link.startswith(("#section-", "data:")) for link in check(html).loads)
    policy = next(attrs["content"] for _, attrs in check(html).seen if attrs.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy


def test_user_text_is_shown_and_not_obeyed():
    html = full_page().render()
    checker = check(html)
    scripts = [attrs for tag, attrs in checker.seen if tag == "script"]
    assert len(scripts) == 3  # the data, the library, the viewer
    assert html.count("</script>") == 3
    assert "alert('x')" not in html.replace("\\u003cscript\\u003ealert('x')", "")
    assert "".join(checker.text).count(HOSTILE) >= 9


def test_molecule_data_survives_the_page():
    element = Molecules([PDB + HOSTILE], ["one"], "caption")
    data = re.search(r'<script type="application/json">(.*?)</script>', element.html("m"), flags=re.DOTALL)
    assert json.loads(data.group(1))["models"] == [PDB + HOSTILE]


def test_viewer_is_inlined_once_and_only_where_needed():
    page = Page("t").add("a", Molecules([PDB], ["one"], "")).add("b", Molecules([PDB], ["two"], ""))
    assert page.render().count("__webpack_modules__={") == 1
    assert len(page.render()) > 500_000
    assert len(Page("t").add("a", Text("x")).render()) < 20_000
    in_lead = Page("t", lead=(Molecules([PDB], ["one"], ""),)).render()
    assert in_lead.count("__webpack_modules__={") == 1


def test_vendored_viewer_is_the_published_file_and_keeps_its_licence():
    assets = resources.files("equilibra.report") / "assets"
    published = "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016"
    assert hashlib.sha256((assets / "3Dmol-min.js").read_bytes()).hexdigest() == published
    licence = (assets / "3Dmol-LICENSE.txt").read_text()
    assert "BSD-3-Clause" in licence
    html = Page("t").add("a", Molecules([PDB], ["one"], "")).render()
    assert "University of Pittsburgh" in html
    assert "3Dmol.js 2.5.5" in html


def test_inlined_script_cannot_end_its_element_and_keeps_its_code():
    code = "a='</script>';b='</SCRIPT ';c='<!--';d=1\n//# sourceMappingURL=a.js.map\n"
    safe = inline_script(code)
    assert "</script" not in safe.lower()
    assert "<!--" not in safe
    assert "sourceMappingURL" not in safe
    assert "d=1" in safe
    assert (
        without_addresses("x='https://a.org/b';y=\"//c.d.org/e\";z=/\\//i.test(q)//r")
        == "x='a.org/b';y=\"c.d.org/e\";z=/\\//i.test(q)//r"
    )


def test_table_alignment_tones_and_numbers():
    html = Table(["name", "value", "share"], [["a", 1.5, "3 %"], ["b", Cell(-2.0, "bad"), "< 0.1 %"]]).html("t")
    assert '<th scope="col" class="number">value</th>' in html
    assert '<th scope="col" class="number">share</th>' in html
    assert '<td class="number bad">−2</td>' in html
    assert '<th scope="col">name</th>' in html
    assert [number(v) for v in (1234567, 0.000123456, 12345.6, -3.5)] == ["1,234,567", "0.0001235", "12,346", "−3.5"]
    assert [show(v) for v in (None, True, {"a": 1}, ["<", 2])] == ["–", "yes", "a 1", "&lt;, 2"]


def test_wrong_elements_say_what_is_wrong():
    with pytest.raises(InputError, match=r"row 0: got 1 cells, expected 2 \(a, b\)"):
        Table(["a", "b"], [["x"]])
    with pytest.raises(InputError, match="expected a PNG or an SVG"):
        Figure(b"GIF89a", "caption", "alt")
    with pytest.raises(InputError, match="alternative text"):
        Figure(SVG, "caption", " ")
    with pytest.raises(InputError, match="1 structures and 2 labels"):
        Molecules([PDB], ["a", "b"], "")
    with pytest.raises(InputError, match="structure 'a' has no ATOM"):
        Molecules(["nothing"], ["a"], "")


def test_figure_holds_the_bytes():
    html = Figure(SVG, "c", "a").html("f")
    assert base64.b64decode(re.search(r"base64,([^\"]+)", html).group(1)) == SVG
    assert "image/svg+xml" in html


def test_write_replaces_the_file_whole(tmp_path):
    target = tmp_path / "report.html"
    target.write_text("old")
    assert Page("New").write(target) == target
    assert target.read_text() == Page("New").render()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        Page("New").write(target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_impossible_places_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        Page("t").write(tmp_path / "missing" / "report.html")
    with pytest.raises(InputError, match="is a folder"):
        Page("t").write(tmp_path)
