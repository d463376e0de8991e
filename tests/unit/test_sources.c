/* What images are made from: tar archives and OCI layouts, whole, odd, damaged and hostile. */
#include <archive.h>
#include <archive_entry.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "imagebuilder/digest.h"
#include "imagebuilder/image.h"
#include "jobdisk/layout.h"
#include "tests/unit/fsimage_helpers.h"

/* --- archives --- */

#define MTIME 1000

static struct archive *tar_new(const char *path)
{
	struct archive *tar = archive_write_new();

	assert_int_equal(archive_write_set_format_pax_restricted(tar), ARCHIVE_OK);
	assert_int_equal(archive_write_open_filename(tar, path), ARCHIVE_OK);
	return tar;
}

static void tar_end(struct archive *tar)
{
	assert_int_equal(archive_write_free(tar), ARCHIVE_OK);
}

static struct archive_entry *entry_new(const char *path, mode_t mode)
{
	struct archive_entry *entry = archive_entry_new();

	archive_entry_set_pathname(entry, path);
	archive_entry_set_mode(entry, mode);
	archive_entry_set_mtime(entry, MTIME, 0);
	archive_entry_set_size(entry, 0);
	return entry;
}

static void put(struct archive *tar, struct archive_entry *entry, const char *text)
{
	if (text)
		archive_entry_set_size(entry, (la_int64_t)strlen(text));
	if (archive_write_header(tar, entry) != ARCHIVE_OK)
		fail_msg("%s", archive_error_string(tar));
	if (text)
		assert_int_equal(archive_write_data(tar, text, strlen(text)), strlen(text));
	archive_entry_free(entry);
}

static void put_file(struct archive *tar, const char *path, const char *text)
{
	put(tar, entry_new(path, S_IFREG | 0644), text);
}

static void put_directory(struct archive *tar, const char *path)
{
	put(tar, entry_new(path, S_IFDIR | 0755), NULL);
}

static void put_symlink(struct archive *tar, const char *path, const char *target)
{
	struct archive_entry *entry = entry_new(path, S_IFLNK | 0777);

	archive_entry_set_symlink(entry, target);
	put(tar, entry, NULL);
}

static void put_link(struct archive *tar, const char *path, const char *target)
{
	struct archive_entry *entry = entry_new(path, S_IFREG | 0644);

	archive_entry_set_hardlink(entry, target);
	put(tar, entry, NULL);
}

/* --- images --- */

#define FROM(...) ((const char *const[]){__VA_ARGS__, NULL})

static int build(const char *output, const char *const *from)
{
	uint8_t kernel[0x400] = {0};
	struct image_build_options options = {
		.output = output, .from = from, .kernel = "kernel", .init = "init"};

	/* The header of a bzImage for x86_64. */
	memcpy(kernel + 0x202, "HdrS\x0f\x02", 6);
	memcpy(kernel + 0x20e, "\x00\x01", 2);
	kernel[0x236] = 1;
	memcpy(kernel + 0x300, "6.1.0 ", 7);
	scratch_write("kernel", kernel, sizeof(kernel));
	scratch_write_text("init", "init");
	return image_build(&options, &test_error);
}

/* The root of an image made from one source, after a check by e2fsck. */
static struct opened build_root(const char *const *from)
{
	assert_success(build("image", from));
	assert_fsck_clean("image/root.img");
	return open_image("image/root.img");
}

static void assert_text(struct opened *root, const char *path, const char *expected)
{
	char text[64] = "";
	struct fsstat stat = stat_in(root->image, path);

	assert_true(S_ISREG(stat.mode));
	assert_int_equal(
		fsimage_read(root->image, stat.inode, 0, text, sizeof(text) - 1, &test_error),
		strlen(expected));
	assert_string_equal(text, expected);
}

static void assert_absent(struct opened *root, const char *path)
{
	struct fsstat stat;

	if (fsimage_lookup(root->image, path, &stat, &test_error) != 1)
		fail_msg("%s is there", path);
}

/* The error of a build, of which nothing must stay. */
static void assert_refused(const char *const *from, const char *expected)
{
	assert_error(build("refused", from), expected);
	assert_int_equal(access("refused", F_OK), -1);
	assert_int_equal(run("ls -d refused.* 2>/dev/null"), 2);
}

/* --- tar --- */

static void metadata_is_the_archives(void **state)
{
	struct archive *tar = tar_new("a.tar");
	struct archive_entry *entry = entry_new("./dir/", S_IFDIR | 01777);

	(void)state;
	archive_entry_set_uid(entry, 70000);
	archive_entry_set_gid(entry, 3000000000);
	archive_entry_set_mtime(entry, 1234567890, 123456789);
	put(tar, entry, NULL);
	entry = entry_new("/dir/setuid", S_IFREG | 04755);
	archive_entry_set_uid(entry, 12);
	archive_entry_set_mtime(entry, -86400, 0);
	archive_entry_xattr_add_entry(entry, "user.color", "blue", 4);
	archive_entry_xattr_add_entry(entry, "security.capability", "\1\0\0\2\0\4\0\0\0\0\0\0", 12);
	put(tar, entry, "text");
	put_symlink(tar, "link", "dir/setuid");
	put_link(tar, "dir/other", "./dir/setuid");
	entry = entry_new("null", S_IFCHR | 0666);
	archive_entry_set_rdevmajor(entry, 1);
	archive_entry_set_rdevminor(entry, 3);
	put(tar, entry, NULL);
	put(tar, entry_new("fifo", S_IFIFO | 0600), NULL);
	tar_end(tar);

	struct opened root = build_root(FROM("a.tar"));
	struct fsstat stat = stat_in(root.image, "dir");
	assert_int_equal(stat.mode, S_IFDIR | 01777);
	assert_int_equal(stat.uid, 70000);
	assert_int_equal(stat.gid, 3000000000);
	assert_int_equal(stat.mtime.tv_sec, 1234567890);
	assert_int_equal(stat.mtime.tv_nsec, 123456789);
	stat = stat_in(root.image, "dir/setuid");
	assert_int_equal(stat.mode, S_IFREG | 04755);
	assert_int_equal(stat.uid, 12);
	assert_int_equal(stat.links, 2);
	assert_int_equal(stat.mtime.tv_sec, -86400);
	assert_int_equal(stat_in(root.image, "dir/other").inode, stat.inode);
	assert_text(&root, "dir/other", "text");
	stat = stat_in(root.image, "null");
	assert_int_equal(stat.mode, S_IFCHR | 0666);
	assert_int_equal(stat.device_major, 1);
	assert_int_equal(stat.device_minor, 3);
	assert_int_equal(stat_in(root.image, "fifo").mode, S_IFIFO | 0600);
	assert_int_equal(stat_in(root.image, "link").mode, S_IFLNK | 0777);
	close_image(&root);
	assert_int_equal(run("debugfs -R 'ea_get /dir/setuid user.color' image/root.img 2>&1 | "
			     "grep -q blue"),
			 0);
	assert_int_equal(run("debugfs -R 'ea_list /dir/setuid' image/root.img 2>&1 | "
			     "grep -q 'security.capability (12)'"),
			 0);
}

