/* SPDX-License-Identifier: MIT
 *
 * Attestation: what the kernel says is in force, against what we asked for. The launcher reads the caller's facts.
 * The payload reads its own after the filter, as its last act before exec, compares the two, and does not start the
 * command if they do not differ as they must. The launcher could not: before exec an ordinary caller may not read the
 * payload's namespaces, and after it a short command may be gone. What is compared cannot be taken back by exec.
 */
#include "capsule-core.h"

/* In the kernel's order, which is that of the facts; the capability sets are in hexadecimal. */
static const char *const lines[] = { "\nCapInh:\t", "\nCapPrm:\t", "\nCapEff:\t", "\nCapBnd:\t", "\nCapAmb:\t",
	"\nNoNewPrivs:\t", "\nSeccomp:\t", "\nSeccomp_filters:\t" };
static const char *const namespaces[] = { "ns/user", "ns/mnt", "ns/pid", "ns/net", "ns/ipc", "ns/uts", "ns/cgroup" };

static struct attested caller; /* read by the launcher, sent to init, inherited by the payload */
static uint64_t maps[6];       /* of the room, as the launcher sees them */
static char text[1U << 20];    /* the line of supplementary groups may be long; untouched pages cost nothing */

static ssize_t slurp(int fd)
{
	size_t have = 0;
	ssize_t got = -1;

	while (fd >= 0 && have < sizeof(text) - 1 && (got = read(fd, text + have, sizeof(text) - 1 - have)) > 0)
		have += (size_t)got;
	text[have] = '\0';
	return got < 0 ? -1 : (ssize_t)have;
}

static int read_status(int fd, struct attested *to)
{
	const char *at = text;

	if (slurp(fd) < 0)
		return -1;
	for (int i = 0; i <= SECCOMP_FILTERS; i++) {
		at = strstr(at, lines[i]);
		if (at == NULL) {
			errno = ENODATA;
			return -1;
		}
		at += strlen(lines[i]);
		to->fact[i] = take_number(&at, i <= CAP_AMBIENT ? 16 : 10);
	}
	return 0;
}

static int read_map(int dir, const char *name, uint64_t to[static 3])
{
	int fd CLEANUP_CLOSE = openat(dir, name, O_RDONLY | O_CLOEXEC);
	const char *at = text;
	ssize_t got = slurp(fd);

	for (int i = 0; i < 3; i++)
		to[i] = take_number(&at, 10);
	return got < 0 ? -1 : 0;
}

static int read_namespaces(int dir, struct attested *to)
{
	struct stat st;

	for (int i = 0; i < UID_MAP - NS_FIRST; i++) {
		if (fstatat(dir, namespaces[i], &st, 0) < 0)
			return -1;
		to->fact[NS_FIRST + i] = st.st_ino;
	}
	return 0;
}

/* Called by the launcher while the kernel creates init. */
int attest_caller(struct attested *to)
{
	int dir CLEANUP_CLOSE = open("/proc/thread-self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int status CLEANUP_CLOSE = dir < 0 ? -1 : openat(dir, "status", O_RDONLY | O_CLOEXEC);

	if (read_status(status, &caller) < 0 || read_namespaces(dir, &caller) < 0)
		return -1;
	*to = caller;
	return 0;
}

void attest_against(const struct attested *from)
{
	caller = *from;
}

/* Before descriptors are settled: what cannot change any more. Returns where to read the rest from, or -1. */
int attest_begin(struct room *room)
{
	int dir CLEANUP_CLOSE = openat(room->proc, "thread-self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	uint64_t *fact = room->attested.fact;

	if (dir < 0 || read_namespaces(dir, &room->attested) < 0 || read_map(dir, "uid_map", fact + UID_MAP) < 0)
		return -1;
	return read_map(dir, "gid_map", fact + GID_MAP) < 0 ? -1 : openat(dir, "status", O_RDONLY | O_CLOEXEC);
}

/* The errno says what is wrong; plan/describe.py has a sentence for each. */
ACT(attest)
{
	const uint64_t *own = room->attested.fact;
	struct step net;
	bool host_net = plan_find(&room->plan, "host-net", &net);

	if (read_status(ATTEST_FD, &room->attested) < 0)
		return -1;
	errno = own[NO_NEW_PRIVS] != 1                                                     ? EACCES :
	    own[SECCOMP_MODE] != 2 || own[SECCOMP_FILTERS] <= caller.fact[SECCOMP_FILTERS] ? EINVAL :
											     0;
	for (int i = 0; i < UID_MAP; i++)
		if (i <= CAP_AMBIENT && own[i] != 0)
			errno = EPERM;
		else if (i >= NS_FIRST
		    && (caller.fact[i] == 0 || (own[i] == caller.fact[i]) != (i == NS_NET && host_net)))
			errno = EEXIST;
	if (own[UID_MAP + 2] != 1 || own[GID_MAP + 2] != 1)
		errno = ERANGE;
	return errno == 0 ? 0 : -1;
}

/*
 * Init, in its groups and in the cgroup namespace of the caller, from where it is seen: how many hierarchies have it in
 * the group that was made for it, all of which have one name.
 */
int attest_cgroups(struct room *room, const struct plan *plan)
{
	int fd CLEANUP_CLOSE = -1;
	char name[NAME_MAX + 3];
	struct step step;

	if (!find_cgroup(&room->plan, &step) && !find_cgroup_to_enter(plan, &step))
		return 0;
	put(&TEXT_IN(name), "/", step.field[1], "\n");
	fd = openat(room->proc, "thread-self/cgroup", O_RDONLY | O_CLOEXEC);
	if (slurp(fd) < 0)
		return -1;
	for (const char *at = text; (at = strstr(at, name)) != NULL; at++)
		room->attested.fact[CGROUPS]++;
	return 0;
}

/* The launcher: init's maps as the host has them. */
int attest_room(int proc)
{
	int dir CLEANUP_CLOSE = openat(proc, "1", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return read_map(dir, "uid_map", maps) < 0 || read_map(dir, "gid_map", maps + 3) < 0 ? -1 : 0;
}

void attest_record(const struct attested *payload)
{
	record_line("attest", payload->fact, FACTS, NULL, 0);
	record_line("attest-caller", caller.fact, UID_MAP, NULL, 0);
	record_line("attest-room", maps, 6, NULL, 0);
}
