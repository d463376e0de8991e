#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fsimage/node.h"
#include "fsimage/xattr.h"

/* The order that ext4 wants in a block: by number, then length, then bytes of the name. */
int compare_xattrs(const struct node_xattr *a, const struct node_xattr *b)
{
	if (a->name_index != b->name_index)
		return a->name_index < b->name_index ? -1 : 1;
	if (a->name_bytes != b->name_bytes)
		return a->name_bytes < b->name_bytes ? -1 : 1;
	return memcmp(a->bytes, b->bytes, a->name_bytes);
}

void node_clear_xattrs(struct fsnode *file)
{
	for (struct node_xattr *next; file->xattrs; file->xattrs = next) {
		next = file->xattrs->next;
		free(file->xattrs);
	}
}

/* Puts ADDED where it belongs, in the place of one of the same name. */
static void insert(struct fsnode *file, struct node_xattr *added)
{
	struct node_xattr **place = &file->xattrs, *replaced;
	int order = -1;

	while (*place && (order = compare_xattrs(*place, added)) < 0)
		place = &(*place)->next;
	replaced = *place && order == 0 ? *place : NULL;
	added->next = replaced ? replaced->next : *place;
	*place = added;
	free(replaced);
}

int fstree_set_xattr(struct fstree *tree, struct fsnode *node, const char *name, const void *value,
		     size_t size, struct error *error)
{
	struct fsnode *file = node_target(node);
	const char *rest;
	int index = xattr_parse_name(name, &rest);

	(void)tree;
	if (index < 0 || strlen(rest) > XATTR_NAME_BYTES_MAX)
		return error_set(error, "'%s' cannot have an extended attribute '%s'", node->name,
				 name);
	if (size > NODE_XATTR_BYTES_MAX)
		return error_set(error, "%s: the extended attribute %s is larger than %d bytes",
				 node->name, name, NODE_XATTR_BYTES_MAX);

	size_t name_bytes = strlen(rest);
	size_t value_max = xattr_is_acl(index) ? ACL_BYTES_MAX(size) : size;
	struct node_xattr *xattr = calloc(1, sizeof(*xattr) + name_bytes + value_max);
	int stored = size;

	if (!xattr)
		return error_set(error, "%s: out of memory", node->name);
	xattr->name_index = index;
	xattr->name_bytes = name_bytes;
	memcpy(xattr->bytes, rest, xattr->name_bytes);
	if (xattr_is_acl(index))
		stored = xattr_store_acl(value, size, xattr->bytes);
	else if (size)
		memcpy(xattr->bytes + name_bytes, value, size);
	if (stored < 0) {
		free(xattr);
		return error_set(error, "%s: %s is not an access control list", node->name, name);
	}
	xattr->value_bytes = stored;
	insert(file, xattr);
	return 0;
}

void fstree_each_xattr(const struct fsnode *node, fstree_visit_xattr *visit, void *context)
{
	const struct fsnode *file = node->same_as ? node->same_as : node;
	char name[sizeof("system.posix_acl_default") + XATTR_NAME_BYTES_MAX];

	for (const struct node_xattr *xattr = file->xattrs; xattr; xattr = xattr->next) {
		snprintf(name, sizeof(name), "%s%.*s", xattr_prefix(xattr->name_index),
			 (int)xattr->name_bytes, (const char *)xattr->bytes);
		visit(context, name, xattr_value(xattr), xattr->value_bytes);
	}
}

void fstree_clear_xattrs(struct fsnode *node)
{
	node_clear_xattrs(node_target(node));
}
