/* SPDX-License-Identifier: MIT
 *
 * The header of the core: what its files declare for each other.
 *
 * The core has no opinions. It holds no default, no message, no path search and no allocation: Python writes a plan,
 * the core checks the whole of it (plan.c), carries it out step by step and reports which step failed with which errno.
 * Read docs/order-of-operations.md first; it says why each thing happens where it does.
 */
#ifndef CAPSULE_CORE_H
#define CAPSULE_CORE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "kernel.h"

/* ---- verbs.c, plan.c: the language of plans ---- */

/*
 * JOIN stands in the place of ROOM. PREAMBLE: the first steps of ROOM: namespaces are made while Python plans.
 * CONFINEMENT: those of PAYLOAD: a process is confined before its command is known.
 */
enum half { ROOM, PAYLOAD, JOIN, PREAMBLE, CONFINEMENT };
#define PREAMBLE_RANK 6
#define CONFINEMENT_RANK 11

#define MAX_FIELDS 6
#define MAX_VERBS 96U
#define MAX_PLAN_BYTES (4U << 20)
#define MAX_STEPS 600000U /* 1 MiB of one-byte arguments, and room for the rest */
#define MAX_SLOTS 192U
#define MAX_FDS 16U

struct room;

#define NO_STEP INT32_MAX /* in the place of a step's number: what failed belongs to none */

struct step {
	const struct verb *verb;
	const char *field[MAX_FIELDS];
	unsigned int index; /* counted from 0 after the header, as Python counts */
};

struct verb {
	const char *name;
	enum half half;
	unsigned char rank;  /* steps of a plan never go back in rank */
	unsigned char least; /* the floor: how many a plan must have */
	bool many;           /* may stand more than once */
	const char *phase;   /* for readers of --verbs */
	const char *kinds;   /* one letter a field, see verbs.c */
	/* 0, or -1 with errno; NULL: read where it is needed */
	int (*act)(struct room *, const struct step *);
};

struct plan {
	const char *text;
	size_t size;
	int fds[MAX_FDS]; /* descriptors that came with the plan, by number; each field that names one was checked */
	unsigned int nfds;
};

struct rejection {
	const char *reason;
	unsigned int step;
};

struct cursor {
	const char *at;
	unsigned int index;
	const struct verb *verb; /* of the step before, NULL at the start */
	enum half half;
};

extern const struct verb verbs[];
extern const unsigned int nverbs;
extern const char *const halves[];

bool plan_check(const struct plan *plan, enum half half, struct rejection *why);
int plan_seal(const char *text, size_t size);
int plan_map(int memfd, struct plan *plan);
int plan_take(struct plan *plan, const int *fds, unsigned int nfds);
struct cursor plan_start(const struct plan *plan);
bool plan_next(struct cursor *at, struct step *step);
bool plan_next_of(struct cursor *at, const char *verb, struct step *step);
bool plan_find(const struct plan *plan, const char *verb, struct step *step);
bool plan_continues(const struct plan *room, const struct plan *preamble);
bool plan_append(struct plan *plan, const char *rest, size_t size);

/* ---- text.c: text of bounded size ---- */

struct text {
	char *start;
	size_t size, length;
};
#define TEXT_IN(buffer) ((struct text){ (buffer), sizeof(buffer), 0 })
#define put(to, ...) put_all(to, (const char *const[]){ __VA_ARGS__, NULL })
void put_all(struct text *to, const char *const *texts);
void put_number(struct text *to, uint64_t n);
void put_numbers(struct text *to, const uint64_t *numbers, size_t count);
void process_path(char path[static 64], uint64_t pid, const char *name);
void fd_path(char path[static 64], int fd);
uint64_t take_number(const char **at, unsigned int base);
uint64_t number(const char *digits);
unsigned int octal(const char *digits);

/* ---- syscalls.c: thin wrappers, and what kernels before 5.12 need instead ---- */

