"""The help texts, made of the table of options and the list of subcommands."""

from __future__ import annotations

import re

import pytest

from capsule_run._base import error_codes
from capsule_run._base.errors import CapsuleError
from capsule_run.cli import help as cli_help
from capsule_run.cli import subcommands
from capsule_run.request.option_table import GROUPS

# The seed README's, to the letter.
SEED_USAGE = "capsule-run [OPTIONS] [COMMAND]...\n"
SEED_OPTIONS = """\
  --json                     Read JSON request from stdin
  -t, --timeout <MS>         Command timeout in milliseconds
  -m, --memory <SIZE>        Memory limit (e.g., 256M, 1G)
  --cpu <SHARES>             CPU shares (relative weight)
  --max-output <SIZE>        Maximum output size
  --max-pids <NUM>           Maximum number of processes
  --network                  Enable network access
  -w, --workdir <DIR>        Working directory [default: /workspace]
  -e, --env <KEY=VALUE>      Environment variable
  --readonly <PATH>          Read-only bind mount
  --writable <PATH>          Writable bind mount
  --bind <SRC:DEST[:MODE]>   Bind mount with mode (ro/rw)
  --execution-id <UUID>      Execution ID for tracking
  --pretty                   Pretty print JSON output
  -v, --verbose              Verbose output
  -h, --help                 Print help
  -V, --version              Print version
"""

LONG = """\
capsule-run [OPTIONS] [COMMAND]...
capsule-run SUBCOMMAND [ARGUMENTS]...

Run a command in a sandbox of its own, and say exactly what happened.

Subcommands:
  exec                       Run code in a language, from a file, from stdin or with -c
  batch                      Run a JSON request a line, several at once; print a response a line
  doctor                     Check this host and print remedies; --attack tries to escape
  policy                     Show, compare, test and learn system call profiles
  config                     Show, check or write configuration files and presets
  mcp                        Serve the sandbox as tools to an MCP client
  completion                 Print completions for bash, zsh or fish
  man                        Print a manual page
  schema                     Print the JSON Schema of a request or a response
  help                       Print the help of a subcommand
After `--` every word is a program: `capsule-run -- help` runs a program of that name.

Limits:
  -t, --timeout <MS>         Command timeout in milliseconds
  -m, --memory <SIZE>        Memory limit (e.g., 256M, 1G)
  --cpu <SHARES>             CPU shares (relative weight)
  --cpus <NUM>               CPU quota in processors, such as 0.5
  --cpu-time <MS>            CPU time limit in milliseconds
  --max-output <SIZE>        Maximum output size
  --on-output-limit <MODE>   At the output limit: kill or truncate
  --max-pids <NUM>           Maximum number of processes
  --max-open-files <NUM>     Maximum number of open files
  --disk <SIZE>              Maximum size of all files written
  --max-file-size <SIZE>     Maximum size of one file
  --stack <SIZE>             Stack of each process, or `unlimited`
  --io-read-bps <SIZE>       Maximum bytes read from disks per second
  --io-write-bps <SIZE>      Maximum bytes written to disks per second
  --io-read-iops <NUM>       Maximum reads from disks per second
  --io-write-iops <NUM>      Maximum writes to disks per second

Files:
  -w, --workdir <DIR>        Working directory [default: /workspace]
  --workspace <DIR[:MODE]>   Directory shown at /workspace (cow/copy/ro/rw)
  --no-workspace             Start with an empty /workspace
  --readonly <PATH>          Read-only bind mount
  --writable <PATH>          Writable bind mount
  --bind <SRC:DEST[:MODE]>   Bind mount with mode (ro/rw)
  --tool <PATH|NAME>         Share a tool from outside /usr, read-only
  --unmask <NAME>            Do not mask this secret name, such as .env
  --file <PATH=SRC>          Copy a file into the workspace
  --collect <GLOB>           Return the workspace files that match
  --collect-to <DIR>         Write the collected files to this directory
  --max-collect <SIZE>       Maximum size of all collected files
  --apply-changes            Apply the changes to the shared directory
  --save-changes <DIR>       Write new and changed files to this directory
  --upper <DIR[:SIZE]>       Store files written to /workspace on disk

Network:
  --network                  Enable network access
  --hostname <NAME>          Host name in the sandbox

Environment:
  -e, --env <KEY=VALUE>      Environment variable
  --env-file <FILE>          Environment variables from a file, one in a line
  --user <UID[:GID]>         User and group ID in the sandbox [default: 1000]

Terminal:
  --tty                      Give the command a terminal; -it for short
  -i, --interactive          Pass stdin on as it is; without -t give no terminal
  --grace <MS>               Time to end after a signal [default: 2s]

Security:
  --profile <NAME|FILE>      System call profile: strict, default or a file
  --on-violation <ACTION>    On a forbidden call: kill_attacks, kill or refuse
  --require <NAME>           Fail if the host lacks this mechanism
  --preset <NAME>            Options under a name: agent, judge, build, ...
  --no-config                Read no configuration file but the system's

Output:
  --json                     Read JSON request from stdin
  --pretty                   Pretty print JSON output
  --diff                     Print a unified diff of what the command changed in /workspace
  -v, --verbose              Verbose output
  -q, --quiet                Print no notices and hints, only errors
  --color <WHEN>             Colour our messages: auto, always or never
  --dry-run                  Print what the command would see and its limits; run nothing
  -h, --help                 Print help
  -V, --version              Print version

Monitoring:
  --execution-id <UUID>      Execution ID for tracking
  --ledger                   List every process in the result
  --no-postmortem            Do not inspect the processes before a timeout kill
  --metrics-file <PATH>      Add the run to this Prometheus metrics file
  --audit-log <PATH>         Append a record of the run to this file
  --audit-required           Do not run if the audit log cannot be written

Defaults: 30 s, 512 MiB of memory, 1024 CPU shares, 1 MiB of output, 100 processes, no network;
/workspace starts as a private copy-on-write view of the current directory.
With --json the options are defaults for fields that the request omits, and /workspace starts empty.
MS is a number of milliseconds, or with ms, s, m, h: 500ms, 5s, 2m.
SIZE is a number of bytes, or with K, M, G, T (powers of 1024).
--env NAME passes your own variable on; nothing else of your environment is inherited.
Of an option given twice the last one counts; these collect all their values:
--readonly, --writable, --bind, --tool, --unmask, --file, --collect, --env, --env-file, --require.

Exit code: the command's own; 128+N ended by signal N; 137 killed by a limit or rule;
127 command not found; 126 command not executable; 125 the sandbox or the host failed; 124 timeout;
2 invalid request or usage.

Examples:
  capsule-run -- echo "Hello, World!"
  capsule-run --memory 256M --timeout 5000 -- python script.py
  echo '{"command":["python","-c","print(42)"]}' | capsule-run --json
"""

