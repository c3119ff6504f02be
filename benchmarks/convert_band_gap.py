r"""Converts the published band gap networks into those that come with the package, src/equilibra/properties/weights/.

    python benchmarks/convert_band_gap.py cgcnn band-gap.pth.tar atom_init.json
    python benchmarks/convert_band_gap.py megnet state.pt model.json

`band-gap.pth.tar` and `atom_init.json` are those of github.com/txie-93/cgcnn (folders pre-trained/ and data/sample-regression/; MIT), `state.pt` and `model.json` those of
MEGNet-MP-2019.4.1-BandGap-mfi in github.com/materialsvirtuallab/matgl (BSD-3). Only tensors and plain numbers are loaded, never code.

What is computed stays the same, in fewer operations: normalisations over a batch become the affine maps that they are after training, and are multiplied into the layers
in front; the vectors that describe elements are passed through the first layer; layers that read several features side by side are taken apart.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from equilibra.nn.cgcnn import CGCNN, CGCNNConfig
from equilibra.nn.megnet import MEGNet, MEGNetConfig
from equilibra.properties.band_gap import WEIGHTS, BandGapCard, write_predictor

Network = TypeVar("Network", bound=nn.Module)

# hydrogen to plutonium without Po, At, Rn, Fr and Ra, as in matgl; the paper of the other network counts 87 elements and names none
ELEMENTS = tuple(z for z in range(1, 95) if not 84 <= z <= 88)

_BATCH_NORM_EPS = 1e-5  # PyTorch's default, with which the network was trained


def load(path: Path) -> dict[str, Any]:
    """Loads a PyTorch file without executing anything in it."""
    return torch.load(path, map_location="cpu", weights_only=True)


def widest(mean: float, std: float) -> float:
    """Returns the gap up to which a network is called known: three standard deviations above the mean of its training gaps."""
    return round(mean + 3.0 * std, 1)


def affine(norm: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns scale and shift of a trained normalisation over a batch."""
    scale = norm["weight"] / torch.sqrt(norm["running_var"] + _BATCH_NORM_EPS)
    return scale, norm["bias"] - norm["running_mean"] * scale


