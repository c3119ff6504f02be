"""The protein's System: sequence, chains and gaps, with the topology of the backbone that is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from equilibra.errors import InputError
from equilibra.state import Features, System
from equilibra.systems.protein.alphabet import ALPHABET, RESIDUES, THREE_LETTER
from equilibra.systems.protein.featurise import featurise, real_features

ATOMS = ("N", "CA", "C", "O", "CB")
"""Atoms of a residue, in the order of every array and file; glycine has no CB in files."""

MIN_LENGTH = 3
"""Fewest residues of a protein."""

NO_PROVIDER = "none"
"""Name of the provider that adds nothing."""

_ELEMENTS = ("N", "C", "C", "O", "C")
_LETTER_HINT = {
    "U": "; write C for selenocysteine",
    "O": "; write K for pyrrolysine",
    "B": "; write D or N",
    "Z": "; write E or Q",
    "J": "; write I or L",
    "-": "; take the gaps of an alignment out",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class ProteinSystem(System):
    r"""Backbones of one or several chains, L residues in all.

    Two systems are equal if their digests are: the same residues, chains, gaps and features of the provider. Names, letters of chains and the
    number that a chain starts with are labels, which do not count.

    The features are made when they are first asked for: until then nothing is as large as all pairs of residues.

    Attributes:
        sequence: Letters of all chains, one after the other.
        chain_index: Number (L,) of each residue's chain, from 0.
        chain_ids: Name of each chain, as files give it.
        residue_numbers: Position (L,) of each residue along its chain, strictly increasing there. Bonded neighbours are one apart, and residues
            on the two sides of a gap at least two. The first is the file's own number.
        provider: Name of the provider of the extra features, `none` if there are none.
        provider_content: Hash of what the extra features were made of; empty if there are none.
        node_extra: Extra features of residues (L, W1), float32, or None.
        pair_extra: Extra features of pairs (L, L, W2), float32, or None.
        extra_known: Whether the extra features are the protein's, or zeros in place of missing ones; None where a network need not be told.
    """

    features: Features = field(init=False)
    sequence: str
    chain_index: np.ndarray
    chain_ids: tuple[str, ...]
    residue_numbers: np.ndarray
    provider: str = NO_PROVIDER
    provider_content: str = ""
    node_extra: torch.Tensor | None = None
    pair_extra: torch.Tensor | None = None
    extra_known: bool | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # asked for what is not there yet, once; type checkers would take any name for an attribute then
            if name != "features":
                raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
            extra = self.node_extra, self.pair_extra, self.extra_known
            made = featurise(self.sequence, self.chain_index, self.residue_numbers, *extra)
            object.__setattr__(self, "features", made)
            return made

    @classmethod
    def of_chains(
        cls,
        sequences: Sequence[str],
        *,
        name: str,
        chain_ids: Sequence[str] | None = None,
        numbers: Sequence[np.ndarray] | None = None,
    ) -> Self:
        """Makes a system without extra features.

        Arguments:
            sequences: Letters of each chain.
            name: What to call the system.
            chain_ids: Name of each chain; by default A, B, C, ...
            numbers: Positions of each chain's residues; by default 1, 2, 3, ..., without gaps.

        Raises:
            InputError: If a letter is unknown, a chain empty, or the protein shorter than `MIN_LENGTH`.
        """
        check_sequences(sequences, name)
        sequence = "".join(sequences)
        lengths = [len(chain) for chain in sequences]
        chain_index = np.repeat(np.arange(len(lengths)), lengths)
        counted = [np.arange(1, length + 1) for length in lengths] if numbers is None else numbers
        residue_numbers = np.concatenate(counted).astype(np.int64)
        for array in (chain_index, residue_numbers):
            array.setflags(write=False)
        return cls(
            name=name,
            digest=_digest(sequence, chain_index, residue_numbers),
            sequence=sequence,
            chain_index=chain_index,
            chain_ids=tuple(default_chain_ids(len(lengths)) if chain_ids is None else chain_ids),
            residue_numbers=residue_numbers,
        )

    def with_extra(self, node_extra: Any | None, pair_extra: Any | None, *, provider: str, content: str) -> Self:
        """Returns the system with a provider's features in place of what it had.

        Arguments:
            node_extra: Real features (L, W1), or None.
            pair_extra: Real features (L, L, W2), or None.
            provider: Name of the provider.
            content: Hash of what the features were made of.

        Raises:
            ShapeError: If an array is not of this protein's length.
        """
        length = self.length
        return replace(
            self,
            digest=_digest(self.sequence, self.chain_index, self.residue_numbers, provider, content),
            provider=provider,
            provider_content=content,
            node_extra=None if node_extra is None else real_features("node_extra", node_extra, (length,)),
            pair_extra=None if pair_extra is None else real_features("pair_extra", pair_extra, (length, length)),
            extra_known=None,
        )

    def with_optional_extra(self, node_width: int, pair_width: int) -> Self:
        """Returns the same system as a network learns from it that also meets systems without extra features: it is told whether there are any.

        Zeros of the given widths, which take no memory, stand for features that are missing.
        """
        if self.node_extra is not None or self.pair_extra is not None:
            return replace(self, extra_known=True)
        zero, length = torch.zeros(()), self.length
        return replace(
            self,
            node_extra=zero.expand(length, node_width) if node_width else None,
            pair_extra=zero.expand(length, length, pair_width) if pair_width else None,
            extra_known=False,
        )

    @property
    def extra_widths(self) -> tuple[int, int]:
        """Widths of the extra features of residues and of pairs, 0 where there are none."""
        node, pair = (0 if value is None else int(value.shape[-1]) for value in (self.node_extra, self.pair_extra))
        return node, pair

    @property
    def length(self) -> int:
        """Number of residues L."""
        return len(self.sequence)

    @property
    def atoms(self) -> int:
        """Number of atoms that are written: five in a residue, four in glycine."""
        return len(self.atom_slots)

    @property
    def chains(self) -> tuple[str, ...]:
        """Letters of each chain."""
        ends = np.flatnonzero(np.diff(self.chain_index)) + 1
        bounds = [0, *ends.tolist(), self.length]
        return tuple(self.sequence[start:stop] for start, stop in pairwise(bounds))

    @property
    def text(self) -> str:
        """The chains in one line, `:` between them; gaps are not in it."""
        return ":".join(self.chains)

    @cached_property
    def breaks(self) -> np.ndarray:
        """Whether there is no peptide bond between residues i and i + 1, boolean (L - 1,): another chain begins, or residues are missing."""
        return (np.diff(self.chain_index) != 0) | (np.diff(self.residue_numbers) != 1)

    @cached_property
    def atom_mask(self) -> np.ndarray:
        """Whether an atom is written, boolean (L, 5): all but CB of glycine."""
        mask = np.ones((self.length, len(ATOMS)), dtype=bool)
        mask[[letter == "G" for letter in self.sequence], ATOMS.index("CB")] = False
        return mask

    @cached_property
    def atom_slots(self) -> np.ndarray:
        """Where each written atom lies among the 5 L slots of all residues, (atoms,): residue times 5 plus the position in `ATOMS`."""
        return np.flatnonzero(self.atom_mask)

    @cached_property
    def atom_index(self) -> np.ndarray:
        """Number of each slot's written atom, (L, 5); -1 where it is not written."""
        index = np.full(self.atom_mask.shape, -1, dtype=np.int64)
        index[self.atom_mask] = np.arange(self.atoms)
        return index

    @cached_property
    def topology(self) -> Any:
        """Topology (mdtraj) of the written atoms, with the bonds of the backbone."""
        import mdtraj

        topology = mdtraj.Topology()
        elements = [mdtraj.element.Element.getBySymbol(symbol) for symbol in _ELEMENTS]
        # a PDB file has one column for the chain: where that does not do, mdtraj numbers the chains by letters
        short = len(set(self.chain_ids)) == len(self.chain_ids) and all(len(name) == 1 for name in self.chain_ids)
        chains = [topology.add_chain(name if short else None) for name in self.chain_ids]
        rows = []
        for i, letter in enumerate(self.sequence):
            chain = chains[self.chain_index[i]]
            residue = topology.add_residue(THREE_LETTER[letter], chain, resSeq=int(self.residue_numbers[i]))
            written = zip(ATOMS, elements, self.atom_mask[i], strict=True)
            rows.append({name: topology.add_atom(name, element, residue) for name, element, there in written if there})
        for i, row in enumerate(rows):
            bonds = [(row["N"], row["CA"]), (row["CA"], row["C"]), (row["C"], row["O"])]
            bonds += [(row["CA"], row["CB"])] if "CB" in row else []
            bonds += [(row["C"], rows[i + 1]["N"])] if i + 1 < len(rows) and not self.breaks[i] else []
            for first, second in bonds:
                topology.add_bond(first, second)
        return topology

    def written(self, atom5: Any) -> Any:
        """Returns the atoms that are written (..., atoms, 3) of all atoms (..., L, 5, 3), an array or a tensor."""
        return atom5.reshape(*atom5.shape[:-3], self.length * len(ATOMS), 3)[..., self.atom_slots, :]

    def label(self, residue: int) -> str:
        """Returns a residue's name for messages, such as `A:LEU42`, of its position from 0."""
        chain = self.chain_ids[self.chain_index[residue]]
        return f"{chain}:{THREE_LETTER[self.sequence[residue]]}{self.residue_numbers[residue]}"

    def __len__(self) -> int:
        return self.length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProteinSystem) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        chains = f", chains={len(self.chain_ids)}" if len(self.chain_ids) > 1 else ""
        return f"ProteinSystem(name={self.name!r}, length={self.length}{chains}, provider={self.provider!r}, digest={self.digest[:12]!r})"


