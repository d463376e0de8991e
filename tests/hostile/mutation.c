#include "tests/hostile/mutation.h"

#include <endian.h>
#include <err.h>
#include <string.h>
#include <sys/stat.h>

/* --- random numbers: splitmix64 --- */

static uint64_t next_number(struct mutation *m)
{
	uint64_t z = m->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint64_t below(struct mutation *m, uint64_t bound)
{
	return next_number(m) % bound;
}

/* --- what there is to change --- */

static void add_region(struct mutation *m, uint64_t offset, size_t size, enum region_kind kind)
{
	if (m->region_count == REGIONS_MAX)
		errx(1, "too many regions");
	m->regions[m->region_count++] = (struct region){offset, size, kind};
}

/* Files with an extent tree of two levels, and of three. */
static void break_up(struct craft *craft, const char *path, uint32_t pieces)
{
	struct extent extents[2000];
	uint32_t inode = craft_find(craft, path), start = craft_blocks(craft, 8);

	for (uint32_t i = 0; i < pieces; i++)
		extents[i] = (struct extent){2 * i, start + i % 8, i < 8 ? 1 : 0x8001};
	craft_put_inode(craft, inode, S_IFREG | 0644, 2ULL * pieces * BLOCK_BYTES, 0, 0);
	craft_map(craft, inode, extents, pieces);
}

/* A directory of three blocks. */
static void add_names(struct craft *craft)
{
	uint32_t victim = craft_find(craft, "output/victim");
	struct names names;
	char name[64];

	names_start(&names, craft, craft_find(craft, "output/bravo"), craft_find(craft, "output"));
	for (unsigned i = 0; i < 10; i++) {
		memset(name, 'a' + (int)i, sizeof(name));
		names_add(&names, victim, EXT2_FT_REG_FILE, name, 1 + 6 * i);
	}
	names_end(&names);
}

static void add_directories(struct mutation *m)
{
	static const char *const paths[] = {"",
					    "input",
					    "output",
					    "output/alpha",
					    "output/alpha/inner",
					    "output/attributed",
					    "output/bravo"};
	struct craft *craft = m->craft;

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		add_region(m, craft_data(craft, craft_find(craft, paths[i])), BLOCK_BYTES,
			   REGION_ENTRIES);
}

static uint64_t block_in(const struct craft *craft, const char *path, size_t field)
{
	return craft_number(craft, craft_inode(craft, craft_find(craft, path)) + field, 4) *
	       BLOCK_BYTES;
}

void mutation_start(struct mutation *m, struct craft *craft)
{
	const size_t leaf = INODE(i_block) + sizeof(struct ext3_extent_header) +
			    offsetof(struct ext3_extent_idx, ei_leaf);

	*m = (struct mutation){.craft = craft};
	break_up(craft, "output/file", 20);
	break_up(craft, "output/twin", 1500);
	add_names(craft);
	add_region(m, 1024, 0x280, REGION_WORDS);
	add_region(m, BLOCK_BYTES, craft->group_count * sizeof(struct ext2_group_desc),
		   REGION_WORDS);
	/* Those in use, and one that is not; most of the lies are here. */
	for (int i = 0; i < 4; i++)
		add_region(m, craft_inode(craft, EXT2_ROOT_INO),
			   (craft->next_inode - 1) * (size_t)INODE_BYTES, REGION_INODES);
	add_directories(m);
	add_region(m, block_in(craft, "output/file", leaf), 256, REGION_WORDS);
	add_region(m, block_in(craft, "output/twin", leaf), 128, REGION_WORDS);
	add_region(m, block_in(craft, "output/long-link", EXTENT(start)), 128, REGION_WORDS);
	add_region(m, block_in(craft, "output/attributed", INODE(i_file_acl)), BLOCK_BYTES,
		   REGION_XATTRS);
}

/* --- values --- */

static uint64_t changed_value(struct mutation *m, uint64_t before, size_t size)
{
	static const uint64_t absurd[] = {0,	  1,	  2,	      11,	  255,	 0x7fff,
					  0x8000, 0x8001, 0x7fffffff, 0x80000000, 4096,	 4095,
					  65535,  ~0ULL,  ~0ULL - 3,  1ULL << 40, 32768, 12};
	const struct craft *craft = m->craft;

	switch (below(m, 8)) {
	case 0:
		return before ^ 1ULL << below(m, 8 * size);
	case 1:
		return before + below(m, 17) - 8;
	case 2:
		return absurd[below(m, sizeof(absurd) / sizeof(absurd[0]))];
	case 3:
		return next_number(m);
	case 4: /* an inode */
		return 1 + below(m, craft->next_inode + 2);
	case 5: /* a block */
		return below(m, craft->block_count + 2);
	case 6: /* what stands somewhere else */
	{
		const struct region *other = &m->regions[below(m, m->region_count)];

		return craft_number(craft, other->offset + below(m, other->size / size) * size,
				    size);
	}
	default:
		return before << below(m, 16);
	}
}

static void change(struct mutation *m, uint64_t offset, size_t size, uint64_t value)
{
	if (m->alteration_count == ALTERATIONS_MAX)
		return;
	m->alterations[m->alteration_count++] =
		(struct alteration){offset, craft_number(m->craft, offset, 8)};
	craft_set(m->craft, offset, size, value);
}

static void change_number(struct mutation *m, uint64_t offset, size_t size)
{
	change(m, offset, size, changed_value(m, craft_number(m->craft, offset, size), size));
}

/* --- each kind of region --- */

static void change_words(struct mutation *m, const struct region *region)
{
	size_t size = (size_t)1 << below(m, 4);

	change_number(m, region->offset + below(m, region->size / size) * size, size);
}

/* A field of an inode that the reader looks at, or any word of it. */
static void change_inode(struct mutation *m, const struct region *region)
{
	static const struct {
		size_t offset, size;
	} fields[] = {
		{INODE(i_mode), 2},
		{INODE(i_size), 4},
		{INODE(i_size_high), 4},
		{INODE(i_links_count), 2},
		{INODE(i_flags), 4},
		{INODE(i_file_acl), 4},
		{INODE(i_mtime), 4},
		{INODE(i_mtime_extra), 4},
		{INODE(i_extra_isize), 2},
		{TREE(magic), 2},
		{TREE(entries), 2},
		{TREE(depth), 2},
		{EXTENT(block), 4},
		{EXTENT(len), 2},
		{EXTENT(start), 4},
		{EXTENT(start_hi), 2},
		{EXTENT(block) + 12, 4},
		{EXTENT(len) + 12, 2},
		{160, 4},
		{164, 2},
		{166, 2},
		{168, 4},
		{172, 4},
	};
	uint64_t inode = region->offset + below(m, region->size / INODE_BYTES) * INODE_BYTES;
	size_t which = below(m, 3 * sizeof(fields) / sizeof(fields[0]));

	if (which < 2 * sizeof(fields) / sizeof(fields[0]))
		change_number(m, inode + fields[which / 2].offset, fields[which / 2].size);
	else
		change_words(m, &(struct region){inode, INODE_BYTES, REGION_WORDS});
}

/* The entries that can be reached from the block's start. */
static uint64_t pick_entry(struct mutation *m, const struct region *region)
{
	uint64_t offset = 0, picked = 0;

	for (unsigned seen = 1; offset + 12 <= region->size; seen++) {
		uint64_t length = craft_number(m->craft, region->offset + offset + 4, 2);

		if (below(m, seen) == 0)
			picked = offset;
		if (length < 8)
			break;
		offset += length;
	}
	return region->offset + picked;
}

static void change_entry(struct mutation *m, const struct region *region)
{
	static const char names[][9] = {"..", ".",	"../x",	 "a/b",	 "/etc", "a\0b",
					"x",  "\n\33[", "input", "twin", "file"};
	uint64_t entry = pick_entry(m, region);
	const char *name = names[below(m, sizeof(names) / sizeof(names[0]))];
	uint64_t bytes;

	switch (below(m, 6)) {
	case 0:
		change_number(m, entry, 4);
		break;
	case 1:
		change_number(m, entry + 4, 2);
		break;
	case 2:
		change_number(m, entry + 6, 1);
		break;
	case 3:
		change(m, entry + 7, 1, below(m, 9));
		break;
	case 4:
		memcpy(&bytes, name, sizeof(bytes));
		change(m, entry + 8, 4, le64toh(bytes));
		change(m, entry + 6, 1, strlen(name));
		break;
	default:
		change_words(m, region);
	}
}

static void change_xattr(struct mutation *m, const struct region *region)
{
	/* Header and the first entry, mostly. */
	struct region start = {region->offset, 64, REGION_WORDS};

	change_words(m, below(m, 4) ? &start : region);
}

/* --- checksums --- */

/* The hash of an attribute, as the kernel's ext4_xattr_hash_entry() makes it. */
static uint32_t entry_hash(const uint8_t *name, size_t name_bytes, const uint8_t *value,
			   size_t value_bytes)
{
	uint32_t hash = 0;

	for (size_t i = 0; i < name_bytes; i++)
		hash = (hash << 5 ^ hash >> 27) ^ name[i];
	for (size_t i = 0; i + 4 <= (value_bytes + 3) / 4 * 4; i += 4) {
		uint32_t word;

		memcpy(&word, value + i, sizeof(word));
		hash = (hash << 16 ^ hash >> 16) ^ le32toh(word);
	}
	return hash;
}

/* Of all entries whose value lies in the block, as far as entries can be told. */
static void seal_xattrs(struct mutation *m, const struct region *region)
{
	uint8_t block[BLOCK_BYTES];

	craft_read(m->craft, region->offset, block, sizeof(block));
	for (size_t at = 32; at + 16 <= sizeof(block);) {
		const struct ext2_ext_attr_entry *entry = (const void *)(block + at);
		size_t value_offset = le16toh(entry->e_value_offs);
		size_t value_bytes = le32toh(entry->e_value_size);

		if (!entry->e_name_len && !entry->e_name_index && !value_offset)
			return;
		if (at + 16 + entry->e_name_len > sizeof(block))
			return;
		if (value_bytes < sizeof(block) && value_offset + value_bytes + 3 < sizeof(block))
			change(m, region->offset + at + 12, 4,
			       entry_hash(block + at + 16, entry->e_name_len, block + value_offset,
					  value_bytes));
		at += (16 + (size_t)entry->e_name_len + 3) / 4 * 4;
	}
}

static void seal_super(struct mutation *m)
{
	uint32_t features = craft_number(m->craft, SUPER(s_feature_ro_compat), 4);

	if (!(features & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM))
		return;
	change(m, SUPER(s_checksum), 4, 0);
	craft_seal_super(m->craft);
}

void mutation_apply(struct mutation *m, uint64_t seed)
{
	m->state = seed;
	m->alteration_count = 0;
	for (uint64_t left = 1 + below(m, below(m, 4) ? 3 : 12); left; left--) {
		const struct region *region = &m->regions[below(m, m->region_count)];

		if (region->kind == REGION_WORDS)
			change_words(m, region);
		else if (region->kind == REGION_INODES)
			change_inode(m, region);
		else if (region->kind == REGION_ENTRIES)
			change_entry(m, region);
		else
			change_xattr(m, region);
	}
	if (seed % 2)
		return;
	for (size_t i = 0; i < m->region_count; i++)
		if (m->regions[i].kind == REGION_XATTRS)
			seal_xattrs(m, &m->regions[i]);
	seal_super(m);
}

/* The last change first, for some are made twice. */
void mutation_undo(struct mutation *m)
{
	while (m->alteration_count) {
		const struct alteration *last = &m->alterations[--m->alteration_count];

		craft_set(m->craft, last->offset, 8, last->before);
	}
}
