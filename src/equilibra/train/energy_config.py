"""How to train from an energy function."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from equilibra.errors import ConfigError
from equilibra.train.config import TrainConfig

ObjectiveName = Literal["anneal", "tsm", "pidp", "scalar-fp", "idem", "adjoint"]
OBJECTIVES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)

ON_POLICY: tuple[ObjectiveName, ...] = ("idem", "adjoint")
"""Objectives that learn from the model's own samples alone."""

TWICE_DIFFERENTIATED: tuple[ObjectiveName, ...] = ("pidp", "scalar-fp")
"""Objectives whose losses contain derivatives of the score."""


@dataclass(frozen=True, kw_only=True)
class EnergyConfig:
    r"""Where the conformations come from, and what is minimised on them.

    Training goes in rounds. A round first collects conformations, each with its energy and force, then trains on all of them. With `anneal` they come from
    parallel tempering on a ladder of temperatures, into which the model of the rounds before proposes its own samples, accepted by their importance weights.

    Attributes:
        objective: `anneal`, the default: the ladder, the model's proposals, and the mixture of denoising and target score matching; `tsm`: the same without
            proposals; `pidp`: the published physics-informed loss; `scalar-fp`: a scalar log-density that obeys the Fokker-Planck equation; `idem` and
            `adjoint`: on the model's own samples.
        rounds: Number of rounds.
        rungs: Temperatures of the ladder; with one there is no exchange, and the model knows one temperature.
        hottest: Highest temperature over the lowest.
        columns: Walkers on each rung.
        leapfrog: Leapfrog steps of a move; 1 is MALA.
        moves: Moves between exchanges.
        burn_in: Sweeps before the first round, in which step sizes adapt.
        sweeps: Sweeps of a round.
        every: Sweeps between kept frames.
        step: Step size to start from.
        focus: Share of a training batch at the lowest temperature.
        newest: Share of the frames, the newest, that batches are drawn from: walkers that started far from equilibrium are forgotten.
        path_levels: Noise levels of the path weights that judge the model after each round.
        path_samples: Samples on which it is judged; also the model's proposals.
    """

    objective: ObjectiveName = "anneal"
    rounds: int = 8
    rungs: int = 6
    hottest: float = 2.0
    columns: int = 32
    leapfrog: int = 10
    moves: int = 2
    burn_in: int = 200
    sweeps: int = 200
    every: int = 1
    step: float = 0.02
    focus: float = 0.5
    newest: float = 0.5
    path_levels: int = 100
    path_samples: int = 200

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"objective: got '{self.objective}', expected one of {', '.join(OBJECTIVES)}")
        for name in ("rounds", "rungs", "columns", "leapfrog", "moves", "sweeps", "every", "path_levels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected at least 1")
        if self.burn_in < 0:
            raise ConfigError(f"burn_in: got {self.burn_in}, expected a number that is not negative")
        if self.path_samples < 2:
            raise ConfigError(f"path_samples: got {self.path_samples}, expected at least 2")
        if self.sweeps < self.every:
            raise ConfigError(f"every: got {self.every}, expected at most the {self.sweeps} sweeps of a round")
        if not (self.step > 0.0 and math.isfinite(self.step)):
            raise ConfigError(f"step: got {self.step}, expected a positive number")
        if not 0.0 < self.focus <= 1.0:
            raise ConfigError(f"focus: got {self.focus}, expected a share above 0 and up to 1")
        for name in ("focus", "newest"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected a share above 0 and up to 1")
        if self.rungs > 1 and not (self.hottest > 1.0 and math.isfinite(self.hottest)):
            raise ConfigError(f"hottest: got {self.hottest}, expected the highest temperature over the lowest, above 1")

    @property
    def betas(self) -> tuple[float, ...]:
        """Inverse temperatures of the rungs relative to the first."""
        if self.rungs == 1:
            return (1.0,)
        from equilibra.energies.parallel_tempering import geometric_betas

        return geometric_betas(self.hottest, self.rungs)

    @property
    def paths(self) -> int:
        """Paths that judging the model after a round draws, over all rungs."""
        return max(self.path_samples, self.columns) + (self.rungs - 1) * self.columns * self.proposes

    @property
    def proposes(self) -> bool:
        """Whether the model's samples are proposed to the walkers."""
        return self.objective == "anneal"


MOLECULE = EnergyConfig(
    rounds=6, rungs=6, hottest=2.2, columns=32, leapfrog=40, moves=1, burn_in=150, sweeps=400, every=2, step=0.01, focus=0.7
)
"""Defaults for molecules: long trajectories carry torsions, and a ladder up to 660 K crosses their barriers."""

LOW_NOISE = TrainConfig(noise_median=0.08, noise_width=1.7)
"""Defaults of the training itself: lower noise than from trajectories, since weights of samples are decided by the stiffest bonds."""
