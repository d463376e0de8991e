/*
 * scramble SEED COUNT: COUNT random changes to the tree in the current directory, the same for the
 * same seed and tree: files, directories and symlinks are made, written, cut, renamed, removed and
 * put in each other's place. What is changed gets a time that its number says, and so does its
 * directory. Prints how often it did what. No name is ever followed through a symlink.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_SECOND 1500000000

/* Some sort differently by bytes and by path; some are no UTF-8. */
static const char *const names[] = {"a", "a-b", "a.c", "a b", "b", "\303\274", "\377\n\033", "-x",
				    "c", "d d", "e\\", "%",   "f", "g",	       "h",	     "i",
				    "j", "k",	"l",   "m",   "n", "o",	       "p",	     "q"};
static const char *const targets[] = {"a", "a/b", "..", "../..", "/etc/passwd", "nowhere", "."};
static const mode_t file_modes[] = {0600, 0644, 0640, 0666, 0755, 0700};
static const mode_t directory_modes[] = {0700, 0755, 0711, 0750, 0777};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t state;
static unsigned done; /* changes so far */

static uint64_t next_random(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 11) % below;
}

static void fail(const char *what, const char *path)
{
	fprintf(stderr, "scramble: change %u: %s '%s': %s\n", done, what, path, strerror(errno));
	exit(EXIT_FAILURE);
}

/* The type of what is there; 0: nothing. */
static mode_t type_of(const char *path)
{
	struct stat status;

	return lstat(path, &status) ? 0 : status.st_mode & S_IFMT;
}

static void join(char result[PATH_MAX], const char *directory, const char *name)
{
	snprintf(result, PATH_MAX, "%s/%s", directory, name);
}

static void parent_of(char result[PATH_MAX], const char *path)
{
	const char *slash = strrchr(path, '/');

	snprintf(result, PATH_MAX, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
}

/* A path whose directory is there, whether or not it is itself. */
static void choose_path(char path[PATH_MAX])
{
	do {
		unsigned depth = (unsigned)next_random(10);
		depth = depth < 2 ? 1 : depth < 5 ? 2 : depth < 8 ? 3 : 4;
		snprintf(path, PATH_MAX, "%s", names[next_random(COUNT_OF(names))]);
		while (--depth > 0 && type_of(path) == S_IFDIR) {
			size_t length = strlen(path);
			snprintf(path + length, PATH_MAX - length, "/%s",
				 names[next_random(COUNT_OF(names))]);
		}
	} while (strlen(path) > 200);
}

static void set_time(const char *path)
{
	struct timespec times[2] = {
		{.tv_sec = FIRST_SECOND + done, .tv_nsec = (long)(done * 1000003UL % 1000000000)}};

	times[1] = times[0];
	if (utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW))
		fail("set the time of", path);
}

static void set_parent_time(const char *path)
{
	char parent[PATH_MAX];

	parent_of(parent, path);
	set_time(parent);
}

/* Calls DO for each name in a directory. */
static void for_each(const char *path, void (*act)(const char *path, const char *other),
		     const char *other)
{
	char child[PATH_MAX], other_child[PATH_MAX];
	DIR *entries = opendir(path);
	struct dirent *entry;

	if (!entries)
		fail("list", path);
	while ((entry = readdir(entries))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		join(child, path, entry->d_name);
		if (other)
			join(other_child, other, entry->d_name);
		act(child, other ? other_child : NULL);
	}
	closedir(entries);
}

static void remove_tree(const char *path, const char *unused)
{
	bool is_directory = type_of(path) == S_IFDIR;

	(void)unused;
	if (is_directory)
		for_each(path, remove_tree, NULL);
	if (is_directory ? rmdir(path) : unlink(path))
		fail("remove", path);
}

static void copy_bytes(const char *from, const char *to)
{
	static char bytes[1 << 16];
	int from_fd = open(from, O_RDONLY), to_fd = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600);
	ssize_t got;

	while ((got = read(from_fd, bytes, sizeof(bytes))) > 0)
		if (write(to_fd, bytes, (size_t)got) != got)
			fail("copy to", to);
	if (got < 0 || to_fd < 0 || close(from_fd) || close(to_fd))
		fail("copy", from);
}

static void copy_tree(const char *from, const char *to)
{
	char target[PATH_MAX] = "";
	struct stat status;

	if (lstat(from, &status))
		fail("copy", from);
	struct timespec times[2] = {status.st_mtim, status.st_mtim};
	if (S_ISLNK(status.st_mode) &&
	    (readlink(from, target, sizeof(target) - 1) < 0 || symlink(target, to)))
		fail("copy the link", from);
	if (S_ISREG(status.st_mode))
		copy_bytes(from, to);
	if (S_ISDIR(status.st_mode)) {
		if (mkdir(to, 0700))
			fail("copy the directory", from);
		for_each(from, copy_tree, to);
	}
	if (!S_ISLNK(status.st_mode) && chmod(to, status.st_mode & 07777))
		fail("copy the mode of", from);
	if (utimensat(AT_FDCWD, to, times, AT_SYMLINK_NOFOLLOW))
		fail("copy the time of", from);
}

/* --- changes: each returns whether it was one --- */

