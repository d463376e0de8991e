/* Extended attributes: what the writer makes of them, judged by e2fsck, debugfs and the kernel. */
#include "tests/unit/fsimage_helpers.h"

#include <errno.h>
#include <sys/xattr.h>

static const struct fsmeta plain = {.mode = 0644, .uid = 1000, .gid = 1000, .mtime = {TEST_NOW, 7}};
static const struct fsimport with_xattrs = {.xattrs = true};

static struct fsnode *add_file(struct fstree *tree, const char *name)
{
	struct fsnode *node =
		fstree_add_bytes(tree, fstree_root(tree), name, &plain, "x", 1, &test_error);

	assert_non_null(node);
	return node;
}

static void set(struct fstree *tree, struct fsnode *node, const char *name, const void *value,
		size_t size)
{
	assert_success(fstree_set_xattr(tree, node, name, value, size, &test_error));
}

static void assert_xattr(struct fsimage *image, const char *path, const char *name,
			 const void *expected, int size)
{
	static uint8_t actual[1 << 16];

	test_error.text[0] = '\0';
	int length = fsimage_getxattr(image, stat_in(image, path).inode, name, actual,
				      sizeof(actual), &test_error);

	assert_string_equal(test_error.text, "");
	assert_int_equal(length, size);
	assert_memory_equal(actual, expected, size);
}

/* Whether the kernel shows the same attributes in the image as in "source"; 77: no mounts. */
static void assert_kernel_agrees(void)
{
	int result = run(
		"mkdir -p mnt; unshare -m true 2>/dev/null || exit 77; unshare -m sh -c 'mount -o loop,ro test.img mnt || exit 77; "
		"(cd source && find . ! -path . | sort | "
		"xargs getfattr -h -d -m - -e hex) >expected; "
		"(cd mnt && find . ! -path . ! -name lost+found | sort | "
		"xargs getfattr -h -d -m - -e hex) >actual; "
		"test -s expected && diff expected actual' 2>&1");

	if (result == 77)
		skip(); /* not allowed here */
	assert_int_equal(result, 0);
}

static void set_on_host(const char *path, const char *name, const void *value, size_t size)
{
	/* As a user, trusted.* and capabilities are for others. */
	if (lsetxattr(path, name, value, size, 0) == 0 || (errno == EPERM && geteuid() != 0))
		return;
	if (errno == ENOTSUP)
		skip(); /* not on this file system */
	else
		fail_msg("%s %s: %s", path, name, strerror(errno));
}

/* One file for every place that attributes can be in, of every type. */
static void fill_source(void)
{
	char large[2000], name[32], path[64];

	memset(large, 'v', sizeof(large));
	for (const char *const *file = (const char *const[]){"small", "large", "many", "names",
							     "list", "capable", "empty", NULL};
	     *file; file++) {
		snprintf(path, sizeof(path), "source/%s", *file);
		scratch_write_text(path, *file);
	}
	set_on_host("source/small", "user.a", "b", 1);
	set_on_host("source/large", "user.large", large, sizeof(large));
	set_on_host("source/large", "user.z", "in the inode", 12);
	for (unsigned i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "user.%.*s%u", (int)(i % 7), "zyxwvut", i * 7 % 60);
		set_on_host("source/many", name, large, i);
	}
	memcpy(large, "user.", 5);
	large[5 + 250] = '\0';
	set_on_host("source/names", large, "", 0);
	set_on_host("source/empty", "user.empty", "", 0);
	set_on_host("source/list", "system.posix_acl_access", access_list, sizeof(access_list));
	set_on_host("source/list", "user.comment", "with a list", 11);
	set_on_host("source/capable", "security.capability", capability, sizeof(capability));
	assert_int_equal(mkdir("source/directory", 0755), 0);
	set_on_host("source/directory", "system.posix_acl_default", access_list,
		    sizeof(access_list));
	assert_int_equal(symlink("target", "source/link"), 0);
	set_on_host("source/link", "trusted.large", large, 200);
	assert_int_equal(mkfifo("source/fifo", 0600), 0);
	set_on_host("source/fifo", "trusted.large", large, 200);
}

