#include "host-tools/vmm/log.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void log_append(struct log *log, const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++, log->total_bytes++) {
		if (log->total_bytes < LOG_PART_BYTES)
			log->head[log->total_bytes] = bytes[i];
		else
			log->tail[log->total_bytes % LOG_PART_BYTES] = bytes[i];
	}
}

static size_t head_length(const struct log *log)
{
	return log->total_bytes < LOG_PART_BYTES ? (size_t)log->total_bytes : LOG_PART_BYTES;
}

/* Unrolls the ring into TAIL (LOG_PART_BYTES); returns its length. */
static size_t copy_tail(const struct log *log, char *tail)
{
	uint64_t behind_head = log->total_bytes - head_length(log);
	size_t length = behind_head < LOG_PART_BYTES ? (size_t)behind_head : LOG_PART_BYTES;

	for (size_t i = 0; i < length; i++)
		tail[i] = log->tail[(log->total_bytes - length + i) % LOG_PART_BYTES];
	return length;
}

char *log_text(const struct log *log)
{
	char tail[LOG_PART_BYTES];
	size_t head_bytes = head_length(log), tail_bytes = copy_tail(log, tail);
	uint64_t missing = log->total_bytes - head_bytes - tail_bytes;
	char *text = malloc(head_bytes + tail_bytes + 80);
	size_t length = head_bytes;

	if (!text)
		return NULL;
	memcpy(text, log->head, head_bytes);
	if (missing > 0)
		length += (size_t)sprintf(text + length, "\n[jobvm: %" PRIu64 " bytes left out]\n",
					  missing);
	memcpy(text + length, tail, tail_bytes);
	length += tail_bytes;
	/* A text, whatever the guest wrote. */
	for (size_t i = 0; i < length; i++)
		if (text[i] == '\0')
			text[i] = '?';
	text[length] = '\0';
	return text;
}

/* Looks from the end of TEXT backwards, line by line. */
static bool find_last(const char *bytes, size_t length, const char *text, char *line, size_t size)
{
	while (length > 0) {
		const char *newline = memrchr(bytes, '\n', length);
		const char *start = newline ? newline + 1 : bytes;
		size_t line_length = length - (size_t)(start - bytes);
		while (line_length > 0 && start[line_length - 1] == '\r')
			line_length--;
		if (line_length > 0 && memmem(start, line_length, text, strlen(text))) {
			snprintf(line, size, "%.*s", (int)line_length, start);
			return true;
		}
		length = newline ? (size_t)(newline - bytes) : 0;
	}
	return false;
}

/* In the text as it is shown: a line may lie half in the head and half in the tail. */
int log_find_last(const struct log *log, const char *text, char *line, size_t size)
{
	char *kept = log_text(log);
	bool found = kept && find_last(kept, strlen(kept), text, line, size);

	free(kept);
	return found;
}
