"""What it costs to run in a pool, in a sandbox that lives and in a prepared interpreter, from a Python process that runs."""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Row, absent, interleaved, judged, median, milliseconds, percentile
from memory import is_below, pss_kib
from start import bwrap_argv, captured

if TYPE_CHECKING:
    from collections.abc import Callable

    from capsule_run import Pool

POOLED_SHARE, POOLED_P99_SHARE, SECOND_SHARE, PREPARED_SHARE, NUMPY_SHARE = 1.5, 3.0, 2.0, 0.3, 0.1
ROOM_MIB, PREPARED_MIB, POOLED_RATE, PREPARED_RATE = 0.25, 8.0, 4.0, 6.0
CELL_MS = 1.0
PRINT = "print(42)"
NUMPY = "import numpy; print(numpy.arange(3).sum())"
POOL_SIZE = 4
# Names a program that makes the least sandbox that deserves the name, and runs its arguments in it.
FLOOR = "CAPSULE_BENCH_FLOOR"
NAMES = {
    "plain": "plain subprocess.run of true",
    "pooled": "pooled run of true",
    "second": "second call of true in a sandbox",
    "python": "python3 -I -S -c print(42), no sandbox",
    "prepared": "prepared Python, print(42)",
    "cell": "a cell in a warm context",
}
THROUGHPUT_RUNS = 30  # a round


def filled(pool: Pool, call: Callable[[], object]) -> Callable[[], float]:
    """A case that takes the wall time of a call, once every room is ready again: what it costs to fill it comes below."""
    timed = milliseconds(call)

    def case() -> float:
        pool.wait_ready()
        time.sleep(0.01)  # the thread that fills it goes to sleep
        return timed()

    return case


def spread(name: str, samples: list[float], note: str = "") -> Row:
    """The median, and how far the slow ones are from it."""
    tail = f"p95 {percentile(samples, 0.95):.3f}, p99 {percentile(samples, 0.99):.3f}"
    return Row(name, median(samples), "ms", percentile(samples, 0.25), f"{tail}{'; ' if note else ''}{note}")


