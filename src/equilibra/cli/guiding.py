"""Options of guidance: properties that `equilibra sample` is to steer towards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from equilibra.cli.console import complain
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.guides import GuideText
    from equilibra.systems.model import Model

PANEL = "Guidance"

Guide = Annotated[
    list[str] | None,
    typer.Option(
        "--guide",
        metavar="NAME=WISH",
        help="Guide the samples to a property, such as radius-of-gyration=7.5, distance:1,10=5..6, of proteins also rmsd:FILE=..2, of adsorbates tilt:1,2=40..60, or a function of your own, "
        "my.py:function=3. A wish is a value (7.5 or 7.5+-0.2), a range (5..6, 5.. or ..6), max or min. Repeat it for several.",
        rich_help_panel=PANEL,
    ),
]
External = Annotated[
    list[str] | None,
    typer.Option(
        "--guide-external",
        metavar="NAME=WISH",
        help="The same for a property without a gradient, such as a function that calls another program: it steers by weights alone.",
        rich_help_panel=PANEL,
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(
        "--strength",
        help="Exponent of the likelihood of the guides, or of the labels; 1 (default) is Bayes' rule.",
        rich_help_panel=PANEL,
    ),
]
Uncorrected = Annotated[
    bool,
    typer.Option(
        "--uncorrected",
        help="Steer any sampler without weights: cheap for one look, but a guess that follows no known distribution.",
        rich_help_panel=PANEL,
    ),
]


Label = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="NAME=VALUE",
        help="Ask for a value of a label that the model was trained with, such as band_gap=3.0; repeat it for several. With --strength above 1 it extrapolates "
        "(classifier-free guidance).",
        rich_help_panel=PANEL,
    ),
]


def wanted_labels(label: list[str] | None) -> dict[str, float] | None:
    """Reads `NAME=VALUE` pairs of labels, or None where there is none.

    Raises:
        InputError: If a text is no such pair, or a label is given twice.
    """
    wanted: dict[str, float] = {}
    for text in label or ():
        name, equals, number = (part.strip() for part in text.rpartition("="))
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if not (name and equals) or value != value:
            raise InputError(f"--label: got '{text}', expected the name of a label and a value, such as band_gap=3.0")
        if name in wanted:
            raise InputError(f"--label: '{name}' is given twice, expected one value")
        wanted[name] = value
    return wanted or None


def guide_texts(
    guide: list[str] | None,
    external: list[str] | None,
    strength: float | None,
    uncorrected: bool,
    energy: str | None,
    labels: dict[str, float] | None = None,
) -> list[GuideText] | None:
    """Returns the guides in words, or None where there is none, after checking that the options go together.

    Raises:
        InputError: If they do not.
    """
    if strength is not None and not 0.0 < strength < float("inf"):
        raise InputError(f"--strength: got {strength:g}, expected a positive number")
    if not guide and not external:
        if uncorrected:
            raise InputError("--uncorrected: has an effect with --guide only")
        if strength is not None and labels is None:
            raise InputError("--strength: has an effect with --guide or --label only")
        return None
    if strength is not None and labels is not None:
        raise InputError(
            "--strength: got it with guides and labels, and it cannot be that of both; leave it out, or one of them"
        )
    option = "--guide" if guide else "--guide-external"
    if energy is not None:
        raise InputError(
            f"{option}: cannot be combined with --energy, whose paths have weights of their own; leave one out. Guided samples have weights for the model's "
            "distribution"
        )

    from equilibra.systems.guides import GuideText

    power = 1.0 if strength is None else strength
    texts = [GuideText(text, power) for text in guide or ()]
    return [*texts, *(GuideText(text, power, differentiable=False) for text in external or ())]


def warn(model: Model, system: Any, guides: list[GuideText] | None) -> None:
    """Complains of wishes beyond what their properties are known for."""
    if guides is None:
        return

    from equilibra.systems.guides import ready_guides

    for ready in ready_guides(guides, model.domain, system):
        doubt = ready.guide.doubts()
        if doubt is not None:
            complain(f"{system.name}: {doubt}")


def warn_of_labels(model: Model, labels: dict[str, float] | None) -> None:
    """Complains of values of labels that a model has not seen."""
    from equilibra.systems.labels import label_doubts

    for doubt in label_doubts(model.scope.labels, labels):
        complain(doubt)