/* libarchive reads -1.5 as -1 + 0.5. */
static void fractions_before_1970_are_decimals(void **state)
{
	(void)state;
	if (run("touch -d '1969-12-31 23:59:58.25 UTC' old && tar --format=posix -cf a.tar old"))
		skip();
	struct opened root = build_root(FROM("a.tar"));
	struct fsstat stat = stat_in(root.image, "old");
	assert_int_equal(stat.mtime.tv_sec, -2);
	assert_int_equal(stat.mtime.tv_nsec, 250000000);
	close_image(&root);
}

static void add_acl(struct archive_entry *entry, int type, int permissions, int tag, int id)
{
	assert_int_equal(archive_entry_acl_add_entry(entry, type, permissions, tag, id, NULL),
			 ARCHIVE_OK);
}

static void access_control_lists_are_kept(void **state)
{
	struct archive *tar = tar_new("a.tar");
	struct archive_entry *entry = entry_new("dir", S_IFDIR | 0750);
	const int types[] = {ARCHIVE_ENTRY_ACL_TYPE_ACCESS, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT};

	(void)state;
	for (int i = 0; i < 2; i++) {
		add_acl(entry, types[i], 7, ARCHIVE_ENTRY_ACL_USER_OBJ, -1);
		add_acl(entry, types[i], 4, ARCHIVE_ENTRY_ACL_USER, 2000);
		add_acl(entry, types[i], 6, ARCHIVE_ENTRY_ACL_USER, 1000);
		add_acl(entry, types[i], 5, ARCHIVE_ENTRY_ACL_GROUP_OBJ, -1);
		add_acl(entry, types[i], 7, ARCHIVE_ENTRY_ACL_MASK, -1);
		add_acl(entry, types[i], 0, ARCHIVE_ENTRY_ACL_OTHER, -1);
	}
	put(tar, entry, NULL);
	tar_end(tar);

	struct opened root = build_root(FROM("a.tar"));
	/* The mask is what ls shows as the group's permissions. */
	assert_int_equal(stat_in(root.image, "dir").mode, S_IFDIR | 0770);
	close_image(&root);
	/* As ext4 keeps it: version 1, then tag and permissions, with ids where there are some. */
	assert_int_equal(run("debugfs -R 'ea_list /dir' image/root.img 2>&1 | grep -cx "
			     "'  system.posix_acl_[a-z]* (36) = 01 00 00 00 01 00 07 00 "
			     "02 00 06 00 e8 03 00 00 02 00 04 00 d0 07 00 00 "
			     "04 00 05 00 10 00 07 00 20 00 00 00 ' | grep -qx 2"),
			 0);
}

static void acl_of_names_is_refused(void **state)
{
	struct archive *tar = tar_new("a.tar");
	struct archive_entry *entry = entry_new("file", S_IFREG | 0640);

	(void)state;
	archive_entry_acl_add_entry(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 6, ARCHIVE_ENTRY_ACL_USER,
				    -1, "lisa");
	add_acl(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, 6, ARCHIVE_ENTRY_ACL_MASK, -1);
	put(tar, entry, "x");
	tar_end(tar);
	assert_refused(FROM("a.tar"), "a.tar: entry 'file': its access control list names 'lisa'");
}

static void holes_stay_holes(void **state)
{
	(void)state;
	assert_int_equal(run("truncate -s 1G sparse && printf middle | "
			     "dd of=sparse bs=1 seek=500000000 conv=notrunc 2>dd.log && "
			     "tar --format=posix -Scf a.tar sparse"),
			 0);
	struct opened root = build_root(FROM("a.tar"));
	struct fsstat stat = stat_in(root.image, "sparse");
	char text[8] = "";
	assert_int_equal(stat.size_bytes, 1 << 30);
	assert_int_equal(fsimage_read(root.image, stat.inode, 500000000, text, 6, &test_error), 6);
	assert_string_equal(text, "middle");
	assert_int_equal(fsimage_read(root.image, stat.inode, 400000000, text, 6, &test_error), 6);
	assert_memory_equal(text, "\0\0\0\0\0", 6);
	close_image(&root);
	size_t size;
	free(scratch_read("image/root.img", &size));
	assert_true(size < 16 << 20);
}

static void names_are_bytes(void **state)
{
	static const char *const names[] = {"e\xcc\x81", "\xc3\xa9", "\xff\xfe", "new\nline",
					    "a\\b"};
	char command[256];

	(void)state;
	for (int posix = 0; posix < 2; posix++) {
		assert_int_equal(run("rm -rf names image && mkdir names"), 0);
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			snprintf(command, sizeof(command), "names/%s", names[i]);
			scratch_write_text(command, names[i]);
		}
		assert_int_equal(run("tar --format=%s -cf a.tar names", posix ? "posix" : "gnu"),
				 0);
		struct opened root = build_root(FROM("a.tar"));
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
			snprintf(command, sizeof(command), "names/%s", names[i]);
			assert_text(&root, command, names[i]);
		}
		close_image(&root);
	}
}

