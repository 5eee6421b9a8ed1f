"""A LangChain agent loop whose one tool runs code in a sandbox, with LangChain's own fake chat model.

    python examples/langchain_agent.py

Put a chat model of yours in place of `FakeModel`; the loop is what `langchain.agents.create_agent` does for you.
"""

from __future__ import annotations

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall

from capsule_run.integrations.langchain import SecureCodeExecutor
from capsule_run.tooling import operator

# What the model may use, whatever it asks for: request fields as in docs/json-api.md.
TOOL = SecureCodeExecutor(limits=operator({"resources": {"memory_bytes": 256 << 20}}, max_timeout_ms=60_000))


class FakeModel(GenericFakeChatModel):
    """Replies from a list; has no use for the tools, but takes them."""

    def bind_tools(self, _tools: object, **_options: object) -> FakeModel:
        return self


def call(number: int, code: str) -> AIMessage:
    arguments = {"code": code, "language": "python"}
    return AIMessage("", tool_calls=[ToolCall(name=TOOL.name, args=arguments, id=str(number))])


REPLIES = [call(1, "print(6 *)"), call(2, "print(6 * 7)"), AIMessage("Six times seven is 42.")]


def main() -> None:
    model = FakeModel(messages=iter(REPLIES)).bind_tools([TOOL])
    messages: list[BaseMessage] = [HumanMessage("What is six times seven? Use the tool.")]
    while True:
        answer = model.invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            break
        for asked in answer.tool_calls:
            said = TOOL.invoke(asked)
            messages.append(said)
            print(
                f"{said.content}\n(the artifact: status {said.artifact['status']}, {said.artifact['metrics']['wall_ms']} ms)\n"
            )
    print(answer.content)


if __name__ == "__main__":
    main()
