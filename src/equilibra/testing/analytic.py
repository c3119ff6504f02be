r"""Analytic distributions on every Space, with exact samples, densities, scores and free energies at every noise.

A discrete label k with the weight :math:`w_k` couples the fields: given the label they are independent, so that

.. math::
    p_t(x) = \sum_k w_k \prod_f p_{k,f}(x_f; \sigma_f(t)), \qquad
    s_f(x, t) = \sum_k r_k(x, t) \, \nabla_{x_f} \ln p_{k,f}, \qquad r_k \propto w_k \prod_f p_{k,f}

does **not** factorise over the fields; the responsibilities :math:`r_k` see all of them. Each distribution is a `Denoiser`: production
samplers run on it unchanged, and what they return has a known answer.
"""

import math
from collections.abc import Mapping

import torch
from torch import Generator

from equilibra.diffusion.denoiser import Denoiser, Prediction
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import Schedule
from equilibra.diffusion.space import Euclidean, Fixed, SymmetricMatrices, Torus
from equilibra.errors import ShapeError
from equilibra.state.state import State
from equilibra.testing.components import Components, GaussianComponents
from equilibra.testing.curved_components import (
    IGSO3Components,
    RelativeTorusComponents,
    SlabComponents,
    WrappedNormalComponents,
)
from equilibra.types import Float, Tensor


class AnalyticDistribution(Denoiser):
    r"""Abstract mixture over labels of products over fields.

    Attributes:
        weights: Probability of each label (K,), in float64.
        components: The laws of each field.
        process: Forward process; the data scale of each field is its exact root mean square per axis.
        log_z: :math:`\ln Z` of the reduced energy :math:`u(x) = -\ln p_0(x) - \ln Z`.
    """

    weights: Float[Tensor, " components"]
    components: Mapping[str, Components]
    log_z: float

    def __init__(
        self,
        weights: Tensor,
        components: Mapping[str, Components],
        schedule: Schedule | Mapping[str, Schedule],
        log_z: float = 0.0,
    ) -> None:
        self.weights = weights.double() / weights.double().sum()
        self.components = dict(components)
        self.log_z = log_z
        fields = {}
        for name, laws in self.components.items():
            if laws.count not in (1, len(weights)):
                raise ShapeError(f"components of '{name}'", laws.count, f"1 or {len(weights)}, as many as weights")
            scale = math.sqrt(float((self.weights * laws.mean_squares()).sum()))
            own = schedule if isinstance(schedule, Schedule) else schedule[name]
            fields[name] = Field(space=laws.space, schedule=own, data_scale=scale)
        self.process = Process(fields)

    def sample(self, n: int, *, generator: Generator) -> State:
        """Draws n exact clean samples, in float64."""
        labels = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return State(
            {
                name: laws.sample(labels if laws.count > 1 else torch.zeros_like(labels), generator=generator)
                for name, laws in self.components.items()
            }
        )

    def sample_noised(self, n: int, t: float, *, generator: Generator) -> State:
        """Draws n exact samples of the distribution at time t, in the rescaled variable: the right start of a sampler."""
        times = torch.full((n,), t, dtype=torch.float64)
        return self.process.noise(self.sample(n, generator=generator), times, generator=generator)

    def _sigma(self, name: str, state: State, t: Tensor | None) -> Tensor:
        if t is None:
            return torch.zeros(state.batch_size, dtype=state.dtype, device=state.device)
        return self.process.sigma(name, t)

    def _joint(self, state: State, t: Tensor | None) -> Float[Tensor, "batch components"]:
        """Returns ln(w_k prod_f p_kf)."""
        if state.masks:
            raise ShapeError("AnalyticDistribution", f"padded fields {sorted(state.masks)}", "fields without padding")
        total = torch.log(self.weights).to(state.device, state.dtype).expand(state.batch_size, -1)
        for name, laws in self.components.items():
            total = total + laws.log_density(state.fields[name], self._sigma(name, state, t))
        return total

    def log_density(self, state: State, t: Float[Tensor, " batch"] | None = None) -> Float[Tensor, " batch"]:
        """Returns ln p_t in the rescaled variable at the times t; ln p_0 where t is not given."""
        return torch.logsumexp(self._joint(state, t), dim=1)

    def responsibilities(self, state: State, t: Float[Tensor, " batch"] | None = None) -> Float[Tensor, "batch components"]:
        """Returns the probability of each label given the State: which mode a sample belongs to, softly."""
        return torch.softmax(self._joint(state, t), dim=1)

    def reduced_energy(self, state: State) -> Float[Tensor, " batch"]:
        r"""Returns :math:`u(x) = -\ln p_0(x) - \ln Z`, whose Boltzmann distribution at kT = 1 is this one."""
        return -self.log_density(state) - self.log_z

    @property
    def free_energies(self) -> Float[Tensor, " components"]:
        r"""Free energy of each label in kT, :math:`-\ln(w_k Z)`; their differences are those of the modes."""
        return -torch.log(self.weights) - self.log_z

    def __call__(self, state: State, t: Tensor) -> Prediction:  # noqa: D102
        joint = self._joint(state, t)
        share = torch.softmax(joint, dim=1)
        displacements = {}
        for name, laws in self.components.items():
            if isinstance(laws.space, Fixed):
                continue
            parts = laws.displacements(state.fields[name], self._sigma(name, state, t))
            if laws.count == 1:
                displacements[name] = parts[:, 0]
            else:
                displacements[name] = torch.einsum("bk,bk...->b...", share, parts)
        return Prediction(displacements, torch.logsumexp(joint, dim=1))


