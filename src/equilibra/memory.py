"""Memory of long computations on the CPU: freed blocks are kept for the next step instead of being returned to the system.

Every training step frees and asks for the same large arrays. By default the C library returns them to the system each time, which then clears
the pages anew: a fifth of the time of a step went there.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h of the GNU C library
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory in this process, where it can be told.

    Returns:
        Whether it was told: true with the GNU C library on Linux.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20))
    return all(mallopt(name, value) == 1 for name, value in settings)
