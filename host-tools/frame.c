#include "host-tools/frame.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

struct header {
	uint32_t type, length;
};

void frame_begin(struct frame *frame, uint32_t type)
{
	frame->type = type;
	frame->length = frame->position = 0;
	frame->bad = false;
}

static void put(struct frame *frame, const void *bytes, size_t size)
{
	if (size > FRAME_BYTES_MAX - frame->length) {
		frame->bad = true;
		return;
	}
	memcpy(frame->bytes + frame->length, bytes, size);
	frame->length += (uint32_t)size;
}

void frame_put_number(struct frame *frame, uint64_t number)
{
	put(frame, &number, sizeof(number));
}

void frame_put_bytes(struct frame *frame, const void *bytes, size_t size)
{
	frame_put_number(frame, size);
	put(frame, bytes, size);
}

void frame_put_text(struct frame *frame, const char *text)
{
	put(frame, text, strlen(text) + 1);
}

int frame_send(const struct frame *frame, FILE *pipe)
{
	const struct header header = {frame->type, frame->length};

	if (frame->bad) {
		errno = EMSGSIZE;
		return -1;
	}
	if (fwrite(&header, sizeof(header), 1, pipe) != 1)
		return -1;
	return frame->length == 0 || fwrite(frame->bytes, frame->length, 1, pipe) == 1 ? 0 : -1;
}

int frame_receive(struct frame *frame, FILE *pipe)
{
	struct header header;
	size_t got = fread(&header, 1, sizeof(header), pipe);

	if (got == 0 && feof(pipe))
		return 0;
	if (got != sizeof(header) || header.length > FRAME_BYTES_MAX)
		return -1;
	frame_begin(frame, header.type);
	frame->length = header.length;
	if (header.length > 0 && fread(frame->bytes, header.length, 1, pipe) != 1)
		return -1;
	return 1;
}

static const void *get(struct frame *frame, size_t size)
{
	const void *bytes = frame->bytes + frame->position;

	if (frame->bad || size > frame->length - frame->position) {
		frame->bad = true;
		return NULL;
	}
	frame->position += (uint32_t)size;
	return bytes;
}

uint64_t frame_get_number(struct frame *frame)
{
	const void *bytes = get(frame, sizeof(uint64_t));
	uint64_t number = 0;

	if (bytes)
		memcpy(&number, bytes, sizeof(number));
	return number;
}

const void *frame_get_bytes(struct frame *frame, size_t *size)
{
	uint64_t length = frame_get_number(frame);
	const void *bytes = length <= FRAME_BYTES_MAX ? get(frame, length) : NULL;

	frame->bad = frame->bad || !bytes;
	*size = bytes ? length : 0;
	return bytes ? bytes : "";
}

const char *frame_get_text(struct frame *frame)
{
	size_t left = frame->length - frame->position;
	const uint8_t *text = frame->bytes + frame->position;
	const uint8_t *end = frame->bad ? NULL : memchr(text, '\0', left);

	if (!end) {
		frame->bad = true;
		return "";
	}
	return get(frame, (size_t)(end - text) + 1);
}

static bool is_path_below(const char *path)
{
	if (strlen(path) >= PATH_MAX)
		return false;
	for (;;) {
		size_t length = strcspn(path, "/");
		if (length == 0 || (length <= 2 && strncmp(path, "..", length) == 0))
			return false;
		if (path[length] == '\0')
			return true;
		path += length + 1;
	}
}

const char *frame_get_path(struct frame *frame)
{
	const char *path = frame_get_text(frame);

	if (is_path_below(path))
		return path;
	frame->bad = true;
	return "";
}

bool frame_is_whole(const struct frame *frame)
{
	return !frame->bad && frame->position == frame->length;
}
