#include "host-tools/under_slurm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/message.h"
#include "host-tools/slurm_pipe.h"
#include "host-tools/values.h"

#define MIB (1024ULL * 1024)

/*
 * What a task's memory is besides the job's: the VM's own (execute.h), QEMU with what it translates
 * to, jobvm and its readers.
 */
#define VM_RESERVE_BYTES (256 * MIB)
#define VM_RESERVE_SHARE 16
#define JOB_MEMORY_LEAST (16 * MIB)
#define PROCESSORS_MOST	 64
#define TASKS_MOST	 100000

/* 0: it is not set, or makes no sense. */
static uint64_t number_in(const char *name, uint64_t most)
{
	const char *text = getenv(name);
	struct error error;
	uint64_t number;

	if (!text || !*text)
		return 0;
	if (parse_number(text, 1, most, &number, &error) == 0)
		return number;
	message_warning("%s: %s", name, error.text);
	return 0;
}

/* "4", or "4(x2),3" for nodes that differ: then as if each had the most. */
static uint64_t tasks_on_node(void)
{
	uint64_t tasks = number_in("SLURM_NTASKS_PER_NODE", TASKS_MOST), most = 1;
	const char *list = getenv("SLURM_STEP_TASKS_PER_NODE");

	if (tasks > 0)
		return tasks;
	for (; list && *list; list += strcspn(list, ",")) {
		list += *list == ',';
		uint64_t count = strtoull(list, NULL, 10);
		if (count > most && count <= TASKS_MOST)
			most = count;
	}
	return most;
}

static uint64_t task_memory_bytes(uint64_t cpus)
{
	uint64_t per_cpu = number_in("SLURM_MEM_PER_CPU", UINT32_MAX);
	uint64_t per_node = number_in("SLURM_MEM_PER_NODE", UINT32_MAX);

	return per_cpu > 0 ? per_cpu * MIB * cpus : per_node * MIB / tasks_on_node();
}

void under_slurm_defaults(struct job *job)
{
	if (!getenv("SLURM_JOB_ID"))
		return;
	uint64_t cpus = number_in("SLURM_CPUS_PER_TASK", PROCESSORS_MOST);
	if (cpus > 0)
		job->manifest.cpus = cpus;
	uint64_t bytes = task_memory_bytes(cpus > 0 ? cpus : 1);
	if (bytes == 0)
		return;
	uint64_t reserve = VM_RESERVE_BYTES + bytes / VM_RESERVE_SHARE;
	if (bytes >= reserve + JOB_MEMORY_LEAST)
		job->manifest.memory_limit_bytes = bytes - reserve;
	else
		message_warning("Slurm gives this task %" PRIu64
				" MiB, of which a VM takes %" PRIu64 "; the job may not fit",
				(uint64_t)(bytes / MIB), (uint64_t)(reserve / MIB));
}

void under_slurm_tell(enum job_status status)
{
	const char *text = getenv(SLURM_PIPE);
	unsigned long long inode;
	struct stat stat;
	int pipe_fd;

	if (status != STATUS_OUT_OF_MEMORY || !text ||
	    sscanf(text, "%d:%llu", &pipe_fd, &inode) != 2)
		return;
	/* A shell between may have closed it, and have another file there. */
	if (fstat(pipe_fd, &stat) || !S_ISFIFO(stat.st_mode) || stat.st_ino != inode)
		return;
	if (write(pipe_fd, "", 1) < 0)
		message_warning("Slurm is not told that the job was out of memory: %m");
}
