"""Where training batches come from."""

from typing import Protocol

from torch import Generator

from equilibra.diffusion.objectives.batch import TrainingBatch


class BatchSource(Protocol):
    """Anything that draws training batches: a fixed set of conformations, or a buffer that an engine fills."""

    @property
    def has_forces(self) -> bool:
        """Whether conformations come with forces, all of them or some."""

    def batch(self, size: int, *, generator: Generator) -> TrainingBatch:
        """Draws a batch; the same generator state gives the same batch as long as the data do not change."""
