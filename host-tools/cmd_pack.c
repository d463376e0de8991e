/* jobvm pack: makes a job disk. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/pack.h"
#include "host-tools/request.h"

/* What only the host that runs a job can do; a job disk has no place for it. */
static void warn_of_lost_keys(const struct job *job)
{
	const struct {
		const char *name;
		bool is_set;
	} keys[] = {
		{"output", job->stdout_path},
		{"error", job->stderr_path},
		{"log", job->log_path},
		{"jobvm_report", job->report_path},
		{"max_retries", job->max_retries > 0},
		{"jobvm_image", job->image_path},
		{"jobvm_from", job->fetch.from && !job->fetch.prefetch_path},
		{"jobvm_trace", job->fetch.trace_path},
		{"jobvm_tls_certificates", job->fetch.tls_certificates},
		{"jobvm_accel", job->accel != ACCEL_AUTO},
		{"jobvm_require_isolation", job->require_hardware},
		{"jobvm_start", job->start != START_AUTO},
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (keys[i].is_set)
			message_warning("'%s' is not kept on a job disk", keys[i].name);
}

/* What is to be packed must be here. */
static void check_prefetch(const struct job *job)
{
	if (job->fetch.prefetch_path && (!job->fetch.from || strstr(job->fetch.from, "://")))
		message_usage("pack", "--prefetch packs files of a directory; --from names it");
}

/* The nil UUID stands for none, so it names no job. */
static void parse_job_id(const char *text, uuid_t id)
{
	if (uuid_parse(text, id) || uuid_is_null(id))
		message_usage("pack", "option '--job-id': '%s' is not a UUID", text);
}

/* Packs the job and gives the disk its name. */
static int pack_to(const char *output, struct job *job, const uint8_t *job_id, struct error *error)
{
	struct pack_options options = {.job_id = job_id,
				       .traced_inputs = job->fetch.prefetch_path != NULL};
	struct packed packed;

	if (epoch_read(&options.epoch, error) || pack_job(job, output, &options, &packed, error))
		return -1;
	int failed = pack_publish(&packed, output, error);
	close(packed.fd);
	return failed;
}

static int run_pack(int argc, char **argv)
{
	const char *output = NULL, *job_id_text = NULL;
	struct request request;
	uuid_t job_id = {0};
	struct error error;
	const struct option options[] = {{'o', "output", OPTION_VALUE, &output},
					 {0, "job-id", OPTION_VALUE, &job_id_text},
					 {.name = NULL}};

	request_read(&command_pack, argc, argv, options, REQUEST_IMAGE_NAMED, &request);
	if (!output)
		message_usage("pack", "option '-o JOB.img' is missing");
	if (job_id_text)
		parse_job_id(job_id_text, job_id);
	if (request.job_count != 1)
		message_usage("pack",
			      "the submit description queues %zu jobs; a job disk holds one",
			      request.job_count);
	if (access(output, F_OK) == 0) {
		message_error("%s exists already; remove it or choose another name", output);
		return EXIT_JOBVM_FAILED;
	}
	check_prefetch(&request.jobs[0]);
	warn_of_lost_keys(&request.jobs[0]);
	progress_phase("packing");
	int failed = pack_to(output, &request.jobs[0], job_id_text ? job_id : NULL, &error);
	progress_clear();
	if (failed)
		message_error("%s", error.text);
	request_free(&request);
	return failed ? EXIT_JOBVM_FAILED : EXIT_SUCCESS;
}

const struct command command_pack = {
	.name = "pack",
	.summary = "make a job disk, to be started later or elsewhere",
	.usage = "Usage: jobvm pack [OPTION]... -o JOB.img (-- COMMAND [ARG]... | FILE.sub)\n"
		 "Make the job disk of one job, with its manifest and inputs.\n\n"
		 "  -o JOB.img           the job disk to make; must not exist\n"
		 "  --job-id UUID        the job's id; without it, a new one\n" REQUEST_JOB_HELP
		 "  --image DIR          take what the job does not say (environment, command)\n"
		 "                       from this guest image; 'jobvm start' is told it again\n",
	.run = run_pack,
};
