"""A hint in the words of each interface."""

from __future__ import annotations

import pytest

from capsule_run._base.error_codes import CODES, entry
from capsule_run.result.hint_words import in_arguments, in_fields, in_options

# The hint as it is made: options, fields, arguments.
HINTS = {
    "none; `--network` (`isolation.network`) shares one": (
        "none; `--network` shares one", "none; `isolation.network` shares one", "none; `network=True` shares one",
    ),
    "raise `--memory` (`resources.memory_bytes`) to at least 514 MiB": (
        "raise `--memory` to at least 514 MiB", "raise `resources.memory_bytes` to at least 514 MiB",
        "raise `memory=` to at least 514 MiB",
    ),
    "`--readonly /etc/x` (`isolation.readonly_paths`) shares it": (
        "`--readonly /etc/x` shares it", "`isolation.readonly_paths` `/etc/x` shares it", '`readonly=["/etc/x"]` shares it',
    ),
    "`--tool NAME` (`isolation.tools`) and `--file PATH=SRC` (`files`)": (
        "`--tool NAME` and `--file PATH=SRC`", "`isolation.tools` and `files`", "`tools=` and `files=`",
    ),
    "`--profile default` (`profile`) allows it": (
        "`--profile default` allows it", "`profile` `default` allows it", '`profile="default"` allows it',
    ),
    "`--workspace DIR:copy` (`isolation.workspace.mode`) copies": (
        "`--workspace DIR:copy` copies", "`isolation.workspace.mode` `copy` copies", '`workspace={"mode": "copy"}` copies',
    ),
    "raise `--max-open-files` (`resources.max_open_files`)": (
        "raise `--max-open-files`", "raise `resources.max_open_files`", "raise `resources.max_open_files` of a `Request`",
    ),
    "`git clone --no-hardlinks`; see `capsule-run --help`": ("`git clone --no-hardlinks`; see `capsule-run --help`",) * 3,
    "`--wait` and `x` (`y`)": ("`--wait` and `x` (`y`)",) * 3,
    "": ("", "", ""),
}  # fmt: skip


@pytest.mark.parametrize("hint", HINTS)
def test_hint_names_what_the_interface_has(hint):
    """Each interface names the same remedy in its own words, and leaves other text alone."""
    assert HINTS[hint] == (in_options(hint), in_fields(hint), in_arguments(hint))


def test_hint_of_the_catalogue_names_no_option_in_other_interfaces():
    """Every option in the catalogue has its field beside it, so that JSON and the SDK can name that."""
    for code in CODES:
        if not code.startswith("E1"):
            assert "`--" not in in_fields(entry(code).hint) + in_arguments(entry(code).hint), code
