"""Training of one model from the energies of many pockets: what batches of different ligands are, runs that go on, known complexes beside them."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "systems" / "ligand"))
from toy_pocket import SIZE, seeded, toy_denoiser, toy_system

from equilibra.data.mixed_buffers import MixedBuffers, WithKnown
from equilibra.data.replay import ReplayBuffer
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.walkers import evaluate
from equilibra.errors import CheckpointError, ConfigError, InputError
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.ligand.energy import ligand_energy
from equilibra.systems.ligand.engine import PoseEnergy, PosePacking
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.poses import pose_positions, random_state
from equilibra.systems.model import load
from equilibra.train.config import TrainConfig
from equilibra.train.ligand import LigandSources
from equilibra.train.ligand_energy import LIGAND, train_ligand_on_energy

SMILES = ("CCCOC", "C[C@H](N)CCOC", "c1ccccc1C(=O)[O-]")
BETAS = (1.0, 0.5)
FEW = dataclasses.replace(
    LIGAND, rounds=2, rungs=2, columns=4, burn_in=2, sweeps=3, every=1, leapfrog=2, path_levels=4, path_samples=6
)
TRAIN = TrainConfig(steps=6, batch_size=6, noise_median=0.3, compile=False, precision="fp32", threads=1)
QUICK = SamplerConfig(grid=GridConfig(steps=3, spacing="log", end="flow"))


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    return [toy_system(folder, smiles, name=smiles) for smiles in SMILES]


@pytest.fixture(scope="module")
def buffers(systems):
    """Poses anywhere, with what the score says of them at two temperatures."""
    made = []
    for number, system in enumerate(systems):
        packing = PosePacking(system)
        reduced = ReducedEnergy.at(PoseEnergy(ligand_energy(system, "vina"), packing), 300.0)
        walkers = evaluate(packing.array(random_state(system, 12, generator=seeded(number))), reduced)
        buffer = ReplayBuffer(system.features, BETAS, packing=packing)
        buffer.add(*(value.unflatten(0, (2, 6)) for value in (walkers.x, walkers.u, walkers.force)))
        made.append(buffer)
    return made


def owners(batch, systems):
    """Which system each sample is of, by its number of tokens."""
    tokens = [system.features.tokens for system in systems]
    assert len(set(tokens)) == len(tokens)
    return [tokens.index(int(n)) for n in batch.features.mask.sum(1)]


def own_rows(batch, systems, number):
    """The samples of one system without padding, as a State of that system."""
    rows = torch.tensor([k for k, owner in enumerate(owners(batch, systems)) if owner == number])
    fields = batch.state[rows].fields
    system = systems[number]
    torsions = fields["torsions"][:, torch.from_numpy(system.far_tokens), 0]
    return rows, system.state(fields["shift"][:, 0], fields["turn"][:, 0], torsions, fields["conformer"][:, 0, 0].round())


def test_samples_of_different_ligands_keep_their_poses_energies_and_forces(systems, buffers):
    batch = MixedBuffers(buffers).batch(30, generator=seeded(0))
    assert sorted(torch.bincount(torch.tensor(owners(batch, systems))).tolist()) == [10, 10, 10]
    beta = torch.exp(-batch.features.graph["conditions"][:, 0])
    seen = 0
    for number, system in enumerate(systems):
        rows, state = own_rows(batch, systems, number)
        alone = batch.state[rows]
        assert torch.equal(alone.fields["reference"][:, : system.features.tokens], state.fields["reference"])
        assert torch.equal(alone.mask("torsions")[:, : system.features.tokens], state.mask("torsions"))
        assert not alone.mask("torsions")[:, system.features.tokens :].any()
        energy = ReducedEnergy.at(ligand_energy(system, "vina"), 300.0)
        u = beta[rows] * energy(pose_positions(system, state))
        assert torch.allclose(u.float(), batch.energies[rows], atol=2e-3, rtol=1e-3)
        packing = PosePacking(system)
        forces = packing.forces(
            beta[rows, None, None]
            * evaluate(packing.array(state), ReducedEnergy.at(PoseEnergy(ligand_energy(system, "vina"), packing), 300.0)).force
        )
        for name, force in forces.items():
            found = batch.forces[name][rows]
            assert torch.allclose(found[:, : force.shape[1]], force.float(), atol=0.02, rtol=1e-3)
            assert not found[:, force.shape[1] :].any()
        seen += len(rows)
    assert seen == 30


def test_a_network_sees_a_padded_ligand_as_it_is(systems, buffers):
    batch = MixedBuffers(buffers).batch(9, generator=seeded(1))
    denoiser = toy_denoiser(conditions=1).double().requires_grad_(False).eval()
    t = torch.full((9,), 0.4, dtype=torch.float64)
    noisy = denoiser.process.noise(batch.state.to(dtype=torch.float64), t, generator=seeded(2))
    told = batch.features.graph["conditions"].double()
    together = denoiser(noisy, t, batch.features.conditioned(told)).displacements
    for number, system in enumerate(systems):
        rows, _ = own_rows(batch, systems, number)
        tokens, part = system.features.tokens, noisy[rows]
        cut = {name: value[:, :tokens] for name, value in part.fields.items()}
        state = type(part)(cut, {"torsions": part.mask("torsions")[:, :tokens]})
        alone = denoiser(state, t[rows], system.features.shared().conditioned(told[rows])).displacements
        for name, value in alone.items():
            assert torch.allclose(together[name][rows][:, : value.shape[1]], value, atol=1e-9)


def test_known_complexes_come_with_their_share(systems, buffers):
    poses = [pose_positions(s, random_state(s, 1, generator=seeded(3)))[0].numpy() for s in systems]
    known = LigandSources([dataclasses.replace(s, pose=x) for s, x in zip(systems, poses, strict=True)], []).data()
    data = WithKnown(MixedBuffers(buffers), known, 0.25)
    generator = seeded(4)
    batches = [data.batch(3, generator=generator) for _ in range(400)]
    plain = [batch for batch in batches if not batch.forces]
    assert abs(len(plain) - 100) < 4 * (400 * 0.25 * 0.75) ** 0.5
    assert all((batch.features.graph["conditions"] == 0).all() for batch in plain)
    assert all(set(batch.state.fields) == {"reference", "shift", "turn", "torsions", "conformer"} for batch in batches)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        WithKnown(MixedBuffers(buffers), known, 1.0)


def trained(systems, folder, progress=lambda state: None, **options):
    return train_ligand_on_energy(
        systems, folder, "vina", FEW, TRAIN, network=SIZE, sampler=QUICK, progress=progress, **options
    )


def test_one_model_of_many_pockets_goes_on_where_it_was_interrupted(systems, tmp_path):
    states = []
    whole = trained(systems, tmp_path / "whole", states.append)
    assert {state.doing for state in states} == {"collecting", "training", "judging", "judged"}
    assert {state.system for state in states if state.doing == "judging"} == {0, 1, 2}
    assert states[-1].systems == 3
    assert states[-1].elbo is None

    def stop(state):
        if state.round == 1 and state.doing == "judging" and state.system == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(systems, tmp_path / "halves", stop)
    again = trained(systems, tmp_path / "halves")
    for key, value in whole.denoiser.network.state_dict().items():
        assert torch.equal(value, again.denoiser.network.state_dict()[key])
    rows = list(csv.DictReader((tmp_path / "whole" / "systems.csv").open()))
    assert [row["name"] for row in rows] == list(SMILES)
    assert (tmp_path / "halves" / "systems.csv").read_text() == (tmp_path / "whole" / "systems.csv").read_text()
    assert all(0.0 < float(row["ess"]) <= 1.0 for row in rows)
    assert sum(f"{k:03d} {smiles}" in whole.card.figures for k, smiles in enumerate(SMILES)) == 3
    for number, system in enumerate(systems):
        assert LigandEnsemble.read(tmp_path / "whole" / "walkers" / f"{number:03d}").system == system
    model = load(tmp_path / "whole" / "model")
    assert len(model.scope.systems) == 3
    assert model.scope.temperatures == (300.0, 1500.0)
    assert len(model.sample(systems[2], 2, block_size=30)) == 2
    with pytest.raises(CheckpointError, match="holds another run"):
        trained(systems[:2], tmp_path / "whole")


def test_one_pocket_and_known_complexes(systems, tmp_path):
    x = pose_positions(systems[1], random_state(systems[1], 1, generator=seeded(5)))[0].numpy()
    states = []
    model = trained(systems[:1], tmp_path, states.append, known=[dataclasses.replace(systems[1], pose=x)], known_share=0.5)
    assert "and on 1 complex" in model.card.summary
    assert len(model.scope.systems) == 2
    assert states[-1].eubo is not None
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["known_share"] == 0.5


def test_an_energy_itself_is_of_one_ligand(systems, tmp_path):
    with pytest.raises(InputError, match="got 3 ligands and the energy of one"):
        train_ligand_on_energy(systems, tmp_path, ligand_energy(systems[0], "vina"))
