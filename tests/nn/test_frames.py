import pytest
import torch
from frames_of_proteins import EXTRA, PROCESS, SCALE, VOCABULARY, denoiser, fresh, protein, seeded

from equilibra.diffusion.conservative import ConservativeDenoiser
from equilibra.diffusion.denoiser import NetworkDenoiser
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.score_matching import ScoreMatching
from equilibra.errors import ConfigError, ShapeError
from equilibra.geometry import so3
from equilibra.nn.frames import FrameNetworkConfig, FramePotentialNetwork, relative_orientations
from equilibra.state import Features, State
from equilibra.testing import invariance

T = torch.tensor([0.35], dtype=torch.float64)
FIELDS = ("trans", "rot")


def displacements(function, state, t, features):
    with torch.no_grad():
        return function(state, t, features).displacements


def largest_error(got, expected):
    return max(invariance.relative_errors(got, expected).values())


def test_all_checks_of_a_network():
    systems = [protein(7, 1, extra=True), protein(5, 2, extra=True), protein(8, 3, chains=2, extra=True)]
    states, features = [state for _, state in systems], [features for features, _ in systems]
    invariance.check_network(denoiser(**EXTRA), states, features, generator=seeded(1), tolerance=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_equivariant_under_rigid_motions_at_every_noise(seed):
    features, state = protein(6, seed)
    function = denoiser(seed)
    t = torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=torch.float64)
    trans, rot = (state.fields[name].expand(4, *state.fields[name].shape[1:]) for name in FIELDS)
    q, shift = so3.uniform((), generator=seeded(seed), dtype=torch.float64), torch.tensor([5.0, -40.0, 11.0])
    plain = displacements(function, State({"trans": trans, "rot": rot}), t, features.shared())
    turned = displacements(function, State({"trans": trans @ q.T, "rot": q @ rot}), t, features.shared())
    for name in FIELDS:
        for got, expected in zip(turned[name], plain[name] @ q.T, strict=True):
            assert float((got - expected).abs().max()) < 1e-10 * float(expected.abs().max())
    inputs = {"trans": trans, "rot": rot}, {"trans": trans @ q.T + shift, "rot": q @ rot}
    levels = torch.randn(4, 2, generator=seeded(seed), dtype=torch.float64)
    with torch.no_grad():
        raw, moved = (function.network(x, levels, features.shared()) for x in inputs)
    assert largest_error(moved, {name: value @ q.T for name, value in raw.items()}) < 1e-10


def test_the_mirror_image_is_another_molecule():
    """Mirrored atoms have the frames Q R diag(1, 1, -1): local axes towards N and C as before, and a z axis that is their cross product again."""
    features, state = protein(6, 4)
    function = denoiser()
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    reflected = State({"trans": state.fields["trans"] @ mirror, "rot": mirror @ state.fields["rot"] @ mirror})
    torch.testing.assert_close(torch.linalg.det(reflected.fields["rot"]), torch.ones(1, 6, dtype=torch.float64))
    plain, got = (displacements(function, s, T, features.shared()) for s in (state, reflected))
    # displacements are reflected as vectors, rotation vectors as axial ones
    expected = {"trans": plain["trans"] @ mirror, "rot": -plain["rot"] @ mirror}
    assert min(invariance.relative_errors(got, expected).values()) > 1e-2
    invariance.check_chirality(function, state, T, features.shared(), least=1e-2)


