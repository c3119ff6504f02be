"""No function of the room writes to its inputs, and each keeps their dtype."""

import pytest
import torch

from equilibra.geometry import chirality, igso3, lattice, periodic, reduction, so3, superposition, torus

V = (5, 3)
M = (5, 3, 3)
S = (5,)
CASES = {
    "hat": (so3.hat, V),
    "vee": (so3.vee, M),
    "exp": (so3.exp, V),
    "log": (so3.log, M),
    "angle": (so3.angle, M),
    "geodesic": (so3.geodesic, M, M, S),
    "log_density": (igso3.log_density, S, S),
    "score_magnitude": (igso3.score_magnitude, S, S),
    "score": (igso3.score, M, S),
    "sample": (lambda tau: igso3.sample(tau, generator=torch.Generator().manual_seed(0)), S),
    "mean_squared_score": (igso3.mean_squared_score, S),
    "wrap": (torus.wrap, V),
    "difference": (torus.difference, V, V),
    "wrapped_normal_log_density": (torus.wrapped_normal_log_density, S, S),
    "wrapped_normal_score": (torus.wrapped_normal_score, S, S),
    "torus mean_squared_score": (torus.mean_squared_score, S),
    "polar": (lambda a: lattice.polar(a)[0], M),
    "to_vector": (lattice.to_vector, M),
    "volume": (lattice.volume, M),
    "standardise": (lattice.standardise, M, S, S),
    "unstandardise": (lattice.unstandardise, M, S, S),
    "density_scale": (lambda n: lattice.density_scale(n, 0.1), S),
    "reduced_basis": (reduction.reduced_basis, M),
    "plane_spacings": (periodic.plane_spacings, M),
    "minimum_image": (periodic.minimum_image, V),
    "minimum_image_distance": (periodic.minimum_image_distance, V, V, M),
    "centre": (superposition.centre, V),
    "kabsch": (superposition.kabsch, V, V),
    "superpose": (superposition.superpose, V, V),
    "rmsd": (superposition.rmsd, V, V),
    "signed_volume": (lambda x: chirality.signed_volume(x, torch.tensor([[0, 1, 2, 3]])), V),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_inputs_are_untouched_and_the_dtype_is_kept(name, dtype):
    function, *shapes = CASES[name]
    generator = torch.Generator().manual_seed(1)
    inputs = []
    for shape in shapes:
        if shape == M:
            inputs.append(so3.uniform((5,), generator=generator, dtype=dtype))
        else:
            inputs.append(torch.rand(shape, generator=generator, dtype=dtype) + 0.1)
    copies = [tensor.clone() for tensor in inputs]
    result = function(*inputs)
    assert result.dtype == dtype
    assert torch.isfinite(result).all()
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(inputs, copies, strict=True))