def convert_cgcnn(checkpoint: Path, atoms: Path) -> tuple[CGCNN, BandGapCard]:
    """Converts the network of Xie and Grossman (2018)."""
    content = load(checkpoint)
    published = {name: value.double() for name, value in content["state_dict"].items()}
    table = json.loads(atoms.read_text(encoding="utf-8"))
    described = torch.tensor([table[str(z)] for z in ELEMENTS], dtype=torch.float64)
    mean, std = (float(content["normalizer"][key]) for key in ("mean", "std"))
    size = content["args"]
    config = CGCNNConfig(
        elements=ELEMENTS,
        dim=size["atom_fea_len"],
        hidden=size["h_fea_len"],
        layers=size["n_conv"],
        target_mean=mean,
        target_std=std,
    )
    weights = {"embedding.weight": described @ published["embedding.weight"].T + published["embedding.bias"]}
    for layer in range(config.layers):
        theirs, ours = f"convs.{layer}.", f"convolutions.{layer}."
        norms = [
            {name.removeprefix(theirs + norm): value for name, value in published.items() if name.startswith(theirs + norm)}
            for norm in ("bn1.", "bn2.")
        ]
        (scale, shift), (weights[ours + "scale"], weights[ours + "shift"]) = map(affine, norms)
        full = published[theirs + "fc_full.weight"] * scale[:, None]
        weights[ours + "receiver.bias"] = published[theirs + "fc_full.bias"] * scale + shift
        parts = full.split((config.dim, config.dim, full.shape[1] - 2 * config.dim), dim=1)
        for name, part in zip(("receiver", "sender", "bond"), parts, strict=True):
            weights[f"{ours}{name}.weight"] = part
    for theirs, ours in (("conv_to_fc", "pooled"), ("fc_out", "out")):
        weights |= {f"{ours}.{kind}": published[f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    card = BandGapCard(
        name="cgcnn",
        summary="Crystal graph convolutional network of the Materials Project's gaps.",
        data=f"{size['train_size']:,} semiconductors of the Materials Project (April 2017) with PBE gaps, mean {mean:.2f} eV, standard deviation {std:.2f} eV.",
        licence="MIT, copyright 2018 Tian Xie",
        source="https://github.com/txie-93/cgcnn, pre-trained/band-gap.pth.tar, data/sample-regression/atom_init.json",
        references=("Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), https://doi.org/10.1103/PhysRevLett.120.145301",),
        fidelities=("PBE",),
        known=(0.2, widest(mean, std)),
        error=0.388,
        not_good_for="Metals and semimetals, which were not in its data: their gap is not zero here. Phases of carbon.",
    )
    return filled(CGCNN(config), weights), card


def convert_megnet(state: Path, description: Path) -> tuple[MEGNet, BandGapCard]:
    """Converts the multi-fidelity network of Chen et al. (2021), as it was trained again for matgl."""
    published = {name.removeprefix("model."): value.double() for name, value in load(state).items()}
    values = json.loads(description.read_text(encoding="utf-8"))["kwargs"]
    size = values["model"]["init_args"]
    mean, std = (float(x) for x in re.findall(r"\d+\.\d+", values["target_transformer"]))
    # the description says three steps of the readouts; the weights were trained with two, see docs/crystals.md
    config = MEGNetConfig(
        elements=ELEMENTS,
        states=size["ntypes_state"],
        cutoff=size["cutoff"],
        basis=size["dim_edge_embedding"],
        r_max=float(published["bond_expansion.rbf.centers"][-1]),
        sharpness=size["gauss_width"],
        embedding=size["dim_node_embedding"],
        dim=size["hidden_layer_sizes_conv"][-1],
        hidden=size["hidden_layer_sizes_conv"][0],
        blocks=size["nblocks"],
        readouts=2,
        output=tuple(size["hidden_layer_sizes_output"]),
        target_mean=mean,
        target_std=std,
    )
    weights = {
        "element.weight": published["embedding.layer_node_embedding.weight"],
        "fidelity.weight": published["embedding.layer_state_embedding.weight"],
    }

    def take(theirs: str, ours: str) -> None:
        """Takes the layers of a perceptron, or those that there are."""
        weights.update(
            {
                name.replace(f"{theirs}.layers.", f"{ours}."): value
                for name, value in published.items()
                if name.startswith(f"{theirs}.layers.")
            }
        )

    for theirs, ours in (("edge", "bond"), ("node", "atom"), ("state", "state")):
        take(f"{theirs}_encoder", f"{ours}_in")
        for block in range(config.blocks):
            take(f"blocks.{block}.{theirs}_func", f"blocks.{block}.{ours}_in")
            if theirs != "edge":
                take(f"blocks.{block}.conv.{theirs}_func", f"blocks.{block}.{ours}")
    for block in range(config.blocks):
        theirs, ours = f"blocks.{block}.conv.edge_func.layers.", f"blocks.{block}.bond."
        for name, part in zip(
            ("sender", "receiver", "bond", "state"), published[f"{theirs}0.weight"].split(config.dim, dim=1), strict=True
        ):
            weights[f"{ours}{name}.weight"] = part
        weights[f"{ours}bond.bias"] = published[f"{theirs}0.bias"]
        for kind in ("weight", "bias"):
            weights |= {f"{ours}rest.{layer - 1}.{kind}": published[f"{theirs}{layer}.{kind}"] for layer in (2, 4)}
    for theirs, ours in (("node_s2s", "read_atoms"), ("edge_s2s", "read_bonds")):
        for kind in ("weight", "bias"):
            weights[f"{ours}.question.{kind}"] = published[f"{theirs}.lstm.{kind}_ih_l0"]
            weights[f"{ours}.memory.{kind}"] = published[f"{theirs}.lstm.{kind}_hh_l0"]
    take("output_proj", "out")
    card = BandGapCard(
        name="megnet",
        summary="Materials graph network of gaps by PBE, GLLB-SC, HSE and SCAN.",
        data="48,912 gaps of the Materials Project (April 2019) and of sets of the other methods, metals included; "
        f"mean {mean:.2f} eV, standard deviation {std:.2f} eV.",
        licence="BSD-3-Clause, copyright 2022 Materials Virtual Lab",
        source="https://github.com/materialsvirtuallab/matgl, pretrained_models/MEGNet-MP-2019.4.1-BandGap-mfi",
        references=(
            "Chen et al., Chem. Mater. 31, 3564 (2019), https://doi.org/10.1021/acs.chemmater.9b01294",
            "Chen et al., Nat. Comput. Sci. 1, 46 (2021), https://doi.org/10.1038/s43588-020-00002-x",
        ),
        fidelities=("PBE", "GLLB-SC", "HSE", "SCAN"),
        known=(0.0, widest(mean, std)),
        error=0.314,
        not_good_for="Crystals far from those of the Materials Project, such as amorphous or strained ones.",
    )
    return filled(MEGNet(config), weights), card


def filled(network: Network, weights: dict[str, Tensor]) -> Network:
    """Returns the network with weights for every name, in single precision."""
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("cgcnn", "megnet"))
    parser.add_argument("weights", type=Path, help="the PyTorch file")
    parser.add_argument("description", type=Path, help="the JSON file that goes with it")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder to write to")
    arguments = parser.parse_args()
    convert = {"cgcnn": convert_cgcnn, "megnet": convert_megnet}[arguments.name]
    network, card = convert(arguments.weights, arguments.description)
    write_predictor(arguments.out, network, card)
    print(f"{arguments.out / card.name}.safetensors: {sum(p.numel() for p in network.parameters()):,} weights")


if __name__ == "__main__":
    main()
