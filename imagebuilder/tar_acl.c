#include "imagebuilder/tar_acl.h"

#include <archive.h>
#include <archive_entry.h>
#include <endian.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdlib.h>
#include <string.h>

/* linux/posix_acl_xattr.h has these two as structs without a packed form for user space. */
#define HEADER_BYTES sizeof(uint32_t)
#define ENTRY_BYTES  8 /* tag, permissions, id: 16, 16 and 32 bits */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define READ_WRITE_EXECUTE 7

static const struct {
	int libarchive;
	uint16_t tag;
	bool has_id;
} tags[] = {
	{ARCHIVE_ENTRY_ACL_USER_OBJ, ACL_USER_OBJ, false},
	{ARCHIVE_ENTRY_ACL_USER, ACL_USER, true},
	{ARCHIVE_ENTRY_ACL_GROUP_OBJ, ACL_GROUP_OBJ, false},
	{ARCHIVE_ENTRY_ACL_GROUP, ACL_GROUP, true},
	{ARCHIVE_ENTRY_ACL_MASK, ACL_MASK, false},
	{ARCHIVE_ENTRY_ACL_OTHER, ACL_OTHER, false},
};

struct list {
	uint8_t *bytes;
	size_t size;
};

struct acl_entry {
	int tag, permissions, id;
	const char *name;
};

static bool next_entry(struct archive_entry *entry, int type, struct acl_entry *acl)
{
	int found_type;

	return archive_entry_acl_next(entry, type, &found_type, &acl->permissions, &acl->tag,
				      &acl->id, &acl->name) == ARCHIVE_OK;
}

mode_t tar_acl_mode(struct archive_entry *entry)
{
	mode_t mode = archive_entry_mode(entry);
	struct acl_entry acl;

	archive_entry_acl_reset(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS);
	while (next_entry(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, &acl))
		if (acl.tag == ARCHIVE_ENTRY_ACL_MASK)
			mode = (mode & ~(mode_t)0070) |
			       (mode_t)(acl.permissions & READ_WRITE_EXECUTE) << 3;
	return mode;
}

static void append(struct list *list, uint16_t tag, const struct acl_entry *acl, bool has_id)
{
	uint16_t tag_le = htole16(tag);
	uint16_t permissions = htole16((uint16_t)(acl->permissions & READ_WRITE_EXECUTE));
	uint32_t id = htole32(has_id ? (uint32_t)acl->id : (uint32_t)ACL_UNDEFINED_ID);
	uint8_t *at = list->bytes + list->size;

	memcpy(at, &tag_le, sizeof(tag_le));
	memcpy(at + 2, &permissions, sizeof(permissions));
	memcpy(at + 4, &id, sizeof(id));
	list->size += ENTRY_BYTES;
}

/* Names are not looked up: the archive's users are not this host's.
 */
static int append_entry(const struct acl_entry *acl, struct list *list, struct error *error)
{
	size_t row = 0;

	while (row < COUNT(tags) && tags[row].libarchive != acl->tag)
		row++;
	if (row == COUNT(tags))
		return error_set(error, "its access control list has an entry of unknown kind");
	if (tags[row].has_id && acl->id < 0)
		return error_set(error,
				 "its access control list names '%s' without a number "
				 "(tar --xattrs keeps it by numbers)",
				 acl->name ? acl->name : "");
	append(list, tags[row].tag, acl, tags[row].has_id);
	return 0;
}

/* The order that Linux wants: by tag, then by number. */
static int compare_entries(const void *left, const void *right)
{
	uint16_t tags_le[2];
	uint32_t ids[2];

	memcpy(&tags_le[0], left, 2), memcpy(&tags_le[1], right, 2);
	memcpy(&ids[0], (const uint8_t *)left + 4, 4),
		memcpy(&ids[1], (const uint8_t *)right + 4, 4);
	if (tags_le[0] != tags_le[1])
		return le16toh(tags_le[0]) < le16toh(tags_le[1]) ? -1 : 1;
	return (le32toh(ids[0]) > le32toh(ids[1])) - (le32toh(ids[0]) < le32toh(ids[1]));
}

static int fill(struct archive_entry *entry, int type, struct list *list, struct error *error)
{
	uint32_t version = htole32(POSIX_ACL_XATTR_VERSION);
	struct acl_entry acl;

	memcpy(list->bytes, &version, sizeof(version));
	list->size = HEADER_BYTES;
	archive_entry_acl_reset(entry, type);
	while (next_entry(entry, type, &acl))
		if (append_entry(&acl, list, error))
			return -1;
	qsort(list->bytes + HEADER_BYTES, (list->size - HEADER_BYTES) / ENTRY_BYTES, ENTRY_BYTES,
	      compare_entries);
	return 0;
}

/* GNU tar keeps a list twice: as a text with names, and as the attribute with numbers. */
static bool is_attribute_too(struct archive_entry *entry, const char *attribute)
{
	const char *name;
	const void *value;
	size_t size;

	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK)
		if (strcmp(name, attribute) == 0)
			return true;
	return false;
}

static int set_list(struct archive_entry *entry, int type, const char *name, tar_set_xattr *set,
		    void *context, struct error *error)
{
	/* Those that the mode says too are not counted. */
	size_t count = (size_t)archive_entry_acl_count(entry, type) + 3;
	struct list list = {.size = 0};
	int result = -1;

	if (is_attribute_too(entry, name))
		return 0;
	list.bytes = malloc(HEADER_BYTES + count * ENTRY_BYTES);
	if (!list.bytes)
		error_set(error, "out of memory");
	else if (fill(entry, type, &list, error) == 0)
		result = set(context, name, list.bytes, list.size, error);
	free(list.bytes);
	return result;
}

int tar_acls(struct archive_entry *entry, tar_set_xattr *set, void *context, struct error *error)
{
	int types = archive_entry_acl_types(entry);

	if (types & ARCHIVE_ENTRY_ACL_TYPE_NFS4)
		return error_set(error, "it has an NFSv4 access control list, which Linux has not");
	if ((types & ARCHIVE_ENTRY_ACL_TYPE_ACCESS) &&
	    set_list(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, "system.posix_acl_access", set, context,
		     error))
		return -1;
	if ((types & ARCHIVE_ENTRY_ACL_TYPE_DEFAULT) &&
	    set_list(entry, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, "system.posix_acl_default", set,
		     context, error))
		return -1;
	return 0;
}
