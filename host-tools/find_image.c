#include "host-tools/find_image.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imagebuilder/verify.h"

/* BIN/jobvm has its parts beside it in a build, and in BIN/../share/jobvm where it is installed. */
static void beside_executable(const char *name, bool installed, char *path, size_t size)
{
	char executable[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", executable, sizeof(executable) - 1);

	executable[length > 0 ? length : 0] = '\0';
	const char *directory = dirname(executable);
	if (installed)
		snprintf(path, size, "%s/share/jobvm/%s", dirname(executable), name);
	else
		snprintf(path, size, "%s/%s", directory, name);
}

void find_user_data(const char *name, char *path, size_t size)
{
	const char *data = getenv("XDG_DATA_HOME");
	const char *home = getenv("HOME");

	if (data && *data)
		snprintf(path, size, "%s/jobvm/%s", data, name);
	else
		snprintf(path, size, "%s/.local/share/jobvm/%s", home ? home : "", name);
}

int find_part(const char *name, char *path, size_t size)
{
	beside_executable(name, false, path, size);
	if (access(path, F_OK) == 0)
		return 0;
	find_user_data(name, path, size);
	if (access(path, F_OK) == 0)
		return 0;
	beside_executable(name, true, path, size);
	return access(path, F_OK);
}

int find_image(const char *given, struct image *image, struct error *error)
{
	const char *wanted = given ? given : getenv("JOBVM_IMAGE");
	char path[PATH_MAX];

	if (wanted && *wanted)
		return image_load(wanted, image, error);
	if (find_part("image", path, sizeof(path)))
		return error_set(error, "no guest image: name one with --image, or make one with "
					"'jobvm image build -o DIR' and set JOBVM_IMAGE=DIR");
	return image_load(path, image, error);
}

void find_cache(char *path, size_t size)
{
	const char *cache = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	int length;

	if (cache && *cache == '/')
		length = snprintf(path, size, "%s", cache);
	else if (geteuid() == 0)
		length = snprintf(path, size, "/var/cache");
	else
		length = snprintf(path, size, "%s/.cache", home && *home == '/' ? home : "");
	if (length >= (int)(size - sizeof("/jobvm"))) {
		path[0] = '\0';
		return;
	}
	mkdir(path, 0700);
	snprintf(path + length, size - (size_t)length, "/jobvm");
	if (mkdir(path, 0755) && errno != EEXIST)
		path[0] = '\0';
}

void find_memory(char *path, size_t size)
{
	char directory[PATH_MAX];

	find_cache(directory, sizeof(directory));
	if (!directory[0] || snprintf(path, size, "%s/verified", directory) >= (int)size)
		path[0] = '\0';
}

int verify_image(const struct image *image, struct error *error)
{
	char memory[PATH_MAX];

	find_memory(memory, sizeof(memory));
	return image_verify(image, memory[0] ? memory : NULL, error);
}
