"""Run a project's tests in a sandbox, let a script repair the project there, and look at the diff before applying it.

    python examples/project_tests.py

The project is shown copy-on-write: whatever the tests or the repair do, the directory on the host does not change until the
changes are applied.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import capsule_run

PROJECT = {
    "prices.py": "def total(prices):\n    return sum(prices[1:])\n",
    "test_prices.py": (
        "import unittest\nimport prices\n\n\n"
        "class Total(unittest.TestCase):\n"
        "    def test_total_is_the_sum(self):\n        self.assertEqual(6, prices.total([1, 2, 3]))\n"
    ),
}
NO_CACHES = {"PYTHONDONTWRITEBYTECODE": "1"}  # else the diff would have them
TESTS = ["python", "-m", "unittest", "-q"]
REPAIR = "sed -i 's/prices.1:./prices/' prices.py"  # what an agent would do


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        for file, text in PROJECT.items():
            (project / file).write_text(text)
        with capsule_run.Sandbox(workspace=project, memory="1G", env=NO_CACHES) as box:
            print("tests before:", "passed" if box.run(TESTS).ok else "failed")
            box.run(REPAIR).check()
            print("tests after:", "passed" if box.run(TESTS).ok else "failed")
            print(box.diff())
            print("on the host before apply:", (project / "prices.py").read_text() == PROJECT["prices.py"])
            box.apply()
        print("on the host:", (project / "prices.py").read_text().split("return ")[1], end="")


if __name__ == "__main__":
    main()
