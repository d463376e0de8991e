/* What becomes of a tree when names come and go, and of files that are pieces of another. */
#include "tests/unit/fsimage_helpers.h"

#include <errno.h>

static const struct fsmeta plain = {.mode = 0644, .uid = 1000, .gid = 1000, .mtime = {TEST_NOW, 7}};

static struct fsnode *add_text(struct fstree *tree, struct fsnode *directory, const char *name,
			       const char *text)
{
	struct fsnode *node =
		fstree_add_bytes(tree, directory, name, &plain, text, strlen(text), &test_error);

	if (!node)
		fail_msg("%s", test_error.text);
	return node;
}

static struct fsnode *add_directory(struct fstree *tree, struct fsnode *parent, const char *name)
{
	struct fsnode *node = fstree_add_directory(tree, parent, name, &plain, &test_error);

	if (!node)
		fail_msg("%s", test_error.text);
	return node;
}

static void assert_content(struct fsimage *image, const char *path, const char *expected)
{
	char content[64] = "";
	struct fsstat stat = stat_in(image, path);

	assert_int_equal(
		fsimage_read(image, stat.inode, 0, content, sizeof(content) - 1, &test_error),
		strlen(expected));
	assert_string_equal(content, expected);
}

/* --- removal --- */

static void removed_files_are_gone(void **state)
{
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);
	struct fsnode *directory = add_directory(tree, root, "directory");
	struct fsstat stat;

	(void)state;
	add_text(tree, root, "a", "first");
	add_text(tree, root, "b", "middle");
	add_text(tree, root, "c", "last");
	add_text(tree, add_directory(tree, directory, "below"), "file", "deep");
	assert_int_equal(fstree_totals(tree).nodes, 7);

	fstree_remove(tree, fstree_child(root, "b"));
	fstree_remove(tree, directory);
	assert_null(fstree_child(root, "b"));
	assert_null(fstree_lookup(root, "directory/below/file"));
	assert_int_equal(fstree_totals(tree).nodes, 3);
	assert_int_equal(fstree_totals(tree).data_bytes, 9);

	/* First, last and only child; and the names are free again. */
	fstree_remove(tree, fstree_child(root, "a"));
	fstree_remove(tree, fstree_child(root, "c"));
	assert_int_equal(fstree_totals(tree).nodes, 1);
	assert_int_equal(fstree_totals(tree).data_bytes, 0);
	add_text(tree, root, "b", "new");
	add_text(tree, root, "a", "newer");
	make_checked_image(tree);

	struct opened opened = open_image("test.img");

	assert_content(opened.image, "a", "newer");
	assert_content(opened.image, "b", "new");
	assert_int_equal(fsimage_lookup(opened.image, "c", &stat, &test_error), 1);
	assert_int_equal(fsimage_lookup(opened.image, "directory", &stat, &test_error), 1);
	close_image(&opened);
}

/* Whichever name goes first, the data stays with the others. */
static void removed_links_leave_the_file(void **state)
{
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);
	struct fsnode *first = add_text(tree, root, "first", "shared");
	struct fsnode *second = fstree_add_link(tree, root, "second", first, &test_error);
	struct fsnode *third = fstree_add_link(tree, root, "third", second, &test_error);

	(void)state;
	assert_non_null(second);
	assert_non_null(third);
	fstree_remove(tree, first);
	assert_int_equal(fstree_totals(tree).nodes, 3);
	assert_int_equal(fstree_totals(tree).data_bytes, 6);
	assert_non_null(fstree_add_link(tree, root, "first", third, &test_error));
	fstree_remove(tree, third);
	fstree_add_mode(second, 0111);
	make_checked_image(tree);

	struct opened opened = open_image("test.img");

	assert_content(opened.image, "first", "shared");
	assert_int_equal(stat_in(opened.image, "first").inode,
			 stat_in(opened.image, "second").inode);
	assert_int_equal(stat_in(opened.image, "first").links, 2);
	assert_int_equal(stat_in(opened.image, "first").mode, S_IFREG | 0755);
	close_image(&opened);
}

static void links_to_directories_are_errors(void **state)
{
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);
	struct fsnode *directory = add_directory(tree, root, "directory");

	(void)state;
	assert_null(fstree_add_link(tree, root, "link", directory, &test_error));
	assert_non_null(strstr(test_error.text, "another name of the directory 'directory'"));
	assert_null(fstree_add_link(tree, root, "directory", add_text(tree, root, "a", ""),
				    &test_error));
	assert_int_equal(fstree_totals(tree).nodes, 3);
	fstree_free(tree);
}

