"""All-atom ensembles: side chains on every backbone, relaxed, in resumable blocks of frames."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.atomic import atomic_path, read_arrays, write_arrays, write_text
from equilibra.errors import EquilibraError, InputError, ShapeError
from equilibra.run_folder import claim
from equilibra.systems.files import write_trajectory
from equilibra.systems.protein.all_atom import SideChainEngine, side_chain_engine
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.frames import atom5_of
from equilibra.systems.protein.peptides import AllAtomProtein, FloatArray, all_atom_protein
from equilibra.systems.protein.relax import Relaxation, RelaxConfig, Relaxer
from equilibra.systems.protein.system import ProteinSystem
from equilibra.units import NM

TOPOLOGY = "all-atom.pdb"
"""File of the topology, with the first frame."""

TRAJECTORY = "all-atom.xtc"
"""File of all frames."""

REPORT = "relaxation.csv"
"""File of what the relaxation did to each frame."""

BLOCKS = "all-atom-blocks"
"""Folder of the finished blocks."""

COLUMNS = (
    "status",
    "engine",
    "energy_before",
    "energy_after",
    "ca_rmsd",
    "ca_max",
    "heavy_max",
    "clashes_before",
    "clashes_after",
    "inverted",
    "stretched",
    "close_sulfurs",
    "reason",
)
"""Columns of the report besides the number of the frame: energies in eV, lengths in Å; see `Relaxation`."""

_MADE_OF = "made_of"  # hash of the backbones of a block, in its file


@dataclass(frozen=True, kw_only=True, eq=False)
class AllAtomEnsemble:
    """A finished all-atom ensemble.

    Attributes:
        folder: Where its files are.
        protein: The all-atom form of the protein.
        report: Columns (F,) by name; see `COLUMNS`.
    """

    folder: Path
    protein: AllAtomProtein
    report: Mapping[str, np.ndarray]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.report["status"])

    @property
    def topology(self) -> Path:
        """File of the topology."""
        return self.folder / TOPOLOGY

    @property
    def trajectory(self) -> Path:
        """File of all frames, also of those that could not be relaxed, which are as they were built."""
        return self.folder / TRAJECTORY

    def having(self, status: str) -> np.ndarray:
        """Returns the frames with a status (`relaxed`, `suspect`, `failed`), counted from 0."""
        return np.flatnonzero(self.report["status"] == status)

    def summary(self) -> str:
        """Returns a sentence on what moved and what is still wrong."""
        counts = {status: len(self.having(status)) for status in ("relaxed", "suspect", "failed")}
        moved = self.report["ca_rmsd"][self.report["status"] != "failed"]
        text = f"{counts['relaxed']} of {self.frames} frames relaxed"
        if len(moved):
            text += f", C-alpha atoms moved by {np.median(moved):.2f} Å (median; largest {moved.max():.2f} Å)"
        for status, words in (
            ("suspect", "still have something wrong"),
            ("failed", "could not be relaxed and are as they were built"),
        ):
            if counts[status]:
                text += f"; {counts[status]} {words}: {_listed(self.having(status))}"
        return text


def all_atom_ensemble(
    frames: ProteinEnsemble | np.ndarray,
    folder: str | Path,
    system: ProteinSystem | None = None,
    *,
    engine: str = "pdbfixer",
    config: RelaxConfig | None = None,
    disulfides: Sequence[tuple[int, int]] = (),
    seed: int = 0,
    block_size: int = 16,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AllAtomEnsemble:
    """Builds and relaxes all atoms on each frame; the same call goes on with an interrupted run, and keeps the finished blocks of fewer frames.

    The files `all-atom.pdb`, `all-atom.xtc` and `relaxation.csv` hold every frame in the given order. One that an engine cannot build gets the side
    chains of the engine `rigid`, and one that cannot be relaxed stays as built: both are in the report.

    Arguments:
        frames: An ensemble, or backbones (F, L, 5, 3) or written atoms (F, atoms, 3), in Å.
        folder: Where the files go; its folder `all-atom-blocks` keeps the finished blocks.
        system: The protein, needed for arrays.
        engine: A key of `ENGINES`.
        config: How to relax; the default of `RelaxConfig` if None.
        disulfides: Pairs of cysteines, counted from 0, that are bonded in every frame.
        seed: Seed of the engine.
        block_size: Frames of a block.
        progress: Called with the finished frames and their number after each frame.

    Raises:
        InputError: If there is no frame, or the protein has no all-atom form.
        ShapeError: If the frames are not those of the protein.
        CheckpointError: If the folder of the blocks holds another run.
        MissingDependencyError: If the engine's package is not installed.
    """
    backbones, system = _backbones(frames, system)
    config = config or RelaxConfig()
    if block_size < 1:
        raise InputError(f"block_size: got {block_size}, expected at least 1")
    folder = Path(folder)
    protein = all_atom_protein(system, disulfides=disulfides)
    builder = _Builder(side_chain_engine(engine, protein), Relaxer(protein, config))
    identity = {
        "kind": "all-atom ensemble",
        "protein": system.digest,
        "engine": engine,
        "relaxation": asdict(config),
        "disulfides": [list(pair) for pair in protein.disulfides],
        "seed": seed,
        "block_size": block_size,
    }
    claim(folder / BLOCKS, identity)
    paths, columns = [], []
    total = len(backbones)
    for start in range(0, total, block_size):
        path = folder / BLOCKS / f"block-{start // block_size:05d}.npz"
        stop = min(start + block_size, total)
        made_of = hashlib.sha256(backbones[start:stop].astype(np.float32).tobytes()).hexdigest()
        block = _read(path, stop - start, protein.atoms, made_of)
        if block is None:
            rows = []
            for index in range(start, stop):
                rows.append(builder(backbones[index], seed + index))
                progress(index + 1, total)
            block = {name: np.array([row[name] for row in rows]) for name in rows[0]} | {_MADE_OF: np.array(made_of)}
            write_arrays(path, block)
        else:
            progress(stop, total)
        paths.append(path)
        columns.append({name: block[name] for name in COLUMNS})
        if start == 0:
            write_trajectory(folder / TOPOLOGY, block["positions"][:1], protein.mdtraj_topology)
    report = {name: np.concatenate([column[name] for column in columns]) for name in COLUMNS}
    _write_trajectory(folder / TRAJECTORY, paths)
    write_text(folder / REPORT, _csv(report))
    return AllAtomEnsemble(folder=folder, protein=protein, report=report)


class _Builder:
    """Builds and relaxes one frame, whatever happens."""

    def __init__(self, engine: SideChainEngine, relaxer: Relaxer) -> None:
        self.engine, self.relaxer = engine, relaxer
        self.rigid = side_chain_engine("rigid", engine.protein)

    def __call__(self, backbone: FloatArray, seed: int) -> dict[str, Any]:
        """Returns the columns of one frame, and its positions (A, 3), float32, in Å."""
        engine, note = self.engine.name, ""
        try:
            built = self.engine(backbone, seed=seed)
        except ShapeError:
            raise
        except Exception as error:
            # engines raise whatever their own code stumbles over
            engine, note = self.rigid.name, f"{engine} failed: {' '.join(str(error).split())}"
            built = self.rigid(np.nan_to_num(backbone), seed=seed)
        finite = np.isfinite(backbone).all()
        done = self.relaxer(built) if finite else self.relaxer.failure(built, "the backbone is not finite")
        row = {name: getattr(done, name) for name in COLUMNS if name in Relaxation.__dataclass_fields__}
        row["reason"] = "; ".join(text for text in (note, done.reason) if text)
        return row | {"engine": engine, "positions": done.positions.astype(np.float32)}


def _backbones(frames: ProteinEnsemble | np.ndarray, system: ProteinSystem | None) -> tuple[FloatArray, ProteinSystem]:
    if isinstance(frames, ProteinEnsemble):
        positions, system = frames.positions, frames.system if system is None else system
    elif system is None:
        raise InputError("all-atom structures of an array need the protein; give system=")
    else:
        positions = np.asarray(frames)
    if positions.ndim == 3 and positions.shape[1:] == (system.atoms, 3):
        positions = atom5_of(positions, system)
    if positions.ndim != 4 or positions.shape[1:] != (system.length, 5, 3):
        raise ShapeError(
            "frames", positions.shape, f"(frames, {system.length}, 5, 3) or (frames, {system.atoms}, 3) of '{system.name}'"
        )
    if not len(positions):
        raise InputError(f"all-atom structures of '{system.name}': got no frame, expected one at least")
    return positions.astype(np.float64), system


def _read(path: Path, frames: int, atoms: int, made_of: str) -> dict[str, np.ndarray] | None:
    """Reads a block, or None where there is none that is whole and of these backbones."""
    block = read_arrays(path)
    if block is None or not {*COLUMNS, "positions", _MADE_OF} <= set(block) or str(block[_MADE_OF]) != made_of:
        return None
    return block if block["positions"].shape == (frames, atoms, 3) else None


def _write_trajectory(path: Path, blocks: Sequence[Path]) -> None:
    """Writes the positions of the blocks to one file without holding them together."""
    from mdtraj.formats import XTCTrajectoryFile

    with atomic_path(path) as temporary:
        first = 0
        with XTCTrajectoryFile(str(temporary), "w", force_overwrite=True) as file:
            for block in blocks:
                arrays = read_arrays(block)
                if arrays is None:
                    raise EquilibraError(
                        f"'{block}' vanished while the run was going on; start again, finished blocks are kept"
                    )
                count = np.arange(first, first + len(arrays["positions"]))
                file.write(arrays["positions"] / np.float32(NM), time=count.astype(np.float32), step=count.astype(np.int32))
                first += len(count)


def _csv(report: Mapping[str, np.ndarray]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("frame", *COLUMNS))
    for index in range(len(report["status"])):
        cells = [report[name][index] for name in COLUMNS]
        writer.writerow((index, *(f"{cell:.6g}" if isinstance(cell, np.floating) else cell for cell in cells)))
    return text.getvalue()


def _listed(indices: np.ndarray, most: int = 10) -> str:
    shown = ", ".join(str(index) for index in indices[:most])
    return f"frames {shown}" + (f" and {len(indices) - most} more" if len(indices) > most else "")
