"""Guidance against closed forms: the table of theory, and tilted mixtures on every Space."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from equilibra.diffusion.schedule import VarianceLinear
from equilibra.errors import EquilibraError, InputError
from equilibra.guidance.classifier_free import ClassifierFree
from equilibra.guidance.guide import Guide, Property
from equilibra.guidance.guided_denoiser import GuidedDenoiser
from equilibra.guidance.targets import Extreme, Range, Value, read_target
from equilibra.guidance.twisted import draw_guided
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.ode import Euler
from equilibra.sampling.sampler import draw
from equilibra.sampling.sde import ReverseDiffusion
from equilibra.state.state import State

sys.path.insert(0, str(Path(__file__).parents[1] / "sampling"))
from targets import CURVED_SCHEDULES, SCHEDULES, euclidean_1d, make, seeded

DIRECT = Property("x", lambda state: state.fields["x"][:, 0])
GAUSSIAN = euclidean_1d([0.0], [1.0], [1.0], VarianceLinear(scale=1.0))
WISH = Guide(DIRECT, Value(0.5, 2.0))


class TestTableOfTheory:
    """x ~ N(0, 1), y = 2 with r = 0.5: the posterior has the mean 1.6 and the variance 0.2."""

    @pytest.mark.parametrize(
        ("broaden", "sampler", "mean", "variance"),
        [
            (True, ReverseDiffusion(), 1.600, 0.200),
            (True, Euler(), 1.600, 0.200),
            (False, ReverseDiffusion(), 1.96, 0.125),
            (False, Euler(), 2.55, 0.018),
        ],
    )
    def test_guided_denoiser(self, broaden, sampler, mean, variance):
        n = 20_000
        like = State({"x": torch.zeros(n, 1, dtype=torch.float64)})
        levels = noise_grid(GAUSSIAN.process, GridConfig(steps=500, end="flow"))
        x = draw(sampler, GuidedDenoiser(GAUSSIAN, [WISH], broaden=broaden), like, levels, generator=seeded(0)).fields["x"]
        assert float(x.mean()) == pytest.approx(mean, abs=0.03)
        assert float(x.var()) == pytest.approx(variance, abs=0.015)

    @pytest.mark.parametrize("strength", [1.0, 2.0])
    def test_populations_have_the_posterior_and_its_evidence(self, strength):
        like = State({"x": torch.zeros(4000, 1, dtype=torch.float64)})
        levels = noise_grid(GAUSSIAN.process, GridConfig(steps=100, end="flow"))
        guide = Guide(DIRECT, Value(0.5, 2.0), strength)
        precision = 1.0 + strength / 0.25
        exact = torch.tensor([2.0 * strength / 0.25 / precision, 1.0 / precision], dtype=torch.float64)
        # the average of exp(-(x - 2)^2 / 2 r^2) over N(0, 1), r^2 = 0.25 / strength
        narrow = 0.25 / strength
        evidence = 0.5 * math.log(narrow / (1.0 + narrow)) - 0.5 * 4.0 / (1.0 + narrow)
        moments, evidences = [], []
        for seed in range(8):
            made = draw_guided(GAUSSIAN, like, levels, [guide], generator=seeded(seed))
            w, x = torch.softmax(made.log_weights, 0), made.state.fields["x"][:, 0]
            mean = (w * x).sum()
            moments.append(torch.stack([mean, (w * (x - mean) ** 2).sum()]))
            evidences.append(made.log_evidence)
            assert torch.allclose(made.values[0], x)
            assert len(x.unique()) == len(x)  # no copy of another sample reaches the end
        found = torch.stack(moments)
        # 100 steps of the reverse diffusion leave a Gaussian a few parts in a thousand too narrow
        assert ((found.mean(0) - exact).abs() < 4.0 * found.std(0) / math.sqrt(8) + 0.004).all(), (found.mean(0), exact)
        assert float(torch.tensor(evidences).mean()) == pytest.approx(evidence, abs=0.03)

    @pytest.mark.parametrize("differentiable", [True, False])
    def test_what_a_property_cannot_evaluate_has_no_likelihood(self, differentiable):
        """Known below 1.8 alone, the posterior is N(1.6, 0.2) cut there, and its evidence smaller by the share that is cut off."""

        def compute(state: State) -> Tensor:
            x = state.fields["x"][:, 0]
            return torch.where(x < 1.8, x, torch.nan)

        like = State({"x": torch.zeros(4000, 1, dtype=torch.float64)})
        levels = noise_grid(GAUSSIAN.process, GridConfig(steps=100, end="flow"))
        guide = Guide(Property("known below 1.8", compute, differentiable=differentiable, partial=True), Value(0.5, 2.0))
        normal, spread = torch.distributions.Normal(0.0, 1.0), math.sqrt(0.2)
        edge = torch.tensor(0.2 / spread, dtype=torch.float64)
        below = float(normal.cdf(edge))
        mean = 1.6 - spread * math.exp(float(normal.log_prob(edge))) / below
        evidence = 0.5 * math.log(0.25 / 1.25) - 0.5 * 4.0 / 1.25 + math.log(below)
        means, evidences = [], []
        for seed in range(8):
            made = draw_guided(GAUSSIAN, like, levels, [guide], generator=seeded(seed))
            w, x = torch.softmax(made.log_weights, 0), made.state.fields["x"][:, 0]
            assert torch.equal(torch.isnan(made.values[0]), made.log_weights == -math.inf)
            assert bool((x[w > 0] < 1.8).all())
            means.append(float((w * x).sum()))
            evidences.append(made.log_evidence)
        for found, exact in ((means, mean), (evidences, evidence)):
            numbers = torch.tensor(found)
            assert abs(float(numbers.mean()) - exact) < 4.0 * float(numbers.std()) / math.sqrt(8) + 0.01

    def test_what_cannot_be_evaluated_is_not_steered(self):
        partial = Property("never", lambda state: state.fields["x"][:, 0] * math.nan, partial=True)
        state = State({"x": torch.linspace(-1.0, 1.0, 5, dtype=torch.float64)[:, None]})
        t = torch.full((5,), 0.5, dtype=torch.float64)
        steered = GuidedDenoiser(GAUSSIAN, [Guide(partial, Value(0.5, 2.0))])(state, t).displacements["x"]
        assert torch.equal(steered, GAUSSIAN(state, t).displacements["x"])


def first_harmonic(space: str) -> Property:
    """A smooth property that tells the two components of each target apart."""

    def compute(state: State) -> Tensor:
        x = state.fields["x"]
        if space == "so3":
            return x[:, 0, 0] + 0.5 * x[:, 1, 2]
        if space == "torus":
            return torch.cos(x[:, 0]) + 0.5 * torch.sin(x[:, 1])
        if space == "relative":
            return torch.cos(2.0 * math.pi * (x[:, 1, 0] - x[:, 0, 0]))
        if space == "slab":
            return x[:, 0, 2] + 0.3 * torch.sin(2.0 * math.pi * x[:, 0, 0])
        if space == "centred":
            return torch.linalg.vector_norm(x[:, 0] - x[:, 1], dim=-1)
        if space == "symmetric":
            return x[:, 0, 0] + 0.3 * x[:, 0, 1] * x[:, 2, 2]
        return x[:, 0] + 0.2 * x[:, 1] ** 2

    return Property(f"of {space}", compute)


def tilted_average(target, guide: Guide, n: int = 200_000) -> tuple[Tensor, Tensor]:
    """The averages of a target's statistics under its distribution times the likelihood, from exact samples, with their errors."""
    samples = target.distribution.sample(n, generator=seeded(99))
    values = target.statistics(samples)
    w = torch.softmax(guide.log_likelihood(guide.property(samples)), 0)
    mean = (w[:, None] * values).sum(0)
    return mean, ((w[:, None] * (values - mean)) ** 2).sum(0).sqrt()