static void imported_attributes(void **state)
{
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);
	char target[16];

	(void)state;
	fill_source();
	assert_success(
		fstree_import_contents(tree, root, AT_FDCWD, "source", &with_xattrs, &test_error));
	make_checked_image(tree);

	struct opened opened = open_image("test.img");

	assert_xattr(opened.image, "small", "user.a", "b", 1);
	assert_xattr(opened.image, "large", "user.z", "in the inode", 12);
	assert_xattr(opened.image, "list", "system.posix_acl_access", access_list,
		     sizeof(access_list));
	assert_xattr(opened.image, "directory", "system.posix_acl_default", access_list,
		     sizeof(access_list));
	assert_success(fsimage_readlink(opened.image, stat_in(opened.image, "link").inode, target,
					sizeof(target), &test_error));
	assert_string_equal(target, "target");
	close_image(&opened);
	assert_int_equal(run("debugfs -R 'ea_get -f z /large user.z' test.img 2>&1 && "
			     "printf 'in the inode' | cmp - z"),
			 0);
	assert_int_equal(run("debugfs -R 'ea_get -f large /large user.large' test.img 2>&1 && "
			     "head -c 2000 /dev/zero | tr '\\0' v | cmp - large"),
			 0);
	assert_kernel_agrees();
}

static void absolute_path_has_its_attributes(void **state)
{
	struct fstree *tree = new_tree();
	char *path;

	(void)state;
	scratch_write_text("source/file", "text");
	set_on_host("source/file", "user.a", "b", 1);
	path = realpath("source/file", NULL);
	assert_non_null(fstree_import(tree, fstree_root(tree), "file", AT_FDCWD, path, &with_xattrs,
				      &test_error));
	free(path);
	make_checked_image(tree);

	struct opened opened = open_image("test.img");

	assert_xattr(opened.image, "file", "user.a", "b", 1);
	close_image(&opened);
}

static void attributes_are_left_out_by_default(void **state)
{
	(void)state;
	fill_source();
	make_checked_image(import_tree("source"));

	struct opened opened = open_image("test.img");

	assert_xattr(opened.image, "small", "user.a", "", 0);
	assert_xattr(opened.image, "list", "system.posix_acl_access", "", 0);
	close_image(&opened);
}

static void set_attributes(void **state)
{
	struct fstree *tree = new_tree();
	struct fsnode *file = add_file(tree, "file"), *link;
	char large[3000];

	(void)state;
	memset(large, 'l', sizeof(large));
	link = fstree_add_link(tree, fstree_root(tree), "link", file, &test_error);
	set(tree, file, "user.b", "first", 5);
	set(tree, file, "user.a", large, sizeof(large));
	set(tree, link, "user.b", "second", 6);
	set(tree, file, "user.aa", "", 0);
	set(tree, file, "trusted.overlay.opaque", "y", 1);
	set(tree, file, "security.capability", capability, sizeof(capability));
	set(tree, fstree_root(tree), "user.root", "r", 1);
	make_checked_image(tree);

	struct opened opened = open_image("test.img");

	assert_xattr(opened.image, "link", "user.b", "second", 6);
	assert_xattr(opened.image, "file", "user.a", large, sizeof(large));
	assert_xattr(opened.image, "file", "trusted.overlay.opaque", "y", 1);
	assert_xattr(opened.image, "file", "security.capability", capability, sizeof(capability));
	assert_xattr(opened.image, "", "user.root", "r", 1);
	close_image(&opened);
}

/* Each attribute as large as there is room, alone and with one in the inode. */
static void attributes_fill_inode_and_block(void **state)
{
	/* Room in the inode: 92 - 4 - 20 for name and entry; in the block: 4096 - 32 - 4 - 20. */
	static const size_t sizes[] = {67, 68, 69, 4039, 4040, 4041};
	struct fsimage_options options = default_options();
	char value[4096];

	(void)state;
	memset(value, 'f', sizeof(value));
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct fstree *tree = new_tree();
		struct fsnode *file = add_file(tree, "file");

		set(tree, file, "user.n", value, sizes[i]);
		if (sizes[i] > 4040) {
			assert_error(write_image(tree, "test.img", &options),
				     "test.img: no room for the extended attribute user.n of "
				     "'file'");
			fstree_free(tree);
			continue;
		}
		make_checked_image(tree);

		struct opened opened = open_image("test.img");

		assert_xattr(opened.image, "file", "user.n", value, sizes[i]);
		close_image(&opened);
		assert_int_equal(run("debugfs -R 'stat /file' test.img 2>&1 | "
				     "grep -q 'File ACL: 0$'"),
				 sizes[i] > 68);
	}
}

static void too_many_attributes_are_an_error(void **state)
{
	struct fsimage_options options = default_options();
	struct fstree *tree = new_tree();
	struct fsnode *directory =
		fstree_add_directory(tree, fstree_root(tree), "a", &plain, &test_error);
	struct fsnode *file = fstree_add_bytes(tree, directory, "b", &plain, "x", 1, &test_error);
	char value[1000], name[16];

	(void)state;
	memset(value, 'f', sizeof(value));
	for (unsigned i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "user.%u", i);
		set(tree, file, name, value, sizeof(value));
	}
	assert_error(write_image(tree, "test.img", &options),
		     "test.img: no room for the extended attribute user.3 of 'a/b'");
	assert_error(fstree_set_xattr(tree, file, "user.4", value, 5000, &test_error),
		     "b: the extended attribute user.4 is larger than 4096 bytes");
	fstree_free(tree);
}

