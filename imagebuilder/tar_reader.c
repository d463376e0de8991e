#include "imagebuilder/tar_reader.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <string.h>

#include "imagebuilder/tar_acl.h"

#define BLOCK_BYTES   512
#define NANOS_PER_SEC 1000000000L

static const char *text_of(struct archive *archive)
{
	const char *text = archive_error_string(archive);

	return text ? text : "unknown error";
}

/* Names the place in the file as it lies there, which for a compressed one is approximate. */
static int fail_with(struct tar_reader *reader, const char *problem, struct error *error)
{
	const char *path = reader->entry ? tar_path(reader) : NULL;

	return error_set(error, "%s: near byte %" PRIu64 "%s%s%s: %s", reader->source->name,
			 decompress_offset(&reader->plain), path ? ", at '" : "", path ? path : "",
			 path ? "'" : "", problem);
}

static int fail(struct tar_reader *reader, struct error *error)
{
	return fail_with(reader, text_of(reader->archive), error);
}

static la_ssize_t read_plain(struct archive *archive, void *context, const void **bytes)
{
	struct tar_reader *reader = context;
	const char *problem = NULL;
	ssize_t got = decompress_read(&reader->plain, bytes, &problem);

	if (got < 0)
		archive_set_error(archive, EIO, "%s", problem);
	return got;
}

int tar_drain(struct tar_reader *reader, struct error *error)
{
	const char *problem = NULL;
	const void *bytes;
	ssize_t got;

	while ((got = decompress_read(&reader->plain, &bytes, &problem)) > 0)
		;
	if (got < 0)
		return fail_with(reader, problem, error);
	/* Padding behind the last member counts for the digest. */
	return byte_source_drain(reader->source, error);
}

/*
 * libarchive converts the names of pax headers into the locale's character set, which changes
 * some; what the "C" locale cannot express it leaves as it is, and that is what is wanted.
 */
static locale_t c_locale(void)
{
	static locale_t locale;

	if (!locale)
		locale = newlocale(LC_ALL_MASK, "C", NULL);
	return locale;
}

int tar_open(struct tar_reader *reader, struct byte_source *source, struct digest *plain_digest,
	     struct error *error)
{
	*reader = (struct tar_reader){
		.source = source,
		.plain = decompress_start(source, plain_digest),
		.archive = archive_read_new(),
	};
	if (!reader->archive || !c_locale())
		return error_set(error, "%s: out of memory", source->name);
	if (archive_read_support_format_tar(reader->archive))
		return error_set(error, "%s: %s", source->name, text_of(reader->archive));
	if (archive_read_open(reader->archive, reader, NULL, read_plain, NULL))
		return error_set(error, "%s: cannot be read as a tar archive: %s", source->name,
				 text_of(reader->archive));
	return 0;
}

void tar_close(struct tar_reader *reader)
{
	archive_read_free(reader->archive);
	decompress_end(&reader->plain);
	reader->archive = NULL;
}

/* A name that was left as it is makes a warning. Every other one says that something got lost. */
static bool is_harmless(struct archive *archive)
{
	return strstr(text_of(archive), "can't be converted from UTF-8 to current locale");
}

static int check_end(struct tar_reader *reader, struct error *error)
{
	uint64_t end = (uint64_t)archive_filter_bytes(reader->archive, 0);

	reader->entry = NULL;
	if (reader->needs_end_mark && end < reader->position + BLOCK_BYTES)
		return error_set(error,
				 "%s: cut off: it ends at byte %" PRIu64
				 " of the tar without the mark of its end",
				 reader->source->name, end);
	return 0;
}

static int read_header(struct tar_reader *reader)
{
	locale_t before = uselocale(c_locale());
	int result;

	/* What was not read of the last entry counts as read. */
	if (reader->entry && archive_read_data_skip(reader->archive) < ARCHIVE_WARN)
		result = ARCHIVE_FATAL;
	else {
		reader->position = (uint64_t)archive_filter_bytes(reader->archive, 0);
		result = archive_read_next_header(reader->archive, &reader->entry);
	}
	uselocale(before);
	return result;
}

int tar_next(struct tar_reader *reader, struct error *error)
{
	int result = read_header(reader);

	if (result == ARCHIVE_EOF)
		return check_end(reader, error);
	if (result == ARCHIVE_WARN && is_harmless(reader->archive))
		result = ARCHIVE_OK;
	if (result != ARCHIVE_OK)
		return fail(reader, error);
	if (!tar_path(reader))
		return error_set(error, "%s: near byte %" PRIu64 ": an entry without a name",
				 reader->source->name, reader->position);
	if (archive_entry_size(reader->entry) < 0)
		return fail_with(reader, "its size is negative", error);
	return 1;
}

const char *tar_path(const struct tar_reader *reader)
{
	return archive_entry_pathname(reader->entry);
}

const char *tar_link_target(const struct tar_reader *reader)
{
	return archive_entry_hardlink(reader->entry);
}

const char *tar_symlink_target(const struct tar_reader *reader)
{
	const char *target = archive_entry_symlink(reader->entry);

	return target ? target : "";
}

uint64_t tar_size(const struct tar_reader *reader)
{
	return (uint64_t)archive_entry_size(reader->entry);
}

dev_t tar_device(const struct tar_reader *reader)
{
	return archive_entry_rdev(reader->entry);
}

/*
 * "-1.5" in an archive is one and a half seconds before 1970; libarchive makes -1 and +0.5 of it.
 * Between -1 and 0 it also loses the sign, which cannot be told from here.
 */
static struct timespec time_of(struct archive_entry *entry)
{
	struct timespec time = {archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)};

	if (time.tv_sec < 0 && time.tv_nsec > 0) {
		time.tv_sec--;
		time.tv_nsec = NANOS_PER_SEC - time.tv_nsec;
	}
	return time;
}

int tar_meta(const struct tar_reader *reader, struct fsmeta *meta, struct error *error)
{
	struct archive_entry *entry = reader->entry;
	int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);

	/* The highest number stands for "none" in Linux. */
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
		return error_set(error, "its owner %" PRId64 ":%" PRId64 " is out of range", uid,
				 gid);
	*meta = (struct fsmeta){
		.mode = tar_acl_mode(entry),
		.uid = (uid_t)uid,
		.gid = (gid_t)gid,
		.mtime = time_of(entry),
	};
	return 0;
}

int tar_next_piece(struct tar_reader *reader, struct tar_piece *piece, struct error *error)
{
	la_int64_t offset;
	int result = archive_read_data_block(reader->archive, &piece->bytes, &piece->size, &offset);

	if (result == ARCHIVE_EOF)
		return 0;
	if (result != ARCHIVE_OK)
		return fail(reader, error);
	piece->offset = (uint64_t)offset;
	return 1;
}

int tar_xattrs(const struct tar_reader *reader, tar_set_xattr *set, void *context,
	       struct error *error)
{
	const char *name;
	const void *value;
	size_t size;

	if (tar_acls(reader->entry, set, context, error))
		return -1;
	archive_entry_xattr_reset(reader->entry);
	while (archive_entry_xattr_next(reader->entry, &name, &value, &size) == ARCHIVE_OK)
		if (set(context, name, value, size, error))
			return -1;
	return 0;
}
