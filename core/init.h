/* SPDX-License-Identifier: MIT
 *
 * What the inits share, the one that builds a room (init.c) and the one that joins it (join.c), and how both start a
 * payload (start_payload.c). On a failure they report, and exit.
 */
#ifndef CAPSULE_INIT_H
#define CAPSULE_INIT_H

#include "init_link.h"

void leave(struct room *room, enum half half, unsigned int index) __attribute__((noreturn));
void receive(struct room *room, enum half half, struct link_message *message, int *fds, unsigned int *nfds);
void protect_process(struct room *room, unsigned int index);
int make_terminal(struct room *room, const struct plan *plan, const struct link_message *given, int stdio[static 3]);
void serve(struct room *room) __attribute__((noreturn));
void send_to_launcher(const struct room *room, const struct link_message *message);

/* start_payload.c: the one payload, until its command is executed */
extern struct starting {
	int status;            /* the read end of its status pipe; -1 before and after */
	int master;            /* the other side of its terminal, for the launcher; -1 for none */
	int before_cgroups_us; /* processor time before groups of version 1 count it */
} starting;
pid_t start_payload(struct room *room, const struct link_message *asked, const int *fds, unsigned int nfds);
void finish_start(struct room *room);
struct rusage usage_of_all(void);

#endif
