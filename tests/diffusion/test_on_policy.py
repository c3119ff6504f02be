"""On-policy targets against exact scores, fact F19, and the choice of objectives."""

import math

import pytest
import torch
from diffusion_exact import NO_FEATURES, Exact, seeded, tensor
from torch import nn

from equilibra.diffusion.conservative import ConservativeDenoiser
from equilibra.diffusion.denoiser import NetworkDenoiser
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.diffusion.objectives.choose import OBJECTIVES, choose_objective
from equilibra.diffusion.objectives.fokker_planck import FokkerPlanck, FokkerPlanckConfig
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.on_policy import OnPolicy, OnPolicyConfig
from equilibra.diffusion.objectives.pidp import PIDP, PIDPConfig
from equilibra.diffusion.objectives.score_matching import ScoreMatching
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import SO3, CentredEuclidean, Euclidean, Torus
from equilibra.errors import ConfigError, ShapeError, SpaceError
from equilibra.geometry import so3
from equilibra.state import State
from equilibra.testing import GaussianMixture, IGSO3Mixture

VE = VarianceExploding(sigma_min=0.01, sigma_max=10.0)


def bimodal():
    return GaussianMixture(tensor([0.7, 0.3]), tensor([[[-0.8]], [[1.2]]]), tensor([0.3, 0.5]), schedule=VE)


def reduced_of(d):
    """Energy and force of a distribution, up to a constant."""

    def reduced(x):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            u = d.reduced_energy(State({"x": x})) + 3.0
            return u.detach(), -torch.autograd.grad(u.sum(), x)[0]

    return reduced


def objective_of(d, **config):
    return OnPolicy(d.process, NoiseLevels(), reduced_of(d), OnPolicyConfig(**config))


def test_idem_finds_the_score_from_the_energy_alone():
    d = bimodal()
    x, sigma = tensor([[[-0.5]], [[0.4]], [[1.6]]]), tensor([0.3, 0.5, 0.8])
    objective = objective_of(d, target="idem", samples=20_000)
    target, clipped, ess = objective.idem_target(x, sigma, generator=seeded(0))
    exact = d(State({"x": x}), d.process.time(sigma)).displacements["x"]
    torch.testing.assert_close(target, exact, atol=0.02, rtol=0.0)
    assert clipped == 0.0
    assert 0.1 < ess < 1.0


def test_bias_of_idem_shrinks_with_the_samples():
    d, n = bimodal(), 4000
    x, sigma = torch.full((n, 1, 1), 0.3, dtype=torch.float64), torch.full((n,), 0.6, dtype=torch.float64)
    exact = float(d(State({"x": x[:1]}), d.process.time(sigma[:1])).displacements["x"])
    errors = []
    for samples in (4, 16, 64):
        values = objective_of(d, target="idem", samples=samples).idem_target(x, sigma, generator=seeded(1))[0].flatten()
        errors.append(abs(float(values.mean()) - exact))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] / 2


@pytest.mark.parametrize("base", [1.0, 0.4, math.inf])
def test_adjoint_targets_have_the_mean_of_the_score_at_the_fixed_point(base):
    """With samples of the energy itself, averaged over the posterior, the target is the exact displacement."""
    d, n = bimodal(), 200_000
    sigma = 0.6
    clean = d.sample(n, generator=seeded(2)).fields["x"]
    noisy = clean + sigma * torch.randn(clean.shape, generator=seeded(3), dtype=torch.float64)
    level = torch.full((n,), sigma, dtype=torch.float64)
    target, clipped = objective_of(d, base=base).adjoint_target(clean, noisy, level)
    exact = d(State({"x": noisy}), d.process.time(level)).displacements["x"]
    # conditional means agree where they agree against every test function of x
    for test in (torch.ones_like(noisy), noisy, torch.cos(2 * noisy), torch.sign(noisy)):
        product = ((target - exact) * test).flatten()
        assert abs(product.mean()) < 4 * product.std() / math.sqrt(n)
    assert clipped == 0.0


