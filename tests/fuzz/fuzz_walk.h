/* fuzz_walk: reads everything that the reader gives of an image. */
#ifndef TESTS_FUZZ_FUZZ_WALK_H
#define TESTS_FUZZ_FUZZ_WALK_H

#include <sys/stat.h>

#include "fsimage/reader.h"
#include "tests/fuzz/fuzz.h"

/* Larger files are not copied, and no more of all together: files may share blocks. */
#define FUZZ_COPY_BYTES_MAX (1 << 20)

struct fuzz_walk {
	struct fsimage *image;
	bool is_ours; /* our own writer's: every error is a finding */
	uint64_t copied_bytes;
};

/* A call for one file may fail, but not without saying why; the walk goes on. */
static inline void fuzz_walk_check(const struct fuzz_walk *walk, bool failed,
				   const struct error *error)
{
	if (failed && walk->is_ours)
		fprintf(stderr, "%s\n", error->text);
	FUZZ_CHECK(!failed || (error->text[0] && !walk->is_ours));
}

static inline void fuzz_walk_read(struct fuzz_walk *walk, const struct fsstat *stat)
{
	const uint64_t offsets[] = {0, 5000, stat->size_bytes - 1, stat->size_bytes, UINT64_MAX};
	char bytes[3000];

	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		struct error error = {""};
		int64_t got = fsimage_read(walk->image, stat->inode, offsets[i], bytes,
					   sizeof(bytes), &error);

		fuzz_walk_check(walk, got < 0, &error);
		FUZZ_CHECK(got <= (int64_t)sizeof(bytes));
		FUZZ_CHECK(got <= 0 || offsets[i] + (uint64_t)got <= stat->size_bytes);
	}
}

static inline void fuzz_walk_copy(struct fuzz_walk *walk, const struct fsstat *stat)
{
	struct error error = {""};
	struct stat copy;
	int fd = memfd_create("copy", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0);
	if (walk->copied_bytes + stat->size_bytes <= FUZZ_COPY_BYTES_MAX) {
		walk->copied_bytes += stat->size_bytes;
		int result = fsimage_copy(walk->image, stat->inode, FUZZ_COPY_BYTES_MAX, fd, "copy",
					  &error);

		fuzz_walk_check(walk, result < 0, &error);
		FUZZ_CHECK(result < 0 ||
			   (fstat(fd, &copy) == 0 && (uint64_t)copy.st_size == stat->size_bytes));
	}
	close(fd);
}

static inline void fuzz_walk_link(struct fuzz_walk *walk, const struct fsstat *stat)
{
	struct error error = {""};
	char target[4096];
	int result = fsimage_readlink(walk->image, stat->inode, target, sizeof(target), &error);

	fuzz_walk_check(walk, result < 0, &error);
	FUZZ_CHECK(result < 0 || strlen(target) == stat->size_bytes);
}

static inline void fuzz_walk_attributes(struct fuzz_walk *walk, const struct fsstat *stat)
{
	static const char *const names[] = {
		"trusted.overlay.opaque",
		"user.small",
		"user.large",
		"security.capability",
		"system.posix_acl_access",
		"system.posix_acl_default",
	};
	char value[4096];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct error error = {""};
		int length = fsimage_getxattr(walk->image, stat->inode, names[i], value,
					      sizeof(value), &error);

		fuzz_walk_check(walk, length < 0, &error);
		FUZZ_CHECK(length <= (int)sizeof(value));
	}
}

static inline int fuzz_walk_visit(void *context, const char *name, const struct fsstat *stat,
				  struct error *error)
{
	struct fuzz_walk *walk = context;
	struct error problem = {""};

	(void)error;
	FUZZ_CHECK(*name && strlen(name) < 256 && !strchr(name, '/'));
	FUZZ_CHECK(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
	fuzz_walk_attributes(walk, stat);
	if (S_ISREG(stat->mode)) {
		fuzz_walk_read(walk, stat);
		fuzz_walk_copy(walk, stat);
	} else if (S_ISLNK(stat->mode)) {
		fuzz_walk_link(walk, stat);
	} else if (S_ISDIR(stat->mode)) {
		int result =
			fsimage_list(walk->image, stat->inode, fuzz_walk_visit, walk, &problem);

		fuzz_walk_check(walk, result < 0, &problem);
	}
	return 0;
}

/* Reads all of the image behind FD, if it is one. */
static inline void fuzz_walk(int fd, bool is_ours)
{
	struct fuzz_walk walk = {.is_ours = is_ours};
	struct error error = {""};
	struct fsstat root;

	walk.image = fsimage_open(fd, "image", NULL, &error);
	fuzz_walk_check(&walk, !walk.image, &error);
	if (!walk.image)
		return;
	int result = fsimage_lookup(walk.image, "", &root, &error);
	fuzz_walk_check(&walk, result != 0, &error);
	if (result == 0)
		fuzz_walk_visit(&walk, "root", &root, &error);
	fsimage_close(walk.image);
}

#endif
