#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fsimage/copy.h"
#include "fsimage/features.h"
#include "fsimage/format.h"
#include "fsimage/writer_private.h"

/* Files up to this are read into the output buffer, so that many go into one write. */
#define SMALL_BYTES (128 * 1024)

#define PROGRESS_BYTES (16 << 20)
#define PROGRESS_NODES 1024

static void report_progress(struct writer *writer)
{
	const struct fstotals *done = &writer->done;

	if (!writer->options->progress ||
	    (done->data_bytes - writer->reported.data_bytes < PROGRESS_BYTES &&
	     done->nodes - writer->reported.nodes < PROGRESS_NODES))
		return;
	writer->reported = *done;
	writer->options->progress(writer->options->progress_context, done);
}

static uint64_t round_to_block(uint64_t bytes)
{
	return (bytes + FSIMAGE_BLOCK_BYTES - 1) / FSIMAGE_BLOCK_BYTES * FSIMAGE_BLOCK_BYTES;
}

/* --- bytes in memory --- */

/* Up to the end of a block, so that small files follow one another and make large writes. */
static int write_padded(struct writer *writer, uint64_t offset, const uint8_t *bytes,
			uint64_t length)
{
	uint64_t padded = round_to_block(length);
	uint8_t *room;

	if (length > SMALL_BYTES)
		return output_write(writer, &writer->data, offset, bytes, length);
	room = output_room(writer, &writer->data, offset, padded);
	if (!room)
		return -1;
	memcpy(room, bytes, length);
	memset(room + length, 0, padded - length);
	return 0;
}

int write_bytes(struct writer *writer, const uint8_t *bytes, uint64_t size)
{
	for (uint64_t done = 0; done < size;) {
		blk64_t start;
		uint32_t count =
			space_extend(writer, done / FSIMAGE_BLOCK_BYTES,
				     round_to_block(size - done) / FSIMAGE_BLOCK_BYTES, &start);
		uint64_t length = (uint64_t)count * FSIMAGE_BLOCK_BYTES;

		if (length > size - done)
			length = size - done;
		if (!count ||
		    write_padded(writer, start * FSIMAGE_BLOCK_BYTES, bytes + done, length) < 0)
			return -1;
		done += length;
	}
	return 0;
}

/* --- files of the host --- */

static int fail_source(struct writer *writer, const struct host_file *file, const char *what)
{
	return error_errno(writer->error, "cannot %s %s", what,
			   host_path(file->directory, file->name).text);
}

static int fail_changed(struct writer *writer, const struct host_file *file)
{
	return error_set(writer->error, "%s: changed while it was being packed",
			 host_path(file->directory, file->name).text);
}

static int place_run(struct writer *writer, uint64_t from, uint64_t to, uint64_t length)
{
	const struct fsimage_options *options = writer->options;
	const struct fsimage_run run = {writer->node, from, to, length};

	writer->done.data_bytes += length;
	report_progress(writer);
	return options->place_run(options->place_context, &run, writer->error);
}

/* Copies LENGTH bytes of the file at FROM to the image at TO; the last block's rest is zero. */
static int copy_run(struct writer *writer, const struct host_file *file, int fd, uint64_t from,
		    uint64_t to, uint64_t length)
{
	int64_t copied;

	if (writer->options->place_run)
		return place_run(writer, from, to, length);
	if (length <= SMALL_BYTES) {
		uint64_t padded = round_to_block(length);
		uint8_t *room = output_room(writer, &writer->data, to, padded);

		if (!room)
			return -1;
		memset(room + length, 0, padded - length);
		copied = read_at(fd, room, length, from);
	} else {
		copied = copy_at(fd, from, writer->fd, to, length);
	}
	if (copied < 0 && is_full(errno))
		return writer_fail_errno(writer);
	if (copied < 0)
		return fail_source(writer, file, "copy");
	if ((uint64_t)copied != length)
		return fail_changed(writer, file);
	writer->done.data_bytes += length;
	report_progress(writer);
	return 0;
}

static int copy_segment(struct writer *writer, const struct host_file *file, int fd,
			const struct host_segment *segment)
{
	for (uint64_t done = segment->start; done < segment->end;) {
		blk64_t start;
		uint64_t left = segment->end - done;
		uint32_t count = space_extend(writer, done / FSIMAGE_BLOCK_BYTES,
					      round_to_block(left) / FSIMAGE_BLOCK_BYTES, &start);
		uint64_t length = (uint64_t)count * FSIMAGE_BLOCK_BYTES;

		if (length > left)
			length = left;
		if (!count ||
		    copy_run(writer, file, fd, done, start * FSIMAGE_BLOCK_BYTES, length) < 0)
			return -1;
		done += length;
	}
	return 0;
}

static int copy_segments(struct writer *writer, const struct host_file *file, int fd)
{
	struct host_segment segment = {0, 0};
	int found;

	while ((found = host_next_segment(fd, file, segment.end, &segment)) > 0) {
		if (copy_segment(writer, file, fd, &segment) < 0)
			return -1;
	}
	return found < 0 ? fail_source(writer, file, "find the holes of") : 0;
}

