/* The bytes of the initrd: a golden archive, alignment, and that nothing of the host leaks in. */
#include <sys/mman.h>

#include "imagebuilder/initrd.h"
#include "tests/unit/scratch.h"

struct entry {
	const char *name, *data;
	unsigned inode, mode, uid, gid, links, mtime, size, major, minor;
};

static struct initrd begin(void)
{
	struct initrd initrd = {.fd = memfd_create("initrd", 0), .name = "initrd"};

	assert_true(initrd.fd >= 0);
	return initrd;
}

/* Everything written so far, to be freed. */
static char *take_bytes(struct initrd *initrd, size_t *size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", initrd->fd);
	char *bytes = scratch_read(path, size);
	close(initrd->fd);
	return bytes;
}

static unsigned field(const char *header, int index)
{
	char digits[9] = "";

	memcpy(digits, header + 6 + 8 * index, 8);
	return (unsigned)strtoul(digits, NULL, 16);
}

/* Reads the entry at *OFFSET and moves it to the next one. */
static struct entry next_entry(const char *bytes, size_t size, size_t *offset)
{
	const char *header = bytes + *offset;

	assert_int_equal(*offset % 4, 0);
	assert_true(*offset + 110 <= size);
	assert_memory_equal(header, "070701", 6);
	size_t data = (*offset + 110 + field(header, 11) + 3) / 4 * 4;
	*offset = (data + field(header, 6) + 3) / 4 * 4;
	assert_true(*offset <= size);
	return (struct entry){
		.name = header + 110,
		.data = bytes + data,
		.inode = field(header, 0),
		.mode = field(header, 1),
		.uid = field(header, 2),
		.gid = field(header, 3),
		.links = field(header, 4),
		.mtime = field(header, 5),
		.size = field(header, 6),
		.major = field(header, 9),
		.minor = field(header, 10),
	};
}

/* clang-format off */
static const char golden_archive[] =
	"070701" "00000001" "000081a4" "00000000" "00000000" "00000001" "00000000" "00000003"
	"00000000" "00000000" "00000000" "00000000" "00000003" "00000000" "ab\0" "\0\0\0" "xyz\0"
	"070701" "00000000" "00000000" "00000000" "00000000" "00000001" "00000000" "00000000"
	"00000000" "00000000" "00000000" "00000000" "0000000b" "00000000" "TRAILER!!!\0" "\0\0";
/* clang-format on */

static void archive_is_newc_byte_for_byte(void **state)
{
	struct initrd initrd = begin();
	struct error error;
	size_t size;

	(void)state;
	assert_int_equal(initrd_add_bytes(&initrd, "/ab", 0644, "xyz", 3, &error), 0);
	assert_int_equal(initrd_finish(&initrd, &error), 0);
	char *bytes = take_bytes(&initrd, &size);
	assert_int_equal(size, sizeof(golden_archive));
	assert_memory_equal(bytes, golden_archive, size);
	free(bytes);
}

static void entries_keep_kind_order_and_alignment(void **state)
{
	struct initrd initrd = begin();
	struct error error;
	size_t size, offset = 0;

	(void)state;
	assert_int_equal(initrd_add_directory(&initrd, "/dev", 0755, &error), 0);
	assert_int_equal(initrd_add_character_device(&initrd, "/dev/console", 0600, 5, 1, &error),
			 0);
	assert_int_equal(initrd_add_bytes(&initrd, "/one", 0644, "1", 1, &error), 0);
	assert_int_equal(initrd_add_bytes(&initrd, "/none", 0644, "", 0, &error), 0);
	assert_int_equal(initrd_finish(&initrd, &error), 0);
	char *bytes = take_bytes(&initrd, &size);

	struct entry entry = next_entry(bytes, size, &offset);
	assert_string_equal(entry.name, "dev");
	assert_int_equal(entry.mode, S_IFDIR | 0755);
	assert_int_equal(entry.links, 2);
	entry = next_entry(bytes, size, &offset);
	assert_string_equal(entry.name, "dev/console");
	assert_int_equal(entry.mode, S_IFCHR | 0600);
	assert_int_equal(entry.major, 5);
	assert_int_equal(entry.minor, 1);
	assert_int_equal(entry.inode, 2);
	entry = next_entry(bytes, size, &offset);
	assert_string_equal(entry.name, "one");
	assert_memory_equal(entry.data, "1\0\0\0", 4);
	entry = next_entry(bytes, size, &offset);
	assert_string_equal(entry.name, "none");
	assert_int_equal(entry.size, 0);
	assert_int_equal(entry.inode, 4);
	entry = next_entry(bytes, size, &offset);
	assert_string_equal(entry.name, "TRAILER!!!");
	assert_int_equal(offset, size);
	free(bytes);
}

static void file_is_copied_without_its_metadata(void **state)
{
	struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
	struct initrd initrd = begin();
	struct error error;
	size_t size, offset = 0;

	(void)state;
	scratch_write_text("source", "#!init");
	assert_int_equal(chmod("source", 04711), 0);
	assert_int_equal(utimensat(AT_FDCWD, "source", times, 0), 0);
	if (geteuid() == 0)
		assert_int_equal(chown("source", 12, 34), 0);
	assert_int_equal(initrd_add_file(&initrd, "/init", 0755, "source", &error), 0);
	char *bytes = take_bytes(&initrd, &size);

	struct entry entry = next_entry(bytes, size, &offset);
	assert_string_equal(entry.name, "init");
	assert_int_equal(entry.mode, S_IFREG | 0755);
	assert_int_equal(entry.uid | entry.gid | entry.mtime, 0);
	assert_int_equal(entry.size, 6);
	assert_memory_equal(entry.data, "#!init\0\0", 8);
	assert_int_equal(offset, size);
	free(bytes);
}

static void bad_sources_are_named(void **state)
{
	struct initrd initrd = begin();
	struct error error;

	(void)state;
	assert_int_equal(initrd_add_file(&initrd, "/init", 0755, "absent", &error), -1);
	assert_string_equal(error.text, "open absent: No such file or directory");
	assert_int_equal(mkdir("directory", 0755), 0);
	assert_int_equal(initrd_add_file(&initrd, "/init", 0755, "directory", &error), -1);
	assert_string_equal(error.text, "directory: not a regular file");
	assert_int_equal(lseek(initrd.fd, 0, SEEK_END), 0);
	close(initrd.fd);
}

static void full_disk_is_an_error(void **state)
{
	struct initrd initrd = {.fd = open("/dev/full", O_WRONLY), .name = "the initrd"};
	struct error error;

	(void)state;
	assert_true(initrd.fd >= 0);
	assert_int_equal(initrd_add_directory(&initrd, "/dev", 0755, &error), -1);
	assert_string_equal(error.text, "write the initrd: No space left on device");
	close(initrd.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(archive_is_newc_byte_for_byte),
		cmocka_unit_test(entries_keep_kind_order_and_alignment),
		IN_SCRATCH(file_is_copied_without_its_metadata),
		IN_SCRATCH(bad_sources_are_named),
		cmocka_unit_test(full_disk_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
