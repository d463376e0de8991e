#include "tests/hostile/craft.h"

#include <endian.h>
#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fsimage/reader.h"
#include "fsimage/writer.h"
#include "jobdisk/crc32c.h"
#include "jobdisk/layout.h"
#include "jobdisk/manifest.h"
#include "jobdisk/result.h"

#define JOB_ID "6a6f6276-6d00-4000-8000-000000000001"
#define NOW    1700000000

static const uint8_t job_uuid[16] = {0x6a, 0x6f, 0x62, 0x76, 0x6d, 0, 0x40, 0,
				     0x80, 0,	 0,    0,    0,	   0, 0,    1};
static struct error error;

static void fail(void)
{
	errx(1, "%s", error.text);
}

/* --- the good image --- */

static const struct fsmeta plain = {
	.mode = 0755, .uid = JOB_UID, .gid = JOB_GID, .mtime = {NOW, 7}};

static struct fsnode *add_directory(struct fstree *tree, struct fsnode *parent, const char *name)
{
	struct fsnode *node = fstree_add_directory(tree, parent, name, &plain, &error);

	if (!node)
		fail();
	return node;
}

static struct fsnode *add_file(struct fstree *tree, struct fsnode *parent, const char *name,
			       const void *bytes, size_t size)
{
	struct fsnode *node = fstree_add_bytes(tree, parent, name, &plain, bytes, size, &error);

	if (!node)
		fail();
	return node;
}

static void add_symlink(struct fstree *tree, struct fsnode *parent, const char *name,
			const char *target)
{
	if (!fstree_add_symlink(tree, parent, name, &plain, target, &error))
		fail();
}

static void add_record(struct fstree *tree, const char *name, const struct record_schema *schema,
		       const void *record)
{
	static char text[RECORD_MAX_BYTES + 1];
	long length = record_format(schema, record, text, &error);

	if (length < 0)
		fail();
	add_file(tree, fstree_root(tree), name, text, (size_t)length);
}

static void add_records(struct fstree *tree)
{
	const char *arguments[] = {"true", NULL};
	struct manifest manifest = manifest_defaults();
	struct result result = result_defaults();

	manifest.job_id = JOB_ID;
	manifest.arguments = (struct record_list){arguments, 1};
	result.job_id = JOB_ID;
	result.status = STATUS_COMPLETED;
	result.exit_code = 0;
	add_record(tree, JOBDISK_MANIFEST, &manifest_schema, &manifest);
	add_record(tree, JOBDISK_RESULT, &result_schema, &result);
}

/* What is small is in the inode, the rest in a block of its own. */
static void add_xattrs(struct fstree *tree, struct fsnode *node)
{
	char value[1000];

	memset(value, 'v', sizeof(value));
	if (fstree_set_xattr(tree, node, "user.small", "s", 1, &error) < 0 ||
	    fstree_set_xattr(tree, node, "user.large", value, sizeof(value), &error) < 0)
		fail();
}

static void add_outputs(struct fstree *tree, struct fsnode *output)
{
	struct fsnode *alpha = add_directory(tree, output, "alpha");
	struct fsnode *inner = add_directory(tree, alpha, "inner");
	struct fsnode *attributed = add_directory(tree, output, "attributed");
	char target[101] = "", bytes[10000];

	memset(target, 't', 100);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 31 + i / 256);
	add_xattrs(tree, attributed);
	add_xattrs(tree, add_file(tree, attributed, "file", "x", 1));
	add_directory(tree, output, "bravo");
	add_file(tree, inner, "deep", "deep", 4);
	add_file(tree, output, "file", bytes, sizeof(bytes));
	add_symlink(tree, output, "link", "../../../etc/passwd");
	add_symlink(tree, output, "long-link", target);
	add_file(tree, output, "victim", "victim", 6);
	add_file(tree, output, "twin", "twin", 4);
}

static struct fstree *craft_tree(void)
{
	struct fstree *tree = fstree_new(&plain);
	struct fsnode *root = tree ? fstree_root(tree) : NULL;

	if (!root)
		errx(1, "no memory");
	add_records(tree);
	add_file(tree, add_directory(tree, root, JOBDISK_INPUT), "twin", "Twin", 4);
	add_outputs(tree, add_directory(tree, root, JOBDISK_OUTPUT));
	add_directory(tree, root, JOBDISK_WORKDIR);
	add_directory(tree, root, JOBDISK_SCRATCH);
	add_file(tree, root, JOBDISK_STDOUT, "out\n", 4);
	add_file(tree, root, JOBDISK_STDERR, "", 0);
	return tree;
}

