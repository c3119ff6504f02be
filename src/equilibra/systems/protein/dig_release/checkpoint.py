"""The released checkpoint, a PyTorch file, to a model folder of ours. Nothing in the file is ever executed."""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from equilibra.errors import CheckpointError, InputError
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.card import Card
from equilibra.systems.model import Model
from equilibra.systems.protein.dig_release.denoiser import KIND, DigReleaseDenoiser, released_process
from equilibra.systems.protein.dig_release.names import IGNORED, layers_in, our_names
from equilibra.systems.protein.dig_release.network import DigReleaseConfig, DigReleaseNetwork
from equilibra.systems.scope import Scope

NAME = "dig-protein"
"""Name of the converted model."""

SAMPLER = SamplerConfig(name="dpm2m", grid=GridConfig(steps=29))
"""Default sampler: 30 network calls."""

CARD = Card(
    summary="Conformations of proteins by the network that the authors of Distributional Graphormer published, with our samplers.",
    data="Trained by the authors of the paper: S. Zheng et al., Nature Machine Intelligence 6, 558 (2024). Not trained again here.",
    licence="MIT, copyright Microsoft Corporation",
    recipe="equilibra convert dig-protein checkpoint-520k.pth",
    good_for="Single chains with AlphaFold 2's single and pair representations.",
    not_good_for="Proteins without these representations; several chains; a chosen temperature; weights of states, which were not judged here.",
)
"""Card of the converted model."""

_ZIP, _LEGACY = b"PK\x03\x04", b"\x80\x02"


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Reads the tensors of a PyTorch file by the release's names, without a prefix `module.`; only tensors are loaded, never code.

    Raises:
        InputError: If there is no such file.
        CheckpointError: If it is no PyTorch file, or holds anything else than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: '{path}'; expected the released checkpoint, such as checkpoint-520k.pth")
    with path.open("rb") as file:
        start = file.read(4)
    if not start.startswith((_ZIP, _LEGACY)):
        raise CheckpointError(f"'{path}' is not a PyTorch file; expected the released checkpoint, such as checkpoint-520k.pth")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        said = str(error)
        if "weights_only" in said or "Unsupported" in said or "GLOBAL" in said:
            raise CheckpointError(
                f"'{path}' holds more than tensors, which is not read since it could run code; save its 'state_dict' alone where you trust it"
            ) from error
        raise CheckpointError(
            f"'{path}' cannot be read as a PyTorch file: it is damaged or incomplete; fetch it again"
        ) from error
    tensors = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(tensors, Mapping) or not tensors:
        raise CheckpointError(
            f"'{path}': got a {type(tensors).__name__}, expected tensors by name, under 'state_dict' or alone"
        )
    strange = [str(name) for name, value in tensors.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(f"'{path}': {_listed(strange)} in its 'state_dict' is no tensor; expected tensors by name")
    return {str(name).removeprefix("module."): value for name, value in tensors.items()}


def infer_config(tensors: Mapping[str, Tensor]) -> DigReleaseConfig:
    """Returns the sizes of the network from the shapes of its tensors.

    Raises:
        CheckpointError: If a tensor that tells a size is missing or has another number of axes than expected.
    """

    def shape(name: str, axes: int) -> tuple[int, ...]:
        if name not in tensors:
            raise CheckpointError(f"checkpoint: no tensor '{name}'; expected the released protein network")
        found = tuple(tensors[name].shape)
        if len(found) != axes or 0 in found:
            raise CheckpointError(f"checkpoint: '{name}' has the shape {found}, expected {axes} axes, none of them empty")
        return found

    attention = "st_module.encoder.layers.0.attn."
    dim, extra_node = shape("x1d_proj.1.weight", 2)
    pair_dim, extra_pair = shape("x2d_proj.1.weight", 2)
    (heads,) = shape(attention + "trained_point_weight", 1)
    if dim % heads or dim % 2 or dim < 4:
        raise CheckpointError(f"checkpoint: a width of {dim} does not fit {heads} heads")
    return DigReleaseConfig(
        dim=dim,
        pair_dim=pair_dim,
        layers=layers_in(tensors),
        heads=heads,
        feed_forward=shape("st_module.encoder.layers.0.ffn.ff.0.weight", 2)[0],
        extra_node=extra_node,
        extra_pair=extra_pair,
        points=max(1, shape(attention + "point_query.weight", 2)[0] // (3 * heads)),
        value_points=max(1, shape(attention + "point_value.weight", 2)[0] // (3 * heads)),
        buckets=shape("rp_proj.relative_attention_bias.weight", 2)[0],
    )


def released_model(tensors: Mapping[str, Tensor]) -> Model:
    """Makes the model from the release's tensors.

    Arguments:
        tensors: Tensors by the release's names, as `read_checkpoint` gives them.

    Raises:
        CheckpointError: If a name is unknown or missing, or a shape is not that of the network.
    """
    names = our_names(layers_in(tensors))
    unknown, missing = sorted(set(tensors) - set(names) - IGNORED), sorted(set(names) - set(tensors))
    if unknown or missing:
        found = " and ".join(
            f"{kind} {_listed(those)}" for kind, those in (("unknown", unknown), ("missing", missing)) if those
        )
        raise CheckpointError(f"checkpoint: {found}; expected the tensors of the released protein network")
    config = infer_config(tensors)
    with torch.device("meta"):
        network = DigReleaseNetwork(config)
    expected = network.state_dict()
    for theirs, ours in names.items():
        if tensors[theirs].shape != expected[ours].shape:
            raise CheckpointError(
                f"checkpoint: '{theirs}' has the shape {tuple(tensors[theirs].shape)}, expected {tuple(expected[ours].shape)} for a network of width "
                f"{config.dim} with {config.heads} heads"
            )
        if not (tensors[theirs].is_floating_point() and bool(torch.isfinite(tensors[theirs]).all())):
            raise CheckpointError(f"checkpoint: '{theirs}' holds values that are no finite real numbers; fetch the file again")
    network = network.to_empty(device="cpu")
    network.load_state_dict({ours: tensors[theirs].float() for theirs, ours in names.items()})
    denoiser = DigReleaseDenoiser(network, released_process())
    denoiser.requires_grad_(False).eval()
    return Model(
        name=NAME,
        domain="protein",
        denoiser=denoiser,
        network={"kind": KIND, **dataclasses.asdict(config)},
        sampler=SAMPLER,
        scope=Scope(transferable=True),
        card=CARD,
    )


def convert_checkpoint(path: str | Path, folder: str | Path) -> Model:
    """Converts the released checkpoint to a model folder, and returns the model."""
    return released_model(read_checkpoint(path)).save(folder)


def _listed(names: Collection[str]) -> str:
    """Returns the first names of many."""
    first = ", ".join(f"'{name}'" for name in list(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"