#define CLEANUP_CLOSE __attribute__((cleanup(close_cleanup)))
void close_cleanup(int *fd);
void close_all(const int *fds, unsigned int count);
int close_from(unsigned int first);
int place_descriptors(int *const *fds, int count, int first);
int clone_process(uint64_t flags, int *pidfd, int cgroup);
int open_no_links(const char *path, int flags);
int open_seen(const struct step *step, int flags);
int open_in_root(int root, const char *path, int flags);
bool has_mount_setattr(void);
int set_mount(int fd, bool recursive, uint64_t set, uint64_t propagation, int userns);
int open_tree_clone(int fd);
int move_mount_to(int tree, int target);
int new_filesystem(const char *type, const char *const options[][2], uint64_t attributes);
int remount_flags(int fd, uint64_t set);
int write_file(int dir, const char *path, const char *text);
ssize_t read_file(int dir, const char *path, char *text, size_t size);
int send_message(int sock, const void *bytes, size_t size, const int *fds, unsigned int nfds);
/* A walk through a directory, from where `dir` stands; `name` is in the buffer. */
struct names {
	int dir;
	const char *name;
	long got, at;
	_Alignas(uint64_t) char buffer[4096];
};
int next_name(struct names *names);
#define DIR_OPEN (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define MOVED_BYTES (1U << 20) /* asked of splice and sendfile at a time */
ssize_t receive_message(int sock, void *bytes, size_t size, int *fds, unsigned int *nfds);
uint64_t now_ns(void);

/* ---- procfs.c ---- */

#define PID_OF_INIT "1"
/* as proc(5) numbers them */
enum { STAT_PARENT = 4, STAT_UTIME = 14, STAT_STIME, STAT_CUTIME, STAT_CSTIME, STAT_START = 22, STAT_EXIT = 52 };
ssize_t read_proc(int dir, const char *pid, const char *name, char *text, size_t size);
size_t read_host_proc(pid_t pid, const char *name, char *text, size_t size);
int next_pid(struct names *names, const char *but);
uint64_t status_number(const char *text, const char *name);
uint64_t stat_number(const char *text, unsigned int field);
char stat_state(const char *text);
void kill_everybody(void);

/* ---- procfs_reader.c: child processes that read it ---- */

#define READER_LINK 0 /* in the child: to its parent */
struct reader {
	pid_t pid; /* 0: none */
	int pidfd, link;
};
#define NO_READER ((struct reader){ 0, -1, -1 })
void use_short_time_slices(void);
int start_reader(struct reader *reader, int *const *kept, int nkept);
bool end_reader(struct reader *reader, int wait_ms);

/* ---- attest.c: what the kernel says is in force ---- */

/* Capability sets, no_new_privs, mode and number of filters, namespaces, id maps (inside, outside, count), cgroups. */
enum fact {
	CAP_AMBIENT = 4,
	NO_NEW_PRIVS,
	SECCOMP_MODE,
	SECCOMP_FILTERS,
	NS_FIRST,
	NS_NET = NS_FIRST + 3,
	UID_MAP = NS_FIRST + 7,
	GID_MAP = UID_MAP + 3,
	CGROUPS = GID_MAP + 3,
	FACTS
};

struct attested {
	uint64_t fact[FACTS];
};
#define MESSAGE_BYTES (1U << 16) /* of a plan, or the rest of one, that comes without a file */
#define ATTEST_FD 4              /* payload: its own status file, from just before the filter on */

int attest_caller(struct attested *to);
void attest_against(const struct attested *caller);
int attest_cgroups(struct room *room, const struct plan *plan);
int attest_begin(struct room *room);
int attest_room(int proc);
void attest_record(const struct attested *payload);

/* What the payload writes to its status pipe: that it is confined; then, if a step or exec failed, which one. */
struct payload_word {
	int has_failed, landlock_abi, step, error; /* confined: the second; failed: the last two */
	struct attested attested;
};

/* ---- what a run is made of; one per process, in static memory ---- */

