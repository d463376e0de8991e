#include "imagebuilder/kernel.h"

#include <ctype.h>
#include <elf.h>
#include <endian.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "imagebuilder/bzimage.h"

#define BANNER "Linux version "

struct mapped_file {
	const uint8_t *bytes;
	size_t size;
};

static unsigned load_le16(const struct mapped_file *file, size_t offset)
{
	uint16_t value;

	memcpy(&value, file->bytes + offset, sizeof(value));
	return le16toh(value);
}

/* Takes the word at OFFSET as the release. */
static int take_release(const struct mapped_file *file, size_t offset, struct kernel_info *info)
{
	size_t length = 0;

	while (offset + length < file->size && isgraph(file->bytes[offset + length]))
		if (++length == sizeof(info->release))
			return -1;
	if (length == 0)
		return -1;
	memcpy(info->release, file->bytes + offset, length);
	info->release[length] = '\0';
	return 0;
}

static bool is_bzimage(const struct mapped_file *file)
{
	return file->size >= SETUP_HEADER_END &&
	       memcmp(file->bytes + SETUP_MAGIC_OFFSET, "HdrS", 4) == 0;
}

static int inspect_bzimage(const struct mapped_file *file, const char *name,
			   struct kernel_info *info, struct error *error)
{
	if (load_le16(file, SETUP_VERSION_OFFSET) < SETUP_VERSION_XLOADFLAGS ||
	    !(load_le16(file, SETUP_XLOADFLAGS_OFFSET) & XLOADFLAG_KERNEL_64))
		return error_set(error, "%s: not a kernel for x86_64", name);
	info->compressed = true;
	if (take_release(file, load_le16(file, SETUP_KERNEL_VERSION_OFFSET) + SETUP_SECTOR_BYTES,
			 info))
		return error_set(error, "%s: its header names no kernel release", name);
	return 0;
}

static bool is_elf(const struct mapped_file *file)
{
	return file->size >= sizeof(Elf64_Ehdr) && memcmp(file->bytes, ELFMAG, SELFMAG) == 0;
}

static int inspect_vmlinux(const struct mapped_file *file, const char *name,
			   struct kernel_info *info, struct error *error)
{
	const uint8_t *end = file->bytes + file->size;
	const uint8_t *found = file->bytes;
	Elf64_Ehdr header;

	memcpy(&header, file->bytes, sizeof(header));
	if (header.e_ident[EI_CLASS] != ELFCLASS64 || le16toh(header.e_machine) != EM_X86_64)
		return error_set(error, "%s: not a kernel for x86_64", name);
	info->compressed = false;
	while ((found = memmem(found, (size_t)(end - found), BANNER, strlen(BANNER)))) {
		found += strlen(BANNER);
		/* The same words stand in format strings too. */
		if (found < end && isdigit(*found))
			return take_release(file, (size_t)(found - file->bytes), info)
				       ? error_set(error, "%s: strange kernel release", name)
				       : 0;
	}
	return error_set(error, "%s: not a Linux kernel (no \"" BANNER "\" in it)", name);
}

int kernel_inspect(int kernel_fd, const char *name, struct kernel_info *info, struct error *error)
{
	struct stat stat;

	if (fstat(kernel_fd, &stat))
		return error_errno(error, "stat %s", name);
	if (stat.st_size == 0)
		return error_set(error, "%s: is empty", name);
	size_t size = (size_t)stat.st_size;
	void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, kernel_fd, 0);
	if (bytes == MAP_FAILED)
		return error_errno(error, "read %s", name);

	struct mapped_file file = {.bytes = bytes, .size = size};
	int result;
	if (is_bzimage(&file))
		result = inspect_bzimage(&file, name, info, error);
	else if (is_elf(&file))
		result = inspect_vmlinux(&file, name, info, error);
	else
		result = error_set(error, "%s: neither a bzImage nor an ELF vmlinux", name);
	munmap(bytes, size);
	return result;
}
