"""Names and addresses without a network: what `lo` has, whom resolvers ask, and that they are refused at once."""

from __future__ import annotations

import shutil
import subprocess

import pytest

ADDRESSES = """
import socket
for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
    print(socket.getaddrinfo(host, 80, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)[0][4][0])
"""
LOOPBACK = """
import socket
for host in ("127.0.0.1", "127.0.0.2", "::1", "fe80::1%lo"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.getaddrinfo(host, 0, family, socket.SOCK_STREAM)[0][4]
    server = socket.socket(family)
    server.bind(address)
    server.listen()
    client = socket.socket(family)
    client.connect(server.getsockname())
    print(host)
"""
SERVER = """
import re, socket
print(re.search("^hosts:.*", open("/etc/nsswitch.conf").read(), re.M)[0])
server = re.search("^nameserver (.*)", open("/etc/resolv.conf").read(), re.M)[1]
try:
    socket.socket(type=socket.SOCK_DGRAM).connect((server, 53))
except OSError as error:
    print(error.strerror)
"""
LOOKUP_C = """
#include <netdb.h>
#include <stdio.h>
int main(void)
{
	struct addrinfo hints = { .ai_socktype = 1 }, *found;

	return printf("%s\\n", getaddrinfo("name.example", "80", &hints, &found) ? "not found" : "found") < 0;
}
"""
LOOKUP_PYTHON = """
import socket
try:
    socket.getaddrinfo("name.example", 80)
except OSError:
    print("not found")
"""
LOOKUPS = {
    "glibc": ["/usr/bin/python3", "-c", LOOKUP_PYTHON],
    "node-lookup": ["node", "-e", "require('dns').lookup('name.example', e => console.log(e ? 'not found' : 'found'))"],
    "node-c-ares": ["node", "-e", "require('dns').resolve4('name.example', e => console.log(e ? 'not found' : 'found'))"],
}  # fmt: skip
GO_RESOLVER = """
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
)

func main() {
	dialled := false
	resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		dialled = true
		return nil, errors.New("no server")
	}}
	resolver.LookupHost(context.Background(), "name.example")
	fmt.Println("dialled:", dialled)
}
"""


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("network", [False, True])
def test_localhost_has_both_addresses(inside, network):
    """Who asks for any address of `localhost` gets both, as on other machines, and its server listens on both."""
    code = "import socket; print(*sorted({a[4][0] for a in socket.getaddrinfo('localhost', 0, type=1)}))"
    assert "127.0.0.1 ::1" == inside.python_says(code, isolation={"network": network})


@pytest.mark.needs("ipv6")
def test_addrconfig_finds_the_loopback_addresses(inside):
    """getaddrinfo(3) with AI_ADDRCONFIG finds 127.0.0.1 and ::1: `lo` has addresses that C libraries count as configured."""
    assert ["127.0.0.1", "::1"] == inside.python_says(ADDRESSES).splitlines()


@pytest.mark.needs("ipv6")
def test_loopback_addresses_can_be_served(inside):
    """A program listens and connects at each address of `lo`."""
    assert ["127.0.0.1", "127.0.0.2", "::1", "fe80::1%lo"] == inside.python_says(LOOPBACK).splitlines()


def test_name_server_is_asked_and_out_of_reach(inside):
    """Resolvers are configured to ask a server, which a program can be itself; there is no route to that of resolv.conf."""
    assert ["hosts: files dns", "Network is unreachable"] == inside.python_says(SERVER).splitlines()


@pytest.mark.parametrize("library", LOOKUPS)
def test_name_lookup_fails_at_once(inside_as_caller, needs, library):
    """A name that is not in /etc/hosts is not found, and no resolver waits for an answer, which would take 5 s."""
    command = LOOKUPS[library]
    needs(command[0] if command[0] == "node" else "user-namespaces")
    assert "not found" == inside_as_caller.says(command, timeout_ms=4000, resources={"memory_bytes": 1 << 30})


@pytest.mark.needs("musl-gcc")
def test_name_lookup_of_musl_fails_at_once(inside_as_caller, place):
    """musl sends to an unconnected socket and ignores the refusal: it is configured not to wait for an answer."""
    (place / "lookup.c").write_text(LOOKUP_C)
    subprocess.run([shutil.which("musl-gcc"), "-static", "-o", place / "lookup", place / "lookup.c"], check=True)
    said = inside_as_caller.says(["./lookup"], timeout_ms=4000, isolation={"workspace": str(place)})
    assert "not found" == said


@pytest.mark.needs("go")
def test_go_resolver_asks_a_server_of_the_program(inside_as_caller, place):
    """Go's own resolver dials the server that the program brings."""
    (place / "main.go").write_text(GO_RESOLVER)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(place), "GO111MODULE": "off", "CGO_ENABLED": "0"}
    subprocess.run([shutil.which("go"), "build", "-o", "dns", "main.go"], cwd=place, env=environment, check=True)
    assert "dialled: true" == inside_as_caller.says(["./dns"], isolation={"workspace": str(place)})
