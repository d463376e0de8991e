#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host-tools/lazy/cache.h"
#include "host-tools/lazy/cache_private.h"
#include "host-tools/values.h"

#define EMPTY_DIRECTORY_SECONDS (24 * 60 * 60)
/* What a file costs beside its blocks. */
#define INODE_BYTES		512

/* A file in the cache, whatever it is. */
struct file {
	struct timespec used;
	uint64_t bytes;
	size_t directory; /* index in directories */
	char *name;
};

struct files {
	struct file *items;
	size_t count, capacity;
	char **directories;
	size_t directory_count, directory_capacity;
	uint64_t bytes;
};

static void free_files(struct files *files)
{
	for (size_t i = 0; i < files->count; i++)
		free(files->items[i].name);
	for (size_t i = 0; i < files->directory_count; i++)
		free(files->directories[i]);
	free(files->items);
	free(files->directories);
}

/* Without memory for a name, its file is left alone. */
static void add_file(struct files *files, const char *name, const struct stat *status)
{
	void *moved =
		list_room(files->items, files->count, &files->capacity, sizeof(*files->items));
	char *copy = moved ? strdup(name) : NULL;

	files->items = moved ? moved : files->items;
	if (!copy)
		return;
	struct file *file = &files->items[files->count++];
	*file = (struct file){
		.used = status->st_mtim,
		.bytes = (uint64_t)status->st_blocks * 512 + INODE_BYTES,
		.directory = files->directory_count - 1,
		.name = copy,
	};
	files->bytes += file->bytes;
}

static bool add_directory(struct files *files, const char *name)
{
	void *moved = list_room(files->directories, files->directory_count,
				&files->directory_capacity, sizeof(*files->directories));
	char *copy = moved ? strdup(name) : NULL;

	files->directories = moved ? moved : files->directories;
	if (copy)
		files->directories[files->directory_count++] = copy;
	return copy;
}

/* The directory NAME in PARENT_FD, of which a symlink is none; NULL where it cannot be read. */
static DIR *open_in(int parent_fd, const char *name)
{
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;

	if (!directory && fd >= 0)
		close(fd);
	return directory;
}

static void find_files_in(struct files *files, int root_fd, const char *name)
{
	DIR *directory = open_in(root_fd, name);
	struct dirent *entry;
	struct stat status;

	if (!directory)
		return;
	if (add_directory(files, name))
		while ((entry = readdir(directory)))
			if (fstatat(dirfd(directory), entry->d_name, &status,
				    AT_SYMLINK_NOFOLLOW) == 0 &&
			    !S_ISDIR(status.st_mode))
				add_file(files, entry->d_name, &status);
	closedir(directory);
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static void find_files(struct files *files, int root_fd)
{
	DIR *root = open_in(root_fd, ".");
	struct dirent *entry;

	if (!root)
		return;
	while ((entry = readdir(root)))
		if (!is_dots(entry->d_name))
			find_files_in(files, root_fd, entry->d_name);
	closedir(root);
}

static int by_use(const void *left, const void *right)
{
	const struct timespec *a = &((const struct file *)left)->used;
	const struct timespec *b = &((const struct file *)right)->used;

	if (a->tv_sec != b->tv_sec)
		return a->tv_sec < b->tv_sec ? -1 : 1;
	return (a->tv_nsec > b->tv_nsec) - (a->tv_nsec < b->tv_nsec);
}

static void remove_file(const struct files *files, const struct file *file, int root_fd)
{
	int fd = openat(root_fd, files->directories[file->directory],
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return;
	unlinkat(fd, file->name, 0);
	close(fd);
}

static void evict_files(int root_fd, uint64_t high_bytes, uint64_t low_bytes)
{
	struct files files = {.count = 0};

	find_files(&files, root_fd);
	if (files.bytes > high_bytes) {
		qsort(files.items, files.count, sizeof(*files.items), by_use);
		for (size_t i = 0; i < files.count && files.bytes > low_bytes; i++) {
			remove_file(&files, &files.items[i], root_fd);
			files.bytes -= files.items[i].bytes;
		}
	}
	free_files(&files);
}

void cache_evict_down(int root_fd, uint64_t high_bytes, uint64_t low_bytes)
{
	/* A lock of its own: one that is inherited or shared would not keep a thread out. */
	int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		evict_files(root_fd, high_bytes, low_bytes);
	close(fd);
}

void cache_tidy(const char *directory)
{
	DIR *root = opendir(directory);
	time_t now = time(NULL);
	struct dirent *entry;
	struct stat status;

	if (!root)
		return;
	while ((entry = readdir(root)))
		if (!is_dots(entry->d_name) &&
		    fstatat(dirfd(root), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISDIR(status.st_mode) && now - status.st_mtime > EMPTY_DIRECTORY_SECONDS)
			unlinkat(dirfd(root), entry->d_name, AT_REMOVEDIR);
	closedir(root);
}
