"""What the command line knows of each domain before anything is imported: default model, formats, options; and its functions, imported when called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from equilibra.cli.checks import one_of
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.model import Model

DEFAULT_MODELS = {
    "molecule": "molecule-ala2",
    "protein": "protein-mini",
    "crystal": "crystal-carbon24",
    "ligand": "ligand-pocket",
    "adsorbate": "adsorbate-metals",
}
"""The shipped model that a domain's commands use where none is named."""

DOMAINS = tuple(DEFAULT_MODELS)
"""The domains by name, as `systems.domain` has them, which imports PyTorch."""

FORMATS = {
    "molecule": ("xtc", "dcd", "npz", "pdb", "sdf", "extxyz"),
    "protein": ("xtc", "dcd", "npz", "pdb"),
    "crystal": ("extxyz", "cif.zip", "npz"),
    "ligand": ("sdf", "npz"),
    "adsorbate": ("extxyz", "traj", "db", "npz"),
}
"""Formats of a domain's samples."""

PLURAL = {"molecule": "molecules", "protein": "proteins", "crystal": "crystals", "ligand": "ligands", "adsorbate": "adsorbates"}

DEFAULT_FORMATS = {
    "molecule": ("xtc",),
    "protein": ("xtc",),
    "crystal": ("extxyz", "cif.zip"),
    "ligand": ("sdf",),
    "adsorbate": ("extxyz", "traj", "npz"),
}
"""Formats that samples are written in where none is named."""


def default_model(domain: str) -> str:
    """Returns the name of the model that a domain's commands use where none is named.

    Raises:
        InputError: If this installation has none.
    """
    from equilibra.systems.model import shipped

    name = DEFAULT_MODELS[domain]
    if name not in shipped():
        raise InputError(
            f"--model: no model of {PLURAL[domain]} comes with this installation; name the folder of one, such as that of "
            f"`equilibra train {domain}`"
        )
    return name


def model_of(domain: str, name: str | None) -> Model:
    """Loads the named model, or the default one of a domain, and checks that it is of that domain.

    Raises:
        InputError: If there is no such model, or it is of another domain.
    """
    from equilibra.systems.model import load

    name = default_model(domain) if name is None else name
    model = load(name)
    if model.domain != domain:
        raise InputError(
            f"model '{name}' is of the domain '{model.domain}', not '{domain}'; `equilibra models` lists what there is"
        )
    return model


def formats_of(domain: str, wanted: Sequence[str]) -> list[str]:
    """Returns the wanted formats of samples, each once.

    Raises:
        InputError: If one is unknown, or not of the domain.
    """
    formats = list(dict.fromkeys(wanted))
    for name in formats:
        one_of("format", name, FORMATS[domain])
    return formats


def energies_of(domain: str) -> tuple[str, ...]:
    """Returns the names of the energies that samples of a domain can be weighted by."""
    if domain == "ligand":
        from equilibra.systems.ligand.energy import ENERGIES

        return ENERGIES
    from equilibra.systems.molecule.energy import energy_names

    return energy_names()


def refuse(domain: str, options: Mapping[str, tuple[object, str]]) -> None:
    """Refuses options that have no meaning for a domain.

    Arguments:
        domain: The domain.
        options: For each option as it is typed its value, which counts as given unless it is None, False or empty, and why it has no meaning.

    Raises:
        InputError: If one was given.
    """
    for option, (value, reason) in options.items():
        if value is not None and value is not False and value != []:
            raise InputError(f"{option}: has no meaning for {PLURAL[domain]}{reason}; leave it out")


def only_molecules(verb: str, source: str, instead: str = "") -> None:
    """Refuses the folder of an ensemble of a protein or a crystal.

    Arguments:
        verb: The command.
        source: What the user named.
        instead: What to do instead, in words that go on with the sentence.

    Raises:
        InputError: If it is one.
    """
    from equilibra.systems.ensemble_folder import kind_of

    kind = kind_of(source)
    if kind in ("protein", "crystal", "ligand", "adsorbate"):
        raise InputError(f"{verb}: '{source}' holds an ensemble of a {kind}, and this command is for molecules{instead}")


def chain_names(texts: Sequence[str] | None) -> list[str] | None:
    """Returns the names of chains in texts such as `A` or `A,B`; None where there is no text.

    Raises:
        InputError: If a name is empty.
    """
    if not texts:
        return None
    names = [name.strip() for text in texts for name in text.split(",")]
    if not all(names):
        raise InputError(f"--chains: got '{','.join(texts)}', expected names of chains such as A or A,B")
    return list(dict.fromkeys(names))


def reader_of(
    domain: str,
    model: Model,
    *,
    features: str | None = None,
    chains: Sequence[str] | None = None,
    check: Callable[[Any], object] = lambda system: None,
) -> Callable[..., list[Any]]:
    """Returns the function (source, on_error=...) that reads the systems of one source.

    Arguments:
        domain: The domain.
        model: The model that they are read for.
        features: For proteins, where the extra features come from, as `read_provider` takes it.
        chains: For proteins, names of the chains to take of structures.
        check: For proteins, what is checked of each before the features are asked for; it raises `InputError`.

    Raises:
        InputError: If the features cannot be read.
    """
    if domain == "protein":
        from equilibra.systems.protein.named_provider import read_provider
        from equilibra.systems.protein.sources import protein_systems

        provider = read_provider(features)
        return lambda source, on_error: protein_systems(source, provider, chains=chains, on_error=on_error, check=check)

    if domain == "adsorbate":
        from equilibra.systems.adsorbate.sources import adsorbate_systems

        return lambda source, on_error: adsorbate_systems(source)

    if domain == "crystal":
        from equilibra.systems.crystal.sources import crystal_systems

        return lambda source, on_error: crystal_systems(source)

    if domain == "ligand":
        from equilibra.systems.ligand.inputs import ligand_systems

        return lambda source, on_error: ligand_systems(source, on_error=on_error)

    from equilibra.systems.domain import domain as module_of
    from equilibra.systems.molecule.system import molecule_systems

    module = module_of(domain)
    return lambda source, on_error: molecule_systems(module.meant(source, model.scope), on_error=on_error)


def systems_of(
    model: Model,
    sources: Sequence[Any],
    read: Callable[..., list[Any]],
    *,
    outside_scope: bool,
    check: Callable[[Any], object] = lambda system: None,
) -> tuple[list[Any], list[InputError]]:
    """Reads all sources; a bad one, or a bad record of a file, does not sink the others.

    Arguments:
        model: The model that they are for.
        sources: What the user named.
        read: Reads one source, from `reader_of`.
        outside_scope: Allow systems that the model was not trained for.
        check: A further check of a system, which raises `InputError`.

    Returns:
        The systems that can be treated, and what is wrong with the others.
    """
    from equilibra.systems.domain import domain

    module = domain(model.domain)
    systems: list[Any] = []
    problems: list[InputError] = []
    for source in sources:
        try:
            found = read(source, on_error=problems.append)
        except InputError as error:
            problems.append(error)
            continue
        except MemoryError as error:
            what = source if len(source) <= 40 else f"{source[:24]}... ({len(source)} letters)"
            problems.append(
                InputError(
                    f"'{what}': memory is too short for the features of all pairs of its residues ({error}); take a shorter chain"
                )
            )
            continue
        for system in found:
            try:
                if not outside_scope:
                    module.check_scope(system, model.scope, model.name)
                module.check_features(system, model.network, model.name)
                check(system)
                systems.append(system)
            except InputError as error:
                problems.append(error)
    return systems, problems
