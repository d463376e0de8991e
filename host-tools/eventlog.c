#include "host-tools/eventlog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

/* HTCondor's event numbers (its manual, "Job Event Log Codes"). */
enum { EVENT_SUBMIT = 0, EVENT_EXECUTE = 1, EVENT_TERMINATED = 5, EVENT_ABORTED = 9 };

static int append(const struct job *job, int event, struct error *error, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static int append(const struct job *job, int event, struct error *error, const char *format, ...)
{
	char when[32];
	time_t now = time(NULL);
	struct tm parts;
	va_list values;

	if (!job->log_path)
		return 0;
	char *path = job_path(job, job->log_path);
	FILE *log = fopen(path, "ae");
	if (!log) {
		error_errno(error, "open the log %s", path);
		free(path);
		return -1;
	}
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", localtime_r(&now, &parts));
	fprintf(log, "%03d (%03u.%03u.000) %s ", event, job->cluster, job->process, when);
	va_start(values, format);
	vfprintf(log, format, values);
	va_end(values);
	fputs("...\n", log);
	int failed = ferror(log);
	failed = fclose(log) || failed;
	if (failed)
		error_errno(error, "write the log %s", path);
	free(path);
	return failed ? -1 : 0;
}

int eventlog_submitted(const struct job *job, struct error *error)
{
	return append(job, EVENT_SUBMIT, error, "Job submitted from host: <jobvm>\n");
}

int eventlog_executing(const struct job *job, struct error *error)
{
	return append(job, EVENT_EXECUTE, error, "Job executing on host: <jobvm>\n");
}

int eventlog_terminated(const struct job *job, const struct report *report, struct error *error)
{
	const struct result *result = report_guest_result(report);

	if (report->status == STATUS_COMPLETED)
		return append(job, EVENT_TERMINATED, error,
			      "Job terminated.\n\t(1) Normal termination (return value %d)\n",
			      (int)result->exit_code);
	if (report->status == STATUS_SIGNALED)
		return append(job, EVENT_TERMINATED, error,
			      "Job terminated.\n\t(0) Abnormal termination (signal %d)\n",
			      (int)result->exit_signal);
	/* Who waits for a job waits for one of these two events, whatever the reason. */
	return append(job, EVENT_ABORTED, error, "Job was aborted.\n\tjobvm: %s\n",
		      job_status_words[report->status]);
}

int eventlog_failed(const struct job *job, const char *reason, struct error *error)
{
	struct error line = {.text = ""};

	/* A name with a line end in it must not make an event of its own. */
	for (size_t i = 0; i < sizeof(line.text) - 1 && reason[i]; i++)
		line.text[i] = (char)((unsigned char)reason[i] < ' ' ? '?' : reason[i]);
	return append(job, EVENT_ABORTED, error, "Job was aborted.\n\tjobvm: %s\n", line.text);
}
