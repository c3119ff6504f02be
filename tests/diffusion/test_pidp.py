import dataclasses
import math

import pytest
import torch
from diffusion_exact import NO_FEATURES, Exact, seeded, tensor
from torch import nn

from equilibra.diffusion.denoiser import Prediction
from equilibra.diffusion.fokker_planck import score_rates, transported_scores
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.diffusion.objectives.growth_factor import GrowthFactor
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.pidp import PIDP, PIDPConfig
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear
from equilibra.diffusion.space import CentredEuclidean, Euclidean, expand
from equilibra.errors import ConfigError
from equilibra.geometry import so3
from equilibra.state import State
from equilibra.testing import (
    GaussianComponents,
    GaussianMixture,
    IGSO3Components,
    JointDistribution,
    WrappedNormalMixture,
)

VE = VarianceExploding(sigma_min=0.01, sigma_max=10.0)
WEIGHTS = tensor([0.7, 0.3])
PDE = {"force": 0.0, "data": 0.0, "fraction": 1.0, "step": 1e-4}


def mixture(schedule=VE):
    means = tensor([[[1.5, 0.2]], [[-1.0, -0.4]]])
    return GaussianMixture(WEIGHTS, means, tensor([0.6, 0.4]), schedule=schedule)


def frames(sigma_min=0.05):
    turns = so3.uniform((2,), generator=seeded(5), dtype=torch.float64)
    laws = {
        "place": GaussianComponents(tensor([[0.5, 0.0, 0.1], [-0.5, 0.3, 0.2]]), tensor([0.6, 0.4])),
        "turn": IGSO3Components(turns, tensor([0.5, 0.7])),
    }
    place = VE if sigma_min == 0.05 else VarianceExploding(sigma_min=sigma_min, sigma_max=VE.sigma_max)
    return JointDistribution(WEIGHTS, laws, {"place": place, "turn": VarianceExploding(sigma_min=sigma_min, sigma_max=3.0)})


def batch_of(d, n, seed=0, factor=1.0):
    """Exact samples, with the scores of the smallest noise as forces."""
    state = d.sample(n, generator=seeded(seed))
    t = torch.full((n,), d.process.t_min, dtype=torch.float64)
    made = d(state, t)
    forces = {name: factor * made.score(name, d.process.sigma(name, t)) for name in d.process.moving}
    return TrainingBatch(state, NO_FEATURES, forces, energies=d.reduced_energy(state))


@pytest.mark.parametrize("schedule", [VE, VarianceLinear(scale=1.0, t_min=1e-2)])
@pytest.mark.parametrize("weighting", ["level", "time"])
def test_the_loss_of_the_truth_is_zero_up_to_the_probes(schedule, weighting):
    """One dimension: random signs give the divergence exactly."""
    d = GaussianMixture(WEIGHTS, tensor([[[1.5]], [[-1.0]]]), tensor([0.6, 0.4]), schedule=schedule)
    objective = PIDP(d.process, NoiseLevels(), PIDPConfig(weighting=weighting, data=0.0, fraction=1.0, step=1e-4))
    out = objective(Exact(d), batch_of(d, 64), generator=seeded(0))
    assert out["loss_residual"] < 1e-9
    assert out["loss_force"] < 1e-20

    def wrong(state, t, features):
        return Prediction({"x": 1.1 * d(state, t).displacements["x"]})

    assert objective(wrong, batch_of(d, 64), generator=seeded(0))["loss_residual"] > 1e-4


