#include "host-tools/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "fsimage/writer.h"
#include "host-tools/input_path.h"
#include "host-tools/message.h"
#include "host-tools/traced_inputs.h"
#include "jobdisk/layout.h"

/* One inode for so many bytes of free space, as mke2fs does by default. */
#define BYTES_PER_INODE	    16384
/* For the result record, directories and journal, beyond what the job may fill. */
#define RESERVE_SLACK_BYTES (1ULL << 20)

struct packer {
	struct job *job;
	const struct pack_options *options;
	struct fstree *tree;
	struct fsnode *input;
	struct fsmeta root_meta, job_meta; /* PID 1's files; the job's */
	uint64_t input_bytes;		   /* of the inputs, holes not counted */
	struct error *error;
};

/* --- the workspace's files --- */

static struct fsimport import_rules(const struct packer *p)
{
	return input_rules(p->job_meta.uid, p->job_meta.gid, &p->options->epoch);
}

static int resolve_input(const struct packer *p, const char *path, struct input_path *input)
{
	char *full = job_path(p->job, path);
	int failed = input_resolve(path, full, input, p->error);

	free(full);
	return failed;
}

static int add_input(struct packer *p, const char *path)
{
	struct fsimport rules = import_rules(p);
	struct input_path input;

	if (resolve_input(p, path, &input))
		return -1;
	return input_add(&input, p->tree, p->input, &rules, p->error);
}

/* A submit description's executable goes along under its own name and can be executed there. */
static int add_executable(struct packer *p)
{
	char resolved[PATH_MAX], name[PATH_MAX];
	struct fsimport rules = import_rules(p);

	if (!p->job->executable)
		return 0;
	if (!realpath(p->job->executable, resolved))
		return error_errno(p->error, "executable '%s'", p->job->executable);
	snprintf(name, sizeof(name), "%s", p->job->executable);
	struct fsnode *node = fstree_import(p->tree, p->input, basename(name), AT_FDCWD, resolved,
					    &rules, p->error);
	if (!node)
		return -1;
	fstree_add_mode(node, 0111);
	return 0;
}

static int add_traced(struct packer *p)
{
	struct fsimport rules = import_rules(p);

	return traced_inputs_add(p->job->fetch.prefetch_path, p->job->fetch.from, p->tree, p->input,
				 &rules, p->error);
}

static int add_inputs(struct packer *p)
{
	if (add_executable(p))
		return -1;
	for (size_t i = 0; !p->options->without_inputs && i < p->job->inputs.count; i++)
		if (add_input(p, p->job->inputs.items[i]))
			return -1;
	if (p->options->traced_inputs && add_traced(p))
		return -1;
	p->input_bytes = fstree_totals(p->tree).data_bytes;
	if (p->job->input_max_bytes != RECORD_UNSET && p->input_bytes > p->job->input_max_bytes)
		return error_set(p->error,
				 "the inputs have %" PRIu64
				 " bytes, max_transfer_input_mb allows %" PRIu64,
				 p->input_bytes, p->job->input_max_bytes);
	return 0;
}

/* --- the rest of the disk --- */

static int add_stdin(struct packer *p, struct fsnode *root)
{
	struct fsimport rules = import_rules(p);
	struct input_path input;

	rules.uid = rules.gid = 0;
	p->job->manifest.has_stdin = p->job->stdin_path != NULL;
	if (!p->job->stdin_path)
		return 0;
	if (resolve_input(p, p->job->stdin_path, &input))
		return -1;
	if (!S_ISREG(input.type))
		return error_set(p->error, "input '%s': stdin must be a regular file",
				 p->job->stdin_path);
	return fstree_import(p->tree, root, JOBDISK_STDIN, AT_FDCWD, input.resolved, &rules,
			     p->error)
		       ? 0
		       : -1;
}

static int add_manifest(struct packer *p, struct fsnode *root)
{
	static char text[RECORD_MAX_BYTES + 1];

	long length = record_format(&manifest_schema, &p->job->manifest, text, p->error);
	if (length < 0)
		return error_prefix(p->error, "the job's arguments, environment and outputs");
	return fstree_add_bytes(p->tree, root, JOBDISK_MANIFEST, &p->root_meta, text,
				(size_t)length, p->error)
		       ? 0
		       : -1;
}

/* Not zeros: the writer must not take them for a hole, for this space is to be there later. */
static int add_result_space(struct packer *p, struct fsnode *root)
{
	static char space[RECORD_MAX_BYTES];

	memset(space, '\n', sizeof(space));
	return fstree_add_bytes(p->tree, root, JOBDISK_RESULT_NEW, &p->root_meta, space,
				sizeof(space), p->error)
		       ? 0
		       : -1;
}

static int add_areas(struct packer *p, struct fsnode *root)
{
	const struct {
		const char *name;
		const struct fsmeta *meta;
	} directories[] = {
		{JOBDISK_INPUT, &p->job_meta},
		{JOBDISK_OUTPUT, &p->job_meta},
		{JOBDISK_WORKDIR, &p->root_meta},
		{JOBDISK_SCRATCH, &p->root_meta},
	};
	static const char *const files[] = {JOBDISK_STDOUT, JOBDISK_STDERR};

	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++)
		if (!fstree_add_directory(p->tree, root, directories[i].name, directories[i].meta,
					  p->error))
			return -1;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (!fstree_add_bytes(p->tree, root, files[i], &p->root_meta, "", 0, p->error))
			return -1;
	p->input = fstree_child(root, JOBDISK_INPUT);
	return 0;
}

static int plan_disk(struct packer *p)
{
	struct fsnode *root = fstree_root(p->tree);

	if (add_areas(p, root) || add_inputs(p) || add_stdin(p, root) || add_manifest(p, root))
		return -1;
	return add_result_space(p, root);
}

