#include "host-tools/suspend/state_key.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host-tools/find_image.h"

#define KEY_FILE       "state.key"
#define KEY_TEXT_BYTES (2 * STATE_KEY_BYTES + 1) /* with the newline */

static int decode(const char *text, uint8_t key[STATE_KEY_BYTES])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < 2 * STATE_KEY_BYTES; i++) {
		const char *digit = text[i] ? strchr(digits, text[i]) : NULL;
		if (!digit)
			return -1;
		key[i / 2] = (uint8_t)(key[i / 2] << 4 | (digit - digits));
	}
	return text[KEY_TEXT_BYTES - 1] == '\n' ? 0 : -1;
}

/* 0; 1 when there is no such file; -1 with ERROR set. */
static int read_file(const char *path, uint8_t key[STATE_KEY_BYTES], struct error *error)
{
	char text[KEY_TEXT_BYTES + 1];
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0 && errno == ENOENT)
		return 1;
	if (fd < 0)
		return error_errno(error, "open the key %s", path);
	ssize_t length = read(fd, text, sizeof(text));
	int failed = fstat(fd, &status);
	close(fd);
	if (failed || length < 0)
		return error_errno(error, "read the key %s", path);
	if (!S_ISREG(status.st_mode) || status.st_mode & (S_IRWXG | S_IRWXO) ||
	    (status.st_uid != geteuid() && status.st_uid != 0))
		return error_set(error,
				 "the key %s must be a file that nobody but you can read: "
				 "'chmod 600 %s'",
				 path, path);
	if (length != KEY_TEXT_BYTES || decode(text, key))
		return error_set(error,
				 "the key %s is not %d hexadecimal digits and a newline, as "
				 "'openssl rand -hex %d' makes them",
				 path, 2 * STATE_KEY_BYTES, STATE_KEY_BYTES);
	return 0;
}

static int make_directories(const char *path, struct error *error)
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(copy, 0700) && errno != EEXIST)
			return error_errno(error, "make directory %s", copy);
		*slash = '/';
	}
	return 0;
}

/* PATH ends in XXXXXX, and then in what nobody else has: not on another host either. */
static int write_new(char *path, const char *text, struct error *error)
{
	int fd = mkostemp(path, O_CLOEXEC);

	if (fd < 0)
		return error_errno(error, "make the key %s", path);
	int failed = write(fd, text, KEY_TEXT_BYTES) != KEY_TEXT_BYTES || fsync(fd)
			     ? error_errno(error, "write the key %s", path)
			     : 0;
	close(fd);
	return failed;
}

/* Of two that make one at once, the first gives it its name, and both use that. */
static int make_file(const char *path, struct error *error)
{
	uint8_t key[STATE_KEY_BYTES];
	char text[KEY_TEXT_BYTES + 1], beside[PATH_MAX];

	if (make_directories(path, error))
		return -1;
	if (getrandom(key, sizeof(key), 0) != sizeof(key))
		return error_errno(error, "make a key");
	for (size_t i = 0; i < sizeof(key); i++)
		snprintf(text + 2 * i, 3, "%02x", key[i]);
	text[KEY_TEXT_BYTES - 1] = '\n';
	snprintf(beside, sizeof(beside), "%.4000s.XXXXXX", path);
	int failed = write_new(beside, text, error);
	if (!failed && link(beside, path) && errno != EEXIST)
		failed = error_errno(error, "name the key %s", path);
	unlink(beside);
	return failed;
}

int state_key_read(const char *path, uint8_t key[STATE_KEY_BYTES], struct error *error)
{
	char own[PATH_MAX];

	if (path) {
		int found = read_file(path, key, error);
		return found > 0 ? error_set(error,
					     "the key %s is not there; 'openssl rand -hex %d' "
					     "makes one",
					     path, STATE_KEY_BYTES)
				 : found;
	}
	find_user_data(KEY_FILE, own, sizeof(own));
	int found = read_file(own, key, error);
	if (found > 0 && make_file(own, error) == 0)
		found = read_file(own, key, error);
	return found ? -1 : 0;
}
