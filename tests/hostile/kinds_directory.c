/* What directories can lie about. The lies are in output/alpha. */
#include <string.h>

#include "tests/hostile/kinds.h"

#define IMPOSSIBLE_NAME "a name in it that no file can have"
#define IN_TWO_PLACES	"the directory is in two places"
#define DAMAGED		"the directory is damaged"

/* Starts a new output/alpha. */
static void start_alpha(struct names *names, struct craft *craft)
{
	names_start(names, craft, craft_find(craft, "output/alpha"), craft_find(craft, "output"));
}

/* output/alpha with one entry, which leads to the good file output/victim. */
static void name_victim(struct craft *craft, const char *name, size_t length)
{
	uint32_t victim = craft_find(craft, "output/victim");
	struct names names;

	start_alpha(&names, craft);
	names_add(&names, victim, EXT2_FT_REG_FILE, name, length);
	names_end(&names);
}

#define NAME_KIND(kind, bytes)                                                                     \
	static void name_##kind(struct craft *craft)                                               \
	{                                                                                          \
		name_victim(craft, bytes, sizeof(bytes) - 1);                                      \
	}

NAME_KIND(dot, ".")
NAME_KIND(dotdot, "..")
NAME_KIND(slash, "a/b")
NAME_KIND(only_slash, "/")
NAME_KIND(climb, "../x")
NAME_KIND(absolute, "/etc/passwd")
NAME_KIND(nul, "a\0b")
NAME_KIND(ends_in_nul, "a\0")
NAME_KIND(empty, "")
NAME_KIND(terminal, "\33[2J\33]0;x\a\n\r\x9b")

/* Two files under one name; the first may be a link that the second would be written through. */
static void name_twice(struct craft *craft, const char *second, uint8_t second_type)
{
	uint32_t link = craft_find(craft, "output/link"), other = craft_find(craft, second);
	struct names names;

	start_alpha(&names, craft);
	names_add(&names, link, EXT2_FT_SYMLINK, "x", 1);
	names_add(&names, other, second_type, "x", 1);
	names_end(&names);
}

static void link_then_file(struct craft *craft)
{
	name_twice(craft, "output/victim", EXT2_FT_REG_FILE);
}

static void link_then_directory(struct craft *craft)
{
	name_twice(craft, "output/alpha/inner", EXT2_FT_DIR);
}

/* output/alpha with one entry of a number and type. */
static void point_alpha_to(struct craft *craft, uint32_t inode, uint8_t type)
{
	struct names names;

	start_alpha(&names, craft);
	names_add(&names, inode, type, "x", 1);
	names_end(&names);
}

static void cycle_to_itself(struct craft *craft)
{
	point_alpha_to(craft, craft_find(craft, "output/alpha"), EXT2_FT_DIR);
}

static void cycle_to_parent(struct craft *craft)
{
	point_alpha_to(craft, craft_find(craft, "output"), EXT2_FT_DIR);
}

static void cycle_from_below(struct craft *craft)
{
	uint32_t alpha = craft_find(craft, "output/alpha");
	struct names names;

	names_start(&names, craft, craft_find(craft, "output/alpha/inner"), alpha);
	names_add(&names, alpha, EXT2_FT_DIR, "again", 5);
	names_end(&names);
}

static void root_linked(struct craft *craft)
{
	point_alpha_to(craft, EXT2_ROOT_INO, EXT2_FT_DIR);
}

static void sibling_linked(struct craft *craft)
{
	point_alpha_to(craft, craft_find(craft, "output/bravo"), EXT2_FT_DIR);
}

static void inode_0(struct craft *craft)
{
	point_alpha_to(craft, 0, EXT2_FT_REG_FILE);
}

static void inode_1(struct craft *craft)
{
	point_alpha_to(craft, EXT2_BAD_INO, EXT2_FT_REG_FILE);
}

static void inode_of_journal(struct craft *craft)
{
	point_alpha_to(craft, EXT2_JOURNAL_INO, EXT2_FT_REG_FILE);
}