SHORT = """\
capsule-run [OPTIONS] [COMMAND]...
capsule-run SUBCOMMAND [ARGUMENTS]...

Subcommands: exec, batch, doctor, policy, config, mcp, completion, man, schema, help
After `--` every word is a program: `capsule-run -- help` runs a program of that name.

Options:
  -t, --timeout <MS>         Command timeout in milliseconds
  -m, --memory <SIZE>        Memory limit (e.g., 256M, 1G)
  --max-pids <NUM>           Maximum number of processes
  --network                  Enable network access
  -e, --env <KEY=VALUE>      Environment variable
  --workspace <DIR[:MODE]>   Directory shown at /workspace (cow/copy/ro/rw)
  --bind <SRC:DEST[:MODE]>   Bind mount with mode (ro/rw)
  --tool <PATH|NAME>         Share a tool from outside /usr, read-only
  --tty                      Give the command a terminal; -it for short
  --apply-changes            Apply the changes to the shared directory
  --json                     Read JSON request from stdin
  -v, --verbose              Verbose output
  --dry-run                  Print what the command would see and its limits; run nothing
  -V, --version              Print version

Examples:
  capsule-run -- echo "Hello, World!"
  capsule-run --memory 256M --timeout 5000 -- python script.py
  echo '{"command":["python","-c","print(42)"]}' | capsule-run --json

All options: capsule-run --help. A subcommand: capsule-run help SUBCOMMAND.
"""


def test_help_long_snapshot():
    """`--help`: usage, subcommands, options in groups, defaults, exit codes, examples."""
    assert LONG == cli_help.long_help()


def test_help_short_snapshot():
    """`-h`: what is needed most."""
    assert SHORT == cli_help.short_help()


