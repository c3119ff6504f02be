"""Embeddings of residues by an ESM-2 language model, where its package and its weights are at hand."""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from equilibra.errors import InputError, MissingDependencyError
from equilibra.systems.protein import memory
from equilibra.systems.protein.system import ProteinSystem

_ATTENTION = 3
"""Arrays (heads, L, L) of single precision that are there at once in a layer: scores, their softmax, and what is averaged."""


class EsmProvider:
    """The last hidden layer of an ESM-2 model as features of residues; each chain is embedded by itself.

    The package is not part of the installation (`pip install fair-esm`), nor are the weights: give the path of a file such as
    `esm2_t12_35M_UR50D.pt`, which is read without running any code of it. Loaded when first asked.

    References:
        | Evolutionary-scale prediction of atomic-level protein structure with a language model (Lin et al., 2023)
        | https://doi.org/10.1126/science.ade2574

    Arguments:
        weights: The file of the weights.

    Raises:
        MissingDependencyError: If the package `esm` is not installed.
        InputError: If there is no such file.
    """

    name = "esm"

    def __init__(self, weights: str | Path) -> None:
        _package()
        if not str(weights):
            raise InputError("provider 'esm': got no weights, expected the path of a file, as in 'esm:esm2_t12_35M_UR50D.pt'")
        self.weights = Path(weights)
        if not self.weights.is_file():
            raise InputError(
                f"provider 'esm': no such file of weights: '{weights}'; download that of an ESM-2 model and give its path"
            )
        self._model: Any = None
        self._alphabet: Any = None
        self._content: str | None = None

    def content(self, system: ProteinSystem) -> str:
        """Returns the hash of the weights."""
        if self._content is None:
            with self.weights.open("rb") as file:
                self._content = hashlib.file_digest(file, "sha256").hexdigest()
        return self._content

    @torch.no_grad()
    def features(self, system: ProteinSystem) -> Mapping[str, Any]:
        """Returns the embeddings (L, width) of the residues.

        Raises:
            InputError: If the weights cannot be read, or memory is too short for the longest chain.
        """
        if self._model is None:
            self._load()
        longest = max(map(len, system.chains))
        memory.require(
            4 * _ATTENTION * self._model.attention_heads * longest**2,
            f"{system.name}: the language model, for a chain of {longest} residues,",
            "take a shorter chain or a machine with more memory",
        )
        layer = self._model.num_layers
        convert = self._alphabet.get_batch_converter()
        rows = []
        for chain in system.chains:
            _, _, tokens = convert([("", chain)])
            hidden = self._model(tokens, repr_layers=[layer])["representations"][layer]
            # a token before the first residue and one after the last
            rows.append(hidden[0, 1 : 1 + len(chain)])
        return {"node_extra": torch.cat(rows).to(torch.float32).numpy(), "pair_extra": None}

    def _load(self) -> None:
        esm = _package()
        try:
            with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
                # the weights of the contact head are another file, which embeddings do not need
                warnings.simplefilter("ignore")
                data = torch.load(self.weights, map_location="cpu", weights_only=True)
                self._model, self._alphabet = esm.pretrained.load_model_and_alphabet_core("esm2", data)
        except Exception as error:
            # the package raises whatever its own code stumbles over
            raise InputError(
                f"provider 'esm': '{self.weights}' cannot be read as weights of an ESM-2 model: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
            ) from error
        self._model.eval()


def _package() -> Any:
    try:
        import esm
        import esm.pretrained
    except ImportError as error:
        raise MissingDependencyError(
            "the provider 'esm' needs the package fair-esm, which is not installed: pip install fair-esm (and the weights of a model)"
        ) from error
    return esm


__all__ = ["EsmProvider"]
