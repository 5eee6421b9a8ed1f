"""The shipped presets, and how layers of configuration become one set of defaults. Pure."""

from __future__ import annotations

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.request.config_file import PRESETS, SHIPPED, read_layer
from capsule_run.request.validators import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from capsule_run.request.config_file import Layer, Preset, Setting

# Each says something about the network, so that a preset that is named on top of others decides it.
_SHIPPED: Mapping[str, Mapping[str, object]] = {
    "agent": {
        "description": "code that a model wrote: one minute, output cut and not fatal",
        "timeout": 60_000,
        "memory": "1G",
        "max-pids": 128,
        "disk": "512M",
        "max-output": "1M",
        "on-output-limit": "truncate",
        "network": False,
    },
    "judge": {
        "description": "a submission: CPU time decides, a deep stack, no more output than an answer has",
        "timeout": 20_000,
        "cpu-time": 10_000,
        "memory": "256M",
        "stack": "256M",
        "max-pids": 64,
        "disk": "64M",
        "max-output": "16M",
        "on-output-limit": "kill",
        "network": False,
    },
    "build": {
        "description": "compilers and test suites: half an hour, many processes, large files",
        "timeout": 1_800_000,
        "memory": "4G",
        "max-pids": 2048,
        "max-open-files": 4096,
        "max-output": "64M",
        "on-output-limit": "truncate",
        "network": False,
    },
    "data-science": {
        "description": "numpy and its like: much memory, threads for every processor, plots come back",
        "timeout": 600_000,
        "memory": "4G",
        "max-pids": 512,
        "max-output": "16M",
        "on-output-limit": "truncate",
        "max-collect": "256M",
        "network": False,
    },
    "strict": {
        "description": "the least that runs a small program: the strict profile, every forbidden call ends the run",
        "extends": "judge",
        "profile": "strict",
        "max-pids": 16,
        "max-open-files": 64,
        "max-output": "1M",
        "on-violation": "kill",
    },
}


# The presets that capsule-run has itself.
SHIPPED_PRESETS = read_layer(SHIPPED, "capsule-run", {PRESETS: {**_SHIPPED}}, {}).presets


def known_presets(layers: Sequence[Layer]) -> dict[str, Preset]:
    """Return every preset by its name. Raises CapsuleError E1013 for a file that defines a shipped name anew."""
    known = {preset.name: preset for preset in SHIPPED_PRESETS}
    for layer in reversed(layers):  # the nearest one wins
        for preset in layer.presets:
            if preset.name in _SHIPPED:
                why = f"{preset.place}: `{preset.name}` is a preset of capsule-run itself"
                details = {"file": preset.file, "line": preset.line, "key": f"{PRESETS}.{preset.name}"}
                hint = f'choose another name, with `extends = "{preset.name}"` in it'
                raise CapsuleError("E1013", why, details=details, hint=hint)
            known[preset.name] = preset
    return known


def settings_of(
    name: str, known: Mapping[str, Preset], *, asked_by: str, inside: tuple[str, ...] = ()
) -> list[Setting]:
    """Return the settings of a preset and of those that it extends, the nearest first.

    :param asked_by: what names the preset, for messages: an option, a field, or a place in a file.
    """
    preset = known.get(name)
    if preset is None:
        raise CapsuleError(
            "E1005",
            f"{asked_by}: unknown preset `{name}`{did_you_mean(name, known)}",
            details={"field": "preset", "accepted": list(known)},
            hint="known presets: " + ", ".join(known),
        )
    if name in inside:
        chain = " extends ".join(f"`{each}`" for each in (*inside, name))
        details = {"file": preset.file, "line": preset.line, "key": f"{PRESETS}.{name}"}
        raise CapsuleError("E1013", f"{preset.place}: presets form a circle: {chain}", details=details)
    found = list(preset.settings)
    for parent in reversed(preset.extends):  # of several, a later one overrides an earlier one
        place = f"{preset.place}: `extends`"
        found += settings_of(parent, known, asked_by=place, inside=(*inside, name))
    return found


def own_settings(layer: Layer, known: Mapping[str, Preset]) -> list[Setting]:
    """Return what a layer sets: its own values, then those of the preset that it names."""
    if layer.preset is None:
        return list(layer.settings)
    named = settings_of(str(layer.preset.value), known, asked_by=f"{layer.preset.place}: `preset`")
    # the place to change is the line that names the preset
    return [*layer.settings, *(replace(each, file=layer.file, line=layer.preset.line) for each in named)]


def merged(settings: Iterable[Setting]) -> dict[str, Setting]:
    """Return the setting that holds for each field: the first one. Variables of the environment are merged name by name."""
    found: dict[str, Setting] = {}
    for setting in settings:
        before = found.get(setting.field)
        if before is None:
            found[setting.field] = setting
        elif setting.field == "environment" and isinstance(before.value, dict) and isinstance(setting.value, dict):
            found[setting.field] = replace(before, value={**setting.value, **before.value})
    return found
