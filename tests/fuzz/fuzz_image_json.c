/* A guest image's image.json; the other parts are there, with one byte each. */
#include <fcntl.h>

#include "imagebuilder/image.h"
#include "imagebuilder/image_json.h"
#include "tests/fuzz/fuzz.h"

#define DIRECTORY_PATTERN "/tmp/jobvm-fuzz.XXXXXX"

static char directory[] = DIRECTORY_PATTERN;
static int json_fd;

static void clean_up(void)
{
	if (chdir(directory) == 0) {
		unlink(IMAGE_JSON);
		unlink("kernel");
		unlink("root.img");
		rmdir(directory);
	}
}

static void put_part(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	FUZZ_CHECK(fd >= 0 && write(fd, "1", 1) == 1);
	close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char before[4096], path[32];

	(void)argc, (void)argv;
	FUZZ_CHECK(mkdtemp(directory) && getcwd(before, sizeof(before)) && !chdir(directory));
	atexit(clean_up);
	json_fd = fuzz_file("", 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", json_fd);
	FUZZ_CHECK(symlink(path, IMAGE_JSON) == 0);
	put_part("kernel");
	put_part("root.img");
	/* libFuzzer's paths are relative. */
	FUZZ_CHECK(chdir(before) == 0);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct error error = {""};
	struct image image;

	FUZZ_CHECK(ftruncate(json_fd, 0) == 0);
	FUZZ_CHECK(pwrite(json_fd, bytes, size, 0) == (ssize_t)size);
	int result = image_load(directory, &image, &error);
	FUZZ_CHECK_ERROR(result, &error);
	if (result)
		return 0;
	FUZZ_CHECK(image.kernel && image.root && image.json && image.machine);
	/* Nothing leads out of the directory. */
	FUZZ_CHECK(strncmp(image.kernel, directory, strlen(directory)) == 0);
	FUZZ_CHECK(strrchr(image.kernel, '/') == image.kernel + strlen(directory));
	image_free(&image);
	return 0;
}