def test_what_lies_in_the_padding_does_not_matter():
    features, state = protein(4, 5, extra=True)
    function = denoiser(**EXTRA)
    padded = Features.collate([features], tokens=7)
    both = padded.mask[:, :, None] & padded.mask[:, None]
    junk = Features(
        node={k: torch.where(padded.mask.reshape(1, 7, *[1] * (v.ndim - 2)), v, 3) for k, v in padded.node.items()},
        pair={k: torch.where(both.reshape(1, 7, 7, *[1] * (v.ndim - 3)), v, 2) for k, v in padded.pair.items()},
        mask=padded.mask,
    )
    trans = torch.cat([state.fields["trans"], torch.full((1, 3, 3), 50.0, dtype=torch.float64)], dim=1)
    rot = torch.cat([state.fields["rot"], torch.ones(1, 3, 3, 3, dtype=torch.float64)], dim=1)
    wide = State({"trans": trans, "rot": rot}, {"trans": padded.mask, "rot": padded.mask})
    alone, got = displacements(function, state, T, features.shared()), displacements(function, wide, T, junk)
    assert largest_error({name: value[:, :4] for name, value in got.items()}, alone) < 1e-10
    assert all(value[:, 4:].abs().max() == 0.0 for value in got.values())


def test_shared_features_are_collated_features():
    features, state = protein(6, 6, extra=True)
    function = denoiser(**EXTRA)
    trans = state.fields["trans"] * torch.tensor([1.0, 0.8, 1.2], dtype=torch.float64)[:, None, None]
    several = State({"trans": trans, "rot": so3.uniform((3, 6), generator=seeded(6), dtype=torch.float64)})
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    shared = displacements(function, several, t, features.shared())
    collated = displacements(function, several, t, Features.collate([features] * 3))
    assert largest_error(shared, collated) < 1e-12


@pytest.mark.parametrize(("scope", "name"), [("node", "residue"), ("node", "extra"), ("pair", "offset"), ("pair", "extra")])
def test_every_feature_is_read(scope, name):
    features, state = protein(5, 7, extra=True)
    function = denoiser(**EXTRA)
    old = getattr(features, scope)
    new = {**old, name: old[name] * old[name] if name == "extra" else (old[name] + 1) % 21}
    other = Features(**{"node": features.node, "pair": features.pair, scope: new})
    one, two = (displacements(function, state, T, f.shared()) for f in (features, other))
    assert min(invariance.relative_errors(two, one).values()) > 1e-4


def test_without_features_a_system_sees_the_same_whatever_its_neighbours_have():
    (rich, state), (bare, other) = protein(5, 7, extra=True), protein(4, 8)
    function = denoiser(**EXTRA, optional_features=True)
    known, alone = (displacements(function, x, T, f.shared()) for x, f in ((state, rich), (other, bare)))
    zeros = Features(
        node={**bare.node, "extra": torch.zeros(4, 5, dtype=torch.float64)},
        pair={**bare.pair, "extra": torch.zeros(4, 4, 7, dtype=torch.float64)},
    )
    told = zeros.with_extra_known(torch.tensor(0.0))
    assert largest_error(displacements(function, other, T, told.shared()), alone) == 0.0
    # but for what is told, zeros would be features
    assert largest_error(displacements(function, other, T, zeros.shared()), alone) > 1e-3
    both = Features.collate([rich.with_extra_known(torch.tensor(1.0)), told])
    fields = {
        name: torch.cat([state.fields[name], torch.cat([other.fields[name], state.fields[name][:, :1]], dim=1)])
        for name in FIELDS
    }
    got = displacements(function, State(fields, dict.fromkeys(FIELDS, both.mask)), T.repeat(2), both)
    assert largest_error({name: value[:1] for name, value in got.items()}, known) < 1e-10
    assert largest_error({name: value[1:, :4] for name, value in got.items()}, alone) < 1e-10


def test_samples_of_one_system_may_lose_their_features():
    rich, state = protein(5, 7, extra=True)
    function = denoiser(**EXTRA, optional_features=True)
    lost = Features({"residue": rich.node["residue"]}, {"offset": rich.pair["offset"]})
    twice = State({name: torch.cat([value, value]) for name, value in state.fields.items()})
    some = rich.shared().with_extra_known(torch.tensor([0.0, 1.0]))
    got = displacements(function, twice, T.repeat(2), some)
    without = displacements(function, state, T, lost.shared())
    assert largest_error({name: value[:1] for name, value in got.items()}, without) < 1e-10
    known = displacements(function, state, T, rich.shared())
    assert largest_error({name: value[1:] for name, value in got.items()}, known) < 1e-10
    for module in (function.network.trunk.pair_extra, function.network.trunk.extra):
        invariance.randomise_parameters_(module, generator=seeded(9))
    assert largest_error(displacements(function, state, T, lost.shared()), without) == 0.0
    assert largest_error(displacements(function, state, T, rich.shared()), known) > 1e-3


