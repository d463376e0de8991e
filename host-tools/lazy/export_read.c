#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fsimage/copy.h"
#include "host-tools/lazy/export_private.h"

/* --- one file --- */

/* Not through a symlink anywhere on the way, whatever the tree's owner puts there meanwhile. */
static int open_beneath(int directory_fd, const char *path, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, directory_fd, path, &how, sizeof(how));
}

/*
 * Opens the file at the LENGTH bytes of PATH, which may be longer than the kernel takes at once.
 * -1 with errno.
 */
static int open_path(int base_fd, const char *path, size_t length)
{
	char step[PATH_MAX];
	int directory_fd = base_fd, fd = -1;

	while (length >= sizeof(step)) {
		const char *slash = memrchr(path, '/', sizeof(step) - 1);
		size_t taken = (size_t)(slash - path);

		memcpy(step, path, taken);
		step[taken] = '\0';
		fd = open_beneath(directory_fd, step, O_PATH | O_DIRECTORY);
		if (directory_fd != base_fd)
			close(directory_fd);
		if (fd < 0)
			return -1;
		directory_fd = fd;
		path += taken + 1;
		length -= taken + 1;
	}
	memcpy(step, path, length);
	step[length] = '\0';
	/* O_NONBLOCK: a FIFO may have taken the file's place. */
	fd = open_beneath(directory_fd, step, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (directory_fd != base_fd)
		close(directory_fd);
	return fd;
}

static int open_file(const struct export *export, uint32_t index)
{
	const struct export_file *file = &export->files[index];
	const struct export_base *base = &export->bases[file->base];
	const struct map_file *mapped = &export->map.files[index];

	if (base->name)
		return open_path(base->fd, base->name, strlen(base->name));
	return open_path(base->fd,
			 export->map.strings + mapped->path_offset + mapped->path_bytes -
				 file->below_bytes,
			 file->below_bytes);
}

static bool same_time(struct statx_timestamp time, int64_t seconds, uint32_t nanoseconds)
{
	return time.tv_sec == seconds && time.tv_nsec == nanoseconds;
}

/* 1: the file behind FD is what it was at the export; 0: it is not; -1 with errno. */
static int is_unchanged(const struct export *export, uint32_t index, int fd)
{
	const struct export_file *file = &export->files[index];
	const struct map_file *mapped = &export->map.files[index];
	struct statx now;

	/* Of a file on the network, as its server has it now, and not as it was remembered. */
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &now))
		return -1;
	return S_ISREG(now.stx_mode) &&
	       makedev(now.stx_dev_major, now.stx_dev_minor) == file->device &&
	       now.stx_ino == file->inode && now.stx_size == mapped->size_bytes &&
	       same_time(now.stx_mtime, mapped->mtime_seconds, mapped->mtime_nanoseconds) &&
	       same_time(now.stx_ctime, file->ctime_seconds, file->ctime_nanoseconds);
}

static void tell_lost(struct export *export, uint32_t index, const struct error *why)
{
	uint8_t bit = (uint8_t)(1 << index % 8);

	if (!(atomic_fetch_or(&export->lost[index / 8], bit) & bit))
		export->options.lost(export->options.context, why);
}

/* For people: a path that has no room in an error loses its beginning. */
static int fail_file(struct export *export, uint32_t index, const char *what, struct error *error)
{
	const struct export_file *file = &export->files[index];
	const struct export_base *base = &export->bases[file->base];
	const struct map_file *mapped = &export->map.files[index];
	const char *end = export->map.strings + mapped->path_offset + mapped->path_bytes;
	int length = file->below_bytes < 800 ? (int)file->below_bytes : 800;

	if (base->name)
		error_set(error, "%s/%s: %s", base->path, base->name, what);
	else
		error_set(error, "%s/%s%.*s: %s", base->path,
			  (uint32_t)length < file->below_bytes ? "..." : "", length, end - length,
			  what);
	tell_lost(export, index, error);
	return -1;
}

static int fail_changed(struct export *export, uint32_t index, struct error *error)
{
	return fail_file(export, index, "has changed since it was exported", error);
}

static int fail_to_open(struct export *export, uint32_t index, struct error *error)
{
	if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EXDEV)
		return fail_changed(export, index, error);
	return fail_file(export, index, strerror(errno), error);
}

/* The file, in use until open_files_put; -1 with ERROR set. */
static int use_file(struct export *export, uint32_t index, struct error *error)
{
	int fd = open_files_get(&export->open_files, index);

	if (fd >= 0)
		return fd;
	fd = open_file(export, index);
	if (fd < 0)
		return fail_to_open(export, index, error);
	open_files_add(&export->open_files, index, fd);
	return fd;
}