def test_adjoint_is_the_published_regression_of_the_drift():
    """Drift relative to the base: -x/(nu + sigma^2) + nu/(nu + sigma^2) E[-grad u + x_0/nu]."""
    d = bimodal()
    scale = d.process.fields["x"].data_scale
    nu, sigma = (0.7 * scale) ** 2, tensor([0.5])
    clean, noisy = tensor([[[0.9]]]), tensor([[[1.3]]])
    force = reduced_of(d)(clean)[1]
    got, _ = objective_of(d, base=0.7).adjoint_target(clean, noisy, sigma)
    score = -noisy / (nu + 0.25) + nu / (nu + 0.25) * (force + clean / nu)
    torch.testing.assert_close(got, 0.25 * score)


def test_the_optimal_base_has_no_variance_for_gaussian_data():
    d = GaussianMixture(tensor([1.0]), torch.zeros(1, 2, 3), tensor([0.7]), schedule=VE)
    batch = TrainingBatch(d.sample(500, generator=seeded(4)), NO_FEATURES)
    losses = [float(objective_of(d, base=b)(Exact(d), batch, generator=seeded(5))["loss"]) for b in (1.0, 0.3)]
    assert losses[0] < 1e-20
    assert losses[1] > 1e-2


def test_clipping_is_disclosed():
    d = bimodal()
    batch = TrainingBatch(d.sample(400, generator=seeded(6)), NO_FEATURES)
    for target in ("idem", "adjoint"):
        free = objective_of(d, target=target, samples=8)(Exact(d), batch, generator=seeded(7))
        clipped = objective_of(d, target=target, samples=8, clip=0.5)(Exact(d), batch, generator=seeded(7))
        assert free["clipped"] == 0.0
        assert 0.2 < clipped["clipped"] < 1.0
        assert clipped["loss"] != free["loss"]


def test_overlapping_atoms_do_not_spoil_a_target():
    """Infinite energies have no weight; points where all are infinite count as clipped, and have the target zero."""
    process = Process({"x": Field(space=CentredEuclidean(), schedule=VE)})

    def hard(x):
        u = torch.where(x[:, 0, 0] < 0, torch.full_like(x[:, 0, 0], math.inf), 0.5 * x.square().sum((1, 2)))
        return u, torch.where(torch.isinf(u)[:, None, None], torch.full_like(x, math.nan), -x)

    objective = OnPolicy(process, NoiseLevels(), hard, OnPolicyConfig(target="idem", samples=32))
    x = tensor([[[0.0, 0.3], [0.0, -0.3]], [[-9.0, 0.0], [9.0, 0.0]]])
    target, clipped, _ = objective.idem_target(x, tensor([0.5, 0.5]), generator=seeded(8))
    assert torch.isfinite(target).all()
    assert target[0].abs().max() > 0
    assert target[1].abs().max() == 0.0
    assert clipped == 0.5
    torch.testing.assert_close(target.sum(1), torch.zeros(2, 2, dtype=torch.float64), atol=1e-12, rtol=0.0)


def test_energy_calls_are_only_made_where_they_are_needed():
    d, calls = bimodal(), []

    def counted(x):
        calls.append(len(x))
        return reduced_of(d)(x)

    state = d.sample(10, generator=seeded(9))
    forces = {"x": reduced_of(d)(state.fields["x"])[1]}
    adjoint = OnPolicy(d.process, NoiseLevels(), counted)
    with_forces = adjoint(Exact(d), TrainingBatch(state, NO_FEATURES, forces), generator=seeded(0))
    assert calls == []
    without = adjoint(Exact(d), TrainingBatch(state, NO_FEATURES), generator=seeded(0))
    assert calls == [10]
    torch.testing.assert_close(with_forces["loss"], without["loss"])
    idem = OnPolicy(d.process, NoiseLevels(), counted, OnPolicyConfig(target="idem", samples=8))
    idem(Exact(d), TrainingBatch(state, NO_FEATURES), generator=seeded(0))
    assert calls == [10, 80]


