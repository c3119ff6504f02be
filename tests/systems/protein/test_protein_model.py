"""Models of proteins: sampling to the end, runs that go on, scope, features and memory."""

import tracemalloc

import numpy as np
import pytest
import torch
from extended_protein import SEQUENCE, bind, extended, system, tiny_model

from equilibra.errors import InputError
from equilibra.sampling.grid import noise_grid
from equilibra.systems.blocks import SamplerDrawing, draw_blocks
from equilibra.systems.model import Model, domain
from equilibra.systems.protein import memory
from equilibra.systems.protein.load import load_ensemble
from equilibra.systems.protein.memory import COMFORTABLE, fitting_batch, free_memory, memory_needed
from equilibra.systems.protein.network import protein_network_config, protein_process


def test_the_process_is_that_of_the_plan():
    process = protein_process(10.0)
    assert list(process.fields) == ["trans", "rot"]
    assert process.reference == "trans"
    assert process.fields["trans"].schedule.sigma_max == 80.0
    assert protein_process(2.0).fields["trans"].schedule.sigma_max == 35.0
    assert process.fields["rot"].schedule.sigma_max == 2.4


def test_an_untrained_network_is_sampled_by_blocks():
    model, protein = tiny_model(), system()
    module = domain("protein")
    drawn = draw_blocks(
        model.bind(protein),
        SamplerDrawing(model.sampler.make(), noise_grid(model.process, model.sampler.grid)),
        lambda size: module.template(protein, size),
        lambda batch: np.ones(batch.state.batch_size, dtype=bool),
        n=8,
        seed=0,
        block_size=5,
    )
    assert len(drawn.blocks) == 2
    rot = np.concatenate([block.fields["rot"] for block in drawn.blocks])
    np.testing.assert_allclose(rot @ rot.swapaxes(2, 3), np.broadcast_to(np.eye(3), rot.shape), atol=1e-4)
    assert module.valid(protein, module.template(protein, 3)).shape == (3,)
    ensemble = module.ensemble(protein, [_all_extended(protein, block) for block in drawn.blocks], 8, {})
    assert len(ensemble) == 8


def _all_extended(protein, block):
    import dataclasses

    trans, rot = extended(protein, len(block.valid), trans=0.01, rot=0.01)
    return dataclasses.replace(block, fields={"trans": trans.astype(np.float32), "rot": rot.astype(np.float32)})


def test_samples_of_an_exact_score_are_valid_and_a_run_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(Model, "bind", bind)
    model = tiny_model()
    whole = model.sample(SEQUENCE, n=8, seed=1, block_size=4, folder=tmp_path / "run")
    assert len(whole) == 8
    trans, _ = extended(whole.system)
    aligned = np.sort(np.linalg.norm(whole.ca - whole.ca.mean(1, keepdims=True), axis=2), axis=1)
    np.testing.assert_allclose(
        aligned, np.broadcast_to(np.sort(np.linalg.norm(trans, axis=2), axis=1), aligned.shape), atol=0.4
    )
    (tmp_path / "run" / "blocks" / "block-00001.npz").unlink()
    again = model.sample(SEQUENCE, n=8, seed=1, block_size=4, batch_size=3, folder=tmp_path / "run")
    np.testing.assert_allclose(again.positions, whole.positions, atol=1e-4)
    back = load_ensemble(whole.save(tmp_path / "out"))
    assert back.provenance["kind"] == "samples of protein"
    np.testing.assert_allclose(back.positions, whole.positions, atol=5.1e-3)


def test_a_model_comes_back_from_its_folder(tmp_path):
    model, protein = tiny_model(), system()
    back = Model.read(tmp_path / "model") if model.save(tmp_path / "model") else None
    state = domain("protein").template(protein, 2)
    state = state.replace(trans=torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(0)))
    t = torch.tensor([0.4, 0.6])
    one, two = (m.bind(protein)(state, t).displacements for m in (model, back))
    for name in ("trans", "rot"):
        torch.testing.assert_close(one[name], two[name])


def test_the_scope_is_sequences():
    model = tiny_model()
    with pytest.raises(InputError, match=f"is the sequence AAAA, but the model 'tiny' was trained on {SEQUENCE} only"):
        model.systems("AAAA")
    assert model.systems("AAAA", outside_scope=True)[0].sequence == "AAAA"
    assert tiny_model(transferable=True).systems("AAAA")[0].sequence == "AAAA"
    assert [s.name for s in model.systems([SEQUENCE, SEQUENCE])] == [SEQUENCE, SEQUENCE]
    with pytest.raises(InputError, match="cannot be weighted by an energy"):
        model.sample(SEQUENCE, n=1, energy="amber14")


def test_features_that_do_not_fit_are_refused():
    protein = system()
    rich = protein.with_extra(np.zeros((12, 6)), np.zeros((12, 12, 3)), provider="arrays", content="x")
    with pytest.raises(
        InputError, match="got features of residues of the width 6 from the provider 'arrays', but the model 'tiny' knows none"
    ):
        tiny_model().bind(rich)
    with pytest.raises(InputError, match="needs features of residues of the width 6, but the protein has none"):
        tiny_model(extra_node=6).sample(protein, n=1)
    with pytest.raises(InputError, match=r"got features of pairs of the width 3 .* needs the width 5"):
        tiny_model(extra_node=6, extra_pair=5).bind(rich)
    state = domain("protein").template(rich, 2)
    found = tiny_model(extra_node=6, extra_pair=3).bind(rich)(state, torch.full((2,), 0.5))
    assert found.displacements["rot"].shape == (2, 12, 3)


def test_memory_is_known_before_it_is_used():
    config = protein_network_config()
    needed = memory_needed(300, 1, config)
    assert 0.05e9 < needed < 0.5e9
    assert memory_needed(300, 10, config) == pytest.approx(10 * needed, rel=1e-6)
    assert memory_needed(600, 1, config) > 3.5 * needed
    assert fitting_batch(12, config, None, 50, free=2**33) == 50
    assert fitting_batch(12, config, 500, 50, free=2**33) == 500
    chosen = fitting_batch(300, config, None, 50, free=2**34)
    assert chosen == 1
    assert 4 < fitting_batch(100, config, None, 50, free=2**34) < 50
    assert memory_needed(300, chosen, config) <= COMFORTABLE
    with pytest.raises(
        InputError,
        match=r"chain of 300 residues needs about 7\.. GB at batch size 50, 4\.0 GB are free: use --batch-size 2[0-9]",
    ):
        fitting_batch(300, config, 50, 50, free=2**32)
    with pytest.raises(InputError, match=r"chain of 9000 residues .* batch size 1, .*shorter chain"):
        fitting_batch(9000, config, None, 50, free=2**33)
    free = free_memory()
    assert free is None or free > 0


def test_a_chain_too_long_is_refused_before_any_array_of_pairs(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 2**28)
    length = 20_000
    tracemalloc.start()
    with pytest.raises(InputError, match=r"a chain of 20000 residues needs about \d+\.\d GB at batch size 1, 0\.2 GB are free"):
        tiny_model(transferable=True).sample("A" * length, n=1)
    with pytest.raises(
        InputError, match=r"the array of all pairs of 20000 residues needs about 0\.4 GB, 0\.2 GB are free: take"
    ):
        assert system("A" * length).features
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < length**2 / 4
    with pytest.raises(AttributeError, match="no attribute 'feature'"):
        assert system().feature
