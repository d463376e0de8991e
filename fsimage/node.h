/*
 * node: what a tree consists of; private to fsimage.
 */
#ifndef FSIMAGE_NODE_H
#define FSIMAGE_NODE_H

#include <sys/stat.h>

#include "fsimage/host.h"
#include "fsimage/tree.h"

#define NAME_BYTES_MAX 255

/* An extended attribute as ext4 stores it: what NAME_INDEX stands for is not in the name. */
struct node_xattr {
	struct node_xattr *next; /* in the order that ext4 wants: see compare_xattrs() */
	uint8_t name_index;	 /* EXT4_XATTR_INDEX_... */
	uint8_t name_bytes;
	uint16_t value_bytes;
	bool in_inode;	 /* the writer's */
	uint8_t bytes[]; /* the name, then the value */
};

/* More cannot be in a block. */
#define NODE_XATTR_BYTES_MAX 4096

int compare_xattrs(const struct node_xattr *a, const struct node_xattr *b);

static inline const uint8_t *xattr_value(const struct node_xattr *xattr)
{
	return xattr->bytes + xattr->name_bytes;
}

/* A file that regular files take runs of their data from. */
struct run_source {
	struct run_source *next; /* in the tree's list */
	int fd;			 /* the caller's */
	char name[];
};

struct run_file {
	const struct run_source *source;
	uint64_t size_bytes;
	uint64_t data_bytes;
	uint64_t data_blocks;	/* of the image */
	uint64_t segment_count; /* sequences of such blocks between holes */
	size_t run_count;
	struct fsrun runs[]; /* none is empty */
};

/* What a node's data is. */
enum node_source {
	SOURCE_BYTES, /* CONTENT, of a regular file or symlink; of all others: nothing */
	SOURCE_HOST,
	SOURCE_RUNS,
};

/*
 * A node that was removed stays allocated, for links and the importer may point at it: as the
 * file without a name that other names are the SAME_AS, or as nothing, with no names left.
 */
struct fsnode {
	struct fsnode *next_allocated; /* all nodes of the tree: for freeing */
	struct fsnode *next_in_bucket;
	struct fsnode *parent; /* NULL: the root, or removed */
	struct fsnode *next_sibling, *previous_sibling;
	struct fsnode *same_as; /* hard link: another name of that node, which has the rest */
	struct node_xattr *xattrs;
	struct fsmeta meta;
	uint32_t names; /* how many nodes are this file: itself, if not removed, and links */
	enum node_source source;
	union {
		struct {
			struct fstree *tree;
			struct fsnode *first_child; /* the writer sorts them */
			struct fsnode *last_child;
			uint32_t block_count; /* the writer's */
		} directory;
		struct {
			uint8_t *bytes;
			size_t size;
		} content;
		struct host_file *host;
		struct run_file *runs;
		dev_t device;
	};

	/* The writer's. */
	uint32_t inode; /* 0: not numbered yet */
	uint32_t links;
	struct xattr_block *xattr_block; /* where attributes are that have no room in the inode */

	char name[];
};

struct fstree {
	struct fsnode *root;
	struct fsnode *all_nodes;
	struct fsnode **buckets; /* all nodes but the root, by parent and name */
	size_t bucket_count;	 /* a power of two */
	struct fstotals totals;
	struct run_source *run_sources; /* the one that was used last comes first */

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

/* Bytes of data, holes not counted, of a file; of what is no regular file: 0. */
uint64_t node_data_bytes(const struct fsnode *node);

/* The path of NODE for people, "/" for the root. */
struct host_path node_path(const struct fsnode *node);

/* Removes all extended attributes of a file. */
void node_clear_xattrs(struct fsnode *file);

/* Frees what the importer has put into TREE. */
void tree_free_host(struct fstree *tree);

#endif
