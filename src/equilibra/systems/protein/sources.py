"""Readers of what a user may give for a protein: a sequence, a FASTA file, a structure, an mdtraj object, or a list of these."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.protein.chains import Chain
from equilibra.systems.protein.fasta import FASTA_SUFFIXES, from_fasta, from_sequence
from equilibra.systems.protein.matching import match_residues
from equilibra.systems.protein.providers import Provider, condition
from equilibra.systems.protein.shared_residues import common_residues
from equilibra.systems.protein.structures import (
    STRUCTURE_SUFFIXES,
    backbone_indices,
    is_structure_path,
    read_mdtraj,
    read_structure,
)
from equilibra.systems.protein.system import ProteinSystem

_SUFFIXES = (*FASTA_SUFFIXES, *STRUCTURE_SUFFIXES)
_EXPECTED = f"a sequence of one-letter codes (':' between chains), or a file that ends in {', '.join(_SUFFIXES)}"
_logger = logging.getLogger(__name__)


class Structure(NamedTuple):
    """One structure of a protein of L residues, positions in Å.

    Attributes:
        system: The protein.
        n: Positions (L, 3) of the nitrogens.
        ca: Positions (L, 3) of the alpha carbons.
        c: Positions (L, 3) of the carbonyl carbons.
    """

    system: ProteinSystem
    n: np.ndarray
    ca: np.ndarray
    c: np.ndarray


def protein_system(source: Any, provider: Provider | None = None, *, chains: Collection[str] | None = None) -> ProteinSystem:
    """Makes the System of one protein.

    Arguments:
        source: A sequence of one-letter codes with `:` between chains, the path of a FASTA file of one record or of a PDB or mmCIF file, an mdtraj
            `Topology` or `Trajectory`, or a `ProteinSystem`.
        provider: Source of extra features; by default there are none.
        chains: Names of the chains to take of a structure; by default all protein chains.

    Raises:
        InputError: If the source cannot be read, holds several proteins, or is no protein that can be treated; the message says why.
    """
    made = _read(source, chains)
    if len(made) > 1:
        raise InputError(f"{_shown(source)} holds {len(made)} proteins, expected one; use `protein_systems` for several")
    if isinstance(made[0], InputError):
        raise made[0]
    return condition(made[0], provider)


def protein_systems(
    source: Any,
    provider: Provider | None = None,
    *,
    chains: Collection[str] | None = None,
    on_error: Callable[[InputError], None] | None = None,
    check: Callable[[ProteinSystem], object] = lambda system: None,
) -> list[ProteinSystem]:
    """Makes the Systems of all proteins of a source; a bad record does not sink the others.

    Arguments:
        source: As for `protein_system`; FASTA files may hold several records, and a list or tuple holds several sources.
        provider: Source of extra features, asked for each protein; by default there are none.
        chains: Names of the chains to take of a structure; by default all protein chains.
        on_error: Called with the error of each record that is left out, which names it; by default a warning is logged.
        check: Called with each protein before the provider is asked, whose features may be large; a protein for which it raises `InputError` is left out.

    Raises:
        InputError: If the source cannot be read, or none of its records can be used.
    """
    systems, errors = [], []
    for made in _read(source, chains):
        try:
            if isinstance(made, InputError):
                raise made
            check(made)
            systems.append(condition(made, provider))
        except InputError as error:
            errors.append(error)
    if not systems:
        raise InputError("; ".join(map(str, errors)))
    for problem in errors:
        if on_error is None:
            _logger.warning("left out: %s", problem)
        else:
            on_error(problem)
    return systems


def structure(
    source: Any,
    system: ProteinSystem | None = None,
    *,
    provider: Provider | None = None,
    chains: Collection[str] | None = None,
) -> Structure:
    """Reads one structure: the backbone of a file's first model, or of a trajectory's first frame.

    Arguments:
        source: The path of a PDB or mmCIF file, or an mdtraj `Trajectory`.
        system: The protein whose residues are wanted, which the structure may exceed; by default the protein is all that the structure holds.
        provider: Source of extra features where no system is given.
        chains: Names of the chains to take; by default all protein chains.

    Raises:
        InputError: If the source cannot be read, holds no protein, or not the residues of the system.
    """
    found, name = _read_chains(source, chains)
    if system is None:
        system = condition(_of_chains(found, _stem(source)), provider)
        rows = np.arange(system.length)
    else:
        rows = match_residues(system, found, name)
    return _structure(system, np.concatenate([chain.backbone for chain in found])[rows])


def common_structures(sources: Sequence[Any], *, chains: Collection[str] | None = None) -> list[Structure]:
    """Reads several structures of one protein, such as its two states, on the residues that all of them have.

    Residue types and numbers are those of the first structure; a gap of any is a gap of all.

    Arguments:
        sources: Two or more sources of a structure; see `structure`.
        chains: Names of the chains to take of each; by default all protein chains, which must be equally many.

    Returns:
        The structures, all with one System without extra features.

    Raises:
        InputError: If a source cannot be read, or two are not of one protein.
    """
    if len(sources) < 2:
        raise InputError(f"common_structures: got {len(sources)} source(s), expected at least two; use `structure` for one")
    found, names = map(list, zip(*(_read_chains(source, chains) for source in sources), strict=True))
    rows, numbers = common_residues(found, names)
    first = found[0]
    system = ProteinSystem.of_chains(
        ["".join(chain.sequence[i] for i in row) for chain, row in zip(first, rows[0], strict=True)],
        name="-".join(map(_stem, sources)),
        chain_ids=[chain.name for chain in first],
        numbers=numbers,
    )
    return [
        _structure(system, np.concatenate([chain.backbone[row] for chain, row in zip(own, chosen, strict=True)]))
        for own, chosen in zip(found, rows, strict=True)
    ]


def _read_chains(source: Any, chains: Collection[str] | None) -> tuple[list[Chain], str]:
    """Returns the chains of a source that has positions, and what to call it in messages."""
    if hasattr(source, "topology") and hasattr(source, "xyz"):
        return _chosen(read_mdtraj(source), chains, "the trajectory"), "the trajectory"
    if isinstance(source, str | Path) and is_structure_path(Path(source)):
        return _chosen(read_structure(source), chains, f"'{source}'"), f"'{source}'"
    raise InputError(
        f"structure: got {_shown(source)}, expected a file that ends in {', '.join(STRUCTURE_SUFFIXES)} or an mdtraj Trajectory"
    )


def _structure(system: ProteinSystem, xyz: np.ndarray) -> Structure:
    return Structure(system, xyz[:, 0], xyz[:, 1], xyz[:, 2])


def _stem(source: Any) -> str:
    return Path(source).name.split(".")[0] if isinstance(source, str | Path) else "trajectory"


def _read(source: Any, chains: Collection[str] | None) -> list[ProteinSystem | InputError]:
    if isinstance(source, ProteinSystem):
        return [source]
    if isinstance(source, list | tuple):
        return _from_list(source, chains)
    if hasattr(source, "residues") or hasattr(source, "topology"):
        return [_of_chains(_chosen(read_mdtraj(source), chains, "the topology"), "protein")]
    if not isinstance(source, str | Path):
        raise InputError(
            f"protein: got {type(source).__name__}, expected {_EXPECTED}, an mdtraj Topology or Trajectory, or a list of these"
        )
    text = str(source).strip()
    if not text:
        raise InputError(f"protein: got an empty text, expected {_EXPECTED}")
    if isinstance(source, str) and text.startswith(">"):
        return from_fasta(text, "FASTA text")
    path = Path(source)
    if isinstance(source, Path) or _looks_like_a_path(text) or _is_file(path):
        return _from_file(path, chains)
    return [from_sequence(text)]


def _from_list(sources: list[Any] | tuple[Any, ...], chains: Collection[str] | None) -> list[ProteinSystem | InputError]:
    if not sources:
        raise InputError("protein: got an empty list, expected at least one protein")
    made: list[ProteinSystem | InputError] = []
    for number, source in enumerate(sources, start=1):
        try:
            made.extend(_read(source, chains))
        except InputError as error:
            made.append(InputError(f"protein {number} of the list: {error}"))
    return made


def _from_file(path: Path, chains: Collection[str] | None) -> list[ProteinSystem | InputError]:
    if is_structure_path(path):
        return [_of_chains(_chosen(read_structure(path), chains, f"'{path}'"), _stem(path))]
    if not path.exists():
        raise InputError(f"no such file: '{path}'")
    if path.is_dir() or path.suffix.lower() not in FASTA_SUFFIXES:
        kind = "is a folder" if path.is_dir() else "unknown kind of file"
        raise InputError(f"'{path}': {kind}; expected one that ends in {', '.join(_SUFFIXES)}")
    try:
        return from_fasta(path.read_text(encoding="utf-8"), f"'{path}'")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' cannot be read as text: {error}") from error


def _of_chains(chains: list[Chain], name: str) -> ProteinSystem:
    return ProteinSystem.of_chains(
        [chain.sequence for chain in chains],
        name=name,
        chain_ids=[chain.name for chain in chains],
        numbers=[chain.numbers for chain in chains],
    )


def _chosen(found: list[Chain], chains: Collection[str] | None, where: str) -> list[Chain]:
    if chains is None:
        return found
    wanted = [chains] if isinstance(chains, str) else list(chains)
    missing = [name for name in wanted if name not in {chain.name for chain in found}]
    if missing or not wanted:
        there = ", ".join(chain.name for chain in found)
        raise InputError(
            f"{where}: got the chains {', '.join(missing) or 'of an empty list'}, expected some of its protein chains {there}"
        )
    return [chain for chain in found if chain.name in wanted]


def _looks_like_a_path(text: str) -> bool:
    name = text.lower().removesuffix(".gz")
    return "/" in text or "\\" in text or name.endswith(_SUFFIXES) or Path(text).suffix != ""


def _is_file(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        # a sequence may be longer than a name may be
        return False


def _shown(source: Any) -> str:
    return f"'{source}'" if isinstance(source, str | Path) else f"the {type(source).__name__}"


__all__ = [
    "Structure",
    "backbone_indices",
    "common_structures",
    "from_sequence",
    "protein_system",
    "protein_systems",
    "structure",
]