static void write_good_image(const struct craft *craft, uint64_t free_blocks, uint64_t free_inodes)
{
	struct fsimage_options options = {
		.label = JOBDISK_LABEL,
		.free_bytes = free_blocks * BLOCK_BYTES,
		.free_inodes = free_inodes,
		.journal = true,
		.now = NOW,
	};
	struct fstree *tree = craft_tree();

	memcpy(options.uuid, job_uuid, sizeof(options.uuid));
	if (fsimage_write(tree, craft->fd, craft->path, &options, &error) < 0)
		fail();
	fstree_free(tree);
}

/* Where a number of the group's descriptor is. */
static uint64_t descriptor_at(uint32_t group, size_t field)
{
	return BLOCK_BYTES + group * sizeof(struct ext2_group_desc) + field;
}

static void load_used_blocks(struct craft *craft)
{
	size_t group_bytes = craft->blocks_per_group / 8;

	craft->used_blocks = calloc(craft->group_count, group_bytes);
	if (!craft->used_blocks)
		errx(1, "no memory");
	for (uint32_t group = 0; group < craft->group_count; group++) {
		uint64_t bitmap = craft_number(
			craft,
			descriptor_at(group, offsetof(struct ext2_group_desc, bg_block_bitmap)), 4);

		craft_read(craft, bitmap * BLOCK_BYTES, craft->used_blocks + group * group_bytes,
			   group_bytes);
	}
}

/* The inodes that the good image uses come first, without gaps. */
static void find_next_inode(struct craft *craft)
{
	craft->next_inode = EXT2_GOOD_OLD_FIRST_INO;
	while (craft_number(craft, craft_inode(craft, craft->next_inode) + INODE(i_mode), 2))
		craft->next_inode++;
}

void craft_open(struct craft *craft, const char *path, uint64_t free_blocks, uint64_t free_inodes)
{
	*craft = (struct craft){.path = path};
	craft->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (craft->fd < 0)
		err(1, "%s", path);
	write_good_image(craft, free_blocks, free_inodes);
	craft->block_count = craft_number(craft, SUPER(s_blocks_count), 4);
	craft->inode_count = craft_number(craft, SUPER(s_inodes_count), 4);
	craft->blocks_per_group = craft_number(craft, SUPER(s_blocks_per_group), 4);
	craft->inodes_per_group = craft_number(craft, SUPER(s_inodes_per_group), 4);
	craft->group_count =
		(craft->block_count + craft->blocks_per_group - 1) / craft->blocks_per_group;
	load_used_blocks(craft);
	find_next_inode(craft);
}

void craft_close(struct craft *craft)
{
	free(craft->used_blocks);
	if (close(craft->fd) < 0)
		err(1, "%s", craft->path);
}

/* --- raw bytes --- */

void craft_read(const struct craft *craft, uint64_t offset, void *bytes, size_t size)
{
	if (pread(craft->fd, bytes, size, (off_t)offset) != (ssize_t)size)
		err(1, "cannot read %s", craft->path);
}

void craft_write(struct craft *craft, uint64_t offset, const void *bytes, size_t size)
{
	if (pwrite(craft->fd, bytes, size, (off_t)offset) != (ssize_t)size)
		err(1, "cannot write %s", craft->path);
}

uint64_t craft_number(const struct craft *craft, uint64_t offset, size_t size)
{
	uint64_t value = 0;

	craft_read(craft, offset, &value, size);
	return le64toh(value);
}

void craft_set(struct craft *craft, uint64_t offset, size_t size, uint64_t value)
{
	value = htole64(value);
	craft_write(craft, offset, &value, size);
}

void craft_seal_super(struct craft *craft)
{
	uint8_t super[offsetof(struct ext2_super_block, s_checksum)];

	craft_read(craft, 1024, super, sizeof(super));
	/* ext4 leaves out the inversion at the end. */
	craft_set(craft, SUPER(s_checksum), 4, (uint32_t)~crc32c(super, sizeof(super)));
}

/* --- where things are --- */

uint32_t craft_find(const struct craft *craft, const char *path)
{
	struct fsimage *image = fsimage_open(craft->fd, craft->path, NULL, &error);
	struct fsstat stat;

	if (!image)
		fail();
	if (fsimage_lookup(image, path, &stat, &error) != 0)
		errx(1, "%s has no '%s'", craft->path, path);
	fsimage_close(image);
	return stat.inode;
}

