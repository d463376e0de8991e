/* What the reader makes of good images, of those a kernel or e2fsck has worked on, and of lies. */
#include "tests/unit/fsimage_helpers.h"

#include <endian.h>
#include <ext2fs/ext2_fs.h>

static const struct fsmeta plain = {.mode = 0644, .uid = 1000, .gid = 1000, .mtime = {TEST_NOW, 7}};

#define SUPER(field) (1024 + offsetof(struct ext2_super_block, field))

/*
 * The image that the tests work on, in order of inode numbers from 11 on: alpha/ bravo/ file
 * symlink (to a target in a block) victim; then alpha/inner/ and alpha/inner/deep.
 */
enum { ALPHA = 11, BRAVO, FILE_INODE, SYMLINK, VICTIM, INNER, DEEP };

static uint8_t file_bytes[10000];

static void make_image(void)
{
	struct fsimage_options options = default_options();
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);
	struct fsnode *alpha = fstree_add_directory(tree, root, "alpha", &plain, &test_error);
	struct fsnode *inner = fstree_add_directory(tree, alpha, "inner", &plain, &test_error);
	char target[101];

	for (size_t i = 0; i < sizeof(file_bytes); i++)
		file_bytes[i] = i * 31 + i / 256;
	memset(target, 't', 100);
	target[100] = '\0';
	fstree_add_directory(tree, root, "bravo", &plain, &test_error);
	fstree_add_bytes(tree, root, "file", &plain, file_bytes, sizeof(file_bytes), &test_error);
	fstree_add_symlink(tree, root, "symlink", &plain, target, &test_error);
	fstree_add_bytes(tree, root, "victim", &plain, "victim", 6, &test_error);
	fstree_add_bytes(tree, inner, "deep", &plain, "deep", 4, &test_error);
	options.free_bytes = 4 << 20;
	assert_success(write_image(tree, "test.img", &options));
	fstree_free(tree);
}

/* --- where things are in test.img --- */

static uint64_t inode_at(uint32_t inode)
{
	uint32_t table;
	int fd = open("test.img", O_RDONLY);

	assert_int_equal(
		pread(fd, &table, 4, 4096 + offsetof(struct ext2_group_desc, bg_inode_table)), 4);
	close(fd);
	return le32toh(table) * 4096ULL + (inode - 1) * 256;
}

#define INODE(inode, field) (inode_at(inode) + offsetof(struct ext2_inode_large, field))

/* The words of an inode's block map: three of header, then logical, length and start. */
#define EXTENT_DEPTH(inode)  (INODE(inode, i_block) + 6)
#define EXTENT_COUNT(inode)  (INODE(inode, i_block) + 2)
#define EXTENT_LENGTH(inode) (INODE(inode, i_block) + 16)
#define EXTENT_START(inode)  (INODE(inode, i_block) + 20)

static uint32_t word_at(uint64_t offset)
{
	uint32_t word;
	int fd = open("test.img", O_RDONLY);

	assert_int_equal(pread(fd, &word, 4, offset), 4);
	close(fd);
	return le32toh(word);
}

static void patch16(uint64_t offset, uint16_t value)
{
	value = htole16(value);
	patch("test.img", offset, &value, 2);
}

static void patch32(uint64_t offset, uint32_t value)
{
	value = htole32(value);
	patch("test.img", offset, &value, 4);
}

/* The offset of the entry NAME in the first block of a directory. */
static uint64_t entry_at(uint32_t directory, const char *name)
{
	uint64_t block = word_at(EXTENT_START(directory)) * 4096ULL;
	char bytes[4096];
	int fd = open("test.img", O_RDONLY);

	assert_int_equal(pread(fd, bytes, sizeof(bytes), block), sizeof(bytes));
	close(fd);

	const char *found = memmem(bytes, sizeof(bytes), name, strlen(name));

	assert_non_null(found);
	return block + (found - bytes) - 8;
}

/* --- expectations --- */

static int ignore_entry(void *context, const char *name, const struct fsstat *stat,
			struct error *error)
{
	(void)context, (void)name, (void)stat, (void)error;
	return 0;
}

static struct fsimage *walked;

