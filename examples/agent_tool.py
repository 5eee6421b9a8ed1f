"""An agent's "run Python" tool without any framework: code in, text for the model out.

    python examples/agent_tool.py

The model here is a list of replies, so that the example runs anywhere; put a call of yours in its place. What matters is
`run_python`: it never raises for what the code did, keeps partial output, and tells the model how to go on.
"""

from __future__ import annotations

import capsule_run

TOOL = {
    "name": "run_python",
    "description": "Run Python code in a sandbox without network. Print what you want to see.",
    "parameters": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
}

# What a model would send: a first try that fails, one that never ends, and one that works.
REPLIES = [
    "numbers = [3, 1, 2]\nprint(sorted(number))",
    "print('thinking', flush=True)\nwhile True: pass",
    "print(sorted([3, 1, 2]))",
]


def run_python(code: str) -> str:
    """The tool: what the model gets to read."""
    result = capsule_run.run(
        ["python", "-"],  # the code comes by stdin: no file to write, no length limit of an argument
        stdin=code,
        timeout_ms=2_000,
        memory="256M",
        max_output="64K",
        on_output_limit="truncate",
    )
    text = result.stdout
    if result.stdout_stream is not None and result.stdout_stream.truncated:
        text += f"\n[{result.stdout_stream.total_bytes} bytes in all, the rest is cut]"
    if result.error is not None:
        text += result.stderr
        text += f"\n[{result.status}: {result.error.message}]"
        if result.error.hint:
            text += f"\n[hint: {result.error.hint}]"
    return text.strip() or "[no output]"


def main() -> None:
    for code in REPLIES:
        print(f"--- code\n{code}\n--- tool\n{run_python(code)}\n")


if __name__ == "__main__":
    main()
