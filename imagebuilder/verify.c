#include "imagebuilder/verify.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "imagebuilder/digest.h"
#include "imagebuilder/files.h"

#define LINE_BYTES	256
/* Some hundred parts; a memory that has grown beyond it is begun anew. */
#define MEMORY_BYTES	65536
/* A file that changed so recently may change again without a new time. */
#define SETTLED_SECONDS 2

/* What is known to be whole, one line each, as make_line makes them. */
struct memory {
	int fd; /* -1: none that can be trusted */
	char text[MEMORY_BYTES + 1];
};

static bool is_trusted(int fd, struct stat *stat)
{
	return fstat(fd, stat) == 0 && S_ISREG(stat->st_mode) && stat->st_uid == geteuid() &&
	       !(stat->st_mode & (S_IWGRP | S_IWOTH));
}

static void close_memory(struct memory *memory)
{
	if (memory->fd >= 0)
		close(memory->fd);
	memory->fd = -1;
}

static void open_memory(struct memory *memory, const char *path)
{
	struct stat stat;

	memory->text[0] = '\0';
	memory->fd = -1;
	if (!path)
		return;
	memory->fd =
		open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (memory->fd < 0)
		return;
	if (!is_trusted(memory->fd, &stat) ||
	    (stat.st_size > MEMORY_BYTES && ftruncate(memory->fd, 0))) {
		close_memory(memory);
		return;
	}
	ssize_t length = pread(memory->fd, memory->text, MEMORY_BYTES, 0);
	memory->text[length > 0 ? length : 0] = '\0';
}

static void make_line(const char *sha256, const struct stat *stat, char line[LINE_BYTES])
{
	snprintf(line, LINE_BYTES, "%s %llu:%llu %lld %lld.%09ld %lld.%09ld\n", sha256,
		 (unsigned long long)stat->st_dev, (unsigned long long)stat->st_ino,
		 (long long)stat->st_size, (long long)stat->st_mtim.tv_sec, stat->st_mtim.tv_nsec,
		 (long long)stat->st_ctim.tv_sec, stat->st_ctim.tv_nsec);
}

/* A line is one write, so that two who remember at once do not mix. */
static void remember(const struct memory *memory, const struct stat *stat, const char *line)
{
	if (memory->fd < 0 || stat->st_ctim.tv_sec + SETTLED_SECONDS >= time(NULL))
		return;
	if (write(memory->fd, line, strlen(line)) < 0)
		return; /* it will be read again, that is all */
}

static int compare(int fd, const char *part, const char *path, const char *sha256,
		   struct error *error)
{
	char hex[DIGEST_HEX_BYTES];

	if (digest_file_hex(fd, path, hex, error))
		return -1;
	if (strcmp(hex, sha256) == 0)
		return 0;
	return error_set(error, "%s: the image's %s is damaged or was changed since it was built",
			 path, part);
}

static int verify_part(const struct memory *memory, const char *part, const char *path,
		       const char *sha256, struct error *error)
{
	char line[LINE_BYTES];
	uint64_t size_bytes;
	struct stat stat;
	int fd = files_open(path, &size_bytes, error);
	int result = 0;

	if (fd < 0)
		return -1;
	if (fstat(fd, &stat)) {
		close(fd);
		return error_errno(error, "stat %s", path);
	}
	make_line(sha256, &stat, line);
	if (!strstr(memory->text, line)) {
		result = compare(fd, part, path, sha256, error);
		if (!result)
			remember(memory, &stat, line);
	}
	close(fd);
	return result;
}

int image_verify(const struct image *image, const char *memory_path, struct error *error)
{
	const struct {
		const char *name, *path, *sha256;
	} parts[] = {
		{"kernel", image->kernel, image->kernel_sha256},
		{"initrd", image->initrd, image->initrd_sha256},
		{"root", image->root, image->root_sha256},
	};
	struct memory *memory = malloc(sizeof(*memory));
	int result = 0;

	if (!memory)
		return error_set(error, "out of memory");
	open_memory(memory, memory_path);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && !result; i++)
		if (parts[i].path)
			result = verify_part(memory, parts[i].name, parts[i].path, parts[i].sha256,
					     error);
	close_memory(memory);
	free(memory);
	return result;
}
