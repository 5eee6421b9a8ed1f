"""The command `capsule-run`: options, subcommands, output.

Read first: `command`.
"""

from __future__ import annotations

from capsule_run._base.lazy import loaded_when_used

__getattr__ = loaded_when_used(
    __name__,
    {
        "colours": "a message is printed",
        "complete_options": "the command line has options",
        "export_lines": "files or changes were kept",
        "help": "help is asked for",
        "live_line": "stderr is a terminal",
        "output": "something is printed",
        "policy_learn": "`policy learn`",
        "policy_test": "`policy test`",
        "run_in_words": "-v",
        "terminal": "the command gets a terminal of its own",
        "terminal_choice": "stdin is a terminal, or --tty",
        "subcommands": "the first word is no option",
    },
)
