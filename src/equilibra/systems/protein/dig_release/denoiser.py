r"""The released network as a `Denoiser` of our process: what its two outputs mean.

At time t the release's noise is :math:`\sigma_T = 0.1^{1-t} 35^t` Å for the positions, and :math:`\sigma_R = 0.02^{1-t} 1.65^t` for the rotations in the convention in
which the heat kernel is :math:`\sum_l (2l+1) e^{-l(l+1)\sigma_R^2} \ldots`. Its small-angle variance is :math:`2\sigma_R^2`, so that our noise is
:math:`\sigma = \sqrt 2 \sigma_R`.

*Positions.* The output is the score times :math:`\sigma_T`: the displacement is :math:`\delta = \sigma_T^2 s = \sigma_T F`.

*Rotations.* The release turns :math:`Q = R^T`, from global to local coordinates, by :math:`Q \to \mathrm{Exp}(v) Q`, and its output is the score :math:`s_Q` of such turns over
:math:`n(\sigma_R)`. The same turn is

.. math:: R \to R\, \mathrm{Exp}(-v) = \mathrm{Exp}(-R v)\, R,

so that v is a vector in the residue's own axes, and our global turn is :math:`u = -R v`. From :math:`s_R \cdot u = s_Q \cdot v` for every v follows :math:`s_R = -R s_Q`.
"""

import math
import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from equilibra.configuration import read_fields
from equilibra.diffusion.denoiser import NetworkDenoiser, Prediction
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import SO3, CentredEuclidean, expand
from equilibra.errors import InputError, ShapeError
from equilibra.geometry import igso3
from equilibra.nn.frames import ROT, TRANS
from equilibra.state.features import Features
from equilibra.state.state import State
from equilibra.systems.protein.dig_release.network import DigReleaseConfig, DigReleaseNetwork, FrameAttention, PairContext

KIND = "dig-release"
"""Value of `kind` in the JSON form of the network."""

STEPS = 500
"""Steps of the release: its network was trained at t = 1 - step / 500 for the steps 0 to 499."""

DATA_SCALE = 8.0
"""Standard deviation per axis of the C-alpha atoms of a protein of a hundred residues, in Å; widens the prior by 2.6 %."""


def released_process() -> Process:
    """Returns the process that the network was trained for; the prior of the positions has the variance of the noised data."""
    return Process(
        {
            TRANS: Field(
                space=CentredEuclidean(), schedule=VarianceExploding(sigma_min=0.1, sigma_max=35.0), data_scale=DATA_SCALE
            ),
            ROT: Field(space=SO3(), schedule=VarianceExploding(sigma_min=0.02, sigma_max=1.65, convention="A")),
        }
    )


def score_norm(sigma: Tensor) -> Tensor:
    r"""Returns :math:`n = \sqrt{\mathrm E|s|^2 / \pi}` of the rotation kernel, the unit of the network's output, for our noise sigma (batch,).

    Note:
        The release takes the nearest of 1000 tabulated rows; this is the value itself, within 0.3 % of it.
    """
    return torch.sqrt(igso3.mean_squared_score(0.5 * sigma**2) / math.pi)


def released_step(t: Tensor) -> Tensor:
    """Returns the release's step 500 (1 - t) as a real number, at most 499.

    Note:
        The release knows integers only. Its embedding is a smooth function of the step, and is taken at the real number.
    """
    return (STEPS * (1.0 - t)).clamp(0.0, STEPS - 1.0)