/* Walks a whole image and reads all that is in it. */
static int visit_all(void *context, const char *name, const struct fsstat *stat,
		     struct error *error)
{
	unsigned *count = context;
	char bytes[5000];

	assert_null(strchr(name, '/'));
	assert_true(strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && *name);
	++*count;
	if (S_ISDIR(stat->mode))
		return fsimage_list(walked, stat->inode, visit_all, context, error);
	if (S_ISLNK(stat->mode))
		return fsimage_readlink(walked, stat->inode, bytes, sizeof(bytes), error);
	if (S_ISREG(stat->mode))
		return fsimage_read(walked, stat->inode, 0, bytes, sizeof(bytes), error) < 0 ? -1
											     : 0;
	return 0;
}

static int walk(const char *path, unsigned *count)
{
	int fd = open(path, O_RDONLY);
	int result = -1;

	assert_true(fd >= 0);
	*count = 0;
	walked = fsimage_open(fd, path, NULL, &test_error);
	if (walked)
		result = fsimage_list(walked, EXT2_ROOT_INO, visit_all, count, &test_error);
	fsimage_close(walked);
	close(fd);
	return result;
}

static void assert_walk_fails(const char *why)
{
	unsigned count;

	assert_error(walk("test.img", &count), why);
}

static void assert_open_fails(const char *path, const char *why)
{
	int fd = open(path, O_RDONLY);

	assert_true(fd >= 0);
	assert_null(fsimage_open(fd, path, NULL, &test_error));
	close(fd);
	if (!strstr(test_error.text, why))
		fail_msg("'%s' is not in '%s'", why, test_error.text);
}

/* One lie: the number VALUE of BYTES at OFFSET, in an image that is fine otherwise. */
#define ASSERT_LIE(patch_call, check_call)                                                         \
	do {                                                                                       \
		make_image();                                                                      \
		patch_call;                                                                        \
		check_call;                                                                        \
	} while (0)

/* --- good images --- */

static void whole_image_is_walked(void **state)
{
	unsigned count;

	(void)state;
	make_image();
	assert_success(walk("test.img", &count));
	assert_int_equal(count, 7);
}

static void open_checks_label_and_tells_uuid(void **state)
{
	static const uint8_t expected[16] = {0x6a, 0x6f, 0x62, 4,  5,  6,  7,  8,
					     9,	   10,	 11,   12, 13, 14, 15, 16};
	uint8_t uuid[16];

	(void)state;
	make_image();

	int fd = open("test.img", O_RDONLY);
	struct fsimage *image = fsimage_open(fd, "test.img", TEST_LABEL, &test_error);

	assert_non_null(image);
	fsimage_uuid(image, uuid);
	assert_memory_equal(uuid, expected, 16);
	fsimage_close(image);
	assert_null(fsimage_open(fd, "test.img", "JOBVM-JOB", &test_error));
	assert_string_equal(test_error.text,
			    "test.img has the label 'JOBVM-TEST', not 'JOBVM-JOB'");
	close(fd);
}

static void lookups(void **state)
{
	static const char *const missing[] = {"x",	  "alph",      "alphaa",      "alpha/x",
					      "file/x",	  "symlink/x", ".",	      "..",
					      "alpha/..", "/",	       "alpha//inner"};
	struct fsstat stat;

	(void)state;
	make_image();

	struct opened opened = open_image("test.img");

	assert_int_equal(stat_in(opened.image, "").inode, EXT2_ROOT_INO);
	assert_int_equal(stat_in(opened.image, "alpha/inner/deep").inode, DEEP);
	assert_int_equal(stat_in(opened.image, "alpha/inner/deep").size_bytes, 4);
	assert_true(S_ISLNK(stat_in(opened.image, "symlink").mode));
	for (unsigned i = 0; i < sizeof(missing) / sizeof(missing[0]); i++)
		assert_int_equal(fsimage_lookup(opened.image, missing[i], &stat, &test_error), 1);
	close_image(&opened);
}

static int stop_at_bravo(void *context, const char *name, const struct fsstat *stat,
			 struct error *error)
{
	(void)stat, (void)error;
	++*(unsigned *)context;
	return strcmp(name, "bravo") == 0 ? 42 : 0;
}