def test_the_published_preserving_residual_is_ours_over_alpha():
    """The paper's drift terms are the change of variable: compared at a point with the paper's own formula."""
    schedule = VarianceLinear(scale=1.0, t_min=1e-2)
    d = GaussianMixture(WEIGHTS, tensor([[[1.5]], [[-1.0]]]), tensor([0.6, 0.4]), schedule=schedule)

    def wrong(state, t, features):
        return Prediction({"x": 1.2 * d(state, t).displacements["x"]})

    t, raw = tensor([0.4]), tensor([[0.3]]).requires_grad_(True)

    def score(r, time):
        a, sigma = schedule.alpha(time), schedule.sigma(time)
        return wrong(State({"x": r[:, None] / a[:, None, None]}), time, None).displacements["x"][:, 0] / (sigma**2 * a)[:, None]

    s = score(raw, t)
    (divergence,) = torch.autograd.grad(s.sum(), raw, create_graph=True)
    inside = (raw * s).sum() + (s * s).sum() + divergence.sum()
    (gradient,) = torch.autograd.grad(inside, raw)
    rate = (score(raw, t + 1e-5) - score(raw, t - 1e-5)) / 2e-5
    beta = schedule.beta_0 + t * (schedule.beta_1 - schedule.beta_0)
    published = float((beta / 2 * gradient - rate).detach())

    state = State({"x": (raw / schedule.alpha(t)).detach()[:, None]})
    probes = [{"x": torch.ones(1, 1, 1, dtype=torch.float64)}]
    ours = transported_scores(wrong, d.process, state, t, NO_FEATURES, probes)["x"]
    ours = ours - score_rates(wrong, d.process, state, t, NO_FEATURES, step=1e-4)["x"]
    assert published == pytest.approx(ours.item() / schedule.alpha(t).item(), rel=1e-5)
    assert abs(published) > 0.01


def test_torus_and_frames_obey_it_and_separate_blocks_do_not():
    torus = WrappedNormalMixture(
        WEIGHTS, tensor([[0.1], [-0.3]]), tensor([0.1, 0.15]), schedule=VarianceExploding(sigma_min=0.02, sigma_max=1.0)
    )
    out = PIDP(torus.process, NoiseLevels(median=0.5, width=0.5), PIDPConfig(**PDE))(
        Exact(torus), batch_of(torus, 32), generator=seeded(1)
    )
    assert out["loss_residual"] < 1e-8
    d = frames()
    values = {}
    for blocks in ("joint", "separate"):
        for rate in ("exact", "published"):
            config = PIDPConfig(blocks=blocks, rotation_rate=rate, probes=8, **PDE)
            objective = PIDP(d.process, NoiseLevels(median=0.7, width=0.3), config)
            values[blocks, rate] = objective(Exact(d), batch_of(d, 256), generator=seeded(2))["loss_residual"].item()
    # what is left of the truth is the variance of the probes
    assert values["joint", "exact"] < 0.5 * values["separate", "exact"]
    assert values["joint", "exact"] < 0.5 * values["joint", "published"]


class Harmonic(nn.Module):
    """The denoiser of Gaussian data with a stiffness to be learned."""

    def __init__(self, process, stiffness):
        super().__init__()
        self.process = process
        self.log_stiffness = nn.Parameter(torch.log(tensor(stiffness)))

    def forward(self, state, t, features):
        variance = torch.exp(-self.log_stiffness) + self.process.sigma("x", t) ** 2
        x = state.fields["x"]
        return Prediction({"x": -expand(self.process.sigma("x", t) ** 2 / variance, x) * x})


def harmonic_batch(process, factor, n=64):
    """Points of any origin with the forces of a stiffness; the energy knows the temperature, the points don't."""
    x = process.fields["x"].space.tangent_noise(torch.zeros(n, 5, 3, dtype=torch.float64), None, generator=seeded(3))
    return TrainingBatch(State({"x": x}), NO_FEATURES, {"x": -factor * x})


def centred_process():
    schedule = VarianceExploding(sigma_min=1e-3, sigma_max=10.0)
    return Process({"x": Field(space=CentredEuclidean(), schedule=schedule, data_scale=1.0)})


