#include "host-tools/suspend/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fsimage/copy.h"

/* Of an entry in /proc/PID/pagemap (Linux, Documentation/admin-guide/mm/pagemap.rst). */
#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_SWAPPED (1ULL << 62)
#define PAGEMAP_FILE	(1ULL << 61)

static int open_error(const char *path, struct error *error)
{
	if (errno == EACCES || errno == EPERM)
		return error_set(error,
				 "this host does not let jobvm read the memory of its QEMU "
				 "(kernel.yama.ptrace_scope must be 0 or 1; a container needs "
				 "CAP_SYS_PTRACE)");
	return error_errno(error, "open %s", path);
}

static int open_of(pid_t pid, const char *name, int flags, struct error *error)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? open_error(path, error) : fd;
}

/* A line of /proc/PID/maps. */
struct part {
	uint64_t start, end, offset, inode;
	unsigned device_major, device_minor;
	bool is_private;
};

static bool parse_part(const char *line, struct part *part)
{
	char access[8];

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %x:%x %" SCNu64, &part->start,
		   &part->end, access, &part->offset, &part->device_major, &part->device_minor,
		   &part->inode) != 7)
		return false;
	part->is_private = strlen(access) == 4 && access[3] == 'p';
	return true;
}

static bool is_same_file(const struct part *a, const struct part *b)
{
	return a->inode == b->inode && a->device_major == b->device_major &&
	       a->device_minor == b->device_minor;
}

/* Calls for each part of PID's until one says that it is enough: whether one did; or -1. */
typedef bool part_taker(void *context, const struct part *part);

static int for_each_part(pid_t pid, part_taker *take, void *context, struct error *error)
{
	char path[64], line[512];
	struct part part;
	bool enough = false;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	FILE *maps = fopen(path, "re");
	if (!maps)
		return open_error(path, error);
	while (!enough && fgets(line, sizeof(line), maps))
		enough = parse_part(line, &part) && take(context, &part);
	fclose(maps);
	return enough;
}

static bool take_named(void *context, const struct part *part)
{
	struct part *wanted = context;
	bool is_it = part->start <= wanted->start && wanted->start < part->end;

	if (is_it)
		*wanted = *part;
	return is_it;
}

/*
 * How the file behind FD is called in a maps file. stat(2) need not have the same device: on btrfs
 * each subvolume has one of its own.
 */
static int name_file(int fd, struct part *name, struct error *error)
{
	void *page = mmap(NULL, MEMORY_PAGE_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);

	if (page == MAP_FAILED)
		return error_errno(error, "map the VM's memory");
	*name = (struct part){.start = (uintptr_t)page};
	int found = for_each_part(getpid(), take_named, name, error);
	munmap(page, MEMORY_PAGE_BYTES);
	return found == 0 ? error_set(error, "the VM's memory cannot be mapped") : found;
}

struct search {
	struct vm_memory *memory;
	struct part file;
	uint64_t size_bytes;
	uint64_t first_offset; /* in the file */
};

/* Advice for parts of a mapping splits it; its parts stay neighbours. */
static bool take_mapped(void *context, const struct part *part)
{
	struct search *search = context;
	struct vm_memory *memory = search->memory;

	if (!part->is_private || !is_same_file(part, &search->file))
		return false;
	if (memory->size_bytes == 0 || memory->address + memory->size_bytes != part->start ||
	    search->first_offset + memory->size_bytes != part->offset) {
		memory->address = part->start;
		memory->size_bytes = 0;
		search->first_offset = part->offset;
	}
	memory->size_bytes += part->end - part->start;
	return memory->size_bytes == search->size_bytes && search->first_offset == 0;
}

static int find_mapping(struct vm_memory *memory, pid_t pid, int mapped_fd, uint64_t size_bytes,
			struct error *error)
{
	struct search search = {.memory = memory, .size_bytes = size_bytes};

	if (name_file(mapped_fd, &search.file, error) < 0)
		return -1;
	int found = for_each_part(pid, take_mapped, &search, error);
	if (found < 0)
		return -1;
	return found ? 0 : error_set(error, "QEMU does not have its memory where it should");
}

int vm_memory_open(struct vm_memory *memory, pid_t pid, int mapped_fd, int base_fd,
		   uint64_t size_bytes, struct error *error)
{
	*memory = (struct vm_memory){.mem_fd = -1, .pagemap_fd = -1, .base_fd = base_fd};
	if (find_mapping(memory, pid, mapped_fd, size_bytes, error))
		return -1;
	memory->mem_fd = open_of(pid, "mem", O_RDWR, error);
	if (memory->mem_fd >= 0)
		memory->pagemap_fd = open_of(pid, "pagemap", O_RDONLY, error);
	bool failed = memory->pagemap_fd < 0;
	if (!failed && base_fd >= 0) {
		void *base = mmap(NULL, size_bytes, PROT_READ, MAP_PRIVATE, base_fd, 0);
		failed = base == MAP_FAILED;
		if (failed)
			error_errno(error, "map the template's memory");
		else
			memory->base = base;
	}
	if (failed)
		vm_memory_close(memory);
	return failed ? -1 : 0;
}

