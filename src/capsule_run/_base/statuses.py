"""The four statuses of a run, and the categories of errors."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Status = Literal["success", "error", "timeout", "killed"]

SUCCESS: Literal["success"] = "success"  # the command ended with exit code 0
ERROR: Literal["error"] = "error"  # it failed, or never started
TIMEOUT: Literal["timeout"] = "timeout"  # the wall-clock limit ended it
KILLED: Literal["killed"] = "killed"  # a limit, a security rule or the caller ended it

# The category of an error, by the class of its code.
CATEGORIES = {
    "E1": "configuration",
    "E2": "security",
    "E3": "execution",
    "E4": "resource",
    "E5": "security",
    "E6": "system",
}