@pytest.mark.parametrize("kind", ["value", "range", "max", "weights alone", "no gradient"])
@pytest.mark.parametrize("space", ["euclidean", "centred", "symmetric", "so3", "torus", "relative", "slab"])
def test_populations_are_the_tilted_mixture(space, kind):
    curved = space in CURVED_SCHEDULES
    if curved and kind in ("range", "weights alone"):
        pytest.skip("tried on flat Spaces; nothing differs here")
    target = make(space, CURVED_SCHEDULES[space] if curved else SCHEDULES["exploding"])
    prop = first_harmonic(space)
    if kind == "no gradient":
        prop = Property(prop.name, lambda state, inner=prop: inner.compute(state).detach(), differentiable=False)
    spread = prop(target.distribution.sample(2000, generator=seeded(1)))
    centre, width = float(spread.quantile(0.2)), float(spread.std())
    wish = {
        "value": Value(0.4 * width, centre),
        "range": Range(0.2 * width, -math.inf, centre),
        "max": Extreme(width, -1),
    }.get(kind, Value(0.4 * width, centre))
    guide = Guide(prop, wish)
    exact, error = tilted_average(target, guide)
    levels = noise_grid(target.distribution.process, GridConfig(steps=60))
    like = target.distribution.sample(400, generator=seeded(0))
    populations = 6
    found = []
    for seed in range(populations):
        made = draw_guided(target.distribution, like, levels, [guide], generator=seeded(seed), steer=kind != "weights alone")
        w = torch.softmax(made.log_weights, 0)
        found.append((w[:, None] * target.statistics(made.state)).sum(0))
    means = torch.stack(found)
    plain = target.statistics(like).mean(0)
    total = torch.sqrt(means.var(0) / populations + error**2)
    z = (means.mean(0) - exact) / total
    # the spread of six numbers is itself uncertain; what is to be told apart is many errors wide
    assert z.abs().max() < 6.0, z
    assert ((plain - exact).abs() / total).max() > 6.0


