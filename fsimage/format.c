#include "fsimage/format.h"

#include <ext2fs/ext2_fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static const struct {
	mode_t mode;
	uint8_t entry_type;
} types[] = {
	{S_IFREG, EXT2_FT_REG_FILE}, {S_IFDIR, EXT2_FT_DIR},  {S_IFCHR, EXT2_FT_CHRDEV},
	{S_IFBLK, EXT2_FT_BLKDEV},   {S_IFIFO, EXT2_FT_FIFO}, {S_IFSOCK, EXT2_FT_SOCK},
	{S_IFLNK, EXT2_FT_SYMLINK},
};

uint8_t format_entry_type(mode_t mode)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (types[i].mode == (mode & S_IFMT))
			return types[i].entry_type;
	}
	return EXT2_FT_UNKNOWN;
}

/* The two extra bits count how often 2^32 seconds are added to the signed 32-bit number. */
struct format_time format_time(struct timespec time)
{
	const int64_t earliest = INT32_MIN, latest = INT32_MIN + (1LL << 34) - 1;
	int64_t second = time.tv_sec;

	if (second < earliest)
		second = earliest;
	if (second > latest)
		second = latest;
	return (struct format_time){
		.seconds = (uint32_t)second,
		.extra = (uint32_t)time.tv_nsec << 2 | (((second - (int32_t)second) >> 32) & 3),
	};
}

struct timespec parse_time(struct format_time stored)
{
	return (struct timespec){
		.tv_sec = (int32_t)stored.seconds + ((int64_t)(stored.extra & 3) << 32),
		.tv_nsec = stored.extra >> 2,
	};
}

/* Small numbers go into the first word, as in ext2; others into the second. */
void format_device(dev_t device, uint32_t words[2])
{
	uint32_t major_id = major(device), minor_id = minor(device);

	words[0] = words[1] = 0;
	if (major_id < 256 && minor_id < 256)
		words[0] = major_id << 8 | minor_id;
	else
		words[1] = (minor_id & 0xff) | major_id << 8 | (minor_id & ~0xffU) << 12;
}

void parse_device(const uint32_t words[2], uint32_t *major_id, uint32_t *minor_id)
{
	if (words[0]) {
		*major_id = words[0] >> 8 & 0xff;
		*minor_id = words[0] & 0xff;
	} else {
		*major_id = words[1] >> 8 & 0xfff;
		*minor_id = (words[1] & 0xff) | (words[1] >> 12 & 0xfff00);
	}
}
