/* SPDX-License-Identifier: MIT
 *
 * Init: the core inside, process 1. It builds the new root, pivots into it, gives up what it no longer needs, and then
 * waits for payloads, reaps, forwards signals and reports.
 *
 * From the first line of init_main() nothing may give up quietly: report, then leave. The kernel ends every process of the
 * pid namespace with this one, so leaving is always safe.
 */
#include "capsule-core.h"
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CAP_SETFCAP_BIT (1ULL << 31)
#define DIR_FLAGS (O_PATH | O_DIRECTORY)
#define OFFER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define MOUNTS_RANK 14 /* from here on sources are used */
#define MOVED_BYTES (1U << 20) /* asked of splice and sendfile at a time */

static void tell(struct room *room, enum link_kind kind, int a, int b, int c)
{
	const struct link_message message = { .kind = kind, .a = a, .b = b, .c = c, .d = room->entered_us, .attested = room->attested };

	if (send_message(room->link, &message, sizeof(message), NULL, 0) < 0)
		_exit(1); /* the launcher is gone, and we go with it */
}

static void leave(struct room *room, enum half half, unsigned int index)
{
	tell(room, LINK_FAILED, (int)half, (int)index, errno);
	_exit(1);
}

/* ---- sources: opened as the caller, and the very object that Python saw ---- */

/*
 * Called by the launcher for a privileged caller (`source`: only there may it take a tree along) and by init, still with
 * the caller's ids, for anybody else (`inner-source`: only here does it have the power to).
 */
int act_source(struct room *room, const struct step *step)
{
	int object CLEANUP_CLOSE = open_seen(step, O_PATH);
	int tree = object < 0 ? -1 : open_tree_clone(object);

	if (tree < 0)
		return -1;
	room->slot[room->nslots++] = tree;
	return 0;
}

/* ---- making things on our own tmpfs, before the first bind ---- */

/*
 * root SIZE INODES: one tmpfs that is both the building place (with what the writable places will show) and, beneath its
 * `new`, the root to be. Only `new` is entered; the rest stays outside, reachable only where it was bound.
 */
int act_root(struct room *room, const struct step *step)
{
	const char *const options[][2] = { { "size", step->field[0] }, { "nr_inodes", step->field[1] }, { "mode", "0755" }, { NULL, NULL } };
	int host CLEANUP_CLOSE = -1;
	int place CLEANUP_CLOSE = -1;
	int tree CLEANUP_CLOSE = -1;

	/* the copied mounts of the caller are slaves of the host's: what is mounted there later must not appear here */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	room->root = new_filesystem("tmpfs", options, MOUNT_NOSUID | MOUNT_NODEV);
	/*
	 * Any directory of the host's serves but `/`: stacked there, the place would lie on top of the old root when that is
	 * taken away, and shield it. (The kernel then refuses the payload's user namespace: it sees a changed root.)
	 */
	host = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (room->root < 0 || host < 0 || move_mount_to(room->root, host) < 0 || mkdirat(room->root, "new", 0755) < 0)
		return -1;
	place = openat(room->root, "new", DIR_FLAGS | O_NOFOLLOW | O_CLOEXEC);
	tree = place < 0 ? -1 : open_tree_clone(place);
	return tree < 0 ? -1 : move_mount_to(tree, place);
}

/*
 * The directory that holds `path` (made by an earlier step), and `name`, its last component. Neighbours follow each other
 * in a plan, so the last one opened is kept; it stays right, since nothing is mounted while things are made.
 */
static int open_parent(const struct room *room, const char *path, const char **name)
{
	static char parent[PATH_MAX];
	static int fd = -1;
	size_t length = (size_t)(strrchr(path, '/') - path);

	*name = path + length + 1;
	if (fd >= 0 && strlen(parent) == length && strncmp(parent, path, length) == 0)
		return fd;
	close_cleanup(&fd);
	memcpy(parent, path, length);
	parent[length] = '\0';
	fd = open_in_root(room->root, length ? parent : "/", DIR_FLAGS);
	return fd;
}

/* A directory that is there already (a parent of two places) keeps its mode: the first step that names it decides. */
int act_dir(struct room *room, const struct step *step)
{
	const char *name;
	int parent = open_parent(room, step->field[0], &name);

	return parent >= 0 && (mkdirat(parent, name, octal(step->field[1])) == 0 || errno == EEXIST) ? 0 : -1;
}

