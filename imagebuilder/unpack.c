#include "imagebuilder/unpack.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHITEOUT	".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define WHITEOUT_OTHER	".wh..wh." /* aufs's own files, which mean nothing here */

/* Where a file's data lies in the spool. */
struct runs {
	struct fsrun *items;
	size_t count, capacity;
};

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/* --- a file's data --- */

static int add_run(struct runs *runs, const struct fsrun *run, struct error *error)
{
	struct fsrun *last = runs->count ? &runs->items[runs->count - 1] : NULL;

	if (last && last->offset + last->length == run->offset &&
	    last->source_offset + last->length == run->source_offset) {
		last->length += run->length;
		return 0;
	}
	if (!runs->items || runs->count == runs->capacity) {
		size_t capacity = runs->capacity ? 2 * runs->capacity : 16;
		struct fsrun *grown = reallocarray(runs->items, capacity, sizeof(*grown));

		if (!grown)
			return error_set(error, "out of memory");
		runs->items = grown;
		runs->capacity = capacity;
	}
	runs->items[runs->count++] = *run;
	return 0;
}

static int spool_data(struct unpack *unpack, struct tar_reader *reader, struct runs *runs,
		      struct error *error)
{
	struct tar_piece piece;
	int result;

	while ((result = tar_next_piece(reader, &piece, error)) == 1) {
		struct fsrun run = {piece.offset, unpack->spool->end_bytes, piece.size};

		if (piece.size == 0)
			continue;
		if (spool_append(unpack->spool, piece.bytes, piece.size, error) ||
		    add_run(runs, &run, error))
			return -1;
	}
	return result;
}

/* --- entries --- */

static void digest_entry(struct unpack *unpack, const struct tar_reader *reader,
			 const struct fsmeta *meta)
{
	const char *path = tar_path(reader), *link = tar_link_target(reader);
	const char *target = S_ISLNK(meta->mode) ? tar_symlink_target(reader) : "";
	char numbers[160];

	snprintf(numbers, sizeof(numbers), "%o %u %u %lld.%09ld %" PRIu64 " %llu %s", meta->mode,
		 meta->uid, meta->gid, (long long)meta->mtime.tv_sec, meta->mtime.tv_nsec,
		 tar_size(reader), (unsigned long long)tar_device(reader), link ? "link" : "");
	digest_add(unpack->metadata, path, strlen(path) + 1);
	digest_add(unpack->metadata, numbers, strlen(numbers) + 1);
	digest_add(unpack->metadata, target, strlen(target) + 1);
	if (link)
		digest_add(unpack->metadata, link, strlen(link) + 1);
}

static int put_link(struct unpack *unpack, const struct place *place, const char *target_path,
		    struct error *error)
{
	struct stack *stack = unpack->stack;
	struct place target_place;
	int found = stack_locate(stack, target_path, false, &target_place, error);
	struct fsnode *target = found == 1 ? stack_node(stack, &target_place) : NULL;

	if (found < 0)
		return error_prefix(error, "its other name '%s'", target_path);
	if (target && target == stack_node(stack, place))
		return 0;
	if (!target || S_ISDIR(fstree_meta(target)->mode))
		return error_set(error, "it is another name of '%s', which is not there as a file",
				 target_path);
	/* A directory that makes way may have the target in it. */
	stack_clear(stack, place);
	if (stack_locate(stack, target_path, false, &target_place, error) != 1 ||
	    stack_node(stack, &target_place) != target)
		return error_set(error, "it replaces the directory of its other name '%s'",
				 target_path);
	return fstree_add_link(stack->tree, place->directory, place->name, target, error) ? 0 : -1;
}

static struct fsnode *put_file(struct unpack *unpack, struct tar_reader *reader,
			       const struct place *place, const struct fsmeta *meta,
			       struct error *error)
{
	struct runs runs = {.items = NULL};
	struct fsnode *node = NULL;

	if (spool_data(unpack, reader, &runs, error) == 0) {
		stack_clear(unpack->stack, place);
		node = fstree_add_runs(unpack->stack->tree, place->directory, place->name, meta,
				       unpack->spool->fd, unpack->spool->name, runs.items,
				       runs.count, tar_size(reader), error);
	}
	free(runs.items);
	return node;
}

static struct fsnode *put_node(struct unpack *unpack, struct tar_reader *reader,
			       const struct place *place, const struct fsmeta *meta,
			       struct error *error)
{
	struct stack *stack = unpack->stack;

	switch (meta->mode & S_IFMT) {
	case S_IFDIR:
		return stack_put_directory(stack, place, meta, error);
	case S_IFREG:
		return put_file(unpack, reader, place, meta, error);
	case S_IFLNK:
		stack_clear(stack, place);
		return fstree_add_symlink(stack->tree, place->directory, place->name, meta,
					  tar_symlink_target(reader), error);
	default:
		stack_clear(stack, place);
		return fstree_add_special(stack->tree, place->directory, place->name, meta,
					  tar_device(reader), error);
	}
}

