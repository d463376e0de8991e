/* What a merge is planned from, which a hostile reader tells, and the tree that it goes into. */
#include "host-tools/merge_tree.h"

#include <errno.h>

#include "tests/unit/scratch.h"

#define FILE_MODE (S_IFREG | 0644)
#define DIR_MODE  (S_IFDIR | 0755)
#define LINK_MODE (S_IFLNK | 0777)

static int add(struct merge_plan *plan, const char *path, mode_t base, mode_t now)
{
	struct merge_item item = {.path = strdup(path), .base.mode = base, .now.mode = now};
	int result = merge_plan_add(plan, &item);

	if (result)
		free(item.path);
	return result;
}

/* A plan with its workspace, a directory `d` that stays one and a file `f`. */
static struct merge_plan new_plan(void)
{
	struct merge_plan plan = {.count = 0};

	assert_int_equal(add(&plan, "", DIR_MODE, DIR_MODE), 0);
	assert_int_equal(add(&plan, "d", DIR_MODE, DIR_MODE), 0);
	assert_int_equal(add(&plan, "f", FILE_MODE, FILE_MODE), 0);
	return plan;
}

static void a_plan_is_in_order_of_the_walk(void **state)
{
	static const char *const paths[] = {"a",     "a/b", "a/b/c", "a/b-c", "a-b",
					    "a-b/c", "a.b", "aa",    "\377",  "\377/a"};
	struct merge_plan plan = {.count = 0};

	(void)state;
	assert_int_equal(add(&plan, "", DIR_MODE, DIR_MODE), 0);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		assert_int_equal(add(&plan, paths[i], DIR_MODE, DIR_MODE), 0);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		const struct merge_item *found = merge_plan_find(&plan, paths[i], strlen(paths[i]));
		assert_non_null(found);
		assert_string_equal(found->path, paths[i]);
	}
	assert_null(merge_plan_find(&plan, "a/c", 3));
	assert_null(merge_plan_find(&plan, "b", 1));
	assert_string_equal(merge_plan_parent(&plan, "a-b/c")->path, "a-b");
	assert_string_equal(merge_plan_parent(&plan, "a-b")->path, "");
	assert_null(merge_plan_parent(&plan, ""));
	merge_plan_free(&plan);
}

static void what_makes_no_sense_is_refused(void **state)
{
	struct merge_plan plan = {.count = 0};

	(void)state;
	assert_int_equal(add(&plan, "a", 0, FILE_MODE), -1);
	assert_int_equal(add(&plan, "", DIR_MODE, FILE_MODE), -1);
	assert_int_equal(add(&plan, "", 0, DIR_MODE), -1);
	plan = new_plan();
	/* Twice, out of order, the workspace again. */
	assert_int_equal(add(&plan, "f", FILE_MODE, 0), -1);
	assert_int_equal(add(&plan, "d/late", 0, FILE_MODE), -1);
	assert_int_equal(add(&plan, "", DIR_MODE, DIR_MODE), -1);
	/* Below nothing, below a file. */
	assert_int_equal(add(&plan, "g/h", 0, FILE_MODE), -1);
	assert_int_equal(add(&plan, "f/x", 0, FILE_MODE), -1);
	assert_int_equal(add(&plan, "f/x", FILE_MODE, 0), -1);
	/* Nothing before and after, and what is never made. */
	assert_int_equal(add(&plan, "g", 0, 0), -1);
	assert_int_equal(add(&plan, "g", 0, S_IFCHR | 0666), -1);
	assert_int_equal(add(&plan, "g", FILE_MODE, S_IFIFO | 0666), -1);
	assert_int_equal(plan.count, 3);
	merge_plan_free(&plan);
}

static void below_what_becomes_a_link_things_only_go(void **state)
{
	struct merge_plan plan = new_plan();

	(void)state;
	assert_int_equal(add(&plan, "g", DIR_MODE, LINK_MODE), 0);
	assert_int_equal(add(&plan, "g/new", 0, FILE_MODE), -1);
	assert_int_equal(add(&plan, "g/both", FILE_MODE, FILE_MODE), -1);
	assert_int_equal(add(&plan, "g/old", FILE_MODE, 0), 0);
	assert_int_equal(add(&plan, "h", LINK_MODE, DIR_MODE), 0);
	assert_int_equal(add(&plan, "h/old", FILE_MODE, 0), -1);
	assert_int_equal(add(&plan, "h/new", 0, FILE_MODE), 0);
	merge_plan_free(&plan);
}

/* --- the tree --- */

static struct merge_tree open_tree(void)
{
	int fd = open("tree", O_RDONLY | O_DIRECTORY);

	assert_true(fd >= 0);
	return merge_tree_at(fd, "tree");
}

static void close_tree(struct merge_tree *tree)
{
	merge_tree_close(tree);
	close(tree->sink.directory_fd);
}

