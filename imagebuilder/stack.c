#include "imagebuilder/stack.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LINKS_MAX 40 /* as Linux has it */

/* A way through the tree: the directories from the root to where it is, and what is ahead. */
struct way {
	struct stack *stack;
	bool make;
	struct fsnode *chain[PATH_MAX / 2 + 1];
	size_t depth; /* of the last one in CHAIN, the root is 0 */
	unsigned links;
	char ahead[PATH_MAX];
};

struct timespec stack_time(const struct stack *stack, struct timespec mtime)
{
	if (mtime.tv_sec >= stack->latest)
		mtime = (struct timespec){.tv_sec = stack->latest};
	return mtime;
}

void stack_report(const struct stack *stack)
{
	const struct fstotals totals = fstree_totals(stack->tree);

	if (stack->progress)
		stack->progress(stack->progress_context, &totals);
}

/* Takes the next name off what is ahead: its length, or 0 at the end. */
static size_t next_name(char *ahead, char name[STACK_NAME_BYTES])
{
	size_t skipped = strspn(ahead, "/");
	size_t length = strcspn(ahead + skipped, "/");
	size_t end = skipped + length;

	if (length < STACK_NAME_BYTES) {
		memcpy(name, ahead + skipped, length);
		name[length] = '\0';
	}
	memmove(ahead, ahead + end, strlen(ahead + end) + 1);
	return length;
}

static int follow(struct way *way, const struct fsnode *link, struct error *error)
{
	char target[2 * PATH_MAX];
	size_t length = fstree_symlink(link, target, PATH_MAX);

	if (++way->links > LINKS_MAX)
		return error_set(error, "more than %d symlinks on the way", LINKS_MAX);
	if (*target == '/')
		way->depth = 0;
	if (length + strlen(way->ahead) + 2 > PATH_MAX)
		return error_set(error, "symlinks make the path too long");
	snprintf(target + length, sizeof(target) - length, "/%s", way->ahead);
	memcpy(way->ahead, target, strlen(target) + 1);
	return 0;
}

static int enter(struct way *way, struct fsnode *node, const char *name, struct error *error)
{
	if (!S_ISDIR(fstree_meta(node)->mode))
		return error_set(error, "'%s', on the way, is not a directory", name);
	if (way->depth + 1 == sizeof(way->chain) / sizeof(way->chain[0]))
		return error_set(error, "too many directories in one another");
	way->chain[++way->depth] = node;
	return 1;
}

/* One step ahead, into NAME: 1, or 0 when that is not there. */
static int step(struct way *way, const char *name, struct error *error)
{
	struct fsnode *at = way->chain[way->depth];
	struct fsnode *node = fstree_child(at, name);
	struct fsmeta meta = {.mode = S_IFDIR | 0755, .mtime.tv_sec = way->stack->now};

	if (strcmp(name, ".") == 0)
		return 1;
	if (strcmp(name, "..") == 0) {
		way->depth -= way->depth > 0;
		return 1;
	}
	if (!node && !way->make)
		return 0;
	if (!node)
		node = fstree_add_directory(way->stack->tree, at, name, &meta, error);
	if (!node)
		return -1;
	if (S_ISLNK(fstree_meta(node)->mode))
		return follow(way, node, error) ? -1 : 1;
	return enter(way, node, name, error);
}

/* Copies PATH without the names that say nothing, and without a slash at its ends. */
static int clean(const char *path, char cleaned[PATH_MAX], struct error *error)
{
	char ahead[PATH_MAX], name[STACK_NAME_BYTES];
	size_t length, end = 0;

	if (strlen(path) >= PATH_MAX)
		return error_set(error, "is longer than %d bytes", PATH_MAX - 1);
	memcpy(ahead, path, strlen(path) + 1);
	cleaned[0] = '\0';
	while ((length = next_name(ahead, name))) {
		if (length >= STACK_NAME_BYTES)
			return error_set(error, "has a name of %zu bytes, more than %d", length,
					 STACK_NAME_BYTES - 1);
		if (strcmp(name, "..") == 0)
			return error_set(error, "leads out of its directory by '..'");
		if (strcmp(name, ".") == 0)
			continue;
		end += (size_t)snprintf(cleaned + end, PATH_MAX - end, "%s%s", end ? "/" : "",
					name);
	}
	return 0;
}

int stack_locate(struct stack *stack, const char *path, bool make, struct place *place,
		 struct error *error)
{
	struct way way = {.stack = stack, .make = make};
	char cleaned[PATH_MAX], name[STACK_NAME_BYTES];
	size_t length;
	int result = 1;

	if (clean(path, cleaned, error))
		return -1;
	char *slash = strrchr(cleaned, '/');
	const char *last = slash ? slash + 1 : cleaned;
	memcpy(place->name, last, strlen(last) + 1);
	if (slash) {
		*slash = '\0';
		memcpy(way.ahead, cleaned, strlen(cleaned) + 1);
	}
	way.chain[0] = fstree_root(stack->tree);
	while (result == 1 && (length = next_name(way.ahead, name)))
		result = length < STACK_NAME_BYTES
				 ? step(&way, name, error)
				 : error_set(error, "a symlink on the way has too long a name");
	place->directory = way.chain[way.depth];
	return result;
}

struct fsnode *stack_node(const struct stack *stack, const struct place *place)
{
	return *place->name ? fstree_child(place->directory, place->name)
			    : fstree_root(stack->tree);
}

void stack_clear(struct stack *stack, const struct place *place)
{
	struct fsnode *node = *place->name ? stack_node(stack, place) : NULL;

	if (node)
		fstree_remove(stack->tree, node);
}

void stack_empty(struct stack *stack, struct fsnode *directory)
{
	struct fsnode *child;

	while ((child = fstree_first_child(directory)))
		fstree_remove(stack->tree, child);
}

struct fsnode *stack_put_directory(struct stack *stack, const struct place *place,
				   const struct fsmeta *meta, struct error *error)
{
	struct fsnode *node = stack_node(stack, place);

	if (node && S_ISDIR(fstree_meta(node)->mode)) {
		fstree_set_meta(node, meta);
		return node;
	}
	stack_clear(stack, place);
	return fstree_add_directory(stack->tree, place->directory, place->name, meta, error);
}
