#include "host-tools/lazy/input_disk.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host-tools/jsontext.h"
#include "host-tools/lazy/on_network.h"
#include "host-tools/message.h"
#include "jobdisk/layout.h"

bool input_disk_has_inputs(const struct job *job)
{
	return job->manifest.fetch != FETCH_EAGER && !job->fetch.from;
}

static bool is_uri(const char *from)
{
	return from && strstr(from, "://");
}

/* The inputs that a server of ours has, and where relative ones start. */
static void find_inputs(const struct job *job, struct strings *inputs, const char **directory)
{
	*inputs = (struct strings){.count = 0};
	if (job->fetch.from) {
		strings_format(inputs, "%s/", job->fetch.from);
		*directory = NULL;
		return;
	}
	for (size_t i = 0; i < job->inputs.count; i++)
		strings_add(inputs, job->inputs.items[i]);
	*directory = job->directory;
}

/*
 * Whether QEMU may read from the server itself: block by block, of this machine's own disks, where
 * nobody asked for a cache or for what fills it.
 */
static bool is_direct(const struct input_disk *disk, const struct strings *inputs,
		      const char *directory)
{
	const struct job_fetch *wish = &disk->job->fetch;
	char path[PATH_MAX];

	if (disk->manifest->fetch != FETCH_BLOCK || wish->cache_max_bytes || wish->prefetch_path)
		return false;
	for (size_t i = 0; i < inputs->count; i++) {
		const char *input = inputs->items[i];
		const char *start = *input != '/' && directory ? directory : "";

		snprintf(path, sizeof(path), "%s%s%s", start, *start ? "/" : "", input);
		if (is_on_network(path))
			return false;
	}
	return true;
}

static struct fetch_options options_for(struct input_disk *disk)
{
	const struct job_fetch *wish = &disk->job->fetch;
	struct fetch_options options = {
		.from = wish->from,
		.policy = (enum manifest_fetch)disk->manifest->fetch,
		.cache_max_bytes = wish->cache_max_bytes,
		.tls_certificates = wish->tls_certificates,
		.timeout_ms = wish->timeout_ms,
		.prefetch_path = wish->prefetch_path,
		.identity = disk->identity,
		.extra_fd = -1,
	};

	if (disk->is_serving) {
		snprintf(disk->uri, sizeof(disk->uri), "nbd+unix:///?socket=/proc/self/fd/%d",
			 disk->serve.socket_fd);
		options.from = disk->uri;
		options.extra_fd = disk->serve.socket_fd;
	}
	return options;
}

/* A server of our own: of the job's inputs, or of what a directory holds. */
static int serve(struct input_disk *disk, struct error *error)
{
	bool root = disk->manifest->user == USER_ROOT;
	struct serve_counted counted;
	struct strings inputs;
	struct serve_options options = {
		.inputs = &inputs,
		.uid = root ? 0 : JOB_UID,
		.gid = root ? 0 : JOB_GID,
	};

	if (is_uri(disk->job->fetch.from))
		return 0;
	find_inputs(disk->job, &inputs, &options.directory);
	int failed = 0;
	if (is_direct(disk, &inputs, options.directory)) {
		const struct fetch_options fetch_options = options_for(disk);

		failed = fetch_direct(&fetch_options, &disk->fetch, error);
		disk->is_direct = disk->is_fetching = true;
		counted.state_fd = disk->fetch.state_fd;
		counted.trace_fd = disk->fetch.trace_fd;
		options.counted = &counted;
	}
	failed = failed || serve_start(&options, &disk->serve, error);
	strings_clear(&inputs);
	disk->is_serving = !failed;
	return failed;
}

static int fetch(struct input_disk *disk, struct error *error)
{
	const struct fetch_options options = options_for(disk);

	disk->is_taken = false;
	if (disk->is_direct) {
		disk->fetch.options = options;
		return fetch_connect(&disk->fetch, &disk->serve, error);
	}
	int failed = fetch_start(&options, &disk->fetch, error);
	disk->is_fetching = !failed;
	return failed;
}

