/*
 * One tree of everything that a host file system can have, 100,000 files of it: imported,
 * written, checked by e2fsck, and compared with the host's through the reader and the kernel.
 */
#include "tests/unit/fsimage_helpers.h"

#include <dirent.h>
#include <sched.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define FILES_IN_ONE	40000
#define DIRECTORIES	400
#define FILES_IN_EACH	130
#define EMPTY_DEPTH	100
#define LINKS_OF_ONE	1000
#define VALUE_BYTES_MAX 8192

/* --- the source --- */

static void make_directory(const char *path)
{
	assert_int_equal(mkdir(path, 0755), 0);
}

static void make_file(const char *path, const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), size);
	close(fd);
}

static void make_many_files(void)
{
	char path[128], bytes[8192];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 31 + (i >> 8));
	make_directory("source/many");
	for (unsigned i = 0; i < FILES_IN_ONE; i++) {
		snprintf(path, sizeof(path), "source/many/file-%u", i);
		make_file(path, path, i % 100);
	}
	for (unsigned i = 0; i < DIRECTORIES; i++) {
		snprintf(path, sizeof(path), "source/directory-%u", i);
		make_directory(path);
		for (unsigned j = 0; j < FILES_IN_EACH; j++) {
			snprintf(path, sizeof(path), "source/directory-%u/%u", i, j);
			make_file(path, bytes + j, (i * j * 7) % 8000);
		}
	}
}

/* Those that the owner may not read would be root's business. */
static void make_modes(void)
{
	char path[64];

	make_directory("source/modes");
	for (unsigned mode = 0; mode <= 07777; mode++) {
		snprintf(path, sizeof(path), "source/modes/%04o", mode);
		make_file(path, path, mode % 40);
		assert_int_equal(chmod(path, geteuid() == 0 ? mode : mode | 0400), 0);
	}
}

static void make_names_and_links(void)
{
	char name[256], path[512], target[4096];

	make_directory("source/names");
	for (unsigned i = 0; i < 500; i++) {
		memset(name, 1 + (int)(i * 7 % 255), 255);
		for (unsigned j = 0; j < 255; j++)
			name[j] = name[j] == '/' || name[j] == '.' ? '_' : name[j];
		snprintf(name, 4, "%03u", i);
		name[3] = 'n';
		name[255] = '\0';
		snprintf(path, sizeof(path), "source/names/%s", name);
		make_file(path, name, 255);
	}
	memset(target, 't', sizeof(target) - 1);
	target[4095] = '\0';
	for (unsigned length = 4095; length > 4000; length--) {
		target[length] = '\0';
		snprintf(path, sizeof(path), "source/names/link-%u", length);
		assert_int_equal(symlink(target, path), 0);
	}
	make_directory("source/links");
	for (unsigned i = 0; i < LINKS_OF_ONE; i++) {
		snprintf(path, sizeof(path), "source/%s/other-name-%u", i % 2 ? "links" : "names",
			 i);
		assert_int_equal(link("source/many/file-77", path), 0);
	}
}

static void make_holes(void)
{
	int fd;

	make_directory("source/holes");
	fd = open("source/holes/6-gib", O_WRONLY | O_CREAT, 0644);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "start", 5, 4096), 5);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(pwrite(fd, "comb", 4, (3LL << 30) + i * 65536LL), 4);
	assert_int_equal(ftruncate(fd, (6LL << 30) + 1), 0);
	close(fd);
	make_file("source/holes/only", "", 0);
	assert_int_equal(truncate("source/holes/only", 1 << 20), 0);
}

static void make_times(void)
{
	/* 1901, 1969, the epoch, each side of 2038 and 2106, 2446. */
	static const int64_t seconds[] = {INT32_MIN,  -86400,
					  -1,	      0,
					  INT32_MAX,  INT32_MAX + 1LL,
					  UINT32_MAX, UINT32_MAX + 1LL,
					  6442450943, INT32_MIN + (1LL << 34) - 1};
	static const long nanoseconds[] = {0, 1, 999999999};
	char path[64];

	make_directory("source/times");
	for (unsigned i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++) {
		for (unsigned j = 0; j < 3; j++) {
			struct timespec times[2] = {{0, 0}, {seconds[i], nanoseconds[j]}};

			snprintf(path, sizeof(path), "source/times/%u-%u", i, j);
			make_file(path, "", 0);
			assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
		}
	}
}

static void make_empty_directories(void)
{
	char path[16 + 4 * EMPTY_DEPTH] = "source";

	for (unsigned i = 0; i < EMPTY_DEPTH; i++) {
		strcat(path, i ? "/d" : "/deep");
		make_directory(path);
	}
}

