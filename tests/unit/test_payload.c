/* The vmlinux inside a bzImage, in all ways in which kernels pack it but LZ4's old format, which
 * the stock kernel has: that one is built into an image by each `make`. */
#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <stdbool.h>

#include "imagebuilder/payload.h"
#include "tests/unit/scratch.h"

#define PAYLOAD_AT 0x100 /* from the protected-mode code, which is at 0x400 */

/* A kernel with nothing but the note that names its PVH entry, and bytes to pack. */
static struct vmlinux {
	Elf64_Ehdr header;
	Elf64_Phdr program;
	Elf64_Nhdr note;
	char name[4];
	uint32_t entry;
	char bytes[100000];
} vmlinux;

static void make_vmlinux(const char *note_name)
{
	memset(&vmlinux, 0, sizeof(vmlinux));
	memcpy(vmlinux.header.e_ident, ELFMAG, SELFMAG);
	vmlinux.header.e_phoff = offsetof(struct vmlinux, program);
	vmlinux.header.e_phnum = 1;
	vmlinux.program = (Elf64_Phdr){.p_type = PT_NOTE,
				       .p_offset = offsetof(struct vmlinux, note),
				       .p_filesz = sizeof(Elf64_Nhdr) + 8};
	vmlinux.note = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 4, .n_type = 18};
	memcpy(vmlinux.name, note_name, 4);
	for (size_t i = 0; i < sizeof(vmlinux.bytes); i++)
		vmlinux.bytes[i] = (char)(i * i >> 7);
}

static size_t pack(int (*add_filter)(struct archive *), uint8_t *packed, size_t size)
{
	struct archive *archive = archive_write_new();
	struct archive_entry *entry = archive_entry_new();
	size_t used = 0;

	archive_write_set_format_raw(archive);
	assert_int_equal(add_filter(archive), ARCHIVE_OK);
	archive_write_set_bytes_in_last_block(archive, 1);
	assert_int_equal(archive_write_open_memory(archive, packed, size, &used), ARCHIVE_OK);
	archive_entry_set_filetype(entry, AE_IFREG);
	assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
	assert_int_equal(archive_write_data(archive, &vmlinux, sizeof(vmlinux)), sizeof(vmlinux));
	archive_entry_free(entry);
	assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
	archive_write_free(archive);
	return used;
}

/* A bzImage of one setup sector with that payload. */
static uint8_t bzimage[0x500 + 2 * sizeof(struct vmlinux)];

static size_t make_bzimage(int (*add_filter)(struct archive *), bool with_size)
{
	uint32_t at = PAYLOAD_AT, size = sizeof(vmlinux);

	memset(bzimage, 0, sizeof(bzimage));
	memcpy(bzimage + 0x202, "HdrS", 4);
	bzimage[0x1f1] = 1;
	uint8_t *payload = bzimage + 0x400 + PAYLOAD_AT;
	uint32_t length = (uint32_t)pack(add_filter, payload, 2 * sizeof(vmlinux));
	if (with_size) {
		memcpy(payload + length, &size, 4);
		length += 4;
	}
	memcpy(bzimage + 0x248, &at, 4);
	memcpy(bzimage + 0x24c, &length, 4);
	return 0x400 + PAYLOAD_AT + length;
}

static int extract(size_t bzimage_size, struct error *error)
{
	scratch_write("bzImage", bzimage, bzimage_size);
	unlink("out");
	int kernel_fd = open("bzImage", O_RDONLY), fd = open("out", O_RDWR | O_CREAT, 0600);
	assert_true(kernel_fd >= 0 && fd >= 0);
	int result = payload_extract(kernel_fd, "bzImage", fd, "out", error);
	close(kernel_fd);
	close(fd);
	return result;
}

static const struct packing {
	int (*add_filter)(struct archive *);
	bool with_size;
} packings[] = {
	{archive_write_add_filter_gzip, false}, {archive_write_add_filter_bzip2, true},
	{archive_write_add_filter_lzma, true},	{archive_write_add_filter_xz, true},
	{archive_write_add_filter_lz4, true},	{archive_write_add_filter_zstd, true},
};

static void packed_vmlinux_comes_out(void **state)
{
	struct error error;
	size_t size;

	(void)state;
	make_vmlinux("Xen");
	for (size_t i = 0; i < sizeof(packings) / sizeof(packings[0]); i++) {
		size_t length = make_bzimage(packings[i].add_filter, packings[i].with_size);
		if (extract(length, &error) != 1)
			fail_msg("packing %zu: %s", i, error.text);
		char *out = scratch_read("out", &size);
		assert_int_equal(size, sizeof(vmlinux));
		assert_memory_equal(out, &vmlinux, size);
		free(out);
	}
}

static void damaged_payload_is_an_error(void **state)
{
	static const char start[] = "bzImage: the kernel in it is damaged: ";
	struct error error;

	(void)state;
	make_vmlinux("Xen");
	size_t length = make_bzimage(archive_write_add_filter_zstd, true);
	assert_int_equal(extract(length - 1, &error), -1);
	assert_string_equal(error.text, "bzImage: the kernel in it is damaged: its payload ends "
					"after the file does");
	bzimage[length - 4]++;
	assert_int_equal(extract(length, &error), -1);
	assert_string_equal(error.text, "bzImage: the kernel in it is damaged: it has not the size "
					"that it says");
	bzimage[length - 4]--;

	length = make_bzimage(archive_write_add_filter_xz, true);
	bzimage[length - 2000] ^= 1;
	assert_int_equal(extract(length, &error), -1);
	assert_memory_equal(error.text, start, strlen(start));
	memset(bzimage + 0x400 + PAYLOAD_AT, 'x', 16);
	assert_int_equal(extract(length, &error), -1);
	assert_string_equal(error.text, "bzImage: the kernel in it is damaged: it has not the size "
					"that it says");
}

static void kernel_without_pvh_entry_stays_packed(void **state)
{
	struct error error;
	size_t size;

	(void)state;
	make_vmlinux("GNU");
	assert_int_equal(extract(make_bzimage(archive_write_add_filter_xz, true), &error), 0);
	free(scratch_read("out", &size));
	assert_int_equal(size, 0);
	/* A header that tells no payload. */
	memset(bzimage + 0x248, 0, 8);
	assert_int_equal(extract(sizeof(bzimage), &error), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(packed_vmlinux_comes_out),
		IN_SCRATCH(damaged_payload_is_an_error),
		IN_SCRATCH(kernel_without_pvh_entry_stays_packed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
