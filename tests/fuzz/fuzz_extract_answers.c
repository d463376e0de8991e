/* What the confined copier of a job's outputs says that it has copied; some of it is there. */
#include <fcntl.h>

#include "tests/fuzz/fuzz_answers.h"

#include "host-tools/extract.c"

#include "tests/fuzz/fuzz_report.h"

#define DISK_BYTES   (1 << 20)
#define SPARSE_BYTES (64 << 10)

static char directory[] = "/tmp/jobvm-fuzz.XXXXXX";
static int directory_fd, disk_fd, stream_fd;

static void clean_up(void)
{
	unlinkat(directory_fd, "file", 0);
	unlinkat(directory_fd, "sparse", 0);
	unlinkat(directory_fd, "link", 0);
	rmdir(directory);
}

static void put_file(const char *name, size_t size)
{
	int fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	FUZZ_CHECK(fd >= 0 && write(fd, "bytes", 5) == 5 && ftruncate(fd, (off_t)size) == 0);
	close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	FUZZ_CHECK(mkdtemp(directory));
	directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	FUZZ_CHECK(directory_fd >= 0);
	atexit(clean_up);
	put_file("file", 5);
	put_file("sparse", SPARSE_BYTES);
	FUZZ_CHECK(symlinkat("/dev/zero", directory_fd, "link") == 0);
	disk_fd = fuzz_file("", 0);
	FUZZ_CHECK(ftruncate(disk_fd, DISK_BYTES) == 0);
	stream_fd = fuzz_file("stdout", 6);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct disk disk;
	const struct extraction extraction = {
		.directory = "results",
		.directory_fd = directory_fd,
		.outputs_below = "",
		.streams = {{.on_disk = "stdout", .path = "stdout", .fd = stream_fd}, {.fd = -1}},
	};
	struct report report = {.has_run = true, .disk = &disk, .manifest = &disk.manifest};
	struct error error = {""};

	disk.fd = disk_fd;
	disk.name = "disk";
	disk.manifest = manifest_defaults();
	disk.manifest.job_id = "6a6f6204-0506-4708-890a-0b0c0d0e0f10";
	fuzz_answers_set(bytes, size);
	FUZZ_CHECK_ERROR(extract(&report, &extraction, &error), &error);
	fuzz_report(&report);
	report_free(&report);
	return 0;
}