static void visitor_ends_the_list(void **state)
{
	unsigned visited = 0;

	(void)state;
	make_image();

	struct opened opened = open_image("test.img");

	assert_int_equal(
		fsimage_list(opened.image, EXT2_ROOT_INO, stop_at_bravo, &visited, &test_error),
		42);
	assert_int_equal(visited, 2);
	close_image(&opened);
}

static void reads_at_offsets(void **state)
{
	static const uint64_t offsets[] = {0, 1, 4095, 4096, 8191, 9999};
	uint8_t bytes[5000];

	(void)state;
	make_image();

	struct opened opened = open_image("test.img");

	for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		size_t expected = sizeof(file_bytes) - offsets[i];

		if (expected > sizeof(bytes))
			expected = sizeof(bytes);
		assert_int_equal(fsimage_read(opened.image, FILE_INODE, offsets[i], bytes,
					      sizeof(bytes), &test_error),
				 expected);
		assert_memory_equal(bytes, file_bytes + offsets[i], expected);
	}
	assert_int_equal(fsimage_read(opened.image, FILE_INODE, 10000, bytes, 1, &test_error), 0);
	assert_int_equal(fsimage_read(opened.image, FILE_INODE, UINT64_MAX, bytes, 1, &test_error),
			 0);
	assert_error(fsimage_read(opened.image, ALPHA, 0, bytes, 1, &test_error),
		     "not of the type");
	close_image(&opened);
}

static void copies_and_links_have_bounds(void **state)
{
	char target[101];

	(void)state;
	make_image();

	struct opened opened = open_image("test.img");
	int fd = open("copy", O_RDWR | O_CREAT, 0600);

	assert_error(fsimage_copy(opened.image, FILE_INODE, 9999, fd, "copy", &test_error),
		     "copy: 10000 bytes are more than the 9999 allowed");
	assert_int_equal(lseek(fd, 0, SEEK_END), 0);
	assert_success(fsimage_copy(opened.image, FILE_INODE, 10000, fd, "copy", &test_error));
	assert_int_equal(lseek(fd, 0, SEEK_END), 10000);
	close(fd);
	assert_success(fsimage_readlink(opened.image, SYMLINK, target, 101, &test_error));
	assert_int_equal(strspn(target, "t"), 100);
	assert_error(fsimage_readlink(opened.image, SYMLINK, target, 100, &test_error), "too long");
	assert_error(fsimage_readlink(opened.image, FILE_INODE, target, 101, &test_error),
		     "not a symlink");
	close_image(&opened);
}

/* --- what others have done to an image --- */

static void indexed_directory_is_listed(void **state)
{
	struct fsimage_options options = default_options();
	struct fstree *tree = new_tree();
	char name[256];
	unsigned count;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "%0200u", i);
		assert_non_null(fstree_add_bytes(tree, fstree_root(tree), name, &plain, "", 0,
						 &test_error));
	}
	/* e2fsck would make one, in a way that no kernel does with these features. */
	assert_non_null(
		fstree_add_directory(tree, fstree_root(tree), "lost+found", &plain, &test_error));
	assert_success(write_image(tree, "test.img", &options));
	fstree_free(tree);
	run("e2fsck -fyD test.img >fsck.log 2>&1"); /* 1: it has changed something */
	assert_fsck_clean("test.img");
	assert_int_equal(
		run("debugfs -R 'htree_dump /' test.img 2>&1 | grep -q 'Indirect levels: 1'"), 0);
	assert_success(walk("test.img", &count));
	assert_int_equal(count, 20001);
}