static void inode_beyond(struct craft *craft)
{
	point_alpha_to(craft, craft->inode_count + 1, EXT2_FT_REG_FILE);
}

static void inode_last(struct craft *craft)
{
	point_alpha_to(craft, 0xffffffff, EXT2_FT_REG_FILE);
}

static void inode_unused(struct craft *craft)
{
	point_alpha_to(craft, craft->inode_count, EXT2_FT_REG_FILE);
}

static void file_as_directory(struct craft *craft)
{
	point_alpha_to(craft, craft_find(craft, "output/victim"), EXT2_FT_DIR);
}

static void link_as_file(struct craft *craft)
{
	point_alpha_to(craft, craft_find(craft, "output/link"), EXT2_FT_REG_FILE);
}

static void type_unknown(struct craft *craft)
{
	point_alpha_to(craft, craft_find(craft, "output/victim"), EXT2_FT_UNKNOWN);
}

static void type_absurd(struct craft *craft)
{
	point_alpha_to(craft, craft_find(craft, "output/victim"), 0xff);
}

/* --- records --- */

/* A field of the entry of output/alpha/inner. */
static void set_entry(struct craft *craft, size_t field, size_t size, uint64_t value)
{
	uint32_t alpha = craft_find(craft, "output/alpha");

	craft_set(craft, craft_entry(craft, alpha, "inner") + field, size, value);
}

#define RECORD_KIND(kind, field, bytes, value)                                                     \
	static void record_##kind(struct craft *craft)                                             \
	{                                                                                          \
		set_entry(craft, offsetof(struct ext2_dir_entry_2, field), bytes, value);          \
	}

RECORD_KIND(0, rec_len, 2, 0)
RECORD_KIND(too_short, rec_len, 2, 8)
RECORD_KIND(unaligned, rec_len, 2, 4096 - 24 - 2)
RECORD_KIND(over_the_end, rec_len, 2, 4096)
RECORD_KIND(65535, rec_len, 2, 0xffff)
RECORD_KIND(name_too_long, name_len, 1, 255)
RECORD_KIND(ends_early, rec_len, 2, 4096 - 24 - 8)

/* A name that reaches beyond its record into the next one. */
static void name_over_next(struct craft *craft)
{
	uint32_t output = craft_find(craft, "output");

	craft_set(craft,
		  craft_entry(craft, output, "alpha") + offsetof(struct ext2_dir_entry_2, name_len),
		  1, 200);
}

/* --- the start, the size, the blocks --- */

static void wrong_dot(struct craft *craft)
{
	uint32_t alpha = craft_find(craft, "output/alpha");

	craft_set(craft, craft_entry(craft, alpha, "."), 4, EXT2_ROOT_INO);
}

static void wrong_dotdot(struct craft *craft)
{
	uint32_t alpha = craft_find(craft, "output/alpha");

	craft_set(craft, craft_entry(craft, alpha, ".."), 4, craft_find(craft, "output/bravo"));
}

static void no_dots(struct craft *craft)
{
	uint32_t alpha = craft_find(craft, "output/alpha");

	craft_set(craft, craft_entry(craft, alpha, ".") + 8, 2, 'a');
}

static void directory_over_table(struct craft *craft)
{
	uint32_t alpha = craft_find(craft, "output/alpha");

	craft_set(craft, craft_inode(craft, alpha) + EXTENT(start), 4,
		  craft_inode(craft, 1) / BLOCK_BYTES);
}

static void directory_over_another(struct craft *craft)
{
	uint32_t alpha = craft_find(craft, "output/alpha");
	uint32_t bravo = craft_find(craft, "output/bravo");

	craft_set(craft, craft_inode(craft, alpha) + EXTENT(start), 4,
		  craft_data(craft, bravo) / BLOCK_BYTES);
}

#define ALPHA_LIE(at, bytes, value) .lie = {"output/alpha", at, bytes, value}

