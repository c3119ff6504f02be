"""Checks that every network must pass, as plain functions that raise `AssertionError` with the largest error.

Each takes a denoiser, called as `denoiser(state, t, features)` and with a `process` (a `NetworkDenoiser`), a State and its Features. How a
field answers to a rotation, a shift or a reflection follows from its Space. Start with `randomise_parameters_`: heads that start at zero
would pass anything.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from equilibra.diffusion.denoiser import Prediction
from equilibra.diffusion.process import Process
from equilibra.diffusion.space import SO3, CentredEuclidean, Euclidean, Fixed, Space, SymmetricMatrices, Torus
from equilibra.geometry import so3
from equilibra.state.features import Features
from equilibra.state.state import State

TOLERANCES: dict[torch.dtype, float] = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 5e-2}
"""Largest error allowed, relative to the largest output, by the dtype of the State."""


class DenoiserFunction(Protocol):
    """What the checks call: a `NetworkDenoiser`, or anything with its process and its call."""

    @property
    def process(self) -> Process:
        """The forward process."""

    def __call__(self, state: State, t: Tensor, features: Features) -> Prediction:
        """Returns the prediction."""


def randomise_parameters_(network: nn.Module, *, generator: Generator, scale: float = 0.2) -> None:
    """Adds Gaussian noise to all parameters in place, so that nothing is zero by initialisation."""
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise.to(parameter.device), alpha=scale)


def relative_errors(got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    """Returns, for each field, the largest absolute difference divided by the largest expected value."""
    errors = {}
    for name, value in expected.items():
        size = value.abs().max().clamp(min=torch.finfo(value.dtype).tiny)
        errors[name] = float((got[name] - value).abs().max() / size)
    return errors


def _require_agreement(what: str, got: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float | None) -> None:
    for name, value in expected.items():
        assert torch.isfinite(value).all(), f"{what}: field '{name}' has outputs that are not finite"
        assert torch.isfinite(got[name]).all(), f"{what}: field '{name}' has outputs that are not finite"
    errors = relative_errors(got, expected)
    bound = TOLERANCES[next(iter(expected.values())).dtype] if tolerance is None else tolerance
    wrong = {name: error for name, error in errors.items() if not error <= bound}
    listed = ", ".join(f"{name}: {error:.3g}" for name, error in errors.items())
    assert not wrong, f"{what}: largest relative error per field {{{listed}}}, allowed {bound:.3g}"


def _require_output(what: str, displacements: Mapping[str, Tensor]) -> None:
    """Refuses a network whose output vanishes: it would pass every check."""
    for name, value in displacements.items():
        assert value.abs().max() > 0, f"{what}: the output for '{name}' is zero everywhere; call randomise_parameters_ first"


def _turn(space: Space, x: Tensor, q: Tensor, *, tangent: bool) -> Tensor:
    """Applies an orthogonal matrix to points or tangent vectors of a field; improper ones act on vectors only."""
    if isinstance(space, SymmetricMatrices):
        return q @ x @ q.T
    if isinstance(space, SO3):
        if tangent:
            return x @ q.T * torch.linalg.det(q)
        # a reflected frame is made proper again by the inversion
        return torch.linalg.det(q) * q @ x
    if isinstance(space, Euclidean) or (isinstance(space, Fixed) and x.shape[-1] == 3):
        return x @ q.T
    return x


def _transform(denoiser: DenoiserFunction, state: State, change: Callable[[Space, Tensor], Tensor]) -> State:
    return state.replace(**{name: change(field.space, state.fields[name]) for name, field in denoiser.process.fields.items()})


def _turned_features(features: Features, q: Tensor, vector_features: Sequence[str]) -> Features:
    node = {k: v @ q.to(v).T if k in vector_features else v for k, v in features.node.items()}
    return Features(node=node, pair=features.pair, graph=features.graph, mask=features.mask, around=features.around)


def check_rotation_equivariance(
    denoiser: DenoiserFunction,
    state: State,
    t: Tensor,
    features: Features,
    *,
    generator: Generator,
    vector_features: Sequence[str] = (),
    tolerance: float | None = None,
) -> None:
    """Checks that a rotation of the input rotates the output.

    Arguments:
        denoiser: What is checked.
        state: A batch of States.
        t: Times (batch,).
        features: Features of the batch.
        generator: Source of the rotation.
        vector_features: Names of node features that are vectors (tokens, 3) and turn too: the atoms of a pocket.
        tolerance: Largest relative error; by the dtype of the State if not given.

    Raises:
        AssertionError: If the error is too large or the output is zero.
    """
    q = so3.uniform((), generator=generator, dtype=state.dtype, device=state.device)
    with torch.no_grad():
        plain = denoiser(state, t, features).displacements
        turned = _transform(denoiser, state, lambda space, x: _turn(space, x, q, tangent=False))
        got = denoiser(turned, t, _turned_features(features, q, vector_features)).displacements
    _require_output("rotation equivariance", plain)
    spaces = {name: field.space for name, field in denoiser.process.fields.items()}
    expected = {name: _turn(spaces[name], value, q, tangent=True) for name, value in plain.items()}
    _require_agreement("rotation equivariance", got, expected, tolerance)


def check_chirality(
    denoiser: DenoiserFunction,
    state: State,
    t: Tensor,
    features: Features,
    *,
    vector_features: Sequence[str] = (),
    least: float = 1e-3,
) -> None:
    """Checks that the output does **not** commute with a reflection when the features name a handedness.

    Arguments:
        denoiser: What is checked.
        state: A batch of States of chiral systems.
        t: Times (batch,).
        features: Features that hold the wanted handedness, unchanged under the reflection.
        vector_features: Names of node features that are vectors and are reflected too.
        least: Smallest relative difference that counts.

    Raises:
        AssertionError: If the network is mirror-blind.
    """
    q = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=state.dtype, device=state.device))
    with torch.no_grad():
        plain = denoiser(state, t, features).displacements
        mirrored = _transform(denoiser, state, lambda space, x: _turn(space, x, q, tangent=False))
        got = denoiser(mirrored, t, _turned_features(features, q, vector_features)).displacements
    _require_output("chirality", plain)
    spaces = {name: field.space for name, field in denoiser.process.fields.items()}
    errors = relative_errors(got, {name: _turn(spaces[name], value, q, tangent=True) for name, value in plain.items()})
    largest = max(errors.values())
    assert largest > least, (
        f"chirality: the output commutes with a reflection (largest difference {largest:.3g}, expected > {least:.3g})"
    )


def check_translation_invariance(
    denoiser: DenoiserFunction,
    state: State,
    t: Tensor,
    features: Features,
    *,
    generator: Generator,
    tolerance: float | None = None,
) -> None:
    """Checks that a common shift of centred Euclidean fields and of centred tori leaves the output unchanged.

    Arguments:
        denoiser: What is checked.
        state: A batch of States with at least one centred field.
        t: Times (batch,).
        features: Features of the batch.
        generator: Source of the shift.
        tolerance: Largest relative error; by the dtype of the State if not given.

    Raises:
        AssertionError: If the error is too large, the output is zero, or no field is free to move.
    """
    shifted = {}
    for name, field in denoiser.process.fields.items():
        x = state.fields[name]
        if isinstance(field.space, CentredEuclidean) or (isinstance(field.space, Torus) and field.space.centred):
            shift = torch.randn(x.shape[0], 1, x.shape[-1], generator=generator, dtype=x.dtype).to(x.device)
            moved = field.space.retract(x, shift.expand_as(x))
            mask = state.mask(name)
            shifted[name] = moved if mask is None else torch.where(mask[..., None], moved, x)
    assert shifted, "translation invariance: no field of the process is centred, there is nothing to check"
    with torch.no_grad():
        plain = denoiser(state, t, features).displacements
        got = denoiser(state.replace(**shifted), t, features).displacements
    _require_output("translation invariance", plain)
    _require_agreement("translation invariance", got, plain, tolerance)


def check_permutation_equivariance(
    denoiser: DenoiserFunction,
    state: State,
    t: Tensor,
    features: Features,
    *,
    generator: Generator,
    index_features: Sequence[str] = (),
    tolerance: float | None = None,
) -> None:
    """Checks that a renumbering of the tokens renumbers the output.

    Fields whose items are as many as the tokens are renumbered with them; others are left alone.

    Arguments:
        denoiser: What is checked.
        state: A batch of States without padding.
        t: Times (batch,).
        features: Features of the batch.
        generator: Source of the permutation.
        index_features: Names of node features whose values are token numbers (the neighbours of a stereo-centre).
        tolerance: Largest relative error; by the dtype of the State if not given.

    Raises:
        AssertionError: If the error is too large or the output is zero.
    """
    tokens = features.tokens
    order = torch.randperm(tokens, generator=generator).to(state.device)
    place = torch.argsort(order)

    def renumber(x: Tensor) -> Tensor:
        return x[:, order] if x.ndim >= 2 and x.shape[1] == tokens else x

    node = {k: place[v[:, order].long()].to(v.dtype) if k in index_features else v[:, order] for k, v in features.node.items()}
    pair = {k: v[:, order][:, :, order] for k, v in features.pair.items()}
    mask = None if features.mask is None else features.mask[:, order]
    with torch.no_grad():
        plain = denoiser(state, t, features).displacements
        renumbered = State({k: renumber(v) for k, v in state.fields.items()}, {k: renumber(m) for k, m in state.masks.items()})
        got = denoiser(renumbered, t, Features(node=node, pair=pair, graph=features.graph, mask=mask)).displacements
    _require_output("permutation equivariance", plain)
    _require_agreement("permutation equivariance", got, {k: renumber(v) for k, v in plain.items()}, tolerance)


def check_batch_composition(
    denoiser: DenoiserFunction,
    states: Sequence[State],
    t: Tensor,
    features: Sequence[Features],
    *,
    padding: int = 3,
    tolerance: float | None = None,
) -> None:
    """Checks that a system's output does not depend on its companions in the batch or on padding, and that padded items stay zero.

    Arguments:
        denoiser: What is checked.
        states: One State of batch size one per system, without masks, of different lengths.
        t: One time per system (systems,).
        features: Features of each system, without batch axis.
        padding: Tokens beyond the longest system.
        tolerance: Largest relative error; by the dtype of the States if not given.

    Raises:
        AssertionError: If outputs differ, or padding moves.
    """
    width = max(system.tokens for system in features) + padding
    fields, masks = {}, {}
    for name, field in denoiser.process.fields.items():
        values = [state.fields[name] for state in states]
        if values[0].ndim == field.space.event_ndim + 1:  # one point per system: nothing to pad
            fields[name] = torch.cat(values)
            continue
        lengths = torch.tensor([value.shape[1] for value in values], device=values[0].device)
        items = max(width, int(lengths.max()))
        masks[name] = torch.arange(items, device=lengths.device)[None] < lengths[:, None]
        padded = values[0].new_zeros(len(values), items, *values[0].shape[2:])
        for k, value in enumerate(values):
            padded[k, : value.shape[1]] = value[0]
        fields[name] = field.space.clean(padded, masks[name])
    batch = State(fields, masks)
    with torch.no_grad():
        together = denoiser(batch, t, Features.collate(features, tokens=width)).displacements
        for k, (state, own) in enumerate(zip(states, features, strict=True)):
            alone = denoiser(state, t[k : k + 1], Features.collate([own])).displacements
            _require_output("batch composition", alone)
            got = {n: together[n][k : k + 1, : v.shape[1]] for n, v in alone.items()}
            _require_agreement(f"batch composition, system {k}", got, alone, tolerance)
    for name, mask in masks.items():
        if name in together:
            largest = float(together[name][~mask].abs().max())
            assert largest == 0.0, f"batch composition: padded items of '{name}' move by {largest:.3g}, expected exactly zero"


def check_finite_gradients(denoiser: nn.Module, state: State, t: Tensor, features: Features) -> None:
    """Checks that every parameter has a finite gradient, and that it is not zero for all of them.

    Arguments:
        denoiser: A module called as `denoiser(state, t, features)`.
        state: A batch of States.
        t: Times (batch,); include the smallest and the largest in use.
        features: Features of the batch.

    Raises:
        AssertionError: If a parameter is not used, or its gradient is not finite.
    """
    prediction = denoiser(state, t, features)
    loss = torch.stack([(value**2).sum() for value in prediction.displacements.values()]).sum()
    if prediction.log_density is not None:
        loss = loss + (prediction.log_density**2).sum()
    named = [(name, parameter) for name, parameter in denoiser.named_parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, [parameter for _, parameter in named], allow_unused=True)
    unused = [name for (name, _), g in zip(named, gradients, strict=True) if g is None]
    assert not unused, f"gradients: parameters that the output does not depend on: {', '.join(unused)}"
    infinite = [name for (name, _), g in zip(named, gradients, strict=True) if g is not None and not torch.isfinite(g).all()]
    assert not infinite, f"gradients: not finite for {', '.join(infinite)}"
    largest = max((float(g.abs().max()) for g in gradients if g is not None), default=0.0)
    assert largest > 0.0, "gradients: zero for every parameter; call randomise_parameters_ first"


def check_network(
    denoiser: DenoiserFunction,
    states: Sequence[State],
    features: Sequence[Features],
    *,
    generator: Generator,
    t: Tensor | None = None,
    chiral: bool = True,
    index_features: Sequence[str] = (),
    vector_features: Sequence[str] = (),
    tolerance: float | None = None,
) -> None:
    """Runs every check that applies: the test-suite of a network.

    Arguments:
        denoiser: A `NetworkDenoiser` with randomised parameters.
        states: One State of batch size one per system, of different lengths; the first is the one that is turned, shifted and renumbered.
        features: Features of each system, without batch axis.
        generator: Source of rotations, shifts and permutations.
        t: One time per system; evenly spread over (0, 1) if not given.
        chiral: Whether the first system's features name a handedness.
        index_features: See `check_permutation_equivariance`.
        vector_features: See `check_rotation_equivariance`.
        tolerance: Largest relative error; by the dtype of the States if not given.

    Raises:
        AssertionError: At the first check that fails.
    """
    first = states[0]
    if t is None:
        t = (torch.arange(len(states), dtype=first.dtype, device=first.device) + 0.5) / len(states)
    batch = Features.collate([features[0]])
    one = t[:1]
    check_rotation_equivariance(
        denoiser, first, one, batch, generator=generator, vector_features=vector_features, tolerance=tolerance
    )
    centred = (CentredEuclidean, Torus)
    if any(isinstance(f.space, centred) and getattr(f.space, "centred", True) for f in denoiser.process.fields.values()):
        check_translation_invariance(denoiser, first, one, batch, generator=generator, tolerance=tolerance)
    check_permutation_equivariance(
        denoiser, first, one, batch, generator=generator, index_features=index_features, tolerance=tolerance
    )
    check_batch_composition(denoiser, states, t, features, tolerance=tolerance)
    if chiral:
        check_chirality(denoiser, first, one, batch, vector_features=vector_features)
    if isinstance(denoiser, nn.Module):
        check_finite_gradients(denoiser, first, one, batch)
