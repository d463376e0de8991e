/*
 * jobvm-serve: a plugin of nbdkit that serves a tree of files as a read-only disk, and its map.
 *
 * Parameters: input=PATH, as often as there are inputs; uid=N and gid=N, the owner of all files
 * on the disk; ready-fd=N, where it writes a line when it serves ("ready FILES BYTES IDENTITY") or
 * cannot ("error WHY"), and closes it. With state-fd=N the one client is a guest's QEMU, and what
 * is read is counted there (fetch_state.h), its files listed in trace-fd=N.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host-tools/lazy/engine/touched.h"
#include "host-tools/lazy/export.h"
#include "host-tools/lazy/plugin/refuse.h"
#include "host-tools/message.h"
#include "jobdisk/layout.h"

/*
 * Connections at once, but of each one request at a time: where several threads answer a client
 * that has gone, nbdkit (1.32) ends at an assertion of its own (raw_send_socket), for all clients.
 * Who wants more at once opens more connections.
 */
#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS

/* What a client is told to ask for at once. */
#define REQUEST_BYTES_MAX (32U << 20)

static struct strings inputs;
static unsigned uid = JOB_UID, gid = JOB_GID;
static int ready_fd = -1, state_fd = -1, trace_fd = -1;
static struct export *export;
static struct fetch_state *state; /* NULL, as touched: nothing is counted */
static struct touched *touched;
static const char *description;

/* What a client has open. */
enum handle { HANDLE_DISK, HANDLE_MAP };
static enum handle handles[] = {HANDLE_DISK, HANDLE_MAP};

/* --- starting and ending --- */

static int set(const char *key, const char *value)
{
	if (strcmp(key, "input") == 0) {
		strings_add(&inputs, value);
		return 0;
	}
	if (strcmp(key, "uid") == 0)
		return nbdkit_parse_unsigned(key, value, &uid);
	if (strcmp(key, "gid") == 0)
		return nbdkit_parse_unsigned(key, value, &gid);
	if (strcmp(key, "ready-fd") == 0)
		return nbdkit_parse_int(key, value, &ready_fd);
	if (strcmp(key, "state-fd") == 0)
		return nbdkit_parse_int(key, value, &state_fd);
	if (strcmp(key, "trace-fd") == 0)
		return nbdkit_parse_int(key, value, &trace_fd);
	nbdkit_error("unknown parameter '%s'", key);
	return -1;
}

/* To who started us, or where nobody waits for it, to people. */
static void fail_start(const struct error *error)
{
	if (ready_fd < 0)
		nbdkit_error("%s", error->text);
	else
		dprintf(ready_fd, "error %s\n", error->text);
}

/* Several threads may lose files at a time. */
static void tell_lost(void *context, const struct error *why)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	(void)context;
	if (state)
		state_note_problem(state, "%s", why->text);
	pthread_mutex_lock(&lock);
	message_warning("%s", why->text);
	pthread_mutex_unlock(&lock);
}

/* Files that are kept open, and connections. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int start_counting(struct error *error)
{
	if (state_fd < 0)
		return 0;
	state = state_map(state_fd, error);
	if (!state)
		return -1;
	touched = touched_new(export_map(export), state, trace_fd, error);
	return touched ? 0 : -1;
}

static int make_export(void)
{
	const struct export_options options = {
		.inputs = &inputs, .uid = uid, .gid = gid, .lost = tell_lost};
	struct error error;

	raise_limits();
	export = export_make(&options, &error);
	if (!export || start_counting(&error)) {
		fail_start(&error);
		return -1;
	}
	description = nbdkit_printf_intern(MAP_DESCRIPTION_PREFIX "%s", export_identity(export));
	return description ? 0 : -1;
}

/* Not before: nbdkit has opened all that it needs by now. */
static int confine_and_tell(void)
{
	struct error error;

	if (export_confine(export)) {
		error_errno(&error, "confine the server");
		fail_start(&error);
		return -1;
	}
	if (ready_fd < 0)
		return 0;
	dprintf(ready_fd, "ready %" PRIu64 " %" PRIu64 " %s\n", export_map(export)->file_count,
		export_map(export)->header->image_bytes, export_identity(export));
	close(ready_fd);
	return 0;
}

