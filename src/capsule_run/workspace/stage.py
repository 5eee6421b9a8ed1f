"""What this process does with the files of a run after the command has ended: for a line on a terminal, and nothing else."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

COLLECTING, APPLYING, SAVING = "collecting files", "applying changes", "saving files"


class Stage:
    """The work under way, and how many files it has done. In a process with several runs at once it is of any of them.

    A context manager: `with stage.now.begin(stage.APPLYING)`.
    """

    name = ""
    done = 0

    def begin(self, name: str) -> Self:
        """Begin a piece of work."""
        self.name, self.done = name, 0
        return self

    def __enter__(self) -> None:
        """Its name was set by `begin`."""

    def __exit__(self, *_error: object) -> None:
        self.name = ""


now = Stage()