static int check_unchanged(struct export *export, uint32_t index, int fd, struct error *error)
{
	int unchanged = is_unchanged(export, index, fd);

	if (unchanged < 0)
		return fail_file(export, index, strerror(errno), error);
	return unchanged ? 0 : fail_changed(export, index, error);
}

/* What was read counts only if the file is the same before and after that. */
static int read_checked(struct export *export, uint32_t index, int fd, void *bytes, size_t length,
			uint64_t offset, struct error *error)
{
	if (check_unchanged(export, index, fd, error))
		return -1;

	int64_t done = read_at(fd, bytes, length, offset);
	int read_errno = errno;

	/* First: a failure may come from the change. */
	if (check_unchanged(export, index, fd, error))
		return -1;
	if (done < 0)
		return fail_file(export, index, strerror(read_errno), error);
	return (uint64_t)done == length ? 0 : fail_changed(export, index, error);
}

int export_read_file(struct export *export, uint32_t file, void *bytes, uint64_t length,
		     uint64_t offset, struct error *error)
{
	uint64_t size = export->map.files[file].size_bytes;
	uint64_t left = offset < size ? size - offset : 0;
	int fd = use_file(export, file, error);

	if (fd < 0)
		return -1;
	if (length > left) {
		memset((uint8_t *)bytes + left, 0, length - left);
		length = left;
	}
	int failed = read_checked(export, file, fd, bytes, length, offset, error);
	open_files_put(&export->open_files, file, fd);
	return failed;
}

void export_check_file(struct export *export, uint32_t file)
{
	struct error ignored;
	int fd = open_file(export, file);

	if (fd < 0) {
		fail_to_open(export, file, &ignored);
		return;
	}
	check_unchanged(export, file, fd, &ignored);
	close(fd);
}

/* --- the disk and the map --- */

static int read_whole(int fd, const char *name, void *bytes, uint64_t size, uint64_t offset,
		      struct error *error)
{
	int64_t done = read_at(fd, bytes, size, offset);

	if (done < 0)
		return error_errno(error, "cannot read the served disk's %s", name);
	if ((uint64_t)done != size)
		return error_set(error, "the served disk's %s has been cut off", name);
	return 0;
}

/* Reads up to the next change between data and what is none; how much, or 0 with ERROR set. */
static uint64_t read_some(struct export *export, void *bytes, uint64_t size, uint64_t offset,
			  struct error *error)
{
	const struct map *map = &export->map;
	uint64_t next = map_find_extent(map, offset / MAP_BLOCK_BYTES);
	uint64_t start = UINT64_MAX, end = UINT64_MAX;
	int failed;

	if (next < map->extent_count) {
		start = (uint64_t)map->extents[next].start_block * MAP_BLOCK_BYTES;
		end = start + (uint64_t)map->extents[next].blocks * MAP_BLOCK_BYTES;
	}
	if (offset < start) {
		if (size > start - offset)
			size = start - offset;
		failed = read_whole(export->disk_fd, "metadata", bytes, size, offset, error);
	} else {
		const struct map_extent *extent = &map->extents[next];

		if (size > end - offset)
			size = end - offset;
		failed = export_read_file(
			export, extent->file, bytes, size,
			(uint64_t)extent->file_block * MAP_BLOCK_BYTES + (offset - start), error);
	}
	return failed ? 0 : size;
}

int export_read_disk(struct export *export, void *bytes, uint64_t size, uint64_t offset,
		     struct error *error)
{
	for (uint64_t done = 0, length; done < size; done += length) {
		length = read_some(export, (uint8_t *)bytes + done, size - done, offset + done,
				   error);
		if (!length)
			return -1;
	}
	return 0;
}

int export_read_map(const struct export *export, void *bytes, uint64_t size, uint64_t offset,
		    struct error *error)
{
	return read_whole(export->map_fd, "map", bytes, size, offset, error);
}

/* Whether BLOCKS from START on have OFFSET; if not, but they come after it, *END is there. */
static bool has(uint64_t start, uint64_t blocks, uint64_t offset, uint64_t *end)
{
	uint64_t first = start * MAP_BLOCK_BYTES;

	if (offset >= first) {
		*end = first + blocks * MAP_BLOCK_BYTES;
		return true;
	}
	if (first < *end)
		*end = first;
	return false;
}

bool export_has_data(const struct export *export, uint64_t offset, uint64_t *end)
{
	const struct map *map = &export->map;
	uint64_t block = offset / MAP_BLOCK_BYTES;
	uint64_t extent = map_find_extent(map, block), range = map_find_metadata(map, block);

	*end = map->header->image_bytes;
	return (extent < map->extent_count &&
		has(map->extents[extent].start_block, map->extents[extent].blocks, offset, end)) ||
	       (range < map->metadata_count &&
		has(map->metadata[range].start_block, map->metadata[range].blocks, offset, end));
}