static void end_fetch(struct input_disk *disk)
{
	struct error ignored;

	if (!disk->is_fetching)
		return;
	fetch_finish(&disk->fetch, NULL, &ignored);
	fetch_free(&disk->fetch);
	disk->is_fetching = false;
}

int input_disk_open(struct input_disk *disk, const struct job *job, const struct manifest *manifest,
		    const char *identity, struct error *error)
{
	*disk = (struct input_disk){.job = job, .manifest = manifest, .identity = identity};
	if (manifest->fetch == FETCH_EAGER)
		return 0;
	progress_phase("reading the list of inputs");
	int failed = serve(disk, error) || fetch(disk, error);
	progress_clear();
	if (failed)
		input_disk_close(disk);
	return failed ? -1 : 0;
}

int input_disk_take(struct input_disk *disk, int *fd, uint64_t *bytes, struct error *error)
{
	if (disk->is_taken) {
		if (!disk->is_direct)
			end_fetch(disk);
		if (fetch(disk, error))
			return -1;
	}
	disk->is_taken = true;
	*fd = disk->fetch.qemu_fd;
	*bytes = disk->fetch.image_bytes;
	return 0;
}

/* Nobody else has counted what the guest could not read then. */
static void note_server_ended(struct fetch_summary *summary)
{
	static const char problem[] = "the server of the inputs ended before the job did";

	message_warning("%s; what it read after that failed", problem);
	if (!summary->problem[0])
		memcpy(summary->problem, problem, sizeof(problem));
}

void input_disk_finish(struct input_disk *disk)
{
	const char *trace_path = disk->job->fetch.trace_path;
	struct error error;

	if (!disk->is_fetching)
		return;
	/* However it ended: it has served until the VM's end. */
	fetch_finish(&disk->fetch, &disk->summary, &error);
	if (disk->is_direct && serve_has_ended(&disk->serve))
		note_server_ended(&disk->summary);
	if (disk->summary.errors > 0)
		message_warning("%" PRIu64 " reads of the inputs failed: %s", disk->summary.errors,
				disk->summary.problem);
	if (trace_path && fetch_trace(&disk->fetch, trace_path, &error))
		message_warning("there is no trace: %s", error.text);
}

int input_disk_metadata(struct input_disk *disk, struct error *error)
{
	return fetch_metadata(&disk->fetch, error);
}

json_t *input_disk_report(const struct input_disk *disk)
{
	const struct fetch_summary *s = &disk->summary;
	const struct {
		const char *name;
		uint64_t number;
	} counts[] = {
		{"files_touched", s->files_touched}, {"bytes_touched", s->bytes_touched},
		{"bytes_fetched", s->bytes_fetched}, {"bytes_from_cache", s->bytes_from_cache},
		{"bytes_cached", s->bytes_cached},   {"errors", s->errors},
		{"reconnects", s->reconnects},	     {"stalled_ms", s->stalled_ms},
		{"cache_damaged", s->cache_damaged}, {"cache_problems", s->cache_problems},
	};

	if (!disk->is_fetching)
		return NULL;
	/* What a hostile server said need not be UTF-8. */
	json_t *object = json_pack(
		"{s:s, s:s?, s:s, s:o}", "policy", manifest_fetch_words[disk->manifest->fetch],
		"from", disk->job->fetch.from, "identity", disk->fetch.identity, "problem",
		s->problem[0] ? jsontext_new(s->problem) : json_null());
	for (size_t i = 0; object && i < sizeof(counts) / sizeof(counts[0]); i++)
		json_object_set_new(object, counts[i].name,
				    json_integer((json_int_t)counts[i].number));
	return object;
}

void input_disk_close(struct input_disk *disk)
{
	struct error ignored;

	end_fetch(disk);
	if (disk->is_serving)
		serve_end(&disk->serve, &ignored);
	*disk = (struct input_disk){.job = NULL};
}