static void later_entries_win(void **state)
{
	struct archive *tar = tar_new("a.tar");

	(void)state;
	put_file(tar, "twice", "1");
	put_link(tar, "kept", "twice");
	put_file(tar, "./twice", "2");
	put_file(tar, "dir/file", "1");
	put_file(tar, "was_directory/file", "1");
	put_file(tar, "was_directory", "2");
	put_file(tar, "was_file", "1");
	put_directory(tar, "was_file");
	put_file(tar, "was_file/new", "2");
	struct archive_entry *entry = entry_new("dir", S_IFDIR | 0700);
	archive_entry_xattr_add_entry(entry, "user.first", "1", 1);
	put(tar, entry, NULL);
	entry = entry_new("dir", S_IFDIR | 0711);
	archive_entry_xattr_add_entry(entry, "user.second", "2", 1);
	put(tar, entry, NULL);
	put_link(tar, "twice", "twice");
	tar_end(tar);

	struct opened root = build_root(FROM("a.tar"));
	char value[4];
	assert_text(&root, "twice", "2");
	assert_text(&root, "kept", "1");
	assert_text(&root, "dir/file", "1");
	assert_text(&root, "was_directory", "2");
	assert_text(&root, "was_file/new", "2");
	struct fsstat stat = stat_in(root.image, "dir");
	assert_int_equal(stat.mode, S_IFDIR | 0711);
	assert_int_equal(
		fsimage_getxattr(root.image, stat.inode, "user.first", value, 4, &test_error), 0);
	assert_int_equal(
		fsimage_getxattr(root.image, stat.inode, "user.second", value, 4, &test_error), 1);
	close_image(&root);
}

static void links_on_the_way_stay_in_the_tree(void **state)
{
	struct archive *tar = tar_new("a.tar");

	(void)state;
	put_directory(tar, "usr/bin");
	put_symlink(tar, "bin", "usr/bin");
	put_file(tar, "bin/tool", "relative");
	put_symlink(tar, "absolute", "/usr/lib");
	put_file(tar, "absolute/library", "absolute");
	put_symlink(tar, "usr/up", "../../../../out");
	put_file(tar, "usr/up/file", "up");
	put_link(tar, "bin/other", "bin/tool");
	tar_end(tar);

	struct opened root = build_root(FROM("a.tar"));
	assert_text(&root, "usr/bin/tool", "relative");
	assert_text(&root, "usr/bin/other", "relative");
	assert_text(&root, "usr/lib/library", "absolute");
	assert_text(&root, "out/file", "up");
	assert_true(S_ISLNK(stat_in(root.image, "bin").mode));
	/* Made on the way, with nobody's time. */
	assert_int_equal(stat_in(root.image, "usr/lib").mode, S_IFDIR | 0755);
	assert_int_equal(stat_in(root.image, "usr/lib").mtime.tv_sec, 0);
	close_image(&root);
	assert_int_equal(access("../out", F_OK), -1);
}