def test_directions_do_not_know_the_temperature():
    """Fact F32: losses of E and 2E are identical with directions alone, and different otherwise."""
    process = centred_process()
    denoiser = Harmonic(process, 1.7)
    losses = {}
    for config in (PIDPConfig.faithful(), PIDPConfig(data=0.0)):
        for factor in (1.0, 2.0):
            objective = PIDP(process, NoiseLevels(), config)
            losses[config.direction_only, factor] = objective(denoiser, harmonic_batch(process, factor), generator=seeded(4))[
                "loss"
            ].item()
    assert losses[True, 1.0] == pytest.approx(losses[True, 2.0], rel=1e-12)
    assert abs(losses[False, 1.0] / losses[False, 2.0] - 1) > 0.05


def test_twice_the_energy_halves_the_variance():
    """Fact F32: trained on 2E the ensemble is that of half the temperature: half the variance, a quarter of D_eff as mean energy."""
    process = centred_process()
    for factor in (1.0, 2.0):
        denoiser = Harmonic(process, 1.4)
        objective = PIDP(process, NoiseLevels(), PIDPConfig(data=0.0, fraction=1.0, force=1e6, residual=0.0)).double()
        optimiser = torch.optim.Adam(denoiser.parameters(), lr=0.05)
        for step in range(120):
            optimiser.zero_grad()
            objective(denoiser, harmonic_batch(process, factor, 16), generator=seeded(step))["loss"].backward()
            optimiser.step()
        variance = math.exp(-denoiser.log_stiffness.item())
        assert variance == pytest.approx(1 / factor, rel=2e-3)
        degrees = 12
        mean_energy = 0.5 * degrees * variance  # of E = |x|^2 / 2 in kT
        assert mean_energy == pytest.approx(degrees / (2 * factor), rel=2e-3)


def test_options_of_the_paper():
    config = PIDPConfig.faithful()
    assert (config.blocks, config.rotation_rate, config.direction_only, config.growth) == ("separate", "published", True, True)
    corrected = PIDPConfig.faithful(corrected=True)
    assert (corrected.blocks, corrected.rotation_rate, corrected.weighting) == ("joint", "exact", "time")


def test_structures_with_large_forces_are_left_out():
    d = mixture()
    objective = PIDP(d.process, NoiseLevels(), PIDPConfig(force_decades=3.0, fraction=1.0, data=0.0, residual=0.0))
    batch = batch_of(d, 8)
    forces = batch.forces["x"].clone()
    forces[0] *= 1e7
    out = objective(Exact(d), TrainingBatch(batch.state, NO_FEATURES, {"x": forces}), generator=seeded(0))
    assert out["kept"] == pytest.approx(7 / 8)
    assert out["loss_force"] < 1e-15
    everything = PIDP(d.process, NoiseLevels(), PIDPConfig(fraction=1.0, data=0.0, residual=0.0))
    assert everything(Exact(d), TrainingBatch(batch.state, NO_FEATURES, {"x": forces}), generator=seeded(0))["loss_force"] > 1.0


@pytest.mark.parametrize("faithful", [False, True])
def test_samples_without_forces_are_data_alone(faithful):
    d = mixture()
    batch = batch_of(d, 12)
    known = torch.arange(12) % 4 == 1
    config = PIDPConfig.faithful(corrected=True) if faithful else PIDPConfig(fraction=1.0)
    config = dataclasses.replace(config, data=0.0)

    def wrong(state, t, features):
        return Prediction({"x": 1.1 * d(state, t).displacements["x"]})

    x = batch.state.fields["x"].clone().requires_grad_(True)
    forces = torch.where(known[:, None, None], batch.forces["x"], torch.zeros_like(x)).requires_grad_(True)
    some = dataclasses.replace(batch, state=State({"x": x}), forces={"x": forces}, known=known)
    out = PIDP(d.process, NoiseLevels(), config)(wrong, some, generator=seeded(0))
    for gradient in torch.autograd.grad(out["loss"], (x, forces)):
        moved = gradient.flatten(1).abs().amax(1)
        assert torch.equal(moved > 0, known)
    assert out["kept"] == pytest.approx(3 / 12)
    # the rows with forces are those that a fraction of the batch sees
    few = PIDP(d.process, NoiseLevels(), dataclasses.replace(config, fraction=0.25))(Exact(d), some, generator=seeded(0))
    assert few["kept"] == 1.0
    none = dataclasses.replace(some, known=torch.zeros_like(known))
    objective = PIDP(d.process, NoiseLevels(), dataclasses.replace(config, data=1.0))
    out = objective(Exact(d), none, generator=seeded(0))
    assert out["loss"] == out["loss_data"]
    assert out["loss_residual"] == out["loss_force"] == out["kept"] == 0.0
    assert objective.least_force == torch.finfo(torch.float32).max
    assert objective.growth is None or torch.equal(objective.growth.moments, torch.zeros(5, dtype=torch.float64))