def test_help_keeps_the_original_lines():
    """Usage and options of the original tool are there to the letter."""
    lines = cli_help.long_help().splitlines(keepends=True)
    assert SEED_USAGE == lines[0]
    assert set() == set(SEED_OPTIONS.splitlines(keepends=True)) - set(lines)


def test_help_groups_are_in_order():
    """The groups come as issue and table have them, after the subcommands."""
    headings = re.findall(r"^(\w+):$", cli_help.long_help(), re.MULTILINE)
    assert ["Subcommands", *(name.capitalize() for name in GROUPS), "Examples"] == headings


@pytest.mark.parametrize("name", subcommands.SUBCOMMANDS)
def test_help_of_each_subcommand_fits(name):
    """Each subcommand has a help text of at most 100 columns, which begins with its usage, and rows for its options."""
    text = subcommands.module(name).help_text()
    assert max(map(len, text.splitlines())) <= cli_help.WIDTH
    assert text.startswith("capsule-run ")
    options = subcommands.module(name).OPTIONS
    assert options or name in ("help", "completion", "man", "schema")
    assert set() == {option.long for option in options if option.long not in text} - {"--help"}


def test_help_fits_a_terminal():
    """No line of the long form is wider than 100 columns; the short form is a screen of 80 columns and 30 rows."""
    assert max(map(len, cli_help.long_help().splitlines())) <= cli_help.WIDTH
    short = cli_help.short_help().splitlines()
    assert max(map(len, short)) <= 90
    assert len(short) <= cli_help.SHORT_ROWS


def test_help_names_every_exit_code():
    """The exit codes in the help text are those of the catalogue."""
    paragraph = cli_help.long_help().partition("Exit code:")[2].partition("\n\n")[0]
    catalogue = {str(error_codes.entry(code).exit) for code in error_codes.CODES} - {error_codes.OWN}
    assert catalogue == set(re.findall(r"\b\d+\b", paragraph)) - {"128"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["polcy"], '"polcy" is no subcommand; did you mean `policy`?'),
        (["ls"], '"ls" is no subcommand'),
        (["exec", "mcp"], "`help` takes one subcommand"),
    ],
)
def test_help_of_unknown_subcommand_is_refused(words, message):
    """`capsule-run help` refuses what it cannot explain, with the nearest name."""
    with pytest.raises(CapsuleError, match="E1007") as caught:
        cli_help.main(words)
    assert message == caught.value.message


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("polcy", "the subcommand is `capsule-run policy`"),
        ("doctor", "the subcommand is `capsule-run doctor`"),
        ("ls", ""),
    ],
)
def test_subcommand_near_name_is_hinted_at(word, hint):
    """A program that was not found may be a misspelt subcommand."""
    assert hint == subcommands.hint_for(word)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("completion", ["bsh"], 'completion: name one of `bash`, `zsh`, `fish`, got "bsh"; did you mean `bash`?'),
        ("schema", ["reqest"], 'schema: name `request` or `response`, got "reqest"; did you mean `request`?'),
        ("man", ["docter"], 'man: "docter" is no subcommand; did you mean `doctor`?'),
        ("config", ["shw"], 'config: cannot read "shw"; did you mean `show`?'),
        ("config", ["show", "--orign"], 'config: unknown option "--orign"; did you mean `--origin`?'),
        ("policy", ["shw"], 'policy: cannot read "shw"; did you mean `show`?'),
        ("exec", ["--langg", "x"], "unknown option `--langg`; did you mean `--lang`?"),
        ("batch", ["--unorderd"], "unknown option `--unorderd`; did you mean `--unordered`?"),
        ("batch", ["--memroy", "1G"], "unknown option `--memroy`; did you mean `--memory`?"),
        ("mcp", ["--sandboxs", "1"], "unknown option `--sandboxs`; did you mean `--sandboxes`?"),
    ],
)
def test_word_of_a_subcommand_that_is_misspelt_is_refused_with_the_nearest_one(name, words, message):
    """As for options; the hint leads to the help of the subcommand or lists its words."""
    with pytest.raises(CapsuleError, match="E1007") as caught:
        subcommands.module(name).main(words)
    assert message == caught.value.message
    assert f"capsule-run {name} --help" in caught.value.hint or caught.value.hint.startswith("subcommands: ")
