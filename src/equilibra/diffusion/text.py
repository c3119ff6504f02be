"""Processes as text: the form in which checkpoints and configurations keep them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import Schedule, VarianceExploding, VarianceLinear, VarianceSigmoid
from equilibra.diffusion.slab import Slab
from equilibra.diffusion.space import SO3, CentredEuclidean, Euclidean, Fixed, Space, SymmetricMatrices, Torus
from equilibra.errors import ConfigError, unknown_key_message

SPACES: dict[str, type[Space]] = {
    "euclidean": Euclidean,
    "centred": CentredEuclidean,
    "so3": SO3,
    "torus": Torus,
    "slab": Slab,
    "symmetric": SymmetricMatrices,
    "fixed": Fixed,
}
"""Spaces by the name that checkpoints and configurations use."""

SCHEDULES: dict[str, type[Schedule]] = {
    "variance-exploding": VarianceExploding,
    "variance-linear": VarianceLinear,
    "variance-sigmoid": VarianceSigmoid,
}
"""Schedules by name."""


def space_from_name(name: str, **options: float | bool) -> Space:
    """Makes a Space from its name in `SPACES` and its constructor options."""
    if name not in SPACES:
        raise ConfigError(f"unknown Space '{name}' (known: {', '.join(sorted(SPACES))})")
    return SPACES[name](**options)


def _describe(value: object, kinds: Mapping[str, type]) -> dict[str, Any]:
    name = next(name for name, kind in kinds.items() if type(value) is kind)
    return {"kind": name, **{f.name: getattr(value, f.name) for f in fields(value)}}  # type: ignore[arg-type]


def process_to_dict(process: Process) -> dict[str, Any]:
    """Returns the JSON form of a process; `process_from_dict` is the inverse."""
    return {
        name: {
            "space": _describe(field.space, SPACES),
            "schedule": _describe(field.schedule, SCHEDULES),
            "data_scale": field.data_scale,
        }
        for name, field in process.fields.items()
    }


def process_from_dict(values: Mapping[str, Any]) -> Process:
    """Reads a process from its JSON form.

    Raises:
        ConfigError: If a key is unknown or missing; the message names the nearest known one.
    """
    return Process({name: _field(name, dict(value)) for name, value in values.items()})


def _field(name: str, value: dict[str, Any]) -> Field:
    known = {"space", "schedule", "data_scale"}
    for key in value:
        if key not in known:
            raise ConfigError(unknown_key_message(f"key of field '{name}'", key, known))
    try:
        space, schedule = dict(value["space"]), dict(value["schedule"])
        kind = schedule.pop("kind")
        if kind not in SCHEDULES:
            raise ConfigError(unknown_key_message("schedule", kind, SCHEDULES))
        return Field(
            space=space_from_name(space.pop("kind"), **space),
            schedule=SCHEDULES[kind](**schedule),
            data_scale=value["data_scale"],
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(f"field '{name}' of the process: {error}") from error
