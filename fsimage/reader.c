#include "fsimage/reader.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fsimage/format.h"
#include "fsimage/reader_private.h"
#include "fsimage/xattr.h"

/* What a job can set with chattr(1), and what the kernel sets for the features of an image. */
#define FLAGS_ALLOWED                                                                              \
	(EXT2_SECRM_FL | EXT2_UNRM_FL | EXT2_COMPR_FL | EXT2_SYNC_FL | EXT2_IMMUTABLE_FL |         \
	 EXT2_APPEND_FL | EXT2_NODUMP_FL | EXT2_NOATIME_FL | EXT2_INDEX_FL |                       \
	 EXT3_JOURNAL_DATA_FL | EXT2_NOTAIL_FL | EXT2_DIRSYNC_FL | EXT2_TOPDIR_FL |                \
	 EXT4_HUGE_FILE_FL | EXT4_EXTENTS_FL | FS_DAX_FL | EXT4_PROJINHERIT_FL)

/* --- images --- */

static int check_state(const struct ext2_super_block *super, const char *name, const char *label,
		       struct error *error)
{
	const char *volume = (const char *)super->s_volume_name;

	if (super_is_unclean(super))
		return error_set(error, "%s was not cleanly unmounted", name);
	if (le16toh(super->s_state) & EXT2_ERROR_FS)
		return error_set(error, "%s is damaged: the kernel that used it found errors",
				 name);
	if (label && strncmp(volume, label, sizeof(super->s_volume_name)) != 0)
		return error_set(error, "%s has the label '%.*s', not '%s'", name,
				 (int)sizeof(super->s_volume_name), volume, label);
	return 0;
}

static int open_file_system(struct fsimage *image, const char *label, struct error *error)
{
	struct ext2_super_block super;
	char number[16];

	if (super_load(image->fd, image->name, &super, error) < 0 ||
	    check_state(&super, image->name, label, error) < 0)
		return -1;
	image->block_count = le32toh(super.s_blocks_count);

	/* Opens no path, so that a process can read an image that may open nothing. */
	int own_fd = fcntl(image->fd, F_DUPFD_CLOEXEC, 0);
	if (own_fd < 0)
		return error_errno(error, "cannot open %s", image->name);
	snprintf(number, sizeof(number), "%d", own_fd);

	errcode_t code =
		ext2fs_open2(number, NULL, EXT2_FLAG_64BITS, 0, 0, unixfd_io_manager, &image->fs);

	if (code)
		return error_set(error, "cannot open %s: %s", image->name, error_message(code));
	return 0;
}

struct fsimage *fsimage_open(int image_fd, const char *name, const char *label, struct error *error)
{
	struct fsimage *image = calloc(1, sizeof(*image));
	char *own_name = strdup(name);

	if (!image || !own_name) {
		error_set(error, "%s: out of memory", name);
		free(image);
		free(own_name);
		return NULL;
	}
	initialize_ext2_error_table();
	image->fd = image_fd;
	image->map = image->maps;
	image->name = own_name;
	if (open_file_system(image, label, error) == 0)
		return image;
	fsimage_close(image);
	return NULL;
}

void fsimage_close(struct fsimage *image)
{
	if (!image)
		return;
	if (image->fs)
		ext2fs_free(image->fs);
	directories_forget(image);
	maps_forget(image);
	free(image->name);
	free(image);
}

void fsimage_uuid(const struct fsimage *image, uint8_t uuid[16])
{
	memcpy(uuid, image->fs->super->s_uuid, 16);
}

int fsimage_needs_recovery(int image_fd, const char *name, struct error *error)
{
	struct ext2_super_block super;

	if (super_load(image_fd, name, &super, error) < 0)
		return -1;
	return super_is_unclean(&super);
}

/* --- inodes --- */

int inode_fail(const struct fsimage *image, uint32_t inode, const char *what, struct error *error)
{
	return error_set(error, "%s: inode %u: %s", image->name, inode, what);
}

uint64_t inode_size(const union inode_buffer *buffer)
{
	return buffer->base.i_size | (uint64_t)buffer->base.i_size_high << 32;
}

int inode_load(struct fsimage *image, uint32_t inode, union inode_buffer *buffer,
	       struct error *error)
{
	if (inode != EXT2_ROOT_INO &&
	    (inode < IMAGE_FIRST_INODE || inode > image->fs->super->s_inodes_count))
		return inode_fail(image, inode, "no file can have this number", error);

	errcode_t code = ext2fs_read_inode_full(image->fs, inode, &buffer->base, sizeof(*buffer));

	if (code)
		return inode_fail(image, inode, error_message(code), error);
	if (format_entry_type(buffer->base.i_mode) == EXT2_FT_UNKNOWN ||
	    !buffer->base.i_links_count)
		return inode_fail(image, inode, "a name leads to it, but it is not in use", error);
	if (buffer->base.i_flags & ~FLAGS_ALLOWED)
		return inode_fail(image, inode, "it has flags that no file should have", error);
	if (buffer->large.i_extra_isize < IMAGE_EXTRA_BYTES ||
	    buffer->large.i_extra_isize > IMAGE_INODE_BYTES - EXT2_GOOD_OLD_INODE_SIZE ||
	    buffer->large.i_extra_isize % 4)
		return inode_fail(image, inode, "its extra fields have an impossible size", error);
	if (inode_size(buffer) > IMAGE_FILE_BYTES_MAX)
		return inode_fail(image, inode, "its size is impossible", error);
	return 0;
}

