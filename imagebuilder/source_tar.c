#include <stdlib.h>

#include "imagebuilder/root_source.h"
#include "imagebuilder/unpack.h"

int source_tar_stack(struct root_source *source, struct root_target *target,
		     struct digest *metadata, struct error *error)
{
	struct byte_source *bytes = calloc(1, sizeof(*bytes));
	struct unpack unpack = {
		.stack = &target->stack, .spool = &target->spool, .metadata = metadata};
	struct digest *digest = digest_new(error);

	if (!bytes || !digest) {
		free(bytes);
		digest_free(digest);
		return error_set(error, "%s: out of memory", source->name);
	}
	*bytes = (struct byte_source){
		.fd = source->fd,
		.name = source->name,
		.offset = BYTE_SOURCE_STREAM,
		.rest = UINT64_MAX,
		.digest = digest,
	};
	int result = unpack_tar(&unpack, bytes, error);
	free(bytes);
	source->nodes = unpack.nodes;
	if (result) {
		digest_free(digest);
		return -1;
	}
	return digest_finish(digest, source->sha256, error);
}
