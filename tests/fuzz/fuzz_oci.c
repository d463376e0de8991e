/*
 * An OCI image in an archive: its JSON documents and one layer.
 *
 * An input is its documents, one after the other, each ended by a byte that no JSON has: the
 * layout's file, index.json, a second index, the manifest, the config; the rest is the layer. A
 * '@' and a letter stand for what the document could not say itself: the digest and size of the
 * index (@I), the manifest (@M), the config (@C) and the layer (@L), as members of an object, and
 * the digest of the layer's tar (@D).
 */
#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>

#include "fsimage/tree.h"
#include "imagebuilder/decompress.h"
#include "imagebuilder/image_defaults.h"
#include "imagebuilder/root_source.h"
#include "tests/fuzz/fuzz_tar.h"

#define INPUT_BYTES_MAX	 (32 << 10)
#define FILE_BYTES_MAX	 (16 << 20)
#define DOCUMENTS	 5
#define SEPARATOR	 '\x01'
#define ARCHIVE_BYTES	 (256 << 10)
#define DOCUMENT_BYTES	 (48 << 10)
#define DESCRIPTOR_BYTES 128

static char archive_bytes[ARCHIVE_BYTES];

struct piece {
	const char *bytes;
	size_t size;
};

/* What "@X" stands for, by the letter X; "" for nothing. */
struct descriptors {
	char of[256][DESCRIPTOR_BYTES];
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	fuzz_limit_files(FILE_BYTES_MAX);
	return 0;
}

/* Cuts the next document off REST. */
static struct piece take_document(struct piece *rest)
{
	const char *end = memchr(rest->bytes, SEPARATOR, rest->size);
	struct piece document = {rest->bytes, end ? (size_t)(end - rest->bytes) : rest->size};
	size_t taken = document.size + (end ? 1 : 0);

	*rest = (struct piece){rest->bytes + taken, rest->size - taken};
	return document;
}

static void put(struct archive *archive, const char *path, const void *bytes, size_t size)
{
	struct archive_entry *entry = archive_entry_new();

	archive_entry_set_pathname(entry, path);
	archive_entry_set_mode(entry, S_IFREG | 0644);
	archive_entry_set_size(entry, (la_int64_t)size);
	FUZZ_CHECK(archive_write_header(archive, entry) == ARCHIVE_OK);
	FUZZ_CHECK(archive_write_data(archive, bytes, size) == (la_ssize_t)size);
	archive_entry_free(entry);
}

/* Adds the blob and says what LETTER stands for. */
static void put_blob(struct archive *archive, struct descriptors *descriptors, char letter,
		     const void *bytes, size_t size)
{
	uint8_t value[DIGEST_BYTES];
	char hex[DIGEST_HEX_BYTES], path[sizeof("blobs/sha256/") + DIGEST_HEX_BYTES];
	struct error error;
	struct digest *digest = digest_new(&error);

	FUZZ_CHECK(digest);
	digest_add(digest, bytes, size);
	FUZZ_CHECK(digest_finish(digest, value, &error) == 0);
	digest_hex(value, hex);
	snprintf(path, sizeof(path), "blobs/sha256/%s", hex);
	put(archive, path, bytes, size);
	snprintf(descriptors->of[(uint8_t)letter], DESCRIPTOR_BYTES,
		 "\"digest\":\"sha256:%s\",\"size\":%zu", hex, size);
}

/* The digest of what a layer is uncompressed, as far as it can be. */
static void describe_plain(struct descriptors *descriptors, const struct piece *layer)
{
	static struct byte_source source;
	struct error error;
	struct digest *digest = digest_new(&error);
	const void *bytes;
	const char *problem;
	uint8_t value[DIGEST_BYTES];
	char hex[DIGEST_HEX_BYTES];

	FUZZ_CHECK(digest);
	source = (struct byte_source){
		.fd = fuzz_file(layer->bytes, layer->size), .name = "layer", .rest = layer->size};
	struct decompress plain = decompress_start(&source, digest);
	while (decompress_read(&plain, &bytes, &problem) > 0)
		;
	decompress_end(&plain);
	close(source.fd);
	FUZZ_CHECK(digest_finish(digest, value, &error) == 0);
	digest_hex(value, hex);
	snprintf(descriptors->of['D'], DESCRIPTOR_BYTES, "sha256:%s", hex);
}