class JointDistribution(AnalyticDistribution):
    """Several fields on any Spaces, coupled by the label.

    Arguments:
        weights: Probability of each label (K,).
        components: The laws of each field; the first moving field is the process's reference.
        schedule: One schedule for all fields, or one for each.
        log_z: See `AnalyticDistribution`.
    """


class GaussianMixture(AnalyticDistribution):
    """Gaussians on a Euclidean or centred Euclidean field.

    Arguments:
        weights: Weights (K,).
        means: Centres (K, d) or (K, items, d).
        stds: Widths (K,) or (K, D_eff); see `GaussianComponents`.
        schedule: Any schedule.
        covariances: Instead of widths, matrices (K, D_eff, D_eff).
        space: `Euclidean()` if not given.
        name: Name of the field.
    """

    def __init__(
        self,
        weights: Tensor,
        means: Tensor,
        stds: Tensor | None = None,
        *,
        schedule: Schedule,
        covariances: Tensor | None = None,
        space: Euclidean | None = None,
        name: str = "x",
    ) -> None:
        laws = GaussianComponents(means, stds, covariances=covariances, space=space)
        super().__init__(weights, {name: laws}, schedule)


class LatticeGaussian(AnalyticDistribution):
    """One Gaussian on symmetric 3 x 3 matrices.

    Arguments:
        mean: Centre (3, 3).
        std: Width, or None where a covariance is given.
        schedule: Any schedule.
        covariance: Matrix (6, 6) in the coordinates of `geometry.lattice.to_vector`.
        name: Name of the field.
    """

    def __init__(
        self,
        mean: Tensor,
        std: float | None = None,
        *,
        schedule: Schedule,
        covariance: Tensor | None = None,
        name: str = "x",
    ) -> None:
        laws = GaussianComponents(
            mean[None],
            None if std is None else torch.tensor([std], dtype=torch.float64),
            covariances=None if covariance is None else covariance[None],
            space=SymmetricMatrices(),
        )
        super().__init__(torch.ones(1), {name: laws}, schedule)


class WrappedNormalMixture(AnalyticDistribution):
    """Wrapped normal laws on a torus of any period.

    Arguments:
        weights: Weights (K,).
        means: Centres (K, d) or (K, items, d).
        stds: Widths (K,) or in the shape of the centres.
        schedule: A variance-exploding schedule.
        space: `Torus()` if not given.
        name: Name of the field.
    """

    def __init__(
        self,
        weights: Tensor,
        means: Tensor,
        stds: Tensor,
        *,
        schedule: Schedule,
        space: Torus | None = None,
        name: str = "x",
    ) -> None:
        super().__init__(weights, {name: WrappedNormalComponents(means, stds, space=space)}, schedule)


class RelativeTorusMixture(AnalyticDistribution):
    """Two points on a torus whose origin is arbitrary; see `RelativeTorusComponents`.

    Arguments:
        weights: Weights (K,).
        separations: Centres (K, d) of the second point minus the first.
        stds: Widths (K,) or (K, d).
        schedule: A variance-exploding schedule.
        space: `Torus(centred=True)` if not given.
        name: Name of the field.
    """

    def __init__(
        self,
        weights: Tensor,
        separations: Tensor,
        stds: Tensor,
        *,
        schedule: Schedule,
        space: Torus | None = None,
        name: str = "x",
    ) -> None:
        super().__init__(weights, {name: RelativeTorusComponents(separations, stds, space=space)}, schedule)


class IGSO3Mixture(AnalyticDistribution):
    """Isotropic Gaussians on SO(3), of finite width.

    Arguments:
        weights: Weights (K,).
        means: Centres (K, 3, 3) or (K, items, 3, 3).
        stds: Small-noise standard deviations per axis (K,) or (K, items), in radians.
        schedule: A variance-exploding schedule.
        name: Name of the field.
    """

    def __init__(self, weights: Tensor, means: Tensor, stds: Tensor, *, schedule: Schedule, name: str = "x") -> None:
        super().__init__(weights, {name: IGSO3Components(means, stds)}, schedule)


class SlabMixture(AnalyticDistribution):
    """Wrapped normal in the plane of a slab, Gaussian along its normal.

    Arguments:
        weights: Weights (K,).
        means: Centres (K, items, 3).
        stds: Widths (K,) or (K, items, 3).
        schedule: A variance-exploding schedule.
        name: Name of the field.
    """

    def __init__(self, weights: Tensor, means: Tensor, stds: Tensor, *, schedule: Schedule, name: str = "x") -> None:
        super().__init__(weights, {name: SlabComponents(means, stds)}, schedule)
