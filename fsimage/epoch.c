#include "fsimage/epoch.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#define VARIABLE "SOURCE_DATE_EPOCH"

int epoch_read(struct epoch *epoch, struct error *error)
{
	const char *text = getenv(VARIABLE);
	char *end;

	*epoch = (struct epoch){.is_set = text != NULL};
	if (!text)
		return 0;
	errno = 0;
	epoch->seconds = strtoll(text, &end, 10);
	/* strtoll takes blanks and signs too. */
	if (errno || !isdigit((unsigned char)*text) || *end)
		return error_set(error, VARIABLE ": '%s' is not a number of seconds", text);
	return 0;
}
