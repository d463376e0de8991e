/* Large directories: the index is what e2fsck and the kernel expect. */
#include "tests/unit/fsimage_helpers.h"

#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <sched.h>
#include <sys/wait.h>

static const struct fsmeta plain = {.mode = 0644, .uid = 1000, .gid = 1000, .mtime = {TEST_NOW, 7}};

/* --- names: the I-th of a directory --- */

typedef void name_function(unsigned i, char name[256]);

static void short_name(unsigned i, char name[256])
{
	snprintf(name, 256, "%u", i);
}

static void long_name(unsigned i, char name[256])
{
	snprintf(name, 256, "%u%0248d", i, 0);
}

/* Of all lengths, and with bytes over 127, which hash differently where char is unsigned. */
static void mixed_name(unsigned i, char name[256])
{
	int length = snprintf(name, 256, "\xc3\xa9-%u-", i);

	memset(name + length, 128 + (int)(i % 100), i % 200);
	name[length + i % 200] = '\0';
}

static char (*colliding)[16];
static unsigned colliding_count;

static void colliding_name(unsigned i, char name[256])
{
	strcpy(name, colliding[i]);
}

/* --- directories --- */

static void make_image_of(unsigned count, name_function *name_of)
{
	struct fstree *tree = new_tree();
	struct fsnode *directory =
		fstree_add_directory(tree, fstree_root(tree), "many", &plain, &test_error);
	char name[256];

	for (unsigned i = 0; i < count; i++) {
		name_of(i, name);
		if (!fstree_add_bytes(tree, directory, name, &plain, "", 0, &test_error))
			fail_msg("%s", test_error.text);
	}
	make_checked_image(tree);
}

static int count_entry(void *context, const char *name, const struct fsstat *stat,
		       struct error *error)
{
	(void)name, (void)stat, (void)error;
	++*(unsigned *)context;
	return 0;
}

static void assert_reader_finds_all(unsigned count, name_function *name_of)
{
	struct opened opened = open_image("test.img");
	char name[256], path[300];
	unsigned listed = 0;

	assert_success(fsimage_list(opened.image, stat_in(opened.image, "many").inode, count_entry,
				    &listed, &test_error));
	assert_int_equal(listed, count);
	if (count) {
		name_of(count - 1, name);
		snprintf(path, sizeof(path), "many/%s", name);
		stat_in(opened.image, path);
	}
	close_image(&opened);
}

/* In a mount namespace of its own. The exit code; 77: mounts are not for us. */
static int look_up_by_kernel(unsigned count, name_function *name_of)
{
	char name[256];
	struct stat stat;
	int fd;

	/* Writable: the kernel shall also find its way when it adds to the index. */
	if (unshare(CLONE_NEWNS) < 0 || run("mount --make-rprivate / && mkdir mnt && "
					    "mount -o loop test.img mnt") != 0)
		return 77;
	fd = open("mnt/many", O_RDONLY | O_DIRECTORY);
	for (unsigned i = 0; i < count; i++) {
		name_of(i, name);
		if (fstatat(fd, name, &stat, 0) < 0)
			return 1;
		name[0] = 'X';
		if (fstatat(fd, name, &stat, 0) == 0)
			return 2;
	}
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "added-by-the-kernel-%u", i);
		int added = openat(fd, name, O_CREAT | O_EXCL | O_WRONLY, 0600);

		if (added < 0)
			return errno == ENOSPC ? 0 : 3;
		close(added);
	}
	for (unsigned i = 0; i < count; i++) {
		name_of(i, name);
		if (fstatat(fd, name, &stat, 0) < 0)
			return 4;
		if (i % 3 == 0 && unlinkat(fd, name, 0) < 0)
			return 5;
	}
	close(fd);
	return run("umount mnt") ? 6 : 0;
}

static void assert_kernel_finds_all(unsigned count, name_function *name_of)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0)
		_exit(look_up_by_kernel(count, name_of));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip(); /* not allowed here */
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_fsck_clean("test.img");
	assert_int_equal(run("rmdir mnt"), 0);
}

