"""The Model: process, denoiser, domain and card. `load(name)` gives one; `sample` makes ensembles."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from equilibra.diffusion.denoiser import BoundDenoiser, Denoiser
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.diffusion.process import Process
from equilibra.diffusion.text import process_from_dict, process_to_dict
from equilibra.energies.energy import Energy
from equilibra.errors import CheckpointError, ConfigError, InputError, unknown_key_message
from equilibra.guidance.classifier_free import ClassifierFree
from equilibra.nn.fold_conditions import fold_conditions
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import noise_grid
from equilibra.state import Features, State
from equilibra.systems.blocks import BatchedDenoiser, Progress, RelaxedDrawing, SamplerDrawing, draw_blocks
from equilibra.systems.card import Card
from equilibra.systems.checkpoint import read_description, read_weights, write_model
from equilibra.systems.domain import domain
from equilibra.systems.guided import GuidedDrawing, block_size_of, check_guided, guided_sampler
from equilibra.systems.guides import GuideLike, ready_guides
from equilibra.systems.scope import Scope
from equilibra.systems.weighted import ENERGY, LEVELS, PathDrawing, boltzmann, path_of, weight_record
from equilibra.units import thermal_energy

Precision = Literal["fp32", "bf16"]

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
"""Folder of the shipped models."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model. Immutable; its weights are not to be changed.

    Attributes:
        name: What it is called.
        domain: Name of its domain.
        denoiser: Network with process.
        network: JSON form of the network's configuration.
        sampler: Default sampler.
        scope: What it was trained on.
        card: What to know before use.
        sha256: Hash of the weights file; empty for a model that was never written.
    """

    name: str
    domain: str
    denoiser: TrainedDenoiser
    network: Mapping[str, Any]
    sampler: SamplerConfig
    scope: Scope
    card: Card
    sha256: str = ""

    @property
    def process(self) -> Process:
        """Forward process."""
        return self.denoiser.process

    def save(self, folder: str | Path) -> Self:
        """Writes `model.json` and `model.safetensors` to a folder, and returns the model as it is there."""
        folder = Path(folder)
        description = {
            "name": self.name,
            "domain": self.domain,
            "process": process_to_dict(self.process),
            "network": dict(self.network),
            "parametrisation": self.denoiser.parametrisation,
            "sampler": dataclasses.asdict(self.sampler),
            "scope": self.scope.to_dict(),
            "card": self.card.to_dict(),
        }
        write_model(folder, description, dict(self.denoiser.network.state_dict()))
        return dataclasses.replace(self, sha256=str(read_description(folder)["sha256"]))

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Reads a model folder.

        Raises:
            CheckpointError: If a file is missing or corrupted, or of another schema.
        """
        folder = Path(folder)
        values = read_description(folder)
        weights = read_weights(folder, values["sha256"])
        denoiser = domain(values["domain"]).denoiser(
            process_from_dict(values["process"]), values["network"], values["parametrisation"]
        )
        try:
            denoiser.network.load_state_dict({name: value.float() for name, value in weights.items()})
        except RuntimeError as error:
            raise CheckpointError(f"model '{folder}': weights and description do not fit: {error}") from error
        denoiser.requires_grad_(False).eval()
        return cls(
            name=values["name"],
            domain=values["domain"],
            denoiser=denoiser,
            network=values["network"],
            sampler=SamplerConfig.from_dict(values["sampler"]),
            scope=Scope.from_dict(values["scope"]),
            card=Card.from_dict(values["card"]),
            sha256=values["sha256"],
        )

    def systems(self, source: Any, *, outside_scope: bool = False) -> list[Any]:
        """Reads the systems of a user's input, and checks that the model was trained for each.

        Arguments:
            source: What the domain reads: for molecules a peptide's name, SMILES, file or RDKit molecule.
            outside_scope: Allow systems that the model was not trained for. Nothing is known of the result then.
        """
        module = domain(self.domain)
        systems = module.systems(module.meant(source, self.scope))
        if not outside_scope:
            for system in systems:
                module.check_scope(system, self.scope, self.name)
        return list(systems)

    def template(self, system: Any, n: int) -> State:
        """Makes a State with the shapes of n samples of a system, and its fixed fields; of a domain with several kinds of State, the one that the process is of."""
        module = domain(self.domain)
        if hasattr(module, "template_of"):
            return module.template_of(self.process, system, n)
        return module.template(system, n)

    def bind(
        self,
        system: Any,
        *,
        temperature: float | None = None,
        labels: Mapping[str, float] | None = None,
        compile: bool = False,
        precision: Precision = "fp32",
    ) -> BoundDenoiser:
        """Returns the denoiser of one system, for any number of samples.

        Arguments:
            system: The system.
            temperature: Temperature in K, for a model of several; by default the one that it is meant for.
            labels: Values of labels that the model was trained with, by name; those that are left out are open.
            compile: Compile the network.
            precision: `fp32`, or `bf16` autocast of the network; coordinates stay in fp32.
        """
        if precision not in get_args(Precision):
            raise ConfigError(f"precision: got '{precision}', expected fp32 or bf16")
        if compile and self.denoiser.parametrisation == "energy":
            raise ConfigError(
                f"compile: the score of '{self.name}' is a gradient, which compiled code does not give; leave it out"
            )
        domain(self.domain).check_features(system, self.network, self.name)
        conditions = self.scope.conditions(temperature, self.name)
        features = system.features.shared()
        if conditions:
            features = features.conditioned(conditions)
        told = self.scope.told(labels, self.name)
        if told.numel():
            features = features.conditioned(told)
        network: Callable[..., Any] = torch.compile(self.denoiser, dynamic=False) if compile else self.denoiser

        def function(state: State, t: Tensor, features: Features) -> Any:
            with torch.autocast(state.device.type, torch.bfloat16, enabled=precision == "bf16"):
                return network(state, t, features)

        return BoundDenoiser(self.process.of_system(features), function, features)

    def sample(
        self,
        source: Any,
        n: int = 1000,
        *,
        seed: int = 0,
        sampler: SamplerConfig | None = None,
        energy: str | Energy | None = None,
        levels: int | None = None,
        smc: int | None = None,
        relax: str | None = None,
        guides: Sequence[GuideLike] | None = None,
        corrected: bool = True,
        labels: Mapping[str, float] | None = None,
        label_strength: float = 1.0,
        block_size: int | None = None,
        batch_size: int | None = None,
        folder: str | Path | None = None,
        temperature: float | None = None,
        outside_scope: bool = False,
        compile: bool = False,
        precision: Precision = "fp32",
        progress: Callable[[Progress], None] = lambda state: None,
    ) -> Any:
        """Draws `n` valid samples of one system.

        Arguments:
            source: One system, or what the domain reads as one.
            n: Number of valid samples.
            seed: The same seed gives the same samples, whatever the batch size.
            sampler: Sampler and grid; the model's own by default. Not with an energy; with guides `sde2m`, unless they are not corrected.
            energy: Weight the samples for the Boltzmann distribution of this energy: its name, or the energy itself in eV. They are then drawn
                along paths (`systems.weighted`); with it a model of one temperature may be weighted for any other.
            levels: Noise levels of those paths, `weighted.LEVELS` by default.
            smc: Anneal the paths of each block to the energy, with so many moves between levels (`density.path_annealing`): for weights that are too uneven,
                with blocks of some hundred samples. Samples of a block are relatives then.
            relax: Relax each sample in the energy of this name before it is checked, for ligands: poses are minima then, with energies and without weights. Not with
                an energy or guides.
            guides: Guide the samples towards properties: texts such as `radius-of-gyration=7.5` (`systems.guides`), or guides. Each block is then one population
                with weights for the model's distribution times the likelihood of the guides (`systems.guided`); some hundred samples are a good block.
            corrected: With guides, draw those weights; without, a guess of the wanted distribution by the sampler, without weights.
            labels: Values that labels of the model's training are to have, by name; those that are left out are open.
            label_strength: Exponent of the labels' likelihood, at the price of a second network call: 1 is what the model was trained for, more an extrapolation
                that trades variety for agreement (`guidance.classifier_free`).
            block_size: Samples of a block, the unit that is kept when a run is interrupted; by default 50, or 100 of guided samples with weights.
            batch_size: Samples given to the network at once; by default a block, or as many as memory has room for.
            folder: Run folder, in which an interrupted run goes on. None keeps everything in memory.
            temperature: Temperature in K, for a model of several; by default the one that it is meant for.
            outside_scope: Allow a system that the model was not trained for.
            compile: Compile the network first: worth it from some ten thousand samples on.
            precision: `fp32`, or `bf16` for twice the speed of a compiled network; other samples of the same quality (docs, results).
            progress: Called with the state of the run.

        Returns:
            The domain's ensemble, with its provenance. With an energy it has log-weights and energies; with guides log-weights, if corrected, and the values of
            their properties.

        Raises:
            InputError: If the source is no single system, or is outside the model's scope; if the energy is unknown, does not fit the system, or
                is given together with a sampler or guides; if a guide cannot be read or used; if the temperature is not positive.
            EquilibraError: If too few samples are valid.
        """
        if n < 1:
            raise InputError(f"n: got {n}, expected at least 1 sample")
        module = domain(self.domain)
        if hasattr(source, "features") and hasattr(source, "digest"):
            system = source
            if not outside_scope:
                module.check_scope(system, self.scope, self.name)
        else:
            systems = self.systems(source, outside_scope=outside_scope)
            if len(systems) != 1:
                raise InputError(f"'{source}' holds {len(systems)} systems, expected one; sample them one by one")
            system = systems[0]
        identity = self.identity(
            system,
            sampler=sampler,
            energy=energy,
            levels=levels,
            smc=smc,
            relax=relax,
            guides=guides,
            corrected=corrected,
            labels=labels,
            label_strength=label_strength,
            temperature=temperature,
            precision=precision,
        )
        ready = None if guides is None else ready_guides(guides, self.domain, system)
        block_size = block_size_of(block_size, corrected=ready is not None and corrected)
        at_once = module.fitting_batch(system, self.network, batch_size, block_size, gradients=ready is not None)
        kelvin = self.scope.temperature if temperature is None else temperature
        own = self.sampler if sampler is None else sampler
        drawing: SamplerDrawing | RelaxedDrawing | PathDrawing | GuidedDrawing
        kept = None if folder is None else Path(folder) / "blocks"
        if ready is not None:
            check_guided(ready, corrected=corrected, block_size=block_size)
            drawing = GuidedDrawing(
                ready,
                guided_sampler(own, sampler, corrected=corrected),
                self.process,
                self.sampler,
                lambda state: module.valid(system, state),
                seed,
                corrected,
                at_once,
                None if kept is None else kept / "guides.json",
            )
        elif energy is None:
            drawing = SamplerDrawing(own.make(), noise_grid(self.process, own.grid))
            if relax is not None:
                potential = module.energy(system, relax)
                drawing = RelaxedDrawing(drawing, lambda state: module.relaxed(system, state, potential), ENERGY)
        else:
            chosen = module.energy(system, energy) if isinstance(energy, str) else energy
            drawing = PathDrawing(
                path_of(self.process, identity["levels"]),
                boltzmann(chosen, kelvin, module.reference(system)),
                lambda state: module.positions(system, state),
                lambda state: module.valid(system, state),
                own,
                seed,
                None if kept is None else kept / "kernels.json",
                moves=smc or 0,
            )
        plain = isinstance(drawing, SamplerDrawing)
        several = energy is None or self.scope.temperatures is not None
        how: dict[str, Any] = {"temperature": temperature if several else None, "compile": compile, "precision": precision}
        bound: Denoiser = self.bind(system, **how)
        extrapolated = bool(labels) and label_strength != 1.0
        if labels:
            told = self.bind(system, labels=labels, **how)
            bound = ClassifierFree(bound, told, label_strength) if extrapolated else told
        drawn = draw_blocks(
            bound,
            drawing,
            lambda size: self.template(system, size),
            (lambda batch: module.valid(system, batch.state))
            if isinstance(drawing, SamplerDrawing | RelaxedDrawing)
            else drawing.check,
            n=n,
            seed=seed,
            block_size=block_size,
            batch_size=at_once,
            folder=None if folder is None else Path(folder),
            identity=identity,
            advice=module.TOO_FEW if plain and hasattr(module, "TOO_FEW") else "",
            progress=progress,
        )
        records: dict[str, Any] = {}
        if isinstance(drawing, PathDrawing):
            records["path_weights"] = weight_record(drawn.blocks, n, seed)
            if drawing.reduced.energy.failures:
                records["path_weights"]["failures"] = dict(drawing.reduced.energy.failures)
        if isinstance(drawing, GuidedDrawing):
            batched = BatchedDenoiser(bound, at_once)
            records["guidance"] = drawing.record(drawn.blocks, n, batched, self.template(system, 1))
        provenance = {
            **identity,
            "seed": seed,
            "block_size": block_size,
            "network_calls": drawing.network_calls * (2 if extrapolated else 1),
            "drawn": sum(len(block.valid) for block in drawn.blocks),
            "temperature_k": kelvin,
            **records,
            "versions": versions(),
            "timing": {
                "seconds": round(drawn.seconds, 3),
                "samples_per_second": round(drawn.samples / drawn.seconds, 2) if drawn.seconds > 0 else None,
                "threads": torch.get_num_threads(),
            },
        }
        return module.ensemble(system, drawn.blocks, n, provenance)

    def identity(
        self,
        system: Any,
        *,
        sampler: SamplerConfig | None = None,
        energy: str | Energy | None = None,
        levels: int | None = None,
        smc: int | None = None,
        relax: str | None = None,
        guides: Sequence[GuideLike] | None = None,
        corrected: bool = True,
        labels: Mapping[str, float] | None = None,
        label_strength: float = 1.0,
        temperature: float | None = None,
        precision: Precision = "fp32",
    ) -> dict[str, Any]:
        """Returns what defines a run of `sample` besides its seed and block size, as JSON; arguments and errors are those of `sample`."""
        kelvin = self.scope.temperature if temperature is None else temperature
        common: dict[str, Any] = {
            "kind": f"samples of {self.domain}",
            "model": self.name,
            "weights": self.sha256,
            "system": system.digest,
        }
        if not 0.0 < label_strength < float("inf"):
            raise InputError(f"label_strength: got {label_strength:g}, expected a positive number")
        if not labels and label_strength != 1.0:
            raise InputError("label_strength: has an effect on samples with labels only; give labels, or leave it out")
        self.scope.told(labels, self.name)
        if labels:
            common |= {"labels": {key: float(value) for key, value in sorted(labels.items())}, "label_strength": label_strength}
        if guides is None and not corrected:
            raise InputError("corrected: has an effect on guided samples only; give guides, or leave it out")
        if (relax is not None or energy is not None) and hasattr(domain(self.domain), "check_energy"):
            domain(self.domain).check_energy(self.process, self.name)
        if relax is not None:
            if not hasattr(domain(self.domain), "relaxed"):
                raise InputError(
                    f"relax: samples are relaxed as they are drawn for ligands only, not of the domain '{self.domain}'"
                )
            if energy is not None or guides is not None:
                raise InputError("relax: relaxed samples have no weights, those with an energy or guides have; leave one out")
        if energy is not None:
            if guides is not None:
                raise InputError(
                    "guides: cannot be combined with an energy, whose paths have weights of their own; leave one out. Guided samples have weights for the "
                    "model's distribution"
                )
            if sampler is not None:
                raise InputError(
                    "sampler: samples with an energy are drawn along paths, no sampler gives their weights; leave one out"
                )
            if smc is not None and smc < 1:
                raise InputError(f"smc: got {smc}, expected at least 1 move between levels")
            if kelvin is None:
                raise InputError(f"temperature: the model '{self.name}' has none, so weights are not defined; give one in K")
            return {
                **common,
                "sampler": "path",
                "levels": LEVELS if levels is None else levels,
                **({} if smc is None else {"smc": smc}),
                "energy": energy if isinstance(energy, str) else energy.name,
                "temperature_k": kelvin,
                "kt_ev": thermal_energy(kelvin),
                "precision": precision,
            }
        if smc is not None:
            raise InputError("smc: anneals samples to an energy; give one, or leave smc out")
        if levels is not None:
            raise InputError(
                "levels: has an effect on samples with an energy only; a sampler's grid has its own number of steps"
            )
        used = self.sampler if sampler is None else sampler
        guided: dict[str, Any] = {}
        if guides is not None:
            used = guided_sampler(self.sampler, sampler, corrected=corrected)
            texts = [ready.text for ready in ready_guides(guides, self.domain, system)]
            guided = {"guides": texts, "corrected": corrected}
        return {
            **common,
            "sampler": dataclasses.asdict(used),
            **guided,
            **({} if relax is None else {"relaxed_by": relax}),
            "precision": precision,
            **({} if kelvin == self.scope.temperature else {"temperature_k": kelvin}),
        }

    def parameters(self) -> int:
        """Returns the number of weights."""
        return sum(value.numel() for value in self.denoiser.network.parameters())

    def at_temperature(self, temperature: float | None = None) -> Self:
        """Returns what a model of several temperatures is at one of them: a model of one temperature, whose network is told none (`nn.fold_conditions`).

        A model of one temperature is returned as it is.

        Arguments:
            temperature: Temperature in K; by default the one that the model is meant for.

        Raises:
            InputError: If the model was not trained for the temperature.
        """
        conditions = self.scope.conditions(temperature, self.name)
        if not conditions:
            return self
        kelvin = self.scope.temperature if temperature is None else temperature
        scope = dataclasses.replace(self.scope, temperature=kelvin, temperatures=None)
        told_none = dataclasses.replace(self, network={**self.network, "conditions": 0}, scope=scope)
        return told_none.with_weights(fold_conditions(self.denoiser.network, conditions))

    def with_weights(self, weights: Mapping[str, Tensor]) -> Self:
        """Returns a model of the same kind with other weights of the network."""
        denoiser = domain(self.domain).denoiser(self.process, self.network, self.denoiser.parametrisation)
        denoiser.network.load_state_dict(dict(weights))
        denoiser.requires_grad_(False).eval()
        return dataclasses.replace(self, denoiser=denoiser, sha256="")


def versions() -> dict[str, str]:
    """Returns the versions of the package and of what its numbers depend on."""
    from importlib.metadata import version

    return {"equilibra": version("equilibra"), "torch": torch.__version__, "python": platform.python_version()}


def shipped() -> list[str]:
    """Returns the names of the models that come with the package."""
    return sorted(folder.parent.name for folder in WEIGHTS.glob("*/model.json"))


def load(name: str | Path) -> Model:
    """Loads a model by the name of a shipped one, or by the path of a model folder.

    Raises:
        InputError: If there is neither such a shipped model nor such a folder.
        CheckpointError: If the model's files are corrupted.
    """
    names = shipped()
    if str(name) in names:
        return Model.read(WEIGHTS / str(name))
    path = Path(name)
    for folder in (path, path / "model"):
        if (folder / "model.json").is_file():
            return Model.read(folder)
    if path.exists():
        raise InputError(f"model '{name}': no model.json in that folder; expected one written by `equilibra train`")
    raise InputError(f"{unknown_key_message('model', str(name), names)}; a path of a model folder is also accepted")
