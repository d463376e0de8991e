#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fsimage/copy.h"
#include "fsimage/reader_private.h"

static uint64_t minimum(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Reads what is in one piece at OFFSET, data or hole; SIZE lies within the file. */
static int64_t read_piece(struct fsimage *image, uint64_t offset, void *bytes, size_t size,
			  struct error *error)
{
	const struct file_map *map = &image->map;
	size_t found = map_find(map, offset / IMAGE_BLOCK_BYTES);
	uint64_t start = UINT64_MAX, end = UINT64_MAX; /* of the extent */

	if (found < map->count) {
		const struct map_extent *extent = &map->extents[found];

		start = (uint64_t)extent->logical * IMAGE_BLOCK_BYTES;
		end = start + (uint64_t)extent->count * IMAGE_BLOCK_BYTES;
	}
	if (offset < start || map->extents[found].unwritten) {
		size = minimum(size, (offset < start ? start : end) - offset);
		memset(bytes, 0, size);
		return size;
	}
	size = minimum(size, end - offset);

	uint64_t from = (uint64_t)map->extents[found].physical * IMAGE_BLOCK_BYTES + offset - start;

	if (read_at(image->fd, bytes, size, from) != (int64_t)size)
		return inode_fail(image, map->inode, "cannot read its data", error);
	return size;
}

int64_t map_read(struct fsimage *image, uint64_t offset, void *bytes, size_t size,
		 struct error *error)
{
	uint64_t file_bytes = image->map.size_bytes;
	size_t done = 0;

	size = offset < file_bytes ? minimum(size, file_bytes - offset) : 0;
	while (done < size) {
		int64_t got = read_piece(image, offset + done, (uint8_t *)bytes + done, size - done,
					 error);

		if (got < 0)
			return -1;
		done += got;
	}
	return done;
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
};

static int copy_piece(const struct copy *copy, uint64_t from, uint64_t start, uint64_t length)
{
	struct fsimage *image = copy->image;
	int64_t done = copy_at(image->fd, from, copy->output_fd, start, length);

	if (done < 0)
		return fail_output(copy->output_name, copy->error);
	if ((uint64_t)done != length)
		return inode_fail(image, image->map.inode, "its data ends early", copy->error);
	if (copy->copied && copy->copied(copy->context, start, start + length, copy->error))
		return -1;
	return 0;
}

static int copy_extent(const struct copy *copy, const struct map_extent *extent)
{
	uint64_t start = (uint64_t)extent->logical * IMAGE_BLOCK_BYTES;
	uint64_t from = (uint64_t)extent->physical * IMAGE_BLOCK_BYTES;
	uint64_t length = (uint64_t)extent->count * IMAGE_BLOCK_BYTES;

	/* A kernel may allocate beyond the end of a file. */
	if (extent->unwritten || start >= copy->image->map.size_bytes)
		return 0;
	length = minimum(length, copy->image->map.size_bytes - start);
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
	const struct copy copy = {image, output_fd, output_name, copied, context, error};

	if (map_load(image, inode, S_IFREG, error) < 0)
		return -1;
	if (image->map.size_bytes > max_bytes)
		return error_set(error, "%s: %llu bytes are more than the %llu allowed",
				 output_name, (unsigned long long)image->map.size_bytes,
				 (unsigned long long)max_bytes);
	if (ftruncate(output_fd, image->map.size_bytes) < 0)
		return fail_output(output_name, error);
	for (size_t i = 0; i < image->map.count; i++) {
		if (copy_extent(&copy, &image->map.extents[i]) < 0)
			return -1;
	}
	return 0;
}

int fsimage_copy(struct fsimage *image, uint32_t inode, uint64_t max_bytes, int output_fd,
		 const char *output_name, struct error *error)
{
	return fsimage_copy_told(image, inode, max_bytes, output_fd, output_name, NULL, NULL,
				 error);
}
