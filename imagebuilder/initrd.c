#include "imagebuilder/initrd.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imagebuilder/files.h"

#define NEWC_HEADER_BYTES 110
#define NEWC_TRAILER	  "TRAILER!!!"

struct newc_entry {
	const char *path; /* without the leading slash */
	uint32_t inode;
	mode_t mode;
	uint64_t size_bytes;
	unsigned device_major, device_minor;
};

/* Headers with their names, and data, each end on a multiple of four. */
static int pad(struct initrd *initrd, uint64_t size_bytes, struct error *error)
{
	static const char zeros[4];

	return files_write(initrd->fd, initrd->name, zeros, -size_bytes % 4, error);
}

static int write_header(struct initrd *initrd, const struct newc_entry *entry, struct error *error)
{
	char header[NEWC_HEADER_BYTES + 1 + PATH_MAX];
	size_t name_bytes = strlen(entry->path) + 1;

	if (entry->size_bytes > UINT32_MAX || name_bytes > PATH_MAX)
		return error_set(error, "%s: /%s is too large for an initrd", initrd->name,
				 entry->path);
	snprintf(header, sizeof(header),
		 "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s", entry->inode,
		 entry->mode, 0 /* uid */, 0 /* gid */, S_ISDIR(entry->mode) ? 2 : 1, 0 /* mtime */,
		 (uint32_t)entry->size_bytes, 0, 0 /* device of the file system */,
		 entry->device_major, entry->device_minor, (uint32_t)name_bytes, 0 /* check */,
		 entry->path);
	if (files_write(initrd->fd, initrd->name, header, NEWC_HEADER_BYTES + name_bytes, error))
		return -1;
	return pad(initrd, NEWC_HEADER_BYTES + name_bytes, error);
}

static int add_header(struct initrd *initrd, const char *path, struct newc_entry entry,
		      struct error *error)
{
	entry.path = path + 1;
	entry.inode = ++initrd->entry_count;
	return write_header(initrd, &entry, error);
}

int initrd_add_directory(struct initrd *initrd, const char *path, mode_t mode, struct error *error)
{
	return add_header(initrd, path, (struct newc_entry){.mode = S_IFDIR | mode}, error);
}

int initrd_add_character_device(struct initrd *initrd, const char *path, mode_t mode,
				unsigned device_major, unsigned device_minor, struct error *error)
{
	struct newc_entry entry = {
		.mode = S_IFCHR | mode,
		.device_major = device_major,
		.device_minor = device_minor,
	};

	return add_header(initrd, path, entry, error);
}

int initrd_add_bytes(struct initrd *initrd, const char *path, mode_t mode, const void *bytes,
		     size_t size, struct error *error)
{
	struct newc_entry entry = {.mode = S_IFREG | mode, .size_bytes = size};

	if (add_header(initrd, path, entry, error) ||
	    files_write(initrd->fd, initrd->name, bytes, size, error))
		return -1;
	return pad(initrd, size, error);
}

int initrd_add_file(struct initrd *initrd, const char *path, mode_t mode, const char *source,
		    struct error *error)
{
	struct newc_entry entry = {.mode = S_IFREG | mode};
	int source_fd = files_open(source, &entry.size_bytes, error);

	if (source_fd < 0)
		return -1;
	int result = add_header(initrd, path, entry, error);
	if (!result)
		result = files_copy(source_fd, source, initrd->fd, initrd->name, entry.size_bytes,
				    error);
	close(source_fd);
	return result ? -1 : pad(initrd, entry.size_bytes, error);
}

int initrd_finish(struct initrd *initrd, struct error *error)
{
	return write_header(initrd, &(struct newc_entry){.path = NEWC_TRAILER}, error);
}
