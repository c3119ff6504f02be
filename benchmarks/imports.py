"""Figure 5 of docs/results.md: what importing the package and asking for help cost.

    python benchmarks/imports.py

Medians of whole processes, in turn: `import torch`, `import torch, equilibra`, `import equilibra`, `equilibra --help`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "import torch": [sys.executable, "-c", "import torch"],
    "import torch, equilibra": [sys.executable, "-c", "import torch, equilibra; equilibra.load"],
    "import equilibra": [sys.executable, "-c", "import equilibra"],
    "equilibra --help": [str(Path(sys.executable).with_name("equilibra")), "--help"],
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for repeat in range(8):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if repeat:
                times[name].append(time.perf_counter() - start)
    print("| command | median of 7, s |\n|---|---|")
    for name, values in times.items():
        print(f"| `{name}` | {statistics.median(values):.2f} |")


if __name__ == "__main__":
    main()
