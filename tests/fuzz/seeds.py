"""Write the seeds and the dictionary of the plan fuzzer: `python3 tests/fuzz/seeds.py FOLDER CORE`.

Seeds are the smallest plans, a plan with every verb, and what the product compiles on this host.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent / "src"), str(HERE.parent / "core")]

from handwritten_plans import SMALLEST, compiled, encode, verbs  # noqa: E402

from capsule_run.engine.prepare import prepare  # noqa: E402
from capsule_run.model.request import Bind, Isolation, Request, Resources, Workspace  # noqa: E402
from capsule_run.plan.join import join_steps  # noqa: E402
from capsule_run.plan.payload import payload_steps  # noqa: E402

FIELDS = {
    "n": "9223372036854775807", "l": "unlimited", "r": "4", "i": "4294967294", "o": "1777", "p": "/a/b", "t": "text",
    "h": "0123456789abcdef", "f": "15", "s": "0", "w": "net", "j": "net", "b": "ro", "a": "truncate", "e": "NAME=VALUE",
}  # fmt: skip


def every_verb(half, language):
    """A plan with each verb of a half, as far as one plan may have them."""
    steps = []
    for verb in language:
        if verb.half == half and verb.name not in ("host-net", "hold"):
            given = [step for step in SMALLEST[half] if step[0] == verb.name]
            steps += given or [(verb.name, *(FIELDS.get(kind, "0") for kind in verb.kinds))]
    return steps


def shortened(step):
    return tuple(word if len(word) <= 64 else word[:64] for word in step)


def main(folder, core):
    corpus = Path(folder, "corpus")
    corpus.mkdir(parents=True, exist_ok=True)
    language = verbs(core)
    seeds = {f"smallest-{half}": encode(half, steps) for half, steps in SMALLEST.items()}
    seeds |= {f"every-verb-{half}": encode(half, every_verb(half, language)) for half in SMALLEST}
    requests = {
        "plain": {},
        "network": {"isolation": Isolation(network=True, user=0)},
        "limits": {"resources": Resources(memory_bytes=1 << 30, cpu_shares=2), "stdin": b"x"},
        "binds": {
            "isolation": Isolation(
                binds=(Bind(source="/usr/bin", destination="/tools"),), workspace=Workspace(source="/usr/share")
            )
        },
    }
    for name, fields in requests.items():
        plan = compiled("sh", "-c", "true", **fields)
        policy = prepare(Request(command=("true",), **fields))[1]
        halves = {"room": plan.room, "payload": plan.payload, "join": join_steps(policy, max_processes=64)}
        # short fields: long ones slow the fuzzer down and hold nothing to find
        seeds |= {f"{name}-{half}": encode(half, map(shortened, steps)) for half, steps in halves.items()}
        holds = payload_steps(policy, hold=True, keep=True)
        seeds[f"{name}-holds"] = encode("payload", map(shortened, holds))
    for name, text in seeds.items():
        corpus.joinpath(name).write_bytes(text)
    words = ["capsule-plan", "1", "room", "payload", "join", "end", *(verb.name for verb in language), *FIELDS.values()]
    words += ["user", "mount", "pid", "ipc", "uts", "cgroup", "rw", "dev", "kill", "..", "/"]
    entries = ['"' + "".join(f"\\x{byte:02x}" for byte in word.encode() + b"\0") + '"' for word in dict.fromkeys(words)]
    Path(folder, "words").write_text("\n".join(entries) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