/* Opens the file, copies it and looks again: what was written meanwhile shows in the inode. */
static int copy_host_file(struct writer *writer, const struct host_file *file, int directory_fd)
{
	int fd = host_open_file(directory_fd, file->name);

	if (fd < 0)
		return errno == ENOENT || errno == ELOOP ? fail_changed(writer, file)
							 : fail_source(writer, file, "open");

	int result = copy_segments(writer, file, fd);
	struct stat stat;

	/* After a failure too, which may come from the change. */
	if (fstat(fd, &stat) < 0)
		result = fail_source(writer, file, "examine");
	else if (!host_file_is(file, &stat))
		result = fail_changed(writer, file);
	close(fd);
	return result;
}

static int write_host_file(struct writer *writer, const struct host_file *file)
{
	if (writer->options->place_run && !file->sparse && !file->find_zeros)
		return copy_segments(writer, file, -1);

	int directory_fd = host_enter(&writer->sources, file->directory, writer->error);
	struct stat stat;

	if (directory_fd < 0)
		return -1;
	if (file->data_bytes)
		return copy_host_file(writer, file, directory_fd);
	/* Nothing to read: that this is still so can be seen without opening it. */
	if (fstatat(directory_fd, file->name, &stat, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? fail_changed(writer, file)
				       : fail_source(writer, file, "examine");
	return host_file_is(file, &stat) ? 0 : fail_changed(writer, file);
}

/* --- files whose data is in another file --- */

/* Where in the runs of a file the writer is. */
struct run_cursor {
	const struct run_file *file;
	size_t next; /* the run that is not behind yet */
};

static int fail_run(struct writer *writer, const struct run_file *file, int64_t copied)
{
	if (copied < 0 && is_full(errno))
		return writer_fail_errno(writer);
	if (copied < 0)
		return error_errno(writer->error, "cannot copy from %s", file->source->name);
	return error_set(writer->error, "%s: ends before the data that it should have",
			 file->source->name);
}

/* Copies LENGTH bytes of one run, from offset FROM of the source to TO in the image. */
static int copy_from_source(struct writer *writer, const struct run_file *file, uint64_t from,
			    uint64_t to, uint64_t length)
{
	int64_t copied;

	if (length <= SMALL_BYTES) {
		uint8_t *room = output_room(writer, &writer->data, to, length);

		if (!room)
			return -1;
		copied = read_at(file->source->fd, room, length, from);
	} else {
		copied = copy_at(file->source->fd, from, writer->fd, to, length);
	}
	if (copied < 0 || (uint64_t)copied != length)
		return fail_run(writer, file, copied);
	writer->done.data_bytes += length;
	report_progress(writer);
	return 0;
}

/* Fills the bytes from START to END of the file, whose block START is at TO in the image. */
static int fill_from_runs(struct writer *writer, struct run_cursor *cursor, uint64_t start,
			  uint64_t end, uint64_t to)
{
	const struct run_file *file = cursor->file;

	for (uint64_t done = start, length; done < end; done += length) {
		const struct fsrun *run =
			cursor->next < file->run_count ? &file->runs[cursor->next] : NULL;

		if (run && run->offset <= done) {
			uint64_t skip = done - run->offset, left = end - done;

			length = run->length - skip < left ? run->length - skip : left;
			if (copy_from_source(writer, file, run->source_offset + skip,
					     to + (done - start), length) < 0)
				return -1;
			cursor->next += skip + length == run->length;
			continue;
		}
		/* The rest of a block: never much. */
		length = (run && run->offset < end ? run->offset : end) - done;

		uint8_t *room = output_room(writer, &writer->data, to + (done - start), length);

		if (!room)
			return -1;
		memset(room, 0, length);
	}
	return 0;
}

/* The end of the blocks that run FIRST and those that follow it without a block's hole need. */
static uint64_t end_of_segment(const struct run_file *file, size_t first)
{
	uint64_t end = round_to_block(file->runs[first].offset + file->runs[first].length);

	for (size_t i = first + 1; i < file->run_count; i++) {
		const struct fsrun *run = &file->runs[i];

		if (run->offset / FSIMAGE_BLOCK_BYTES * FSIMAGE_BLOCK_BYTES > end)
			break;
		end = round_to_block(run->offset + run->length);
	}
	return end;
}

static int write_runs(struct writer *writer, const struct run_file *file)
{
	struct run_cursor cursor = {.file = file};

	while (cursor.next < file->run_count) {
		uint64_t end = end_of_segment(file, cursor.next);
		uint64_t done =
			file->runs[cursor.next].offset / FSIMAGE_BLOCK_BYTES * FSIMAGE_BLOCK_BYTES;

		while (done < end) {
			blk64_t start;
			uint32_t count = space_extend(writer, done / FSIMAGE_BLOCK_BYTES,
						      (end - done) / FSIMAGE_BLOCK_BYTES, &start);
			uint64_t length = (uint64_t)count * FSIMAGE_BLOCK_BYTES;

			if (!count || fill_from_runs(writer, &cursor, done, done + length,
						     start * FSIMAGE_BLOCK_BYTES) < 0)
				return -1;
			done += length;
		}
	}
	return 0;
}

/* --- inodes --- */

static void set_time(uint32_t *seconds, uint32_t *extra, struct timespec time)
{
	struct format_time stored = format_time(time);

	*seconds = htole32(stored.seconds);
	*extra = htole32(stored.extra);
}

static void set_times(struct writer *writer, struct ext2_inode_large *inode,
		      const struct fsmeta *meta)
{
	struct timespec now = {.tv_sec = writer->options->now};

	set_time(&inode->i_mtime, &inode->i_mtime_extra, meta->mtime);
	set_time(&inode->i_atime, &inode->i_atime_extra, meta->mtime);
	set_time(&inode->i_ctime, &inode->i_ctime_extra, now);
	set_time(&inode->i_crtime, &inode->i_crtime_extra, now);
}

static void set_device(struct ext2_inode_large *inode, dev_t device)
{
	uint32_t words[2];

	format_device(device, words);
	inode->i_block[0] = htole32(words[0]);
	inode->i_block[1] = htole32(words[1]);
}

/* Writes the node's data; *SIZE is then its size. */
static int write_data(struct writer *writer, const struct fsnode *node,
		      struct ext2_inode_large *inode, uint64_t *size)
{
	if (node_is_directory(node)) {
		*size = (uint64_t)node->directory.block_count * FSIMAGE_BLOCK_BYTES;
		return write_directory(writer, node, inode);
	}
	if (node->source == SOURCE_HOST) {
		*size = node->host->size_bytes;
		return write_host_file(writer, node->host);
	}
	if (node->source == SOURCE_RUNS) {
		*size = node->runs->size_bytes;
		return write_runs(writer, node->runs);
	}
	*size = node->content.size;
	writer->done.data_bytes += S_ISREG(node->meta.mode) ? *size : 0;
	return write_bytes(writer, node->content.bytes, *size);
}

/* Writes what is behind the inode and sets what tells where it is. */
static int write_contents(struct writer *writer, const struct fsnode *node,
			  struct ext2_inode_large *inode)
{
	mode_t mode = node->meta.mode;
	uint64_t size;

	if (S_ISCHR(mode) || S_ISBLK(mode))
		set_device(inode, node->device);
	if (!node_is_directory(node) && !S_ISREG(mode) && !S_ISLNK(mode))
		return 0;
	if (S_ISLNK(mode) && node->content.size <= FAST_SYMLINK_BYTES_MAX) {
		memcpy(inode->i_block, node->content.bytes, node->content.size);
		inode->i_size = htole32(node->content.size);
		return 0;
	}
	if (write_data(writer, node, inode, &size) < 0 ||
	    space_store_extents(writer, inode->i_block) < 0)
		return -1;

	inode->i_flags |= htole32(EXT4_EXTENTS_FL);
	inode->i_size = htole32((uint32_t)size);
	inode->i_size_high = htole32(size >> 32);
	return 0;
}

static void set_block_count(const struct writer *writer, struct ext2_inode_large *inode)
{
	uint64_t sectors = writer->block_count * (FSIMAGE_BLOCK_BYTES / 512);

	inode->i_blocks = htole32((uint32_t)sectors);
	inode->osd2.linux2.l_i_blocks_hi = htole16(sectors >> 32);
}

static uint64_t inode_offset(const struct writer *writer, uint32_t inode)
{
	uint32_t per_group = writer->fs->super->s_inodes_per_group;
	blk64_t table = ext2fs_inode_table_loc(writer->fs, (inode - 1) / per_group);

	return table * FSIMAGE_BLOCK_BYTES + (inode - 1) % per_group * IMAGE_INODE_BYTES;
}

int write_node(struct writer *writer, const struct fsnode *node)
{
	const struct fsmeta *meta = &node->meta;
	union {
		struct ext2_inode_large fields;
		uint8_t bytes[IMAGE_INODE_BYTES];
	} inode = {{
		.i_mode = htole16(meta->mode),
		.i_uid = htole16(meta->uid & 0xffff),
		.i_gid = htole16(meta->gid & 0xffff),
		.osd2.linux2.l_i_uid_high = htole16(meta->uid >> 16),
		.osd2.linux2.l_i_gid_high = htole16(meta->gid >> 16),
		.i_links_count = htole16(node->links > EXT2_LINK_MAX ? 1 : node->links),
		.i_extra_isize = htole16(IMAGE_EXTRA_BYTES),
	}};

	writer->node = node;
	writer->extent_count = 0;
	writer->block_count = 0;
	set_times(writer, &inode.fields, meta);
	if (write_contents(writer, node, &inode.fields) < 0 ||
	    write_xattrs(writer, node, inode.bytes) < 0)
		return -1;
	set_block_count(writer, &inode.fields);
	ext2fs_inode_alloc_stats2(writer->fs, node->inode, +1, node_is_directory(node));
	writer->done.nodes++;
	report_progress(writer);
	return output_write(writer, &writer->inodes, inode_offset(writer, node->inode), inode.bytes,
			    sizeof(inode));
}
