"""Molecular mechanics in torch against OpenMM's Reference platform, and what it refuses."""

import warnings
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit
from scipy.interpolate import CubicSpline

from equilibra.energies.molecular_mechanics import MolecularMechanics, molecular_mechanics, read_openmm_system
from equilibra.energies.molecular_mechanics.cmap import spline_coefficients
from equilibra.energies.openmm_system import FORCE_FIELDS, ForceFieldConfig, make_openmm_system
from equilibra.errors import InputError, ShapeError
from equilibra.systems.molecule.peptide import build_peptide
from equilibra.units import KJ_PER_MOL_EV, KJ_PER_MOL_NM_EV_A

CHIGNOLIN = "GLY-TYR-ASP-PRO-GLU-THR-GLY-THR-TRP-GLY"
OLX = Path(__file__).parent / "2olx_frames.npz"


@pytest.fixture(scope="module")
def peptides():
    """Topologies and positions in Å of peptides by name, each built once."""
    built = {}

    def build(name):
        if name not in built:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                topology, positions = build_peptide(name)
            built[name] = topology, torch.tensor(positions.value_in_unit(unit.angstrom), dtype=torch.float64)
        return built[name]

    return build


def perturbed(positions, frames, width=0.08, seed=0):
    noise = torch.randn(frames, *positions.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return positions + width * noise


def reference(system, x):
    """Energies (eV) and forces (eV/Å) by OpenMM's Reference platform."""
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    energies, forces = [], []
    for frame in x:
        context.setPositions(frame.numpy() / 10.0)
        state = context.getState(getEnergy=True, getForces=True)
        energies.append(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ_PER_MOL_EV)
        per_nm = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        forces.append(torch.from_numpy(per_nm * KJ_PER_MOL_NM_EV_A))
    return torch.tensor(energies, dtype=torch.float64), torch.stack(forces)


def assert_agrees(system, x, tolerance=1e-9):
    """Far inside the promised 1e-5 (energies) and 1e-4 of the rms (forces): only rounding may differ."""
    expected, expected_force = reference(system, x)
    energy, force = read_openmm_system(system).energy_and_force(x)
    worst = float(((energy - expected).abs() / expected.abs().clamp_min(1e-3)).max())
    worst_force = float((force - expected_force).abs().max() / expected_force.square().mean().sqrt())
    assert worst < tolerance, f"energies: {worst:.1e}"
    assert worst_force < tolerance, f"forces: {worst_force:.1e}"


def chain(items=5, charge=0.3):
    """A chain of atoms with bonds and nonbonded energies, exceptions included."""
    system = openmm.System()
    bonds, nonbonded = openmm.HarmonicBondForce(), openmm.NonbondedForce()
    for index in range(items):
        system.addParticle(12.0)
        nonbonded.addParticle(charge * (-1) ** index, 0.3, 0.4)
    for index in range(items - 1):
        bonds.addBond(index, index + 1, 0.15, 2e5)
    nonbonded.createExceptionsFromBonds([(i, i + 1) for i in range(items - 1)], 0.8333, 0.5)
    system.addForce(bonds)
    system.addForce(nonbonded)
    zigzag = torch.tensor([[1.3 * i, 0.7 * (i % 2), 0.4 * (i % 3)] for i in range(items)], dtype=torch.float64)
    return system, zigzag


@pytest.mark.parametrize("field", FORCE_FIELDS)
def test_alanine_dipeptide_in_every_force_field(peptides, field):
    topology, positions = peptides("ACE-ALA-NME")
    assert_agrees(make_openmm_system(topology, ForceFieldConfig(name=field)), perturbed(positions, 30))


@pytest.mark.parametrize("field", ["amber99sbildn-obc", "amber14-obc2", "amber14-gbn2", "amber19-vacuum"])
def test_chignolin(peptides, field):
    topology, positions = peptides(CHIGNOLIN)
    assert_agrees(make_openmm_system(topology, ForceFieldConfig(name=field)), perturbed(positions, 3))


@pytest.mark.parametrize("field", ["amber19-gbn2", "amber14-gbn"])
def test_sulfur_and_proline(peptides, field):
    # GBn2 gives sulfur a negative scale; proline has impropers and maps of its own
    topology, positions = peptides("ACE-CYS-PRO-MET-NME")
    assert_agrees(make_openmm_system(topology, ForceFieldConfig(name=field)), perturbed(positions, 5))


def test_charmm36_with_its_custom_forces(peptides):
    topology, positions = peptides("CYS-PRO-MET")
    system = app.ForceField("charmm36.xml").createSystem(topology, nonbondedMethod=app.NoCutoff)
    kinds = {type(force).__name__ for force in system.getForces()}
    assert {"CMAPTorsionForce", "CustomTorsionForce", "CustomNonbondedForce", "CustomBondForce"} <= kinds
    assert_agrees(system, perturbed(positions, 10))


def test_published_forces_of_2olx(peptides):
    topology, _ = peptides("ASN-ASN-GLN-GLN")
    mechanics = molecular_mechanics(topology)
    with np.load(OLX, allow_pickle=False) as file:
        x = torch.from_numpy(file["positions"].astype(np.float64) * 10.0)
        expected = torch.from_numpy(file["energies"]) * KJ_PER_MOL_EV
        expected_force = torch.from_numpy(file["forces"].astype(np.float64)) * KJ_PER_MOL_NM_EV_A
    assert_agrees(make_openmm_system(topology, ForceFieldConfig()), x)
    energy, force = mechanics.energy_and_force(x)
    # the file has single precision, and its energies another zero
    assert (force - expected_force).abs().max() < 1e-4 * expected_force.square().mean().sqrt()
    torch.testing.assert_close(energy - energy[0], expected - expected[0], rtol=0.0, atol=1e-5 * float(expected.abs().max()))


def test_the_interpreted_obc2_is_read_as_well(peptides):
    topology, positions = peptides("ACE-ALA-NME")
    field = app.ForceField(*FORCE_FIELDS["amber14-obc2"])
    for options in ({}, {"sasaMethod": None, "solventDielectric": 40.0, "soluteDielectric": 2.0}):
        system = field.createSystem(topology, nonbondedMethod=app.NoCutoff, **options)
        assert "CustomGBForce" in {type(force).__name__ for force in system.getForces()}
        assert_agrees(system, perturbed(positions, 5))


@pytest.mark.parametrize("native", [True, False])
def test_an_atom_inside_another(native):
    from openmm.app.internal.customgbforces import GBSAOBC1Force

    system, x = chain(2, charge=0.0)
    if native:
        force = openmm.GBSAOBCForce()
        force.addParticle(0.5, 0.12, 0.85)
        force.addParticle(-0.3, 0.25, 0.9)
    else:
        force = GBSAOBC1Force(SA="ACE")
        force.addParticle([0.5, 0.12, 0.85])
        force.addParticle([-0.3, 0.25, 0.9])
        force.finalize()
    system.addForce(force)
    system.removeForce(1)  # of the pair, whose Lennard-Jones energy would be all there is
    apart = torch.tensor([0.2, 0.6, 0.9, 1.4, 3.0, 6.0], dtype=torch.float64)
    x = torch.zeros(len(apart), 2, 3, dtype=torch.float64)
    x[:, 1] = apart[:, None] * torch.tensor([0.48, 0.6, 0.64], dtype=torch.float64)
    assert_agrees(system, x)


def test_rb_torsions_and_periodic_torsions_of_any_phase():
    system, x = chain(6)
    rb, periodic = openmm.RBTorsionForce(), openmm.PeriodicTorsionForce()
    rb.addTorsion(0, 1, 2, 3, 9.28, 12.16, -13.12, -3.06, 26.24, -31.5)
    rb.addTorsion(3, 2, 1, 0, 1.0, -2.0, 0.5, 0.25, 0.0, 0.0)
    for periodicity, phase in ((1, 0.3), (2, np.pi), (3, -1.1), (6, 2.0)):
        periodic.addTorsion(2, 3, 4, 5, periodicity, phase, 4.0 / periodicity)
        periodic.addTorsion(1, 3, 2, 4, periodicity, phase, 3.0)
    system.addForce(rb)
    system.addForce(periodic)
    assert_agrees(system, perturbed(x, 20, width=0.3))


@pytest.mark.parametrize(
    "expression", ["k*(theta-theta0)^2", "k*min(dtheta, 2*pi-dtheta)^2; dtheta = abs(theta-theta0); pi = 3.141592653589793"]
)
def test_harmonic_impropers(expression):
    system, x = chain(5)
    force = openmm.CustomTorsionForce(expression)
    for name in ("k", "theta0"):
        force.addPerTorsionParameter(name)
    force.addTorsion(0, 1, 2, 3, [40.0, 3.0])
    force.addTorsion(1, 4, 2, 3, [60.0, -0.5])
    system.addForce(force)
    assert_agrees(system, perturbed(x, 30, width=0.8))


def test_maps_pass_through_their_points_as_periodic_splines():
    grid = np.random.default_rng(0).normal(size=(6, 6))
    coefficients = spline_coefficients(grid)
    np.testing.assert_allclose(coefficients[0, 0], grid, atol=1e-12)
    closed = np.concatenate([grid, grid[:1]])
    spline = CubicSpline(np.arange(7), closed, axis=0, bc_type="periodic")
    inside = sum(coefficients[k, 0] * 0.3**k for k in range(4))
    np.testing.assert_allclose(inside, spline(np.arange(6) + 0.3), atol=1e-12)


def test_maps_are_periodic():
    system, x = chain(5)
    force = openmm.CMAPTorsionForce()
    force.addMap(4, np.random.default_rng(1).normal(size=16).tolist())
    force.addMap(6, np.random.default_rng(2).normal(size=36).tolist())
    force.addTorsion(1, 0, 1, 2, 3, 1, 2, 3, 4)
    force.addTorsion(0, 4, 3, 2, 1, 3, 2, 1, 0)
    system.addForce(force)
    assert_agrees(system, perturbed(x, 40, width=0.8, seed=3))


def test_derivatives_of_first_and_second_order():
    system, x = chain(5)
    angles, torsions, born = openmm.HarmonicAngleForce(), openmm.PeriodicTorsionForce(), openmm.GBSAOBCForce()
    maps = openmm.CMAPTorsionForce()
    maps.addMap(4, np.random.default_rng(1).normal(size=16).tolist())
    maps.addTorsion(0, 0, 1, 2, 3, 1, 2, 3, 4)
    angles.addAngle(0, 1, 2, 1.9, 400.0)
    torsions.addTorsion(0, 1, 2, 3, 3, 0.4, 5.0)
    for index in range(5):
        born.addParticle(0.3 * (-1) ** index, 0.15 + 0.01 * index, 0.8)
    for force in (angles, torsions, born, maps):
        system.addForce(force)
    mechanics = read_openmm_system(system)
    x = perturbed(x, 2).requires_grad_(True)
    assert torch.autograd.gradcheck(mechanics.energy, (x,))
    assert torch.autograd.gradgradcheck(mechanics.energy, (x,))
    energy, force = mechanics.energy_and_force(x)
    assert not energy.requires_grad
    assert not force.requires_grad
    (gradient,) = torch.autograd.grad(mechanics.energy(x).sum(), x)
    torch.testing.assert_close(force, -gradient)


def test_a_batch_is_its_conformations_one_by_one(peptides):
    topology, positions = peptides("ACE-ALA-NME")
    mechanics = molecular_mechanics(topology)
    x = perturbed(positions, 300)  # more than one block
    kept = x.clone()
    energy, force = mechanics.energy_and_force(x)
    assert torch.equal(x, kept)
    for index in (0, 127, 128, 299):
        alone, alone_force = mechanics.energy_and_force(x[index : index + 1])
        torch.testing.assert_close(energy[index], alone[0], rtol=1e-12, atol=0.0)
        torch.testing.assert_close(force[index], alone_force[0], rtol=1e-10, atol=1e-12)
    none, no_force = mechanics.energy_and_force(x[:0])
    assert none.shape == (0,)
    assert no_force.shape == (0, 22, 3)


def test_moving_and_turning_changes_nothing(peptides):
    topology, positions = peptides("ACE-ALA-NME")
    mechanics = molecular_mechanics(topology, ForceFieldConfig(name="amber19-gbn2"))
    x = perturbed(positions, 4)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))
    turn = turn * torch.linalg.det(turn)
    energy, force = mechanics.energy_and_force(x)
    moved, moved_force = mechanics.energy_and_force(x @ turn.T + torch.tensor([3.0, -7.0, 11.0], dtype=torch.float64))
    torch.testing.assert_close(moved, energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(moved_force, force @ turn.T, rtol=1e-8, atol=1e-8)
    assert mechanics.invariant
    assert mechanics.degrees == 63


@pytest.mark.parametrize("name", ["ACE-ALA-NME", CHIGNOLIN])
def test_drift_of_single_precision(peptides, name):
    topology, positions = peptides(name)
    mechanics = molecular_mechanics(topology)
    # what single precision cannot hold of the positions is not the energy's doing
    x = perturbed(positions, 8, width=0.04).float().double()
    energy, force = mechanics.energy_and_force(x)
    single, single_force = mechanics.energy_and_force(x.float())
    assert single.dtype == single_force.dtype == torch.float32
    assert (single - energy).abs().max() < 2e-5
    assert (single_force - force).abs().max() < 1e-5 * force.square().mean().sqrt()


@pytest.mark.slow  # a compiler runs
def test_compiled_is_the_same_and_has_gradients():
    system, x = chain(5)
    born = openmm.GBSAOBCForce()
    for index in range(5):
        born.addParticle(0.3 * (-1) ** index, 0.15, 0.8)
    angles = openmm.HarmonicAngleForce()
    angles.addAngle(0, 1, 2, 1.9, 400.0)
    system.addForce(born)
    system.addForce(angles)
    eager, compiled = read_openmm_system(system), read_openmm_system(system, compile=True)
    x = perturbed(x, 7)
    for ours, theirs in zip(compiled.energy_and_force(x), eager.energy_and_force(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(compiled.energy(x).square().sum(), x)
    (expected,) = torch.autograd.grad(eager.energy(x).square().sum(), x)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)


def refused(build, message):
    system, _ = chain(4)
    build(system)
    with pytest.raises(InputError, match=message):
        read_openmm_system(system)


def test_what_is_not_read_is_named():
    refused(
        lambda system: system.addForce(openmm.CustomExternalForce("x^2")), "CustomExternalForce is not read .*HarmonicBondForce"
    )
    refused(lambda system: system.addForce(openmm.MonteCarloBarostat(1.0, 300.0)), "MonteCarloBarostat")
    refused(
        lambda system: system.addForce(openmm.CustomTorsionForce("k*theta")), "CustomTorsionForce with 'k\\*theta' .* CHARMM36"
    )
    refused(lambda system: system.addForce(openmm.CustomBondForce("r^4")), "CustomBondForce with 'r\\^4'")
    refused(lambda system: system.addForce(openmm.CustomNonbondedForce("1/r")), "CustomNonbondedForce with '1/r'")
    refused(lambda system: system.addForce(openmm.CustomGBForce()), "CustomGBForce .* OBC1, OBC2, GBn and GBn2")
    refused(lambda system: system.getForce(0).setUsesPeriodicBoundaryConditions(True), "periodic boundaries")
    refused(lambda system: system.getForce(1).setNonbondedMethod(openmm.NonbondedForce.CutoffNonPeriodic), "NoCutoff")
    refused(lambda system: system.addConstraint(0, 1, 0.1), "1 constraints.*constraints=None")
    with pytest.raises(InputError, match="no particles"):
        read_openmm_system(openmm.System())


def test_a_solvent_with_salt_or_other_constants_is_refused(peptides):
    topology, _ = peptides("ACE-ALA-NME")
    field = app.ForceField(*FORCE_FIELDS["amber14-gbn2"])
    with pytest.raises(InputError, match=r"CustomGBForce .*kappa"):
        read_openmm_system(
            field.createSystem(topology, nonbondedMethod=app.NoCutoff, implicitSolventKappa=1.0 / unit.nanometer)
        )
    system = field.createSystem(topology, nonbondedMethod=app.NoCutoff)
    (born,) = [force for force in system.getForces() if isinstance(force, openmm.CustomGBForce)]
    name, expression, kind = born.getComputedValueParameters(0)
    born.setComputedValueParameters(0, name, expression.replace("100*(r", "99*(r"), kind)
    with pytest.raises(InputError, match="CustomGBForce"):
        read_openmm_system(system)


def test_constraints_and_shapes(peptides):
    topology, positions = peptides("ACE-ALA-NME")
    with pytest.raises(InputError, match="12 constraints"):
        molecular_mechanics(topology, ForceFieldConfig(constraints="h-bonds"))
    mechanics = molecular_mechanics(topology)
    assert isinstance(mechanics, MolecularMechanics)
    assert mechanics.items == 22
    with pytest.raises(ShapeError, match=r"\(batch, 22, 3\)"):
        mechanics.energy(positions)
