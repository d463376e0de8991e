#include "imagebuilder/root_source.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OCI_PREFIX "oci:"
#define STDIN_PATH "-"
#define STDIN_NAME "standard input"

static int open_path(struct root_source *source, struct error *error)
{
	struct stat stat;

	source->fd = open(source->path, O_RDONLY | O_CLOEXEC);
	if (source->fd < 0 || fstat(source->fd, &stat)) {
		error_errno(error, "open %s", source->path);
		root_source_close(source);
		return -1;
	}
	if (S_ISREG(stat.st_mode) || S_ISFIFO(stat.st_mode))
		source->kind = SOURCE_TAR;
	else if (!S_ISDIR(stat.st_mode)) {
		root_source_close(source);
		return error_set(error, "%s: neither a directory nor an archive", source->path);
	}
	return 0;
}

int root_source_open(const char *path, struct root_source *source, struct error *error)
{
	*source = (struct root_source){.path = path, .name = path, .fd = -1};
	if (strncmp(path, OCI_PREFIX, strlen(OCI_PREFIX)) == 0) {
		source->kind = SOURCE_OCI;
		source->path += strlen(OCI_PREFIX);
		return *source->path ? 0 : error_set(error, "'%s': no OCI layout is named", path);
	}
	if (strcmp(path, STDIN_PATH) == 0) {
		source->kind = SOURCE_TAR;
		source->name = STDIN_NAME;
		source->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
		return source->fd < 0 ? error_errno(error, "read " STDIN_NAME) : 0;
	}
	return open_path(source, error);
}

void root_source_close(struct root_source *source)
{
	if (source->fd >= 0)
		close(source->fd);
	source->fd = -1;
}

int root_source_stack(struct root_source *source, struct root_target *target, struct error *error)
{
	static int (*const by_kind[])(struct root_source *, struct root_target *, struct digest *,
				      struct error *) = {
		[SOURCE_DIRECTORY] = source_directory_stack,
		[SOURCE_TAR] = source_tar_stack,
		[SOURCE_OCI] = source_oci_stack,
	};
	struct digest *metadata = digest_new(error);

	if (!metadata)
		return -1;
	if (by_kind[source->kind](source, target, metadata, error)) {
		digest_free(metadata);
		return -1;
	}
	return digest_finish(metadata, source->metadata_digest, error);
}