static void unwritten_blocks_are_zeros_and_holes(void **state)
{
	uint8_t bytes[20000];
	struct stat stat;

	(void)state;
	make_image();
	assert_int_equal(run("debugfs -w -R 'fallocate /victim 1 3' test.img >log 2>&1"), 0);
	patch32(INODE(VICTIM, i_size), 13000);
	assert_fsck_clean("test.img");

	struct opened opened = open_image("test.img");
	int fd = open("copy", O_RDWR | O_CREAT, 0600);

	/* What was in those blocks before must not be seen. */
	patch("test.img", (word_at(EXTENT_START(VICTIM)) + 1) * 4096ULL, "stale", 5);
	assert_int_equal(fsimage_read(opened.image, VICTIM, 0, bytes, sizeof(bytes), &test_error),
			 13000);
	assert_memory_equal(bytes, "victim", 6);
	for (unsigned i = 6; i < 13000; i++)
		assert_int_equal(bytes[i], 0);
	assert_success(fsimage_copy(opened.image, VICTIM, 13000, fd, "copy", &test_error));
	assert_int_equal(fstat(fd, &stat), 0);
	assert_int_equal(stat.st_size, 13000);
	assert_int_equal(lseek(fd, 0, SEEK_HOLE), 4096);
	close(fd);
	close_image(&opened);
}

static void extended_attributes_are_read(void **state)
{
	char value[4000], expected[3000];

	(void)state;
	make_image();
	memset(expected, 'v', sizeof(expected));
	scratch_write("value", expected, sizeof(expected));
	assert_int_equal(
		run("debugfs -w -R 'ea_set /alpha trusted.overlay.opaque y' test.img >log 2>&1"),
		0);
	assert_int_equal(run("debugfs -w -R 'ea_set -f value /file user.big' test.img >log 2>&1"),
			 0);
	assert_fsck_clean("test.img");

	struct opened opened = open_image("test.img");

	assert_int_equal(fsimage_getxattr(opened.image, ALPHA, "trusted.overlay.opaque", value,
					  sizeof(value), &test_error),
			 1);
	assert_int_equal(value[0], 'y');
	assert_int_equal(fsimage_getxattr(opened.image, BRAVO, "trusted.overlay.opaque", value,
					  sizeof(value), &test_error),
			 0);
	assert_int_equal(fsimage_getxattr(opened.image, FILE_INODE, "user.big", value,
					  sizeof(value), &test_error),
			 sizeof(expected));
	assert_memory_equal(value, expected, sizeof(expected));
	assert_error(
		fsimage_getxattr(opened.image, FILE_INODE, "user.big", value, 2999, &test_error),
		"too long");
	close_image(&opened);
}

static void unclean_images_are_told_apart(void **state)
{
	int fd;

	(void)state;
	make_image();
	fd = open("test.img", O_RDONLY);
	assert_int_equal(fsimage_needs_recovery(fd, "test.img", &test_error), 0);

	/* As the kernel leaves it with a journal, and without one. */
	patch32(SUPER(s_feature_incompat),
		word_at(SUPER(s_feature_incompat)) | EXT3_FEATURE_INCOMPAT_RECOVER);
	assert_open_fails("test.img", "test.img was not cleanly unmounted");
	assert_int_equal(fsimage_needs_recovery(fd, "test.img", &test_error), 1);
	close(fd);
	make_image();
	patch16(SUPER(s_state), 0);
	fd = open("test.img", O_RDONLY);
	assert_open_fails("test.img", "test.img was not cleanly unmounted");
	assert_int_equal(fsimage_needs_recovery(fd, "test.img", &test_error), 1);

	patch16(SUPER(s_state), EXT2_VALID_FS | EXT2_ERROR_FS);
	assert_open_fails("test.img", "found errors");
	assert_int_equal(fsimage_needs_recovery(fd, "test.img", &test_error), 0);
	close(fd);

	scratch_write("text", "no image", 8);
	fd = open("text", O_RDONLY);
	assert_int_equal(fsimage_needs_recovery(fd, "text", &test_error), -1);
	close(fd);
}

/* --- other files --- */

static void other_files_are_refused(void **state)
{
	(void)state;
	scratch_write("empty", "", 0);
	assert_open_fails("empty", "empty is not an ext4 image");
	scratch_write("short", "QFI\xfb", 4);
	assert_open_fails("short", "short is not an ext4 image");
	assert_int_equal(run("truncate -s 8M zeros"), 0);
	assert_open_fails("zeros", "zeros is not an ext4 image");
	assert_open_fails("/dev/null", "not a regular file");
	assert_int_equal(run("truncate -s 64M plain && mke2fs -q -F -t ext4 plain"), 0);
	assert_open_fails("plain", "it has the ext4 feature");
	assert_int_equal(run("mke2fs -q -F -t ext2 plain"), 0);
	assert_open_fails("plain", "plain is not an ext4 image");
}

