r"""Conservative denoisers: one scalar network gives the log-density, and its gradient the score.

With the potential :math:`f_\theta` of a network, the input scale :math:`c_{in}` and the output scale :math:`c_{out}` of the field's Space,

.. math::
    \ln q(x, \sigma) = \ln q_0(x, \sigma) - \frac{c_{out}}{\sigma^2 c_{in}} f_\theta(c_{in} x, \sigma) + g\, b_\theta(\sigma)

where :math:`q_0` is the moment-matched Gaussian :math:`N(0, \sigma^2 + \sigma_d^2)` on the :math:`D_{eff}` true dimensions of a flat Space, and
uniform on the torus and on SO(3). On a flat Space :math:`c_{out} / (\sigma^2 c_{in}) = \sigma_d / \sigma`, and the displacement is

.. math::
    \delta = \sigma^2 \nabla \ln q = -\frac{\sigma^2}{\sigma^2 + \sigma_d^2} x - \sigma \sigma_d c_{in} \nabla' f_\theta
           = c_{shift}\, x + c_{out} F, \qquad F = -\nabla' f_\theta

with :math:`\nabla'` the gradient in the network's input :math:`c_{in} x`, since :math:`\sigma \sigma_d c_{in} = c_{out}`. So F is exactly the output
that the preconditioning of Karras et al. (2022) asks of a network: of unit size at every noise, and zero for Gaussian data. The
prefactor vanishes with large :math:`\sigma`, so that normalisation and Gaussian limit are built in; at small :math:`\sigma` it is the
inverse temperature of a potential of unit forces.

The offset :math:`b_\theta` does not depend on x. It carries the normalisation at small noise, and its gate
:math:`g = \sigma_d^2/(\sigma^2 + \sigma_d^2)` (the mean over the fields) takes it to zero at large noise.

A common network serves several fields: each has a potential of all inputs, and the logarithms add up.

Note:
    The gradient with respect to positions is itself differentiated in training. `torch.compile` does not support that: train such a
    denoiser uncompiled.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equilibra.diffusion.denoiser import BoundDenoiser, Prediction
from equilibra.diffusion.process import Process
from equilibra.diffusion.space import SO3, Space, Torus, expand
from equilibra.errors import SpaceError
from equilibra.state.features import Features
from equilibra.state.state import State


@dataclass(frozen=True)
class PotentialPrediction(Prediction):
    r"""Prediction of a conservative denoiser.

    Attributes:
        rate: :math:`\partial_t \ln q` at fixed x (batch,), where t requires a gradient: it comes from the same backward pass as the score.
    """

    rate: Tensor | None = None


def zero_tangent(space: Space, x: Tensor) -> Tensor:
    """Returns the zero tangent vector at the points x, which requires a gradient: derivatives along the retraction start here."""
    with torch.no_grad():
        return torch.zeros_like(space.log(x, x)).requires_grad_(True)


class ConservativeDenoiser(nn.Module):
    """A scalar network with its process; it has the interface of `NetworkDenoiser`, and gives the log-density too.

    Arguments:
        network: Called with (inputs, levels, features) as the network of a `NetworkDenoiser` is; returns a dict of one potential (batch,) per
            moving field, and an offset (batch,). It must be twice differentiable in the inputs.
        process: Forward process; fields on flat Spaces, tori and SO(3).

    Raises:
        SpaceError: If a field moves on another Space.
    """

    parametrisation = "energy"

    def __init__(self, network: nn.Module, process: Process) -> None:
        super().__init__()
        for name in process.moving:
            space = process.fields[name].space
            if not (space.linear or isinstance(space, SO3 | Torus)):
                raise SpaceError(
                    f"conservative denoiser: field '{name}' moves on {type(space).__name__}, expected a flat Space, a torus or SO(3); use a "
                    "NetworkDenoiser there"
                )
        self.network = network
        self.process = process

    def log_density(self, state: State, t: Tensor, features: Features) -> Tensor:
        """Returns ln q (batch,) of a State in the rescaled variable at the times t (batch,): one forward pass, without a score."""
        inputs, factors, levels, gates = dict(state.fields), {}, [], []
        total = torch.zeros_like(t)
        for name in self.process.moving:
            part = self.process.fields[name]
            sigma = part.schedule.sigma(t)
            own = part.space.preconditioning(sigma, part.data_scale)
            x = part.space.about_centre(state.fields[name])
            inputs[name] = x * expand(own.c_in, x)
            factors[name] = own.c_out / (sigma**2 * own.c_in)
            levels.append(0.25 * torch.log(sigma / part.data_scale))
            gates.append(part.data_scale**2 / (sigma**2 + part.data_scale**2))
            total = total + part.space.log_prior(state.fields[name], sigma, part.data_scale, state.mask(name))
        potentials, offset = self.network(inputs, torch.stack(levels, dim=1), features)
        for name, factor in factors.items():
            total = total - factor * potentials[name].to(total.dtype)
        return total + torch.stack(gates).mean(0) * offset.to(total.dtype)

    def forward(self, state: State, t: Tensor, features: Features) -> PotentialPrediction:
        """Returns displacements and log-density of a State in the rescaled variable at the times t (batch,).

        The gradient is taken whether or not gradients are recorded around the call; its own graph is kept only if they are. Where t requires a
        gradient, the prediction has the rate of the log-density in time as well.
        """
        recording = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            fields = {name: value.clone() if value.is_inference() else value for name, value in state.fields.items()}
            t = t.clone() if t.is_inference() else t
            tangents = {name: zero_tangent(self.process.fields[name].space, fields[name]) for name in self.process.moving}
            moved = {name: self.process.fields[name].space.retract(fields[name], v) for name, v in tangents.items()}
            log_density = self.log_density(State({**fields, **moved}, state.masks), t, features)
            variables = [*tangents.values(), *([t] if t.requires_grad else [])]
            gradients = torch.autograd.grad(log_density.sum(), variables, create_graph=recording)
        displacements: dict[str, Tensor] = {}
        for name, gradient in zip(tangents, gradients, strict=False):
            part = self.process.fields[name]
            sigma = expand(part.schedule.sigma(t), gradient)
            displacements[name] = part.space.project(sigma**2 * gradient, state.mask(name))
        rate = gradients[-1] if t.requires_grad else None
        return PotentialPrediction(displacements, log_density if recording else log_density.detach(), rate)

    def compile_network(self) -> None:
        """Does nothing: the network is differentiated twice in training, which compiled code does not support."""

    def bind(self, features: Features) -> BoundDenoiser:
        """Returns the denoiser of the batch that `features` describe."""
        return BoundDenoiser(self.process, self, features)
