#include "tests/hostile/walk.h"

#include <sys/stat.h>
#include <unistd.h>

#define ROOT_INODE 2

struct walk {
	struct fsimage *image;
	int scratch_fd;
	struct walk_totals *totals;
};

static int read_attributes(const struct walk *walk, uint32_t inode, struct error *error)
{
	static const char *const names[] = {"trusted.overlay.opaque", "user.small", "user.large",
					    "security.capability", "system.posix_acl_access"};
	static char value[4096];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (fsimage_getxattr(walk->image, inode, names[i], value, sizeof(value), error) < 0)
			return -1;
	return 0;
}

/* Both ways that there are. */
static int read_file(const struct walk *walk, const struct fsstat *stat, struct error *error)
{
	static char bytes[65536];

	walk->totals->bytes += stat->size_bytes;
	if (fsimage_read(walk->image, stat->inode, 0, bytes, sizeof(bytes), error) < 0)
		return -1;
	if (ftruncate(walk->scratch_fd, 0) < 0)
		return error_errno(error, "empty the scratch file");
	return fsimage_copy(walk->image, stat->inode, stat->size_bytes, walk->scratch_fd, "scratch",
			    error);
}

static int visit(void *context, const char *name, const struct fsstat *stat, struct error *error)
{
	struct walk *walk = context;
	static char target[4097]; /* not on the stack: directories may be 4096 deep */

	(void)name;
	walk->totals->entries++;
	if (read_attributes(walk, stat->inode, error) < 0)
		return -1;
	if (S_ISDIR(stat->mode))
		return fsimage_list(walk->image, stat->inode, visit, walk, error);
	if (S_ISLNK(stat->mode))
		return fsimage_readlink(walk->image, stat->inode, target, sizeof(target), error);
	return S_ISREG(stat->mode) ? read_file(walk, stat, error) : 0;
}

int walk_image(int fd, const char *name, const char *label, int scratch_fd,
	       struct walk_totals *totals, struct error *error)
{
	struct walk walk = {.image = fsimage_open(fd, name, label, error),
			    .scratch_fd = scratch_fd,
			    .totals = totals};

	*totals = (struct walk_totals){.entries = 0};
	if (!walk.image)
		return -1;

	int result = fsimage_list(walk.image, ROOT_INODE, visit, &walk, error);

	fsimage_close(walk.image);
	return result;
}