def check_sequences(sequences: Sequence[str], name: str) -> None:
    """Raises an `InputError` that names the letter and its position if the sequences of the chains are not those of a protein."""
    for number, chain in enumerate(sequences, start=1):
        where = name if len(sequences) == 1 else f"{name}, chain {number}"
        if not chain:
            raise InputError(f"{where}: the chain is empty; expected letters on both sides of each ':'")
        for position, letter in enumerate(chain, start=1):
            if letter not in ALPHABET:
                raise InputError(
                    f"{where}: unknown residue '{letter}' at position {position}{_LETTER_HINT.get(letter, '')}; allowed are the letters {RESIDUES}, X for "
                    "an unknown residue, and ':' between chains"
                )
    length = sum(map(len, sequences))
    if length < MIN_LENGTH:
        raise InputError(f"{name}: got {length} residue{'s' if length != 1 else ''}, expected at least {MIN_LENGTH}")


def default_chain_ids(count: int) -> list[str]:
    """Returns A, B, ..., Z, then AA, AB, ..."""
    names = []
    for number in range(1, count + 1):
        name = ""
        while number:
            number, digit = divmod(number - 1, 26)
            name = chr(ord("A") + digit) + name
        names.append(name)
    return names


def _digest(
    sequence: str, chain_index: np.ndarray, residue_numbers: np.ndarray, provider: str = NO_PROVIDER, content: str = ""
) -> str:
    first = np.searchsorted(chain_index, chain_index)
    parts = {
        "sequence": sequence,
        "chains": chain_index.tolist(),
        "positions": (residue_numbers - residue_numbers[first]).tolist(),
        "provider": [provider, content],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