def test_features_are_optional_for_networks_made_so():
    _, state = protein(5, 7)
    with pytest.raises(ShapeError, match="real-valued pair features"):
        displacements(denoiser(**EXTRA), state, T, protein(5, 7)[0].shared())
    with pytest.raises(ConfigError, match="optional_features is true, but there are none"):
        fresh(optional_features=True)


def test_conditions_and_both_noise_levels_are_read():
    features, state = protein(5, 8)
    network = denoiser(conditions=1).network
    inputs, levels = dict(state.fields), torch.zeros(1, 2, dtype=torch.float64)
    with torch.no_grad():
        plain = network(inputs, levels, features.shared().conditioned([0.0]))
        warm = network(inputs, levels, features.shared().conditioned([1.0]))
        noisy = [network(inputs, levels + shift, features.shared().conditioned([0.0])) for shift in torch.eye(2)]
    for other in (warm, *noisy):
        assert min(invariance.relative_errors(other, plain).values()) > 1e-4


def test_gradients_reach_every_parameter():
    features, state = protein(6, 9, extra=True)
    function = denoiser(**EXTRA, conditions=1)
    for t in (0.0, 0.5, 1.0):
        invariance.check_finite_gradients(function, state, torch.full_like(T, t), features.shared().conditioned([0.3]))
    prediction = function(state, T, features.shared().conditioned([0.3]))
    sum(value.square().sum() for value in prediction.displacements.values()).backward()
    still = [name for name, parameter in function.named_parameters() if parameter.grad.abs().max() < 1e-12]
    # a constant of a head's bias drops out of the softmax
    assert still == ["network.trunk.biases.bias"]


def test_bfloat16_autocast_is_close_to_full_precision():
    features, state = protein(12, 10, extra=True)
    function = denoiser(dtype=torch.float32, scale=0.02, **EXTRA)
    state, t = state.to(dtype=torch.float32), T.float()
    full = displacements(function, state, t, features.shared())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = displacements(function, state, t, features.shared())
    assert all(value.dtype == torch.float32 for value in half.values())
    assert 0.0 < largest_error(half, full) < 0.03


@pytest.mark.slow
def test_compiled_is_eager():
    features, state = protein(6, 11)
    function = denoiser(dtype=torch.float32)
    state, t = state.to(dtype=torch.float32), T.float()
    eager = displacements(function, state, t, features.shared())
    function.compile_network()
    assert largest_error(displacements(function, state, t, features.shared()), eager) < 1e-4


@pytest.mark.parametrize("residues", [8, 120])
def test_fresh_outputs_are_small(residues):
    features, state = protein(residues, 12)
    network = fresh(dim=64, pair_dim=32, layers=2, heads=4, channels=16).double()
    inputs = {"trans": state.fields["trans"] / SCALE, "rot": state.fields["rot"]}
    with torch.no_grad():
        raw = network(inputs, torch.zeros(1, 2, dtype=torch.float64), features.shared())
    for value in raw.values():
        assert 1e-3 < float(value.std()) < 1.0


def test_relative_orientations_are_those_of_the_definition():
    g = seeded(13)
    rot, vectors = so3.uniform((2, 4), generator=g), torch.randn(2, 4, 4, 3, generator=g)
    got = relative_orientations(vectors, rot)
    for i in range(4):
        for j in range(4):
            one = torch.einsum("bac,ba->bc", rot[:, i], vectors[:, i, j])
            other = torch.einsum("bac,ba->bc", rot[:, j], vectors[:, j, i])
            turn = (rot[:, i].transpose(1, 2) @ rot[:, j]).flatten(1)
            torch.testing.assert_close(got[:, i, j], torch.cat([one, other, turn], dim=1))


