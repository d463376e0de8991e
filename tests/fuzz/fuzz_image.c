/*
 * A job disk that comes back: an image that our own writer made, changed where the input says.
 * The disk is opened, walked, and read as a whole, layer by layer and as the changes of a job.
 *
 * An input is a sequence of patches: a piece of the image, where in it, how many bytes, and these.
 * Pieces are what a kernel would write: the superblock, a group's descriptor, an inode, a block, a
 * directory's entry, an extent.
 */
#include <ext2fs/ext2fs.h>
#include <ext2fs/ext3_extents.h>
#include <fcntl.h>

#include "fsimage/features.h"
#include "fsimage/writer.h"
#include "host-tools/changes.h"
#include "jobdisk/layout.h"
#include "tests/fuzz/fuzz_walk.h"

#define BLOCK_BYTES  FSIMAGE_BLOCK_BYTES
#define HEADER_BYTES 4 /* of a patch: piece, offset in 16 bits, how many bytes */
#define PIECES_MAX   255
#define INODES	     64
#define SPARE_BLOCKS 8

struct piece {
	uint64_t offset;
	uint32_t size;
};

static int image_fd;
static struct piece pieces[PIECES_MAX];
static size_t piece_count;
/* Numbers that mean something in such an image. */
static uint32_t numbers[PIECES_MAX + 16];
static size_t number_count;
/* The image as it was, but for its end, which is a hole. */
static uint8_t *original;
static size_t original_bytes;

/* --- the image --- */

static struct fstree *tree;
static const struct fsmeta meta = {.mode = 0755, .uid = 1000, .gid = 1000, .mtime = {1000, 1}};

static struct fsnode *put_directory(struct fsnode *parent, const char *name)
{
	struct error error;
	struct fsnode *node = fstree_add_directory(tree, parent, name, &meta, &error);

	FUZZ_CHECK(node);
	return node;
}

static struct fsnode *put_text(struct fsnode *parent, const char *name, const char *text)
{
	struct error error;
	struct fsnode *node =
		fstree_add_bytes(tree, parent, name, &meta, text, strlen(text), &error);

	FUZZ_CHECK(node);
	return node;
}

static void put_special(struct fsnode *parent, const char *name, mode_t type)
{
	struct fsmeta special = meta;
	struct error error;

	special.mode |= type;
	FUZZ_CHECK(fstree_add_special(tree, parent, name, &special, 0, &error));
}

/* More extents than an inode has room for, with holes between them. */
static void put_pieces(struct fsnode *parent, const char *name, int source_fd)
{
	struct fsrun runs[6];
	struct error error;

	for (size_t i = 0; i < 6; i++)
		runs[i] = (struct fsrun){2 * i * BLOCK_BYTES, 0, BLOCK_BYTES};
	FUZZ_CHECK(fstree_add_runs(tree, parent, name, &meta, source_fd, "source", runs, 6,
				   12 * BLOCK_BYTES + 5, &error));
}

/* More than one block of names, which fill the first one to its end. */
static void put_names(struct fsnode *directory)
{
	char name[121];

	for (int i = 0; i < 34; i++) {
		memset(name, 'n', sizeof(name));
		snprintf(name + 117, sizeof(name) - 117, "%03d", i);
		put_text(directory, name, "");
	}
}

static void put_attributes(struct fsnode *node)
{
	static const uint8_t acl[] = {
		2, 0,	 0,    0,    1,	   0,	 7,  0, 0xff, 0xff, 0xff, 0xff, 2,    0,   4,
		0, 0xe8, 3,    0,    0,	   4,	 0,  5, 0,    0xff, 0xff, 0xff, 0xff, 16,  0,
		7, 0,	 0xff, 0xff, 0xff, 0xff, 32, 0, 0,    0,    0xff, 0xff, 0xff, 0xff};
	char large[1000];
	struct error error;

	memset(large, 'x', sizeof(large));
	FUZZ_CHECK(fstree_set_xattr(tree, node, "user.small", "1", 1, &error) == 0);
	FUZZ_CHECK(fstree_set_xattr(tree, node, "user.large", large, sizeof(large), &error) == 0);
	FUZZ_CHECK(fstree_set_xattr(tree, node, "system.posix_acl_access", acl, sizeof(acl),
				    &error) == 0);
}

