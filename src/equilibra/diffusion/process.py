"""The Process: for each field of a State its Space, its Schedule and its data scale."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Generator, Tensor

from equilibra.diffusion.schedule import Schedule
from equilibra.diffusion.space import Fixed, Space, expand, require_linear
from equilibra.errors import ConfigError
from equilibra.state.features import Features
from equilibra.state.state import State


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a process.

    Attributes:
        space: Geometry.
        schedule: Noise against time.
        data_scale: Standard deviation per axis of the data, in the unit of the field; matches the prior and scales the network.
    """

    space: Space
    schedule: Schedule
    data_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.schedule.preserves_variance:
            require_linear(self.space, f"the variance-preserving schedule {type(self.schedule).__name__}")
        if not self.data_scale > 0.0:
            raise ConfigError(f"data_scale: got {self.data_scale}, expected a positive number")


@dataclass(frozen=True)
class Process:
    """Forward process of all fields, which share the time t and are noised independently.

    All States that a Process, a Denoiser or a Sampler handles are in the rescaled variable x/alpha (see `schedule`); `to_signal` and
    `from_signal` convert to and from the variance-preserving picture.
    """

    fields: Mapping[str, Field]

    def __post_init__(self) -> None:
        if not any(not isinstance(field.space, Fixed) for field in self.fields.values()):
            raise ConfigError("Process: no field moves; expected at least one field on a Space other than Fixed")
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))

    @property
    def reference(self) -> str:
        """Name of the first moving field: noise grids and training noise levels are stated in its sigma."""
        return next(name for name, field in self.fields.items() if not isinstance(field.space, Fixed))

    @property
    def moving(self) -> list[str]:
        """Names of the fields that are diffused."""
        return [name for name, field in self.fields.items() if not isinstance(field.space, Fixed)]

    @property
    def t_min(self) -> float:
        """Earliest time in use: from it on, every moving field has at least the smallest noise of its schedule.

        Variance-preserving fields have no noise at t = 0, where a score does not exist, variance-exploding ones do.
        """
        schedules = [self.fields[name].schedule for name in self.moving]
        return max(float(schedule.time(torch.tensor(schedule.sigma_min, dtype=torch.float64))) for schedule in schedules)

    def sigma(self, name: str, t: Tensor) -> Tensor:
        """Returns the noise of a field at the times t, elementwise."""
        return self.fields[name].schedule.sigma(t)

    def time(self, sigma: Tensor) -> Tensor:
        """Returns the times at which the reference field has the noise sigma."""
        return self.fields[self.reference].schedule.time(sigma)

    def noise(self, state: State, t: Tensor, *, generator: Generator) -> State:
        """Draws from the forward kernel of a clean State at the times t (batch,)."""
        return State(
            {
                name: field.space.perturb(state.fields[name], field.schedule.sigma(t), state.mask(name), generator=generator)
                for name, field in self.fields.items()
            },
            state.masks,
        )

    def prior(self, like: State, *, generator: Generator, t: float = 1.0) -> State:
        """Draws the distribution at time t = 1 for the shapes, masks and fixed fields of `like`."""
        time = torch.full((like.batch_size,), t, dtype=like.dtype, device=like.device)
        return State(
            {
                name: field.space.prior(
                    like.fields[name], field.schedule.sigma(time), field.data_scale, like.mask(name), generator=generator
                )
                for name, field in self.fields.items()
            },
            like.masks,
        )

    def log_prior(self, state: State, *, t: float = 1.0) -> Tensor:
        """Returns the log-density (batch,) of the distribution that `prior` draws, in float64."""
        state = state.to(dtype=torch.float64)
        time = torch.full((state.batch_size,), t, dtype=torch.float64, device=state.device)
        parts = [
            field.space.log_prior(state.fields[name], field.schedule.sigma(time), field.data_scale, state.mask(name))
            for name, field in self.fields.items()
        ]
        return torch.stack(parts).sum(0)

    def retract(self, state: State, steps: Mapping[str, Tensor]) -> State:
        """Returns the State reached along tangent vectors, one for each field that moves."""
        return state.replace(**{name: self.fields[name].space.retract(state.fields[name], v) for name, v in steps.items()})

    def tangent_noise(self, state: State, widths: Mapping[str, float], *, generator: Generator) -> dict[str, Tensor]:
        """Draws normal tangent vectors of a given width per axis, for the fields whose width is positive, in their order."""
        return {
            name: width * self.fields[name].space.tangent_noise(state.fields[name], state.mask(name), generator=generator)
            for name, width in widths.items()
            if width > 0.0
        }

    def clean(self, state: State) -> State:
        """Projects every field on its Space."""
        return state.replace(
            **{name: field.space.clean(state.fields[name], state.mask(name)) for name, field in self.fields.items()}
        )

    def of_system(self, features: Features) -> "Process":
        """Returns the process of one system, whose Spaces know what is particular to it, such as the cell of a plane."""
        spaces = {name: field.space.of_system(features.graph) for name, field in self.fields.items()}
        if all(spaces[name] is field.space for name, field in self.fields.items()):
            return self
        return Process({name: replace(field, space=spaces[name]) for name, field in self.fields.items()})

    def degrees(self, state: State) -> Tensor:
        """Returns the true dimension of each batch element, over all fields, with shape (batch,)."""
        total = [field.space.degrees(state.fields[name], state.mask(name)) for name, field in self.fields.items()]
        return torch.stack(total).sum(0)

    def to_signal(self, state: State, t: Tensor) -> State:
        """Multiplies each field by alpha_t: from the rescaled variable to the one of the stochastic differential equation."""
        return state.replace(
            **{name: state.fields[name] * expand(a, state.fields[name]) for name, a in self._alphas(t).items()}
        )

    def from_signal(self, state: State, t: Tensor) -> State:
        """Divides each field by alpha_t: the inverse of `to_signal`."""
        return state.replace(
            **{name: state.fields[name] / expand(a, state.fields[name]) for name, a in self._alphas(t).items()}
        )

    def _alphas(self, t: Tensor) -> dict[str, Tensor]:
        moving = {name: self.fields[name].schedule for name in self.moving}
        return {name: schedule.alpha(t) for name, schedule in moving.items() if schedule.preserves_variance}