static void ambiguous_image_is_refused(void **state)
{
	(void)state;
	make_image();
	/* A squashfs of version 4, in the place that ext4 leaves to boot loaders. */
	patch("test.img", 0, "hsqs", 4);
	patch32(28, 4);
	assert_open_fails("test.img", "looks like more than one kind of file system");
}

static void truncated_image_is_refused(void **state)
{
	(void)state;
	make_image();
	assert_int_equal(truncate("test.img", 4 << 20), 0);
	assert_open_fails("test.img", "larger than its file");
	assert_int_equal(truncate("test.img", 1500), 0);
	assert_open_fails("test.img", "test.img is not an ext4 image");
}

static void lies_in_the_superblock(void **state)
{
	(void)state;
	ASSERT_LIE(patch32(SUPER(s_blocks_count), 0x10000000),
		   assert_open_fails("test.img", "larger than its file"));
	ASSERT_LIE(patch32(SUPER(s_blocks_count), 0), assert_open_fails("test.img", ""));
	ASSERT_LIE(patch32(SUPER(s_blocks_per_group), 8),
		   assert_open_fails("test.img", "block groups have an impossible size"));
	ASSERT_LIE(patch32(SUPER(s_blocks_per_group), 0),
		   assert_open_fails("test.img", "block groups have an impossible size"));
	ASSERT_LIE(patch32(SUPER(s_inodes_per_group), 0x80000000),
		   assert_open_fails("test.img", "inode tables have an impossible size"));
	ASSERT_LIE(patch32(SUPER(s_inodes_count), 0x7fffffff),
		   assert_open_fails("test.img", "inode tables have an impossible size"));
	ASSERT_LIE(patch16(SUPER(s_inode_size), 128), assert_open_fails("test.img", "inodes"));
	ASSERT_LIE(patch32(SUPER(s_log_block_size), 0), assert_open_fails("test.img", "blocks"));
	ASSERT_LIE(patch32(SUPER(s_first_data_block), 1), assert_open_fails("test.img", "blocks"));
	ASSERT_LIE(patch16(SUPER(s_reserved_gdt_blocks), 1000),
		   assert_open_fails("test.img", "resizing"));
}

/* Each feature that is not ours, in each of the three words. */
static void other_features_are_refused(void **state)
{
	static const struct {
		size_t offset;
		uint32_t ours;
	} words[] = {
		{SUPER(s_feature_compat), EXT3_FEATURE_COMPAT_HAS_JOURNAL},
		{SUPER(s_feature_incompat), EXT3_FEATURE_INCOMPAT_RECOVER},
		{SUPER(s_feature_ro_compat), 0},
	};

	(void)state;
	make_image();
	for (unsigned i = 0; i < 3; i++) {
		uint32_t original = word_at(words[i].offset);

		for (unsigned bit = 0; bit < 32; bit++) {
			if (words[i].ours & 1U << bit)
				continue;
			patch32(words[i].offset, original ^ 1U << bit);
			assert_open_fails("test.img", "test.img");
		}
		patch32(words[i].offset, original);
	}
	close_image(&(struct opened){open("test.img", O_RDONLY), open_image("test.img").image});
}

/* --- lies in directories --- */

static void rename_entry(const char *from, const char *to, size_t length)
{
	uint64_t entry = entry_at(EXT2_ROOT_INO, from);
	uint8_t name_bytes = length;

	patch("test.img", entry + 6, &name_bytes, 1);
	patch("test.img", entry + 8, to, length);
}

