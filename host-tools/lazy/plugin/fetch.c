/*
 * jobvm-fetch: nbdkit's plugin that serves a lazy disk to one VM (host-tools/lazy/fetch.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "host-tools/lazy/engine/engine.h"
#include "host-tools/lazy/engine/touched.h"
#include "host-tools/lazy/plugin/refuse.h"
#include "host-tools/lazy/trace.h"
#include "imagebuilder/files.h"

#define THREAD_MODEL	    NBDKIT_THREAD_MODEL_PARALLEL
#define METADATA_READ_BYTES (4U << 20)

/* --- what it is told, as KEY=VALUE --- */

static char *uri, *policy, *cache_directory, *origin, *tls_certificates, *identity;
static int64_t cache_max_bytes = (int64_t)FETCH_CACHE_DEFAULT_BYTES;
static int64_t timeout_ms = FETCH_TIMEOUT_DEFAULT_MS;
static int64_t state_fd = -1, trace_fd = -1, status_fd = -1, spare_fd = -1, prefetch_fd = -1,
	       metadata_fd = -1;

/* clang-format off */
static const struct {
	const char *key;
	char **text;
	int64_t *number;
} keys[] = {
	{"uri", &uri, NULL},
	{"policy", &policy, NULL},
	{"cache", &cache_directory, NULL},
	{"origin", &origin, NULL},
	{"tls-certificates", &tls_certificates, NULL},
	{"identity", &identity, NULL},
	{"cache-max-bytes", NULL, &cache_max_bytes},
	{"timeout-ms", NULL, &timeout_ms},
	{"state-fd", NULL, &state_fd},
	{"trace-fd", NULL, &trace_fd},
	{"status-fd", NULL, &status_fd},
	{"spare-fd", NULL, &spare_fd},
	{"prefetch-fd", NULL, &prefetch_fd},
	{"metadata-fd", NULL, &metadata_fd},
};
/* clang-format on */

#define CONFIG_HELP                                                                                \
	"uri=URI               (required) The server of the tree.\n"                               \
	"policy=block|file     What to fetch when a block is read: it, or the whole file.\n"       \
	"cache=DIR             Keep what was fetched there.\n"                                     \
	"cache-max-bytes=N     The most that is kept there.\n"                                     \
	"tls-certificates=DIR  For nbds:// URIs.\n"                                                \
	"timeout-ms=N          How long a read waits for the server.\n"                            \
	"identity=HEX          What the tree must be."

static int config(const char *key, const char *value)
{
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(key, keys[i].key) != 0)
			continue;
		if (keys[i].number)
			return nbdkit_parse_int64_t(key, value, keys[i].number);
		free(*keys[i].text);
		*keys[i].text = strdup(value);
		return *keys[i].text ? 0 : -1;
	}
	nbdkit_error("unknown key '%s'", key);
	return -1;
}

static int config_complete(void)
{
	if (!uri) {
		nbdkit_error("uri=URI is missing");
		return -1;
	}
	if (policy && strcmp(policy, "block") != 0 && strcmp(policy, "file") != 0) {
		nbdkit_error("policy=%s: not block or file", policy);
		return -1;
	}
	if (timeout_ms <= 0 || cache_max_bytes < 0) {
		nbdkit_error("timeout-ms and cache-max-bytes are numbers of their kind");
		return -1;
	}
	return 0;
}

/* --- starting --- */

static struct fetch_state *state;
static struct remote *remote;
static struct engine *engine;
static void *map_bytes;
static struct map map;

static int connect_remote(struct error *error)
{
	const struct remote_options options = {
		.uri = uri,
		.tls_certificates = tls_certificates,
		.identity = identity,
		.timeout_ms = (uint64_t)timeout_ms,
		.state = state,
	};
	uint64_t size;

	remote = remote_open(&options, error);
	if (!remote)
		return -1;
	map_bytes = remote_read_map(remote, &size, error);
	if (!map_bytes)
		return -1;
	if (map_parse(map_bytes, size, &map, error))
		return error_prefix(error, "%s", uri);
	if (map.header->image_bytes != remote_image_bytes(remote))
		return error_set(error, "%s: the map is not the disk's", uri);
	return 0;
}

/*
 * Each origin has a cache of its own: a server chooses its identity, and could put its own bytes
 * in the place of another's.
 */
static struct cache *open_cache(void)
{
	char name[FETCH_IDENTITY_BYTES + 80];

	snprintf(name, sizeof(name), "%s%s%.70s", remote_identity(remote), origin ? "-" : "",
		 origin ? origin : "");

	const struct cache_options options = {
		.directory = cache_directory,
		.export_name = name,
		.max_bytes = (uint64_t)cache_max_bytes,
		.spare_fd = (int)spare_fd,
		.counters = &state->cache,
	};
	struct cache *cache = cache_open(&options);

	if (cache && *cache_problem(cache))
		state_note_problem(state, "%s", cache_problem(cache));
	return cache;
}

