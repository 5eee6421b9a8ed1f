"""Options that could do nothing are invalid, and defaults of an operator that a call has no use for are left out."""

from __future__ import annotations

import pytest

from capsule_run._base.errors import CapsuleError
from capsule_run.host.survey import survey
from capsule_run.policy.resolve import resolve
from capsule_run.request.parse import request_from_mapping, with_defaults


def policy_of(**fields):
    request = request_from_mapping({"command": ["true"], **fields})
    return resolve(request, survey(request))


WITHOUT_EFFECT = [
    ({"collect_bytes": 1}, "collect_bytes: there are no files to limit, since nothing is collected"),
    ({"collect_file_bytes": 0}, "collect_file_bytes: there are no files to limit, since nothing is collected"),
    ({"collect_to": "out"}, "collect_to: there are no files to write, since nothing is collected"),
    (
        {"isolation": {"unmask": [".env"]}},
        "isolation.unmask: nothing is shared with the sandbox, so there is no `.env` to show",
    ),
]


@pytest.mark.parametrize(("fields", "message"), WITHOUT_EFFECT)
def test_request_field_without_effect_is_invalid(fields, message):
    """A field that could do nothing is E1009, with the field that it needs."""
    with pytest.raises(CapsuleError, match="E1009") as raised:
        policy_of(**fields)
    assert (message, True) == (raised.value.message, bool(raised.value.hint))


def test_request_field_with_what_it_needs_is_accepted(tmp_path):
    """A limit of collected files and a secret to show are accepted with files to collect and a share."""
    assert 1 == policy_of(collect=["*"], collect_bytes=1).transfer.collect_bytes
    for isolation in ({"workspace": str(tmp_path)}, {"readonly_paths": [str(tmp_path)]}):
        policy_of(isolation={**isolation, "unmask": [".env"]})


def test_request_default_limit_of_nothing_collected_is_left_out():
    """An operator's limit of what calls may collect does not make a call invalid that collects nothing."""
    limits = {"collect_bytes": 5, "collect_file_bytes": 4, "timeout_ms": 9}
    assert {"timeout_ms": 9} == with_defaults({}, limits)
    assert limits | {"collect": ["*"]} == with_defaults({"collect": ["*"]}, limits)
    assert {"collect_bytes": 3, "timeout_ms": 9} == with_defaults({"collect_bytes": 3}, limits)
