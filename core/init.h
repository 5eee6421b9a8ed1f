/* SPDX-License-Identifier: MIT
 *
 * What the inits share, the one that builds a room (init.c) and the one that joins it (join.c). On a failure they
 * report, and exit.
 */
#ifndef CAPSULE_INIT_H
#define CAPSULE_INIT_H

#include "init_link.h"

void leave(struct room *room, enum half half, unsigned int index) __attribute__((noreturn));
void receive(struct room *room, enum half half, struct link_message *message, int *fds, unsigned int *nfds);
void protect_process(struct room *room, unsigned int index);
int make_terminal(struct room *room, const struct plan *plan, const struct link_message *given, int stdio[static 3]);
void serve(struct room *room) __attribute__((noreturn));

#endif