def test_three_targets_on_rotations():
    """Fact F19: denoising, the data's score, and the data's score turned along all average to the exact score."""
    tau_0, tau, n = 0.3, 0.2, 100_000
    schedule = VarianceExploding(sigma_min=0.05, sigma_max=3.0)
    std, sigma = math.sqrt(2 * tau_0), torch.full((n,), math.sqrt(2 * tau), dtype=torch.float64)
    means = so3.uniform((2,), generator=seeded(10), dtype=torch.float64)
    d = IGSO3Mixture(tensor([0.6, 0.4]), means, tensor([std, std]), schedule=schedule)
    space = SO3()
    point = so3.exp(tensor([[0.4, -0.2, 0.3]])) @ means[:1]
    # the posterior of the clean rotation: the kernel about the noisy one, weighted by the clean density
    clean = space.perturb(point.expand(n, 3, 3), sigma, None, generator=seeded(11))
    weight = torch.exp(d.log_density(State({"x": clean})))
    weight = weight / weight.mean()
    turn = point @ clean.transpose(-1, -2)
    small = torch.full((n,), 1e-4, dtype=torch.float64)
    own = d(State({"x": clean}), d.process.time(small)).displacements["x"] / 1e-8
    denoising = space.kernel_displacement(clean, point.expand(n, 3, 3), sigma) / sigma[:, None] ** 2
    exact = d(State({"x": point}), d.process.time(sigma[:1])).displacements["x"] / sigma[:1, None] ** 2
    for target in (own, (turn @ own[..., None])[..., 0], denoising):
        terms = weight[:, None] * (target - exact)
        z = terms.mean(0) / (terms.std(0) / math.sqrt(n))
        assert z.abs().max() < 4.0
        assert float((terms.std(0) / math.sqrt(n)).max()) < 0.02


def score_denoiser(space=None):
    process = Process({"x": Field(space=space or Euclidean(), schedule=VE)})
    return NetworkDenoiser(nn.Identity(), process)


def test_objectives_by_name():
    denoiser, levels = score_denoiser(), NoiseLevels()
    conservative = ConservativeDenoiser(nn.Identity(), denoiser.process)
    reduced = reduced_of(bimodal())
    kinds = {"dsm": ScoreMatching, "tsm": ScoreMatching, "pidp": PIDP, "idem": OnPolicy, "adjoint": OnPolicy}
    for name, kind in kinds.items():
        made = choose_objective(name, denoiser, levels, reduced=reduced)
        assert isinstance(made, kind)
        assert (made.mixture is not None) == (name == "tsm")
    assert isinstance(choose_objective("scalar-fp", conservative, levels), FokkerPlanck)
    assert choose_objective("pidp", denoiser, levels, config=PIDPConfig.faithful()).config.direction_only
    assert choose_objective("idem", denoiser, levels, reduced=reduced).config.target == "idem"
    assert set(OBJECTIVES) == {*kinds, "scalar-fp"}


@pytest.mark.parametrize(
    ("name", "ingredients", "message"),
    [
        ("pdip", {}, "did you mean 'pidp'"),
        ("scalar-fp", {}, "energy head"),
        ("idem", {}, "needs an energy"),
        ("pidp", {"config": FokkerPlanckConfig()}, "expected PIDPConfig"),
        ("dsm", {"config": PIDPConfig()}, "no settings"),
        ("idem", {"config": OnPolicyConfig(target="adjoint")}, "settings for 'adjoint'"),
    ],
)
def test_wrong_pairs_are_refused(name, ingredients, message):
    with pytest.raises(ConfigError, match=message):
        choose_objective(name, score_denoiser(), NoiseLevels(), **ingredients)


def test_wrong_spaces_and_batches_are_refused():
    reduced = reduced_of(bimodal())
    with pytest.raises(SpaceError, match="one field on a flat Space"):
        choose_objective("adjoint", score_denoiser(SO3()), NoiseLevels(), reduced=reduced)
    with pytest.raises(ConfigError, match="origin is arbitrary"):
        choose_objective("tsm", score_denoiser(Torus(centred=True)), NoiseLevels())
    with pytest.raises(ConfigError, match="positive"):
        OnPolicyConfig(clip=-1.0)
    with pytest.raises(ConfigError, match="idem or adjoint"):
        OnPolicyConfig(target="both")
    d = bimodal()
    state = d.sample(2, generator=seeded(0))
    padded = State(state.fields, {"x": torch.tensor([[True], [False]])})
    with pytest.raises(ShapeError, match="padded"):
        objective_of(d)(Exact(d), TrainingBatch(padded, NO_FEATURES), generator=seeded(0))
