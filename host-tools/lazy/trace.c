#include "host-tools/lazy/trace.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The map's files in order of their paths. */
struct index {
	const struct map *map;
	uint32_t *order;
};

size_t trace_line(const struct map *map, const struct map_file *file,
		  char line[TRACE_LINE_BYTES_MAX])
{
	static const char digits[] = "0123456789ABCDEF";
	const char *path = map->strings + file->path_offset;
	size_t length = 0;

	if (file->path_bytes > TRACE_PATH_BYTES_MAX)
		return 0;
	for (uint32_t i = 0; i < file->path_bytes; i++) {
		unsigned char byte = (unsigned char)path[i];

		if (byte >= ' ' && byte <= '~' && byte != '%') {
			line[length++] = path[i];
			continue;
		}
		line[length++] = '%';
		line[length++] = digits[byte >> 4];
		line[length++] = digits[byte & 15];
	}
	line[length++] = '\n';
	return length;
}

static int compare_bytes(const char *left, size_t left_bytes, const char *right, size_t right_bytes)
{
	size_t common = left_bytes < right_bytes ? left_bytes : right_bytes;
	int order = memcmp(left, right, common);

	if (order)
		return order;
	return (left_bytes > right_bytes) - (left_bytes < right_bytes);
}

static int by_path(const void *left, const void *right, void *context)
{
	const struct map *map = context;
	const struct map_file *a = &map->files[*(const uint32_t *)left];
	const struct map_file *b = &map->files[*(const uint32_t *)right];

	return compare_bytes(map->strings + a->path_offset, a->path_bytes,
			     map->strings + b->path_offset, b->path_bytes);
}

/* The file of that path, or -1. */
static int64_t find(const struct index *index, const char *path, size_t length)
{
	const struct map *map = index->map;
	uint64_t low = 0, high = map->file_count;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		const struct map_file *file = &map->files[index->order[middle]];
		int order = compare_bytes(path, length, map->strings + file->path_offset,
					  file->path_bytes);

		if (order == 0)
			return index->order[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return -1;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes in place; returns the length, or 0 for what is no path. */
static size_t decode(char *text, size_t length)
{
	size_t done = 0;

	for (size_t i = 0; i < length; i++) {
		if (text[i] != '%') {
			text[done++] = text[i];
			continue;
		}
		int high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
		int low = i + 2 < length ? hex_digit(text[i + 2]) : -1;
		if (high < 0 || low < 0)
			return 0;
		text[done++] = (char)(high << 4 | low);
		i += 2;
	}
	return done;
}

const char *trace_next(char *bytes, size_t size, size_t *cursor, size_t *length)
{
	char *line = bytes + *cursor;

	if (*cursor >= size)
		return NULL;
	char *newline = memchr(line, '\n', size - *cursor);
	size_t line_bytes = newline ? (size_t)(newline - line) : size - *cursor;

	*cursor += line_bytes + (newline != NULL);
	*length = decode(line, line_bytes);
	return line;
}

static size_t resolve_lines(const struct index *index, char *bytes, size_t size, uint32_t *files)
{
	size_t count = 0, cursor = 0, length;
	const char *path;

	while ((path = trace_next(bytes, size, &cursor, &length))) {
		int64_t file = find(index, path, length);

		if (file >= 0)
			files[count++] = (uint32_t)file;
	}
	return count;
}

static size_t count_lines(const char *bytes, size_t size)
{
	size_t lines = 1;

	for (const char *end = bytes + size; (bytes = memchr(bytes, '\n', (size_t)(end - bytes)));
	     bytes++)
		lines++;
	return lines;
}

uint32_t *trace_resolve(const struct map *map, char *bytes, size_t size, size_t *count)
{
	struct index index = {.map = map,
			      .order = calloc(map->file_count + 1, sizeof(*index.order))};
	uint32_t *files = calloc(count_lines(bytes, size), sizeof(*files));

	*count = 0;
	if (index.order && files) {
		for (uint64_t i = 0; i < map->file_count; i++)
			index.order[i] = (uint32_t)i;
		qsort_r(index.order, map->file_count, sizeof(*index.order), by_path,
			(void *)(uintptr_t)map);
		*count = resolve_lines(&index, bytes, size, files);
	}
	free(index.order);
	return files;
}