uint64_t craft_inode(const struct craft *craft, uint32_t inode)
{
	uint32_t group = (inode - 1) / craft->inodes_per_group;
	uint32_t index = (inode - 1) % craft->inodes_per_group;
	uint64_t table = craft_number(
		craft, descriptor_at(group, offsetof(struct ext2_group_desc, bg_inode_table)), 4);

	return table * BLOCK_BYTES + index * INODE_BYTES;
}

uint64_t craft_data(const struct craft *craft, uint32_t inode)
{
	return craft_number(craft, craft_inode(craft, inode) + EXTENT(start), 4) * BLOCK_BYTES;
}

uint64_t craft_entry(const struct craft *craft, uint32_t directory, const char *name)
{
	uint64_t data = craft_data(craft, directory);
	size_t length = strlen(name);
	uint8_t block[BLOCK_BYTES];

	craft_read(craft, data, block, sizeof(block));
	for (size_t offset = 0; offset < sizeof(block);) {
		const struct ext2_dir_entry_2 *entry = (const void *)(block + offset);

		if (entry->name_len == length && memcmp(entry->name, name, length) == 0)
			return data + offset;
		offset += le16toh(entry->rec_len);
	}
	errx(1, "%s: no entry '%s'", craft->path, name);
}

/* --- new things --- */

uint32_t craft_blocks(struct craft *craft, uint32_t count)
{
	uint32_t run = 0;

	for (uint32_t block = craft->next_block; block < craft->block_count; block++) {
		run = craft->used_blocks[block / 8] & 1U << block % 8 ? 0 : run + 1;
		if (run == count) {
			craft->next_block = block + 1;
			return craft->next_block - count;
		}
	}
	errx(1, "%s has no %u free blocks", craft->path, count);
}

static void put_tree(struct ext2_inode_large *raw, uint16_t depth, const void *entries,
		     uint16_t count)
{
	struct ext3_extent_header header = {
		.eh_magic = htole16(EXT3_EXT_MAGIC),
		.eh_entries = htole16(count),
		.eh_max = htole16(4),
		.eh_depth = htole16(depth),
	};

	memset(raw->i_block, 0, sizeof(raw->i_block));
	memcpy(raw->i_block, &header, sizeof(header));
	memcpy((uint8_t *)raw->i_block + sizeof(header), entries,
	       count * sizeof(struct ext3_extent));
}

void craft_put_inode(struct craft *craft, uint32_t inode, mode_t mode, uint64_t size_bytes,
		     uint32_t start, uint16_t count)
{
	struct ext3_extent extent = {.ee_len = htole16(count), .ee_start = htole32(start)};
	union {
		struct ext2_inode_large large;
		uint8_t bytes[INODE_BYTES];
	} raw = {.large = {
			 .i_mode = htole16(mode),
			 .i_links_count = htole16(S_ISDIR(mode) ? 2 : 1),
			 .i_size = htole32((uint32_t)size_bytes),
			 .i_size_high = htole32((uint32_t)(size_bytes >> 32)),
			 .i_flags = htole32(EXT4_EXTENTS_FL),
			 .i_mtime = htole32(NOW),
			 .i_extra_isize = htole16(32),
		 }};

	put_tree(&raw.large, 0, &extent, count > 0);
	craft_write(craft, craft_inode(craft, inode), &raw, sizeof(raw));
}

uint32_t craft_file(struct craft *craft, mode_t mode, uint64_t size_bytes, uint32_t start,
		    uint16_t count)
{
	uint32_t inode = craft->next_inode++;

	if (inode > craft->inode_count)
		errx(1, "%s has no free inodes", craft->path);
	craft_put_inode(craft, inode, mode, size_bytes, start, count);
	return inode;
}

/* --- extent trees --- */

#define ENTRIES_IN_BLOCK ((BLOCK_BYTES - sizeof(struct ext3_extent_header)) / 12)

union tree_entry {
	struct ext3_extent extent;
	struct ext3_extent_idx index;
};

