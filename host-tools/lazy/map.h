/*
 * map: what is where on a served disk, of which the server keeps the files' data in the files.
 *
 * The disk is an image as fsimage writes it, in blocks of MAP_BLOCK_BYTES. A block is a file's
 * data (an extent has it), or metadata, or zero. The server exports the map beside the disk as
 * bytes that can be read at any offset: a header and four sections, little-endian, as the structs
 * here lie in memory.
 *
 * Whoever reads a map that a server sent takes it by map_parse(), for the server may be anybody.
 */
#ifndef HOST_TOOLS_LAZY_MAP_H
#define HOST_TOOLS_LAZY_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "jobdisk/error.h"

#define MAP_EXPORT	       "map" /* the name that the map is exported under; the disk's is "" */
#define MAP_DESCRIPTION_PREFIX "jobvm-tree-1 " /* of both exports; the identity in hex follows */

#define MAP_MAGIC	   "jobvmmap"
#define MAP_VERSION	   1
#define MAP_BLOCK_BYTES	   4096
#define MAP_HEADER_BYTES   4096
#define MAP_IDENTITY_BYTES 32
/* A map that is larger is none: that is about 15 million files. */
#define MAP_BYTES_MAX	   ((uint64_t)2 << 30)

/* COUNT records at OFFSET of the map, a multiple of 8; of the strings: so many bytes. */
struct map_section {
	uint64_t offset, count;
};

/* Zeros follow up to MAP_HEADER_BYTES. */
struct map_header {
	char magic[8];
	uint32_t version;
	uint32_t zero;
	/*
	 * SHA-256 of all that the disk is, as far as it can be known without reading files. A tree
	 * that has not changed has the same when it is served again on the same machine.
	 */
	uint8_t identity[MAP_IDENTITY_BYTES];
	uint64_t image_bytes; /* of the disk, a multiple of MAP_BLOCK_BYTES */
	struct map_section files, extents, metadata, strings;
};

/* A regular file with data, in the order of the extents. */
struct map_file {
	uint64_t size_bytes;
	int64_t mtime_seconds; /* since 1970 */
	uint32_t mtime_nanoseconds;
	uint32_t mode;	      /* with the type: S_IFREG and permissions */
	uint64_t path_offset; /* in the strings */
	uint32_t path_bytes;  /* relative, of its first name, any bytes but NUL, no NUL behind it */
	uint32_t zero;
};

/*
 * BLOCKS blocks of the disk from START_BLOCK on are those of the file from FILE_BLOCK on. What
 * is behind the file's end in its last block is zero. Extents ascend by START_BLOCK and do not
 * overlap; those of a file follow one another and ascend by FILE_BLOCK too; FILE ascends.
 */
struct map_extent {
	uint32_t start_block, blocks;
	uint32_t file; /* index */
	uint32_t file_block;
};

/* Blocks of the disk that are neither a file's data nor zero; ascending, not overlapping. */
struct map_range {
	uint32_t start_block, blocks;
};

/* A map in memory. */
struct map {
	const struct map_header *header;
	const struct map_file *files;
	const struct map_extent *extents;
	const struct map_range *metadata;
	const char *strings;
	uint64_t file_count, extent_count, metadata_count, strings_bytes;
};

/* A part of the disk, up to the block END, that is one of the three. */
struct map_stretch {
	uint64_t end;
	const struct map_extent *extent;  /* a file's data */
	const struct map_range *metadata; /* or that; or zeros */
};

/*
 * Takes the SIZE bytes at BYTES (kept by the caller for as long as MAP is used, and aligned to 8)
 * for a map and checks each record: that all it names is there, the orders above, that no extent
 * is behind its file's end, and that every path is relative without "", "." and "..". Not that
 * paths differ. 0, or -1 with ERROR set.
 */
int map_parse(const void *bytes, uint64_t size, struct map *map, struct error *error);

/* The first extent that ends behind BLOCK: it has the block or comes after it. May be the count. */
uint64_t map_find_extent(const struct map *map, uint64_t block);
/* The same for the metadata. */
uint64_t map_find_metadata(const struct map *map, uint64_t block);
/* What is at BLOCK, which is on the disk. */
struct map_stretch map_stretch_at(const struct map *map, uint64_t block);

#endif
