/* SPDX-License-Identifier: MIT
 *
 * The attacker's hands: one system call, made in the way that the words say, and what came of it.
 *
 *   attack sys NAME|NUMBER [ARG...]    by the native instruction      attack int80 NUMBER [ARG...]   by the 32-bit gate
 *   attack x32 NUMBER [ARG...]         with the x32 bit               attack clone3 FLAGS            with a struct
 *   attack leader-exit MIB             the main thread ends, another one holds MIB of memory
 *   attack shared MIB                  shared anonymous memory        attack fork-storm              forks until killed
 *
 * ARG: a number, `buf` (a zeroed page), `bad` (a pointer to nothing) or `=TEXT`. Prints `ok RESULT` or the errno's name.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static char page[8][4096] __attribute__((aligned(4096)));

static const struct { const char *name; long number; } names[] = {
#define CALL(name) { #name, SYS_##name },
	CALL(mount) CALL(umount2) CALL(pivot_root) CALL(chroot) CALL(setns) CALL(unshare) CALL(bpf) CALL(ptrace)
	CALL(process_vm_readv) CALL(process_vm_writev) CALL(kcmp) CALL(add_key) CALL(request_key) CALL(keyctl)
	CALL(userfaultfd) CALL(perf_event_open) CALL(init_module) CALL(finit_module) CALL(delete_module) CALL(kexec_load)
	CALL(reboot) CALL(swapon) CALL(swapoff) CALL(acct) CALL(quotactl) CALL(settimeofday) CALL(clock_settime)
	CALL(open_by_handle_at) CALL(name_to_handle_at) CALL(fanotify_init) CALL(syslog) CALL(vhangup) CALL(sethostname)
	CALL(setdomainname) CALL(adjtimex) CALL(clock_adjtime) CALL(execveat) CALL(memfd_create) CALL(shmget) CALL(msgget)
	CALL(semget) CALL(mq_open) CALL(personality) CALL(move_pages) CALL(migrate_pages) CALL(setgroups) CALL(setuid)
	CALL(setgid) CALL(capset) CALL(clone) CALL(prctl) CALL(ioctl) CALL(socket) CALL(setxattr) CALL(fsetxattr)
	CALL(lookup_dcookie) CALL(nfsservctl) CALL(sched_setscheduler) CALL(sched_setattr) CALL(sched_setaffinity)
	CALL(ioprio_set) CALL(prlimit64) CALL(setpriority) CALL(kill) CALL(seccomp) CALL(vmsplice) CALL(mbind)
	CALL(get_mempolicy) CALL(remap_file_pages) CALL(readahead) CALL(inotify_init1) CALL(setreuid) CALL(setresgid)
	CALL(fchownat) CALL(sched_setparam) CALL(renameat2) CALL(io_setup)
#ifdef SYS_iopl
	CALL(iopl) CALL(ioperm) CALL(modify_ldt) CALL(uselib) CALL(ustat) CALL(sysfs) CALL(_sysctl) CALL(create_module)
	CALL(mknod) CALL(kexec_file_load)
#endif
#undef CALL
	{ "pidfd_send_signal", 424 }, { "io_uring_setup", 425 }, { "io_uring_enter", 426 }, { "io_uring_register", 427 },
	{ "open_tree", 428 }, { "move_mount", 429 }, { "fsopen", 430 }, { "fsconfig", 431 }, { "fsmount", 432 }, { "fspick", 433 },
	{ "pidfd_open", 434 }, { "clone3", 435 }, { "openat2", 437 }, { "pidfd_getfd", 438 }, { "process_madvise", 440 },
	{ "mount_setattr", 442 }, { "quotactl_fd", 443 }, { "landlock_create_ruleset", 444 }, { "memfd_secret", 447 },
	{ "process_mrelease", 448 }, { "futex_waitv", 449 }, { "set_mempolicy_home_node", 450 }, { "cachestat", 451 }, { "fchmodat2", 452 },
	{ "map_shadow_stack", 453 }, { "statmount", 457 }, { "listmount", 458 }, { "lsm_get_self_attr", 459 },
	{ "setxattrat", 463 }, { "open_tree_attr", 467 }, { "file_setattr", 469 }, { "listns", 470 },
};

static long value(const char *word, int at)
{
	if (strcmp(word, "buf") == 0)
		return (long)page[at];
	if (strcmp(word, "bad") == 0)
		return 8;
	if (*word == '=')
		return (long)(word + 1);
	return (long)strtoull(word, NULL, 0);
}

static int say(long result)
{
	if (result == -1)
		puts(strerrorname_np(errno) ? strerrorname_np(errno) : "unknown errno");
	else
		printf("ok %ld\n", result);
	return 0;
}

static int native(char **words, int count, long bit)
{
	long number = strtol(words[0], NULL, 0), a[6] = { 0 };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i].name, words[0]) == 0)
			number = names[i].number;
	for (int i = 0; i + 1 < count && i < 6; i++)
		a[i] = value(words[i + 1], i);
	return say(syscall(number | bit, a[0], a[1], a[2], a[3], a[4], a[5]));
}

static int int80(char **words, int count)
{
#ifdef __x86_64__
	uint32_t a[4] = { 0 };
	long result;

	for (int i = 0; i < count && i < 4; i++)
		a[i] = (uint32_t)value(words[i], i);
	__asm__ volatile("int $0x80" : "=a"(result) : "a"((long)a[0]), "b"((long)a[1]), "c"((long)a[2]), "d"((long)a[3]) : "memory");
	errno = -(int)result;
	return say((int)result < 0 ? -1 : (int)result);
#else
	puts("ENOSYS");
	return 0;
#endif
}

static int by_clone3(uint64_t flags)
{
	uint64_t args[11] = { flags, 0, 0, 0, SIGCHLD };
	long pid = syscall(435, args, sizeof(args));

	if (pid == 0)
		_exit(0);
	return say(pid);
}

static size_t mib;

static void *hold(void *unused)
{
	usleep(200000); /* the main thread is gone by then */
	char *held = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)unused;
	for (size_t i = 0; held != MAP_FAILED && i < mib << 20; i += 4096)
		held[i] = 1;
	puts("held");
	fflush(stdout);
	sleep(1);
	_exit(0);
}

static int shared(void)
{
	char *held = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (held == MAP_FAILED)
		return say(-1);
	for (size_t i = 0; i < mib << 20; i += 4096)
		held[i] = 1;
	puts("held");
	fflush(stdout);
	sleep(1);
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t other;

	if (argc < 2)
		return 2;
	if (strcmp(argv[1], "sys") == 0 && argc > 2)
		return native(argv + 2, argc - 2, 0);
	if (strcmp(argv[1], "x32") == 0 && argc > 2)
		return native(argv + 2, argc - 2, 0x40000000);
	if (strcmp(argv[1], "int80") == 0 && argc > 2)
		return int80(argv + 2, argc - 2);
	if (strcmp(argv[1], "clone3") == 0 && argc > 2)
		return by_clone3(strtoull(argv[2], NULL, 0));
	mib = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
	if (strcmp(argv[1], "shared") == 0)
		return shared();
	if (strcmp(argv[1], "leader-exit") == 0 && pthread_create(&other, NULL, hold, NULL) == 0)
		syscall(SYS_exit, 0);
	if (strcmp(argv[1], "fork-storm") == 0)
		for (;;)
			if (fork() == 0)
				setsid();
	return 2;
}
