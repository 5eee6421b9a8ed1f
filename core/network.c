/* SPDX-License-Identifier: MIT
 *
 * The network namespace, made beside the building of the root, and its loopback.
 */
#include "capsule-core.h"
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define ROUTABLE_LOOPBACK 0x7f000002U /* 127.0.0.2 */
#define LOOPBACK_INDEX 1              /* the kernel makes `lo` first in every namespace */

struct in6_request { /* linux/ipv6.h has it as in6_ifreq, and does not get along with C libraries */
	struct in6_addr address;
	uint32_t prefix;
	int32_t index;
};

/* Whether an address could not be added only because this kernel has no IPv6, or has it switched off. */
static bool lacks_ipv6(int error)
{
	return error == EAFNOSUPPORT || error == EACCES || error == EOPNOTSUPP || error == ENODEV;
}

/*
 * Beside the two addresses that the kernel gives it: resolvers do not count those as configured, and getaddrinfo() with
 * AI_ADDRCONFIG then finds nothing. ioctls, which take as long as one batch of netlink messages and are half the code.
 */
static int add_loopback_addresses(int sock)
{
	struct sockaddr_in second = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(ROUTABLE_LOOPBACK) };
	struct in6_request link_local = { { { { 0xfe, 0x80, [15] = 1 } } }, 64, LOOPBACK_INDEX };
	struct ifreq alias = { .ifr_name = "lo:1" };
	int sock6 CLEANUP_CLOSE = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(&alias.ifr_addr, &second, sizeof(second));
	if (ioctl(sock, SIOCSIFADDR, &alias) < 0)
		return -1;
	return sock6 >= 0 && ioctl(sock6, SIOCSIFADDR, &link_local) == 0 ? 0 : -!lacks_ipv6(errno);
}

static int loopback_up(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int sock CLEANUP_CLOSE = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return sock < 0 || ioctl(sock, SIOCSIFFLAGS, &lo) < 0 ? -1 : add_loopback_addresses(sock);
}

/*
 * The network namespace is the slowest of all to make (half a millisecond), and nothing that is built needs it: a child
 * makes it on another processor meanwhile, brings its loopback up, and sends it. If the child fails it sends an errno,
 * or closes the socket. The namespace is entered before the pivot, in which the kernel waits for an RCU period: one
 * that makes a network namespace at the same time would prolong it.
 */
void start_network(struct room *room)
{
	int pair[2];
	int made CLEANUP_CLOSE = -1;

	room->network_maker = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ?
	    -1 :
	    clone_process(0, NULL, -1);
	room->network = room->network_maker < 0 ? -errno : pair[0];
	if (room->network_maker < 0)
		return;
	if (room->network_maker > 0) {
		close_cleanup(&pair[1]);
		return;
	}
	if (unshare(CLONE_NEWNET) == 0 && loopback_up() == 0)
		made = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (made >= 0 && send_message(pair[1], &(int){ 0 }, sizeof(int), &made, 1) == 0)
		_exit(0);
	_exit(send_message(pair[1], &errno, sizeof(errno), NULL, 0) < 0);
}

ACT(network)
{
	int fds[MAX_FDS], error = EPROTO;
	unsigned int nfds = 0;
	ssize_t got;

	if (room->network < 0) {
		errno = -room->network;
		return -1;
	}
	got = receive_message(room->network, &error, sizeof(error), fds, &nfds);
	if (got != sizeof(error) || nfds != 1) {
		if (got >= 0)
			errno = got == sizeof(error) && error != 0 ? error : EPROTO;
		return -1;
	}
	if (setns(fds[0], CLONE_NEWNET) < 0 || close(fds[0]) < 0)
		return -1;
	return waitpid(room->network_maker, NULL, __WALL) == room->network_maker ? 0 : -1;
}
