"""An agent of the OpenAI Agents SDK, with code or a shell in a sandbox as its tool.

python examples/openai_agents_sdk.py [code|shell]        # with OPENAI_API_KEY, or behind stand_in_model.py
"""

from __future__ import annotations

import os
import sys

from agents import Agent, Runner, set_tracing_disabled

from capsule_run.integrations.openai_agents import execute_code_tool, shell_tool
from capsule_run.tooling import operator

# What the model may use, whatever it asks for: request fields as in docs/json-api.md.
LIMITS = operator({"resources": {"memory_bytes": 256 << 20}}, max_timeout_ms=60_000)


def main(kind: str) -> str:
    set_tracing_disabled(True)  # the SDK's signature
    tool = execute_code_tool(LIMITS) if kind == "code" else shell_tool(LIMITS)
    agent = Agent(name="calculator", model=os.environ.get("OPENAI_MODEL", "gpt-5"), tools=[tool])
    return str(Runner.run_sync(agent, "What is six times seven? Use the tool.").final_output)


if __name__ == "__main__":
    print(main((sys.argv[1:] or ["code"])[0]))