static void put_layers(struct fsnode *root, int source_fd)
{
	char target[101] = "";
	struct error error;
	struct fsnode *input = put_directory(root, JOBDISK_INPUT);
	struct fsnode *output = put_directory(root, JOBDISK_OUTPUT);
	struct fsnode *opaque = put_directory(output, "opaque");
	struct fsnode *file = put_text(output, "changed", "new");

	memset(target, 't', sizeof(target) - 1);
	put_text(input, "changed", "old");
	put_text(input, "deleted", "");
	put_text(put_directory(input, "opaque"), "hidden", "");
	put_names(put_directory(input, "names"));
	put_special(output, "deleted", S_IFCHR);
	put_special(output, "fifo", S_IFIFO);
	FUZZ_CHECK(fstree_set_xattr(tree, opaque, "trusted.overlay.opaque", "y", 1, &error) == 0);
	put_attributes(file);
	FUZZ_CHECK(fstree_add_link(tree, output, "link", file, &error));
	FUZZ_CHECK(fstree_add_symlink(tree, output, "short", &meta, "changed", &error));
	FUZZ_CHECK(fstree_add_symlink(tree, output, "long", &meta, target, &error));
	put_pieces(output, "pieces", source_fd);
}

static void write_image(void)
{
	static const struct fsimage_options options = {
		.label = JOBDISK_LABEL,
		.uuid = "jobvm's own uuid",
		.free_bytes = 1 << 20,
		.now = 1000,
	};
	char block[BLOCK_BYTES];
	struct error error;

	memset(block, 'b', sizeof(block));
	int source_fd = fuzz_file(block, sizeof(block));
	tree = fstree_new(&meta);
	FUZZ_CHECK(tree);
	put_layers(fstree_root(tree), source_fd);
	put_text(fstree_root(tree), JOBDISK_STDOUT, "out");
	put_text(fstree_root(tree), JOBDISK_RESULT, "version=1\n");
	image_fd = fuzz_file("", 0);
	FUZZ_CHECK(fsimage_write(tree, image_fd, "image", &options, &error) == 0);
	fstree_free(tree);
	close(source_fd);
}

/* --- its pieces --- */

static void add_piece(uint64_t offset, uint32_t size)
{
	FUZZ_CHECK(piece_count < PIECES_MAX);
	pieces[piece_count++] = (struct piece){offset, size};
}

static void add_number(uint32_t number)
{
	FUZZ_CHECK(number_count < sizeof(numbers) / sizeof(numbers[0]));
	numbers[number_count++] = number;
}

static uint32_t inode_table_block(void)
{
	uint32_t block;

	/* bg_inode_table_lo of the first group. */
	memcpy(&block, original + BLOCK_BYTES + 8, sizeof(block));
	return le32toh(block);
}

static void read_original(void)
{
	off_t end = 0, data = 0;

	while ((data = lseek(image_fd, end, SEEK_DATA)) >= 0)
		end = lseek(image_fd, data, SEEK_HOLE);
	original_bytes = (size_t)end + SPARE_BLOCKS * BLOCK_BYTES;
	original = calloc(1, original_bytes);
	FUZZ_CHECK(original && pread(image_fd, original, (size_t)end, 0) == end);
}

/* A directory's block is one whose entries fill it: adds them, without the most of their names. */
static void add_entries(uint64_t block)
{
	const uint8_t *bytes = original + block;
	size_t offset = 0, count = 0, offsets[BLOCK_BYTES / 12];

	while (offset < BLOCK_BYTES) {
		const struct ext2_dir_entry_2 *entry = (const void *)(bytes + offset);
		size_t length = le16toh(entry->rec_len);

		if (length < 12 || length % 4 || length > BLOCK_BYTES - offset)
			return;
		offsets[count++] = offset;
		offset += length;
	}
	for (size_t i = 0; i < count; i++)
		add_piece(block + offsets[i], 12);
}

static void add_extents(uint64_t block)
{
	const struct ext3_extent_header *header = (const void *)(original + block);

	for (size_t i = 0; le16toh(header->eh_magic) == 0xf30a && i <= le16toh(header->eh_entries);
	     i++)
		add_piece(block + 12 * i, 12);
}