static void no_link_is_followed(void **state)
{
	struct stat status;
	struct error error;
	const char *name;
	bool has_parent;

	(void)state;
	scratch_write_text("outside/file", "x");
	scratch_write_text("tree/file", "x");
	assert_int_equal(symlink("../outside", "tree/link"), 0);
	struct merge_tree tree = open_tree();
	assert_int_equal(merge_tree_look(&tree, "link", &status, &has_parent, &error), 0);
	assert_true(S_ISLNK(status.st_mode));
	assert_int_equal(merge_tree_look(&tree, "link/file", &status, &has_parent, &error), 1);
	assert_false(has_parent);
	assert_int_equal(merge_tree_look(&tree, "file/x", &status, &has_parent, &error), 1);
	assert_false(has_parent);
	assert_int_equal(merge_tree_look(&tree, "nothing", &status, &has_parent, &error), 1);
	assert_true(has_parent);
	assert_int_equal(merge_tree_parent(&tree, "link/file", &name), -1);
	assert_int_equal(errno, ENOTDIR);
	assert_int_equal(merge_tree_parent(&tree, "link/deep/file", &name), -1);
	assert_int_equal(errno, ELOOP);
	assert_int_equal(merge_tree_parent(&tree, "../outside/file", &name), -1);
	assert_true(merge_tree_points_to(&tree, "link", "../outside"));
	assert_false(merge_tree_points_to(&tree, "link", "../outsid"));
	assert_false(merge_tree_points_to(&tree, "link", "../outside/"));
	close_tree(&tree);
}

/* The parent that was asked for last is kept: by its whole path only. */
static void parents_are_not_mixed_up(void **state)
{
	struct stat status;
	struct error error;
	bool has_parent;

	(void)state;
	scratch_write_text("tree/a/file", "1");
	scratch_write_text("tree/ab/file", "22");
	scratch_write_text("tree/a/b/file", "333");
	scratch_write_text("tree/file", "4444");
	struct merge_tree tree = open_tree();
	static const char *const paths[] = {"a/file", "ab/file",  "a/b/file",
					    "file",   "a/b/file", "a/file"};
	static const off_t sizes[] = {1, 2, 3, 4, 3, 1};
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		assert_int_equal(merge_tree_look(&tree, paths[i], &status, &has_parent, &error), 0);
		assert_int_equal(status.st_size, sizes[i]);
	}
	close_tree(&tree);
}

static void bytes_are_compared_to_the_end(void **state)
{
	static char bytes[200000];

	(void)state;
	scratch_write("tree/same", bytes, sizeof(bytes));
	scratch_write("tree/last", bytes, sizeof(bytes));
	scratch_write("tree/short", bytes, sizeof(bytes));
	scratch_write("other/same", bytes, sizeof(bytes));
	scratch_write("other/short", bytes, sizeof(bytes) - 1);
	bytes[sizeof(bytes) - 1] = 1;
	scratch_write("other/last", bytes, sizeof(bytes));
	struct merge_tree tree = open_tree();
	int fd = open("other", O_RDONLY | O_DIRECTORY);
	struct merge_tree other = merge_tree_at(fd, "other");
	assert_true(merge_tree_same_bytes(&tree, &other, "same"));
	assert_false(merge_tree_same_bytes(&tree, &other, "last"));
	assert_false(merge_tree_same_bytes(&tree, &other, "short"));
	assert_false(merge_tree_same_bytes(&other, &tree, "short"));
	assert_false(merge_tree_same_bytes(&tree, &other, "nothing"));
	merge_tree_close(&other);
	close(fd);
	close_tree(&tree);
}

/* Deeper than a path can be, with directories that are closed, links, and names like those that
 * what is moved up gets. */
static void our_own_directory_goes_with_all_in_it(void **state)
{
	char name[NAME_MAX + 1];

	(void)state;
	scratch_write_text("outside/file", "x");
	int fd = merge_tree_make_own(AT_FDCWD, ".own-", name);
	assert_true(fd >= 0);
	int here = fd;
	for (int i = 0; i < 3000; i++) {
		assert_int_equal(mkdirat(here, "deep", 0700), 0);
		assert_int_equal(mkdirat(here, "0", 0), 0);
		assert_int_equal(symlinkat("/tmp", here, "link"), 0);
		int next = openat(here, "deep", O_RDONLY | O_DIRECTORY);
		if (here != fd)
			close(here);
		here = next;
	}
	assert_int_equal(symlinkat("outside", fd, "1"), 0);
	close(here);
	close(fd);
	assert_int_equal(merge_tree_remove_own(AT_FDCWD, name), 0);
	assert_int_equal(access(name, F_OK), -1);
	assert_int_equal(access("outside/file", F_OK), 0);
	/* A link is no directory of our own. */
	assert_int_equal(symlink("outside", "link"), 0);
	assert_int_equal(merge_tree_remove_own(AT_FDCWD, "link"), -1);
	assert_int_equal(access("outside/file", F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_plan_is_in_order_of_the_walk),
		cmocka_unit_test(what_makes_no_sense_is_refused),
		cmocka_unit_test(below_what_becomes_a_link_things_only_go),
		IN_SCRATCH(no_link_is_followed),
		IN_SCRATCH(parents_are_not_mixed_up),
		IN_SCRATCH(bytes_are_compared_to_the_end),
		IN_SCRATCH(our_own_directory_goes_with_all_in_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
