r"""Classifier-free guidance: a model that was trained with labels, and without, asked for both.

.. math:: \delta = \delta(x \mid \varnothing) + w\, [\delta(x \mid c) - \delta(x \mid \varnothing)]

w = 1 is the labelled model itself. Other weights have no distribution that they sample: they trade variety for agreement with the label.
Reference: Ho and Salimans (2022), https://arxiv.org/abs/2207.12598
"""

from __future__ import annotations

from torch import Tensor

from equilibra.diffusion.denoiser import Denoiser, Prediction
from equilibra.errors import ConfigError
from equilibra.state.state import State


class ClassifierFree(Denoiser):
    """Extrapolates from a denoiser without the label through one with it.

    Arguments:
        free: Denoiser without the label.
        labelled: Denoiser with the label, of the same process.
        weight: The weight w; 0 is the free one, 1 the labelled one.

    Raises:
        ConfigError: If the processes differ.
    """

    def __init__(self, free: Denoiser, labelled: Denoiser, weight: float) -> None:
        if free.process != labelled.process:
            raise ConfigError("classifier-free guidance: the two denoisers have different processes; bind one model twice")
        self.free, self.labelled, self.weight, self.process = free, labelled, weight, labelled.process

    def __call__(self, state: State, t: Tensor) -> Prediction:  # noqa: D102
        labelled = self.labelled(state, t).displacements
        if self.weight == 1.0:
            return Prediction(labelled)
        free = self.free(state, t).displacements
        return Prediction({name: free[name] + self.weight * (value - free[name]) for name, value in labelled.items()})

    def rows(self, index: slice | Tensor) -> ClassifierFree:  # noqa: D102
        return ClassifierFree(self.free.rows(index), self.labelled.rows(index), self.weight)
