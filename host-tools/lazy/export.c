#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fsimage/copy.h"
#include "fsimage/writer.h"
#include "host-tools/confine.h"
#include "host-tools/input_path.h"
#include "host-tools/lazy/export_private.h"
#include "host-tools/pack.h"
#include "jobdisk/layout.h"

/* The same for all, for the same tree shall be the same disk. */
#define DISK_UUID	       "jobvm-tree-disk"
/* Linux reads 128 KiB ahead behind a directory. */
#define GUEST_READAHEAD_BLOCKS 32

/* Metadata is looked through in so many bytes at a time. */
#define SCAN_BYTES (1 << 20)

/* Records that follow one another. */
struct list {
	void *items;
	size_t count, capacity;
	size_t item_bytes;
};

/* An export that is being made. */
struct maker {
	struct export *export;
	struct error *error;
	struct fstree *tree;
	struct timespec mtime; /* of the disk's root, and of what no file has a time for */
	const struct fsnode *last_node;
	uint64_t image_bytes;

	/* The map's parts. */
	struct list files, extents, metadata, strings;
	struct list private_files; /* struct export_file */
};

static int fail_for_memory(struct maker *maker)
{
	return error_set(maker->error, "no memory for a tree of %zu files", maker->files.count);
}

/* --- inputs --- */

