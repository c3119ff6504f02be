"""Times with their units, as people type them: `200ns`, `2 fs`, `0.5us`."""

import math
import re

from equilibra.errors import InputError

FEMTOSECONDS = {"fs": 1.0, "ps": 1e3, "ns": 1e6, "us": 1e9, "µs": 1e9, "μs": 1e9, "ms": 1e12}
"""Units of time in fs."""


def duration(option: str, text: str, unit: str) -> float:
    """Reads a time.

    Arguments:
        option: Name of the option, for the error.
        text: A positive number with a unit; a bare number is in `unit`.
        unit: Unit of the result.

    Raises:
        InputError: If it is no positive time with a known unit.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-zµμ]*)\s*", text)
    try:
        number = float(match[1]) if match else math.nan
    except ValueError:
        number = math.nan
    if match is None or not 0.0 < number < math.inf:
        raise InputError(f"{option}: got '{text}', expected a positive time such as 200{unit}")
    given = match[2] or unit
    if given not in FEMTOSECONDS:
        raise InputError(f"{option}: got '{text}', expected one of the units fs, ps, ns, us, ms")
    # powers of ten up to 1e12 are exact, so 200ns stays 200
    return number * FEMTOSECONDS[given] / FEMTOSECONDS[unit]
