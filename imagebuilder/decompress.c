#include "imagebuilder/decompress.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

#include "imagebuilder/gunzip.h"

struct decompress decompress_start(struct byte_source *source, struct digest *digest)
{
	return (struct decompress){.source = source, .digest = digest};
}

void decompress_end(struct decompress *decompress)
{
	archive_read_free(decompress->filter);
	gunzip_free(decompress->gunzip);
	decompress->filter = NULL;
	decompress->gunzip = NULL;
}

/* --- all but gzip: a libarchive "archive" with one entry, which is the plain bytes --- */

static la_ssize_t read_source(struct archive *filter, void *context, const void **bytes)
{
	struct decompress *decompress = context;
	ssize_t got = decompress->first_bytes;

	decompress->first_bytes = 0;
	if (got == 0)
		got = byte_source_read(decompress->source);
	if (got < 0)
		archive_set_error(filter, EIO, "%s", strerror(errno));
	*bytes = decompress->source->buffer;
	return got;
}

static int fail(struct archive *filter, const char **problem)
{
	*problem = filter ? archive_error_string(filter) : NULL;
	if (!*problem)
		*problem = "out of memory";
	return -1;
}

static int open_filter(struct decompress *decompress, const char **problem)
{
	struct archive *filter = decompress->filter = archive_read_new();
	struct archive_entry *entry;

	if (!filter || archive_read_support_format_raw(filter) ||
	    archive_read_support_format_empty(filter) ||
	    archive_read_support_filter_bzip2(filter) || archive_read_support_filter_xz(filter) ||
	    archive_read_support_filter_zstd(filter) ||
	    archive_read_open(filter, decompress, NULL, read_source, NULL))
		return fail(filter, problem);

	int result = archive_read_next_header(filter, &entry);

	return result == ARCHIVE_OK || result == ARCHIVE_EOF ? 0 : fail(filter, problem);
}

static ssize_t read_filter(struct decompress *decompress, const void **bytes, const char **problem)
{
	size_t size = 0;
	la_int64_t offset;
	int result;

	do {
		result = archive_read_data_block(decompress->filter, bytes, &size, &offset);
	} while (result == ARCHIVE_OK && size == 0);
	if (result == ARCHIVE_EOF)
		return 0;
	return result == ARCHIVE_OK ? (ssize_t)size : fail(decompress->filter, problem);
}

/* --- both --- */

static int find_out(struct decompress *decompress, const char **problem)
{
	struct byte_source *source = decompress->source;
	ssize_t got = byte_source_read(source);

	if (got < 0) {
		*problem = strerror(errno);
		return -1;
	}
	if (!gunzip_knows(source->buffer, (size_t)got)) {
		decompress->first_bytes = got;
		return open_filter(decompress, problem);
	}
	decompress->gunzip = gunzip_new();
	if (!decompress->gunzip)
		return fail(NULL, problem);
	gunzip_start(decompress->gunzip, source, (size_t)got);
	return 0;
}

ssize_t decompress_read(struct decompress *decompress, const void **bytes, const char **problem)
{
	ssize_t got;

	if (!decompress->gunzip && !decompress->filter && find_out(decompress, problem))
		return -1;
	if (decompress->gunzip)
		got = gunzip_read(decompress->gunzip, decompress->source, bytes, problem);
	else
		got = read_filter(decompress, bytes, problem);
	if (got > 0 && decompress->digest)
		digest_add(decompress->digest, *bytes, (size_t)got);
	return got;
}

uint64_t decompress_offset(const struct decompress *decompress)
{
	if (decompress->gunzip)
		return decompress->source->done - gunzip_pending(decompress->gunzip);
	return decompress->filter ? (uint64_t)archive_filter_bytes(decompress->filter, -1) : 0;
}
