"""Build the text of `capsule-run --help` from the option table. Loaded for `-h` only."""

from __future__ import annotations

from capsule_run.model.request import (
    DEFAULT_CPU_SHARES,
    DEFAULT_MAX_OUTPUT_BYTES,
    DEFAULT_MAX_PIDS,
    DEFAULT_MEMORY_BYTES,
    DEFAULT_TIMEOUT_MS,
)
from capsule_run.request.options import OPTIONS, Option
from capsule_run.request.sizes import format_size

_COLUMN = 29  # the seed's


def help_text() -> str:
    """Return the whole text, with a newline at its end."""
    lines = "".join([_line(option) for option in OPTIONS])
    return f"""\
capsule-run [OPTIONS] [COMMAND]...

Options:
{lines}
Defaults: {DEFAULT_TIMEOUT_MS} ms, {format_size(DEFAULT_MEMORY_BYTES)} of memory, {DEFAULT_CPU_SHARES} CPU shares, \
{format_size(DEFAULT_MAX_OUTPUT_BYTES)} of output, {DEFAULT_MAX_PIDS} processes, no network;
/workspace starts as a private copy-on-write view of the current directory.
With --json the options are defaults for fields that the request omits, and /workspace starts empty.
SIZE is a number of bytes, or with K, M, G, T (powers of 1024).

Exit code: the command's own; 128+N ended by signal N; 137 killed by a limit or rule; 127 command not found;
126 command not executable; 125 the sandbox or the host failed; 124 timeout; 2 invalid request or usage.

Examples:
  capsule-run -- echo "Hello, World!"
  capsule-run --memory 256M --timeout 5000 -- python script.py
  echo '{{"command":["python","-c","print(42)"]}}' | capsule-run --json
"""


def _line(option: Option) -> str:
    names = f"{option.short}, {option.long}" if option.short else option.long
    left = f"  {names} {option.metavar}" if option.metavar else f"  {names}"
    return f"{left:<{_COLUMN}}{option.about}\n"
