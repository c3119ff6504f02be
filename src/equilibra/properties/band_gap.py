"""Band gaps of crystals by two published networks, differentiable in fractional coordinates and cells."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from equilibra.atomic import write_text
from equilibra.configuration import read_fields
from equilibra.errors import CheckpointError, ConfigError, unknown_key_message
from equilibra.nn.cgcnn import CGCNN, CGCNNConfig
from equilibra.nn.crystal_graph import crystal_graph
from equilibra.nn.megnet import MEGNet, MEGNetConfig
from equilibra.tensor_files import read_tensors, write_tensors
from equilibra.types import Bool, Float, Int, Tensor

BandGapName = Literal["cgcnn", "megnet"]

WEIGHTS = Path(__file__).resolve().parent / "weights"
"""Folder of the converted networks, `NAME.json` and `NAME.safetensors`."""

SCHEMA_VERSION = 1

_KEYS = frozenset({"schema_version", "network", "card", "sha256"})


@dataclass(frozen=True, kw_only=True)
class BandGapCard:
    """What one should know before trusting a network.

    Attributes:
        name: Name.
        summary: One sentence.
        data: What it was trained on.
        licence: Licence of the weights, with their owners.
        source: Where the weights were published.
        references: The papers.
        fidelities: The methods whose gaps it predicts; the first is the default.
        known: Gaps between which it can be trusted, in eV.
        error: Mean absolute error that its authors state, in eV.
        not_good_for: What it is not good for.
    """

    name: str
    summary: str
    data: str
    licence: str
    source: str
    references: tuple[str, ...]
    fidelities: tuple[str, ...]
    known: tuple[float, float]
    error: float
    not_good_for: str


class BandGap:
    """Band gaps of crystals, in eV.

    Values are the same for every origin, orientation, choice of cell, supercell and order of atoms. They are not clipped: a metal may get a value slightly below zero.

    Arguments:
        network: The network.
        card: What is known of it.
        fidelity: Which method's gaps to predict; one of the card's.

    Attributes:
        unit: Unit of the values.

    Raises:
        ConfigError: If the network does not know the fidelity.
    """

    unit = "eV"

    def __init__(self, network: CGCNN | MEGNet, card: BandGapCard, fidelity: str | None = None) -> None:
        fidelity = card.fidelities[0] if fidelity is None else fidelity
        if fidelity not in card.fidelities:
            raise ConfigError(f"band gap by {card.name}: {unknown_key_message('fidelity', fidelity, card.fidelities)}")
        self.card = card
        self.fidelity = fidelity
        self.network = network.requires_grad_(False).eval()
        self._placed: dict[tuple[torch.dtype, torch.device], CGCNN | MEGNet] = {}

    @property
    def known(self) -> tuple[float, float]:
        """Gaps between which the network can be trusted, in eV."""
        return self.card.known

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the network knows."""
        return self.network.config.elements

    def __call__(
        self,
        numbers: Int[Tensor, "*batch atoms"],
        frac: Float[Tensor, "batch atoms 3"],
        cell: Float[Tensor, "batch 3 3"],
        mask: Bool[Tensor, "batch atoms"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Predicts band gaps, in the precision of the coordinates but at least in single precision.

        Arguments:
            numbers: Atomic numbers, with shape (batch, atoms), or (atoms) if all crystals have the same.
            frac: Fractional coordinates, wrapped or not, with shape (batch, atoms, 3).
            cell: Cell matrices, rows are lattice vectors, with shape (batch, 3, 3), in Å.
            mask: Real atoms, with shape (batch, atoms); all by default.

        Returns:
            Gaps, with shape (batch), in eV; nan, with zero derivatives, for crystals that cannot be evaluated: those without atoms, with coordinates or cells that are
            not finite, or with lattice planes of the reduced cell closer than 0.5 Å.

        Raises:
            ShapeError: If the shapes do not fit.
            InputError: If an element is not one that the network knows.
        """
        dtype = torch.promote_types(frac.dtype, torch.float32)
        with torch.autocast(frac.device.type, enabled=False):
            network = self._at(dtype, frac.device)
            graph = crystal_graph(numbers.to(frac.device), frac.to(dtype), cell.to(dtype), network.config.cutoff, mask)
            if isinstance(network, MEGNet):
                state = torch.full((graph.crystals,), self.card.fidelities.index(self.fidelity), device=frac.device)
                gaps = network(graph, state)
            else:
                gaps = network(graph)
        return torch.where(graph.usable, gaps, torch.nan)

    def _at(self, dtype: torch.dtype, device: torch.device) -> CGCNN | MEGNet:
        """Returns the network in a precision and on a device; the conversion happens once for each."""
        if (dtype, device) not in self._placed:
            self._placed[dtype, device] = copy.deepcopy(self.network).to(dtype=dtype, device=device)
        return self._placed[dtype, device]


def band_gap(name: BandGapName, *, fidelity: str | None = None) -> BandGap:
    """Loads a band gap predictor that comes with the package.

    Arguments:
        name: `cgcnn` or `megnet`.
        fidelity: Which method's gaps to predict: PBE (the default), and with `megnet` also GLLB-SC, HSE or SCAN.

    Raises:
        ConfigError: If there is no such predictor, or it does not know the fidelity.
        CheckpointError: If the files of the predictor are corrupted.
    """
    names = sorted(path.stem for path in WEIGHTS.glob("*.json"))
    if name not in names:
        raise ConfigError(unknown_key_message("band gap predictor", name, names))
    network, card = read_predictor(WEIGHTS, name)
    return BandGap(network, card, fidelity)


def write_predictor(folder: Path, network: CGCNN | MEGNet, card: BandGapCard) -> None:
    """Writes `NAME.safetensors` and `NAME.json`; the description, which names the hash of the weights, comes last."""
    sha256 = write_tensors(folder / f"{card.name}.safetensors", network.state_dict())
    values = {
        "schema_version": SCHEMA_VERSION,
        "network": dataclasses.asdict(network.config),
        "card": dataclasses.asdict(card),
        "sha256": sha256,
    }
    write_text(folder / f"{card.name}.json", json.dumps(values, indent=2) + "\n")


def read_predictor(folder: Path, name: str) -> tuple[CGCNN | MEGNet, BandGapCard]:
    """Reads what `write_predictor` wrote, strictly.

    Raises:
        CheckpointError: If a file is missing, of another schema, or not the one that was written.
        ConfigError: If a key of the configuration or of the card is unknown or missing.
    """
    path = folder / f"{name}.json"
    try:
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); install the package again") from error
    if set(values) != _KEYS or values["schema_version"] != SCHEMA_VERSION:
        raise CheckpointError(
            f"{path}: got the keys {', '.join(values)}, expected {', '.join(sorted(_KEYS))} of schema version {SCHEMA_VERSION}"
        )
    card = read_fields(BandGapCard, values["card"])
    network: CGCNN | MEGNet
    if name == "megnet":
        network = MEGNet(read_fields(MEGNetConfig, values["network"]))
    else:
        network = CGCNN(read_fields(CGCNNConfig, values["network"]))
    network.load_state_dict(read_tensors(folder / f"{name}.safetensors", values["sha256"]))
    return network, card