static void hostile_entries_are_refused_by_name(void **state)
{
	static const struct {
		const char *path, *target; /* TARGET: of a hard link */
		const char *expected;
	} cases[] = {
		{"../escape", NULL, "entry '../escape': leads out of its directory by '..'"},
		{"a/../../escape", NULL, "entry 'a/../../escape': leads out of"},
		{"link", "../escape", "entry 'link': its other name '../escape': leads out of"},
		{"link", "absent", "entry 'link': it is another name of 'absent', which is not"},
		{"link", "dir", "entry 'link': it is another name of 'dir', which is not"},
		{"dir", "dir/file", "entry 'dir': it replaces the directory of its other name"},
		{"dir/file/below", NULL, "entry 'dir/file/below': 'file', on the way, is not a"},
		{"loop/file", NULL, "entry 'loop/file': more than 40 symlinks on the way"},
		{".", NULL, "entry '.': the root can only be a directory"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct archive *tar = tar_new("a.tar");
		put_file(tar, "dir/file", "1");
		put_symlink(tar, "loop", "loop");
		if (cases[i].target)
			put_link(tar, cases[i].path, cases[i].target);
		else
			put_file(tar, cases[i].path, "hostile");
		tar_end(tar);
		assert_refused(FROM("a.tar"), cases[i].expected);
	}
}

/* Changes the first header of an archive, and its checksum. */
static void patch_header(const char *path, uint64_t offset, const void *bytes, size_t size)
{
	unsigned sum = 0;
	char checksum[9] = "        ";

	patch(path, offset, bytes, size);
	patch(path, 148, checksum, 8);
	unsigned char *header = (unsigned char *)scratch_read(path, NULL);
	for (size_t i = 0; i < 512; i++)
		sum += header[i];
	free(header);
	snprintf(checksum, sizeof(checksum), "%06o", sum);
	patch(path, 148, checksum, 7);
}

static void absurd_sizes_and_owners_are_refused(void **state)
{
	struct archive *tar = tar_new("a.tar");
	struct archive_entry *entry = entry_new("file", S_IFREG | 0644);
	char name[512];

	(void)state;
	archive_entry_set_uid(entry, 0xffffffff);
	put(tar, entry, "x");
	tar_end(tar);
	assert_refused(FROM("a.tar"),
		       "a.tar: entry 'file': its owner 4294967295:0 is out of range");

	tar = tar_new("a.tar");
	memset(name, 'n', 256), name[256] = '\0';
	put_file(tar, name, "x");
	tar_end(tar);
	assert_refused(FROM("a.tar"), "has a name of 256 bytes, more than 255");

	/* A file of four exabytes that is a hole but for its first byte. */
	tar = tar_new("a.tar");
	entry = entry_new("file", S_IFREG | 0644);
	archive_entry_set_size(entry, 1LL << 62);
	archive_entry_sparse_add_entry(entry, 0, 1);
	assert_int_equal(archive_write_header(tar, entry), ARCHIVE_OK);
	assert_int_equal(archive_write_data(tar, "x", 1), 1);
	archive_entry_free(entry);
	tar_end(tar);
	assert_refused(FROM("a.tar"), "refused/root.img: 'file' is larger than 16 TiB");

	/* A sparse one in GNU's old format, of a negative size. */
	tar = tar_new("a.tar");
	put_file(tar, "file", "");
	tar_end(tar);
	patch("a.tar", 257, "ustar  ", 8);
	patch("a.tar", 156, "S", 1);
	patch_header("a.tar", 483, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
	assert_refused(FROM("a.tar"), "a.tar: near byte 0, at 'file': its size is negative");

	/* One that says so and ends. */
	tar = tar_new("a.tar");
	put_file(tar, "file", "x");
	tar_end(tar);
	patch_header("a.tar", 124, "\x80\0\0\0\x0f\xff\xff\xff\xff\xff\xff\xff", 12);
	assert_refused(FROM("a.tar"), "a.tar: near byte ");
}

/* Every cut of an archive, also one between two entries, plain or compressed. */
static void truncated_archives_are_refused(void **state)
{
	static const char *const filters[] = {"cat", "gzip", "xz", "zstd", "bzip2"};
	struct archive *tar = tar_new("a.tar");
	size_t size;

	(void)state;
	put_file(tar, "first", "1");
	put_directory(tar, "second");
	put_file(tar, "third", "3");
	tar_end(tar);
	char *bytes = scratch_read("a.tar", &size);
	for (size_t cut = 0; cut < 5 * 512 + 1; cut += 256) {
		scratch_write("cut.tar", bytes, cut);
		assert_refused(FROM("cut.tar"), "cut.tar: ");
	}
	free(bytes);
	assert_refused(FROM("cut.tar"),
		       "cut.tar: cut off: it ends at byte 2560 of the tar without");
	for (size_t i = 1; i < sizeof(filters) / sizeof(filters[0]); i++) {
		assert_int_equal(run("%s <a.tar >whole", filters[i]), 0);
		assert_success(build("image", FROM("whole")));
		bytes = scratch_read("whole", &size);
		scratch_write("cut", bytes, size / 2);
		free(bytes);
		assert_refused(FROM("cut"), "cut: ");
		assert_int_equal(run("rm -r image"), 0);
	}
	scratch_write_text("text", "neither a tar archive nor anything else");
	assert_refused(FROM("text"), "text: cannot be read as a tar archive");
}

/* libarchive looks at no checksum of gzip. */
static void damaged_gzip_is_refused(void **state)
{
	size_t size;

	(void)state;
	scratch_write_text("file", "text");
	assert_int_equal(
		run("tar -cf a.tar file && gzip -n -1 <a.tar >whole.gz && "
		    "{ gzip -n <a.tar; head -c 100 /dev/zero; } >padded.gz && "
		    "{ head -c 700 a.tar | gzip -n; tail -c +701 a.tar | gzip -n; } >two.gz"),
		0);
	assert_success(build("plain", FROM("a.tar")));
	assert_success(build("padded", FROM("padded.gz")));
	assert_success(build("two", FROM("two.gz")));
	assert_int_equal(
		run("cmp plain/root.img padded/root.img && cmp plain/root.img two/root.img"), 0);
	free(scratch_read("two.gz", &size));
	off_t two_size = (off_t)size;
	free(scratch_read("whole.gz", &size));
	patch("whole.gz", size - 8, "\0\0\0", 3);
	assert_refused(FROM("whole.gz"), "incorrect data check");
	assert_int_equal(truncate("whole.gz", (off_t)size - 8), 0);
	assert_refused(FROM("whole.gz"), "truncated gzip data");
	assert_int_equal(truncate("two.gz", two_size - 1), 0);
	assert_refused(FROM("two.gz"), "truncated gzip data");
}

/* Each stores a checksum; what is behind the tar's own end counts too. */
static void damaged_bytes_of_any_compression_are_refused(void **state)
{
	static const char *const filters[] = {"gzip -n", "bzip2", "xz", "zstd -q"};
	size_t size;

	(void)state;
	assert_int_equal(run("head -c 300000 /dev/urandom >file && tar -cf a.tar file"), 0);
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		assert_int_equal(run("rm -rf image; %s <a.tar >whole", filters[i]), 0);
		assert_success(build("image", FROM("whole")));
		char *bytes = scratch_read("whole", &size);
		scratch_write("cut", bytes, size - 1);
		assert_refused(FROM("cut"), "cut: ");
		bytes[size / 2] ^= 1;
		scratch_write("damaged", bytes, size);
		assert_refused(FROM("damaged"), "damaged: ");
		bytes[size / 2] ^= 1;
		bytes[size - 2] ^= 1;
		scratch_write("damaged", bytes, size);
		assert_refused(FROM("damaged"), "damaged: ");
		free(bytes);
	}
}

static void damaged_header_is_refused_with_its_place(void **state)
{
	struct archive *tar = tar_new("a.tar");

	(void)state;
	put_file(tar, "first", "1");
	put_file(tar, "second", "2");
	tar_end(tar);
	patch("a.tar", 1024 + 2, "X", 1);
	assert_refused(FROM("a.tar"), "a.tar: near byte ");
}

/* --- OCI layouts --- */

#define INDEX	 "application/vnd.oci.image.index.v1+json"
#define MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define CONFIG	 "application/vnd.oci.image.config.v1+json"
#define LAYER	 "application/vnd.oci.image.layer.v1.tar"

struct blob {
	char digest[sizeof("sha256:") + 64];
	char path[sizeof("layout/blobs/sha256/") + 64];
	size_t size;
};

static struct blob put_blob(const void *bytes, size_t size)
{
	uint8_t value[DIGEST_BYTES];
	char hex[DIGEST_HEX_BYTES];
	struct blob blob = {.size = size};
	struct digest *digest = digest_new(&test_error);

	digest_add(digest, bytes, size);
	assert_success(digest_finish(digest, value, &test_error));
	digest_hex(value, hex);
	snprintf(blob.digest, sizeof(blob.digest), "sha256:%s", hex);
	snprintf(blob.path, sizeof(blob.path), "layout/blobs/sha256/%s", hex);
	scratch_write(blob.path, bytes, size);
	return blob;
}

static struct blob put_blob_file(const char *path)
{
	size_t size;
	char *bytes = scratch_read(path, &size);
	struct blob blob = put_blob(bytes, size);

	free(bytes);
	return blob;
}

/* A descriptor as JSON, with MORE fields. */
#define DESCRIPTOR_BYTES 512
static const char *describe(char text[DESCRIPTOR_BYTES], const struct blob *blob, const char *type,
			    const char *more)
{
	snprintf(text, DESCRIPTOR_BYTES, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu%s}",
		 type, blob->digest, blob->size, more);
	return text;
}

