#include "imagebuilder/payload.h"

#include <archive.h>
#include <elf.h>
#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imagebuilder/bzimage.h"
#include "imagebuilder/files.h"

#define CHUNK_BYTES   65536
/* After all compressed payloads but gzip's, which ends with it anyway: the size unpacked. */
#define SIZE_BYTES    4
/* The note by which an ELF kernel names its PVH entry: Xen's include/public/elfnote.h. */
#define PVH_NOTE_NAME "Xen"
#define PVH_NOTE_TYPE 18

struct span {
	const uint8_t *bytes;
	size_t size;
};

static uint32_t load_le32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return le32toh(value);
}

/* A file, mapped until unmap_file. */
static int map_file(int fd, const char *name, struct span *file, struct error *error)
{
	struct stat stat;

	if (fstat(fd, &stat))
		return error_errno(error, "stat %s", name);
	file->size = (size_t)stat.st_size;
	void *bytes = mmap(NULL, file->size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (bytes == MAP_FAILED)
		return error_errno(error, "read %s", name);
	file->bytes = bytes;
	return 0;
}

static void unmap_file(const struct span *file)
{
	munmap((void *)(uintptr_t)file->bytes, file->size);
}

/* --- the payload --- */

static int damaged(const char *name, const char *how, struct error *error)
{
	return error_set(error, "%s: the kernel in it is damaged: %s", name, how);
}

/* Where the header says the payload is; 1 if it is there, 0 if it tells none. */
static int find_payload(const struct span *file, const char *name, struct span *payload,
			struct error *error)
{
	if (file->size < SETUP_PAYLOAD_END)
		return 0;
	size_t sectors = file->bytes[SETUP_SECTORS_OFFSET] ? file->bytes[SETUP_SECTORS_OFFSET] : 4;
	uint64_t offset = (sectors + 1) * SETUP_SECTOR_BYTES +
			  (uint64_t)load_le32(file->bytes + SETUP_PAYLOAD_OFFSET);
	uint64_t length = load_le32(file->bytes + SETUP_PAYLOAD_LENGTH);

	if (length == 0)
		return 0;
	if (offset + length > file->size || length <= SIZE_BYTES) {
		damaged(name, "its payload ends after the file does", error);
		return -1;
	}
	*payload = (struct span){file->bytes + offset, length};
	return 1;
}

static struct archive *open_payload(const struct span *payload)
{
	bool gzip = payload->bytes[0] == 0x1f && payload->bytes[1] == 0x8b;
	struct archive *archive = archive_read_new();
	struct archive_entry *entry;

	if (!archive)
		return NULL;
	archive_read_support_format_raw(archive);
	archive_read_support_filter_gzip(archive);
	archive_read_support_filter_bzip2(archive);
	archive_read_support_filter_lzma(archive);
	archive_read_support_filter_xz(archive);
	archive_read_support_filter_lz4(archive);
	archive_read_support_filter_zstd(archive);
	if (archive_read_open_memory(archive, payload->bytes,
				     payload->size - (gzip ? 0 : SIZE_BYTES)) == ARCHIVE_OK &&
	    archive_read_next_header(archive, &entry) == ARCHIVE_OK)
		return archive;
	archive_read_free(archive);
	return NULL;
}

static int copy_out(struct archive *archive, const char *kernel_name, uint64_t size, int output_fd,
		    const char *output_name, struct error *error)
{
	static char chunk[CHUNK_BYTES];
	uint64_t done = 0;
	ssize_t length;

	while ((length = archive_read_data(archive, chunk, sizeof(chunk))) > 0) {
		done += (uint64_t)length;
		if (done > size)
			break;
		if (files_write(output_fd, output_name, chunk, (size_t)length, error))
			return -1;
	}
	if (length < 0)
		return damaged(kernel_name, archive_error_string(archive), error);
	return done == size ? 0 : damaged(kernel_name, "it has not the size that it says", error);
}

static int unpack(const struct span *payload, const char *kernel_name, int output_fd,
		  const char *output_name, struct error *error)
{
	uint32_t size = load_le32(payload->bytes + payload->size - SIZE_BYTES);
	struct archive *archive = open_payload(payload);

	if (!archive)
		return damaged(kernel_name, "it is packed in no way that is known", error);
	int result = copy_out(archive, kernel_name, size, output_fd, output_name, error);
	archive_read_free(archive);
	return result;
}

/* --- the vmlinux --- */

static bool has_pvh_note(const struct span *notes)
{
	for (size_t at = 0; at + sizeof(Elf64_Nhdr) <= notes->size;) {
		Elf64_Nhdr note;
		memcpy(&note, notes->bytes + at, sizeof(note));
		const uint8_t *name = notes->bytes + at + sizeof(note);
		size_t left = notes->size - at - sizeof(note);
		if (note.n_type == PVH_NOTE_TYPE && note.n_namesz == sizeof(PVH_NOTE_NAME) &&
		    left >= sizeof(PVH_NOTE_NAME) &&
		    memcmp(name, PVH_NOTE_NAME, sizeof(PVH_NOTE_NAME)) == 0)
			return true;
		at += sizeof(note) + (((size_t)note.n_namesz + 3) & ~(size_t)3) +
		      (((size_t)note.n_descsz + 3) & ~(size_t)3);
	}
	return false;
}

static bool has_pvh_entry(const struct span *elf)
{
	Elf64_Ehdr header;

	if (elf->size < sizeof(header) || memcmp(elf->bytes, ELFMAG, SELFMAG) != 0)
		return false;
	memcpy(&header, elf->bytes, sizeof(header));
	for (size_t i = 0; i < header.e_phnum; i++) {
		uint64_t at = header.e_phoff + i * sizeof(Elf64_Phdr);
		Elf64_Phdr program;
		if (at > elf->size || elf->size - at < sizeof(program))
			return false;
		memcpy(&program, elf->bytes + at, sizeof(program));
		if (program.p_type == PT_NOTE && program.p_offset <= elf->size &&
		    program.p_filesz <= elf->size - program.p_offset &&
		    has_pvh_note(&(struct span){elf->bytes + program.p_offset, program.p_filesz}))
			return true;
	}
	return false;
}

static int check_output(int output_fd, const char *output_name, struct error *error)
{
	struct span elf;

	if (map_file(output_fd, output_name, &elf, error))
		return -1;
	bool boots = has_pvh_entry(&elf);
	unmap_file(&elf);
	if (boots)
		return 1;
	if (ftruncate(output_fd, 0) || lseek(output_fd, 0, SEEK_SET) < 0)
		return error_errno(error, "empty %s", output_name);
	return 0;
}

int payload_extract(int kernel_fd, const char *kernel_name, int output_fd, const char *output_name,
		    struct error *error)
{
	struct span file, payload;

	if (map_file(kernel_fd, kernel_name, &file, error))
		return -1;
	int result = find_payload(&file, kernel_name, &payload, error);
	if (result > 0)
		result = unpack(&payload, kernel_name, output_fd, output_name, error) ? -1 : 1;
	unmap_file(&file);
	return result > 0 ? check_output(output_fd, output_name, error) : result;
}