static int open_base(struct maker *maker, const struct input_path *input)
{
	struct export *export = maker->export;
	struct export_base *base = &export->bases[export->base_count++];
	char copy[PATH_MAX];

	base->fd = -1;
	snprintf(copy, sizeof(copy), "%s", input->resolved);
	base->path = strdup(S_ISDIR(input->type) ? copy : dirname(copy));
	if (!S_ISDIR(input->type))
		base->name = strdup(strrchr(input->resolved, '/') + 1);
	if (!base->path || (!S_ISDIR(input->type) && !base->name))
		return fail_for_memory(maker);
	base->fd = open(base->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return base->fd < 0 ? error_errno(maker->error, "open %s", base->path) : 0;
}

static int add_input(struct maker *maker, const char *path)
{
	static const struct epoch no_epoch;
	const struct export_options *options = &maker->export->options;
	struct fsimport rules = input_rules(options->uid, options->gid, &no_epoch);
	struct input_path input;

	if (input_resolve(path, path, &input, maker->error) || open_base(maker, &input))
		return -1;
	return input_add(&input, maker->tree, fstree_root(maker->tree), &rules, maker->error);
}

static int make_tree(struct maker *maker, const struct strings *inputs)
{
	struct export *export = maker->export;
	struct stat first;

	if (!inputs->count)
		return error_set(maker->error, "there is no input");
	if (stat(inputs->items[0], &first))
		return error_errno(maker->error, "input '%s'", inputs->items[0]);
	maker->mtime = first.st_mtim;

	struct fsmeta root = {.mode = 0755,
			      .uid = export->options.uid,
			      .gid = export->options.gid,
			      .mtime = maker->mtime};

	export->bases = calloc(inputs->count, sizeof(*export->bases));
	maker->tree = fstree_new(&root);
	if (!export->bases || !maker->tree)
		return fail_for_memory(maker);
	for (size_t i = 0; i < inputs->count; i++)
		if (add_input(maker, inputs->items[i]))
			return -1;
	return 0;
}

/* --- the disk, and what the map says of its data --- */

/* The last record, or NULL. */
static void *last(const struct list *list)
{
	return list->count ? (uint8_t *)list->items + (list->count - 1) * list->item_bytes : NULL;
}

/* Appends COUNT records. -1 when there is no memory. */
static int append(struct list *list, const void *records, size_t count)
{
	while (list->capacity - list->count < count) {
		void *grown =
			list_room(list->items, list->capacity, &list->capacity, list->item_bytes);

		if (!grown)
			return -1;
		list->items = grown;
	}
	if (count)
		memcpy((uint8_t *)list->items + list->count * list->item_bytes, records,
		       count * list->item_bytes);
	list->count += count;
	return 0;
}

static uint32_t find_base(const struct export *export, const struct fsorigin *origin)
{
	size_t at = 0;

	for (; at + 1 < export->base_count; at++) {
		const struct export_base *base = &export->bases[at];
		size_t length = strlen(base->path);

		if (!base->name && origin->below_bytes &&
		    strcmp(base->path, origin->import_path) == 0)
			break;
		if (base->name && !origin->below_bytes &&
		    strncmp(base->path, origin->import_path, length) == 0 &&
		    strcmp(strrchr(origin->import_path, '/') + 1, base->name) == 0)
			break;
	}
	return (uint32_t)at;
}

static int add_file(struct maker *maker, const struct fsnode *node)
{
	struct fsorigin origin = fstree_origin(node);
	char *path = fstree_path(node);
	struct map_file file = {
		.size_bytes = origin.size_bytes,
		.mtime_seconds = origin.mtime.tv_sec,
		.mtime_nanoseconds = (uint32_t)origin.mtime.tv_nsec,
		.mode = fstree_meta(node)->mode,
		.path_offset = maker->strings.count,
		.path_bytes = path ? (uint32_t)strlen(path) : 0,
	};
	const struct export_file private_file = {
		.device = origin.device,
		.inode = origin.inode,
		.ctime_seconds = origin.ctime.tv_sec,
		.ctime_nanoseconds = (uint32_t)origin.ctime.tv_nsec,
		.base = find_base(maker->export, &origin),
		.below_bytes = (uint32_t)origin.below_bytes,
	};
	int failed = !path || append(&maker->files, &file, 1) ||
		     append(&maker->private_files, &private_file, 1) ||
		     append(&maker->strings, path, file.path_bytes);

	free(path);
	maker->last_node = node;
	return failed ? fail_for_memory(maker) : 0;
}

static bool continues(const struct map_extent *first, const struct map_extent *second)
{
	return first->file == second->file &&
	       first->start_block + first->blocks == second->start_block &&
	       first->file_block + first->blocks == second->file_block;
}

static int place_run(void *context, const struct fsimage_run *run, struct error *error)
{
	struct maker *maker = context;
	struct map_extent *before = last(&maker->extents);

	(void)error; /* the maker's */
	if (run->node != maker->last_node && add_file(maker, run->node))
		return -1;

	const struct map_extent extent = {
		.start_block = (uint32_t)(run->image_offset / MAP_BLOCK_BYTES),
		.blocks = (uint32_t)((run->length + MAP_BLOCK_BYTES - 1) / MAP_BLOCK_BYTES),
		.file = (uint32_t)maker->files.count - 1,
		.file_block = (uint32_t)(run->file_offset / MAP_BLOCK_BYTES),
	};

	if (before && continues(before, &extent))
		before->blocks += extent.blocks;
	else if (append(&maker->extents, &extent, 1))
		return fail_for_memory(maker);
	return 0;
}

static int write_disk(struct maker *maker)
{
	struct fsimage_options options = {
		.label = INPUTDISK_LABEL,
		.uuid = DISK_UUID,
		.now = maker->mtime.tv_sec,
		.blocks_before_data = GUEST_READAHEAD_BLOCKS,
		.place_run = place_run,
		.place_context = maker,
	};
	struct packed disk;
	struct stat status;

	if (pack_open(NULL, &disk, maker->error))
		return -1;
	maker->export->disk_fd = disk.fd;
	if (fsimage_write(maker->tree, disk.fd, "the served disk", &options, maker->error))
		return -1;
	if (fstat(disk.fd, &status))
		return error_errno(maker->error, "examine the served disk");
	maker->image_bytes = (uint64_t)status.st_size;
	return 0;
}

/* --- what the map says of metadata, and the identity --- */

static bool is_zero(const uint8_t *block)
{
	return block[0] == 0 && memcmp(block, block + 1, MAP_BLOCK_BYTES - 1) == 0;
}

static void digest_number(struct digest *digest, uint64_t number)
{
	number = htole64(number);
	digest_add(digest, &number, sizeof(number));
}

static int add_metadata(struct maker *maker, uint64_t block)
{
	const struct map_range range = {.start_block = (uint32_t)block, .blocks = 1};
	struct map_range *before = last(&maker->metadata);

	if (before && before->start_block + before->blocks == block)
		before->blocks++;
	else if (append(&maker->metadata, &range, 1))
		return fail_for_memory(maker);
	return 0;
}

static int scan_data(struct maker *maker, struct digest *digest, uint8_t *bytes, uint64_t start,
		     uint64_t end)
{
	for (uint64_t offset = start; offset < end; offset += SCAN_BYTES) {
		uint64_t size = end - offset < SCAN_BYTES ? end - offset : SCAN_BYTES;

		if (read_at(maker->export->disk_fd, bytes, size, offset) != (int64_t)size)
			return error_errno(maker->error, "read the served disk");
		for (uint64_t at = 0; at < size; at += MAP_BLOCK_BYTES) {
			if (is_zero(bytes + at))
				continue;
			digest_number(digest, (offset + at) / MAP_BLOCK_BYTES);
			digest_add(digest, bytes + at, MAP_BLOCK_BYTES);
			if (add_metadata(maker, (offset + at) / MAP_BLOCK_BYTES))
				return -1;
		}
	}
	return 0;
}

/* What the file system keeps as data, in whole blocks: the image has blocks of that size. */
static int scan_disk(struct maker *maker, struct digest *digest)
{
	int fd = maker->export->disk_fd, failed = 0;
	uint8_t *bytes = malloc(SCAN_BYTES);
	off_t start, end = 0;

	if (!bytes)
		return fail_for_memory(maker);
	while (!failed && (start = lseek(fd, end, SEEK_DATA)) >= 0) {
		end = lseek(fd, start, SEEK_HOLE);
		if (end < 0)
			break;
		start = start / MAP_BLOCK_BYTES * MAP_BLOCK_BYTES;
		end = (end + MAP_BLOCK_BYTES - 1) / MAP_BLOCK_BYTES * MAP_BLOCK_BYTES;
		failed = scan_data(maker, digest, bytes, (uint64_t)start, (uint64_t)end);
	}
	if (!failed && errno != ENXIO)
		failed = error_errno(maker->error, "find the data of the served disk");
	free(bytes);
	return failed;
}

/* What tells whether the data of a file is the same as at another time. */
static void digest_files(const struct maker *maker, struct digest *digest)
{
	const struct map_file *file = maker->files.items;
	const struct export_file *more = maker->private_files.items;

	for (size_t i = 0; i < maker->files.count; i++, file++, more++) {
		digest_number(digest, file->size_bytes);
		digest_number(digest, (uint64_t)file->mtime_seconds);
		digest_number(digest, file->mtime_nanoseconds);
		digest_number(digest, (uint64_t)more->ctime_seconds);
		digest_number(digest, more->ctime_nanoseconds);
		digest_number(digest, more->inode);
	}
}

static int identify(struct maker *maker, uint8_t identity[MAP_IDENTITY_BYTES])
{
	struct digest *digest = digest_new(maker->error);

	if (!digest)
		return -1;
	digest_number(digest, maker->image_bytes);
	if (scan_disk(maker, digest)) {
		digest_free(digest);
		return -1;
	}
	digest_number(digest, UINT64_MAX); /* no block; the files follow */
	digest_files(maker, digest);
	return digest_finish(digest, identity, maker->error);
}

/* --- the map --- */

/* Writes the records behind what there is, *SIZE bytes, which is then a multiple of 8. */
static int write_section(struct maker *maker, const struct list *list, uint64_t *size,
			 struct map_section *section)
{
	size_t bytes = list->count * list->item_bytes;

	*section = (struct map_section){*size, list->count};
	if (bytes && write_at(maker->export->map_fd, list->items, bytes, *size))
		return error_errno(maker->error, "write the map of the served disk");
	*size = (*size + bytes + 7) / 8 * 8;
	return 0;
}

static int write_sections(struct maker *maker, struct map_header *header)
{
	struct export *export = maker->export;
	uint64_t size = MAP_HEADER_BYTES;
	struct map_section private_files;

	if (write_section(maker, &maker->files, &size, &header->files) ||
	    write_section(maker, &maker->extents, &size, &header->extents) ||
	    write_section(maker, &maker->metadata, &size, &header->metadata) ||
	    write_section(maker, &maker->strings, &size, &header->strings))
		return -1;
	export->map_bytes = size;
	if (write_section(maker, &maker->private_files, &size, &private_files))
		return -1;
	export->memory_bytes = size;
	if (write_at(export->map_fd, header, sizeof(*header), 0) ||
	    ftruncate(export->map_fd, (off_t)size))
		return error_errno(maker->error, "write the map of the served disk");
	return 0;
}

static int write_map(struct maker *maker)
{
	struct export *export = maker->export;
	struct map_header header = {
		.magic = MAP_MAGIC, .version = MAP_VERSION, .image_bytes = maker->image_bytes};
	struct packed file;

	if (identify(maker, header.identity) || pack_open(NULL, &file, maker->error))
		return -1;
	digest_hex(header.identity, export->identity);
	export->map_fd = file.fd;
	if (write_sections(maker, &header))
		return -1;
	export->memory = mmap(NULL, export->memory_bytes, PROT_READ, MAP_SHARED, export->map_fd, 0);
	if (export->memory == MAP_FAILED) {
		export->memory = NULL;
		return error_errno(maker->error, "map the map of the served disk");
	}
	export->files =
		(const struct export_file *)((const uint8_t *)export->memory + export->map_bytes);
	export->lost = calloc(maker->files.count / 8 + 1, 1);
	if (!export->lost)
		return fail_for_memory(maker);
	return map_parse(export->memory, export->map_bytes, &export->map, maker->error);
}

/* --- times --- */

#define NANOSECONDS 1000000000LL

/*
 * Changes of a file that are less than this apart may have the same time: a tick of the kernel's
 * clock is up to 10 ms, and there are file systems that keep seconds, or every other.
 */
static int64_t time_step(uint32_t nanoseconds)
{
	return nanoseconds ? NANOSECONDS / 50 : 2 * NANOSECONDS;
}

static int64_t clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * NANOSECONDS + now.tv_nsec;
}