static void lies_in_names(void **state)
{
	struct fsstat stat;

	(void)state;
	ASSERT_LIE(rename_entry("victim", "..", 2), assert_walk_fails("no file can have"));
	ASSERT_LIE(rename_entry("victim", ".", 1), assert_walk_fails("no file can have"));
	ASSERT_LIE(rename_entry("victim", "", 0), assert_walk_fails("no file can have"));
	ASSERT_LIE(rename_entry("victim", "a/b", 3), assert_walk_fails("no file can have"));
	ASSERT_LIE(rename_entry("victim", "../../x", 7), assert_walk_fails("no file can have"));
	ASSERT_LIE(rename_entry("victim", "a\0b", 3), assert_walk_fails("no file can have"));
	ASSERT_LIE(rename_entry("victim", "file", 4), assert_walk_fails("twice"));
	/* A lookup sees the same. */
	struct opened opened = open_image("test.img");

	assert_error(fsimage_lookup(opened.image, "file", &stat, &test_error), "twice");
	close_image(&opened);
	/* "." and ".." themselves. */
	ASSERT_LIE(patch32(entry_at(EXT2_ROOT_INO, ".\0"), ALPHA),
		   assert_walk_fails("'.' and '..'"));
	ASSERT_LIE(patch32(entry_at(ALPHA, ".."), BRAVO), assert_walk_fails("'.' and '..'"));
	ASSERT_LIE(patch("test.img", entry_at(ALPHA, "..") + 8, "xx", 2),
		   assert_walk_fails("'.' and '..'"));
}

static void lies_in_entries(void **state)
{
	(void)state;
	ASSERT_LIE(patch16(entry_at(EXT2_ROOT_INO, "bravo") + 4, 0), assert_walk_fails("damaged"));
	ASSERT_LIE(patch16(entry_at(EXT2_ROOT_INO, "bravo") + 4, 13), assert_walk_fails("damaged"));
	ASSERT_LIE(patch16(entry_at(EXT2_ROOT_INO, "bravo") + 4, 65532),
		   assert_walk_fails("damaged"));
	ASSERT_LIE(patch("test.img", entry_at(EXT2_ROOT_INO, "bravo") + 6, "\xff", 1),
		   assert_walk_fails("damaged"));
	/* The last entry ends four bytes before the block does. */
	ASSERT_LIE(patch16(entry_at(EXT2_ROOT_INO, "victim") + 4,
			   4096 - entry_at(EXT2_ROOT_INO, "victim") % 4096 - 4),
		   assert_walk_fails("damaged"));
	/* Reserved, impossible, unused. */
	ASSERT_LIE(patch32(entry_at(EXT2_ROOT_INO, "victim"), 8), assert_walk_fails("inode 8"));
	ASSERT_LIE(patch32(entry_at(EXT2_ROOT_INO, "victim"), 0xffffffff),
		   assert_walk_fails("inode 4294967295"));
	ASSERT_LIE(patch32(entry_at(EXT2_ROOT_INO, "victim"), 30), assert_walk_fails("not in use"));
	/* Another type than the inode has. */
	ASSERT_LIE(patch("test.img", entry_at(EXT2_ROOT_INO, "victim") + 7, "\2", 1),
		   assert_walk_fails("another type"));
	ASSERT_LIE(patch32(entry_at(EXT2_ROOT_INO, "victim"), ALPHA),
		   assert_walk_fails("another type"));
}

static void directories_are_a_tree(void **state)
{
	struct fsstat stat;

	(void)state;
	/* A hard link to a directory elsewhere, to its own ancestor, to the root. */
	ASSERT_LIE(patch32(entry_at(EXT2_ROOT_INO, "bravo"), INNER), assert_walk_fails("inode 1"));
	ASSERT_LIE(patch32(entry_at(EXT2_ROOT_INO, "bravo"), ALPHA),
		   assert_walk_fails("in two places"));
	ASSERT_LIE(patch32(entry_at(ALPHA, "inner"), ALPHA), assert_walk_fails("in two places"));
	ASSERT_LIE(patch32(entry_at(ALPHA, "inner"), EXT2_ROOT_INO),
		   assert_walk_fails("in two places"));
	/* Nor by lookups. */
	struct opened opened = open_image("test.img");

	assert_error(fsimage_lookup(opened.image, "alpha/inner", &stat, &test_error),
		     "in two places");
	/* A directory that no name has led to. */
	assert_error(fsimage_list(opened.image, INNER, ignore_entry, NULL, &test_error),
		     "no name led");
	close_image(&opened);
	/* The same list twice is none of that. */
	make_image();
	opened = open_image("test.img");
	assert_int_equal(stat_in(opened.image, "alpha/inner").inode, INNER);
	assert_success(fsimage_list(opened.image, ALPHA, ignore_entry, NULL, &test_error));
	assert_success(fsimage_list(opened.image, ALPHA, ignore_entry, NULL, &test_error));
	close_image(&opened);
}