def test_targets_in_closed_form():
    h, none = torch.tensor([0.3, 1.7, 9.0], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    wide = torch.full_like(h, 0.6)
    nodes = torch.linspace(-9.0, 9.0, 4001, dtype=torch.float64)
    gauss = torch.softmax(-0.5 * nodes**2, 0)
    for target in (Value(0.5, 2.0), Range(0.3, 1.0, 2.5), Range(0.3, -math.inf, 2.0), Extreme(2.0, 1), Extreme(2.0, -1)):
        at = h[:2, None] + math.sqrt(0.6) * nodes
        averaged = (gauss * torch.exp(target.log_likelihood(at, torch.zeros_like(at)))).sum(1).log()
        assert torch.allclose(target.log_likelihood(h[:2], wide[:2]), averaged, atol=2e-4), target
        assert torch.isfinite(target.log_likelihood(h, none)).all()
    # far outside a range the likelihood still has a slope to follow
    far = torch.tensor([30.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(Range(0.3, 1.0, 2.5).log_likelihood(far, torch.zeros(1, dtype=torch.float64)).sum(), far)
    assert float(slope) == pytest.approx(-(30.0 - 2.5) / 0.09, rel=0.01)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("3", Value(0.2, 3.0)),
        ("3.0+-0.5", Value(0.5, 3.0)),
        ("3 ± 0.5", Value(0.5, 3.0)),
        ("2.5..3.5", Range(0.2, 2.5, 3.5)),
        ("2.5..", Range(0.2, 2.5, math.inf)),
        ("..-1", Range(0.2, -math.inf, -1.0)),
        ("max", Extreme(0.2, 1)),
        ("min+-1", Extreme(1.0, -1)),
    ],
)
def test_wishes_are_read(text, target):
    assert read_target(text, 0.2) == target


@pytest.mark.parametrize(
    ("text", "message"),
    [("three", "expected a value"), ("3..2", "range 3..2"), ("nan", "finite"), ("3+-0", "width 0"), ("3+--1", "width -1")],
)
def test_wishes_that_mean_nothing_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        read_target(text, 0.2)
    with pytest.raises(InputError, match="no tolerance"):
        read_target("3")


class TestProperties:
    like = State({"x": torch.zeros(3, 1, dtype=torch.float64)})
    levels = noise_grid(GAUSSIAN.process, GridConfig(steps=3))

    def draw(self, compute, **options):
        guide = Guide(Property("mine", compute, **options), Value(0.5, 2.0))
        return draw_guided(GAUSSIAN, self.like, self.levels, [guide], generator=seeded(0))

    def test_a_value_that_is_no_number(self):
        with pytest.raises(EquilibraError, match="property 'mine': 3 of 3 values are not a number"):
            self.draw(lambda state: state.fields["x"][:, 0] * math.nan)

    def test_no_gradient(self):
        with pytest.raises(InputError, match="have no gradient; compute them in PyTorch"):
            self.draw(lambda state: torch.ones(3))
        assert self.draw(lambda state: torch.ones(3), differentiable=False).log_weights.shape == (3,)

    def test_another_shape(self):
        with pytest.raises(InputError, match=r"got \(3, 1\), expected a tensor with one value for each of 3"):
            self.draw(lambda state: state.fields["x"])

    def test_doubts_of_an_extrapolation(self):
        known = Property("gap", DIRECT.compute, "eV", known=(0.0, 6.0))
        assert Guide(known, Value(0.5, 3.0)).doubts() is None
        assert "gap: 9 eV lies outside 0 to 6" in str(Guide(known, Value(0.5, 9.0)).doubts())
        assert "gap: -1 and 7 eV lie outside" in str(Guide(known, Range(0.5, -1.0, 7.0)).doubts())
        assert Guide(known, Extreme(0.5, 1)).doubts() is None


def test_classifier_free_guidance_extrapolates():
    levels = noise_grid(GAUSSIAN.process, GridConfig(steps=3))
    other = euclidean_1d([1.5], [0.5], [1.0], VarianceLinear(scale=1.0))
    free, labelled = GAUSSIAN, other
    object.__setattr__(labelled, "process", free.process)
    state = State({"x": torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]})
    t = torch.full((5,), levels[1].t, dtype=torch.float64)
    a, b = free(state, t).displacements["x"], labelled(state, t).displacements["x"]
    for weight in (0.0, 1.0, 2.5):
        assert torch.allclose(ClassifierFree(free, labelled, weight)(state, t).displacements["x"], a + weight * (b - a))