/* The node that an attribute is for. */
struct attributed {
	struct unpack *unpack;
	struct fsnode *node;
};

static int set_xattr(void *context, const char *name, const void *value, size_t size,
		     struct error *error)
{
	struct attributed *attributed = context;
	struct unpack *unpack = attributed->unpack;

	digest_add(unpack->metadata, name, strlen(name) + 1);
	digest_add(unpack->metadata, value, size);
	return fstree_set_xattr(unpack->stack->tree, attributed->node, name, value, size, error);
}

static int put_entry(struct unpack *unpack, struct tar_reader *reader, const struct place *place,
		     struct error *error)
{
	const char *link = tar_link_target(reader);
	struct fsmeta meta;

	if (tar_meta(reader, &meta, error))
		return -1;
	meta.mtime = stack_time(unpack->stack, meta.mtime);
	/* In Linux a symlink has no other; archives made elsewhere may say what they like. */
	if (S_ISLNK(meta.mode))
		meta.mode |= 0777;
	unpack->nodes++;
	digest_entry(unpack, reader, &meta);
	if (!*place->name && (link || !S_ISDIR(meta.mode)))
		return error_set(error, "the root can only be a directory");
	if (!*place->name || (!link && S_ISSOCK(meta.mode)))
		return 0;
	if (link)
		return put_link(unpack, place, link, error);

	struct attributed attributed = {unpack, put_node(unpack, reader, place, &meta, error)};

	if (!attributed.node)
		return -1;
	fstree_clear_xattrs(attributed.node);
	return tar_xattrs(reader, set_xattr, &attributed, error);
}

/* --- OCI layers --- */

static int apply_whiteout(struct unpack *unpack, struct place *place, struct error *error)
{
	const char *hidden = place->name + strlen(WHITEOUT);

	if (strcmp(place->name, WHITEOUT_OPAQUE) == 0) {
		stack_empty(unpack->stack, place->directory);
	} else if (starts_with(place->name, WHITEOUT_OTHER)) {
		return 0;
	} else if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0) {
		return error_set(error, "a whiteout of no name");
	} else {
		struct place hidden_place = {.directory = place->directory};

		memcpy(hidden_place.name, hidden, strlen(hidden) + 1);
		stack_clear(unpack->stack, &hidden_place);
	}
	return 0;
}

static int make_way(struct unpack *unpack, struct tar_reader *reader, struct error *error)
{
	struct place place;
	int found = stack_locate(unpack->stack, tar_path(reader), false, &place, error);
	struct fsmeta meta;

	/* The directory may be one that this layer puts where now something else is. */
	if (found <= 0 || !*place.name)
		return found < 0 ? -1 : 0;
	if (starts_with(place.name, WHITEOUT))
		return apply_whiteout(unpack, &place, error);
	if (tar_link_target(reader) || tar_meta(reader, &meta, error))
		return tar_link_target(reader) ? 0 : -1;

	const struct fsnode *node = stack_node(unpack->stack, &place);

	if (node && S_ISDIR(fstree_meta(node)->mode) != S_ISDIR(meta.mode))
		stack_clear(unpack->stack, &place);
	return 0;
}

/* --- whole archives --- */

typedef int on_entry(struct unpack *unpack, struct tar_reader *reader, struct error *error);

static int unpack_entry(struct unpack *unpack, struct tar_reader *reader, struct error *error)
{
	struct place place;
	const char *path = tar_path(reader), *name = strrchr(path, '/');

	if (unpack->is_layer && starts_with(name ? name + 1 : path, WHITEOUT))
		return 0;
	if (stack_locate(unpack->stack, path, true, &place, error) < 0)
		return -1;
	return put_entry(unpack, reader, &place, error);
}

/* Errors that name the source already are of the archive itself, not of the entry. */
static int name_entry(const struct tar_reader *reader, struct error *error)
{
	const char *source = reader->source->name;

	if (starts_with(error->text, source) && error->text[strlen(source)] == ':')
		return -1;
	return error_prefix(error, "%s: entry '%s'", source, tar_path(reader));
}

static int read_all(struct unpack *unpack, struct byte_source *source, on_entry *handle,
		    struct error *error)
{
	struct tar_reader reader;
	int result = tar_open(&reader, source, unpack->plain, error);

	/* A layer is known to be whole by its digest. */
	reader.needs_end_mark = !unpack->is_layer;
	while (result == 0 && (result = tar_next(&reader, error)) == 1) {
		result = handle(unpack, &reader, error) ? name_entry(&reader, error) : 0;
		stack_report(unpack->stack);
	}
	if (result == 0)
		result = tar_drain(&reader, error);
	tar_close(&reader);
	return result;
}

int unpack_tar(struct unpack *unpack, struct byte_source *source, struct error *error)
{
	/* Empty files have their data in it too. */
	if (spool_fd(unpack->spool, error) < 0)
		return -1;
	return read_all(unpack, source, unpack_entry, error);
}

int unpack_make_way(struct unpack *unpack, struct byte_source *source, struct error *error)
{
	return read_all(unpack, source, make_way, error);
}