@pytest.mark.parametrize("smoothed", [False, True])
def test_where_the_noise_is_wide_only_noised_structures_know_the_force(smoothed):
    """The best factor of the exact score of a smoothed density, on R^3 x SO(3), against forces of the density without noise."""
    d, clean = frames(0.3), frames(1e-4)
    objective = PIDP(d.process, NoiseLevels(), PIDPConfig(data=0.0, residual=0.0, fraction=1.0, smoothed=smoothed))
    factors = []
    for seed in range(16):
        batch = batch_of(clean, 200, seed)
        losses = []
        for factor in (-1.0, 0.0, 1.0):

            def denoiser(state, t, features, factor=factor):
                return Prediction({name: factor * v for name, v in d(state, t).displacements.items()})

            losses.append(objective(denoiser, batch, generator=seeded(seed))["loss_force"])
        below, zero, above = losses
        factors.append(float((below - above) / 4.0 / ((below + above) / 2.0 - zero)))
    best = torch.tensor(factors)
    z = float((best.mean() - 1.0) / (best.std() / len(best) ** 0.5))
    assert abs(z) < 4 if smoothed else z > 8


def test_the_growth_is_fitted_and_divided_out():
    growth = GrowthFactor(memory=0.9)
    t = torch.linspace(0.01, 0.3, 400, dtype=torch.float64)
    assert torch.equal(growth(t), torch.ones_like(t))
    terms = 3.0 * torch.exp(50.0 * (1 - t.clamp(max=0.05))) / 1e20
    for _ in range(3):
        growth.update(t, terms)
    flat = terms / growth(t)
    assert flat.std() < 1e-6 * flat.mean()
    torch.testing.assert_close(torch.log(flat).mean(), torch.log(terms).mean())


def test_the_data_loss_is_mixed_in_and_weights_act():
    d = mixture()
    one = PIDP(d.process, NoiseLevels(), PIDPConfig())(Exact(d), batch_of(d, 16), generator=seeded(0))
    two = PIDP(d.process, NoiseLevels(), PIDPConfig(data=2.0))(Exact(d), batch_of(d, 16), generator=seeded(0))
    torch.testing.assert_close(two["loss"] - one["loss"], one["loss_data"])
    assert one["loss_data"] > 0


def test_errors():
    d = mixture()
    with pytest.raises(ConfigError, match="no forces of x"):
        PIDP(d.process, NoiseLevels())(
            Exact(d), TrainingBatch(d.sample(8, generator=seeded(0)), NO_FEATURES), generator=seeded(0)
        )
    with pytest.raises(ConfigError, match="expected one of joint, separate"):
        PIDPConfig(blocks="both")
    with pytest.raises(ConfigError, match="at least one that is not"):
        PIDPConfig(residual=0.0, force=0.0, data=0.0)
    with pytest.raises(ConfigError, match="weight of zero or more"):
        PIDPConfig(force=-1.0)


def test_gradients_reach_the_parameters():
    process = Process({"x": Field(space=Euclidean(), schedule=VE, data_scale=1.0)})
    denoiser = Harmonic(process, 1.4)
    out = PIDP(process, NoiseLevels(), PIDPConfig(data=0.0, force=0.0))(
        denoiser, harmonic_batch(process, 1.0), generator=seeded(5)
    )
    assert torch.isfinite(torch.autograd.grad(out["loss"], denoiser.log_stiffness, allow_unused=True)[0])
