/* SPDX-License-Identifier: MIT
 *
 * The report: one message of bounded size that says how the run ended. What the launcher does after it is clearing up.
 */
#include "launcher.h"
#include <sys/wait.h>

static char report_bytes[4096];
static struct text report = { report_bytes, sizeof(report_bytes), 0 };

static void put_line(const char *name, const uint64_t *numbers, size_t count)
{
	put(&report, name);
	put_numbers(&report, numbers, count);
	put(&report, "\n");
}
#define line(name, ...) put_line(name, NUMBERS(__VA_ARGS__))

void report_usage(const struct rusage *u)
{
	line("usage", (uint64_t)u->ru_utime.tv_sec * 1000000 + (uint64_t)u->ru_utime.tv_usec,
	    (uint64_t)u->ru_stime.tv_sec * 1000000 + (uint64_t)u->ru_stime.tv_usec, u->ru_maxrss, u->ru_minflt,
	    u->ru_majflt, u->ru_inblock, u->ru_oublock, u->ru_nvcsw, u->ru_nivcsw);
}

void put_exit(struct text *to)
{
	put(to, WIFEXITED(run.exit_status) ? "exited" : "signalled");
	put_numbers(to,
	    (const uint64_t[]){
		(uint64_t)(WIFEXITED(run.exit_status) ? WEXITSTATUS(run.exit_status) : WTERMSIG(run.exit_status)) },
	    1);
	put(to, "\n");
}

void record_counters(void)
{
	if (run.has_payload && !run.counted)
		record_cgroups(&run.payload);
	run.counted = true;
}

static void report_streams(void)
{
	static const char *const errors[] = { "stdin-error", "stdout-error", "stderr-error" };
	const struct pump *p = run.pumps;

	line("stdout", p[OUT].kept, p[OUT].total, p[OUT].over);
	line("stderr", p[ERR].kept, p[ERR].total, p[ERR].over);
	for (int i = IN; i <= ERR; i++)
		if (p[i].error != 0 && (i != IN || p[i].error != EPIPE)) /* not to read all of stdin is no error */
			line(errors[i], p[i].error);
}

static bool is_sent;

void send_report(void)
{
	line("times", run.received_ns, run.cloned_ns, run.mapped_ns, run.room_sent_ns, run.ready_ns, run.started_ns,
	    run.ended_ns, now_ns());
	if (run.killed != NULL)
		put(&report, "killed ", run.killed, "\n");
	if (run.rejected.reason != NULL) {
		put(&report, "rejected ", run.rejected.reason, "\n");
		line(run.rejected_half == ROOM ? "rejected-room" : "rejected-payload", run.rejected.step);
	}
	if (run.has_failed)
		line(run.failed.half == ROOM ? "failed-room" : "failed-payload", run.failed.step, run.failed.error);
	if (run.started)
		line("started", run.room.landlock_abi);
	if (run.room.copied)
		put(&report, "copied\n");
	if (run.has_exit)
		put_exit(&report);
	if (run.lifted >= 0)
		line("lifted", run.lifted);
	if (sampled->peak_kib > 0)
		line("memory", sampled->peak_kib);
	report_streams();
	if (run.started) {
		record_numbers("setup", run.setup_us[0], run.setup_us[1], run.setup_us[2]);
		record_room();
		record_tail();
		record_cpu();
	}
	record_counters();
	record_denied_calls();
	record_ends();
	if (record.fd >= 0)
		line("record", record.kept, record.lost);
	put(&report, "end\n");
	/* a caller that is gone by now has no use for it, and this process ends next */
	is_sent = send_message(CONTROL, report_bytes, report.length, NULL, 0) == 0;
}

void end_launcher(void)
{
	end_thread_dump(false);
	end_process_reader(0);
	end_watch(END_MS);
	if (is_sent)
		await_restored_terminal();
	restore_terminal();
	_exit(remove_all_cgroups());
}

void report_end(void)
{
	send_report();
	end_launcher();
}
