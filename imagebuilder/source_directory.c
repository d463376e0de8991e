#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imagebuilder/files.h"
#include "imagebuilder/root_source.h"

/* A walk through the directory. */
struct walk {
	struct stack *stack;
	struct root_source *source;
	struct digest *metadata;
	FTS *fts;
	uid_t owner; /* the directory's own */
};

/* Whoever the tree belongs to stands for root in it. Who builds plays no part in it. */
static struct fsmeta meta_of(const struct walk *walk, const struct stat *stat)
{
	bool becomes_root = walk->owner != 0 && stat->st_uid == walk->owner;
	struct fsmeta meta = {
		.mode = stat->st_mode,
		.uid = becomes_root ? 0 : stat->st_uid,
		.gid = becomes_root ? 0 : stat->st_gid,
		.mtime = stack_time(walk->stack, stat->st_mtim),
	};

	return meta;
}

static int digest_node(struct walk *walk, const char *path, const FTSENT *entry,
		       const struct fsmeta *meta, struct error *error)
{
	const struct stat *stat = entry->fts_statp;
	char numbers[128], target[PATH_MAX];
	ssize_t target_length = 0;

	if (S_ISLNK(meta->mode))
		target_length = readlink(entry->fts_accpath, target, sizeof(target));
	if (target_length < 0)
		return error_errno(error, "read link %s", entry->fts_path);
	snprintf(
		numbers, sizeof(numbers), "%o %u %u %lld.%09ld %llu %zd", meta->mode, meta->uid,
		meta->gid, (long long)meta->mtime.tv_sec, meta->mtime.tv_nsec,
		(unsigned long long)(S_ISREG(meta->mode) ? (uint64_t)stat->st_size : stat->st_rdev),
		target_length);
	digest_add(walk->metadata, path, strlen(path) + 1);
	digest_add(walk->metadata, numbers, strlen(numbers) + 1);
	digest_add(walk->metadata, target, (size_t)target_length);
	return 0;
}

static void digest_xattr(void *context, const char *name, const void *value, size_t size)
{
	digest_add(context, name, strlen(name) + 1);
	digest_add(context, &(uint64_t){size}, sizeof(uint64_t));
	digest_add(context, value, size);
}

static int stack_node_of(struct walk *walk, const FTSENT *entry, const struct fsmeta *meta,
			 struct fsnode **node, struct error *error)
{
	struct stack *stack = walk->stack;
	struct place place = {.directory = entry->fts_parent->fts_pointer};
	struct fsimport import = {
		.override_owner = true,
		.uid = meta->uid,
		.gid = meta->gid,
		.xattrs = true,
		.omit_trusted = true,
		.clamp_mtime = true,
		.latest_mtime = stack->latest,
		.zeros_are_holes = true,
	};

	if (S_ISSOCK(meta->mode))
		return 0;
	snprintf(place.name, sizeof(place.name), "%s", entry->fts_name);
	if (S_ISDIR(meta->mode)) {
		*node = stack_put_directory(stack, &place, meta, error);
		if (*node && fstree_import_xattrs(stack->tree, *node, AT_FDCWD, entry->fts_accpath,
						  &import, error))
			return -1;
	} else {
		stack_clear(stack, &place);
		*node = fstree_import(stack->tree, place.directory, place.name, AT_FDCWD,
				      entry->fts_accpath, &import, error);
	}
	return *node ? 0 : -1;
}

static int visit(struct walk *walk, FTSENT *entry, struct error *error)
{
	const char *path = entry->fts_path + strlen(walk->source->path);
	struct fsnode *node = NULL;
	struct fsmeta meta;

	/* The source itself: the root's mode and time are ours. */
	if (entry->fts_level == FTS_ROOTLEVEL) {
		entry->fts_pointer = fstree_root(walk->stack->tree);
		walk->owner = entry->fts_statp->st_uid;
		return 0;
	}
	meta = meta_of(walk, entry->fts_statp);
	path += strspn(path, "/");
	walk->source->nodes++;
	if (digest_node(walk, path, entry, &meta, error) ||
	    stack_node_of(walk, entry, &meta, &node, error))
		return -1;
	if (node)
		fstree_each_xattr(node, digest_xattr, walk->metadata);
	entry->fts_pointer = node;
	stack_report(walk->stack);
	return 0;
}

int source_directory_stack(struct root_source *source, struct root_target *target,
			   struct digest *metadata, struct error *error)
{
	struct walk walk = {
		.stack = &target->stack,
		.source = source,
		.metadata = metadata,
		.fts = files_walk(source->path, error),
	};
	FTSENT *entry;
	int result;

	if (!walk.fts)
		return -1;
	while ((entry = files_walk_next(walk.fts, &result, error)))
		if ((result = visit(&walk, entry, error)))
			break;
	fts_close(walk.fts);
	return result;
}
