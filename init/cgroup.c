/* cgroup: the job's limits and what it used (cgroup v2, Documentation/admin-guide/cgroup-v2.rst).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "init/init.h"

/* Kernel settings for a guest whose job is not privileged. A name this kernel lacks is skipped. */
static const struct {
	const char *path, *value;
} hardening[] = {
	{"/proc/sys/kernel/modules_disabled", "1"},
	{"/proc/sys/kernel/kexec_load_disabled", "1"},
	{"/proc/sys/kernel/dmesg_restrict", "1"},
	{"/proc/sys/kernel/kptr_restrict", "2"},
	{"/proc/sys/kernel/unprivileged_bpf_disabled", "1"},
	{"/proc/sys/kernel/perf_event_paranoid", "3"},
	{"/proc/sys/kernel/sysrq", "0"},
	{"/proc/sys/vm/unprivileged_userfaultfd", "0"},
	/* A user namespace would give any job the mount and network code to attack. */
	{"/proc/sys/user/max_user_namespaces", "0"},
};

static int harden(struct error *error)
{
	for (size_t i = 0; i < sizeof(hardening) / sizeof(hardening[0]); i++)
		if (write_file(hardening[i].path, hardening[i].value, error) && errno != ENOENT)
			return -1;
	return 0;
}

int prepare_limits(struct error *error)
{
	if (write_file(CGROUP_DIR "/cgroup.subtree_control", "+cpu +memory +pids +io", error))
		return -1;
	if (mkdir(JOB_CGROUP, 0755))
		return error_errno(error, "make " JOB_CGROUP);
	/* A job that lost one process to the limit has failed as a whole. */
	return write_file(JOB_CGROUP "/memory.oom.group", "1", error);
}

int apply_limits(struct error *error)
{
	if (!guest.manifest->privileged && harden(error))
		return -1;
	if (write_number(JOB_CGROUP "/memory.max", guest.manifest->memory_limit_bytes, error) ||
	    write_number(JOB_CGROUP "/pids.max", guest.manifest->processes_max, error))
		return -1;
	return 0;
}

/* Adds up a key like "rbytes=" over the lines of io.stat, one line a device. */
static uint64_t sum_io(const char *key)
{
	char text[2048];
	uint64_t sum = 0;

	if (read_file(JOB_CGROUP "/io.stat", text, sizeof(text)) < 0)
		return RECORD_UNSET;
	for (const char *found = strstr(text, key); found; found = strstr(found + 1, key))
		sum += strtoull(found + strlen(key), NULL, 10);
	return sum;
}

void cgroup_sample_processes(struct result *result)
{
	/* pids.peak came with Linux 6.11; before it, this is the largest number we happened to see.
	 */
	uint64_t now = read_number(JOB_CGROUP "/pids.peak", NULL);

	if (now == RECORD_UNSET)
		now = read_number(JOB_CGROUP "/pids.current", NULL);
	if (now == RECORD_UNSET)
		return;
	if (result->processes_peak == RECORD_UNSET || now > result->processes_peak)
		result->processes_peak = now;
}

uint64_t cgroup_oom_kills(void)
{
	uint64_t kills = read_number(JOB_CGROUP "/memory.events", "oom_kill");

	return kills == RECORD_UNSET ? 0 : kills;
}

void cgroup_usage(struct result *result)
{
	result->time_user = read_number(JOB_CGROUP "/cpu.stat", "user_usec");
	result->time_system = read_number(JOB_CGROUP "/cpu.stat", "system_usec");
	result->memory_peak = read_number(JOB_CGROUP "/memory.peak", NULL);
	result->io_read_bytes = sum_io("rbytes=");
	result->io_write_bytes = sum_io("wbytes=");
	result->oom_killed = cgroup_oom_kills() > 0;
	uint64_t refused = read_number(JOB_CGROUP "/pids.events", "max");
	if (refused != RECORD_UNSET && refused > 0)
		result->processes_peak = guest.manifest->processes_max;
}