/* What the importer knows of a file of the host must not bring back what was removed. */
static void removed_imports_can_be_imported_again(void **state)
{
	static const struct fsimport import;
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);

	(void)state;
	scratch_write_text("source/a", "shared");
	assert_int_equal(link("source/a", "source/b"), 0);
	assert_non_null(
		fstree_import(tree, root, "one", AT_FDCWD, "source/a", &import, &test_error));
	assert_non_null(
		fstree_import(tree, root, "two", AT_FDCWD, "source/b", &import, &test_error));
	fstree_remove(tree, fstree_child(root, "one"));
	assert_int_equal(fstree_totals(tree).data_bytes, 6);
	fstree_remove(tree, fstree_child(root, "two"));
	assert_int_equal(fstree_totals(tree).data_bytes, 0);
	assert_non_null(
		fstree_import(tree, root, "three", AT_FDCWD, "source/b", &import, &test_error));
	assert_int_equal(fstree_totals(tree).data_bytes, 6);
	make_checked_image(tree);

	struct opened opened = open_image("test.img");

	assert_content(opened.image, "three", "shared");
	close_image(&opened);
}

/* A quadratic removal of so many takes minutes. */
static void removal_of_many_is_fast(void **state)
{
	const unsigned count = 300000;
	struct fstree *tree = new_tree();
	struct fsnode *many = add_directory(tree, fstree_root(tree), "many");
	char name[32];

	(void)state;
	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%u", i);
		add_text(tree, many, name, "x");
	}
	for (unsigned i = 0; i < count; i += 2) {
		snprintf(name, sizeof(name), "%u", i * 7 % count);
		if (fstree_child(many, name))
			fstree_remove(tree, fstree_child(many, name));
	}
	fstree_remove(tree, many);
	assert_int_equal(fstree_totals(tree).nodes, 1);
	assert_int_equal(fstree_totals(tree).data_bytes, 0);
	make_checked_image(tree);
}

static void removal_of_deep_tree(void **state)
{
	struct fstree *tree = new_tree();
	struct fsnode *top = add_directory(tree, fstree_root(tree), "top"), *node = top;

	(void)state;
	for (unsigned i = 0; i < 200000; i++)
		node = add_directory(tree, node, "d");
	fstree_remove(tree, top);
	assert_int_equal(fstree_totals(tree).nodes, 1);
	fstree_free(tree);
}

static void metadata_is_replaced_but_not_the_type(void **state)
{
	static const struct fsmeta other = {
		.mode = S_IFDIR | 04711, .uid = 70000, .gid = 3, .mtime = {12, 34}};
	struct fstree *tree = new_tree();
	struct fsnode *file = add_text(tree, fstree_root(tree), "file", "x");
	struct fsnode *link = fstree_add_link(tree, fstree_root(tree), "link", file, &test_error);

	(void)state;
	fstree_set_meta(link, &other);
	make_checked_image(tree);

	struct opened opened = open_image("test.img");
	struct fsstat stat = stat_in(opened.image, "file");

	assert_int_equal(stat.mode, S_IFREG | 04711);
	assert_int_equal(stat.uid, 70000);
	assert_int_equal(stat.gid, 3);
	assert_int_equal(stat.mtime.tv_sec, 12);
	assert_int_equal(stat.mtime.tv_nsec, 34);
	close_image(&opened);
}

/* --- files that are pieces of another --- */

#define SOURCE_BYTES_IN_TEST (6 << 20)

static uint8_t *random_source(void)
{
	uint8_t *bytes = malloc(SOURCE_BYTES_IN_TEST);
	uint32_t random = 1;

	assert_non_null(bytes);
	for (size_t i = 0; i < SOURCE_BYTES_IN_TEST; i++) {
		random = random * 1664525 + 1013904223;
		bytes[i] = random >> 24 | 1; /* never 0, which is what holes are */
	}
	scratch_write("archive", bytes, SOURCE_BYTES_IN_TEST);
	return bytes;
}

