"""Objectives by name, as configurations and the command line give them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from equilibra.diffusion.conservative import ConservativeDenoiser
from equilibra.diffusion.denoiser import NetworkDenoiser
from equilibra.diffusion.objectives.fokker_planck import FokkerPlanck, FokkerPlanckConfig
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.on_policy import OnPolicy, OnPolicyConfig, Reduced
from equilibra.diffusion.objectives.pidp import PIDP, PIDPConfig
from equilibra.diffusion.objectives.score_matching import ScoreMatching
from equilibra.errors import ConfigError, unknown_key_message

TrainedDenoiser = NetworkDenoiser | ConservativeDenoiser
"""What objectives train."""

ObjectiveConfig = FokkerPlanckConfig | PIDPConfig | OnPolicyConfig
"""Settings of those objectives that have any."""

ConfigType = TypeVar("ConfigType")


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What an objective may need.

    Attributes:
        noise_levels: Distribution of training noise.
        config: Settings of the objective, or None for its defaults.
        forces: Whether score matching mixes in target score matching, in `pidp` and `scalar-fp`.
        classes: Number of atom classes for that mixture.
        reduced: Reduced energies and forces, for on-policy objectives.
        ensembles: Number of ensembles (temperatures) in the data, for `scalar-fp`.
        betas: Inverse temperature of each ensemble relative to that of the reduced energy, for on-policy objectives.
    """

    noise_levels: NoiseLevels
    config: ObjectiveConfig | None = None
    forces: bool = False
    classes: int = 128
    reduced: Reduced | None = None
    ensembles: int = 1
    betas: Sequence[float] = (1.0,)


def _settings(name: str, config: ObjectiveConfig | None, kind: type[ConfigType]) -> ConfigType:
    """Returns the settings of an objective, its defaults where there are none."""
    if config is None:
        return kind()
    if not isinstance(config, kind):
        raise ConfigError(f"objective '{name}': got {type(config).__name__}, expected {kind.__name__}")
    return config


def _no_settings(name: str, config: ObjectiveConfig | None) -> None:
    if config is not None:
        raise ConfigError(f"objective '{name}': got {type(config).__name__}, but it has no settings of its own")


def _dsm(denoiser: TrainedDenoiser, given: Ingredients) -> nn.Module:
    _no_settings("dsm", given.config)
    return ScoreMatching(denoiser.process, given.noise_levels)


def _tsm(denoiser: TrainedDenoiser, given: Ingredients) -> nn.Module:
    _no_settings("tsm", given.config)
    return ScoreMatching(denoiser.process, given.noise_levels, forces=True, classes=given.classes)


def _pidp(denoiser: TrainedDenoiser, given: Ingredients) -> nn.Module:
    config = _settings("pidp", given.config, PIDPConfig)
    return PIDP(denoiser.process, given.noise_levels, config, forces=given.forces, classes=given.classes)


def _scalar_fp(denoiser: TrainedDenoiser, given: Ingredients) -> nn.Module:
    config = _settings("scalar-fp", given.config, FokkerPlanckConfig)
    if not isinstance(denoiser, ConservativeDenoiser):
        raise ConfigError(
            f"objective 'scalar-fp': got a {type(denoiser).__name__}, which has no log-density; expected a conservative denoiser (an energy head)"
        )
    return FokkerPlanck(
        denoiser.process,
        given.noise_levels,
        config,
        forces=given.forces,
        classes=given.classes,
        ensembles=given.ensembles,
    )


def _on_policy(target: str) -> Callable[[TrainedDenoiser, Ingredients], nn.Module]:
    def make(denoiser: TrainedDenoiser, given: Ingredients) -> nn.Module:
        default = OnPolicyConfig(target=target)  # type: ignore[arg-type]
        config = default if given.config is None else _settings(target, given.config, OnPolicyConfig)
        if config.target != target:
            raise ConfigError(f"objective '{target}': got settings for '{config.target}'")
        if given.reduced is None:
            raise ConfigError(f"objective '{target}': it needs an energy, and none is given; train with an energy")
        return OnPolicy(denoiser.process, given.noise_levels, given.reduced, config, betas=given.betas)

    return make


OBJECTIVES: dict[str, Callable[[TrainedDenoiser, Ingredients], nn.Module]] = {
    "dsm": _dsm,
    "tsm": _tsm,
    "pidp": _pidp,
    "scalar-fp": _scalar_fp,
    "idem": _on_policy("idem"),
    "adjoint": _on_policy("adjoint"),
}
"""Factories of objectives by name."""


def choose_objective(name: str, denoiser: TrainedDenoiser, noise_levels: NoiseLevels, **ingredients: Any) -> nn.Module:
    """Makes an objective, called as `objective(denoiser, batch, generator=...)`.

    Arguments:
        name: One of `OBJECTIVES`.
        denoiser: What is to be trained.
        noise_levels: Distribution of training noise.
        ingredients: The other attributes of `Ingredients`.

    Raises:
        ConfigError: If there is no such objective, or it does not go with the denoiser or with what is given.
        SpaceError: If it does not exist on the Spaces of the process.
    """
    if name not in OBJECTIVES:
        raise ConfigError(unknown_key_message("objective", name, OBJECTIVES))
    return OBJECTIVES[name](denoiser, Ingredients(noise_levels=noise_levels, **ingredients))
