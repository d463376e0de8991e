/* The manifest as PID 1 and the host read it from a job disk. */
#include "jobdisk/manifest.h"
#include "tests/fuzz/fuzz_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct record_buffer buffer;
	struct manifest manifest;

	if (size <= RECORD_MAX_BYTES)
		fuzz_record(&manifest_schema, bytes, size, &buffer, &manifest, sizeof(manifest));
	return 0;
}
