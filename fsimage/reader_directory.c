#include <endian.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "fsimage/format.h"
#include "fsimage/reader_private.h"

/* --- which directory is where --- */

/*
 * Where a directory was first found. Found elsewhere too, it is linked twice: refusing that
 * makes the directories a tree, in which no walk from the root enters one again.
 */
struct found_directory {
	uint32_t inode;
	uint32_t parent;
	uint64_t position; /* of its entry in the parent */
	unsigned depth;
	uint64_t path_bytes; /* of its path from the root */
};

static int compare_found(const void *a, const void *b)
{
	const struct found_directory *left = a, *right = b;

	return (left->inode > right->inode) - (left->inode < right->inode);
}

static const struct found_directory *find_directory(struct fsimage *image, uint32_t inode)
{
	static const struct found_directory root = {EXT2_ROOT_INO, EXT2_ROOT_INO, 0, 0, 0};
	const struct found_directory key = {.inode = inode};

	if (inode == EXT2_ROOT_INO)
		return &root;

	struct found_directory **found = tfind(&key, &image->directories, compare_found);

	return found ? *found : NULL;
}

static int remember_directory(struct fsimage *image, const struct found_directory *directory,
			      struct error *error)
{
	const struct found_directory *known = find_directory(image, directory->inode);

	if (known && known->parent == directory->parent && known->position == directory->position)
		return 0;
	if (known)
		return inode_fail(image, directory->inode, "the directory is in two places", error);
	if (directory->depth > DIRECTORY_DEPTH_MAX)
		return inode_fail(image, directory->inode, "the directory is too deep", error);

	struct found_directory *copy = malloc(sizeof(*copy));

	if (copy)
		*copy = *directory;
	if (!copy || !tsearch(copy, &image->directories, compare_found)) {
		free(copy);
		return error_set(error, "%s: out of memory", image->name);
	}
	return 0;
}

void directories_forget(struct fsimage *image)
{
	tdestroy(image->directories, free);
	image->directories = NULL;
}

/* --- the blocks of one directory --- */

/* An entry as it is on disk; NAME is not NUL-terminated. */
struct raw_entry {
	uint32_t inode;
	uint8_t type;
	uint64_t position;
	const char *name;
	size_t name_bytes;
};

typedef int scan_visit(void *context, const struct raw_entry *entry, struct error *error);

struct scan {
	struct fsimage *image;
	const struct found_directory *directory;
	uint64_t seen; /* entries so far, with "." and ".." */
	scan_visit *visit;
	void *context;
	struct error *error;
};

static int fail_scan(struct scan *scan, const char *what)
{
	return inode_fail(scan->image, scan->directory->inode, what, scan->error);
}

static bool is_name(const struct raw_entry *entry, const char *name)
{
	return entry->name_bytes == strlen(name) &&
	       memcmp(entry->name, name, entry->name_bytes) == 0;
}

/* "." and ".." stand first, lead where they must, and stand nowhere else. */
static int take_dots(struct scan *scan, const struct raw_entry *entry)
{
	uint32_t expected = scan->seen == 0 ? scan->directory->inode : scan->directory->parent;

	if (!is_name(entry, scan->seen == 0 ? "." : "..") || entry->inode != expected)
		return fail_scan(scan, "the directory does not start with '.' and '..'");
	return 0;
}

static int take_entry(struct scan *scan, const struct raw_entry *entry)
{
	if (!entry->name_bytes || is_name(entry, ".") || is_name(entry, "..") ||
	    memchr(entry->name, '/', entry->name_bytes) ||
	    memchr(entry->name, '\0', entry->name_bytes))
		return fail_scan(scan, "the directory has a name in it that no file can have");
	return scan->visit(scan->context, entry, scan->error);
}