/* Those that this host and user may have; the others are left out on both sides. */
static void make_attributes(void)
{
	char path[64], value[3000];

	memset(value, 'v', sizeof(value));
	make_directory("source/xattrs");
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(path, sizeof(path), "source/xattrs/%u", i);
		make_file(path, path, 10);
		(void)setxattr(path, "user.number", path, strlen(path), 0);
		(void)setxattr(path, "user.large", value, (i % 10) * 300, 0);
		(void)setxattr(path, "trusted.x", value, i % 100, 0);
		if (i % 3 == 0)
			(void)setxattr(path, "security.capability", capability, 20, 0);
		if (i % 5 == 0)
			(void)setxattr(path, "system.posix_acl_access", access_list,
				       sizeof(access_list), 0);
	}
	(void)setxattr("source/xattrs", "system.posix_acl_default", access_list,
		       sizeof(access_list), 0);
}

static void make_special_files(void)
{
	make_directory("source/special");
	assert_int_equal(mkfifo("source/special/fifo", 0600), 0);
	(void)mknod("source/special/null", S_IFCHR | 0666, makedev(1, 3));
	(void)mknod("source/special/large", S_IFBLK | 0600, makedev(300, 70000));
	if (geteuid() == 0) {
		make_file("source/special/owned", "x", 1);
		assert_int_equal(chown("source/special/owned", 70000, 4000000000), 0);
	}
}

static void make_source(void)
{
	umask(022);
	make_directory("source");
	make_many_files();
	make_modes();
	make_names_and_links();
	make_holes();
	make_times();
	make_empty_directories();
	make_attributes();
	make_special_files();
}

/* --- comparison through the reader --- */

struct place {
	struct fsimage *image;
	int host_fd; /* directory */
	unsigned *files;
};

static int compare_directory(struct fsimage *image, uint32_t inode, int host_fd, unsigned *files);

static void compare_content(const struct place *place, const char *name, const struct fsstat *stat)
{
	static char expected[8192], actual[8192];
	int host = openat(place->host_fd, name, O_RDONLY), copy;

	assert_true(host >= 0);
	if (stat->size_bytes < sizeof(expected)) {
		assert_int_equal(read(host, expected, sizeof(expected)), stat->size_bytes);
		assert_int_equal(fsimage_read(place->image, stat->inode, 0, actual, sizeof(actual),
					      &test_error),
				 stat->size_bytes);
		assert_memory_equal(expected, actual, stat->size_bytes);
		close(host);
		return;
	}
	copy = open("copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_success(fsimage_copy(place->image, stat->inode, stat->size_bytes, copy, "copy",
				    &test_error));
	assert_same_bytes_and_holes(host, copy);
}

static void compare_xattrs(const struct place *place, const char *name, const struct fsstat *stat)
{
	char path[400], names[4096], expected[VALUE_BYTES_MAX], actual[VALUE_BYTES_MAX];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", place->host_fd, name);

	ssize_t size = llistxattr(path, names, sizeof(names));

	for (const char *at = names; at < names + (size < 0 ? 0 : size); at += strlen(at) + 1) {
		ssize_t length = lgetxattr(path, at, expected, sizeof(expected));

		if (strcmp(at, "security.selinux") == 0)
			continue;
		assert_true(length >= 0);
		assert_int_equal(fsimage_getxattr(place->image, stat->inode, at, actual,
						  sizeof(actual), &test_error),
				 length);
		assert_memory_equal(expected, actual, length);
	}
}

static void compare_target(const struct place *place, const char *name, const struct fsstat *stat)
{
	char expected[4097], actual[4097];
	ssize_t length = readlinkat(place->host_fd, name, expected, sizeof(expected));

	assert_true(length > 0);
	expected[length] = '\0';
	assert_success(
		fsimage_readlink(place->image, stat->inode, actual, sizeof(actual), &test_error));
	assert_string_equal(expected, actual);
}

static int compare_entry(void *context, const char *name, const struct fsstat *stat,
			 struct error *error)
{
	const struct place *place = context;
	struct stat host;

