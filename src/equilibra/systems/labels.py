r"""Labels: numbers that a model was trained with, such as a band gap, and that samples can be asked for.

A network is told, of each label, the value in units of the training's deviation and whether there is one at all,

.. math:: c = (k\, z,\ k), \qquad z = (y - \bar y) / s, \qquad k = 1 \text{ where the label is given, else } 0,

so that one network knows the distribution with every label and without: in training a label is left out now and then, and where the data have none.
Reference: Ho and Salimans (2022), https://arxiv.org/abs/2207.12598
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from equilibra.errors import InputError

WIDTH = 2
"""Conditions of the network for each label."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """One label of a training.

    Attributes:
        name: Name, a column of the data.
        mean: Mean over the training.
        deviation: Standard deviation over the training.
        low: Lowest value of the training.
        high: Highest value of the training.
        share: Share of the training that has a value.
    """

    name: str
    mean: float
    deviation: float
    low: float
    high: float
    share: float = 1.0

    @classmethod
    def measured(cls, name: str, values: Tensor, weights: Tensor) -> Self:
        """Measures a label over a training.

        Arguments:
            name: Its name.
            values: Values (samples,), nan where there is none.
            weights: Relative probability (samples,) of each sample.

        Raises:
            InputError: If fewer than two samples have a value, or all have the same.
        """
        known = torch.isfinite(values)
        if int(known.sum()) < 2:
            raise InputError(f"label '{name}': {int(known.sum())} of {len(values)} samples have a value, expected at least 2")
        y, w = values[known].double(), weights[known].double()
        share = float(w.sum() / weights.double().sum())
        w = w / w.sum()
        mean = float(w @ y)
        deviation = math.sqrt(float(w @ (y - mean) ** 2))
        if not deviation > 0.0:
            raise InputError(f"label '{name}': all samples have the value {mean:g}, from which nothing can be learned")
        return cls(name=name, mean=mean, deviation=deviation, low=float(y.min()), high=float(y.max()), share=share)


def conditions(labels: Sequence[Label], values: Tensor) -> Tensor:
    """Returns what a network is told of samples, with shape (samples, WIDTH * labels), for values (samples, labels) that are nan where there is none."""
    if not labels:
        return values.new_zeros(len(values), 0, dtype=torch.float32)
    centre = torch.tensor([label.mean for label in labels], dtype=torch.float64, device=values.device)
    unit = torch.tensor([label.deviation for label in labels], dtype=torch.float64, device=values.device)
    known = torch.isfinite(values)
    z = torch.where(known, (values.double() - centre) / unit, 0.0)
    return torch.stack([z, known.double()], dim=-1).flatten(1).float()


def wanted_values(labels: Sequence[Label], wanted: Mapping[str, float] | None, name: str) -> Tensor:
    """Returns the values (1, labels) that samples are asked for, nan for labels that are left open.

    Arguments:
        labels: Labels of the model.
        wanted: Values by the names of labels.
        name: Name of the model, for messages.

    Raises:
        InputError: If a label is unknown, or a value is not a finite number.
    """
    asked = dict(wanted or {})
    known = [label.name for label in labels]
    for key, value in asked.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            has = f"its labels are {', '.join(known)}" if known else "it was trained without labels; train one with --label"
            raise InputError(f"label: '{name}' has no label '{key}'{hint} ({has})")
        if not math.isfinite(value):
            raise InputError(f"label '{key}': got {value}, expected a finite number")
    return torch.tensor([[float(asked.get(key, math.nan)) for key in known]], dtype=torch.float64)


def label_doubts(labels: Sequence[Label], wanted: Mapping[str, float] | None) -> list[str]:
    """Returns a sentence for each value that lies outside of what a model has seen."""
    asked = wanted or {}
    return [
        f"label '{label.name}': {asked[label.name]:g} lies outside {label.low:g} to {label.high:g}, which is what the model has seen"
        for label in labels
        if label.name in asked and not label.low <= asked[label.name] <= label.high
    ]
