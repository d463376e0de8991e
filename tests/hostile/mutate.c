/*
 * mutate [--seed N] COUNT: has COUNT disks read whose metadata was changed at random. The Nth one
 * has the seed N more than the first's, so `mutate --seed S 1` does one again.
 *
 * Each must end with a result or an error: no crash, 10 s of processor time, 256 MiB of memory, and
 * not a byte outside the output directory. In TAP: one test.
 */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host-tools/collect.h"
#include "host-tools/confined.h"
#include "host-tools/stored.h"
#include "tests/hostile/measure.h"
#include "tests/hostile/mutation.h"
#include "tests/hostile/walk.h"

#define DISK	 "disk.img"
#define OUTPUT	 "out"
#define SENTINEL "sentinel"

/* How a child ends: neither is a code that a crash or a sanitizer leaves. */
enum { CHILD_READ = 40, CHILD_REFUSED, CHILD_READER_DIED };

static uint64_t output_bytes;
static const char *special_output; /* a device, a set-id file */

struct run {
	struct craft craft;
	struct mutation mutation;
	int log_fd; /* what the child said */
	struct stat sentinel, disk;
	uint64_t endings[3], failed;
};

/* --- the child --- */

/* How the confined reader's end is told when nobody meant it. */
static bool tells_of_death(const char *text)
{
	return strstr(text, "was ended") || strstr(text, "without a word") ||
	       strstr(text, "makes no sense") || strstr(text, "processor time");
}

static int collect(struct error *error)
{
	static struct disk disk;
	struct report report = {.has_run = false};
	struct collect_places places = collect_places_in(OUTPUT);
	bool created;
	int failed = -1;
	int fd = stored_open(DISK, &report, &disk, error);

	if (fd >= 0 && report.has_run) {
		places.directory_fd = collect_prepare_directory(OUTPUT, &created, error);
		failed = places.directory_fd < 0 || collect_results(&report, &places, NULL, error);
	}
	if (fd >= 0 && tells_of_death(report.message))
		failed = error_set(error, "%s", report.message);
	stored_close(fd, &report, &disk);
	return failed ? -1 : 0;
}

/* The reader in this process, for crashes to be seen, and then what jobvm collect does. */
static int read_disk(void)
{
	struct walk_totals totals;
	struct error error;
	int fd = open(DISK, O_RDONLY | O_CLOEXEC);
	int scratch_fd = memfd_create("scratch", MFD_CLOEXEC);

	if (fd < 0 || scratch_fd < 0)
		return 1;
	int walked = walk_image(fd, DISK, NULL, scratch_fd, &totals, &error);

	if (walked < 0)
		dprintf(STDERR_FILENO, "%s\n", error.text);
	close(fd);
	close(scratch_fd);
	error.text[0] = '\0';
	int collected = measure_is_sanitized() ? 0 : collect(&error);

	dprintf(STDERR_FILENO, "%s\n", error.text);
	if (tells_of_death(error.text))
		return CHILD_READER_DIED;
	return walked < 0 || collected < 0 ? CHILD_REFUSED : CHILD_READ;
}

/* --- what is around the output directory --- */

static int look_at(const char *path, const struct stat *stat, int type, struct FTW *where)
{
	(void)type, (void)where;
	output_bytes += (uint64_t)stat->st_blocks * 512;
	if ((!S_ISREG(stat->st_mode) && !S_ISDIR(stat->st_mode) && !S_ISLNK(stat->st_mode)) ||
	    (!S_ISLNK(stat->st_mode) && stat->st_mode & 07000))
		special_output = path;
	return 0;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mode == b->st_mode &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Whether DIRECTORY holds just the COUNT names, of which OUTPUT may be missing. */
static bool holds_only(const char *directory, const char *const names[], size_t count)
{
	DIR *list = opendir(directory);
	bool result = list;

	for (const struct dirent *entry; list && (entry = readdir(list));) {
		bool known = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;

		for (size_t i = 0; i < count; i++)
			known = known || strcmp(entry->d_name, names[i]) == 0;
		result = result && known;
	}
	if (list)
		closedir(list);
	return result;
}

static const char *trespass(const struct run *run)
{
	static const char *const here[] = {DISK, OUTPUT, SENTINEL}, *const above[] = {"work"};
	struct stat sentinel, disk;

	if (!holds_only(".", here, 3) || !holds_only("..", above, 1))
		return "there is a file outside the output directory";
	if (stat(SENTINEL, &sentinel) < 0 || !is_same(&sentinel, &run->sentinel) ||
	    stat(DISK, &disk) < 0 || !is_same(&disk, &run->disk))
		return "a file outside the output directory was changed";
	output_bytes = 0;
	special_output = NULL;
	nftw(OUTPUT, look_at, 16, FTW_PHYS);
	if (special_output)
		return "a special file was made";
	if (output_bytes > 2 * (uint64_t)disk.st_size + (1 << 20))
		return "more was collected than the disk can hold";
	return NULL;
}

/* --- the parent --- */

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *where)
{
	(void)stat, (void)type, (void)where;
	return remove(path);
}

