r"""Paths between two states through latent space: encode both with the probability flow, interpolate, decode.

On flat Spaces the latent path is a great arc with linearly interpolated norms (`geometry.great_arc.slerp`): a straight line would leave the
shell where a Gaussian lives. On SO(3) and the torus it is a geodesic. The paper interpolates coordinates linearly (its eq. (A25)).
A path is a hypothesis, not a mechanism: the encode-decode error of the end points is returned with it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.diffusion.denoiser import Denoiser
from equilibra.errors import ConfigError
from equilibra.sampling.grid import Level
from equilibra.sampling.ode import Heun
from equilibra.sampling.sampler import integrate
from equilibra.state.state import State


@dataclass(frozen=True)
class LatentPath:
    """A path between two states.

    Attributes:
        states: The path, of batch size `steps`, from A to B.
        round_trip: Root-mean-square tangent distance per degree of freedom between each end point and its decoded encoding, (2,).
    """

    states: State
    round_trip: Tensor


def encode(denoiser: Denoiser, state: State, levels: list[Level]) -> State:
    """Integrates the probability flow from the data at the smallest noise of a grid up to the prior (Heun's rule)."""
    rising = [level for level in reversed(levels) if not level.clean]
    return integrate(Heun(), denoiser, state, rising, generator=torch.Generator(state.device))


def decode(denoiser: Denoiser, latent: State, levels: list[Level]) -> State:
    """Integrates the probability flow from the prior down to the data (Heun's rule)."""
    return integrate(Heun(), denoiser, latent, levels, generator=torch.Generator(latent.device))


def latent_path(denoiser: Callable[[int], Denoiser], ends: State, levels: list[Level], *, steps: int) -> LatentPath:
    """Interpolates between two states.

    Arguments:
        denoiser: Makes the denoiser of the system for a given batch size.
        ends: The States A and B as a batch of two, aligned to each other where the Space has symmetries.
        levels: A noise grid, descending.
        steps: Number of states on the path, the ends included.
    """
    if ends.batch_size != 2 or steps < 2:
        raise ConfigError(
            f"latent path: got {ends.batch_size} states and {steps} steps; expected 2 states and at least 2 steps"
        )
    # the flow ends at its smallest noise: decoding to the clean end would add an irreversible step
    noisy = [level for level in levels if not level.clean]
    process = denoiser(2).process
    latent = encode(denoiser(2), ends, noisy)
    points = []
    for k in range(steps):
        fraction = k / (steps - 1)
        points.append(
            State(
                {
                    name: field.space.interpolate(
                        latent.fields[name][:1],
                        latent.fields[name][1:],
                        fraction,
                        None if (m := latent.mask(name)) is None else m[:1],
                    )
                    for name, field in process.fields.items()
                },
                {name: mask[:1] for name, mask in latent.masks.items()},
            )
        )
    path = decode(denoiser(steps), State.cat(points), noisy)
    back = path[[0, steps - 1]]
    squared = torch.zeros(2, dtype=ends.dtype, device=ends.device)
    for name in process.moving:
        space = process.fields[name].space
        difference = space.project(space.log(ends.fields[name], back.fields[name]), ends.mask(name))
        squared = squared + space.inner(difference, difference)
    return LatentPath(path, torch.sqrt(squared / process.degrees(ends)))
