"""The products of a network's Jacobian with tangent vectors as compiled code: the same numbers in about a third of the time.

The program of a forward derivative over many directions at once is recorded once for each shape of its input (one evaluation of the network,
its linear maps applied to all tangents), and handed to PyTorch's compiler, which joins the passes over the arrays of pairs. Compiling takes about a minute,
as long as the traces of some tens of conformations of 22 atoms; the code is kept for as long as the network lives.
"""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from equilibra.density.differentiation import DIFFERENTIATIONS, Tangents
from equilibra.diffusion.denoiser import BoundDenoiser, Denoiser
from equilibra.errors import ConfigError, EquilibraError
from equilibra.state.features import Features
from equilibra.state.state import State

_AGREEMENT = 1e-3

_programs: WeakKeyDictionary[Any, list[tuple[Features, tuple[Any, ...], Any]]] = WeakKeyDictionary()
"""For each network the features, the shapes, and the program."""


def compiled_products(denoiser: Denoiser, state: State, t: Tensor, tangents: Tangents) -> dict[str, Tensor]:
    """Returns J v of each field for tangent vectors (k, batch, ...), by compiled code.

    Arguments:
        denoiser: A network bound to the features of one system, which all batch elements share.
        state: State of the batch.
        t: Times (batch,).
        tangents: Directions.

    Raises:
        ConfigError: If the denoiser is not such a network.
        EquilibraError: If the compiled code gives other numbers than the network.
    """
    if not isinstance(denoiser, BoundDenoiser) or not _shared(denoiser.features):
        raise ConfigError("trace: only a network bound to the features of one system can be compiled; leave `compile` out")
    fields, masks, directions = tuple(state.fields), tuple(state.masks), tuple(tangents)
    inputs = (
        *(state.fields[name] for name in fields),
        *(state.masks[name] for name in masks),
        t,
        *(tangents[name] for name in directions),
    )
    shapes = (fields, masks, directions, *((tuple(x.shape), x.dtype, x.device) for x in inputs))
    kept = _programs.setdefault(denoiser.function, [])
    program = next((p for features, known, p in kept if known == shapes and _equal(features, denoiser.features)), None)
    if program is None:
        program = _compile(denoiser, fields, masks, directions, inputs)
        expected = DIFFERENTIATIONS["vmap"](denoiser, state, t, tangents)
        found = dict(zip(directions, program(*inputs), strict=True))
        for name, value in expected.items():
            gap = float((found[name] - value).abs().max())
            if not gap <= _AGREEMENT * max(1.0, float(value.abs().max())):
                raise EquilibraError(
                    f"trace: the compiled derivative of '{name}' differs from the network's by {gap:.2g}; leave `compile` out"
                )
        kept.append((denoiser.features, shapes, program))
        return found
    return dict(zip(directions, program(*inputs), strict=True))


def _compile(
    denoiser: BoundDenoiser,
    fields: tuple[str, ...],
    masks: tuple[str, ...],
    directions: tuple[str, ...],
    inputs: tuple[Tensor, ...],
) -> Any:
    from torch.fx.experimental.proxy_tensor import make_fx

    function, process, features = denoiser.function, denoiser.process, denoiser.features

    def products(*arrays: Tensor) -> tuple[Tensor, ...]:
        first, second = len(fields), len(fields) + len(masks)
        state = State(dict(zip(fields, arrays[:first], strict=True)), dict(zip(masks, arrays[first:second], strict=True)))
        tangents = dict(zip(directions, arrays[second + 1 :], strict=True))
        found = DIFFERENTIATIONS["vmap"](BoundDenoiser(process, function, features), state, arrays[second], tangents)
        return tuple(found[name] for name in directions)

    return torch.compile(make_fx(products)(*inputs), dynamic=False)


def _shared(features: Features) -> bool:
    values = [*features.node.values(), *features.pair.values(), *features.graph.values(), features.mask]
    return all(value is None or value.shape[0] == 1 for value in values)


def _equal(a: Features, b: Features) -> bool:
    """Tells whether the features hold the same arrays."""
    return all(
        first.keys() == second.keys() and all(first[name] is second[name] for name in first)
        for first, second in ((a.node, b.node), (a.pair, b.pair), (a.graph, b.graph))
    )