const struct kind directory_kinds[] = {
	{"name_dot", .craft = name_dot, .read = IMPOSSIBLE_NAME},
	{"name_dotdot", .craft = name_dotdot, .read = IMPOSSIBLE_NAME},
	{"name_slash", .craft = name_slash, .read = IMPOSSIBLE_NAME},
	{"name_only_slash", .craft = name_only_slash, .read = IMPOSSIBLE_NAME},
	{"name_climb", .craft = name_climb, .read = IMPOSSIBLE_NAME},
	{"name_absolute", .craft = name_absolute, .read = IMPOSSIBLE_NAME},
	{"name_nul", .craft = name_nul, .read = IMPOSSIBLE_NAME},
	{"name_ends_in_nul", .craft = name_ends_in_nul, .read = IMPOSSIBLE_NAME},
	{"name_empty", .craft = name_empty, .read = IMPOSSIBLE_NAME},
	{"name_terminal", .craft = name_terminal, .read = FINE},
	{"name_over_next", .craft = name_over_next, .read = DAMAGED},
	{"link_then_file", .craft = link_then_file, .read = "a name in it twice"},
	{"link_then_directory", .craft = link_then_directory, .read = "a name in it twice"},

	{"cycle_to_itself", .craft = cycle_to_itself, .read = IN_TWO_PLACES},
	{"cycle_to_parent", .craft = cycle_to_parent, .read = IN_TWO_PLACES},
	{"cycle_from_below", .craft = cycle_from_below, .read = IN_TWO_PLACES},
	{"root_linked", .craft = root_linked, .read = IN_TWO_PLACES},
	{"sibling_linked", .craft = sibling_linked, .read = "does not start with",
	 .inspect = IN_TWO_PLACES, .collect = IN_TWO_PLACES},

	{"inode_0", .craft = inode_0, .read = FINE},
	{"inode_1", .craft = inode_1, .read = "inode 1: no file can have this number"},
	{"inode_of_journal", .craft = inode_of_journal, .read = "inode 8: no file"},
	{"inode_beyond", .craft = inode_beyond, .read = "no file can have this number"},
	{"inode_last", .craft = inode_last, .read = "inode 4294967295: no file"},
	{"inode_unused", .craft = inode_unused, .read = "it is not in use"},
	{"file_as_directory", .craft = file_as_directory, .read = "as another type"},
	{"link_as_file", .craft = link_as_file, .read = "as another type"},
	{"type_unknown", .craft = type_unknown, .read = "as another type"},
	{"type_absurd", .craft = type_absurd, .read = "as another type"},

	{"record_0", .craft = record_0, .read = DAMAGED},
	{"record_too_short", .craft = record_too_short, .read = DAMAGED},
	{"record_unaligned", .craft = record_unaligned, .read = DAMAGED},
	{"record_over_the_end", .craft = record_over_the_end, .read = DAMAGED},
	{"record_65535", .craft = record_65535, .read = DAMAGED},
	{"record_name_too_long", .craft = record_name_too_long, .read = IMPOSSIBLE_NAME},
	{"record_ends_early", .craft = record_ends_early, .read = DAMAGED},

	{"wrong_dot", .craft = wrong_dot, .read = "does not start with"},
	{"wrong_dotdot", .craft = wrong_dotdot, .read = "does not start with"},
	{"no_dots", .craft = no_dots, .read = "does not start with"},
	{"directory_size_0", ALPHA_LIE(INODE(i_size), 4, 0), .read = "impossible size"},
	{"directory_size_odd", ALPHA_LIE(INODE(i_size), 4, 4095), .read = "impossible size"},
	{"directory_size_4g", ALPHA_LIE(INODE(i_size_high), 4, 1), .read = "impossible size"},
	{"directory_with_hole", ALPHA_LIE(INODE(i_size), 4, 8192), .read = DAMAGED},
	{"directory_unwritten", ALPHA_LIE(EXTENT(len), 2, 0x8001), .read = DAMAGED},
	{"directory_over_table", .craft = directory_over_table, .read = DAMAGED},
	{"directory_over_another", .craft = directory_over_another, .read = "does not start"},
	{.name = NULL},
};