static unsigned long block_of(const char *path)
{
	char command[200];
	unsigned long block = 0;

	snprintf(command, sizeof(command),
		 "PATH=\"$PATH:/usr/sbin:/sbin\" debugfs -R 'stat %s' test.img 2>/dev/null | "
		 "sed -n 's/^File ACL: //p'",
		 path);

	FILE *pipe = popen(command, "r");

	assert_non_null(pipe);
	assert_int_equal(fscanf(pipe, "%lu", &block), 1);
	pclose(pipe);
	return block;
}

/* The kernel lets 1,024 files share a block. */
static void same_attributes_share_a_block(void **state)
{
	struct fstree *tree = new_tree();
	char name[32], value[300];

	(void)state;
	memset(value, 's', sizeof(value));
	for (unsigned i = 0; i < 2050; i++) {
		snprintf(name, sizeof(name), "f%04u", i);

		struct fsnode *file = add_file(tree, name);

		value[299] = i == 2049 ? 't' : 's';
		set(tree, file, "user.shared", value, sizeof(value));
		/* In the inode, so it is no hindrance. */
		set(tree, file, "user.a", name, 5);
	}
	make_checked_image(tree);
	/* In the order of the writer's planning, which is none to count on. */
	assert_int_equal(run("for i in 0000 0500 1000 1500 2000; do "
			     "debugfs -R \"stat /f$i\" test.img 2>/dev/null | grep 'File ACL'; "
			     "done | sort -u | wc -l | grep -qx '[23]'"),
			 0);
	assert_int_not_equal(block_of("/f2048"), block_of("/f2049"));
	assert_int_not_equal(block_of("/f2049"), 0);

	struct opened opened = open_image("test.img");

	assert_xattr(opened.image, "f2049", "user.shared", value, sizeof(value));
	value[299] = 's';
	assert_xattr(opened.image, "f0007", "user.shared", value, sizeof(value));
	assert_xattr(opened.image, "f1900", "user.a", "f1900", 5);
	close_image(&opened);
}

/* Which files share which block follows from their names alone. */
static void order_of_addition_does_not_matter(void **state)
{
	struct fsimage_options options = default_options();
	char name[32], value[300];

	(void)state;
	memset(value, 's', sizeof(value));
	for (unsigned order = 0; order < 2; order++) {
		struct fstree *tree = new_tree();

		for (unsigned i = 0; i < 2500; i++) {
			snprintf(name, sizeof(name), "%u", order ? 2499 - i : i);
			set(tree, add_file(tree, name), "user.shared", value, sizeof(value));
		}
		assert_success(write_image(tree, order ? "1.img" : "0.img", &options));
		fstree_free(tree);
	}
	assert_int_equal(run("cmp 0.img 1.img"), 0);
}

/* What is merged into a directory replaces its attributes; a list that is not one is seen. */
static void merged_directories_have_the_last_attributes(void **state)
{
	struct fstree *tree = new_tree();
	struct fsnode *root = fstree_root(tree);

	(void)state;
	assert_int_equal(run("mkdir -p one/sub two/sub"), 0);
	set_on_host("one/sub", "user.one", "1", 1);
	set_on_host("two/sub", "user.two", "2", 1);
	assert_success(
		fstree_import_contents(tree, root, AT_FDCWD, "one", &with_xattrs, &test_error));
	assert_success(
		fstree_import_contents(tree, root, AT_FDCWD, "two", &with_xattrs, &test_error));
	make_checked_image(tree);

	struct opened opened = open_image("test.img");

	assert_xattr(opened.image, "sub", "user.two", "2", 1);
	assert_xattr(opened.image, "sub", "user.one", "", 0);
	close_image(&opened);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(imported_attributes),
		IN_SCRATCH(absolute_path_has_its_attributes),
		IN_SCRATCH(attributes_are_left_out_by_default),
		IN_SCRATCH(set_attributes),
		IN_SCRATCH(attributes_fill_inode_and_block),
		IN_SCRATCH(too_many_attributes_are_an_error),
		IN_SCRATCH(same_attributes_share_a_block),
		IN_SCRATCH(order_of_addition_does_not_matter),
		IN_SCRATCH(merged_directories_have_the_last_attributes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
