"""Run the JSON request of standard input as a payload that joins a room, and print the response, as `capsule-run --json` does."""

from __future__ import annotations

import json
import sys
import time

from capsule_run._base.errors import CapsuleError
from capsule_run.engine import build_result
from capsule_run.engine.execute import wait
from capsule_run.engine.session import Session
from capsule_run.request.parse import request_from_mapping

try:
    request = request_from_mapping(json.load(sys.stdin))
    with Session(request, lease_ms=600_000) as session:
        result = wait(session.steps(request))
except CapsuleError as error:
    result = build_result.failed_result(
        error, {"execution_id": build_result.new_execution_id(), "started_at": build_result.timestamp(time.time_ns())}
    )
print(result.to_json())