/* Writes one level into blocks; ENTRIES become those of the level above. How many these are. */
static size_t put_level(struct craft *craft, uint16_t depth, union tree_entry *entries,
			size_t count)
{
	size_t block_count = (count + ENTRIES_IN_BLOCK - 1) / ENTRIES_IN_BLOCK;
	uint32_t start = craft_blocks(craft, block_count);

	for (size_t i = 0; i < block_count; i++) {
		const union tree_entry *first = &entries[i * ENTRIES_IN_BLOCK];
		size_t left = count - i * ENTRIES_IN_BLOCK;
		size_t here = left < ENTRIES_IN_BLOCK ? left : ENTRIES_IN_BLOCK;
		uint8_t block[BLOCK_BYTES] = "";
		struct ext3_extent_header header = {
			.eh_magic = htole16(EXT3_EXT_MAGIC),
			.eh_entries = htole16((uint16_t)here),
			.eh_max = htole16(ENTRIES_IN_BLOCK),
			.eh_depth = htole16(depth),
		};
		struct ext3_extent_idx index = {.ei_block = first->index.ei_block,
						.ei_leaf = htole32(start + (uint32_t)i)};

		memcpy(block, &header, sizeof(header));
		memcpy(block + sizeof(header), first, here * sizeof(*first));
		craft_write(craft, (start + i) * (uint64_t)BLOCK_BYTES, block, sizeof(block));
		entries[i].index = index;
	}
	return block_count;
}

void craft_map(struct craft *craft, uint32_t inode, const struct extent *extents, size_t count)
{
	union tree_entry *entries = calloc(count, sizeof(*entries));
	struct ext2_inode_large raw;
	uint16_t depth = 0;

	if (!entries)
		errx(1, "no memory");
	for (size_t i = 0; i < count; i++)
		entries[i].extent = (struct ext3_extent){.ee_block = htole32(extents[i].logical),
							 .ee_len = htole16(extents[i].count),
							 .ee_start = htole32(extents[i].start)};
	for (; count > 4; depth++)
		count = put_level(craft, depth, entries, count);
	craft_read(craft, craft_inode(craft, inode), &raw, sizeof(raw));
	put_tree(&raw, depth, entries, (uint16_t)count);
	craft_write(craft, craft_inode(craft, inode), &raw, sizeof(raw));
	free(entries);
}

/* --- directories --- */

void names_start(struct names *names, struct craft *craft, uint32_t directory, uint32_t parent)
{
	*names = (struct names){.craft = craft, .directory = directory};
	names_add(names, directory, EXT2_FT_DIR, ".", 1);
	names_add(names, parent, EXT2_FT_DIR, "..", 2);
}

/* Makes BLOCK the directory's next one. */
static void add_block(struct names *names, uint32_t block)
{
	struct extent *last = names->extent_count ? &names->extents[names->extent_count - 1] : NULL;

	if (last && block == last->start + last->count && last->count < EXT_INIT_MAX_LEN) {
		last->count++;
	} else if (names->extent_count < NAMES_EXTENTS_MAX) {
		names->extents[names->extent_count++] =
			(struct extent){.logical = names->block_count, .start = block, .count = 1};
	} else {
		errx(1, "%s: too large a directory", names->craft->path);
	}
	names->block_count++;
}

/* The last entry of a block reaches to its end. */
static void flush_block(struct names *names)
{
	struct ext2_dir_entry_2 *last = (void *)(names->block + names->last);
	uint32_t block = craft_blocks(names->craft, 1);

	last->rec_len = htole16((uint16_t)(BLOCK_BYTES - names->last));
	craft_write(names->craft, block * (uint64_t)BLOCK_BYTES, names->block,
		    sizeof(names->block));
	add_block(names, block);
	names->used = 0;
	memset(names->block, 0, sizeof(names->block));
}

void names_add(struct names *names, uint32_t inode, uint8_t type, const char *name, size_t length)
{
	size_t record_bytes = EXT2_DIR_REC_LEN(length);

	if (names->used + record_bytes > BLOCK_BYTES)
		flush_block(names);

	struct ext2_dir_entry_2 *entry = (void *)(names->block + names->used);

	entry->inode = htole32(inode);
	entry->rec_len = htole16((uint16_t)record_bytes);
	entry->name_len = (uint8_t)length;
	entry->file_type = type;
	memcpy(entry->name, name, length);
	names->last = names->used;
	names->used += record_bytes;
}

void names_end(struct names *names)
{
	flush_block(names);
	craft_put_inode(names->craft, names->directory, S_IFDIR | 0755,
			names->block_count * (uint64_t)BLOCK_BYTES, 0, 0);
	craft_map(names->craft, names->directory, names->extents, names->extent_count);
}