void vm_memory_close(struct vm_memory *memory)
{
	if (memory->mem_fd >= 0)
		close(memory->mem_fd);
	if (memory->pagemap_fd >= 0)
		close(memory->pagemap_fd);
	if (memory->base)
		munmap((void *)(uintptr_t)memory->base, memory->size_bytes);
	*memory = (struct vm_memory){.mem_fd = -1, .pagemap_fd = -1};
}

static bool is_zero(const unsigned char *page)
{
	return page[0] == 0 && memcmp(page, page + 1, MEMORY_PAGE_BYTES - 1) == 0;
}

static bool is_private(uint64_t entry)
{
	return entry & PAGEMAP_SWAPPED || (entry & PAGEMAP_PRESENT && !(entry & PAGEMAP_FILE));
}

/*
 * Which of the base's pages are not holes. To look at a hole would make the kernel keep zeros for
 * it in its cache.
 */
static int find_base(const struct vm_memory *memory, uint64_t first, size_t count, bool *has_base)
{
	off_t offset = (off_t)(first * MEMORY_PAGE_BYTES), end = offset;
	off_t limit = offset + (off_t)(count * MEMORY_PAGE_BYTES);

	memset(has_base, 0, count * sizeof(*has_base));
	while (memory->base && end < limit) {
		off_t data = lseek(memory->base_fd, end, SEEK_DATA);
		if (data < 0)
			return errno == ENXIO ? 0 : -1;
		end = lseek(memory->base_fd, data, SEEK_HOLE);
		if (end < 0)
			return -1;
		/* Some file systems have blocks that are smaller than pages. */
		data -= data % MEMORY_PAGE_BYTES;
		for (off_t at = data < offset ? offset : data; at < end && at < limit;
		     at += MEMORY_PAGE_BYTES)
			has_base[(at - offset) / MEMORY_PAGE_BYTES] = true;
	}
	return 0;
}

/* A range of pages while it is read. */
struct range {
	const struct vm_memory *memory;
	uint64_t first;
	bool whole;
	uint64_t entries[MEMORY_RANGE_PAGES]; /* of the page map */
	bool has_base[MEMORY_RANGE_PAGES];
	enum memory_page *kinds;
	unsigned char *pages;
	size_t data; /* pages that are in PAGES already */
};

static const unsigned char *base_page(const struct range *range, size_t index)
{
	return range->has_base[index]
		       ? range->memory->base + (range->first + index) * MEMORY_PAGE_BYTES
		       : NULL;
}

static void take_page(struct range *range, size_t index, const unsigned char *page)
{
	const unsigned char *base = range->whole ? NULL : base_page(range, index);
	unsigned char *room = range->pages + range->data * MEMORY_PAGE_BYTES;

	if (base && memcmp(page, base, MEMORY_PAGE_BYTES) == 0)
		return;
	if (is_zero(page)) {
		range->kinds[index] = base ? MEMORY_ZERO : MEMORY_SAME;
		return;
	}
	range->kinds[index] = MEMORY_DATA;
	range->data++;
	if (page != room)
		memmove(room, page, MEMORY_PAGE_BYTES);
}

/* Pages from INDEX on that are QEMU's own: how many, or 0 with errno. */
static size_t take_own(struct range *range, size_t index, size_t count)
{
	unsigned char *room = range->pages + range->data * MEMORY_PAGE_BYTES;
	size_t length = 1;

	while (index + length < count && is_private(range->entries[index + length]))
		length++;
	int64_t wanted = (int64_t)(length * MEMORY_PAGE_BYTES);
	if (read_at(range->memory->mem_fd, room, (size_t)wanted,
		    range->memory->address + (range->first + index) * MEMORY_PAGE_BYTES) != wanted)
		return 0;
	for (size_t i = 0; i < length; i++)
		take_page(range, index + i, room + i * MEMORY_PAGE_BYTES);
	return length;
}

long vm_memory_read(const struct vm_memory *memory, uint64_t first, size_t count, bool whole,
		    enum memory_page *kinds, unsigned char *pages, uint64_t *changed_pages)
{
	struct range range = {
		.memory = memory, .first = first, .whole = whole, .kinds = kinds, .pages = pages};
	int64_t map_bytes = (int64_t)(count * sizeof(range.entries[0]));

	if (read_at(memory->pagemap_fd, range.entries, (size_t)map_bytes,
		    (memory->address / MEMORY_PAGE_BYTES + first) * sizeof(range.entries[0])) !=
		    map_bytes ||
	    find_base(memory, first, count, range.has_base))
		return -1;
	for (size_t i = 0; i < count; i++)
		kinds[i] = MEMORY_SAME;
	for (size_t i = 0, length; i < count; i += length) {
		const unsigned char *base = base_page(&range, i);
		length = 1;
		if (is_private(range.entries[i])) {
			length = take_own(&range, i, count);
			*changed_pages += length;
		} else if (whole && base) {
			take_page(&range, i, base);
		}
		if (length == 0)
			return -1;
	}
	return (long)range.data;
}

int vm_memory_write(const struct vm_memory *memory, uint64_t offset, const void *bytes,
		    size_t size_bytes)
{
	if (offset > memory->size_bytes || size_bytes > memory->size_bytes - offset) {
		errno = EINVAL;
		return -1;
	}
	return write_at(memory->mem_fd, bytes, size_bytes, memory->address + offset);
}