int fsimage_stat(struct fsimage *image, uint32_t inode, struct fsstat *stat, struct error *error)
{
	union inode_buffer buffer;
	const struct ext2_inode_large *large = &buffer.large;

	if (inode_load(image, inode, &buffer, error) < 0)
		return -1;
	*stat = (struct fsstat){
		.inode = inode,
		.mode = large->i_mode,
		.uid = large->i_uid | (uint32_t)large->osd2.linux2.l_i_uid_high << 16,
		.gid = large->i_gid | (uint32_t)large->osd2.linux2.l_i_gid_high << 16,
		.links = large->i_links_count,
		.size_bytes = inode_size(&buffer),
		.mtime = parse_time((struct format_time){large->i_mtime, large->i_mtime_extra}),
	};
	if (stat->mtime.tv_nsec >= 1000000000)
		return inode_fail(image, inode, "its time stamp is impossible", error);
	if (S_ISCHR(stat->mode) || S_ISBLK(stat->mode)) {
		uint32_t words[2] = {le32toh(large->i_block[0]), le32toh(large->i_block[1])};

		parse_device(words, &stat->device_major, &stat->device_minor);
	}
	return 0;
}

/* --- symlinks --- */

static int copy_target(struct fsimage *image, const union inode_buffer *buffer, uint32_t inode,
		       char *target, struct error *error)
{
	size_t length = inode_size(buffer);

	if (!(buffer->base.i_flags & EXT4_EXTENTS_FL)) {
		if (length > FAST_SYMLINK_BYTES_MAX)
			return inode_fail(image, inode, "the symlink's target is damaged", error);
		memcpy(target, buffer->base.i_block, length);
		return 0;
	}
	if (map_load(image, inode, S_IFLNK, error) < 0)
		return -1;
	return map_read(image, 0, target, length, error) < 0 ? -1 : 0;
}

int fsimage_readlink(struct fsimage *image, uint32_t inode, char *target, size_t size,
		     struct error *error)
{
	union inode_buffer buffer;

	if (inode_load(image, inode, &buffer, error) < 0)
		return -1;
	if (!S_ISLNK(buffer.base.i_mode))
		return inode_fail(image, inode, "it is not a symlink", error);

	uint64_t length = inode_size(&buffer);

	if (length >= size)
		return inode_fail(image, inode, "the symlink's target is too long", error);
	if (copy_target(image, &buffer, inode, target, error) < 0)
		return -1;
	target[length] = '\0';
	if (!length || strlen(target) != length)
		return inode_fail(image, inode, "the symlink's target is damaged", error);
	return 0;
}

/* --- extended attributes --- */

/* Such a list is stored in a form of its own. */
static int show_acl(struct fsimage *image, uint32_t inode, const void *stored, size_t stored_bytes,
		    void *value, size_t size, struct error *error)
{
	uint8_t *shown = malloc(ACL_BYTES_MAX(stored_bytes) + 1);
	int length = shown ? xattr_show_acl(stored, stored_bytes, shown) : -1;
	int result = length;

	if (length < 0)
		result = inode_fail(image, inode, "an access control list is damaged", error);
	else if ((size_t)length > size)
		result = inode_fail(image, inode, "an extended attribute is too long", error);
	else
		memcpy(value, shown, length);
	free(shown);
	return result;
}

static int copy_attribute(struct fsimage *image, struct ext2_xattr_handle *handle, uint32_t inode,
			  const char *name, void *value, size_t size, struct error *error)
{
	const char *rest;
	void *found;
	size_t length;
	errcode_t code = ext2fs_xattrs_read(handle);

	if (code == 0)
		code = ext2fs_xattr_get(handle, name, &found, &length);
	if (code == EXT2_ET_EA_KEY_NOT_FOUND)
		return 0;
	if (code)
		return inode_fail(image, inode, error_message(code), error);

	int result = (int)length;

	if (xattr_is_acl(xattr_parse_name(name, &rest)))
		result = show_acl(image, inode, found, length, value, size, error);
	else if (length > size)
		result = inode_fail(image, inode, "an extended attribute is too long", error);
	else
		memcpy(value, found, length);
	ext2fs_free_mem(&found);
	return result;
}

int fsimage_getxattr(struct fsimage *image, uint32_t inode, const char *name, void *value,
		     size_t size, struct error *error)
{
	union inode_buffer buffer;
	struct ext2_xattr_handle *handle;
	unsigned flags = XATTR_HANDLE_FLAG_RAW;

	if (inode_load(image, inode, &buffer, error) < 0)
		return -1;

	errcode_t code = ext2fs_xattrs_open(image->fs, inode, &handle);

	if (code)
		return inode_fail(image, inode, error_message(code), error);
	/* Raw: values as they are stored, and no conversion of access lists. */
	code = ext2fs_xattrs_flags(handle, &flags, NULL);

	int result = code ? inode_fail(image, inode, error_message(code), error)
			  : copy_attribute(image, handle, inode, name, value, size, error);

	ext2fs_xattrs_close(&handle);
	return result;
}