static void end(void)
{
	touched_free(touched);
	export_free(export);
	export = NULL;
	strings_clear(&inputs);
}

/* --- exports --- */

static int list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
	(void)readonly, (void)is_tls;
	if (nbdkit_add_export(exports, "", description))
		return -1;
	return nbdkit_add_export(exports, MAP_EXPORT, description);
}

static const char *default_export(int readonly, int is_tls)
{
	(void)readonly, (void)is_tls;
	return "";
}

static void *open_export(int readonly)
{
	const char *name = nbdkit_export_name();

	(void)readonly;
	if (name && strcmp(name, "") == 0)
		return &handles[HANDLE_DISK];
	if (name && strcmp(name, MAP_EXPORT) == 0)
		return &handles[HANDLE_MAP];
	nbdkit_error("a client asks for an export that is not there");
	return NULL;
}

static const char *describe(void *handle)
{
	(void)handle;
	return description;
}

static int64_t get_size(void *handle)
{
	if (*(enum handle *)handle == HANDLE_MAP)
		return (int64_t)export_map_bytes(export);
	return (int64_t)export_map(export)->header->image_bytes;
}

static int get_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
	(void)handle;
	*minimum = 1;
	*preferred = MAP_BLOCK_BYTES;
	*maximum = REQUEST_BYTES_MAX;
	return 0;
}

static int always(void *handle)
{
	(void)handle;
	return 1;
}

/* --- requests --- */

static int read_bytes(void *handle, void *bytes, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct error error;
	bool is_map = *(enum handle *)handle == HANDLE_MAP;
	uint64_t block = offset / MAP_BLOCK_BYTES;
	uint64_t end = (offset + count + MAP_BLOCK_BYTES - 1) / MAP_BLOCK_BYTES;

	(void)flags;
	if (touched && !is_map)
		touched_range(touched, block, end);

	int failed = is_map ? export_read_map(export, bytes, count, offset, &error)
			    : export_read_disk(export, bytes, count, offset, &error);

	if (failed && touched && !is_map)
		touched_failed(touched, block, end);
	if (failed)
		nbdkit_set_error(EIO);
	return failed;
}

static int find_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			struct nbdkit_extents *extents)
{
	if (*(enum handle *)handle == HANDLE_MAP)
		return nbdkit_add_extent(extents, offset, count, 0);
	for (uint64_t at = offset, next; at < offset + count; at = next) {
		bool data = export_has_data(export, at, &next);
		uint32_t type = data ? 0 : NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;

		/* Not beyond what was asked for: some versions of nbdkit cannot bear it. */
		if (next > offset + count)
			next = offset + count;
		if (nbdkit_add_extent(extents, at, next - at, type))
			return -1;
		if (flags & NBDKIT_FLAG_REQ_ONE)
			break;
	}
	return 0;
}

static struct nbdkit_plugin plugin = {
	.name = "jobvm-serve",
	.longname = "jobvm's served trees",
	.description = "serves a tree of files as a read-only ext4 disk",
	.config = set,
	.config_help = "input=PATH (several), uid=N, gid=N, ready-fd=N, state-fd=N, trace-fd=N",
	.magic_config_key = "input",
	.get_ready = make_export,
	.after_fork = confine_and_tell,
	.unload = end,
	.list_exports = list_exports,
	.default_export = default_export,
	.open = open_export,
	.export_description = describe,
	.get_size = get_size,
	.block_size = get_block_size,
	.can_multi_conn = always,
	.can_extents = always,
	.can_write = always,
	.can_trim = always,
	.can_zero = always,
	.can_flush = always,
	.pread = read_bytes,
	.pwrite = refuse_write,
	.trim = refuse,
	.zero = refuse,
	.flush = refuse_nothing,
	.extents = find_extents,
	.errno_is_preserved = 0,
};

NBDKIT_REGISTER_PLUGIN(plugin)