/* The first two blocks have the superblock and the descriptors. */
static void find_pieces(void)
{
	uint64_t table = (uint64_t)inode_table_block() * BLOCK_BYTES;
	uint64_t table_end = table + INODES * IMAGE_INODE_BYTES;
	static const uint32_t constants[] = {
		0,	1,	2,	11,	12,	 0xff,	   0xff8,      0x1000,
		0x7fff, 0x8000, 0xf30a, 0xffff, 0x80000, 0xff0ff8, 0x7fffffff, 0xffffffff};

	add_piece(1024, 1024);
	add_piece(BLOCK_BYTES, 32);
	for (uint64_t at = table; at < table_end; at += IMAGE_INODE_BYTES)
		add_piece(at, IMAGE_INODE_BYTES);
	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
		add_number(constants[i]);
	for (uint64_t at = (uint64_t)2 * BLOCK_BYTES; at < original_bytes; at += BLOCK_BYTES) {
		if (lseek(image_fd, (off_t)at, SEEK_DATA) != (off_t)at &&
		    at < original_bytes - SPARE_BLOCKS * BLOCK_BYTES)
			continue;
		if (at >= table && at < table_end)
			continue;
		add_piece(at, BLOCK_BYTES);
		add_number((uint32_t)(at / BLOCK_BYTES));
		add_entries(at);
		add_extents(at);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	write_image();
	read_original();
	find_pieces();
	/* What is not changed must be read whole. */
	fuzz_walk(image_fd, true);
	return 0;
}

/* --- inputs --- */

static const struct piece *patched_piece(const uint8_t *patch)
{
	return &pieces[patch[0] % piece_count];
}

/* Calls APPLY for each patch with where its bytes go. */
static void for_each_patch(const uint8_t *bytes, size_t size,
			   void (*apply)(const uint8_t *bytes, size_t size, uint64_t offset))
{
	while (size > HEADER_BYTES) {
		const struct piece *piece = patched_piece(bytes);
		size_t start = (bytes[1] | (size_t)bytes[2] << 8) % piece->size;
		size_t length = bytes[3];

		bytes += HEADER_BYTES;
		size -= HEADER_BYTES;
		length = length < size ? length : size;
		apply(bytes, length < piece->size - start ? length : piece->size - start,
		      piece->offset + start);
		bytes += length;
		size -= length;
	}
}

static void patch_image(const uint8_t *bytes, size_t size, uint64_t offset)
{
	FUZZ_CHECK(pwrite(image_fd, bytes, size, (off_t)offset) == (ssize_t)size);
}

static void mend_image(const uint8_t *bytes, size_t size, uint64_t offset)
{
	(void)bytes;
	FUZZ_CHECK(pwrite(image_fd, original + offset, size, (off_t)offset) == (ssize_t)size);
}

static int note_change(void *context, const struct change *change, struct error *error)
{
	(void)context, (void)error;
	FUZZ_CHECK(*change->path && change_kind_name(change->kind));
	FUZZ_CHECK(file_type_name(change->stat.mode));
	return 0;
}

static void read_changes(void)
{
	struct error error = {""};
	struct fsimage *image = fsimage_open(image_fd, "image", JOBDISK_LABEL, &error);

	const struct overlay overlay = {.disk = image};

	if (image)
		FUZZ_CHECK_ERROR(changes_find(&overlay, note_change, NULL, &error), &error);
	fsimage_close(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct error error = {""};

	for_each_patch(bytes, size, patch_image);
	FUZZ_CHECK_ERROR(fsimage_needs_recovery(image_fd, "image", &error), &error);
	fuzz_walk(image_fd, false);
	read_changes();
	for_each_patch(bytes, size, mend_image);
	return 0;
}

/* --- changing inputs: what a field could hold comes from elsewhere in the image --- */

/* Appends a patch of 1, 2 or 4 bytes with one of the numbers. */
static size_t add_number_patch(uint8_t *bytes, size_t size)
{
	uint32_t number = htole32(numbers[(size_t)rand() % number_count]);
	size_t length = (size_t)1 << rand() % 3;
	uint8_t *patch = bytes + size;

	patch[0] = (uint8_t)rand();
	/* Fields are aligned, and most lie at the start of their block. */
	size_t range = patched_piece(patch)->size;
	if (range > IMAGE_INODE_BYTES && rand() % 4)
		range = IMAGE_INODE_BYTES;
	size_t start = (size_t)rand() % range / length * length;
	patch[1] = (uint8_t)start;
	patch[2] = (uint8_t)(start >> 8);
	patch[3] = (uint8_t)length;
	memcpy(patch + HEADER_BYTES, &number, length);
	return size + HEADER_BYTES + length;
}

/* Appends a patch that puts one piece's start over another's. */
static size_t add_copy_patch(uint8_t *bytes, size_t size)
{
	uint8_t *patch = bytes + size;
	const struct piece *from = &pieces[(size_t)rand() % piece_count];
	size_t length = 1 + (size_t)rand() % 255;
	size_t start = (size_t)rand() % from->size & ~(size_t)3;

	if (length > from->size - start)
		length = from->size - start;
	patch[0] = (uint8_t)rand();
	patch[1] = (uint8_t)start;
	patch[2] = (uint8_t)(start >> 8);
	patch[3] = (uint8_t)length;
	memcpy(patch + HEADER_BYTES, original + from->offset + start, length);
	return size + HEADER_BYTES + length;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t max_size, unsigned seed)
{
	srand(seed);
	if (max_size - size < HEADER_BYTES + 255 || rand() % 3 == 0)
		return LLVMFuzzerMutate(bytes, size, max_size);
	return rand() % 3 ? add_number_patch(bytes, size) : add_copy_patch(bytes, size);
}
