"""`capsule-run completion`: print the completions of a shell, made of the table of options and the list of subcommands.

The text is complete in itself: pressing Tab starts no capsule-run.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run.cli import subcommands
from capsule_run.cli.batch import MEANINGLESS
from capsule_run.cli.output import write_all
from capsule_run.request.languages import LANGUAGES
from capsule_run.request.option_table import DIRECTORY, FILE, Option
from capsule_run.request.option_table import OPTIONS as COMMON
from capsule_run.request.validators import did_you_mean, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

OPTIONS: tuple[Option, ...] = ()
# Subcommands that take the options of the common table too, but for these; and the words that others take first.
_TAKES_COMMON = {"exec": ("--json",), "batch": MEANINGLESS}
_FIRST_WORDS = {
    "config": ("show", "presets", "check", "init"),
    "policy": ("show", "diff", "test", "learn"),
    "completion": ("bash", "zsh", "fish"),
    "schema": ("request", "response"),
}
_BASH_PATHS = {
    FILE: 'compopt -o filenames; COMPREPLY+=($(compgen -f -- "$current")); ',
    DIRECTORY: 'compopt -o filenames; COMPREPLY+=($(compgen -d -- "$current")); ',
}
_ANY_FILES = "'*:file:_files'"
_HELP = Option(long="--help", short="-h", about="Print help")


def help_text() -> str:
    """Return the text of `capsule-run completion --help`."""
    return """\
capsule-run completion bash|zsh|fish    Print the completions of a shell

bash:  capsule-run completion bash > ~/.local/share/bash-completion/completions/capsule-run
zsh:   capsule-run completion zsh > DIRECTORY/_capsule-run    (a directory of $fpath)
fish:  capsule-run completion fish > ~/.config/fish/completions/capsule-run.fish
"""


def main(words: Sequence[str]) -> int:
    """Print the completions and return the exit code. Raises CapsuleError E1007."""
    if not words or words[0] in ("-h", "--help"):
        write_all(1, help_text())
        return 0 if words else 2
    if len(words) > 1 or words[0] not in SHELLS:
        known = ", ".join([f"`{shell}`" for shell in SHELLS])
        message = f"completion: name one of {known}, got {shown(words[0])}{did_you_mean(words[0], SHELLS)}"
        raise CapsuleError("E1007", message, hint="see `capsule-run completion --help`")
    write_all(1, SHELLS[words[0]]())
    return 0


def options_of(name: str) -> tuple[Option, ...]:
    """Return the options of a subcommand, each once; of the command itself for ""."""
    if not name:
        return COMMON
    own = subcommands.module(name).OPTIONS
    common = [option for option in COMMON if name in _TAKES_COMMON and option.long not in _TAKES_COMMON[name]]
    found = {option.long: option for option in (*own, *common, _HELP)}
    return tuple(found.values())


def first_words(name: str) -> tuple[str, ...]:
    """Return the words that a subcommand takes first."""
    if name in ("help", "man"):
        return tuple(subcommands.SUBCOMMANDS)
    return _FIRST_WORDS.get(name, ())


def choices_of(option: Option) -> tuple[str, ...]:
    """Return the words that the value of an option can be."""
    return tuple(LANGUAGES) if option.long == "--lang" else option.choices


def _names(options: Sequence[Option]) -> str:
    return " ".join([name for option in options for name in (option.short, option.long) if name])


def _bash() -> str:
    """Return the function for bash: `compgen` on the word before, else on what the subcommand takes."""
    values: list[str] = []
    cases: list[str] = []
    for name in subcommands.SUBCOMMANDS:
        values += _bash_values(name)
        words = " ".join((_names(options_of(name)), *first_words(name)))
        after = " compopt -o default;" if name in ("exec", "batch", "config", "policy") else ""
        cases.append(f'    {name}) _capsule_run_words "{words}";{after} ;;')
    values += _bash_values("")
    names = " ".join(subcommands.SUBCOMMANDS)
    lines = "\n".join
    return f"""\
# bash completion for capsule-run, made by `capsule-run completion bash`
_capsule_run_words() {{
    COMPREPLY+=($(compgen -W "$1" -- "$current"))
}}

