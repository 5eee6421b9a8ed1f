"""Nothing of the host's network is in reach, and nothing opened inside is in reach of the host."""

# ruff: noqa: E501 - tables and programs, one entry a line
from __future__ import annotations

import socket

import pytest

CONNECT = """
import socket
try:
    sock = socket.socket(socket.{family}, socket.SOCK_STREAM)
    sock.settimeout(2)
    sock.connect({address!r})
    print("connected")
except OSError as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
def test_network_tcp_listener_on_host_loopback_is_out_of_reach(inside, family):
    """TCP to 127.0.0.1 and ::1 ends at the sandbox's own loopback, where nobody listens."""
    address = "127.0.0.1" if family == "AF_INET" else "::1"
    with socket.socket(getattr(socket, family)) as listener:
        listener.bind((address, 0))
        listener.listen()
        seen = inside.python_says(CONNECT.format(family=family, address=listener.getsockname()))
    assert seen in ("ConnectionRefusedError", "OSError")


def test_network_udp_does_not_reach_the_host(inside):
    """UDP to the host's loopback arrives nowhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        port = receiver.getsockname()[1]
        inside.python(f"import socket\nsocket.socket(type=socket.SOCK_DGRAM).sendto(b'out', ('127.0.0.1', {port}))")
        with pytest.raises(BlockingIOError):
            receiver.recv(10)


def test_network_abstract_socket_of_the_host_is_out_of_reach(inside):
    """CVE-2020-15257: containerd's shim listened on an abstract socket of the network namespace."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"\0capsule-run-test-%d" % id(listener))
        listener.listen()
        assert "ConnectionRefusedError" == inside.python_says(
            CONNECT.format(family="AF_UNIX", address=listener.getsockname())
        )


def test_network_socket_file_in_copied_workspace_is_dead(inside, place):
    """A host's socket in a directory shared copy-on-write answers nobody inside (docker.sock left in a project)."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "s"))
        place.joinpath("s").chmod(0o777)
        listener.listen()
        seen = inside.python_says(
            CONNECT.format(family="AF_UNIX", address="/workspace/s"), isolation={"workspace": str(place)}
        )
    # over a copy-on-write view the file is there, and nobody behind it; a private copy leaves sockets out
    assert seen in ("ConnectionRefusedError", "FileNotFoundError")


def test_network_listener_inside_is_invisible_outside(inside):
    """What listens inside, on every address, is not there for the host, nor is its abstract socket."""
    code = """
import socket
server = socket.create_server(("0.0.0.0", 48713))
abstract = socket.socket(socket.AF_UNIX)
abstract.bind(b"\\0capsule-run-inside-listener")
abstract.listen()
print("listening", flush=True)
server.settimeout(0.5)
try:
    server.accept()
    print("somebody came")
except TimeoutError:
    print("nobody came")
"""
    import threading

    def knock():
        for family, address in (
            (socket.AF_INET, ("127.0.0.1", 48713)),
            (socket.AF_UNIX, b"\0capsule-run-inside-listener"),
        ):
            for _ in range(20):
                with socket.socket(family) as sock:
                    if sock.connect_ex(address) == 0:
                        reached.append(address)

    reached = []
    thread = threading.Timer(0.25, knock)
    thread.start()
    try:
        assert ["listening", "nobody came"] == inside.python_says(code).splitlines()
    finally:
        thread.join()
    assert [] == reached


def test_network_has_only_loopback(inside):
    """One interface, up; no route, no address of the host's, no neighbour."""
    code = """
import socket
print([name for _index, name in socket.if_nameindex()])
print(len(open("/proc/net/route").read().splitlines()), open("/proc/net/arp").read().count("\\n"))
"""
    assert ["['lo']", "1 1"] == inside.python_says(code).splitlines()


@pytest.mark.parametrize("address", ["169.254.169.254", "8.8.8.8", "10.0.0.1", "192.168.0.1", "172.17.0.1"])
def test_network_address_outside_has_no_route(inside, address):
    """The cloud's metadata service, the internet, and the neighbours are "network unreachable"."""
    code = f"""
import socket
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    try:
        socket.socket(type=kind).connect(("{address}", 80))
        print("connected")
    except OSError as error:
        print(error.strerror)
"""
    assert {"Network is unreachable"} == set(inside.python_says(code).splitlines())


def test_network_names_are_not_resolved(inside):
    """No name server is asked: no data leaves through DNS."""
    code = """
import socket
try:
    print(socket.getaddrinfo("secret.example.com", 80))
except socket.gaierror:
    print("gaierror")
"""
    assert "gaierror" == inside.python_says(code)


ODD = {
    "packet": (17, 3, 768), "vsock": (40, 1, 0), "alg": (38, 5, 0), "bluetooth": (31, 3, 1), "can": (29, 3, 1), "tipc": (30, 1, 0),
    "rds": (21, 5, 0), "xdp": (44, 3, 0), "key": (15, 3, 2), "nfc": (39, 3, 0), "rxrpc": (33, 2, 2), "qrtr": (42, 2, 0), "smc": (43, 1, 0),
    "mctp": (45, 2, 0), "netfilter": (16, 3, 12), "audit": (16, 3, 9), "uevent": (16, 3, 15), "xfrm": (16, 3, 6), "generic": (16, 3, 16),
    "raw": (2, 3, 1), "raw6": (10, 3, 58), "ping": (2, 2, 1), "sctp": (2, 1, 132), "dccp": (2, 6, 33), "mptcp": (2, 1, 262),
    "udplite": (2, 2, 136), "igmp": (2, 3, 2), "appletalk": (5, 2, 0), "x25": (9, 5, 0), "ax25": (3, 2, 0), "llc": (26, 1, 0),
    "phonet": (35, 2, 0), "ieee802154": (36, 2, 0), "kcm": (41, 5, 0), "isdn": (34, 3, 0), "caif": (37, 1, 0), "pppox": (24, 1, 0),
}  # fmt: skip


@pytest.mark.parametrize("family", ODD)
def test_network_unusual_socket_families_are_refused(inside_as_caller, family):
    """Only local, TCP and UDP sockets exist (CVE-2017-7308, CVE-2022-27666, CVE-2017-6074, CVE-2022-0435, nf_tables, vsock)."""
    numbers = ODD[family]
    code = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.socket{numbers}, libc.socketpair{(*numbers, 0)})
"""
    assert "-1 -1" == inside_as_caller.python_says(code)