/* A config; DIFF_IDS is a list as JSON. */
static struct blob put_config(const char *config, const char *diff_ids)
{
	char text[2048];

	snprintf(text, sizeof(text),
		 "{\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":%s,"
		 "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[%s]}}",
		 config, diff_ids);
	return put_blob(text, strlen(text));
}

/* A manifest of the layers "0.tar", "1.tar" and so on, with a config that says DIFF_IDS. */
static struct blob put_manifest_of(const char *config, const char *diff_ids, size_t layers,
				   const char *layer_type)
{
	char text[4096], descriptor[DESCRIPTOR_BYTES], name[16];
	struct blob blob = put_config(config, diff_ids);
	int length = snprintf(text, sizeof(text),
			      "{\"schemaVersion\":2,\"mediaType\":\"" MANIFEST
			      "\",\"config\":%s,\"layers\":[",
			      describe(descriptor, &blob, CONFIG, ""));

	for (size_t i = 0; i < layers; i++) {
		snprintf(name, sizeof(name), "%zu.tar", i);
		blob = put_blob_file(name);
		length += snprintf(text + length, sizeof(text) - length, "%s%s", i ? "," : "",
				   describe(descriptor, &blob, layer_type, ""));
	}
	snprintf(text + length, sizeof(text) - length, "]}");
	return put_blob(text, strlen(text));
}

/* The same of layers that are not compressed. */
static struct blob put_manifest(const char *config, size_t layers, const char *layer_type)
{
	char diff_ids[1024] = "", name[16];
	size_t length = 0;

	for (size_t i = 0; i < layers; i++) {
		snprintf(name, sizeof(name), "%zu.tar", i);
		length += (size_t)snprintf(diff_ids + length, sizeof(diff_ids) - length, "%s\"%s\"",
					   i ? "," : "", put_blob_file(name).digest);
	}
	return put_manifest_of(config, diff_ids, layers, layer_type);
}