@pytest.mark.parametrize("space", ["centred", "so3"])
def test_gradients_in_parts_change_nothing(space):
    target = make(space, CURVED_SCHEDULES.get(space, SCHEDULES["exploding"]))
    prop = first_harmonic(space)
    guide = Guide(prop, Value(0.5, 1.0))
    levels = noise_grid(target.distribution.process, GridConfig(steps=6))
    like = target.distribution.sample(11, generator=seeded(0))
    whole, parts = (draw_guided(target.distribution, like, levels, [guide], generator=seeded(1), at_once=k) for k in (None, 4))
    assert torch.allclose(whole.log_weights, parts.log_weights, atol=1e-10)
    assert torch.allclose(whole.state.fields["x"], parts.state.fields["x"], atol=1e-10)
    t = torch.full((11,), levels[2].t, dtype=torch.float64)
    whole, parts = (GuidedDenoiser(target.distribution, [guide], at_once=k)(like, t).displacements["x"] for k in (None, 4))
    assert torch.allclose(whole, parts, atol=1e-12)
    # a row of the guided denoiser is the guided denoiser of a row
    alone = GuidedDenoiser(target.distribution, [guide], at_once=4).rows(slice(3, 5))(like[3:5], t[3:5]).displacements["x"]
    assert torch.allclose(alone, whole[3:5], atol=1e-12)


def test_a_gradient_that_is_no_number_is_told():
    guide = Guide(Property("steep", lambda state: (0.0 * state.fields["x"][:, 0]).sqrt()), Value(0.5, 2.0))
    like = State({"x": torch.zeros(3, 1, dtype=torch.float64)})
    with pytest.raises(EquilibraError, match="'steep': its gradient is not finite"):
        draw_guided(GAUSSIAN, like, noise_grid(GAUSSIAN.process, GridConfig(steps=3)), [guide], generator=seeded(0))
