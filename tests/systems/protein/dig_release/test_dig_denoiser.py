"""What the released network's outputs mean: an exact score in the release's terms comes out as the exact score in ours."""

import math

import pytest
import torch
from released import ExactFrames, random_features, seeded, tiny_network

from equilibra.diffusion.text import process_from_dict, process_to_dict
from equilibra.errors import InputError, ShapeError
from equilibra.geometry import so3
from equilibra.state import Features, State
from equilibra.systems.protein.dig_release.denoiser import DigReleaseDenoiser, released_process, released_step, score_norm

TIMES = torch.tensor([0.01, 0.3, 0.6, 0.9, 1.0], dtype=torch.float64)


def state_of(batch, length, seed=0, scale=5.0):
    g = seeded(seed)
    trans = scale * torch.randn(batch, length, 3, generator=g, dtype=torch.float64)
    return State(
        {"trans": trans - trans.mean(1, keepdim=True), "rot": so3.uniform((batch, length), generator=g, dtype=torch.float64)}
    )


def test_noise_of_the_release():
    process, t = released_process(), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert process.sigma("trans", t).tolist() == pytest.approx([0.1, math.sqrt(3.5), 35.0])
    # heat times are the squares of the release's noise
    assert (0.5 * process.sigma("rot", t) ** 2).tolist() == pytest.approx([0.02**2, 0.02 * 1.65, 1.65**2])
    assert process_from_dict(process_to_dict(process)) == process
    assert released_step(torch.tensor([1.0, 0.5, 0.1234, 0.0])).tolist() == pytest.approx([0.0, 250.0, 438.3, 499.0])


def test_unit_of_the_rotation_score():
    sigma = released_process().sigma("rot", TIMES)
    assert torch.allclose(score_norm(sigma), ExactFrames.units(TIMES)[1], rtol=2e-3)
    assert float(score_norm(sigma[:1])) == pytest.approx(math.sqrt(3.0 / math.pi) / float(sigma[0]), rel=0.01)


def test_a_turn_of_the_release_is_a_turn_of_ours():
    r, v = (
        so3.uniform((5,), generator=seeded(1), dtype=torch.float64),
        torch.randn(5, 3, generator=seeded(2), dtype=torch.float64),
    )
    turned = so3.exp(v) @ r.transpose(-1, -2)
    ours = so3.exp(-(r @ v[..., None])[..., 0]) @ r
    assert torch.allclose(turned.transpose(-1, -2), ours, atol=1e-12)


def test_exact_scores_in_the_terms_of_the_release_are_ours():
    network = ExactFrames(separation=12.0)
    # in the release's terms the score is the slope of ln p along Exp(v) Q
    state, t = state_of(5, 3), TIMES
    trans, q = state.fields["trans"], state.fields["rot"].transpose(-1, -2)
    _, score = network.scores(trans, q, t)
    v = torch.randn(5, 3, 3, generator=seeded(3), dtype=torch.float64)
    v = 1e-5 * v / v.norm()

    def log_p(shift):
        return network.law.log_density(State({"trans": trans, "rot": (so3.exp(shift) @ q).transpose(-1, -2)}), t)

    assert torch.allclose((log_p(v) - log_p(-v)) / 2.0, (score * v).flatten(1).sum(1), rtol=1e-5)

    found = DigReleaseDenoiser(network, released_process())(state, t, random_features(3)).displacements
    expected = network.law(state, t).displacements
    assert torch.allclose(found["trans"], expected["trans"], rtol=1e-9, atol=1e-9)
    assert torch.allclose(found["rot"], expected["rot"], rtol=3e-3, atol=1e-6)  # the unit is interpolated
    wrong = -(state.fields["rot"].transpose(-1, -2) @ expected["rot"][..., None])[..., 0]
    assert float((found["rot"] - wrong).norm() / expected["rot"].norm()) > 0.5