static void write_index(const char *path, const char *descriptors)
{
	char text[4096];

	snprintf(text, sizeof(text),
		 "{\"schemaVersion\":2,\"mediaType\":\"" INDEX "\",\"manifests\":[%s]}",
		 descriptors);
	scratch_write_text(path, text);
	scratch_write_text("layout/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
}

static void write_layout(const char *config, size_t layers)
{
	char descriptor[DESCRIPTOR_BYTES];
	struct blob manifest = put_manifest(config, layers, LAYER);

	write_index("layout/index.json", describe(descriptor, &manifest, MANIFEST, ""));
}

static void write_one_file_layer(const char *name, const char *path, const char *text)
{
	struct archive *tar = tar_new(name);

	put_file(tar, path, text);
	tar_end(tar);
}

static void whiteouts_hide_lower_layers_only(void **state)
{
	struct archive *tar = tar_new("0.tar");

	(void)state;
	put_file(tar, "gone", "0");
	put_file(tar, "gone_directory/file", "0");
	put_file(tar, "opaque/lower", "0");
	put_file(tar, "opaque/directory/lower", "0");
	put_file(tar, "again", "0");
	put_link(tar, "again_too", "again");
	put_symlink(tar, "was_symlink", "kept");
	put_file(tar, "kept/file", "0");
	tar_end(tar);
	tar = tar_new("1.tar");
	put_file(tar, "again", "1");
	put_file(tar, ".wh.again", "");
	put_file(tar, ".wh.gone", "");
	put_file(tar, ".wh.gone_directory", "");
	put_file(tar, ".wh.never_there", "");
	put_file(tar, "nowhere/.wh.file", "");
	put_file(tar, ".wh..wh.plnk", "");
	put_file(tar, "opaque/upper", "1");
	put_file(tar, "opaque/.wh..wh..opq", "");
	put_directory(tar, "was_symlink");
	put_file(tar, "was_symlink/.wh..wh..opq", "");
	put_file(tar, "was_symlink/upper", "1");
	tar_end(tar);
	write_layout("null", 2);

	struct opened root = build_root(FROM("oci:layout"));
	assert_absent(&root, "gone");
	assert_absent(&root, "gone_directory");
	assert_absent(&root, "opaque/lower");
	assert_absent(&root, "opaque/directory");
	assert_absent(&root, "nowhere");
	assert_absent(&root, ".wh.gone");
	assert_absent(&root, "opaque/.wh..wh..opq");
	assert_absent(&root, ".wh..wh.plnk");
	assert_text(&root, "again", "1");
	assert_text(&root, "again_too", "0");
	assert_text(&root, "opaque/upper", "1");
	assert_text(&root, "was_symlink/upper", "1");
	assert_text(&root, "kept/file", "0");
	close_image(&root);

	/* The same as a plain tar has no whiteouts. */
	assert_int_equal(run("rm -r image"), 0);
	root = build_root(FROM("0.tar", "1.tar"));
	assert_text(&root, "gone", "0");
	assert_text(&root, ".wh.gone", "");
	close_image(&root);
}

static void layout_in_a_tar_gives_the_same_image(void **state)
{
	(void)state;
	write_one_file_layer("0.tar", "file", "0");
	write_layout("{}", 1);
	assert_success(build("image", FROM("oci:layout")));
	assert_int_equal(run("tar -C layout -cf layout.tar . && tar -C layout -czf layout.tgz "
			     "blobs oci-layout index.json"),
			 0);
	assert_success(build("from_tar", FROM("oci:layout.tar")));
	assert_success(build("from_tgz", FROM("oci:layout.tgz")));
	assert_int_equal(run("diff -r image from_tar && diff -r image from_tgz"), 0);
}

static void config_becomes_defaults(void **state)
{
	struct image image;

	(void)state;
	write_one_file_layer("0.tar", "file", "0");
	write_layout("{\"Env\":[\"A=1\",\"B=x=y\"],\"Entrypoint\":[\"/bin/sh\",\"-c\"],"
		     "\"Cmd\":null,\"User\":\"\",\"WorkingDir\":\"/srv\",\"Labels\":{\"a\":\"b\"}}",
		     1);
	assert_success(build("image", FROM("oci:layout")));
	assert_success(image_load("image", &image, &test_error));
	assert_string_equal(image.defaults.environment[0], "A=1");
	assert_string_equal(image.defaults.environment[1], "B=x=y");
	assert_null(image.defaults.environment[2]);
	assert_string_equal(image.defaults.entrypoint[1], "-c");
	assert_null(image.defaults.entrypoint[2]);
	assert_null(image.defaults.command);
	assert_null(image.defaults.user);
	assert_string_equal(image.defaults.working_directory, "/srv");
	image_free(&image);

	write_layout("{\"Env\":[\"=1\"]}", 1);
	assert_refused(FROM("oci:layout"), "config: the variable '=1' is not NAME=VALUE");
	write_layout("{\"Cmd\":\"sh\"}", 1);
	assert_refused(FROM("oci:layout"), "'config.Cmd': is not a list of strings");
	write_layout("{\"Cmd\":[1]}", 1);
	assert_refused(FROM("oci:layout"), "'config.Cmd': is not a list of strings");
}

static void image_is_chosen_by_tag_and_platform(void **state)
{
	char descriptors[6][DESCRIPTOR_BYTES], all[4096];
	static const char
		*const arm = ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}",
		       *const amd = ",\"platform\":{\"os\":\"linux\",\"architecture\":"
				    "\"amd64\"}",
		       *const old = ",\"annotations\":{\"org.opencontainers.image.ref.name\":"
				    "\"old\"}",
		       *const new = ",\"annotations\":{\"org.opencontainers.image.ref.name\":"
				    "\"new\"}";

	(void)state;
	write_one_file_layer("0.tar", "file", "old");
	struct blob old_blob = put_manifest("{}", 1, LAYER);
	write_one_file_layer("0.tar", "file", "new");
	struct blob new_blob = put_manifest("{}", 1, LAYER);
	/* "new" is an index for two platforms; the other one's manifest is not even there. */
	struct blob absent = new_blob;
	memset(absent.digest + strlen("sha256:"), '0', 64);
	snprintf(all, sizeof(all), "%s,%s", describe(descriptors[0], &absent, MANIFEST, arm),
		 describe(descriptors[1], &new_blob, MANIFEST, amd));
	write_index("nested.json", all);
	struct blob nested = put_blob_file("nested.json");
	snprintf(all, sizeof(all), "%s,%s", describe(descriptors[2], &old_blob, MANIFEST, old),
		 describe(descriptors[3], &nested, INDEX, new));
	write_index("layout/index.json", all);

	struct opened root = build_root(FROM("oci:layout:old"));
	assert_text(&root, "file", "old");
	close_image(&root);
	assert_int_equal(run("rm -r image"), 0);
	root = build_root(FROM("oci:layout:new"));
	assert_text(&root, "file", "new");
	close_image(&root);
	assert_refused(FROM("oci:layout"), "layout: has several images; its tags are 'old', 'new'");
	assert_refused(FROM("oci:layout:other"),
		       "layout: has no image 'other' for linux/amd64; its tags are 'old', 'new'");
	write_index("layout/index.json", describe(descriptors[4], &old_blob, MANIFEST, arm));
	assert_refused(FROM("oci:layout"),
		       "layout: has no image for linux/amd64; it has linux/arm64");
	/* In an index of its own, and where only the config says so. */
	snprintf(all, sizeof(all), "%s,%s", describe(descriptors[0], &absent, MANIFEST, arm),
		 describe(descriptors[1], &new_blob, MANIFEST,
			  ",\"platform\":{\"os\":\"windows\",\"architecture\":\"amd64\"}"));
	write_index("nested.json", all);
	nested = put_blob_file("nested.json");
	write_index("layout/index.json", describe(descriptors[3], &nested, INDEX, new));
	assert_refused(FROM("oci:layout:new"), "layout: has no image 'new' for linux/amd64; it "
					       "has linux/arm64, windows/amd64");
	scratch_write_text("config", "{\"os\":\"linux\",\"architecture\":\"riscv64\"}");
	struct blob config = put_blob_file("config");
	snprintf(all, sizeof(all), "{\"schemaVersion\":2,\"config\":%s,\"layers\":[]}",
		 describe(descriptors[5], &config, CONFIG, ""));
	struct blob foreign = put_blob(all, strlen(all));
	write_index("layout/index.json", describe(descriptors[4], &foreign, MANIFEST, ""));
	assert_refused(FROM("oci:layout"),
		       "layout: its image is not for linux/amd64, but for linux/riscv64");
}

