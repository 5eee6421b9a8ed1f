"""CPython's own tests: which modules, and what each of their cases came to. Not a test."""

# ruff: noqa: E501 - a list of modules
from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

from host_vs_sandbox import inside, outside

# Debian's libpython3-testsuite, unpacked with the stdlib's own `test` package beside it; CI does so and names the folder.
FOLDER = Path(os.environ.get("CAPSULE_CPYTHON_TESTS", "/nowhere"))
PYTHON = "/usr/bin/python3"

MODULES = """
    test_atexit test_cmd_line test_ctypes test_dbm_dumb test_eof test_epoll test_errno test_fcntl test_file test_filecmp test_fileio
    test_fileinput test_fork1 test_getpass test_glob test_grp test_gzip test_httpservers test_import test_ioctl test_linecache test_locale
    test_logging test_mimetypes test_mmap test_module test_os test_pathlib test_pkgutil test_platform test_poll test_popen test_posix
    test_posixpath test_pty test_pwd test_py_compile test_queue test_readline test_resource test_runpy test_sched test_secrets test_select
    test_selectors test_shelve test_shutil test_signal test_site test_socket test_socketserver test_sqlite3 test_stat test_subprocess test_sys
    test_sysconfig test_syslog test_tarfile test_tempfile test_termios test_thread test_threadedtempfile test_threading test_threading_local
    test_threadsignals test_time test_timeout test_tty test_uuid test_wait3 test_wait4 test_zipapp test_zipimport test_zlib
""".split()  # a list of names reads better so
# What only computes: a sandbox could hardly change it, and it takes as long again. Run with CAPSULE_CPYTHON=all.
COMPUTING = """
    test_abc test_argparse test_array test_ast test_asyncgen test_augassign test_base64 test_binascii test_bisect test_bool test_builtin
    test_bytes test_calendar test_call test_code test_codecs test_collections test_complex test_configparser test_contextlib test_copy
    test_coroutines test_csv test_dataclasses test_deque test_descr test_dict test_difflib test_dis test_enum test_exceptions test_float
    test_fnmatch test_format test_fractions test_fstring test_functools test_generators test_genericalias test_getopt test_grammar test_graphlib
    test_hash test_heapq test_hmac test_html test_http_cookies test_inspect test_int test_ipaddress test_iter test_json test_list test_long
    test_marshal test_math test_memoryview test_minidom test_netrc test_ntpath test_operator test_optparse test_ordered_dict test_plistlib
    test_pprint test_quopri test_re test_reprlib test_set test_shlex test_slice test_sort test_string test_struct test_structseq test_textwrap
    test_tomllib test_traceback test_tracemalloc test_tuple test_types test_typing test_urllib test_urlparse test_userdict test_warnings
    test_wave test_weakref test_xml_etree test_zoneinfo
""".split()
if os.environ.get("CAPSULE_CPYTHON") == "all":
    MODULES += COMPUTING

# Cases that end their process inside, and with it what else the module would tell: not run on either side.
ENDING = {
    "test_fexecve": "runs a file by its descriptor, which is refused; its child then goes on with all other tests",
    "*UDPLITE*": "sockets of UDP-Lite, a protocol that no profile has; the tests' own clearing up then ends their module",
}
# Cases that never end outside either: the tests are newer than the library beside them, or the machine lacks what they wait for.
# A module with one of them is ended as a whole after minutes, and its other cases are not reported.
ENDLESS = {
    "*.TestSniffer.test_sniff_[qrs]*": "tests a repair that this library does not have (the first ends, after half a minute)",
    "test_4_daemon_threads": "the same",
    "ThreadedVSOCKSocketStreamTest": "waits for a virtual machine's socket, which has nobody at its other end",
}
# What does not pass inside and does outside, each with its reason: the beginning of a case's name, or all of it.
_READ_ONLY = "of a file in /usr that is not there the kernel says that /usr is read-only: it is a mount of its own here"
_IDS = "there is one user and one group inside, and no change of ids"
_MEMFD = "a file without a name could be run without one: `--profile default+memfd` has the call, and programs fall back on /tmp"
EXCEPTIONS: dict[str, str] = {
    "test.test_os.MemfdCreateTests.test_memfd_create": _MEMFD,
    "test.test_import.ImportTests.test_import": _READ_ONLY,
    "test.test_import.PycacheTests": _READ_ONLY,
    "test.test_runpy.RunModuleTestCase": _READ_ONLY,
    "test.test_fcntl.TestFcntl.test_fcntl_64_bit": "signals about directories (F_NOTIFY) are refused; inotify is there",
    "test.test_resource.ResourceTest.test_fsize_ismax": "the size of a file is limited",
    "test.test_subprocess.POSIXProcessTestCase.test_group": _IDS,
    "test.test_subprocess.POSIXProcessTestCase.test_user": _IDS,
}


def cases(text):
    """Each case of a JUnit report: name → "passed", "skipped" or "failed". A case that ran twice is as bad as its worst."""
    found: dict[str, str] = {}
    for case in ET.fromstring(text).iter("testcase"):
        children = {child.tag for child in case}
        state = "failed" if children & {"failure", "error"} else "skipped" if "skipped" in children else "passed"
        name = case.get("name", "")
        if found.get(name) != "failed":
            found[name] = state
    return found


def run(modules, *, is_inside):
    """Run the modules, two at a time, and return their cases."""
    ignored = " ".join(f"-i '{name}'" for name in (*ENDING, *ENDLESS))
    # some cases write beside the tests, so each side has its own copy
    script = (
        f"cp -r {FOLDER} lib && export PYTHONPATH=$PWD/lib PYTHONDONTWRITEBYTECODE=1 && "
        f"{PYTHON} -m test -j2 --timeout 120 --junit-xml out.xml {ignored} {' '.join(modules)} >log 2>&1; cat out.xml || cat log >&2"
    )
    command = ["/bin/sh", "-c", script]
    if is_inside:
        end = inside(command, memory_mib=4096, max_pids=400, shown=[FOLDER], seconds=600)
    else:
        end = outside(command, seconds=600)
    assert end.said.startswith("<"), end.why
    return cases(end.said)


def reason(name):
    """Why a case may fail inside, or None."""
    return next((why for start, why in EXCEPTIONS.items() if name.startswith(start)), None)
