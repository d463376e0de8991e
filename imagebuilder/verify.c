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
	if (!path || !path[0])
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

/* As verify_file, with the memory open. */
static int check_file(const struct memory *memory, int fd, const char *name,
		      digest_function *digest, const char *sha256, struct error *error)
{
	char line[LINE_BYTES], hex[DIGEST_HEX_BYTES];
	struct stat stat;

	if (fstat(fd, &stat))
		return error_errno(error, "stat %s", name);
	make_line(sha256, &stat, line);
	if (strstr(memory->text, line))
		return 0;
	if (digest(fd, name, hex, error))
		return -1;
	if (strcmp(hex, sha256) != 0)
		return 1;
	remember(memory, &stat, line);
	return 0;
}

static int verify_part(const struct memory *memory, const char *part, const char *path,
		       const char *sha256, struct error *error)
{
	uint64_t size_bytes;
	int fd = files_open(path, &size_bytes, error);

	if (fd < 0)
		return -1;
	int result = check_file(memory, fd, path, digest_file_hex, sha256, error);
	close(fd);
	if (result > 0)
		return error_set(error,
				 "%s: the image's %s is damaged or was changed since it was built",
				 path, part);
	return result;
}

int verify_file(int fd, const char *name, digest_function *digest, const char *sha256,
		const char *memory_path, struct error *error)
{
	struct memory *memory = malloc(sizeof(*memory));

	if (!memory)
		return error_set(error, "out of memory");
	open_memory(memory, memory_path);
	int result = check_file(memory, fd, name, digest, sha256, error);
	close_memory(memory);
	free(memory);
	return result;
}

/* What the memory has of a file: its line begins with the digest. */
static bool recall(const struct memory *memory, const struct stat *stat,
		   char sha256[DIGEST_HEX_BYTES])
{
	char line[LINE_BYTES];

	make_line("", stat, line);
	const char *place = strstr(memory->text, line);
	if (!place || place - memory->text < DIGEST_HEX_BYTES - 1)
		return false;
	memcpy(sha256, place - (DIGEST_HEX_BYTES - 1), DIGEST_HEX_BYTES - 1);
	sha256[DIGEST_HEX_BYTES - 1] = '\0';
	return true;
}

static int find_digest(const struct memory *memory, int fd, const char *path,
		       char sha256[DIGEST_HEX_BYTES], struct error *error)
{
	char line[LINE_BYTES];
	struct stat stat;

	if (fstat(fd, &stat))
		return error_errno(error, "stat %s", path);
	if (recall(memory, &stat, sha256))
		return 0;
	if (digest_file_hex(fd, path, sha256, error))
		return -1;
	make_line(sha256, &stat, line);
	remember(memory, &stat, line);
	return 0;
}

int verify_digest(const char *path, const char *memory_path, char sha256[DIGEST_HEX_BYTES],
		  struct error *error)
{
	uint64_t size_bytes;
	int fd = files_open(path, &size_bytes, error);
	struct memory *memory = malloc(sizeof(*memory));
	int result = -1;

	if (!memory)
		error_set(error, "out of memory");
	if (fd >= 0 && memory) {
		open_memory(memory, memory_path);
		result = find_digest(memory, fd, path, sha256, error);
		close_memory(memory);
	}
	if (fd >= 0)
		close(fd);
	free(memory);
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