static void damaged_layouts_are_refused(void **state)
{
	char descriptor[DESCRIPTOR_BYTES], expected[256];

	(void)state;
	write_one_file_layer("0.tar", "file", "0");
	struct blob layer = put_blob_file("0.tar");
	write_layout("{}", 1);
	patch(layer.path, 512, "1", 1);
	snprintf(expected, sizeof(expected), "%s: damaged: its SHA-256 digest is ", layer.path);
	assert_refused(FROM("oci:layout"), expected);
	/* A header that is damaged is first of all a damaged blob. */
	patch(layer.path, 0, "X", 1);
	assert_refused(FROM("oci:layout"), expected);
	assert_int_equal(truncate(layer.path, 100), 0);
	snprintf(expected, sizeof(expected), "%s: has 100 bytes, but should have ", layer.path);
	assert_refused(FROM("oci:layout"), expected);
	assert_int_equal(unlink(layer.path), 0);
	assert_refused(FROM("oci:layout"), "layout: 'blobs/sha256/");

	struct blob manifest = put_manifest("{}", 1, "application/x-rar");
	write_index("layout/index.json", describe(descriptor, &manifest, MANIFEST, ""));
	assert_refused(FROM("oci:layout"), "layout: the manifest's layer 0 has the media type "
					   "'application/x-rar', which jobvm does not know");
	patch(manifest.path, 0, " ", 1);
	assert_refused(FROM("oci:layout"), ": damaged: its SHA-256 digest is ");
	snprintf(manifest.digest, sizeof(manifest.digest), "sha256:../../../etc/passwd");
	write_index("layout/index.json", describe(descriptor, &manifest, MANIFEST, ""));
	assert_refused(FROM("oci:layout"),
		       "layout: the digest 'sha256:../../../etc/passwd' is not a SHA-256 digest");
	scratch_write_text("layout/index.json", "{\n\"manifests\": ]");
	assert_refused(FROM("oci:layout"), "layout/index.json:2: ");
	scratch_write_text("layout/oci-layout", "{\"imageLayoutVersion\":\"2.0.0\"}");
	assert_refused(FROM("oci:layout"),
		       "layout: imageLayoutVersion is '2.0.0', but this jobvm reads 1.x");
	assert_int_equal(unlink("layout/oci-layout"), 0);
	assert_refused(FROM("oci:layout"), "layout: not an OCI layout (no oci-layout in it)");
	assert_refused(FROM("oci:0.tar"), "0.tar: not an OCI layout (no oci-layout in it)");
	assert_refused(FROM("oci:"), "'oci:': no OCI layout is named");
}

/* The config's digest of a layer is of its tar, to the last byte. */
static void layer_that_the_config_does_not_mean_is_refused(void **state)
{
	static const struct {
		const char *compress, *type;
	} cases[] = {
		{"cat", LAYER},
		{"gzip -n", LAYER "+gzip"},
		{"zstd -q", LAYER "+zstd"},
	};
	char quoted[128], expected[256], descriptor[DESCRIPTOR_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_one_file_layer("plain.tar", "file", "0");
		/* Padding behind the tar's end, as tapes have it. */
		assert_int_equal(run("head -c 70000 /dev/zero >>plain.tar; "
				     "%s <plain.tar >0.tar; rm -rf image",
				     cases[i].compress),
				 0);
		struct blob plain = put_blob_file("plain.tar");
		snprintf(quoted, sizeof(quoted), "\"%s\"", plain.digest);
		struct blob manifest = put_manifest_of("{}", quoted, 1, cases[i].type);
		write_index("layout/index.json", describe(descriptor, &manifest, MANIFEST, ""));
		assert_success(build("image", FROM("oci:layout")));

		assert_int_equal(run("head -c 1 /dev/zero >>plain.tar; %s <plain.tar >0.tar",
				     cases[i].compress),
				 0);
		struct blob longer = put_blob_file("plain.tar");
		manifest = put_manifest_of("{}", quoted, 1, cases[i].type);
		write_index("layout/index.json", describe(descriptor, &manifest, MANIFEST, ""));
		snprintf(expected, sizeof(expected),
			 "layout: layer 0 is not the one that the config means: the SHA-256 digest "
			 "of its tar is %s, but its diff_id is %s",
			 longer.digest + strlen("sha256:"), plain.digest + strlen("sha256:"));
		assert_refused(FROM("oci:layout"), expected);
	}
	struct blob manifest = put_manifest_of("{}", "\"sha512:00\"", 1, LAYER);
	write_index("layout/index.json", describe(descriptor, &manifest, MANIFEST, ""));
	assert_refused(FROM("oci:layout"), "layout: the config's diff_id of layer 0: the digest "
					   "'sha512:00' is not a SHA-256 digest");
	manifest = put_manifest_of("{}", "", 1, LAYER);
	write_index("layout/index.json", describe(descriptor, &manifest, MANIFEST, ""));
	assert_refused(FROM("oci:layout"), "layout: the manifest has 1 layers, the config 0");
}

static void bad_whiteouts_are_refused(void **state)
{
	static const char *const names[] = {".wh.", ".wh..", ".wh..."};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		write_one_file_layer("0.tar", names[i], "");
		write_layout("{}", 1);
		assert_refused(FROM("oci:layout"), "a whiteout of no name");
	}
}

/* --- directories --- */

static void set_on_host(const char *path, const char *name, const void *value, size_t size)
{
	if (lsetxattr(path, name, value, size, 0) == 0)
		return;
	if (errno == ENOTSUP || (errno == EPERM && geteuid() != 0))
		skip(); /* not on this file system; trusted.* and capabilities are for others */
	fail_msg("%s %s: %s", path, name, strerror(errno));
}

/* "" stands for none. */
static void assert_attribute(struct opened *root, const char *path, const char *name,
			     const char *expected)
{
	char value[64] = "";

	test_error.text[0] = '\0';
	fsimage_getxattr(root->image, stat_in(root->image, path).inode, name, value,
			 sizeof(value) - 1, &test_error);
	assert_string_equal(test_error.text, "");
	assert_string_equal(value, expected);
}