static void remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *judge(const struct run *run, int status, const struct rusage *usage)
{
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL
			       ? "it takes more than 10 s"
			       : "a crash";
	if (WEXITSTATUS(status) == CHILD_READER_DIED)
		return "the confined reader died";
	if (WEXITSTATUS(status) != CHILD_READ && WEXITSTATUS(status) != CHILD_REFUSED)
		return "a crash";
	if (!measure_is_sanitized() && usage->ru_maxrss > MEMORY_KIB_MAX)
		return "it takes more than 256 MiB";
	return trespass(run);
}

static void tell_failure(struct run *run, uint64_t seed, const char *why)
{
	char text[2048];
	ssize_t length = pread(run->log_fd, text, sizeof(text) - 1, 0);

	text[length < 0 ? 0 : length] = '\0';
	printf("# seed %" PRIu64 ": %s\n", seed, why);
	for (char *rest = text, *line; (line = strsep(&rest, "\n")) && *line;)
		printf("#   %s\n", line);
	fflush(stdout);
	run->failed++;
}

static void try_mutant(struct run *run, uint64_t seed)
{
	struct rusage usage;
	int status;

	mutation_apply(&run->mutation, seed);
	if (ftruncate(run->log_fd, 0) < 0 || stat(DISK, &run->disk) < 0)
		err(1, "prepare a mutant");
	pid_t child = fork();
	if (child == 0) {
		if (dup2(run->log_fd, STDERR_FILENO) < 0 || lseek(run->log_fd, 0, SEEK_SET) < 0)
			_exit(1);
		measure_limit_cpu(CPU_SECONDS_MAX);
		_exit(read_disk());
	}
	if (child < 0 || wait4(child, &status, 0, &usage) != child)
		err(1, "run a reader");

	const char *why = judge(run, status, &usage);

	if (why)
		tell_failure(run, seed, why);
	if (WIFEXITED(status) && WEXITSTATUS(status) >= CHILD_READ &&
	    WEXITSTATUS(status) <= CHILD_READER_DIED)
		run->endings[WEXITSTATUS(status) - CHILD_READ]++;
	mutation_undo(&run->mutation);
	remove_tree(OUTPUT);
}

/* In memory if there is room: each collection syncs what it writes. */
static void enter_scratch(char *directory, size_t size)
{
	struct statvfs memory;
	bool in_memory = statvfs("/dev/shm", &memory) == 0 &&
			 memory.f_bavail * (uint64_t)memory.f_frsize > 256 << 20;

	snprintf(directory, size, "%s/jobvm-test.XXXXXX", in_memory ? "/dev/shm" : "/tmp");
	if (!mkdtemp(directory) || chdir(directory) < 0 || mkdir("work", 0755) < 0 ||
	    chdir("work") < 0)
		err(1, "make a scratch directory");
}

static void start(struct run *run)
{
	FILE *sentinel = fopen(SENTINEL, "we");

	if (!sentinel || fputs("nobody but us", sentinel) < 0 || fclose(sentinel) != 0 ||
	    stat(SENTINEL, &run->sentinel) < 0)
		err(1, "make the sentinel");
	run->log_fd = memfd_create("log", MFD_CLOEXEC);
	if (run->log_fd < 0)
		err(1, "make a file in memory");
	craft_open(&run->craft, DISK, 2048, 64);
	mutation_start(&run->mutation, &run->craft);
}

static uint64_t number_of(const char *text)
{
	char *end;
	uint64_t number = strtoull(text, &end, 10);

	if (*end || end == text)
		errx(2, "usage: mutate [--seed N] COUNT");
	return number;
}

int main(int argc, char **argv)
{
	static struct run run;
	char directory[64];
	uint64_t seed;

	if (argc != 2 && !(argc == 4 && strcmp(argv[1], "--seed") == 0))
		errx(2, "usage: mutate [--seed N] COUNT");
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		err(1, "choose a seed");
	seed = argc == 4 ? number_of(argv[2]) : seed >> 32;
	uint64_t count = number_of(argv[argc - 1]);

	printf("1..1\n# seed %" PRIu64 ", %" PRIu64 " mutants\n", seed, count);
	fflush(stdout);
	/* A kernel without Landlock confines less; what is looked for here is the same. */
	confined_allow_without_landlock();
	enter_scratch(directory, sizeof(directory));
	start(&run);
	for (uint64_t i = 0; i < count; i++)
		try_mutant(&run, seed + i);
	craft_close(&run.craft);
	printf("# %" PRIu64 " read to the end, %" PRIu64 " refused, %" PRIu64 " failed\n",
	       run.endings[0], run.endings[1], run.failed);
	printf("%s 1 - mutants of a job disk\n", run.failed ? "not ok" : "ok");
	if (chdir("/") == 0)
		remove_tree(directory);
	return run.failed ? 1 : 0;
}
