#include "jobdisk/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int(error_set)(struct error *error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	return -1;
}

int(error_errno)(struct error *error, const char *format, ...)
{
	int saved_errno = errno;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);

	size_t length = strlen(error->text);
	snprintf(error->text + length, sizeof(error->text) - length, ": %s", strerror(saved_errno));
	errno = saved_errno;
	return -1;
}

int(error_prefix)(struct error *error, const char *format, ...)
{
	struct error inner = *error;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);

	size_t length = strlen(error->text);
	snprintf(error->text + length, sizeof(error->text) - length, ": %s", inner.text);
	return -1;
}
