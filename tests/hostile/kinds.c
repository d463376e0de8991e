#include "tests/hostile/kinds.h"

#include <string.h>

#define FREE_BLOCKS 1024
#define FREE_INODES 512

static const struct kind *const tables[] = {super_kinds, directory_kinds, inode_kinds, large_kinds};

void kinds_visit(void (*visit)(void *context, const struct kind *kind), void *context)
{
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		for (const struct kind *kind = tables[i]; kind->name; kind++)
			visit(context, kind);
	}
}

struct search {
	const char *name;
	const struct kind *found;
};

static void compare_name(void *context, const struct kind *kind)
{
	struct search *search = context;

	if (strcmp(kind->name, search->name) == 0)
		search->found = kind;
}

const struct kind *kind_find(const char *name)
{
	struct search search = {.name = name};

	kinds_visit(compare_name, &search);
	return search.found;
}

void kind_write(const struct kind *kind, const char *path)
{
	const struct lie *lie = &kind->lie;
	struct craft craft;

	craft_open(&craft, path, FREE_BLOCKS + kind->free_blocks, FREE_INODES + kind->free_inodes);
	if (lie->size) {
		uint64_t base = lie->path ? craft_inode(&craft, craft_find(&craft, lie->path)) : 0;

		craft_set(&craft, base + lie->offset, lie->size, lie->value);
	}
	if (kind->craft)
		kind->craft(&craft);
	craft_close(&craft);
}
