"""Run the JSON request of standard input in another way than `capsule-run --json`, and print the same response.

`pool`: in a room that a pool has built ahead. `room`: as a payload that joins a room, which another launcher holds.
"""

from __future__ import annotations

import json
import sys
import time

from capsule_run._base.errors import CapsuleError
from capsule_run._base.value import replace
from capsule_run.engine import build_result
from capsule_run.engine.execute import perform, wait
from capsule_run.engine.session import Session
from capsule_run.request.parse import request_from_mapping
from capsule_run.sandbox.filler import Filler


def in_a_pool(request):
    if request.isolation.workspace_upper is not None:  # of one run: a pool refuses it
        return perform(request)
    terms = replace(request, command=("true",), stdin=None, environment=(), timeout_ms=None, execution_id=None)
    filler = Filler(terms, 1, None)
    try:
        spare = filler.take(wait=False)
        result = wait(filler.steps(request, spare))
        assert spare is not None or result.error is not None  # a room that could not be built is not handed out
        return result
    finally:
        filler.close()


def in_a_room(request):
    with Session(request, lease_ms=600_000) as session:
        return wait(session.steps(request))


try:
    result = {"pool": in_a_pool, "room": in_a_room}[sys.argv[1]](request_from_mapping(json.load(sys.stdin)))
except CapsuleError as error:
    result = build_result.failed_result(
        error, {"execution_id": build_result.new_execution_id(), "started_at": build_result.timestamp(time.time_ns())}
    )
print(result.to_json())
