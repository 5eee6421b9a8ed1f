"""Runs that are written down, from the command line."""

from __future__ import annotations

import json


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_audit_log_and_metrics_record_a_run(inside, place):
    """Who, what, under which policy and how it ended; and the figures of all runs."""
    log, figures = place / "audit.jsonl", place / "capsule.prom"
    options = ["--no-workspace", "--audit-log", log, "--metrics-file", figures]
    for code in ("0", "3"):
        assert int(code) == inside.cli(*options, "--", "sh", "-c", f"exit {code}").returncode
    first, second = rows(log)
    assert (inside.uid, ["sh", "-c", "exit 0"], "success") == (
        first["caller"]["uid"],
        first["command"],
        first["status"],
    )
    assert (3, "E3003") == (second["exit_code"], second["code"])
    assert first["policy_sha256"] == second["policy_sha256"]
    assert "capsule_run_wall_seconds_count 2" in figures.read_text()


def test_audit_log_failure_with_json_is_on_stderr(inside, place):
    """A log that cannot be written is reported on stderr; the answer is unchanged."""
    request = json.dumps({"command": ["true"]}).encode()
    done = inside.cli("--json", "--audit-log", place / "none" / "a", input=request)
    assert ("success", True) == (json.loads(done.stdout)["status"], b"E6005" in done.stderr)


def test_audit_required_unwritable_refuses_the_run(inside, place):
    """With `--audit-required` a log that cannot be written refuses the run, before anything has happened."""
    out = place / "out"
    out.mkdir()
    out.chmod(0o777)
    options = ["--no-workspace", "--writable", out, "--audit-required", "--audit-log", place / "none" / "a"]
    done = inside.cli(*options, "--", "touch", out / "f")
    assert (125, []) == (done.returncode, list(out.iterdir()))
    assert b"E6005" in done.stderr


def test_audit_required_log_has_the_start(inside, place):
    """The line of the start comes first, so that a run whose end was never logged is seen."""
    log = place / "audit.jsonl"
    inside.cli("--no-workspace", "--audit-required", "--audit-log", log, "--", "true")
    start, end = rows(log)
    assert ("start", "end", start["execution_id"]) == (start["event"], end["event"], end["execution_id"])


def test_audit_required_without_log_is_refused(inside):
    """`--audit-required` alone is refused, rather than run without a log."""
    assert 2 == inside.cli("--no-workspace", "--audit-required", "--", "true").returncode
