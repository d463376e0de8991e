#include <stdlib.h>
#include <string.h>

#include "fsimage/features.h"
#include "fsimage/writer_private.h"

/* The image grows in steps of this while it is found out how large it must be: 128 KiB. */
#define GROWTH_BLOCKS 32

/*
 * Only holders of CAP_SYS_RESOURCE shall use the reserve. The kernel also grants it to one user
 * and one group, by default 0: a job's writes come through an overlay whose mounter has dropped
 * the capability but still is user 0. No user has the id 65535, which was -1 when ids had 16 bits.
 */
#define RESERVE_ID 65535

/* --- the tree --- */

static int compare_nodes(const void *a, const void *b)
{
	const struct fsnode *const *left = a, *const *right = b;

	return strcmp((*left)->name, (*right)->name);
}

static int sort_children(struct writer *writer, struct fsnode *directory)
{
	size_t count = 0;

	for (struct fsnode *child = directory->directory.first_child; child;
	     child = child->next_sibling)
		count++;
	if (!count)
		return 0;

	struct fsnode **children = calloc(count, sizeof(struct fsnode *));

	if (!children)
		return writer_fail(writer, EXT2_ET_NO_MEMORY);

	struct fsnode *child = directory->directory.first_child;

	for (size_t i = 0; i < count; i++, child = child->next_sibling)
		children[i] = child;
	qsort(children, count, sizeof(struct fsnode *), compare_nodes);
	for (size_t i = 0; i < count; i++) {
		children[i]->previous_sibling = i > 0 ? children[i - 1] : NULL;
		children[i]->next_sibling = i + 1 < count ? children[i + 1] : NULL;
	}
	directory->directory.first_child = children[0];
	directory->directory.last_child = children[count - 1];
	free(children);
	return 0;
}

static struct fsnode *first_directory(struct fsnode *node)
{
	while (node && !node_is_directory(node))
		node = node->next_sibling;
	return node;
}

struct fsnode *next_directory(struct fsnode *directory)
{
	struct fsnode *next = first_directory(directory->directory.first_child);

	while (!next && directory) {
		next = first_directory(directory->next_sibling);
		directory = directory->parent;
	}
	return next;
}

static uint64_t blocks_of(uint64_t bytes)
{
	return (bytes + FSIMAGE_BLOCK_BYTES - 1) / FSIMAGE_BLOCK_BYTES;
}

static uint64_t data_blocks(const struct fsnode *node)
{
	if (node_is_directory(node))
		return node->directory.block_count;
	if (node->source == SOURCE_HOST)
		return node->host->data_blocks;
	if (node->source == SOURCE_RUNS)
		return node->runs->data_blocks;
	if (S_ISREG(node->meta.mode))
		return blocks_of(node->content.size);
	if (S_ISLNK(node->meta.mode))
		return node->content.size > FAST_SYMLINK_BYTES_MAX;
	return 0;
}

/* How many runs of blocks the data needs where nothing is in the way. */
static uint64_t segments(const struct fsnode *node)
{
	switch (node->source) {
	case SOURCE_HOST:
		return node->host->segment_count;
	case SOURCE_RUNS:
		return node->runs->segment_count;
	default:
		return 1;
	}
}

/* Data and extent tree, where the free space is not broken up: see breaks_at_most(). */
static uint64_t blocks_at_most(const struct fsnode *node)
{
	uint64_t data = data_blocks(node);
	uint64_t blocks = data;
	uint64_t extents = segments(node) + data / EXT_INIT_MAX_LEN;

	while (extents > EXTENTS_IN_INODE) {
		extents = (extents + EXTENTS_IN_BLOCK - 1) / EXTENTS_IN_BLOCK;
		blocks += extents;
	}
	return blocks;
}

static int number_children(struct writer *writer, struct fsnode *directory)
{
	for (struct fsnode *child = directory->directory.first_child; child;
	     child = child->next_sibling) {
		struct fsnode *node = node_target(child);

		if (node_is_directory(node)) {
			directory->links++;
			node->links = 2;
		} else if (++node->links > EXT2_LINK_MAX) {
			return error_set(writer->error, "'%s' has more than %d hard links",
					 node->name, EXT2_LINK_MAX);
		}
		if (node->inode)
			continue; /* another name of what was met before */
		node->inode = IMAGE_FIRST_INODE + writer->demand.inodes++;
		if (plan_xattrs(writer, node) < 0)
			return -1;
	}
	return 0;
}

static uint64_t file_bytes(const struct fsnode *node)
{
	switch (node->source) {
	case SOURCE_HOST:
		return node->host->size_bytes;
	case SOURCE_RUNS:
		return node->runs->size_bytes;
	default:
		return 0; /* in memory: never too much */
	}
}

