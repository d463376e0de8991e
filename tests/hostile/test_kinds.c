/*
 * Every kind of hostile disk, through the reader alone, `jobvm inspect` and `jobvm collect`: each
 * says what is wrong, or comes to an end with what there is, within 256 MiB of memory and 10 s
 * of processor time, and writes to its output directory no more than the disk can hold.
 */
#include "tests/unit/scratch.h"

#include <libgen.h>
#include <limits.h>
#include <sys/statvfs.h>

#include "tests/hostile/kinds.h"
#include "tests/hostile/measure.h"

#define DISK   "disk.img"
#define OUTPUT "out"

static char programs[PATH_MAX]; /* where this one is, and its companions */

static void run_for(unsigned cpu_seconds, const char *name, const char *const arguments[],
		    struct measured *measured)
{
	char path[PATH_MAX + 64];
	char *argv[8] = {path};
	size_t count = 1;

	snprintf(path, sizeof(path), "%s/%s", programs, name);
	for (; *arguments; arguments++)
		argv[count++] = (char *)(uintptr_t)*arguments;
	measure_run(argv, cpu_seconds, measured);
}

static void run_program(const char *name, const char *const arguments[], struct measured *measured)
{
	run_for(CPU_SECONDS_MAX, name, arguments, measured);
}

/* What a program ought to say and do; FAILS is the exit code that goes with an error. */
static void judge(const char *what, const struct measured *measured, const char *text, bool fails)
{
	if (!measured->exited)
		fail_msg("%s was ended by signal %d: %.500s", what, measured->code, measured->text);
	if ((measured->code != 0) != fails)
		fail_msg("%s ends with %d: %.500s", what, measured->code, measured->text);
	if (!strstr(measured->text, text))
		fail_msg("%s does not say '%s': %.500s", what, text, measured->text);
	if (!measure_is_sanitized() && measured->memory_kib > MEMORY_KIB_MAX)
		fail_msg("%s takes %llu KiB", what, (unsigned long long)measured->memory_kib);
}

static uint64_t output_bytes;

static int count_bytes(const char *path, const struct stat *stat, int type, struct FTW *where)
{
	(void)path, (void)type, (void)where;
	output_bytes += (uint64_t)stat->st_blocks * 512;
	return 0;
}

/* A block for each name that the reader lists at the most: files with several names. */
#define NAMES_MAX 262144

static void assert_output_is_bounded(void)
{
	struct stat disk;

	output_bytes = 0;
	assert_int_equal(stat(DISK, &disk), 0);
	nftw(OUTPUT, count_bytes, 16, FTW_PHYS);
	if (output_bytes > 2 * (uint64_t)disk.st_size + NAMES_MAX * (uint64_t)BLOCK_BYTES)
		fail_msg("%llu bytes were collected from a disk of %lld",
			 (unsigned long long)output_bytes, (long long)disk.st_size);
}

static void test_kind(void **state)
{
	const struct kind *kind = *state;
	const char *inspect = kind->inspect ? kind->inspect : kind->read;
	const char *collect = kind->collect ? kind->collect : kind->read;
	static struct measured measured;

	/* In a program of its own, for its memory would count as that of our children. */
	run_program("hostile_image", (const char *const[]){kind->name, DISK, NULL}, &measured);
	if (!measured.exited || measured.code)
		fail_msg("hostile_image: %s", measured.text);
	run_program("read_image", (const char *const[]){DISK, NULL}, &measured);
	judge("read_image", &measured, kind->read, *kind->read != '\0');
	if (measure_is_sanitized())
		return; /* sanitized: there is no jobvm */
	/* A disk that can be opened has a report, in which the verdict is. */
	run_program("../jobvm", (const char *const[]){"inspect", DISK, NULL}, &measured);
	judge("jobvm inspect", &measured, inspect,
	      *inspect && !strstr(measured.text, "invalid_result") &&
		      !strstr(measured.text, "incomplete"));
	run_for(kind->is_honest ? CPU_SECONDS_MAKING : CPU_SECONDS_MAX, "../jobvm",
		(const char *const[]){"collect", "-o", OUTPUT, DISK, NULL}, &measured);
	judge("jobvm collect", &measured, collect, *collect != '\0');
	assert_output_is_bounded();
}

/* A limit of jobvm's own, as a batch system may set, is named when it ends the reader. */
static void test_time_limit(void **state)
{
	static struct measured measured;

	(void)state;
	if (measure_is_sanitized())
		return; /* there is no jobvm */
	run_program("hostile_image", (const char *const[]){"names_most", DISK, NULL}, &measured);
	run_for(2, "../jobvm", (const char *const[]){"collect", "-o", OUTPUT, DISK, NULL},
		&measured);
	judge("jobvm collect", &measured, "processor time", true);
}

/* --- the list of tests --- */

#define KINDS_MAX 400 /* with what else is tested */

/* What the largest kind needs. */
#define SCRATCH_BYTES (2ULL << 30)

struct list {
	struct CMUnitTest tests[KINDS_MAX];
	const struct kind *kinds[KINDS_MAX];
	size_t count;
};

/*
 * A scratch directory, in memory if there is room: `jobvm collect` syncs what it writes, and each
 * time that would wait for all others who write to the host's disk. cmocka's state stays the kind.
 */
static int enter(void **state)
{
	struct statvfs memory;
	bool in_memory = statvfs("/dev/shm", &memory) == 0 &&
			 memory.f_bavail * (uint64_t)memory.f_frsize > SCRATCH_BYTES;
	char directory[] = "/dev/shm/jobvm-test.XXXXXX", other[] = "/tmp/jobvm-test.XXXXXX";
	char *path = in_memory ? directory : other;

	(void)state;
	return !mkdtemp(path) || chdir(path);
}

static int leave(void **state)
{
	char directory[PATH_MAX];

	*state = getcwd(directory, sizeof(directory)) ? strdup(directory) : NULL;
	return !*state || scratch_leave(state);
}

static void add_test(void *context, const struct kind *kind)
{
	struct list *list = context;

	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->kinds[i]->name, kind->name) == 0)
			abort();
	if (list->count == KINDS_MAX)
		abort();
	list->kinds[list->count] = kind;
	list->tests[list->count++] = (struct CMUnitTest){.name = kind->name,
							 .test_func = test_kind,
							 .setup_func = enter,
							 .teardown_func = leave,
							 .initial_state = (void *)(uintptr_t)kind};
}

/* test_kinds [PATTERN]: only the kinds that PATTERN, with * and ?, matches. */
int main(int argc, char **argv)
{
	static struct list list;
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length < 0)
		return 1;
	self[length] = '\0';
	snprintf(programs, sizeof(programs), "%s", dirname(self));
	if (argc == 2)
		cmocka_set_test_filter(argv[1]);
	kinds_visit(add_test, &list);
	list.tests[list.count++] = (struct CMUnitTest){.name = "time_limit",
						       .test_func = test_time_limit,
						       .setup_func = enter,
						       .teardown_func = leave};
	return _cmocka_run_group_tests("hostile disks", list.tests, list.count, NULL, NULL);
}
