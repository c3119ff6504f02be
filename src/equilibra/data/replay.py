r"""The replay buffer: conformations at a ladder of temperatures, each with its energy and force, so that every energy call is made once.

All rungs are samples of one energy: rung k is at the inverse temperature :math:`\beta_k` relative to the first, whose reduced energy is u. What a batch
brings is reduced at its own temperature, :math:`\beta_k u` and :math:`-\beta_k \nabla u`, and tells the network :math:`\ln(T_k/T_0) = -\ln \beta_k`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.errors import ConfigError, ShapeError
from equilibra.state.features import Features
from equilibra.state.packing import Packing, SingleField


def conditions(beta: Tensor) -> Tensor:
    r"""Returns what a network is told of inverse temperatures (n,): :math:`\ln(T/T_0) = -\ln \beta`, with shape (n, 1)."""
    return -torch.log(beta)[:, None]


class ReplayBuffer:
    r"""Training batches from an engine's frames.

    Arguments:
        features: Features of the system.
        betas: Inverse temperature of each rung relative to the first, which is 1.
        field: Name of the position field.
        packing: What the arrays are as States; by default positions, the field of that name.
        focus: Share of a batch that comes from the first rung; the other rungs share the rest.
        newest: Share of each rung's frames, those added last, that batches are drawn from. Below 1 it forgets what was collected before the walkers
            had the right populations, which a model trained on all frames would keep.

    Raises:
        ConfigError: If the ladder does not start at 1, or the focus or the newest frames are no share.
    """

    has_forces = True

    def __init__(
        self,
        features: Features,
        betas: Sequence[float],
        *,
        field: str = "pos",
        packing: Packing | None = None,
        focus: float = 0.5,
        newest: float = 1.0,
    ) -> None:
        if not betas or betas[0] != 1.0:
            raise ConfigError(f"betas: got {tuple(betas)}, expected a ladder that starts at 1")
        if not 0.0 < focus <= 1.0:
            raise ConfigError(f"focus: got {focus}, expected a share above 0 and up to 1")
        if not 0.0 < newest <= 1.0:
            raise ConfigError(f"newest: got {newest}, expected a share above 0 and up to 1")
        self.newest = newest
        self.features = features.shared()
        self.betas = torch.tensor(tuple(betas), dtype=torch.float64)
        self.field = field
        self.packing = SingleField(field) if packing is None else packing
        rest = (1.0 - focus) / max(len(betas) - 1, 1)
        self._shares = torch.tensor([1.0 if len(betas) == 1 else focus] + [rest] * (len(betas) - 1), dtype=torch.float64)
        self._x: Tensor | None = None
        self._u: Tensor | None = None
        self._force: Tensor | None = None

    @property
    def rungs(self) -> int:
        """Number K of rungs."""
        return len(self.betas)

    @property
    def frames(self) -> int:
        """Frames of each rung."""
        return 0 if self._u is None else self._u.shape[1]

    def rung(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns positions (F, items, axes), reduced energies (F,) and forces of one rung, reduced at the temperature of the first."""
        if self._x is None or self._u is None or self._force is None:
            raise ConfigError("replay buffer: it is empty; add frames first")
        return self._x[index], self._u[index], self._force[index]

    def clear(self) -> None:
        """Forgets all frames."""
        self._x = self._u = self._force = None

    def add(self, x: Tensor, u: Tensor, force: Tensor) -> None:
        """Adds frames to every rung.

        Arguments:
            x: Positions (K, F, items, axes).
            u: Energies (K, F), reduced at the temperature of the first rung.
            force: Forces -du/dx in the shape of the positions, reduced likewise.

        Raises:
            ShapeError: If the arrays do not fit the ladder or each other.
        """
        if x.ndim != 4 or x.shape[0] != self.rungs or u.shape != x.shape[:2] or force.shape != x.shape:
            raise ShapeError(
                "frames of the replay buffer",
                (tuple(x.shape), tuple(u.shape), tuple(force.shape)),
                f"({self.rungs}, frames, items, axes) with energies ({self.rungs}, frames) and forces like positions",
            )
        x, force = x.float(), force.float()
        if self._x is None or self._u is None or self._force is None:
            self._x, self._u, self._force = x, u.double(), force
        else:
            self._x, self._u, self._force = (
                torch.cat([old, new], dim=1) for old, new in ((self._x, x), (self._u, u.double()), (self._force, force))
            )

    def scale(self) -> float:
        """Returns the standard deviation per axis of the first rung's positions on the mean-free space."""
        x, _, _ = self.rung(0)
        return math.sqrt(float((x.double() ** 2).sum()) / (len(x) * (x.shape[1] - 1) * x.shape[2]))

    def batch(self, size: int, *, generator: Generator) -> TrainingBatch:
        """Draws a batch with replacement: rungs by their shares, frames evenly among the newest.

        Raises:
            ConfigError: If there are no frames.
        """
        if self._x is None or self._u is None or self._force is None:
            raise ConfigError("replay buffer: it is empty; add frames first")
        rungs = torch.multinomial(self._shares, size, replacement=True, generator=generator)
        oldest = min(int((1.0 - self.newest) * self.frames), self.frames - 1)
        rows = torch.randint(oldest, self.frames, (size,), generator=generator)
        beta = self.betas[rungs]
        features = self.features.conditioned(conditions(beta).float()) if self.rungs > 1 else self.features
        return TrainingBatch(
            self.packing.state(self._x[rungs, rows]),
            features,
            forces=self.packing.forces(beta.float()[:, None, None] * self._force[rungs, rows]),
            classes=features.node["element"],
            energies=(beta * self._u[rungs, rows]).float(),
            ensembles=rungs,
        )
