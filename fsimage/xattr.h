/*
 * xattr: extended attributes as ext4 stores them and as the kernel shows them; private to
 * fsimage. ext4 has a number for how a name starts, and a form of its own for access control
 * lists.
 */
#ifndef FSIMAGE_XATTR_H
#define FSIMAGE_XATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XATTR_NAME_BYTES_MAX 255

/* The number of the start of NAME, and in *REST what comes after it; -1 if there is none. */
int xattr_parse_name(const char *name, const char **rest);
/* The start that NAME_INDEX stands for ("user."), or NULL. */
const char *xattr_prefix(uint8_t name_index);

/* Whether values under this number are access control lists. */
bool xattr_is_acl(int name_index);
/*
 * Converts a list between the form of getxattr(2) and the stored one. TO has room for
 * ACL_BYTES_MAX(SIZE). How many bytes, or -1 if it is no such list.
 */
#define ACL_BYTES_MAX(size) (2 * (size))
int xattr_store_acl(const uint8_t *from, size_t size, uint8_t *to);
int xattr_show_acl(const uint8_t *from, size_t size, uint8_t *to);

#endif
