/* SPDX-License-Identifier: MIT
 *
 * Error injection: put in front of every file of the core by `CPPFLAGS="-include tests/faults/inject.h" core/build.py OUT`,
 * this header counts every call of the kernel in every process of the core, and lets one of them fail.
 *
 * What is to fail, and what did, stands in a file in memory that a test gives the core as its stderr: the environment is empty
 * and the command line one word, by design. The mapping is shared by all processes of a run and gone at exec. Each process has
 * a number of its own (parent's * 8 + which of its children, the launcher 0) and counts for itself, so that the Nth call of a
 * process is the same one in every run, whatever the others do meanwhile.
 */
#ifndef CAPSULE_INJECT_H
#define CAPSULE_INJECT_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define INJECT_PROCESSES 640 /* the payload of a launcher that joins is number 585 */
#define INJECT_CALLS 1024
struct injection {
	uint32_t process, at, error; /* which process's which call (from 1; 0: none) fails with what */
	uint32_t hit;                /* 1: it did */
	char where[240];             /* that call */
	uint32_t calls[INJECT_PROCESSES]; /* how many each process has made */
	int32_t site[INJECT_PROCESSES][INJECT_CALLS]; /* where in the source each of its first calls stands: a number, the same in every run */
};

extern struct injection *injection;
extern uint32_t inject_process, inject_children;
int inject_now(const char *where);
long inject_after(long number, long result);
int inject_close(const char *where, int fd);

__attribute__((weak)) struct injection *injection;
__attribute__((weak)) uint32_t inject_process, inject_children;