def test_a_backbone_is_learnt():
    """One helix of ten residues: the loss, about one for a fresh network, falls to a fraction of it.

    Not to zero: the network cannot know how the helix was turned as a whole before large noise was added.
    """
    turn = torch.deg2rad(100.0 * torch.arange(10.0))
    trans = torch.stack([2.3 * turn.cos(), 2.3 * turn.sin(), 1.5 * torch.arange(10.0)], dim=-1)
    rot = so3.exp(turn[:, None] * torch.tensor([0.0, 0.0, 1.0]))
    clean = State({"trans": (trans - trans.mean(0)).expand(16, -1, -1), "rot": rot.expand(16, -1, -1, -1)})
    batch = TrainingBatch(clean, protein(10, 0)[0].shared())
    function = NetworkDenoiser(fresh(dim=32, pair_dim=16, layers=2), PROCESS)
    objective = ScoreMatching(PROCESS, NoiseLevels())
    optimiser = torch.optim.Adam(function.parameters(), lr=3e-3)
    g, losses = seeded(14), []
    for _ in range(150):
        loss = objective(function, batch, generator=g)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    first, last = torch.stack(losses[:5]).mean(), torch.stack(losses[-20:]).mean()
    assert first > 0.5
    assert last < 0.5 * first


def test_all_checks_of_a_conservative_network():
    systems = [protein(5, 1), protein(4, 2), protein(6, 3, chains=2)]
    network = fresh(FramePotentialNetwork)
    invariance.randomise_parameters_(network, generator=seeded(2), scale=0.1)
    function = ConservativeDenoiser(network, PROCESS).double()
    states, features = [state for _, state in systems], [features for features, _ in systems]
    invariance.check_network(function, states, features, generator=seeded(1), tolerance=1e-9)


def test_a_score_of_a_conservative_network_is_the_slope_of_its_density():
    features, state = protein(5, 15)
    network = fresh(FramePotentialNetwork)
    invariance.randomise_parameters_(network, generator=seeded(3), scale=0.1)
    function = ConservativeDenoiser(network, PROCESS).double()
    prediction = function(state, T, features.shared())
    g, h = seeded(16), 1e-4
    step = {name: field.space.tangent_noise(state.fields[name], None, generator=g) for name, field in PROCESS.fields.items()}
    slope = sum((prediction.score(name, PROCESS.sigma(name, T)) * step[name]).sum() for name in FIELDS)
    ends = []
    for sign in (h, -h):
        moved = {name: PROCESS.fields[name].space.retract(state.fields[name], sign * v) for name, v in step.items()}
        ends.append(function.log_density(State(moved), T, features.shared()))
    torch.testing.assert_close(((ends[0] - ends[1]) / (2 * h))[0], slope, rtol=1e-5, atol=0.0)


def test_impossible_sizes_and_missing_features_are_refused():
    with pytest.raises(ConfigError, match="FrameNetworkConfig: dim 10 is not a multiple of heads 4"):
        FrameNetworkConfig(**VOCABULARY, dim=10, heads=4)
    with pytest.raises(ConfigError, match="points is 0"):
        FrameNetworkConfig(**VOCABULARY, points=0)
    with pytest.raises(ConfigError, match="node_vocabulary is empty"):
        FrameNetworkConfig()
    plain, state = protein(5, 17)
    full, _ = protein(5, 17, extra=True)
    with pytest.raises(ShapeError, match="pair features: got shape none, expected the width 7"):
        denoiser(extra_pair=7)(state, T, plain.shared())
    with pytest.raises(ShapeError, match=r"node features: got shape \(1, 5, 5\), expected the width 6"):
        denoiser(extra_node=6)(state, T, full.shared())