_capsule_run() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} subcommand= i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        # after `--` stands a program and what it takes
        [[ ${{COMP_WORDS[i]}} == -- ]] && {{ compopt -o default; return; }}
    done
    case ${{COMP_WORDS[1]}} in
    {names.replace(" ", "|")}) ((COMP_CWORD > 1)) && subcommand=${{COMP_WORDS[1]}} ;;
    esac
    case $subcommand:$before in
{lines(values)}
    esac
    case $subcommand in
{lines(cases)}
    *)
        if [[ $current == -* ]]; then
            _capsule_run_words "{_names(COMMON)}"
        elif ((COMP_CWORD == 1)); then
            _capsule_run_words "{names}"
            COMPREPLY+=($(compgen -c -- "$current"))
        else
            compopt -o default
            COMPREPLY+=($(compgen -c -- "$current"))
        fi
        ;;
    esac
}}
complete -F _capsule_run capsule-run
"""


def _bash_values(name: str) -> list[str]:
    found = []
    for option in options_of(name):
        if not option.metavar:
            continue
        patterns = "|".join([f"{name}:{each}" for each in (option.short, option.long) if each])
        words = f'_capsule_run_words "{" ".join(choices_of(option))}"; ' if choices_of(option) else ""
        found.append(f"    {patterns}) {words}{_BASH_PATHS.get(option.takes, '')}return ;;")
    return found


def _zsh_spec(option: Option) -> str:
    about = option.about.replace("[", "(").replace("]", ")").replace(":", "\\:").replace("'", "'\\''")
    names = f"{{{option.short},{option.long}}}" if option.short else option.long
    star = "*" if option.repeats else ""
    if not option.metavar:
        return f"'{star}'{names}'[{about}]'" if option.short else f"'{star}{option.long}[{about}]'"
    label = option.metavar.strip("<>").replace("[", "").replace("]", "").replace(":", " ").lower()
    words = choices_of(option)
    action = f"({' '.join(words)})" if words else {FILE: "_files", DIRECTORY: "_files -/"}.get(option.takes, "")
    if words and option.takes:
        action = f'{{ _alternative "words\\:word\\:({" ".join(words)})" "files\\:file\\:_files" }}'
    head = f"'{star}'{names}'" if option.short else f"'{star}{option.long}"
    return f"{head}[{about}]:{label}:{action}'"


def _zsh() -> str:
    """Return the function for zsh: `_arguments` of the command, and of each subcommand."""
    specs = " \\\n        ".join
    cases = []
    for name in subcommands.SUBCOMMANDS:
        words = first_words(name)
        rest = f"'1:word:({' '.join(words)})'" if words else "'1:file:_files'"
        cases.append(
            f"    {name}) _arguments \\\n        {specs([*map(_zsh_spec, options_of(name)), rest, _ANY_FILES])} ;;"
        )
    described = "\n        ".join(
        [f"'{name}:{about.replace(':', '')}'" for name, about in subcommands.SUBCOMMANDS.items()]
    )
    lines = "\n".join
    return f"""\
#compdef capsule-run
# zsh completion for capsule-run, made by `capsule-run completion zsh`
_capsule-run() {{
    local -a subcommands
    subcommands=(
        {described}
    )
    if ((CURRENT > 2)); then
        case $words[2] in
        {"|".join(subcommands.SUBCOMMANDS)})
            local subcommand=$words[2]
            shift words
            ((CURRENT--))
            _capsule-run-subcommand $subcommand
            return ;;
        esac
    fi
    _arguments -S \\
        {specs(map(_zsh_spec, COMMON))} \\
        '1: :{{ _describe subcommand subcommands; _command_names -e }}' \\
        '*:: :_normal'
}}

_capsule-run-subcommand() {{
    case $1 in
{lines(cases)}
    esac
}}

if [ "$funcstack[1]" = _capsule-run ]; then
    _capsule-run "$@"
else
    compdef _capsule-run capsule-run
fi
"""


def _fish_line(condition: str, option: Option) -> str:
    parts = [f"complete -c capsule-run -n '{condition}' -l {option.long.removeprefix('--')}"]
    if option.short:
        parts.append(f"-s {option.short.removeprefix('-')}")
    if option.metavar:
        parts.append("-r" if option.takes else "-x")
        words = choices_of(option)
        if words:
            parts.append(f"-a '{' '.join(words)}'")
        elif option.takes == DIRECTORY:
            parts.append("-a '(__fish_complete_directories)'")
    about = option.about.replace("\\", "\\\\").replace("'", "\\'")
    return f"{' '.join(parts)} -d '{about}'"


def _fish() -> str:
    """Return the commands for fish."""
    names = " ".join(subcommands.SUBCOMMANDS)
    top = f"not __fish_seen_subcommand_from {names}"
    lines = ["# fish completion for capsule-run, made by `capsule-run completion fish`"]
    first = "test (count (commandline -opc)) -eq 1"
    for name, about in subcommands.SUBCOMMANDS.items():
        described = about.replace("'", "\\'")
        lines.append(f"complete -c capsule-run -n '{first}' -a {name} -d '{described}'")
    lines += [_fish_line(top, option) for option in COMMON]
    for name in subcommands.SUBCOMMANDS:
        seen = f"__fish_seen_subcommand_from {name}"
        lines += [_fish_line(seen, option) for option in options_of(name)]
        if first_words(name):
            lines.append(f"complete -c capsule-run -n '{seen}' -f -a '{' '.join(first_words(name))}'")
    return "\n".join(lines) + "\n"


SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