/* Copies DOCUMENT with what its letters stand for, as far as there is room. */
static size_t expand(const struct piece *document, const struct descriptors *descriptors,
		     char text[DOCUMENT_BYTES])
{
	size_t length = 0;

	for (size_t i = 0; i < document->size && length < DOCUMENT_BYTES - DESCRIPTOR_BYTES; i++) {
		const char *descriptor = "";

		if (document->bytes[i] == '@' && i + 1 < document->size)
			descriptor = descriptors->of[(uint8_t)document->bytes[i + 1]];
		if (*descriptor) {
			memcpy(text + length, descriptor, strlen(descriptor));
			length += strlen(descriptor);
			i++;
		} else {
			text[length++] = document->bytes[i];
		}
	}
	return length;
}

static void put_documents(struct archive *archive, struct piece rest)
{
	static struct descriptors descriptors;
	static char text[DOCUMENT_BYTES];
	struct piece layout = take_document(&rest), index = take_document(&rest),
		     second = take_document(&rest), manifest = take_document(&rest),
		     config = take_document(&rest);

	memset(&descriptors, 0, sizeof(descriptors));
	put(archive, "oci-layout", layout.bytes, layout.size);
	put_blob(archive, &descriptors, 'L', rest.bytes, rest.size);
	describe_plain(&descriptors, &rest);
	put_blob(archive, &descriptors, 'C', text, expand(&config, &descriptors, text));
	put_blob(archive, &descriptors, 'M', text, expand(&manifest, &descriptors, text));
	put_blob(archive, &descriptors, 'I', text, expand(&second, &descriptors, text));
	put(archive, "index.json", text, expand(&index, &descriptors, text));
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t max_size, unsigned seed)
{
	size = LLVMFuzzerMutate(bytes, size, max_size);
	struct piece rest = {(const char *)bytes, size};

	for (int i = 0; i < DOCUMENTS; i++)
		take_document(&rest);
	if (seed % 16)
		fuzz_tar_mend(bytes + size - rest.size, rest.size);
	return size;
}

static int make_archive(const void *bytes, size_t size)
{
	struct archive *archive = archive_write_new();
	size_t used = 0;

	FUZZ_CHECK(archive && archive_write_set_format_ustar(archive) == ARCHIVE_OK);
	FUZZ_CHECK(archive_write_open_memory(archive, archive_bytes, sizeof(archive_bytes),
					     &used) == ARCHIVE_OK);
	put_documents(archive, (struct piece){bytes, size});
	FUZZ_CHECK(archive_write_free(archive) == ARCHIVE_OK);
	return fuzz_file(archive_bytes, used);
}

static void stack(int archive_fd)
{
	const struct fsmeta meta = {.mode = 0755};
	struct image_defaults defaults = {.user = NULL};
	struct error error = {""};
	char path[40];
	struct root_source source;
	struct root_target target = {
		.stack = {.tree = fstree_new(&meta), .now = 1000, .latest = 1 << 30},
		.spool = spool_start(-1, "spool"),
		.defaults = &defaults,
	};

	snprintf(path, sizeof(path), "oci:/proc/self/fd/%d", archive_fd);
	FUZZ_CHECK(root_source_open(path, &source, &error) == 0);
	target.spool.fd = fuzz_file("", 0);
	FUZZ_CHECK_ERROR(root_source_stack(&source, &target, &error), &error);
	image_defaults_free(&defaults);
	fstree_free(target.stack.tree);
	close(target.spool.fd);
	root_source_close(&source);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	if (size > INPUT_BYTES_MAX)
		return 0;
	int archive_fd = make_archive(bytes, size);
	stack(archive_fd);
	close(archive_fd);
	return 0;
}