	(void)error;
	++*place->files;
	assert_int_equal(fstatat(place->host_fd, name, &host, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(stat->mode, host.st_mode);
	assert_int_equal(stat->uid, host.st_uid);
	assert_int_equal(stat->gid, host.st_gid);
	assert_int_equal(stat->links, host.st_nlink);
	assert_int_equal(stat->mtime.tv_sec, host.st_mtim.tv_sec);
	assert_int_equal(stat->mtime.tv_nsec, host.st_mtim.tv_nsec);
	compare_xattrs(place, name, stat);
	if (S_ISDIR(host.st_mode))
		return compare_directory(place->image, stat->inode,
					 openat(place->host_fd, name, O_RDONLY), place->files);
	if (S_ISREG(host.st_mode)) {
		assert_int_equal(stat->size_bytes, host.st_size);
		compare_content(place, name, stat);
	}
	if (S_ISLNK(host.st_mode))
		compare_target(place, name, stat);
	if (S_ISCHR(host.st_mode) || S_ISBLK(host.st_mode)) {
		assert_int_equal(stat->device_major, major(host.st_rdev));
		assert_int_equal(stat->device_minor, minor(host.st_rdev));
	}
	return 0;
}

static int compare_directory(struct fsimage *image, uint32_t inode, int host_fd, unsigned *files)
{
	struct place place = {image, host_fd, files};

	assert_true(host_fd >= 0);

	int result = fsimage_list(image, inode, compare_entry, &place, &test_error);

	close(host_fd);
	return result;
}

/* --- comparison through the kernel --- */

static unsigned compare_mounted(int expected_fd, int actual_fd);

static void compare_mounted_xattrs(int expected_fd, int actual_fd, const char *name)
{
	char expected_path[400], actual_path[400], names[4096], other[4096];
	char expected[VALUE_BYTES_MAX], actual[VALUE_BYTES_MAX];

	snprintf(expected_path, sizeof(expected_path), "/proc/self/fd/%d/%s", expected_fd, name);
	snprintf(actual_path, sizeof(actual_path), "/proc/self/fd/%d/%s", actual_fd, name);

	ssize_t size = llistxattr(expected_path, names, sizeof(names));

	assert_int_equal(llistxattr(actual_path, other, sizeof(other)), size);
	for (const char *at = names; at < names + size; at += strlen(at) + 1) {
		ssize_t length = lgetxattr(expected_path, at, expected, sizeof(expected));

		assert_int_equal(lgetxattr(actual_path, at, actual, sizeof(actual)), length);
		assert_memory_equal(expected, actual, length);
	}
}

static void compare_mounted_content(int expected_fd, int actual_fd, const char *name, mode_t mode)
{
	char expected[4097] = "", actual[4097] = "";

	if (S_ISREG(mode))
		assert_same_bytes_and_holes(openat(expected_fd, name, O_RDONLY),
					    openat(actual_fd, name, O_RDONLY));
	if (!S_ISLNK(mode))
		return;
	assert_true(readlinkat(expected_fd, name, expected, sizeof(expected)) > 0);
	assert_true(readlinkat(actual_fd, name, actual, sizeof(actual)) > 0);
	assert_memory_equal(expected, actual, sizeof(expected));
}

static unsigned compare_mounted_entry(int expected_fd, int actual_fd, const char *name)
{
	struct stat expected, actual;

	assert_int_equal(fstatat(expected_fd, name, &expected, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(fstatat(actual_fd, name, &actual, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(actual.st_mode, expected.st_mode);
	assert_int_equal(actual.st_uid, expected.st_uid);
	assert_int_equal(actual.st_gid, expected.st_gid);
	assert_int_equal(actual.st_nlink, expected.st_nlink);
	assert_int_equal(actual.st_rdev, expected.st_rdev);
	assert_int_equal(actual.st_mtim.tv_sec, expected.st_mtim.tv_sec);
	assert_int_equal(actual.st_mtim.tv_nsec, expected.st_mtim.tv_nsec);
	compare_mounted_xattrs(expected_fd, actual_fd, name);
	if (S_ISDIR(expected.st_mode))
		return compare_mounted(openat(expected_fd, name, O_RDONLY),
				       openat(actual_fd, name, O_RDONLY));
	assert_int_equal(actual.st_size, expected.st_size);
	compare_mounted_content(expected_fd, actual_fd, name, expected.st_mode);
	return 0;
}

/* Closes both. How many files there are. */
static unsigned compare_mounted(int expected_fd, int actual_fd)
{
	DIR *list = fdopendir(actual_fd);
	const struct dirent *entry;
	unsigned files = 0;

	assert_true(expected_fd >= 0 && list);
	while ((entry = readdir(list))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		files += 1 + compare_mounted_entry(expected_fd, actual_fd, entry->d_name);
	}
	closedir(list);
	close(expected_fd);
	return files;
}

/* In a mount namespace of its own. The exit code; 77: mounts are not for us. */
static int compare_by_kernel(unsigned files)
{
	if (unshare(CLONE_NEWNS) < 0 || run("mount --make-rprivate / && mkdir mnt && "
					    "mount -o loop,ro test.img mnt") != 0)
		return 77;
	return compare_mounted(open("source", O_RDONLY), open("mnt", O_RDONLY)) != files;
}

static void assert_kernel_sees_the_same(unsigned files)
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(compare_by_kernel(files)); /* a failing assertion ends it with another code */
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("# the kernel was not asked: images cannot be mounted here\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- the test --- */

static void tree_of_everything(void **state)
{
	static const struct fsimport import = {.xattrs = true};
	struct fstree *tree = new_tree();
	unsigned files = 0;

	(void)state;
	make_source();
	assert_success(fstree_import_contents(tree, fstree_root(tree), AT_FDCWD, "source", &import,
					      &test_error));

	uint64_t nodes = fstree_totals(tree).nodes;

	assert_true(nodes > 100000);
	make_checked_image(tree);

	struct opened opened = open_image("test.img");

	assert_success(compare_directory(opened.image, 2, open("source", O_RDONLY), &files));
	assert_int_equal(files, nodes - 1);
	close_image(&opened);
	assert_kernel_sees_the_same(files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(tree_of_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
