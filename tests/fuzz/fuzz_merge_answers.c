/*
 * What the confined reader says that a job did, merged into a tree that has links which lead out of
 * it; what was extracted is hostile too. Nothing outside changes.
 */
#include <fcntl.h>

#include "tests/fuzz/fuzz_answers.h"

#include "host-tools/merge_plan.c"

#include "host-tools/merge_work.h"

static char top[] = "/tmp/jobvm-fuzz.XXXXXX";
static int top_fd;

static void put_file(const char *path, const char *text)
{
	int fd = openat(top_fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	FUZZ_CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void put_directory(const char *path)
{
	FUZZ_CHECK(mkdirat(top_fd, path, 0755) == 0);
}

static void clean_up(void)
{
	merge_tree_remove_own(AT_FDCWD, top);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	FUZZ_CHECK(mkdtemp(top));
	top_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	FUZZ_CHECK(top_fd >= 0);
	put_directory("outside");
	put_file("outside/x", "precious");
	atexit(clean_up);
	return 0;
}

/* Names of one letter, so that inputs find them. */
static void make_trees(void)
{
	put_directory("tree");
	put_directory("tree/d");
	put_file("tree/d/x", "one");
	put_file("tree/f", "two");
	FUZZ_CHECK(symlinkat("../outside", top_fd, "tree/l") == 0);
	put_directory("own");
	put_directory("own/tree");
	put_directory("own/tree/d");
	put_file("own/tree/d/x", "new");
	put_file("own/tree/f", "two");
	put_file("own/tree/n", "new");
	FUZZ_CHECK(symlinkat("../../outside", top_fd, "own/tree/l") == 0);
	FUZZ_CHECK(symlinkat("../../outside", top_fd, "own/tree/m") == 0);
}

static int open_at(const char *path)
{
	int fd = openat(top_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	FUZZ_CHECK(fd >= 0);
	return fd;
}

static void check_plan(const struct merge_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct merge_item *item = &plan->items[i];
		FUZZ_CHECK(merge_plan_find(plan, item->path, strlen(item->path)) == item);
		FUZZ_CHECK(i == 0 || merge_plan_parent(plan, item->path) < item);
		FUZZ_CHECK(item->base.mode || item->now.mode);
		FUZZ_CHECK(!S_ISLNK(item->now.mode) || item->now.target);
	}
}

static void merge_plan_into_tree(struct merge_work *work, struct merged *merged)
{
	struct error error = {""};

	if (merge_check(work, &error)) {
		FUZZ_CHECK(error.text[0]);
		return;
	}
	for (size_t i = 0; i < merged->conflict_count; i++)
		FUZZ_CHECK(merged->conflicts[i].item < work->plan.count);
	FUZZ_CHECK_ERROR(merge_apply(work, &error), &error);
}

static void check_outside(void)
{
	char text[16] = "";
	int fd = openat(top_fd, "outside/x", O_RDONLY | O_CLOEXEC);

	FUZZ_CHECK(fd >= 0 && read(fd, text, sizeof(text) - 1) == 8);
	FUZZ_CHECK(strcmp(text, "precious") == 0);
	close(fd);
	FUZZ_CHECK(unlinkat(top_fd, "outside", AT_REMOVEDIR) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	const struct disk disk = {.fd = -1, .name = "disk"};
	struct merge merge = {.directory = "tree", .force = true};
	struct merged merged = {.status = MERGED_DONE};
	struct merge_work work = {.merge = &merge, .merged = &merged};
	struct error error = {""};

	fuzz_answers_set(bytes, size);
	if (merge_plan_read(&work.plan, &disk, &error)) {
		FUZZ_CHECK(error.text[0]);
		merge_plan_free(&work.plan);
		return 0;
	}
	check_plan(&work.plan);
	make_trees();
	merge.directory_fd = open_at("tree");
	work.own_fd = open_at("own");
	int staged_fd = open_at("own/tree");
	work.tree = merge_tree_at(merge.directory_fd, "tree");
	work.staged = merge_tree_at(staged_fd, "staged");
	merge_plan_into_tree(&work, &merged);
	check_outside();
	merge_tree_close(&work.tree);
	merge_tree_close(&work.staged);
	close(staged_fd);
	close(work.own_fd);
	close(merge.directory_fd);
	merge_plan_free(&work.plan);
	merged_free(&merged);
	FUZZ_CHECK(merge_tree_remove_own(top_fd, "tree") == 0);
	FUZZ_CHECK(merge_tree_remove_own(top_fd, "own") == 0);
	return 0;
}