def processor_ms() -> float:
    """What this process and all that it has waited for have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used) * 1e3


def rows(rounds: int) -> list[Row]:
    try:
        import capsule_run
    except ImportError:
        return [absent("sessions", "capsule-run is not installed")]
    python = ["/usr/bin/python3", "-I", "-S", "-c", PRINT]
    with (
        capsule_run.Pool(size=POOL_SIZE) as pool,
        capsule_run.Pool(size=POOL_SIZE, preload=[]) as prepared,
        capsule_run.Sandbox() as box,
    ):
        box.run_code("1")
        cases = {
            "plain": milliseconds(lambda: captured(["/bin/true"])),
            "pooled": filled(pool, lambda: pool.run(["/bin/true"])),
            "second": milliseconds(lambda: box.run(["/bin/true"])),
            "python": milliseconds(lambda: captured(python)),
            "prepared": filled(prepared, lambda: prepared.run_code(PRINT)),
            "cell": milliseconds(lambda: box.run_code("1")),
        }
        if shutil.which("bwrap"):
            barest = [*bwrap_argv(), "/bin/true"]
            cases["the barest bubblewrap"] = milliseconds(lambda: captured(barest))
        if reference := os.environ.get(FLOOR):
            cases["the least in C"] = milliseconds(lambda: captured([reference, "/bin/true"]))
        samples = interleaved(cases, rounds)
        stats = pool.stats()
    plain, bare_python = samples["plain"], median(samples["python"])
    hits = f"{stats.hits} of {stats.hits + stats.misses} runs found a room ready"
    found = [
        *[
            spread(NAMES.get(name, name), figures, hits if name == "pooled" else "")
            for name, figures in samples.items()
        ],
        judged("pooled run, p50, of plain", median(samples["pooled"]) / median(plain), "x", POOLED_SHARE),
        judged(
            "pooled run, p99, of plain's p99",
            percentile(samples["pooled"], 0.99) / percentile(plain, 0.99),
            "x",
            POOLED_P99_SHARE,
        ),
        judged("second call in a sandbox, p50, of plain", median(samples["second"]) / median(plain), "x", SECOND_SHARE),
        judged(
            "prepared Python, of an unsandboxed one", median(samples["prepared"]) / bare_python, "x", PREPARED_SHARE
        ),
        judged("a cell in a warm context", median(samples["cell"]), "ms", CELL_MS),
    ]
    return [*found, *_numpy(max(rounds // 5, 3)), *_memory(), *_throughput(max(rounds // 20, 2))]


def _numpy(rounds: int) -> list[Row]:
    import capsule_run

    name = "prepared numpy, of an unsandboxed cold start"
    if importlib.util.find_spec("numpy") is None:
        return [absent(name, "numpy is not installed")]
    with capsule_run.Pool(size=2, preload=["numpy"], memory="1G") as pool:
        cases = {
            "cold": milliseconds(lambda: captured([sys.executable, "-c", NUMPY])),
            "prepared": filled(pool, lambda: pool.run_code(NUMPY)),
        }
        samples = interleaved(cases, rounds)
    return [judged(name, median(samples["prepared"]) / median(samples["cold"]), "x", NUMPY_SHARE)]


def _pss_of_children() -> float:
    """PSS of all descendants, in MiB."""
    folders = [folder for folder in Path("/proc").glob("[0-9]*") if int(folder.name) != os.getpid()]
    return sum(pss_kib(folder) for folder in folders if is_below(int(folder.name), os.getpid())) / 1024


def _memory() -> list[Row]:
    """PSS of one room that waits, with and without an interpreter, of which eight share what they can."""
    import capsule_run

    found = []
    for name, preload, limit in (("a room that waits", None, ROOM_MIB), ("with a Python", [], PREPARED_MIB)):
        try:
            before = _pss_of_children()
            with capsule_run.Pool(size=8, preload=preload) as pool:
                pool.wait_ready()
                time.sleep(0.5)
                found.append(judged(f"{name}, PSS", (_pss_of_children() - before) / 8, "MiB", limit))
        except PermissionError:
            found.append(absent(f"{name}, PSS", "init is non-dumpable: needs root to look at"))
    return found


def _rate(action: Callable[[], object], workers: int, used: list[float]) -> float:
    """Calls a second of so many threads at once; what a call used of the processors goes to `used`."""
    each, before = THROUGHPUT_RUNS // workers, processor_ms()

    def work() -> None:
        for _ in range(each):
            action()

    threads = [threading.Thread(target=work) for _ in range(workers)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used.append((processor_ms() - before) / (each * workers))
    return each * workers / (time.perf_counter() - start)


def _throughput(rounds: int) -> list[Row]:
    """Runs a second, of as many threads as there are processors; a pool pays for its own filling in the meantime."""
    import capsule_run

    if shutil.which("bwrap") is None:
        return [absent("throughput", "bubblewrap is not installed")]
    bwrap, workers = bwrap_argv(), os.cpu_count() or 1
    with capsule_run.Pool(size=POOL_SIZE) as pool, capsule_run.Pool(size=POOL_SIZE, preload=[]) as prepared:
        calls = {
            "bwrap": lambda: captured([*bwrap, "true"]),
            "pooled": lambda: pool.run(["true"]),
            "bwrap python": lambda: captured([*bwrap, "python3", "-I", "-S", "-c", PRINT]),
            "prepared": lambda: prepared.run_code(PRINT),
        }
        used: dict[str, list[float]] = {name: [] for name in calls}
        cases = {name: partial(_rate, call, workers, used[name]) for name, call in calls.items()}
        samples = {name: median(figures) for name, figures in interleaved(cases, rounds, warm_up=1).items()}
    figures = [
        Row(f"{name}, runs a second", rate, "/s", note=f"{median(used[name]):.1f} ms of processor time a run")
        for name, rate in samples.items()
    ]
    return [
        *figures,
        judged(
            "pooled runs a second, of bubblewrap's",
            samples["pooled"] / samples["bwrap"],
            "x",
            POOLED_RATE,
            at_least=True,
        ),
        judged(
            "prepared Python a second, of one in bubblewrap",
            samples["prepared"] / samples["bwrap python"],
            "x",
            PREPARED_RATE,
            at_least=True,
        ),
    ]
