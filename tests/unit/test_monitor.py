"""The metrics file and the audit log: sums, whole lines, and what happens when they cannot be written."""

from __future__ import annotations

import fcntl
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from capsule_run._base.errors import CapsuleError, Failure
from capsule_run.engine import audit
from capsule_run.engine.prepare import prepare
from capsule_run.model.request import Isolation, Request, Resources
from capsule_run.model.result import Result
from capsule_run.model.result_parts import Metrics, Output
from capsule_run.monitor import audit_log
from capsule_run.monitor.prometheus import FAMILIES, HEAD, accumulated


def result(status="success", code="", wall_ms=50.0, hits=()):
    failure = Failure(code=code, message="m", cause="c", details={}, hint="") if code else None
    return Result(
        execution_id="x", status=status, started_at="", finished_at="", exit_code=0, signal=None,
        stdout_stream=Output(data=b"", total_bytes=30, truncated=False), stderr_stream=None,
        metrics=Metrics(wall_ms=wall_ms, user_ms=1.0, system_ms=1.0, cpu_ms=250.0, startup={"spawn": 1000, "build": 500}),
        isolation={}, error=failure, limits_hit=tuple({"code": hit, "cause": "c", "details": {}} for hit in hits),
    )  # fmt: skip


def samples(text):
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


def test_prometheus_runs_add_up():
    """Each run adds to the figures that were there, by status and code."""
    text = ""
    for run in (result(), result(), result("killed", "E4001", wall_ms=2000.0, hits=["E4005"])):
        text = accumulated(text, run, now=12.5)
    found = samples(text)
    expected = {
        'capsule_run_runs_total{status="success",code=""}': 2, 'capsule_run_runs_total{status="killed",code="E4001"}': 1,
        'capsule_run_wall_seconds_bucket{le="0.1"}': 2, 'capsule_run_wall_seconds_bucket{le="10"}': 3,
        'capsule_run_wall_seconds_bucket{le="+Inf"}': 3, "capsule_run_wall_seconds_count": 3, "capsule_run_wall_seconds_sum": 2.1,
        "capsule_run_cpu_seconds_total": 0.75, "capsule_run_setup_seconds_total": 0.0045,
        "capsule_run_output_bytes_total": 90, 'capsule_run_limits_hit_total{code="E4005"}': 1,
        "capsule_run_last_run_timestamp_seconds": 12.5,
    }  # fmt: skip
    assert expected.items() <= found.items()


def test_prometheus_file_has_the_exposition_format():
    """Every line is a comment or a sample, and each family is described once, before its samples."""
    lines = accumulated("", result(hits=["E4002"]), now=1.0).splitlines()
    sample = re.compile(r'[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? [0-9.]+')
    assert [] == [line for line in lines if not line.startswith("#") and not sample.fullmatch(line)]
    described = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert [family for family, _kind, _about in FAMILIES] == described


@pytest.mark.parametrize("text", ["other_metric 1\n", f"{HEAD}\nnot a number x\n", "\0"])
def test_prometheus_foreign_file_is_not_replaced(tmp_path, text):
    """Somebody else's file, or a broken one, is refused and not replaced."""
    path = tmp_path / "m.prom"
    path.write_text(text)
    with pytest.raises(CapsuleError, match="E6005"):
        audit_log.add_metrics(str(path), result())
    assert (text, ["m.prom"]) == (path.read_text(), os.listdir(tmp_path))


def test_prometheus_parallel_runs_are_all_counted(tmp_path):
    """No run is lost between reading and replacing, and nothing else is left in the directory."""
    path = tmp_path / "m.prom"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: audit_log.add_metrics(str(path), result()), range(40)))
    assert 40 == samples(path.read_text())["capsule_run_wall_seconds_count"]
    assert ["m.prom"] == os.listdir(tmp_path)


def test_audit_log_parallel_lines_are_whole(tmp_path):
    """Long lines from many writers are never torn or mixed."""
    path = str(tmp_path / "a.jsonl")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: audit.append_line(path, {"n": n, "text": chr(65 + n % 26) * 20000}), range(60)))
    with open(path) as log:
        rows = [json.loads(line) for line in log]
    assert set(range(60)) == {row["n"] for row in rows}
    assert all(len(set(row["text"])) == 1 for row in rows)


def test_audit_log_is_readable_by_its_owner_only(tmp_path):
    """What ran may be a secret: nobody else can read a new log."""
    audit.append_line(str(tmp_path / "a"), {})
    assert 0o600 == (tmp_path / "a").stat().st_mode & 0o777


def test_audit_log_link_is_refused(tmp_path):
    """A link that stands where the log should be is refused."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    with pytest.raises(CapsuleError, match="E6005"):
        audit.append_line(str(tmp_path / "a"), {})
    assert not (tmp_path / "b").exists()


def test_audit_log_lock_held_forever_is_an_error(tmp_path, monkeypatch):
    """Anyone who holds the lock for ever does not hold up runs for ever."""
    monkeypatch.setattr(audit, "LOCK_PATIENCE_S", 0.05)
    with open(tmp_path / "a", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(CapsuleError, match="E6005"):
            audit.append_line(str(tmp_path / "a"), {})


def hash_of(**fields):
    return audit.policy_hash(prepare(Request(**{"command": ("true",), **fields}))[1])


def test_policy_hash_is_equal_for_equal_policies():
    """The command and its variables are not the policy; a limit and the network are."""
    assert hash_of() == hash_of(command=("cat", "x"), environment=(("A", "1"),), stdin=b"x")
    assert hash_of() != hash_of(timeout_ms=5)
    assert hash_of() != hash_of(resources=Resources(max_pids=3))
    assert hash_of() != hash_of(isolation=Isolation(network=True))
