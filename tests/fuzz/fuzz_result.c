/*
 * The result record that a guest left: parsed, judged and reported, with the line of its checksum
 * as the input has it, and with the right one.
 */
#include <inttypes.h>

#include "jobdisk/crc32c.h"
#include "jobdisk/result.h"
#include "tests/fuzz/fuzz_record.h"
#include "tests/fuzz/fuzz_report.h"

#define SEAL_BYTES (sizeof("end=01234567\n") - 1)
#define JOB_ID	   "6a6f6204-0506-4708-890a-0b0c0d0e0f10"

static void try(const void *bytes, size_t size)
{
	/* Large: not for the stack. */
	static struct disk disk;

	disk.manifest = manifest_defaults();
	disk.manifest.job_id = JOB_ID;
	disk.has_result = fuzz_record(&result_schema, bytes, size, &disk.result_buffer,
				      &disk.result, sizeof(disk.result));
	if (!disk.has_result)
		return;
	struct report report = {.has_run = true, .disk = &disk, .manifest = &disk.manifest};
	fuzz_report(&report);
	report_free(&report);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static char sealed[RECORD_MAX_BYTES + 1];

	if (size > RECORD_MAX_BYTES - SEAL_BYTES)
		return 0;
	try(bytes, size);
	memcpy(sealed, bytes, size);
	snprintf(sealed + size, SEAL_BYTES + 1, "end=%08" PRIx32 "\n", crc32c(bytes, size));
	try(sealed, size + SEAL_BYTES);
	return 0;
}
