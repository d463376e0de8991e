#include "host-tools/lazy/input_disk.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
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

static bool inputs_on_network(const struct job *job)
{
	bool found = job->fetch.from && is_on_network(job->fetch.from);

	for (size_t i = 0; i < job->inputs.count && !job->fetch.from && !found; i++) {
		char *path = job_path(job, job->inputs.items[i]);

		found = is_on_network(path);
		free(path);
	}
	return found;
}

/*
 * Whether QEMU may read from the server itself: block by block, of this machine's own disks, where
 * nobody asked for a cache or for what fills it.
 */
static bool is_direct(const struct input_disk *disk)
{
	const struct job_fetch *wish = &disk->job->fetch;

	return disk->manifest->fetch == FETCH_BLOCK && !wish->cache_max_bytes &&
	       !wish->prefetch_path && !inputs_on_network(disk->job);
}

static struct fetch_options options_for(const struct input_disk *disk)
{
	const struct job_fetch *wish = &disk->job->fetch;

	return (struct fetch_options){
		.from = wish->from,
		.policy = (enum manifest_fetch)disk->manifest->fetch,
		.cache_max_bytes = wish->cache_max_bytes,
		.tls_certificates = wish->tls_certificates,
		.timeout_ms = wish->timeout_ms,
		.prefetch_path = wish->prefetch_path,
		.identity = disk->identity,
		.extra_fd = -1,
	};
}

/* A server of our own: of the job's inputs, or of what a directory holds. */
static int serve(struct input_disk *disk, struct error *error)
{
	const struct job *job = disk->job;
	bool root = disk->manifest->user == USER_ROOT;
	struct strings contents = {.count = 0};
	struct serve_counted counted;
	struct serve_options options = {
		.inputs = &job->inputs,
		.directory = job->directory,
		.uid = root ? 0 : JOB_UID,
		.gid = root ? 0 : JOB_GID,
	};
	int failed = 0;

	if (is_uri(job->fetch.from))
		return 0;
	if (is_direct(disk)) {
		const struct fetch_options fetch_options = options_for(disk);

		failed = fetch_direct(&fetch_options, &disk->fetch, error);
		disk->is_direct = disk->is_fetching = true;
		counted.state_fd = disk->fetch.state_fd;
		counted.trace_fd = disk->fetch.trace_fd;
		options.counted = &counted;
	}
	if (job->fetch.from) {
		strings_format(&contents, "%s/", job->fetch.from);
		options.inputs = &contents;
		options.directory = NULL;
	}
	failed = failed || serve_start(&options, &disk->serve, error);
	strings_clear(&contents);
	disk->is_serving = !failed;
	return failed;
}

/* OPTIONS are of the server of our own. */
static void point_at_server(struct input_disk *disk, struct fetch_options *options)
{
	snprintf(disk->uri, sizeof(disk->uri), "nbd+unix:///?socket=/proc/self/fd/%d",
		 disk->serve.socket_fd);
	options->from = disk->uri;
	options->extra_fd = disk->serve.socket_fd;
}

static int fetch(struct input_disk *disk, struct error *error)
{
	struct fetch_options options = options_for(disk);

	disk->is_taken = false;
	if (disk->is_direct) {
		point_at_server(disk, &disk->fetch.options);
		return fetch_connect(&disk->fetch, &disk->serve, error);
	}
	if (disk->is_serving)
		point_at_server(disk, &options);
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