/* Index blocks of large directories look like unused entries, and are skipped as such. */
static int scan_block(struct scan *scan, const uint8_t *block, uint64_t block_offset)
{
	const size_t header_bytes = offsetof(struct ext2_dir_entry_2, name);
	const size_t least_bytes = EXT2_DIR_REC_LEN(1);
	size_t record_bytes;

	for (size_t offset = 0; offset < IMAGE_BLOCK_BYTES; offset += record_bytes) {
		const struct ext2_dir_entry_2 *raw = (const void *)(block + offset);
		struct raw_entry entry = {.position = block_offset + offset};

		record_bytes = IMAGE_BLOCK_BYTES - offset < least_bytes ? 0 : le16toh(raw->rec_len);
		if (record_bytes < least_bytes || record_bytes % 4 ||
		    record_bytes > IMAGE_BLOCK_BYTES - offset ||
		    header_bytes + raw->name_len > record_bytes)
			return fail_scan(scan, "the directory is damaged");
		entry.inode = le32toh(raw->inode);
		entry.type = raw->file_type;
		entry.name = raw->name;
		entry.name_bytes = raw->name_len;
		if (!entry.inode && scan->seen >= 2)
			continue;
		if ((scan->seen < 2 ? take_dots : take_entry)(scan, &entry) < 0)
			return -1;
		scan->seen++;
	}
	return 0;
}

/* Manifests may name very many paths, each of which is looked up. */
static int count_scanned(struct fsimage *image, uint64_t blocks, struct error *error)
{
	image->scanned_blocks += blocks;
	if (image->scanned_blocks > SCANNED_BLOCKS_MAX)
		return error_set(error, "%s has too large directories", image->name);
	return 0;
}

/* Calls VISIT for each entry in the order on disk. */
static int scan_directory(struct fsimage *image, uint32_t inode, scan_visit *visit, void *context,
			  struct error *error)
{
	struct scan scan = {.image = image, .visit = visit, .context = context, .error = error};
	uint8_t block[IMAGE_BLOCK_BYTES] __attribute__((aligned(4)));

	scan.directory = find_directory(image, inode);
	if (!scan.directory)
		return inode_fail(image, inode, "no name led to this directory", error);
	if (map_load(image, inode, S_IFDIR, error) < 0)
		return -1;

	uint64_t size = image->map->size_bytes;

	if (count_scanned(image, size / sizeof(block), error) < 0)
		return -1;
	if (!size || size % sizeof(block) || size > DIRECTORY_BYTES_MAX)
		return fail_scan(&scan, "the directory has an impossible size");
	for (uint64_t offset = 0; offset < size; offset += sizeof(block)) {
		if (map_read(image, offset, block, sizeof(block), error) < 0 ||
		    scan_block(&scan, block, offset) < 0)
			return -1;
	}
	return 0;
}

/* Finds out what an entry of DIRECTORY leads to. */
static int follow_entry(struct fsimage *image, uint32_t directory, const struct raw_entry *entry,
			struct fsstat *stat, struct error *error)
{
	if (fsimage_stat(image, entry->inode, stat, error) < 0)
		return -1;
	if (format_entry_type(stat->mode) != entry->type)
		return inode_fail(image, entry->inode, "a name leads to it as another type", error);
	if (!S_ISDIR(stat->mode))
		return 0;

	const struct found_directory *parent = find_directory(image, directory);
	struct found_directory found = {
		.inode = entry->inode,
		.parent = directory,
		.position = entry->position,
		.depth = parent->depth + 1,
		.path_bytes = parent->path_bytes + entry->name_bytes + 1,
	};

	return remember_directory(image, &found, error);
}

/* --- lists --- */

struct list_entry {
	uint32_t inode;
	uint8_t type;
	uint64_t position;
	size_t name; /* where in struct list.names */
};

struct list {
	struct fsimage *image;
	uint32_t directory;
	struct list_entry *entries;
	size_t count, capacity;
	char *names; /* one after the other, each with a NUL */
	size_t names_used, names_capacity;
};

/* Makes room for one more entry with a name of NAME_BYTES. */
static int grow_list(struct list *list, size_t name_bytes)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? 2 * list->capacity : 64;
		struct list_entry *grown =
			reallocarray(list->entries, capacity, sizeof(struct list_entry));

		if (!grown)
			return -1;
		list->entries = grown;
		list->capacity = capacity;
	}
	if (list->names_capacity - list->names_used < name_bytes + 1) {
		size_t capacity = 2 * list->names_capacity + 4096;
		char *grown = realloc(list->names, capacity);

		if (!grown)
			return -1;
		list->names = grown;
		list->names_capacity = capacity;
	}
	return 0;
}

