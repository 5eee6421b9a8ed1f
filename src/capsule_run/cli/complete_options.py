"""Read the options of a command line, and complete them from the environment and the configuration files.

Loaded only if a command line has options, or variables or files that are options.
"""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run.cli import colours, output
from capsule_run.engine import caller_environment, configuration, variables
from capsule_run.host import path_resolution
from capsule_run.request import options as request_options
from capsule_run.request.fast_path import ALWAYS, AUTO, NEVER, RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from capsule_run.model.request import Request
    from capsule_run.request.fast_path import Options

FEW_SHARES = 65  # a smaller weight is probably meant as a number of processors


def read(words: Sequence[str]) -> Options:
    """Return the options of a command line, completed from the environment. From here on our messages obey them.

    Raises CapsuleError E10xx.
    """
    try:
        options = request_options.read_options(words)
    except CapsuleError:
        _apply_what_can_be_read(words)
        raise
    _apply_to_messages(options)
    return with_environment(options)


def for_many(options: Options) -> Options:
    """Return parsed options that are defaults of many requests, completed from the environment. Our messages obey them.

    Raises CapsuleError E10xx.
    """
    _apply_to_messages(options)
    return with_environment(options)


def _apply_what_can_be_read(words: Sequence[str]) -> None:
    """Let the message about a wrong command line be quiet or coloured as it says itself."""
    ours = words[: words.index("--")] if "--" in words else words
    for word, following in zip(ours, [*ours[1:], ""], strict=True):
        name, equals, text = word.partition("=")
        if word in ("-q", "--quiet"):
            output.messages.quiet = True
        elif name == "--color" and (text if equals else following) in (ALWAYS, NEVER):
            colours.choice.when = text if equals else following


def _apply_to_messages(options: Options) -> None:
    """Let our own messages be quiet, and coloured, as the options say."""
    if options.verbosity < 0:
        output.messages.quiet = True
    if options.color != AUTO:
        colours.choice.when = options.color
    resources = options.fields.get("resources", {})
    assert isinstance(resources, dict)
    if resources.get("cpu_shares", FEW_SHARES) < FEW_SHARES:
        shares = resources["cpu_shares"]
        output.notice(
            f"warning: `--cpu {shares}` is a weight, next to 1024 of other runs",
            hint=f"`--cpus {shares}` limits the number of processors",
        )


def with_environment(options: Options) -> Options:
    """Complete the options from the environment: variables that are options (`engine.variables`), and those of `--env NAME`."""
    if options.action != RUN:
        return options
    if path_resolution.variables():
        options = variables.with_variables(options)
    if options.env_files or "environment" in options.fields:
        options = caller_environment.completed(options)
    return options


def own_files(options: Options) -> bool:
    """Return whether the command line reads configuration files of the caller's."""
    return not options.no_config and path_resolution.has_own_configuration()


def json_request(options: Options, text: bytes, *, own: bool) -> Request:
    """Return a JSON request, completed from the options, and from files if it names a preset or the caller has `own_files`.

    Raises CapsuleError E10xx.
    """
    return request_options.build_json_request(
        options, text, lambda given: configuration.completed(given, own=own) if own or "preset" in given else given
    )


def with_files(options: Options) -> Options:
    """Complete the options with a preset and the configuration files, if there is any (`engine.configuration`)."""
    if options.action == RUN and ("preset" in options.fields or own_files(options)):
        return configuration.with_files(options)
    return options