static int check_size(struct writer *writer, const struct fsnode *node)
{
	if (file_bytes(node) <= IMAGE_FILE_BYTES_MAX)
		return 0;
	return error_set(writer->error, "%s: '%s' is larger than 16 TiB", writer->name,
			 node_path(node).text);
}

int plan_tree(struct writer *writer)
{
	struct fsnode *root = writer->tree->root;

	if (writer->tree->totals.nodes + writer->options->free_inodes > UINT32_MAX / 2)
		return error_set(writer->error, "%s: too many files for one image", writer->name);

	for (struct fsnode *node = writer->tree->all_nodes; node; node = node->next_allocated)
		node->inode = node->links = 0;
	root->inode = EXT2_ROOT_INO;
	root->links = 2;
	if (plan_xattrs(writer, root) < 0)
		return -1;
	for (struct fsnode *directory = root; directory; directory = next_directory(directory)) {
		if (sort_children(writer, directory) < 0 ||
		    number_children(writer, directory) < 0 || plan_directory(writer, directory) < 0)
			return -1;
	}
	for (struct fsnode *node = writer->tree->all_nodes; node; node = node->next_allocated) {
		if (!node->inode)
			continue;
		if (check_size(writer, node) < 0)
			return -1;
		writer->demand.blocks += blocks_at_most(node);
	}
	if (writer->options->journal)
		writer->demand.blocks += FSIMAGE_JOURNAL_BLOCKS;
	/* Free blocks that are too few lie between the tables of the first groups. */
	writer->demand.blocks += 3 * writer->options->blocks_before_data;
	return 0;
}

/* --- the file system --- */

static errcode_t initialize(struct writer *writer, uint64_t block_count)
{
	struct ext2_super_block wanted = {
		.s_rev_level = EXT2_DYNAMIC_REV,
		.s_log_block_size = IMAGE_BLOCK_BITS - EXT2_MIN_BLOCK_LOG_SIZE,
		.s_log_cluster_size = IMAGE_BLOCK_BITS - EXT2_MIN_BLOCK_LOG_SIZE,
		.s_blocks_count = block_count,
		.s_inodes_count = IMAGE_FIRST_INODE - 1 + writer->demand.inodes +
				  writer->options->free_inodes,
		.s_inode_size = IMAGE_INODE_BYTES,
		.s_errors = EXT2_ERRORS_RO,
		.s_feature_compat = FEATURES_COMPAT,
		.s_feature_incompat = FEATURES_INCOMPAT,
		.s_feature_ro_compat = FEATURES_RO_COMPAT,
		.s_log_groups_per_flex = 4,
	};
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", writer->fd);

	errcode_t code =
		ext2fs_initialize(path, EXT2_FLAG_64BITS, &wanted, unix_io_manager, &writer->fs);

	/*
	 * Our own writes go beside libext2fs's, so it may keep nothing back; and without its cache
	 * an error comes with the write and not after the last chance to see it.
	 */
	if (code == 0)
		code = io_channel_set_options(writer->fs->io, "cache=off");
	if (code == 0)
		code = ext2fs_allocate_tables(writer->fs);
	return code;
}

static uint64_t reserved_blocks(const struct writer *writer)
{
	return blocks_of(writer->options->reserved_bytes);
}

/* Each group may have its metadata in the way of a file, whose extent tree then needs a leaf. */
static uint64_t breaks_at_most(const ext2_filsys fs)
{
	return 2 * fs->group_desc_count;
}

/* How many blocks are missing in the file system as it was initialized; 0: it suffices. */
static uint64_t shortfall(const struct writer *writer)
{
	const ext2_filsys fs = writer->fs;
	uint64_t reserved = reserved_blocks(writer);
	uint64_t spare = reserved;
	uint64_t all = ext2fs_blocks_count(fs->super);

	if (!writer->options->size_bytes) {
		/* The kernel withholds so much from everybody, to complete delayed writes. */
		uint64_t withheld = all / 50 < 4096 ? all / 50 : 4096;
		uint64_t free_blocks = blocks_of(writer->options->free_bytes);

		spare = (free_blocks > reserved ? free_blocks : reserved) + withheld;
	}

	uint64_t need = writer->demand.blocks + breaks_at_most(fs) + spare;
	uint64_t have = ext2fs_free_blocks_count(fs->super);

	/* No more than half may be reserved (e2fsck's rule). */
	if (all < 2 * reserved)
		return 2 * reserved - all;
	return need > have ? need - have : 0;
}