static void assert_runs(const uint8_t *source, const struct fsrun *runs, size_t count,
			uint64_t size, off_t data_blocks)
{
	int fd = open("archive", O_RDONLY), copy = open("copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct fstree *tree = new_tree();
	uint8_t *expected = calloc(1, size + 1), *actual = calloc(1, size + 1);
	uint64_t data_bytes = 0;

	assert_true(fd >= 0 && copy >= 0 && expected && actual);
	for (size_t i = 0; i < count; i++) {
		memcpy(expected + runs[i].offset, source + runs[i].source_offset, runs[i].length);
		data_bytes += runs[i].length;
	}
	/* A neighbour on each side, whose data must not be touched. */
	add_text(tree, fstree_root(tree), "a", "before");
	if (!fstree_add_runs(tree, fstree_root(tree), "b", &plain, fd, "archive", runs, count, size,
			     &test_error))
		fail_msg("%s", test_error.text);
	add_text(tree, fstree_root(tree), "c", "behind");
	assert_int_equal(fstree_totals(tree).data_bytes, data_bytes + 12);
	make_checked_image(tree);
	close(fd);

	struct opened opened = open_image("test.img");
	struct fsstat stat = stat_in(opened.image, "b");

	assert_content(opened.image, "a", "before");
	assert_content(opened.image, "c", "behind");
	assert_int_equal(stat.size_bytes, size);
	assert_success(fsimage_copy(opened.image, stat.inode, size, copy, "copy", &test_error));
	assert_int_equal(pread(copy, actual, size + 1, 0), size);
	assert_memory_equal(expected, actual, size);
	assert_int_equal(run("test \"$(debugfs -R 'stat /b' test.img 2>/dev/null | "
			     "sed -n 's/.*Blockcount: //p')\" = %ld",
			     (long)data_blocks * 8),
			 0);
	close_image(&opened);
	close(copy);
	free(expected);
	free(actual);
}

static void runs_of_every_alignment(void **state)
{
	static const struct fsrun one[] = {{0, 1536, 5000}};
	static const struct fsrun large[] = {{0, 512, 5 << 20}};
	static const struct fsrun in_one_block[] = {
		{512, 10240, 512}, {1024, 512, 100}, {3000, 77, 1000}};
	/* Two blocks, a hole, a piece that ends in the block where the next one starts. */
	static const struct fsrun mixed[] = {{100, 1, 5000},	       {20000, 9000, 1},
					     {20001, 9001, 0},	       {20002, 8000, 4000},
					     {24002, 1 << 20, 300000}, {1 << 20, 5, 3 << 20}};
	uint8_t *source = random_source();

	(void)state;
	assert_runs(source, one, 1, 5000, 2);
	assert_runs(source, one, 1, 50000, 2);
	assert_runs(source, one, 0, 12345, 0);
	assert_runs(source, one, 0, 0, 0);
	assert_runs(source, large, 1, 5 << 20, 1280);
	assert_runs(source, in_one_block, 3, 4000, 1);
	/* 0-1, 4-79, 256-1023 */
	assert_runs(source, mixed, 6, 4 << 20, 2 + 76 + 768);
	free(source);
}

/* More pieces than the inode has extents for, and at both sides of what is copied directly. */
static void runs_with_many_holes(void **state)
{
	struct fsrun runs[600];
	uint8_t *source = random_source();
	uint64_t offset = 10;
	off_t blocks = 0;

	(void)state;
	for (unsigned i = 0; i < 600; i++) {
		uint64_t length = i % 50 ? 1 + i * 13 : 200000;

		runs[i] = (struct fsrun){offset, i * 101, length};
		blocks += (offset + length - 1) / 4096 - offset / 4096 + 1;
		offset = ((offset + length) / 4096 + 2) * 4096 + i;
	}
	assert_runs(source, runs, 600, offset, blocks + 2); /* and two of the extent tree */
	free(source);
}

static void wrong_runs_are_errors(void **state)
{
	static const struct fsrun wrong[][2] = {
		{{0, 0, 10}, {9, 20, 1}},	   {{50, 0, 10}, {0, 20, 1}},
		{{0, 0, 101}, {101, 0, 0}},	   {{1, 0, UINT64_MAX}, {1, 0, 0}},
		{{0, UINT64_MAX, 10}, {20, 0, 1}},
	};
	struct fstree *tree = new_tree();
	struct fsimage_options options = default_options();
	int fd;

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_null(fstree_add_runs(tree, fstree_root(tree), "file", &plain, 0, "archive",
					    wrong[i], 2, 100, &test_error));
		assert_string_equal(test_error.text,
				    "archive: the pieces of 'file' overlap or lie outside of it");
	}

	/* A source that is shorter than it should be. */
	scratch_write_text("archive", "short");
	fd = open("archive", O_RDONLY);
	assert_non_null(fstree_add_runs(tree, fstree_root(tree), "file", &plain, fd, "archive",
					(struct fsrun[]){{0, 0, 6}}, 1, 6, &test_error));
	assert_error(write_image(tree, "test.img", &options),
		     "archive: ends before the data that it should have");
	close(fd);
	fstree_remove(tree, fstree_child(fstree_root(tree), "file"));

	fd = open("archive", O_WRONLY);
	assert_non_null(fstree_add_runs(tree, fstree_root(tree), "file", &plain, fd, "archive",
					(struct fsrun[]){{0, 0, 5}}, 1, 5, &test_error));
	assert_error(write_image(tree, "test.img", &options), "cannot copy from archive");
	close(fd);
	fstree_free(tree);
}

