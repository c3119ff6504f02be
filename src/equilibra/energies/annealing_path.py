r"""Paths of reduced energies :math:`u_\lambda`, from a Gaussian whose log Z is known at :math:`\lambda = 0` to the target at :math:`\lambda = 1`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from equilibra.energies.energy import CallCounter, Energy, ReducedEnergy
from equilibra.energies.walkers import Walkers, centred, evaluate
from equilibra.errors import InputError

Profile = Callable[[float], Tensor]
"""The reduced energies (n,) of conformations that stay where they are, as a function of lambda."""


class GaussianReference(Energy):
    r"""Isotropic Gaussian about the origin: :math:`u(x) = |x|^2/2s^2`, :math:`\log Z = \tfrac12 D \log 2\pi s^2` with the true dimension D.

    Arguments:
        items: Number of particles.
        axes: Dimension of space.
        std: Standard deviation s of each coordinate (on the mean-free space: of each coordinate in an orthonormal basis).
        centred: Whether it lives on the mean-free space, as for a translation-invariant target; D is then (items - 1) axes.

    Raises:
        InputError: If a number is not positive, or one particle is centred, which leaves nothing.
    """

    def __init__(self, items: int, axes: int = 3, std: float = 1.0, *, centred: bool = True) -> None:
        if items < (2 if centred else 1) or axes < 1 or not (std > 0.0 and math.isfinite(std)):
            raise InputError(
                f"Gaussian reference: got {items} items, {axes} axes, std {std}; expected positive numbers, and at least 2 items if centred"
            )
        self.items, self.axes, self.std, self.invariant, self.name = items, axes, float(std), centred, "Gaussian reference"

    @property
    def log_z(self) -> float:
        """Log of the partition function, with the Lebesgue measure of the (mean-free) space in an orthonormal basis."""
        return 0.5 * self.degrees * math.log(2.0 * math.pi * self.std**2)

    def energy(self, x: Tensor) -> Tensor:  # noqa: D102
        x = centred(x) if self.invariant else x
        return 0.5 * x.square().flatten(1).sum(1) / self.std**2

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        x = x.detach()
        return self.energy(x), -(centred(x) if self.invariant else x) / self.std**2

    def sample(self, n: int, *, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """Draws independent conformations (n, items, axes), on the device of the generator."""
        z = self.std * torch.randn(n, self.items, self.axes, generator=generator, dtype=dtype, device=generator.device)
        return centred(z) if self.invariant else z


class AnnealingPath(ABC):
    r"""Abstract path :math:`u_\lambda(x)`; only `energy` has to be written, the rest is there to save energy calls.

    Attributes:
        reference: The Gaussian at :math:`\lambda = 0`.
        counter: Where calls are counted; that of the target, if it has one.
    """

    reference: GaussianReference
    counter: CallCounter

    @abstractmethod
    def energy(self, level: float, x: Tensor) -> Tensor:
        """Returns the reduced energies (n,) at lambda = `level`; differentiable unless `energy_and_force` is written too. Counts no calls."""

    def energy_and_force(self, level: float, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns reduced energies (n,) and forces (n, items, axes) at lambda = `level`, detached. Counts no calls."""
        with torch.enable_grad():
            moving = x.detach().requires_grad_(True)
            u = self.energy(level, moving)
            (gradient,) = torch.autograd.grad(u.sum(), moving)
        return u.detach(), -gradient

    def at(self, level: float) -> ReducedEnergy:
        """Returns the reduced energy at one lambda, for moves; calls are counted with the path."""
        return ReducedEnergy(_Level(self, level), counter=self.counter)

    def profile(self, walkers: Walkers, level: float) -> Profile:
        """Returns the energies of walkers as a function of lambda; `walkers` were evaluated at lambda = `level`."""

        def energies(other: float) -> Tensor:
            self.counter.count += len(walkers)
            with torch.no_grad():
                return self.energy(other, walkers.x)

        return energies

    def advance(self, walkers: Walkers, level: float, new: float) -> Walkers:
        """Returns the same conformations with energies and forces at lambda = `new`; they were evaluated at lambda = `level`."""
        return evaluate(walkers.x, self.at(new))


class _Level(Energy):
    """A path at one lambda."""

    def __init__(self, path: AnnealingPath, level: float) -> None:
        self.path, self.level = path, level
        self.items, self.axes, self.invariant = path.reference.items, path.reference.axes, path.reference.invariant
        self.name = f"{type(path).__name__} at lambda = {level:g}"

    def energy(self, x: Tensor) -> Tensor:
        return self.path.energy(self.level, x)

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.path.energy_and_force(self.level, x)


class CallablePath(AnnealingPath):
    """A path from any differentiable function.

    Arguments:
        reference: What the function is at lambda = 0.
        function: Maps lambda and positions (n, items, axes) to reduced energies (n,).
        counter: Where calls are counted; a new one by default.
    """

    def __init__(
        self, reference: GaussianReference, function: Callable[[float, Tensor], Tensor], *, counter: CallCounter | None = None
    ) -> None:
        self.reference, self.function, self.counter = reference, function, counter or CallCounter()

    def energy(self, level: float, x: Tensor) -> Tensor:  # noqa: D102
        return self.function(level, x)