static unsigned index_levels(void)
{
	/* Without an index debugfs says so; the depth shows in the root. */
	if (run("debugfs -R 'htree /many' test.img 2>/dev/null | grep -q 'Indirect levels: 1'") ==
	    0)
		return 2;
	return run("debugfs -R 'htree /many' test.img 2>/dev/null | "
		   "grep -q 'Indirect levels: 0'") == 0;
}

static void assert_directory(unsigned count, name_function *name_of, unsigned levels)
{
	make_image_of(count, name_of);
	assert_int_equal(index_levels(), levels);
	assert_reader_finds_all(count, name_of);
}

/* 24 bytes for "." and "..", 12 for each of these names: 339 fit. */
static void index_where_one_block_is_too_small(void **state)
{
	(void)state;
	assert_directory(0, short_name, 0);
	assert_directory(339, short_name, 0);
	assert_directory(340, short_name, 1);
	assert_kernel_finds_all(340, short_name);
}

static void names_of_all_lengths(void **state)
{
	(void)state;
	assert_directory(20000, mixed_name, 2);
	assert_kernel_finds_all(20000, mixed_name);
}

/* 15 to a block, 508 blocks to a root. */
static void index_of_two_levels(void **state)
{
	(void)state;
	assert_directory(508 * 15, long_name, 1);
	assert_directory(508 * 15 + 1, long_name, 2);
	assert_kernel_finds_all(508 * 15 + 1, long_name);
	assert_directory(511 * 15 * 2 + 1, long_name, 2);
	assert_kernel_finds_all(511 * 15 * 2 + 1, long_name);
}

static void forty_thousand_names(void **state)
{
	(void)state;
	assert_directory(40000, short_name, 1);
	assert_kernel_finds_all(40000, short_name);
}

/* --- names of one hash --- */

struct hashed {
	uint32_t hash, i;
};

static int compare_hashed(const void *left, const void *right)
{
	const struct hashed *a = left, *b = right;

	return (a->hash > b->hash) - (a->hash < b->hash);
}

static void find_collisions(void)
{
	const unsigned count = 3000000;
	struct fsimage_options options = default_options();
	struct hashed *all = calloc(count, sizeof(*all));
	uint32_t seed[4];

	assert_non_null(all);
	memcpy(seed, options.uuid, sizeof(seed));
	for (unsigned i = 0; i < count; i++) {
		char name[16];
		int length = snprintf(name, sizeof(name), "%u", i);

		all[i].i = i;
		ext2fs_dirhash(EXT2_HASH_HALF_MD4, name, length, seed, &all[i].hash, NULL);
	}
	qsort(all, count, sizeof(*all), compare_hashed);
	colliding = calloc(count / 100, sizeof(*colliding));
	assert_non_null(colliding);
	for (unsigned i = 1; i < count; i++) {
		if (all[i - 1].hash != all[i].hash || colliding_count + 2 > count / 100)
			continue;
		snprintf(colliding[colliding_count++], 16, "%u", all[i - 1].i);
		snprintf(colliding[colliding_count++], 16, "%u", all[i].i);
		i++; /* no name twice */
	}
	free(all);
}

/*
 * Entries of one hash on both sides of a leaf's end: the second leaf must be marked, else the
 * kernel does not look there.
 */
static void names_of_one_hash(void **state)
{
	(void)state;
	find_collisions();
	assert_true(colliding_count > 1000);
	assert_directory(colliding_count, colliding_name, 1);
	assert_kernel_finds_all(colliding_count, colliding_name);
	free(colliding);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(index_where_one_block_is_too_small),
		IN_SCRATCH(names_of_all_lengths),
		IN_SCRATCH(index_of_two_levels),
		IN_SCRATCH(forty_thousand_names),
		IN_SCRATCH(names_of_one_hash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