def test_positions_have_no_drift_and_padding_stays_zero():
    denoiser = DigReleaseDenoiser(tiny_network(), released_process()).requires_grad_(False)
    state = state_of(2, 6)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    padded = State(state.fields, {"trans": mask, "rot": mask})
    found = denoiser(padded, torch.tensor([0.2, 0.7], dtype=torch.float64), random_features(6)).displacements
    assert float(found["trans"].sum(1).abs().max()) < 1e-10
    assert float(found["trans"][1, 4:].abs().max()) == float(found["rot"][1, 4:].abs().max()) == 0.0
    assert float(found["rot"][1, :4].abs().min()) > 0.0


class TestPairsAreEmbeddedOnce:
    @pytest.fixture
    def denoiser(self, monkeypatch):
        denoiser = DigReleaseDenoiser(tiny_network(dtype=torch.float32), released_process()).requires_grad_(False)
        denoiser.calls = 0
        embed = denoiser.network.context

        def counted(*arguments):
            denoiser.calls += 1
            return embed(*arguments)

        monkeypatch.setattr(denoiser.network, "context", counted)
        return denoiser

    def ask(self, denoiser, features, batch=2):
        state = state_of(batch, 5).to(dtype=torch.float32)
        with torch.no_grad():
            return denoiser(state, torch.full((batch,), 0.5), features).displacements["rot"]

    def test_as_long_as_the_features_are_the_same(self, denoiser):
        features = random_features(5)
        first = self.ask(denoiser, features)
        assert torch.equal(self.ask(denoiser, features), first)
        assert torch.equal(self.ask(denoiser, features.rows(torch.tensor([0]))), first)
        assert denoiser.calls == 1
        other = self.ask(denoiser, random_features(5, seed=1))
        assert denoiser.calls == 2
        assert float((other - first).abs().max()) > 1e-3
        assert torch.equal(self.ask(denoiser, features), first)

    def test_not_after_a_change_of_features_or_weights(self, denoiser):
        features = random_features(5)
        first = self.ask(denoiser, features)
        features.pair["extra"].mul_(-1.0)
        second = self.ask(denoiser, features)
        assert float((second - first).abs().max()) > 1e-4
        with torch.no_grad():
            denoiser.network.embed_pair[1].weight.mul_(2.0)
        assert float((self.ask(denoiser, features) - second).abs().max()) > 1e-4
        assert denoiser.calls == 3

    def test_not_in_training(self, denoiser):
        denoiser.requires_grad_(True)
        state = state_of(2, 5).to(dtype=torch.float32)
        for _ in range(2):
            found = denoiser(state, torch.full((2,), 0.5), random_features(5)).displacements
            sum(value.square().sum() for value in found.values()).backward()
        assert denoiser.calls == 2
        assert float(denoiser.network.embed_pair[1].weight.grad.abs().max()) > 0.0

    def test_bf16(self, denoiser):
        features = random_features(5)
        exact = self.ask(denoiser, features)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = self.ask(denoiser, features)
        assert 0.0 < float((rounded - exact).norm() / exact.norm()) < 0.05
        assert torch.equal(self.ask(denoiser, features), exact)


@pytest.mark.slow
def test_one_compiled_layer_serves_all():
    denoiser = DigReleaseDenoiser(tiny_network(dtype=torch.float32), released_process()).requires_grad_(False)
    state, t, features = state_of(2, 5).to(dtype=torch.float32), torch.full((2,), 0.5), random_features(5)
    with torch.no_grad():
        expected = denoiser(state, t, features).displacements
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        found = torch.compile(denoiser, dynamic=False)(state, t, features).displacements
    # besides it there are three small ones, one of which is the normalisation in the head
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 4
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))


def test_features_that_do_not_fit():
    denoiser, state, t = DigReleaseDenoiser(tiny_network(), released_process()), state_of(1, 4), torch.tensor([0.5])
    none = Features(node={"residue": torch.zeros(4, dtype=torch.long)}).shared()
    with pytest.raises(InputError, match="the protein has no single and pair features; give both as arrays"):
        denoiser(state, t, none)
    narrow = Features(node={"extra": torch.zeros(4, 384)}, pair={"extra": torch.zeros(4, 4, 64)}).shared()
    with pytest.raises(ShapeError, match=r"pair features .* got shape \(1, 4, 4, 64\), expected a last axis of 128"):
        denoiser(state, t, narrow)
