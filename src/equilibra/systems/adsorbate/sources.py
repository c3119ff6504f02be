"""Systems of adsorbates from what a user names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equilibra.errors import InputError
from equilibra.systems.adsorbate.system import AdsorbateSystem


def adsorbate_systems(source: Any) -> list[AdsorbateSystem]:
    """Reads the system of a source.

    Arguments:
        source: A text `ADSORBATE@SLAB`, such as `CO@Pt(111) 3x3x4` or `O,O@slab.traj`, with the parts that `AdsorbateSystem.of` takes, several adsorbates separated by
            commas; a file of a slab with an adsorbate on it, told by tags; or a system.

    Raises:
        InputError: If it is none of these, or a part cannot be read.
    """
    if isinstance(source, AdsorbateSystem):
        return [source]
    if hasattr(source, "get_positions"):
        return [AdsorbateSystem.of(source)]
    parts, mark, slab = str(source).partition("@")
    if not mark:
        return [AdsorbateSystem.of(str(source))]
    return [AdsorbateSystem.of(slab.strip(), adsorbates_of(parts), name=str(source))]


def adsorbates_of(text: str) -> list[str]:
    """Returns the adsorbates in a text, which commas separate.

    Raises:
        InputError: If one is empty.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"adsorbate: got '{text}', expected names such as CO or O,O for two")
    return names


def source_text(slab: str, adsorbates: Sequence[str], coverage: int = 1) -> str:
    """Returns the text of a source: the adsorbates on a slab, each `coverage` times."""
    return f"{','.join(name for name in adsorbates for _ in range(coverage))}@{slab}"