/* What cannot be read of a trace is not fetched ahead, no more. */
static void read_prefetch(struct engine_options *options)
{
	struct error error;
	size_t size;

	if (prefetch_fd < 0)
		return;
	char *bytes = files_read((int)prefetch_fd, "trace", TRACE_BYTES_MAX, &size, &error);
	if (!bytes) {
		state_note_problem(state, "%s", error.text);
		return;
	}
	options->prefetch = trace_resolve(&map, bytes, size, &options->prefetch_count);
	free(bytes);
}

static int start_engine(struct error *error)
{
	struct engine_options options = {
		.remote = remote,
		.map = &map,
		.cache = open_cache(),
		.state = state,
		.trace_fd = (int)trace_fd,
		.timeout_ms = (uint64_t)timeout_ms,
		.fetches_files = policy && strcmp(policy, "file") == 0,
		.file_bytes_max = (uint64_t)cache_max_bytes / 2,
	};

	if (!options.cache)
		return error_errno(error, "open the cache");
	read_prefetch(&options);
	engine = engine_start(&options, error);
	return engine ? 0 : -1;
}

/* --- the metadata alone --- */

static int copy_range(uint64_t offset, uint64_t end, uint8_t *buffer, struct error *error)
{
	while (offset < end) {
		uint32_t size = end - offset < METADATA_READ_BYTES ? (uint32_t)(end - offset)
								   : METADATA_READ_BYTES;

		if (engine_read(engine, buffer, size, offset, false))
			return error_set(
				error, "%s: the disk's metadata could not be read: %s", uri,
				state->problem_state == 2 ? state->problem : strerror(errno));
		if (pwrite((int)metadata_fd, buffer, size, (off_t)offset) != (ssize_t)size)
			return error_errno(error, "write the disk's metadata");
		offset += size;
	}
	return 0;
}

static int copy_metadata(struct error *error)
{
	uint8_t *buffer = malloc(METADATA_READ_BYTES);
	uint64_t bytes = 0;
	int failed = buffer ? 0 : error_errno(error, "memory for metadata");

	for (uint64_t i = 0; i < map.metadata_count; i++)
		bytes += (uint64_t)map.metadata[i].blocks * MAP_BLOCK_BYTES;
	if (bytes > FETCH_METADATA_MAX_BYTES)
		failed = error_set(error, "%s: the disk has %" PRIu64 " bytes of metadata", uri,
				   bytes);
	for (uint64_t i = 0; i < map.metadata_count && !failed; i++) {
		uint64_t offset = (uint64_t)map.metadata[i].start_block * MAP_BLOCK_BYTES;

		failed = copy_range(offset,
				    offset + (uint64_t)map.metadata[i].blocks * MAP_BLOCK_BYTES,
				    buffer, error);
	}
	free(buffer);
	return failed;
}

/* --- nbdkit's side --- */

static void tell_parent(char status)
{
	if (status_fd >= 0 && write((int)status_fd, &status, 1) < 0)
		nbdkit_debug("nobody waits for the status");
}

static int start(void)
{
	struct error error = {""};

	state = state_map((int)state_fd, &error);
	if (state && connect_remote(&error) == 0 && start_engine(&error) == 0 &&
	    (metadata_fd < 0 || copy_metadata(&error) == 0)) {
		memcpy(state->identity, remote_identity(remote), sizeof(state->identity));
		state->image_bytes = remote_image_bytes(remote);
		tell_parent(FETCH_STATUS_READY);
		return 0;
	}
	if (state) {
		state->error = error;
		tell_parent(FETCH_STATUS_FAILED);
	}
	if (status_fd < 0)
		nbdkit_error("%s", error.text);
	return -1;
}

static void unload(void)
{
	engine_stop(engine);
	free(map_bytes);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (keys[i].text)
			free(*keys[i].text);
}

static void *open_disk(int readonly)
{
	(void)readonly;
	return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t get_size(void *handle)
{
	(void)handle;
	return (int64_t)state->image_bytes;
}

static int yes(void *handle)
{
	(void)handle;
	return 1;
}

static int read_disk(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle, (void)flags;
	if (engine_read(engine, buffer, count, offset, true) == 0)
		return 0;
	nbdkit_set_error(EIO);
	return -1;
}

static struct nbdkit_plugin plugin = {
	.name = "jobvm-fetch",
	.longname = "jobvm's lazy disks",
	.load = NULL,
	.unload = unload,
	.config = config,
	.config_complete = config_complete,
	.config_help = CONFIG_HELP,
	.magic_config_key = "uri",
	.after_fork = start,
	.open = open_disk,
	.get_size = get_size,
	.can_write = yes,
	.can_trim = yes,
	.can_zero = yes,
	.can_flush = yes,
	.can_multi_conn = yes,
	.pread = read_disk,
	.pwrite = refuse_write,
	.trim = refuse,
	.zero = refuse,
	.flush = refuse_nothing,
};

NBDKIT_REGISTER_PLUGIN(plugin)
