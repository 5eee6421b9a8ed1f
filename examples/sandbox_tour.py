"""Everything that a living sandbox does, in one program.

    python examples/sandbox_tour.py

The plot needs matplotlib beside capsule-run: pip install matplotlib
"""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

import capsule_run


def main() -> None:
    with tempfile.TemporaryDirectory() as project:
        Path(project, "sales.csv").write_text("Mon,3\nTue,5\n")
        with capsule_run.Sandbox(workspace=project, memory="1G", timeout_ms=60_000) as box:
            # a file, and code that uses it
            box.files.write("total.py", "print(sum(int(line.split(',')[1]) for line in open('sales.csv')))\n")
            print("total:", box.run(["python", "total.py"]).check().stdout.strip())

            # a server in the background, asked from a second command
            server = box.start(["python", "-m", "http.server", "8000", "--bind", "127.0.0.1"])
            ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/sales.csv').read().decode())"
            while not (answer := box.run(["python", "-c", ask])).ok:
                pass  # it needs a moment to start
            print("served:", answer.stdout.split(), "still running:", server.poll() is None)

            # output as it comes
            loop = box.start("for day in Wed Thu; do echo $day; sleep 0.1; done")
            for line in loop.stdout:
                print("streamed:", line.strip())

            # variables that stay over three cells, and a plot that comes back as PNG
            box.run_code("rows = [line.strip().split(',') for line in open('sales.csv')]")
            box.run_code("points = {day: int(number) for day, number in rows}")
            cell = box.run_code("import matplotlib.pyplot as plt\nplt.bar(points.keys(), points.values())")
            images = [base64.b64decode(result.png) for result in cell.results if result.png]
            print("plot:", [image[1:4].decode() for image in images])

            # what changed in the project; on the host nothing has, until apply()
            box.run("echo Wed,2 >> sales.csv; rm total.py")
            print(box.diff())
        print("on the host:", Path(project, "sales.csv").read_text().split())


if __name__ == "__main__":
    main()