/* --- writing --- */

static void show_progress(void *context, const struct fstotals *done)
{
	(void)context;
	progress_show("%" PRIu64 " MB, %" PRIu64 " files", done->data_bytes / 1000000, done->nodes);
}

static int disk_size(const struct packer *p, struct fsimage_options *options)
{
	const struct manifest *manifest = &p->job->manifest;
	uint64_t free_bytes = PACK_FREE_BYTES;

	if (p->job->disk_bytes) {
		if (p->input_bytes > p->job->disk_bytes)
			return error_set(p->error,
					 "the inputs have %" PRIu64
					 " bytes, request_disk is only %" PRIu64,
					 p->input_bytes, p->job->disk_bytes);
		free_bytes = p->job->disk_bytes - p->input_bytes;
	}
	/* PID 1 can keep the job's whole stdout and stderr whatever the job does to the disk. */
	options->reserved_bytes =
		manifest->stdout_max_bytes + manifest->stderr_max_bytes + RESERVE_SLACK_BYTES;
	options->free_bytes = free_bytes + options->reserved_bytes;
	options->free_inodes = free_bytes / BYTES_PER_INODE + 1024;
	return 0;
}

static int write_disk(const struct packer *p, int fd, const char *name)
{
	struct fsimage_options options = {
		.label = JOBDISK_LABEL,
		.journal = true,
		.now = p->root_meta.mtime.tv_sec,
		.progress = show_progress,
	};

	if (disk_size(p, &options))
		return -1;
	uuid_parse(p->job->manifest.job_id, options.uuid);
	return fsimage_write(p->tree, fd, name, &options, p->error);
}

const char *pack_scratch_directory(void)
{
	const char *directory = getenv("TMPDIR");

	return directory && *directory ? directory : "/var/tmp";
}

/* File systems without O_TMPFILE (NFS) need a name; it goes at once where none is wanted. */
static int open_named(const char *directory, bool keep_name, struct packed *packed)
{
	snprintf(packed->temporary, sizeof(packed->temporary), "%s/.jobvm-XXXXXX", directory);
	packed->fd = mkostemp(packed->temporary, O_CLOEXEC);
	if (packed->fd >= 0 && !keep_name)
		unlink(packed->temporary);
	if (packed->fd < 0 || !keep_name)
		packed->temporary[0] = '\0';
	return packed->fd;
}

int pack_open(const char *path, struct packed *packed, struct error *error)
{
	char copy[PATH_MAX];
	const char *directory = pack_scratch_directory();

	snprintf(copy, sizeof(copy), "%s", path ? path : "");
	if (path)
		directory = dirname(copy);
	packed->temporary[0] = '\0';
	packed->fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (packed->fd < 0 && errno == EOPNOTSUPP)
		open_named(directory, path, packed);
	if (packed->fd < 0)
		return error_errno(error, "make the job disk in %s", directory);
	return 0;
}

void pack_discard(const struct packed *packed)
{
	close(packed->fd);
	if (packed->temporary[0])
		unlink(packed->temporary);
}

static void set_owners(struct packer *p)
{
	bool root = p->job->manifest.user == USER_ROOT;
	struct timespec now = {.tv_sec = p->options->epoch.seconds};

	if (!p->options->epoch.is_set)
		clock_gettime(CLOCK_REALTIME, &now);
	p->root_meta = (struct fsmeta){.mode = 0700, .mtime = now};
	p->job_meta = (struct fsmeta){
		.mode = 0755, .uid = root ? 0 : JOB_UID, .gid = root ? 0 : JOB_GID, .mtime = now};
}

static void set_job_id(const struct pack_options *options, struct packed *packed)
{
	uuid_t id;

	if (options->job_id)
		uuid_copy(id, options->job_id);
	else
		uuid_generate_random(id);
	uuid_unparse_lower(id, packed->job_id);
}

int pack_job(struct job *job, const char *path, const struct pack_options *options,
	     struct packed *packed, struct error *error)
{
	static const struct pack_options new_each_time = {.job_id = NULL};
	struct packer p = {
		.job = job, .options = options ? options : &new_each_time, .error = error};

	set_job_id(p.options, packed);
	job->manifest.job_id = packed->job_id;
	job_bind_manifest(job);
	/* The guest keeps the host's limit too, for only it can end a job and keep its outputs. */
	if (job->manifest.job_time_limit_ms < job->manifest.time_limit_ms)
		job->manifest.time_limit_ms = job->manifest.job_time_limit_ms;
	set_owners(&p);
	if (pack_open(path, packed, error))
		return -1;
	p.tree = fstree_new(&p.root_meta);
	int failed = !p.tree ? error_set(error, "no memory for the list of inputs")
			     : plan_disk(&p) || write_disk(&p, packed->fd,
							   path ? path : pack_scratch_directory());
	if (failed)
		pack_discard(packed);
	fstree_free(p.tree);
	return failed ? -1 : 0;
}

/* Never over another file: link(2) refuses what rename(2) would replace. */
static int give_name(const struct packed *packed, const char *path)
{
	char link_name[64];

	if (packed->temporary[0])
		return link(packed->temporary, path);
	snprintf(link_name, sizeof(link_name), "/proc/self/fd/%d", packed->fd);
	return linkat(AT_FDCWD, link_name, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

int pack_publish(const struct packed *packed, const char *path, struct error *error)
{
	int failed = 0;

	if (fsync(packed->fd))
		failed = error_errno(error, "sync %s", path);
	else if (give_name(packed, path))
		failed = error_errno(error, "name the job disk %s", path);
	if (packed->temporary[0])
		unlink(packed->temporary);
	return failed;
}
