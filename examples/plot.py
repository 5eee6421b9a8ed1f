"""Run code that a model wrote and get its plot as bytes; write them to plot.png.

    python examples/plot.py        # needs matplotlib beside capsule-run: pip install matplotlib

Cells run in an interpreter inside a sandbox. A figure that is open at the end of a cell comes back as PNG: the code does not
have to save it. Variables stay for the next cell.
"""

from __future__ import annotations

import base64
from pathlib import Path

import capsule_run

# What a model would send, cell by cell.
CELLS = [
    "import matplotlib.pyplot as plt\nsales = {'Mon': 3, 'Tue': 5, 'Wed': 2}",
    "plt.bar(sales.keys(), sales.values())\nplt.title('Sales')",
]


def main() -> None:
    with capsule_run.Sandbox(memory="1G", timeout_ms=60_000) as box:
        for code in CELLS:
            cell = box.run_code(code)
            if cell.error is not None:
                raise SystemExit(f"{cell.error.name}: {cell.error.value}")
            for result in cell.results:
                if result.png:  # base64, as in a notebook
                    Path("plot.png").write_bytes(base64.b64decode(result.png))
                    print("wrote plot.png")


if __name__ == "__main__":
    main()
