/*
 * node: what a tree consists of; private to fsimage.
 */
#ifndef FSIMAGE_NODE_H
#define FSIMAGE_NODE_H

#include <sys/stat.h>

#include "fsimage/host.h"
#include "fsimage/tree.h"

#define NAME_BYTES_MAX 255

struct fsnode {
	struct fsnode *next_allocated; /* all nodes of the tree: for freeing */
	struct fsnode *next_in_bucket;
	struct fsnode *parent; /* NULL: the root */
	struct fsnode *next_sibling;
	struct fsnode *same_as; /* hard link: another name of that node, which has the rest */
	struct fsmeta meta;
	union {
		struct {
			struct fstree *tree;
			struct fsnode *first_child; /* the writer sorts them */
			struct fsnode *last_child;
		} directory;
		struct { /* symlink; regular file without HOST */
			uint8_t *bytes;
			size_t size;
		} content;
		dev_t device;
	};
	struct host_file *host; /* where a regular file's data is */

	/* The writer's. */
	uint32_t inode; /* 0: not numbered yet */
	uint32_t links;

	char name[];
};

struct fstree {
	struct fsnode *root;
	struct fsnode *all_nodes;
	struct fsnode **buckets; /* all nodes but the root, by parent and name */
	size_t bucket_count;	 /* a power of two */
	struct fstotals totals;

	/* The importer's. */
	struct host_directory *host_bases;	 /* where imports started; few */
	struct host_directory *host_directories; /* all others */
	void *hard_links; /* tsearch(3): host files with several names, by device and inode */
};

/* The node that has the metadata and data of NODE. */
static inline struct fsnode *node_target(struct fsnode *node)
{
	return node->same_as ? node->same_as : node;
}

static inline bool node_is_directory(const struct fsnode *node)
{
	return S_ISDIR(node->meta.mode);
}

/* Adds a node of META and no content; the importer's primitive. NULL with ERROR set. */
struct fsnode *tree_add(struct fstree *tree, struct fsnode *directory, const char *name,
			const struct fsmeta *meta, struct error *error);

/* Frees what the importer has put into TREE. */
void tree_free_host(struct fstree *tree);

#endif
