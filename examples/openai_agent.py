"""An agent loop over OpenAI's API, Chat Completions or Responses, whose one tool runs code in a sandbox.

python examples/openai_agent.py [chat|responses]        # with OPENAI_API_KEY, or behind stand_in_model.py
"""

from __future__ import annotations

import os
import sys

from openai import OpenAI

from capsule_run.integrations import openai as sandbox
from capsule_run.tooling import operator

MODEL = os.environ.get("OPENAI_MODEL", "gpt-5")
QUESTION = "What is six times seven? Use the tool."
# What the model may use, whatever it asks for: request fields as in docs/json-api.md.
LIMITS = operator({"resources": {"memory_bytes": 256 << 20}}, max_timeout_ms=60_000)


def chat(client: OpenAI) -> str:
    messages: list = [{"role": "user", "content": QUESTION}]
    while True:
        answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[sandbox.chat_tool(LIMITS)])
        message = answer.choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message)
        messages += [sandbox.handle_tool_call(call, LIMITS) for call in message.tool_calls]


def responses(client: OpenAI) -> str:
    items: list = [{"role": "user", "content": QUESTION}]
    while True:
        answer = client.responses.create(model=MODEL, input=items, tools=[sandbox.responses_tool(LIMITS)])
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            return answer.output_text
        items += answer.output
        items += [sandbox.handle_tool_call(call, LIMITS) for call in calls]


if __name__ == "__main__":
    with OpenAI() as api:
        print({"chat": chat, "responses": responses}[(sys.argv[1:] or ["chat"])[0]](api))