/* Whether this call is the one to fail; then errno is set. */
__attribute__((weak)) int inject_now(const char *where)
{
	static struct injection nobody;
	static const char origin[] = "";
	struct injection *i = injection;
	uint32_t own;

	if (i == NULL) {
		struct stat st;
		void *map = MAP_FAILED;

		if (fstat(2, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size == sizeof(nobody))
			map = mmap(NULL, sizeof(nobody), PROT_READ | PROT_WRITE, MAP_SHARED, 2, 0);
		i = injection = map == MAP_FAILED ? &nobody : map;
	}
	own = ++i->calls[inject_process % INJECT_PROCESSES];
	if (own <= INJECT_CALLS)
		i->site[inject_process % INJECT_PROCESSES][own - 1] = (int32_t)(where - origin);
	if (i->process != inject_process || i->at != own || i->hit)
		return 0;
	i->hit = 1;
	strncpy(i->where, where, sizeof(i->where) - 1);
	errno = (int)i->error;
	return 1;
}

/* A new process has a number of its own. */
__attribute__((weak)) long inject_after(long number, long result)
{
	if (number != SYS_clone3 && number != SYS_clone)
		return result;
	inject_children++;
	if (result == 0) {
		inject_process = inject_process * 8 + inject_children;
		inject_children = 0;
	}
	return result;
}

/* Linux closes a descriptor also where close(2) fails. */
__attribute__((weak)) int inject_close(const char *where, int fd)
{
	int fails = inject_now(where), error = errno, result = close(fd);

	if (fails)
		errno = error;
	return fails ? -1 : result;
}

#define INJECT_LINE_(line) #line
#define INJECT_LINE(line) INJECT_LINE_(line)
#define INJECT_AT(name, words) __FILE__ ":" INJECT_LINE(__LINE__) " " name "(" words ")"
#define INJECT(name, words, call) (inject_now(INJECT_AT(name, words)) ? -1 : (call))

#define access(...) INJECT("access", #__VA_ARGS__, access(__VA_ARGS__))
#define chdir(...) INJECT("chdir", #__VA_ARGS__, chdir(__VA_ARGS__))
#define dup2(...) INJECT("dup2", #__VA_ARGS__, dup2(__VA_ARGS__))
#define dup3(...) INJECT("dup3", #__VA_ARGS__, dup3(__VA_ARGS__))
#define epoll_create1(...) INJECT("epoll_create1", #__VA_ARGS__, epoll_create1(__VA_ARGS__))
#define epoll_ctl(...) INJECT("epoll_ctl", #__VA_ARGS__, epoll_ctl(__VA_ARGS__))
#define epoll_wait(...) INJECT("epoll_wait", #__VA_ARGS__, epoll_wait(__VA_ARGS__))
#define execve(...) INJECT("execve", #__VA_ARGS__, execve(__VA_ARGS__))
#define fchdir(...) INJECT("fchdir", #__VA_ARGS__, fchdir(__VA_ARGS__))
#define fchmod(...) INJECT("fchmod", #__VA_ARGS__, fchmod(__VA_ARGS__))
#define fcntl(...) INJECT("fcntl", #__VA_ARGS__, fcntl(__VA_ARGS__))
#define fstat(...) INJECT("fstat", #__VA_ARGS__, fstat(__VA_ARGS__))
#define fstatat(...) INJECT("fstatat", #__VA_ARGS__, fstatat(__VA_ARGS__))
#define fstatfs(...) INJECT("fstatfs", #__VA_ARGS__, fstatfs(__VA_ARGS__))
#define ftruncate(...) INJECT("ftruncate", #__VA_ARGS__, ftruncate(__VA_ARGS__))
#define futimens(...) INJECT("futimens", #__VA_ARGS__, futimens(__VA_ARGS__))
#define getpriority(...) INJECT("getpriority", #__VA_ARGS__, getpriority(__VA_ARGS__))
#define getrlimit(...) INJECT("getrlimit", #__VA_ARGS__, getrlimit(__VA_ARGS__))
#define getrusage(...) INJECT("getrusage", #__VA_ARGS__, getrusage(__VA_ARGS__))
#define getsockopt(...) INJECT("getsockopt", #__VA_ARGS__, getsockopt(__VA_ARGS__))
#define getxattr(...) INJECT("getxattr", #__VA_ARGS__, getxattr(__VA_ARGS__))
#define inotify_add_watch(...) INJECT("inotify_add_watch", #__VA_ARGS__, inotify_add_watch(__VA_ARGS__))
#define inotify_init1(...) INJECT("inotify_init1", #__VA_ARGS__, inotify_init1(__VA_ARGS__))
#define ioctl(...) INJECT("ioctl", #__VA_ARGS__, ioctl(__VA_ARGS__))
#define kill(...) INJECT("kill", #__VA_ARGS__, kill(__VA_ARGS__))
#define linkat(...) INJECT("linkat", #__VA_ARGS__, linkat(__VA_ARGS__))
#define lseek(...) INJECT("lseek", #__VA_ARGS__, lseek(__VA_ARGS__))
#define mkdirat(...) INJECT("mkdirat", #__VA_ARGS__, mkdirat(__VA_ARGS__))
#define mknodat(...) INJECT("mknodat", #__VA_ARGS__, mknodat(__VA_ARGS__))
#define mount(...) INJECT("mount", #__VA_ARGS__, mount(__VA_ARGS__))
#define open(...) INJECT("open", #__VA_ARGS__, open(__VA_ARGS__))
#define openat(...) INJECT("openat", #__VA_ARGS__, openat(__VA_ARGS__))
#define personality(...) INJECT("personality", #__VA_ARGS__, personality(__VA_ARGS__))
#define pipe2(...) INJECT("pipe2", #__VA_ARGS__, pipe2(__VA_ARGS__))
#define poll(...) INJECT("poll", #__VA_ARGS__, poll(__VA_ARGS__))
#define ppoll(...) INJECT("ppoll", #__VA_ARGS__, ppoll(__VA_ARGS__))
#define pread(...) INJECT("pread", #__VA_ARGS__, pread(__VA_ARGS__))
#define prctl(...) INJECT("prctl", #__VA_ARGS__, prctl(__VA_ARGS__))
#define read(...) INJECT("read", #__VA_ARGS__, read(__VA_ARGS__))
#define readlink(...) INJECT("readlink", #__VA_ARGS__, readlink(__VA_ARGS__))
#define readlinkat(...) INJECT("readlinkat", #__VA_ARGS__, readlinkat(__VA_ARGS__))
#define recv(...) INJECT("recv", #__VA_ARGS__, recv(__VA_ARGS__))
#define recvmsg(...) INJECT("recvmsg", #__VA_ARGS__, recvmsg(__VA_ARGS__))
#define send(...) INJECT("send", #__VA_ARGS__, send(__VA_ARGS__))
#define sendfile(...) INJECT("sendfile", #__VA_ARGS__, sendfile(__VA_ARGS__))
#define sendmsg(...) INJECT("sendmsg", #__VA_ARGS__, sendmsg(__VA_ARGS__))
#define setdomainname(...) INJECT("setdomainname", #__VA_ARGS__, setdomainname(__VA_ARGS__))
#define setgroups(...) INJECT("setgroups", #__VA_ARGS__, setgroups(__VA_ARGS__))
#define sethostname(...) INJECT("sethostname", #__VA_ARGS__, sethostname(__VA_ARGS__))
#define setns(...) INJECT("setns", #__VA_ARGS__, setns(__VA_ARGS__))
#define setpriority(...) INJECT("setpriority", #__VA_ARGS__, setpriority(__VA_ARGS__))
#define setresgid(...) INJECT("setresgid", #__VA_ARGS__, setresgid(__VA_ARGS__))
#define setresuid(...) INJECT("setresuid", #__VA_ARGS__, setresuid(__VA_ARGS__))
#define setrlimit(...) INJECT("setrlimit", #__VA_ARGS__, setrlimit(__VA_ARGS__))
#define setsid(...) INJECT("setsid", #__VA_ARGS__, setsid(__VA_ARGS__))
#define signalfd(...) INJECT("signalfd", #__VA_ARGS__, signalfd(__VA_ARGS__))
#define sigprocmask(...) INJECT("sigprocmask", #__VA_ARGS__, sigprocmask(__VA_ARGS__))
#define socket(...) INJECT("socket", #__VA_ARGS__, socket(__VA_ARGS__))
#define socketpair(...) INJECT("socketpair", #__VA_ARGS__, socketpair(__VA_ARGS__))
#define stat(...) INJECT("stat", #__VA_ARGS__, stat(__VA_ARGS__))
#define splice(...) INJECT("splice", #__VA_ARGS__, splice(__VA_ARGS__))
#define tcflush(...) INJECT("tcflush", #__VA_ARGS__, tcflush(__VA_ARGS__))
#define tcgetattr(...) INJECT("tcgetattr", #__VA_ARGS__, tcgetattr(__VA_ARGS__))
#define tcsetattr(...) INJECT("tcsetattr", #__VA_ARGS__, tcsetattr(__VA_ARGS__))
#define tee(...) INJECT("tee", #__VA_ARGS__, tee(__VA_ARGS__))
#define symlinkat(...) INJECT("symlinkat", #__VA_ARGS__, symlinkat(__VA_ARGS__))
#define timerfd_create(...) INJECT("timerfd_create", #__VA_ARGS__, timerfd_create(__VA_ARGS__))
#define timerfd_settime(...) INJECT("timerfd_settime", #__VA_ARGS__, timerfd_settime(__VA_ARGS__))
#define umount2(...) INJECT("umount2", #__VA_ARGS__, umount2(__VA_ARGS__))
#define unlinkat(...) INJECT("unlinkat", #__VA_ARGS__, unlinkat(__VA_ARGS__))
#define unshare(...) INJECT("unshare", #__VA_ARGS__, unshare(__VA_ARGS__))
#define utimensat(...) INJECT("utimensat", #__VA_ARGS__, utimensat(__VA_ARGS__))
#define wait4(...) INJECT("wait4", #__VA_ARGS__, wait4(__VA_ARGS__))
#define waitid(...) INJECT("waitid", #__VA_ARGS__, waitid(__VA_ARGS__))
#define waitpid(...) INJECT("waitpid", #__VA_ARGS__, waitpid(__VA_ARGS__))
#define write(...) INJECT("write", #__VA_ARGS__, write(__VA_ARGS__))
#define mmap(...) (inject_now(INJECT_AT("mmap", #__VA_ARGS__)) ? MAP_FAILED : mmap(__VA_ARGS__))
#define clock_nanosleep(...) (inject_now(INJECT_AT("clock_nanosleep", #__VA_ARGS__)) ? errno : clock_nanosleep(__VA_ARGS__))
#define close(fd) inject_close(INJECT_AT("close", #fd), fd)
#define syscall(number, ...) (inject_now(INJECT_AT("syscall", #number)) ? -1L : inject_after(number, syscall(number, __VA_ARGS__)))

#endif
