#include "host-tools/sidefile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fsimage/copy.h"
#include "host-tools/pack.h"

static void side_name(const char *path, char *name, size_t size)
{
	snprintf(name, size, "%s.host.json", path);
}

static void inputs_name(const char *path, char *name, size_t size)
{
	snprintf(name, size, "%s.inputs", path);
}

static int write_inputs(const char *path, int inputs_fd, struct error *error)
{
	char name[PATH_MAX];
	struct packed copy;

	inputs_name(path, name, sizeof(name));
	if (pack_open(name, &copy, error))
		return -1;
	unlink(name);
	if (copy_whole(inputs_fd, copy.fd)) {
		error_errno(error, "write %s", name);
		pack_discard(&copy);
		return -1;
	}
	int failed = pack_publish(&copy, name, error);
	close(copy.fd);
	return failed;
}

int sidefile_open_inputs(const char *path)
{
	char name[PATH_MAX];

	inputs_name(path, name, sizeof(name));
	return open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

int sidefile_write(const char *path, const json_t *host, int inputs_fd, struct error *error)
{
	char name[PATH_MAX], beside[PATH_MAX];

	if (inputs_fd >= 0 && write_inputs(path, inputs_fd, error))
		return -1;
	side_name(path, name, sizeof(name));
	snprintf(beside, sizeof(beside), "%.4000s.%d", name, (int)getpid());
	int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return error_errno(error, "make %s", beside);
	int failed = json_dumpfd(host, fd, JSON_INDENT(2)) || write(fd, "\n", 1) != 1 || fsync(fd);
	failed = close(fd) || failed;
	if (!failed && rename(beside, name) == 0)
		return 0;
	error_errno(error, "write %s", name);
	unlink(beside);
	return -1;
}

void sidefile_remove(const char *path)
{
	char name[PATH_MAX];

	side_name(path, name, sizeof(name));
	unlink(name);
	inputs_name(path, name, sizeof(name));
	unlink(name);
}

int sidefile_read(const char *path, json_t **host, struct error *error)
{
	char name[PATH_MAX];
	json_error_t wrong;

	side_name(path, name, sizeof(name));
	if (access(name, F_OK) && errno == ENOENT)
		return 1;
	*host = json_load_file(name, 0, &wrong);
	if (!*host)
		return error_set(error, "%s:%d: %s", name, wrong.line, wrong.text);
	return 0;
}
