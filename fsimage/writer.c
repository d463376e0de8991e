#include "fsimage/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fsimage/copy.h"
#include "fsimage/features.h"
#include "fsimage/writer_private.h"

int writer_fail(struct writer *writer, errcode_t code)
{
	if (is_full(code))
		return error_set(writer->error, "%s: the file system that it is on is full",
				 writer->name);
	return error_set(writer->error, "cannot write %s: %s", writer->name, error_message(code));
}

int writer_fail_errno(struct writer *writer)
{
	return writer_fail(writer, errno);
}

static int check_request(struct writer *writer)
{
	struct stat stat;

	if (strlen(writer->options->label) > EXT2_LABEL_LEN)
		return error_set(writer->error, "%s: the label '%s' is longer than %d bytes",
				 writer->name, writer->options->label, EXT2_LABEL_LEN);
	if (fstat(writer->fd, &stat) < 0)
		return writer_fail_errno(writer);
	if (!S_ISREG(stat.st_mode) || stat.st_size != 0)
		return error_set(writer->error, "%s is not an empty regular file", writer->name);
	return 0;
}

static int make_journal(struct writer *writer)
{
	struct ext2fs_journal_params params = {.num_journal_blocks = FSIMAGE_JOURNAL_BLOCKS};
	errcode_t code;

	if (!writer->options->journal)
		return 0;
	/* LAZYINIT: its blocks are holes, which are as zero as they need to be. */
	code = ext2fs_add_journal_inode3(writer->fs, &params, 1,
					 EXT2_MKJOURNAL_LAZYINIT | EXT2_MKJOURNAL_NO_MNT_CHECK);
	return code ? writer_fail(writer, code) : 0;
}

/*
 * What is not for files: the groups' tables, and the journal. A kernel that does not find it here
 * counts it, and writes it here, each time that the image is mounted.
 */
static void note_overhead(ext2_filsys fs, bool journal)
{
	uint64_t tables = ext2fs_blocks_count(fs->super) - ext2fs_free_blocks_count(fs->super);

	fs->super->s_overhead_clusters = (uint32_t)tables + (journal ? FSIMAGE_JOURNAL_BLOCKS : 0);
}

static int make_file_system(struct writer *writer)
{
	if (ftruncate(writer->fd, writer->size_bytes) < 0)
		return writer_fail_errno(writer);
	for (ext2_ino_t inode = 1; inode < IMAGE_FIRST_INODE; inode++) {
		if (inode != EXT2_ROOT_INO)
			ext2fs_inode_alloc_stats2(writer->fs, inode, +1, 0);
	}
	note_overhead(writer->fs, writer->options->journal);
	return make_journal(writer);
}

enum wanted_nodes { ALL_NODES, ALL_BUT_FILES, ONLY_FILES };

static bool is_wanted(enum wanted_nodes wanted, const struct fsnode *node)
{
	return wanted == ALL_NODES || (wanted == ONLY_FILES) == (S_ISREG(node->meta.mode) != 0);
}

/* In the order of inode numbers, so that inode tables are written from front to back. */
static int write_nodes(struct writer *writer, enum wanted_nodes wanted)
{
	struct fsnode *root = writer->tree->root;
	uint32_t last_written = EXT2_ROOT_INO;

	if (is_wanted(wanted, root) && write_node(writer, root) < 0)
		return -1;
	for (struct fsnode *directory = root; directory; directory = next_directory(directory)) {
		for (struct fsnode *child = directory->directory.first_child; child;
		     child = child->next_sibling) {
			const struct fsnode *node = node_target(child);

			if (node->inode <= last_written)
				continue; /* another name of what is there already */
			if (is_wanted(wanted, node) && write_node(writer, node) < 0)
				return -1;
			last_written = node->inode;
		}
	}
	return 0;
}

static int write_tree(struct writer *writer)
{
	if (!writer->options->blocks_before_data)
		return write_nodes(writer, ALL_NODES);
	if (write_nodes(writer, ALL_BUT_FILES) < 0)
		return -1;
	space_skip(writer, writer->options->blocks_before_data);
	return write_nodes(writer, ONLY_FILES);
}

/* libext2fs writes the bitmaps of untouched groups too; what it wrote there is zero. */
static void punch_empty_bitmaps(struct writer *writer)
{
	ext2_filsys fs = writer->fs;

	for (dgrp_t group = 0; group < fs->group_desc_count; group++) {
		if (ext2fs_bg_free_blocks_count(fs, group) != fs->super->s_blocks_per_group ||
		    fs->super->s_blocks_per_group != IMAGE_GROUP_BLOCKS_MAX)
			continue;
		/* Where a hole cannot be made there is no harm: it only saves space. */
		(void)fallocate(writer->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				ext2fs_block_bitmap_loc(fs, group) * FSIMAGE_BLOCK_BYTES,
				FSIMAGE_BLOCK_BYTES);
	}
}

static int finish(struct writer *writer)
{
	if (output_flush(writer, &writer->data) < 0 || output_flush(writer, &writer->inodes) < 0)
		return -1;

	errcode_t code = ext2fs_flush2(writer->fs, EXT2_FLAG_FLUSH_NO_SYNC);

	if (code)
		return writer_fail(writer, code);
	punch_empty_bitmaps(writer);
	if (writer->options->progress)
		writer->options->progress(writer->options->progress_context, &writer->done);
	return 0;
}

static void release(struct writer *writer)
{
	if (writer->fs)
		ext2fs_free(writer->fs);
	host_leave(&writer->sources);
	free(writer->data.bytes);
	free(writer->inodes.bytes);
	free(writer->extents);
	release_xattrs(writer);
}

int fsimage_write(struct fstree *tree, int image_fd, const char *image_name,
		  const struct fsimage_options *options, struct error *error)
{
	struct writer writer = {
		.tree = tree,
		.options = options,
		.fd = image_fd,
		.name = image_name,
		.error = error,
		.sources = HOST_CURSOR_NOWHERE,
	};
	int result = -1;

	initialize_ext2_error_table();
	if (check_request(&writer) == 0 && plan_tree(&writer) == 0 &&
	    plan_file_system(&writer) == 0 && make_file_system(&writer) == 0 &&
	    write_tree(&writer) == 0 && finish(&writer) == 0)
		result = 0;
	release(&writer);
	return result;
}
