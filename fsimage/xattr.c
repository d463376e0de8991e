#include "fsimage/xattr.h"

#include <endian.h>
#include <string.h>

/* As in the kernel's fs/ext4/xattr.h. */
enum {
	INDEX_USER = 1,
	INDEX_ACL_ACCESS = 2,
	INDEX_ACL_DEFAULT = 3,
	INDEX_TRUSTED = 4,
	INDEX_SECURITY = 6,
};

static const struct {
	const char *prefix;
	uint8_t index;
} prefixes[] = {
	{"user.", INDEX_USER},
	{"system.posix_acl_access", INDEX_ACL_ACCESS},
	{"system.posix_acl_default", INDEX_ACL_DEFAULT},
	{"trusted.", INDEX_TRUSTED},
	{"security.", INDEX_SECURITY},
};

/* Nothing follows the name of a list, and something every other prefix. */
int xattr_parse_name(const char *name, const char **rest)
{
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t length = strlen(prefixes[i].prefix);

		if (strncmp(name, prefixes[i].prefix, length) != 0 ||
		    xattr_is_acl(prefixes[i].index) != !name[length])
			continue;
		*rest = name + length;
		return prefixes[i].index;
	}
	return -1;
}

const char *xattr_prefix(uint8_t name_index)
{
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		if (prefixes[i].index == name_index)
			return prefixes[i].prefix;
	}
	return NULL;
}

bool xattr_is_acl(int name_index)
{
	return name_index == INDEX_ACL_ACCESS || name_index == INDEX_ACL_DEFAULT;
}

/* --- access control lists --- */

/* What a list starts with, in both forms: a version. */
#define SHOWN_VERSION  2
#define STORED_VERSION 1
#define VERSION_BYTES  4

/* An entry is shown with an id, and stored with one only if its tag needs it. */
struct acl_entry {
	uint16_t tag, permissions;
	uint32_t id;
} __attribute__((packed));
#define SHORT_BYTES 4

enum {
	TAG_USER_OBJ = 0x01,
	TAG_USER = 0x02,
	TAG_GROUP_OBJ = 0x04,
	TAG_GROUP = 0x08,
	TAG_MASK = 0x10,
	TAG_OTHER = 0x20,
};

static bool has_version(const uint8_t *list, size_t size, uint32_t version)
{
	uint32_t start = htole32(version);

	return size >= sizeof(start) && memcmp(list, &start, sizeof(start)) == 0;
}

static void put_version(uint8_t *list, uint32_t version)
{
	uint32_t start = htole32(version);

	memcpy(list, &start, sizeof(start));
}

/* How many bytes an entry of this tag has where it is stored; 0: there is no such tag. */
static size_t stored_bytes(uint16_t tag)
{
	switch (le16toh(tag)) {
	case TAG_USER:
	case TAG_GROUP:
		return sizeof(struct acl_entry);
	case TAG_USER_OBJ:
	case TAG_GROUP_OBJ:
	case TAG_MASK:
	case TAG_OTHER:
		return SHORT_BYTES;
	default:
		return 0;
	}
}

int xattr_store_acl(const uint8_t *from, size_t size, uint8_t *to)
{
	size_t used = VERSION_BYTES;

	if (!has_version(from, size, SHOWN_VERSION) ||
	    (size - VERSION_BYTES) % sizeof(struct acl_entry))
		return -1;
	put_version(to, STORED_VERSION);
	for (size_t at = VERSION_BYTES; at < size; at += sizeof(struct acl_entry)) {
		struct acl_entry entry;

		memcpy(&entry, from + at, sizeof(entry));

		size_t bytes = stored_bytes(entry.tag);

		if (!bytes || le16toh(entry.permissions) > 7)
			return -1;
		memcpy(to + used, &entry, bytes);
		used += bytes;
	}
	return used;
}

int xattr_show_acl(const uint8_t *from, size_t size, uint8_t *to)
{
	size_t used = VERSION_BYTES, bytes;

	if (!has_version(from, size, STORED_VERSION))
		return -1;
	put_version(to, SHOWN_VERSION);
	for (size_t at = VERSION_BYTES; at < size; at += bytes) {
		struct acl_entry entry = {.id = UINT32_MAX};

		if (size - at < SHORT_BYTES)
			return -1;
		memcpy(&entry, from + at, SHORT_BYTES);
		bytes = stored_bytes(entry.tag);
		if (!bytes || bytes > size - at)
			return -1;
		memcpy(&entry, from + at, bytes);
		memcpy(to + used, &entry, sizeof(entry));
		used += sizeof(entry);
	}
	return used;
}