struct room {
	struct plan plan;
	int slot[MAX_SLOTS];       /* mount sources in the order of their steps */
	bool slot_used[MAX_SLOTS]; /* init: attached, and no longer to be moved */
	unsigned int nslots;
	bool copied;  /* init: the workspace is a copy, and the overlay that was to follow is not needed */
	bool keeps;   /* init: what the command left running lives on */
	int root;     /* init: the building place, with the root to be at `new` */
	int proc;     /* init: its own procfs, mounted nowhere */
	int terminal; /* init: the payload's, -1 for none */
	/* init: where the network namespace comes from, or why from nowhere (an errno, negative), and who makes it */
	int network;
	pid_t network_maker;
	int link;         /* between launcher and init */
	int status;       /* payload: where it says what failed */
	int notified;     /* payload: where the listener of its filter goes */
	int input;        /* payload that waits: the stdin that its command may want; else -1 */
	bool must_ask;    /* payload: nothing runs without such a listener */
	int landlock;     /* payload: the ruleset descriptor, or -1 */
	int landlock_abi; /* payload: what the kernel accepted, 0 for none */
	uint64_t landlock_handled;
	struct attested attested; /* payload, and then init: what the kernel said */
	pid_t init;
	int pidfd;
};

/* ---- stdio_pump.c ---- */

/* Bytes on their way from one descriptor to another, `cap` at the most. */
struct pump {
	int from, to;    /* -1, -1: never started or ended */
	bool copy;       /* splice refuses this pair: through the buffer */
	bool socket;     /* `to` is a socket: send, so that it cannot block */
	bool terminal;   /* `from` is one: EIO says that nobody has it open any more */
	bool blocked;    /* `to` takes no more: wait for it, not for `from` */
	bool keeps_tail; /* stderr */
	bool truncate;   /* over the cap: throw away, rather than report */
	bool over;
	int error; /* the errno that ended it, 0 for none */
	uint64_t cap, kept, total;
	size_t have, done; /* filled and drained part of the buffer */
	char buffer[1U << 16];
};

bool pump(struct pump *p);
void record_tail(void);
#define LONE_TEXT_BYTES 3072 /* of a text that is alone in its line of the record */
int open_output(struct pump *p, int *inner);
int set_output(struct pump *p, const struct plan *plan, const char *name);
int open_input(struct pump *p, int *inner);
void set_input(struct pump *p, const struct plan *plan);

/* ---- thread_dump.c: the post-mortem ---- */

void prepare_thread_dump(const struct plan *plan);
#define THREAD_DUMP_MS 20 /* how long before the time is up it begins */
void start_thread_dump(void);
void end_thread_dump(bool take);

/* ---- cgroup.c: the launcher's and init's part in control groups ---- */

bool find_cgroup(const struct plan *room, struct step *step);
bool find_cgroup_to_enter(const struct plan *payload, struct step *step);
int open_cgroup(const struct plan *plan, const struct step *step);
#define MAX_CGROUPS 8
int open_cgroup_tasks(const struct plan *plan, int cgroup_tasks[static MAX_CGROUPS], struct step *step);
int open_own_cgroups(const struct plan *room, const struct plan *payload, int files[static MAX_CGROUPS + 1]);
int enter_cgroups(const int *cgroup_tasks, unsigned int count);
void kill_cgroups(const struct plan *plan);
int open_cgroup_cpu(const struct plan *plan);
uint64_t cgroup_cpu_us(int file);
void record_cgroups(const struct plan *plan);
bool remove_cgroups(const struct plan *plan);

/* ---- record.c: what the report has no room for ---- */

struct bytes {
	const char *at;
	size_t length;
};
struct record {
	int fd;                   /* -1: nobody wants to know */
	uint64_t cap, kept, lost; /* bytes, bytes, lines */
};
extern struct record record;
void start_record(const struct plan *plan);
void record_lines(const char *lines, size_t length);
#define NUMBERS(...) (const uint64_t[]){ __VA_ARGS__ }, sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t)
#define record_numbers(name, ...) record_line(name, NUMBERS(__VA_ARGS__), NULL, 0)
#define record_texts(name, texts, ntexts, ...) record_line(name, NUMBERS(__VA_ARGS__), texts, ntexts)
void record_line(
    const char *name, const uint64_t *numbers, size_t count, const struct bytes *texts, unsigned int ntexts);

