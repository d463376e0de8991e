#include <unistd.h>

#include "host-tools/lazy/export_private.h"

void open_files_init(struct open_files *files)
{
	pthread_mutex_init(&files->lock, NULL);
	files->uses = 0;
	for (size_t set = 0; set < OPEN_FILES_SETS; set++)
		for (size_t way = 0; way < OPEN_FILES_WAYS; way++)
			files->slots[set][way] = (struct open_file){.fd = -1};
}

void open_files_close(struct open_files *files)
{
	for (size_t set = 0; set < OPEN_FILES_SETS; set++)
		for (size_t way = 0; way < OPEN_FILES_WAYS; way++)
			if (files->slots[set][way].fd >= 0)
				close(files->slots[set][way].fd);
	pthread_mutex_destroy(&files->lock);
}

static struct open_file *find(struct open_files *files, uint32_t file, int fd)
{
	struct open_file *set = files->slots[file % OPEN_FILES_SETS];

	for (size_t way = 0; way < OPEN_FILES_WAYS; way++)
		if (set[way].fd >= 0 && set[way].file == file && (fd < 0 || set[way].fd == fd))
			return &set[way];
	return NULL;
}

int open_files_get(struct open_files *files, uint32_t file)
{
	int fd = -1;

	pthread_mutex_lock(&files->lock);

	struct open_file *slot = find(files, file, -1);

	if (slot) {
		slot->users++;
		slot->last_use = ++files->uses;
		fd = slot->fd;
	}
	pthread_mutex_unlock(&files->lock);
	return fd;
}

/* An empty slot, or that of the file whose last use is longest ago; NULL: all are in use. */
static struct open_file *find_room(struct open_files *files, uint32_t file)
{
	struct open_file *set = files->slots[file % OPEN_FILES_SETS], *oldest = NULL;

	for (size_t way = 0; way < OPEN_FILES_WAYS; way++) {
		if (set[way].fd < 0)
			return &set[way];
		if (!set[way].users && (!oldest || set[way].last_use < oldest->last_use))
			oldest = &set[way];
	}
	return oldest;
}

void open_files_add(struct open_files *files, uint32_t file, int fd)
{
	int old_fd = -1;

	pthread_mutex_lock(&files->lock);

	struct open_file *slot = find_room(files, file);

	if (slot) {
		old_fd = slot->fd;
		*slot = (struct open_file){
			.fd = fd, .file = file, .users = 1, .last_use = ++files->uses};
	}
	pthread_mutex_unlock(&files->lock);
	if (old_fd >= 0)
		close(old_fd);
}

void open_files_put(struct open_files *files, uint32_t file, int fd)
{
	pthread_mutex_lock(&files->lock);

	struct open_file *slot = find(files, file, fd);

	if (slot)
		slot->users--;
	pthread_mutex_unlock(&files->lock);
	if (!slot)
		close(fd);
}