static void discard(struct writer *writer)
{
	if (writer->fs)
		ext2fs_free(writer->fs);
	writer->fs = NULL;
}

static bool is_too_small(errcode_t code)
{
	return code == EXT2_ET_TOOSMALL || code == EXT2_ET_TOO_MANY_INODES ||
	       code == EXT2_ET_BLOCK_ALLOC_FAIL || code == EXT2_ET_INVALID_ARGUMENT;
}

/*
 * Initializes a file system that suffices by trying: what a size costs in metadata is
 * libext2fs's business, and it never takes more than a few rounds.
 */
static int initialize_smallest(struct writer *writer, uint64_t *block_count)
{
	uint64_t inode_blocks = (writer->demand.inodes + writer->options->free_inodes) *
				IMAGE_INODE_BYTES / FSIMAGE_BLOCK_BYTES;
	uint64_t blocks = writer->demand.blocks + inode_blocks + reserved_blocks(writer);
	uint64_t missing = GROWTH_BLOCKS;

	while (missing) {
		blocks += (missing + GROWTH_BLOCKS - 1) / GROWTH_BLOCKS * GROWTH_BLOCKS;
		if (blocks > IMAGE_BLOCKS_MAX)
			return error_set(writer->error, "%s: an image cannot be larger than 16 TiB",
					 writer->name);
		discard(writer);

		errcode_t code = initialize(writer, blocks);

		if (code && !is_too_small(code))
			return writer_fail(writer, code);
		missing = code ? blocks / 8 + 1 : shortfall(writer);
	}
	*block_count = blocks;
	return 0;
}

int fsimage_check_size(uint64_t size_bytes, struct error *error)
{
	if (size_bytes == 0)
		return error_set(error, "an image cannot have no bytes");
	if (size_bytes % FSIMAGE_BLOCK_BYTES)
		return error_set(error, "%llu bytes are not a whole number of blocks of %d",
				 (unsigned long long)size_bytes, FSIMAGE_BLOCK_BYTES);
	if (size_bytes / FSIMAGE_BLOCK_BYTES > IMAGE_BLOCKS_MAX)
		return error_set(error, "an image must be smaller than 16 TiB");
	return 0;
}

static int initialize_given(struct writer *writer)
{
	uint64_t size_bytes = writer->options->size_bytes;
	uint64_t blocks = size_bytes / FSIMAGE_BLOCK_BYTES, needed = 0;

	if (fsimage_check_size(size_bytes, writer->error))
		return error_prefix(writer->error, "%s", writer->name);

	errcode_t code = initialize(writer, blocks);

	if (code && !is_too_small(code))
		return writer_fail(writer, code);
	if (code == 0 && shortfall(writer) == 0)
		return 0;
	if (initialize_smallest(writer, &needed) < 0)
		return -1;
	return error_set(writer->error,
			 "%s: %llu bytes are too small for its contents, which need %llu bytes",
			 writer->name, (unsigned long long)size_bytes,
			 (unsigned long long)(needed * FSIMAGE_BLOCK_BYTES));
}

static void fill_superblock(struct writer *writer)
{
	const struct fsimage_options *options = writer->options;
	struct ext2_super_block *super = writer->fs->super;

	/* libext2fs takes 0 for "ask the clock". */
	writer->fs->now = options->now ? options->now : 1;
	super->s_mkfs_time = super->s_lastcheck = super->s_wtime = options->now;
	super->s_min_extra_isize = super->s_want_extra_isize = IMAGE_EXTRA_BYTES;
	super->s_def_resuid = super->s_def_resgid = RESERVE_ID;
	super->s_max_mnt_count = -1;
	super->s_def_hash_version = EXT2_HASH_HALF_MD4;
	super->s_flags = EXT2_FLAGS_SIGNED_HASH;
	ext2fs_r_blocks_count_set(super, reserved_blocks(writer));
	memcpy(super->s_uuid, options->uuid, sizeof(super->s_uuid));
	memcpy(super->s_hash_seed, options->uuid, sizeof(super->s_hash_seed));
	memset(super->s_volume_name, 0, sizeof(super->s_volume_name));
	memcpy(super->s_volume_name, options->label, strlen(options->label));
}

int plan_file_system(struct writer *writer)
{
	uint64_t block_count = 0;

	if (writer->options->size_bytes) {
		writer->size_bytes = writer->options->size_bytes;
		if (initialize_given(writer) < 0)
			return -1;
	} else {
		if (initialize_smallest(writer, &block_count) < 0)
			return -1;
		writer->size_bytes = block_count * FSIMAGE_BLOCK_BYTES;
	}
	fill_superblock(writer);
	return 0;
}
