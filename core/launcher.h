/* SPDX-License-Identifier: MIT
 *
 * What the files of the launcher share: launcher.c, payload_half.c, join.c, id_maps.c, supervise.c, kill.c and
 * report.c. There is one launcher in a process, and its state is in static memory.
 */
#ifndef CAPSULE_LAUNCHER_H
#define CAPSULE_LAUNCHER_H

#include "init_link.h"
#include "watcher.h"
#include <poll.h>

#define CONTROL 0
#define END_MS 100
#define STUCK_MS 2000

enum { IN, OUT, ERR };

struct run {
	struct room room;
	struct plan payload;
	struct pump pumps[3];
	int timer;
	/* readable when the process that made the control socket is dead; -1 where that cannot be had */
	int maker;
	int notice;       /* readable when the kernel found a group of ours out of memory; -1 for none */
	bool checked;     /* the room's plan passed: its steps may be walked */
	bool is_confined; /* `payload` was checked, if only as a confinement; `has_payload`: the whole of it */
	bool has_payload, has_failed, started, ended;
	struct bytes rest; /* of the last message from Python: what follows its word */
	bool ending;       /* init is asked, or killed */
	bool may_stick;    /* killed, and not to be waited for without end */
	bool cancelled;    /* by the caller, who waits for no reader of the output any more */
	bool is_dumping;   /* the clock has THREAD_DUMP_MS left */
	bool counted;      /* the groups' counters are written down */
	bool has_exit;     /* the command has ended; `ended`: and what it left running is over, or is to go */
	int exit_status;   /* a wait status, once `has_exit` */
	bool is_empty;     /* init has reaped all, `usage` is what they have used, and nothing is left to wait for */
	struct rusage usage;
	int lifted;         /* the first guard whose place the host has changed, -1 for none */
	const char *killed; /* why we ended it; the first reason stays */
	struct failure failed;
	struct rejection rejected;
	enum half rejected_half;
	uint64_t setup_ms, clock_ms, drain_ms;
	uint64_t received_ns, cloned_ns, mapped_ns, room_sent_ns, ready_ns, started_ns, ended_ns;
	struct attested caller; /* this process, as the kernel has it */
	/* processor time of init until the command was there: user's, system's, and before its groups counted it */
	uint64_t setup_us[3];
};
extern struct run run;
static const struct step no_step = { .index = NO_STEP };

/* join.c */
int join_room(struct room *room, int memfd, struct step *step);

/* launcher.c */
int drop_groups(struct room *room, struct step *step);
int make_clone(struct room *room, uint64_t namespaces, struct step *step);
int start_setup_clock(const struct room *room, struct step *step);
int wait_for_either(int first, int second);
ssize_t receive_control(const char **word, int fds[static MAX_FDS], unsigned int *nfds);

/* payload_half.c */
void take_payload(enum half half, int *fds, unsigned int nfds);
void take_command(const struct bytes *rest, const int *fds, unsigned int nfds);

/* id_maps.c */
int write_id_maps(struct room *room, struct step *step);

/* kill.c */
int set_timer(uint64_t ms);
int send_to_init(const struct link_message *message, const int *fds, unsigned int nfds);
void end_room(bool now);
void kill_room(const char *why);
void fail(enum half half, const struct step *step);
void fail_at_no_step(void);
int remove_all_cgroups(void);
void abandon(void);
const char *reap(void);
void report_before_init_is_gone(void) __attribute__((noreturn));

/* overlay_calls.c */
struct overlay_call {
	uint64_t id;
	uint32_t tid;
	int32_t number;
	uint64_t argument[6];
};
extern struct reader overlay_helper;
int help_overlay_call(const struct overlay_call *call);
const char *on_overlay_helper(void);

/* terminal.c */
int take_terminal(const struct plan *plan, struct link_message *message, struct step *step);
void connect_terminal(int *fds, unsigned int nfds);
void resize_terminal(void);
void restore_terminal(void);
void await_restored_terminal(void);

/* supervise.c */
void set_poll(struct pollfd *p, int fd, short events);
void supervise(void);

/* report.c */
void report_usage(const struct rusage *u);
void put_exit(struct text *to);
void record_counters(void);
void send_report(void);
void end_launcher(void) __attribute__((noreturn));
void report_end(void) __attribute__((noreturn));

#endif
