/* The vmlinux inside a bzImage. */
#include "imagebuilder/payload.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_BYTES_MAX (64 << 10)
#define FILE_BYTES_MAX	(4 << 20)

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	fuzz_limit_files(FILE_BYTES_MAX);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct error error = {""};

	if (size > INPUT_BYTES_MAX)
		return 0;
	int kernel_fd = fuzz_file(bytes, size), output_fd = fuzz_file("", 0);
	int result = payload_extract(kernel_fd, "kernel", output_fd, "vmlinux", &error);
	FUZZ_CHECK_ERROR(result, &error);
	FUZZ_CHECK(result != 0 || lseek(output_fd, 0, SEEK_END) == 0);
	close(kernel_fd);
	close(output_fd);
	return 0;
}
