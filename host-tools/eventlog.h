/*
 * eventlog: the log of a submit description (`log = FILE`), in the text format of HTCondor's job
 * event log, which condor_wait and many scripts read.
 */
#ifndef HOST_TOOLS_EVENTLOG_H
#define HOST_TOOLS_EVENTLOG_H

#include "host-tools/report.h"

/* Each appends one event to the job's log, if it has one. 0, or -1 with ERROR set. */
int eventlog_submitted(const struct job *job, struct error *error);
int eventlog_executing(const struct job *job, struct error *error);
int eventlog_terminated(const struct job *job, const struct report *report, struct error *error);

/* For a job that no VM could be started for, because of REASON. */
int eventlog_failed(const struct job *job, const char *reason, struct error *error);

#endif