/* --- lies in inodes --- */

static void lies_in_inodes(void **state)
{
	(void)state;
	ASSERT_LIE(patch16(INODE(VICTIM, i_links_count), 0), assert_walk_fails("not in use"));
	ASSERT_LIE(patch16(INODE(VICTIM, i_mode), 0), assert_walk_fails("not in use"));
	ASSERT_LIE(patch16(INODE(VICTIM, i_mode), 0170644), assert_walk_fails("not in use"));
	ASSERT_LIE(patch32(INODE(VICTIM, i_flags), EXT4_EXTENTS_FL | EXT4_INLINE_DATA_FL),
		   assert_walk_fails("flags"));
	ASSERT_LIE(patch32(INODE(VICTIM, i_flags), EXT4_EXTENTS_FL | EXT4_ENCRYPT_FL),
		   assert_walk_fails("flags"));
	ASSERT_LIE(patch32(INODE(VICTIM, i_flags), 0), assert_walk_fails("not in extents"));
	ASSERT_LIE(patch16(INODE(VICTIM, i_extra_isize), 0xfffc), assert_walk_fails("extra"));
	ASSERT_LIE(patch32(INODE(VICTIM, i_size_high), 0xffff), assert_walk_fails("size"));
	ASSERT_LIE(patch32(INODE(VICTIM, i_mtime_extra), 0xffffffff), assert_walk_fails("time"));
	ASSERT_LIE(patch32(INODE(ALPHA, i_size), 4095), assert_walk_fails("impossible size"));
	ASSERT_LIE(patch32(INODE(ALPHA, i_size), 0), assert_walk_fails("impossible size"));
	ASSERT_LIE(patch32(INODE(ALPHA, i_size_high), 1), assert_walk_fails("impossible size"));
	/* A hole in a directory. */
	ASSERT_LIE(patch32(INODE(ALPHA, i_size), 8192), assert_walk_fails("damaged"));
	ASSERT_LIE(patch32(INODE(SYMLINK, i_size), 0), assert_walk_fails("target is damaged"));
	ASSERT_LIE(patch32(INODE(SYMLINK, i_size), 101), assert_walk_fails("target is damaged"));
	ASSERT_LIE(patch32(INODE(SYMLINK, i_size), 1 << 30), assert_walk_fails("too long"));
	ASSERT_LIE(patch32(INODE(SYMLINK, i_flags), 0), assert_walk_fails("target is damaged"));
}

static void lies_in_extents(void **state)
{
	static const uint32_t magic_then_one_entry[] = {0x0001f30a, 0x00010004};

	(void)state;
	ASSERT_LIE(patch16(INODE(VICTIM, i_block), 0), assert_walk_fails("tree is damaged"));
	ASSERT_LIE(patch16(EXTENT_COUNT(VICTIM), 5), assert_walk_fails("tree is damaged"));
	ASSERT_LIE(patch16(EXTENT_COUNT(VICTIM), 0xffff), assert_walk_fails("tree is damaged"));
	ASSERT_LIE(patch32(EXTENT_START(VICTIM), 0), assert_walk_fails("tree is damaged"));
	ASSERT_LIE(patch32(EXTENT_START(VICTIM), 0xffffffff), assert_walk_fails("tree is damaged"));
	ASSERT_LIE(patch32(EXTENT_START(VICTIM), word_at(SUPER(s_blocks_count))),
		   assert_walk_fails("tree is damaged"));
	ASSERT_LIE(patch16(EXTENT_LENGTH(VICTIM), 0), assert_walk_fails("tree is damaged"));
	ASSERT_LIE(patch16(EXTENT_LENGTH(VICTIM), 0x8000), assert_walk_fails("tree is damaged"));
	ASSERT_LIE(patch16(EXTENT_LENGTH(VICTIM) + 2, 1), assert_walk_fails("tree is damaged"));
	/* Two extents for the same block: the second one is zeros, which start at block 0 too. */
	ASSERT_LIE(patch16(EXTENT_COUNT(VICTIM), 2), assert_walk_fails("tree is damaged"));
	ASSERT_LIE(patch16(EXTENT_DEPTH(VICTIM), 6), assert_walk_fails("tree is damaged"));
	ASSERT_LIE(patch16(EXTENT_DEPTH(VICTIM), 0xffff), assert_walk_fails("tree is damaged"));
	/* An index block that is its own child. */
	make_image();

	uint32_t block = word_at(EXTENT_START(VICTIM));

	patch16(EXTENT_DEPTH(VICTIM), 5);
	patch32(INODE(VICTIM, i_block) + 16, block);
	patch32(INODE(VICTIM, i_block) + 20, 0);
	patch("test.img", block * 4096ULL, magic_then_one_entry, sizeof(magic_then_one_entry));
	patch32(block * 4096ULL + 16, block);
	patch32(block * 4096ULL + 20, 0);
	assert_walk_fails("tree is damaged");
}