static void write_bytes(const char *path, int flags, size_t size)
{
	static char bytes[20000];
	int fd = open(path, O_WRONLY | flags, 0644);

	for (size_t i = 0; i < size; i++)
		bytes[i] = (char)next_random(256);
	if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || close(fd))
		fail("write", path);
}

static size_t random_size(void)
{
	return next_random(4) ? next_random(300) : next_random(20000);
}

/* Not often what may have much in it: the tree shall not stay small. */
static bool may_go(const char *path)
{
	return type_of(path) != S_IFDIR || next_random(8) == 0;
}

static bool put_file(const char *path)
{
	if (!may_go(path))
		return false;
	if (type_of(path) && type_of(path) != S_IFREG)
		remove_tree(path, NULL);
	write_bytes(path, O_CREAT | O_TRUNC, random_size());
	return true;
}

static bool append(const char *path)
{
	if (type_of(path) != S_IFREG)
		return false;
	write_bytes(path, O_APPEND, random_size());
	return true;
}

static bool cut(const char *path)
{
	struct stat status;

	if (type_of(path) != S_IFREG || stat(path, &status))
		return false;
	if (truncate(path, (off_t)next_random((uint64_t)status.st_size * 2 + 1)))
		fail("cut", path);
	return true;
}

static bool rewrite(const char *path)
{
	struct stat status;

	if (type_of(path) != S_IFREG || stat(path, &status) || status.st_size == 0)
		return false;
	write_bytes(path, 0, (size_t)(status.st_size < 20000 ? status.st_size : 20000));
	return true;
}

static bool put_directory(const char *path)
{
	if (type_of(path) == S_IFDIR)
		return false;
	if (type_of(path))
		remove_tree(path, NULL);
	if (mkdir(path, 0755))
		fail("make directory", path);
	return true;
}

static bool put_symlink(const char *path)
{
	if (!may_go(path))
		return false;
	if (type_of(path))
		remove_tree(path, NULL);
	if (symlink(targets[next_random(COUNT_OF(targets))], path))
		fail("make symlink", path);
	return true;
}

static bool change_mode(const char *path)
{
	mode_t type = type_of(path);
	mode_t mode = type == S_IFDIR ? directory_modes[next_random(COUNT_OF(directory_modes))]
				      : file_modes[next_random(COUNT_OF(file_modes))];

	if (type != S_IFDIR && type != S_IFREG)
		return false;
	if (chmod(path, mode))
		fail("change the mode of", path);
	return true;
}

static bool take_away(const char *path)
{
	if (!type_of(path) || !may_go(path))
		return false;
	remove_tree(path, NULL);
	return true;
}

/* Makes a directory anew: all that was in it is gone. */
static bool make_anew(const char *path)
{
	if (type_of(path) != S_IFDIR || !may_go(path))
		return false;
	remove_tree(path, NULL);
	if (mkdir(path, 0755))
		fail("make directory", path);
	return true;
}

static bool is_below(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	return strncmp(path, directory, length) == 0 && (path[length] == '/' || !path[length]);
}

/* As mv(1) does. */
static bool move(const char *path)
{
	char to[PATH_MAX];

	choose_path(to);
	if (!type_of(path) || is_below(to, path) || is_below(path, to) || !may_go(to))
		return false;
	if (type_of(to) && (type_of(to) == S_IFDIR || type_of(path) == S_IFDIR))
		remove_tree(to, NULL);
	if (rename(path, to) == 0) {
		set_parent_time(to);
		return true;
	}
	if (errno != EXDEV)
		fail("rename", path);
	if (type_of(to))
		remove_tree(to, NULL);
	copy_tree(path, to);
	remove_tree(path, NULL);
	set_parent_time(to);
	return true;
}

static struct change {
	const char *name;
	bool (*make)(const char *path);
	unsigned share, count;
} changes[] = {
	{"file", put_file, 20, 0},
	{"append", append, 10, 0},
	{"cut", cut, 6, 0},
	{"rewrite", rewrite, 8, 0},
	{"directory", put_directory, 14, 0},
	{"symlink", put_symlink, 6, 0},
	{"mode", change_mode, 12, 0},
	{"remove", take_away, 8, 0},
	{"anew", make_anew, 4, 0},
	{"move", move, 16, 0},
};

static struct change *choose_change(void)
{
	unsigned total = 0;

	for (size_t i = 0; i < COUNT_OF(changes); i++)
		total += changes[i].share;
	unsigned at = (unsigned)next_random(total);
	struct change *change = changes;
	while (at >= change->share)
		at -= change++->share;
	return change;
}

int main(int argc, char **argv)
{
	char path[PATH_MAX];
	unsigned count = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;

	if (count == 0)
		return EXIT_FAILURE;
	umask(022);
	state = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15ULL + 1;
	while (done < count) {
		struct change *change = choose_change();
		choose_path(path);
		if (!change->make(path))
			continue;
		change->count++;
		done++;
		if (type_of(path))
			set_time(path);
		set_parent_time(path);
	}
	for (size_t i = 0; i < COUNT_OF(changes); i++)
		printf("%s %u\n", changes[i].name, changes[i].count);
	return EXIT_SUCCESS;
}
