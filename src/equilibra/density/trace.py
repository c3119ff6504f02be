r"""Divergence of the displacement field, exactly or by Hutchinson's estimate.

On every Space, with an orthonormal frame :math:`e_k` of the tangent space and the retraction :math:`\exp_x` (on SO(3) the frame is the
global one, of right-invariant fields, which are free of divergence themselves),

.. math::
    \mathrm{div}\, \delta = \sum_k e_k \cdot \frac{d}{d\epsilon} \delta(\exp_x \epsilon e_k) \approx \frac1K \sum_{j=1}^K v_j \cdot J v_j, \qquad
    \mathrm E\, v v^\top = I

The first form takes :math:`D_{eff}` Jacobian-vector products, the second K. Rademacher probes have :math:`v \cdot v = D_{eff}`, so that any
multiple of the identity in J, the preconditioner's own part above all, is exact without a control variate; the variance of a probe is
:math:`2 |J_{sym,off}|_F^2`. Probes are drawn once for a trajectory: the integrand stays smooth.
References: Hutchinson (1989); Grathwohl et al. (2019), https://arxiv.org/abs/1810.01367
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from equilibra.density.compiled import compiled_products
from equilibra.density.differentiation import DIFFERENTIATIONS, Mode, Tangents, directional_products
from equilibra.diffusion.denoiser import Denoiser
from equilibra.errors import ConfigError
from equilibra.state.state import State

Kind = Literal["auto", "exact", "hutchinson"]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """How divergences are computed.

    Attributes:
        kind: `exact`, `hutchinson`, or `auto`: exact where no batch element has more than `exact_up_to` degrees of freedom.
        probes: Number K of Hutchinson's probes, at least 2, so that they give their own error.
        orthogonal: Probes of one field are orthogonal to each other (random directions of equal length), which lowers the variance where K is
            not small against the degrees of freedom. Needs K degrees of freedom in every field.
        exact_up_to: Limit of `auto`.
        rows: Largest number of (direction, batch element) pairs given to the denoiser at once.
        mode: Differentiation: `vmap` and `forward` are forward mode, over directions that share one evaluation or over copies of the batch;
            `reverse` is backpropagation. `auto` takes the first that works and agrees with a difference quotient.
        compile: Compile the forward derivative of a network (see `compiled`): a third of the time per trace, after about a minute. Smaller batches
            are filled up, so that one program serves all.
    """

    kind: Kind = "auto"
    probes: int = 16
    orthogonal: bool = False
    exact_up_to: int = 100
    rows: int = 256
    mode: Mode = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"trace: got '{self.kind}', expected one of {', '.join(get_args(Kind))}")
        if self.mode not in get_args(Mode):
            raise ConfigError(f"trace mode: got '{self.mode}', expected one of {', '.join(get_args(Mode))}")
        if self.probes < 2:
            raise ConfigError(f"trace probes: got {self.probes}, expected at least 2, from whose spread the error comes")
        if self.rows < 1:
            raise ConfigError(f"trace rows: got {self.rows}, expected at least 1")
        if self.compile and self.mode not in ("auto", "vmap"):
            raise ConfigError(f"trace: got compile with the mode '{self.mode}', expected 'vmap', the only one that is compiled")

    def exact(self, degrees: Tensor) -> bool:
        """Tells whether elements with these degrees of freedom (batch,) get the exact trace."""
        return self.kind == "exact" or (self.kind == "auto" and float(degrees.max()) <= self.exact_up_to)


def draw_probes(denoiser: Denoiser, state: State, trace: Trace, *, generator: Generator) -> Tangents | None:
    """Draws Hutchinson's probes for a batch; None where the trace is exact.

    Arguments:
        denoiser: Gives the Spaces of the fields.
        state: Gives shapes and masks. On every Space here the frame is the same at all points, so that probes serve a whole trajectory.
        trace: Number and kind.
        generator: The only source of randomness.

    Returns:
        For each moving field, tangent vectors (probes, batch, ...) with mean square I.

    Raises:
        ConfigError: If more orthogonal probes are asked for than a field has degrees of freedom.
    """
    process = denoiser.process
    if trace.exact(process.degrees(state)):
        return None
    probes: dict[str, Tensor] = {}
    for name in process.moving:
        space, x, mask = process.fields[name].space, state.fields[name], state.mask(name)
        if not trace.orthogonal:
            drawn = []
            for _ in range(trace.probes):
                bits = torch.randint(0, 2, (x.shape[0], space.frame_size(x)), generator=generator, device=x.device)
                drawn.append(space.from_frame((2 * bits - 1).to(x.dtype), x, mask))
            probes[name] = torch.stack(drawn)
            continue
        degrees = space.degrees(x, mask)
        if trace.probes > float(degrees.min()):
            raise ConfigError(
                f"trace: {trace.probes} orthogonal probes for the field '{name}' of {int(degrees.min())} degrees of freedom; "
                "use fewer, or the exact trace"
            )
        noise = torch.stack([space.tangent_noise(x, mask, generator=generator) for _ in range(trace.probes)], dim=-1)
        q, r = torch.linalg.qr(noise.flatten(1, -2).double())
        # with a positive diagonal of R the directions are uniform
        q = q * torch.sign(torch.diagonal(r, dim1=-2, dim2=-1))[:, None, :] * degrees.double().sqrt()[:, None, None]
        probes[name] = q.to(x.dtype).reshape(noise.shape).movedim(-1, 0)
    return probes


class Divergence:
    """Divergence of one denoiser's displacement fields, for one batch.

    Arguments:
        denoiser: Source of displacements.
        state: A State of the batch, which gives shapes and masks.
        trace: How.
        probes: Hutchinson's probes; None for the exact trace. See `draw_probes`.
        mode: Differentiation that is known to work; see `differentiation`.
    """

    def __init__(self, denoiser: Denoiser, state: State, trace: Trace, probes: Tangents | None, mode: Mode) -> None:
        self.denoiser, self.trace, self.probes, self.mode = denoiser, trace, probes, mode
        self._chunk = max(1, trace.rows // state.batch_size)

    def __call__(self, state: State, t: Tensor) -> dict[str, Tensor]:
        """Returns the divergence of each moving field in float64: (probes, batch) by Hutchinson, (1, batch) exactly."""
        if self.probes is not None:
            parts = [self._products(state, t, chunk) for chunk in _split(self.probes, self._chunk)]
            return {name: torch.cat([part[name] for part in parts]) for name in self.denoiser.process.moving}
        totals = {name: torch.zeros(1, state.batch_size, dtype=torch.float64, device=state.device) for name in self.probed}
        for chunk in self._frame(state):
            for name, value in self._products(state, t, chunk).items():
                totals[name] = totals[name] + value.sum(0, keepdim=True)
        return totals

    @property
    def probed(self) -> list[str]:
        """Names of the fields with a divergence."""
        return self.denoiser.process.moving

    def directions(self, state: State) -> int:
        """Returns the number of directions in which one call differentiates."""
        if self.probes is not None:
            return self.trace.probes
        fields = self.denoiser.process.fields
        return sum(fields[name].space.frame_size(state.fields[name]) for name in self.probed)

    def _products(self, state: State, t: Tensor, tangents: Tangents) -> dict[str, Tensor]:
        if not self.trace.compile:
            return directional_products(self.denoiser, state, t, tangents, DIFFERENTIATIONS[self.mode])
        return directional_products(self.denoiser, state, t, tangents, compiled_products)

    def _frame(self, state: State) -> Iterator[Tangents]:
        """Yields the orthonormal frame of all moving fields in chunks of directions."""
        fields, batch = self.denoiser.process.fields, state.batch_size
        sizes = {name: fields[name].space.frame_size(state.fields[name]) for name in self.probed}
        total = sum(sizes.values())
        for start in range(0, total, self._chunk):
            index = torch.arange(start, min(start + self._chunk, total), device=state.device)
            tangents, offset = {}, 0
            for name, size in sizes.items():
                x, mask = state.fields[name], state.mask(name)
                one_hot = (index[:, None] == offset + torch.arange(size, device=state.device)).to(x.dtype)
                c = one_hot[:, None].expand(-1, batch, -1).reshape(len(index) * batch, size)
                v = fields[name].space.from_frame(
                    c, _copies(x, len(index)), None if mask is None else _copies(mask, len(index))
                )
                tangents[name] = v.unflatten(0, (len(index), batch))
                offset += size
            yield tangents


def _split(tangents: Tangents, size: int) -> Iterator[Tangents]:
    count = len(next(iter(tangents.values())))
    for start in range(0, count, size):
        yield {name: v[start : start + size] for name, v in tangents.items()}


def _copies(x: Tensor, count: int) -> Tensor:
    """Repeats a batch `count` times along its first axis."""
    return x.repeat(count, *(1,) * (x.ndim - 1))