/* A file may claim any size: the copy is as sparse as the claim is empty. */
static void huge_sparse_file_costs_nothing(void **state)
{
	struct stat stat;

	(void)state;
	make_image();
	patch32(INODE(VICTIM, i_size_high), 256); /* 1 TiB */

	struct opened opened = open_image("test.img");
	int fd = open("copy", O_RDWR | O_CREAT, 0600);

	assert_error(fsimage_copy(opened.image, VICTIM, 1 << 30, fd, "copy", &test_error),
		     "allowed");
	assert_success(fsimage_copy(opened.image, VICTIM, 2ULL << 40, fd, "copy", &test_error));
	assert_int_equal(fstat(fd, &stat), 0);
	assert_true(stat.st_size >= 1LL << 40 && stat.st_blocks <= 64);
	close(fd);
	close_image(&opened);
}

/* Whatever single byte of the metadata is wrong, the reader ends, with or without an error. */
static void any_wrong_byte_is_survived(void **state)
{
	uint64_t regions[][2] = {{1024, 1024 + 256}, {4096, 4096 + 32}, {0, 0}, {0, 0}, {0, 0}};
	unsigned refused = 0, count;

	(void)state;
	make_image();
	regions[2][0] = inode_at(2);
	regions[2][1] = inode_at(3);
	regions[3][0] = inode_at(ALPHA);
	regions[3][1] = inode_at(DEEP + 1);
	regions[4][0] = word_at(EXTENT_START(EXT2_ROOT_INO)) * 4096ULL;
	regions[4][1] = regions[4][0] + 128;
	for (unsigned i = 0; i < 5; i++) {
		for (uint64_t offset = regions[i][0]; offset < regions[i][1]; offset++) {
			uint8_t original = word_at(offset), wrong = ~original;

			patch("test.img", offset, &wrong, 1);
			refused += walk("test.img", &count) < 0;
			patch("test.img", offset, &original, 1);
		}
	}
	assert_true(refused > 250);
	assert_success(walk("test.img", &count));
	assert_int_equal(count, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(whole_image_is_walked),
		IN_SCRATCH(open_checks_label_and_tells_uuid),
		IN_SCRATCH(lookups),
		IN_SCRATCH(visitor_ends_the_list),
		IN_SCRATCH(reads_at_offsets),
		IN_SCRATCH(copies_and_links_have_bounds),
		IN_SCRATCH(indexed_directory_is_listed),
		IN_SCRATCH(unwritten_blocks_are_zeros_and_holes),
		IN_SCRATCH(extended_attributes_are_read),
		IN_SCRATCH(unclean_images_are_told_apart),
		IN_SCRATCH(other_files_are_refused),
		IN_SCRATCH(ambiguous_image_is_refused),
		IN_SCRATCH(truncated_image_is_refused),
		IN_SCRATCH(lies_in_the_superblock),
		IN_SCRATCH(other_features_are_refused),
		IN_SCRATCH(lies_in_names),
		IN_SCRATCH(lies_in_entries),
		IN_SCRATCH(directories_are_a_tree),
		IN_SCRATCH(lies_in_inodes),
		IN_SCRATCH(lies_in_extents),
		IN_SCRATCH(huge_sparse_file_costs_nothing),
		IN_SCRATCH(any_wrong_byte_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