static int count_name(struct list *list, size_t name_bytes, struct error *error)
{
	struct fsimage *image = list->image;

	image->listed_bytes +=
		find_directory(image, list->directory)->path_bytes + name_bytes + LISTED_NAME_BYTES;
	if (image->listed_bytes > LISTED_BYTES_MAX)
		return error_set(error, "%s has more names or longer paths than can be listed",
				 image->name);
	return 0;
}

static int collect_entry(void *context, const struct raw_entry *entry, struct error *error)
{
	struct list *list = context;

	if (count_name(list, entry->name_bytes, error) < 0)
		return -1;
	if (grow_list(list, entry->name_bytes) < 0)
		return error_set(error, "%s: out of memory", list->image->name);
	list->entries[list->count++] = (struct list_entry){
		.inode = entry->inode,
		.type = entry->type,
		.position = entry->position,
		.name = list->names_used,
	};
	memcpy(list->names + list->names_used, entry->name, entry->name_bytes);
	list->names[list->names_used + entry->name_bytes] = '\0';
	list->names_used += entry->name_bytes + 1;
	return 0;
}

static int compare_entries(const void *a, const void *b, void *names)
{
	const struct list_entry *left = a, *right = b;

	return strcmp((const char *)names + left->name, (const char *)names + right->name);
}

static int sort_list(struct list *list, struct error *error)
{
	if (list->count)
		qsort_r(list->entries, list->count, sizeof(struct list_entry), compare_entries,
			list->names);
	for (size_t i = 1; i < list->count; i++) {
		if (compare_entries(&list->entries[i - 1], &list->entries[i], list->names) == 0)
			return inode_fail(list->image, list->directory,
					  "the directory has a name in it twice", error);
	}
	return 0;
}

static int visit_list(struct list *list, fsimage_visit *visit, void *context, struct error *error)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct list_entry *entry = &list->entries[i];
		struct raw_entry raw = {.inode = entry->inode,
					.type = entry->type,
					.position = entry->position,
					.name_bytes = strlen(list->names + entry->name)};
		struct fsstat stat;
		int result;

		if (follow_entry(list->image, list->directory, &raw, &stat, error) < 0)
			return -1;
		result = visit(context, list->names + entry->name, &stat, error);
		if (result)
			return result;
	}
	return 0;
}

int fsimage_list(struct fsimage *image, uint32_t directory, fsimage_visit *visit, void *context,
		 struct error *error)
{
	struct list list = {.image = image, .directory = directory};
	int result = -1;

	if (scan_directory(image, directory, collect_entry, &list, error) == 0 &&
	    sort_list(&list, error) == 0)
		result = visit_list(&list, visit, context, error);
	free(list.entries);
	free(list.names);
	return result;
}

/* --- lookups --- */

struct search {
	struct fsimage *image;
	uint32_t directory;
	const char *name;
	size_t name_bytes;
	bool found;
	struct raw_entry entry; /* but for its name */
};

static int match_entry(void *context, const struct raw_entry *entry, struct error *error)
{
	struct search *search = context;

	if (entry->name_bytes != search->name_bytes ||
	    memcmp(entry->name, search->name, search->name_bytes) != 0)
		return 0;
	if (search->found)
		return inode_fail(search->image, search->directory,
				  "the directory has a name in it twice", error);
	search->found = true;
	search->entry = *entry;
	return 0;
}

int fsimage_lookup(struct fsimage *image, const char *path, struct fsstat *stat,
		   struct error *error)
{
	if (fsimage_stat(image, EXT2_ROOT_INO, stat, error) < 0)
		return -1;
	while (*path) {
		struct search search = {.image = image,
					.directory = stat->inode,
					.name = path,
					.name_bytes = strcspn(path, "/")};

		if (!S_ISDIR(stat->mode))
			return 1;
		if (scan_directory(image, stat->inode, match_entry, &search, error) < 0)
			return -1;
		if (!search.found)
			return 1;
		if (follow_entry(image, search.directory, &search.entry, stat, error) < 0)
			return -1;
		path += search.name_bytes;
		path += *path == '/';
	}
	return 0;
}
