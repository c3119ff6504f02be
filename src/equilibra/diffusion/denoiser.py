r"""Denoisers: from a noisy State to the score, whatever a network was trained to predict.

A denoiser returns, for each field, the displacement :math:`\delta = \sigma^2 s`, which on a flat Space is :math:`\hat x_0 - x`
(Tweedie). What the network's output F means ends here (:math:`\sigma` the noise in the rescaled variable, :math:`\sigma_d` the data scale):

=========  ==================================================================
edm        :math:`\delta = c_{shift} x + c_{out} F`, the Space's own preconditioning
eps        :math:`\delta = -\sigma F`; F is the noise
x0         :math:`\delta = \sigma_d F - x`; F is the clean state in units of the data scale, relative to the centre of the prior
score      :math:`\delta = \sigma F`; F is the score times sigma (DiG's proteins)
v          :math:`\delta = c_{shift} x - c_{out} F`; F is the velocity :math:`a \varepsilon - b x_0/\sigma_d`
=========  ==================================================================
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from equilibra.diffusion.process import Process
from equilibra.diffusion.space import Preconditioning, Space, expand, require_linear
from equilibra.errors import ConfigError
from equilibra.state.features import Features
from equilibra.state.state import State

Parametrisation = Literal["edm", "eps", "x0", "score", "v"]


@dataclass(frozen=True)
class Prediction:
    r"""What a denoiser says of a noisy State.

    Attributes:
        displacements: :math:`\delta = \sigma^2 s` of each moving field, a tangent vector at the State.
        log_density: :math:`\ln p_t` (batch,), where the denoiser has one.
    """

    displacements: Mapping[str, Tensor]
    log_density: Tensor | None = field(default=None)

    def score(self, name: str, sigma: Tensor) -> Tensor:
        r"""Returns :math:`s = \delta / \sigma^2` of a field, for sigma (batch,)."""
        displacement = self.displacements[name]
        return displacement / expand(sigma, displacement) ** 2


class Denoiser(ABC):
    """Abstract: anything that gives the score of the noised distribution of one batch of systems.

    Networks bound to their features, analytic distributions and guidance wrappers share this interface, so that a sampler never asks
    where a score comes from.
    """

    process: Process

    @abstractmethod
    def __call__(self, state: State, t: Tensor) -> Prediction:
        """Returns the prediction for a State in the rescaled variable at the times t (batch,)."""

    def rows(self, index: slice | Tensor) -> "Denoiser":
        """Returns the denoiser of some batch elements; itself where it serves any batch."""
        return self


def preconditioning(space: Space, parametrisation: Parametrisation, sigma: Tensor, data_scale: float) -> Preconditioning:
    """Returns the coefficients that turn a network's output into a displacement; see the module's table."""
    if parametrisation not in get_args(Parametrisation):
        raise ConfigError(f"parametrisation: got '{parametrisation}', expected one of {', '.join(get_args(Parametrisation))}")
    own = space.preconditioning(sigma, data_scale)
    zero, one = torch.zeros_like(sigma), torch.ones_like(sigma)
    if parametrisation == "edm":
        return own
    if parametrisation == "eps":
        return Preconditioning(c_in=own.c_in, c_shift=zero, c_out=-sigma)
    if parametrisation == "score":
        return Preconditioning(c_in=own.c_in, c_shift=zero, c_out=sigma)
    require_linear(space, f"the parametrisation '{parametrisation}'")
    if parametrisation == "x0":
        return Preconditioning(c_in=own.c_in, c_shift=-one, c_out=data_scale * one)
    return Preconditioning(c_in=own.c_in, c_shift=own.c_shift, c_out=-own.c_out)


class NetworkDenoiser(nn.Module):
    """A network with its process and the meaning of its output.

    Arguments:
        network: Called with (inputs, levels, features): `inputs` a dict of c_in x per field, `levels` (batch, fields) the values
            ln(sigma / data scale) / 4 per moving field, and Features; returns a dict of raw outputs per moving field.
        process: Forward process.
        parametrisation: What the network's output means.

    Raises:
        ConfigError: If there is no such parametrisation.
        SpaceError: If the parametrisation does not exist on the Space of a field.
    """

    def __init__(self, network: nn.Module, process: Process, parametrisation: Parametrisation = "edm") -> None:
        super().__init__()
        self.network = network
        self.process = process
        self.parametrisation: Parametrisation = parametrisation
        for name in process.moving:  # wrong pairs are refused before any work
            preconditioning(process.fields[name].space, parametrisation, torch.ones(1), process.fields[name].data_scale)

    def forward(self, state: State, t: Tensor, features: Features) -> Prediction:
        """Returns the prediction for a State in the rescaled variable at the times t (batch,)."""
        inputs, coefficients, levels = dict(state.fields), {}, []
        for name in self.process.moving:
            part = self.process.fields[name]
            sigma = part.schedule.sigma(t)
            coefficients[name] = preconditioning(part.space, self.parametrisation, sigma, part.data_scale)
            x = part.space.about_centre(state.fields[name])
            inputs[name] = x * expand(coefficients[name].c_in, x)
            levels.append(0.25 * torch.log(sigma / part.data_scale))
        outputs = self.network(inputs, torch.stack(levels, dim=1), features)
        displacements = {}
        for name, c in coefficients.items():
            space, raw = self.process.fields[name].space, outputs[name].to(state.dtype)
            displacement = expand(c.c_out, raw) * raw
            if space.flat:
                x = space.about_centre(state.fields[name])
                displacement = displacement + expand(c.c_shift, x) * x
            displacements[name] = space.project(displacement, state.mask(name))
        return Prediction(displacements)

    def compile_network(self) -> None:
        """Compiles the network in place, once: parameters keep their names, and whoever holds this denoiser goes on calling it."""
        if self.network._compiled_call_impl is None:
            self.network.compile(dynamic=False)

    def bind(self, features: Features) -> "BoundDenoiser":
        """Returns the denoiser of the batch that `features` describe."""
        return BoundDenoiser(self.process.of_system(features), self, features)


@dataclass(frozen=True)
class BoundDenoiser(Denoiser):
    """A network denoiser together with the features of one batch.

    Attributes:
        process: Forward process.
        function: Called with (state, t, features): a `NetworkDenoiser` or its compiled form.
        features: Features of the batch; those of one system, shared, serve any number of samples.
    """

    process: Process
    function: Callable[[State, Tensor, Features], Any]
    features: Features

    def __call__(self, state: State, t: Tensor) -> Prediction:  # noqa: D102
        return self.function(state, t, self.features)

    def rows(self, index: slice | Tensor) -> "BoundDenoiser":  # noqa: D102
        return BoundDenoiser(self.process, self.function, self.features.rows(index))
