"""The MCP server under the official Python client: a mistake, its correction, and a picture that comes back.

    pip install 'capsule-sandbox[mcp]' && python examples/mcp_client.py

What an agent's client does with the answers, this prints.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

COMMAND = str(Path(sys.executable).parent / "capsule-run")
# What every call may use, whatever the model asks for.
LIMITS = ["--memory", "256M", "--timeout", "20000"]
DRAW = """
import struct, zlib
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
rows = bytes([0, 255, 0, 0])  # one red point
with open("dot.png", "wb") as file:
    file.write(b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)))
    file.write(chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
"""


async def main() -> None:
    server = StdioServerParameters(command=COMMAND, args=["mcp", *LIMITS])
    async with Client(stdio_client(server)) as client:
        print("tools:", *[tool.name for tool in (await client.list_tools()).tools])
        for code in ("print(6 *)", "print(6 * 7)", DRAW):
            answer = await client.call_tool("execute_code", {"language": "python", "code": code})
            print("error:" if answer.is_error else "answer:", *[block.type for block in answer.content])
            print(answer.content[0].text)


if __name__ == "__main__":
    asyncio.run(main())
