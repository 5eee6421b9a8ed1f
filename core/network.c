/* SPDX-License-Identifier: MIT
 *
 * The network namespace, made beside the building of the root, and its loopback.
 */
#include "capsule-core.h"
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int loopback_up(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int sock CLEANUP_CLOSE = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return sock < 0 ? -1 : ioctl(sock, SIOCSIFFLAGS, &lo);
}

/*
 * The network namespace is the dearest of all (half a millisecond), and nothing that is built needs it: a child makes
 * it on another processor meanwhile, brings its loopback up, and hands it over. Every way for that child to fail ends
 * in a closed socket without a descriptor, which act_network() does not take. It is taken before the pivot: there the
 * kernel waits for every processor to pass through a quiet moment, and one that makes a network namespace keeps it
 * waiting.
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