static int new_file(int parent, const char *name, const char *mode)
{
	return parent < 0 ? -1 : openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, octal(mode));
}

int act_file(struct room *room, const struct step *step)
{
	const char *name, *text = step->field[2];
	size_t size = strlen(text);
	int parent = open_parent(room, step->field[0], &name);
	int fd CLEANUP_CLOSE = -1;
	ssize_t wrote;

	if (parent >= 0 && size == 0) /* mostly a mount point: one call instead of two */
		return mknodat(parent, name, S_IFREG | octal(step->field[1]), 0);
	fd = new_file(parent, name, step->field[1]);
	wrote = fd < 0 ? -1 : write(fd, text, size);
	if (wrote >= 0 && (size_t)wrote < size)
		errno = ENOSPC; /* the one thing that cuts a write to our tmpfs short */
	return wrote == (ssize_t)size ? 0 : -1;
}

/* copy PATH DEVICE INODE PLACE MODE: what a small file of the host's holds. Whatever lies there by now, nobody waits for it. */
int act_copy(struct room *room, const struct step *step)
{
	const char *name;
	int from CLEANUP_CLOSE = open_seen(step, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	int parent = open_parent(room, step->field[3], &name);
	int to CLEANUP_CLOSE = from < 0 ? -1 : new_file(parent, name, step->field[4]);
	ssize_t moved = to < 0 ? -1 : 1;

	while (moved > 0)
		moved = sendfile(to, from, NULL, MOVED_BYTES);
	return (int)moved;
}

/*
 * fill FD PLACE MODE SIZE: a file of the SIZE bytes that come next through a pipe of Python's. What comes is not looked at,
 * and a pipe that ends early fails the step, so there is no file that is shorter than was said.
 */
int act_fill(struct room *room, const struct step *step)
{
	const char *name;
	int from = room->plan.fds[number(step->field[0])], parent = open_parent(room, step->field[1], &name);
	int fd CLEANUP_CLOSE = new_file(parent, name, step->field[2]);

	if (fd < 0)
		return -1;
	for (uint64_t left = number(step->field[3]); left > 0;) {
		ssize_t moved = splice(from, NULL, fd, NULL, left < MOVED_BYTES ? (size_t)left : MOVED_BYTES, SPLICE_F_MOVE);

		if (moved <= 0) {
			errno = moved == 0 ? EPIPE : errno;
			return -1;
		}
		left -= (uint64_t)moved;
	}
	return 0;
}

int act_symlink(struct room *room, const struct step *step)
{
	const char *name;
	int parent = open_parent(room, step->field[0], &name);

	return parent < 0 ? -1 : symlinkat(step->field[1], parent, name);
}

/* whiteout PLACE: in a layer of an overlay, that nothing below it has this name. */
int act_whiteout(struct room *room, const struct step *step)
{
	const char *name;
	int parent = open_parent(room, step->field[0], &name);

	return parent < 0 ? -1 : mknodat(parent, name, S_IFCHR, 0);
}

/* ---- mounts ---- */

/*
 * Flags go on before the tree is attached, so that no instant exists in which it is there without them; before 5.12 that
 * cannot be had, and it does not matter, since nobody is inside yet. `dev` keeps device nodes alive, for those of /dev.
 */
static int attach(struct room *room, int tree, const char *place, const char *mode)
{
	uint64_t set = MOUNT_NOSUID | (*mode == 'd' ? MOUNT_NOEXEC : MOUNT_NODEV) | (strcmp(mode, "ro") == 0 ? MOUNT_RDONLY : 0);
	int target CLEANUP_CLOSE = open_in_root(room->root, place, O_PATH);
	bool modern = has_mount_setattr();

	if (target < 0 || (modern && set_mount(tree, true, set, MS_PRIVATE) < 0) || move_mount_to(tree, target) < 0)
		return -1;
	return modern ? 0 : remount_flags(tree, set);
}

/*
 * A source is moved to its first place and cloned from there for the others: a detached tree of the launcher's can be
 * moved into our mount namespace, but only what is attached there can be cloned.
 */
int act_bind(struct room *room, const struct step *step)
{
	uint64_t slot = number(step->field[0]);
	int tree CLEANUP_CLOSE = room->slot_used[slot] ? open_tree_clone(room->slot[slot]) : -1;

	if (tree < 0 && room->slot_used[slot])
		return -1;
	room->slot_used[slot] = true;
	return attach(room, tree >= 0 ? tree : room->slot[slot], step->field[1], step->field[2]);
}

int act_inner_bind(struct room *room, const struct step *step)
{
	int object CLEANUP_CLOSE = open_in_root(room->root, step->field[0], O_PATH);
	int tree CLEANUP_CLOSE = object < 0 ? -1 : open_tree_clone(object);

	return tree < 0 ? -1 : attach(room, tree, step->field[1], step->field[2]);
}

/* Append `name` and the path beneath the new root, which is the working directory; `:` and `,` would be read as syntax. */
static size_t layer(char *to, size_t at, size_t size, const char *name, const char *path)
{
	at = append(to, append(to, at, size, name), size, path + 1);
	return strpbrk(path, ":,\\") == NULL ? at : size - 1;
}

static int mount_overlay(const struct room *room, const char *place, unsigned long flags, char *data, size_t at)
{
	if (at >= PATH_MAX - 1) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if (fchdir(room->root) < 0)
		return -1;
	return mount("overlay", place + 1, "overlay", MS_NOSUID | MS_NODEV | flags, data);
}

/*
 * overlay NAMES LOWER UPPER WORK PLACE. The layers lie on private places of ours, so their names are Python's choice. NAMES lies
 * over LOWER: what it says of a name holds, whatever the host does in the directory that is LOWER.
 */
int act_overlay(struct room *room, const struct step *step)
{
	char data[PATH_MAX] = "userxattr,volatile";
	size_t at = strlen(data);

	at = layer(data, at, sizeof(data), ",lowerdir=", step->field[0]);
	at = layer(data, at, sizeof(data), ":", step->field[1]);
	at = layer(data, at, sizeof(data), ",upperdir=", step->field[2]);
	at = layer(data, at, sizeof(data), ",workdir=", step->field[3]);
	return mount_overlay(room, step->field[4], 0, data, at);
}

/* overlay-ro NAMES LOWER PLACE: the same without a layer to write to. */
int act_overlay_ro(struct room *room, const struct step *step)
{
	char data[PATH_MAX] = "userxattr";
	size_t at = strlen(data);

	at = layer(data, at, sizeof(data), ",lowerdir=", step->field[0]);
	at = layer(data, at, sizeof(data), ":", step->field[1]);
	return mount_overlay(room, step->field[2], MS_RDONLY, data, at);
}

/*
 * procfs is made while the host's own is still mounted: without a fully visible one the kernel refuses a new one (it
 * might uncover what the host masked). What the payload sees is made read-only, so that nothing in it can be written,
 * whatever its name; the copy from before that stays in a descriptor, for the id maps of payloads.
 */
int act_proc(struct room *room, const struct step *step)
{
	int tree CLEANUP_CLOSE = new_filesystem("proc", NULL, MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC);
	int target CLEANUP_CLOSE = open_in_root(room->root, step->field[0], DIR_FLAGS);
	int aside CLEANUP_CLOSE = -1;

	if (tree < 0 || target < 0 || move_mount_to(tree, target) < 0)
		return -1;
	room->proc = open_tree_clone(tree); /* behind the move: before 6.15 only what is attached can be copied */
	if (room->proc < 0 || mkdirat(room->root, "proc", 0700) < 0)
		return -1;
	/* attached, to be taken away with the building place: who closes a tree that never was waits for every processor */
	aside = openat(room->root, "proc", DIR_FLAGS | O_NOFOLLOW | O_CLOEXEC);
	if (aside < 0 || move_mount_to(room->proc, aside) < 0)
		return -1;
	if (has_mount_setattr())
		return set_mount(tree, false, MOUNT_RDONLY, MS_PRIVATE);
	return remount_flags(tree, MOUNT_RDONLY | MOUNT_NOSUID | MOUNT_NODEV | MOUNT_NOEXEC);
}

int act_devpts(struct room *room, const struct step *step)
{
	static const char *const options[][2] = { { "ptmxmode", "0666" }, { "mode", "0620" }, { "max", "64" }, { NULL, NULL } };
	int tree CLEANUP_CLOSE = new_filesystem("devpts", options, MOUNT_NOSUID | MOUNT_NOEXEC);
	int target CLEANUP_CLOSE = open_in_root(room->root, step->field[0], DIR_FLAGS);

	return tree < 0 || target < 0 ? -1 : move_mount_to(tree, target);
}

int act_readonly(struct room *room, const struct step *step)
{
	int root CLEANUP_CLOSE = open_in_root(room->root, "/new", DIR_FLAGS);

	(void)step;
	if (root < 0 || has_mount_setattr())
		return root < 0 ? -1 : set_mount(root, false, MOUNT_RDONLY, 0);
	return remount_flags(root, MOUNT_RDONLY | MOUNT_NOSUID | MOUNT_NODEV);
}

/* ---- entering ---- */

/*
 * pivot_root onto itself stacks the old root over the new one; it is taken away, and the building place with it, before
 * anything is looked up again.
 */
int act_pivot(struct room *room, const struct step *step)
{
	int root CLEANUP_CLOSE = open_in_root(room->root, "/new", DIR_FLAGS);

	(void)step;
	if (root < 0 || fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
		return -1;
	return chdir("/");
}

int act_hostname(struct room *room, const struct step *step)
{
	(void)room;
	/* a new UTS namespace begins with the host's names: the one of NIS goes as well */
	return sethostname(step->field[0], strlen(step->field[0])) < 0 ? -1 : setdomainname("(none)", strlen("(none)"));
}

static int loopback_up(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int sock CLEANUP_CLOSE = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return sock < 0 ? -1 : ioctl(sock, SIOCSIFFLAGS, &lo);
}

/*
 * The network namespace is the dearest of all (half a millisecond), and nothing that is built needs it: a child makes it
 * on another processor meanwhile, brings its loopback up, and hands it over. Every way for that child to fail ends in a
 * closed socket without a descriptor, which act_network() does not take. It is taken before the pivot: there the kernel
 * waits for every processor to pass through a quiet moment, and one that makes a network namespace keeps it waiting.
 */
static void start_network(struct room *room)
{
	int pair[2];
	int made CLEANUP_CLOSE = -1;

	room->network_maker = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -1 : clone_process(0, NULL, -1);
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

int act_network(struct room *room, const struct step *step)
{
	int fds[MAX_FDS], error = EPROTO;
	unsigned int nfds = 0;
	ssize_t got;

	(void)step;
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

/* ---- process 1 ---- */

static void receive(struct room *room, enum half half, struct link_message *message, int *fds, unsigned int *nfds)
{
	ssize_t got = receive_message(room->link, message, sizeof(*message), fds, nfds);

	if (got < 0)
		leave(room, half, NO_STEP);
	if (got != sizeof(*message))
		_exit(1); /* the launcher is gone */
}

/*
 * The room's half, and the caller's account; they come when the maps are written. Whatever else comes is no launcher of
 * ours.
 */
static void take_room(struct room *room)
{
	struct link_message message;
	int fds[MAX_FDS];
	unsigned int nfds;

	receive(room, ROOM, &message, fds, &nfds);
	if (message.kind != LINK_ROOM)
		_exit(1);
	if (plan_take(&room->plan, fds, nfds) < 0 || close(fds[0]) < 0)
		leave(room, ROOM, NO_STEP);
	attest_against(&message.attested);
}

/* What the launcher has opened meanwhile, as much as the plan says. */
static void take_sources(struct room *room)
{
	struct cursor at = plan_start(&room->plan);
	struct link_message message;
	struct step step;
	int fds[MAX_FDS];
	unsigned int nfds, all = 0;

	while (plan_next_of(&at, "source", &step))
		all++;
	for (; room->nslots < all; room->nslots += nfds) {
		receive(room, ROOM, &message, fds, &nfds);
		if (message.kind != LINK_SOURCES || nfds == 0 || room->nslots + nfds > all)
			_exit(1);
		memcpy(&room->slot[room->nslots], fds, sizeof(int) * nfds);
	}
}

/*
 * Up to here this process has the caller's ids, so sources are opened as the caller. Behind it: the ids of the room, then
 * undumpable, then the death signal, in this order, since a change of ids resets the last two.
 */
static void become_root(struct room *room)
{
	struct step step;
	struct pollfd link = { .fd = room->link, .events = POLLIN };

	(void)plan_find(&room->plan, "gid-map", &step);
	if (setresgid(0, 0, 0) < 0)
		leave(room, ROOM, step.index);
	(void)plan_find(&room->plan, "uid-map", &step);
	if (setresuid(0, 0, 0) < 0)
		leave(room, ROOM, step.index);
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		leave(room, ROOM, step.index);
	if (poll(&link, 1, 0) < 0)
		leave(room, ROOM, NO_STEP);
	if (link.revents & (POLLHUP | POLLERR))
		_exit(1); /* the launcher died before it could be our death signal */
}

static void build(struct room *room)
{
	struct cursor at = plan_start(&room->plan);
	struct step step;
	bool mapped = false, sourced = false;

	while (plan_next(&at, &step)) {
		if (step.verb->rank < 10)
			continue; /* the launcher's */
		if (!mapped && step.verb->rank > 10) {
			become_root(room);
			mapped = true;
		}
		if (!sourced && step.verb->rank >= MOUNTS_RANK) {
			take_sources(room);
			sourced = true;
		}
		if (step.verb->act != NULL && step.verb->act(room, &step) < 0)
			leave(room, ROOM, step.index);
	}
}

/* Only the link, procfs and, until it is handed over, the tmpfs stay: on fixed places, which nothing else can be on. */
static void keep_three_descriptors(struct room *room)
{
	int *const kept[] = { &room->link, &room->proc, &room->root };

	for (int i = 0; i < 3; i++) { /* first out of the way of each other */
		int above = fcntl(*kept[i], F_DUPFD_CLOEXEC, 6);

		if (above < 0)
			leave(room, ROOM, NO_STEP);
		*kept[i] = above;
	}
	for (int i = 0; i < 3; i++) {
		if (dup3(*kept[i], 3 + i, O_CLOEXEC) < 0)
			leave(room, ROOM, NO_STEP);
		*kept[i] = 3 + i;
	}
	if (close_from(6) < 0 || close(0) < 0)
		leave(room, ROOM, NO_STEP);
}

/*
 * Ready. The launcher gets our procfs and the tmpfs that all its files lie on, to watch memory by: the watch is outside, where
 * nothing inside can name, slow or starve it. Behind them the directories that Python asked for, to read when all is over.
 */
static void announce(struct room *room)
{
	const struct link_message ready = { .kind = LINK_READY };
	static const char *const verb[] = { "offer", "offer-layer" };
	int fds[4] = { room->proc, room->root, -1, -1 };
	unsigned int nfds = 2;
	struct step step;

	for (int i = 0; i < 2; i++) {
		if (!plan_find(&room->plan, verb[i], &step))
			continue;
		fds[nfds] = i == 0 ? open(step.field[0], OFFER_FLAGS) : open_in_root(room->root, step.field[0], OFFER_FLAGS);
		if (fds[nfds++] < 0)
			leave(room, ROOM, step.index);
	}
	if (send_message(room->link, &ready, sizeof(ready), fds, nfds) < 0)
		leave(room, ROOM, NO_STEP);
	close_cleanup(&fds[2]);
	close_cleanup(&fds[3]);
	close_cleanup(&room->root);
	room->root = -1;
}

/* ---- payloads ---- */

/* What set-up has cost in processor time: of this process, and of the one that made the network. */
static int spent_us(bool system)
{
	struct rusage own, made;

	if (getrusage(RUSAGE_SELF, &own) < 0 || getrusage(RUSAGE_CHILDREN, &made) < 0)
		return 0; /* neither can fail: both are given a number that exists and memory of ours */
	if (system)
		return (int)((own.ru_stime.tv_sec + made.ru_stime.tv_sec) * 1000000 + own.ru_stime.tv_usec + made.ru_stime.tv_usec);
	return (int)((own.ru_utime.tv_sec + made.ru_utime.tv_sec) * 1000000 + own.ru_utime.tv_usec + made.ru_utime.tv_usec);
}

/*
 * Fork the payload into a user namespace of its own and wait until it runs or says why it does not. Returns its pid.
 * The status pipe is close-on-exec: end-of-file means that exec happened.
 */
static pid_t start_payload(struct room *room, bool input, const int *fds, unsigned int nfds)
{
	struct plan plan = { 0 };
	struct refusal why;
	struct step step = { 0 };
	int stdio[3] = { input ? fds[4] : -1, fds[2], fds[3] };
	int status[2];
	struct payload_word word = { 0 };
	pid_t pid;
	ssize_t got;

	plan.nfds = MAX_FDS; /* the launcher checked the numbers against what came with the plan */
	if (plan_map(fds[0], &plan) < 0 || !plan_check(&plan, PAYLOAD, &why) || pipe2(status, O_CLOEXEC) < 0)
		leave(room, PAYLOAD, NO_STEP);
	(void)plan_find(&plan, "cgroup-enter", &step);
	if (enter_groups(fds + 4 + input, nfds - 4 - input) < 0 || attest_groups(room, &plan) < 0)
		leave(room, PAYLOAD, step.index);
	room->entered_us = nfds > 4U + input ? spent_us(false) + spent_us(true) : 0;
	(void)plan_find(&plan, "id", &step);
	/* the cgroup namespace's root is where its maker stands: here, inside the groups */
	pid = clone_process(CLONE_NEWUSER | CLONE_NEWCGROUP, NULL, -1);
	if (pid == 0)
		payload_main(room, &plan, stdio, status[1], fds[1]);
	if (pid < 0)
		leave(room, PAYLOAD, step.index);
	close_cleanup(&status[1]);
	close_all(fds, nfds);
	got = read(status[0], &word, sizeof(word));
	if (got == sizeof(word) && !word.failed) { /* confined; then nothing, or the step that failed */
		room->landlock_abi = word.a;
		room->attested = word.attested;
		got = read(status[0], &word, sizeof(word));
	} else if (got == 0) {
		errno = EPROTO; /* gone before it was confined, and without a word */
		got = -1;
	}
	if (got == sizeof(word))
		errno = word.b;
	if (got != 0)
		leave(room, PAYLOAD, got == sizeof(word) ? (unsigned int)word.a : NO_STEP);
	(void)close(status[0]);
	tell(room, LINK_STARTED, room->landlock_abi, spent_us(false), spent_us(true));
	return pid;
}

/* ---- the loop of process 1 ---- */

/*
 * Reap everybody. When the payload itself has ended, say so; when it was the last, there is nothing left to wait for,
 * and the launcher need not be asked.
 */
static void reap_all(struct room *room, pid_t payload)
{
	int status, ended_with = 0;
	pid_t pid;
	bool ended = false;

	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
		if (pid == payload) {
			ended_with = status;
			ended = true;
		}
	if (pid < 0 && errno != ECHILD)
		leave(room, PAYLOAD, NO_STEP);
	if (ended)
		tell(room, LINK_EXITED, ended_with, pid < 0, 0);
	if (ended && pid < 0)
		_exit(0);
}

/* Nobody escapes: who forks while this kills is killed before the child exists. Reaped, everybody is in the accounts. */
static void end_all(void)
{
	(void)kill(-1, SIGKILL); /* fails when there is nobody */
	while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
		;
	_exit(0);
}

static void on_message(struct room *room, pid_t *payload)
{
	struct link_message message;
	int fds[MAX_FDS];
	unsigned int nfds;

	receive(room, PAYLOAD, &message, fds, &nfds);
	if (message.kind == LINK_PAYLOAD && nfds == 4U + (message.a == 1) + (unsigned int)message.b && *payload == 0)
		*payload = start_payload(room, message.a == 1, fds, nfds);
	else if (message.kind == LINK_END)
		end_all();
	else if (message.kind == LINK_SIGNAL && *payload > 0)
		(void)kill(-*payload, message.a); /* its process group; a command that is gone needs no signal */
}

void init_main(struct room *room)
{
	struct pollfd polls[2] = { 0 };
	struct signalfd_siginfo news;
	pid_t payload = 0;
	struct step step;
	sigset_t child;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		leave(room, ROOM, NO_STEP);
	if (!plan_find(&room->plan, "host-net", &step))
		start_network(room);
	(void)setsid(); /* for turns of our own, as in watch.c; we lead no group, so that it cannot fail */
	take_room(room);
	build(room);
	keep_three_descriptors(room);
	/* CAP_SETFCAP is what the kernel wants of the maker of a user namespace in which our root appears */
	if (drop_capabilities(CAP_SETFCAP_BIT) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		leave(room, ROOM, NO_STEP);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	polls[0] = (struct pollfd){ .fd = room->link, .events = POLLIN };
	polls[1] = (struct pollfd){ .fd = signalfd(-1, &child, SFD_CLOEXEC), .events = POLLIN };
	if (polls[1].fd < 0)
		leave(room, ROOM, NO_STEP);
	announce(room);
	for (;;) {
		if (poll(polls, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			leave(room, PAYLOAD, NO_STEP);
		}
		if (polls[1].revents) {
			if (read(polls[1].fd, &news, sizeof(news)) != sizeof(news) && errno != EINTR)
				leave(room, PAYLOAD, NO_STEP);
			reap_all(room, payload);
		}
		if (polls[0].revents)
			on_message(room, &payload);
	}
}