class DigReleaseDenoiser(NetworkDenoiser):
    """The released network with its process.

    What depends on the features alone is computed at the first call and kept for as long as the same features come, so that one protein's pairs
    are embedded once for all samples and levels. It is computed anew where weights are trained. A compiler is given the layers only, which are alike: it
    compiles one.

    Arguments:
        network: The network.
        process: Its process.
    """

    network: DigReleaseNetwork

    def __init__(self, network: DigReleaseNetwork, process: Process) -> None:
        super().__init__(network, process, "score")
        self._kept: tuple[tuple[Any, ...], PairContext] | None = None

    @torch.compiler.disable(recursive=False)
    def forward(self, state: State, t: Tensor, features: Features) -> Prediction:
        """Returns the prediction for a State at the times t (batch,)."""
        context = self._context(features)
        dtype = context.tokens.dtype
        trans, rot = state.fields[TRANS], state.fields[ROT]
        steps = released_step(t).to(dtype)
        raw_trans, raw_rot = self.network(context, trans.to(dtype), rot.to(dtype), steps, state.masks.get(TRANS))
        return self._prediction(state, t, raw_trans, raw_rot)

    @torch.compiler.disable
    def _prediction(self, state: State, t: Tensor, raw_trans: Tensor, raw_rot: Tensor) -> Prediction:
        trans, rot = state.fields[TRANS], state.fields[ROT]
        sigma = {name: expand(self.process.sigma(name, t), trans) for name in (TRANS, ROT)}
        body = expand(score_norm(self.process.sigma(ROT, t)), trans) * raw_rot.to(rot.dtype)
        displacements = {
            TRANS: sigma[TRANS] * raw_trans.to(trans.dtype),
            ROT: -(sigma[ROT] ** 2) * (rot @ body[..., None])[..., 0],
        }
        return Prediction(
            {name: self.process.fields[name].space.project(value, state.mask(name)) for name, value in displacements.items()}
        )

    @torch.compiler.disable
    def _context(self, features: Features) -> PairContext:
        """Returns what depends on the features alone, from the last call if they are the same."""
        single, pair = check_features(features, self.network.config)
        device, weights = single.device.type, self._pair_weights()
        if torch.is_grad_enabled() and any(weight.requires_grad for weight in weights):
            return self._embed(single, pair)
        key = (*map(_identity, (single, pair, *weights)), torch.is_autocast_enabled(device), torch.is_inference_mode_enabled())
        if self._kept is None or self._kept[0] != key:
            self._kept = key, self._embed(single, pair)
        return self._kept[1]

    def _embed(self, single: Tensor, pair: Tensor) -> PairContext:
        device = single.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        with torch.autocast(device, enabled=False):
            dtype = self.network.separation.weight.dtype
            context = self.network.context(single.to(dtype), pair.to(dtype))
        # once here instead of once in every layer of every call
        return context if low is None else replace(context, pairs=context.pairs.to(low))

    def _pair_weights(self) -> list[Tensor]:
        network = self.network
        outer = (network.embed_single, network.embed_pair, network.separation)
        return [
            *(weight for part in outer for weight in part.parameters()),
            *(part.pair_bias.weight for part in network.modules() if isinstance(part, FrameAttention)),
        ]

    def compile_network(self) -> None:
        """Compiles one layer in place; its code serves all of them."""
        for layer in self.network.layers:
            if layer._compiled_call_impl is None:
                layer.compile(dynamic=False)


class _Identity:
    """Which tensor, in which version; a tensor that is gone equals none."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = weakref.ref(tensor)
        self.version = (0 if tensor.is_inference() else tensor._version, tensor.data_ptr(), tensor.dtype, tensor.device)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Identity):
            return NotImplemented
        mine = self.tensor()
        return mine is not None and mine is other.tensor() and self.version == other.version

    __hash__ = None  # type: ignore[assignment]


def _identity(tensor: Tensor) -> _Identity:
    return _Identity(tensor)


def check_features(features: Features, config: DigReleaseConfig) -> tuple[Tensor, Tensor]:
    """Returns the single (rows, L, 384) and pair (rows, L, L, 128) features of a batch.

    Raises:
        InputError: If there are none.
        ShapeError: If they have other widths than the network was trained with.
    """
    single, pair = features.node.get("extra"), features.pair.get("extra")
    if single is None or pair is None:
        missing = " and ".join(name for name, value in (("single", single), ("pair", pair)) if value is None)
        raise InputError(
            f"the released network reads AlphaFold 2's single (L, {config.extra_node}) and pair (L, L, {config.extra_pair}) representations, but the protein has no "
            f"{missing} features; give both as arrays"
        )
    for name, value, width in (("single", single, config.extra_node), ("pair", pair, config.extra_pair)):
        if value.shape[-1] != width:
            raise ShapeError(f"{name} features of the released network", tuple(value.shape), f"a last axis of {width}")
    return single, pair


def network_config(network: Mapping[str, Any]) -> DigReleaseConfig:
    """Reads the JSON form of a network, `{"kind": "dig-release", ...}` with the fields of `DigReleaseConfig`."""
    return read_fields(DigReleaseConfig, {key: value for key, value in network.items() if key != "kind"})


def denoiser(process: Process, network: Mapping[str, Any]) -> DigReleaseDenoiser:
    """Makes the denoiser from the JSON form of its network."""
    return DigReleaseDenoiser(DigReleaseNetwork(network_config(network)), process)


def memory_needed(length: int, batch: int, config: DigReleaseConfig) -> int:
    r"""Estimates the peak memory of sampling a protein of L residues, in bytes, without the weights.

    .. math:: 4 c \, \big[L^2 (2 w + 2 d_p + 2 n h) + B (2 h L^2 + 16 L d)\big]

    with c = 1.2, batch size B, width w of the pair features, pair width d_p, n layers of h heads, token width d. The first part, the embedded pairs, is there
    once for all samples; of the second the arrays of pairs are whole in compiled code only.

    Arguments:
        length: Number of residues L.
        batch: Samples given to the network at once.
        config: Size of the network.
    """
    shared = length**2 * 2 * (config.extra_pair + config.pair_dim + config.layers * config.heads)
    own = 2 * config.heads * length**2 + 16 * length * config.dim
    return int(4 * 1.2 * (shared + batch * own))
