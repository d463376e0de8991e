#include "imagebuilder/gunzip.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define GZIP_ONLY 16 /* zlib's: added to the number of window bits */

struct gunzip {
	z_stream stream;
	bool is_between; /* a member has ended; another one may follow */
	bool is_at_end;
	unsigned char output[65536];
};

struct gunzip *gunzip_new(void)
{
	struct gunzip *gunzip = calloc(1, sizeof(*gunzip));

	if (gunzip && inflateInit2(&gunzip->stream, MAX_WBITS + GZIP_ONLY) == Z_OK)
		return gunzip;
	free(gunzip);
	return NULL;
}

void gunzip_free(struct gunzip *gunzip)
{
	if (gunzip)
		inflateEnd(&gunzip->stream);
	free(gunzip);
}

bool gunzip_knows(const char *bytes, size_t size)
{
	return size >= 2 && memcmp(bytes, "\x1f\x8b", 2) == 0;
}

static void set_input(struct gunzip *gunzip, const struct byte_source *source, size_t size)
{
	gunzip->stream.next_in = (unsigned char *)(uintptr_t)source->buffer;
	gunzip->stream.avail_in = (unsigned)size;
}

void gunzip_start(struct gunzip *gunzip, const struct byte_source *source, size_t size)
{
	set_input(gunzip, source, size);
}

/* Makes sure that there is input: 1, or 0 at the source's end. */
static int fill(struct gunzip *gunzip, struct byte_source *source, const char **problem)
{
	ssize_t got;

	if (gunzip->stream.avail_in > 0)
		return 1;
	got = byte_source_read(source);
	if (got < 0)
		*problem = strerror(errno);
	else
		set_input(gunzip, source, (size_t)got);
	return got < 0 ? -1 : got > 0;
}

/* Behind a member: the next one, or padding, which tapes have and gzip ignores too. */
static int start_member(struct gunzip *gunzip, struct byte_source *source, const char **problem)
{
	int more = fill(gunzip, source, problem);

	if (more <= 0)
		return more;
	if (*gunzip->stream.next_in != 0x1f) {
		gunzip->is_at_end = true;
		return 0;
	}
	inflateReset(&gunzip->stream);
	gunzip->is_between = false;
	return 1;
}

static int inflate_some(struct gunzip *gunzip, struct byte_source *source, const char **problem)
{
	int more = fill(gunzip, source, problem);

	if (more == 0)
		*problem = "truncated gzip data";
	if (more <= 0)
		return -1;
	int result = inflate(&gunzip->stream, Z_NO_FLUSH);
	gunzip->is_between = result == Z_STREAM_END;
	if (result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR)
		return 1;
	*problem = gunzip->stream.msg ? gunzip->stream.msg : "damaged gzip data";
	return -1;
}

ssize_t gunzip_read(struct gunzip *gunzip, struct byte_source *source, const void **bytes,
		    const char **problem)
{
	int result = 1;

	*bytes = gunzip->output;
	gunzip->stream.next_out = gunzip->output;
	gunzip->stream.avail_out = sizeof(gunzip->output);
	while (result == 1 && !gunzip->is_at_end && gunzip->stream.avail_out > 0)
		result = gunzip->is_between ? start_member(gunzip, source, problem)
					    : inflate_some(gunzip, source, problem);
	return result < 0 ? -1 : (ssize_t)(sizeof(gunzip->output) - gunzip->stream.avail_out);
}

size_t gunzip_pending(const struct gunzip *gunzip)
{
	return gunzip->stream.avail_in;
}
