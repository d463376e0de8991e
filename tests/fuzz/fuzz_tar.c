/*
 * An archive that a guest's root is made from, compressed or not, into a tree and on into an
 * image, which must then be one that our own reader takes.
 */
#include "tests/fuzz/fuzz_tar.h"
#include "fsimage/writer.h"
#include "imagebuilder/root_source.h"
#include "tests/fuzz/fuzz_walk.h"

#define INPUT_BYTES_MAX (64 << 10)
#define FILE_BYTES_MAX	(16 << 20)

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	fuzz_limit_files(FILE_BYTES_MAX);
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t max_size, unsigned seed)
{
	size = LLVMFuzzerMutate(bytes, size, max_size);
	/* Now and then a wrong one. */
	if (seed % 16)
		fuzz_tar_mend(bytes, size);
	return size;
}

static void check_image(struct fstree *tree)
{
	static const struct fsimage_options options = {.label = "JOBVM-ROOT", .now = 1000};
	struct error error = {""};
	int fd = fuzz_file("", 0);

	/* It may be too large, or have too many attributes. */
	if (fsimage_write(tree, fd, "image", &options, &error) == 0)
		fuzz_walk(fd, true);
	else
		FUZZ_CHECK(error.text[0]);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	const struct fsmeta meta = {.mode = 0755};
	struct error error = {""};
	struct root_source source = {.path = "input", .name = "input", .kind = SOURCE_TAR};
	struct root_target target = {
		.stack = {.tree = fstree_new(&meta), .now = 1000, .latest = 1 << 30},
		.spool = spool_start(-1, "spool"),
	};

	if (size > INPUT_BYTES_MAX) {
		fstree_free(target.stack.tree);
		return 0;
	}
	source.fd = fuzz_file(bytes, size);
	target.spool.fd = fuzz_file("", 0);
	int result = root_source_stack(&source, &target, &error);
	FUZZ_CHECK_ERROR(result, &error);
	if (result == 0)
		check_image(target.stack.tree);
	fstree_free(target.stack.tree);
	close(target.spool.fd);
	root_source_close(&source);
	return 0;
}
