"""Guides in words, `NAME=WISH`, made ready for one system; tolerances that a wish leaves open.

A wish without a tolerance gets a tenth of the standard deviation that its property has in the model's own samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from equilibra.errors import InputError
from equilibra.guidance.guide import Guide
from equilibra.guidance.targets import has_width, read_target
from equilibra.state import State
from equilibra.systems.domain import domain
from equilibra.systems.properties import find_property

OPEN_WIDTH = 0.1
"""Tolerance of a wish that has none, in units of the standard deviation of its property over the model's own samples."""


@dataclass(frozen=True)
class GuideText:
    """A guide in words.

    Attributes:
        text: `NAME=WISH`: the name of a property of the domain or a function of your own (`systems.properties.find_property`), and what it should be
            (`guidance.targets.read_target`).
        strength: Exponent of the likelihood; 1 is Bayes' rule.
        differentiable: Whether the property is to steer by its gradient; without, it steers by weights alone.
    """

    text: str
    strength: float = 1.0
    differentiable: bool = True


GuideLike = Guide | GuideText | str
"""What stands for a guide; a text has the strength 1 and a property with a gradient."""


@dataclass(frozen=True)
class ReadyGuide:
    """A guide of one system.

    Attributes:
        guide: The guide; if its tolerance is open, the one it has stands for none.
        text: What it is in words, that tell it from any other guide.
        open: Whether its tolerance is to be measured.
    """

    guide: Guide
    text: str
    open: bool = False

    def closed(self, deviation: float) -> Guide:
        """Returns the guide with the tolerance that belongs to a standard deviation of its property, if it was open."""
        if not self.open:
            return self.guide
        return replace(self.guide, target=replace(self.guide.target, width=OPEN_WIDTH * deviation))


def ready_guides(guides: Sequence[GuideLike], domain_name: str, system: Any) -> list[ReadyGuide]:
    """Makes guides ready for a system.

    Arguments:
        guides: The guides, in words or as they are.
        domain_name: Name of the system's domain, which knows its properties.
        system: The system.

    Raises:
        InputError: If there is no guide, two have one property, or a text cannot be read.
    """
    if isinstance(guides, str | GuideText | Guide):
        raise InputError(f"guides: got one ({guides!r}), expected a list of guides; put it into brackets")
    if not guides:
        raise InputError("guides: got none, expected at least one, or leave the argument out")
    made = [_ready(guide, domain_name, system) for guide in guides]
    names = [ready.guide.property.name for ready in made]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"guides: '{twice}' is given twice; say in one wish what it should be, such as a range 2.5..3.5")
    return made


def deviations(guides: Sequence[ReadyGuide], samples: State) -> list[float]:
    """Returns the standard deviation of the property of each open guide over those samples of the model that it can evaluate.

    Raises:
        InputError: If it is zero or not finite, so that no tolerance follows from it.
    """
    found = []
    for ready in guides:
        if not ready.open:
            continue
        with torch.no_grad():
            values = ready.guide.property(samples).double()
            spread = float(values[torch.isfinite(values)].std())
        if not 0.0 < spread < float("inf"):
            raise InputError(
                f"guide '{ready.text}': the property has the standard deviation {spread:g} in {samples.batch_size} samples of the model, from which no "
                "tolerance follows; give one, such as 3.0+-0.2"
            )
        found.append(spread)
    return found


def _ready(guide: GuideLike, domain_name: str, system: Any) -> ReadyGuide:
    if isinstance(guide, Guide):
        return ReadyGuide(guide, _identity(guide.describe(), guide))
    given = GuideText(guide) if isinstance(guide, str) else guide
    if not isinstance(given, GuideText):
        raise InputError(
            f"guides: got {type(guide).__name__}, expected a text such as radius-of-gyration=7.5, a GuideText or a Guide"
        )
    # a path may hold the sign, a wish does not
    name, equals, wish = (part.strip() for part in given.text.rpartition("="))
    if not (name and equals and wish):
        raise InputError(
            f"guide: got '{given.text}', expected NAME=WISH such as radius-of-gyration=7.5 or distance:3,17=2.5..3.5"
        )
    module = domain(domain_name)
    prop = find_property(
        name,
        module.properties(system),
        lambda state: module.written(system, state),
        system,
        differentiable=given.differentiable,
    )
    try:
        target = read_target(wish, 1.0)
    except InputError as error:
        raise InputError(f"guide '{given.text}': {error}") from error
    made = Guide(prop, target, given.strength)
    return ReadyGuide(made, _identity(f"{prop.name}={''.join(wish.split())}", made), open=not has_width(wish))


def _identity(text: str, guide: Guide) -> str:
    """Returns a guide's words with all that tells it from another."""
    power = "" if guide.strength == 1.0 else f" to the power of {guide.strength:g}"
    words = text if text.endswith(power) else f"{text}{power}"
    external = "" if guide.property.differentiable else ", by weights alone"
    content = f" [{guide.property.content}]" if guide.property.content else ""
    return f"{words}{external}{content}"
