#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "init/init.h"

int write_file(const char *path, const char *text, struct error *error)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(error, "open %s", path);
	ssize_t written = write(fd, text, strlen(text));
	int saved_errno = errno;
	close(fd);
	errno = saved_errno;
	if (written != (ssize_t)strlen(text))
		return error_errno(error, "write '%s' to %s", text, path);
	return 0;
}

int write_number(const char *path, uint64_t number, struct error *error)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%" PRIu64, number);
	return write_file(path, digits, error);
}

ssize_t read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	ssize_t length = read(fd, text, size - 1);
	close(fd);
	text[length < 0 ? 0 : length] = '\0';
	return length;
}

uint64_t read_number(const char *path, const char *key)
{
	char text[1024];
	const char *number = text;

	if (read_file(path, text, sizeof(text)) <= 0)
		return RECORD_UNSET;
	if (key) {
		size_t length = strlen(key);
		while (strncmp(number, key, length) != 0 || number[length] != ' ') {
			number = strchr(number, '\n');
			if (!number)
				return RECORD_UNSET;
			number++;
		}
		number += length + 1;
	}
	return strtoull(number, NULL, 10);
}

uint64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
