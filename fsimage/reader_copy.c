#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fsimage/copy.h"
#include "fsimage/reader_private.h"

static uint64_t minimum(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Bytes of a file that are together in the image, or together not there. */
struct piece {
	uint64_t length;
	uint64_t from; /* in the image; 0: zeros */
};

/* The piece of MAP's file that starts at OFFSET, cut to LENGTH. */
static struct piece find_piece(const struct file_map *map, uint64_t offset, uint64_t length)
{
	size_t found = map_find(map, offset / IMAGE_BLOCK_BYTES);

	if (found == map->count)
		return (struct piece){.length = length};

	const struct map_extent *extent = &map->extents[found];
	uint64_t start = (uint64_t)extent->logical * IMAGE_BLOCK_BYTES;
	uint64_t end = start + (uint64_t)extent->count * IMAGE_BLOCK_BYTES;

	if (offset < start)
		return (struct piece){.length = minimum(length, start - offset)};
	return (struct piece){
		.length = minimum(length, end - offset),
		.from = extent->unwritten
				? 0
				: (uint64_t)extent->physical * IMAGE_BLOCK_BYTES + offset - start,
	};
}

/* Reads SIZE bytes that lie within the file, holes as zeros. */
static int read_bytes(struct fsimage *image, const struct file_map *map, uint64_t offset,
		      void *bytes, size_t size, struct error *error)
{
	for (size_t done = 0; done < size;) {
		struct piece piece = find_piece(map, offset + done, size - done);
		uint8_t *to = (uint8_t *)bytes + done;

		if (!piece.from)
			memset(to, 0, piece.length);
		else if (read_at(image->fd, to, piece.length, piece.from) != (int64_t)piece.length)
			return inode_fail(image, map->inode, "cannot read its data", error);
		done += piece.length;
	}
	return 0;
}

int64_t map_read(struct fsimage *image, uint64_t offset, void *bytes, size_t size,
		 struct error *error)
{
	uint64_t file_bytes = image->map->size_bytes;

	size = offset < file_bytes ? minimum(size, file_bytes - offset) : 0;
	return read_bytes(image, image->map, offset, bytes, size, error) < 0 ? -1 : (int64_t)size;
}

/*
 * Files of an image that is not a lie have together no more data than it has room for, and each is
 * compared once or twice.
 */
#define COMPARED_PER_IMAGE_MAX 4

static int count_compared(struct fsimage *image, uint64_t length, struct error *error)
{
	/* A small piece costs as much as a block does. */
	image->compared_bytes += length < IMAGE_BLOCK_BYTES ? IMAGE_BLOCK_BYTES : length;
	if (image->compared_bytes / IMAGE_BLOCK_BYTES / COMPARED_PER_IMAGE_MAX > image->block_count)
		return error_set(error, "%s: its files are too many to compare", image->name);
	return 0;
}

/* 1 when LENGTH bytes at OFFSET are the same in both, 0 when not, -1 on error. */
static int same_bytes(struct fsimage *image, const struct file_map *a, const struct file_map *b,
		      uint64_t offset, uint64_t length, struct error *error)
{
	static uint8_t bytes_a[65536], bytes_b[65536];

	for (uint64_t done = 0; done < length; done += sizeof(bytes_a)) {
		size_t size = minimum(sizeof(bytes_a), length - done);

		if (read_bytes(image, a, offset + done, bytes_a, size, error) < 0 ||
		    read_bytes(image, b, offset + done, bytes_b, size, error) < 0)
			return -1;
		if (memcmp(bytes_a, bytes_b, size) != 0)
			return 0;
	}
	return 1;
}

static int same_maps(struct fsimage *image, const struct file_map *a, const struct file_map *b,
		     struct error *error)
{
	uint64_t size = a->size_bytes;

	if (b->size_bytes != size)
		return 0;
	for (uint64_t offset = 0; offset < size;) {
		struct piece piece = find_piece(a, offset, size - offset);
		struct piece other = find_piece(b, offset, piece.length);
		bool empty = !piece.from && !other.from;
		int same = 1;

		if (count_compared(image, empty ? 0 : other.length, error) < 0)
			return -1;
		if (!empty)
			same = same_bytes(image, a, b, offset, other.length, error);
		if (same != 1)
			return same;
		offset += other.length;
	}
	return 1;
}

int fsimage_same(struct fsimage *image, uint32_t a, uint32_t b, struct error *error)
{
	if (map_load(image, a, S_IFREG, error) < 0)
		return -1;

	const struct file_map *map_a = image->map;

	if (map_load(image, b, S_IFREG, error) < 0)
		return -1;
	return same_maps(image, map_a, image->map, error);
}

int64_t fsimage_read(struct fsimage *image, uint32_t inode, uint64_t offset, void *bytes,
		     size_t size, struct error *error)
{
	if (map_load(image, inode, S_IFREG, error) < 0)
		return -1;
	return map_read(image, offset, bytes, size, error);
}

static int fail_output(const char *output_name, struct error *error)
{
	if (is_full(errno))
		return error_set(error, "%s: the file system that it is on is full", output_name);
	return error_errno(error, "cannot write %s", output_name);
}

/* A copy that is going on. */
struct copy {
	struct fsimage *image;
	int output_fd;
	const char *output_name;
	fsimage_copied *copied;
	void *context;
	struct error *error;
	uint64_t end; /* of what is there so far */
};

static int copy_piece(struct copy *copy, uint64_t from, uint64_t start, uint64_t length)
{
	struct fsimage *image = copy->image;
	int64_t done = copy_at(image->fd, from, copy->output_fd, start, length);

	if (done < 0)
		return fail_output(copy->output_name, copy->error);
	if ((uint64_t)done != length)
		return inode_fail(image, image->map->inode, "its data ends early", copy->error);
	copy->end = start + length;
	if (copy->copied && copy->copied(copy->context, start, start + length, copy->error))
		return -1;
	return 0;
}

static int copy_extent(struct copy *copy, const struct map_extent *extent)
{
	uint64_t start = (uint64_t)extent->logical * IMAGE_BLOCK_BYTES;
	uint64_t from = (uint64_t)extent->physical * IMAGE_BLOCK_BYTES;
	uint64_t length = (uint64_t)extent->count * IMAGE_BLOCK_BYTES;

	/* A kernel may allocate beyond the end of a file. */
	if (extent->unwritten || start >= copy->image->map->size_bytes)
		return 0;
	length = minimum(length, copy->image->map->size_bytes - start);
	for (uint64_t done = 0; done < length; done += FSIMAGE_PIECE_BYTES) {
		if (copy_piece(copy, from + done, start + done,
			       minimum(length - done, FSIMAGE_PIECE_BYTES)) < 0)
			return -1;
	}
	return 0;
}

int fsimage_copy_told(struct fsimage *image, uint32_t inode, uint64_t max_bytes, int output_fd,
		      const char *output_name, fsimage_copied *copied, void *context,
		      struct error *error)
{
	struct copy copy = {image, output_fd, output_name, copied, context, error, 0};

	if (map_load(image, inode, S_IFREG, error) < 0)
		return -1;
	if (image->map->size_bytes > max_bytes)
		return error_set(error, "%s: %llu bytes are more than the %llu allowed",
				 output_name, (unsigned long long)image->map->size_bytes,
				 (unsigned long long)max_bytes);
	for (size_t i = 0; i < image->map->count; i++) {
		if (copy_extent(&copy, &image->map->extents[i]) < 0)
			return -1;
	}
	/* The hole at its end. Last, for what is cut off is to be the beginning of the file. */
	if (copy.end < image->map->size_bytes && ftruncate(output_fd, image->map->size_bytes) < 0)
		return fail_output(output_name, error);
	return 0;
}

int fsimage_copy(struct fsimage *image, uint32_t inode, uint64_t max_bytes, int output_fd,
		 const char *output_name, struct error *error)
{
	return fsimage_copy_told(image, inode, max_bytes, output_fd, output_name, NULL, NULL,
				 error);
}
