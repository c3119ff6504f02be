"""The denoiser and the loss that belong to an objective of training from an energy."""

from collections.abc import Callable
from typing import Any

from torch import nn

from equilibra.diffusion.objectives.choose import choose_objective
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.on_policy import OnPolicyConfig
from equilibra.energies.energy import ReducedEnergy
from equilibra.train.config import TrainConfig
from equilibra.train.energy_config import ON_POLICY, EnergyConfig

CLIP = 100.0
"""Largest force of a particle that the model's own samples teach, in kT per unit of length; the clipped share is in the log. Early samples have atoms on
top of each other, whose forces would be all that a network learns from."""


def make_objective(
    config: EnergyConfig, train: TrainConfig, reduced: ReducedEnergy, make: Callable[[Any], Any]
) -> tuple[Any, nn.Module]:
    """Makes a denoiser and its objective.

    Arguments:
        config: Names the objective.
        train: Gives the distribution of noise levels.
        reduced: Reduced energy, for objectives on the model's own samples.
        make: Makes the denoiser of a parametrisation: `energy` for the conservative one of `scalar-fp`, `edm` for the others.
    """
    denoiser = make("energy" if config.objective == "scalar-fp" else "edm")
    name = "tsm" if config.objective == "anneal" else config.objective
    ingredients: dict[str, Any] = {}
    if name in ON_POLICY:
        ingredients["reduced"] = reduced.with_force
        ingredients["betas"] = config.betas
        ingredients["config"] = OnPolicyConfig(target=name, clip=CLIP)  # type: ignore[arg-type]
    elif name != "tsm":
        ingredients["forces"] = True
        ingredients["ensembles"] = config.rungs
    levels = NoiseLevels(median=train.noise_median, width=train.noise_width)
    return denoiser, choose_objective(name, denoiser, levels, **ingredients)