/* ---- seccomp_notify.c: refused calls are asked about, see there ---- */

/* payload: where it sends the listener; the one descriptor that the filter lets sendmsg work on */
#define LISTENER_FD 5
#define INPUT_FD (LISTENER_FD + 1)
#define END_OF_RUN 0xffffU /* in the place of an errno */
struct notify {
	int socket, listener; /* -1, -1: not yet, or no longer */
	bool records_exec;    /* each exec is asked about, the command's too */
	bool waits;           /* the payload is confined, and its command is to be sent to it through `socket` */
	const char *program;
};
extern struct notify notify;
int start_notify(const struct plan *plan, int *inner);
int send_command(const struct bytes *rest);
void record_listening(void);
const char *on_notify(short events);
bool still_asks(uint64_t id);
int answer_overlay_call(uint64_t id, int error);
void record_denied_calls(void);
int put_on_filter(const char *digits, bool must_ask);

/* ---- exec_events.c: each process, from its program to its end ---- */

extern int exec_ends; /* readable when one that is followed has ended; -1: nobody is */
void read_name_and_words(uint32_t tid, struct bytes texts[static 2]);
void end_process_reader(int wait_ms);
void record_exec_event(uint32_t tid, bool ends, uint64_t code, uint64_t id);
int64_t sample_followed(void);
const char *on_exits(void);
void record_ends(void);

/* ---- mount_guard.c: what the room covers in directories of the host's ---- */

extern int guard_events; /* readable when a guarded place may have changed; -1: there is none */
int on_guard_events(void);
int first_lifted(void);

/* ---- who takes over where ---- */

int print(int fd, const char *text);                            /* main.c */
bool has_more_rights_than_its_caller(void);                     /* main.c */
int hand_over(int argc, char **argv, char **envp);              /* command.c */
int unfit_to_start(void);                                       /* command.c */
bool is_command(const char *called);                            /* command.c */
void start_core(int at, const char *path, struct text *option); /* command.c */
int launch(void);                                               /* launcher.c */
void init_main(struct room *room) __attribute__((noreturn));    /* init.c */
void payload_main(struct room *room, struct plan *plan, const int stdio[3], int status, int notified, bool waits)
    __attribute__((noreturn));                    /* payload.c */
int drop_capabilities(uint64_t keep);             /* payload.c */
int make_readonly(int tree);                      /* rootfs.c */
int set_times(int made, const struct stat *seen); /* copy_tree.c */
void start_network(struct room *room);            /* network.c */

/* The acts, in the order of the verb table. ACT(umask) is the head of act_umask(), in its definition, too. */
#define ACT(verb)                                                                                                      \
	int act_##verb(struct room *room __attribute__((unused)), const struct step *step __attribute__((unused)))
/* clang-format off */
ACT(guard); ACT(source); ACT(idmap); ACT(root); ACT(dir); ACT(file); ACT(copy); ACT(fill); ACT(symlink);
ACT(whiteout); ACT(bind); ACT(inner_bind); ACT(copy_tree); ACT(overlay); ACT(proc); ACT(devpts); ACT(readonly);
ACT(pivot); ACT(hostname); ACT(sysctl); ACT(network); ACT(id); ACT(umask); ACT(nice); ACT(rlimit); ACT(cwd);
ACT(new_keyring); ACT(no_new_privs); ACT(no_capabilities); ACT(landlock); ACT(landlock_required); ACT(landlock_allow);
ACT(listener_required); ACT(filter); ACT(attest); ACT(join_namespace); ACT(carry); ACT(join_proc);
/* clang-format on */

#endif