/* The largest file that ext4 can have is all hole here. */
static void files_of_16_tib(void **state)
{
	const uint64_t largest = (uint64_t)UINT32_MAX * 4096;
	const uint64_t sizes[] = {largest, largest + 1, UINT64_MAX};
	struct fsimage_options options = default_options();

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct fstree *tree = new_tree();
		bool more = sizes[i] > largest;

		assert_non_null(fstree_add_runs(tree, fstree_root(tree), "file", &plain, 0,
						"archive", NULL, 0, sizes[i], &test_error));
		if (more)
			assert_error(write_image(tree, "test.img", &options),
				     "test.img: 'file' is larger than 16 TiB");
		else
			assert_success(write_image(tree, "test.img", &options));
		fstree_free(tree);
		if (!more)
			assert_fsck_clean("test.img");
	}
}

/* --- extended attributes --- */

static void wrong_attributes_are_errors(void **state)
{
	static const char *const names[] = {
		"", "user", "user.", "system.x", "system.posix_acl_accessx", "os2.x", "trusted."};
	static const uint8_t bad_list[] = {2, 0, 0, 0, 3, 0, 7, 0, 0, 0, 0, 0};
	struct fstree *tree = new_tree();
	struct fsnode *file = add_text(tree, fstree_root(tree), "file", "x");
	char name[300] = "user.";

	(void)state;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_error(fstree_set_xattr(tree, file, names[i], "x", 1, &test_error),
			     "'file' cannot have an extended attribute");
	}
	memset(name + 5, 'n', 256);
	assert_error(fstree_set_xattr(tree, file, name, "x", 1, &test_error), "'file' cannot have");
	name[5 + 255] = '\0';
	assert_success(fstree_set_xattr(tree, file, name, "x", 1, &test_error));
	for (unsigned size = 0; size <= sizeof(bad_list); size++) {
		if (size != 4) /* an empty list */
			assert_error(fstree_set_xattr(tree, file, "system.posix_acl_access",
						      bad_list, size, &test_error),
				     "file: system.posix_acl_access is not an access control list");
	}
	fstree_free(tree);
}

/* --- looking --- */

static void trees_tell_what_is_in_them(void **state)
{
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree), *link, *other;
	char target[8];

	(void)state;
	assert_null(fstree_first_child(root));
	link = fstree_add_symlink(tree, root, "link", &plain, "a/target", &test_error);
	assert_ptr_equal(fstree_first_child(root), link);
	other = fstree_add_link(tree, root, "other", link, &test_error);
	assert_int_equal(fstree_meta(other)->mode, S_IFLNK | 0644);
	assert_int_equal(fstree_symlink(other, target, sizeof(target)), 7);
	assert_string_equal(target, "a/targe");
	fstree_remove(tree, link);
	assert_ptr_equal(fstree_first_child(root), other);
	assert_int_equal(fstree_symlink(other, target, sizeof(target)), 7);
	fstree_free(tree);
}

static void cleared_attributes_are_gone(void **state)
{
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);
	struct fsnode *file = add_text(tree, root, "file", "x");
	struct fsnode *link = fstree_add_link(tree, root, "link", file, &test_error);
	size_t size;

	(void)state;
	assert_success(fstree_set_xattr(tree, file, "user.first", "unseen", 6, &test_error));
	fstree_clear_xattrs(link);
	assert_success(fstree_set_xattr(tree, file, "user.second", "seen", 4, &test_error));
	make_checked_image(tree);
	char *image = scratch_read("test.img", &size);
	assert_null(memmem(image, size, "unseen", 6));
	assert_non_null(memmem(image, size, "seen", 4));
	free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(removed_files_are_gone),
		IN_SCRATCH(removed_links_leave_the_file),
		IN_SCRATCH(links_to_directories_are_errors),
		IN_SCRATCH(removed_imports_can_be_imported_again),
		IN_SCRATCH(removal_of_many_is_fast),
		IN_SCRATCH(removal_of_deep_tree),
		IN_SCRATCH(metadata_is_replaced_but_not_the_type),
		IN_SCRATCH(runs_of_every_alignment),
		IN_SCRATCH(runs_with_many_holes),
		IN_SCRATCH(wrong_runs_are_errors),
		IN_SCRATCH(files_of_16_tib),
		IN_SCRATCH(wrong_attributes_are_errors),
		IN_SCRATCH(trees_tell_what_is_in_them),
		IN_SCRATCH(cleared_attributes_are_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
