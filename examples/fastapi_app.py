"""A web service that runs code for its callers: FastAPI, one sandbox for each request, and no thread for each run.

    pip install fastapi uvicorn
    uvicorn --app-dir examples fastapi_app:app
    curl -s localhost:8000/run -H 'content-type: application/json' -d '{"code": "print(6 * 7)"}'

The limits are the service's; a caller sends code and nothing else. Cancelling the handler ends the sandbox.
"""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from pydantic import BaseModel

from capsule_run import aio

app = FastAPI()
slots = asyncio.Semaphore(8)  # more callers wait here; each sandbox has memory of its own


class Code(BaseModel):
    code: str


class Answer(BaseModel):
    status: str
    stdout: str
    stderr: str
    error: str | None = None


@app.post("/run")
async def run(body: Code) -> Answer:
    """Run Python code, and say what happened."""
    async with slots:
        result = await aio.run_code(
            body.code, timeout_ms=10_000, memory="256M", max_output="64K", on_output_limit="truncate"
        )
    return Answer(
        status=result.status,
        stdout=result.stdout,
        stderr=result.stderr,
        error=result.error.message if result.error else None,
    )