/* How long after its last change FILE has to be let alone, from NOW on; 0: not at all. */
static int64_t unsettled(const struct export_file *file, int64_t now)
{
	int64_t step = time_step(file->ctime_nanoseconds);
	int64_t age;

	if (file->ctime_seconds < now / NANOSECONDS - 3 ||
	    file->ctime_seconds > now / NANOSECONDS + 3)
		return 0;
	age = now - (file->ctime_seconds * NANOSECONDS + file->ctime_nanoseconds);
	return age < step ? step - age : 0;
}

/*
 * A file that is changed twice within one step of its times cannot be told from one that is
 * changed once. The tree was looked at until READ_TIME: nothing is read before every change that
 * is still to come has a later time than what was seen.
 */
static void settle(struct export *export, int64_t read_time)
{
	int64_t wait = time_step(1);

	for (uint64_t i = 0; i < export->map.file_count; i++) {
		int64_t needed = unsettled(&export->files[i], read_time);

		if (needed > wait)
			wait = needed;
	}
	wait -= clock_now() - read_time;
	if (wait > 0 && wait < 6 * NANOSECONDS) {
		struct timespec rest = {wait / NANOSECONDS, wait % NANOSECONDS};

		while (nanosleep(&rest, &rest) && errno == EINTR)
			;
	}
	/* That one of them has changed since may be known now rather than later. */
	for (uint64_t i = 0; i < export->map.file_count; i++)
		if (unsettled(&export->files[i], read_time))
			export_check_file(export, (uint32_t)i);
}

