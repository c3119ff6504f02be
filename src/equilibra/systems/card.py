"""Model cards: what a model was trained on, how well it does, and what it is not good for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from equilibra.configuration import read_fields


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a user should know before using a model.

    Attributes:
        summary: One sentence.
        data: What it was trained on, with its source.
        licence: Licence of weights and data.
        recipe: The command that trains it again.
        cost: What that takes.
        figures: Measured numbers with their floors, by name.
        good_for: What it is good for.
        not_good_for: What it is not good for.
    """

    summary: str = ""
    data: str = ""
    licence: str = ""
    recipe: str = ""
    cost: str = ""
    figures: Mapping[str, str] = field(default_factory=dict)
    good_for: str = ""
    not_good_for: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads a card; an unknown key is an error that names the nearest known one."""
        return read_fields(cls, values)

    def to_text(self) -> str:
        """Returns the card for people."""
        rows = [(f.name.replace("_", " "), getattr(self, f.name)) for f in fields(self) if f.name != "figures"]
        lines = [f"{name}: {value}" for name, value in rows if value]
        lines += [f"  {name}: {value}" for name, value in self.figures.items()]
        return "\n".join(lines)