static void attributes_of_directories_are_kept(void **state)
{
	(void)state;
	scratch_write_text("below/dir/file", "below");
	scratch_write_text("tree/dir/file", "text");
	set_on_host("below/dir", "user.below", "hidden", 6);
	set_on_host("below/dir/file", "user.below", "hidden", 6);
	set_on_host("tree/dir", "user.color", "blue", 4);
	set_on_host("tree/dir/file", "user.color", "red", 3);
	set_on_host("tree/dir/file", "user.overlay.opaque", "y", 1);
	set_on_host("tree/dir", "system.posix_acl_default", access_list, sizeof(access_list));
	set_on_host("tree/dir/file", "system.posix_acl_access", access_list, sizeof(access_list));

	struct opened root = build_root(FROM("below", "tree"));
	assert_attribute(&root, "dir", "user.color", "blue");
	assert_attribute(&root, "dir", "user.below", "");
	assert_attribute(&root, "dir/file", "user.color", "red");
	assert_attribute(&root, "dir/file", "user.overlay.opaque", "y");
	assert_attribute(&root, "dir/file", "user.below", "");
	close_image(&root);
	assert_int_equal(run("debugfs -R 'ea_list /dir/file' image/root.img 2>&1 | "
			     "grep -q 'system.posix_acl_access (28)' && "
			     "debugfs -R 'ea_list /dir' image/root.img 2>&1 | "
			     "grep -q 'system.posix_acl_default (28)'"),
			 0);

	/* They are metadata that the image is known by. */
	set_on_host("tree/dir", "user.color", "teal", 4);
	assert_success(build("other", FROM("below", "tree")));
	assert_int_equal(run("grep metadata_sha256 image/image.json >1; "
			     "grep metadata_sha256 other/image.json >2; "
			     "test $(diff 1 2 | grep -c '^>') = 1"),
			 0);
}

/* What root alone may read would make the image depend on who builds it. */
static void attributes_that_only_root_sees_are_left_out(void **state)
{
	(void)state;
	scratch_write_text("tree/dir/file", "text");
	assert_success(build("plain", FROM("tree")));
	set_on_host("tree/dir", "trusted.overlay.opaque", "y", 1);
	set_on_host("tree/dir/file", "trusted.color", "red", 3);
	assert_success(build("trusted", FROM("tree")));
	assert_int_equal(run("diff -r plain trusted"), 0);
	set_on_host("tree/dir/file", "security.capability", capability, sizeof(capability));
	assert_success(build("image", FROM("tree")));
	assert_int_equal(run("debugfs -R 'ea_list /dir/file' image/root.img 2>&1 | "
			     "grep -q 'security.capability (20)'"),
			 0);
}

/* --- stacks --- */

static void kinds_are_stacked_in_order(void **state)
{
	char *json;

	(void)state;
	scratch_write_text("directory/both", "directory");
	scratch_write_text("directory/own", "directory");
	scratch_write_text("top/both_layer", "top");
	write_one_file_layer("a.tar", "both", "tar");
	write_one_file_layer("0.tar", "both_layer", "layer");
	write_layout("{}", 1);
	struct opened root = build_root(FROM("directory", "a.tar", "oci:layout", "top"));
	assert_text(&root, "both", "tar");
	assert_text(&root, "own", "directory");
	assert_text(&root, "both_layer", "top");
	close_image(&root);
	json = scratch_read("image/image.json", NULL);
	assert_non_null(strstr(json, "\"kind\": \"tar\""));
	assert_non_null(strstr(json, "\"manifest\": \"sha256:"));
	assert_null(strstr(json, "a.tar"));
	assert_null(strstr(json, "layout"));
	free(json);
}

static void times_of_archives_are_clamped(void **state)
{
	(void)state;
	write_one_file_layer("a.tar", "file", "0");
	assert_int_equal(setenv("SOURCE_DATE_EPOCH", "999", 1), 0);
	struct opened root = build_root(FROM("a.tar"));
	assert_int_equal(unsetenv("SOURCE_DATE_EPOCH"), 0);
	assert_int_equal(stat_in(root.image, "file").mtime.tv_sec, 999);
	close_image(&root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(metadata_is_the_archives),
		IN_SCRATCH(fractions_before_1970_are_decimals),
		IN_SCRATCH(access_control_lists_are_kept),
		IN_SCRATCH(acl_of_names_is_refused),
		IN_SCRATCH(holes_stay_holes),
		IN_SCRATCH(names_are_bytes),
		IN_SCRATCH(later_entries_win),
		IN_SCRATCH(links_on_the_way_stay_in_the_tree),
		IN_SCRATCH(hostile_entries_are_refused_by_name),
		IN_SCRATCH(absurd_sizes_and_owners_are_refused),
		IN_SCRATCH(truncated_archives_are_refused),
		IN_SCRATCH(damaged_gzip_is_refused),
		IN_SCRATCH(damaged_bytes_of_any_compression_are_refused),
		IN_SCRATCH(damaged_header_is_refused_with_its_place),
		IN_SCRATCH(whiteouts_hide_lower_layers_only),
		IN_SCRATCH(layout_in_a_tar_gives_the_same_image),
		IN_SCRATCH(config_becomes_defaults),
		IN_SCRATCH(image_is_chosen_by_tag_and_platform),
		IN_SCRATCH(damaged_layouts_are_refused),
		IN_SCRATCH(layer_that_the_config_does_not_mean_is_refused),
		IN_SCRATCH(bad_whiteouts_are_refused),
		IN_SCRATCH(attributes_of_directories_are_kept),
		IN_SCRATCH(attributes_that_only_root_sees_are_left_out),
		IN_SCRATCH(kinds_are_stacked_in_order),
		IN_SCRATCH(times_of_archives_are_clamped),
	};

	unsetenv("SOURCE_DATE_EPOCH");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
