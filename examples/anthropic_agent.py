"""An agent loop over Anthropic's Messages API, whose one tool runs code in a sandbox.

python examples/anthropic_agent.py        # with ANTHROPIC_API_KEY, or behind stand_in_model.py
"""

from __future__ import annotations

import os

from anthropic import Anthropic

from capsule_run.integrations import anthropic as sandbox
from capsule_run.tooling import operator

MODEL = os.environ.get("ANTHROPIC_MODEL", "claude-sonnet-5-5")
# What the model may use, whatever it asks for: request fields as in docs/json-api.md.
LIMITS = operator({"resources": {"memory_bytes": 256 << 20}}, max_timeout_ms=60_000)


def main() -> str:
    messages: list = [{"role": "user", "content": "What is six times seven? Use the tool."}]
    with Anthropic() as client:
        while True:
            answer = client.messages.create(
                model=MODEL, max_tokens=2000, messages=messages, tools=[sandbox.tool(LIMITS)]
            )
            messages.append({"role": "assistant", "content": answer.content})
            uses = [block for block in answer.content if block.type == "tool_use"]
            if not uses:
                return "".join(block.text for block in answer.content if block.type == "text")
            messages.append({"role": "user", "content": [sandbox.handle_tool_use(use, LIMITS) for use in uses]})


if __name__ == "__main__":
    print(main())
