"""AlphaFold 2 features in the pickles of the release, read without executing them (`plain_pickles`)."""

from pathlib import Path

import numpy as np

from equilibra.atomic import atomic_path
from equilibra.errors import InputError, ShapeError
from equilibra.plain_pickles.reader import RefusedPickleError, read_plain

SINGLE_WIDTH, PAIR_WIDTH = 384, 128


def read_feature_pickle(path: str | Path) -> dict[str, np.ndarray]:
    """Reads `single` (L, 384) and `pair` (L, L, 128) from a pickle of the release, in float32.

    The arrays may lie in the dictionary of the pickle or under its key `representations`, as AlphaFold 2 writes them, with or without a leading axis of one.

    Raises:
        InputError: If there is no such file, it does anything else than hold numbers, or has no such arrays.
        ShapeError: If an array has another shape.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: '{path}'; expected a pickle with the arrays 'single' and 'pair'")
    try:
        content = read_plain(path.read_bytes())
    except RefusedPickleError as refusal:
        raise InputError(
            f"'{path}' is not read: {refusal}; expected a pickle of NumPy arrays and plain containers only"
        ) from refusal
    if isinstance(content, dict) and isinstance(content.get("representations"), dict):
        content = content["representations"]
    if not isinstance(content, dict) or not all(isinstance(content.get(name), np.ndarray) for name in ("single", "pair")):
        found = ", ".join(map(str, list(content)[:10])) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise InputError(f"'{path}' holds {found or 'nothing'}, expected arrays 'single' and 'pair'")
    single, pair = (np.array(content[name], dtype=np.float32) for name in ("single", "pair"))
    single = single[0] if single.ndim == 3 and len(single) == 1 else single
    pair = pair[0] if pair.ndim == 4 and len(pair) == 1 else pair
    if single.ndim != 2 or single.shape[1] != SINGLE_WIDTH:
        raise ShapeError(f"'single' in '{path}'", single.shape, f"(L, {SINGLE_WIDTH})")
    length = len(single)
    if pair.shape != (length, length, PAIR_WIDTH):
        raise ShapeError(f"'pair' in '{path}'", pair.shape, f"({length}, {length}, {PAIR_WIDTH}), the length of 'single'")
    for name, value in (("single", single), ("pair", pair)):
        if not np.isfinite(value).all():
            raise InputError(f"'{name}' in '{path}' has numbers that are NaN or infinite; expected finite numbers")
    return {"single": single, "pair": pair}


def convert_features(path: str | Path, folder: str | Path) -> list[Path]:
    """Converts a pickle of features to `single.npy` and `pair.npy` in a folder, and returns their paths."""
    arrays, written = read_feature_pickle(path), []
    for name, value in arrays.items():
        written.append(Path(folder) / f"{name}.npy")
        with atomic_path(written[-1]) as temporary, temporary.open("wb") as file:
            np.save(file, value)
    return written