class GeometricPath(AnnealingPath):
    r"""Geometric path :math:`u_\lambda = (1 - \lambda) u_{ref} + \lambda u`.

    A walker keeps :math:`u_\lambda` only, and u follows from it: :math:`u = (u_\lambda - (1 - \lambda) u_{ref})/\lambda`. So another lambda costs no
    call, except below :math:`\lambda = 0.01`, where the difference would lose digits.

    Arguments:
        reference: The Gaussian.
        target: The reduced energy at lambda = 1; it counts the calls.

    Raises:
        InputError: If the two do not live on the same space.
    """

    _least_level = 0.01

    def __init__(self, reference: GaussianReference, target: ReducedEnergy) -> None:
        require_same_space(reference, target)
        self.reference, self.target, self.counter = reference, target, target.counter

    def energy(self, level: float, x: Tensor) -> Tensor:  # noqa: D102
        return (1.0 - level) * self.reference.energy(x) + level * self.target.energy.energy(x) / self.target.kt

    def energy_and_force(self, level: float, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        u_ref, f_ref = self.reference.energy_and_force(x)
        energy, force = self.target.energy.energy_and_force(x)
        scale = level / self.target.kt
        return (1.0 - level) * u_ref + scale * energy, (1.0 - level) * f_ref + scale * force

    def profile(self, walkers: Walkers, level: float) -> Profile:  # noqa: D102
        u_ref = self.reference.energy(walkers.x)
        if level >= self._least_level:
            u = (walkers.u - (1.0 - level) * u_ref) / level
        else:
            self.counter.count += len(walkers)
            with torch.no_grad():
                u = self.target.energy.energy(walkers.x) / self.target.kt
        return lambda other: (1.0 - other) * u_ref + other * u if other > 0.0 else u_ref

    def advance(self, walkers: Walkers, level: float, new: float) -> Walkers:  # noqa: D102
        if level < self._least_level:
            return super().advance(walkers, level, new)
        u_ref, f_ref = self.reference.energy_and_force(walkers.x)
        ratio = new / level
        kept = (1.0 - new) - ratio * (1.0 - level)
        lost = torch.isinf(walkers.u)[:, None, None]
        return Walkers(
            walkers.x, ratio * walkers.u + kept * u_ref, torch.where(lost, 0.0, ratio * walkers.force + kept * f_ref)
        )


class SoftCorePath(AnnealingPath):
    r"""Soft-core path of Lennard-Jones particles in a harmonic trap about their centre.

    .. math:: u_\lambda = \Big( P \sum_{i<j} \lambda\, (q_{ij}^2 - 2 q_{ij}) + \tfrac12 \sum_i |x_i - \bar x|^2 \Big) / kT,
        \qquad q = \frac{1}{\tfrac12 (1-\lambda)^2 + r^6}

    At :math:`\lambda = 1` it is :math:`P (r^{-12} - 2 r^{-6})`; before, particles on top of each other have a finite energy. The trap is always on, and
    is the reference: a Gaussian of the variance kT.

    Arguments:
        items: Number of particles.
        prefactor: P; 2 for the sum over ordered pairs, 1 for the sum over pairs.
        axes: Dimension of space.
        kt: Temperature.
        counter: Where calls are counted; give that of the target's reduced energy to count them together.
    """

    def __init__(
        self, items: int, prefactor: float = 2.0, *, axes: int = 3, kt: float = 1.0, counter: CallCounter | None = None
    ) -> None:
        self.reference = GaussianReference(items, axes, math.sqrt(kt), centred=True)
        self.prefactor, self.kt, self.counter = float(prefactor), float(kt), counter or CallCounter()

    def _sixth_powers(self, x: Tensor) -> Tensor:
        """Sixth powers of the distances (n, items, items), infinite on the diagonal."""
        r = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        return r.pow(6).masked_fill(torch.eye(self.reference.items, dtype=torch.bool, device=x.device), torch.inf)

    def _pairs(self, level: float, sixth: Tensor) -> Tensor:
        q = 1.0 / (0.5 * (1.0 - level) ** 2 + sixth)
        return 0.5 * self.prefactor * level * (q.square() - 2.0 * q).flatten(1).sum(1) / self.kt

    def energy(self, level: float, x: Tensor) -> Tensor:  # noqa: D102
        return self.reference.energy(x) + self._pairs(level, self._sixth_powers(x))

    def energy_and_force(self, level: float, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        x = x.detach()
        sixth = self._sixth_powers(x)
        q = 1.0 / (0.5 * (1.0 - level) ** 2 + sixth)
        # du/d(r^2) of a pair, with dq/d(r^2) = -3 r^4 q^2; the diagonal has q = 0
        slope = (
            -6.0 * self.prefactor * level * (q - 1.0) * q.square() * sixth.pow(2.0 / 3.0).masked_fill(q == 0.0, 0.0) / self.kt
        )
        u, force = self.reference.energy_and_force(x)
        pull = slope.sum(2, keepdim=True) * x - slope @ x
        return u + self._pairs(level, sixth), force - 2.0 * pull

    def profile(self, walkers: Walkers, level: float) -> Profile:  # noqa: D102
        self.counter.count += len(walkers)
        sixth, trap = self._sixth_powers(walkers.x), self.reference.energy(walkers.x)
        return lambda other: trap + self._pairs(other, sixth)


def require_same_space(reference: GaussianReference, target: ReducedEnergy) -> None:
    """Refuses a reference that does not live where the target does.

    Raises:
        InputError: If they differ in particles, axes or translation invariance.
    """
    have = (reference.items, reference.axes, reference.invariant)
    want = (target.energy.items, target.energy.axes, target.energy.invariant)
    if have != want:
        raise InputError(
            f"annealing: the reference has (items, axes, mean-free) {have}, the energy '{target.energy.name}' needs {want}; make the reference with those"
        )