/* --- the whole --- */

static void free_maker(struct maker *maker)
{
	fstree_free(maker->tree);
	free(maker->files.items);
	free(maker->private_files.items);
	free(maker->extents.items);
	free(maker->metadata.items);
	free(maker->strings.items);
	malloc_trim(0);
}

static int make(struct maker *maker, const struct strings *inputs)
{
	if (make_tree(maker, inputs))
		return -1;

	int64_t read_time = clock_now();

	if (write_disk(maker))
		return -1;
	fstree_free(maker->tree);
	maker->tree = NULL;
	if (write_map(maker))
		return -1;
	settle(maker->export, read_time);
	return 0;
}

struct export *export_make(const struct export_options *options, struct error *error)
{
	struct maker maker = {
		.export = calloc(1, sizeof(*maker.export)),
		.error = error,
		.files = {.item_bytes = sizeof(struct map_file)},
		.extents = {.item_bytes = sizeof(struct map_extent)},
		.metadata = {.item_bytes = sizeof(struct map_range)},
		.strings = {.item_bytes = 1},
		.private_files = {.item_bytes = sizeof(struct export_file)},
	};
	struct export *export = maker.export;

	if (!export) {
		error_set(error, "no memory for a served disk");
		return NULL;
	}
	export->options = *options;
	export->options.inputs = NULL;
	export->disk_fd = export->map_fd = -1;
	open_files_init(&export->open_files);
	int failed = make(&maker, options->inputs);
	free_maker(&maker);
	if (!failed)
		return export;
	export_free(export);
	return NULL;
}

void export_free(struct export *export)
{
	if (!export)
		return;
	open_files_close(&export->open_files);
	for (size_t i = 0; i < export->base_count; i++) {
		if (export->bases[i].fd >= 0)
			close(export->bases[i].fd);
		free(export->bases[i].path);
		free(export->bases[i].name);
	}
	free(export->bases);
	if (export->memory)
		munmap(export->memory, export->memory_bytes);
	if (export->disk_fd >= 0)
		close(export->disk_fd);
	if (export->map_fd >= 0)
		close(export->map_fd);
	free(export->lost);
	free(export);
}

const struct map *export_map(const struct export *export)
{
	return &export->map;
}

const char *export_identity(const struct export *export)
{
	return export->identity;
}

uint64_t export_map_bytes(const struct export *export)
{
	return export->map_bytes;
}

int export_confine(const struct export *export)
{
	struct confine_rule *rules = calloc(export->base_count, sizeof(*rules));

	if (!rules)
		return -1;
	for (size_t i = 0; i < export->base_count; i++)
		rules[i] = (struct confine_rule){.fd = export->bases[i].fd, .access = CONFINE_READ};
	int failed = confine_files(rules, export->base_count);
	free(rules);
	return failed;
}
