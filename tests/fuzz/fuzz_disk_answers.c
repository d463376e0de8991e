/* What the confined reader of a job disk says of it. */
#include "tests/fuzz/fuzz_answers.h"

#include "host-tools/disk.c"

#include "tests/fuzz/fuzz_report.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	/* Large: not for the stack. */
	static struct disk disk;
	struct error error = {""};

	fuzz_answers_set(bytes, size);
	int result = disk_read(&disk, -1, -1, "disk", DISK_RESULTS, &error);
	FUZZ_CHECK(result == 0 || error.text[0] || result == 1);
	if (result == 0) {
		struct report report = {.has_run = true, .disk = &disk, .manifest = &disk.manifest};

		fuzz_report(&report);
		report_free(&report);
	}
	disk_close(&disk);
	return 0;
}
