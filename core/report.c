/* SPDX-License-Identifier: MIT
 *
 * The report: one message of bounded size that says how the run ended. It is the launcher's last act.
 */
#include "launcher.h"
#include <sys/wait.h>

static char report_bytes[4096];
static struct text report = { report_bytes, sizeof(report_bytes), 0 };

static void line(const char *name, const uint64_t *numbers, unsigned int count)
{
	put(&report, name);
	put_numbers(&report, numbers, count);
	put(&report, "\n");
}

static void word_line(const char *name, const char *word)
{
	put(&report, name, " ", word, "\n");
}

void report_usage(const struct rusage *u)
{
	const uint64_t usage[] = { (uint64_t)u->ru_utime.tv_sec * 1000000 + (uint64_t)u->ru_utime.tv_usec,
		(uint64_t)u->ru_stime.tv_sec * 1000000 + (uint64_t)u->ru_stime.tv_usec, (uint64_t)u->ru_maxrss,
		(uint64_t)u->ru_minflt, (uint64_t)u->ru_majflt, (uint64_t)u->ru_inblock, (uint64_t)u->ru_oublock,
		(uint64_t)u->ru_nvcsw, (uint64_t)u->ru_nivcsw };

	line("usage", usage, 9);
}

void record_counters(void)
{
	if (run.has_payload && !run.counted)
		record_cgroups(&run.payload);
	run.counted = true;
}

void report_end(void)
{
	static const char *const names[] = { "stdin-error", "stdout-error", "stderr-error" };
	const uint64_t times[] = { run.received_ns, run.cloned_ns, run.mapped_ns, run.room_sent_ns, run.ready_ns,
		run.started_ns, run.ended_ns, now_ns() };
	const uint64_t failed[] = { (uint64_t)run.failed.step, (uint64_t)run.failed.error };

	line("times", times, 8);
	if (run.killed != NULL)
		word_line("killed", run.killed);
	if (run.rejected.reason != NULL) {
		word_line("rejected", run.rejected.reason);
		line(run.rejected_half == ROOM ? "rejected-room" : "rejected-payload", &(uint64_t){ run.rejected.step },
		    1);
	}
	if (run.has_failed)
		line(run.failed.half == ROOM ? "failed-room" : "failed-payload", failed, 2);
	if (run.started)
		line("started", &(uint64_t){ (uint64_t)run.room.landlock_abi }, 1);
	if (run.ended && WIFEXITED(run.exit_status))
		line("exited", &(uint64_t){ (uint64_t)WEXITSTATUS(run.exit_status) }, 1);
	else if (run.ended)
		line("signalled", &(uint64_t){ (uint64_t)WTERMSIG(run.exit_status) }, 1);
	if (run.lifted >= 0)
		line("lifted", &(uint64_t){ (uint64_t)run.lifted }, 1);
	if (sampled->peak_kib > 0)
		line("memory", &(uint64_t){ sampled->peak_kib }, 1);
	for (int i = OUT; i <= ERR; i++) {
		const uint64_t bytes[] = { run.pumps[i].kept, run.pumps[i].total, run.pumps[i].over };

		line(i == OUT ? "stdout" : "stderr", bytes, 3);
	}
	for (int i = IN; i <= ERR; i++) /* a command that reads no further, or has ended, closes its stdin: no error */
		if (run.pumps[i].error != 0 && (i != IN || run.pumps[i].error != EPIPE))
			line(names[i], &(uint64_t){ (uint64_t)run.pumps[i].error }, 1);
	if (run.started) {
		record_line("setup", run.setup_us, 3, NULL, 0);
		record_room();
		record_tail();
		record_cpu();
	}
	record_counters();
	record_denied_calls();
	record_ends();
	if (record.fd >= 0)
		line("record", (const uint64_t[]){ record.kept, record.lost }, 2);
	line("end", NULL, 0);
	/* a caller that is gone by now has no use for it, and this process ends next */
	(void)send_message(CONTROL, report_bytes, report.length, NULL, 0);
	end_thread_dump(false);
	end_process_reader(0);
	end_watch(END_MS);
	_exit(remove_all_cgroups());
}
